//! The interactive shell: the line being typed ([`line`]), backslash commands ([`meta`]),
//! and what `\d NAME` shows ([`describe`]).

pub mod describe;
pub mod line;
pub mod meta;
