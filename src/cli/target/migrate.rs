//! `dbgate target migrate`: runs the owner's migration with masking views out of its way.

use std::process::Stdio;

use serde_json::json;

use crate::cli::configured::{Configured, Place};
use crate::cli::exit::{Exit, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::whoami::Form;
use crate::core::text::escape;
use crate::server::http::refusal::chain;
use crate::server::migrate::{self, MigrateError, Outcome};

#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArguments {
    #[command(flatten)]
    pub place: Place,
    /// The migration, after `--`; it connects by itself, as the owner
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Takes the views away, runs the command, and brings them back whatever came of it.
pub async fn run(arguments: &MigrateArguments, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.place.config, &arguments.place.name)?;
    let client = place.client(arguments.place.superuser_dsn_file.as_deref(), "dbgate target migrate").await?;
    // Ctrl-C ends the command, not this: the views must come back.
    let _ignored = Interrupts::listen()?;
    let aside = migrate::step_aside(&client, &place.target.config().admin.user)
        .await
        .map_err(|error| failed(&error, "Nothing was changed."))?;
    let away = aside.len();
    let ran = command(&arguments.command, form).await;
    let hint = "Masking views may be missing; sessions that need them are refused until new ones are asked for.";
    let outcome = aside.back(&client).await.map_err(|error| failed(&error, hint))?;
    let exit = match &ran {
        Ok(status) if status.success() => Exit::Ok,
        Ok(_) | Err(_) => Exit::Failed,
    };
    match form {
        Form::Json => println!(
            "{:#}",
            json!({
                "schema": "dbgate.target-migrate/1",
                "exit_code": exit.code(),
                "command_exit_code": ran.as_ref().ok().and_then(std::process::ExitStatus::code),
                "target": arguments.place.name,
                "rebuilt": outcome.rebuilt.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "lost": outcome.lost.iter().map(|(view, why)| json!({"view": view.to_string(), "why": why})).collect::<Vec<_>>(),
                "ended": outcome.ended,
            })
        ),
        Form::Text => tell(&outcome, away),
    }
    if form == Form::Json {
        return Ok(exit);
    }
    match ran {
        Ok(status) if status.success() => Ok(Exit::Ok),
        Ok(status) => Err(Failure::new(exit, format!("the migration failed ({status})"))
            .hint("Masking views are as told above; correct the migration and run this again.")),
        Err(error) => Err(Failure::new(exit, format!("cannot run the migration: {error}"))),
    }
}

async fn command(words: &[String], form: Form) -> std::io::Result<std::process::ExitStatus> {
    let (program, arguments) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    if form == Form::Json {
        // stdout is the answer and nothing else.
        command.stdout(Stdio::from(std::io::stderr()));
    }
    command.status().await
}

fn tell(outcome: &Outcome, away: usize) {
    eprintln!("Masking views: {away} taken away, {} made again.", outcome.rebuilt.len());
    for (view, why) in &outcome.lost {
        eprintln!("  not made again: {} ({}); new sessions get one that fits", escape(&view.to_string()), escape(why));
    }
    if !outcome.ended.is_empty() {
        eprintln!("Sessions that read through them were ended: {}.", outcome.ended.join(", "));
    }
}

fn failed(error: &MigrateError, hint: &str) -> Failure {
    let exit = match error {
        MigrateError::Busy => Exit::Busy,
        MigrateError::Query(_) | MigrateError::Role(_) | MigrateError::Scope(_) => Exit::Sql,
    };
    Failure::new(exit, chain(error)).hint(hint)
}
