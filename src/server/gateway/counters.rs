//! Asking the target's counters of changed rows, and reading what they say.
//!
//! The questions stand in the client's session: functions, types and operators are named with their schema, so
//! that no search path puts others in their place.

use crate::core::impact::Counted;

/// The columns that a row of counts begins with: a mark, and what a backend has counted of `c` in `n`.
macro_rules! counters {
    ($mark:literal) => {
        concat!(
            "select ",
            $mark,
            ", c.oid, n.nspname, c.relname, \
             pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid), \
             pg_catalog.pg_stat_get_xact_tuples_updated(c.oid), \
             pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid), "
        )
    };
}

/// Which relations they are counted of.
macro_rules! counted_of {
    ($condition:literal) => {
        concat!(
            "where c.relkind operator(pg_catalog.=) any ('{r,p,f,m}'::pg_catalog.\"char\"[]) \
             and n.nspname operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.name and ",
            $condition
        )
    };
}

/// The rows of a small table that are there now, of which the share matters. Only where more than a few were
/// changed, since it is asked before every commit; where the table is small by its statistics and its file;
/// and where the session may count them and no row policy hides any. To look at every row would be a conflict with
/// others in a serializable transaction. The statistics of such a table may be old: they are made anew when fifty
/// rows have changed.
macro_rules! there {
    () => {
        "case when c.relkind operator(pg_catalog.=) 'r'::pg_catalog.\"char\" \
           and (pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) operator(pg_catalog.+) \
             pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)) operator(pg_catalog.>) 10::pg_catalog.int8 \
           and c.reltuples operator(pg_catalog.<) 1000::pg_catalog.float4 and not c.relrowsecurity \
           and pg_catalog.current_setting('transaction_isolation'::pg_catalog.text) \
             operator(pg_catalog.<>) 'serializable'::pg_catalog.text \
           and pg_catalog.has_function_privilege( \
             'pg_catalog.query_to_xml(text,boolean,boolean,text)'::pg_catalog.text, 'EXECUTE'::pg_catalog.text) \
           and pg_catalog.has_schema_privilege(n.oid, 'USAGE'::pg_catalog.text) \
           and pg_catalog.has_any_column_privilege(c.oid, 'SELECT'::pg_catalog.text) \
           and pg_catalog.pg_relation_size(c.oid) operator(pg_catalog.<) 1048576::pg_catalog.int8 \
         then pg_catalog.substring(pg_catalog.query_to_xml(pg_catalog.format( \
             'select pg_catalog.count(*) from only %I.%I'::pg_catalog.text, n.nspname, c.relname), true, true, \
             ''::pg_catalog.text)::pg_catalog.text, '<count>([0-9]+)<'::pg_catalog.text) end, "
    };
}

/// Whether somebody's code may be deferred to the commit. What is PostgreSQL's own and can be only looks at keys, and at
/// what an index works out and compares in somebody's way.
/// A snapshot that is older than the lock on the relation does not tell.
macro_rules! late {
    () => {
        "pg_catalog.current_setting('transaction_isolation'::pg_catalog.text) \
           operator(pg_catalog.<>) 'read committed'::pg_catalog.text \
         or c.relhastriggers and exists (select from pg_catalog.pg_trigger t \
           where t.tgrelid operator(pg_catalog.=) c.oid and t.tgdeferrable \
             and (t.tgfoid operator(pg_catalog.>=) 16384::pg_catalog.oid \
               or exists (select from pg_catalog.pg_index i where i.indexrelid operator(pg_catalog.=) t.tgconstrindid \
                 and (i.indexprs is not null or i.indpred is not null \
                   or 16384::pg_catalog.oid operator(pg_catalog.<=) any (i.indclass::pg_catalog.oid[])))))"
    };
}

