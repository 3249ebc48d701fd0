//! What goes to stdout: rows as tables, CSV, TSV or NDJSON. The JSON document of `exec` is [`answer`](super::answer).
//!
//! The rules: stdout is the answer and nothing else; colours never appear when it is piped; JSON
//! is one document for every outcome; text of the database is escaped before a terminal sees it.

use std::io::IsTerminal as _;

use serde_json::json;

use crate::cli::answer::Outcome;
use crate::cli::args::Format;
use crate::cli::stdout::{print, write, write_bytes};
use crate::client::render::table::{self, Held};
use crate::client::render::value;
use crate::client::render::{self, Column};
use crate::core::text;

/// Rows held to lay a table out; the widths of a longer result come from its first rows.
const HELD_ROWS: usize = 10_000;

/// Rows as they come, in the format that was asked for.
pub struct Table {
    format: Format,
    held: Option<Held>,
    types: Vec<u32>,
    masked: Vec<Column>,
}

impl Table {
    pub fn new(format: Format) -> Self {
        Self { format, held: None, types: Vec::new(), masked: Vec::new() }
    }

    pub fn columns(&mut self, columns: &[Column]) {
        self.types = columns.iter().map(|column| column.type_oid).collect();
        self.masked = columns.to_vec();
        let names = || columns.iter().map(|column| column.name.as_str());
        match self.format {
            Format::Auto | Format::Table => self.held = Some(Held::new(columns)),
            Format::Csv => write(&line(names().map(Some), ',')),
            Format::Tsv => write(&line(names().map(Some), '\t')),
            Format::Ndjson => {
                let columns: Vec<_> = columns
                    .iter()
                    .map(|c| json!({"name": c.name, "type": value::type_name(c.type_oid), "mask": c.mask}))
                    .collect();
                write(&format!("{}\n", json!({"event": "columns", "columns": columns})));
            }
            Format::Json => {}
        }
    }

    pub fn row(&mut self, values: &[Option<&[u8]>]) {
        let decoded = |value: &Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        match self.format {
            Format::Auto | Format::Table => {
                let Some(held) = &mut self.held else { return };
                held.push(values);
                if held.rows.len() >= HELD_ROWS {
                    self.flush();
                }
            }
            Format::Csv | Format::Tsv => {
                let texts: Vec<_> = values.iter().map(decoded).collect();
                let separator = if self.format == Format::Csv { ',' } else { '\t' };
                write(&line(texts.iter().map(Option::as_deref), separator));
            }
            Format::Ndjson => {
                write(&format!("{{\"event\":\"row\",\"row\":{}}}\n", value::row(&self.types, values)));
            }
            Format::Json => {}
        }
    }

    pub fn done(&mut self, tag: &str, rows: u64) {
        match self.format {
            Format::Auto | Format::Table => {
                if self.held.is_some() {
                    self.flush();
                    print(&format!("{}\n", render::footer(rows, &self.masked)));
                }
                if self.held.take().is_none() || render::is_told(tag) {
                    print(&text::escape(tag));
                }
            }
            Format::Ndjson => {
                write(&format!("{}\n", json!({"event": "result", "command_tag": tag, "row_count": rows})))
            }
            Format::Csv | Format::Tsv | Format::Json => {}
        }
    }

    /// Whether what is written is for eyes and text programs.
    pub fn is_text(&self) -> bool {
        !matches!(self.format, Format::Json | Format::Ndjson)
    }

    /// Data of COPY TO STDOUT goes out as it is, but for what a terminal would obey.
    pub fn raw(&self, bytes: &[u8]) {
        match std::io::stdout().is_terminal() {
            true => write(&text::escape_keeping_lines(&String::from_utf8_lossy(bytes))),
            false => write_bytes(bytes),
        }
    }

    /// The last word on a result that was cut off. Of one that failed no more is shown.
    pub fn finish(&mut self, outcome: &Outcome, has_failed: bool) {
        if has_failed {
            self.held = None;
        } else if self.held.is_some() {
            self.done("", outcome.row_count);
        }
        if let (Some((_, _, advice)), Format::Auto | Format::Table | Format::Csv | Format::Tsv | Format::Ndjson) =
            (outcome.advice(), self.format)
        {
            if self.format == Format::Ndjson {
                let event = json!({"event": "truncated", "row_count": outcome.row_count, "advice": advice});
                print(&event.to_string());
            }
            eprintln!("Cut off after {} rows. {advice}", outcome.row_count);
        }
    }

    fn flush(&mut self) {
        if let Some(held) = &mut self.held {
            write(&table::aligned(held, ""));
            held.rows.clear();
        }
    }
}

/// One line of CSV (RFC 4180) or TSV.
fn line<'a>(values: impl Iterator<Item = Option<&'a str>>, separator: char) -> String {
    let cell = |value: Option<&str>| {
        let text = value.unwrap_or("");
        match text.contains([separator, '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            // An empty text is told from NULL by its quotes.
            false if value == Some("") => "\"\"".to_owned(),
            false => text.to_owned(),
        }
    };
    let cells: Vec<_> = values.map(cell).collect();
    format!("{}\n", cells.join(&separator.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_must_be_quoted_and_tells_null_from_empty() {
        assert_eq!(line([Some("a,b"), None, Some(""), Some("q\"")].into_iter(), ','), "\"a,b\",,\"\",\"q\"\"\"\n");
    }
}
