//! What the rows of a query are to the query around it: those of one relation, so many, or rows of
//! which some columns are a key. What is not known to be any of that has no key.

use std::collections::{HashMap, HashSet};

use super::grammar::constant;
use super::joins::{Joins, Source};
use super::often::limit;
use super::tree::Tree;

/// Only FROM, WHERE and columns: a query that is its tables.
pub(super) fn is_plain(query: &Tree) -> bool {
    let is_empty = |name: &&str| query.get(name).items().is_empty();
    let is_absent = |name: &&str| query.get(name).is_nothing();
    ["group_clause", "distinct_clause", "window_clause", "values_lists"].iter().all(is_empty)
        && ["having_clause", "limit_count", "limit_offset", "larg"].iter().all(is_absent)
        && !is_gathered(query)
        && !query.get("from_clause").items().is_empty()
}

/// Whether the columns of a query have the names that they have below it.
pub(super) fn is_as_it_is(query: &Tree) -> bool {
    query.get("target_list").items().iter().all(|target| {
        let (name, value) = (target.get("name").text(), target.get("val"));
        value.kind() == "ColumnRef" && (name.is_empty() || name == last(value.get("fields")))
    })
}

/// Functions that answer with one value for many rows.
const GATHERING: [&str; 20] = [
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_object_agg",
    "max",
    "min",
    "stddev",
    "string_agg",
    "sum",
    "variance",
    "xmlagg",
    "stddev_samp",
];
/// Functions that answer with one value for one.
const SINGLE: [&str; 18] = [
    "abs",
    "ceil",
    "concat",
    "date_part",
    "date_trunc",
    "extract",
    "floor",
    "format_type",
    "length",
    "lower",
    "now",
    "pg_get_expr",
    "round",
    "substr",
    "substring",
    "timezone",
    "to_char",
    "upper",
];

/// Whether a query answers with one row because it gathers all of them.
fn is_gathered(query: &Tree) -> bool {
    query.get("group_clause").items().is_empty() && gathers(query.get("target_list"))
}

fn gathers(tree: &Tree) -> bool {
    match tree {
        Tree::List(items) => items.iter().any(gathers),
        Tree::Node("SubLink", _) => false,
        Tree::Node("FuncCall", _)
            if GATHERING.contains(&last(tree.get("funcname"))) && tree.get("over").is_nothing() =>
        {
            true
        }
        Tree::Node(_, fields) => fields.iter().any(|(_, field)| gathers(field)),
        Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => false,
    }
}

/// Whether no function in the columns of a query can make several rows of one.
fn is_single(query: &Tree) -> bool {
    let mut is_single = true;
    query.get("target_list").visit(&mut |node| {
        let name = last(node.get("funcname"));
        is_single &= node.kind() != "FuncCall" || GATHERING.contains(&name) || SINGLE.contains(&name);
        is_single &= node.kind() != "AIndirection";
    });
    is_single
}

