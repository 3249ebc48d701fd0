//! What can cut a running statement short.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Why a statement is to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM: the whole program is to end.
    Terminate,
    /// `--timeout` has elapsed.
    Deadline,
}

/// Waits for reasons to stop. While one exists, Ctrl-C no longer ends the program by itself.
pub struct Stops {
    interrupt: Signal,
    terminate: Signal,
    deadline: Option<Instant>,
}

impl Stops {
    /// Listens for signals from now on; `timeout` counts from now, too.
    pub fn listen(timeout: Option<Duration>) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        })
    }

    /// The next reason. Cancel safe. The deadline is told once.
    pub async fn next(&mut self) -> Stop {
        let deadline = self.deadline;
        let elapsed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
            () = elapsed => {
                self.deadline = None;
                Stop::Deadline
            }
        }
    }

    /// Forgets signals that came while nothing was running.
    pub fn clear(&mut self) {
        use futures_util::FutureExt as _;
        while self.interrupt.recv().now_or_never().is_some() {}
    }

    /// Whether the time is over, without waiting.
    pub fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }
}
