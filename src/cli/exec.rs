//! `dbgate exec`: statements in, answers out, for scripts and agents.
//!
//! stdout is the answer, stderr everything else. With `--format json` there is exactly one JSON
//! document on stdout, whatever happens (`dbgate.exec/1`, see docs/schema).

use std::io::Read as _;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{ExecArgs, Format, Global, OnError, Source};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Table;
use crate::cli::people::{self, Interrupt, People};
use crate::cli::request;
use crate::cli::session;
use crate::cli::stdout;
use crate::cli::stop::{self, Watch};
use crate::client::check;
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::Column;
use crate::client::render::report::{self, Origin, Refusal};
use crate::client::render::request as render;
use crate::client::script::{Item, Script, Statement};
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frontend;

/// How long somebody at a terminal waits for people who must approve.
const USUAL_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// When the texts are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// `exec` asks for no grant before it knows what to run.
    First,
    /// `connect` is open for as long as its input is, as at a terminal.
    WhenOpen,
}

/// Runs `dbgate exec`, or `connect` where there is no prompt.
pub async fn run(global: &Global, arguments: &ExecArgs, reading: Reading) -> Result<Exit, Failure> {
    let mut answer = Answer::new(arguments.target.as_deref().unwrap_or_default());
    answer.is_for_people = global.format != Format::Json;
    let outcome = execute(global, arguments, reading, &mut answer).await;
    match (outcome, global.format) {
        (Ok(exit), Format::Json) => {
            stdout::print(&answer.document(exit, None));
            Ok(stdout::written()?.unwrap_or(exit))
        }
        (Err(failure), Format::Json) => {
            stdout::print(&answer.document(failure.exit, Some(&failure)));
            Err(failure)
        }
        // What ran and what was refused comes first.
        (Ok(Exit::Ok), _) => Ok(stdout::written()?.unwrap_or(Exit::Ok)),
        (outcome, _) => outcome,
    }
}

/// The texts to run, in order, each with the name of the file it came from.
pub fn texts(source: &Source) -> Result<Vec<(Option<String>, String)>, Failure> {
    let mut texts: Vec<_> = source.commands.iter().map(|sql| (None, sql.clone())).collect();
    for file in &source.files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {}: {error}", file.display())))?;
        texts.push((Some(file.display().to_string()), text));
    }
    if source.stdin.is_some() {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
        texts.push((Some("<stdin>".to_owned()), text));
    }
    for (_, text) in &mut texts {
        // Some editors begin a file with a mark that is no part of its text.
        if let Some(unmarked) = text.strip_prefix('\u{feff}') {
            *text = unmarked.to_owned();
        }
    }
    if texts.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing to run").hint("Give -c SQL, -f FILE, or - for standard input"));
    }
    Ok(texts)
}

async fn execute(
    global: &Global,
    arguments: &ExecArgs,
    reading: Reading,
    answer: &mut Answer,
) -> Result<Exit, Failure> {
    if let Some(id) = &arguments.resume {
        let exit = request::resume(global, arguments, id, answer).await?;
        return Ok(whole(exit, arguments, answer));
    }
    let target = arguments.target.as_deref().unwrap_or_default();
    // Whoever sits at a terminal can wait; a script or an agent comes back.
    let is_person = session::is_interactive(global.no_input) && arguments.ask.agent.is_none();
    let usual = if is_person { USUAL_PATIENCE } else { Duration::ZERO };
    let patience = arguments.wait.map_or(usual, Duration::from_secs);
    let wishes = match (arguments.no_request, arguments.break_glass) {
        (true, _) => "1 no-request",
        (false, true) => "1 break-glass",
        (false, false) => "1",
    };
    let deadline = deadline(arguments);
    let first = if reading == Reading::First { Some(texts(&arguments.source)?) } else { None };
    if !arguments.values.is_empty() && !first.as_deref().is_some_and(is_one_statement) {
        return Err(Failure::new(Exit::Usage, "-p binds the values of exactly one statement").hint("Give one -c"));
    }
    let opening = async {
        let granted = session::grant(global.server.as_deref(), target, &arguments.ask, true).await?;
        answer.granted(&granted.credential.answer);
        session::open_with(granted, "dbgate exec", wishes, &[]).await
    };
    let (mut open, desk, token) = match deadline {
        None => opening.await?,
        Some(deadline) => {
            tokio::time::timeout_at(deadline, opening).await.map_err(|_| stop::failure(Exit::Timeout))??
        }
    };
    answer.opened(&open);
    // Where nothing has been read yet Ctrl-C still ends the program at once.
    let texts = first.map_or_else(|| texts(&arguments.source), Ok);
    let watch = Watch::begin(open.cancel_handle(), deadline)?;
    let mut run = Run {
        people: People { desk: &desk, patience, interrupt: Interrupt::Withdraws },
        open: &mut open,
        bound: (!arguments.values.is_empty()).then(|| frontend::bound_texts(&arguments.values)),
        format: global.format,
        limits: Limits::of(arguments),
        on_error: arguments.on_error,
        watch: &watch,
        answer,
    };
    let ran = match texts {
        Ok(texts) => run.texts(&texts).await.and_then(|exit| run.finished(exit)),
        Err(failure) => Err(failure),
    };
    // However it ended, the record is signed and handed in.
    let closed = session::close(open, &desk, &token).await;
    if let Ok(evidence) = &closed {
        answer.evidence.clone_from(evidence);
    }
    let exit = with_what_stands(ran, answer)?;
    closed?;
    if answer.is_empty() && !global.quiet {
        eprintln!("Nothing was run: no statement was given.");
    }
    Ok(whole(exit, arguments, answer))
}

