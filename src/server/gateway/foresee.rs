//! The veto must not be the outage: a write that the planner expects to be far beyond what is let
//! through is not run to be counted; people are asked first.
//!
//! Small tables are not worth a question. On larger ones the planner's word travels ahead of the
//! statement in the same pipeline, for whoever has to decide; on large ones it is waited for.

use super::held::Verdict;
use super::relay::Mode;
use super::session::{End, Session};
use crate::core::approval::{Estimate, estimate};
use crate::core::policy::engine::ImpactRefusal;
use crate::core::policy::{Denial, Impact};
use crate::core::statement::facts::{Effect, Facts, Touch};
use crate::core::text::grouped;
use crate::core::wire::frontend;
use crate::server::check::Planned;

/// Below this many rows any write is counted and taken back at once.
const WORTH_ASKING: i64 = 1_000;
/// From this many rows on, running a write to count it may itself be the outage.
const LARGE: i64 = 100_000;
/// How far beyond the limit an estimate must be: the planner is often wrong, seldom by this much.
const FAR: u64 = 10;
/// What goes in front of a statement to ask the planner.
const EXPLAIN: &str = "explain (format json) ";

/// What the planner said before the statement ran: afterwards the table has grown by what was
/// rolled back, and the planner would count that.
#[derive(Clone, Debug, PartialEq)]
pub enum Planner {
    NotAsked,
    Asked,
    Said(Estimate),
}

impl Session {
    /// Asks the planner ahead of a statement that has begun. A verdict: it must not run at all.
    pub(super) async fn foresee(&mut self, planned: &Planned, mode: Mode) -> Result<Foreseen, End> {
        match self.has_room(planned, mode).await? {
            Foreseen::GoOn => {}
            stopped @ (Foreseen::Failed | Foreseen::Refused(_) | Foreseen::Stop(_)) => return Ok(stopped),
        }
        // Nobody would be asked, and nothing is only tried.
        if !self.people.is_alone() && self.people.trying.is_none() {
            return Ok(Foreseen::GoOn);
        }
        super::seldom(self.expected(planned, mode)).await
    }

    async fn expected(&mut self, planned: &Planned, mode: Mode) -> Result<Foreseen, End> {
        let facts = planned.cleared.facts();
        let size = self.size_of(facts);
        let trying = self.people.trying;
        let is_asked = self.people.is_alone() && facts.effect == Effect::Write && !facts.verb.starts_with("EXPLAIN");
        // Of a row that is named by a key the planner has nothing to say.
        let can_ask = is_asked && (trying.is_some() || !self.is_of_one_row(facts));
        if !can_ask || (size < WORTH_ASKING && trying.is_none()) {
            let verdict = trying.and_then(|trying| self.before_trial(trying));
            return Ok(verdict.map_or(Foreseen::GoOn, Foreseen::Stop));
        }
        self.people.planner = Planner::Asked;
        let values = self.people.values().unwrap_or_default();
        self.ask_again("dbgate_explain", &format!("{EXPLAIN}{}", planned.forward), &frontend::types(&values.types)?);
        self.run_bound("dbgate_explain", &values)?;
        if size < LARGE && trying.is_none() {
            return Ok(Foreseen::GoOn);
        }
        frontend::flush(&mut self.up);
        let mut drained = self.round(mode).await?;
        if drained.failed {
            return Ok(Foreseen::Failed);
        }
        self.note_plan(&mut drained.rows);
        if let Some(trying) = trying {
            return Ok(self.before_trial(trying).map_or(Foreseen::GoOn, Foreseen::Stop));
        }
        let Planner::Said(expected) = &self.people.planner else { return Ok(Foreseen::GoOn) };
        Ok(self.far_beyond(facts, expected.rows).map_or(Foreseen::GoOn, Foreseen::Stop))
    }

    /// Takes the planner's answer out of the rows of a round.
    pub(super) fn note_plan(&mut self, rows: &mut Vec<Vec<Option<String>>>) {
        if self.people.planner != Planner::Asked {
            return;
        }
        let said = |row: &Vec<Option<String>>| match row.as_slice() {
            [Some(text)] => estimate::read(text),
            _ => None,
        };
        if let Some(at) = rows.iter().position(|row| said(row).is_some())
            && let Some(expected) = said(&rows.remove(at))
        {
            self.people.planner = Planner::Said(expected);
        }
    }

    /// Whether a tenth of what is expected would be refused already.
    fn far_beyond(&self, facts: &Facts, expected: u64) -> Option<Verdict> {
        // What people have approved is held to their cap by counting.
        if self.people.lift.is_some() {
            return None;
        }
        let touch = facts.written().next()?;
        let relation = self.resolve(&touch.relation)?;
        let impact = Impact::expected(relation, touch.action, expected / FAR);
        let told = |denial: Denial| {
            let rows = grouped(expected);
            let reason = denial.message.rsplit_once(": ").map_or(denial.message.as_str(), |(_, reason)| reason);
            let message =
                format!("{} was not run: the planner expects {rows} rows of {}: {reason}", facts.verb, relation.name);
            Box::new(Denial { message, ..denial })
        };
        match self.policy.judge_impact(&self.subject(), &[impact], Some(facts), &self.catalog) {
            Ok(()) => None,
            Err(ImpactRefusal::Deny(denial)) => Some(Verdict::Denied(told(denial))),
            Err(ImpactRefusal::NeedApproval(denial)) => Some(Verdict::Asks(told(denial), Vec::new())),
        }
    }

    /// Whether the text itself changes one row at the most: it names the key.
    fn is_of_one_row(&self, facts: &Facts) -> bool {
        let [touch] = facts.touches.as_slice() else { return false };
        let relation = self.resolve(&touch.relation);
        relation.is_some_and(|relation| self.catalog.is_unique(relation, &facts.pinned))
    }

    /// Rows of the largest relation that the text writes to, by the server's statistics.
    fn size_of(&self, facts: &Facts) -> i64 {
        let size = |touch: &Touch| self.resolve(&touch.relation).map_or(0, |one| one.estimated_rows);
        facts.written().map(size).max().unwrap_or(0)
    }
}

/// How far a position in the planner's question is from the same position in the statement.
pub fn planner_offset() -> u32 {
    u32::try_from(EXPLAIN.len()).unwrap_or(0)
}

/// What the planner's word means for the statement.
pub enum Foreseen {
    GoOn,
    /// The target refused to plan it; the client has its error.
    Failed,
    /// It must not run, and nobody is asked about it.
    Refused(Box<Denial>),
    Stop(Verdict),
}
