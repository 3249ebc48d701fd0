//! How many rows the locking clauses of a statement lock: FOR UPDATE, FOR SHARE and their kin.
//!
//! PostgreSQL counts changed rows, not locked ones, so the number must follow from where the clause
//! stands. At the top of a SELECT over tables a row is locked as it is returned. Below that, or with
//! rows passed over, any number can be locked behind a result of one row. ON CONFLICT DO UPDATE
//! locks a row before it asks its WHERE whether to change it.

use super::facts::RowLocks;
use super::predicate::can_exclude;
use super::tree::Tree;

/// A LIMIT above this is no bound worth the name.
const MOST: u64 = 1_000;

/// What can be said of all locking clauses in the statement together.
pub(super) fn of(statement: &Tree) -> RowLocks {
    if statement.kind() == "FetchStmt" {
        return passed(statement);
    }
    let mut locks = RowLocks::None;
    let top = match statement.kind() {
        "DeclareCursorStmt" | "PrepareStmt" | "CopyStmt" => statement.get("query"),
        _ => statement,
    };
    if top.kind() == "SelectStmt" && has_clause(top) && top.get("into_clause").is_nothing() {
        let each = locked(top).filter(|_| !passes_over(top));
        locks = locks.and(each.map_or(RowLocks::Uncounted, RowLocks::Returned));
    }
    let mut places: Vec<&Tree> = vec![top];
    let with = top.get("with_clause");
    if !with.get("recursive").flag() {
        places.extend(with.get("ctes").items().iter().map(|table| table.get("ctequery")));
    }
    // A write runs once, wherever it may stand.
    for write in places.clone() {
        places.extend(queues(write));
    }
    let beside = ["from_clause", "using_clause"].iter().flat_map(|name| top.get(name).items());
    let beside = beside.filter(|item| item.kind() == "RangeSubselect" && !item.get("lateral").flag());
    places.extend(beside.map(|item| item.get("subquery")));
    statement.visit(&mut |node| {
        if let Some(rows) = conflicting(node) {
            locks = locks.and(RowLocks::AtMost(rows));
        }
        if node.kind() != "SelectStmt" || !has_clause(node) || (std::ptr::eq(node, top) && locks != RowLocks::None) {
            return;
        }
        let runs_once = places.iter().any(|place| std::ptr::eq(*place, node));
        locks = locks.and(bound(node).filter(|_| runs_once).map_or(RowLocks::Uncounted, RowLocks::AtMost));
    });
    locks
}

/// The queries by which an UPDATE or DELETE picks rows of its own table.
fn queues(write: &Tree) -> Vec<&Tree> {
    let mut found = Vec::new();
    if matches!(write.kind(), "UpdateStmt" | "DeleteStmt") {
        let target = write.get("relation");
        write.get("where_clause").visit(&mut |node| {
            let inner = node.get("subselect");
            if node.kind() == "SubLink" && looks_at_itself(inner, target) {
                found.push(inner);
            }
        });
    }
    found
}

/// ABSOLUTE (3) and RELATIVE (4) pass rows over without returning them: a cursor that
/// locks has locked them all the same.
fn passed(tree: &Tree) -> RowLocks {
    let number = tree.get("how_many").int();
    match (tree.get("direction").int(), u64::try_from(number)) {
        (3 | 4, Ok(rows)) => RowLocks::AtMost(rows),
        (3 | 4, Err(_)) => RowLocks::Uncounted,
        _ => RowLocks::Returned(1),
    }
}

/// The rows that ON CONFLICT DO UPDATE may lock and leave as they are: as many as are inserted, which
/// of a query is any number.
pub(super) fn conflicting(node: &Tree) -> Option<u64> {
    let clause = node.get("on_conflict_clause");
    // OnConflictAction: 3 is ONCONFLICT_UPDATE in the parser's protobuf.
    let may_leave = node.kind() == "InsertStmt" && clause.get("action").int() == 3;
    let written = node.get("select_stmt").get("values_lists").items().len();
    (may_leave && !clause.get("where_clause").is_nothing()).then(|| match written {
        0 => u64::MAX,
        rows => u64::try_from(rows).unwrap_or(u64::MAX),
    })
}

