//! Whether a scope's role holds anything that the scope does not give: what an owner, a superuser or an
//! extension's script has granted to it by its name since it was made.
//!
//! PostgreSQL notes in `pg_shdepend` every object whose privileges name a role, and every object that
//! it owns, so nothing has to be looked for: what is there is compared with what should be.

use std::collections::{BTreeSet, HashMap};

use tokio_postgres::Client;

use super::whole::views_of;
use crate::core::mask::VIEWS_SCHEMA;
use crate::core::role_sql::{self, Grantable, SYSTEM};
use crate::core::scope::explain::Extent;
use crate::core::scope::{RelationName, Scope};

/// Every right of the role on relations: OID, schema, name, privilege, whether it may be handed on, column.
const ON_RELATIONS: &str = "with r as (select oid from pg_catalog.pg_roles where rolname = $1), \
      named as (select distinct d.objid from pg_catalog.pg_shdepend d \
        where d.refclassid = 'pg_catalog.pg_authid'::regclass and d.refobjid = (select oid from r) \
          and d.dbid = (select oid from pg_catalog.pg_database where datname = current_database()) \
          and d.classid = 'pg_catalog.pg_class'::regclass and d.deptype = 'a'), \
      c as (select c.oid, n.nspname::text as schema, c.relname::text as name, c.relacl from named \
        join pg_catalog.pg_class c on c.oid = named.objid and c.relpersistence <> 't' join pg_catalog.pg_namespace n on n.oid = c.relnamespace) \
    select c.oid, c.schema, c.name, a.privilege_type, a.is_grantable, null::text from c cross join aclexplode(c.relacl) a \
      where a.grantee = (select oid from r) \
    union all select c.oid, c.schema, c.name, a.privilege_type, a.is_grantable, t.attname::text from c \
      join pg_catalog.pg_attribute t on t.attrelid = c.oid and not t.attisdropped cross join aclexplode(t.attacl) a \
      where a.grantee = (select oid from r)";

/// Its rights on schemas; and, in words, what else is granted to it, owned by it but for what a session makes
/// for itself (any role may make large objects and say who may use what it makes), what it is a member of,
/// and what it may as a role.
const BESIDE: &str = "with r as (select * from pg_catalog.pg_roles where rolname = $1), \
      named as (select d.classid, d.objid, d.objsubid, d.deptype from pg_catalog.pg_shdepend d \
        where d.refclassid = 'pg_catalog.pg_authid'::regclass and d.refobjid = (select oid from r) \
          and d.dbid in (0, (select oid from pg_catalog.pg_database where datname = current_database())) \
          and d.deptype in ('a', 'o')) \
    select n.nspname::text, a.privilege_type || case when a.is_grantable then ' WITH GRANT OPTION' else '' end, null \
      from pg_catalog.pg_namespace n cross join aclexplode(n.nspacl) a where a.grantee = (select oid from r) \
    union all select null, null, concat_ws(' ', case when d.deptype = 'o' then 'owner of' end, i.type, i.identity) \
      from named d cross join lateral pg_catalog.pg_identify_object(d.classid, d.objid, d.objsubid) i \
      where case when d.deptype = 'o' then coalesce(i.schema, '') !~ '^pg_(toast_)?temp' \
          and d.classid not in ('pg_catalog.pg_largeobject'::regclass, 'pg_catalog.pg_default_acl'::regclass) \
        else coalesce(i.schema, '') !~ '^pg_(toast_)?temp' and d.classid not in ('pg_catalog.pg_class'::regclass, \
          'pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_largeobject'::regclass) end \
    union all select null, null, 'member of ' || b.rolname from pg_catalog.pg_auth_members m \
      join pg_catalog.pg_roles b on b.oid = m.roleid where m.member = (select oid from r) \
    union all select null, null, concat_ws(' ', case when rolsuper then 'SUPERUSER' end, \
        case when rolcreaterole then 'CREATEROLE' end, case when rolcreatedb then 'CREATEDB' end, \
        case when rolcanlogin then 'LOGIN' end, case when rolreplication then 'REPLICATION' end, \
        case when rolbypassrls then 'BYPASSRLS' end) \
      from r where rolsuper or rolcreaterole or rolcreatedb or rolcanlogin or rolreplication or rolbypassrls";

