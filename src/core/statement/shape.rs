//! Whether a statement may run without end in sight, by its shape alone.
//!
//! Products of relations, recursion, rows and pauses out of functions, and patterns that backtrack
//! grow far beyond the tables they look at. The shape refuses nothing: policies give such
//! statements a shorter leash.

use std::collections::BTreeSet;

use super::predicate;
use super::tree::Tree;

/// Functions that make rows, text, work or pauses of any size out of nothing.
const MAKERS: [&str; 22] = [
    "array_fill",
    "crypt",
    "exp",
    "factorial",
    "gen_salt",
    "generate_series",
    "lpad",
    "normal_rand",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pow",
    "power",
    "repeat",
    "rpad",
    "xmlparse",
    "xpath",
    "xslt_process",
];

/// Operators by which two relations do not come together: each row still meets most of the other's.
const RANGES: [&str; 10] =
    ["<", ">", "<=", ">=", "<>", "!=", "BETWEEN", "NOT BETWEEN", "BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC"];

/// Whether any part of the statement has such a shape.
pub fn is_unbounded(statement: &Tree) -> bool {
    let mut found = false;
    statement.visit(&mut |node| found |= is_unbounded_node(node));
    found
}

fn is_unbounded_node(node: &Tree) -> bool {
    match node.kind() {
        "SelectStmt" => is_product(&[node.get("from_clause")], node.get("where_clause")),
        "UpdateStmt" => is_product(&[node.get("relation"), node.get("from_clause")], node.get("where_clause")),
        "DeleteStmt" => is_product(&[node.get("relation"), node.get("using_clause")], node.get("where_clause")),
        "WithClause" => node.get("recursive").flag() && node.get("ctes").items().iter().any(is_recursive),
        "FuncCall" => {
            let name = node.get("funcname").items().last().map_or("", |part| part.get("sval").text());
            MAKERS.contains(&name) || name.starts_with("regexp_") && node.get("args").items().iter().any(backtracks)
        }
        "AExpr" => {
            let operator = node.get("name").items().last().map_or("", |part| part.get("sval").text());
            matches!(operator, "~" | "~*" | "!~" | "!~*") && backtracks(node.get("rexpr"))
        }
        _ => false,
    }
}

/// A common table that reads itself.
fn is_recursive(table: &Tree) -> bool {
    let name = table.get("ctename").text();
    let mut found = false;
    table.get("ctequery").visit(&mut |node| {
        found |=
            node.kind() == "RangeVar" && node.get("schemaname").text().is_empty() && node.get("relname").text() == name;
    });
    found
}

/// A pattern in which a repeated group or a back reference stands: time may grow with 2^length.
fn backtracks(pattern: &Tree) -> bool {
    let mut found = false;
    pattern.visit(&mut |node| {
        let text = node.get("val").get("sval").text();
        let repeats = [")+", ")*", "){"].iter().any(|end| text.contains(end));
        found |= node.kind() == "AConst" && (repeats || text.contains("\\1"));
    });
    found
}

/// Whether two relations are joined by no condition that brings both together, or a sub-select meets
/// the statement around it by none. A column without its relation's name may belong to any, and
/// counts for all.
fn is_product(items: &[&Tree], condition: &Tree) -> bool {
    let mut from = From::default();
    for item in items {
        match item {
            Tree::List(items) => items.iter().for_each(|item| drop(from.item(item))),
            one => drop(from.item(one)),
        }
    }
    if from.groups.is_empty() {
        return false;
    }
    from.around(condition);
    if from.groups.len() > 1 {
        from.condition(condition);
    }
    from.groups.len() > 1
}

/// Relations of one FROM clause, in groups that are joined with each other.
#[derive(Default)]
struct From {
    groups: Vec<Vec<String>>,
}

impl From {
    fn item(&mut self, item: &Tree) -> Vec<String> {
        match item.kind() {
            "RangeVar" => self.leaf(item, item.get("relname").text()),
            "RangeSubselect" if !item.get("lateral").flag() => self.leaf(item, ""),
            "JoinExpr" => {
                let mut names = self.item(item.get("larg"));
                names.extend(self.item(item.get("rarg")));
                if item.get("is_natural").flag() || !item.get("using_clause").items().is_empty() {
                    self.join(&names);
                }
                self.condition(item.get("quals"));
                names
            }
            "RangeTableSample" => self.item(item.get("relation")),
            // Functions and LATERAL look at what stands before them.
            _ => Vec::new(),
        }
    }

    fn leaf(&mut self, item: &Tree, name: &str) -> Vec<String> {
        let alias = item.get("alias").get("aliasname").text();
        let name = if alias.is_empty() { name } else { alias };
        self.groups.push(vec![name.to_owned()]);
        vec![name.to_owned()]
    }

