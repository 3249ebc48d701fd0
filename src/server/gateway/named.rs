//! What the client's names mean: prepared statements and portals.
//!
//! The gateway must never take a name for another statement than the target does: what was judged as a
//! read would run as a write. A change counts once the target has answered it and is taken back
//! when an error makes the target skip it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bound::{Behind, Deadline};
use super::habit::Habit;
use super::session::{Bound, End, Judged, Session};
use crate::core::policy::Denial;
use crate::core::policy::limit::Limits;
use crate::core::scope::catalog::Catalog;
use crate::core::scope::catalog::RelationKind;
use crate::core::session::{Owner, Step};
use crate::core::statement::facts::{Facts, Name, TransactionVerb};
use crate::core::statement::grammar::{self, TEMP_VIEW};
use crate::core::wire::frame::Message;
use crate::core::wire::frontend::{self, Named};
use crate::server::audit::Wording;
use crate::server::check::{Hold, Planned, TOO_MANY, refused};
use crate::server::decisions::Context;

/// Prepared statements that a session may keep; and portals and cursors.
const MOST_PREPARED: usize = 10_000;
const MOST_PORTALS: usize = 1_000;
/// Bytes of the texts of the ones, and of the values of the others.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// What is longer is added up each time, the rest once in so many.
const SHORT: usize = 4096;
const ONCE_IN: usize = 64;

/// How long a transaction may wait that has only had a text read which nobody has judged.
const UNJUDGED: Duration = Duration::from_secs(120);

/// Changes that the target was asked for, in the order of the requests.
#[derive(Default)]
pub struct Changes {
    /// Names of statements that code may have put others under.
    doubted: BTreeSet<String>,
    /// Of the request that is about to be made.
    next: Option<Box<Change>>,
    asked: VecDeque<Option<Box<Change>>>,
    /// How many there were in all.
    made: u64,
    /// Something runs whose success changes what the session knows.
    must_settle: bool,
}

/// What DECLARE has made.
pub struct Cursor {
    /// How far its query may go.
    behind: Behind,
    /// A Query gets its rows in their binary form.
    is_binary: bool,
    pub end: Ends,
    /// Advisory locks that reading on from it may take.
    pub takes: u64,
    /// Tables of which a row that is read from it may lock rows, and how many of all together.
    pub locked: (Vec<Name>, u64),
    /// Nothing in its query can change rows, by the definitions of that time; and no code that nobody has read has
    /// run since, which may have put another under its name.
    calm: Option<Arc<Catalog>>,
}

/// With what a cursor ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// Its transaction.
    #[default]
    Transaction,
    /// WITH HOLD: a rollback of its transaction; COMMIT fills it.
    Rollback,
    /// It is filled, and ends by CLOSE.
    Close,
}

/// What a name meant before.
enum Change {
    Statement(String, Option<Parsed>),
    Portal(String, Option<Bound>),
}

impl Changes {
    /// A Parse, Bind or Close of the client's goes out.
    pub fn asked(&mut self) {
        self.asked.push_back(self.next.take());
        self.made += 1;
    }

    /// So many Binds go out that give an unnamed portal the meaning that it has, but for its values: an error
    /// ends them all.
    pub fn asked_again(&mut self, times: usize) {
        self.asked.extend(std::iter::repeat_with(|| None).take(times));
        self.made += u64::try_from(times).unwrap_or(0);
    }

    /// The place of the next one among all of them.
    pub fn place(&self) -> u64 {
        self.made
    }

    /// The target has done the first of them.
    pub fn answered(&mut self) {
        self.asked.pop_front();
    }

    /// And so many of the next ones.
    pub fn answered_again(&mut self, times: usize) {
        self.asked.drain(..times.min(self.asked.len()));
    }

    /// How many of them the target has done: the place of the one whose turn it is.
    pub fn answered_so_far(&self) -> u64 {
        self.made - u64::try_from(self.asked.len()).unwrap_or(self.made)
    }

