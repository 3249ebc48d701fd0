//! PostgreSQL values as JSON, and the names of types.
//!
//! No value changes on its way: what a JSON number cannot hold exactly in every reader (int8,
//! numeric, money, NaN, infinities) is a string; json and jsonb are embedded as they are.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// JSON readers that hold numbers as doubles keep integers up to here.
const LARGEST_OID_AS_NUMBER: u32 = 1 << 31;

/// The JSON spelling of one value that came as text. `None` is NULL.
pub fn json(type_oid: u32, value: Option<&[u8]>) -> Cow<'static, str> {
    let Some(bytes) = value else { return Cow::Borrowed("null") };
    let text = String::from_utf8_lossy(bytes);
    let spelled = match type_oid {
        16 => match text.as_ref() {
            "t" => Some(Cow::Borrowed("true")),
            "f" => Some(Cow::Borrowed("false")),
            _ => None,
        },
        21 | 23 => number(&text),
        26 => text.parse().ok().filter(|oid: &u32| *oid <= LARGEST_OID_AS_NUMBER).and_then(|_| number(&text)),
        // PostgreSQL spells finite floats so that they read back exactly; NaN and Infinity are not JSON.
        700 | 701 => number(&text),
        114 | 3802 => document(&text),
        _ => None,
    };
    spelled.unwrap_or_else(|| string(&text))
}

/// A number kept digit by digit, if JSON can spell it.
fn number(text: &str) -> Option<Cow<'static, str>> {
    serde_json::from_str::<serde_json::Number>(text).ok().map(|_| Cow::Owned(text.to_owned()))
}

/// A JSON document on one line. A line break in valid JSON can only stand between tokens.
fn document(text: &str) -> Option<Cow<'static, str>> {
    serde_json::from_str::<&RawValue>(text).ok().map(|_| Cow::Owned(text.trim().replace(['\n', '\r'], " ")))
}

/// Any text as a JSON string.
pub fn string(text: &str) -> Cow<'static, str> {
    Cow::Owned(serde_json::Value::from(text).to_string())
}

/// One row as a JSON array.
pub fn row(types: &[u32], values: &[Option<&[u8]>]) -> String {
    let cells: Vec<_> =
        values.iter().enumerate().map(|(index, value)| json(types.get(index).copied().unwrap_or(0), *value)).collect();
    format!("[{}]", cells.join(","))
}

/// The name of a built-in type; of any other its OID, because only the catalog knows it.
#[expect(clippy::too_many_lines, reason = "a table, one type a line")]
pub fn type_name(oid: u32) -> Cow<'static, str> {
    let name = match oid {
        16 => "bool",
        17 => "bytea",
        18 => "char",
        19 => "name",
        20 => "int8",
        21 => "int2",
        22 => "int2vector",
        23 => "int4",
        24 => "regproc",
        25 => "text",
        26 => "oid",
        27 => "tid",
        28 => "xid",
        29 => "cid",
        30 => "oidvector",
        114 => "json",
        142 => "xml",
        194 => "pg_node_tree",
        199 => "json[]",
        600 => "point",
        601 => "lseg",
        602 => "path",
        603 => "box",
        604 => "polygon",
        628 => "line",
        650 => "cidr",
        700 => "float4",
        701 => "float8",
        705 => "unknown",
        718 => "circle",
        774 => "macaddr8",
        790 => "money",
        829 => "macaddr",
        869 => "inet",
        1000 => "bool[]",
        1001 => "bytea[]",
        1003 => "name[]",
        1005 => "int2[]",
        1007 => "int4[]",
        1009 => "text[]",
        1014 => "bpchar[]",
        1015 => "varchar[]",
        1016 => "int8[]",
        1021 => "float4[]",
        1022 => "float8[]",
        1028 => "oid[]",
        1033 => "aclitem",
        1034 => "aclitem[]",
        1042 => "bpchar",
        1043 => "varchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1115 => "timestamp[]",
        1182 => "date[]",
        1184 => "timestamptz",
        1185 => "timestamptz[]",
        1186 => "interval",
        1187 => "interval[]",
        1231 => "numeric[]",
        1266 => "timetz",
        1560 => "bit",
        1562 => "varbit",
        1700 => "numeric",
        2205 => "regclass",
        2206 => "regtype",
        2249 => "record",
        2278 => "void",
        2287 => "record[]",
        2950 => "uuid",
        2951 => "uuid[]",
        3220 => "pg_lsn",
        3614 => "tsvector",
        3615 => "tsquery",
        3802 => "jsonb",
        3807 => "jsonb[]",
        3904 => "int4range",
        3906 => "numrange",
        3908 => "tsrange",
        3910 => "tstzrange",
        3912 => "daterange",
        3926 => "int8range",
        4072 => "jsonpath",
        _ => return Cow::Owned(format!("oid {oid}")),
    };
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_every_digit_in_json() {
        let table: [(u32, &str, &str); 22] = [
            (16, "t", "true"),
            (16, "f", "false"),
            (21, "-7", "-7"),
            (23, "42", "42"),
            (20, "9007199254740993", "\"9007199254740993\""),
            (1700, "0.10", "\"0.10\""),
            (1700, "NaN", "\"NaN\""),
            (790, "$1.00", "\"$1.00\""),
            (701, "0.1", "0.1"),
            (701, "1e+20", "1e+20"),
            (701, "NaN", "\"NaN\""),
            (701, "-Infinity", "\"-Infinity\""),
            (26, "2147483648", "2147483648"),
            (26, "4294967295", "\"4294967295\""),
            (17, "\\xdeadbeef", "\"\\\\xdeadbeef\""),
            (114, "{\"a\": 1.10,\n \"a\": 2}", "{\"a\": 1.10,  \"a\": 2}"),
            (3802, "\"x\"", "\"x\""),
            (114, "not json", "\"not json\""),
            (1007, "{1,2}", "\"{1,2}\""),
            (25, "a\"b\u{1b}\n", "\"a\\\"b\\u001b\\n\""),
            (1184, "2026-11-23 18:58:14+00", "\"2026-11-23 18:58:14+00\""),
            (99_999, "x", "\"x\""),
        ];
        for (oid, text, expected) in table {
            assert_eq!(json(oid, Some(text.as_bytes())), expected, "{oid} {text}");
        }
        assert_eq!(json(23, None), "null");
        assert_eq!(row(&[23, 25], &[Some(b"1"), None]), "[1,null]");
    }

    #[test]
    fn every_spelling_is_json_whatever_the_bytes() {
        for oid in [16, 20, 21, 23, 25, 26, 114, 700, 701, 3802] {
            for bytes in [&b"\xff\xfe"[..], b"", b"\x00", b"1e999999", b"01", b"+1", b"]", b" 1 ", b"tru"] {
                let spelled = json(oid, Some(bytes));
                assert!(serde_json::from_str::<&RawValue>(&spelled).is_ok(), "{oid} {bytes:?} -> {spelled}");
            }
        }
    }

    #[test]
    fn types_have_their_short_names() {
        assert_eq!(type_name(20), "int8");
        assert_eq!(type_name(16_400), "oid 16400");
    }
}
