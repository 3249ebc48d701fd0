//! How far one statement may go: rows, bytes and time, from `@limit("100000 rows, 16 MiB, 30 s")`;
//! and how long a transaction may lie open and idle behind it, from `@limit("5 min idle")`. How
//! large a write may be to be kept for taking it back, and for how long: `@undo("100 rows, 72 h")`.
//!
//! A limit is an obligation, not a refusal: a `forbid` of `execute` with `@limit` forbids what
//! lies beyond it. Several that match one statement add up to the lowest of each kind.

use std::time::Duration;

/// Rows that can be taken back by one statement.
const MOST_ROWS: u64 = 1_000;
/// What is kept is a copy of the target's data: not for ever.
const LONGEST_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

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
    /// What is kept of a write; nothing where no rule says so.
    pub undo: Option<Undo>,
}

/// Which writes can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    /// Of a write that changes more, nothing is kept.
    pub rows: u64,
    /// For how long it is kept.
    pub keep: Duration,
}

impl Undo {
    /// Reads the annotation's text; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not how writes are kept: write it as in `100 rows, 72 h`");
        let (rows, keep) = text.split_once(',').ok_or_else(wrong)?;
        let rows: u64 = rows.trim().strip_suffix(" rows").and_then(|rows| rows.parse().ok()).ok_or_else(wrong)?;
        let (number, unit) = keep.trim().split_once(' ').ok_or_else(wrong)?;
        let minutes = match unit {
            "min" => 1,
            "h" => 60,
            "days" => 24 * 60,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let keep = number.checked_mul(minutes * 60).map(Duration::from_secs).ok_or_else(wrong)?;
        if rows == 0 || rows > MOST_ROWS || keep.is_zero() || keep > LONGEST_KEPT {
            return Err(format!("`{text}`: at least a row and a minute, at most {MOST_ROWS} rows and 30 days"));
        }
        Ok(Self { rows, keep })
    }

    fn and(self, other: Self) -> Self {
        Self { rows: self.rows.min(other.rows), keep: self.keep.min(other.keep) }
    }
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
        Self { rows: Some(1), bytes: Some(1), time: second, idle: second, undo: None }
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
            undo: match (self.undo, other.undo) {
                (Some(one), Some(other)) => Some(one.and(other)),
                (one, other) => one.or(other),
            },
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
            undo: None,
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
    fn what_is_kept_of_writes_has_rows_and_a_time() {
        let day = Duration::from_secs(24 * 60 * 60);
        assert_eq!(Undo::parse("100 rows, 72 h"), Ok(Undo { rows: 100, keep: 3 * day }));
        assert_eq!(Undo::parse("1 rows, 30 days"), Ok(Undo { rows: 1, keep: 30 * day }));
        for wrong in [
            "",
            "100 rows",
            "100, 1 h",
            "0 rows, 1 h",
            "5 rows, 0 h",
            "5 rows, 31 days",
            "5 rows, 1 week",
            "1001 rows, 1 h",
        ] {
            assert!(Undo::parse(wrong).is_err(), "{wrong}");
        }
        let both = |one: &str, other: &str| Undo::parse(one).and_then(|one| Ok(one.and(Undo::parse(other)?)));
        assert_eq!(both("9 rows, 2 h", "8 rows, 3 h"), Undo::parse("8 rows, 2 h"));
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