    /// A statement was asked for. Names, and what a transaction holds, change with some: what
    /// comes behind one in the pipeline is looked at when it has been answered.
    pub fn executed(&mut self, facts: &Facts) {
        let ends = matches!(facts.transaction, Some(verb) if verb != TransactionVerb::Begin);
        let renames = matches!(facts.verb.as_str(), "PREPARE" | "DEALLOCATE" | "DISCARD ALL" | "CLOSE")
            || facts.verb.starts_with("DECLARE");
        self.must_settle |= ends || renames || redefines(facts);
    }

    /// Everything asked has been answered.
    pub fn settled(&mut self) {
        self.must_settle = false;
    }

    /// Whether what was asked must be answered before anything else is looked at.
    pub fn must_settle(&self) -> bool {
        self.must_settle
    }
}

/// What a Parse left behind.
#[derive(Clone)]
pub struct Parsed {
    pub judged: Judged,
    /// Of its parameters, as the client named them.
    pub types: Bytes,
    /// When that was: see `steady`.
    pub era: u64,
    pub text: Arc<str>,
    pub wording: Arc<Wording>,
    /// The place of its Parse among the client's requests.
    pub place: u64,
    /// What it was judged by.
    pub context: Arc<Context>,
}

impl Parsed {
    /// Of a text that was not judged.
    pub fn unjudged(judged: Judged, sql: &str, types: Bytes, context: Arc<Context>) -> Self {
        let wording = Arc::new(Wording::of(sql));
        Self { judged, types, era: 0, text: sql.into(), wording, place: 0, context }
    }
}

impl Session {
    /// Whether a statement may be prepared under this name: there is room, and it is read as here.
    pub(super) fn has_room_to_prepare(&self, name: &str, text: &str) -> Result<(), Box<Denial>> {
        has_length(text)?;
        self.is_read_as_here(text)?;
        let kept = &self.prepared;
        let sum = || kept.values().map(|one| one.text.len()).sum();
        let is_full = kept.len() >= MOST_PREPARED || adds_up(kept.len(), text.len(), sum);
        match is_full && is_one_more(name, kept) {
            true => Err(too_many("prepared statements")),
            false => Ok(()),
        }
    }

    /// Whether one more portal can be kept under this name, with values of this length.
    pub(super) fn has_room_to_bind(&self, name: &str, length: usize) -> Result<(), Box<Denial>> {
        let kept = &self.portals;
        let sum = || kept.values().map(|one| one.values.parameters.len()).sum();
        let is_full = kept.len() + self.cursors.len() >= MOST_PORTALS || adds_up(kept.len(), length, sum);
        match is_full && is_one_more(name, kept) {
            true => Err(too_many("portals and cursors")),
            false => Ok(()),
        }
    }

    /// The same of what SQL prepares or declares.
    pub(super) fn has_room_for(&self, planned: &Planned) -> Result<(), Box<Denial>> {
        let facts = planned.cleared.facts();
        match facts.prepared.as_deref() {
            Some(name) if facts.verb == "PREPARE" => self.has_room_to_prepare(name, &planned.forward),
            Some(name) if facts.verb.starts_with("DECLARE") => self.has_room_to_bind(name, 0),
            Some(_) | None => Ok(()),
        }
    }

    /// The next request makes the name mean this, or nothing any more.
    pub(super) fn name_statement(&mut self, name: &str, mut parsed: Option<Parsed>) {
        if let Some(parsed) = &mut parsed {
            parsed.place = self.changes.place();
            // Reading a text takes its locks already; of one that is not judged nobody knows which.
            let unjudged = Limits { idle: Some(UNJUDGED), ..Limits::default() };
            self.note_idle(parsed.judged.planned().map_or(unjudged, |planned| planned.cleared.limits()));
        }
        let before = set(&mut self.prepared, name, parsed);
        self.changes.next = Some(Box::new(Change::Statement(name.to_owned(), before)));
    }

    /// The same of a portal.
    pub(super) fn name_portal(&mut self, name: &str, mut bound: Option<Bound>) {
        if let Some(bound) = &mut bound {
            bound.places[1] = self.changes.place();
            self.note_idle(bound.planned.as_ref().map(|planned| planned.cleared.limits()).unwrap_or_default());
            self.ahead.unrun.note(name, bound);
        }
        let before = set(&mut self.portals, name, bound);
        self.changes.next = Some(Box::new(Change::Portal(name.to_owned(), before)));
    }

