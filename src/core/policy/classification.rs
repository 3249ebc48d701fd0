//! What is sensitive: `classification.toml` gives tags to relations and columns by name.
//!
//! A pattern is the full name, part by part; `*` stands for any letters of one part. A part
//! with a dot in it is quoted, as in `public."my.table".email`. Tags only ever add up: an entry
//! with no tags removes none, it says that somebody has looked at the column.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::file::{Problem, Source, line_of};
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Relation};

/// Every entry of the file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classification {
    relations: Vec<Entry>,
    columns: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Two parts for a relation, three for a column.
    parts: Vec<String>,
    /// As written, for messages.
    pattern: String,
    tags: BTreeSet<String>,
    file: String,
    line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    column: Vec<Item>,
    #[serde(default)]
    relation: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(rename = "match")]
    pattern: Spanned<String>,
    tags: BTreeSet<String>,
}

impl Classification {
    pub(super) fn parse(source: &Source) -> Result<Self, Vec<Problem>> {
        let file: File = toml::from_str(&source.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            vec![Problem::at(source, offset, error.message())]
        })?;
        let mut problems = Vec::new();
        let mut entries = |items: Vec<Item>, count: usize, form: &str| -> Vec<Entry> {
            let read = items.into_iter().filter_map(|item| match Entry::read(source, item, count, form) {
                Ok(entry) => Some(entry),
                Err(problem) => {
                    problems.push(problem);
                    None
                }
            });
            read.collect()
        };
        let relations = entries(file.relation, 2, "schema.relation");
        let columns = entries(file.column, 3, "schema.relation.column");
        if problems.is_empty() { Ok(Self { relations, columns }) } else { Err(problems) }
    }

    /// Tags that entries give to the relation itself.
    pub fn relation_tags(&self, name: &RelationName) -> BTreeSet<String> {
        let matching = self.relations.iter().filter(|entry| entry.names_relation(name));
        matching.flat_map(|entry| entry.tags.iter().cloned()).collect()
    }

    /// Tags of every column of a relation, in the relation's order, without those of the relation.
    pub fn column_tags(&self, relation: &Relation) -> Vec<BTreeSet<String>> {
        // Patterns of other relations are left out once, not for every column.
        let entries: Vec<&Entry> = self.columns.iter().filter(|entry| entry.names_relation(&relation.name)).collect();
        let tags = |column: &str| -> BTreeSet<String> {
            let matching = entries.iter().filter(|entry| entry.names_column(column));
            matching.flat_map(|entry| entry.tags.iter().cloned()).collect()
        };
        relation.columns.iter().map(|column| tags(&column.name)).collect()
    }

    /// Whether any entry names each column, with tags or without, in the relation's order.
    pub fn named(&self, relation: &Relation) -> Vec<bool> {
        relation.columns.iter().map(|column| self.names(&relation.name, &column.name)).collect()
    }

    /// Whether any entry names the column.
    pub fn names(&self, relation: &RelationName, column: &str) -> bool {
        self.columns.iter().any(|entry| entry.names_relation(relation) && entry.names_column(column))
    }

    /// Whether every column of the relation is named by an entry that spells out schema and
    /// relation without `*`: somebody has classified this very view, column for column.
    /// One entry such as `public.directory.*` with no tags is enough.
    pub fn covers(&self, relation: &Relation) -> bool {
        let entries: Vec<&Entry> = self
            .columns
            .iter()
            .filter(|entry| entry.names_relation(&relation.name) && !entry.relation_has_wildcard())
            .collect();
        relation.columns.iter().all(|column| entries.iter().any(|entry| entry.names_column(&column.name)))
    }

    /// Entries that name nothing that exists: a likely misspelling, so a warning.
    pub fn unmatched(&self, catalog: &Catalog) -> Vec<Problem> {
        let unused_relation =
            self.relations.iter().filter(|entry| !catalog.relations.keys().any(|name| entry.names_relation(name)));
        let unused_column = self.columns.iter().filter(|entry| {
            !catalog.relations.values().any(|relation| {
                entry.names_relation(&relation.name)
                    && relation.columns.iter().any(|column| entry.names_column(&column.name))
            })
        });
        let problem = |entry: &Entry| Problem {
            file: entry.file.clone(),
            line: entry.line,
            message: format!("`{}` matches nothing in database `{}`", entry.pattern, catalog.database),
        };
        unused_relation.chain(unused_column).map(problem).collect()
    }
}

