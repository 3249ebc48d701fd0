//! Relations that a statement makes for its session alone. Each takes several locks until the transaction
//! ends, in a room that all sessions of a server share.

use super::facts::Makes;
use super::tree::Tree;

/// ConstrType of the parser's protobuf: what an index or a sequence stands behind.
const IDENTITY: i64 = 4;
const INDEXED: std::ops::RangeInclusive<i64> = 7..=9;
const SERIAL: [&str; 6] = ["serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"];

/// What the statement makes, as far as that stands in its text.
pub(super) fn of(statement: &Tree) -> Makes {
    let is_own = |made: &Tree| made.get("relpersistence").text() == "t" || made.get("schemaname").text() == "pg_temp";
    let made = |name: &str| is_own(statement.get(name));
    match statement.kind() {
        "ExplainStmt" => of(statement.get("query")),
        "CreateStmt" if made("relation") => {
            // Of another relation it takes as many indexes as there are, and so does a part of one; of a parent
            // its checks and defaults.
            let inherits = !statement.get("inh_relations").items().is_empty();
            let mut takes_over = inherits || !statement.get("partbound").is_nothing();
            statement.visit(&mut |node| takes_over |= node.kind() == "TableLikeClause");
            Makes { relations: parts(statement).saturating_add(1), takes_over }
        }
        "ViewStmt" if made("view") => Makes { relations: 1, takes_over: false },
        "CreateSeqStmt" if made("sequence") => Makes { relations: 1, takes_over: false },
        "CreateTableAsStmt" if is_own(statement.get("into").get("rel")) => Makes { relations: 1, takes_over: false },
        "SelectStmt" if is_own(statement.get("into_clause").get("rel")) => Makes { relations: 1, takes_over: false },
        // Of partitions each gets one. Whose relation it is only the session knows.
        "IndexStmt" => Makes { relations: 1, takes_over: true },
        "AlterTableStmt" => Makes { relations: parts(statement), takes_over: true },
        _ => Makes::default(),
    }
}

/// Indexes and sequences that come with columns and constraints.
fn parts(statement: &Tree) -> u64 {
    let mut parts = 0_u64;
    statement.visit(&mut |node| {
        let is_made = match node.kind() {
            "Constraint" => {
                let kind = node.get("contype").int();
                kind == IDENTITY || INDEXED.contains(&kind)
            }
            "TypeName" => SERIAL.contains(&node.get("names").items().last().map_or("", |name| name.get("sval").text())),
            _ => false,
        };
        parts = parts.saturating_add(u64::from(is_made));
    });
    parts
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    #[test]
    fn what_is_made_is_counted_with_what_comes_along() {
        for (sql, relations, takes_over) in [
            ("select 1", 0, false),
            ("create table t (a int unique)", 0, false),
            ("create temp table t (a int)", 1, false),
            ("create table pg_temp.t (a int)", 1, false),
            (
                "create temp table t (a int primary key, b int unique, c serial, d int generated always as identity)",
                5,
                false,
            ),
            ("create temp table t (a int, b int, unique (a, b), exclude (a with =))", 3, false),
            ("create temp table t (like orders including all)", 1, true),
            ("create temp table t partition of p for values in (1)", 1, true),
            ("create temp table t as select 1", 1, false),
            ("select 1 as a into temp t", 1, false),
            ("explain analyze create temp table t as select 1", 1, false),
            ("create temp view v as select 1", 1, false),
            ("create temp sequence s", 1, false),
            ("create index on t (a)", 1, true),
            ("alter table t add unique (a), add primary key (b)", 2, true),
        ] {
            let makes = grammar::parse(sql).expect(sql).remove(0).facts.makes;
            assert_eq!((makes.relations, makes.takes_over), (relations, takes_over), "{sql}");
        }
    }
}
