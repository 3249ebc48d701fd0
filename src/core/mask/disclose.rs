//! Masks that show a part of a value: what is left of it, as SQL of the same kind.
//!
//! The expressions run as the owner of the masking views over every value there is, so none may
//! fail on any of them: an error message would be a value's way out.

use super::json::{self, Paths};
use super::own;
use super::shape::Shape;
use super::{SALT_SCHEMA, SALT_TABLE, SCOPE_MARK, bucket_size, identifier, literal};

/// What a mask leaves of a value that is not NULL; nothing where the mask does not fit.
pub(super) fn value(mask: &str, value: &str, shape: &Shape) -> Option<String> {
    match shape {
        Shape::Array(element) => return each(mask, value, element),
        Shape::Range { .. } => return bounds(mask, value, shape),
        Shape::Multirange(range) => return each_range(mask, value, range),
        Shape::Record { name, fields } => return own::fields(mask, value, name, fields),
        Shape::Guarded { of, .. } => return Some(own::guarded(&self::value(mask, value, of)?, shape)),
        // All others hold one value.
        _ => {}
    }
    if let Some(size) = mask.strip_prefix("bucket:").and_then(bucket_size) {
        return bucket(size, value, shape);
    }
    if let Some(paths) = mask.strip_prefix("json:").and_then(Paths::parse) {
        return match shape {
            Shape::JsonBinary => Some(json::hide(&paths, value)),
            Shape::Json => Some(json::hide_text(&paths, value)),
            _ => None,
        };
    }
    match mask {
        "email" => text_only(shape).then(|| email(value)),
        "partial" => partial(value, shape),
        "last4" => last4(value, shape),
        "year" | "month" | "day" | "hour" => cut(mask, value, shape),
        "hash" => hash(value, shape),
        _ => None,
    }
}

fn text_only(shape: &Shape) -> bool {
    matches!(shape, Shape::Text { .. })
}

/// Element by element, in one dimension; an empty array stays empty.
fn each(mask: &str, array: &str, element: &Shape) -> Option<String> {
    // Nested names would shadow each other, and PostgreSQL has no arrays of arrays.
    if matches!(element, Shape::Array(_)) {
        return None;
    }
    let inner = own::unless_null("e.v", &value(mask, "e.v", element)?, &own::null(element), element);
    // In FROM a composite type would fall apart into its fields.
    let elements = match own::has_fields(element) {
        true => format!("(select u.v, row_number() over () from (select unnest({array}) as v) as u) as e(v, n)"),
        false => format!("unnest({array}) with ordinality as e(v, n)"),
    };
    Some(format!("coalesce((select array_agg({inner} order by e.n) from {elements}), '{{}}')"))
}

/// Both bounds of a range; empty and open stay as they are. The end of a period moves to the end
/// of its year, month, day or hour.
fn bounds(mask: &str, range: &str, shape: &Shape) -> Option<String> {
    let Shape::Range { name, bound: kind, of } = shape else { return None };
    let is_period = match **of {
        Shape::Integer(_) | Shape::Numeric(_) | Shape::Float => false,
        Shape::Date | Shape::Timestamp | Shape::TimestampTz => true,
        // What is left of the others does not keep the order of the bounds: a range of them could be
        // one that PostgreSQL refuses.
        _ => return None,
    };
    // Nor do other masks keep it.
    let is_fit =
        if is_period { matches!(mask, "year" | "month" | "day" | "hour") } else { mask.starts_with("bucket:") };
    if !is_fit {
        return None;
    }
    let bound = |which: &str| value(mask, &format!("{which}({range})"), of);
    let (lower, mut upper) = (bound("lower")?, bound("upper")?);
    if is_period {
        upper = format!("({upper}) + interval '1 {mask}'");
    }
    let open =
        |which: &str, bound: &str| format!("case when {which}_inf({range}) then null else ({bound})::{kind} end");
    let (lower, upper) = (open("lower", &lower), open("upper", &upper));
    Some(format!("case when isempty({range}) then {range} else {name}({lower}, {upper}) end"))
}

