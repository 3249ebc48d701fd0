//! Reads what the database's own types are made of, so that masks can keep them.

use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::core::mask::literal;
use crate::core::mask::own_types::{Condition, Field, OwnType, STAND_INS, Types, guarded_texts};

/// Whether a domain's constraint `k` holds or does not hold for any value, but never fails: it is
/// made of nothing but comparisons and their like, which are PostgreSQL's own and take every value.
macro_rules! known {
    () => {
        "not exists (select from regexp_matches(k.conbin::text, '\\{([A-Z]+)', 'g') m where m[1] not in \
           ('OPEXPR', 'DISTINCTEXPR', 'FUNCEXPR', 'SCALARARRAYOPEXPR', 'BOOLEXPR', 'NULLTEST', 'BOOLEANTEST', 'CONST', \
            'RELABELTYPE', 'FIELDSELECT', 'COERCETODOMAINVALUE', 'ARRAY', 'ARRAYEXPR', 'ARRAYCOERCEEXPR', 'CASETESTEXPR', 'CASE', \
            'CASEEXPR', 'WHEN', 'CASEWHEN', 'COALESCE', 'COALESCEEXPR', 'SQLVALUEFUNCTION')) \
         and not exists (select from regexp_matches(k.conbin::text, ':(?:op)?funcid ([0-9]+)', 'g') m \
           left join pg_proc p on p.oid = m[1]::oid where p.oid is null \
            or not (p.proleakproof or p.prosrc = any('{textregexeq,textregexne,texticregexeq,texticregexne,textlike,\
              textnlike,texticlike,texticnlike,bpcharregexeq,bpcharregexne,bpcharlike,bpcharnlike,textlen,bpcharlen,\
              textoctetlen,bpcharoctetlen,byteaoctetlen,text_starts_with,lower,upper,btrim,btrim1,ltrim,ltrim1,rtrim,\
              rtrim1,text_left,text_right,textpos,citext_eq,citext_ne,numeric_eq,numeric_ne,numeric_lt,numeric_le,\
              numeric_gt,numeric_ge,int2_numeric,int4_numeric,int8_numeric,jsonb_typeof,json_typeof,array_cardinality,\
              array_length}'::text[])) \
            or not (p.pronamespace = 'pg_catalog'::regnamespace or exists (select from pg_depend d \
              join pg_extension x on x.oid = d.refobjid where d.classid = 'pg_proc'::regclass and d.objid = p.oid \
               and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e' and x.extname = 'citext')))"
    };
}
/// Name, kind, and two lists whose meaning depends on the kind. Of the rows of relations only those
/// that are some column's type.
pub(super) const TYPES: &str = concat!(
    "with used (oid) as (select atttypid from pg_attribute where attnum > 0 and not attisdropped and attrelid >= 16384 \
       union select typbasetype from pg_type where typtype = 'd' union select rngsubtype from pg_range) \
     select format_type(t.oid, null), 'enum', \
       array(select e.enumlabel::text from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder), '{}'::text[] \
       from pg_type t where t.typtype = 'e' \
     union all select format_type(t.oid, null), 'composite', \
       array(select a.attname::text from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 \
         and not a.attisdropped order by a.attnum), \
       array(select format_type(a.atttypid, a.atttypmod) from pg_attribute a where a.attrelid = t.typrelid \
         and a.attnum > 0 and not a.attisdropped order by a.attnum) \
       from pg_type t where t.typtype = 'c' and (t.oid in (select oid from used) or t.typarray in (select oid from used)) \
     union all select format_type(t.oid, null), 'domain', array[format_type(t.typbasetype, t.typtypmod)], \
       array[case when not k.is_known then 'unknown' when k.text is not null or t.typnotnull then 'known' end, \
         coalesce(k.text, 'true')] \
       from pg_type t cross join lateral (select coalesce(bool_and(",
    known!(),
    "), true) as is_known, string_agg(pg_get_expr(k.conbin, 0), ' and ' order by k.conname) as text \
         from pg_constraint k where k.contypid = t.oid and k.contype = 'c') k where t.typtype = 'd' \
     union all select format_type(r.rngtypid, null), 'range', array[format_type(r.rngsubtype, null)], \
       array[case when o.opcdefault then 'usual' end] from pg_range r join pg_opclass o on o.oid = r.rngsubopc \
       where r.rngtypid >= 16384 \
     union all select format_type(r.rngmultitypid, null), 'multirange', array[format_type(r.rngtypid, null)], '{}'::text[] \
       from pg_range r where r.rngtypid >= 16384"
);

/// Reads what [`TYPES`] answers.
pub(super) fn types(rows: &[Row]) -> Result<Types, tokio_postgres::Error> {
    let mut types = BTreeMap::new();
    for row in rows {
        let (name, kind): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (first, second): (Vec<String>, Vec<Option<String>>) = (row.try_get(2)?, row.try_get(3)?);
        types.extend(own(&kind, first, second).map(|own| (name, own)));
    }
    Ok(types)
}

/// The query that asks of each domain of text which stand-in it takes first, by the domain's name. Its
/// conditions are such that they take any value; nothing where there is no such domain.
pub(super) fn stand_ins(types: &Types) -> Option<String> {
    let candidates: Vec<String> = STAND_INS.iter().map(|text| literal(text)).collect();
    let each = |(name, over, condition): (&str, &str, &str)| {
        format!(
            "select {}, (select d.text from (select v.text, v.number, v.text::{over} as value \
               from unnest(array[{}]) with ordinality v (text, number)) d \
             where d.value::text = d.text and ({condition}) is not false order by d.number limit 1)",
            literal(name),
            candidates.join(", ")
        )
    };
    let all: Vec<String> = guarded_texts(types).into_iter().map(each).collect();
    (!all.is_empty()).then(|| all.join(" union all "))
}

/// Puts what [`stand_ins`] answers where it belongs.
pub(super) fn put_stand_ins(types: &mut Types, rows: &[Row]) -> Result<(), tokio_postgres::Error> {
    for row in rows {
        if let Some(OwnType::Domain { stand_in, .. }) = types.get_mut(row.try_get::<_, &str>(0)?) {
            *stand_in = row.try_get(1)?;
        }
    }
    Ok(())
}

fn own(kind: &str, first: Vec<String>, second: Vec<Option<String>>) -> Option<OwnType> {
    let below = first.first().cloned();
    let mut words = second.into_iter();
    match kind {
        "enum" => Some(OwnType::Enum { labels: first }),
        "composite" => {
            let field = |(name, type_name): (String, Option<String>)| Some(Field { name, type_name: type_name? });
            Some(OwnType::Composite { fields: first.into_iter().zip(words).filter_map(field).collect() })
        }
        "domain" => {
            let condition = match (words.next().flatten().as_deref(), words.next().flatten()) {
                (None, _) => Condition::None,
                (Some("known"), Some(condition)) => Condition::Known(condition),
                (Some(_), _) => Condition::Unknown,
            };
            Some(OwnType::Domain { over: below?, condition, stand_in: None })
        }
        "range" => Some(OwnType::Range { of: below?, is_usual: words.next().flatten().is_some() }),
        "multirange" => Some(OwnType::Multirange { range: below? }),
        // The query asks for no further kinds; a type that is not known shows nothing.
        _ => None,
    }
}
