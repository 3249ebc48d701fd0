//! Step 6, transcript: the lines that client and gateway each write about a session.
//!
//! [`canonical`] is the one spelling a line may have, [`line`] links lines into a chain,
//! [`commitment`] hides content behind keyed hashes, [`redact`] takes secrets out before anything
//! is committed to or stored. Both sides use this code, so equal content gives equal commitments.

pub mod canonical;
pub mod commitment;
pub mod content;
pub mod lexer;
pub mod line;
pub mod redact;

pub use commitment::{Domain, RowsDigest, SessionKey};
pub use line::{Chain, Event, LONGEST, LONGEST_RUN, Leaf, Line, LineError};

#[cfg(test)]
mod tests;
