//! Effects that no counter sees, once for every row: sequences that are drawn from, advisory locks,
//! notifications. One call is what applications make; a hundred thousand use up a key, the server's
//! room for locks, or its queue.

use super::tree::Tree;

/// Rows that somebody has written out, or a LIMIT that says so.
const FEW: i64 = 100;
/// A series that fetches numbers for so many new rows.
const BLOCK: i64 = 1_000;

/// Whether the statement calls such a function once a row of something.
pub(super) fn are_per_row(statement: &Tree) -> bool {
    let mut walk = Walk { found: false };
    walk.node(statement, false);
    walk.found
}

struct Walk {
    found: bool,
}

impl Walk {
    fn node(&mut self, tree: &Tree, in_rows: bool) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.node(item, in_rows)),
            Tree::Node("SelectStmt", _) => self.select(tree, in_rows, false),
            Tree::Node("InsertStmt", fields) => {
                for (name, field) in fields {
                    match *name {
                        // What is inserted is counted, and stopped with it.
                        "select_stmt" if field.kind() == "SelectStmt" => self.select(field, in_rows, true),
                        _ => self.node(field, in_rows),
                    }
                }
            }
            Tree::Node("UpdateStmt", fields) => {
                for (name, field) in fields {
                    match *name {
                        "with_clause" => self.node(field, in_rows),
                        "target_list" => field.items().iter().for_each(|item| self.counted(item, true)),
                        _ => self.node(field, true),
                    }
                }
            }
            Tree::Node("DeleteStmt" | "MergeStmt", fields) => {
                fields.iter().for_each(|(name, field)| self.node(field, in_rows || *name != "with_clause"));
            }
            Tree::Node(kind, fields) => {
                self.found |= in_rows && *kind == "FuncCall" && has_effect(tree);
                fields.iter().for_each(|(_, field)| self.node(field, in_rows));
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    fn select(&mut self, tree: &Tree, in_rows: bool, is_counted: bool) {
        let Tree::Node(_, fields) = tree else { return };
        let items = tree.get("from_clause").items();
        let makes_rows = items.iter().any(is_source) || tree.get("target_list").items().iter().any(has_set);
        let rows = in_rows || makes_rows;
        for (name, field) in fields {
            match *name {
                "with_clause" => self.node(field, in_rows),
                // A function beside another table is called for each of its rows.
                "from_clause" => field.items().iter().for_each(|item| self.from(item, in_rows, items.len() > 1)),
                "target_list" if rows && !in_rows && is_short(tree) => self.node(field, false),
                "target_list" if is_counted && tree.get("limit_offset").is_nothing() => {
                    field.items().iter().for_each(|item| self.counted(item, rows));
                }
                _ => self.node(field, rows),
            }
        }
    }

    fn from(&mut self, item: &Tree, in_rows: bool, is_beside: bool) {
        match item.kind() {
            "JoinExpr" => {
                ["larg", "rarg"].iter().for_each(|side| self.from(item.get(side), in_rows, true));
                self.node(item.get("quals"), true);
            }
            "RangeSubselect" if !item.get("lateral").flag() => self.node(item, in_rows),
            _ => self.node(item, in_rows || is_beside),
        }
    }

    /// A column of rows that are counted: a call of `nextval` that is all of it draws as often.
    fn counted(&mut self, item: &Tree, in_rows: bool) {
        let value = item.get("val");
        match value.kind() == "FuncCall" && function(value) == "nextval" {
            true => self.node(value.get("args"), in_rows),
            false => self.node(item, in_rows),
        }
    }
}

fn function(call: &Tree) -> &str {
    call.get("funcname").items().last().map_or("", |part| part.get("sval").text())
}

fn has_effect(call: &Tree) -> bool {
    let name = function(call);
    matches!(name, "nextval" | "pg_notify")
        || name.starts_with("pg_advisory_lock")
        || name.starts_with("pg_advisory_xact_lock")
        || name.starts_with("pg_try_advisory_")
}

/// Whether more rows may come out of it than somebody has written down.
fn is_source(item: &Tree) -> bool {
    match item.kind() {
        "RangeSubselect" => {
            let inner = item.get("subquery");
            let written = inner.get("values_lists").items().len();
            i64::try_from(written).is_ok_and(|rows| !(1..=BLOCK).contains(&rows))
        }
        "RangeFunction" => {
            let mut calls = Vec::new();
            item.get("functions").visit(&mut |node| {
                if node.kind() == "FuncCall" {
                    calls.push(node);
                }
            });
            !matches!(calls.as_slice(), [call] if is_written_out(call))
        }
        _ => true,
    }
}

/// Whether a column of the result is a set of rows by itself.
fn has_set(column: &Tree) -> bool {
    let mut found = false;
    column.visit(&mut |node| {
        let name = if node.kind() == "FuncCall" { function(node) } else { "" };
        let is_set = matches!(name, "generate_series" | "unnest" | "generate_subscripts")
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
            || name == "regexp_matches";
        found |= is_set && !is_written_out(node);
    });
    found
}

/// A series between two numbers that stand there, or an array whose elements do.
fn is_written_out(call: &Tree) -> bool {
    let arguments = call.get("args").items();
    let number = |tree: &Tree| matches!(tree.get("val").get("ival"), Tree::Int(_));
    let value = |tree: &Tree| tree.get("val").get("ival").int();
    match (function(call), arguments) {
        ("generate_series", [from, to]) if number(from) && number(to) => value(to).saturating_sub(value(from)) < BLOCK,
        ("unnest", [array]) => array.kind() == "AArrayExpr" && is_of_constants(array),
        // A function that answers with one value is one row.
        (name, _) => has_effect(call) || name == "now",
    }
}

fn is_of_constants(array: &Tree) -> bool {
    array.get("elements").items().iter().all(|element| element.kind() == "AConst")
}

/// A few rows, and nothing that looks at more of them before they are chosen.
fn is_short(select: &Tree) -> bool {
    let number = select.get("limit_count").get("val").get("ival").int();
    let is_plain = ["limit_offset", "having_clause"].iter().all(|name| select.get(name).is_nothing())
        && ["sort_clause", "group_clause", "distinct_clause", "window_clause"]
            .iter()
            .all(|name| select.get(name).items().is_empty());
    let mut is_nested = false;
    // In an aggregate it is called for rows that the LIMIT never sees.
    select.get("target_list").visit(&mut |node| {
        if node.kind() == "FuncCall" && !has_effect(node) {
            node.get("args").visit(&mut |inner| is_nested |= inner.kind() == "FuncCall" && has_effect(inner));
        }
    });
    is_plain && !is_nested && (1..=FEW).contains(&number)
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    fn per_row(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.effects_per_row)
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
            "select last_value from s",
        ] {
            assert!(!per_row(sql), "{sql}");
        }
    }
}
