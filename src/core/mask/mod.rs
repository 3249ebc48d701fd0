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
#[cfg(feature = "server")]
mod place;
pub mod scan;
mod shape;

#[cfg(feature = "server")]
pub use place::{rebuilt, returned, splice_columns, splice_text};
pub use shape::Shape;

/// The masks there are, with what follows the colon.
pub const NAMES: [&str; 11] = [
    "null",
    "redact",
    "fixed:VALUE",
    "email",
    "partial",
    "last4",
    "year",
    "month",
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

/// The expression of a mask for a column of a type that stands for itself.
pub fn expression(mask: &str, column: &str, type_name: &str) -> Result<Expression, MaskError> {
    expression_of(mask, column, type_name, type_name)
}

/// The expression of a mask for a column. `type_name` is `format_type` text with the schema where
/// the type is not PostgreSQL's own; `base` the same for what a domain without conditions is over.
pub fn expression_of(mask: &str, column: &str, type_name: &str, base: &str) -> Result<Expression, MaskError> {
    if !is_known(mask) {
        return Err(MaskError::Unknown(mask.to_owned()));
    }
    let column = identifier(column);
    let shape = Shape::of(base);
    let constant = |sql: String| Ok(Expression { sql, discloses: false });
    match mask {
        "null" => return constant(null_of(type_name)),
        "redact" if matches!(shape, Shape::Text { .. }) => return constant(format!("'***'::{type_name}")),
        "redact" => return constant(null_of(type_name)),
        _ => {}
    }
    let wrong = || MaskError::WrongType { mask: mask.to_owned(), type_name: type_name.to_owned() };
    if let Some(value) = mask.strip_prefix("fixed:") {
        // A value that the type refuses would make every read of the relation an error.
        return match fixed::fits(value, base) {
            true => constant(format!("{}::{type_name}", literal(value))),
            false => Err(wrong()),
        };
    }
    // Every disclosing mask is checked for NULL here, once.
    let inner = disclose::value(mask, &column, &shape).ok_or_else(wrong)?;
    Ok(Expression {
        sql: format!("(case when {column} is null then null else {inner} end)::{type_name}"),
        discloses: true,
    })
}

/// The size of a bucket: a whole number above zero.
fn bucket_size(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|size| *size > 0 && *size <= 1_000_000_000)
}

/// NULL of a type. A domain may refuse NULL when it is cast to; an element of a NULL array of the
/// domain is of the type and is never checked.
fn null_of(type_name: &str) -> String {
    let is_own = !type_name.contains('.') && !type_name.starts_with('"');
    if is_own || type_name.ends_with("[]") { format!("null::{type_name}") } else { format!("(null::{type_name}[])[1]") }
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
