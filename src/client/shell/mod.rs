//! The interactive shell: the line being typed ([`line`]), backslash commands ([`meta`]), the
//! [`variables`] they keep, and what `\d NAME` shows ([`describe`]).

pub mod describe;
pub mod line;
pub mod meta;
pub mod variables;
