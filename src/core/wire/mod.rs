//! wire/mod
