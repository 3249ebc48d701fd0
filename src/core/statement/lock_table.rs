//! LOCK TABLE of relations that something else stands for: the role has no right on the whole of one, and
//! what reads it takes the lock itself.

use super::grammar::Statement;
use crate::core::mask::identifier;

/// What every session may lock, so that the target answers as to any LOCK TABLE.
const NOTHING: &str = "pg_catalog.pg_class";
/// LockStmt.mode: what every SELECT takes.
const ACCESS_SHARE: i64 = 1;

/// `LOCK TABLE ... IN ACCESS SHARE MODE` without the relations that are replaced; none for anything else.
pub fn without(statement: &Statement, is_replaced: &dyn Fn(Option<&str>, &str) -> bool) -> Option<String> {
    let tree = &statement.tree;
    if tree.kind() != "LockStmt" || tree.get("mode").int() != ACCESS_SHARE {
        return None;
    }
    let relations = tree.get("relations").items();
    let left = relations.iter().filter_map(|relation| {
        let (schema, name) = relation.relation();
        let only = if relation.get("inh").flag() { "" } else { "ONLY " };
        let full = schema.into_iter().chain([name]).map(identifier).collect::<Vec<_>>().join(".");
        (!is_replaced(schema, name)).then(|| format!("{only}{full}"))
    });
    let left: Vec<_> = left.collect();
    let list = if left.is_empty() { NOTHING.to_owned() } else { left.join(", ") };
    let wait = if tree.get("nowait").flag() { " NOWAIT" } else { "" };
    (left.len() < relations.len()).then(|| format!("LOCK TABLE {list} IN ACCESS SHARE MODE{wait}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    #[test]
    fn what_is_replaced_is_left_out() {
        let left = |sql: &str| {
            let statement = grammar::parse(sql).expect(sql).remove(0);
            without(&statement, &|schema, name| schema.is_none_or(|schema| schema == "s") && name == "a")
        };
        for (sql, forwarded) in [
            ("lock table s.a, only \"B c\", t.a in access share mode nowait", Some("ONLY \"B c\", \"t\".\"a\"")),
            ("lock a in access share mode", Some("pg_catalog.pg_class")),
            ("lock t.a in access share mode", None),
            ("lock table s.a in share mode", None),
            ("lock table s.a", None),
            ("select 1 from a", None),
        ] {
            let told = left(sql);
            assert_eq!(told.is_some(), forwarded.is_some(), "{sql}");
            assert!(told.iter().zip(forwarded).all(|(told, part)| told.starts_with(&format!("LOCK TABLE {part} IN "))));
        }
    }
}
