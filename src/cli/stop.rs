//! What ends a script early: Ctrl-C, SIGTERM, `--timeout`. The running statement is cancelled at
//! the server and the session ends in order, so that its transcript is signed and handed in.

use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cli::exit::{Exit, Failure};
use crate::cli::interrupt::{self, Interrupts};
use crate::sys::dial::CancelHandle;

/// How long a server may take to answer a cancel request before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches while a script runs. From its making on, Ctrl-C does not end the process by itself;
/// a second one does.
pub struct Watch {
    stopped: watch::Receiver<Option<Exit>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Begins to watch; what runs on `cancel`'s connection is cancelled when it is time to stop.
    pub fn begin(cancel: CancelHandle, deadline: Option<Instant>) -> Result<Self, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let mut terminate = interrupt::watch(SignalKind::terminate())?;
        let (tell, stopped) = watch::channel(None);
        let task = tokio::spawn(async move {
            let exit = tokio::select! {
                () = interrupts.pressed() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
                () = elapsed(deadline) => Exit::Timeout,
            };
            tell.send_replace(Some(exit));
            eprintln!("Cancel request sent");
            // It may have ended by itself, and a gateway that is gone cannot be asked.
            let asking = async {
                let _ = cancel.cancel().await;
                std::future::pending().await
            };
            tokio::select! {
                () = interrupts.pressed() => {}
                _ = terminate.recv() => {}
                () = asking => {}
            }
            // Asked for twice: the person does not want to wait for an orderly end.
            #[expect(clippy::disallowed_methods, reason = "a second Ctrl-C ends the process at once")]
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
        Ok(Self { stopped, task })
    }

    /// Why the script is to stop, if it is.
    pub fn stopped(&self) -> Option<Exit> {
        *self.stopped.borrow()
    }

    /// Returns when a stop is asked for.
    pub async fn asked(&self) -> Exit {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Interrupted),
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when a stop was asked for and the server has had its time to answer.
    pub async fn overdue(&self) {
        let mut stopped = self.stopped.clone();
        if stopped.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn elapsed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The failure that a stop is, where no statement tells of it.
pub fn failure(exit: Exit) -> Failure {
    match exit {
        Exit::Timeout => Failure::new(exit, "The time limit elapsed; what ran was cancelled.").hint("Raise --timeout"),
        other => Failure::new(other, "Stopped; what ran was cancelled."),
    }
}
