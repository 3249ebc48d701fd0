//! audit/mod
