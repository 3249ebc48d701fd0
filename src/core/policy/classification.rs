//! What is sensitive: `classification.toml` gives tags to relations and columns by name.
//!
//! A pattern is the full name, part by part; `*` stands for any letters of one part. A part
//! with a dot in it is quoted, as in `public."my.table".email`. Tags only ever add up: an entry
//! with no tags removes none, it says that somebody has looked at the column.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::Spanned;

use super::file::{Problem, Source, line_of};
use super::suggest;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Column, Relation};

/// Every entry of the file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classification {
    /// Whether columns that no entry names have the tags that their names suggest.
    tags_by_name: bool,
    relations: Vec<Entry>,
    columns: Vec<Entry>,
    /// Functions with their owner's rights that show nothing sensitive, says somebody who has looked.
    functions: Vec<Entry>,
    /// Channels of NOTIFY on which nothing sensitive is sent, by the same word.
    channels: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// One part for a channel, two for a relation or function, three for a column.
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
    defaults: Defaults,
    #[serde(default)]
    column: Vec<Item>,
    #[serde(default)]
    relation: Vec<Item>,
    #[serde(default)]
    function: Vec<Opened>,
    #[serde(default)]
    channel: Vec<Opened>,
}

/// Something that is vouched for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    #[serde(rename = "match")]
    pattern: Spanned<String>,
}

impl From<Opened> for Item {
    fn from(opened: Opened) -> Self {
        Self { pattern: opened.pattern, tags: BTreeSet::new() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    #[serde(default)]
    unclassified: Unclassified,
}

/// What a column is that no entry names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Unclassified {
    /// Without tags.
    #[default]
    Clear,
    /// What its name and type suggest, until somebody has looked at it.
    TaggedByName,
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
        let opened = |items: Vec<Opened>| items.into_iter().map(Item::from).collect();
        let functions = entries(opened(file.function), 2, "schema.function");
        let channels = entries(opened(file.channel), 1, "channel");
        let tags_by_name = file.defaults.unclassified == Unclassified::TaggedByName;
        let read = Self { tags_by_name, relations, columns, functions, channels };
        if problems.is_empty() { Ok(read) } else { Err(problems) }
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
        let suggested = |column: &Column| {
            let found = suggest::by_name(&column.name, &column.type_name);
            let unnamed = self.tags_by_name && !entries.iter().any(|entry| entry.names_column(&column.name));
            found.filter(|_| unnamed).map(|found| found.tags().iter().map(|tag| (*tag).to_owned()))
        };
        let all = relation.columns.iter().map(|column| {
            let own = tags(&column.name);
            own.into_iter().chain(suggested(column).into_iter().flatten()).collect()
        });
        all.collect()
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

    /// Whether a function with its owner's rights is vouched for.
    pub fn opens_function(&self, name: &RelationName) -> bool {
        self.functions.iter().any(|entry| entry.names_relation(name))
    }

    /// Whether what is sent on a channel of NOTIFY is vouched for.
    pub fn opens_channel(&self, channel: &str) -> bool {
        self.channels.iter().any(|entry| entry.parts.first().is_some_and(|part| matches(part, channel)))
    }

    /// Every tag that is given, with file and line of the entry that gives it.
    pub fn places(&self) -> Vec<(&str, &str, usize)> {
        let entries = self.relations.iter().chain(&self.columns);
        entries.flat_map(|entry| entry.tags.iter().map(|tag| (tag.as_str(), entry.file.as_str(), entry.line))).collect()
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
            ("[[channel]]\nmatch = \"a.b\"", 2, "2 parts, not 1"),
            ("[[function]]\nmatch = \"f\"", 2, "1 parts, not 2"),
            ("[[function]]\nmatch = \"a.f\"\ntags = []", 3, "unknown field"),
            ("[[columns]]\nmatch = \"a.b.c\"\ntags = []", 1, "unknown field"),
        ];
        for (text, line, word) in cases {
            let problems = read(text).expect_err("wrong");
            let found = problems.first().expect("one problem");
            assert!(found.line == line && found.message.contains(word), "{text}: {found}");
        }
    }

    #[test]
    fn functions_and_channels_are_open_where_somebody_vouches_for_them() {
        let text = "[[function]]\nmatch = \"public.total_*\"\n[[channel]]\nmatch = \"jobs_*\"\n\
                    [[channel]]\nmatch = '\"a.b\"'";
        let open = read(text).expect("valid");
        let name = |schema: &str, name: &str| RelationName::new(schema, name);
        assert!(open.opens_function(&name("public", "total_of")) && !open.opens_function(&name("hr", "total_of")));
        assert!(open.opens_channel("jobs_done") && open.opens_channel("a.b") && !open.opens_channel("jobs"));
        assert!(!Classification::default().opens_channel("jobs_done"));
    }

    #[test]
    fn a_column_that_nobody_has_looked_at_is_what_its_name_says_where_that_is_asked_for() {
        let column = |name: &str| Column {
            name: name.into(),
            number: 1,
            type_name: "text".into(),
            type_oid: 25,
            not_null: false,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        };
        let relation = Relation {
            oid: 1,
            name: RelationName::new("public", "t"),
            kind: crate::core::scope::catalog::RelationKind::Table,
            columns: vec![column("phone"), column("fax"), column("note")],
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows: 0,
            sequences: Vec::new(),
            unique_keys: Vec::new(),
            is_inert: false,
            constraints: Vec::new(),
        };
        let looked_at = "[[column]]\nmatch = \"public.t.fax\"\ntags = []";
        let tags = |defaults: &str| -> Vec<usize> {
            let found = read(&format!("{defaults}\n{looked_at}")).expect("right").column_tags(&relation);
            found.iter().map(BTreeSet::len).collect()
        };
        assert_eq!(tags(""), [0, 0, 0]);
        assert_eq!(tags("[defaults]\nunclassified = \"clear\""), [0, 0, 0]);
        assert_eq!(tags("[defaults]\nunclassified = \"tagged-by-name\""), [1, 0, 0]);
        assert!(read("[defaults]\nunclassified = \"masked\"").is_err());
    }

    #[test]
    fn tags_of_all_matching_entries_add_up_and_quoted_parts_may_hold_dots() {
        let text =
            "[[relation]]\nmatch = \"hr.\\\"a.b\\\"\"\ntags = [\"x\"]\n[[relation]]\nmatch = \"hr.*\"\ntags = [\"y\"]";
        let tags = read(text).expect("right").relation_tags(&RelationName::new("hr", "a.b"));
        assert_eq!(tags.into_iter().collect::<Vec<_>>(), ["x", "y"]);
    }
}
