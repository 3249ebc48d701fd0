//! Step 5, mask, and what else came back: columns and rows as people and programs read them.
//!
//! Every byte that came from the database goes through [`crate::core::text::escape`] before it
//! can reach a terminal, so that a cell can neither move the cursor nor forge a row.
//! [`table`] is psql's aligned and expanded shapes, [`value`] the JSON spelling of values,
//! [`report`] errors with a caret.

pub mod report;
pub mod request;
pub mod table;
pub mod value;

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::core::api::MaskedColumn;
use crate::core::wire::backend::Field;

/// One column of a result, with what is known of its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    /// The name of the mask, where the column comes straight from a masked one.
    pub mask: Option<String>,
    /// `schema.relation.column`, where that is known.
    pub source: Option<String>,
}

impl Column {
    /// What COPY TO STDOUT gives: lines of `text` (pg_type.dat).
    pub fn of_copy() -> Self {
        Self { name: "copy".to_owned(), type_oid: 25, mask: None, source: None }
    }

    /// From a RowDescription, looked up among the grant's masked columns by table OID and attribute.
    pub fn from_field(field: &Field, masks: &[MaskedColumn]) -> Self {
        let masked = masks.iter().find(|mask| {
            field.table_oid != 0 && (mask.table_oid, mask.attribute) == (field.table_oid, field.attribute)
        });
        Self {
            name: field.name.clone(),
            type_oid: field.type_oid,
            mask: masked.map(|mask| mask.mask.clone()),
            source: masked.map(|mask| format!("{}.{}.{}", mask.schema, mask.relation, mask.column)),
        }
    }

    /// Numbers stand at the right.
    pub fn is_number(&self) -> bool {
        matches!(self.type_oid, 20 | 21 | 23 | 26 | 28 | 29 | 700 | 701 | 790 | 1700)
    }
}

/// `(2 rows, 1 column masked)`, as psql's footer with one fact more.
pub fn footer(rows: u64, columns: &[Column]) -> String {
    let masked = columns.iter().filter(|column| column.mask.is_some()).count();
    let rows = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    match masked {
        0 => format!("({rows})"),
        1 => format!("({rows}, 1 column masked)"),
        more => format!("({rows}, {more} columns masked)"),
    }
}

/// Whether the tag of a statement is said behind the rows that it returned, as psql does of writes.
pub fn is_told(tag: &str) -> bool {
    matches!(tag.split(' ').next(), Some("INSERT" | "UPDATE" | "DELETE" | "MERGE"))
}

/// `Time: 4.213 ms`, as psql writes it; above a second also in minutes and seconds.
pub fn timing(elapsed: std::time::Duration) -> String {
    let milliseconds = elapsed.as_secs_f64() * 1000.0;
    let seconds = elapsed.as_secs();
    match seconds {
        0 => format!("Time: {milliseconds:.3} ms"),
        1..=59 => {
            format!("Time: {milliseconds:.3} ms (00:{seconds:02}.{:03})", elapsed.subsec_millis())
        }
        _ => {
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            format!("Time: {milliseconds:.3} ms ({minutes:02}:{seconds:02}.{:03})", elapsed.subsec_millis())
        }
    }
}

/// A text in so many columns of a terminal: what does not fit is left out, and `…` says so.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return text.into();
    }
    let mut taken = 1;
    let fits = |letter: &char| {
        taken += letter.width().unwrap_or(0);
        taken <= columns
    };
    let kept: String = text.chars().take_while(fits).collect();
    if columns == 0 { Cow::Borrowed("") } else { format!("{kept}…").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_columns_that_its_letters_take() {
        for (text, columns, shown) in [
            ("waits · Ctrl-C", 14, "waits · Ctrl-C"),
            ("waits · Ctrl-C", 9, "waits · …"),
            // Letters of two columns each.
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 6, "漢字…"),
            ("wide", 1, "…"),
            ("wide", 0, ""),
        ] {
            assert_eq!(cut(text, columns), shown, "{text} in {columns}");
        }
    }

    #[test]
    fn a_column_is_masked_by_where_it_comes_from_not_by_its_name() {
        let mask = MaskedColumn {
            schema: "public".into(),
            relation: "customers".into(),
            column: "email".into(),
            mask: "email".into(),
            table_oid: 100,
            attribute: 3,
        };
        let field = |name: &str, table_oid, attribute| Field {
            name: name.into(),
            table_oid,
            attribute,
            type_oid: 25,
            type_size: -1,
            type_modifier: -1,
            format: 0,
        };
        let seen = |field| Column::from_field(&field, std::slice::from_ref(&mask)).mask;
        assert_eq!(seen(field("x", 100, 3)), Some("email".into()));
        assert_eq!(seen(field("email", 100, 4)), None);
        assert_eq!(seen(field("email", 0, 0)), None);
    }

    #[test]
    fn the_footer_counts_rows_and_masked_columns() {
        let column =
            |mask: Option<&str>| Column { name: "a".into(), type_oid: 25, mask: mask.map(str::to_owned), source: None };
        assert_eq!(footer(1, &[column(None)]), "(1 row)");
        assert_eq!(footer(2, &[column(None), column(Some("m"))]), "(2 rows, 1 column masked)");
        assert_eq!(footer(0, &[column(Some("m")), column(Some("m"))]), "(0 rows, 2 columns masked)");
    }

    #[test]
    fn times_read_as_in_psql() {
        use std::time::Duration;
        assert_eq!(timing(Duration::from_micros(4213)), "Time: 4.213 ms");
        assert_eq!(timing(Duration::from_millis(2062)), "Time: 2062.000 ms (00:02.062)");
        assert_eq!(timing(Duration::from_millis(125_007)), "Time: 125007.000 ms (02:05.007)");
    }
}