/// Every range of several; those that meet become one.
fn each_range(mask: &str, ranges: &str, range: &Shape) -> Option<String> {
    let inner = bounds(mask, "e.v", range)?;
    Some(format!("coalesce((select range_agg({inner}) from unnest({ranges}) as e(v)), '{{}}')"))
}

/// First letters of name and domain, the domain's length and its ending: `u***@e******.com`. Every call
/// counts, since a table is read with it row by row; patterns cost thirty times as much.
fn email(column: &str) -> String {
    let domain = format!("split_part({column}::text, '@', 2)");
    // From its second letter to where its last label begins, dot included. Of less than no stars
    // repeat() makes none.
    let stars = format!("repeat('*', length({domain}) - position('.' in reverse({domain})) - 1)");
    format!(
        "case when position('@' in {column}::text) < 2 then '***' else left({column}::text, 1) || '***@' || \
         overlay({domain} placing {stars} from 2) end"
    )
}

/// Both ends of a long text; the network of an address; the maker of a network card.
fn partial(column: &str, shape: &Shape) -> Option<String> {
    match shape {
        Shape::Text { .. } => Some(format!(
            "case when length({column}::text) < 8 then '***' \
             else left({column}::text, 2) || '***' || right({column}::text, 2) end"
        )),
        Shape::Address => Some(format!("network({})", network(column))),
        Shape::Network => Some(network(column)),
        Shape::Hardware => Some(format!("trunc({column})")),
        _ => None,
    }
}

/// 24 bits of an IPv4 address, 48 of an IPv6 address; what is coarser stays.
fn network(column: &str) -> String {
    format!("set_masklen({column}, least(masklen({column}), case family({column}) when 4 then 24 else 48 end))")
}

/// The end of what is long enough to hide the rest: eight letters or digits.
fn last4(column: &str, shape: &Shape) -> Option<String> {
    match shape {
        Shape::Text { .. } => {
            Some(format!("case when length({column}::text) < 8 then '***' else '***' || right({column}::text, 4) end"))
        }
        // abs() of the smallest integer is an error.
        Shape::Integer("int4" | "int8") => {
            Some(format!("case when abs({column}::numeric) >= 10000000 then abs({column} % 10000) end"))
        }
        _ => None,
    }
}

/// The beginning of the year, month, day or hour, without a detour through the session's time zone.
/// Outside the centuries that a timestamp can be moved in, nothing.
fn cut(unit: &str, column: &str, shape: &Shape) -> Option<String> {
    let hour = |time: &str| format!("date_trunc('hour', ({time})::interval)");
    let (kind, moved) = match shape {
        // What is smaller goes, towards zero: `1 year 2 mons` was more than a year.
        Shape::Interval => return Some(format!("date_trunc('{unit}', {column})")),
        Shape::Time if unit == "hour" => return Some(format!("({})::time", hour(column))),
        Shape::TimeTz if unit == "hour" => {
            let time = format!("({column})::time");
            return Some(format!("{column} - (({time})::interval - {})", hour(&time)));
        }
        // The day of a date is the date.
        Shape::Date if matches!(unit, "day" | "hour") => return None,
        Shape::Date => ("date", format!("date_trunc('{unit}', {column}::timestamp)")),
        Shape::Timestamp => ("timestamp", format!("date_trunc('{unit}', {column})")),
        Shape::TimestampTz => ("timestamptz", format!("date_trunc('{unit}', {column}, 'UTC')")),
        _ => return None,
    };
    Some(format!("case when {column} between '4712-01-01 BC'::{kind} and '294275-12-31'::{kind} then {moved} end"))
}

