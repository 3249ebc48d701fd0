//! statement/local
