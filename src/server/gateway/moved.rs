//! Names that mean something else by what runs: temporary relations and the search path.
//!
//! What must stay true: a statement is judged by what its names mean when it runs. Behind one that may
//! have moved them, in a Query or a pipeline, that is asked of the target once it has run, and what
//! follows is judged then; all of it stays in the transaction it stands in.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::account::with_approved;
use super::aside;
use super::relay::Mode;
use super::seldom;
use super::session::{End, Judged, Session};
use super::simple::forwarded;
use crate::core::policy::Denial;
use crate::core::scope::catalog::RelationKind;
use crate::core::session::Owner;
use crate::core::statement::facts::{Effect, Facts, RowAction, TransactionVerb};
use crate::core::statement::grammar::{self, Statement, TEMP_VIEW};
use crate::core::wire::frontend;
use crate::server::audit::Protocol;
use crate::server::check::{Hold, Planned, refused};
use crate::server::decisions::Decided;
use crate::sys::clock;

impl Session {
    /// Whether unqualified names may mean something else behind it.
    fn moves_names(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        self.takes_names_back(facts) || self.may_hide_names(planned) || changes_names(facts)
    }

    /// Whether it ends what names were moved in.
    fn takes_names_back(&self, facts: &Facts) -> bool {
        let ends = match facts.transaction {
            Some(TransactionVerb::Begin | TransactionVerb::Savepoint | TransactionVerb::Release) | None => false,
            Some(
                TransactionVerb::Commit
                | TransactionVerb::Rollback
                | TransactionVerb::RollbackTo
                | TransactionVerb::TwoPhase,
            ) => true,
        };
        ends && (self.held.has_moved_names || self.facts_stale)
    }

    /// Whether what runs may make temporary relations, prepare statements or move the search path
    /// without a word of it in its text: code, and functions that may run any text.
    pub(super) fn may_hide_names(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        // PREPARE runs nothing of what it prepares.
        if !planned.hold.is_counted() || facts.verb == "PREPARE" {
            return false;
        }
        let says_all = is_dml(facts) || (facts.verb == "SELECT" && self.reads_tables(facts));
        !says_all || self.has_own_code || self.has_own_views || !self.is_tame(facts) || self.runs_dynamic_sql(facts)
    }

