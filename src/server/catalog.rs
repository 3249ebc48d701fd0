//! Reads what exists in a target database: a few queries over whole catalogs, none per relation.
//!
//! Two facts here decide whether a masked value can leak, and PostgreSQL's dependencies do not
//! tell them: a view with a whole-row reference depends on every column, and one that calls a
//! function with its owner's rights may read anything.

mod code;
mod constraints;
mod dynamic;
mod own_types;
mod reach;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Row};

use self::code::Callers;
use self::reach::{Begin, Reach};
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Column, Relation, RelationKind};
use crate::core::statement::newer;

/// Why the catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("cannot read the catalog of database `{database}`")]
    Query { database: String, source: tokio_postgres::Error },
    #[error("connected to database `{found}`, not to `{wanted}`")]
    OtherDatabase { wanted: String, found: String },
    #[error("the catalog of database `{0}` holds a value of an unexpected kind")]
    Unexpected(String),
}

/// Types are printed with their schema only where the search path does not show them, so the path
/// is emptied for the time of reading. One snapshot for all queries. Compiling them would take longer
/// than running them, and looking at lists that do not fit into memory much longer.
const BEGIN: &str = "begin isolation level repeatable read read only; set local search_path = pg_catalog; \
    set local jit = off; set local work_mem = '64MB'";

const SERVER: &str = "select current_database()::text, current_setting('server_version_num')::int8, \
    current_setting('server_version'), (select system_identifier::text from pg_control_system())";

/// Schemas that are not the system's or our own, for relations `c` in `n`.
macro_rules! own {
    () => {
        "n.nspname <> 'information_schema' and n.nspname !~ '^(pg_|dbgate_m_)' "
    };
}

/// What is worked out for rows, by relation: defaults, conditions and indexes.
macro_rules! worked_out {
    () => {
        "select adrelid, adbin::text from pg_attrdef union all \
         select conrelid, conbin::text from pg_constraint where conbin is not null union all \
         select indrelid, concat(indexprs::text, indpred::text) from pg_index \
           where indexprs is not null or indpred is not null"
    };
}
use worked_out;

/// Whether a change of the rows of `c`, or reading them, calls no code but PostgreSQL's own, and none of that
/// which does more than return something: no trigger beside those that only look at foreign keys, no rule, no
/// children or parents, and nothing of somebody's in what is worked out for a row. On what is PostgreSQL's own
/// nothing depends; its functions stand in the expressions by their numbers.
macro_rules! inert {
    () => {
        concat!(
            "c.relkind = 'r' and not c.relhasrules and not c.relrowsecurity and not c.relispartition \
         and c.oid not in (select inhparent from pg_inherits union all select inhrelid from pg_inherits) \
         and c.oid not in (select t.tgrelid from pg_trigger t join pg_proc f on f.oid = t.tgfoid \
           where not t.tgisinternal or f.oid >= 16384 or f.proname !~ '^RI_FKey_(check|noaction|restrict)_') \
         and c.oid not in (select a.attrelid from pg_attribute a join pg_type y on y.oid = a.atttypid \
           where y.oid >= 16384 and y.typtype <> 'e') \
         and c.oid not in (select coalesce(e.adrelid, k.conrelid, i.indrelid) from pg_depend d \
           left join pg_attrdef e on d.classid = 'pg_attrdef'::regclass and e.oid = d.objid \
           left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid \
           left join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid \
           where d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, \
               'pg_opclass'::regclass, 'pg_opfamily'::regclass) and d.refobjid >= 16384 \
             and (d.refclassid <> 'pg_type'::regclass or d.refobjid not in (select oid from pg_type where typtype = 'e')) \
             and coalesce(e.adrelid, k.conrelid, i.indrelid) is not null) \
         and c.oid not in (select x.relation from (",
            worked_out!(),
            ") x (relation, worked_out) \
           where x.worked_out ~ (select concat(':funcid (', string_agg(oid::text, '|'), ') ') from pg_proc \
             where oid < 16384 and (provolatile = 'v' or proname ~ '^(table|schema|database|query|cursor)_to_xml') \
               and proname !~ '^(nextval|currval|lastval|clock_timestamp|timeofday|random|gen_random_uuid|uuidv[47])$'))"
        )
    };
}

