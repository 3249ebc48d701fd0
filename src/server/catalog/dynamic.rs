//! Relations behind which dynamic SQL may run when their rows are read or changed: in a trigger, a rule, a default, a
//! check, an index, a policy or a view, or in what one of these calls. Such a text can come out of a row, and then
//! the writer decides what runs (PostgreSQL, "PL/pgSQL", "Executing Dynamic Commands").
//!
//! A relation is followed like a function, whose text is the names of what stands behind it.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Error, Row};

use super::code::{Callers, spelled};
use super::worked_out;
use crate::core::scope::catalog::Relation;
use crate::core::statement::texts::RUNS_TEXT;

/// What gives names another meaning, or runs a text that may: words of PL/pgSQL and SQL, settings, and functions that
/// take a query as text, of PostgreSQL and of what comes with it, by their names in SQL and in C; [`RUNS_TEXT`] has
/// more. Comments and literals are looked through as well.
const WORDS: [&str; 29] = [
    "authorization",
    "connectby_text",
    "connectby_text_serial",
    "cursor",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "deallocate",
    "discard",
    "execute",
    "pg_settings",
    "pg_temp",
    "prepare",
    "refcursor",
    "reset",
    "schema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "search_path",
    "set_config",
    "set_config_by_name",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "temp",
    "temporary",
    "ts_stat1",
    "ts_stat2",
    "tsquery_rewrite_query",
];

/// The row of [`BEHIND`] that is about no relation: what may run wherever there is a value.
const ANYWHERE: u32 = 0;

/// A relation, and the name of something behind it: functions of the database's own, relations that its rules and
/// policies read or write, those that it is a part of and its own parts, and tables whose rows go along with its rows.
/// What operators, casts, indexes of a kind of one's own and conditions of domains call may run anywhere. No
/// dependency leads to what is PostgreSQL's own: its functions are looked for by their numbers in what is worked out,
/// and told as `execute`.
///
/// `offset 0` keeps the few dependencies together that are asked about, before everything else is joined to them.
pub(super) const BEHIND: &str = concat!(
    "with used as materialized (\
     select d.classid, d.objid, p.proname::text as name from \
      (select * from pg_depend where refobjid >= 16384 and refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass) offset 0) d \
      left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid \
      join pg_proc p on p.oid = coalesce(o.oprcode, case when d.refclassid = 'pg_proc'::regclass then d.refobjid end) \
      where p.oid >= 16384) \
    select coalesce(e.adrelid, nullif(k.conrelid, 0), i.indrelid, r.ev_class, y.polrelid, t.tgrelid, c.oid, \
       case when k.contypid <> 0 or d.classid in ('pg_operator'::regclass, 'pg_cast'::regclass) then 0 end), d.name \
      from used d \
      left join pg_attrdef e on d.classid = 'pg_attrdef'::regclass and e.oid = d.objid \
      left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid \
      left join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid \
      left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid \
      left join pg_policy y on d.classid = 'pg_policy'::regclass and y.oid = d.objid \
      left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid \
      left join pg_class c on d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind in ('r', 'p', 'f') \
    union select a.attrelid, d.name from used d join pg_attribute a on a.atttypid = d.objid and a.attnum > 0 \
      where d.classid = 'pg_type'::regclass \
    union select 0, p.proname::text from pg_amproc m join pg_proc p on p.oid = m.amproc where p.oid >= 16384 \
    union select x.relation, 'execute' from (\
",
    worked_out!(),
    " union all \
        select polrelid, concat(polqual::text, polwithcheck::text) from pg_policy union all \
        select tgrelid, tgqual::text from pg_trigger where tgqual is not null union all \
        select a.attrelid, t.typdefaultbin::text from pg_type t join pg_attribute a on a.atttypid = t.oid where t.typdefaultbin is not null union all \
        select ev_class, concat(ev_qual::text, ev_action::text) from pg_rewrite where ev_class >= 16384) x (relation, worked_out) \
      where x.worked_out ~ (select concat(':funcid (', string_agg(oid::text, '|'), ') ') from pg_proc \
        where oid < 16384 and proname ~ '_to_xml|^ts_(stat|rewrite)$|^set_config$') \
    union select k.confrelid, c.relname::text from pg_constraint k join pg_class c on c.oid = k.conrelid \
      where k.contype = 'f' and (k.confdeltype in ('c', 'n', 'd') or k.confupdtype in ('c', 'n', 'd')) \
    union select unnest(array[i.inhparent, i.inhrelid]), unnest(array[c.relname, p.relname]::text[]) from pg_inherits i \
      join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent \
    union select coalesce(r.ev_class, y.polrelid), c.relname::text from pg_depend d \
      left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid \
      left join pg_policy y on d.classid = 'pg_policy'::regclass and y.oid = d.objid \
      join pg_class c on c.oid = d.refobjid \
      where d.refclassid = 'pg_class'::regclass and d.classid in ('pg_rewrite'::regclass, 'pg_policy'::regclass) \
       and d.refobjid >= 16384 and d.refobjid <> coalesce(r.ev_class, y.polrelid)"
);

/// Their OIDs. `behind` are rows of [`BEHIND`], `code` those of [`super::code::CODE`].
pub(super) fn relations(
    relations: &BTreeMap<u32, Relation>,
    behind: &[Row],
    code: &[Row],
) -> Result<BTreeSet<u32>, Error> {
    let mut texts: BTreeMap<u32, String> = BTreeMap::new();
    for row in behind {
        // What something of no interest here uses.
        let Some(oid) = row.try_get(0)? else { continue };
        let text: &mut String = texts.entry(oid).or_default();
        text.push_str(&spelled(row.try_get(1)?));
        text.push(' ');
    }
    // No text says this name.
    let anywhere = "\0".to_owned();
    let named = texts.into_iter().filter_map(|(oid, text)| match oid {
        ANYWHERE => Some((anywhere.clone(), text)),
        _ => Some((relations.get(&oid)?.name.name.clone(), text)),
    });
    let mut callers = Callers::of(BTreeSet::new(), WORDS.into_iter().chain(RUNS_TEXT).map(str::to_owned));
    callers.follow(code, named.collect())?;
    let names = callers.names();
    let is_anywhere = names.contains(&anywhere);
    let is_dynamic = |one: &Relation| names.contains(&one.name.name) || (is_anywhere && !one.is_inert);
    Ok(relations.iter().filter(|(_, one)| is_dynamic(one)).map(|(oid, _)| *oid).collect())
}
