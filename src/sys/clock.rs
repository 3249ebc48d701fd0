//! The wall clock. The only place that reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::time::Moment;

/// Now, in UTC. A clock before 1970 reads as 1970.
pub fn now() -> Moment {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Moment::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
