//! Tables of cases for lines, chains, commitments and redaction.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::canonical::{CanonicalError, Members};
use super::redact::{MARK, normalise, redact};
use super::*;
use crate::core::grant::SessionId;
use crate::core::time::Moment;

fn session() -> SessionId {
    SessionId::parse("01JD5Q3B8VZZZZZZZZZZZZZZZZ").expect("a session id")
}

fn members(value: &Value) -> BTreeMap<String, Value> {
    value.as_object().expect("an object").iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn append(chain: &mut Chain, value: &Value) -> Result<Line, LineError> {
    chain.append("stmt", Moment::from_seconds(1_795_464_600), Duration::from_millis(5), members(value))
}

#[test]
fn a_line_is_canonical_and_reads_back() {
    let mut chain = Chain::new(session(), Leaf::NONE);
    let line = append(&mut chain, &json!({"no": 1, "norm": "a\u{1}\"\\\u{2028}ä\n", "z": {"b": [1, true], "a": -5}}))
        .expect("a line");
    assert_eq!(
        line.as_str(),
        format!(
            "{{\"k\":\"stmt\",\"m\":5000,\"no\":1,\"norm\":\"a\\u0001\\\"\\\\\u{2028}ä\\n\",\"prev\":\"{}\",\"seq\":0,\"sid\":\"01JD5Q3B8VZZZZZZZZZZZZZZZZ\",\"t\":1795464600000000,\"v\":1,\"z\":{{\"a\":-5,\"b\":[1,true]}}}}",
            "0".repeat(64)
        )
    );
    let event = Event::parse(line.as_str()).expect("its own canonical form");
    assert_eq!((event.kind.as_str(), event.sequence, event.number("no")), ("stmt", 0, Some(1)));
    assert_eq!(Line::parse(line.as_str()), Ok(line.clone()));
    let next = append(&mut chain, &json!({"no": 2})).expect("a second line");
    assert_eq!(Event::parse(next.as_str()).expect("canonical").previous, line.leaf());
}

#[test]
fn members_written_one_by_one_are_the_canonical_object() {
    let keys =
        ["no", "nobjs", "n", "client_key", "client_head", "client_k", "rows_c", "rows", "a_very_long_name", "z9"];
    let mut members = Members::new();
    for key in keys {
        members.text(key, "x");
    }
    members
        .number("t", u64::MAX)
        .number("m", 0)
        .hex("prev", &[171; 40])
        .flag("f", true)
        .texts("none", [""; 0].into_iter());
    members.texts("objs", ["a\"\\\n", "plain"].into_iter()).numbers("masked", [1, 20, 300].into_iter());
    let text = members.object().expect("no two of one name");
    assert!(canonical::read(&text).is_some_and(|read| read.len() == keys.len() + 7), "{text}");
    assert_eq!(members.object().expect("nothing is left"), "{}");
}

#[test]
fn two_members_of_one_name_are_refused() {
    for key in ["sid", "client_head"] {
        let mut members = Members::new();
        members.text(key, "a").text("client_key", "b").number(key, 1);
        assert_eq!(members.object(), Err(CanonicalError::Twice(key.to_owned())));
        assert_eq!(members.object().expect("what was refused is gone"), "{}");
    }
    let chain = Chain::for_log("TEST", Leaf::NONE);
    let mut members = Members::new();
    members.text("sid", "another");
    let line = chain.next_of("stmt", Moment::from_seconds(1), Duration::ZERO, &mut members);
    assert!(matches!(line, Err(LineError::Value(CanonicalError::Twice(_)))), "{line:?}");
}

#[test]
fn values_without_a_canonical_form_are_refused() {
    let cases = [
        json!({"no": 1.5}),
        json!({"no": null}),
        json!({"no": 9_007_199_254_740_993_u64}),
        json!({"No": 1}),
        json!({"": 1}),
        json!({"a": {"é": 1}}),
        json!({"sid": "other"}),
        json!({"norm": "x".repeat(17_000)}),
    ];
    for case in cases {
        let mut chain = Chain::new(session(), Leaf::NONE);
        assert!(append(&mut chain, &case).is_err(), "{case}");
        assert_eq!(chain.length(), 0, "a refused line does not move the chain");
    }
}

#[test]
fn other_spellings_of_a_line_are_refused() {
    let mut chain = Chain::new(session(), Leaf::NONE);
    let good = append(&mut chain, &json!({"no": 1, "norm": "ab"})).expect("a line").as_str().to_owned();
    let cases = [
        good.replace(",\"no\"", ", \"no\""),
        good.replace("\"no\":1", "\"no\":1,\"no\":1"),
        good.replace("\"no\":1", "\"no\":1.0"),
        good.replace("\"no\":1", "\"no\":1e0"),
        good.replace("\"no\":1", "\"no\":-0"),
        good.replace("\"no\":1", "\"no\":null"),
        good.replace("\"ab\"", "\"\\u0061b\""),
        good.replace("\"v\":1", "\"v\":2"),
        good.replace("\"k\":\"stmt\",\"m\":5000", "\"m\":5000,\"k\":\"stmt\""),
        good.replace("01JD5Q3B8VZZZZZZZZZZZZZZZZ", "../../etc/passwd"),
        format!("{good}\n"),
        format!("{good}\r"),
        format!("\u{feff}{good}"),
        format!("{good} "),
        "[]".to_owned(),
        "{}".to_owned(),
        String::new(),
    ];
    for case in cases {
        assert_ne!(case, good);
        assert!(Line::parse(&case).is_err(), "{case}");
    }
    assert!(Line::parse(&good).is_ok());
}

#[test]
fn a_clock_that_is_set_back_does_not_turn_the_chain_back() {
    let mut chain = Chain::new(session(), Leaf::NONE);
    let late = chain.append("stmt", Moment::from_seconds(50), Duration::from_secs(2), BTreeMap::new()).expect("a line");
    let early =
        chain.append("stmt", Moment::from_seconds(40), Duration::from_secs(1), BTreeMap::new()).expect("a line");
    let (late, early) = (Event::parse(late.as_str()).expect("one"), Event::parse(early.as_str()).expect("two"));
    assert_eq!((early.at, early.since_start), (late.at, late.since_start));
}

#[test]
fn a_chain_admits_only_its_next_line() {
    let mut writer = Chain::new(session(), Leaf::of("grant"));
    let lines: Vec<Event> = (1..=3)
        .map(|no| append(&mut writer, &json!({ "no": no })).expect("a line"))
        .map(|line| Event::parse(line.as_str()).expect("canonical"))
        .collect();
    let [first, second, third] = lines.as_slice() else { panic!("three lines") };
    let start = || Chain::new(session(), Leaf::of("grant"));
    assert!(Chain::new(session(), Leaf::of("other grant")).admit(first).is_err());
    assert!(start().admit(second).is_err(), "nothing may be missing in front");
    let mut chain = start();
    assert_eq!(chain.admit(first), Ok(()));
    assert!(chain.clone().admit(first).is_err(), "no line twice");
    assert!(chain.clone().admit(third).is_err(), "no gap");
    assert_eq!(chain.admit(second), Ok(()));
    let other = SessionId::parse("01JD5Q3B8VYYYYYYYYYYYYYYYY").expect("another session");
    assert!(Chain::new(other, Leaf::of("grant")).admit(first).is_err());
}

#[test]
fn commitments_depend_on_key_domain_and_content() {
    let key = SessionKey::from_bytes([7; 32]);
    let base = key.commit(Domain::Statement, b"select 1");
    assert_eq!(base, key.commit(Domain::Statement, b"select 1"));
    assert_ne!(base, key.commit(Domain::Parameters, b"select 1"));
    assert_ne!(base, key.commit(Domain::Statement, b"select 2"));
    assert_ne!(base, SessionKey::from_bytes([8; 32]).commit(Domain::Statement, b"select 1"));
    assert_eq!(format!("{key:?}"), "[session key]");
}

#[test]
fn rows_rebuilt_from_values_commit_like_rows_from_the_wire() {
    let key = SessionKey::from_bytes([7; 32]);
    let mut wire = RowsDigest::new(&key);
    wire.row(b"\x00\x02\x00\x00\x00\x01a\xff\xff\xff\xff");
    let mut values = RowsDigest::new(&key);
    values.values([Some(b"a".as_slice()), None].into_iter());
    assert_eq!((wire.rows(), wire.bytes()), (values.rows(), values.bytes()));
    assert_eq!(wire.finish(), values.finish());
    let empty = |values: &[Option<&[u8]>]| {
        let mut digest = RowsDigest::new(&key);
        digest.values(values.iter().copied());
        digest.finish()
    };
    assert_ne!(empty(&[None]), empty(&[Some(b"")]), "NULL is not the empty text");
    assert_ne!(RowsDigest::new(&key).finish(), empty(&[]), "one row without columns is not no row");
}

#[test]
fn secrets_are_redacted_and_nothing_else() {
    let secret = [
        ("create role x password 'hunter2'", "create role x password '[redacted:r1]'"),
        (
            "ALTER USER x WITH ENCRYPTED PASSWORD E'hun\\'ter2' valid until 'infinity'",
            "ALTER USER x WITH ENCRYPTED PASSWORD '[redacted:r1]' valid until 'infinity'",
        ),
        (
            "alter role x password /* ' */ -- it's\n 'a'\n 'b'",
            "alter role x password /* ' */ -- it's\n '[redacted:r1]'\n '[redacted:r1]'",
        ),
        ("alter role x password $q$it's$q$;select 'kept'", "alter role x password '[redacted:r1]';select 'kept'"),
        (
            "create user mapping for x server s options (user 'u', password 'p')",
            "create user mapping for x server s options (user 'u', password '[redacted:r1]')",
        ),
        ("alter server s options (set \"password\" 'p')", "alter server s options (set \"password\" '[redacted:r1]')"),
        (
            "create subscription s connection 'host=h password=p' publication p",
            "create subscription s connection '[redacted:r1]' publication p",
        ),
        (
            "alter system set primary_conninfo = 'host=h password=p'",
            "alter system set primary_conninfo = '[redacted:r1]'",
        ),
        ("select dblink_connect('c', 'password=p')", "select dblink_connect('[redacted:r1]', '[redacted:r1]')"),
        (
            "select pgp_sym_decrypt(body, upper('key')) from t where a = 'x'",
            "select pgp_sym_decrypt(body, upper('[redacted:r1]')) from t where a = 'x'",
        ),
        ("select set_config('app.password', 'p', false)", "select set_config('app.password', '[redacted:r1]', false)"),
        ("select 'AKIAIOSFODNN7EXAMPLE'", "select '[redacted:r1]'"),
        ("copy t to program 'curl https://u:p@h/x'", "copy t to program 'curl https://[redacted:r1]@h/x'"),
        ("do $$begin alter role x password 'p'; end$$", "do $$begin alter role x password '[redacted:r1]'; end$$"),
        ("do $$begin execute 'alter role x password ''p'''; end$$", "do $$begin execute '[redacted:r1]'; end$$"),
        ("select 'cut off", "select '[redacted:r1]'"),
    ];
    for (sql, redacted) in secret {
        assert_eq!(redact(sql), redacted);
        assert_eq!(redact(redacted), redacted, "redacting again changes nothing");
    }
    let kept = [
        "select 1",
        "select password from users where name = 'ana'",
        "update users set name = 'O''Brien' where key = 'k'",
        "select 'it''s password time'",
        "select set_config('search_path', 'app', false)",
        "alter role x set work_mem = '64MB'",
        "select 'https://example.com/a@b'",
        "select $1::text, $q$body$q$",
    ];
    for sql in kept {
        assert_eq!(redact(sql), sql);
    }
    assert!(MARK.starts_with('\''));
}

#[test]
fn normalised_text_has_no_literals_and_no_comments() {
    let cases = [
        ("select  *\n\tfrom t -- note\n where a='x' and b = 1.5e3", "select * from t where a=$1 and b = $2"),
        ("select * from o where n = E'a'\n'\\'' or true --'", "select * from o where n = $1 or true"),
        ("select E'a' -- more\n\t-- and more\r\n '\\'secret text', 1", "select $1, $2"),
        ("select E'a' 'b', E'c'--d", "select $1 $2, $3"),
        ("select 'a'\n'\\', n", "select $1 $2, n"),
        ("/* a /* b */ c */ select E'a\\'b', $$it's$$, U&'x', x'ff'", "select $1, $2, $3, $4"),
        ("select $2, 'a'", "select $2, $3"),
        ("select a.b1, \"Col 1\" from t limit 10;", "select a.b1, \"Col 1\" from t limit $1;"),
        ("select 1..2, .5, 0x1F, 1_000", "select $1..$2, $3, $4, $5"),
        ("select 'open", "select $1"),
        ("", ""),
    ];
    for (sql, shape) in cases {
        assert_eq!(normalise(sql), shape, "{sql}");
    }
    let long = format!("select {}", "\"\u{1}\", ".repeat(20_000));
    let cut = normalise(&long);
    assert!(canonical::quoted(&cut).len() <= redact::LONGEST_NORMALISED + 2);
}

#[test]
fn names_of_many_columns_are_cut_alike() {
    let names: Vec<String> = (0..1600).map(|index| format!("column_{index}\u{1}")).collect();
    let members = content::columns(&names);
    assert_eq!(members.get("ncols"), Some(&json!(1600)));
    let shown = members.get("cols").and_then(Value::as_array).expect("names");
    assert!(!shown.is_empty() && shown.len() < 400);
}

proptest::proptest! {
    #[test]
    fn any_text_can_be_redacted_and_normalised(sql in "[a-z'$\"\\\\/*\\-;() \né0-9E&u.]{0,60}") {
        let tokens = lexer::tokens(&sql);
        let whole: String = tokens.iter().map(|token| token.of(&sql)).collect();
        proptest::prop_assert_eq!(&whole, &sql);
        let once = redact(&sql).into_owned();
        proptest::prop_assert_eq!(redact(&once).into_owned(), once);
        let _ = normalise(&sql);
    }
}
