//! Step 7, audit: proofs that lines are in a log and that nobody changed them.
//!
//! Open formats throughout: RFC 6962 trees ([`merkle`]), C2SP signed notes ([`note`]), checkpoints
//! ([`checkpoint`]) and tlog-proofs ([`proof`]). [`container`] is the evidence file of one session,
//! [`verify`] judges it with public keys only, [`reconcile`] compares the two sides' accounts.
//! `docs/audit-format.md` is the specification.

pub mod checkpoint;
pub mod container;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod receipt;
pub mod reconcile;
pub mod report;
mod semantics;
pub mod verify;

pub use note::VerifierKey;
pub use report::{Finding, Outcome, Report, Severity, State};
pub use verify::verify;

#[cfg(test)]
mod tests;
