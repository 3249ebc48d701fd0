//! statement/visit