    /// The target skips what it has not answered.
    pub(super) fn undo_names(&mut self) {
        while let Some(change) = self.changes.asked.pop_back() {
            match change.map(|change| *change) {
                Some(Change::Statement(name, before)) => drop(set(&mut self.prepared, &name, before)),
                Some(Change::Portal(name, before)) => drop(set(&mut self.portals, &name, before)),
                None => {}
            }
        }
        self.changes.must_settle = false;
    }

    /// What the Parse at this place among the client's requests has read, as long as anything is known of it.
    pub(super) fn parsed_at(&self, place: u64) -> Option<&Parsed> {
        let replaced = self.changes.asked.iter().filter_map(|change| match change.as_deref() {
            Some(Change::Statement(_, before)) => before.as_ref(),
            Some(Change::Portal(..)) | None => None,
        });
        self.prepared.values().chain(replaced).find(|parsed| parsed.place == place && place != u64::MAX)
    }

    /// What EXECUTE may name.
    pub(super) fn known_statements(&self) -> BTreeMap<String, Arc<Planned>> {
        let known = self.prepared.iter();
        known.filter_map(|(name, parsed)| Some((name.clone(), parsed.judged.planned()?.clone()))).collect()
    }

    /// Follows what a statement that has just succeeded did to names. SQL and protocol share them.
    /// `hides_names` where it may have given them another meaning without a word of it.
    pub(super) fn note_named(&mut self, planned: &Arc<Planned>, hides_names: bool) {
        let facts = planned.cleared.facts();
        let name = facts.prepared.as_deref();
        match (facts.verb.as_str(), name) {
            ("DISCARD ALL", _) | ("DEALLOCATE", Some("")) => {
                self.own.forget();
                if facts.verb == "DISCARD ALL" {
                    // What code has left behind is gone.
                    self.held.habit = Habit::default();
                }
                self.prepared.clear();
                self.cursors.clear();
            }
            ("DEALLOCATE", Some(name)) => drop(self.prepared.remove(name)),
            ("PREPARE", Some(name)) => {
                // As the client wrote it: what stands in place of masked relations is not to be judged.
                let text = planned.prepares.clone().unwrap_or_else(|| planned.forward.as_str().into());
                let wording = Arc::new(Wording::of(&text));
                let judged = Judged::Planned(planned.clone());
                let (era, place, context) = (self.era(), u64::MAX, self.context.clone());
                self.prepared.insert(
                    name.to_owned(),
                    Parsed { judged, types: Bytes::new(), era, text, wording, place, context },
                );
            }
            ("CLOSE", Some("")) => {
                self.portals.clear();
                self.cursors.clear();
            }
            ("CLOSE", Some(name)) => {
                self.portals.remove(name);
                self.cursors.remove(name);
            }
            (verb, Some(name)) if verb.starts_with("DECLARE") => {
                self.portals.remove(name);
                let limits = planned.cleared.limits();
                let end = if verb == "DECLARE WITH HOLD" { Ends::Rollback } else { Ends::Transaction };
                let behind = Behind { limits, used: Some(Arc::default()) };
                let (is_binary, takes, locked) = (facts.is_binary, facts.effects.locks, self.may_lock(facts));
                let calm = (planned.hold == Hold::Not).then(|| self.catalog.clone());
                self.cursors.insert(name.to_owned(), Cursor { behind, is_binary, end, takes, locked, calm });
                if end == Ends::Rollback {
                    self.ahead.filling = Deadline::earlier(self.ahead.filling, limits.time);
                }
            }
            _ => {}
        }
        // A table of the session's own has other keys than the one in whose place it comes.
        if matches!(facts.verb.as_str(), "CREATE TEMP TABLE" | "SELECT INTO TEMP") {
            self.judge_anew(|facts| !facts.effects.keys.is_empty());
        }
        if redefines(facts) || hides_names {
            if facts.verb == TEMP_VIEW {
                self.has_own_views = true;
                self.context = self.remembering();
            }
            self.doubt_names();
        }
    }

    /// Whether it touches tables only: a view, or a row policy, may call anything.
    pub(super) fn reads_tables(&self, facts: &Facts) -> bool {
        facts.touches.iter().all(|touch| {
            self.resolve(&touch.relation).is_some_and(|one| {
                matches!(one.kind, RelationKind::Table | RelationKind::Partitioned) && !one.has_row_security
            })
        })
    }

