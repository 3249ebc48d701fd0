//! Step 5, mask: the SQL expression that stands for a column which may not be seen.
//!
//! A mask is chosen by name and by the column's type; its expression has the same type.
//! Constants never read the column, so the role needs no right on it and nothing of the value
//! is left, not even whether it is NULL. Masks that disclose a part read it in a view of another
//! role; there NULL stays NULL.

mod disclose;
mod fixed;
mod json;
pub mod net;
mod own;
pub mod own_types;
#[cfg(feature = "server")]
mod place;
pub mod scan;
mod shape;

use own_types::{OwnType, Types};
#[cfg(feature = "server")]
pub use place::{grouping, rebuilt, returned, rows_view, splice_columns, splice_text};
use shape::Shape;

/// The masks there are, with what follows the colon.
pub const NAMES: [&str; 13] = [
    "null",
    "redact",
    "fixed:VALUE",
    "email",
    "partial",
    "last4",
    "year",
    "month",
    "day",
    "hour",
    "bucket:SIZE",
    "hash",
    "json:PATH,PATH",
];

/// Where the digest of the scope goes in the expression of a salted mask: a hash can be joined
/// within one scope and with nothing outside it.
pub const SCOPE_MARK: &str = "$scope$";

/// The schema of all masking views of a database, made by `target init`: a right to make schemas is
/// lost where a database is copied or restored, a schema is not.
pub const VIEWS_SCHEMA: &str = "dbgate_m_views";

/// The table that holds the salt of a database; only the owner of the masking views may read it.
pub const SALT_SCHEMA: &str = "dbgate_secret";
/// See [`SALT_SCHEMA`].
pub const SALT_TABLE: &str = "salt";

/// The column that a mask stands for.
#[derive(Clone, Copy, Debug)]
pub struct Masked<'a> {
    pub schema: &'a str,
    pub relation: &'a str,
    pub column: &'a str,
    /// `format_type` text, with the schema where the type is not PostgreSQL's own.
    pub type_name: &'a str,
}

/// The SQL that stands for a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub sql: String,
    /// Whether it reads the column, and so needs a masking view.
    pub discloses: bool,
    /// Whether it names types that may live in schemas which are closed to who reads the relation.
    pub names_types: bool,
    /// What comes back as NULL although the mask fits, in words.
    pub lost: Vec<String>,
}

/// Why a mask cannot stand for a column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("no mask is called `{0}`")]
    Unknown(String),
    #[error("the mask `{mask}` cannot give a value of type `{type_name}`: {}", takes(.mask))]
    WrongType { mask: String, type_name: String },
}

/// What a mask can show a part of. In arrays it goes by elements, in composite types by fields.
pub fn takes(mask: &str) -> &'static str {
    match mask.split_once(':').map_or(mask, |(name, _)| name) {
        "email" => "it takes text",
        "partial" => "it takes text, network addresses and hardware addresses",
        "last4" => "it takes text, `integer` and `bigint`",
        "year" | "month" => "it takes dates, timestamps, ranges of them, and intervals",
        "day" => "it takes timestamps, ranges of them, and intervals",
        "hour" => "it takes timestamps, ranges of them, intervals and times of day",
        "bucket" => "it takes numbers, ranges of them, `money`, intervals and times of day",
        "hash" => {
            "it takes what has room for a hash: text of 16 letters or more, `bigint`, `numeric` with 19 digits before \
             the point, `uuid`, `bytea`, JSON and network addresses"
        }
        "json" => "it takes `json` and `jsonb`",
        "fixed" => "the value is not one of the type, or of one that cannot be looked into here",
        // The others fit every type.
        _ => "it takes every type",
    }
}

/// Whether a mask of this name exists, with a parameter that can be read where it takes one.
pub fn is_known(name: &str) -> bool {
    match name.split_once(':') {
        Some(("fixed", _)) => true,
        Some(("bucket", size)) => bucket_size(size).is_some(),
        Some(("json", paths)) => json::Paths::parse(paths).is_some(),
        Some(_) => false,
        None => NAMES.contains(&name),
    }
}

/// The expression of a mask for a column; `types` are those that the database has made for itself.
pub fn expression(mask: &str, masked: Masked<'_>, types: &Types) -> Result<Expression, MaskError> {
    if !is_known(mask) {
        return Err(MaskError::Unknown(mask.to_owned()));
    }
    let Masked { type_name, .. } = masked;
    let shape = Shape::of(type_name, types);
    let lost = own::lost(mask, &shape);
    let constant = |sql: String| {
        let is_plain = !matches!(shape, Shape::Guarded { .. } | Shape::Record { .. })
            && !matches!(types.get(type_name), Some(OwnType::Domain { .. }));
        let (names_types, sql) = match is_in(type_name, masked.schema) {
            // A domain's condition may name anything.
            true => (matches!(shape, Shape::Guarded { .. }) && sql.contains(" as d)"), format!("{sql}::{type_name}")),
            // Beside a value of the type a literal becomes one, and the type is not named.
            false if is_plain => (false, format!("coalesce({}, {sql})", null(masked).sql)),
            false => (true, format!("{sql}::{type_name}")),
        };
        Expression { sql, discloses: false, names_types, lost: lost.clone() }
    };
    match mask {
        "null" => return Ok(null(masked)),
        "redact" => {
            return Ok(own::redacted(&shape).map_or(Expression { lost: lost.clone(), ..null(masked) }, constant));
        }
        _ => {}
    }
    let wrong = || MaskError::WrongType { mask: mask.to_owned(), type_name: type_name.to_owned() };
    if let Some(value) = mask.strip_prefix("fixed:") {
        // A value that the type refuses would make every read of the relation an error.
        return own::fixed(value, &shape, type_name).map(constant).ok_or_else(wrong);
    }
    let column = identifier(masked.column);
    let inner = disclose::value(mask, &column, &shape).ok_or_else(wrong)?;
    let sql = format!("({})::{type_name}", own::unless_null(&column, &inner, &own::null(&shape), &shape));
    Ok(Expression { sql, discloses: true, names_types: true, lost })
}

/// The mask that fits every type and shows nothing.
pub fn null(masked: Masked<'_>) -> Expression {
    let row = format!("{}.{}", identifier(masked.schema), identifier(masked.relation));
    let sql = null_of(&row, masked.column, masked.type_name);
    Expression { sql, discloses: false, names_types: false, lost: Vec::new() }
}

/// The size of a bucket: a whole number above zero.
fn bucket_size(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|size| *size > 0 && *size <= 1_000_000_000)
}

/// NULL of a field's type, by the type of the row that it is in. The field's own type may live in a
/// schema that is closed to the reader, and a domain may refuse NULL when it is cast to; what is
/// taken out of no row is of the type and is never checked.
fn null_of(row: &str, field: &str, type_name: &str) -> String {
    match is_built_in(type_name) {
        true => format!("null::{type_name}"),
        false => format!("(null::{row}).{}", identifier(field)),
    }
}

/// Whether a type is PostgreSQL's own, which everybody may name.
fn is_built_in(type_name: &str) -> bool {
    !type_name.contains('.') && !type_name.starts_with('"')
}

/// Whether a type is PostgreSQL's own or lives in this schema.
fn is_in(type_name: &str, schema: &str) -> bool {
    let after = |prefix: &str| type_name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    is_built_in(type_name) || after(schema) || after(&identifier(schema))
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
mod tests;
