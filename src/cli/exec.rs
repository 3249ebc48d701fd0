//! `dbgate exec`: statements in, answers out, for scripts and agents.
//!
//! stdout is the answer, stderr everything else. With `--format json` there is exactly one JSON
//! document on stdout, whatever happens (`dbgate.exec/1`, see docs/schema).

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::cli::args::{ExecArgs, Format, Global, OnError, Source};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Answer, Outcome, Table};
use crate::cli::session;
use crate::client::check;
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin, Refusal};
use crate::client::script::{self, Item, Statement};
use crate::core::wire::backend::ErrorFields;

/// Runs `dbgate exec`.
pub async fn run(global: &Global, arguments: &ExecArgs) -> Result<Exit, Failure> {
    let mut answer = Answer::new(&arguments.target);
    let outcome = match arguments.timeout {
        None => execute(global, arguments, &mut answer).await,
        Some(seconds) => {
            let limit = Duration::from_secs(seconds);
            // Dropping the session closes the connection, and the gateway cancels what runs.
            tokio::time::timeout(limit, execute(global, arguments, &mut answer))
                .await
                .unwrap_or_else(|_| Err(Failure::new(Exit::Timeout, format!("not done within {seconds} s"))))
        }
    };
    match (outcome, global.format) {
        (Ok(exit), Format::Json) => {
            print(&answer.document(exit, None))?;
            Ok(exit)
        }
        (Err(failure), Format::Json) => {
            print(&answer.document(failure.exit, Some(&failure)))?;
            Err(failure)
        }
        (outcome, _) => outcome,
    }
}

/// A closed stdout is the reader's right, not our failure.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write the answer: {error}")))
        }
        _ => Ok(()),
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
    if texts.is_empty() {
        return Err(Failure::new(Exit::Usage, "nothing to run").hint("Give -c SQL, -f FILE, or - for standard input"));
    }
    Ok(texts)
}

async fn execute(global: &Global, arguments: &ExecArgs, answer: &mut Answer) -> Result<Exit, Failure> {
    let texts = texts(&arguments.source)?;
    let granted = session::grant(global.server.as_deref(), &arguments.target, &arguments.ask, true).await?;
    answer.granted(&granted.credential.answer);
    let (mut open, desk, token) = session::open(granted, "dbgate exec").await?;
    answer.opened(&open);
    let mut worst = Exit::Ok;
    for (file, text) in &texts {
        let limits = Limits { max_rows: arguments.max_rows, is_agent: arguments.ask.agent.is_some() };
        let exit =
            run_text(&mut open, file.as_deref(), text, global.format, limits, arguments.on_error, answer).await?;
        worst = if worst == Exit::Ok { exit } else { worst };
        if exit != Exit::Ok && arguments.on_error == OnError::Stop {
            break;
        }
    }
    answer.evidence = session::close(open, &desk, &token).await?;
    if worst == Exit::Ok && arguments.fail_on_truncate && answer.is_truncated() {
        worst = Exit::Incomplete;
    }
    Ok(worst)
}

/// How much of a result is shown.
#[derive(Clone, Copy)]
pub struct Limits {
    pub max_rows: Option<u64>,
    pub is_agent: bool,
}

impl Limits {
    /// Rows an agent gets when it names no number: enough to think with.
    const AGENT: u64 = 200;

    fn rows(self) -> u64 {
        self.max_rows.unwrap_or(if self.is_agent { Self::AGENT } else { u64::MAX })
    }
}

/// Runs a text statement by statement.
pub async fn run_text(
    open: &mut Session,
    file: Option<&str>,
    text: &str,
    format: Format,
    limits: Limits,
    on_error: OnError,
    answer: &mut Answer,
) -> Result<Exit, Failure> {
    let mut worst = Exit::Ok;
    let mut items = script::split(text).into_iter().peekable();
    while let Some(item) = items.next() {
        let statement = match item {
            Item::Statement(statement) => statement,
            Item::Command { text, line } => {
                let message =
                    format!("line {line}: `{}` works in `dbgate connect` only", crate::core::text::escape(&text));
                return Err(Failure::new(Exit::Usage, message).hint("Send SQL, or use: dbgate psql TARGET"));
            }
        };
        let exit = one(open, file, &statement, format, limits, answer).await?;
        worst = if worst == Exit::Ok { exit } else { worst };
        if exit != Exit::Ok && on_error == OnError::Stop {
            items.by_ref().for_each(|item| {
                if let Item::Statement(rest) = item {
                    answer.not_run(&rest.text);
                }
            });
            break;
        }
    }
    Ok(worst)
}

/// Runs one statement and writes what it answers.
async fn one(
    open: &mut Session,
    file: Option<&str>,
    statement: &Statement,
    format: Format,
    limits: Limits,
    answer: &mut Answer,
) -> Result<Exit, Failure> {
    let sql = statement.text.trim_end().trim_end_matches(';');
    if sql.trim().is_empty() {
        return Ok(Exit::Ok);
    }
    let advice = check::look(sql);
    let started = Instant::now();
    let mut outcome = Outcome::new(sql, limits.rows());
    let (mut failed, mut table) = (None, Table::new(format));
    let mut see = |event: Event<'_>| -> Reply {
        match event {
            Event::Columns(columns) => {
                table.columns(&columns);
                outcome.columns(columns);
            }
            Event::Row(values) => {
                if !outcome.row(values, format == Format::Json) {
                    return Reply::Enough;
                }
                table.row(values);
            }
            Event::Done(tag) => {
                outcome.done(tag);
                table.done(tag, outcome.row_count);
            }
            Event::CopyOut(bytes) => table.raw(bytes),
            Event::CopyIn => return Reply::Data(copy_data()),
            Event::Notice(fields) => eprint!("{}", report::notice(fields)),
            Event::Error(fields) if outcome.is_cut() && fields.sqlstate == "57014" => outcome.done("SELECT"),
            Event::Error(fields) => failed = Some(fields.clone()),
            Event::Empty => {}
        }
        Reply::GoOn
    };
    open.run(sql, advice.word(), &mut see).await?;
    outcome.took(started.elapsed());
    table.finish(&outcome);
    let Some(fields) = failed else {
        answer.push(outcome);
        return Ok(Exit::Ok);
    };
    let origin = Origin { file, statement };
    eprint!("{}", report::error(&fields, &origin));
    let exit = exit_of(&fields);
    answer.failed(outcome, &fields, &origin, exit);
    Ok(exit)
}

/// The exit code that an error means.
pub fn exit_of(fields: &ErrorFields) -> Exit {
    match fields.sqlstate.as_str() {
        _ if Refusal::of(fields).is_some() => Exit::Denied,
        "ZG005" => Exit::Unrecorded,
        "57P01" | "57P02" | "57P03" | "08006" => Exit::Connection,
        _ => Exit::Sql,
    }
}

/// COPY FROM STDIN takes what standard input holds.
fn copy_data() -> Vec<u8> {
    let mut data = Vec::new();
    match std::io::stdin().read_to_end(&mut data) {
        Ok(_) => data,
        // Nothing is worse than half a table: an unreadable input is an empty one.
        Err(_) => Vec::new(),
    }
}
