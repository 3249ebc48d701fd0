//! Step 5, mask: the SQL expression that stands for a column which may not be seen.
//!
//! A mask is chosen by name and by the column's type; its expression has the same type.
//! Constants never read the column, so the role needs no right on it and nothing of the value
//! is left, not even whether it is NULL. Masks that disclose a part read it in a view of another
//! role; there NULL stays NULL.

#[cfg(feature = "server")]
mod place;

#[cfg(feature = "server")]
pub use place::{returned, splice_text};

/// The masks there are. `fixed` takes a value, as in `fixed:unknown`.
pub const NAMES: [&str; 8] = ["null", "redact", "fixed:VALUE", "email", "partial", "last4", "year", "month"];

/// The SQL that stands for a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub sql: String,
    /// Whether it reads the column, and so needs a masking view.
    pub discloses: bool,
}

/// Why a mask cannot stand for a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("no mask is called `{0}`")]
    Unknown(String),
    #[error("the mask `{mask}` cannot give a value of type `{type_name}`")]
    WrongType { mask: String, type_name: String },
}

/// Whether a mask of this name exists.
pub fn is_known(name: &str) -> bool {
    name.starts_with("fixed:") || NAMES.contains(&name)
}

/// The expression of a mask for a column; `type_name` is `format_type` text with the schema
/// where the type is not PostgreSQL's own.
pub fn expression(mask: &str, column: &str, type_name: &str) -> Result<Expression, MaskError> {
    let column = identifier(column);
    let constant = |sql: String| Ok(Expression { sql, discloses: false });
    let wrong = || Err(MaskError::WrongType { mask: mask.to_owned(), type_name: type_name.to_owned() });
    // Every disclosing mask is checked for NULL here, once.
    let disclosing = |inner: String| {
        Ok(Expression {
            sql: format!("(case when {column} is null then null else {inner} end)::{type_name}"),
            discloses: true,
        })
    };
    if let Some(value) = mask.strip_prefix("fixed:") {
        return constant(format!("{}::{type_name}", literal(value)));
    }
    match mask {
        "null" => constant(null_of(type_name)),
        "redact" if is_text(type_name) => constant(format!("'***'::{type_name}")),
        "redact" => constant(null_of(type_name)),
        "email" if is_text(type_name) => disclosing(email(&column)),
        "last4" if is_text(type_name) => disclosing(format!(
            "case when length({column}::text) >= 8 then '***' || right({column}::text, 4) else '***' end"
        )),
        "partial" if is_text(type_name) => disclosing(format!(
            "case when length({column}::text) >= 8 then left({column}::text, 2) || '***' || right({column}::text, 2) \
             else '***' end"
        )),
        "year" | "month" => match moment_cut(mask, &column, type_name) {
            Some(inner) => disclosing(inner),
            None => wrong(),
        },
        "email" | "last4" | "partial" => wrong(),
        other => Err(MaskError::Unknown(other.to_owned())),
    }
}

/// First letters of name and domain, the domain's length and its ending: `u***@e******.com`.
fn email(column: &str) -> String {
    let domain = format!("split_part({column}::text, '@', 2)");
    let label = format!("regexp_replace({domain}, '\\.[^.]*$', '')");
    format!(
        "case when position('@' in {column}::text) < 2 then '***' else left({column}::text, 1) || '***@' || \
         left({domain}, 1) || repeat('*', greatest(length({label}) - 1, 0)) || \
         coalesce(substring({domain} from '\\.[^.]*$'), '') end"
    )
}

/// The beginning of the year or month, without a detour through the session's time zone.
fn moment_cut(unit: &str, column: &str, type_name: &str) -> Option<String> {
    if type_name == "date" || type_name.ends_with("without time zone") && type_name.starts_with("timestamp") {
        Some(format!("date_trunc('{unit}', {column}::timestamp)"))
    } else if type_name.starts_with("timestamp") && type_name.ends_with("with time zone") {
        Some(format!("date_trunc('{unit}', {column}, 'UTC')"))
    } else {
        None
    }
}

/// NULL of a type. A domain may refuse NULL when it is cast to; an element of a NULL array of the
/// domain is of the type and is never checked.
fn null_of(type_name: &str) -> String {
    let is_own = !type_name.contains('.') && !type_name.starts_with('"');
    if is_own || type_name.ends_with("[]") { format!("null::{type_name}") } else { format!("(null::{type_name}[])[1]") }
}

/// PostgreSQL's own types that hold any text. Domains do not count: they may refuse `***`.
fn is_text(type_name: &str) -> bool {
    let base = type_name.split('(').next().unwrap_or(type_name);
    matches!(base, "text" | "character varying" | "character" | "bpchar" | "name")
}

/// A name as PostgreSQL reads it back letter for letter.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string constant that means the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(mask: &str, type_name: &str) -> Result<(String, bool), MaskError> {
        expression(mask, "c", type_name).map(|found| (found.sql, found.discloses))
    }

    #[test]
    fn constants_never_name_the_column_and_keep_the_type() {
        let cases = [
            ("null", "text", "null::text"),
            ("null", "integer[]", "null::integer[]"),
            ("null", "public.us_tax_id", "(null::public.us_tax_id[])[1]"),
            ("null", "public.tag[]", "null::public.tag[]"),
            ("redact", "text", "'***'::text"),
            ("redact", "character varying(20)", "'***'::character varying(20)"),
            ("redact", "integer", "null::integer"),
            ("redact", "public.us_tax_id", "(null::public.us_tax_id[])[1]"),
            ("fixed:it's", "text", "'it''s'::text"),
            ("fixed:a\\b", "text", "E'a\\\\b'::text"),
        ];
        for (mask, type_name, expected) in cases {
            assert_eq!(sql(mask, type_name), Ok((expected.to_owned(), false)), "{mask} {type_name}");
        }
    }

    #[test]
    fn disclosing_masks_keep_null_and_refuse_types_they_do_not_fit() {
        let fits = [
            ("email", "text"),
            ("last4", "character(11)"),
            ("partial", "name"),
            ("year", "date"),
            ("month", "timestamp(3) without time zone"),
            ("year", "timestamp with time zone"),
        ];
        for (mask, type_name) in fits {
            let (text, discloses) = sql(mask, type_name).expect("fits");
            assert!(discloses, "{mask}");
            assert!(text.starts_with("(case when \"c\" is null then null else "), "{text}");
            assert!(text.ends_with(&format!(" end)::{type_name}")), "{text}");
        }
        for (mask, type_name) in
            [("email", "integer"), ("last4", "public.us_tax_id"), ("year", "text"), ("year", "time")]
        {
            assert!(matches!(sql(mask, type_name), Err(MaskError::WrongType { .. })), "{mask} {type_name}");
        }
        assert_eq!(sql("emial", "text"), Err(MaskError::Unknown("emial".into())));
    }

    #[test]
    fn a_name_is_known_exactly_when_it_makes_an_expression() {
        for name in ["null", "redact", "fixed:x", "email", "partial", "last4"] {
            assert!(is_known(name) && sql(name, "text").is_ok(), "{name}");
        }
        for name in ["fixed", "hash", ""] {
            assert!(!is_known(name) && sql(name, "text").is_err(), "{name}");
        }
        assert!(!is_known("fixed:VALUE".trim_end_matches(":VALUE")));
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        assert_eq!(identifier("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(literal("'; drop"), "'''; drop'");
    }
}
