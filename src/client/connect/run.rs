//! One statement: recorded, sent, its answers recorded and handed on, until the server is ready.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::client::connect::stop::{Stop, Stops};
use crate::client::connect::{Advice, Session, SessionError, Transaction};
use crate::client::render::Column;
use crate::core::wire::backend::{self, ErrorFields, Message};
use crate::core::wire::frame::WireError;
use crate::core::wire::frontend::{self, Named};
use crate::sys::dial::DialError;

/// COPY data is sent in pieces of at most this many bytes: small enough to hold, large enough to be quick.
const COPY_PIECE: usize = 64 * 1024;

/// What the server says of a running statement, in the order in which it says it.
#[derive(Debug)]
pub enum Event<'a> {
    Columns(&'a [Column]),
    Row(&'a [Option<&'a [u8]>]),
    /// A command tag, as in `SELECT 2`.
    Complete(&'a str),
    Notice(&'a ErrorFields),
    Error(&'a ErrorFields),
    /// Data of COPY TO STDOUT.
    CopyOut(&'a [u8]),
    /// A cancel request was sent, for this reason.
    Cancelling(Stop),
}

/// What the taker of events wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Continue,
    /// Enough rows: the rest may be cancelled, where that cannot undo anything.
    Enough,
}

/// Takes events, and gives COPY data.
pub trait Sink {
    /// Takes one event.
    fn take(&mut self, event: Event<'_>) -> io::Result<Next>;

    /// The next piece of data for COPY FROM STDIN; `None` ends it.
    fn copy_in(&mut self, most: usize) -> io::Result<Option<Vec<u8>>>;
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub elapsed: Duration,
    /// SQLSTATE, if it failed.
    pub sqlstate: Option<String>,
    /// Why it was cancelled, if it was.
    pub stopped: Option<Stop>,
    /// The rest of the rows was cancelled because they were enough.
    pub cut: bool,
}

impl Session {
    /// Runs one statement. An error of the server is an event, not an `Err`: the session lives on.
    pub async fn run(
        &mut self,
        sql: &str,
        advice: Advice,
        sink: &mut impl Sink,
        stops: &mut Stops,
    ) -> Result<Ran, SessionError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.statement(sql, advice).map_err(SessionError::Unrecorded)?;
        }
        self.statements += 1;
        let may_cut = self.may_cancel_reads();
        let mut running = Running::new(may_cut);
        let started = Instant::now();
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out);
        if let Err(error) = self.connection.send(&out).await {
            return Err(self.lost(error, running.fatal));
        }
        loop {
            let message = tokio::select! {
                biased;
                stop = stops.next() => {
                    self.stop(stop, &mut running, sink).await?;
                    continue;
                }
                message = self.connection.receive() => message,
            };
            let message = match message {
                Ok(message) => message,
                Err(error) => return Err(self.lost(error, running.fatal)),
            };
            match self.answer(&message, &mut running, sink).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    self.transaction = Transaction::Lost;
                    return Err(error);
                }
            }
        }
        running.ran.elapsed = started.elapsed();
        running.output.map_err(SessionError::Output)?;
        Ok(running.ran)
    }

    /// Has the gateway judge a statement and the server analyse it, without running it: the
    /// extended protocol's Parse and Describe. What is not run is not in the client's record.
    pub async fn check(&mut self, sql: &str, sink: &mut impl Sink) -> Result<(), SessionError> {
        let mut out = BytesMut::new();
        frontend::parse_statement("", sql, &mut out);
        frontend::describe(Named::Statement, "", &mut out);
        frontend::sync(&mut out);
        let mut running = Running::new(false);
        if let Err(error) = self.connection.send(&out).await {
            return Err(self.lost(error, None));
        }
        loop {
            let message = match self.connection.receive().await {
                Ok(message) => message,
                Err(error) => return Err(self.lost(error, running.fatal)),
            };
            if self.answer(&message, &mut running, sink).await? {
                return running.output.map_err(SessionError::Output);
            }
        }
    }

    /// Asks the server to cancel. A second Ctrl-C gives the session up.
    async fn stop(&mut self, stop: Stop, running: &mut Running, sink: &mut impl Sink) -> Result<(), SessionError> {
        if running.ran.stopped == Some(Stop::Interrupt) && stop == Stop::Interrupt {
            self.transaction = Transaction::Lost;
            return Err(SessionError::Abandoned);
        }
        running.ran.stopped.get_or_insert(stop);
        running.hand(sink, Event::Cancelling(stop));
        self.cancel().await
    }

    async fn cancel(&mut self) -> Result<(), SessionError> {
        if let Some(recorder) = &mut self.recorder {
            recorder.cancel().map_err(SessionError::Unrecorded)?;
        }
        // A request that does not arrive leaves the statement running; the answer is waited for either way.
        let _ = self.connection.cancel_handle().cancel().await;
        Ok(())
    }

    /// Handles one message; says whether the server is ready for the next statement.
    async fn answer(
        &mut self,
        message: &Message,
        running: &mut Running,
        sink: &mut impl Sink,
    ) -> Result<bool, SessionError> {
        match message.tag {
            b'T' => self.columns(&message.body, running, sink)?,
            b'D' => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.row(&message.body);
                }
                let values = backend::data_row(&message.body).map_err(wire)?;
                if running.hand(sink, Event::Row(&values)) == Next::Enough && running.may_cut && !running.ran.cut {
                    running.ran.cut = true;
                    self.cancel().await?;
                }
            }
            b'C' => {
                let tag = backend::command_tag(&message.body).map_err(wire)?;
                if let Some(recorder) = &mut self.recorder {
                    recorder.result(tag).map_err(SessionError::Unrecorded)?;
                }
                running.hand(sink, Event::Complete(tag));
            }
            b'E' => self.error(&message.body, running, sink)?,
            b'N' => {
                let notice = backend::error_fields(&message.body).map_err(wire)?;
                running.hand(sink, Event::Notice(&notice));
            }
            b'S' => {
                let (name, value) = backend::parameter(&message.body).map_err(wire)?;
                self.parameters.insert(name.to_owned(), value.to_owned());
            }
            b'G' => self.copy_in(running, sink).await?,
            b'd' => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.copy(&message.body);
                }
                running.hand(sink, Event::CopyOut(&message.body));
            }
            b'Z' => {
                self.transaction = match message.body.first() {
                    Some(b'T') => Transaction::Open,
                    Some(b'E') => Transaction::Failed,
                    _ => Transaction::Idle,
                };
                return Ok(true);
            }
            // CopyOutResponse, CopyDone, EmptyQueryResponse, notifications: nothing to show.
            _ => {}
        }
        Ok(false)
    }

    fn columns(&mut self, body: &[u8], running: &mut Running, sink: &mut impl Sink) -> Result<(), SessionError> {
        let fields = backend::row_description(body).map_err(wire)?;
        running.columns = fields.iter().map(|field| Column::from_field(field, &self.grant.masks)).collect();
        if let Some(recorder) = &mut self.recorder {
            let names: Vec<String> = fields.into_iter().map(|field| field.name).collect();
            recorder.columns(&names);
        }
        let columns = std::mem::take(&mut running.columns);
        running.hand(sink, Event::Columns(&columns));
        Ok(())
    }

    fn error(&mut self, body: &[u8], running: &mut Running, sink: &mut impl Sink) -> Result<(), SessionError> {
        let error = backend::error_fields(body).map_err(wire)?;
        if let Some(recorder) = &mut self.recorder {
            recorder.error(&error.sqlstate).map_err(SessionError::Unrecorded)?;
        }
        running.ran.sqlstate = Some(error.sqlstate.clone());
        if error.severity == "FATAL" || error.severity == "PANIC" {
            running.fatal = Some(Box::new(error));
            return Ok(());
        }
        // The error of our own cancel, once there were rows enough, is no news.
        if !(running.ran.cut && error.sqlstate == "57014") {
            running.hand(sink, Event::Error(&error));
        }
        Ok(())
    }

    /// Sends the data of COPY FROM STDIN. Data that cannot be read ends the COPY as failed.
    async fn copy_in(&mut self, running: &mut Running, sink: &mut impl Sink) -> Result<(), SessionError> {
        loop {
            let mut out = BytesMut::new();
            let goes_on = match sink.copy_in(COPY_PIECE) {
                Ok(Some(piece)) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.copy(&piece);
                    }
                    frontend::copy_data(&piece, &mut out);
                    true
                }
                Ok(None) => {
                    frontend::copy_done(&mut out);
                    false
                }
                Err(error) => {
                    frontend::copy_fail("the data could not be read", &mut out);
                    running.output = Err(error);
                    false
                }
            };
            self.connection.send(&out).await.map_err(|error| self.lost(error, running.fatal.take()))?;
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// The connection is gone; what the server said last tells why.
    fn lost(&mut self, error: DialError, fatal: Option<Box<ErrorFields>>) -> SessionError {
        self.transaction = Transaction::Lost;
        match fatal {
            Some(fields) => SessionError::Ended(fields),
            None => SessionError::Lost(error),
        }
    }
}

/// What is kept while a statement runs.
struct Running {
    ran: Ran,
    columns: Vec<Column>,
    /// The first failure of the sink. Later answers are still read and recorded, and shown to nobody.
    output: io::Result<()>,
    fatal: Option<Box<ErrorFields>>,
    may_cut: bool,
}

impl Running {
    fn new(may_cut: bool) -> Self {
        let ran = Ran { elapsed: Duration::ZERO, sqlstate: None, stopped: None, cut: false };
        Self { ran, columns: Vec::new(), output: Ok(()), fatal: None, may_cut }
    }

    fn hand(&mut self, sink: &mut impl Sink, event: Event<'_>) -> Next {
        if self.output.is_err() {
            return Next::Enough;
        }
        match sink.take(event) {
            Ok(next) => next,
            Err(error) => {
                self.output = Err(error);
                Next::Enough
            }
        }
    }
}

fn wire(error: WireError) -> SessionError {
    SessionError::Lost(DialError::Wire(error))
}
