//! Whether a fixed value fits a column's type, for the types whose values can be read here.

use time::{Date, Month, Time};

use super::shape::Shape;

/// Whether PostgreSQL would take the text as a value of the type. Types that cannot be judged
/// here (composite types, ranges but the empty one) count as misfits.
pub(super) fn fits(value: &str, shape: &Shape, type_name: &str) -> bool {
    match shape {
        Shape::Text { .. } => !value.contains('\0'),
        Shape::Integer("int2") => value.parse::<i16>().is_ok(),
        Shape::Integer("int4") => value.parse::<i32>().is_ok(),
        Shape::Integer(_) => value.parse::<i64>().is_ok(),
        Shape::Numeric(_) => digits(value).is_some_and(|whole| whole <= room(type_name)),
        Shape::Float => digits(value).is_some_and(|whole| whole <= 15),
        Shape::Date => is_date(value),
        Shape::Timestamp | Shape::TimestampTz => is_date(value) || is_moment(value),
        Shape::Uuid => is_uuid(value),
        Shape::Json | Shape::JsonBinary => {
            // PostgreSQL refuses in `jsonb` what JSON allows: NUL and numbers without end.
            serde_json::from_str::<serde_json::Value>(value).is_ok() && !value.contains("\\u")
        }
        Shape::Array(_) | Shape::Multirange(_) => value == "{}",
        Shape::Range { .. } => value == "empty",
        Shape::Boolean => matches!(value, "true" | "false"),
        Shape::Labels(labels) => labels.iter().any(|label| label == value),
        Shape::Time => is_clock(value),
        Shape::Address => is_address(value),
        Shape::Bytes => value.strip_prefix("\\x").is_some_and(|hex| hex.len().is_multiple_of(2) && is_hex(hex)),
        // How much money a text means depends on the server's locale.
        Shape::Money
        | Shape::TimeTz
        | Shape::Interval
        | Shape::Network
        | Shape::Hardware
        | Shape::Record { .. }
        | Shape::Guarded { .. }
        | Shape::Opaque => false,
    }
}

/// Digits before the point of a plain decimal number.
fn digits(value: &str) -> Option<usize> {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain(whole) && plain(part)).then(|| whole.trim_start_matches('0').len())
}

/// Digits that `numeric(precision, scale)` has room for before the point, with one to spare for
/// rounding up.
fn room(base: &str) -> usize {
    let Some((_, rest)) = base.split_once('(') else { return 1000 };
    let mut numbers = rest.trim_end_matches(')').split(',').map(|part| part.trim().parse::<usize>().unwrap_or(0));
    let (precision, scale) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    precision.saturating_sub(scale).saturating_sub(1)
}

/// `2025-02-28`, and no other spelling.
fn is_date(value: &str) -> bool {
    let mut parts = value.split('-').map(|part| part.parse::<u8>().ok());
    let Some(year) = value.get(..4).and_then(|year| year.parse::<u16>().ok()) else { return false };
    let (month, day) = (parts.by_ref().nth(1).flatten(), parts.next().flatten());
    let (Some(month), Some(day)) = (month.and_then(|month| Month::try_from(month).ok()), day) else { return false };
    value.len() == 10 && year > 0 && Date::from_calendar_date(year.into(), month, day).is_ok()
}

/// `2025-02-28 23:59:59`
fn is_moment(value: &str) -> bool {
    value.split_once(' ').is_some_and(|(date, clock)| is_date(date) && is_clock(clock))
}

/// `23:59:59`
fn is_clock(value: &str) -> bool {
    let mut parts = value.split(':').map(|part| part.parse::<u8>().ok());
    let mut next = || parts.next().flatten();
    let (Some(hour), Some(minute), Some(second)) = (next(), next(), next()) else { return false };
    value.len() == 8 && Time::from_hms(hour, minute, second).is_ok()
}

fn is_hex(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `10.1.2.3`; a zero in front of a number means different things to different programs.
fn is_address(value: &str) -> bool {
    let is_number = |part: &str| part.parse::<u8>().is_ok_and(|number| number.to_string() == part);
    value.split('.').count() == 4 && value.split('.').all(is_number)
}

fn is_uuid(value: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, u8)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    value.len() == 36 && value.bytes().enumerate().all(fits)
}
