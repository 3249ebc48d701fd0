//! Bringing the target's answers to the client.
//!
//! What must stay true: a command tag is shown to the client only when it can no longer be taken
//! back; an answer that nobody asked for ends the session.

use bytes::Buf as _;

use super::rows::Execution;
use super::seldom;
use super::session::{End, Session};
use super::stop::Stop;
use crate::core::session::{Answer, Owner, Step, tag_matches, tag_rows};
use crate::core::statement::facts::Effect;
use crate::core::statement::reading;
use crate::core::wire::backend::{self, ErrorEdit, Hides, Position};
use crate::core::wire::frame::{self, View};
use crate::server::audit::ResultRecord;
use crate::sys::clock;

/// How much a held answer may gather before its statement is stopped.
pub const LONGEST_HELD: usize = 16 * 1024 * 1024;

/// And how much of what is no row may still come behind that.
const MOST_ENDS: usize = 1024 * 1024;

/// How the client asked, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One Query message: no Parse, Bind or Close answers.
    Simple,
    Extended,
}

/// What came back of one round.
#[derive(Default)]
pub struct Drained {
    /// The client was shown an error; the server skips to Sync.
    pub failed: bool,
    /// It was a request of the gateway's own that failed.
    pub failed_ours: bool,
    /// A command tag was not of the class that was judged: the statement's number and part, and the tag.
    pub wrong_tag: Option<(u64, u32, String)>,
    /// Rows of the gateway's own queries.
    pub rows: Vec<Vec<Option<String>>>,
    /// Parameter types of a statement that the gateway described for itself.
    pub types: Vec<u32>,
    /// The server asked for COPY data.
    pub copy_in: bool,
}

impl Session {
    /// Sends, then reads until every request is answered.
    pub(super) async fn round(&mut self, mode: Mode) -> Result<Drained, End> {
        self.ahead.again = None;
        self.send().await?;
        let mut drained = Drained::default();
        while !self.pipeline.is_empty() {
            // Messages are looked at where they lie; the buffer goes back with what is left.
            let mut input = std::mem::take(&mut self.target.input);
            let taken = self.answers(&input, mode, &mut drained).await?;
            input.advance(taken);
            self.target.input = input;
            if std::mem::take(&mut drained.copy_in) {
                drained.failed |= seldom(self.copy_in()).await?;
            } else if !self.pipeline.is_empty() {
                self.release_told(&drained);
                self.wait().await?;
            }
        }
        self.cancel_delivered().await;
        // What was planned has been; cursors are filled at a Sync.
        self.ahead.filling = None;
        if !self.is_holding() {
            self.release();
        }
        self.take_baseline(&drained);
        Ok(drained)
    }

    /// Goes through whole messages at the front of `input`; how many bytes they were.
    async fn answers(&mut self, input: &[u8], mode: Mode, drained: &mut Drained) -> Result<usize, End> {
        let mut taken = 0;
        while !self.pipeline.is_empty() && !drained.copy_in {
            let rest = input.get(taken..).unwrap_or_default();
            let rows = self.rows(rest)?;
            taken += rows;
            if self.client.is_full() {
                self.write_client().await?;
            }
            if rows > 0 {
                continue;
            }
            let dropped = self.dropped(rest)?;
            if dropped > 0 {
                taken += dropped;
                continue;
            }
            let ended = self.ended_again(rest, mode)?;
            if ended > 0 {
                taken += ended;
                continue;
            }
            let Some(message) = frame::view_from_server(rest)? else { break };
            self.answer(message, mode, drained).await?;
            taken += message.wire_length();
        }
        Ok(taken)
    }

    /// Waits until the target has said more. What is owed to both sides goes out meanwhile, but for what tells the
    /// client nothing by itself.
    pub(super) async fn wait(&mut self) -> Result<(), End> {
        if self.client.is_awaited() || self.client.is_full() {
            self.write_client().await?;
        }
        loop {
            let deadline = self.running_until();
            tokio::select! {
                biased;
                // A target that always has more keeps neither of these from being heard.
                reason = self.registered.handle().kill.told(false) => return Err(End::Killed(reason)),
                () = self.alarm.at(deadline), if deadline.is_some() => self.time_is_up(),
                more = self.target.exchange() => return more.map_err(|_| End::TargetLost),
            }
        }
    }

