//! Commit on our word: a write is run, counted in its own transaction, judged, and only then
//! committed or rolled back.
//!
//! What must stay true: no Sync and no COMMIT goes out behind a held write before its verdict;
//! counts are differences against a baseline taken before the first write; what is deferred to
//! commit is made to happen before the last count.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::before::Pending;
use super::counters;
use super::deferred::Deferred;
use super::habit::Habit;
use super::relay::{Drained, Mode};
use super::room::LOCKS;
use super::seldom;
use super::session::{End, Session};
use super::told::Told;
use super::trial::Tried;
use crate::core::approval::OverCap;
use crate::core::impact::{self, Baseline, CountError, Own, Written};
use crate::core::policy::limit::Undo;
use crate::core::policy::{Denial, Impact, ImpactQuestion, ImpactRefusal};
use crate::core::session::Owner;
use crate::core::statement::facts::{Effect, Facts, Name, TransactionVerb};
use crate::core::wire::frontend::Named;
use crate::server::check::{Hold, Planned, refused};
use crate::sys::clock;

/// What is known of the writes of the transaction that is open.
#[derive(Default)]
pub struct Held {
    /// A held statement ran since the last verdict.
    pub is_active: bool,
    /// Counters before the first write of this transaction.
    baseline: Option<Baseline>,
    /// Counters as last seen, by relation: later transactions of this backend may start from them.
    last: Baseline,
    /// A statement failed half way, so counters may linger for relations we never saw.
    pub is_unsure: bool,
    /// Part of the open transaction was undone, and is in the counters all the same.
    pub has_undone: bool,
    /// Rows that this session has put into relations and that are there still, as far as counts tell.
    own: Own,
    /// The same once the open transaction commits.
    own_next: Option<Own>,
    /// What the statements of this transaction say that they write to.
    written: Written,
    /// The same by the tags of their answers.
    pub told: Told,
    /// How transactions of this session go on.
    pub habit: Habit,
    /// What was judged last in it.
    facts: Option<Arc<Facts>>,
    /// The last of its statements, by number and part in the record, and how many there were.
    last_held: Option<(u64, u32)>,
    count: u32,
    /// The last of them that has ended well.
    last_ended: Option<(u64, u32)>,
    /// One of them may lock rows that no counter tells of.
    may_lock: bool,
    /// Code has run that nobody has read: it may have left a cursor whose query runs at the commit.
    pub may_keep: bool,
    /// It may have given names another meaning, and what is deferred to the commit may do so again.
    pub may_hide: bool,
    /// What was bound that may have run code by that, and whether there was another.
    pub bound: Option<Arc<Facts>>,
    pub has_bound_more: bool,
    /// Behind what was bound, texts may be read in another way.
    pub has_planned: bool,
    /// Indexes on relations of the session's own work something out, as of when names were asked for.
    pub has_expressions: bool,
    /// Rows that SELECT ... FOR UPDATE and its kin have locked since the transaction began, by relation.
    pub locked: BTreeMap<Name, u64>,
    /// What ran was answered before any Sync: what it locks stays locked although no block is open.
    pub is_kept_open: bool,
    /// Temporary relations that were asked for: each holds locks until its transaction ends.
    pub made: u64,
    /// Locks that may have been taken since the target was asked how many there are.
    pub taken: u64,
    /// What is kept of the write, where policy wants it to be taken back.
    pub undo: Option<Undo>,
    /// What the last verdict was about.
    pub impacts: Vec<Impact>,
    /// The rows of a write whose commit comes next.
    pub image: Option<Box<Pending>>,
    /// The gateway's own BEGIN is open.
    pub own_block: bool,
    /// All that ran since the last Sync is a BEGIN of the client's.
    pub has_only_begun: bool,
    /// The search path or temporary relations may have changed in the client's block.
    pub has_moved_names: bool,
    /// A block began or ended, or a savepoint, since the last Sync.
    pub has_moved: bool,
    /// The client's COMMIT was refused or failed: its block ends with that, as with any failed COMMIT.
    pub commit_failed: bool,
}

