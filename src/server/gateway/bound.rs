//! Portals: what was bound and may be run in parts, or not at all.
//!
//! What must stay true: the target plans what is bound, with its values, and may run functions for
//! that, so it is recorded and has its time also where no Execute follows; the limits of a statement
//! hold for all the parts in which it is read, not for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::again::Again;
use super::ask::Settling;
use super::named::count;
use super::outcome::Fault;
use super::rows::Execution;
use super::session::{Bound, End, Judged, Session};
use crate::core::policy::Denial;
use crate::core::policy::limit::Limits;
use crate::core::statement::facts::{Effect, Facts};
use crate::core::wire::frontend;
use crate::server::audit::{Protocol, Said};
use crate::server::check::{Hold, Planned, refused};
use crate::sys::clock;

/// What a statement that is read in parts has used up so far.
#[derive(Debug, Default)]
pub struct Used {
    messages: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
}

impl Used {
    /// Rows or lines, and bytes.
    pub fn so_far(&self) -> (u64, u64) {
        (self.messages.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// How long it has run.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }

    /// One part has ended.
    pub fn add(&self, messages: u64, bytes: u64, time: Duration) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// What an execution goes on with: a cursor, or a portal that is read in parts.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    pub limits: Limits,
    pub used: Option<Arc<Used>>,
}

/// Until when something may take that is no execution, and how long that is.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    pub until: Instant,
    pub time: Duration,
}

impl Deadline {
    /// The earlier of this one and one that begins now.
    pub fn earlier(one: Option<Self>, time: Option<Duration>) -> Option<Self> {
        let next = time.and_then(|time| Some(Self { until: Instant::now().checked_add(time)?, time }));
        match (one, next) {
            (Some(one), Some(next)) if one.until <= next.until => Some(one),
            (one, next) => next.or(one),
        }
    }
}

/// What is on its way to the target although no answer to it was asked for.
#[derive(Default)]
pub struct Ahead {
    /// Bytes of requests that were sent.
    pub bytes: usize,
    /// Requests that go as soon as the record is on the disk.
    pub settling: Option<Settling>,
    pub unrun: Unrun,
    /// The body of the Query that is served.
    pub query: Bytes,
    /// What was passed on last, where it may come again.
    pub again: Option<Again>,
    /// Until when a Sync may fill cursors that outlive their transaction, and the target may plan what
    /// is only bound.
    pub filling: Option<Deadline>,
}

/// Portals on their way to the target.
#[derive(Default)]
pub struct Unrun {
    /// Bound, and neither run nor recorded yet.
    bound: Vec<(String, Bound)>,
    /// Recorded as bound, by number and by place among the client's requests; what came of it is not
    /// recorded yet.
    recorded: Vec<(u64, u64)>,
}

impl Unrun {
    /// A Bind goes out.
    pub fn note(&mut self, name: &str, bound: &Bound) {
        let plans = |planned: &Arc<Planned>| planned.cleared.facts().transaction.is_none();
        if bound.planned.as_ref().is_some_and(plans) {
            self.bound.push((name.to_owned(), bound.clone()));
        }
    }

    /// An Execute has come for it: it is recorded as that.
    pub fn run(&mut self, name: &str) {
        if let Some(at) = self.bound.iter().rposition(|(bound, _)| bound == name) {
            self.bound.swap_remove(at);
        }
    }

    /// Whether anything goes out that is not recorded.
    pub fn is_unrecorded(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Whether the outcome of anything is open.
    pub fn is_open(&self) -> bool {
        !self.recorded.is_empty()
    }
}

impl Session {
    /// Something goes to the target, and may hold locks from then on: the transaction may wait for no longer
    /// than the shortest of its statements lets it.
    pub(super) fn note_idle(&mut self, limits: Limits) {
        self.idle = self.idle.into_iter().chain(limits.idle).min();
    }

