//! `dbgate classify`: proposes `classification.toml`, with the reason for every entry.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::configured::{Configured, Place, rejected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::text::escape;
use crate::server::catalog;
use crate::server::classify::{self, Findings, Manner};
use crate::server::http::refusal::chain;

#[derive(Clone, Debug, clap::Args)]
pub struct ClassifyArguments {
    #[command(flatten)]
    pub place: Place,
    /// Write the entries to this file, for review; it must not exist, unless --append is given
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Put the entries at the end of the file
    #[arg(long, requires = "output")]
    pub append: bool,
    /// Rows of each table to look at; 0 looks at names and types only
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub rows: u32,
    /// Also columns that the target's classification names already
    #[arg(long)]
    pub all: bool,
    /// List what looks sensitive and is named by no entry; exit 8 where there is any
    #[arg(long, conflicts_with_all = ["all", "output"])]
    pub drift: bool,
}

/// Looks, and proposes. Values are counted and never shown.
pub async fn run(arguments: &ClassifyArguments, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.place.config, &arguments.place.name)?;
    let policy = place.policy()?;
    if let Some(file) = arguments.output.as_ref().filter(|file| file.exists() && !arguments.append) {
        return Err(Failure::new(Exit::Usage, format!("{} exists already", file.display()))
            .hint("Name another file, or add --append"));
    }
    let client = place.client(arguments.place.superuser_dsn_file.as_deref(), "dbgate classify").await?;
    let catalog = catalog::read(&client, place.target.database()).await;
    let catalog = catalog.map_err(|error| Failure::new(Exit::Sql, chain(&error)))?;
    let manner = Manner { rows: arguments.rows, all: arguments.all };
    let found = classify::look(&client, &catalog, policy.classification(), manner).await;
    let found = found.map_err(|error| rejected(&place.target, &error))?;
    let drifted = arguments.drift && !found.proposals.is_empty();
    let exit = if drifted { Exit::Incomplete } else { Exit::Ok };
    if let Some(file) = &arguments.output {
        let between = if file.exists() { "\n" } else { "" };
        let written = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let text = between.to_owned() + &as_toml(&found, &arguments.place.name, arguments.rows);
        let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", file.display())))?;
        eprintln!("{} entries in {}: read them, correct them, keep them.", found.proposals.len(), file.display());
    }
    match (form, &arguments.output) {
        (Form::Json, _) => println!("{:#}", as_json(&found, arguments, &catalog.database, exit)),
        (Form::Text, Some(_)) => {}
        (Form::Text, None) if arguments.drift => {
            for proposal in &found.proposals {
                println!("{}  {}  ({})", escape(&proposal.column), escape(&proposal.why()), proposal.tags.join(", "));
            }
        }
        (Form::Text, None) => print!("{}", as_toml(&found, &arguments.place.name, arguments.rows)),
    }
    Ok(exit)
}

fn as_json(found: &Findings, arguments: &ClassifyArguments, database: &str, exit: Exit) -> serde_json::Value {
    let unread = found.unread.iter().map(|(relation, why)| json!({"relation": relation, "why": why}));
    json!({
        "schema": "dbgate.classify/1",
        "exit_code": exit.code(),
        "target": arguments.place.name,
        "database": database,
        "rows": arguments.rows,
        "proposals": found.proposals,
        "traces": found.traces,
        "unread": unread.collect::<Vec<_>>(),
    })
}

/// Names are the database's own text; in a comment they stay on their line.
fn as_toml(found: &Findings, target: &str, rows: u32) -> String {
    let mut text =
        format!("# Proposed by `dbgate classify {target}` from names, types and up to {rows} rows a table.\n");
    for proposal in &found.proposals {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n# {}\n{}\n", escape(&proposal.why()), proposal.lines.join("\n"));
    }
    if !found.traces.is_empty() {
        text += "\n# Not proposed, since few values look like it:\n";
    }
    for trace in &found.traces {
        let _ = writeln!(text, "#   {}: {}", escape(&trace.column), escape(&trace.why()));
    }
    for (relation, why) in &found.unread {
        let _ = writeln!(text, "# Values of {} were not read: {}", escape(relation), escape(why));
    }
    text
}
