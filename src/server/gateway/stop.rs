//! Stopping a statement that goes beyond its limits, in the middle of its result.
//!
//! The target is asked to cancel it. Most often the target's error comes back and is told in our
//! words. Where the statement ended first, the client gets the error all the same, what else the
//! target answers up to its Sync is kept from the client, and the transaction is made to fail.

use tokio::task::JoinHandle;

use super::relay::{Drained, Mode};
use super::session::{End, Session};
use crate::core::session::Owner;
use crate::core::wire::backend::{self, ErrorFields};
use crate::sys::clock;

/// Where the stopping of a statement stands.
#[derive(Default)]
pub enum Stop {
    #[default]
    No,
    /// The target was asked to cancel; its answer is awaited.
    Asked { reason: Box<ErrorFields>, cancel: JoinHandle<()> },
    /// The statement ended first: the client knows, the target goes on up to Sync.
    Silent,
}

impl Stop {
    /// Whether rows are dropped.
    pub fn is_going(&self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Silent)
    }

    /// Whether everything is dropped.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Silent)
    }

    /// What the client is to be told in place of the target's error.
    pub fn take_reason(&mut self) -> Option<ErrorFields> {
        match self {
            Self::Asked { reason, .. } => Some(std::mem::take(&mut **reason)),
            Self::No | Self::Silent => None,
        }
    }
}

/// Waits for a moment that may never come.
pub async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Session {
    /// The statement has used up its time.
    pub(super) fn time_is_up(&mut self) {
        let time = self.executions.front().and_then(|execution| execution.planned.cleared.limits().time);
        let seconds = time.unwrap_or_default().as_secs_f64();
        self.stop(
            "57014",
            "time_limit",
            format!("stopped after {seconds} s, the time the policy gives this statement"),
        );
    }

    /// The next row would be beyond the limit.
    pub(super) fn limit_is_reached(&mut self, limit: &str) {
        self.stop("54000", "size_limit", format!("stopped at {limit}, the most the policy lets this statement return"));
    }

    fn stop(&mut self, sqlstate: &str, code: &str, message: String) {
        let reason = ErrorFields {
            detail: Some(serde_json::json!({ "code": code, "retryable": false }).to_string()),
            hint: Some("narrow the statement, or ask for it in parts".to_owned()),
            ..ErrorFields::error(sqlstate, message)
        };
        let handle = self.registered.handle().upstream.get().cloned();
        let cancel = tokio::spawn(async move {
            if let Some(handle) = handle
                && let Err(error) = handle.cancel().await
            {
                tracing::warn!(%error, "a cancel request did not reach the target");
            }
        });
        self.stop = Stop::Asked { reason: Box::new(reason), cancel };
    }

    /// After a round: a cancel that is still under way must not meet the next statement.
    pub(super) async fn cancel_delivered(&mut self) {
        if matches!(self.stop, Stop::Asked { .. })
            && let Stop::Asked { cancel, .. } = std::mem::take(&mut self.stop)
            && cancel.await.is_err()
        {
            tracing::warn!("the task that cancels a statement failed");
        }
    }

    /// The statement ended before the cancel reached it.
    pub(super) async fn ended_before_cancel(&mut self, number: u64, drained: &mut Drained) -> Result<(), End> {
        let Some(fields) = self.stop.take_reason() else { return Ok(()) };
        self.cancel_delivered().await;
        self.stop = Stop::Silent;
        drained.failed = true;
        self.held.is_unsure = true;
        self.held_out.clear();
        self.executions.clear();
        self.client.error(&fields);
        self.record.error(number, &fields.sqlstate, clock::now()).await?;
        Ok(())
    }

    /// Ends the silence once the target has answered the client's Sync.
    pub(super) async fn end_silence(&mut self, mode: Mode) -> Result<(), End> {
        self.stop = Stop::No;
        if self.status == b'T' {
            self.ask_veto();
            self.ask_sync(Owner::Client);
            self.round(mode).await?;
        } else {
            backend::write_ready(self.status, self.client.out());
        }
        Ok(())
    }
}
