//! `dbgate demo`: everything on one machine, a walk through the main job, and then it stays up.

use std::path::PathBuf;

use anyhow::ensure;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::exit::{Exit, Failure};
use crate::demo::postgres::PostgresError;
use crate::demo::screen::Screen;
use crate::demo::stage::Stage;
use crate::demo::walk::Walk;

/// Sets the stage, walks, stays until Ctrl-C unless `once`, and takes everything down.
///
/// # Errors
/// When PostgreSQL is not installed, or a step of the walk ends otherwise than it should.
pub async fn run(once: bool, no_color: bool) -> Result<Exit, Failure> {
    let screen = if no_color { Screen::plain() } else { Screen::new() };
    let interrupted =
        interrupted().map_err(|error| Failure::new(Exit::Failed, format!("cannot watch signals: {error}")))?;
    tokio::pin!(interrupted);
    screen.title("dbgate demo: everything on this machine, nothing left behind");
    let stage = tokio::select! {
        stage = Stage::set(screen) => stage.map_err(|error| explain(&error))?,
        () = &mut interrupted => return Ok(Exit::Interrupted),
    };
    let walked = tokio::select! {
        walked = walk(&stage, screen) => walked.map(|()| Exit::Ok),
        () = &mut interrupted => Ok(Exit::Interrupted),
    };
    if matches!(walked, Ok(Exit::Ok)) && !once {
        go_on(&stage, screen);
        interrupted.await;
    }
    let struck = stage.strike().await;
    let exit = walked.map_err(|error| explain(&error))?;
    let left = struck.map_err(|error| explain(&error))?;
    if left > 0 {
        return Err(Failure::new(
            Exit::Failed,
            format!("{left} just-in-time roles were left when the broker had stopped"),
        ));
    }
    screen.title("Stopped. No role, no process, no file is left.");
    Ok(exit)
}

async fn walk(stage: &Stage, screen: Screen) -> anyhow::Result<()> {
    Walk::new(stage, screen)?.whole().await?;
    // What the walk showed must also be true of what it left.
    ensure!(stage.grants().is_empty(), "a grant is still in force after the walk");
    Ok(())
}

/// How to use it from another terminal.
fn go_on(stage: &Stage, screen: Screen) {
    let program = program();
    screen.title("It stays up until Ctrl-C. In another terminal:");
    let home = stage.home();
    screen.say(&format!("export DBGATE_HOME={}", home.display()));
    screen.say(&format!("export DBGATE_SERVER={}", stage.server));
    screen.say(&format!("{program} connect demo"));
    screen.say(&format!("psql \"$({program} conninfo demo)\""));
}

/// `dbgate` where a shell finds this program by that name, else the whole path.
fn program() -> String {
    let own = std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_else(|_| PathBuf::from("dbgate"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("dbgate")).find(|path| path.is_file());
    match found.and_then(|found| found.canonicalize().ok()) {
        Some(found) if found == own => "dbgate".to_owned(),
        _ => own.display().to_string(),
    }
}

/// Ends at the first Ctrl-C, `kill` or closed terminal.
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let mut signals =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    Ok(async move {
        let [interrupt, terminate, hangup] = &mut signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

fn explain(error: &anyhow::Error) -> Failure {
    let missing = error.downcast_ref::<PostgresError>();
    let exit = match missing {
        Some(PostgresError::NotInstalled | PostgresError::NotThere(_)) => Exit::Config,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("{error:#}"));
    match missing.and_then(PostgresError::hint) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