    /// What the condition names that is not of this FROM clause, as one more group: the rows of the
    /// statement around a sub-select.
    fn around(&mut self, condition: &Tree) {
        let mut inner: BTreeSet<String> = self.groups.concat().into_iter().collect();
        let mut outer = BTreeSet::new();
        condition.visit(&mut |node| match node.kind() {
            "RangeVar" => drop(inner.insert(node.get("relname").text().to_owned())),
            "Alias" => drop(inner.insert(node.get("aliasname").text().to_owned())),
            "ColumnRef" => {
                if let [.., relation, _] = node.get("fields").items() {
                    outer.insert(relation.get("sval").text().to_owned());
                }
            }
            _ => {}
        });
        let names: Vec<String> = outer.difference(&inner).cloned().collect();
        if !names.is_empty() {
            self.groups.push(names);
        }
    }

    /// Joins what each part of a condition names.
    fn condition(&mut self, condition: &Tree) {
        if condition.kind() == "BoolExpr" {
            // BoolExprType: 1 AND, 2 OR, 3 NOT. `a.id = b.id OR true` joins nothing.
            let joins = match condition.get("boolop").int() {
                1 => true,
                2 => predicate::can_exclude(condition),
                _ => false,
            };
            if joins {
                condition.get("args").items().iter().for_each(|part| self.condition(part));
            }
            return;
        }
        let operator = condition.get("name").items().last().map_or("", |part| part.get("sval").text());
        if condition.kind() == "AExpr" && RANGES.contains(&operator) {
            return;
        }
        let mut named = Vec::new();
        condition.visit(&mut |node| {
            if node.kind() == "ColumnRef" {
                match node.get("fields").items() {
                    [_] => named.extend(self.groups.concat()),
                    [.., relation, _] => named.push(relation.get("sval").text().to_owned()),
                    [] => {}
                }
            }
        });
        self.join(&named);
    }

    fn join(&mut self, names: &[String]) {
        let (joined, mut apart): (Vec<_>, Vec<_>) =
            self.groups.drain(..).partition(|group| group.iter().any(|name| names.contains(name)));
        if !joined.is_empty() {
            apart.push(joined.concat());
        }
        self.groups = apart;
    }
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    fn unbounded(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.unbounded)
    }

    #[test]
    fn what_grows_beyond_its_tables_is_seen() {
        for sql in [
            "select * from a, b",
            "select * from a cross join b",
            "select count(*) from a join b on true",
            "select 1 from a x, a y where x.id <> y.id",
            "select * from a, b, c where a.id = b.id",
            "select (select count(*) from a, b) from c",
            "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
            "select * from generate_series(1, 3000000)",
            "select pg_catalog.pg_sleep(10)",
            "select repeat('x', 1000000000)",
            "select x ~ '^(a+)+$' from a",
            "select regexp_replace(x, '(a|aa)*b', '') from a",
            "insert into c select * from a, b",
            "select * from a join b on a.id < b.id",
            "select * from a, b where a.at between b.start and b.stop",
            "select * from a, b where a.id = b.id or true",
            "select * from a, b where not a.id = b.id",
            "select (select count(*) from b where b.x <> a.x) from a",
            "select * from a where exists (select 1 from b where b.x > a.x)",
            "select * from a, lateral (select * from b where b.x > a.x) c",
            "delete from a using b where a.x = 1",
            "update a set x = 1 from b",
            "select crypt('x', gen_salt('bf', 31))",
            "select pg_advisory_lock(1)",
        ] {
            assert!(unbounded(sql), "{sql}");
        }
    }

    #[test]
    fn what_is_joined_is_not() {
        for sql in [
            "select 1",
            "select * from a where id = 1",
            "select * from a, b where a.id = b.id",
            "select * from a join b using (id)",
            "select * from a natural join b",
            "select * from a, b where id = other_id",
            "select * from a x left join b y on x.id = y.id and y.kind <> 'z'",
            "select * from a join b on a.id = b.id and a.at between b.start and b.stop",
            "select * from a where exists (select 1 from b where b.id = a.id and b.x > a.x)",
            "select (select max(x) from b where id = a.id) from a",
            "select * from a where a.x in (select b.x from b where b.y = 1)",
            "select * from a where a.x > (select avg(c.x) from c)",
            "select * from a join b on a.net >>= b.ip",
            "update a set x = b.x from b where a.id = b.id",
            "delete from a using b where a.id = b.id and b.x > 1",
            "select * from a, lateral (select * from b where b.id = a.id) c",
            "select * from a, unnest(a.tags) t",
            "select * from a, b, c where a.id = b.id and (b.k = c.k or c.k is null)",
            "with recursive t as (select 1) select * from t",
            "select x ~ '^[a-z]+$' from a",
        ] {
            assert!(!unbounded(sql), "{sql}");
        }
    }
}