/// Whoever reads that something failed is told what was committed before it.
fn with_what_stands(ran: Result<Exit, Failure>, answer: &mut Answer) -> Result<Exit, Failure> {
    let Some(committed) = answer.ended(matches!(ran, Ok(Exit::Ok))) else { return ran };
    match ran {
        Ok(exit) => {
            eprintln!("{committed}");
            Ok(exit)
        }
        Err(failure) if failure.hint.is_none() => Err(failure.hint(committed)),
        Err(failure) => Err(Failure { message: format!("{}\n{committed}", failure.message), ..failure }),
    }
}

/// When time is up.
pub fn deadline(arguments: &ExecArgs) -> Option<Instant> {
    arguments.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)))
}

/// How it ended, where a result that was cut off is no success.
fn whole(exit: Exit, arguments: &ExecArgs, answer: &Answer) -> Exit {
    let is_cut = exit == Exit::Ok && arguments.fail_on_truncate && answer.is_truncated();
    if is_cut { Exit::Incomplete } else { exit }
}

fn is_one_statement(texts: &[(Option<String>, String)]) -> bool {
    let statements = texts.iter().flat_map(|(_, text)| Script::new(text));
    statements.filter(|item| matches!(item, Item::Statement(one) if !one.text.trim().is_empty())).count() == 1
}

/// How much of a result is shown.
#[derive(Clone, Copy)]
pub struct Limits {
    pub rows: u64,
    /// Bytes of rows, as they are spelled in the output.
    pub bytes: u64,
}

impl Limits {
    /// Everything.
    pub const NONE: Self = Self { rows: u64::MAX, bytes: u64::MAX };
    /// What an agent gets when it names no number: enough to think with, and a document of 64 KiB at most.
    const AGENT: Self = Self { rows: 200, bytes: 60 * 1024 };

    pub fn of(arguments: &ExecArgs) -> Self {
        let usual = if arguments.ask.agent.is_some() { Self::AGENT } else { Self::NONE };
        Self { rows: arguments.max_rows.unwrap_or(usual.rows), bytes: arguments.max_bytes.unwrap_or(usual.bytes) }
    }
}

/// A script on its way through a session.
pub struct Run<'a> {
    pub people: People<'a>,
    pub open: &'a mut Session,
    /// What the one statement is bound with.
    pub bound: Option<Vec<u8>>,
    pub format: Format,
    pub limits: Limits,
    pub on_error: OnError,
    pub watch: &'a Watch,
    pub answer: &'a mut Answer,
}

