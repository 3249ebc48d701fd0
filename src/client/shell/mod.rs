//! The interactive shell: the line being typed ([`line`]) and backslash commands ([`meta`]).

pub mod line;
pub mod meta;
