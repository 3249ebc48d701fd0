//! Effects that no counter sees, once for every row: sequences that are drawn from, advisory locks,
//! notifications. One call is what applications make; a hundred thousand use up a key, the server's
//! room for locks, or its queue.
//!
//! Counted is how often a call may be made: rows of sources beside each other and of queries around
//! each other multiply. What nobody has written out is as many as there may ever be.

use std::collections::HashSet;

use super::facts::Effects;
use super::texts::RUNS_TEXT;
use super::tree::Tree;

/// Rows that somebody has written out, or a LIMIT that says so.
const FEW: u64 = 100;
/// A series that fetches numbers for so many new rows.
const BLOCK: u64 = 1_000;
/// Nobody has written out how many.
const MANY: u64 = u64::MAX;

/// How often the statement makes such calls.
pub(super) fn of(statement: &Tree) -> Effects {
    let mut walk = Walk { found: Effects::default(), has_any: false };
    // What is kept with a definition is done by later statements, for each of their rows.
    match statement.kind() {
        "AlterTableStmt" | "IndexStmt" => {
            let mut has_any = false;
            statement.visit(&mut |node| has_any |= is_effect(node));
            walk.found.are_counted = has_any;
        }
        "CreateStmt" | "ViewStmt" => {
            let made = ["relation", "view"].map(|name| statement.get(name));
            let is_own = made
                .iter()
                .any(|made| made.get("relpersistence").text() == "t" || made.get("schemaname").text() == "pg_temp");
            walk.node(statement, if is_own { MANY } else { 1 });
        }
        _ => walk.node(statement, 1),
    }
    if walk.has_any {
        let mut seen = HashSet::new();
        statement.visit(&mut |node| {
            if node.kind() == "SelectStmt" {
                note_calls(node.get("target_list"), &mut seen, &mut walk.found.beside);
            }
        });
    }
    walk.found
}

struct Walk {
    found: Effects,
    /// Such calls are made other than for what is counted.
    has_any: bool,
}

impl Walk {
    /// `rows` is how often this part of the statement may be evaluated.
    fn node(&mut self, tree: &Tree, rows: u64) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.node(item, rows)),
            Tree::Node("SelectStmt", _) => self.select(tree, rows, false),
            Tree::Node("InsertStmt", fields) => {
                // Rows that a conflict leaves out are not counted.
                let is_counted = tree.get("on_conflict_clause").is_nothing();
                for (name, field) in fields {
                    match *name {
                        // What is inserted is counted, and stopped with it.
                        "select_stmt" if field.kind() == "SelectStmt" => self.select(field, rows, is_counted),
                        _ => self.node(field, rows),
                    }
                }
            }
            Tree::Node("UpdateStmt", fields) => {
                for (name, field) in fields {
                    match *name {
                        "with_clause" => self.node(field, rows),
                        "target_list" => field.items().iter().for_each(|item| self.counted(item, MANY)),
                        _ => self.node(field, MANY),
                    }
                }
            }
            Tree::Node("DeleteStmt" | "MergeStmt", fields) => {
                let each = |name| if name == "with_clause" { rows } else { MANY };
                fields.iter().for_each(|(name, field)| self.node(field, each(*name)));
            }
            Tree::Node(_, fields) => {
                if is_effect(tree) {
                    self.has_any = true;
                    self.found.locks = self.found.locks.saturating_add(rows.saturating_mul(locks(tree)));
                    self.found.are_per_row |= rows > BLOCK;
                }
                fields.iter().for_each(|(_, field)| self.node(field, rows));
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    fn select(&mut self, tree: &Tree, rows: u64, is_counted: bool) {
        let Tree::Node(_, fields) = tree else { return };
        let each = rows.saturating_mul(made(tree));
        for (name, field) in fields {
            match *name {
                "with_clause" => self.node(field, rows),
                "from_clause" => self.sources(field.items(), rows),
                "target_list" if each > BLOCK && rows <= FEW && is_short(tree) => {
                    self.node(field, rows.saturating_mul(limit(tree)));
                }
                "target_list" if is_counted && tree.get("limit_offset").is_nothing() => {
                    field.items().iter().for_each(|item| self.counted(item, each));
                }
                _ => self.node(field, each),
            }
        }
    }

    /// A function beside other sources may be called for each of their rows.
    fn sources(&mut self, items: &[Tree], rows: u64) {
        let all: Vec<u64> = items.iter().map(source).collect();
        let mut after = vec![1_u64];
        after.extend(all.iter().rev().scan(1_u64, |product, rows| {
            *product = product.saturating_mul(*rows);
            Some(*product)
        }));
        let mut before = 1_u64;
        for (at, (item, own)) in items.iter().zip(&all).enumerate() {
            let behind = after.get(all.len() - at - 1).copied().unwrap_or(MANY);
            self.from(item, rows, before.saturating_mul(behind));
            before = before.saturating_mul(*own);
        }
    }

    /// `beside` is the product of the rows of the other sources, `rows` is of what stands around.
    fn from(&mut self, item: &Tree, rows: u64, beside: u64) {
        match item.kind() {
            "JoinExpr" => {
                let (left, right) = (item.get("larg"), item.get("rarg"));
                let (of_left, of_right) = (source(left), source(right));
                // JoinType: 1 inner, 2 left, 3 full, 4 right. What may be missing is looked for anew for each
                // row of the other side.
                let kind = item.get("jointype").int();
                self.side(left, matches!(kind, 3 | 4), rows, beside.saturating_mul(of_right));
                self.side(right, matches!(kind, 2 | 3), rows, beside.saturating_mul(of_left));
                self.node(item.get("quals"), rows.saturating_mul(of_left).saturating_mul(of_right));
            }
            "RangeSubselect" if !item.get("lateral").flag() => self.node(item, rows),
            _ => self.node(item, rows.saturating_mul(beside)),
        }
    }

    fn side(&mut self, item: &Tree, may_be_missing: bool, rows: u64, beside: u64) {
        match item.kind() {
            "RangeSubselect" if may_be_missing => self.node(item, rows.saturating_mul(beside)),
            _ => self.from(item, rows, beside),
        }
    }

    /// A column of rows that are counted: a call of `nextval` that is all of it draws as often.
    fn counted(&mut self, item: &Tree, rows: u64) {
        let value = item.get("val");
        match value.kind() == "FuncCall" && function(value) == "nextval" {
            true => {
                self.found.are_counted |= rows > BLOCK;
                self.node(value.get("args"), rows);
            }
            false => self.node(item, rows),
        }
    }
}