/// What the rows of a query are to the query around it.
pub(super) fn of(query: &Tree, sources: &[usize], joins: &Joins) -> Source {
    if let values @ [first, ..] = query.get("values_lists").items() {
        let columns = 0..first.get("items").items().len();
        let value = |row: &'_ Tree, at| row.get("items").items().get(at).cloned().unwrap_or_default();
        let is_distinct = |at: &usize| are_distinct(values.iter().map(|row| value(row, *at)));
        let distinct = columns.filter(is_distinct).map(|at| format!("column{}", at + 1)).collect();
        return Source::Values(u64::try_from(values.len()).unwrap_or(u64::MAX), distinct);
    }
    if !query.get("larg").is_nothing() {
        return Source::Keyed(Vec::new());
    }
    match limit(query) {
        0 => {}
        1 => return Source::Keyed(vec![Vec::new()]),
        rows => return Source::Rows(rows),
    }
    if !is_single(query) {
        return Source::Keyed(Vec::new());
    }
    let groups = query.get("group_clause").items();
    let is_one = groups.is_empty() && (is_gathered(query) || query.get("from_clause").items().is_empty());
    if is_one {
        return Source::Keyed(vec![Vec::new()]);
    }
    let columns: Option<Vec<(String, &Tree)>> = query.get("target_list").items().iter().map(column).collect();
    let Some(columns) = columns else { return starred(query, sources, joins) };
    if !groups.is_empty() {
        let (names, values): (Vec<String>, Vec<&Tree>) = columns.into_iter().unzip();
        let mut places = Places::default();
        for (at, (name, value)) in names.iter().zip(values).enumerate() {
            places.by_name.entry(name).or_insert(at);
            places.by_value.entry(value.clone().without_locations()).or_insert(at);
        }
        let place = |group| places.of(group).and_then(|at| names.get(at).cloned());
        let key = groups.iter().map(place).collect::<Option<Vec<String>>>();
        return Source::Keyed(key.into_iter().collect());
    }
    if !query.get("distinct_clause").items().is_empty() {
        return Source::Keyed(vec![columns.into_iter().map(|(name, _)| name).collect()]);
    }
    let ([only], true) = (sources, is_plain(query)) else { return Source::Keyed(Vec::new()) };
    match joins.sources.get(*only) {
        Some(Source::Relation(name, None)) => {
            let kept = columns.iter().filter(|(_, value)| value.kind() == "ColumnRef");
            let kept = kept.map(|(new, value)| (new.clone(), last(value.get("fields")).to_owned()));
            Source::Relation(name.clone(), Some(kept.collect()))
        }
        _ => Source::Keyed(Vec::new()),
    }
}

/// Whether these are constants, all whole numbers or all texts, of which no two are the same.
pub(super) fn are_distinct(values: impl IntoIterator<Item = Tree>) -> bool {
    let (mut seen, mut kinds) = (HashSet::new(), HashSet::new());
    let are_constants = values.into_iter().all(|value| {
        let kind = value.get("val").kind();
        kinds.insert(kind.to_owned());
        value.kind() == "AConst" && matches!(kind, "Integer" | "String") && seen.insert(constant(&value))
    });
    // Texts among numbers are read as numbers.
    are_constants && kinds.len() <= 1
}

/// All columns of one relation are the relation.
fn starred(query: &Tree, sources: &[usize], joins: &Joins) -> Source {
    match (sources, query.get("target_list").items()) {
        ([only], [_]) if is_plain(query) => match joins.sources.get(*only) {
            Some(source @ Source::Relation(..)) => source.clone(),
            _ => Source::Keyed(Vec::new()),
        },
        _ => Source::Keyed(Vec::new()),
    }
}

/// The name of a column of the result, and what it is; nothing for a star.
fn column(target: &Tree) -> Option<(String, &Tree)> {
    let (name, value) = (target.get("name").text(), target.get("val"));
    let own = if value.kind() == "ColumnRef" { last(value.get("fields")) } else { "" };
    let is_star = value.kind() == "ColumnRef" && own.is_empty();
    (!is_star).then(|| (if name.is_empty() { own } else { name }.to_owned(), value))
}

/// Where the columns of a result stand: the first of each name, and of each value.
#[derive(Default)]
struct Places<'q> {
    by_name: HashMap<&'q str, usize>,
    by_value: HashMap<Tree, usize>,
}

impl Places<'_> {
    /// The column that a query is grouped by: by its place, its name, or what it is.
    fn of(&self, group: &Tree) -> Option<usize> {
        let place = usize::try_from(group.get("val").get("ival").int()).ok().filter(|place| *place > 0);
        if let Some(place) = place {
            return place.checked_sub(1);
        }
        let own = if group.kind() == "ColumnRef" { last(group.get("fields")) } else { "" };
        let by_name = self.by_name.get(own).filter(|_| !own.is_empty());
        let by_value = self.by_value.get(&group.clone().without_locations());
        by_name.into_iter().chain(by_value).min().copied()
    }
}

fn last(fields: &Tree) -> &str {
    fields.items().last().map_or("", |field| field.get("sval").text())
}