/// What a verdict is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// More may follow in this transaction.
    SoFar,
    /// The commit comes next: what is deferred to it happens now.
    BeforeCommit,
}

/// What is deferred to the end of the transaction happens now.
pub const DEFERRED: &str = "dbgate_constraints";

/// The gateway's own prepared statements: name and text. They are read with `pg_catalog` spelled
/// out, so that no search path can bend them.
pub const OWN: [(&str, &str); 11] = [
    ("dbgate_locks", LOCKS),
    ("dbgate_counts", counters::NOW),
    ("dbgate_kept", counters::KEPT),
    ("dbgate_baseline", counters::BEFORE),
    ("dbgate_baseline_all", counters::BEFORE_ALL),
    (DEFERRED, "SET CONSTRAINTS ALL IMMEDIATE"),
    ("dbgate_readonly", "select pg_catalog.set_config('transaction_read_only', 'on', true)"),
    ("dbgate_begin", "BEGIN"),
    ("dbgate_commit", "COMMIT"),
    ("dbgate_rollback", "ROLLBACK"),
    (
        "dbgate_facts",
        "select pg_catalog.array_to_json(pg_catalog.current_schemas(true))::text, \
         (select coalesce(pg_catalog.json_agg(c.relname), '[]')::text from pg_catalog.pg_class c \
          where c.relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema()), \
         pg_catalog.current_setting('track_counts'), \
         exists (select from pg_catalog.pg_class c where c.relnamespace operator(pg_catalog.=) \
           pg_catalog.pg_my_temp_schema() and c.relkind operator(pg_catalog.=) 'v'::\"char\"), \
         exists (select from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.indrelid \
          where c.relnamespace operator(pg_catalog.=) pg_catalog.pg_my_temp_schema() \
            and (i.indexprs is not null or i.indpred is not null)), \
         pg_catalog.current_setting('client_encoding'), pg_catalog.current_setting('standard_conforming_strings')",
    ),
];