    /// Sorts one message of the target: to the client, into the record, or to ourselves.
    pub(super) async fn answer(&mut self, message: View<'_>, mode: Mode, drained: &mut Drained) -> Result<(), End> {
        let answer = self.pipeline.receive(message.tag)?;
        if matches!(answer, Answer::Done(Owner::Client, Step::Parse | Step::Bind | Step::Close)) {
            self.changes.answered();
        }
        match answer {
            Answer::Aside(owner) => self.aside(message, owner),
            Answer::Failed(owner, step) => seldom(self.failed(message, owner, step, mode, drained)).await,
            Answer::Done(Owner::Gateway, _) | Answer::Part(Owner::Gateway, _) => self.own(message, drained),
            Answer::Done(Owner::Client, Step::Sync | Step::Query) => {
                self.status = message.body.first().copied().unwrap_or(b'I');
                self.is_dirty = false;
                self.transaction_is_over();
                match self.stop.is_silent() {
                    true => Ok(()),
                    false => self.show(message),
                }
            }
            Answer::Done(Owner::Client, Step::Execute) => self.executed(message, mode, drained).await,
            // The statement has been stopped; the client has its error and waits for nothing more.
            Answer::Done(Owner::Client, _) | Answer::Part(Owner::Client, _) if self.stop.is_silent() => Ok(()),
            Answer::Part(Owner::Client, Step::Query) if matches!(message.tag, b'C' | b'I') => {
                self.executed(message, mode, drained).await
            }
            Answer::Part(Owner::Client, Step::Query) if message.tag == b'T' => self.described(message, mode),
            Answer::Part(Owner::Client, Step::Execute | Step::Query) => self.copying(message, drained),
            Answer::Done(Owner::Client, Step::Describe) => self.described(message, mode),
            Answer::Done(Owner::Client, _) | Answer::Part(Owner::Client, _) => match mode {
                Mode::Extended => self.show(message),
                Mode::Simple => Ok(()),
            },
        }
    }

    /// Puts a message where the client's answers go: straight out, or behind what is held.
    pub(super) fn show(&mut self, message: View<'_>) -> Result<(), End> {
        if self.stop.is_silent() {
            return Ok(());
        }
        self.release_description();
        let is_tag = matches!(message.tag, b'C' | b's' | b'I') && (self.is_holding() || self.holds_tags);
        if self.held_out.is_empty() && !is_tag {
            message.write(self.client.out());
            // What was asked for was read, bound or closed, or is described: the client waits for more than that.
            if matches!(message.tag, b'1' | b'2' | b'3' | b'n' | b't') {
                self.client.can_wait(message.wire_length());
            }
            return Ok(());
        }
        let length = self.held_out.len() + message.wire_length();
        if length > LONGEST_HELD && message.tag == b'N' {
            if self.pipeline.is_executing() && !self.stop.is_going() {
                self.too_much_is_held();
            }
            return Ok(());
        }
        // There is room left for the end of what has filled it.
        if length > LONGEST_HELD + MOST_ENDS {
            return Err(End::TooMuchHeld);
        }
        message.write(&mut self.held_out);
        Ok(())
    }

    /// The same of the answers to writes that have returned nothing, as they came.
    pub(super) fn show_all(&mut self, messages: &[u8]) {
        match self.is_holding() || !self.held_out.is_empty() {
            true => self.held_out.extend_from_slice(messages),
            false => {
                self.client.out().extend_from_slice(messages);
                self.client.can_wait(messages.len());
            }
        }
    }

    /// Lets out what was held.
    pub(super) fn release(&mut self) {
        if !self.held_out.is_empty() {
            self.client.out().extend_from_slice(&self.held_out);
            self.held_out.clear();
        }
    }

    /// Of what was held only what was said along with it is shown.
    fn release_notices(&mut self) -> Result<(), End> {
        let held = std::mem::take(&mut self.held_out);
        let mut rest = held.as_ref();
        while let Some(message) = frame::view_from_server(rest)? {
            if message.tag == b'N' {
                message.write(self.client.out());
            }
            rest = rest.get(message.wire_length()..).unwrap_or_default();
        }
        Ok(())
    }

    /// A description that waited for a first row.
    pub(super) fn release_description(&mut self) {
        if !self.late_description.is_empty() {
            let description = std::mem::take(&mut self.late_description);
            match self.held_out.is_empty() {
                true => self.client.out().extend_from_slice(&description),
                false => self.held_out.extend_from_slice(&description),
            }
        }
    }

