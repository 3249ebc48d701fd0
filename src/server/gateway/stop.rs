//! Stopping a statement that goes beyond its limits, in the middle of its result.
//!
//! The target is asked to cancel it. Most often the target's error comes back and is told in our
//! words. Where the statement ended first, the client gets the error all the same, what else the
//! target answers up to its Sync is kept from the client, and the transaction is made to fail.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use super::relay::{Drained, Mode};
use super::session::{End, Session};
use crate::core::session::Owner;
use crate::core::wire::backend::{self, ErrorFields};
use crate::sys::clock;

/// Later than any deadline that is close.
const FAR: Duration = Duration::from_secs(24 * 3600);

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
    /// Whether nothing is being stopped.
    pub fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }

    /// Whether rows are dropped.
    pub fn is_going(&self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Silent)
    }

    /// Whether the cancel has not been answered yet.
    pub fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
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

/// The clock of a session, for whatever has a deadline. It is set rarely: most statements end long
/// before theirs, and setting a clock for each and taking it away again costs more than they do.
/// It rings at the latest when it must; if it rings early, it is set anew.
pub struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub fn new() -> Self {
        // Not set before the first deadline.
        Self(Box::pin(tokio::time::sleep(FAR)))
    }

    /// Waits for a moment that may never come. Cancel safe.
    pub async fn at(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return std::future::pending().await };
        poll_fn(|context| {
            if self.0.deadline() > deadline {
                self.0.as_mut().reset(deadline);
            }
            ready!(self.0.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline);
            self.0.as_mut().poll(context)
        })
        .await
    }
}

impl Session {
    /// The statement has used up its time.
    pub(super) fn time_is_up(&mut self) {
        let running = self.executions.front();
        let time = running.map_or(self.ahead.filling.map(|one| one.time), |execution| execution.limits().time);
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

    /// A row is too long to be looked through.
    pub(super) fn row_is_too_long(&mut self) {
        self.stop("54000", "content_scan", "stopped at a row that is too long to be looked through".to_owned());
    }

    /// What comes behind a write whose commit is not certain yet is kept until it is.
    pub(super) fn too_much_is_held(&mut self) {
        let message = "stopped: behind a write that is not committed yet, too much would have to be kept";
        self.stop("54000", "held_result", message.to_owned());
    }

    /// COPY in the binary format cannot be looked through.
    pub(super) fn copy_is_unreadable(&mut self) {
        let message = "stopped: contents are looked through here, which COPY in the binary format does not allow";
        self.stop("42501", "content_scan", message.to_owned());
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
    pub(super) async fn ended_before_cancel(
        &mut self,
        number: u64,
        part: u32,
        drained: &mut Drained,
    ) -> Result<(), End> {
        let Some(fields) = self.stop.take_reason() else { return Ok(()) };
        self.cancel_delivered().await;
        self.stop = Stop::Silent;
        drained.failed = true;
        self.held.is_unsure = true;
        self.held_out.clear();
        self.people.note_failure(&fields.sqlstate, &fields.message);
        self.client.error(&fields);
        self.record.told(&fields.sqlstate);
        self.record.error(number, part, &fields.sqlstate, clock::now()).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_at_each_deadline_and_not_before() {
        let begun = Instant::now();
        let after = |millis| begun + Duration::from_millis(millis);
        let mut alarm = Alarm::new();
        // The first is given up, the second is later: the clock rings early and is set anew.
        let _ = futures_util::poll!(Box::pin(alarm.at(Some(after(5)))));
        alarm.at(Some(after(9))).await;
        assert!(Instant::now() >= after(9));
        // Sooner than what the clock was set to.
        assert!(futures_util::poll!(Box::pin(alarm.at(Some(after(3_600_000))))).is_pending());
        alarm.at(Some(after(20))).await;
        assert!(Instant::now() >= after(20));
        assert!(futures_util::poll!(Box::pin(alarm.at(Some(begun)))).is_ready(), "it is past");
        assert!(futures_util::poll!(Box::pin(alarm.at(None))).is_pending());
    }
}
