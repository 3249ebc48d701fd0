//! statement/grammar
