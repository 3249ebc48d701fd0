//! What the prompt makes of a statement's answer beyond showing it: `\gset` keeps it, `\watch` asks again.

use std::time::Duration;

use crate::cli::exit::Failure;
use crate::cli::interrupt::Interrupts;
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
    // Listens all the time: a key may be pressed between two runs, and during one as well.
    let mut interrupts = Interrupts::listen()?;
    let mut left = watching.times;
    loop {
        let seconds = watching.every.as_secs_f64();
        println!("{} (every {seconds}s)\n", clock::now().rfc3339());
        let ran = typed::run(open, sql, shell).await?;
        left = left.map(|left| left.saturating_sub(1));
        if ran == Ran::Badly || left == Some(0) || pause(watching.every, &mut interrupts).await == Next::Stop {
            return Ok(());
        }
    }
}

#[derive(PartialEq, Eq)]
enum Next {
    Run,
    Stop,
}

async fn pause(every: Duration, interrupts: &mut Interrupts) -> Next {
    tokio::select! {
        biased;
        () = interrupts.pressed() => Next::Stop,
        () = tokio::time::sleep(every) => Next::Run,
    }
}
