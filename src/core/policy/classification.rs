//! policy/classification
