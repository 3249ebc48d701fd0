//! Code that was deferred to the commit may defer more to it, behind the last count. So what is deferred happens until it
//! changes no row any more: nothing can be deferred without one.

use super::counters;
use super::held::{Asked, uncountable};
use super::relay::Mode;
use super::session::{End, Session};
use crate::core::impact::{self, CountError};
use crate::core::policy::Denial;
use crate::core::wire::frontend;

/// How often what is deferred happens, and defers more, before it is refused.
const ROUNDS: usize = 8;

/// Whether anything is deferred to the commit still.
pub(super) enum Deferred {
    /// Nothing, by what was counted.
    Nothing,
    /// Not any more; these are the counts now.
    Done(Vec<Vec<Option<String>>>),
    /// What was deferred has failed.
    Failed,
    Endless(Box<Denial>),
}

impl Session {
    /// Lets what is deferred happen, from these counts on.
    pub(super) async fn comes_to_rest(&mut self, rows: &[Vec<Option<String>>], mode: Mode) -> Result<Deferred, End> {
        let mut counted = counters::read(rows, "now").ok_or(End::Protocol)?;
        if !counted.iter().any(|one| one.may_defer) {
            return Ok(Deferred::Nothing);
        }
        for _ in 0..ROUNDS {
            self.ask_counts(Asked::BeforeCommit);
            frontend::flush(&mut self.up);
            let drained = self.round(mode).await?;
            if drained.failed {
                return Ok(Deferred::Failed);
            }
            let now = counters::read(&drained.rows, "now").ok_or(End::Protocol)?;
            if impact::baseline(&now) == impact::baseline(&counted) {
                return Ok(Deferred::Done(drained.rows));
            }
            counted = now;
        }
        Ok(Deferred::Endless(uncountable(&CountError::Restless)))
    }
}
