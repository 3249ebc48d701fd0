//! Reads what PostgreSQL holds a written row against.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::core::scope::catalog::{Against, Constraint, Relation};

/// Relation, name, kind, columns (0 for the whole row), the other relation and its columns.
///
/// An index with an expression or a condition works these out for every row, unique or not; where that
/// fails, the error tells. What they read is in PostgreSQL's dependencies; a whole row leaves none, but
/// `varattno 0` in the expression. What a row policy calls that is not IMMUTABLE may depend on settings, a
/// conversion to text too; that time passes is nobody's choice.
/// Columns of a key of partitioning, also in an expression, depend on their table.
pub(super) const CONSTRAINTS: &str = "with i as (select i.*, i.indexprs is not null or i.indpred is not null as is_worked_out, \
      concat(i.indexprs::text, i.indpred::text) ~ ':varattno 0 ' as is_whole from pg_index i \
      where i.indrelid >= 16384 and (i.indisunique or i.indisexclusion or i.indexprs is not null or i.indpred is not null)) \
    select i.indrelid, concat(case when i.indisunique then 'unique index ' when i.indisexclusion then 'exclusion constraint ' \
        else 'index ' end, c.relname), \
      case when not (i.indisunique or i.indisexclusion) then 'itself' \
        when i.indexprs is not null or (i.indnkeyatts > 1 and coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', '') = 'true') \
        then 'rows' else 'plain rows' end, \
      array(select k.number from (select unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) union \
          select d.refobjsubid::int2 from pg_depend d where i.is_worked_out and d.classid = 'pg_class'::regclass \
            and d.objid = i.indexrelid and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid \
          union select 0::int2 where i.is_whole) k (number) where k.number > 0 or i.is_whole), \
      0::oid, '{}'::int2[] \
      from i join pg_class c on c.oid = i.indexrelid \
    union all select k.conrelid, concat(case k.contype when 'c' then 'check ' else 'foreign key ' end, k.conname), \
      case k.contype when 'c' then 'itself' else 'relation' end, coalesce(k.conkey, '{}'), k.confrelid, \
      coalesce(k.confkey, '{}') from pg_constraint k where k.conrelid <> 0 and k.contype in ('c', 'f') \
    union all select p.polrelid, concat('row policy ', p.polname), \
      case when p.text ~ '\\{SUBLINK|\\{SQLVALUEFUNCTION :op 14 |\\{COERCEVIAIO' \
          or p.text ~ (select concat('func(id|) (', string_agg(f.oid::text, '|'), ') ') from pg_proc f \
           where f.provolatile <> 'i' and f.proname !~ '^(now|(transaction|statement|clock)_timestamp|timeofday)$') \
        then 'session' else 'itself' end, \
      array(select d.refobjsubid::int2 from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid \
          and d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid and d.refobjsubid > 0 \
        union select 0::int2 where p.text ~ ':varattno 0 '), 0::oid, '{}'::int2[] \
      from (select oid, polrelid, polname, concat(polqual::text, ' ', polwithcheck::text) as text from pg_policy) p \
    union all select p.partrelid, 'partition key', 'bounds', array(select d.objsubid::int2 from pg_depend d \
        where d.classid = 'pg_class'::regclass and d.objid = p.partrelid and d.objsubid > 0 and d.deptype = 'i' \
          and d.refclassid = 'pg_class'::regclass and d.refobjid = p.partrelid and d.refobjsubid = 0), 0::oid, '{}'::int2[] \
      from pg_partitioned_table p";

/// Adds what [`CONSTRAINTS`] answers; what looks at no column says nothing.
pub(super) fn add(relations: &mut BTreeMap<u32, Relation>, rows: &[Row]) -> Result<(), tokio_postgres::Error> {
    for row in rows {
        let Some(relation) = relations.get_mut(&row.try_get(0)?) else { continue };
        let against = match row.try_get::<_, String>(2)?.as_str() {
            "plain rows" => Against::Rows { is_plain: true },
            "rows" => Against::Rows { is_plain: false },
            "bounds" => Against::Bounds,
            "session" => Against::Session,
            "relation" => Against::Relation { oid: row.try_get(4)?, columns: row.try_get(5)? },
            // The query asks for no further kinds than this one.
            _ => Against::Itself,
        };
        let columns: Vec<i16> = row.try_get(3)?;
        if !columns.is_empty() {
            relation.constraints.push(Constraint { name: row.try_get(1)?, columns, against });
        }
    }
    // The order of rows is PostgreSQL's choice; digests must not depend on it.
    relations.values_mut().for_each(|relation| relation.constraints.sort());
    Ok(())
}
