//! Sending requests to the target and bringing its answers to the client.
//!
//! What must stay true: nothing goes to the target that was not recorded first; a command tag is
//! shown to the client only when it can no longer be taken back; an answer that nobody asked for
//! ends the session.

use bytes::{Bytes, BytesMut};

use super::session::{End, Session};
use super::stop;
use crate::core::scope::{ColumnScope, RelationScope};
use crate::core::session::{Answer, Owner, Step, tag_matches};
use crate::core::transcript::RowsDigest;
use crate::core::wire::backend::{self, Field};
use crate::core::wire::frame::Message;
use crate::core::wire::frontend::{self, Frontend, Named};
use crate::server::audit::ResultRecord;
use crate::server::check::Planned;
use crate::sys::clock;

/// How much a held answer may gather before the statement is refused.
pub const LONGEST_HELD: usize = 16 * 1024 * 1024;

/// How the client asked, which decides what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One Query message: no Parse, Bind or Close answers.
    Simple,
    Extended,
}

/// A statement on its way: what is recorded of it when it ends.
pub struct Execution {
    pub number: u64,
    pub part: u32,
    pub planned: std::sync::Arc<Planned>,
    /// Characters of the client's text before this statement.
    pub before: u32,
    digest: RowsDigest,
    rows: u64,
    /// Rows and lines of COPY.
    messages: u64,
    bytes: u64,
    started: crate::core::time::Moment,
    /// When its time is up.
    deadline: Option<tokio::time::Instant>,
}

/// What came back of one round.
#[derive(Default)]
pub struct Drained {
    /// The client was shown an error; the server skips to Sync.
    pub failed: bool,
    /// A command tag was not of the class that was judged.
    pub wrong_tag: Option<String>,
    /// Rows of the gateway's own queries.
    pub rows: Vec<Vec<Option<String>>>,
    /// The server asked for COPY data.
    pub copy_in: bool,
}

impl Session {
    pub(super) fn ask_parse(&mut self, owner: Owner, name: &str, sql: &str, types: &[u32]) {
        frontend::parse_typed(name, sql, types, &mut self.up);
        self.pipeline.expect(Step::Parse, owner);
    }

    pub(super) fn ask_bind(&mut self, owner: Owner, portal: &str, statement: &str, values: &[Option<&str>]) {
        frontend::bind(portal, statement, values, &mut self.up);
        self.pipeline.expect(Step::Bind, owner);
    }

    pub(super) fn ask_describe(&mut self, owner: Owner, what: Named, name: &str) {
        frontend::describe(what, name, &mut self.up);
        self.pipeline.expect(Step::Describe, owner);
    }

    pub(super) fn ask_execute(&mut self, owner: Owner, portal: &str, rows: i32) {
        frontend::execute(portal, rows, &mut self.up);
        self.pipeline.expect(Step::Execute, owner);
    }

    pub(super) fn ask_sync(&mut self, owner: Owner) {
        frontend::sync(&mut self.up);
        self.pipeline.expect(Step::Sync, owner);
    }

    /// Passes a client's message on as it came.
    pub(super) fn pass(&mut self, message: &Message, step: Step) {
        message.write(&mut self.up);
        self.pipeline.expect(step, Owner::Client);
    }

    /// Runs one of the gateway's own prepared statements, in a portal of its own name.
    pub(super) fn ask_own(&mut self, statement: &str, values: &[Option<&str>]) {
        const PORTAL: &str = "dbgate_portal";
        self.ask_bind(Owner::Gateway, PORTAL, statement, values);
        self.ask_execute(Owner::Gateway, PORTAL, 0);
        frontend::close(Named::Portal, PORTAL, &mut self.up);
        self.pipeline.expect(Step::Close, Owner::Gateway);
    }

    /// Hands what was asked to the writer.
    pub(super) async fn send(&mut self) -> Result<(), End> {
        if self.up.is_empty() {
            return Ok(());
        }
        let bytes = self.up.split().freeze();
        self.writer.send(bytes).await.map_err(|_| End::TargetLost)
    }

    /// Notes a statement that is about to be executed.
    pub(super) fn begin(&mut self, number: u64, part: u32, planned: &std::sync::Arc<Planned>, before: u32) {
        let digest = RowsDigest::new(&self.key);
        let planned = planned.clone();
        let started = clock::now();
        let time = planned.cleared.limits().time;
        let deadline = time.and_then(|time| tokio::time::Instant::now().checked_add(time));
        self.executions.push_back(Execution {
            number,
            part,
            planned,
            before,
            digest,
            rows: 0,
            messages: 0,
            bytes: 0,
            started,
            deadline,
        });
    }