const RELATIONS: &str = concat!(
    "select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relrowsecurity, c.reltuples::int8, \
     array(select i.inhparent from pg_inherits i where i.inhrelid = c.oid), \
     exists (select from pg_policy p where p.polrelid = c.oid and (p.polroles <> '{0}' \
       or concat(pg_get_expr(p.polqual, c.oid), ' ', pg_get_expr(p.polwithcheck, c.oid)) \
         ~* '\\y(current_user|session_user|current_role|user|pg_has_role|pg_get_userbyid)\\y' \
       or exists (select from pg_depend d where d.classid = 'pg_policy'::regclass and d.objid = p.oid \
         and d.refclassid = 'pg_proc'::regclass))), \
     array(select array_to_string((i.indkey::int2[])[0:i.indnkeyatts - 1], ' ') from pg_index i \
       where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate \
         and i.indpred is null and i.indexprs is null order by 1), \
     ",
    inert!(),
    " from pg_class c join pg_namespace n on n.oid = c.relnamespace \
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' and ",
    own!()
);

const COLUMNS: &str = concat!(
    "select a.attrelid, a.attname::text, a.attnum, format_type(a.atttypid, a.atttypmod), a.atttypid, a.attnotnull, \
     a.atthasdef or a.attidentity <> '', a.attgenerated <> '' or a.attidentity = 'a', a.attgenerated <> '' \
     from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') \
     and c.relpersistence <> 't' and ",
    own!(),
    "order by a.attrelid, a.attnum"
);

/// Columns a generated column is computed from: recorded for the column or for its expression,
/// depending on the version.
const GENERATED: &str = "select distinct a.attrelid, a.attnum, d.refobjsubid::int2 \
    from pg_attribute a join pg_attrdef e on e.adrelid = a.attrelid and e.adnum = a.attnum \
    join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid > 0 \
     and d.refobjsubid <> a.attnum \
     and ((d.classid = 'pg_attrdef'::regclass and d.objid = e.oid) \
       or (d.classid = 'pg_class'::regclass and d.objid = a.attrelid and d.objsubid = a.attnum)) \
    where a.attgenerated <> ''";

/// What views read. A whole-row reference leaves no trace in `pg_depend` beside column references,
/// but its `varattno 0` stands in the rule: then every relation counts as a whole. Without one, a
/// dependency on no column (`count(*)`) reads none: the number of a system column says so.
const DEPENDS: &str = concat!(
    "select distinct w.ev_class, d.refobjid, \
      case when w.whole then 0 when d.refobjsubid = 0 then -1 else d.refobjsubid end::int2 \
     from (select r.oid, r.ev_class, r.ev_action::text ~ ':varattno 0 ' as whole from pg_rewrite r \
       join pg_class v on v.oid = r.ev_class join pg_namespace n on n.oid = v.relnamespace \
       where r.ev_type = '1' and ",
    own!(),
    "offset 0) w \
     join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid \
      and d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class \
     join pg_class t on t.oid = d.refobjid join pg_namespace m on m.oid = t.relnamespace \
     where m.nspname not in ('pg_catalog', 'information_schema')"
);