/// The next whole multiple towards zero: never further from zero than the value, so it always fits.
fn bucket(size: u32, column: &str, shape: &Shape) -> Option<String> {
    match shape {
        Shape::Integer(kind) => Some(format!("({column} - {column}::int8 % {size})::{kind}")),
        // Not a number, and infinity, have no multiples and stay what they are.
        Shape::Numeric(_) => {
            Some(format!("case when {column} - {column} = 0 then {column} - mod({column}, {size}) else {column} end"))
        }
        // Close to the end of the range, rounding could leave it.
        Shape::Float => {
            Some(format!("case when abs({column}::float8) < 1e300 then trunc({column}::float8 / {size}) * {size} end"))
        }
        Shape::Money => Some(format!("{column}::numeric - mod({column}::numeric, {size})")),
        // So many seconds. Days and months are counted as PostgreSQL compares them, and put together
        // again; what is longer than seconds can be counted is left out.
        Shape::Interval => Some(format!(
            "case when abs(extract(epoch from {column})) < 9e12 then justify_interval({}) end",
            seconds(size, column)
        )),
        Shape::Time => Some(format!("({})::time", seconds(size, column))),
        Shape::TimeTz => {
            let time = format!("({column})::time");
            Some(format!("{column} - (({time})::interval - {})", seconds(size, &time)))
        }
        _ => None,
    }
}

/// The whole multiple of so many seconds, towards zero.
fn seconds(size: u32, column: &str) -> String {
    let all = format!("extract(epoch from {column})");
    format!("make_interval(secs => ({all} - mod({all}, {size}))::float8)")
}

/// SHA-256 under the salt of the database and the digest of the scope. Only where the result has
/// room enough that two values do not meet: 64 bits or more.
fn hash(column: &str, shape: &Shape) -> Option<String> {
    let salt = format!("(select s.value from {}.{} s)", identifier(SALT_SCHEMA), identifier(SALT_TABLE));
    // The salt goes in twice, as in HMAC, so that no value can be lengthened into another's hash.
    let digest = |bytes: &str| format!("sha256({salt} || '{SCOPE_MARK}'::bytea || sha256({salt} || {bytes}))");
    // Bytes as they are stored, whatever the encoding: a conversion's error would show some of them.
    let (one, two) = (literal("\\"), literal("\\\\"));
    let of_text = |text: &str| digest(&format!("replace({text}::text, {one}, {two})::bytea"));
    // What is written with digits and letters alone has nothing to replace.
    let of_plain = |text: &str| digest(&format!("{text}::text::bytea"));
    let letters = |digest: String, most: u32| format!("substr(encode({digest}, 'hex'), 1, {most})");
    // 63 bits: a negative number would look like an error to many a program.
    let number = |digest: String| format!("(('x' || {})::bit(64)::int8 & 9223372036854775807)", letters(digest, 16));
    match shape {
        Shape::Text { most } if most.is_none_or(|most| most >= 16) => {
            Some(letters(of_text(column), most.unwrap_or(32).min(32)))
        }
        Shape::Uuid => Some(format!("{}::uuid", letters(of_plain(column), 32))),
        Shape::Bytes => Some(digest(column)),
        Shape::Integer("int8") => Some(number(of_plain(column))),
        // Equal numbers are written alike without the zeros at their ends, as a `bigint` is.
        Shape::Numeric(room) if room.is_none_or(|digits| digits >= 19) => {
            Some(number(of_plain(&format!("trim_scale({column})"))))
        }
        // Equal values of `jsonb` are written alike; of `json` equal texts are.
        Shape::JsonBinary => Some(format!("to_jsonb({})", letters(of_text(column), 32))),
        Shape::Json => Some(format!("to_json({})", letters(of_text(column), 32))),
        // One of the addresses that belong to nobody.
        Shape::Address => Some(format!("'fd00::'::inet + {}", number(of_plain(column)))),
        Shape::Network => Some(format!("network('fd00::'::inet + {})", number(of_plain(column)))),
        _ => None,
    }
}