    /// Sends, then reads until every request is answered or the server waits for COPY data.
    pub(super) async fn round(&mut self, mode: Mode) -> Result<Drained, End> {
        self.send().await?;
        let mut drained = Drained::default();
        while !self.pipeline.is_empty() {
            let message = self.receive().await?;
            self.answer(message, mode, &mut drained).await?;
            if drained.copy_in {
                drained.copy_in = false;
                drained.failed |= self.copy_in().await?;
            }
        }
        self.cancel_delivered().await;
        if !self.is_holding() {
            self.release();
        }
        Ok(drained)
    }

    /// The target's next message; what the client is owed goes out before waiting.
    async fn receive(&mut self) -> Result<Message, End> {
        if !self.reader.has_message() {
            self.client.flush().await?;
        }
        loop {
            let deadline = self.executions.front().and_then(|execution| execution.deadline);
            tokio::select! {
                biased;
                reason = super::session::ended(&mut self.ended) => return Err(End::Killed(reason)),
                message = self.reader.receive() => return message.map_err(|_| End::TargetLost),
                () = stop::until(deadline), if !self.stop.is_going() => self.time_is_up(),
            }
        }
    }

    /// Sorts one message of the target: to the client, into the record, or to ourselves.
    async fn answer(&mut self, message: Message, mode: Mode, drained: &mut Drained) -> Result<(), End> {
        match self.pipeline.receive(message.tag)? {
            Answer::Aside(owner) => self.aside(&message, owner)?,
            Answer::Failed(owner, step) => self.failed(&message, owner, step, mode, drained).await?,
            Answer::Done(Owner::Gateway, _) | Answer::Part(Owner::Gateway, _) => self.own(&message, drained)?,
            Answer::Done(Owner::Client, Step::Sync) => {
                self.status = message.body.first().copied().unwrap_or(b'I');
                if !self.stop.is_silent() {
                    self.show(&message)?;
                }
            }
            // The statement has been stopped; the client has its error and waits for nothing more.
            Answer::Done(Owner::Client, _) | Answer::Part(Owner::Client, _) if self.stop.is_silent() => {}
            Answer::Done(Owner::Client, Step::Execute) => self.executed(&message, mode, drained).await?,
            Answer::Part(Owner::Client, Step::Execute) => self.row(&message, drained)?,
            Answer::Done(Owner::Client, Step::Describe) => self.described(message, mode)?,
            Answer::Done(Owner::Client, _) | Answer::Part(Owner::Client, _) => {
                if mode == Mode::Extended {
                    self.show(&message)?;
                }
            }
        }
        self.client.relieve().await
    }

    /// Puts a message where the client's answers go: straight out, or behind what is held.
    fn show(&mut self, message: &Message) -> Result<(), End> {
        if self.held_out.is_empty() && !matches!(message.tag, b'C' | b's' | b'I') {
            message.write(&mut self.client.out);
            return Ok(());
        }
        if self.held_out.len() + message.wire_length() > LONGEST_HELD {
            return Err(End::TooMuchHeld);
        }
        message.write(&mut self.held_out);
        Ok(())
    }

    /// Lets out what was held.
    pub(super) fn release(&mut self) {
        let held = self.held_out.split();
        self.client.out.extend_from_slice(&held);
    }

    /// Messages that answer no request.
    fn aside(&mut self, message: &Message, owner: Owner) -> Result<(), End> {
        if message.tag == b'S' {
            let (name, value) = backend::parameter(&message.body)?;
            // The gateway reads texts as these settings say; with others it would misread them.
            let is_pinned = match name {
                "client_encoding" => value == "UTF8",
                "standard_conforming_strings" => value == "on",
                _ => true,
            };
            if !is_pinned {
                return Err(End::Pinned(name.to_owned()));
            }
        }
        // SET CONSTRAINTS outside a block warns; the client did not ask for it.
        if message.tag == b'N' && owner == Owner::Gateway {
            return Ok(());
        }
        self.show(message)
    }

    /// Answers to the gateway's own requests.
    fn own(&mut self, message: &Message, drained: &mut Drained) -> Result<(), End> {
        match message.tag {
            b'D' => {
                let values = backend::data_row(&message.body)?;
                let text = |value: Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                drained.rows.push(values.into_iter().map(text).collect());
            }
            b'Z' => self.status = message.body.first().copied().unwrap_or(b'I'),
            _ => {}
        }
        Ok(())
    }

