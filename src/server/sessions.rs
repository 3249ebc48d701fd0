//! Step 3, session: the connections that are open through the gateway right now.
//!
//! A connection is registered *before* anything is done for it in the target. A grant that has ended
//! takes no new connection: the registry looks at it under the same lock that ending it takes.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::core::grant::{GrantId, SessionId};
use crate::core::time::Moment;
use crate::server::grants::LiveGrant;
use crate::sys::dial::CancelHandle;

/// Why a connection is being ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The grant's time is over.
    Expired,
    /// The principal gave the grant back.
    Revoked,
    /// The policy, the groups of the principal or the database changed: what it gives is not given any more.
    Tightened,
    /// The gateway stops.
    Stopping,
    /// Nothing can be recorded any more.
    Unrecorded,
    /// The gateway is about to stop: what runs may end, nothing new is begun.
    Draining,
}

impl EndReason {
    /// The word used in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Tightened => "tightened",
            Self::Stopping | Self::Draining => "stop",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// Whether the connection ends at once; else when its transaction is over.
    pub const fn is_immediate(self) -> bool {
        !matches!(self, Self::Draining)
    }
}

/// How a connection is told to end. One task listens: the one that serves the connection. It asks
/// before every wait, so asking must cost next to nothing.
#[derive(Default)]
pub struct Kill {
    is_told: AtomicBool,
    reason: Mutex<Option<EndReason>>,
    listener: AtomicWaker,
}

impl Kill {
    /// Gives a reason to end. The first one stays: it is the one that is recorded. Only draining can
    /// become urgent.
    pub fn tell(&self, reason: EndReason) {
        let mut current = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_none_or(|current| !current.is_immediate() && reason.is_immediate()) {
            *current = Some(reason);
            self.is_told.store(true, Ordering::Release);
            self.listener.wake();
        }
    }

    /// Why to end, if there is a reason.
    pub fn reason(&self) -> Option<EndReason> {
        if !self.is_told.load(Ordering::Acquire) {
            return None;
        }
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a reason to end at once; where the session `is_idle`, for any. Cancel safe.
    pub async fn told(&self, is_idle: bool) -> EndReason {
        poll_fn(|context| {
            // Registered before the look, so that what is told in between is not missed.
            self.listener.register(context.waker());
            match self.reason() {
                Some(reason) if is_idle || reason.is_immediate() => Poll::Ready(reason),
                Some(_) | None => Poll::Pending,
            }
        })
        .await
    }
}

/// What a cancel request must show. The process is the target's, as `pg_backend_pid()` and
/// notifications have it; the secret is of the gateway's own making.
#[derive(Clone)]
pub struct CancelKey {
    pub process: i32,
    pub secret: Vec<u8>,
}

/// One connection, as others see it.
pub struct SessionHandle {
    pub session: SessionId,
    pub grant: GrantId,
    pub target: String,
    pub database: String,
    pub started: Moment,
    /// Tells the connection to end.
    pub kill: Kill,
    /// Set once the gateway has dialled, before the client hears of it.
    pub cancel: OnceLock<CancelKey>,
    /// How to cancel what runs upstream; set once the gateway has dialled.
    pub upstream: OnceLock<CancelHandle>,
    /// Counts cancel requests, for a session that waits for people.
    pub cancelled: watch::Sender<u64>,
}

/// Every open connection of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    open: Arc<Mutex<HashMap<u64, Arc<SessionHandle>>>>,
    next: Arc<AtomicU64>,
    /// Counts departures, for those who wait for one.
    departures: Arc<watch::Sender<u64>>,
}

/// The connection is in the registry as long as this lives.
#[must_use]
pub struct Registered {
    sessions: Sessions,
    number: u64,
    handle: Arc<SessionHandle>,
}

impl Registered {
    /// What was registered.
    pub fn handle(&self) -> &Arc<SessionHandle> {
        &self.handle
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.number);
        self.sessions.departures.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self { open: Arc::default(), next: Arc::default(), departures: Arc::new(watch::Sender::new(0)) }
    }
}

impl Sessions {
    /// Enters a connection; `None` where its grant has ended in the meantime.
    pub fn register(&self, handle: SessionHandle, grant: &LiveGrant) -> Option<Registered> {
        let handle = Arc::new(handle);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.lock();
        if grant.has_ended() {
            return None;
        }
        open.insert(number, handle.clone());
        drop(open);
        Some(Registered { sessions: self.clone(), number, handle })
    }

    /// Tells every connection of a grant to end, and returns them.
    pub fn kill_grant(&self, grant: &GrantId, reason: EndReason) -> Vec<Arc<SessionHandle>> {
        self.kill_where(|handle| handle.grant == *grant, reason)
    }

    /// Tells every connection to end, and returns them.
    pub fn kill_all(&self, reason: EndReason) -> Vec<Arc<SessionHandle>> {
        self.kill_where(|_| true, reason)
    }

    fn kill_where(&self, chosen: impl Fn(&SessionHandle) -> bool, reason: EndReason) -> Vec<Arc<SessionHandle>> {
        let killed: Vec<_> = self.lock().values().filter(|handle| chosen(handle)).cloned().collect();
        for handle in &killed {
            handle.kill.tell(reason);
        }
        killed
    }

    /// Waits until no connection of the grant is left.
    pub async fn until_gone(&self, grant: &GrantId) {
        self.until(|open| !open.values().any(|handle| handle.grant == *grant)).await;
    }

    /// Waits until no connection at all is left.
    pub async fn until_empty(&self) {
        self.until(HashMap::is_empty).await;
    }

