//! `dbgate undo`: what small writes changed, and the statement that takes one of them back.
//!
//! That statement is run like any other: checked, counted, recorded and, where policy wants that,
//! approved. It changes nothing where a row is not as the write left it.

use serde_json::json;

use crate::cli::answer;
use crate::cli::args::{Asking, ExecArgs, Format, Global, Source, UndoArgs};
use crate::cli::exec;
use crate::cli::exit::{Exit, Failure};
use crate::cli::ls::columns;
use crate::cli::whoami::print_json;
use crate::cli::workstation::Workstation;
use crate::core::api::undo::{UndoView, Undos};
use crate::core::grant::Access;
use crate::core::text::{escape, escape_keeping_lines};

/// Lists the writes of a session, shows how one is taken back, or does it.
pub async fn run(global: &Global, arguments: &UndoArgs) -> Result<Exit, Failure> {
    let (write, sql) = match found(global, arguments).await {
        Ok(Some(found)) if arguments.apply => found,
        Ok(Some((write, sql))) => return show(global, arguments, &write, &sql),
        Ok(None) => return Ok(Exit::Ok),
        Err(failure) => {
            // `exec` would have written a document for this, too.
            if arguments.apply && global.format == Format::Json {
                println!("{}", answer::failure_document(&failure));
            }
            return Err(failure);
        }
    };
    exec::run(global, &execution(arguments, &write, &sql), exec::Reading::First).await
}

/// The write that is meant and the statement that takes it back; none where all were listed.
async fn found(global: &Global, arguments: &UndoArgs) -> Result<Option<(UndoView, String)>, Failure> {
    let desk = Workstation::open(global.server.as_deref(), None)?;
    let undos = desk.broker.undos(&desk.token().await?, &arguments.session).await?;
    let Some(number) = arguments.statement else {
        match global.format {
            Format::Json => print_json(&json!(undos))?,
            _ => print!("{}", table(&undos)),
        }
        return Ok(None);
    };
    let write = undos.writes.into_iter().find(|write| write.statement == number).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("nothing is kept of statement {number} of this session"))
            .hint(format!("dbgate undo {} lists what is", arguments.session))
    })?;
    let Some(sql) = write.sql.clone() else {
        let reason = write.why_not.as_deref().unwrap_or("nothing is kept of it");
        return Err(Failure::new(Exit::Failed, format!("statement {number} cannot be taken back: {}", escape(reason))));
    };
    Ok(Some((write, sql)))
}

/// What would run, on stdout; what it is, beside it.
fn show(global: &Global, arguments: &UndoArgs, write: &UndoView, sql: &str) -> Result<Exit, Failure> {
    match global.format {
        Format::Json => print_json(&json!(write))?,
        _ => println!("{}", escape_keeping_lines(sql)),
    }
    if !global.quiet {
        eprintln!("{}", proposal(arguments, write));
    }
    Ok(Exit::Ok)
}

/// The proposal as `dbgate exec` runs it.
fn execution(arguments: &UndoArgs, write: &UndoView, sql: &str) -> ExecArgs {
    let why = || format!("undo of statement {} of {}", write.statement, arguments.session);
    let ask = Asking {
        database: Some(write.database.clone()),
        access: Access::Write,
        seconds: None,
        reason: Some(arguments.reason.clone().unwrap_or_else(why)),
        ticket: arguments.ticket.clone(),
        agent: arguments.agent.clone(),
        model: None,
        task: None,
    };
    let source = Source { commands: vec![sql.to_owned()], files: Vec::new(), stdin: None };
    ExecArgs { wait: arguments.wait, ..ExecArgs::of(&write.target, source, &ask) }
}

fn proposal(arguments: &UndoArgs, write: &UndoView) -> String {
    format!(
        "Takes back {} rows of {} on {}, or none where one of them has changed since. To run it:\n  dbgate undo {} {} --apply",
        write.rows.unwrap_or(0),
        escape(write.relation.as_deref().unwrap_or("a table")),
        escape(&write.target),
        arguments.session,
        write.statement
    )
}

fn table(undos: &Undos) -> String {
    let mut rows = vec![["STATEMENT", "AT", "TARGET", "TABLE", "ROWS", "KEPT UNTIL"].map(str::to_owned)];
    for write in &undos.writes {
        let shown = match &write.why_not {
            Some(reason) => (format!("not kept: {reason}"), String::new()),
            None => (write.relation.clone().unwrap_or_default(), write.rows.unwrap_or(0).to_string()),
        };
        let cells = [&write.statement.to_string(), &write.at, &write.target, &shown.0, &shown.1, &write.expires_at];
        rows.push(cells.map(|cell| escape(cell).into_owned()));
    }
    columns(&rows)
}
