//! Which mask fits which type, and the exact text of the simple ones. What the expressions do to
//! values is tested on PostgreSQL itself, in `tests/gateway/masks.rs`.

use super::own_types::{Condition, Field, OwnType};
use super::*;

/// `us_tax_id` cannot be looked into, `code` takes some texts, `place` has fields.
fn types() -> Types {
    let domain = |condition| OwnType::Domain { over: "text".into(), condition, stand_in: None };
    let field = |name: &str, type_name: &str| Field { name: name.into(), type_name: type_name.into() };
    let fields = vec![field("street", "text"), field("no\"", "integer")];
    Types::from([
        ("public.note".to_owned(), domain(Condition::None)),
        ("elsewhere.note".to_owned(), domain(Condition::None)),
        ("public.us_tax_id".to_owned(), domain(Condition::Unknown)),
        ("public.code".to_owned(), domain(Condition::Known("(VALUE ~ 'x'::text)".into()))),
        ("public.place".to_owned(), OwnType::Composite { fields }),
        (
            "public.contact".to_owned(),
            OwnType::Domain {
                over: "text".into(),
                condition: Condition::Known("(VALUE ~ '@'::text)".into()),
                stand_in: Some("***@***.***".into()),
            },
        ),
        ("public.mood".to_owned(), OwnType::Enum { labels: vec!["low".into()] }),
    ])
}

/// The expression for the column `c` of `public.t`.
fn of(mask: &str, type_name: &str) -> Result<Expression, MaskError> {
    expression(mask, Masked { schema: "public", relation: "t", column: "c", type_name }, &types())
}

fn sql(mask: &str, type_name: &str) -> Result<(String, bool), MaskError> {
    of(mask, type_name).map(|found| (found.sql, found.discloses))
}