impl Session {
    /// Whether answers must wait for a verdict.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_active
    }

    /// Whether the transaction that is open holds writes that a Sync must not commit without a verdict.
    pub(super) fn awaits_commit(&self) -> bool {
        self.held.is_active || (self.held.counts_pending() && self.commits_at_sync())
    }

    /// What must go ahead of a statement's Execute.
    pub(super) fn guard(&mut self, planned: &Planned, number: u64, part: u32) -> Result<(), Box<Denial>> {
        if self.fetches_portal(planned) {
            let (what, hint) = ("FETCH reads from cursors that DECLARE has made", "read on from a portal with Execute");
            return Err(refused("portal_by_fetch", what, hint));
        }
        let facts = planned.cleared.facts();
        self.held.may_lock |= facts.locks;
        if self.has_moved_names && facts.effect == Effect::Session && matches!(facts.verb.as_str(), "TRUNCATE" | "LOCK")
        {
            let what = "whose table this is may have changed by what stands before it";
            return Err(refused("several_statements", what, "send it alone"));
        }
        self.may_commit_by_itself(facts)?;
        self.is_read_as_here(&planned.forward)?;
        self.has_room_for(planned)?;
        if let Some(denial) = self.makes_too_much(facts) {
            return Err(denial);
        }
        match planned.hold {
            // What was judged as a plain table may be a view by now.
            Hold::Not if self.has_moved_names && planned.cleared.facts().names_unqualified() => {}
            Hold::Not => return Ok(()),
            // Nothing was put off where nothing was written.
            Hold::Counted if facts.verb == "SET CONSTRAINTS" && self.held.baseline.is_none() => return Ok(()),
            // Inside the client's own block the mode would stay; there it is counted instead.
            Hold::ReadOnly if self.status == b'I' && !self.is_block => {
                self.ask_own("dbgate_readonly", &[]);
                return Ok(());
            }
            Hold::ReadOnly | Hold::Counted | Hold::OwnBlock => {}
        }
        self.can_count()?;
        if planned.hold == Hold::OwnBlock && self.status == b'I' && !self.is_block && !self.held.own_block {
            self.ask_own("dbgate_begin", &[]);
            self.held.own_block = true;
        }
        if self.held.baseline.is_none() {
            self.ask_baseline();
        }
        self.held.is_active = true;
        // Of one that asks for it at least the reason is kept.
        self.held.undo = planned.cleared.limits().undo.or(self.held.undo);
        let facts = planned.cleared.shared_facts();
        // One statement may be run a thousand times.
        if !self.held.facts.as_ref().is_some_and(|last| Arc::ptr_eq(last, &facts)) {
            self.held.written.extend(facts.written().map(|touch| (touch.relation.clone(), touch.action)));
            self.held.facts = Some(facts);
        }
        // What a name meant when it ran it must still mean when the tags are added up.
        if self.held.has_moved_names || !self.is_told(planned) {
            self.held.told.is_short();
        }
        self.held.last_held = Some((number, part));
        self.held.count = self.held.count.saturating_add(1);
        Ok(())
    }

    /// A statement is about to run that may begin a block, or end it.
    pub(super) fn moves_block(&mut self, facts: &Facts) {
        let begins = facts.transaction == Some(TransactionVerb::Begin);
        self.held.has_only_begun = begins && self.status == b'I' && !self.is_dirty;
        match self.held.has_only_begun && !self.is_block {
            // What follows it runs in the block, or not at all.
            true => self.is_block = true,
            false => self.held.has_moved |= facts.transaction.is_some(),
        }
    }

    /// The last statement that is held was passed on again, so many times; the last of them has this number.
    pub(super) fn hold_again(&mut self, number: u64, times: usize) {
        self.held.last_held = Some((number, 0));
        self.held.count = self.held.count.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
    }

    /// Reads the counters that earlier transactions may have left behind.
    pub(super) fn ask_baseline(&mut self) {
        self.held.baseline = Some(Baseline::new());
        if self.held.is_unsure {
            self.ask_own("dbgate_baseline_all", &[]);
            self.baseline_asked = true;
        } else if !self.held.last.is_empty() {
            let oids: Vec<_> = self.held.last.keys().map(u32::to_string).collect();
            self.ask_own("dbgate_baseline", &[Some(&format!("{{{}}}", oids.join(",")))]);
            self.baseline_asked = true;
        }
    }

    /// Takes the baseline from a round that also ran statements.
    pub(super) fn take_baseline(&mut self, drained: &Drained) {
        if std::mem::take(&mut self.baseline_asked) {
            // Where they cannot be read, all that is there counts as written now.
            let baseline = impact::baseline(&counters::read(&drained.rows, "before").unwrap_or_default());
            if !drained.failed {
                // What counts from nothing again need not be asked about.
                self.held.last =
                    baseline.iter().filter(|(_, one)| !one.is_nothing()).map(|(oid, one)| (*oid, *one)).collect();
                self.held.is_unsure = false;
            }
            self.held.baseline = Some(baseline);
        }
    }

    /// Asks for the counts that a verdict needs; before a commit deferred work is done first.
    pub(super) fn ask_counts(&mut self, asked: Asked) {
        if asked == Asked::BeforeCommit {
            if self.up.is_empty() {
                // The disk and the target work side by side.
                self.record.asks();
            }
            self.record.commits_soon();
            self.ask_own(DEFERRED, &[]);
            if self.held.may_hide {
                // So may what was deferred.
                self.doubt_all();
                self.facts_stale = true;
            }
        }
        self.ask_own("dbgate_counts", &[]);
        if asked == Asked::BeforeCommit && self.held.may_keep {
            self.ask_own("dbgate_kept", &[]);
        }
    }

    /// Counts and judges everything since the transaction began; before a commit, deferred work too.
    pub(super) async fn verdict(&mut self, mode: Mode, asked: Asked) -> Result<Verdict, End> {
        self.ask_counts(asked);
        crate::core::wire::frontend::flush(&mut self.up);
        let drained = self.round(mode).await?;
        if drained.failed {
            return Ok(Verdict::Failed);
        }
        self.judge_counts(&drained.rows, mode, asked).await
    }

    /// Judges everything since the transaction began by the rows that [`Session::ask_counts`] has brought.
    pub(super) async fn judge_counts(
        &mut self,
        rows: &[Vec<Option<String>>],
        mode: Mode,
        asked: Asked,
    ) -> Result<Verdict, End> {
        self.held.own_next = None;
        let deferred = match asked {
            Asked::SoFar => Deferred::Nothing,
            Asked::BeforeCommit => seldom(self.comes_to_rest(rows, mode)).await?,
        };
        let (changed, left) = match deferred {
            Deferred::Nothing => self.changed(rows)?,
            Deferred::Done(rows) => self.changed(&rows)?,
            Deferred::Failed => return Ok(Verdict::Failed),
            Deferred::Endless(denial) => return Ok(Verdict::Denied(denial)),
        };
        let verdict = match changed {
            Ok(impacts) => self.judge(impacts).await?,
            Err(denial) => Verdict::Denied(denial),
        };
        if matches!(verdict, Verdict::Stands) {
            self.held.own_next = Some(left);
            self.held.is_active = false;
        }
        Ok(verdict)
    }

    /// What those rows say: what was changed, and what will be the session's own if it stands.
    fn changed(&mut self, rows: &[Vec<Option<String>>]) -> Result<(Result<Vec<Impact>, Box<Denial>>, Own), End> {
        // What else was asked along the way brings rows as well.
        let now = counters::read(rows, "now").ok_or(End::Protocol)?;
        let nothing = Baseline::new();
        let before = self.held.baseline.as_ref().unwrap_or(&nothing);
        let own = match self.held.has_undone {
            true => Own::new(),
            false => impact::own(&self.held.own, before, &now),
        };
        // Of the session's own, and of what this transaction has made, the catalog knows nothing.
        let dropped = counters::gone(rows).find_map(|oid| self.catalog.by_oid(oid));
        let changed = match (dropped, counters::is_any(rows, "unseen"), counters::is_any(rows, "kept")) {
            (_, true, _) => Err(CountError::Unseen),
            (_, _, true) => Err(CountError::Kept),
            (Some(relation), false, false) => Err(CountError::Redefined(relation.name.to_string())),
            (None, false, false) => impact::difference(before, &now, &self.held.written, &own),
        };
        let changed = changed.map_err(|error| uncountable(&error));
        let left = impact::own_left(&own, before, &now);
        // Counters of relations that earlier transactions wrote to may linger on.
        self.held.last.extend(impact::baseline(&now));
        Ok((changed, left))
    }

    async fn judge(&mut self, mut impacts: Vec<Impact>) -> Result<Verdict, End> {
        impacts.extend(self.locked(&impacts));
        let verdict = match self.judge_impacts(&impacts) {
            Ok(()) => Verdict::Stands,
            Err(ImpactRefusal::Deny(denial)) => Verdict::Denied(Box::new(denial)),
            Err(ImpactRefusal::NeedApproval(denial)) => self.lifted(denial, &impacts),
        };
        let verdict = match (verdict, &self.people.lift) {
            (Verdict::Stands, Some(lift)) => {
                lift.within_cap(&impacts).map_or_else(Verdict::OverCap, |()| Verdict::Stands)
            }
            (verdict, _) => verdict,
        };
        let verdict = match self.people.trying {
            Some(_) => Verdict::Tried(Tried::run(verdict, &impacts)),
            None => verdict,
        };
        let stands = matches!(verdict, Verdict::Stands);
        if let Some((number, _)) = self.to_blame() {
            self.record.impact(number, &impacts, stands, clock::now()).await?;
        }
        self.held.impacts = impacts;
        Ok(verdict)
    }

    /// What the policy says of what was changed. What it has let stand once need not be asked again.
    pub(super) fn judge_impacts(&self, impacts: &[Impact]) -> Result<(), ImpactRefusal> {
        let is_current = self.context.is_for(&self.policy, &self.catalog);
        let asked = ImpactQuestion::all(impacts, &self.catalog);
        if is_current && self.context.lets_stand(&asked) {
            return Ok(());
        }
        self.policy.judge_impact(&self.subject(), impacts, self.held.facts.as_deref(), &self.catalog)?;
        if is_current {
            self.context.remember_stands(asked);
        }
        Ok(())
    }

    /// What an approval makes of a refusal that people may lift.
    fn lifted(&self, denial: Denial, impacts: &[Impact]) -> Verdict {
        let covers = self.people.lift.as_ref().map(|lift| lift.covers_impact(&denial, self.policy.digest(), impacts));
        match covers {
            Some(Ok(true)) => Verdict::Stands,
            Some(Err(over)) => Verdict::OverCap(over),
            Some(Ok(false)) | None => Verdict::Asks(Box::new(denial), impacts.to_vec()),
        }
    }

    /// Makes the transaction fail without running anything: a statement that does not exist is
    /// described. Its error is ours to hide.
    pub(super) fn ask_veto(&mut self) {
        self.is_vetoing = true;
        self.record.has_failed();
        self.held.is_unsure = true;
        self.held.undone();
        // Code of the client's may have made one.
        self.ask_close(Owner::Gateway, Named::Statement, "dbgate_refused");
        self.ask_describe(Owner::Gateway, Named::Statement, "dbgate_refused");
    }

    /// The transaction is over, one way or the other.
    pub(super) fn forget_held(&mut self) {
        if let Some(own) = self.held.own_next.take() {
            self.held.own = own;
        }
        self.held.has_undone = false;
        self.held.is_active = false;
        self.held.baseline = None;
        self.held.written.clear();
        self.held.told = Told::default();
        self.held.habit.ended();
        self.held.facts = None;
        (self.held.last_held, self.held.last_ended, self.held.count) = (None, None, 0);
        (self.held.undo, self.held.may_lock) = (None, false);
        (self.held.may_keep, self.held.may_hide) = (false, false);
        (self.held.bound, self.held.has_bound_more, self.held.has_planned) = (None, false, false);
        self.baseline_asked = false;
        self.held.impacts.clear();
        self.held.locked.clear();
        self.held.is_kept_open = false;
        self.held.made = 0;
        self.held.own_block = false;
        self.held.commit_failed = false;
    }

    /// The last statement that was held, by number and part.
    pub(super) fn last_held(&self) -> Option<(u64, u32)> {
        self.held.last_held
    }
}

