//! How many sessions one principal has at a target, and how many more are on their way there.
//!
//! What must stay true: the target's connections are not one principal's to use up, whatever number of
//! grants they have, and the last of them are left to those who do not come through here.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the configuration does not say: more than a pool of one program takes, and a fifth of what
/// PostgreSQL serves unless it is told otherwise.
pub const USUAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(20 - 1);

/// Of a target's connections so many in a hundred are left to others where the configuration does not
/// say, but no more than [`MOST_LEFT`].
const LEFT_IN_A_HUNDRED: u32 = 10;
const MOST_LEFT: u32 = 10;

/// Connections that are left to others, of so many that a target serves.
pub fn left_to_others(configured: Option<u32>, serves: u32) -> u32 {
    configured.unwrap_or_else(|| (serves.saturating_mul(LEFT_IN_A_HUNDRED) / 100).min(MOST_LEFT))
}

/// Everybody's sessions at one target.
pub struct Seats {
    most: NonZeroU32,
    taken: Mutex<HashMap<String, u32>>,
    coming: AtomicU32,
}

/// One session among those of its principal, given back on drop.
#[must_use]
pub struct Seat<'s> {
    seats: &'s Seats,
    principal: Box<str>,
}

/// A session on its way to the target, which does not count it yet.
#[must_use]
pub struct Coming<'s>(&'s Seats);

impl Seats {
    pub fn new(most: NonZeroU32) -> Self {
        Self { most, taken: Mutex::default(), coming: AtomicU32::new(0) }
    }

    /// How many a principal may have.
    pub const fn most(&self) -> u32 {
        self.most.get()
    }

    /// A seat for one more session of this principal, if there is one.
    pub fn take(&self, principal: String) -> Option<Seat<'_>> {
        let mut taken = self.lock();
        if taken.get(&principal).is_some_and(|count| *count >= self.most()) {
            return None;
        }
        let seat = Seat { seats: self, principal: principal.as_str().into() };
        let count = taken.entry(principal).or_default();
        *count = count.saturating_add(1);
        Some(seat)
    }

    /// From now on a session is on its way.
    pub fn come(&self) -> Coming<'_> {
        self.coming.fetch_add(1, Ordering::AcqRel);
        Coming(self)
    }

    /// How many are on their way.
    pub fn coming(&self) -> u32 {
        self.coming.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        // Counts are whole between any two statements.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(count) = taken.get_mut(&*self.principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&*self.principal);
            }
        }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.coming.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_by_principal_and_given_back() {
        let seats = Seats::new(NonZeroU32::new(2).expect("two"));
        let take = |who: &str| seats.take(who.to_owned());
        let (first, _second) = (take("ana").expect("one"), take("ana").expect("two"));
        assert!(take("ana").is_none());
        assert!(take("bea").is_some(), "another principal");
        drop(first);
        assert!(take("ana").is_some_and(|_third| take("ana").is_none()));
        assert!(take("ana").is_some(), "what was not taken is not counted");
    }

    #[test]
    fn a_small_target_leaves_few_and_a_large_one_no_more_than_some() {
        let usual = [(20, 2), (100, 10), (1_000, 10), (5, 0)];
        usual.into_iter().for_each(|(serves, left)| assert_eq!(left_to_others(None, serves), left, "{serves}"));
        assert_eq!(left_to_others(Some(0), 100), 0);
        assert_eq!(left_to_others(Some(40), 100), 40);
    }
}
