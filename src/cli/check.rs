//! `dbgate check`: a verdict without running anything; with `--impact` also what a write would do.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::args::{Asking, Format, Global, Impact, Source};
use crate::cli::exec;
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin, Refusal};
use crate::client::render::request;
use crate::client::script::Item;
use crate::core::api::request::ImpactView;
use crate::core::text::escape;
use crate::core::wire::backend::ErrorFields;

/// SQLSTATE of the answer to a write that was only tried.
const TRIED: &str = "ZG006";

/// What the gateway says of a write that was tried.
#[derive(Deserialize)]
struct Tried {
    verdict: String,
    impact: ImpactView,
}

/// Asks the gateway about every statement; the worst verdict is the exit code.
pub async fn run(
    global: &Global,
    target: &str,
    source: &Source,
    ask: &Asking,
    impact: Impact,
) -> Result<Exit, Failure> {
    let texts = exec::texts(source)?;
    let granted = session::grant(global.server.as_deref(), target, ask, true).await?;
    let wishes = match impact {
        // What needs approval is only told; nobody is asked.
        Impact::None => "1 no-request",
        Impact::Estimate => "1 estimate",
        Impact::Trial => "1 trial",
    };
    let (mut open, desk, token) = session::open_with(granted, "dbgate check", wishes, &[]).await?;
    let mut worst = Exit::Ok;
    let mut verdicts = Vec::new();
    for (file, text) in &texts {
        for item in crate::client::script::split(text) {
            let Item::Statement(statement) = item else { continue };
            let sql = statement.text.trim_end().trim_end_matches(';');
            let (mut refused, mut tried) = (open.check(sql).await?, None);
            if refused.is_none() && impact != Impact::None {
                (refused, tried) = try_out(&mut open, sql).await?;
            }
            let origin = Origin { file: file.as_deref(), statement: &statement };
            let (verdict, exit) = verdict(refused.as_ref(), tried.as_ref());
            worst = if worst == Exit::Ok { exit } else { worst };
            match (&refused, global.format == Format::Json) {
                (None, false) => println!("{:<6} {}", verdict.replace('_', " "), escape(statement.text.trim())),
                (Some(fields), false) => print!("{}", report::error(fields, &origin)),
                (refused, true) => verdicts.push(json!({
                    "verdict": verdict, "line": statement.line,
                    "message": refused.as_ref().map(|fields| fields.message.clone()),
                    "hint": refused.as_ref().and_then(|fields| fields.hint.clone()),
                    "impact": tried.as_ref().map_or(Value::Null, |tried| json!(tried.impact)),
                })),
            }
            if let (Some(tried), false) = (&tried, global.format == Format::Json) {
                for (label, text) in request::effect(&tried.impact) {
                    println!("  {label:<5} {text}");
                }
            }
        }
    }
    if global.format == Format::Json {
        let answer =
            json!({"schema": "dbgate.check/1", "dry_run": true, "exit_code": worst.code(), "statements": verdicts});
        println!("{answer}");
    }
    session::close(open, &desk, &token).await?;
    Ok(worst)
}

fn verdict(refused: Option<&ErrorFields>, tried: Option<&Tried>) -> (String, Exit) {
    match (refused, tried) {
        (Some(fields), _) if Refusal::of(fields).is_some_and(|refusal| refusal.approvers.is_some()) => {
            ("needs_approval".to_owned(), Exit::Denied)
        }
        (Some(fields), _) if Refusal::of(fields).is_some() => ("deny".to_owned(), Exit::Denied),
        (Some(_), _) => ("unparseable".to_owned(), Exit::Sql),
        (None, Some(tried)) => {
            let exit = if tried.verdict == "allow" { Exit::Ok } else { Exit::Denied };
            (tried.verdict.clone(), exit)
        }
        (None, None) => ("allow".to_owned(), Exit::Ok),
    }
}

/// Sends a statement to a session that commits nothing. What is no write is not run there, and has
/// no effect to tell of.
async fn try_out(open: &mut Session, sql: &str) -> Result<(Option<ErrorFields>, Option<Tried>), Failure> {
    let mut failed = None;
    let mut see = |event: Event<'_>| {
        if let Event::Error(fields) = event {
            failed = Some(fields.clone());
        }
        Reply::NoData("a trial takes no data")
    };
    open.run(sql, "unknown", &mut see).await?;
    let Some(fields) = failed else { return Ok((None, None)) };
    let detail = fields.detail.as_deref();
    if fields.sqlstate == TRIED {
        return Ok((None, detail.and_then(|detail| serde_json::from_str(detail).ok())));
    }
    let is_no_write = Refusal::of(&fields).is_some_and(|refusal| refusal.code == "trial_only");
    Ok((if is_no_write { None } else { Some(fields) }, None))
}
