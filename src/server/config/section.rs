//! One table of a configuration file, read key by key, so that every mistake in it is told at
//! once and with its line. A key that nobody asked for is a mistake too: a misspelt limit that
//! is silently ignored would be a limit that does not exist.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{DeserializeOwned, IntoDeserializer as _};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.file.display(), self.message),
            line => write!(out, "{}:{line}: {}", self.file.display(), self.message),
        }
    }
}

/// The mistakes found so far in one file.
pub struct Findings<'a> {
    file: &'a Path,
    text: &'a str,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, problems: Vec::new() }
    }

    /// Notes a mistake at a line; 0 for the whole file.
    pub fn add(&mut self, line: usize, message: impl Into<String>) {
        self.problems.push(Problem { file: self.file.to_owned(), line, message: message.into() });
    }

    /// The line that a span begins at.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count().saturating_add(1)
    }

    fn add_parse_error(&mut self, error: &toml::de::Error, otherwise: usize) {
        let line = error.span().map_or(otherwise, |span| self.line(&span));
        // The parser's text may hold line breaks; a problem is one line.
        self.add(line, error.message().replace('\n', " "));
    }

    /// What was found, by line.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }
}

/// A key and its value, with the places where they stand.
type Entry<'t> = (Range<usize>, Spanned<DeValue<'t>>);

/// A table whose keys have not all been asked for yet.
pub struct Section<'t> {
    /// As written in the file: `[server]` or `[[targets]]`; empty for the whole document.
    name: String,
    span: Range<usize>,
    entries: BTreeMap<String, Entry<'t>>,
    asked: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The document itself. Mistakes of syntax end up in the findings; what could be read stays.
    pub fn document(findings: &mut Findings<'t>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(findings.text);
        for error in &errors {
            findings.add_parse_error(error, 1);
        }
        Self::of_table(String::new(), 0..0, table.into_inner())
    }

    fn of_table(name: String, span: Range<usize>, table: DeTable<'t>) -> Self {
        let entries = table.into_iter().map(|(key, value)| (key.get_ref().to_string(), (key.span(), value))).collect();
        Self { name, span, entries, asked: Vec::new() }
    }

    /// The line the section begins at.
    pub fn line(&self, findings: &Findings<'_>) -> usize {
        findings.line(&self.span)
    }

    /// The value of a key and its line, if the key is there and its value has the right form.
    pub fn take<T: DeserializeOwned>(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Option<(usize, T)> {
        self.asked.push(key);
        let (span, value) = self.entries.remove(key)?;
        let line = findings.line(&span);
        match T::deserialize(value.into_deserializer()) {
            Ok(value) => Some((line, value)),
            Err(error) => {
                findings.add_parse_error(&error, line);
                None
            }
        }
    }

    /// The same, and a mistake where the key is missing.
    pub fn require<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<(usize, T)> {
        if !self.entries.contains_key(key) {
            self.asked.push(key);
            findings.add(self.line(findings), format!("`{key}` is missing{}", self.place()));
            return None;
        }
        self.take(key, findings)
    }

    /// A time as in `30s`, `5m` or `1h`; `usual` where the key is not there, or is no time.
    pub fn time(&mut self, key: &'static str, usual: Duration, findings: &mut Findings<'_>) -> Duration {
        let Some((line, text)) = self.take::<String>(key, findings) else { return usual };
        duration(&text).unwrap_or_else(|| {
            findings.add(line, format!("`{key}` is a time as in 30s, 5m or 1h, not `{text}`"));
            usual
        })
    }

    /// A table in this one, as in `[server]`.
    pub fn section(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Option<Self> {
        self.asked.push(key);
        let (span, value) = self.entries.remove(key)?;
        self.table(key, span, value, "[", "]", findings)
    }

    /// The tables of an array in this one, as in `[[targets]]`.
    pub fn sections(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Vec<Self> {
        self.asked.push(key);
        let Some((span, value)) = self.entries.remove(key) else { return Vec::new() };
        let DeValue::Array(array) = value.into_inner() else {
            findings.add(findings.line(&span), format!("`{key}` must be written as `[[{}]]`", self.path(key)));
            return Vec::new();
        };
        array
            .into_iter()
            .filter_map(|item| {
                let span = item.span();
                self.table(key, span, item, "[[", "]]", findings)
            })
            .collect()
    }

    fn table(
        &self,
        key: &str,
        span: Range<usize>,
        value: Spanned<DeValue<'t>>,
        open: &str,
        close: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let path = self.path(key);
        match value.into_inner() {
            DeValue::Table(table) => Some(Self::of_table(format!("{open}{path}{close}"), span, table)),
            other => {
                findings.add(
                    findings.line(&span),
                    format!("`{path}` must be a table `{open}{path}{close}`, not {}", other.type_str()),
                );
                None
            }
        }
    }

    fn path(&self, key: &str) -> String {
        let outer = self.name.trim_matches(['[', ']']);
        if outer.is_empty() { key.to_owned() } else { format!("{outer}.{key}") }
    }

    fn place(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!(" in `{}`", self.name) }
    }

    /// All that is left, as one value: for a section whose form another module owns.
    pub fn rest<T: DeserializeOwned>(self, findings: &mut Findings<'_>) -> Option<T> {
        let line = self.line(findings);
        let table: DeTable<'t> =
            self.entries.into_iter().map(|(key, (span, value))| (Spanned::new(span, key.into()), value)).collect();
        match T::deserialize(Spanned::new(self.span, DeValue::Table(table)).into_deserializer()) {
            Ok(value) => Some(value),
            Err(error) => {
                findings.add_parse_error(&error, line);
                None
            }
        }
    }

    /// Nothing else may stand here.
    pub fn finish(self, findings: &mut Findings<'_>) {
        for (key, (span, _)) in &self.entries {
            let known = self.asked.join(", ");
            findings.add(findings.line(span), format!("unknown key `{key}`{}; known: {known}", self.place()));
        }
    }
}

/// `30s`, `5m`, `1h`, at least a second and at most a week.
fn duration(text: &str) -> Option<Duration> {
    const WEEK: u64 = 7 * 24 * 60 * 60;
    let factor = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    let seconds = number.checked_mul(factor)?;
    (1..=WEEK).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "0s", "5", "5d", "999999h", "-1s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