fn has_clause(select: &Tree) -> bool {
    !select.get("locking_clause").items().is_empty()
}

/// Whether rows are passed over: they are locked all the same.
fn passes_over(select: &Tree) -> bool {
    let offset = select.get("limit_offset");
    let is_none = offset.get("val").kind() == "Integer" && offset.get("val").get("ival").int() == 0;
    !offset.is_nothing() && !is_none
}

/// How many rows are locked for one that comes out of the sources of a SELECT: one of each table. None
/// where what a sub-select reads is locked, too: that is done before anything is left out.
fn locked(select: &Tree) -> Option<u64> {
    let mut tables = Vec::new();
    let others = select
        .get("from_clause")
        .items()
        .iter()
        .map(|item| sources(item, &mut tables))
        .fold(true, |all, one| all & one);
    let clauses = select.get("locking_clause").items();
    let named: Vec<&str> = clauses
        .iter()
        .flat_map(|clause| clause.get("locked_rels").items())
        .map(|rel| rel.get("relname").text())
        .collect();
    // A clause that names nothing locks everything that can be.
    match clauses.iter().all(|clause| !clause.get("locked_rels").items().is_empty()) {
        true => named.iter().all(|name| tables.contains(name)).then(|| u64::try_from(named.len()).unwrap_or(u64::MAX)),
        false => others.then(|| u64::try_from(tables.len()).unwrap_or(u64::MAX)),
    }
}

/// Gathers the names of the tables in a FROM; false where there is anything else of which rows may be locked.
fn sources<'t>(item: &'t Tree, tables: &mut Vec<&'t str>) -> bool {
    match item.kind() {
        "RangeVar" => {
            let alias = item.get("alias").get("aliasname").text();
            tables.push(if alias.is_empty() { item.get("relname").text() } else { alias });
            true
        }
        // The names below the alias of a join cannot be locked by.
        "JoinExpr" => {
            let left = sources(item.get("larg"), tables);
            let right = sources(item.get("rarg"), tables);
            left && right
        }
        "RangeSubselect" => !item.get("subquery").get("values_lists").items().is_empty(),
        "RangeFunction" => true,
        _ => false,
    }
}

/// Whether rows of a table are met by those of a list or a function: a condition like that of a WHERE.
pub(super) fn are_met(select: &Tree) -> bool {
    select.get("from_clause").items().iter().any(is_meeting)
}

fn is_meeting(item: &Tree) -> bool {
    // JoinType: 1 inner.
    if item.kind() != "JoinExpr" || item.get("jointype").int() != 1 {
        return false;
    }
    let (left, right) = (item.get("larg"), item.get("rarg"));
    let is_list = |side: &Tree| match side.kind() {
        "RangeFunction" => true,
        _ => !side.get("subquery").get("values_lists").items().is_empty(),
    };
    let has_condition = !item.get("using_clause").items().is_empty() || can_exclude(item.get("quals"), &Tree::Nothing);
    (has_condition && (is_list(left) || is_list(right))) || is_meeting(left) || is_meeting(right)
}

/// Whether a SELECT has a LIMIT that is one: ALL and NULL are none.
pub(super) fn has_limit(select: &Tree) -> bool {
    let mut limit = select.get("limit_count");
    while limit.kind() == "TypeCast" {
        limit = limit.get("arg");
    }
    !limit.is_nothing() && !limit.get("isnull").flag()
}

/// The LIMIT of a SELECT: no row is locked that it does not let through.
fn bound(select: &Tree) -> Option<u64> {
    let limit = select.get("limit_count");
    let number = match limit.kind() {
        // Whoever binds it may bind any number.
        "ParamRef" => Some(u64::MAX),
        _ => u64::try_from(limit.get("val").get("ival").int()).ok().filter(|number| (1..=MOST).contains(number)),
    };
    // WITH TIES (3) lets through whatever is equal to the last.
    let is_exact = select.get("limit_option").int() != 3;
    let each = locked(select).filter(|_| is_exact && !passes_over(select))?;
    number.map(|number| number.saturating_mul(each))
}

