//! Types whose values are checked by code that runs with its owner's rights: what the check says of a
//! value that somebody makes up could tell of what is masked.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use crate::core::scope::RelationName;

/// Domains with such a check, every type that has one of them inside of it, and the functions that take
/// or return one: their arguments are made such a value without a word.
pub const CHECKED: &str = "with recursive checked (oid) as (\
     select k.contypid from pg_constraint k join pg_depend d on d.classid = 'pg_constraint'::regclass and d.objid = k.oid \
      and d.refclassid = 'pg_proc'::regclass join pg_proc p on p.oid = d.refobjid \
      join pg_namespace n on n.oid = p.pronamespace \
      where k.contypid <> 0 and n.nspname not in ('pg_catalog', 'information_schema') \
      and p.prosecdef and has_function_privilege('public', p.oid, 'execute') \
     union select made.oid from checked join (\
       select oid, typbasetype from pg_type where typtype = 'd' \
       union all select typarray, oid from pg_type where typarray <> 0 \
       union all select c.reltype, a.atttypid from pg_attribute a join pg_class c on c.oid = a.attrelid \
        where a.attnum > 0 and not a.attisdropped and a.atttypid >= 16384 and c.reltype <> 0 \
       union all select rngtypid, rngsubtype from pg_range \
       union all select rngmultitypid, rngtypid from pg_range) made (oid, inside) on made.inside = checked.oid) \
    select n.nspname::text, t.typname::text, true from checked join pg_type t on t.oid = checked.oid \
     join pg_namespace n on n.oid = t.typnamespace \
    union select n.nspname::text, p.proname::text, false from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
     where p.oid >= 16384 and exists (select from checked where checked.oid = p.prorettype \
      or checked.oid = any (p.proargtypes) or checked.oid = any (p.proallargtypes))";

/// Reads what [`CHECKED`] answers: types and functions.
///
/// # Errors
/// When a row is not as asked for.
pub fn read(rows: &[Row]) -> Result<[BTreeSet<RelationName>; 2], tokio_postgres::Error> {
    let (mut types, mut functions) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let name = RelationName::new(row.try_get(0)?, row.try_get(1)?);
        match row.try_get(2)? {
            true => types.insert(name),
            false => functions.insert(name),
        };
    }
    Ok([types, functions])
}
