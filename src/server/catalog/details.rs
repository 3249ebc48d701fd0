//! Code of the database's own that reads the DETAIL of errors, in which PostgreSQL quotes rows: of a row that an
//! upsert or a MERGE makes it shows every column that the statement may set, and so what was there already.

/// Functions `telling` that end up in such code: what reads it by itself, what has a call of one in its text, and
/// aggregates over them. PL/pgSQL has the words unquoted only; in other languages errors have other names.
macro_rules! telling {
    () => {
        "with recursive own as (select p.oid, p.proname, p.pronamespace, l.lanname in ('sql', 'plpgsql') as is_known, \
            coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) as body \
           from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace \
           where l.lanname not in ('c', 'internal') and n.nspname not in ('pg_catalog', 'information_schema')), \
         telling (oid, proname) as (select oid, proname from own \
             where body ~* case when is_known then '\\mpg_exception_(detail|context)\\M' else '\\m(detail|errorcode|spidata)\\M' end \
           union select x.oid, x.proname from telling t cross join lateral ( \
             select o.oid, o.proname from own o \
              where o.body ~* concat('\\m', regexp_replace(t.proname, '(\\W)', '\\\\\\1', 'g'), '\\M\"?\\s*\\(') union all \
             select a.aggfnoid::oid, p.proname from pg_aggregate a join pg_proc p on p.oid = a.aggfnoid \
              where t.oid in (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn, \
                a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)) x) "
    };
}

/// What of it PUBLIC may call: schema and name of functions, of operators that call one and of types that one
/// casts to.
pub(super) const DETAILS: &str = concat!(
    telling!(),
    ", called as (select t.oid, p.proname, p.pronamespace from telling t join pg_proc p on p.oid = t.oid \
       where has_function_privilege('public', t.oid, 'execute')) \
    select n.nspname::text, x.name::text from (\
      select proname as name, pronamespace as space from called union \
      select o.oprname, o.oprnamespace from pg_operator o join called c on c.oid = o.oprcode union \
      select y.typname, y.typnamespace from pg_cast k join called c on c.oid = k.castfunc \
       join pg_type y on y.oid = k.casttarget) x join pg_namespace n on n.oid = x.space"
);

/// Views whose rows come through it, also by an operator.
pub(super) const SHOWN: &str = concat!(
    telling!(),
    "select distinct r.ev_class from pg_rewrite r \
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
      left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid \
      join telling t on t.oid = o.oprcode or (d.refclassid = 'pg_proc'::regclass and t.oid = d.refobjid) \
     where r.ev_type = '1'"
);