/// Views whose rows come through code that cannot be followed, beside those that [`reach`] finds: in a
/// materialized view any of the database's own, called or behind an operator, since it ran with the view
/// owner's rights, as did what reads other sessions, statistics of all columns, or a text.
const OPAQUE: &str = "select r.ev_class from pg_rewrite r join pg_class v on v.oid = r.ev_class \
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
      left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid \
      join pg_proc p on p.oid = o.oprcode or (d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid) \
      join pg_namespace n on n.oid = p.pronamespace \
     where r.ev_type = '1' and n.nspname not in ('pg_catalog', 'information_schema') and v.relkind = 'm' \
    union select r.ev_class from pg_rewrite r join pg_class v on v.oid = r.ev_class \
     where r.ev_type = '1' and r.ev_class >= 16384 and r.ev_action::text ~ case v.relkind when 'm' then \
       (select concat(':(relid (', string_agg(oid::text, '|'), ')|funcid (', (select string_agg(oid::text, '|') \
          from pg_proc where oid < 16384 and proname ~ '_to_xml|^ts_(stat|rewrite)$'), ')) ') \
         from pg_class where relnamespace = 'pg_catalog'::regnamespace and relname in ('pg_statistic', \
          'pg_statistic_ext_data', 'pg_largeobject', 'pg_stats', 'pg_stats_ext', 'pg_stats_ext_exprs', 'pg_stat_activity')) \
      else (select concat(':relid (', string_agg(oid::text, '|'), ') ') from pg_class \
         where relnamespace = 'pg_catalog'::regnamespace \
          and relname in ('pg_statistic', 'pg_statistic_ext_data', 'pg_largeobject')) end";

/// Sequences that column defaults draw from, owned or merely named.
const SEQUENCES: &str = "select distinct e.adrelid, n.nspname::text, s.relname::text \
    from pg_attrdef e join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = e.oid \
     and d.refclassid = 'pg_class'::regclass \
     join pg_class s on s.oid = d.refobjid and s.relkind = 'S' join pg_namespace n on n.oid = s.relnamespace";

/// Which functions are volatile, which may return something else in every session, which are code of
/// the database's own, and which return a set. What comes with the server has the lower numbers. Those that
/// read a relation by its name call what a view calls.
const FUNCTIONS: &str = "select p.proname::text, \
     bool_or(p.provolatile = 'v' and (p.oid >= 16384 or p.proname !~ '^(clock_timestamp|timeofday|random|gen_random_uuid|\
         pg_(database|indexes|relation|table|tablespace|total_relation)_size)$') \
       or p.proname ~ '^(table|schema|database)_to_xml'), \
     bool_or(p.provolatile <> 'i' and (p.oid < 16384 or l.lanname in ('c', 'internal'))), \
     bool_or(p.oid >= 16384 and l.lanname not in ('c', 'internal')), bool_or(p.proretset) \
     from pg_proc p join pg_language l on l.oid = p.prolang group by 1";

/// One number for all definitions that a scope rests on. Grants do not change it: making a scope
/// would look like a change of the database.
const MARK: &str = "with c as materialized (select c.oid, c.relname, c.relnamespace, c.relkind, c.relrowsecurity \
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
      where c.relpersistence <> 't' and n.nspname <> 'information_schema' and n.nspname !~ '^(pg_|dbgate_)'), \
     parts (part) as ( \
      select concat_ws(' ', oid, relname, relnamespace, relkind, relrowsecurity) from c \
      union all select concat_ws(' ', a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, \
        a.attgenerated) from c join pg_catalog.pg_attribute a on a.attrelid = c.oid \
        where a.attnum > 0 and not a.attisdropped \
      union all select concat_ws(' ', i.inhrelid, i.inhparent) from pg_catalog.pg_inherits i \
      union all select concat_ws(' ', 'rule', r.oid, r.xmin) from c join pg_catalog.pg_rewrite r on r.ev_class = c.oid \
      union all select concat_ws(' ', 'trigger', t.oid, t.xmin) from c join pg_catalog.pg_trigger t on t.tgrelid = c.oid \
        where not t.tgisinternal \
      union all select concat_ws(' ', 'index', i.indexrelid) from c join pg_catalog.pg_index i on i.indrelid = c.oid \
        where i.indexprs is not null or i.indpred is not null \
          or exists (select from pg_catalog.unnest(i.indclass) k (oid) where k.oid >= 16384) \
      union all select concat_ws(' ', 'policy', p.oid, p.xmin) from pg_catalog.pg_policy p \
      union all select concat_ws(' ', 'default', d.oid, d.xmin) from c join pg_catalog.pg_attrdef d on d.adrelid = c.oid \
      union all select concat_ws(' ', 'domain', k.oid, k.xmin) from pg_catalog.pg_constraint k where k.contypid <> 0 \
      union all select concat_ws(' ', 'constraint', k.oid, k.xmin) from c join pg_catalog.pg_constraint k \
        on k.conrelid = c.oid where k.contype in ('c', 'f') \
      union all select concat_ws(' ', 'type', t.oid, t.typname, t.typnamespace, t.typnotnull, t.typdefaultbin) from pg_catalog.pg_type t where t.typtype = 'd' \
      union all select concat_ws(' ', 'label', e.oid, e.enumlabel) from pg_catalog.pg_enum e \
      union all select concat_ws(' ', 'function', f.oid, f.proname, f.pronamespace, f.prosecdef, f.provolatile, f.prosrc, \
        f.prosqlbody, f.proargdefaults, \
        case when f.prosecdef then f.proacl::text end) from pg_catalog.pg_proc f where f.oid >= 16384 \
      union all select concat_ws(' ', 'operator', o.oid, o.oprname, o.oprnamespace, o.oprcode) from pg_catalog.pg_operator o where o.oid >= 16384 \
      union all select concat_ws(' ', 'schema', n.oid, n.nspname) from pg_catalog.pg_namespace n \
        where n.nspname !~ '^(pg_|dbgate_)' \
      union all select concat_ws(' ', 'aggregate', a.*) from pg_catalog.pg_aggregate a where a.aggfnoid >= 16384 \
      union all select concat_ws(' ', 'cast', k.oid, k.castfunc) from pg_catalog.pg_cast k where k.oid >= 16384) \
    select coalesce(sum(pg_catalog.hashtextextended(part, 0) / 4294967296), 0)::int8 from parts";

