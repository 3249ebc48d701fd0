//! `dbgate check`: a verdict without running anything; with `--impact` also what a write would do.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::args::{Asking, Format, Global, Impact, Source};
use crate::cli::exec;
use crate::cli::exit::{Exit, Failure};
use crate::cli::session;
use crate::client::check;
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin, Refusal};
use crate::client::render::request;
use crate::client::script::{Item, Statement};
use crate::core::api::request::ImpactView;
use crate::core::text::{escape, escape_keeping_lines};
use crate::core::wire::backend::ErrorFields;

/// SQLSTATE of the answer to a write that was only tried.
const TRIED: &str = "ZG006";
/// What a verdict on the text alone leaves open.
const WHEN_IT_RUNS: &str = "Limits on rows are looked at when it runs. What it would do says: --impact trial";

/// What the gateway says of a write that was tried.
#[derive(Deserialize)]
struct Tried {
    verdict: String,
    impact: ImpactView,
    rule: Option<String>,
    approvers: Option<String>,
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
            let said = Said::of(refused, tried, |group| asks(target, ask, group), || hint(sql, impact));
            worst = if worst == Exit::Ok { said.exit } else { worst };
            match global.format {
                Format::Json => verdicts.push(said.json(&statement)),
                _ => said.print(&Origin { file: file.as_deref(), statement: &statement }),
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

/// What goes with an allowed statement: of a write the text does not show how many rows it meets.
fn hint(sql: &str, impact: Impact) -> Option<String> {
    (impact != Impact::Trial && check::writes_rows(sql)).then(|| WHEN_IT_RUNS.to_owned())
}

/// The next step where people must agree.
fn asks(target: &str, ask: &Asking, group: &str) -> String {
    let access = ask.access.word();
    format!("It runs once the group {group} agrees. To ask them: dbgate exec {target} --access {access} -c SQL")
}

/// What is said of one statement.
struct Said {
    verdict: String,
    exit: Exit,
    rule: Option<String>,
    message: Option<String>,
    hint: Option<String>,
    refused: Option<ErrorFields>,
    impact: Option<ImpactView>,
}

impl Said {
    fn of(
        refused: Option<ErrorFields>,
        tried: Option<(ErrorFields, Tried)>,
        asks: impl Fn(&str) -> String,
        hint: impl Fn() -> Option<String>,
    ) -> Self {
        let allowed = |verdict: &str, impact| Self {
            verdict: verdict.to_owned(),
            exit: Exit::Ok,
            rule: None,
            message: None,
            hint: hint(),
            refused: None,
            impact,
        };
        let (fields, rule, approvers, denied, impact) = match (refused, tried) {
            (None, None) => return allowed("allow", None),
            (None, Some((_, tried))) if tried.verdict == "allow" => return allowed("allow", Some(tried.impact)),
            (None, Some((fields, tried))) => (fields, tried.rule, tried.approvers, tried.verdict, Some(tried.impact)),
            (Some(fields), _) => match Refusal::of(&fields) {
                Some(refusal) => (fields, Some(refusal.rule), refusal.approvers, "deny".to_owned(), None),
                None => (fields, None, None, "unparseable".to_owned(), None),
            },
        };
        let steps: Vec<_> = fields.hint.iter().cloned().chain(approvers.as_deref().map(asks)).collect();
        let verdict = if approvers.is_some() { "needs_approval".to_owned() } else { denied };
        Self {
            exit: if verdict == "unparseable" { Exit::Sql } else { Exit::Denied },
            verdict,
            rule,
            message: Some(fields.message.clone()),
            hint: (!steps.is_empty()).then(|| steps.join("\n")),
            refused: impact.is_none().then_some(fields),
            impact,
        }
    }

    fn json(&self, statement: &Statement) -> Value {
        json!({
            "verdict": self.verdict, "line": statement.line, "rule": self.rule, "message": self.message,
            "hint": self.hint, "impact": self.impact,
        })
    }

    fn print(&self, origin: &Origin<'_>) {
        // What is to be done comes last, below all that was found.
        let step = |hint: &str| println!("  {}", escape_keeping_lines(hint).replace('\n', "\n  "));
        if let Some(fields) = &self.refused {
            print!("{}", report::error(&ErrorFields { hint: None, ..fields.clone() }, origin));
            return self.hint.iter().for_each(|hint| step(hint));
        }
        println!("{:<6} {}", self.verdict.replace('_', " "), escape(origin.statement.text.trim()));
        if let (Some(message), Some(rule)) = (&self.message, &self.rule) {
            println!("  {}  rule {}", escape_keeping_lines(message), escape(rule));
        }
        let effects = self.impact.iter().flat_map(request::effect);
        effects.for_each(|(label, text)| println!("  {label:<5} {text}"));
        self.hint.iter().for_each(|hint| step(hint));
    }
}

/// Sends a statement to a session that commits nothing. What is no write is not run there, and has
/// no effect to tell of.
async fn try_out(
    open: &mut Session,
    sql: &str,
) -> Result<(Option<ErrorFields>, Option<(ErrorFields, Tried)>), Failure> {
    let mut failed = None;
    let mut see = |event: Event<'_>| {
        if let Event::Error(fields) = event {
            failed = Some(fields.clone());
        }
        Reply::NoData("a trial takes no data")
    };
    open.run(sql, "unknown", &mut see).await?;
    let Some(fields) = failed else { return Ok((None, None)) };
    if fields.sqlstate == TRIED {
        let tried = fields.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok());
        return Ok((None, tried.map(|tried| (fields, tried))));
    }
    let is_no_write = Refusal::of(&fields).is_some_and(|refusal| refusal.code == "trial_only");
    Ok((if is_no_write { None } else { Some(fields) }, None))
}