fn function(call: &Tree) -> &str {
    call.get("funcname").items().last().map_or("", |part| part.get("sval").text())
}

/// The function that a node may call, whatever its spelling.
pub(super) fn called(node: &Tree) -> &str {
    let last = |fields: &'static str| node.get(fields).items().last().map_or("", |field| field.get("sval").text());
    match node.kind() {
        "FuncCall" => function(node),
        "AIndirection" => last("indirection"),
        "ColumnRef" if node.get("fields").items().len() > 1 => last("fields"),
        _ => "",
    }
}

/// Whether a node is a call with such an effect, or runs a text with one.
fn is_effect(node: &Tree) -> bool {
    let name = called(node);
    is_name(name) || (RUNS_TEXT.contains(&name) && may_say_effect(node))
}

/// Whether the texts in a call may name such a function, in pieces or with letters in disguise.
fn may_say_effect(call: &Tree) -> bool {
    let mut said = String::new();
    call.visit(&mut |node| said.push_str(&node.get("val").get("sval").text().to_ascii_lowercase()));
    ["nextval", "pg_notify", "advisory", "u&"].iter().any(|word| said.contains(word))
}

fn is_name(name: &str) -> bool {
    matches!(name, "nextval" | "pg_notify")
        || name.starts_with("pg_advisory_lock")
        || name.starts_with("pg_advisory_xact_lock")
        || name.starts_with("pg_try_advisory_")
}

/// Advisory locks that such a call takes; in a text there may be a series of them.
fn locks(call: &Tree) -> u64 {
    match called(call) {
        "nextval" | "pg_notify" => 0,
        name if is_name(name) => 1,
        _ => BLOCK,
    }
}

/// Notes the functions in columns of which only the catalog knows whether they return sets.
fn note_calls<'t>(columns: &'t Tree, seen: &mut HashSet<&'t str>, beside: &mut Vec<String>) {
    columns.visit(&mut |node| {
        let name = called(node);
        let is_known = name.is_empty() || is_name(name) || is_set(name);
        if !is_known && seen.insert(name) {
            beside.push(name.to_owned());
        }
    });
}

/// Rows that a SELECT makes for each time it runs.
fn made(select: &Tree) -> u64 {
    let from = select.get("from_clause").items().iter();
    let rows = from.fold(1_u64, |product, item| product.saturating_mul(source(item)));
    let mut sets = 1_u64;
    select.get("target_list").visit(&mut |node| {
        if node.kind() == "FuncCall" && is_set(function(node)) {
            sets = sets.saturating_mul(written(node).unwrap_or(MANY));
        }
    });
    rows.saturating_mul(sets)
}