    /// Messages that answer no request.
    pub(super) fn aside(&mut self, message: View<'_>, owner: Owner) -> Result<(), End> {
        if message.tag == b'S' {
            let (name, value) = backend::parameter(message.body)?;
            if !reading::is_kept(name, value) {
                return Err(End::Pinned(name.to_owned()));
            }
        }
        if message.tag == b'N' && (owner == Owner::Gateway || self.is_only_ours(message)?) {
            return Ok(());
        }
        if message.tag == b'A' && !self.is_heard(message.body)? {
            return Ok(());
        }
        if message.tag == b'N' && (self.has_masks || self.net.is_some()) {
            let fields = backend::error_fields(message.body)?;
            let hides = if self.hides(&fields) == Hides::Words { Hides::Words } else { Hides::Nothing };
            let mut body = backend::edit_error(message.body, ErrorEdit { position: Position::Behind(0), hides })?;
            self.look_at_error(&mut body);
            return self.show(View { tag: b'N', body: &body });
        }
        self.show(message)
    }

    /// Whether a notice is of no concern to the client: SET CONSTRAINTS, which it did not ask for, has found no
    /// block to run in.
    fn is_only_ours(&self, notice: View<'_>) -> Result<bool, End> {
        Ok(self.pipeline.is_deferred() && backend::error_fields(notice.body)?.sqlstate == "25P01")
    }

    /// Whether the client may hear what is sent on a channel. It may have been listened to in ways that no
    /// statement shows, so what comes is looked at, not what was asked.
    pub(super) fn is_heard(&self, notification: &[u8]) -> Result<bool, End> {
        Ok(!self.scope().hides() || self.policy.classification().opens_channel(&backend::channel(notification)?))
    }

    /// Answers to the gateway's own requests.
    fn own(&mut self, message: View<'_>, drained: &mut Drained) -> Result<(), End> {
        match message.tag {
            b'D' => {
                let values = backend::data_row(message.body)?;
                let text = |value: Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                drained.rows.push(values.into_iter().map(text).collect());
            }
            b't' => drained.types = backend::parameter_types(message.body)?,
            b'Z' => {
                self.status = message.body.first().copied().unwrap_or(b'I');
                self.transaction_is_over();
            }
            b'1' => self.own.prepared(),
            b'T' => self.spread_own_net(message)?,
            _ => {}
        }
        Ok(())
    }

    async fn failed(
        &mut self,
        message: View<'_>,
        owner: Owner,
        step: Step,
        mode: Mode,
        drained: &mut Drained,
    ) -> Result<(), End> {
        self.own.failed();
        let fault = (self.fault(owner, step, mode), self.changes.answered_so_far());
        let fields = backend::error_fields(message.body)?;
        let position = self.position(&fields, fault.0, owner, mode);
        self.undo_names();
        // Whether names have moved only the target knows.
        self.facts_stale |= self.has_moved_names;
        if owner == Owner::Gateway && self.is_vetoing {
            return Ok(());
        }
        self.late_description.clear();
        match mode {
            // The commit failed, or what was deferred to it: in the simple protocol the tag was never shown.
            Mode::Simple if step == Step::Sync || owner == Owner::Gateway => self.release_notices()?,
            // What ended before the error was shown before it.
            Mode::Simple | Mode::Extended => self.release(),
        }
        let (is_told, mut is_last) = (self.stop.is_silent(), false);
        let state = match self.stop.take_reason() {
            // The cancel that was asked for, in our words.
            Some(reason) => {
                self.people.note_failure(&reason.sqlstate, &reason.message);
                self.client.error(&reason);
                reason.sqlstate
            }
            // It has its error already, and the target knows of one now.
            None if is_told => {
                self.stop = Stop::No;
                fields.sqlstate
            }
            None => {
                let hides = self.hides(&fields);
                let said = if hides == Hides::Words { backend::WITHHELD } else { &fields.message };
                self.people.note_failure(&fields.sqlstate, said);
                let mut edited = backend::edit_error(message.body, ErrorEdit { position, hides })?;
                if fields.hint.is_none()
                    && let Some(hint) = self.waits_for_init(&fields.sqlstate)
                {
                    backend::add_hint(&mut edited, &hint);
                }
                self.look_at_error(&mut edited);
                View { tag: b'E', body: &edited }.write(self.client.out());
                is_last = fields.is_last();
                fields.sqlstate
            }
        };
        (drained.failed, drained.failed_ours) = (true, owner == Owner::Gateway);
        self.held.image = None;
        self.held.is_unsure = true;
        self.held.failed();
        if let Some(execution) = self.executions.front() {
            execution.use_up();
        }
        if !is_told {
            self.record.told(&state);
        }
        self.record_failure(fault, &state).await?;
        // Nothing comes behind it, and nothing more need be said.
        if is_last { Err(End::TargetSaid) } else { Ok(()) }
    }

