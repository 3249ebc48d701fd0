//! Requests to the target: gathered with a note of who asked, sent together, recorded first.

use bytes::{Buf as _, BytesMut};

use super::bound::Deadline;
use super::held::{DEFERRED, OWN};
use super::relay::{Drained, Mode};
use super::seldom;
use super::session::{End, Session};
use super::values::Values;
use crate::core::session::{Owner, Step};
use crate::core::wire::frame::Message;
use crate::core::wire::frontend::{self, Frontend, Named};
use crate::server::audit::Pending;

/// Requests that may be on their way without an answer before one is waited for without a Flush of the client's.
const LONGEST_GATHERED: usize = 1024 * 1024;
/// Requests that may gather before they are sent on: the target can work while the client says more.
const SENT_AHEAD: usize = 32 * 1024;
/// The same of the first of a pipeline, which the target may as well begin with; and of what waits while the
/// client says nothing, though its pipeline goes on.
const SENT_FIRST: usize = 2 * 1024;
/// Requests that may wait for the disk before the client waits for it, too.
const LONGEST_UNSETTLED: usize = 2 * SENT_AHEAD;
/// Room that a session keeps while its transaction is open and nothing goes on in it.
const MOST_KEPT: usize = 256 * 1024;
/// A portal of the gateway's own.
const PORTAL: &str = "dbgate_portal";

/// Which of the gateway's own statements the target knows. One is prepared when it is first
/// needed, and known once the target has said so: an error may have made it skip the Parse. Code of
/// the client's can put others under their names: after it they are prepared anew.
#[derive(Default)]
pub struct OwnStatements {
    known: Vec<&'static str>,
    /// Asked for in this order, not answered yet.
    asked: std::collections::VecDeque<&'static str>,
    /// An error may have come between opening and closing our portal.
    has_portal: bool,
}

/// Requests that go to the target once the record is durable so far.
#[derive(Clone, Copy)]
pub struct Settling {
    pub line: Pending,
    /// How many bytes of what has gathered that are.
    length: usize,
}

/// What stands under the unnamed names since a Query of the client's ran as our Parse and Bind.
#[derive(Default)]
pub struct Leftover {
    pub statement: bool,
    pub portal: bool,
}

impl OwnStatements {
    /// DISCARD and its kin take them along.
    pub fn forget(&mut self) {
        self.known.clear();
        self.asked.clear();
    }

    /// Code runs that nobody has read: by what follows it in the pipeline, the names may be its own.
    pub fn doubt(&mut self) {
        self.known.clear();
        self.asked.iter_mut().for_each(|name| *name = "");
    }

    /// The target has answered a Parse of the gateway's.
    pub fn prepared(&mut self) {
        let name = self.asked.pop_front().filter(|name| !name.is_empty() && !self.known.contains(name));
        self.known.extend(name);
    }

    /// After an error nothing that was asked and not answered has happened.
    pub fn failed(&mut self) {
        self.asked.clear();
        self.has_portal = true;
    }
}

impl Session {
    pub(super) fn ask_parse(&mut self, owner: Owner, name: &str, sql: &str, types: &[u32]) {
        frontend::parse_typed(name, sql, types, &mut self.up);
        self.expect(Step::Parse, owner);
    }

    pub(super) fn ask_bind(&mut self, owner: Owner, portal: &str, statement: &str, values: &[Option<&str>]) {
        frontend::bind(portal, statement, values, &mut self.up);
        self.expect(Step::Bind, owner);
    }