/// Why what was counted says too little.
pub(super) fn uncountable(error: &CountError) -> Box<Denial> {
    refused("uncountable", &format!("{error}; nothing of it was committed"), error.way_out())
}

/// What became of the held statements.
pub enum Verdict {
    Stands,
    /// The target itself refused; the client has its error.
    Failed,
    Denied(Box<Denial>),
    /// People may let it stand.
    Asks(Box<Denial>, Vec<Impact>),
    /// It changed more than people have let through.
    OverCap(OverCap),
    /// It was only tried.
    Tried(Box<Tried>),
}

impl Held {
    /// Whether rows are there that the session itself has put there.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether one statement alone has written in the open transaction.
    pub fn is_single_write(&self) -> bool {
        self.count == 1 && self.locked.is_empty()
    }

    /// A part of the open transaction, or all of it, is taken back.
    pub fn undone(&mut self) {
        self.has_undone = true;
        self.own_next = None;
    }

    /// Something is asked for behind what ran: what that has locked stays locked, in a block or not.
    pub fn goes_on(&mut self) {
        self.is_kept_open |= self.may_lock;
    }

    /// One of its statements has ended well.
    pub fn ended(&mut self, planned: &Planned, number: u64, part: u32) {
        if planned.hold.is_counted() {
            self.last_ended = Some((number, part));
        }
    }

    /// Something has failed: it has written nothing, and what was asked for behind it does not run.
    pub fn failed(&mut self) {
        self.undone();
        self.last_held = self.last_ended;
    }

    /// What the open transaction's statements say that they write to.
    pub fn written(&self) -> impl Iterator<Item = &Name> {
        self.written.iter().map(|(name, _)| name)
    }

    /// Whether the open transaction has written anything that COMMIT must be judged for.
    pub fn counts_pending(&self) -> bool {
        self.baseline.is_some()
    }
}
