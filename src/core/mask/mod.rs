//! mask/mod