/// The count query. What no query of the transaction sees, because it is younger than its snapshot, the system's own
/// caches know: it is there where one can say whether it is visible, and has rows of its own where it has a file.
/// Only relations on which this backend holds a lock that writers, TRUNCATE or DDL take can have
/// changed; that also is what makes it cheap.
pub const NOW: &str = concat!(
    counters!(
        "case when c.oid is not null then 'now' \
           when pg_catalog.pg_table_is_visible(held.relation) is null then 'gone' else 'unseen' end"
    ),
    "greatest(c.reltuples, case when greatest(c.reltuples, 0)::pg_catalog.float8 operator(pg_catalog.<) \
         (2::pg_catalog.float8 operator(pg_catalog.*) (pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) \
           operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) \
           operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid))::pg_catalog.float8) \
       then pg_catalog.pg_stat_get_live_tuples(c.oid) end)::pg_catalog.int8, ",
    there!(),
    "held.is_ddl, \
       c.relpersistence operator(pg_catalog.=) 't'::pg_catalog.\"char\", \
       c.relkind operator(pg_catalog.=) 'f'::pg_catalog.\"char\", ",
    late!(),
    ", held.relation \
     from (select l.relation, pg_catalog.bool_or(l.mode operator(pg_catalog.=) any ( \
         '{ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::pg_catalog.text[])) as is_ddl \
       from pg_catalog.pg_locks l \
       where l.pid operator(pg_catalog.=) pg_catalog.pg_backend_pid() \
         and l.locktype operator(pg_catalog.=) 'relation'::pg_catalog.text and l.granted \
         and l.mode operator(pg_catalog.=) any ('{RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock, \
           ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'::pg_catalog.text[]) \
       group by l.relation) held \
     left join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) held.relation \
     left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace ",
    counted_of!("true"),
    " or (c.oid is null and case when pg_catalog.pg_table_is_visible(held.relation) is null then held.is_ddl \
         else held.is_ddl or pg_catalog.pg_relation_filenode(held.relation) is null \
           or (pg_catalog.pg_stat_get_xact_tuples_inserted(held.relation) \
             operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_updated(held.relation) \
             operator(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(held.relation)) \
             operator(pg_catalog.>) 0::pg_catalog.int8 end)"
);

/// Cursors that this transaction has made and that outlive it.
pub const KEPT: &str = "select 'kept' from pg_catalog.pg_cursors c where c.is_holdable \
    and c.creation_time operator(pg_catalog.>=) pg_catalog.transaction_timestamp()";

/// What the counters say before anything is written: only their numbers matter.
macro_rules! baseline {
    ($condition:literal) => {
        concat!(
            counters!("'before'"),
            "null, null, false, c.relpersistence operator(pg_catalog.=) 't'::pg_catalog.\"char\", \
             c.relkind operator(pg_catalog.=) 'f'::pg_catalog.\"char\" from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace ",
            counted_of!($condition)
        )
    };
}

/// Of these relations, by OID.
pub const BEFORE: &str = baseline!("c.oid operator(pg_catalog.=) any ($1::pg_catalog.oid[])");

/// Of all that the target knows of.
pub const BEFORE_ALL: &str =
    baseline!("c.oid operator(pg_catalog.=) any (select u.relid from pg_catalog.pg_stat_xact_user_tables u)");

/// The rows of one of these queries among those that a round has brought; nothing where they cannot be read.
pub fn read(rows: &[Vec<Option<String>>], mark: &str) -> Option<Vec<Counted>> {
    marked(rows, mark).map(|row| counted(row)).collect()
}

/// Those of them that begin with this mark.
fn marked<'r>(rows: &'r [Vec<Option<String>>], mark: &str) -> impl Iterator<Item = &'r Vec<Option<String>>> {
    rows.iter().filter(move |row| row.first().and_then(Option::as_deref) == Some(mark))
}

/// Whether there is a row with this mark.
pub fn is_any(rows: &[Vec<Option<String>>], mark: &str) -> bool {
    marked(rows, mark).next().is_some()
}

/// OIDs of relations that the transaction has dropped: their locks are there, and nothing that they were.
pub fn gone(rows: &[Vec<Option<String>>]) -> impl Iterator<Item = u32> {
    marked(rows, "gone").filter_map(|row| row.last()?.as_deref()?.parse().ok())
}

/// One row of the count query, behind its mark.
fn counted(row: &[Option<String>]) -> Option<Counted> {
    let text = |index: usize| row.get(index + 1).and_then(Option::as_deref);
    let number = |index: usize| text(index).and_then(|text| text.parse::<u64>().ok());
    Some(Counted {
        oid: text(0)?.parse().ok()?,
        schema: text(1)?.to_owned(),
        relation: text(2)?.to_owned(),
        inserted: number(3)?,
        updated: number(4)?,
        deleted: number(5)?,
        of: number(6),
        there: number(7),
        is_locked_for_ddl: text(8)? == "t",
        is_temporary: text(9)? == "t",
        is_foreign: text(10)? == "t",
        may_defer: text(11) != Some("f"),
    })
}