    /// COPY begins or ends.
    fn copying(&mut self, message: View<'_>, drained: &mut Drained) -> Result<(), End> {
        // What still arrives of a statement that was stopped.
        if self.stop.is_going() && matches!(message.tag, b'D' | b'd' | b'c') {
            return Ok(());
        }
        // An overall format of 1: binary.
        if self.net.is_some() && message.tag == b'H' && message.body.first() != Some(&0) {
            self.copy_is_unreadable();
            return Ok(());
        }
        drained.copy_in |= matches!(message.tag, b'G' | b'W');
        self.show(message)
    }

    /// Whether what has ended stands, whatever its cancel may still meet.
    fn is_final(&self, execution: &Execution) -> bool {
        let facts = execution.planned.cleared.facts();
        // Of a result something may have been left out.
        let commits_itself = facts.effect != Effect::Read && execution.rows == 0 && self.pipeline.is_closed();
        facts.transaction.is_some() || commits_itself
    }

    /// A statement has ended: its tag is checked against what was judged, and it is recorded.
    async fn executed(&mut self, message: View<'_>, mode: Mode, drained: &mut Drained) -> Result<(), End> {
        let Some(execution) = self.ended() else {
            return self.show(message);
        };
        execution.use_up();
        // The end of a transaction is one, whoever wanted it stopped, and so is what its own Sync commits.
        if self.stop.is_asked() && self.is_final(&execution) {
            seldom(self.cancel_delivered()).await;
        } else if self.stop.is_asked() {
            return seldom(self.ended_before_cancel(execution.number, execution.part, drained)).await;
        }
        let tag = match message.tag {
            b'C' => backend::command_tag(message.body)?,
            b's' => "(suspended)",
            _ => "",
        };
        if message.tag == b'C' && !tag_matches(execution.planned.cleared.facts(), tag) {
            drained.wrong_tag = Some((execution.number, execution.part, tag.to_owned()));
            return self.show(message);
        }
        if matches!(message.tag, b'C' | b's') {
            self.people.note_tag(execution.planned.cleared.facts(), tag);
        }
        if message.tag == b'C' {
            self.follow(&execution.planned, tag);
            if self.held.image.is_some() && tag == "COMMIT" {
                // Whatever stands behind it may fail, or write to the same rows.
                seldom(self.keep_after()).await;
            }
            if self.record.is_undone() {
                seldom(self.record.undone(clock::now())).await?;
            }
        }
        if matches!(message.tag, b'C' | b's') {
            // A portal that was read in part says no number, and neither does MOVE show rows.
            let told = tag_rows(tag).unwrap_or(0);
            self.note_locks(execution.planned.cleared.facts(), execution.rows.max(told));
        }
        let Execution { number, part, .. } = execution;
        self.held.told.note(&execution.planned, tag, 1);
        self.held.ended(&execution.planned, number, part);
        self.note_change(&execution.planned, number, part);
        let result = ResultRecord {
            tag,
            columns: self.description.columns(&execution.planned),
            masked: self.description.masked(&execution.planned),
            rows: execution.rows,
            bytes: execution.bytes,
            micros: u64::try_from(execution.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            rows_digest: execution.digest.map_or(self.record.key().no_rows(), |digest| digest.commitment()),
            transaction: char::from(self.status),
        };
        let now = clock::now();
        if self.record.go_on(number, part, &result, 1, now) == 0 {
            seldom(self.record.result_of_many(number, part, result, now)).await?;
        }
        self.tell_of_net()?;
        if mode == Mode::Simple {
            self.forget_description();
        }
        self.show(message)
    }
}
