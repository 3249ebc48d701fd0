//! What the prompt makes of a statement's answer beyond showing it: `\gset` keeps it, `\watch` asks again.

use std::time::Duration;

use tokio::sync::watch::Receiver;

use crate::cli::exit::Failure;
use crate::cli::typed::{self, Ran, Row, Shell};
use crate::client::connect::Session;
use crate::client::shell::meta::Watching;
use crate::client::shell::variables::Variables;
use crate::core::text;
use crate::sys::clock;

/// Columns become variables, NULL unsets one. A column without a usable name is told, and the others kept.
pub fn keep(variables: &mut Variables, prefix: &str, row: Row) {
    for (column, value) in row {
        let name = format!("{prefix}{column}");
        match value {
            Some(value) => {
                if let Err(message) = variables.set(&name, &value) {
                    eprintln!("{}", text::escape(&message));
                }
            }
            None => variables.unset(&name),
        }
    }
}

/// Runs a statement until Ctrl-C, its number of times, or the first time that it fails. Every run is
/// judged and recorded like any other statement.
pub async fn watch(open: &mut Session, sql: &str, shell: Shell<'_>, watching: Watching) -> Result<(), Failure> {
    let (tell, mut pressed) = tokio::sync::watch::channel(false);
    // Listens all the time: a key may be pressed between two runs, and during one as well.
    let listening = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            tell.send_replace(true);
        }
    });
    let mut left = watching.times;
    let outcome = loop {
        let seconds = watching.every.as_secs_f64();
        println!("{} (every {seconds}s)\n", clock::now().rfc3339());
        match typed::run(open, sql, shell).await {
            Ok(Ran::Well) => {}
            Ok(Ran::Badly) => break Ok(()),
            Err(failure) => break Err(failure),
        }
        left = left.map(|left| left.saturating_sub(1));
        if left == Some(0) || pause(watching.every, &mut pressed).await == Next::Stop {
            break Ok(());
        }
    };
    listening.abort();
    outcome
}

#[derive(PartialEq, Eq)]
enum Next {
    Run,
    Stop,
}

async fn pause(every: Duration, pressed: &mut Receiver<bool>) -> Next {
    tokio::select! {
        biased;
        Ok(_) = pressed.wait_for(|is_pressed| *is_pressed) => Next::Stop,
        () = tokio::time::sleep(every) => Next::Run,
    }
}