    async fn failed(
        &mut self,
        message: &Message,
        owner: Owner,
        step: Step,
        mode: Mode,
        drained: &mut Drained,
    ) -> Result<(), End> {
        if owner == Owner::Gateway && self.is_vetoing {
            return Ok(());
        }
        let mut fields = match self.stop.take_reason() {
            // The cancel that was asked for, in our words.
            Some(reason) => reason,
            None => backend::error_fields(&message.body)?,
        };
        if owner == Owner::Gateway {
            // The planner was asked about the statement: its answer is the one that the statement would get.
            fields.position = fields.position.and_then(|position| position.checked_sub(self.planner_offset()));
        }
        let front = self.executions.front();
        fields.position = match front {
            // Positions count in the text that the target saw, which a splice has moved.
            Some(execution) if execution.planned.is_spliced => None,
            Some(execution) => fields.position.map(|position| position + execution.before),
            None => fields.position,
        };
        // "Failing row contains …" and "Key (…)=(…)" would show what is masked.
        if self.has_masks && matches!(fields.sqlstate.get(..2), Some("22" | "23" | "P0")) {
            (fields.detail, fields.context) = (None, None);
        }
        if mode == Mode::Simple && step == Step::Sync {
            // The commit failed: in the simple protocol the tag was never shown.
            self.held_out.clear();
        }
        drained.failed = true;
        self.held.is_unsure = true;
        self.people.note_failure(&fields.sqlstate, &fields.message);
        backend::write_error(b'E', &fields, &mut self.client.out);
        let number = front.map(|execution| execution.number);
        self.executions.clear();
        if let Some(number) = number {
            self.record.error(number, &fields.sqlstate, clock::now()).await?;
        }
        Ok(())
    }

    /// RowDescription: columns that a splice took from a masked relation are named as that relation's.
    fn described(&mut self, message: Message, mode: Mode) -> Result<(), End> {
        if message.tag != b'T' {
            return if mode == Mode::Extended { self.show(&message) } else { Ok(()) };
        }
        let mut fields = backend::row_description(&message.body)?;
        self.map_back(&mut fields);
        let mut mapped = BytesMut::new();
        backend::write_row_description(&fields, &mut mapped);
        self.columns = fields.iter().map(|field| field.name.clone()).collect();
        self.masked_columns = self.masked_positions(&fields);
        self.show(&Message { tag: b'T', body: mapped.split_off(5).freeze() })
    }

    fn row(&mut self, message: &Message, drained: &mut Drained) -> Result<(), End> {
        match message.tag {
            // What still arrives of a statement that was stopped.
            b'D' | b'd' | b'c' if self.stop.is_going() => return Ok(()),
            b'D' | b'd' => {
                if let Some(execution) = self.executions.front_mut() {
                    let bytes = execution.bytes + u64::try_from(message.body.len()).unwrap_or(0);
                    if let Some(limit) = execution.planned.cleared.limits().exceeded(execution.messages + 1, bytes) {
                        self.limit_is_reached(&limit);
                        return Ok(());
                    }
                    execution.messages += 1;
                    execution.rows += u64::from(message.tag == b'D');
                    execution.bytes = bytes;
                    execution.digest.row(&message.body);
                }
            }
            b'G' | b'W' => drained.copy_in = true,
            _ => {}
        }
        self.show(message)
    }

    /// A statement has ended: its tag is checked against what was judged, and it is recorded.
    async fn executed(&mut self, message: &Message, mode: Mode, drained: &mut Drained) -> Result<(), End> {
        let Some(execution) = self.executions.pop_front() else {
            return self.show(message);
        };
        if self.stop.is_going() {
            return self.ended_before_cancel(execution.number, drained).await;
        }
        let tag = match message.tag {
            b'C' => backend::command_tag(&message.body)?.to_owned(),
            b's' => "(suspended)".to_owned(),
            _ => String::new(),
        };
        let facts = execution.planned.cleared.facts();
        if message.tag == b'C' && !tag_matches(facts, &tag) {
            drained.wrong_tag = Some(tag.clone());
        }
        if message.tag == b'C' {
            self.people.note_tag(&tag);
            self.follow(&execution.planned, &tag);
            self.note_locks(execution.planned.cleared.facts(), &tag);
        }
        let took = clock::now().since(execution.started);
        let result = ResultRecord {
            tag,
            rows: execution.rows,
            bytes: execution.bytes,
            columns: self.columns.clone(),
            masked: self.masked_columns.clone(),
            rows_digest: execution.digest.finish(),
            sqlstate: "00000".to_owned(),
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            transaction: char::from(self.status),
        };
        self.record.result(execution.number, execution.part, result, clock::now()).await?;
        if mode == Mode::Simple {
            (self.columns, self.masked_columns) = (Vec::new(), Vec::new());
        }
        self.show(message)
    }