impl Run<'_> {
    /// Runs texts, each with the name of the file it came from, and answers the first exit code that is not 0.
    pub async fn texts(&mut self, texts: &[(Option<String>, String)]) -> Result<Exit, Failure> {
        let mut worst = Exit::Ok;
        let mut rest = texts.iter();
        while let Some((file, text)) = rest.next() {
            let ran = self.text(file.as_deref(), text).await;
            if !matches!(ran, Ok(exit) if exit == Exit::Ok || !self.must_stop()) {
                rest.for_each(|(_, text)| self.leave_out(&mut Script::new(text)));
                return ran.map(|exit| if worst == Exit::Ok { exit } else { worst });
            }
            worst = if worst == Exit::Ok { ran? } else { worst };
        }
        Ok(worst)
    }

    /// Says of what is left of a text that it was not run.
    fn leave_out(&mut self, script: &mut Script<'_>) {
        for item in script {
            if let Item::Statement(statement) = item {
                self.answer.not_run(&statement.text);
            }
        }
    }

    /// Runs a text statement by statement.
    async fn text(&mut self, file: Option<&str>, text: &str) -> Result<Exit, Failure> {
        let mut worst = Exit::Ok;
        let mut script = Script::new(text);
        while let Some(item) = script.next() {
            let statement = match item {
                Item::Statement(statement) => statement,
                Item::Command { text, line } => {
                    let message = format!(
                        "line {line}: `{}` works at the prompt of `dbgate connect` only",
                        crate::core::text::escape(&text)
                    );
                    return Err(Failure::new(Exit::Usage, message).hint("Send SQL, or use: dbgate psql TARGET"));
                }
            };
            if let Some(exit) = self.watch.stopped() {
                self.answer.not_run(&statement.text);
                self.leave_out(&mut script);
                return Err(stop::failure(exit));
            }
            let ran = self.statement(file, &statement, &mut script).await;
            if !matches!(ran, Ok(exit) if exit == Exit::Ok || !self.must_stop()) {
                self.leave_out(&mut script);
                return ran.map(|exit| if worst == Exit::Ok { exit } else { worst });
            }
            worst = if worst == Exit::Ok { ran? } else { worst };
        }
        Ok(worst)
    }

    /// A text that leaves a transaction open has said of writes that they were made, and they will not stand.
    fn finished(&self, exit: Exit) -> Result<Exit, Failure> {
        match exit {
            Exit::Ok if self.answer.has_unfinished() => Err(Failure::new(
                Exit::Failed,
                "The transaction was left open, so it is rolled back: nothing that it wrote stands.",
            )
            .hint("End it with COMMIT in the same call, or leave BEGIN out")),
            exit => Ok(exit),
        }
    }

    fn must_stop(&self) -> bool {
        self.on_error == OnError::Stop || self.watch.stopped().is_some()
    }

    /// Runs one statement and writes what it answers.
    async fn statement(
        &mut self,
        file: Option<&str>,
        statement: &Statement,
        script: &mut Script<'_>,
    ) -> Result<Exit, Failure> {
        let sql = statement.text.trim_end().trim_end_matches(';');
        if sql.trim().is_empty() {
            return Ok(Exit::Ok);
        }
        let advice = check::look(sql);
        let started = Instant::now();
        let is_document = self.format == Format::Json;
        let mut outcome = Outcome::new(sql, self.limits);
        let (mut failed, mut table) = (None, Table::new(self.format));
        let mut see = |event: Event<'_>| -> Reply {
            match event {
                Event::Columns(columns) => {
                    table.columns(&columns);
                    outcome.columns(columns);
                }
                Event::Row(values) => {
                    if !outcome.row(values, is_document) {
                        return Reply::Enough;
                    }
                    table.row(values);
                }
                Event::Done(tag) => {
                    outcome.done(tag);
                    table.done(tag, outcome.row_count);
                }
                Event::CopyOut(bytes) if table.is_text() => table.raw(bytes),
                // In a document a line of it is a row of one value.
                Event::CopyOut(bytes) => return copied(bytes, &mut outcome, &mut table, is_document),
                // In a file the data follows its statement; for -c it is standard input.
                Event::CopyIn if file.is_some() => return Reply::Data(script.copy_data()),
                Event::CopyIn => return standard_input(),
                Event::Notice(fields) => eprint!("{}", report::notice(fields)),
                Event::Error(fields) => failed = Some(fields.clone()),
                Event::Empty | Event::Cut => {}
            }
            Reply::GoOn
        };
        let (open, word) = (&mut *self.open, advice.word());
        let running = async {
            match &self.bound {
                Some(bound) => open.run_bound(sql, bound, word, &mut see).await,
                None => open.run(sql, word, &mut see).await,
            }
        };
        let ran = tokio::select! {
            ran = running => ran.map_err(Failure::from),
            () = self.watch.overdue() => {
                Err(Failure::new(Exit::Connection, "The server did not answer the cancel request."))
            }
        };
        outcome.took(started.elapsed());
        table.finish(&outcome, ran.is_err() || failed.is_some());
        if let Err(failure) = ran {
            let failure = unless_known(failure, self.answer.only_reads(&outcome));
            self.answer.lost(outcome);
            return Err(failure);
        }
        self.answer.ran(&outcome, failed.is_some(), self.open.status());
        let Some(mut fields) = failed else {
            self.answer.push(outcome);
            return Ok(Exit::Ok);
        };
        if let Some(id) = people::request_of(&fields) {
            return self.wait(&id, outcome, file, statement, script).await;
        }
        let origin = Origin { file, statement };
        let stopped = self.watch.stopped().filter(|_| fields.sqlstate == QUERY_CANCELED);
        if stopped == Some(Exit::Timeout) {
            // The target knows only that a cancel came.
            "canceling statement due to --timeout".clone_into(&mut fields.message);
        }
        if fields.hint.is_none() {
            fields.hint = hint_of_values(&fields.sqlstate, self.bound.is_some()).map(str::to_owned);
        }
        eprint!("{}", report::error(&fields, &origin));
        let exit = stopped.unwrap_or_else(|| exit_of(&fields));
        self.answer.failed(outcome, &fields, &origin, exit);
        Ok(exit)
    }
}

