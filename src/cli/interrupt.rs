//! Ctrl-C while something runs that is not to end the program with it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::cli::exit::{Exit, Failure};
use crate::sys::dial::CancelHandle;

/// Every Ctrl-C from its making on, also one that comes before anybody asks for it. From then on, Ctrl-C does not
/// end the process by itself.
pub struct Interrupts(Signal);

impl Interrupts {
    pub fn listen() -> Result<Self, Failure> {
        watch(SignalKind::interrupt()).map(Self)
    }

    /// The next one. Cancel safe.
    pub async fn pressed(&mut self) {
        // The stream has no end.
        self.0.recv().await;
    }
}

/// Every signal of this kind from now on.
pub fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("cannot watch signals: {error}")))
}

/// Runs a statement, which each Ctrl-C asks the server to cancel. A request that is still under way when the
/// statement has ended would meet the next one, so it is waited for.
pub async fn cancelling<T>(cancel: &CancelHandle, running: impl Future<Output = T>) -> Result<T, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut requests = JoinSet::new();
    tokio::pin!(running);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut running => break outcome,
            () = interrupts.pressed() => {
                eprintln!("Cancel request sent");
                let cancel = cancel.clone();
                requests.spawn(async move { cancel.cancel().await });
            }
        }
    };
    // Whether one reached the server does not matter any more.
    while requests.join_next().await.is_some() {}
    Ok(outcome)
}