#[test]
fn constants_never_name_the_column_and_keep_the_type() {
    let cases = [
        ("null", "text", "null::text"),
        ("null", "integer[]", "null::integer[]"),
        ("null", "public.us_tax_id", r#"(null::"public"."t")."c""#),
        ("null", "elsewhere.tag[]", r#"(null::"public"."t")."c""#),
        ("redact", "text", "'***'::text"),
        ("redact", "character varying(20)", "'***'::character varying(20)"),
        ("redact", "integer", "null::integer"),
        ("redact", "public.us_tax_id", r#"(null::"public"."t")."c""#),
        ("fixed:it's", "text", "'it''s'::text"),
        ("fixed:a\\b", "text", "E'a\\\\b'::text"),
        ("fixed:-1", "integer", "'-1'::integer"),
        ("redact", "public.note", "'***'::public.note"),
        ("redact", "public.place", "row('***', null::integer)::public.place::public.place"),
        ("fixed:low", "public.mood", "'low'::public.mood"),
        ("redact", "public.code", r#"(null::"public"."t")."c""#),
        ("redact", "public.contact", "'***@***.***'::public.contact"),
        ("redact", "\"X.y\".citext", r#"coalesce((null::"public"."t")."c", '***')"#),
    ];
    for (mask, type_name, expected) in cases {
        assert_eq!(sql(mask, type_name), Ok((expected.to_owned(), false)), "{mask} {type_name}");
    }
}

#[test]
fn a_constant_that_names_a_type_of_a_closed_schema_says_so() {
    let names = |mask: &str, type_name: &str| of(mask, type_name).expect("fits").names_types;
    assert!(!names("redact", "text") && !names("redact", "public.note") && !names("null", "elsewhere.citext"));
    assert!(!names("fixed:x", "elsewhere.citext") && names("fixed:x", "elsewhere.note"));
    // A domain's condition may name anything.
    assert!(names("fixed:x", "public.code") && !names("redact", "public.code"));
}

#[test]
fn what_a_mask_loses_is_said() {
    let lost = |mask: &str, type_name: &str| of(mask, type_name).expect("fits").lost;
    assert_eq!(lost("redact", "text"), [""; 0]);
    assert_eq!(lost("redact", "integer"), ["NULL: only text that takes `***`, or what can stand for it, has room"]);
    assert_eq!(lost("redact", "public.contact"), [""; 0]);
    assert_eq!(lost("email", "public.code[]"), ["NULL where what the mask leaves is no `public.code`"]);
    let number = "field `no\"`: NULL, since the mask does not fit: it takes text";
    assert_eq!(lost("email", "public.place"), [number]);
    let error = of("hash", "public.mood").expect_err("no room");
    let reason = "it takes what has room for a hash: text of 16 letters or more, `bigint`, `numeric` with 19 digits \
                  before the point, `uuid`, `bytea`, JSON and network addresses";
    assert_eq!(error.to_string(), format!("the mask `hash` cannot give a value of type `public.mood`: {reason}"));
}

#[test]
fn disclosing_masks_keep_null_and_refuse_types_they_do_not_fit() {
    let fits = [
        ("email", "text"),
        ("email", "public.citext"),
        ("last4", "character(11)"),
        ("last4", "bigint"),
        ("partial", "name"),
        ("partial", "inet"),
        ("year", "date"),
        ("month", "timestamp(3) without time zone"),
        ("year", "timestamp with time zone"),
        ("year", "daterange"),
        ("bucket:10", "smallint"),
        ("bucket:10", "numeric(10,2)[]"),
        ("hash", "uuid"),
        ("hash", "character varying(16)"),
        ("hash", "numeric"),
        ("hash", "numeric(19,0)"),
        ("hash", "numeric(30,11)"),
        ("hash", "jsonb"),
        ("hash", "cidr"),
        ("json:a.b,c[].d", "jsonb"),
        ("json:$.a", "json"),
        ("partial", "public.code"),
        ("bucket:5", "public.place"),
        ("hour", "time with time zone"),
        ("year", "interval day to second(3)"),
        ("bucket:10", "int8multirange"),
        ("day", "timestamp with time zone"),
    ];
    for (mask, type_name) in fits {
        let (text, discloses) = sql(mask, type_name).expect("fits");
        assert!(discloses, "{mask}");
        let looks = text.starts_with("(case when \"c\" is null then ");
        assert!(looks != Shape::of(type_name, &types()).keeps_null(), "{text}");
        assert!(text.ends_with(&format!(")::{type_name}")), "{text}");
    }
    let wrong = [
        ("email", "integer"),
        ("last4", "public.us_tax_id"),
        ("year", "text"),
        ("year", "time without time zone"),
        ("day", "date"),
        ("bucket:60", "tsrange"),
        ("year", "public.place"),
        ("partial", "public.mood"),
        ("hash", "character varying(8)"),
        ("hash", "integer"),
        ("hash", "numeric(18,0)"),
        ("hash", "numeric(30,12)"),
        ("hash", "numeric(30,-2)"),
        ("hash", "date"),
        ("bucket:10", "text"),
        ("json:a", "text"),
        ("fixed:x", "integer"),
        ("fixed:40000", "smallint"),
        ("fixed:1000", "numeric(5,2)"),
        ("fixed:2025-13-01", "date"),
        ("fixed:x", "public.mood"),
    ];
    for (mask, type_name) in wrong {
        assert!(matches!(sql(mask, type_name), Err(MaskError::WrongType { .. })), "{mask} {type_name}");
    }
    assert_eq!(sql("emial", "text"), Err(MaskError::Unknown("emial".into())));
}

#[test]
fn a_name_is_known_exactly_when_its_parameter_can_be_read() {
    for name in
        ["null", "redact", "fixed:", "fixed:x", "email", "partial", "last4", "year", "month", "day", "hour", "hash"]
    {
        assert!(is_known(name), "{name}");
    }
    for name in ["bucket:1", "bucket:1000000000", "json:a", "json:a.b[][],c"] {
        assert!(is_known(name), "{name}");
    }
    for name in ["fixed", "bucket", "bucket:0", "bucket:x", "json:", "json:a..b", "json:[]", "json:a]b", "hash:1", ""] {
        assert!(!is_known(name), "{name}");
    }
}

#[test]
fn a_numeric_fixed_value_leaves_room_for_rounding() {
    for (value, kind, expected) in [
        ("1.5", "numeric", true),
        ("99.99", "numeric(5,2)", true),
        ("999.99", "numeric(5,2)", false),
        ("1e9", "numeric", false),
        ("", "numeric", false),
        ("00000001", "numeric(4,2)", true),
    ] {
        assert_eq!(fixed::fits(value, &Shape::of(kind, &types()), kind), expected, "{value} {kind}");
    }
}

#[test]
fn names_cannot_break_out_of_their_quotes() {
    assert_eq!(identifier("a\"; drop"), "\"a\"\"; drop\"");
    assert_eq!(literal("'; drop"), "'''; drop'");
    let (text, _) = sql("json:it's", "jsonb").expect("fits");
    assert!(text.contains("'it''s'") && !text.contains("'it's"), "{text}");
}
