//! Asking the target's counters of changed rows, and reading what they say.

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
        concat!("where c.relkind in ('r', 'p', 'f', 'm') and n.nspname <> 'pg_catalog' and ", $condition)
    };
}

/// A row where the answer cannot be believed: a schema that the session searches before `pg_catalog` has operators,
/// which could be those of the question. What stands here cannot be taken for anything else.
macro_rules! doubt {
    ($more:literal) => {
        concat!(
            " union all select 'doubt', null, null, null, null, null, null, null, null, null, null",
            $more,
            " where case when pg_catalog.array_position(pg_catalog.current_schemas(false), 'pg_catalog') \
               operator(pg_catalog.>) 1 \
             then exists (select from pg_catalog.pg_operator o join pg_catalog.pg_namespace s \
                 on s.oid operator(pg_catalog.=) o.oprnamespace \
               where pg_catalog.array_position(pg_catalog.current_schemas(false), s.nspname) operator(pg_catalog.<) \
                 pg_catalog.array_position(pg_catalog.current_schemas(false), 'pg_catalog')) \
             else false end"
        )
    };
}

/// The count query. Only relations on which this backend holds a lock that writers, TRUNCATE or DDL take can have
/// changed; that also is what makes it cheap.
pub const NOW: &str = concat!(
    counters!("case when c.oid is null then 'gone' else 'now' end"),
    "greatest(c.reltuples, case when greatest(c.reltuples, 0) < 2 * ( \
       pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid) + \
       pg_catalog.pg_stat_get_xact_tuples_updated(c.oid) + pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)) \
       then pg_catalog.pg_stat_get_live_tuples(c.oid) end)::pg_catalog.int8, held.is_ddl, c.relpersistence = 't', \
       c.relkind = 'f', held.relation \
     from (select l.relation, pg_catalog.bool_or(l.mode in \
         ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) as is_ddl \
       from pg_catalog.pg_locks l \
       where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation' and l.granted \
         and l.mode in ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', \
           'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
       group by l.relation) held \
     left join pg_catalog.pg_class c on c.oid = held.relation \
     left join pg_catalog.pg_namespace n on n.oid = c.relnamespace ",
    counted_of!("true"),
    " or (c.oid is null and held.is_ddl)",
    doubt!(", null")
);

/// What the counters say before anything is written: only their numbers matter.
macro_rules! baseline {
    ($condition:literal) => {
        concat!(
            counters!("'before'"),
            "null, false, c.relpersistence = 't', c.relkind = 'f' \
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace ",
            counted_of!($condition),
            doubt!("")
        )
    };
}

/// Of these relations, by OID.
pub const BEFORE: &str = baseline!("c.oid = any ($1::pg_catalog.oid[])");

/// Of all that the target knows of.
pub const BEFORE_ALL: &str = baseline!("c.oid in (select relid from pg_catalog.pg_stat_xact_user_tables)");

/// The rows of one of these queries among those that a round has brought; nothing where they cannot be read.
pub fn read(rows: &[Vec<Option<String>>], mark: &str) -> Option<Vec<Counted>> {
    rows.iter().filter(|row| row.first().and_then(Option::as_deref) == Some(mark)).map(|row| counted(row)).collect()
}

/// Whether the rows of these queries cannot be believed.
pub fn is_doubtful(rows: &[Vec<Option<String>>]) -> bool {
    rows.iter().any(|row| row.first().and_then(Option::as_deref) == Some("doubt"))
}

/// OIDs of relations that the transaction has dropped: their locks are there, and nothing that they were.
pub fn gone(rows: &[Vec<Option<String>>]) -> impl Iterator<Item = u32> {
    let is_gone = |row: &&Vec<Option<String>>| row.first().and_then(Option::as_deref) == Some("gone");
    rows.iter().filter(is_gone).filter_map(|row| row.last()?.as_deref()?.parse().ok())
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
        is_locked_for_ddl: text(7)? == "t",
        is_temporary: text(8)? == "t",
        is_foreign: text(9)? == "t",
    })
}
