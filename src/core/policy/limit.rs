//! How far one statement may go: rows, bytes and time, from `@limit("100000 rows, 16 MiB, 30 s")`;
//! and how long a transaction may lie open and idle behind it, from `@limit("5 min idle")`.
//!
//! A limit is an obligation, not a refusal: a `forbid` of `execute` with `@limit` forbids what
//! lies beyond it. Several that match one statement add up to the lowest of each kind.

use std::time::Duration;

/// What a statement may use up; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows that come back, also those of COPY TO.
    pub rows: Option<u64>,
    /// Bytes of their values, as they come from the target.
    pub bytes: Option<u64>,
    /// From Execute to the command tag.
    pub time: Option<Duration>,
    /// How long its transaction may wait for the next statement, with its locks held.
    pub idle: Option<Duration>,
}

impl Limits {
    /// Reads the annotation's text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split(',').map(str::trim) {
            let wrong = || format!("`{part}` is no limit: write it as in `100000 rows, 16 MiB, 30 s`");
            let (number, unit) = part.split_once(' ').ok_or_else(wrong)?;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            if number == 0 {
                return Err(format!("`{part}` would stop everything"));
            }
            let bytes = |size: u64| number.checked_mul(size).ok_or_else(wrong);
            match unit.trim() {
                "rows" => limits.rows = Some(number),
                "KiB" => limits.bytes = Some(bytes(1024)?),
                "MiB" => limits.bytes = Some(bytes(1024 * 1024)?),
                "GiB" => limits.bytes = Some(bytes(1024 * 1024 * 1024)?),
                unit => match unit.strip_suffix(" idle") {
                    Some(unit) => limits.idle = Some(duration(number, unit).ok_or_else(wrong)?),
                    None => limits.time = Some(duration(number, unit).ok_or_else(wrong)?),
                },
            }
        }
        Ok(limits)
    }

    /// The lowest there are.
    pub fn least() -> Self {
        let second = Some(Duration::from_secs(1));
        Self { rows: Some(1), bytes: Some(1), time: second, idle: second }
    }

    /// The lower of each.
    pub fn and(self, other: Self) -> Self {
        fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            rows: lower(self.rows, other.rows),
            bytes: lower(self.bytes, other.bytes),
            time: lower(self.time, other.time),
            idle: lower(self.idle, other.idle),
        }
    }

    /// Which limit these numbers are beyond, as words for a person: "100000 rows".
    pub fn exceeded(&self, rows: u64, bytes: u64) -> Option<String> {
        let rows_over = self.rows.filter(|most| rows > *most).map(|most| format!("{most} rows"));
        rows_over.or_else(|| self.bytes.filter(|most| bytes > *most).map(|most| format!("{most} bytes")))
    }
}

fn duration(number: u64, unit: &str) -> Option<Duration> {
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "min" => Some(Duration::from_secs(number.saturating_mul(60))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_their_units_and_nothing_else() {
        let all = Limits::parse("100000 rows, 16 MiB, 30 s").expect("limits");
        let expected = Limits {
            rows: Some(100_000),
            bytes: Some(16 * 1024 * 1024),
            time: Some(Duration::from_secs(30)),
            idle: None,
        };
        assert_eq!(all, expected);
        assert_eq!(Limits::parse("5 min").expect("time").time, Some(Duration::from_secs(300)));
        let idle = Limits { idle: Some(Duration::from_secs(300)), ..Limits::default() };
        assert_eq!(Limits::parse("5 min idle"), Ok(idle));
        for wrong in [
            "5 rows idle",
            "5 idle",
            "",
            "rows",
            "10",
            "10 lines",
            "-1 rows",
            "0 rows",
            "1 rows,",
            "99999999999999999999 rows",
        ] {
            assert!(Limits::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_lower_of_two_limits_holds_and_is_named_when_it_is_passed() {
        let both = Limits::parse("10 rows, 5 s").expect("a").and(Limits::parse("20 rows, 1 KiB").expect("b"));
        assert_eq!(both, Limits::parse("10 rows, 1 KiB, 5 s").expect("both"));
        assert_eq!(both.exceeded(10, 1024), None);
        assert_eq!(both.exceeded(11, 0).as_deref(), Some("10 rows"));
        assert_eq!(both.exceeded(1, 1025).as_deref(), Some("1024 bytes"));
        assert_eq!(Limits::default().exceeded(u64::MAX, u64::MAX), None);
    }
}