    /// Whether where it reads or writes dynamic SQL may run, in a trigger for instance. Of what is not known, or code
    /// has made, nobody can tell.
    pub(super) fn runs_dynamic_sql(&self, facts: &Facts) -> bool {
        facts.touches.iter().any(|touch| {
            if self.is_own(&touch.relation) {
                return self.has_odd_tables;
            }
            let Some(relation) = self.resolve(&touch.relation) else { return true };
            let is_dynamic =
                !self.catalog.is_static(relation) || self.grant.has_become_dynamic(&self.catalog, relation);
            // Of a table that is only read nothing runs but its policies.
            let runs = touch.action != RowAction::Read
                || relation.has_row_security
                || !matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned);
            is_dynamic && runs
        })
    }

    /// A statement is about to run: until the target is asked again, names behind it may mean something
    /// else, the gateway's own among them, and what it defines may do anything later.
    pub(super) fn doubt_what_follows(&mut self, planned: &Planned) {
        let (facts, hides_names) = (planned.cleared.facts(), self.may_hide_names(planned));
        if hides_names {
            self.runs_unread();
            self.may_misread = true;
        } else if facts.effect == Effect::Write && !self.stands_at_commit(planned) {
            // So may what runs along with a write: triggers, rules, defaults.
            self.held.habit.breaks();
            self.held.may_keep = true;
        }
        if self.takes_names_back(facts) || changes_names(facts) {
            // In a block it may be taken back.
            (self.has_moved_names, self.held.has_moved_names) = (true, true);
        }
        self.has_odd_tables |= facts.makes.takes_over;
        self.has_odd_tables |= facts.makes.relations > 0 && !self.calls_nothing(facts);
        self.has_own_code |= match facts.verb.as_str() {
            "DO" | "CALL" => true,
            // Their expressions are evaluated by what comes later.
            "CREATE TEMP TABLE" | "ALTER TABLE" | "CREATE INDEX" => !self.is_tame(facts),
            _ => false,
        };
    }

    /// Code runs that nobody has read: until the target is asked again, names behind it may mean something else.
    pub(super) fn runs_unread(&mut self) {
        self.doubt_all();
        (self.has_moved_names, self.held.has_moved_names, self.has_odd_tables) = (true, true, true);
        (self.held.may_hide, self.held.may_keep) = (true, true);
        self.held.habit.breaks();
    }

    /// What names stand for may have changed, also where it was code that fails in the end: prepared statements stay.
    pub(super) fn doubt_all(&mut self) {
        self.own.doubt();
        self.doubt_names();
    }

    /// Which quote ends a text with a backslash depends on settings, and code that nobody has read may just have
    /// changed them: the target says so with its answer to a Sync, or where it is asked along with the names.
    pub(super) fn is_read_as_here(&self, text: &str) -> Result<(), Box<Denial>> {
        match self.may_misread && text.contains('\\') {
            true => {
                let what = "how it is read may have changed by what stands before it";
                Err(refused("several_statements", what, "send it alone"))
            }
            false => Ok(()),
        }
    }

    /// Asks again for what the session's names mean, when something may have moved them. False when that
    /// failed, and the client has been told.
    pub(super) async fn refresh(&mut self) -> Result<bool, End> {
        if !(self.facts_stale || self.has_moved_names) || self.status == b'E' {
            return Ok(true);
        }
        // A Sync would commit what has run, and end portals that wait to be run.
        let has_portals = !self.is_block && !self.portals.is_empty();
        let is_open = self.is_dirty || has_portals || self.pipeline.is_open();
        self.ask_own("dbgate_facts", &[]);
        match is_open {
            true => frontend::flush(&mut self.up),
            false => self.ask_sync(Owner::Gateway),
        }
        self.send().await?;
        self.learn_facts().await
    }

    /// The same before a text is judged. What names nothing does not need it, and in a block may have to come
    /// before anything is asked: SET TRANSACTION does.
    pub(super) async fn refresh_for(&mut self, sql: &str, mode: Mode) -> Result<bool, End> {
        let is_stale = self.facts_stale || self.has_moved_names;
        if !is_stale || (self.status == b'T' && names_nothing(sql)) {
            return Ok(true);
        }
        if self.refresh().await? {
            return Ok(true);
        }
        let protocol = match mode {
            Mode::Simple => Protocol::Simple,
            Mode::Extended => Protocol::Extended,
        };
        self.record_unread(sql, protocol).await?;
        self.failed_before_sync(mode).await?;
        Ok(false)
    }

    /// The same of a Parse: in the middle of a pipeline where it matters how the text is read.
    pub(super) async fn is_ready_to_read(&mut self, sql: &str) -> Result<bool, End> {
        match self.pipeline.is_empty() {
            true => self.refresh_for(sql, Mode::Extended).await,
            false if (self.may_misread || self.held.has_planned) && sql.contains('\\') => seldom(self.catch_up()).await,
            false => Ok(true),
        }
    }

    /// Has everything asked so far answered, and asks what names mean by now. False when it failed.
    pub(super) async fn catch_up(&mut self) -> Result<bool, End> {
        if !self.pipeline.is_empty() && !self.answered().await? {
            return Ok(false);
        }
        let is_known = self.refresh().await?;
        self.is_skipping |= !is_known;
        Ok(is_known)
    }

    /// The same for a statement that is about to be bound, where names matter to it.
    pub(super) async fn catch_up_for(&mut self, statement: &str) -> Result<bool, End> {
        let matters = self.prepared.get(statement).is_some_and(|parsed| match &parsed.judged {
            Judged::Planned(planned) | Judged::Outdated(planned) => depends_on_names(planned),
            Judged::Unlifted => true,
            Judged::Empty | Judged::Unread => false,
        });
        match self.pipeline.is_empty() {
            // In a block, as for a Parse.
            true if matters || self.status != b'T' => self.catch_up().await,
            false if matters && self.has_moved_names => self.catch_up().await,
            true | false => Ok(true),
        }
    }

    /// What is known of the text of a Parse, or what it is judged as by now.
    pub(super) fn decided(&mut self, sql: &str) -> Result<Arc<Decided>, Undecided> {
        self.follow_policy();
        let known = self.context.find(sql).filter(|decided| decided.statements.len() == 1);
        known.map_or_else(|| aside::judge(sql.len(), || self.decide_parse(sql)), Ok)
    }

    /// Whether a part of what was judged at once before is to be judged behind another by now.
    pub(super) fn has_stages(&self, decided: &Decided) -> bool {
        let ahead = decided.statements.split_last().map(|(_, ahead)| ahead).unwrap_or_default();
        ahead.iter().any(|(planned, _)| self.moves_names(planned))
    }

    /// Plans statements of a Query, up to the first one behind which names may mean something else; a
    /// PREPARE is known to the EXECUTE behind it. An approval can be there for a statement that stands
    /// alone.
    pub(super) fn plan_all<'s>(
        &mut self,
        statements: impl Iterator<Item = &'s Statement> + Clone,
        is_several: bool,
        is_alone: bool,
    ) -> Result<Vec<Planned>, Box<Denial>> {
        let executed: BTreeSet<&str> = statements.clone().filter_map(|one| one.facts.executed()).collect();
        let mut outdated_names: BTreeSet<&str> = executed.into_iter().filter(|name| !self.follow_names(name)).collect();
        let mut prepared = self.known_statements();
        let lift = self.people.lift.as_ref().filter(|_| is_alone);
        let mut all = Vec::new();
        for statement in statements.clone() {
            if statement.facts.executed().is_some_and(|name| outdated_names.contains(name)) {
                return Err(outdated());
            }
            let planned = self.plan(statement, &prepared, lift)?;
            let moves = || statements.clone().any(|statement| statement.facts.transaction.is_some());
            if planned.hold == Hold::OwnBlock && is_several && (self.status == b'I' || moves()) {
                let message = format!("{} must be sent by itself", planned.cleared.facts().verb);
                return Err(refused("several_statements", &message, "send it alone"));
            }
            let facts = planned.cleared.facts();
            if let Some(name) = facts.prepared.as_deref().filter(|_| facts.verb == "PREPARE") {
                outdated_names.remove(name);
                prepared.insert(name.to_owned(), Arc::new(planned.clone()));
            }
            let is_last = self.moves_names(&planned);
            all.push(planned);
            if is_last {
                break;
            }
        }
        Ok(all)
    }

    /// Judges and runs what stands in a Query behind a change of names, from this part on.
    pub(super) async fn run_behind(
        &mut self,
        sql: &str,
        number: u64,
        mut behind: Vec<(u32, Statement)>,
        mut part: usize,
    ) -> Result<(), End> {
        while !behind.is_empty() {
            let mut next =
                behind.iter().take_while(|(_, one)| self.status == b'T' && one.facts.names_nothing()).count();
            if next == 0 {
                if !self.refresh().await? {
                    return self.close_failed(Mode::Simple).await;
                }
                next = behind.len();
            }
            let next = behind.iter().map(|(_, one)| one).take(next);
            let judged = aside::judge(sql.len(), || self.plan_all(next, true, false));
            let judged = judged.and_then(|planned| match self.untriable(&planned) {
                Some(denial) => Err(denial),
                None if !planned.iter().all(|one| self.people.lets_ride(one)) => Err(with_approved()),
                None => Ok(planned),
            });
            let planned = match judged {
                Ok(planned) => planned,
                Err(denial) => return self.refuse_behind(&denial, sql, (number, part)).await,
            };
            let rest = behind.split_off(planned.len());
            let before = behind.iter().map(|(before, _)| *before);
            let statements: Vec<_> = planned.into_iter().map(Arc::new).zip(before).collect();
            let cleared: Vec<_> = statements.iter().map(|(planned, _)| &planned.cleared).collect();
            let forwarded = forwarded(&statements);
            self.record.allowed_behind((number, part), &cleared, forwarded.as_deref(), clock::now()).await?;
            if !self.run_all(&statements, number, part, !rest.is_empty()).await? {
                return Ok(());
            }
            part += statements.len();
            behind = rest;
        }
        Ok(())
    }
}

