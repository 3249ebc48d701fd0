//! Step 7, audit: the gateway's log. Recorded before it happens, or it does not happen.
//!
//! [`log`] keeps one append-only file of canonical lines and the Merkle tree over them, which
//! [`writer`] writes and [`stored`] and [`index`] look up; [`session`] is the gateway's account of
//! one connection, in the words of [`wording`], [`run`] the lines of it that stand for many statements,
//! [`behind`] those of parts that are judged late, [`outcome`] those about what came to nothing,
//! [`outstanding`] what has no outcome yet, and [`settle`] what must be durable before it runs; [`recover`] reads the file at start.

mod approvals;
mod behind;
mod index;
mod log;
mod outcome;
mod outstanding;
mod recover;
mod run;
mod session;
mod settle;
mod stored;
mod wording;
mod writer;

pub use log::{GrantRecorded, Log, LogError, Opening, Position};
pub use session::{Protocol, Recorded, ResultRecord, RoleEnd, Said, SessionOpen, SessionRecord};
pub use stored::Kind;
pub use wording::Wording;
pub use writer::Pending;

#[cfg(test)]
pub(crate) mod tests;
