//! What the answers to writes say of them: while a transaction goes on, the numbers in their command tags tell
//! what it has changed, where a tag tells all. Before its commit it is counted in any case.
//!
//! What must stay true: a tag only ever lets a transaction go on. Where it does not tell all, or what it tells
//! would be refused, the target's own counters are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::held::Asked;
use super::relay::{Drained, Mode};
use super::session::{End, Session};
use crate::core::policy::Impact;
use crate::core::session::{Owner, tag_rows};
use crate::core::statement::facts::{Facts, Name, RowAction, Touch};
use crate::core::wire::backend;
use crate::server::check::{Hold, Planned};

/// Answers to a pipeline that are worth a verdict of their own; the next time twice as many are.
const FIRST_OUT: usize = 4 * 1024;
const MOST_OUT: usize = 256 * 1024;

/// Rows that the open transaction has changed.
#[derive(Default)]
pub struct Told {
    /// A statement ran whose tag does not tell all.
    is_short: bool,
    /// What has ended is judged by them once so many bytes of answers have gathered; 0 where it is not.
    lets_out_from: usize,
    /// Of the statement that ended last, which may have run many times.
    last: Option<(Arc<Facts>, u64)>,
    /// Of those before it.
    sums: BTreeMap<(Name, RowAction), u64>,
}

impl Told {
    /// A statement runs whose tag will not tell all.
    pub fn is_short(&mut self) {
        self.is_short = true;
    }

    /// Whether the tags are enough for what is asked.
    pub fn is_enough(&self, asked: Asked) -> bool {
        asked == Asked::SoFar && !self.is_short
    }

    /// Takes in the tag of a statement that has ended, so many times.
    pub fn note(&mut self, planned: &Planned, tag: &str, times: usize) {
        if self.is_short || planned.hold != Hold::Counted {
            return;
        }
        // One that has returned a part of its rows has changed them all, and says so at the end, if ever.
        let Some(rows) = tag_rows(tag) else { return self.is_short() };
        let rows = rows.saturating_mul(u64::try_from(times).unwrap_or(u64::MAX));
        let facts = planned.cleared.shared_facts();
        match &mut self.last {
            Some((last, sum)) if Arc::ptr_eq(last, &facts) => *sum = sum.saturating_add(rows),
            _ => {
                self.add_last();
                self.last = Some((facts, rows));
            }
        }
    }

    fn add_last(&mut self) {
        if let Some((facts, rows)) = self.last.take()
            && let Some(Touch { relation, action, .. }) = written(&facts)
        {
            let sum = self.sums.entry((relation.clone(), *action)).or_default();
            *sum = sum.saturating_add(rows);
        }
    }
}

/// What a statement says that it changes, where that is one relation, in one way.
fn written(facts: &Facts) -> Option<&Touch> {
    let mut written = facts.written();
    written.next().filter(|_| written.next().is_none())
}

impl Session {
    /// Whether the tag of a statement tells all that it changes: nothing but its own text changes anything, and
    /// that names one relation.
    pub(super) fn is_told(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        let is_plain = matches!(facts.verb.as_str(), "INSERT" | "UPDATE" | "DELETE");
        // Of whose rows it deletes the counters know more.
        let is_countable =
            written(facts).is_some_and(|touch| touch.action != RowAction::Delete || !self.held.has_own());
        is_plain && is_countable && self.stands_at_commit(planned)
    }

    /// Whether a Sync commits nothing, and tags are enough for what was asked before it.
    pub(super) fn is_told_in_block(&self) -> bool {
        let is_certain = self.is_block && !self.commits_at_sync() && !self.held.has_moved;
        let is_run = !self.ahead.unrun.is_open() && !self.ahead.unrun.is_unrecorded();
        is_certain && is_run && self.is_holding() && self.held.told.is_enough(Asked::SoFar)
    }

    /// Such a Sync goes along with what was asked, and the target is waited for once. False where something has
    /// failed, or was refused.
    pub(super) async fn told_in_block(&mut self) -> Result<bool, End> {
        let is_ahead = self.ask_ahead();
        self.ask_sync(Owner::Gateway);
        self.held.told.lets_out_from = FIRST_OUT;
        let drained = self.round(Mode::Extended).await;
        self.held.told.lets_out_from = 0;
        let mut drained = drained?;
        self.note_plan(&mut drained.rows);
        self.changes.settled();
        if let Some((number, part, tag)) = drained.wrong_tag {
            self.wrong_tag(number, part, &tag, Mode::Extended).await?;
            return Ok(false);
        }
        if drained.failed || !self.stop.is_no() {
            return Ok(false);
        }
        if !self.stands_so_far() {
            let stands = match is_ahead {
                true => self.settle_counted(&drained.rows, Mode::Extended, Asked::SoFar).await?,
                false => self.settle(Mode::Extended, Asked::SoFar).await?,
            };
            if stands {
                self.sync_in_block().await?;
            }
            return Ok(stands);
        }
        self.held.habit.counted = is_ahead.then_some(drained.rows);
        self.after_sync();
        backend::write_ready(self.status, self.client.out());
        Ok(true)
    }

    /// Lets out what has ended of a pipeline that is judged by its tags, as far as they tell that it stands: the
    /// client takes in the first answers while the target works on the rest.
    pub(super) fn release_told(&mut self, drained: &Drained) {
        let goes_well = !drained.failed && drained.wrong_tag.is_none() && self.stop.is_no();
        let from = self.held.told.lets_out_from;
        if from > 0 && self.held_out.len() >= from && goes_well && self.tags_stand() {
            self.release();
            self.held.told.lets_out_from = (2 * from).min(MOST_OUT);
        }
    }

    /// Whether what runs may stand as far as its tags tell.
    pub(super) fn stands_so_far(&mut self) -> bool {
        let stands = self.tags_stand();
        self.held.is_active &= !stands;
        stands
    }

    /// Whether tags tell all that has run since the transaction began, and nobody was asked about any of it.
    pub(super) fn is_all_told(&self) -> bool {
        let is_plain = self.people.lift.is_none() && self.people.trying.is_none();
        let is_whole = !self.held.has_undone && self.held.locked.is_empty();
        self.held.told.is_enough(Asked::SoFar) && is_plain && is_whole
    }

    fn tags_stand(&mut self) -> bool {
        if !self.is_all_told() {
            return false;
        }
        self.held.told.add_last();
        let impacts = self.held.told.sums.iter().filter_map(|((name, action), rows)| {
            let relation = self.resolve(name).filter(|_| !self.is_own(name))?;
            Some(Impact::expected(relation, *action, *rows))
        });
        self.judge_impacts(&impacts.collect::<Vec<_>>()).is_ok()
    }
}