    /// Gives columns that a splice took from a masked relation the numbers of the column they stand
    /// for, so that drivers see the table they asked for. Cosmetic: nothing is decided by it.
    fn map_back(&self, fields: &mut [Field]) {
        let Some(planned) = self.executions.front().map(|execution| execution.planned.clone()) else { return };
        let masked: Vec<_> = planned.masked.iter().filter_map(|name| self.scope().relations.get(name)).collect();
        for field in fields.iter_mut() {
            let found = match field.table_oid {
                0 => masked.iter().find_map(|relation| constant_of(relation, field)),
                oid if self.scope().relations.values().any(|relation| relation.oid == oid) => None,
                _ => of_view(&masked, field),
            };
            if let Some((oid, number)) = found {
                (field.table_oid, field.attribute) = (oid, number);
            }
        }
    }

    /// Which columns of a result are masked.
    fn masked_positions(&self, fields: &[Field]) -> Vec<usize> {
        let is_masked = |field: &Field| {
            self.scope().relations.values().any(|relation| {
                relation.oid == field.table_oid
                    && relation.columns.iter().any(|c| c.number == field.attribute && c.mask.is_some())
            })
        };
        fields.iter().enumerate().filter(|(_, field)| is_masked(field)).map(|(index, _)| index).collect()
    }

    /// COPY FROM STDIN: the client's data goes on until it says done, fails, or the target objects.
    /// Says whether it failed.
    async fn copy_in(&mut self) -> Result<bool, End> {
        self.client.flush().await?;
        loop {
            tokio::select! {
                biased;
                reason = super::session::ended(&mut self.ended) => return Err(End::Killed(reason)),
                message = self.client.receive() => {
                    let message = message?;
                    match frontend::parse(&message)? {
                        Frontend::CopyData => {
                            if let Some(execution) = self.executions.front_mut() {
                                execution.bytes += u64::try_from(message.body.len()).unwrap_or(0);
                                execution.digest.row(&message.body);
                            }
                            message.write(&mut self.up);
                            self.send().await?;
                        }
                        Frontend::CopyDone | Frontend::CopyFail => {
                            message.write(&mut self.up);
                            frontend::flush(&mut self.up);
                            self.send().await?;
                            return Ok(false);
                        }
                        // PostgreSQL ignores these while it copies.
                        Frontend::Flush | Frontend::Sync => {}
                        Frontend::Terminate => return Err(End::ClientGone),
                        _ => return Err(End::Protocol),
                    }
                }
                // The target objects before the client is done: its error ends the copy.
                message = self.reader.receive() => {
                    let message = message.map_err(|_| End::TargetLost)?;
                    let mut drained = Drained::default();
                    Box::pin(self.answer(message, Mode::Simple, &mut drained)).await?;
                    if drained.failed {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

/// The masked column that a constant of this name and type stands for.
fn constant_of(relation: &RelationScope, field: &Field) -> Option<(u32, i16)> {
    let is_it = |c: &&ColumnScope| c.mask.is_some() && c.name == field.name && c.type_oid == field.type_oid;
    relation.columns.iter().find(is_it).map(|column| (relation.oid, column.number))
}

/// The column behind one of a masking view: the view has the relation's columns in their order.
/// Where several relations have views, the name decides.
fn of_view(masked: &[&RelationScope], field: &Field) -> Option<(u32, i16)> {
    let with_view: Vec<_> = masked.iter().filter(|relation| relation.view.is_some()).collect();
    let place = usize::try_from(field.attribute).ok()?.checked_sub(1)?;
    let column = |relation: &RelationScope| Some((relation.oid, relation.columns.get(place)?.number));
    match with_view.as_slice() {
        [only] => column(only),
        several => several
            .iter()
            .find(|relation| relation.columns.get(place).is_some_and(|column| column.name == field.name))
            .and_then(|relation| column(relation)),
    }
}

/// The task that owns the writing half: a full socket then never keeps us from reading.
pub fn writer(mut half: crate::sys::dial::Writing) -> tokio::sync::mpsc::Sender<Bytes> {
    /// Whole pipelines, not messages: a few are plenty.
    const WAITING: usize = 16;
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(WAITING);
    tokio::spawn(async move {
        while let Some(bytes) = receiver.recv().await {
            if half.send(&bytes).await.is_err() {
                break;
            }
        }
    });
    sender
}