    /// Whether all that a text calls is known and changes nothing.
    pub(super) fn is_tame(&self, facts: &Facts) -> bool {
        facts.functions.iter().all(|function| self.catalog.is_calm(&function.name))
            && !facts.fields.iter().any(|field| self.catalog.volatile_functions.contains(field))
            && (facts.operators.is_empty() || !self.catalog.has_volatile_operators)
    }

    /// A portal that no Bind of this session made: a cursor's, or none. Reading on from a cursor is
    /// FETCH, which is judged. Of what the gateway knows nothing, nothing runs: the target closes
    /// whatever it may have under the name, and then says itself that there is none.
    pub(super) async fn execute_unknown(&mut self, message: &Message, portal: &str) -> Result<(), End> {
        if self.is_cursor(portal) {
            let denial = refused("cursor_by_execute", "read from a cursor with FETCH", "FETCH ALL FROM cursor");
            return self.deny(&denial, "").await;
        }
        self.ask_close(Owner::Gateway, Named::Portal, portal);
        self.pass(message, Step::Nothing);
        Ok(())
    }

    fn is_cursor(&self, portal: &str) -> bool {
        !portal.is_empty() && !self.portals.contains_key(portal) && self.is_block
    }

    /// How far a statement may go beside what it was judged for itself: FETCH runs what its cursor stands
    /// for, and COMMIT what is left of cursors that outlive it.
    pub(super) fn limits_behind(&mut self, planned: &Planned) -> Option<Behind> {
        let facts = planned.cleared.facts();
        match (facts.verb.as_str(), facts.prepared.as_deref()) {
            ("FETCH", Some(name)) => match self.portals.get_mut(name) {
                Some(bound) => bound.in_parts(),
                None => self.cursors.get(name).map(|cursor| cursor.behind.clone()),
            },
            _ if facts.transaction == Some(TransactionVerb::Commit) && !self.cursors.is_empty() => {
                let limits = Limits { time: self.time_to_fill(), ..Limits::default() };
                Some(Behind { limits, ..Behind::default() })
            }
            _ => None,
        }
    }

    /// FETCH does what its cursor stands for, and MOVE what its portal does: from one that cannot change rows it is
    /// not counted.
    pub(super) fn as_its_cursor(&self, planned: Arc<Planned>) -> Arc<Planned> {
        let facts = planned.cleared.facts();
        let cursor = facts.prepared.as_ref().filter(|_| facts.verb == "FETCH").and_then(|name| self.cursors.get(name));
        let is_calm = cursor.and_then(|cursor| cursor.calm.as_ref()).is_some_and(|of| Arc::ptr_eq(of, &self.catalog));
        let is_calm = is_calm || self.portal_of(facts).is_some_and(Bound::is_plain_read);
        if is_calm { Arc::new(Planned { hold: Hold::Not, ..(*planned).clone() }) } else { planned }
    }

    /// Code runs that nobody has read: it may put other cursors under the names of those there are, and of portals.
    pub(super) fn doubt_cursors(&mut self) {
        self.cursors.values_mut().for_each(|cursor| cursor.calm = None);
        self.portals.values_mut().filter_map(|bound| bound.planned.as_mut()).for_each(count);
    }

    /// Whether a Query that reads on from a cursor gets its rows in their binary form.
    pub(super) fn reads_binary(&self, facts: &Facts) -> bool {
        let cursor = facts.prepared.as_ref().filter(|_| facts.verb == "FETCH");
        cursor.and_then(|name| self.cursors.get(name)).is_some_and(|cursor| cursor.is_binary)
    }

    /// How long the cursors there are may take to be filled.
    pub(super) fn time_to_fill(&self) -> Option<Duration> {
        let open = self.cursors.values().filter(|cursor| cursor.end != Ends::Close);
        open.filter_map(|cursor| cursor.behind.limits.time).min()
    }

