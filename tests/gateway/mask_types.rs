//! Every mask on every type, on PostgreSQL itself: what is shown, of the very same type, and NULL
//! where there is none.

use dbgate::core::grant::Access;
use dbgate::core::mask::own_types::Types;
use dbgate::core::mask::{self, Expression, MaskError};
use dbgate::server::catalog;

use crate::support::bench::{Bench, answer, bench};
use crate::support::gate::Gate;

const SCHEMA: &str = "
    create type mood as enum ('low', 'high');
    create type place as (street text, zip text);
    create domain note as text;
    create domain notes as note[];
    create domain tax_id as text not null check (value ~ '^TX-');
    create domain address as text check (value like '%@%' and length(value) < 100);
    create domain country as char(2) not null check (value ~ '^[A-Z]+$');
    create domain zip as varchar(5) check (value ~ '^[0-9]{5}$');
    create type contact as (mail address, country country);
    create domain cents as int check (value > 0 and value <> all (array[40, 60]));
    create domain odd as text check (case when value ~ '^[0-9]+$' then value::int > 0 else value = 'x' end);
    create domain born as date not null check (value > '1900-01-01');
    create type \"Full Name\" as (given varchar(12), family note, born born);
    create type person as (name \"Full Name\", mood mood, mails address[], salary int, seen timestamptz, tags text[]);
    create domain adult as person check ((value).salary > 0);
    create domain whoever as person;
    create type floats as range (subtype = float8, subtype_diff = float8mi);
    create table holds (a mood, b place[], c tax_id, d address, e cents, f odd, g born, h person, i adult, j whoever,
        k floats, l floats_multirange, m notes, n country, o zip, p contact)";

/// A salt that is always the same, where `target init` has made a place for it.
const SALT: &str = "
    create table dbgate_secret.salt (value bytea);
    insert into dbgate_secret.salt values ('0123456789abcdef')";

async fn salted() -> (Bench<'static>, Types) {
    let bench = bench(SCHEMA, "").await;
    bench.superuser.batch_execute(SALT).await.expect("a salt");
    bench
        .superuser
        .batch_execute("set timezone = 'UTC'; set datestyle = 'ISO'; set xmloption = document")
        .await
        .expect("set");
    bench.superuser.batch_execute("create schema rows").await.expect("a schema");
    for (type_name, _) in VALUES {
        let make = format!("create table rows.{} (v {type_name})", mask::identifier(type_name));
        bench.superuser.batch_execute(&make).await.expect(type_name);
    }
    let types = catalog::read(&bench.broker, &bench.database).await.expect("a catalog").types;
    (bench, types)
}

/// Types with values that are usual, at the edge, or would make careless SQL fail.
const VALUES: [(&str, &[&str]); 62] = [
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
    ("time without time zone", &["10:11", "24:00", "00:00"]),
    ("time(3) without time zone", &["10:11:12.3456"]),
    ("time with time zone", &["10:11+02", "24:00-12", "00:00+15:59:59"]),
    ("interval", &["1 year 2 days", "-178000000 years", "178000000 years", "2562047788:00:54.775807", "-00:00:01"]),
    ("interval day to second(3)", &["3 days 10:11:12.3456"]),
    ("xml", &["<a>x</a>"]),
    ("inet", &["10.1.2.3", "10.1.2.3/8", "2001:db8::1", "0.0.0.0/0"]),
    ("cidr", &["10.1.2.0/24", "10.0.0.0/8", "2001:db8::/64"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("bytea", &["", "\\x00ff"]),
    ("jsonb", &["null", "1", "\"x\"", "[]", "[1,{\"a\":2}]", "{\"a\":{\"b\":1,\"c\":2},\"items\":[{\"p\":1},2]}"]),
    ("json", &["{\"a\":\"\\u0000\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1e999999}", "{\"a\" : 1, \"a\":2}"]),
    ("int4range", &["empty", "(,)", "[-2147483648,2147483647)", "[3,17)"]),
    ("numrange", &["[1.5,27.5]", "(,3)", "[-Infinity,5]", "[5,NaN]"]),
    ("daterange", &["[2020-02-03,2021-05-06)", "(,)", "[2020-01-01,5874897-12-30)"]),
    ("tstzrange", &["[2020-02-03 01:00+00,2021-05-06 01:00+00)"]),
    ("public.mood", &["low"]),
    ("public.mood[]", &["{low,NULL}"]),
    ("public.place", &["(Main,12345)", "(,12345)", "(,)"]),
    ("public.place[]", &["{}", "{\"(Main,12345)\",NULL,\"(,)\"}"]),
    ("public.address", &["user@example.com", "@"]),
    ("public.address[]", &["{user@example.com,NULL}"]),
    ("public.country", &["DE"]),
    ("public.zip", &["12345"]),
    ("public.contact", &["(ana@acme.io,DE)"]),
    ("public.cents", &["1", "47", "2147483647"]),
    ("public.odd", &["x"]),
    ("public.born", &["1980-05-17", "1900-01-02", "infinity"]),
    ("public.person", PERSONS),
    ("public.person[]", &[]),
    ("public.adult", PERSONS),
    ("public.whoever", PERSONS),
    ("public.floats", &["empty", "(,)", "[-Infinity,1e308]", "[1.5,NaN]", "[13.5,47.5)"]),
    ("public.floats_multirange", &["{}", "{[1,2),[13,47)}"]),
    ("int4multirange", &["{}", "{(,)}", "{[-2147483648,3),[13,47)}"]),
    ("datemultirange", &["{[2020-02-03,2020-02-05),[2020-03-01,2021-05-06)}"]),
    ("bit(3)", &["101"]),
    ("point", &["(1,2)"]),
];

const ANA: &str = "(\"(Ana,Berg,1980-05-17)\",low,{ana@acme.io},47000,\"2025-06-07 10:11+00\",\"{a,b}\")";
const PERSONS: &[&str] = &[ANA, "(,,,1,,)"];

const MASKS: [&str; 19] = [
    "null",
    "redact",
    "fixed:x",
    "fixed:0",
    "fixed:low",
    "fixed:12:00:00",
    "email",
    "partial",
    "last4",
    "year",
    "month",
    "day",
    "hour",
    "bucket:1",
    "bucket:3600",
    "bucket:1000000000",
    "hash",
    "json:a",
    "json:a.b,items[].p",
];

/// A column of every type, in a relation of that name that has no other.
fn masked(type_name: &str) -> mask::Masked<'_> {
    mask::Masked { schema: "rows", relation: type_name, column: "v", type_name }
}

fn expression(mask: &str, type_name: &str, types: &Types) -> Result<Expression, MaskError> {
    let found = mask::expression(mask, masked(type_name), types);
    found.map(|one| Expression { sql: one.sql.replace(mask::SCOPE_MARK, "scope"), ..one })
}

#[tokio::test]
async fn every_mask_on_every_type_gives_the_same_type_keeps_null_and_never_fails() {
    let (bench, types) = salted().await;
    let client = &bench.superuser;
    let mut fitting = 0;
    for (at, (type_name, values)) in VALUES.iter().enumerate() {
        let list: Vec<String> = values.iter().map(|value| format!("({}::{type_name})", mask::literal(value))).collect();
        let make = format!("create temp table t{at} (v {type_name})");
        // A domain that is NOT NULL takes no NULL in a table.
        let is_strict = ["public.tax_id", "public.born", "public.country"].contains(type_name);
        client.batch_execute(&make).await.expect(type_name);
        let insert = |rows: &str| format!("insert into t{at} values {rows}");
        for row in list.iter().map(String::as_str).chain((!is_strict).then_some("(null)")) {
            client.batch_execute(&insert(row)).await.unwrap_or_else(|error| panic!("{type_name} {row}: {error:?}"));
        }
        for (number, mask) in MASKS.iter().enumerate() {
            let Ok(found) = expression(mask, type_name, &types) else { continue };
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
    assert!(fitting > 280, "{fitting}");
}

/// What is shown of a value.
async fn shown(bench: &Bench<'_>, types: &Types, mask: &str, type_name: &str, value: &str) -> String {
    let sql = expression(mask, type_name, types).unwrap_or_else(|error| panic!("{error}")).sql;
    let value = mask::literal(value);
    answer(&bench.superuser, &format!("select {sql} from (select {value}::{type_name} as v) x")).await
}

/// Mask, type, value, and what is shown of it.
const SHOWN: &[(&str, &str, &str, &str)] = &[
    ("email", "text", "user@mail.example.co.uk", "u***@m**************.uk"),
    ("email", "text", "@example.com", "***"),
    ("email", "text", "user@host", "u***@h***"),
    ("email", "text", "user@", "u***@"),
    ("email", "text", "user@a.b", "u***@a.b"),
    ("email", "text", "user@name@x.com", "u***@n***"),
    ("email", "text", "user@.com", "u***@.com"),
    ("email", "text", "ä@ö€.ä", "ä***@ö*.ä"),
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
    ("hour", "time without time zone", "10:59:58", "10:00:00"),
    ("hour", "time with time zone", "10:59:58+02", "10:00:00+02"),
    ("hour", "timestamp with time zone", "2025-06-07 10:59+00", "2025-06-07 10:00:00+00"),
    ("day", "timestamp without time zone", "2025-06-07 10:59", "2025-06-07 00:00:00"),
    ("day", "tsrange", "[2025-06-07 10:59,2025-06-08 01:00)", "[\"2025-06-07 00:00:00\",\"2025-06-09 00:00:00\")"),
    ("hour", "interval", "3 days 10:59:58", "3 days 10:00:00"),
    ("year", "interval", "2 years 11 mons 3 days", "2 years"),
    ("bucket:86400", "interval", "40 days 10:00", "1 mon 10 days"),
    ("bucket:1800", "time without time zone", "10:59:58", "10:30:00"),
    ("bucket:1800", "time with time zone", "10:59:58+02", "10:30:00+02"),
    ("bucket:10", "int4multirange", "{[13,47),[101,119)}", "{[10,40),[100,110)}"),
    (
        "year",
        "datemultirange",
        "{[2020-02-03,2020-02-05),[2022-03-01,2022-05-06)}",
        "{[2020-01-01,2021-01-01),[2022-01-01,2023-01-01)}",
    ),
    ("bucket:10", "public.floats", "[13.5,47.5)", "[10,40)"),
    ("bucket:10", "numrange", "[-Infinity,27]", "[-Infinity,20)"),
    ("fixed:high", "public.mood", "low", "high"),
    ("fixed:12:00:00", "time without time zone", "10:11", "12:00:00"),
    ("fixed:0.0.0.0", "inet", "10.1.2.3", "0.0.0.0"),
    ("fixed:\\x00", "bytea", "\\xff", "\\x00"),
    ("redact", "public.place", "(Main,12345)", "(***,***)"),
    ("partial", "public.place", "(Main Street 12,12345)", "(Ma***12,***)"),
    ("partial", "public.place[]", "{\"(Main Street 12,)\",NULL}", "{\"(Ma***12,)\",NULL}"),
    // A domain takes what fits its condition, and shows nothing in place of what does not.
    ("redact", "public.tax_id", "TX-12345678", "NULL"),
    ("partial", "public.tax_id", "TX-12345678", "NULL"),
    ("redact", "public.address", "ana@acme.io", "***@***.***"),
    ("redact", "public.country", "DE", "XX"),
    ("redact", "public.zip", "12345", "00000"),
    ("redact", "public.contact", "(ana@acme.io,DE)", "(***@***.***,XX)"),
    ("email", "public.address", "ana@acme.io", "a***@a***.io"),
    ("email", "public.address", "@acme.io", "NULL"),
    ("hash", "public.address", "ana@acme.io", "NULL"),
    ("fixed:x@y", "public.address", "ana@acme.io", "x@y"),
    ("fixed:x", "public.address", "ana@acme.io", "NULL"),
    ("bucket:10", "public.cents", "57", "50"),
    ("bucket:10", "public.cents", "47", "NULL"),
    ("bucket:10", "public.cents", "7", "NULL"),
    ("year", "public.born", "1980-05-17", "1980-01-01"),
    ("year", "public.born", "1900-05-17", "NULL"),
    ("year", "public.person", ANA, "(\"(,,1980-01-01)\",,,,\"2025-01-01 00:00:00+00\",)"),
    ("email", "public.person", ANA, "(\"(***,***,)\",,{a***@a***.io},,,\"{***,***}\")"),
    ("bucket:1000", "public.adult", ANA, "(,,,47000,,)"),
    ("bucket:100000", "public.adult", ANA, "NULL"),
    ("redact", "public.whoever", ANA, "(\"(***,***,)\",,,,,)"),
];

#[tokio::test]
async fn a_mask_shows_what_it_promises_and_no_more() {
    let (bench, types) = salted().await;
    // A condition that could fail on what a mask leaves is not tried.
    assert!(expression("email", "public.odd", &types).is_err());
    for (mask, kind, value, expected) in SHOWN {
        assert_eq!(shown(&bench, &types, mask, kind, value).await, *expected, "{mask} {kind} {value}");
    }
}

#[tokio::test]
async fn a_hash_is_the_same_for_the_same_value_in_one_scope_only() {
    let (bench, types) = salted().await;
    let shown = async |mask: &str, kind: &str, value: &str| shown(&bench, &types, mask, kind, value).await;
    let (ana, again) = (shown("hash", "text", "ana").await, shown("hash", "public.note", "ana").await);
    assert_eq!((ana.len(), &ana), (32, &again));
    assert_ne!(ana, shown("hash", "text", "bo").await);
    // A value that looks like an escape is hashed as the letters it is.
    assert_ne!(shown("hash", "text", "\\x41").await, shown("hash", "text", "A").await);
    let number = shown("hash", "bigint", "42").await;
    assert!(number.parse::<i64>().is_ok_and(|number| number > 0), "{number}");
    // Equal values have one hash, however they are written, and other types of number the same.
    for (kind, value) in [("numeric", "42"), ("numeric", "42.000"), ("numeric(30,5)", "42")] {
        let shown = shown("hash", kind, value).await;
        assert_eq!(shown.trim_end_matches('0').trim_end_matches('.'), number.trim_end_matches('0'), "{kind} {value}");
    }
    assert_ne!(shown("hash", "numeric", "42.1").await, number);
    assert_eq!(shown("hash", "jsonb", r#"{"a":1,"b":2}"#).await, shown("hash", "jsonb", r#"{"b": 2, "a": 1}"#).await);
    assert_ne!(shown("hash", "jsonb", "1").await, shown("hash", "jsonb", "\"1\"").await);
    assert_eq!(shown("hash", "inet", "10.1.2.3").await, shown("hash", "inet", "10.1.2.3/32").await);
    let address = shown("hash", "inet", "10.1.2.3").await;
    assert!(address.starts_with("fd00::"), "{address}");
    let elsewhere =
        mask::expression("hash", masked("text"), &types).expect("fits").sql.replace(mask::SCOPE_MARK, "other");
    let elsewhere = answer(&bench.superuser, &format!("select {elsewhere} from (select 'ana'::text as v) x")).await;
    assert_ne!(ana, elsewhere);
}

const OWN_TYPES: &str = "
    create schema kinds;
    create type kinds.mood as enum ('low', 'high');
    create domain kinds.code as text not null check (value ~ '^K-');
    create type kinds.place as (street text, at time, code kinds.code);
    create table people (id int primary key, mood kinds.mood not null default 'low', code kinds.code default 'K-canary',
        home kinds.place, shift interval, spans int4multirange, feed xml, moods kinds.mood[]);
    insert into people values (1, 'high', 'K-canary', row('canary street', '10:11:12', 'K-canary'), '3 days 10:11',
        '{[13,47)}', '<a>canary</a>', '{high}');
    create table hidden (id int primary key, mood kinds.mood not null, code kinds.code, home kinds.place);
    insert into hidden values (1, 'high', 'K-canary', row('canary street', '10:11:12', 'K-canary'));
    analyze";

const OWN_MASKS: &str = r#"
@id("whole") @mask("redact")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "hidden" && resource.name != "id" };
@id("moods") @mask("hash")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "people" && ["mood", "moods", "feed"].contains(resource.name) };
@id("parts") @mask("partial")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "people" && ["code", "home"].contains(resource.name) };
@id("shifts") @mask("day")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "people" && resource.name == "shift" };
@id("spans") @mask("bucket:10")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "people" && resource.name == "spans" };
"#;

#[tokio::test]
async fn the_databases_own_types_come_back_masked_wherever_they_live() {
    let gate = Gate::start_under(OWN_TYPES, &[("own.cedar", OWN_MASKS)]).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let cases = [
        ("select mood from people", "NULL"),
        ("select code from people", "K-***ry"),
        ("select home::text from people", "(ca***et,,K-***ry)"),
        ("select (home).street from people", "ca***et"),
        ("select shift::text from people", "3 days"),
        ("select spans::text from people", "{[10,40)}"),
        ("select pg_typeof(feed) || ' ' || pg_typeof(moods) from people", "xml kinds.mood[]"),
        ("select mood from hidden", "NULL"),
        ("select code from hidden", "NULL"),
        ("select (home).street from hidden", "***"),
        ("select pg_typeof(home) || ' ' || pg_typeof(mood) from hidden", "kinds.place kinds.mood"),
    ];
    for (sql, expected) in cases {
        let seen = answer(&client, sql).await;
        assert_eq!(seen, expected, "{sql}");
    }
    for sql in ["table people", "table hidden", "select p from people p", "select to_jsonb(h) from hidden h"] {
        let seen = answer(&client, sql).await;
        assert!(!seen.contains("canary") && !seen.contains("ERROR"), "{sql}: {seen}");
    }
    gate.stop().await;
}