/// The most rows that may come out of a source.
fn source(item: &Tree) -> u64 {
    match item.kind() {
        "JoinExpr" => source(item.get("larg")).saturating_mul(source(item.get("rarg"))),
        "RangeSubselect" => answered(item.get("subquery")),
        "RangeFunction" => {
            let mut calls = Vec::new();
            item.get("functions").visit(&mut |node| {
                if node.kind() == "FuncCall" {
                    calls.push(node);
                }
            });
            match calls.as_slice() {
                // A function that answers with one value is one row.
                [call] if is_name(function(call)) || function(call) == "now" => 1,
                [call] => written(call).unwrap_or(MANY),
                _ => MANY,
            }
        }
        _ => MANY,
    }
}

/// The most rows that a query answers with.
fn answered(query: &Tree) -> u64 {
    let values = query.get("values_lists").items().len();
    let rows = match (query.get("larg"), query.get("rarg")) {
        _ if values > 0 => u64::try_from(values).unwrap_or(MANY),
        (Tree::Node(..), Tree::Node(..)) => answered(query.get("larg")).saturating_add(answered(query.get("rarg"))),
        _ => made(query),
    };
    match limit(query) {
        0 => rows,
        most => rows.min(most),
    }
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
fn is_set(name: &str) -> bool {
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

/// A few rows, and nothing that looks at more of them before they are chosen.
fn is_short(select: &Tree) -> bool {
    let is_plain = ["limit_offset", "having_clause"].iter().all(|name| select.get(name).is_nothing())
        && ["sort_clause", "group_clause", "distinct_clause", "window_clause"]
            .iter()
            .all(|name| select.get(name).items().is_empty());
    let mut is_nested = false;
    // In an aggregate it is called for rows that the LIMIT never sees. Aggregates can be spelled as
    // fields, and some have nodes of their own.
    select.get("target_list").visit(&mut |node| {
        let may_gather = matches!(node.kind(), "FuncCall" | "AIndirection") || node.kind().starts_with("Json");
        if may_gather && !is_name(called(node)) {
            node.visit(&mut |inner| is_nested |= !std::ptr::eq(node, inner) && is_effect(inner));
        }
    });
    is_plain && !is_nested && (1..=FEW).contains(&limit(select))
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    fn per_row(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.effects.are_per_row)
    }

    #[test]
    fn functions_beside_such_calls_may_make_rows() {
        let beside = |sql: &str| grammar::parse(sql).expect(sql).remove(0).facts.effects.beside;
        assert_eq!(
            beside("select sum(n) from (select nextval('s') n, normal_rand(9, 0, 1)) x"),
            ["sum", "normal_rand"]
        );
        assert_eq!(beside("select nextval('s') from (select x.each from t x) y"), ["each"]);
        assert!(beside("select normal_rand(9, 0, 1)").is_empty());
        assert!(beside("insert into t select nextval('s'), lower(a) from u").is_empty());
    }

    #[test]
    fn what_is_counted_is_told_apart() {
        let counted = |sql: &str| grammar::parse(sql).expect(sql).remove(0).facts.effects.are_counted;
        for sql in [
            "insert into t select nextval('s') from generate_series(1, 20000)",
            "update t set a = nextval('s') where b = 1",
            "alter table t alter a set default nextval('s')",
        ] {
            assert!(counted(sql), "{sql}");
        }
        assert!(!counted("insert into t values (nextval('s'))") && !counted("update t set a = 1"));
    }

    #[test]
    fn advisory_locks_are_counted() {
        for (sql, most) in [
            ("select 1, nextval('s')", 0),
            ("select pg_advisory_unlock_all()", 0),
            ("select pg_advisory_lock(1), pg_try_advisory_lock(2, 3)", 2),
            ("select (1::bigint).pg_advisory_xact_lock_shared", 1),
            ("select pg_advisory_lock(g) from generate_series(1, 900) g", 900),
            ("select pg_try_advisory_lock(id) from jobs where state = 'new' limit 1", 1),
            ("prepare p as select pg_advisory_lock($1)", 1),
            ("explain select pg_advisory_lock(1)", 0),
        ] {
            assert_eq!(grammar::parse(sql).expect(sql).remove(0).facts.effects.locks, most, "{sql}");
        }
        let said = "select query_to_xml('select pg_advisory_lock(g) from generate_series(1, 9) g', true, true, '')";
        assert!(grammar::parse(said).expect(said).remove(0).facts.effects.locks >= 9);
    }

    #[test]
    fn what_is_done_once_a_row_is_seen() {
        for sql in [
            "select count(nextval('s')) from generate_series(1, 200000)",
            "select nextval('s') from orders",
            "select pg_advisory_lock(g) from generate_series(1, 50000) g",
            "select pg_try_advisory_xact_lock(id) from orders where id > 0",
            "select 1 from generate_series(1, 50000) g, pg_advisory_lock(g)",
            "select 1 from generate_series(1, 50000) g join lateral pg_advisory_xact_lock_shared(g) on true",
            "select pg_notify('a', repeat('x', 7000)) from generate_series(1, 5000)",
            "select (select nextval('s') + g) from generate_series(1, 200000) g",
            "select pg_notify('a', 'b'), generate_series(1, 100000)",
            "select count(nextval('s')) from orders limit 1",
            "select nextval('s') from orders order by 1 limit 10",
            "select nextval('s') from orders limit 10 offset 100000",
            "select 1 from orders where nextval('s') > 0 limit 1",
            "with x as (select nextval('s') from orders) select count(*) from x",
            "insert into t select count(nextval('s')) from generate_series(1, 200000)",
            "insert into t select nextval('s') from orders limit 1 offset 5000",
            "insert into t (select 1 from orders where nextval('s') = 0)",
            "update orders set x = 1 where pg_try_advisory_lock(id)",
            "delete from orders where nextval('s') < 0",
            "merge into t using s on pg_try_advisory_lock(s.id) when matched then delete",
            "create temp table q as select nextval('s') from orders",
            "select nextval('s') from (select 1 from orders) x",
            "select nextval('s'), jsonb_path_query(repeat('[1,', 999)::jsonb, '$[*]')",
            "select nextval('s') from unnest(array[(select array_agg(g) from generate_series(1, 100000) g)])",
            "select count(('s'::regclass).nextval) from generate_series(1, 20000)",
            "select count((g::bigint).pg_try_advisory_lock) from generate_series(1, 3000) g",
            "select count(x.nextval) from (select 's'::regclass from orders) x",
            "select count(nextval('s')) from generate_series(1, 200) a, generate_series(1, 200) b",
            "select count(nextval('s')) from generate_series(1, 200) a join generate_series(1, 200) b on true",
            "select nextval('s') from (values (1), (2)) a, generate_series(1, 900) b",
            "select 1 from generate_series(1, 90) a, lateral (select nextval('s') from generate_series(1, 90)) b",
            "select (select max(nextval('s') + g * 0) from generate_series(1, 90)) from generate_series(1, 90) g",
            "select 1 from generate_series(1, 20000) g left join (select nextval('s') as n) x on x.n = g",
            "select (nextval('s')).count from orders limit 1",
            "select count(query_to_xml('select nextval(''s'')', true, true, '')) from generate_series(1, 20000)",
            "create temp table t (a bigint default nextval('s'), b int)",
            "create temp table t (b int check (pg_try_advisory_lock(b)))",
            "create temp view v as select nextval('s') as n",
            "insert into t select nextval('s') from orders on conflict do nothing",
        ] {
            assert!(per_row(sql), "{sql}");
        }
    }

    #[test]
    fn what_applications_do_is_not() {
        for sql in [
            "select nextval('s')",
            "select nextval('s') from generate_series(1, 50)",
            "select pg_advisory_lock(1), pg_try_advisory_lock(2, 3)",
            "select pg_notify('a', 'b')",
            "select pg_notify('a', x) from (values ('b'), ('c')) v(x)",
            "select pg_advisory_xact_lock(x) from unnest(array[1, 2, 3]) x",
            "select pg_try_advisory_lock(id) from jobs where state = 'new' limit 1",
            "select * from pg_try_advisory_lock(7)",
            "insert into t (id) values (nextval('s')), (nextval('s'))",
            "insert into t select nextval('s'), name from staging where id < 50",
            "update t set position = nextval('s') where id = 7",
            "with x as (select nextval('s') as id) insert into t select id from x",
            "select (select nextval('s'))",
            "select nextval('s') from generate_series(1, 30) a, generate_series(1, 30) b",
            "insert into t select x.id, y.name from (select nextval('s') as id) x, staging y",
            "create table t (id bigint default nextval('s'))",
            "select x.n from (select nextval('s') as n) x",
            "select last_value from s",
        ] {
            assert!(!per_row(sql), "{sql}");
        }
    }
}