/// Asks for the number that changes when a definition does.
pub async fn mark(client: &Client) -> Result<i64, tokio_postgres::Error> {
    client.query_one(MARK, &[]).await?.try_get(0)
}

/// Reads the catalog of the database the client is connected to. Nobody else may use the client
/// meanwhile: it is inside a transaction.
pub async fn read(client: &Client, database: &str) -> Result<Catalog, CatalogError> {
    let failed = |source| CatalogError::Query { database: database.to_owned(), source };
    client.batch_execute(BEGIN).await.map_err(failed)?;
    let catalog = read_all(client, database).await;
    // Read only, so how it ends makes no difference; only that it ends.
    client.batch_execute("rollback").await.map_err(failed)?;
    let mut catalog = catalog?;
    define(client, &mut catalog).await.map_err(failed)?;
    stand_in(client, &mut catalog).await.map_err(failed)?;
    Ok(catalog)
}

/// Asks the domains of text what can stand for their values.
async fn stand_in(client: &Client, catalog: &mut Catalog) -> Result<(), tokio_postgres::Error> {
    let Some(sql) = own_types::stand_ins(&catalog.types) else { return Ok(()) };
    client.batch_execute(BEGIN).await?;
    let rows = client.query(&sql, &[]).await;
    client.batch_execute("rollback").await?;
    // A domain that is gone since is asked for in vain; the next look will not know it.
    match rows {
        Ok(rows) => own_types::put_stand_ins(&mut catalog.types, &rows),
        Err(error) if error.as_db_error().is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

/// How many views are asked for at a time: PostgreSQL locks what each of them reads until the end
/// of the transaction, and has room for some thousands of locks only.
const VIEWS_AT_ONCE: usize = 200;

/// Reads the definitions of views. One that was replaced since the snapshot may read what the
/// snapshot does not say; whoever uses a definition compares the two.
async fn define(client: &Client, catalog: &mut Catalog) -> Result<(), tokio_postgres::Error> {
    let is_view =
        |relation: &&mut Relation| matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
    let mut views: BTreeMap<u32, &mut Relation> =
        catalog.relations.values_mut().filter(is_view).map(|view| (view.oid, view)).collect();
    let oids: Vec<u32> = views.keys().copied().collect();
    for batch in oids.chunks(VIEWS_AT_ONCE) {
        client.batch_execute(BEGIN).await?;
        let sql = "select c.oid, pg_get_viewdef(c.oid) from pg_class c where c.oid = any($1)";
        let rows = client.query(sql, &[&batch]).await;
        client.batch_execute("rollback").await?;
        for row in rows? {
            if let Some(view) = views.get_mut(&row.try_get(0)?) {
                view.definition = row.try_get(1)?;
            }
        }
    }
    Ok(())
}

async fn read_all(client: &Client, database: &str) -> Result<Catalog, CatalogError> {
    let query = async |sql: &'static str| -> Result<Vec<Row>, CatalogError> {
        let rows = client.query(sql, &[]).await;
        rows.map_err(|source| CatalogError::Query { database: database.to_owned(), source })
    };
    let unexpected = |_| CatalogError::Unexpected(database.to_owned());
    let server = query(SERVER).await?;
    let server = server.first().ok_or_else(|| CatalogError::Unexpected(database.to_owned()))?;
    let found: String = server.try_get(0).map_err(unexpected)?;
    if found != database {
        return Err(CatalogError::OtherDatabase { wanted: database.to_owned(), found });
    }
    let mut relations = relations(&query(RELATIONS).await?).map_err(unexpected)?;
    add_columns(&mut relations, &query(COLUMNS).await?, &query(GENERATED).await?).map_err(unexpected)?;
    constraints::add(&mut relations, &query(constraints::CONSTRAINTS).await?).map_err(unexpected)?;
    let types = own_types::types(&query(own_types::TYPES).await?).map_err(unexpected)?;
    let (mut reach, mut telling, mut uses) = (Reach::default(), Reach::default(), Vec::new());
    if !query(reach::ANY).await?.is_empty() {
        let (things, links) = (query(reach::THINGS).await?, query(reach::LINKS).await?);
        reach = Reach::new(Begin::Definers, &things, &links).map_err(unexpected)?;
        telling = Reach::new(Begin::Telling, &things, &links).map_err(unexpected)?;
        uses = query(reach::USES).await?;
    }
    let mut opaque = reach.views(&uses).map_err(unexpected)?;
    opaque.extend(telling.views(&uses).map_err(unexpected)?);
    for row in query(OPAQUE).await? {
        opaque.insert(row.try_get(0).map_err(unexpected)?);
    }
    let lent = reach.lent(&uses, &query(reach::RULES).await?).map_err(unexpected)?;
    let carried = reach.carried(&relations);
    add_links(&mut relations, &query(DEPENDS).await?, &opaque, &query(SEQUENCES).await?).map_err(unexpected)?;
    let functions = query(FUNCTIONS).await?;
    let named = |place| names(&functions, place).map_err(unexpected);
    let is_code = |relation: &&Relation| {
        let is_own = !matches!(relation.name.schema.as_str(), "pg_catalog" | "information_schema");
        is_own && (matches!(relation.kind, RelationKind::View | RelationKind::Foreign) || relation.has_row_security)
    };
    let of_code = relations.values().filter(is_code).map(|relation| relation.name.name.clone());
    let words = of_code.chain(std::iter::once("execute".to_owned()));
    let (code, hidden) = (query(code::CODE).await?, query(code::HIDDEN).await?);
    let mut writers = Callers::of(named(Some(1))?, words);
    writers.follow(&code, Vec::new()).map_err(unexpected)?;
    let has_volatile_operators = writers.are_hidden(&hidden).map_err(unexpected)?;
    let dynamic = dynamic::relations(&relations, &query(dynamic::BEHIND).await?, &code).map_err(unexpected)?;
    let version: i64 = server.try_get(1).map_err(unexpected)?;
    let version = u32::try_from(version).unwrap_or(0);
    let mut known_functions = named(None)?;
    known_functions.extend(newer::known_to(version).map(str::to_owned));
    Ok(Catalog {
        cluster: server.try_get(3).map_err(unexpected)?,
        database: found,
        server_version: version,
        server_version_text: server.try_get(2).map_err(unexpected)?,
        types,
        relations: relations.into_values().map(|relation| (relation.name.clone(), relation)).collect(),
        volatile_functions: writers.names(),
        unsteady_functions: named(Some(2))?,
        own_functions: named(Some(3))?,
        known_functions,
        set_functions: named(Some(4))?,
        definer_functions: reach.called(),
        definer_types: reach.types(),
        lent,
        carried,
        dynamic,
        detail_functions: telling.called().into_iter().chain(telling.types()).collect(),
        has_volatile_operators,
    })
}

fn relations(rows: &[Row]) -> Result<BTreeMap<u32, Relation>, tokio_postgres::Error> {
    let mut relations = BTreeMap::new();
    for row in rows {
        let (schema, name): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let kind = match row.try_get::<_, String>(3)?.as_str() {
            "r" => RelationKind::Table,
            "p" => RelationKind::Partitioned,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            "S" => RelationKind::Sequence,
            // The query asks for no further kinds than this one.
            _ => RelationKind::Foreign,
        };
        let relation = Relation {
            oid: row.try_get(0)?,
            name: RelationName::new(&schema, &name),
            kind,
            columns: Vec::new(),
            parents: row.try_get(6)?,
            depends_on: Vec::new(),
            has_row_security: row.try_get(4)?,
            has_user_policies: row.try_get(7)?,
            definition: None,
            estimated_rows: row.try_get(5)?,
            sequences: Vec::new(),
            unique_keys: row.try_get::<_, Vec<String>>(8)?.iter().map(|key| numbers(key)).collect(),
            constraints: Vec::new(),
            is_inert: row.try_get(9)?,
        };
        relations.insert(relation.oid, relation);
    }
    Ok(relations)
}

/// Numbers with a blank between them.
fn numbers(text: &str) -> Vec<i16> {
    text.split(' ').filter_map(|number| number.parse().ok()).collect()
}

fn add_columns(
    relations: &mut BTreeMap<u32, Relation>,
    columns: &[Row],
    generated: &[Row],
) -> Result<(), tokio_postgres::Error> {
    let mut sources: BTreeMap<(u32, i16), Vec<i16>> = BTreeMap::new();
    for row in generated {
        sources.entry((row.try_get(0)?, row.try_get(1)?)).or_default().push(row.try_get(2)?);
    }
    for row in columns {
        let (oid, number): (u32, i16) = (row.try_get(0)?, row.try_get(2)?);
        let Some(relation) = relations.get_mut(&oid) else { continue };
        let (type_name, type_oid): (String, u32) = (row.try_get(3)?, row.try_get(4)?);
        relation.columns.push(Column {
            name: row.try_get(1)?,
            number,
            type_name,
            type_oid,
            not_null: row.try_get(5)?,
            has_default: row.try_get(6)?,
            is_generated: row.try_get(7)?,
            is_computed: row.try_get(8)?,
            generated_from: sources.remove(&(oid, number)).unwrap_or_default(),
        });
    }
    Ok(())
}

fn add_links(
    relations: &mut BTreeMap<u32, Relation>,
    depends: &[Row],
    opaque: &BTreeSet<u32>,
    sequences: &[Row],
) -> Result<(), tokio_postgres::Error> {
    for row in depends {
        if let Some(view) = relations.get_mut(&row.try_get(0)?) {
            view.depends_on.push((row.try_get(1)?, row.try_get(2)?));
        }
    }
    for oid in opaque {
        if let Some(view) = relations.get_mut(oid) {
            // No relation has OID 0: it stands for what cannot be followed.
            view.depends_on.push((0, 0));
        }
    }
    for row in sequences {
        if let Some(relation) = relations.get_mut(&row.try_get(0)?) {
            let (schema, name): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            relation.sequences.push(RelationName::new(&schema, &name));
        }
    }
    // The order of rows is PostgreSQL's choice; digests made from this must not depend on it.
    for relation in relations.values_mut() {
        relation.depends_on.sort_unstable();
        relation.sequences.sort();
        relation.parents.sort_unstable();
    }
    Ok(())
}

/// Names of which this is said; all without a place.
fn names(rows: &[Row], place: Option<usize>) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let mut names = BTreeSet::new();
    for row in rows {
        if place.map_or(Ok(true), |place| row.try_get(place))? {
            names.insert(row.try_get(0)?);
        }
    }
    Ok(names)
}
