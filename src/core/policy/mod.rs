//! Step 4, check: what the policy says of a principal, a relation, a statement, an impact.
//!
//! Written in Cedar, validated against `schema.cedarschema` when it is loaded. Deny by default,
//! forbid overrides. `cedar_policy` is named in this folder and nowhere else.
//! [`Policy::judge`] is the only maker of a [`Cleared`], and forwarding a statement needs one.

pub mod classification;
pub mod engine;
pub mod explain;
pub mod file;
pub mod guess;
pub mod limit;
pub mod lint;
pub mod pack;
pub mod selftest;
pub mod suggest;
pub mod verdict;

pub use engine::{ImpactQuestion, ImpactRefusal, OwnedSubject, Policy, Subject, text_runner};
pub use limit::Limits;
pub use verdict::{Cleared, Denial, Impact, Verdict};
