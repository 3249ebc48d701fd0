//! Who may stand at the door: how many at a time, and how often after failing.
//!
//! Known and unknown users are counted alike, so that being turned away tells nothing either.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::throttle::Throttle;
use crate::server::places::{Place, Places};
use crate::sys::clock;

/// Failed sign-ins from one address within the window. Offices share an address.
const MOST_BY_ADDRESS: u32 = 30;
/// Failed sign-ins as one user within the window.
const MOST_BY_USER: u32 = 10;
/// Cancel requests with a key that nobody has, from one address within the window: those that come
/// too late are among them. A key of protocol 3.0 is a process number that others can see and 32 bits.
const MOST_WRONG_KEYS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// Connections from one address that have not signed in yet.
const MOST_WAITING: u32 = 100;

/// Counts those at the door. Cheap to clone.
#[derive(Clone)]
pub struct Keeper {
    waiting: Places,
    counts: Arc<Mutex<Counts>>,
}

struct Counts {
    by_address: Throttle<IpAddr>,
    by_user: Throttle<String>,
    by_key: Throttle<IpAddr>,
}

impl Default for Keeper {
    fn default() -> Self {
        let counts = Counts {
            by_address: Throttle::new(MOST_BY_ADDRESS, WINDOW),
            by_user: Throttle::new(MOST_BY_USER, WINDOW),
            by_key: Throttle::new(MOST_WRONG_KEYS, WINDOW),
        };
        Self { waiting: Places::new(MOST_WAITING), counts: Arc::new(Mutex::new(counts)) }
    }
}

impl Keeper {
    /// A place for a connection that has not signed in; none while its address has too many.
    pub fn place(&self, address: IpAddr) -> Option<Place> {
        self.waiting.take(address)
    }

    /// How long this sign-in is turned away; `None` when it may try.
    pub fn wait(&self, address: IpAddr, user: &str) -> Option<Duration> {
        let (counts, now) = (self.lock(), clock::now());
        counts.by_address.wait(&address, now).max(counts.by_user.wait(&user.to_owned(), now))
    }

    /// A sign-in has failed.
    pub fn failed(&self, address: IpAddr, user: &str) {
        let (mut counts, now) = (self.lock(), clock::now());
        counts.by_address.failed(address, now);
        counts.by_user.failed(user.to_owned(), now);
    }

    /// Whether a cancel request from here is looked at.
    pub fn may_cancel(&self, address: IpAddr) -> bool {
        self.lock().by_key.wait(&address, clock::now()).is_none()
    }

    /// A cancel request had a key that nobody has.
    pub fn wrong_key(&self, address: IpAddr) {
        self.lock().by_key.failed(address, clock::now());
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole between any two statements.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_too_often_is_counted_by_user_and_by_address() {
        let keeper = Keeper::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        (0..MOST_BY_USER).for_each(|_| keeper.failed(one, "u"));
        assert!(keeper.wait(other, "u").is_some(), "the user, from anywhere");
        assert!(keeper.wait(one, "v").is_none());
        (MOST_BY_USER..MOST_BY_ADDRESS).for_each(|number| keeper.failed(one, &number.to_string()));
        assert!(keeper.wait(one, "v").is_some(), "the address, as anybody");
        assert!(keeper.wait(other, "v").is_none());
    }

    #[test]
    fn whoever_guesses_keys_is_not_heard_and_others_are() {
        let keeper = Keeper::default();
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        (1..MOST_WRONG_KEYS).for_each(|_| keeper.wrong_key(one));
        assert!(keeper.may_cancel(one));
        keeper.wrong_key(one);
        assert!(!keeper.may_cancel(one) && keeper.may_cancel(other));
        assert!(keeper.wait(one, "u").is_none(), "signing in is another matter");
    }
}
