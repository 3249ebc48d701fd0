//! `dbgate doctor`: shows what is open in a target, and the statement that closes it.

use std::fmt::Write as _;

use serde_json::json;

use crate::cli::configured::{Configured, Place};
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::text::escape;
use crate::server::doctor::{self, DoctorError, Finding, Report, Severity};
use crate::server::http::refusal::chain;

#[derive(Clone, Debug, clap::Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    pub place: Place,
    /// Print nothing but the SQL that closes what can be closed by SQL
    #[arg(long)]
    pub sql: bool,
    /// A risk that is known and taken: a code, or code=object; may be repeated
    #[arg(long = "accept", value_name = "CODE[=OBJECT]")]
    pub accepted: Vec<String>,
}

/// Examines the target. Findings are an exit code of their own: 8, expectation not met.
pub async fn run(arguments: &DoctorArguments, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.place.config, &arguments.place.name)?;
    let policy = place.policy()?;
    let client = place.client(arguments.place.superuser_dsn_file.as_deref(), "dbgate doctor").await?;
    let mut report = doctor::examine(&place.target, &policy, &client).await.map_err(|error| {
        let exit = match &error {
            DoctorError::Target(_) => Exit::Connection,
            DoctorError::Query(_) | DoctorError::Catalog(_) => Exit::Sql,
        };
        Failure::new(exit, chain(&error))
    })?;
    let is_accepted = |finding: &Finding| {
        let named = format!("{}={}", finding.code, finding.object);
        arguments.accepted.iter().any(|accepted| *accepted == finding.code || *accepted == named)
    };
    let (accepted, findings): (Vec<_>, Vec<_>) = report.findings.drain(..).partition(is_accepted);
    report.findings = findings;
    let exit = if report.findings.is_empty() { Exit::Ok } else { Exit::Incomplete };
    match (arguments.sql, form) {
        (true, _) => print!("{}", as_sql(&report)),
        (false, Form::Json) => println!("{:#}", as_json(&report, &accepted, exit)),
        (false, Form::Text) => print!("{}", as_text(&report, &accepted)),
    }
    Ok(exit)
}

fn as_sql(report: &Report) -> String {
    report.findings.iter().flat_map(|finding| &finding.sql).map(|sql| format!("{sql};\n")).collect()
}

fn as_json(report: &Report, accepted: &[Finding], exit: Exit) -> serde_json::Value {
    json!({
        "schema": "dbgate.doctor/1",
        "exit_code": exit.code(),
        "target": report.target,
        "database": report.database,
        "server_version": report.server_version,
        "findings": report.findings,
        "accepted": accepted,
        "unseen": report.unseen,
    })
}

/// Names and definitions are the database's own text, so they are escaped.
fn as_text(report: &Report, accepted: &[Finding]) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let word = match finding.severity {
            Severity::Hole => "HOLE",
            Severity::Weakness => "WEAKNESS",
        };
        let detail = if finding.detail.is_empty() { String::new() } else { format!(" ({})", escape(&finding.detail)) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{word}  {}  {}{detail}", finding.code, escape(&finding.object));
        let _ = writeln!(text, "  {}", escape(&finding.why));
        finding.sql.iter().for_each(|sql| text += &format!("    {};\n", escape(sql)));
        finding.lines.iter().for_each(|line| text += &format!("    {}\n", escape(line)));
    }
    for finding in accepted {
        let _ = writeln!(text, "accepted  {}  {}", finding.code, escape(&finding.object));
    }
    for unseen in &report.unseen {
        let _ = writeln!(text, "not looked at  {}: {}", unseen.what, escape(&unseen.why));
    }
    let holes = report.findings.iter().filter(|finding| finding.severity == Severity::Hole).count();
    let weaknesses = report.findings.len() - holes;
    let _ = match report.findings.is_empty() {
        true => writeln!(text, "{} ({}): nothing found", report.target, report.database),
        false => writeln!(text, "{} ({}): holes {holes}, weaknesses {weaknesses}", report.target, report.database),
    };
    text
}
