//! How often parts of a statement are evaluated, and how many rows its queries make, at most and as far
//! as that is written out.

use super::effects::is_name;
use super::predicate;
use super::tree::Tree;

/// Parts of a query in which a function that returns a set makes rows.
pub(super) const PARTS: [&str; 6] =
    ["target_list", "values_lists", "group_clause", "sort_clause", "distinct_clause", "window_clause"];

/// A series that fetches numbers for so many new rows.
pub(super) const BLOCK: u64 = 1_000;

/// How many rows there are, or how often something is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Often {
    /// So many times by what is written out.
    pub times: u64,
    /// Each of them once for every row that the statement changes.
    pub is_counted: bool,
    /// Each of them once for every row that has some values which may be those of a key.
    pub is_keyed: bool,
}

impl Often {
    pub const ONCE: Self = Self::times(1);
    /// Nobody has written out how many.
    pub const MANY: Self = Self::times(u64::MAX);
    pub const COUNTED: Self = Self { is_counted: true, ..Self::ONCE };
    const KEYED: Self = Self { is_keyed: true, ..Self::ONCE };

    pub const fn times(times: u64) -> Self {
        Self { times, is_counted: false, is_keyed: false }
    }

    /// The one for each of the other.
    pub const fn and(self, other: Self) -> Self {
        Self { times: self.times.saturating_mul(other.times), ..self.marked(other) }
    }

    /// The one beside the other.
    const fn plus(self, other: Self) -> Self {
        Self { times: self.times.saturating_add(other.times), ..self.marked(other) }
    }

    const fn marked(self, other: Self) -> Self {
        Self { is_counted: self.is_counted || other.is_counted, is_keyed: self.is_keyed || other.is_keyed, ..self }
    }

    /// Where a key has not picked its row yet.
    pub const fn without_keys(self) -> Self {
        if self.is_keyed { Self::MANY } else { self }
    }

    /// Whether it is no more often than that, whatever the rows are.
    pub const fn is_written(self, most: u64) -> bool {
        self.times <= most && !self.is_counted && !self.is_keyed
    }

    const fn at_most(self, rows: u64) -> Self {
        match rows {
            0 => self,
            rows if self.is_written(rows) => self,
            rows => Self::times(rows),
        }
    }
}

/// What WITH has named around some place, with how many rows there are of it; nearest last.
#[derive(Debug, Default)]
pub(super) struct Common<'a> {
    around: Option<&'a Self>,
    names: Vec<(String, Often)>,
}

impl Common<'_> {
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn truncate(&mut self, length: usize) {
        self.names.truncate(length);
    }

    /// The names of a WITH RECURSIVE are known in all of it, also before it is known how many rows they have.
    pub fn begin(&mut self, with: &Tree) {
        if with.get("recursive").flag() {
            self.names.extend(with.get("ctes").items().iter().map(|table| (name_of(table), Often::MANY)));
        }
    }

    /// Names one query of a WITH.
    pub fn name(&mut self, table: &Tree, goes_round: bool) {
        let rows = if goes_round { Often::MANY } else { self.answered(table.get("ctequery")) };
        self.names.push((name_of(table), rows));
    }

    /// The most rows that a query answers with.
    pub fn answered(&self, query: &Tree) -> Often {
        let with = query.get("with_clause");
        if with.is_nothing() {
            return self.answered_here(query);
        }
        let mut own = Common { around: Some(self), names: Vec::new() };
        own.begin(with);
        for table in with.get("ctes").items() {
            own.name(table, with.get("recursive").flag() && is_recursive(table));
        }
        own.answered_here(query)
    }

    fn answered_here(&self, query: &Tree) -> Often {
        match query.kind() {
            "SelectStmt" => {}
            "InsertStmt" => {
                let offered = self.answered(query.get("select_stmt"));
                return if offered.times > BLOCK { Often::COUNTED } else { offered };
            }
            "UpdateStmt" | "DeleteStmt" | "MergeStmt" => return Often::COUNTED,
            _ => return Often::MANY,
        }
        let values = query.get("values_lists").items().len();
        let rows = match (query.get("larg"), query.get("rarg")) {
            _ if values > 0 => self.made(query).and(Often::times(u64::try_from(values).unwrap_or(u64::MAX))),
            (left @ Tree::Node(..), right @ Tree::Node(..)) => self.answered(left).plus(self.answered(right)),
            _ => self.made(query),
        };
        rows.at_most(limit(query))
    }

    /// Rows that a SELECT makes for each time it runs.
    pub fn made(&self, select: &Tree) -> Often {
        let from = select.get("from_clause").items();
        let rows = match from {
            [one] if one.kind() == "RangeVar" && self.find(one).is_none() && predicate::key(select).is_some() => {
                Often::KEYED
            }
            from => from.iter().fold(Often::ONCE, |product, item| product.and(self.source(item))),
        };
        PARTS.iter().fold(rows, |rows, part| rows.and(Often::times(sets(select.get(part)))))
    }

    /// The most rows that may come out of a source.
    pub fn source(&self, item: &Tree) -> Often {
        match item.kind() {
            "JoinExpr" => self.source(item.get("larg")).and(self.source(item.get("rarg"))),
            "RangeSubselect" => self.answered(item.get("subquery")),
            "RangeVar" => self.find(item).unwrap_or(Often::MANY),
            "RangeFunction" => {
                let mut calls = Vec::new();
                item.get("functions").visit(&mut |node| {
                    if node.kind() == "FuncCall" {
                        calls.push(node);
                    }
                });
                match calls.as_slice() {
                    // A function that answers with one value is one row.
                    [call] if is_name(function(call)) || function(call) == "now" => Often::ONCE,
                    [call] => written(call).map_or(Often::MANY, Often::times),
                    _ => Often::MANY,
                }
            }
            _ => Often::MANY,
        }
    }

    /// How many rows there are of what WITH has named.
    fn find(&self, range: &Tree) -> Option<Often> {
        if !range.get("schemaname").text().is_empty() {
            return None;
        }
        let name = range.get("relname").text();
        let known = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, rows)| *rows);
        known.or_else(|| self.around?.find(range))
    }
}