impl Run<'_> {
    /// People were asked about a statement: waits as long as there is patience, then runs it or says how it stands.
    async fn wait(
        &mut self,
        id: &str,
        outcome: Outcome,
        file: Option<&str>,
        statement: &Statement,
        script: &mut Script<'_>,
    ) -> Result<Exit, Failure> {
        let view = tokio::select! {
            view = self.people.wait(id) => view?,
            exit = self.watch.asked() => {
                self.people.withdraw(id).await?;
                return Err(stop::failure(exit));
            }
        };
        match view.state.as_str() {
            "approved" => {
                eprintln!("{}", render::verdict(&view));
                return Box::pin(self.statement(file, statement, script)).await;
            }
            "pending" => eprint!("{}", render::waiting(&view)),
            _ => eprintln!("{}", render::verdict(&view)),
        }
        self.answer.waits(outcome, &view);
        Ok(if view.is_open() { Exit::Pending } else { Exit::Rejected })
    }
}

/// SQLSTATE of a cancelled statement.
const QUERY_CANCELED: &str = "57014";

/// A link that is lost after a write was sent leaves open whether the write happened.
fn unless_known(failure: Failure, only_reads: bool) -> Failure {
    if failure.exit != Exit::Connection || only_reads {
        return failure;
    }
    let message = format!(
        "{}\nThe connection was lost after a write was sent: whether it happened is not known.",
        failure.message
    );
    Failure::new(Exit::OutcomeUnknown, message).hint("Look at the data before you run it again")
}

/// What helps where the values of `$1`, `$2`, ... are not right: too few or too many, without a type, none at all,
/// or not spelled as their type.
fn hint_of_values(sqlstate: &str, has_values: bool) -> Option<&'static str> {
    match (sqlstate, has_values) {
        ("42P02", false) => Some("Give the values of $1, $2, ... with -p VALUE, one -p each"),
        ("08P01", true) => Some("Give one -p VALUE for each of $1, $2, ..., in this order"),
        ("42P18", true) => Some("Say of which type the value of -p is, as in $1::int"),
        ("22P02" | "22003" | "22007" | "22008", true) => {
            Some("The values of $1, $2, ... are those of -p, in this order")
        }
        _ => None,
    }
}

/// The exit code that an error means.
pub fn exit_of(fields: &ErrorFields) -> Exit {
    match fields.sqlstate.as_str() {
        _ if Refusal::of(fields).is_some() => Exit::Denied,
        "ZG001" => Exit::Pending,
        "ZG002" | "ZG004" => Exit::Rejected,
        "ZG003" => Exit::Incomplete,
        "ZG005" => Exit::Unrecorded,
        "57P01" | "57P02" | "57P03" => Exit::Connection,
        // The session goes on: what was lost is the gateway's own link, in the middle of something.
        "08006" if fields.severity != "FATAL" => Exit::OutcomeUnknown,
        "08006" => Exit::Connection,
        _ => Exit::Sql,
    }
}

/// A line of COPY TO STDOUT, in a document.
fn copied(bytes: &[u8], outcome: &mut Outcome, table: &mut Table, is_document: bool) -> Reply {
    if outcome.row_count == 0 {
        let columns = vec![Column::of_copy()];
        table.columns(&columns);
        outcome.columns(columns);
    }
    let line = [Some(bytes.strip_suffix(b"\n").unwrap_or(bytes))];
    if !outcome.row(&line, is_document) {
        return Reply::Enough;
    }
    table.row(&line);
    Reply::GoOn
}

/// COPY FROM STDIN of `-c` takes what standard input holds, whole: half a table is worse than none.
fn standard_input() -> Reply {
    let mut data = Vec::new();
    match std::io::stdin().read_to_end(&mut data) {
        Ok(_) => Reply::Data(data),
        Err(_) => Reply::NoData("standard input cannot be read"),
    }
}
