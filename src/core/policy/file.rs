//! policy/file
