//! Whether a scope's role still holds everything that it was given: each right on each column, since an
//! owner may take back a single one.
//!
//! Privileges are compared as the catalogs hold them, in two queries over all relations; asking for
//! each column by itself would take seconds with ten thousand relations.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::{Client, Row};

use super::ScopeError;
use crate::core::mask::VIEWS_SCHEMA;
use crate::core::role_sql::{self, Grantable};
use crate::core::scope::explain::{self, Extent, Right};
use crate::core::scope::{RelationScope, Scope};

/// Rights on relations, by OID and privilege: on all of it, then column by column.
const ON_RELATIONS: &str = "with r as (select oid from pg_catalog.pg_roles where rolname = $2) \
    select c.oid, a.privilege_type, '{}'::int2[] from pg_catalog.pg_class c cross join aclexplode(c.relacl) a \
      where c.oid = any ($1) and a.grantee = (select oid from r) \
    union all select t.attrelid, a.privilege_type, array_agg(t.attnum) \
      from pg_catalog.pg_attribute t cross join aclexplode(t.attacl) a \
      where t.attrelid = any ($1) and t.attacl is not null and a.grantee = (select oid from r) group by 1, 2";

/// The same on masking views, by name.
const ON_VIEWS: &str = "with r as (select oid from pg_catalog.pg_roles where rolname = $3), \
      v as (select c.oid, c.relname::text as name, c.relacl from pg_catalog.pg_class c \
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = $2 and c.relname = any ($1)) \
    select v.name, a.privilege_type, '{}'::text[] from v cross join aclexplode(v.relacl) a \
      where a.grantee = (select oid from r) \
    union all select v.name, a.privilege_type, array_agg(t.attname::text) \
      from v join pg_catalog.pg_attribute t on t.attrelid = v.oid cross join aclexplode(t.attacl) a \
      where a.grantee = (select oid from r) group by 1, 2";

/// The schemas of these relations, and these sequences, as far as the role may not use them.
const UNUSABLE: &str = "select exists (select from pg_catalog.pg_class c where c.oid = any ($1) \
      and not has_schema_privilege($2::name, c.relnamespace, 'USAGE')) \
    or exists (select from unnest($3::text[], $4::text[]) w (schema, name) \
      join pg_catalog.pg_namespace n on n.nspname = w.schema \
      join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind = 'S' \
      where case when c.relkind = 'S' then not has_sequence_privilege($2::name, c.oid, 'USAGE') end)";

/// Which rights to write the broker may hand out, where a scope gives some: reading is looked at before.
const MAY_GRANT: &str = "select c.oid, p.name from pg_catalog.pg_class c \
    cross join (values ('INSERT'), ('UPDATE'), ('DELETE')) p (name) \
    where c.oid = any ($1) and has_table_privilege(c.oid, p.name || ' WITH GRANT OPTION')";

/// What is held of a privilege.
struct Held<C> {
    whole: bool,
    columns: BTreeSet<C>,
}

/// Whether the role lacks something of the scope that can be given: a right on a column, a view that
/// stands for a relation. What the broker may not hand out is not lacking, or it would be made anew at
/// every connection.
pub(super) async fn is_incomplete(
    client: &Client,
    scope: &Scope,
    grantable: &Grantable,
    role: &str,
) -> Result<bool, ScopeError> {
    let mine: Vec<&RelationScope> =
        scope.relations.values().filter(|relation| grantable.relations.contains(&relation.oid)).collect();
    let oids: Vec<u32> = mine.iter().map(|relation| relation.oid).collect();
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        grantable.sequences.iter().map(|sequence| (sequence.schema.as_str(), sequence.name.as_str())).unzip();
    if client.query_one(UNUSABLE, &[&oids, &role, &schemas, &names]).await?.get(0) {
        return Ok(true);
    }
    let views: Vec<String> = mine.iter().flat_map(|relation| views_of(relation)).map(|(view, _)| view).collect();
    let on_relations = held::<u32, i16>(&client.query(ON_RELATIONS, &[&oids, &role]).await?)?;
    let may_grant = may_grant(client, &mine).await?;
    let on_views = held::<String, String>(&client.query(ON_VIEWS, &[&views, &VIEWS_SCHEMA, &role]).await?)?;
    Ok(mine.iter().any(|relation| {
        let number = |name: &String| relation.columns.iter().find(|column| column.name == *name).map(|one| one.number);
        let on_itself = role_sql::rights(relation, grantable.known.contains(&relation.oid));
        let lacks_own = on_itself
            .into_iter()
            .map(|(right, extent)| ((relation.oid, right.to_owned()), extent))
            .filter(|(place, _)| {
                !matches!(place.1.as_str(), "INSERT" | "UPDATE" | "DELETE") || may_grant.contains(place)
            })
            .any(|(place, extent)| !covers(on_relations.get(&place), &extent, number));
        lacks_own
            || views_of(relation).into_iter().any(|(view, rights)| {
                let held = |right: Right| on_views.get(&(view.clone(), right.word().to_owned()));
                rights.iter().any(|(right, extent)| !covers(held(*right), extent, |name| Some(name.clone())))
            })
    }))
}

/// Which rights to write the broker may hand out on which of these relations.
async fn may_grant(client: &Client, mine: &[&RelationScope]) -> Result<BTreeSet<(u32, String)>, tokio_postgres::Error> {
    let is_written = |one: &&&RelationScope| one.insert || one.update || one.delete;
    let written: Vec<u32> = mine.iter().filter(is_written).map(|relation| relation.oid).collect();
    let rows = client.query(MAY_GRANT, &[&written]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The views that stand for a relation, with the rights on each.
pub(super) fn views_of(relation: &RelationScope) -> Vec<(String, Vec<(Right, Extent)>)> {
    let mut views = Vec::new();
    if let Some((_, view)) = &relation.view {
        views.push((view.clone(), Right::ALL.map(|right| (right, explain::on_view(relation, right))).to_vec()));
    }
    if let Some((_, view)) = relation.rows_view() {
        let rights = explain::on_rows_view(relation).into_iter().filter(|(_, columns)| !columns.is_empty());
        views.push((view, rights.map(|(right, columns)| (right, Extent::Columns(columns))).collect()));
    }
    views
}

fn covers<C: Ord>(held: Option<&Held<C>>, extent: &Extent, column: impl Fn(&String) -> Option<C>) -> bool {
    match (extent, held) {
        (Extent::Nothing, _) => true,
        (Extent::Whole, held) => held.is_some_and(|held| held.whole),
        (Extent::Columns(_), None) => false,
        (Extent::Columns(names), Some(held)) => {
            held.whole || names.iter().all(|name| column(name).is_some_and(|column| held.columns.contains(&column)))
        }
    }
}

type ByPrivilege<O, C> = HashMap<(O, String), Held<C>>;

fn held<O, C>(rows: &[Row]) -> Result<ByPrivilege<O, C>, ScopeError>
where
    O: Eq + std::hash::Hash + for<'r> tokio_postgres::types::FromSql<'r>,
    C: Ord + for<'r> tokio_postgres::types::FromSql<'r>,
{
    let mut found: ByPrivilege<O, C> = HashMap::new();
    for row in rows {
        let columns: Vec<C> = row.try_get(2)?;
        let held =
            found.entry((row.try_get(0)?, row.try_get(1)?)).or_insert(Held { whole: false, columns: BTreeSet::new() });
        held.whole |= columns.is_empty();
        held.columns.extend(columns);
    }
    Ok(found)
}