/// Whether no statement of a text hangs on what names mean.
fn names_nothing(sql: &str) -> bool {
    grammar::parse(sql).is_ok_and(|all| all.iter().all(|one| one.facts.names_nothing()))
}

/// Whether unqualified names may mean something else behind it, by what its text says.
pub(super) fn changes_names(facts: &Facts) -> bool {
    let is_path = |setting: &String| setting.starts_with("search_path") || matches!(setting.as_str(), "all" | "role");
    let verb = facts.verb.as_str();
    facts.settings.iter().any(is_path)
        || facts.makes.relations > 0
        || verb.starts_with("DISCARD")
        || matches!(
            verb,
            "SELECT INTO TEMP"
                | "CREATE TEMP TABLE"
                | "CREATE TEMP SEQUENCE"
                | TEMP_VIEW
                | "CREATE INDEX"
                | "RENAME"
                | "DROP"
        )
}

/// Whether what was judged like this hangs on what names mean.
pub(super) fn names_something(decided: &Result<Arc<Decided>, Undecided>) -> bool {
    match decided {
        Ok(decided) => decided.statements.iter().any(|(planned, _)| planned.cleared.facts().names_unqualified()),
        Err(Undecided::Unjudged(Judged::Empty | Judged::Unread)) => false,
        Err(Undecided::Unjudged(_) | Undecided::Denied(_)) => true,
    }
}

/// The same of what the target has read already: rows that it writes are counted whatever they are of.
fn depends_on_names(planned: &Planned) -> bool {
    let facts = planned.cleared.facts();
    let is_counted = is_dml(facts) && planned.hold.is_counted() && !planned.is_spliced;
    facts.names_unqualified() && !(is_counted && !facts.effects.are_counted && !facts.locks)
}

/// Why a Parse has no decision.
pub(super) enum Undecided {
    /// The target only reads it, and nothing of it runs as it is.
    Unjudged(Judged),
    Denied(Box<Denial>),
}

pub(super) fn outdated() -> Box<Denial> {
    refused(
        "prepare_again",
        "what its names mean may have changed since this statement was prepared",
        "prepare it again",
    )
}

fn is_dml(facts: &Facts) -> bool {
    matches!(facts.verb.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY")
}
