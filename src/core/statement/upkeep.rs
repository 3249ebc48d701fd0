//! Which definitions and maintenance may run as the owner of what they change, once people have
//! agreed: tables, indexes and what keeps them in shape.
//!
//! What hands out rights (GRANT, ALTER … OWNER), runs code later (functions, triggers, rules,
//! policies), copies rows (CREATE TABLE AS, views) or takes whole objects away (DROP) is not among
//! them: as the owner it would reach what policy keeps from everybody. The list names what is
//! allowed; what it does not name is not.

use super::tree::Tree;

/// Kinds of `ALTER TABLE`, by their numbers in the parser's protobuf: columns, their defaults,
/// types, storage and identity; constraints; statistics and options; partitions.
const ALTERATIONS: [i64; 27] = [
    1, // ADD COLUMN
    3, // SET or DROP DEFAULT
    5, // DROP NOT NULL
    6, // SET NOT NULL
    8, // DROP EXPRESSION
    9, // SET STATISTICS
    10, 11, // SET and RESET (…) of a column
    12, // SET STORAGE
    13, // SET COMPRESSION
    14, // DROP COLUMN
    15, // ADD of an index
    17, // ADD CONSTRAINT
    20, // ALTER CONSTRAINT
    21, // VALIDATE CONSTRAINT
    22, // ADD CONSTRAINT USING INDEX
    23, // DROP CONSTRAINT
    25, // ALTER COLUMN TYPE
    28, 29, // CLUSTER ON, SET WITHOUT CLUSTER
    35, 36, // SET and RESET (…) of the table
    60, 61, 62, // ATTACH and DETACH PARTITION
    63, 65, // ADD and DROP IDENTITY
];

/// Object types of ALTER: an index and a table.
const ALTERABLE: [i64; 2] = [21, 42];
/// Object types of REINDEX: one index, one table.
const REINDEXABLE: [i64; 2] = [1, 2];

/// Whether the statement is one of them.
pub(super) fn is_upkeep(tree: &Tree) -> bool {
    let number = |name: &str| tree.get(name).int();
    match tree.kind() {
        "IndexStmt" | "CreateStmt" | "TruncateStmt" | "RefreshMatViewStmt" => true,
        // Without a name they are about every table there is.
        "VacuumStmt" => !tree.get("rels").items().is_empty(),
        "ClusterStmt" => !tree.get("relation").is_nothing(),
        "ReindexStmt" => REINDEXABLE.contains(&number("kind")),
        "AlterTableStmt" => {
            let commands = tree.get("cmds").items();
            let is_named = |command: &Tree| ALTERATIONS.contains(&command.get("subtype").int());
            ALTERABLE.contains(&number("objtype")) && !commands.is_empty() && commands.iter().all(is_named)
        }
        _ => false,
    }
}

/// Whether it takes care to let others go on meanwhile.
pub(super) fn is_concurrent(tree: &Tree) -> bool {
    let has_option = |option: &Tree| option.get("defname").text() == "concurrently";
    tree.get("concurrent").flag() || tree.get("params").items().iter().any(has_option)
}

#[cfg(test)]
mod tests {
    use crate::core::statement::facts::Upkeep;
    use crate::core::statement::grammar;

    fn upkeep(sql: &str) -> Option<Upkeep> {
        grammar::parse(sql).expect(sql).first().expect("one statement").facts.upkeep
    }

    #[test]
    fn tables_and_indexes_are_kept_in_shape_and_nothing_else_is_lent_a_right() {
        for sql in [
            "create index i on t (a)",
            "create table t (id int primary key, o int references orders)",
            "truncate t, u",
            "alter table t add column note text default 'x', drop constraint c",
            "alter table t alter column a type bigint",
            "alter table t attach partition p for values in (1)",
            "alter index i set (fillfactor = 70)",
            "vacuum (analyze) t",
            "analyze t",
            "cluster t using i",
            "reindex table t",
            "refresh materialized view m",
        ] {
            assert_eq!(upkeep(sql), Some(Upkeep::Blocking), "{sql}");
        }
        for sql in [
            "create index concurrently i on t (a)",
            "reindex index concurrently i",
            "refresh materialized view concurrently m",
        ] {
            assert_eq!(upkeep(sql), Some(Upkeep::Concurrent), "{sql}");
        }
        for sql in [
            "grant select on t to public",
            "alter table t owner to x",
            "alter table t disable trigger all",
            "alter table t disable row level security",
            "alter table t add column a int, owner to x",
            "alter table t rename column a to b",
            "alter table t set schema s",
            "alter view v set (security_barrier = false)",
            "create table t as select * from secrets",
            "create view v as select * from secrets",
            "create materialized view v as select * from secrets",
            "create function f() returns int language sql as 'select 1'",
            "create trigger x after insert on t for each row execute function f()",
            "create rule r as on insert to t do nothing",
            "create policy p on t",
            "create role x",
            "drop table t",
            "vacuum",
            "cluster",
            "reindex database d",
            "do $$ begin end $$",
            "call p()",
            "lock table t",
            "select 1",
            "create temp table t (a int)",
        ] {
            assert_eq!(upkeep(sql), None, "{sql}");
        }
    }
}
