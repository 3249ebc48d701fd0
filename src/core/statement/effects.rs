//! Effects that no counter sees, once for every row: sequences that are drawn from, advisory locks,
//! notifications, exported snapshots. One call is what applications make; a hundred thousand use up a
//! key, the server's room for locks, or its queue.
//!
//! Counted is how often a call may be made: rows of sources beside each other and of queries around
//! each other multiply (see [`super::often`]). What nobody has written out is as many as there may ever be.

use std::collections::{BTreeSet, HashSet};

use super::facts::{Effects, Filled, Name};
use super::often::{BLOCK, Common, Often, PARTS, function, is_recursive, is_set, limit};
use super::predicate;
use super::texts::RUNS_TEXT;
use super::tree::Tree;

/// Rows that somebody has written out, or a LIMIT that says so.
const FEW: u64 = 100;
/// INCLUDING DEFAULTS, as the parser's protobuf numbers what LIKE copies.
const WITH_DEFAULTS: i64 = 1 << 3;

/// How often the statement makes such calls.
pub(super) fn of(statement: &Tree) -> Effects {
    let mut walk = Walk { found: Effects::default(), common: Common::default(), has_any: false, has_keyed: false };
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
            walk.node(statement, if is_own { Often::MANY } else { Often::ONCE });
            if is_own {
                walk.found.filled = copied(statement);
            }
        }
        _ => walk.node(statement, Often::ONCE),
    }
    if walk.has_any {
        let mut seen = HashSet::new();
        statement.visit(&mut |node| {
            if node.kind() == "SelectStmt" {
                PARTS.iter().for_each(|part| note_calls(node.get(part), &mut seen, &mut walk.found.beside));
                walk.found.keys.extend(predicate::key(node).filter(|_| walk.has_keyed));
            }
        });
    }
    walk.found
}

/// Relations whose defaults a temporary table takes over: nobody spells what they call.
fn copied(statement: &Tree) -> Vec<Filled> {
    let mut all = Vec::new();
    statement.visit(&mut |node| {
        if node.kind() == "TableLikeClause" && node.get("options").int() & WITH_DEFAULTS != 0 {
            all.push(Filled { relation: named(node.get("relation")), given: None });
        }
    });
    all
}

fn named(range: &Tree) -> Name {
    let (schema, name) = range.relation();
    Name::new(schema, name)
}

struct Walk {
    found: Effects,
    common: Common<'static>,
    /// Such calls are made other than for what is counted.
    has_any: bool,
    /// Some of them are few only if keys pin down the rows that they are made for.
    has_keyed: bool,
}