/// What the role holds beyond the scope, in words; nothing where it holds no more.
pub(super) async fn beyond(
    client: &Client,
    scope: &Scope,
    grantable: &Grantable,
    role: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let expected = Expected::of(scope, grantable);
    let mut found = BTreeSet::new();
    for row in client.query(ON_RELATIONS, &[&role]).await? {
        let (oid, schema, name): (u32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (privilege, may_grant): (String, bool) = (row.try_get(3)?, row.try_get(4)?);
        let column: Option<String> = row.try_get(5)?;
        let place = RelationName { schema, name };
        if may_grant || !expected.gives(oid, &place, &privilege, column.as_deref()) {
            let columns = column.map(|column| format!(" ({column})")).unwrap_or_default();
            let option = if may_grant { " WITH GRANT OPTION" } else { "" };
            found.insert(format!("{privilege}{columns} on {place}{option}"));
        }
    }
    for row in client.query(BESIDE, &[&role]).await? {
        let schema: Option<String> = row.try_get(0)?;
        match (schema, row.try_get::<_, Option<String>>(1)?) {
            (Some(schema), Some(privilege)) => {
                if privilege != "USAGE" || !expected.schemas.contains(schema.as_str()) {
                    found.insert(format!("{privilege} on schema {schema}"));
                }
            }
            _ => found.extend(row.try_get::<_, Option<String>>(2)?),
        }
    }
    Ok(found.into_iter().collect())
}

/// By privilege.
type Rights = Vec<(&'static str, Extent)>;

/// What a scope gives, as a role holds it.
struct Expected<'s> {
    /// By OID.
    on_relations: HashMap<u32, Rights>,
    /// By name: masking views.
    on_views: HashMap<String, Rights>,
    sequences: BTreeSet<RelationName>,
    /// Named by a right that is worth nothing.
    withheld: &'s BTreeSet<RelationName>,
    schemas: BTreeSet<&'s str>,
}

impl<'s> Expected<'s> {
    fn of(scope: &'s Scope, grantable: &'s Grantable) -> Self {
        let (mut on_relations, mut on_views) = (HashMap::new(), HashMap::new());
        let mut schemas: BTreeSet<&str> = scope.schemas.iter().map(String::as_str).collect();
        for relation in scope.relations.values() {
            let is_known = grantable.known.contains(&relation.oid);
            on_relations.insert(relation.oid, role_sql::rights(relation, is_known).to_vec());
            for (view, rights) in views_of(relation) {
                schemas.insert(VIEWS_SCHEMA);
                on_views.insert(view, rights.into_iter().map(|(right, extent)| (right.word(), extent)).collect());
            }
        }
        let sequences = scope.relations.values().flat_map(|relation| &relation.sequences);
        let sequences = sequences.map(|(schema, name)| RelationName::new(schema, name)).collect();
        Self { on_relations, on_views, sequences, withheld: &grantable.withheld, schemas }
    }

    fn gives(&self, oid: u32, place: &RelationName, privilege: &str, column: Option<&str>) -> bool {
        let rights = match place.schema.as_str() {
            VIEWS_SCHEMA => self.on_views.get(&place.name),
            _ => self.on_relations.get(&oid),
        };
        let extent = rights.and_then(|rights| rights.iter().find(|(word, _)| *word == privilege).map(|(_, one)| one));
        match (extent, column) {
            (Some(Extent::Whole), _) => true,
            (Some(extent @ Extent::Columns(_)), Some(column)) => {
                extent.covers(column) || (privilege == "SELECT" && SYSTEM.contains(&column))
            }
            (Some(Extent::Columns(_) | Extent::Nothing), _) => false,
            (None, None) => {
                (privilege == "USAGE" && self.sequences.contains(place))
                    || (privilege == role_sql::KNOWN && self.withheld.contains(place))
            }
            (None, Some(_)) => false,
        }
    }
}
