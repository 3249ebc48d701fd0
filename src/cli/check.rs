//! `dbgate check`: a verdict without running anything.

use crate::cli::args::{Asking, Format, Global, Source};
use crate::cli::exec;
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::client::render::report::{self, Origin, Refusal};
use crate::client::script::Item;

/// Asks the gateway about every statement; the worst verdict is the exit code.
pub async fn run(global: &Global, target: &str, source: &Source, ask: &Asking) -> Result<Exit, Failure> {
    let texts = exec::texts(source)?;
    let granted = session::grant(global.server.as_deref(), target, ask, true).await?;
    let (mut open, desk, token) = session::open(granted, "dbgate check").await?;
    let mut worst = Exit::Ok;
    let mut verdicts = Vec::new();
    for (file, text) in &texts {
        for item in crate::client::script::split(text) {
            let Item::Statement(statement) = item else { continue };
            let refused = open.check(statement.text.trim_end().trim_end_matches(';')).await?;
            let origin = Origin { file: file.as_deref(), statement: &statement };
            let (verdict, exit) = match &refused {
                None => ("allow", Exit::Ok),
                Some(fields) if Refusal::of(fields).is_some() => ("deny", Exit::Denied),
                Some(_) => ("unparseable", Exit::Sql),
            };
            worst = if worst == Exit::Ok { exit } else { worst };
            match (&refused, global.format == Format::Json) {
                (None, false) => println!("allow  {}", crate::core::text::escape(statement.text.trim())),
                (Some(fields), false) => print!("{}", report::error(fields, &origin)),
                (refused, true) => verdicts.push(serde_json::json!({
                    "verdict": verdict, "line": statement.line,
                    "message": refused.as_ref().map(|fields| fields.message.clone()),
                    "hint": refused.as_ref().and_then(|fields| fields.hint.clone()),
                })),
            }
        }
    }
    if global.format == Format::Json {
        let answer = serde_json::json!({"schema": "dbgate.check/1", "dry_run": true, "exit_code": worst.code(), "statements": verdicts});
        println!("{answer}");
    }
    session::close(open, &desk, &token).await?;
    Ok(worst)
}