    /// Binding a statement plans it, which calls what is taken for constant or helps to estimate, and reads values,
    /// which their types may check. What such code changes is counted as well, whether the statement runs or not.
    pub(super) fn hold_bound(&mut self, judged: &Judged, parameters: &[u8]) -> Result<(), Box<Denial>> {
        let planned = judged.planned();
        if planned.is_some_and(|planned| planned.hold == Hold::ReadOnly) && self.status == b'I' && !self.is_block {
            // Planned as it will run.
            self.ask_own("dbgate_readonly", &[]);
            return Ok(());
        }
        // Everything else is planned, if at all, as it runs.
        let is_planned = |verb: &str| matches!(verb, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE");
        let may_run =
            |planned: &Arc<Planned>| is_planned(&planned.cleared.facts().verb) && self.may_hide_names(planned);
        let plans_code = planned.is_some_and(may_run);
        let reads_by_code = self.catalog.has_volatile_operators && frontend::has_values(parameters);
        // In a transaction that has failed nothing is planned or read, and nothing can be asked.
        if self.status == b'E' || (!plans_code && !reads_by_code) {
            return Ok(());
        }
        let facts = planned.map(|planned| planned.cleared.shared_facts());
        let is_same = |bound: &Arc<Facts>| facts.as_ref().is_some_and(|facts| Arc::ptr_eq(bound, facts));
        self.held.has_bound_more |= self.held.bound.as_ref().is_some_and(|bound| !is_same(bound));
        self.held.bound = facts.or(self.held.bound.take());
        self.can_count()?;
        if !self.held.counts_pending() {
            self.ask_baseline();
        }
        self.held.told.is_short();
        self.runs_unread();
        // How this one is read the target knows already.
        self.held.has_planned = true;
        Ok(())
    }

    /// Whose changes a verdict is about, by number and part in the record: the last statement that is held, or what
    /// was only bound.
    pub(super) fn to_blame(&self) -> Option<(u64, u32)> {
        let bound = || self.ahead.unrun.recorded.last().map(|(number, _)| (*number, 0));
        self.last_held().or_else(bound)
    }

    /// Whether writes can be judged here at all.
    pub(super) fn can_count(&self) -> Result<(), Box<Denial>> {
        match self.counts_rows {
            true => Ok(()),
            false => Err(refused(
                "uncountable",
                "the target does not count changed rows (track_counts is off), so writes cannot be judged",
                "set track_counts = on in the target",
            )),
        }
    }

    /// Records what the target is about to plan although nothing has asked for its rows.
    pub(super) async fn record_bound(&mut self) -> Result<(), End> {
        for (_, Bound { planned, values, text, wording, places: [_, place], .. }) in
            std::mem::take(&mut self.ahead.unrun.bound)
        {
            let Some(planned) = planned else { continue };
            let forwarded = planned.is_spliced.then_some(planned.forward.as_str());
            let (parameters, stands_at_commit) = (Some(&*values.parameters), self.stands_at_commit(&planned));
            let said = Said { text: &text, wording: &wording, forwarded, parameters, stands_at_commit };
            let recorded = self.record.allowed(&[&planned.cleared], said, Protocol::Extended, clock::now()).await?;
            self.ahead.unrun.recorded.push((recorded.number(), place));
            self.ahead.filling = Deadline::earlier(self.ahead.filling, planned.cleared.limits().time);
        }
        Ok(())
    }

    /// The target has answered: what was only bound came to nothing.
    pub(super) async fn account_bound(&mut self) -> Result<(), End> {
        for (number, _) in std::mem::take(&mut self.ahead.unrun.recorded) {
            self.record.came_to_nothing(number, 0, "(bound)", char::from(self.status), clock::now()).await?;
        }
        Ok(())
    }

    /// The target has failed: at one of those, at none, or before it came to them. Those that it had bound
    /// by then came to nothing; of the rest nothing was done.
    pub(super) async fn fail_bound(&mut self, fault: Fault, answered: u64, state: &str) -> Result<(), End> {
        for (number, place) in std::mem::take(&mut self.ahead.unrun.recorded) {
            if fault == Fault::Named(place) {
                self.record.error(number, 0, state, clock::now()).await?;
            } else if place < answered {
                self.record.came_to_nothing(number, 0, "(bound)", char::from(self.status), clock::now()).await?;
            }
        }
        Ok(())
    }

    /// A statement that was judged when names meant something else is judged again. False where it
    /// would be forwarded as another text now, or not at all.
    pub(super) fn follow_names(&mut self, statement: &str) -> bool {
        let Some(parsed) = self.prepared.get(statement) else { return true };
        let (before, is_outdated) = match &parsed.judged {
            Judged::Planned(before) => (before.clone(), false),
            Judged::Outdated(before) => (before.clone(), true),
            Judged::Empty | Judged::Unread | Judged::Unlifted => return true,
        };
        let is_same = Arc::ptr_eq(&parsed.context, &self.context)
            || !before.cleared.facts().names_unqualified()
            || self.has_moved_names;
        if is_same && !is_outdated {
            return true;
        }
        let text = parsed.text.clone();
        self.follow_policy();
        let known = self.context.find(&text).filter(|decided| decided.statements.len() == 1);
        let Some(decided) = known.or_else(|| self.decide_parse(&text).ok()) else { return false };
        let Some((planned, _)) = decided.statements.first() else { return false };
        if planned.forward != before.forward {
            return false;
        }
        let mut planned = planned.clone();
        // What the target has under the name need not be what was prepared, see `doubt_names`.
        if before.hold.is_counted() {
            count(&mut planned);
        }
        let (judged, context) = (Judged::Planned(planned), self.context.clone());
        if let Some(parsed) = self.prepared.get_mut(statement) {
            (parsed.judged, parsed.context) = (judged, context);
        }
        true
    }

    /// What was begun last runs a portal, or reads one part of it: what other parts have used up counts.
    pub(super) fn runs_portal(&mut self, portal: &str, is_part: bool) {
        let Some(bound) = self.portals.get_mut(portal) else { return };
        let Some(execution) = self.executions.back_mut() else { return };
        execution.places = bound.places;
        if is_part || bound.used.is_some() {
            let used = bound.used.get_or_insert_default().clone();
            execution.goes_on(Behind { used: Some(used), ..Behind::default() });
        }
    }

    /// FETCH would show rows of what was only bound, without a word of its text beside them in the record. MOVE
    /// shows none, and goes on in a plain read.
    pub(super) fn fetches_portal(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        self.portal_of(facts).is_some_and(|bound| !(facts.is_move && bound.is_plain_read()))
    }

    /// The portal that FETCH or MOVE names.
    pub(super) fn portal_of(&self, facts: &Facts) -> Option<&Bound> {
        let name = facts.prepared.as_ref().filter(|_| facts.verb == "FETCH")?;
        self.portals.get(name)
    }
}

impl Bound {
    /// A SELECT that locks no rows and calls nothing that could change any.
    pub fn is_plain_read(&self) -> bool {
        self.planned.as_ref().is_some_and(|planned| {
            let facts = planned.cleared.facts();
            facts.verb == "SELECT" && facts.effect == Effect::Read && planned.hold == Hold::Not && !facts.locks
        })
    }

    /// What an execution goes on with that reads a part of it.
    pub fn in_parts(&mut self) -> Option<Behind> {
        let limits = self.planned.as_ref()?.cleared.limits();
        Some(Behind { limits, used: Some(self.used.get_or_insert_default().clone()) })
    }
}

impl Execution {
    /// How far it may go.
    pub fn limits(&self) -> Limits {
        let own = self.planned.cleared.limits();
        self.behind.as_ref().map_or(own, |behind| own.and(behind.limits))
    }

    /// It goes on with something that has used up part of its limits.
    pub fn goes_on(&mut self, behind: Behind) {
        self.behind = Some(Box::new(behind));
        let used = self.used().map_or(Duration::ZERO, Used::time);
        let time = self.limits().time.map(|time| time.saturating_sub(used));
        self.deadline = time.and_then(|time| Instant::now().checked_add(time));
    }

    /// It has ended.
    pub fn use_up(&self) {
        if let Some(used) = self.used() {
            used.add(self.messages, self.bytes, self.started.elapsed());
        }
    }

    /// What earlier parts have used up.
    pub fn used(&self) -> Option<&Used> {
        self.behind.as_ref()?.used.as_deref()
    }
}