impl Walk {
    /// `rows` is how often this part of the statement may be evaluated.
    fn node(&mut self, tree: &Tree, rows: Often) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.node(item, rows)),
            Tree::Node("SelectStmt", _) => self.select(tree, rows, false),
            Tree::Node(kind @ ("InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt"), fields) => {
                let before = self.common.len();
                self.common_tables(tree.get("with_clause"), rows);
                match *kind {
                    "InsertStmt" => self.insert(tree, fields, rows),
                    _ => self.change(tree, fields, rows),
                }
                self.common.truncate(before);
            }
            // Lines that its WHERE leaves out are not counted.
            Tree::Node("CopyStmt", _) if tree.get("is_from").flag() => {
                let condition = tree.get("where_clause");
                if !condition.is_nothing() {
                    let given = tree.get("attlist").items().iter().map(|name| name.get("sval").text().to_owned());
                    self.found
                        .filled
                        .push(Filled { relation: named(tree.get("relation")), given: Some(given.collect()) });
                }
                self.node(condition, Often::MANY);
            }
            Tree::Node(_, fields) => {
                if is_effect(tree) {
                    self.found.locks = self.found.locks.saturating_add(rows.times.saturating_mul(locks(tree)));
                    self.call(called(tree), rows);
                }
                fields.iter().for_each(|(_, field)| self.node(field, rows));
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    fn call(&mut self, name: &str, rows: Often) {
        self.has_any = true;
        // A lock may outlive the rows that it was taken for, and there is room for few.
        let is_counted = matches!(name, "nextval" | "pg_notify");
        self.found.are_per_row |= rows.times > BLOCK || (rows.is_counted && !is_counted);
        self.found.are_counted |= rows.is_counted;
        self.has_keyed |= rows.is_keyed;
    }

    /// Brings the names of a WITH clause into scope. Each of its queries runs once, but for the one that
    /// reads itself: nobody has written out how many rounds it goes.
    fn common_tables(&mut self, with: &Tree, rows: Often) {
        self.common.begin(with);
        for table in with.get("ctes").items() {
            let goes_round = with.get("recursive").flag() && is_recursive(table);
            self.node(table.get("ctequery"), if goes_round { Often::MANY } else { rows });
            self.common.name(table, goes_round);
        }
    }

    fn insert(&mut self, tree: &Tree, fields: &[(&'static str, Tree)], rows: Often) {
        let (query, conflict) = (tree.get("select_stmt"), tree.get("on_conflict_clause"));
        let offered = rows.and(if query.is_nothing() { Often::ONCE } else { self.common.answered(query) });
        // What is inserted is counted, and stopped with it.
        let inserted = if offered.times > BLOCK { rows.and(Often::COUNTED) } else { offered };
        for (name, field) in fields {
            match *name {
                "with_clause" => {}
                // Rows that a conflict leaves out are not counted.
                "select_stmt" if field.kind() == "SelectStmt" => self.select(field, rows, conflict.is_nothing()),
                "on_conflict_clause" => {
                    self.node(conflict.get("where_clause"), offered);
                    self.node(conflict.get("infer"), rows);
                    self.node(conflict.get("target_list"), inserted);
                }
                "returning_clause" => self.node(field, inserted),
                _ => self.node(field, rows),
            }
        }
    }

    /// UPDATE, DELETE and MERGE.
    fn change(&mut self, tree: &Tree, fields: &[(&'static str, Tree)], rows: Often) {
        let changed = rows.and(Often::COUNTED);
        // A row that meets several is changed by one of them, after all of them were worked out.
        let sources = tree.get("from_clause").items().iter();
        let met = sources.fold(changed, |met, item| met.and(self.common.source(item).without_keys()));
        for (name, field) in fields {
            match (tree.kind(), *name) {
                (_, "with_clause") => {}
                ("UpdateStmt", "target_list") => self.node(field, met),
                ("UpdateStmt" | "DeleteStmt", "returning_clause") => self.node(field, changed),
                _ => self.node(field, Often::MANY),
            }
        }
    }

    fn select(&mut self, tree: &Tree, rows: Often, is_counted: bool) {
        let Tree::Node(_, fields) = tree else { return };
        let before = self.common.len();
        self.common_tables(tree.get("with_clause"), rows);
        let made = self.common.made(tree);
        let each = rows.and(made);
        let early = if is_counted { worked_out_early(tree) } else { None };
        for (name, field) in fields {
            match *name {
                "with_clause" => {}
                "from_clause" => self.sources(field.items(), rows),
                // Other conditions may be asked before the one that a key picks its row by.
                "where_clause" => self.node(field, rows.and(made.without_keys())),
                "target_list" if !each.is_written(BLOCK) && rows.is_written(FEW) && is_short(tree) => {
                    self.node(field, rows.and(Often::times(limit(tree))));
                }
                "target_list" if is_counted => {
                    field.items().iter().for_each(|item| self.inserted(item, each, early.as_ref()));
                }
                _ => self.node(field, each),
            }
        }
        self.common.truncate(before);
    }

    /// What stands beside other sources may be worked out for each of their rows: functions always, and
    /// sub-selects where the planner expects few.
    fn sources(&mut self, items: &[Tree], rows: Often) {
        let all: Vec<Often> = items.iter().map(|item| self.common.source(item).without_keys()).collect();
        let mut after = vec![Often::ONCE];
        after.extend(all.iter().rev().scan(Often::ONCE, |product, rows| {
            *product = product.and(*rows);
            Some(*product)
        }));
        let mut before = Often::ONCE;
        for (at, (item, own)) in items.iter().zip(&all).enumerate() {
            let behind = after.get(all.len() - at - 1).copied().unwrap_or(Often::MANY);
            self.from(item, rows, before.and(behind));
            before = before.and(*own);
        }
    }

    /// `beside` is the product of the rows of the other sources, `rows` is of what stands around.
    fn from(&mut self, item: &Tree, rows: Often, beside: Often) {
        match item.kind() {
            "JoinExpr" => {
                let (left, right) = (item.get("larg"), item.get("rarg"));
                let [of_left, of_right] = [left, right].map(|side| self.common.source(side).without_keys());
                self.from(left, rows, beside.and(of_right));
                self.from(right, rows, beside.and(of_left));
                self.node(item.get("quals"), rows.and(beside).and(of_left).and(of_right));
            }
            _ => self.node(item, rows.and(beside)),
        }
    }

    /// A column of rows that are inserted: a call of `nextval` that is all of it draws as often as rows
    /// come out, where none of them is left out behind it.
    fn inserted(&mut self, item: &Tree, rows: Often, early: Option<&BTreeSet<&str>>) {
        let value = item.get("val");
        let is_late = early.is_some_and(|early| !early.contains("nextval") && !early.contains(item.get("name").text()));
        match is_late && value.kind() == "FuncCall" && function(value) == "nextval" {
            true => {
                self.found.are_counted |= !rows.is_written(BLOCK);
                self.node(value.get("args"), rows);
            }
            false => self.node(item, rows),
        }
    }
}

/// Names of columns that are worked out for rows which a query may leave out: what it is sorted or grouped
/// by comes before its LIMIT and HAVING. Nothing where that may be any column.
fn worked_out_early(select: &Tree) -> Option<BTreeSet<&str>> {
    let is_absent = |name: &str| select.get(name).is_nothing();
    let parts: &[&str] = match (is_absent("limit_count"), is_absent("having_clause")) {
        (true, true) => &[],
        (true, false) => &["group_clause"],
        (false, _) => &["group_clause", "sort_clause"],
    };
    let mut names = BTreeSet::new();
    let mut is_known = is_absent("limit_offset") && select.get("distinct_clause").items().is_empty();
    for part in parts {
        select.get(part).visit(&mut |node| match node.kind() {
            // A number may be the place of a column.
            "AConst" => is_known = false,
            "ColumnRef" => names.extend(node.get("fields").items().last().map(|field| field.get("sval").text())),
            _ => {}
        });
    }
    is_known.then_some(names)
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
    ["nextval", "pg_notify", "advisory", "export_snapshot", "u&"].iter().any(|word| said.contains(word))
}

pub(super) fn is_name(name: &str) -> bool {
    matches!(name, "nextval" | "pg_notify" | "pg_export_snapshot")
        || name.starts_with("pg_advisory_lock")
        || name.starts_with("pg_advisory_xact_lock")
        || name.starts_with("pg_try_advisory_")
}

/// Advisory locks that such a call takes; in a text there may be a series of them.
fn locks(call: &Tree) -> u64 {
    match called(call) {
        "nextval" | "pg_notify" | "pg_export_snapshot" => 0,
        name if is_name(name) => 1,
        _ => BLOCK,
    }
}

/// Notes the functions in parts of a query of which only the catalog knows whether they return sets. The
/// rows of those that are known were counted where they stand as calls.
fn note_calls<'t>(part: &'t Tree, seen: &mut HashSet<&'t str>, beside: &mut Vec<String>) {
    part.visit(&mut |node| {
        let name = called(node);
        let is_known = name.is_empty() || is_name(name) || (node.kind() == "FuncCall" && is_set(name));
        if !is_known && seen.insert(name) {
            beside.push(name.to_owned());
        }
    });
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
    use super::{Filled, Name};
    use crate::core::statement::facts::Key;
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
        assert!(counted("with u as (update t set a = 1 returning id) select pg_notify('c', 'd') from u"));
        assert!(!counted("insert into t values (nextval('s'))") && !counted("update t set a = 1"));
    }

    #[test]
    fn a_key_may_pick_one_row() {
        let keys = |sql: &str| {
            assert!(!per_row(sql), "{sql}");
            grammar::parse(sql).expect(sql).remove(0).facts.effects.keys
        };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (sql, columns, bound) in [
            ("select pg_advisory_xact_lock(id) from orders where id = 42", &["id"][..], &[][..]),
            ("select pg_advisory_xact_lock(o.id) from orders o where o.id = $1 and 7 = line", &["line"], &["id"]),
            ("select pg_advisory_lock(x.id) from (select id from orders where id = 4) x", &["id"], &[]),
        ] {
            let key = Key { relation: Name::new(None, "orders"), columns: names(columns), bound: names(bound) };
            assert_eq!(keys(sql), [key], "{sql}");
        }
        assert!(keys("select nextval('s'), (select a from orders where id = 1)").is_empty());
        assert!(keys("select pg_advisory_lock(id) from jobs where state = 'new' limit 1").is_empty());
    }

    #[test]
    fn defaults_that_nobody_spells_are_noted() {
        let filled = |sql: &str| grammar::parse(sql).expect(sql).remove(0).facts.effects.filled;
        let outbox = |given: Option<&[&str]>| {
            let given = given.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            vec![Filled { relation: Name::new(Some("public"), "outbox"), given }]
        };
        for sql in [
            "create temp table t (like public.outbox including defaults)",
            "create temp table t (like public.outbox including all, b int)",
            "create table pg_temp.t (like public.outbox including defaults including indexes)",
        ] {
            assert_eq!(filled(sql), outbox(None), "{sql}");
        }
        assert_eq!(filled("copy public.outbox (topic) from stdin where false"), outbox(Some(&["topic"])));
        for sql in [
            "create temp table t (like public.outbox)",
            "create temp table t (like public.outbox including all excluding defaults)",
            "create table t (like public.outbox including all)",
            "copy public.outbox (topic) from stdin",
        ] {
            assert!(filled(sql).is_empty(), "{sql}");
        }
    }

    #[test]
    fn what_execute_is_given_is_worked_out_below_explain() {
        let text = "query_to_xml('select count(nextval(''s'')) from generate_series(1, 20000)', true, true, '')";
        for sql in [format!("explain execute p({text})"), format!("explain create temp table t as execute p({text})")] {
            assert!(per_row(&sql), "{sql}");
        }
        assert!(!per_row(&format!("explain select {text}")));
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
            "with recursive r (n) as (select 1::bigint union all select nextval('s') from (select n from r limit 1) x) \
             select count(*) from (select * from r limit 20000) y",
            "with recursive r as (select 1 union all select 2 from r), s as (select * from r) \
             select nextval('s') from s",
            "copy t (a) from stdin where nextval('s') < 0",
            "copy t (a) from stdin where pg_try_advisory_lock(a)",
            "select count(*) from orders o, (select nextval('s') as n union all select nextval('s')) x",
            "select count(*) from (select nextval('s')) x cross join (select 1 from orders) y",
            "insert into t select x.id, y.name from (select nextval('s') as id) x, staging y",
            "select count(pg_export_snapshot()) from generate_series(1, 20000)",
            "select nextval('s') order by generate_series(1, 20000)",
            "select nextval('s') group by generate_series(1, 20000)",
            "select distinct on (generate_series(1, 20000)) nextval('s')",
            "insert into t values ((nextval('s'), generate_series(1, 20000))::text) on conflict do nothing",
            "insert into t select pg_advisory_lock(1) from orders",
            "insert into t select g from generate_series(1, 20000) g returning pg_advisory_lock(g)",
            "insert into t select a from orders on conflict (a) do update set a = 1 where nextval('s') < 0",
            "insert into t select distinct on (1) 1, nextval('s') from orders",
            "insert into t select nextval('s') from orders order by 1 limit 1",
            "insert into t select nextval('s') as n from orders order by n limit 1",
            "insert into t select nextval('s') from orders group by nextval having false",
            "update t set a = nextval('s') from generate_series(1, 20000) g where t.id = 1",
            "update t set a = (select count(nextval('s')) from generate_series(1, 20000))",
            "with u as (update t set a = 1 where id < 50 returning id) select pg_advisory_lock(id) from u",
            "with u as (update t set a = 1 returning id) select pg_notify('c', 'd') from u, orders",
            "with u as (update t set a = 1 returning id) select nextval('s') from (with u as (select 1 from orders) \
             select * from u) x",
            "select nextval('s') from orders where status > 'x' limit 2000",
            "select id from orders where id = 4 and pg_try_advisory_lock(id)",
            "select id from (select id from orders where id = 4) x where pg_try_advisory_lock(id)",
            "select (select count(nextval('s')) from orders o where x.id = 1) from (select 1 as id) x",
            "select count(nextval('s')) from orders as o (x, id) where id = 1",
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
            "create table t (id bigint default nextval('s'))",
            "select x.n from (select nextval('s') as n) x",
            "select last_value from s",
            "with x as (select id from jobs where a = 1 order by b limit 5) select id from x where pg_try_advisory_lock(id)",
            "with x as (select id from jobs limit 5), y as (select * from x) select pg_advisory_lock(id) from y",
            "with u as (update t set a = 1 where id in (1, 2) returning id) select pg_notify('c', id::text) from u",
            "with i as (insert into t values ('a'), ('b') returning id) select pg_advisory_xact_lock(id) from i",
            "with d as (delete from t where a < 3 returning id), n as (select pg_notify('c', id::text) from d) \
             select count(*) from n",
            "with x as (select nextval('s') as id) insert into t select x.id, y.name from x, staging y",
            "update t set a = 1 where b < 3 returning pg_notify('c', id::text)",
            "insert into t select nextval('s'), a, count(*) from orders group by a",
            "insert into t select nextval('s'), a from orders order by b limit 50",
            "select nextval('s'), array(select x from unnest(string_to_array('a,b', ',')) x)",
            "select nextval('s') from pg_export_snapshot()",
        ] {
            assert!(!per_row(sql), "{sql}");
        }
    }
}
