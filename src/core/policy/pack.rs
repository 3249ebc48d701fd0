//! policy/pack