    /// The same without values, with every column of the result in its binary form.
    pub(super) fn ask_bind_binary(&mut self, owner: Owner, portal: &str, statement: &str) {
        // No formats of values, no values; one format of results, for all of them.
        const BINARY: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 1];
        frontend::bind_raw(portal, statement, &BINARY, &mut self.up);
        self.expect(Step::Bind, owner);
    }

    pub(super) fn ask_describe(&mut self, owner: Owner, what: Named, name: &str) {
        frontend::describe(what, name, &mut self.up);
        self.pipeline.expect(Step::Describe, owner);
    }

    pub(super) fn ask_execute(&mut self, owner: Owner, portal: &str, rows: i32) {
        frontend::execute(portal, rows, &mut self.up);
        self.pipeline.expect(Step::Execute, owner);
    }

    pub(super) fn ask_close(&mut self, owner: Owner, what: Named, name: &str) {
        frontend::close(what, name, &mut self.up);
        self.expect(Step::Close, owner);
    }

    /// What is asked next may commit what has run.
    fn may_commit(&mut self) {
        if self.commits_at_sync() {
            self.record.commits();
        }
    }

    pub(super) fn ask_sync(&mut self, owner: Owner) {
        self.may_commit();
        frontend::sync(&mut self.up);
        self.pipeline.expect(Step::Sync, owner);
        // It may commit, and fill cursors that outlive their transaction.
        self.ahead.filling = Deadline::earlier(self.ahead.filling, self.time_to_fill());
    }

    /// A whole statement as a simple Query: what the target does then is exactly what the client asked.
    pub(super) fn ask_query(&mut self, sql: &str) {
        self.may_commit();
        frontend::query(sql, &mut self.up);
        self.pipeline.expect(Step::Query, Owner::Client);
    }

    /// Notes a request, and with it what it changes about the client's names.
    fn expect(&mut self, step: Step, owner: Owner) {
        if owner == Owner::Client && matches!(step, Step::Parse | Step::Bind | Step::Close) {
            self.changes.asked();
        }
        self.pipeline.expect(step, owner);
    }

    /// Passes a client's message on as it came.
    pub(super) fn pass(&mut self, message: &Message, step: Step) {
        message.write(&mut self.up);
        self.expect(step, Owner::Client);
    }

    /// Runs one of the gateway's own statements, in a portal of its own name.
    pub(super) fn ask_own(&mut self, name: &str, values: &[Option<&str>]) {
        let Some((name, sql)) = OWN.iter().find(|(own, _)| *own == name) else { return };
        if !self.own.known.contains(name) && !self.own.asked.contains(name) {
            self.ask_again(name, sql, &[]);
        }
        self.run_own(name, values);
    }

    /// Runs a query of the gateway's own whose text is rarely the same: prepared anew each time.
    pub(super) fn ask_fresh(&mut self, name: &'static str, sql: &str, values: &[Option<&str>]) {
        self.ask_again(name, sql, &[]);
        self.run_own(name, values);
    }

    /// Prepares a text anew under a name of the gateway's own.
    pub(super) fn ask_again(&mut self, name: &'static str, sql: &str, types: &[u32]) {
        self.ask_close(Owner::Gateway, Named::Statement, name);
        self.ask_parse(Owner::Gateway, name, sql, types);
        self.own.asked.push_back(name);
    }

    /// Puts another text under a name of the client's, who does not hear of it.
    pub(super) fn ask_instead(&mut self, name: &str, sql: &str, types: &[u32]) {
        self.ask_close(Owner::Gateway, Named::Statement, name);
        self.ask_parse(Owner::Gateway, name, sql, types);
        self.own.asked.push_back("");
    }

    /// The same of a name that SQL has given.
    pub(super) fn ask_prepare(&mut self, name: &str, sql: &str) {
        self.ask_close(Owner::Gateway, Named::Statement, name);
        self.ask_fresh("dbgate_prepare", sql, &[]);
    }

    fn run_own(&mut self, name: &str, values: &[Option<&str>]) {
        self.clear_portal();
        self.ask_bind(Owner::Gateway, PORTAL, name, values);
        self.run_portal(if name == DEFERRED { Step::Deferred } else { Step::Execute });
    }

    /// Runs what was prepared under a name of the gateway's own with values of the client's. What
    /// comes back is text.
    pub(super) fn run_bound(&mut self, name: &str, values: &Values) -> Result<(), End> {
        let Some(bound) = values.bound()? else {
            self.run_own(name, &[]);
            return Ok(());
        };
        self.clear_portal();
        frontend::bind_raw(PORTAL, name, &frontend::unbound(&bound)?.1, &mut self.up);
        self.pipeline.expect(Step::Bind, Owner::Gateway);
        self.run_portal(Step::Execute);
        Ok(())
    }

    /// After an error ours may still be there.
    fn clear_portal(&mut self) {
        if std::mem::take(&mut self.own.has_portal) {
            self.ask_close(Owner::Gateway, Named::Portal, PORTAL);
        }
    }

    fn run_portal(&mut self, step: Step) {
        frontend::execute(PORTAL, 0, &mut self.up);
        self.pipeline.expect(step, Owner::Gateway);
        self.ask_close(Owner::Gateway, Named::Portal, PORTAL);
    }

    /// What a Query of the client's has left under an unnamed name goes before the name is used.
    pub(super) fn make_room(&mut self, parsed: &Frontend<'_>) {
        match parsed {
            Frontend::Parse { name: "", .. } => self.leftover.statement = false,
            Frontend::Bind { portal, statement, .. } => {
                if statement.is_empty() {
                    self.clear_unnamed(Named::Statement);
                }
                self.leftover.portal &= !portal.is_empty();
            }
            Frontend::Describe { what, name: "" } => self.clear_unnamed(*what),
            Frontend::Execute { portal: "", .. } => self.clear_unnamed(Named::Portal),
            // These name something of the client's own, or nothing.
            _ => {}
        }
    }

    /// Before the client uses the unnamed statement or portal: what a Query of its own has left
    /// there is ours, and to the client it is gone.
    pub(super) fn clear_unnamed(&mut self, what: Named) {
        let is_left = match what {
            Named::Statement => &mut self.leftover.statement,
            Named::Portal => &mut self.leftover.portal,
        };
        if std::mem::take(is_left) {
            self.ask_close(Owner::Gateway, what, "");
        }
    }

    /// Sends what was asked, once everything in it is recorded. What the target does not take at
    /// once goes out while its answers are read.
    pub(super) async fn send(&mut self) -> Result<(), End> {
        if self.up.is_empty() {
            return Ok(());
        }
        if self.ahead.unrun.is_unrecorded() {
            seldom(self.record_bound()).await?;
        }
        if self.ahead.settling.is_some() {
            // The target begins with that while the rest is on its way to the disk.
            seldom(self.send_settled()).await?;
        }
        if self.commits_at_sync() {
            self.record.commits_soon();
        }
        self.record.settled().await?;
        if self.target.out.is_empty() {
            std::mem::swap(&mut self.target.out, &mut self.up);
        } else {
            self.target.out.extend_from_slice(&self.up);
        }
        self.up.clear();
        self.target.push().await.map_err(|_| End::TargetLost)?;
        self.record.hurries();
        Ok(())
    }

    /// Whether of a pipeline so much has gathered that a part of it should go on.
    pub(super) fn is_ahead(&self) -> bool {
        let may_cut = !self.ahead.unrun.is_unrecorded() || self.up.len() > LONGEST_UNSETTLED;
        self.up.len() > self.enough()
            && may_cut
            && self
                .ahead
                .settling
                .is_none_or(|settling| self.up.len() > LONGEST_UNSETTLED || self.record.is_settled(settling.line))
    }

    /// How much must gather before it goes on.
    pub(super) fn enough(&self) -> usize {
        if self.ahead.bytes == 0 { SENT_FIRST } else { SENT_AHEAD }
    }

    /// The same while the client says nothing.
    pub(super) fn is_ahead_meanwhile(&self) -> bool {
        let may_cut = !self.ahead.unrun.is_unrecorded() && !self.is_skipping;
        self.up.len() > SENT_FIRST && may_cut && self.ahead.settling.is_none()
    }

    /// Sends on what is recorded, and has the rest of what has gathered recorded while the client says
    /// more. Answers are read at the Flush or Sync.
    pub(super) async fn send_ahead(&mut self) -> Result<(), End> {
        self.send_settled().await?;
        if self.up.len() > SENT_FIRST && self.ahead.settling.is_none() {
            if self.ahead.unrun.is_unrecorded() {
                seldom(self.record_bound()).await?;
            }
            let length = self.up.len();
            self.ahead.settling = self.record.settling().await?.map(|line| Settling { line, length });
            if self.ahead.settling.is_none() {
                self.ahead.bytes += length;
                self.send().await?;
            }
        }
        if self.ahead.bytes > LONGEST_GATHERED { self.on_flush().await } else { Ok(()) }
    }

    /// Sends on what was on its way to the disk, once it is there.
    async fn send_settled(&mut self) -> Result<(), End> {
        let Some(Settling { line, length }) = self.ahead.settling else { return Ok(()) };
        // As soon as the disk has done what it does now, it goes on with this.
        self.record.settling().await?;
        self.record.settled_to(line).await?;
        self.ahead.settling = None;
        self.ahead.bytes += length;
        self.target.out.extend_from_slice(self.up.get(..length).unwrap_or_default());
        self.up.advance(length);
        self.target.push().await.map_err(|_| End::TargetLost)
    }

    /// Asks only that what was sent so far is answered.
    pub(super) async fn flush_up(&mut self, mode: Mode) -> Result<Drained, End> {
        frontend::flush(&mut self.up);
        let mut drained = self.round(mode).await?;
        self.note_plan(&mut drained.rows);
        Ok(drained)
    }

    /// Nothing goes on: memory for bulk is given back. In a transaction more of the same comes soon.
    pub(super) fn rest(&mut self) {
        let room = self.client.room() + self.target.room() + self.up.capacity() + self.held_out.capacity();
        if self.status == b'T' && room <= MOST_KEPT {
            return;
        }
        self.client.rest();
        self.target.rest();
        self.description.rest();
        self.record.rest();
        for buffer in [&mut self.up, &mut self.held_out] {
            if buffer.capacity() > 1024 {
                *buffer = BytesMut::new();
            }
        }
    }
}
