//! Moments, as microseconds since 1970-01-01 UTC. The clock itself is in `sys`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;

/// A moment: microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the epoch; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Reads what [`Moment::rfc3339`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(Self::from_seconds(moment.unix_timestamp()))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and `length` more; saturates.
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This moment and `length` less; saturates.
    pub fn before(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to this moment; zero if it is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with whole seconds, as in `2026-11-23T20:10:00Z`.
    pub fn rfc3339(self) -> String {
        time::OffsetDateTime::from_unix_timestamp(self.seconds())
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok())
            .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_print_as_utc() {
        let moment = Moment::from_seconds(1_795_464_600);
        assert_eq!(moment.rfc3339(), "2026-11-23T20:10:00Z");
        assert_eq!((Moment::parse(&moment.rfc3339()), Moment::parse("soon")), (Some(moment), None));
    }

    #[test]
    fn time_never_runs_backwards_in_a_difference() {
        let (early, late) = (Moment::from_seconds(1), Moment::from_seconds(3));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