fn name_of(table: &Tree) -> String {
    table.get("ctename").text().to_owned()
}

/// How many rows functions that return sets make of one, outside of sub-selects.
fn sets(tree: &Tree) -> u64 {
    match tree {
        Tree::List(items) => items.iter().map(sets).fold(1, u64::saturating_mul),
        Tree::Node("SelectStmt", _) | Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => 1,
        Tree::Node(kind, fields) => {
            let is_call = *kind == "FuncCall" && is_set(function(tree));
            let own = if is_call { written(tree).unwrap_or(u64::MAX) } else { 1 };
            fields.iter().map(|(_, field)| sets(field)).fold(own, u64::saturating_mul)
        }
    }
}

/// A common table that reads itself.
pub(super) fn is_recursive(table: &Tree) -> bool {
    let name = table.get("ctename").text();
    let mut found = false;
    table.get("ctequery").visit(&mut |node| {
        found |=
            node.kind() == "RangeVar" && node.get("schemaname").text().is_empty() && node.get("relname").text() == name;
    });
    found
}

/// The name of the function that a call spells as one.
pub(super) fn function(call: &Tree) -> &str {
    call.get("funcname").items().last().map_or("", |part| part.get("sval").text())
}

/// The LIMIT of a query, where it is a number that stands there and lets through no more; else none.
pub(super) fn limit(query: &Tree) -> u64 {
    // WITH TIES (3) lets through whatever is equal to the last.
    match query.get("limit_option").int() {
        3 => 0,
        _ => u64::try_from(query.get("limit_count").get("val").get("ival").int()).unwrap_or(0),
    }
}

/// Functions that return sets wherever they are known.
pub(super) fn is_set(name: &str) -> bool {
    matches!(name, "generate_series" | "unnest" | "generate_subscripts" | "regexp_matches")
        || [
            "_to_table",
            "_array_elements",
            "_array_elements_text",
            "_each",
            "_each_text",
            "_object_keys",
            "_recordset",
            "_expandarray",
            "_path_query",
            "_path_query_tz",
        ]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The rows of a series between two numbers that stand there, or of an array whose elements do.
pub(super) fn written(call: &Tree) -> Option<u64> {
    let number = |tree: &Tree| match tree.get("val").get("ival") {
        Tree::Int(number) => Some(*number),
        _ => None,
    };
    match (function(call), call.get("args").items()) {
        ("generate_series", [from, to]) => {
            let steps = number(to)?.saturating_sub(number(from)?);
            Some(u64::try_from(steps.saturating_add(1)).unwrap_or(0))
        }
        ("unnest", [array]) if array.kind() == "AArrayExpr" && is_of_constants(array) => {
            u64::try_from(array.get("elements").items().len()).ok()
        }
        _ => None,
    }
}

fn is_of_constants(array: &Tree) -> bool {
    array.get("elements").items().iter().all(|element| element.kind() == "AConst")
}
