//! Trying: a session that only asks what a write would do. Nothing in it is ever committed.
//!
//! What must stay true: whatever runs in such a session is held, counted and rolled back, whatever
//! the verdict; what cannot be held does not run.

use super::held::Verdict;
use super::people::{At, bound};
use super::relay::Mode;
use super::session::{End, Session};
use crate::core::approval::{Estimate, Forecast, Trial};
use crate::core::policy::{Denial, Impact};
use crate::core::wire::backend::ErrorFields;
use crate::server::approvals::view;
use crate::server::check::{Planned, refused};

/// Beyond this many expected rows a trial would hurt others: the estimate must do.
const MOST: u64 = 100_000;
/// A trial waits for no lock that others hold, and holds its own for no longer than this.
const LIMITS: &str = "select pg_catalog.set_config('lock_timeout', '500ms', true), \
     pg_catalog.set_config('statement_timeout', '5s', true)";

/// How far a session that only tries goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trying {
    /// The planner is asked; nothing runs.
    Estimate,
    /// It runs and is rolled back.
    Run,
}

impl Trying {
    /// What our own client wishes, in its startup message.
    pub fn wished(wishes: Option<&str>) -> Option<Self> {
        wishes?.split(' ').find_map(|wish| match wish {
            "estimate" => Some(Self::Estimate),
            "trial" => Some(Self::Run),
            _ => None,
        })
    }
}

/// What a trial found out.
pub struct Tried {
    /// What policy says of it: nothing, or why it would not be let stand.
    verdict: Option<Denial>,
    impacts: Vec<Impact>,
    skipped: Option<String>,
}

impl Tried {
    /// It ran, and this is what it did and what policy says of that.
    pub fn run(verdict: Verdict, impacts: &[Impact]) -> Box<Self> {
        let verdict = match verdict {
            Verdict::Denied(denial) | Verdict::Asks(denial, _) => Some(*denial),
            Verdict::Stands | Verdict::Failed | Verdict::OverCap(_) | Verdict::Tried(_) => None,
        };
        Box::new(Self { verdict, impacts: impacts.to_vec(), skipped: None })
    }
}

impl Session {
    /// Why a statement cannot be tried, in a session that only tries.
    pub(super) fn untriable(&self, planned: &[Planned]) -> Option<Box<Denial>> {
        self.people.trying?;
        match planned {
            [one] if one.hold.is_counted() && self.status == b'I' => None,
            _ => Some(only_tries()),
        }
    }

    /// What the planner said before a trial; a verdict where that must do.
    pub(super) fn before_trial(&mut self, trying: Trying) -> Option<Verdict> {
        let expected = self.people.estimate();
        let why = match (trying, expected) {
            (Trying::Estimate, _) => "only an estimate was asked for".to_owned(),
            (Trying::Run, Some(Estimate { rows, .. })) if rows > MOST => {
                format!("{} rows are expected: it would lock and bloat", crate::core::text::grouped(rows))
            }
            (Trying::Run, _) => {
                self.ask_fresh("dbgate_trial", LIMITS, &[]);
                return None;
            }
        };
        Some(Verdict::Tried(Box::new(Tried { verdict: None, impacts: Vec::new(), skipped: Some(why) })))
    }

    /// The answer of a trial: an error, so that no client takes it for done.
    pub(super) async fn tried(&mut self, tried: Tried) -> Result<Option<ErrorFields>, End> {
        let Some(At { text, planned, began, .. }) = self.people.take_at() else {
            return Ok(Some(told(&only_tries())));
        };
        let found = self.circumstances(bound(&text), planned.cleared.facts(), None, Mode::Extended).await?;
        let Some(found) = found else { return Ok(None) };
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let Tried { verdict, impacts, skipped } = tried;
        let trial = Trial { impacts, micros, locks: found.locks, skipped };
        let estimate = self.people.estimate();
        let impact = view::impact(&Forecast {
            estimate,
            trial: Some(trial),
            triggers: found.triggers,
            statistics_age: found.statistics_age,
        });
        let word = match &verdict {
            None => "allow",
            Some(denial) if denial.approvers.is_some() => "needs_approval",
            Some(_) => "deny",
        };
        let detail = serde_json::json!({
            "code": "tried", "verdict": word, "impact": impact,
            "rule": verdict.as_ref().map(|denial| denial.rule.clone()),
            "approvers": verdict.as_ref().and_then(|denial| denial.approvers.clone()),
        });
        let (message, hint) =
            verdict.map_or_else(|| ("tried and rolled back".to_owned(), None), |denial| (denial.message, denial.hint));
        Ok(Some(ErrorFields { detail: Some(detail.to_string()), hint, ..ErrorFields::error("ZG006", message) }))
    }
}

/// What a session that only tries says to everything else.
pub fn only_tries() -> Box<Denial> {
    refused(
        "trial_only",
        "this session only tries single writes, outside of a transaction",
        "open another session to run it",
    )
}

fn told(denial: &Denial) -> ErrorFields {
    super::refuse::denial_error(denial, "")
}

#[cfg(test)]
mod tests {
    use super::Trying;

    #[test]
    fn only_our_own_client_wishes_to_try() {
        assert_eq!(Trying::wished(Some("1 trial")), Some(Trying::Run));
        assert_eq!(Trying::wished(Some("1 estimate")), Some(Trying::Estimate));
        assert_eq!((Trying::wished(Some("1 no-request")), Trying::wished(None)), (None, None));
    }
}
