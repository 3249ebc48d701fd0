//! statement/splice
