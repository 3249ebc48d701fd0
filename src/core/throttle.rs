//! Step 1, login: how often somebody may fail before being turned away for a while.
//!
//! What is counted is bounded: when there is no room, the oldest count is forgotten. Whoever can
//! fill it from that many addresses is not stopped by counting them.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::core::time::Moment;

/// Most keys that are counted at a time.
const MOST_KEYS: usize = 10_000;

/// Failures by key within a window of time.
#[derive(Debug)]
pub struct Throttle<K> {
    most: u32,
    window: Duration,
    failures: HashMap<K, (Moment, u32)>,
}

impl<K: Hash + Eq + Clone> Throttle<K> {
    /// Lets `most` failures pass within `window`.
    pub fn new(most: u32, window: Duration) -> Self {
        Self { most, window, failures: HashMap::new() }
    }

    /// How long `key` is still turned away; `None` when it may try.
    pub fn wait(&self, key: &K, now: Moment) -> Option<Duration> {
        let (first, count) = self.failures.get(key)?;
        let left = self.window.saturating_sub(now.since(*first));
        (*count >= self.most && !left.is_zero()).then_some(left)
    }

    /// Counts a failure.
    pub fn failed(&mut self, key: K, now: Moment) {
        let window = self.window;
        if self.failures.len() >= MOST_KEYS && !self.failures.contains_key(&key) {
            self.failures.retain(|_, (first, _)| now.since(*first) < window);
            if self.failures.len() >= MOST_KEYS
                && let Some(oldest) =
                    self.failures.iter().min_by_key(|(_, (first, _))| *first).map(|(key, _)| key.clone())
            {
                self.failures.remove(&oldest);
            }
        }
        let (first, count) = self.failures.entry(key).or_insert((now, 0));
        if now.since(*first) >= window {
            (*first, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_too_often_waits_and_others_do_not() {
        let mut throttle = Throttle::new(3, Duration::from_secs(60));
        let at = Moment::from_seconds;
        for second in 0..3 {
            assert_eq!(throttle.wait(&"a", at(second)), None);
            throttle.failed("a", at(second));
        }
        assert_eq!(throttle.wait(&"a", at(10)), Some(Duration::from_secs(50)));
        assert_eq!(throttle.wait(&"b", at(10)), None);
        assert_eq!(throttle.wait(&"a", at(60)), None);
        throttle.failed("a", at(61));
        assert_eq!(throttle.wait(&"a", at(62)), None, "the window began anew");
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let mut throttle = Throttle::new(1, Duration::from_secs(60));
        for key in 0..MOST_KEYS + 5 {
            throttle.failed(key, Moment::from_seconds(i64::try_from(key / 1000).expect("small")));
        }
        assert_eq!(throttle.failures.len(), MOST_KEYS);
        assert!(throttle.wait(&(MOST_KEYS + 4), Moment::from_seconds(12)).is_some());
    }
}
