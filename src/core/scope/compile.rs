//! scope/compile