    async fn until(&self, done: impl Fn(&HashMap<u64, Arc<SessionHandle>>) -> bool) {
        let mut departures = self.departures.subscribe();
        while !done(&self.lock()) {
            // The sender lives as long as `self`, so this cannot fail.
            let _ = departures.changed().await;
        }
    }

    /// The connection with this key. Wrong keys find nothing, and the secret is compared in constant
    /// time. Processes of two targets may have one number.
    pub fn with_key(&self, process: i32, secret: &[u8]) -> Option<Arc<SessionHandle>> {
        let is_it = |key: &CancelKey| key.process == process && bool::from(key.secret.ct_eq(secret));
        self.lock().values().find(|handle| handle.cancel.get().is_some_and(is_it)).cloned()
    }

    /// Every open connection.
    pub fn open(&self) -> Vec<Arc<SessionHandle>> {
        self.lock().values().cloned().collect()
    }

    /// How many connections are open.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many connections a grant has.
    pub fn count_of(&self, grant: &GrantId) -> usize {
        self.lock().values().filter(|handle| handle.grant == *grant).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<SessionHandle>>> {
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::grants::tests::live;

    fn handle(grant: &LiveGrant, process: i32) -> SessionHandle {
        SessionHandle {
            session: grant.grant.session.clone(),
            grant: grant.grant.id.clone(),
            target: "shop".into(),
            database: "shop".into(),
            started: Moment::from_seconds(1),
            kill: Kill::default(),
            cancel: OnceLock::from(CancelKey { process, secret: vec![7; 4] }),
            upstream: OnceLock::new(),
            cancelled: watch::Sender::new(0),
        }
    }

    #[tokio::test]
    async fn killing_a_grant_reaches_its_connections_only_and_waits_for_them() {
        let (sessions, one, other) = (Sessions::default(), live(1), live(2));
        let first = sessions.register(handle(&one, 1), &one).expect("registered");
        let second = sessions.register(handle(&other, 2), &other).expect("registered");
        one.end();
        assert_eq!(sessions.kill_grant(&one.grant.id, EndReason::Revoked).len(), 1);
        assert_eq!(first.handle().kill.reason(), Some(EndReason::Revoked));
        assert_eq!(second.handle().kill.reason(), None);
        let waiting = sessions.until_gone(&one.grant.id);
        drop(first);
        waiting.await;
        assert_eq!(sessions.count(), 1);
    }

    #[test]
    fn an_ended_grant_takes_no_new_connection() {
        let (sessions, grant) = (Sessions::default(), live(1));
        assert!(sessions.register(handle(&grant, 1), &grant).is_some());
        grant.end();
        assert!(sessions.register(handle(&grant, 2), &grant).is_none());
    }

    #[test]
    fn the_first_reason_to_end_stays() {
        let (sessions, grant) = (Sessions::default(), live(1));
        let open = sessions.register(handle(&grant, 1), &grant).expect("registered");
        sessions.kill_grant(&grant.grant.id, EndReason::Expired);
        sessions.kill_all(EndReason::Stopping);
        assert_eq!(open.handle().kill.reason(), Some(EndReason::Expired));
    }

    #[test]
    fn draining_becomes_urgent_but_not_the_other_way_round() {
        let (sessions, grant) = (Sessions::default(), live(1));
        let open = sessions.register(handle(&grant, 1), &grant).expect("registered");
        sessions.kill_all(EndReason::Draining);
        assert_eq!(open.handle().kill.reason(), Some(EndReason::Draining));
        sessions.kill_all(EndReason::Stopping);
        sessions.kill_all(EndReason::Draining);
        assert_eq!(open.handle().kill.reason(), Some(EndReason::Stopping));
    }

    #[tokio::test]
    async fn a_session_hears_at_once_what_concerns_it() {
        let (sessions, grant) = (Sessions::default(), live(1));
        let open = sessions.register(handle(&grant, 1), &grant).expect("registered");
        let kill = &open.handle().kill;
        let (mut busy, mut idle) = (Box::pin(kill.told(false)), Box::pin(kill.told(true)));
        assert!(futures_util::poll!(&mut busy).is_pending() && futures_util::poll!(&mut idle).is_pending());
        sessions.kill_all(EndReason::Draining);
        assert!(futures_util::poll!(&mut busy).is_pending(), "what runs may end");
        assert_eq!(idle.await, EndReason::Draining);
        sessions.kill_all(EndReason::Stopping);
        assert_eq!(busy.await, EndReason::Stopping);
    }

    #[tokio::test]
    async fn a_session_that_waits_is_woken() {
        let (sessions, grant) = (Sessions::default(), live(1));
        let open = sessions.register(handle(&grant, 1), &grant).expect("registered");
        let waiting = tokio::spawn(async move { open.handle().kill.told(false).await });
        tokio::task::yield_now().await;
        sessions.kill_grant(&grant.grant.id, EndReason::Revoked);
        assert_eq!(waiting.await.expect("no panic"), EndReason::Revoked);
    }

    #[test]
    fn a_cancel_needs_the_key() {
        let (sessions, grant) = (Sessions::default(), live(1));
        let other =
            SessionHandle { cancel: OnceLock::from(CancelKey { process: 5, secret: vec![9; 4] }), ..handle(&grant, 5) };
        let _open = sessions.register(handle(&grant, 5), &grant).expect("registered");
        let other = sessions.register(other, &grant).expect("of another target");
        let coming = SessionHandle { cancel: OnceLock::new(), ..handle(&grant, 5) };
        let _coming = sessions.register(coming, &grant).expect("not connected yet");
        assert!(sessions.with_key(5, &[8; 4]).is_none());
        assert!(sessions.with_key(6, &[7; 4]).is_none());
        let found = sessions.with_key(5, &[9; 4]).expect("the right key");
        assert!(Arc::ptr_eq(&found, other.handle()));
    }
}
