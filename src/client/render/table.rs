//! Rows in psql's shapes: aligned, and expanded one column a line.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

use crate::client::render::Column;
use crate::core::text;

/// A result that is held to be laid out: a table's width is known only at its last row.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Option<String>>>,
    /// Bytes held in `rows`, for limits.
    pub bytes: usize,
}

impl Held {
    /// Starts a result with these columns.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), ..Self::default() }
    }

    /// Keeps a row. Text is made safe for a terminal here.
    pub fn push(&mut self, values: &[Option<&[u8]>]) {
        let row: Vec<Option<String>> = values
            .iter()
            .map(|value| value.map(|bytes| text::escape(&String::from_utf8_lossy(bytes)).into_owned()))
            .collect();
        self.bytes += row.iter().flatten().map(String::len).sum::<usize>();
        self.rows.push(row);
    }

    /// How wide the aligned form is, in characters.
    pub fn width(&self) -> usize {
        let cells = self.columns.len() * 3;
        let widest = |index: usize, name: &str| {
            let longest = self.rows.iter().filter_map(|row| row.get(index)?.as_ref()).map(|cell| cell.chars().count());
            longest.max().unwrap_or(0).max(name.chars().count())
        };
        cells + self.columns.iter().enumerate().map(|(index, column)| widest(index, &column.name)).sum::<usize>()
    }
}

/// psql's aligned form, without the footer.
pub fn aligned(held: &Held, null: &str) -> String {
    if held.columns.is_empty() {
        // `select` without columns has rows all the same; psql prints its rule only.
        return "--\n".into();
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let style = table.style_mut();
    (style.header_lines.junction, style.content_lines.junction) = (Some('|'), Some('|'));
    (style.header_separator.fill, style.header_separator.junction) = (Some('-'), Some('+'));
    for row in &held.rows {
        table.add_row(held.columns.iter().zip(row).map(|(column, value)| {
            let alignment = if column.is_number() { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(value.as_deref().unwrap_or(null)).set_alignment(alignment)
        }));
    }
    // psql centres a heading with the odd blank behind it.
    let widths: Vec<_> = table
        .column_max_content_widths()
        .into_iter()
        .map(usize::from)
        .chain(std::iter::repeat(0))
        .take(held.columns.len())
        .collect();
    table.set_header(held.columns.iter().zip(widths).map(|(column, width)| {
        let name = text::escape(&column.name);
        let before = width.saturating_sub(name.chars().count()) / 2;
        Cell::new(format!("{:before$}{name}", "")).set_alignment(CellAlignment::Left)
    }));
    let mut out = String::new();
    for (number, line) in table.lines().enumerate() {
        // psql pads its header and nothing else to the full width.
        out.push_str(if number == 0 { line.as_str() } else { line.trim_end() });
        out.push('\n');
    }
    out
}

/// psql's expanded form.
pub fn expanded(held: &Held, null: &str) -> String {
    let names: Vec<_> = held.columns.iter().map(|column| text::escape(&column.name)).collect();
    let name_width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let value_width = held
        .rows
        .iter()
        .flat_map(|row| row.iter().map(|value| value.as_deref().unwrap_or(null).chars().count()))
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    for (index, row) in held.rows.iter().enumerate() {
        let head = format!("-[ RECORD {} ]", index + 1);
        out.push_str(&rule(&head, name_width, value_width));
        for (name, value) in names.iter().zip(row) {
            let padding = " ".repeat(name_width - name.chars().count());
            let line = format!("{name}{padding} | {}", value.as_deref().unwrap_or(null));
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
    out
}

/// The line before a record: dashes up to the width of the record, with `+` over its bars if it is not hidden.
fn rule(head: &str, name_width: usize, value_width: usize) -> String {
    let mut line = head.to_owned();
    let bar = name_width + 1;
    let end = bar + 2 + value_width;
    for place in head.chars().count()..end {
        line.push(if place == bar { '+' } else { '-' });
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(columns: &[(&str, u32)], rows: &[&[Option<&str>]]) -> Held {
        let columns: Vec<Column> = columns
            .iter()
            .map(|(name, type_oid)| Column { name: (*name).into(), type_oid: *type_oid, mask: None, source: None })
            .collect();
        let mut held = Held::new(&columns);
        for row in rows {
            held.push(&row.iter().map(|value| value.map(str::as_bytes)).collect::<Vec<_>>());
        }
        held
    }

    #[test]
    fn the_aligned_form_is_psqls() {
        let held = held(
            &[("id", 23), ("email", 25), ("x", 25)],
            &[&[Some("1"), Some("u***@e******.com"), None], &[Some("12"), Some("b"), Some("y")]],
        );
        let expected = " id |      email       | x \n----+------------------+---\n  1 | u***@e******.com |\n 12 | b                | y\n";
        assert_eq!(aligned(&held, ""), expected);
    }

    #[test]
    fn an_empty_result_still_shows_its_columns() {
        assert_eq!(aligned(&held(&[("a", 25)], &[]), ""), " a \n---\n");
        assert_eq!(aligned(&held(&[], &[&[]]), ""), "--\n");
    }

    #[test]
    fn the_expanded_form_is_psqls() {
        let held = held(&[("id", 23), ("a_long_name_here", 25)], &[&[Some("1"), Some("abc")], &[Some("2"), None]]);
        let expected = "-[ RECORD 1 ]----+----\nid               | 1\na_long_name_here | abc\n-[ RECORD 2 ]----+----\nid               | 2\na_long_name_here |\n";
        assert_eq!(expanded(&held, ""), expected);
    }

    #[test]
    fn a_cell_cannot_forge_a_row_or_move_the_cursor() {
        let held = held(&[("a", 25)], &[&[Some("x\n y\u{1b}[2J")]]);
        assert_eq!(aligned(&held, ""), "       a        \n----------------\n x\\n y\\u{1b}[2J\n");
    }

    #[test]
    fn wide_letters_take_their_own_width() {
        let held = held(&[("a", 25), ("b", 25)], &[&[Some("漢字"), Some("x")], &[Some("ab"), Some("y")]]);
        assert_eq!(aligned(&held, ""), "  a   | b \n------+---\n 漢字 | x\n ab   | y\n");
    }
}
