//! How long a session waits for its client. What runs has its time and an open transaction its rest,
//! whether the client reads what it is sent or not.

use super::session::{End, Session};
use super::stop::Alarm;

/// A moment at which the session does not wait any longer.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    at: tokio::time::Instant,
    /// Of an open transaction in which nothing happens, rather than of what runs.
    is_of_idling: bool,
}

impl Limit {
    /// Waits for one that may never come. Cancel safe.
    pub(super) async fn reached(limit: Option<Self>, alarm: &mut Alarm) -> Self {
        let Some(limit) = limit else { return std::future::pending().await };
        alarm.at(Some(limit.at)).await;
        limit
    }
}

impl Session {
    /// When the time of what runs is up, if it is not being stopped.
    pub(super) fn running_until(&self) -> Option<tokio::time::Instant> {
        let until = || self.executions.front().map_or(self.ahead.filling.map(|one| one.until), |one| one.deadline);
        (!self.pipeline.is_empty() && !self.stop.is_going()).then(until).flatten()
    }

    /// Writes to the client while a statement runs, which has its time whether the client reads or not. What is
    /// being stopped waits for no client: the target ends it once it is read from.
    pub(super) async fn write_client(&mut self) -> Result<(), End> {
        if self.stop.is_going() {
            return self.client.push().await;
        }
        let deadline = self.running_until();
        tokio::select! {
            biased;
            done = self.client.flush() => done,
            reason = self.registered.handle().kill.told(false) => Err(End::Killed(reason)),
            () = self.alarm.at(deadline), if deadline.is_some() => {
                self.time_is_up();
                Ok(())
            }
        }
    }

    /// Writes to the client, unless the session is ended meanwhile.
    pub(super) async fn flush_client(&mut self) -> Result<(), End> {
        tokio::select! {
            biased;
            done = self.client.flush() => done,
            reason = self.registered.handle().kill.told(false) => Err(End::Killed(reason)),
        }
    }

    /// Until when it may be waited for the client.
    pub(super) fn limit(&self) -> Option<Limit> {
        // Also what was flushed without a Sync holds a transaction open.
        let is_open = self.status != b'I' || self.is_dirty || !self.pipeline.is_empty() || self.pipeline.is_open();
        let idle = self.idle.filter(|_| is_open);
        let idle = idle.and_then(|idle| tokio::time::Instant::now().checked_add(idle));
        // What was sent ahead runs already.
        let running = self.running_until().filter(|_| !self.is_skipping).map(|at| Limit { at, is_of_idling: false });
        let idle = idle.map(|at| Limit { at, is_of_idling: true });
        running.into_iter().chain(idle).min_by_key(|limit| limit.at)
    }

    /// Writes to a client that does not take all at once; or the limit that has come meanwhile.
    pub(super) async fn written(&mut self) -> Result<Option<Limit>, End> {
        let limit = self.limit();
        tokio::select! {
            biased;
            done = self.client.flush() => done.map(|()| None),
            reason = self.registered.handle().kill.told(false) => Err(End::Killed(reason)),
            () = &mut self.expiry => Err(End::Expired),
            limit = Limit::reached(limit, &mut self.alarm) => Ok(Some(limit)),
        }
    }

    pub(super) async fn time_has_come(&mut self, limit: Limit) -> Result<(), End> {
        match limit.is_of_idling {
            true => Err(End::Idle),
            // Reading the answer finds that its time is up.
            false => self.on_flush().await,
        }
    }
}