impl Entry {
    fn read(source: &Source, item: Item, count: usize, form: &str) -> Result<Self, Problem> {
        let line = line_of(&source.text, item.pattern.span().start);
        let pattern = item.pattern.into_inner();
        let wrong = |message: String| Problem { file: source.name.clone(), line, message };
        let parts = split(&pattern).ok_or_else(|| wrong(format!("`{pattern}` has an open quote or an empty part")))?;
        if parts.len() != count {
            return Err(wrong(format!("`{pattern}` has {} parts, not {count}: {form}", parts.len())));
        }
        if item.tags.iter().any(String::is_empty) {
            return Err(wrong("an empty tag".to_owned()));
        }
        Ok(Self { parts, pattern, tags: item.tags, file: source.name.clone(), line })
    }

    fn names_relation(&self, name: &RelationName) -> bool {
        match self.parts.as_slice() {
            [schema, relation, ..] => matches(schema, &name.schema) && matches(relation, &name.name),
            _ => false,
        }
    }

    fn names_column(&self, column: &str) -> bool {
        self.parts.get(2).is_some_and(|part| matches(part, column))
    }

    fn relation_has_wildcard(&self) -> bool {
        self.parts.iter().take(2).any(|part| part.contains('*'))
    }
}

/// Cuts a name at its dots, honouring double quotes; nothing where a part is empty or a quote open.
fn split(pattern: &str) -> Option<Vec<String>> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for letter in pattern.chars() {
        match letter {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            other => part.push(other),
        }
    }
    parts.push(part);
    (!quoted && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// Whether a pattern with `*` matches all of a name. Linear: the first place that fits each
/// piece between two stars is as good as any later one.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match left.find(piece).and_then(|at| left.get(at + piece.len()..)) {
            Some(after) => left = after,
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Classification, Vec<Problem>> {
        Classification::parse(&Source::new("classification.toml", text))
    }

    #[test]
    fn a_star_stands_for_letters_of_one_part() {
        let cases = [
            ("email", "email", true),
            ("email", "emails", false),
            ("*", "anything", true),
            ("*_email", "work_email", true),
            ("*_email", "email", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn wrong_entries_are_errors_with_their_line() {
        let cases = [
            ("[[column]]\nmatch = \"public.customers\"\ntags = []", 2, "2 parts, not 3"),
            ("[[relation]]\nmatch = \"a.b.c\"\ntags = []", 2, "3 parts, not 2"),
            ("\n[[column]]\nmatch = \"a..c\"\ntags = []", 3, "empty part"),
            ("[[column]]\nmatch = \"a.b.c\"\ntag = [\"pii\"]", 3, "unknown field"),
            ("[[columns]]\nmatch = \"a.b.c\"\ntags = []", 1, "unknown field"),
        ];
        for (text, line, word) in cases {
            let problems = read(text).expect_err("wrong");
            let found = problems.first().expect("one problem");
            assert!(found.line == line && found.message.contains(word), "{text}: {found}");
        }
    }

    #[test]
    fn tags_of_all_matching_entries_add_up_and_quoted_parts_may_hold_dots() {
        let text =
            "[[relation]]\nmatch = \"hr.\\\"a.b\\\"\"\ntags = [\"x\"]\n[[relation]]\nmatch = \"hr.*\"\ntags = [\"y\"]";
        let tags = read(text).expect("right").relation_tags(&RelationName::new("hr", "a.b"));
        assert_eq!(tags.into_iter().collect::<Vec<_>>(), ["x", "y"]);
    }
}
