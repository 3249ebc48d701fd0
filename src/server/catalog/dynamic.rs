//! Relations behind which dynamic SQL may run when their rows are read or changed: in a trigger, a rule, a default, a
//! check, an index, a policy or a view, or in what one of these calls. Such a text can come out of a row, and then
//! the writer decides what runs (PostgreSQL, "PL/pgSQL", "Executing Dynamic Commands").
//!
//! A relation is followed like a function, whose text is the names of what stands behind it.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Error, Row};

use super::code::{Callers, spelled};
use crate::core::scope::catalog::Relation;

/// What gives names another meaning, or runs a text that may: words of PL/pgSQL and SQL, settings, and functions that
/// take a query as text, of PostgreSQL and of what comes with it.
const WORDS: [&str; 28] = [
    "execute",
    "prepare",
    "deallocate",
    "discard",
    "reset",
    "schema",
    "search_path",
    "set_config",
    "temp",
    "temporary",
    "pg_temp",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "crosstab",
    "crosstabn",
    "connectby",
    "xpath_table",
];

/// A relation, and the name of something behind it: functions of the database's own, relations that its rules read or
/// write, partitions, and tables whose rows go along with its rows; what fills in a column's type. On what is PostgreSQL's own nothing depends: there
/// the numbers in the expressions tell, and the word stands for all of it.
pub(super) const BEHIND: &str = "select t.tgrelid, p.proname::text from pg_trigger t join pg_proc p on p.oid = t.tgfoid \
      where p.oid >= 16384 \
    union select coalesce(e.adrelid, k.conrelid, i.indrelid, r.ev_class, y.polrelid, c.oid), p.proname::text from \
      (select * from pg_depend where refobjid >= 16384 and refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) offset 0) d \
      left join pg_attrdef e on d.classid = 'pg_attrdef'::regclass and e.oid = d.objid \
      left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid \
      left join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid \
      left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid \
      left join pg_policy y on d.classid = 'pg_policy'::regclass and y.oid = d.objid \
      left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind in ('r', 'p', 'f') \
      left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid \
      join pg_proc p on p.oid = coalesce(o.oprcode, case when d.refclassid = 'pg_proc'::regclass then d.refobjid end) \
      where p.oid >= 16384 and coalesce(e.adrelid, k.conrelid, i.indrelid, r.ev_class, y.polrelid, c.oid) is not null \
    union select a.attrelid, p.proname::text from pg_depend d join pg_attribute a on a.atttypid = d.objid and a.attnum > 0 \
      join pg_proc p on p.oid = d.refobjid \
      where d.classid = 'pg_type'::regclass and d.refclassid = 'pg_proc'::regclass and p.oid >= 16384 \
    union select x.relation, 'execute' from (select adrelid, adbin::text from pg_attrdef union all \
        select conrelid, conbin::text from pg_constraint where conbin is not null union all \
        select indrelid, concat(indexprs::text, indpred::text) from pg_index where indexprs is not null or indpred is not null union all \
        select polrelid, concat(polqual::text, polwithcheck::text) from pg_policy union all \
        select ev_class, concat(ev_qual::text, ev_action::text) from pg_rewrite where ev_class >= 16384) x (relation, worked_out) \
      where x.worked_out ~ (select concat(':funcid (', string_agg(oid::text, '|'), ') ') from pg_proc \
        where oid < 16384 and proname ~ '_to_xml|^ts_(stat|rewrite)$|^set_config$') \
    union select k.confrelid, c.relname::text from pg_constraint k join pg_class c on c.oid = k.conrelid \
      where k.contype = 'f' and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')) \
    union select i.inhparent, c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    union select r.ev_class, c.relname::text from pg_rewrite r \
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass \
      join pg_class c on c.oid = d.refobjid where d.refobjid >= 16384 and d.refobjid <> r.ev_class";

/// Their OIDs. `behind` are rows of [`BEHIND`], `code` and `hidden` those of [`super::code`].
pub(super) fn relations(
    relations: &BTreeMap<u32, Relation>,
    behind: &[Row],
    code: &[Row],
    hidden: &[Row],
) -> Result<BTreeSet<u32>, Error> {
    let mut texts: BTreeMap<u32, String> = BTreeMap::new();
    for row in behind {
        let text = texts.entry(row.try_get(0)?).or_default();
        text.push_str(&spelled(row.try_get(1)?));
        text.push(' ');
    }
    let named = texts.into_iter().filter_map(|(oid, text)| Some((relations.get(&oid)?.name.name.clone(), text)));
    let mut callers = Callers::of(BTreeSet::new(), WORDS.into_iter().map(str::to_owned));
    callers.follow(code, named.collect())?;
    // An operator or a cast may stand anywhere.
    let is_hidden = callers.are_hidden(hidden)?;
    let names = callers.names();
    let is_dynamic = |one: &Relation| names.contains(&one.name.name) || (is_hidden && !one.is_inert);
    Ok(relations.iter().filter(|(_, one)| is_dynamic(one)).map(|(oid, _)| *oid).collect())
}
