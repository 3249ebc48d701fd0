//! Every mask on every type, on PostgreSQL itself: what is shown, of the very same type, and NULL
//! where there is none.

use dbgate::core::mask::{self, Expression, MaskError};

use crate::support::bench::{Bench, answer, bench};

const SCHEMA: &str = "
    create type mood as enum ('low', 'high');
    create type place as (street text, zip text);
    create domain note as text;
    create domain notes as note[];
    create domain tax_id as text not null check (value ~ '^TX-');
    create schema dbgate_secret;
    create table dbgate_secret.salt (value bytea);
    insert into dbgate_secret.salt values ('0123456789abcdef')";

/// Types with values that are usual, at the edge, or would make careless SQL fail.
const VALUES: [(&str, &[&str]); 39] = [
    ("text", &["", "a", "user@example.com", "@", "4111 1111 1111 1111", "\\x41", "ä€😀"]),
    ("character varying(20)", &["user@example.com", "12345678901234567890"]),
    ("character(11)", &["123-45-6789"]),
    ("character(1)", &["x"]),
    ("name", &["user@example.com"]),
    ("public.note", &["user@example.com"]),
    ("public.tax_id", &["TX-12345678"]),
    ("text[]", &["{}", "{a,NULL,user@example.com}", "{{a,b},{c,d}}"]),
    ("public.notes", &["{user@example.com}"]),
    ("public.tax_id[]", &["{TX-1}"]),
    ("smallint", &["-32768", "32767", "7"]),
    ("integer", &["-2147483648", "2147483647", "12345678"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807", "4111111111111111"]),
    ("integer[]", &["{1,NULL,12345678}"]),
    ("numeric", &["NaN", "Infinity", "-123.456", "1e400", "0.00000000000000000000000001"]),
    ("numeric(5,2)", &["999.99", "-999.99"]),
    ("real", &["3.4e38", "NaN", "-Infinity", "1e-45", "12.5"]),
    ("double precision", &["1.7976931348623157e308", "NaN", "Infinity", "12.5"]),
    ("money", &["-92233720368547758.08", "12.50"]),
    ("boolean", &["true"]),
    ("date", &["infinity", "-infinity", "5874897-12-31", "4713-01-01 BC", "1980-05-17"]),
    ("timestamp without time zone", &["infinity", "294276-12-31 23:59:59", "4713-01-01 BC", "1980-05-17 10:11:12"]),
    ("timestamp(3) with time zone", &["infinity", "294276-12-30", "1980-05-17 10:11:12+02"]),
    ("time without time zone", &["10:11"]),
    ("time with time zone", &["10:11+02"]),
    ("interval", &["1 year 2 days"]),
    ("inet", &["10.1.2.3", "10.1.2.3/8", "2001:db8::1", "0.0.0.0/0"]),
    ("cidr", &["10.1.2.0/24", "10.0.0.0/8", "2001:db8::/64"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("bytea", &["", "\\x00ff"]),
    ("jsonb", &["null", "1", "\"x\"", "[]", "[1,{\"a\":2}]", "{\"a\":{\"b\":1,\"c\":2},\"items\":[{\"p\":1},2]}"]),
    ("json", &["{\"a\":\"\\u0000\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1e999999}", "{\"a\" : 1, \"a\":2}"]),
    ("int4range", &["empty", "(,)", "[-2147483648,2147483647)", "[3,17)"]),
    ("numrange", &["[1.5,27.5]", "(,3)"]),
    ("daterange", &["[2020-02-03,2021-05-06)", "(,)", "[2020-01-01,5874897-12-30)"]),
    ("tstzrange", &["[2020-02-03 01:00+00,2021-05-06 01:00+00)"]),
    ("public.mood", &["low"]),
    ("public.place", &["(Main,12345)"]),
];

const MASKS: [&str; 14] = [
    "null",
    "redact",
    "fixed:x",
    "fixed:0",
    "email",
    "partial",
    "last4",
    "year",
    "month",
    "bucket:1",
    "bucket:1000000000",
    "hash",
    "json:a",
    "json:a.b,items[].p",
];

/// What a domain of the test is over, where it sets no condition: the catalog finds it by itself.
fn base_of(type_name: &str) -> &str {
    match type_name {
        "public.note" => "text",
        "public.notes" => "text[]",
        other => other,
    }
}

fn expression(mask: &str, type_name: &str) -> Result<Expression, MaskError> {
    let found = mask::expression_of(mask, "v", type_name, base_of(type_name));
    found.map(|one| Expression { sql: one.sql.replace(mask::SCOPE_MARK, "scope"), ..one })
}

#[tokio::test]
async fn every_mask_on_every_type_gives_the_same_type_keeps_null_and_never_fails() {
    let bench = bench(SCHEMA, "").await;
    let client = &bench.superuser;
    let mut fitting = 0;
    for (at, (type_name, values)) in VALUES.iter().enumerate() {
        let list: Vec<String> = values.iter().map(|value| format!("({}::{type_name})", mask::literal(value))).collect();
        let make = format!("create temp table t{at} (v {type_name})");
        // A domain that is NOT NULL takes no NULL in a table.
        let null = if type_name.contains("tax_id") { "" } else { ", (null)" };
        client.batch_execute(&make).await.expect(type_name);
        client.batch_execute(&format!("insert into t{at} values {}{null}", list.join(", "))).await.expect(type_name);
        for (number, mask) in MASKS.iter().enumerate() {
            let Ok(found) = expression(mask, type_name) else { continue };
            fitting += 1;
            let make = format!("create temp view v{at}_{number} as select v, {} as masked from t{at}", found.sql);
            client.batch_execute(&make).await.unwrap_or_else(|error| panic!("{mask} on {type_name}: {error:?}"));
            let types = format!(
                "select count(distinct (atttypid, atttypmod)) from pg_attribute \
                 where attrelid = 'v{at}_{number}'::regclass and attnum > 0"
            );
            assert_eq!(answer(client, &types).await, "1", "{mask} on {type_name}");
            let rows =
                answer(client, &format!("select count(masked) filter (where v is null) from v{at}_{number}")).await;
            if found.discloses || *mask == "null" {
                assert_eq!(rows, "0", "NULL stays NULL: {mask} on {type_name}: {rows}");
            }
            let read = client.simple_query(&format!("select masked, masked::text from v{at}_{number}")).await;
            read.unwrap_or_else(|error| panic!("{mask} on {type_name} fails on a value: {error:?}"));
        }
    }
    assert!(fitting > 170, "{fitting}");
}

/// What is shown of a value.
async fn shown(bench: &Bench, mask: &str, type_name: &str, value: &str) -> String {
    let sql = expression(mask, type_name).unwrap_or_else(|error| panic!("{error}")).sql;
    let value = mask::literal(value);
    answer(&bench.superuser, &format!("select {sql} from (select {value}::{type_name} as v) x")).await
}

#[tokio::test]
async fn a_mask_shows_what_it_promises_and_no_more() {
    let bench = bench(SCHEMA, "").await;
    bench.superuser.batch_execute("set timezone = 'UTC'; set datestyle = 'ISO'").await.expect("set");
    let cases = [
        ("email", "text", "user@mail.example.co.uk", "u***@m**************.uk"),
        ("email", "text", "@example.com", "***"),
        ("email", "character varying(9)", "user@example.com", "u***@e***"),
        ("email", "text[]", "{ana@acme.io,NULL}", "{a***@a***.io,NULL}"),
        ("email", "public.notes", "{ana@acme.io}", "{a***@a***.io}"),
        ("partial", "text", "4111111111111111", "41***11"),
        ("partial", "text", "1234567", "***"),
        ("partial", "inet", "10.1.2.3", "10.1.2.0/24"),
        ("partial", "inet", "10.1.2.3/8", "10.0.0.0/8"),
        ("partial", "inet", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ("partial", "cidr", "10.1.2.0/28", "10.1.2.0/24"),
        ("partial", "macaddr", "08:00:2b:01:02:03", "08:00:2b:00:00:00"),
        ("last4", "bigint", "4111111111111234", "1234"),
        ("last4", "bigint", "123456", "NULL"),
        ("last4", "text", "4111 1111 1111 1234", "***1234"),
        ("year", "timestamp with time zone", "2025-06-07 00:00+00", "2025-01-01 00:00:00+00"),
        ("month", "timestamp without time zone", "2025-06-07 01:02:03", "2025-06-01 00:00:00"),
        ("month", "date", "2025-06-07", "2025-06-01"),
        ("year", "date", "infinity", "NULL"),
        ("year", "daterange", "[2020-02-03,2021-05-06)", "[2020-01-01,2022-01-01)"),
        ("month", "daterange", "(,2021-05-06)", "(,2021-06-01)"),
        ("bucket:10", "integer", "47", "40"),
        ("bucket:10", "integer", "-47", "-40"),
        ("bucket:1000", "numeric(8,2)", "123456.78", "123000.00"),
        ("bucket:10", "int4range", "[13,47)", "[10,40)"),
        ("bucket:10", "smallint[]", "{13,NULL,47}", "{10,NULL,40}"),
        ("fixed:unknown", "public.note", "x", "unknown"),
        ("fixed:2000-01-01", "date", "1980-05-17", "2000-01-01"),
        ("redact", "text", "x", "***"),
        ("redact", "public.note", "x", "***"),
        ("redact", "jsonb", "{}", "NULL"),
        ("json:a", "jsonb", r#"{"a": 1, "b": 2}"#, r#"{"a": "***", "b": 2}"#),
        ("json:a", "jsonb", r#"{"b": 2}"#, r#"{"b": 2}"#),
        ("json:$.a.b", "jsonb", r#"{"a": {"b": [1], "c": 3}}"#, r#"{"a": {"b": "***", "c": 3}}"#),
        // Another shape than the path expects is hidden whole.
        ("json:a.b", "jsonb", r#"{"a": "12 Main St"}"#, r#"{"a": "***"}"#),
        ("json:a.b", "jsonb", "[1]", "\"***\""),
        ("json:a.b", "jsonb", "null", "null"),
        (
            "json:items[].card,name",
            "jsonb",
            r#"{"name": "Ana", "items": [{"card": 1, "n": 2}, {"n": 3}, 4]}"#,
            r#"{"name": "***", "items": [{"n": 2, "card": "***"}, {"n": 3}, "***"]}"#,
        ),
        ("json:a", "json", r#"{"a": "\u0000", "b": 1}"#, "\"***\""),
        ("json:a", "json", r#"{"a": 1, "b": 2}"#, r#"{"a": "***", "b": 2}"#),
    ];
    for (mask, kind, value, expected) in cases {
        assert_eq!(shown(&bench, mask, kind, value).await, expected, "{mask} {kind} {value}");
    }
}

#[tokio::test]
async fn a_hash_is_the_same_for_the_same_value_in_one_scope_only() {
    let bench = bench(SCHEMA, "").await;
    let (ana, again) = (shown(&bench, "hash", "text", "ana").await, shown(&bench, "hash", "public.note", "ana").await);
    assert_eq!((ana.len(), &ana), (32, &again));
    assert_ne!(ana, shown(&bench, "hash", "text", "bo").await);
    // A value that looks like an escape is hashed as the letters it is.
    assert_ne!(shown(&bench, "hash", "text", "\\x41").await, shown(&bench, "hash", "text", "A").await);
    let number = shown(&bench, "hash", "bigint", "42").await;
    assert!(number.parse::<i64>().is_ok_and(|number| number > 0), "{number}");
    let elsewhere = mask::expression("hash", "v", "text").expect("fits").sql.replace(mask::SCOPE_MARK, "other");
    let elsewhere = answer(&bench.superuser, &format!("select {elsewhere} from (select 'ana'::text as v) x")).await;
    assert_ne!(ana, elsewhere);
}