    /// A transaction is over: what it has filled goes on with its limits, the rest is gone.
    pub(super) fn end_cursors(&mut self, is_committed: bool) {
        self.cursors.retain(|_, cursor| match cursor.end {
            Ends::Transaction => false,
            Ends::Rollback => is_committed,
            Ends::Close => true,
        });
        self.cursors.values_mut().for_each(|cursor| cursor.end = Ends::Close);
    }

    /// What was prepared is judged again when it is bound.
    fn judge_anew(&mut self, is_meant: fn(&Facts) -> bool) {
        for parsed in self.prepared.values_mut() {
            if let Some(planned) = parsed.judged.planned().filter(|planned| is_meant(planned.cleared.facts())) {
                parsed.judged = Judged::Outdated(planned.clone());
            }
        }
    }

    /// Every name may have got another meaning: what was judged as unable to change rows is counted
    /// from here on, and what locks them is judged again when it is bound, for nobody counts locks.
    /// What names nothing itself, as a COMMIT, is prepared again before it is bound: nothing may be asked in front of
    /// it, for a transaction has failed there, or has not begun.
    pub(super) fn doubt_names(&mut self) {
        self.judge_anew(|facts| facts.locks || !facts.effects.keys.is_empty());
        self.changes.doubted.clear();
        for (name, parsed) in &mut self.prepared {
            match &mut parsed.judged {
                Judged::Planned(planned) if planned.cleared.facts().names_nothing() => {
                    // SQL cannot name the one without a name.
                    if !name.is_empty() {
                        self.changes.doubted.insert(name.clone());
                    }
                }
                Judged::Planned(planned) | Judged::Outdated(planned) => count(planned),
                Judged::Empty | Judged::Unread | Judged::Unlifted => {}
            }
        }
        self.doubt_cursors();
    }

    /// Prepares such a statement again: code may have put another under its name.
    pub(super) fn prepare_again(&mut self, name: &str, judged: &Judged, types: &[u8]) -> Result<(), End> {
        let Some(planned) = judged.planned().filter(|_| self.changes.doubted.contains(name)) else { return Ok(()) };
        // In a transaction that has failed only what ends it is prepared, and nothing else is bound.
        let ends = [TransactionVerb::Commit, TransactionVerb::Rollback, TransactionVerb::RollbackTo];
        if self.status == b'E' && !planned.cleared.facts().transaction.is_some_and(|verb| ends.contains(&verb)) {
            return Ok(());
        }
        // What was sent before may fail, and then the target skips this.
        if self.pipeline.is_empty() {
            self.changes.doubted.remove(name);
        }
        self.ask_instead(name, &planned.forward, &frontend::types(types)?);
        Ok(())
    }
}

/// What was judged as unable to change rows is counted from here on.
pub(super) fn count(planned: &mut Arc<Planned>) {
    if planned.hold == Hold::Not {
        *planned = Arc::new(Planned { hold: Hold::Counted, ..Planned::clone(planned) });
    }
}

/// Code whose text nobody reads may do anything to names, and a view of the session's own may take
/// the place of a table.
fn redefines(facts: &Facts) -> bool {
    matches!(facts.verb.as_str(), "DO" | "CALL" | "RENAME" | TEMP_VIEW)
}

/// What is longer than any text that is judged is not read at all.
pub fn has_length(text: &str) -> Result<(), Box<Denial>> {
    grammar::has_length(text).map_err(|error| refused(error.code(), &error.to_string(), error.way_out()))
}

/// Whether a name is not there yet, and is one of many: without a name there is one only.
fn is_one_more<T>(name: &str, kept: &BTreeMap<String, T>) -> bool {
    !name.is_empty() && !kept.contains_key(name)
}

/// Whether these and another one are more than is kept.
fn adds_up(count: usize, length: usize, sum: impl FnOnce() -> usize) -> bool {
    (length > SHORT || count.is_multiple_of(ONCE_IN)) && sum() + length > MOST_BYTES
}

fn too_many(what: &str) -> Box<Denial> {
    refused(TOO_MANY, &format!("too many {what}, or too long ones"), "close those that are not needed any more")
}

fn set<T>(names: &mut BTreeMap<String, T>, name: &str, value: Option<T>) -> Option<T> {
    match value {
        Some(value) => names.insert(name.to_owned(), value),
        None => names.remove(name),
    }
}
