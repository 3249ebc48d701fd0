//! policy/engine
