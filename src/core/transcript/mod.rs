//! transcript/mod