/// Whether a sub-select reads the table around it, and nothing of the row around it: then it is run once,
/// and every name without a table is the sub-select's own.
fn looks_at_itself(inner: &Tree, target: &Tree) -> bool {
    let [table] = inner.get("from_clause").items() else { return false };
    let text = |tree: &Tree, field: &str| tree.get(field).text().to_owned();
    let is_same = ["schemaname", "relname"].iter().all(|field| text(table, field) == text(target, field));
    let alias = table.get("alias").get("aliasname").text();
    let name = if alias.is_empty() { table.get("relname").text() } else { alias };
    let mut is_own = true;
    inner.visit(&mut |node| {
        if let ("ColumnRef", [.., relation, _]) = (node.kind(), node.get("fields").items()) {
            is_own &= relation.get("sval").text() == name;
        }
    });
    is_same && is_own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    fn locks(sql: &str) -> RowLocks {
        let statements = grammar::parse(sql).expect(sql);
        statements.iter().fold(RowLocks::None, |all, one| all.and(one.facts.row_locks))
    }

    #[test]
    fn at_the_top_over_tables_a_row_is_locked_as_it_is_returned() {
        for sql in [
            "select * from a where id = 1 for update",
            "select a.id from a join b using (id), c where a.id = c.id order by 1 limit 5 for no key update of a",
            "declare c cursor for select * from a for share",
            "prepare p as select * from a for update",
            "copy (select * from a for update) to stdout",
            "with x as (select 1) select * from a for update",
            "select * from a order by id offset 0 for update",
            "select a.* from a join (values (1), (2)) v (id) on v.id = a.id for update of a",
            "select a.* from a join (values (1), (2)) v (id) on v.id = a.id for update",
            "select a.* from a join unnest($1::int[]) x on x = a.id for update of a skip locked",
            "select a.* from a join (select id from b) v using (id) for update of a",
            "with x as (select 1 as id) select a.* from a join x using (id) for update of a",
        ] {
            assert!(matches!(locks(sql), RowLocks::Returned(1..)), "{sql}");
        }
        for sql in ["select * from a", "explain select * from a for update", "update a set x = 1 where id = 2"] {
            assert_eq!(locks(sql), RowLocks::None, "{sql}");
        }
    }

    #[test]
    fn rows_that_are_met_by_a_list_are_not_all_there_are() {
        let has_predicate = |sql: &str| {
            let facts = grammar::parse(sql).expect(sql).remove(0).facts;
            facts.touches.iter().all(|touch| touch.has_predicate)
        };
        for sql in [
            "select a.* from a join (values (1), (2)) v (id) on v.id = a.id for update of a",
            "select a.* from unnest($1::int[]) id join a using (id) for update of a",
        ] {
            assert!(has_predicate(sql), "{sql}");
        }
        for sql in [
            "select a.* from a join (values (1), (2)) v (id) on true for update of a",
            "select a.* from a left join (values (1), (2)) v (id) on v.id = a.id for update of a",
            "select a.* from a, (values (1)) v (id) for update of a",
            "select a.* from a join b using (id) for update of a",
        ] {
            assert!(!has_predicate(sql), "{sql}");
        }
    }

    #[test]
    fn a_queue_is_bounded_by_its_limit() {
        for (sql, most) in [
            (
                "update q set x = 1 where id = (select id from q where x = 0 order by id for update skip locked limit 1)",
                1,
            ),
            ("delete from s.q where id in (select j.id from s.q j where j.x = 0 limit 20 for update)", 20),
            ("with n as (select id from q limit 3 for update) update q set x = 1 from n where q.id = n.id", 3),
            ("with n as (select id from q limit 3 for update) select * from n", 3),
            ("update q set x = 1 from (select id from q limit 8 for update skip locked) n where q.id = n.id", 8),
            ("with n as (select id from q limit $1 for update) select * from n", u64::MAX),
            ("delete from q using (select id from q limit 9 for update) n where q.id = n.id", 9),
            (
                "with d as (delete from q where id in (select id from q order by id limit 5 for update skip locked) \
                 returning *) select * from d",
                5,
            ),
            (
                "with d as (update q set x = 1 where id = (select id from q limit 1 for update) returning id) \
                 insert into done select id from d",
                1,
            ),
            ("delete from q where id in (select id from q limit 7 offset 0 for update)", 7),
            ("with n as (select q.id from q, r limit 3 for update) select * from n", 6),
            ("with n as (select q.id from q join r on r.id = q.id limit 3 for update of q) select * from n", 3),
            (
                "with n as (select q.id from q join (values (1), (2)) v (id) using (id) limit 3 for update of q) \
                 select * from n",
                3,
            ),
            (
                "with n as (select q.id from q join (select id from r) v using (id) limit 3 for update of q) \
                 select * from n",
                3,
            ),
            (
                "with n as (select 1 from q limit 3 for update), m as (select 1 from r limit 4 for share) select 1 from n, m",
                7,
            ),
        ] {
            assert_eq!(locks(sql), RowLocks::AtMost(most), "{sql}");
        }
    }

    #[test]
    fn a_conflict_locks_what_it_leaves_as_it_is() {
        let end = "on conflict (id) do update set x = 2 where t.x < 0";
        for (insert, most) in [
            ("insert into t values (1, 2)", 1),
            ("insert into t values (1, 2), (2, 3)", 2),
            ("insert into t select * from t", u64::MAX),
            ("with x as (insert into t select * from t", u64::MAX),
        ] {
            let sql = format!("{insert} {end}{}", if insert.starts_with("with") { ") select 1" } else { "" });
            assert_eq!(locks(&sql), RowLocks::AtMost(most), "{sql}");
            assert!(grammar::parse(&sql).expect("parses").remove(0).facts.locks, "{sql}");
        }
        for sql in [
            "insert into t select * from t on conflict (id) do update set x = 2",
            "insert into t select * from t on conflict (id) where id > 0 do nothing",
        ] {
            assert_eq!(locks(sql), RowLocks::None, "{sql}");
        }
    }

    #[test]
    fn what_locks_behind_its_result_is_not_counted() {
        for sql in [
            "select count(*) from (select id from a where id > 0 for update) x",
            "with x as (select id from a where id > 0 for update) select count(*) from x",
            "with recursive x as (select id from a limit 1 for update) select count(*) from x",
            "select (select max(id) from (select id from a for update) q)",
            "select (select id from a where a.id = b.id for update limit 1) from b",
            "select id from a order by id offset 2499 for update",
            "select * from (select id from a offset 0) x where id = 1 for update",
            "with n as (select id from q limit 3 offset 2000 for update) select * from n",
            "select 1 from r, lateral (select id from q where q.id = r.id limit 1 for update) n",
            "with n as (select q.id from q, (select id from r) r limit 3 for update) select * from n",
            "select a.* from a join (select id from b) v using (id) for update",
            "select a.* from a join (select id from b) v using (id) for update of v",
            "select a.* from a join (select id from b) v using (id) for update of a for share",
            "with d as (delete from q where id in (select id from r limit 5 for update) returning *) select * from d",
            "select id from a order by id offset $1 for update",
            "with n as (select id from q limit 100000 for update) select * from n",
            "with n as (select id from q order by id * 0 fetch first 1 rows with ties for update) select * from n",
            "create temp table q as select id from a for update",
            "select id into temp q from a for update",
            "create temp view v as select id from a where id > 0 for update",
            "explain analyze select id from a where id > 0 for update",
            "update s set v = (select count(*) from (select id from a for update) q) where k = 1",
            "update q set x = 1 where id = (select id from r limit 1 for update)",
            "update q set x = 1 where id = (select n.id from q n where n.id = q.id limit 1 for update)",
            "update q set x = (select id from q limit 1 for update) where id > 0",
            "insert into o select max(id) from (select id from a for update) q",
            "declare c cursor for select count(*) from (select id from a for update) q",
            "prepare p as select count(*) from (select id from a for update) q",
        ] {
            assert_eq!(locks(sql), RowLocks::Uncounted, "{sql}");
        }
    }
}
