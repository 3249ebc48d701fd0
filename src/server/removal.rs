//! What there is of ours in a database, for `dbgate target remove`: found by name *and* comment.

use tokio_postgres::Client;

use crate::core::mask::SALT_SCHEMA;
use crate::core::role_sql::remove::Removal;
use crate::core::role_sql::{self, BROKER_COMMENT, LOGIN_PREFIX, MASK_PREFIX, MASKER, SCOPE_PREFIX, SESSIONS};

/// Why it cannot be taken out.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error("the target does not answer a question about itself")]
    Query(#[from] tokio_postgres::Error),
    #[error("the broker is connected to database `{0}`: a gate is running on it")]
    InUse(String),
    #[error("our roles own what is not ours: {0}")]
    Owns(String),
}

/// Login roles first: a scope role cannot go before its members.
const SESSION_ROLES: &str = "select rolname::text from pg_roles r \
    cross join lateral (select shobj_description(r.oid, 'pg_authid')) d (comment) \
    where starts_with(rolname, $1) and d.comment = $2 || current_database() \
    or starts_with(rolname, $3) and d.comment ~ '^dbgate scope [0-9a-f]{64} in ' and substr(d.comment, 82) = current_database() \
    order by starts_with(rolname, $3), rolname";

const MASK_SCHEMAS: &str = "select nspname::text from pg_namespace \
    where nspowner = (select oid from pg_roles where rolname = $2) \
    and (starts_with(nspname, $1) and starts_with(obj_description(oid, 'pg_namespace'), 'dbgate masks of ') \
      or nspname = $3 and starts_with(obj_description(oid, 'pg_namespace'), 'dbgate salt ')) order by 1";

/// Our roles; whether each is ours by its comment; whether another database needs it.
const ROLES: &str = "select r.rolname::text, \
    r.rolname <> $1 or coalesce(shobj_description(r.oid, 'pg_authid') = $4, false), \
    exists (select from pg_shdepend s where s.refclassid = 'pg_authid'::regclass and s.refobjid = r.oid \
      and (s.dbid not in (0, d.oid) or s.dbid = 0 and s.classid = 'pg_database'::regclass and s.objid <> d.oid)) \
    from pg_roles r, pg_database d where r.rolname in ($1, $2, $3) and d.datname = current_database() order by 1";

/// Schemas with a privilege of ours, the schema's own or of anything in it.
const SCHEMAS: &str = "select distinct n.nspname::text from pg_shdepend s \
    join pg_database d on d.oid = s.dbid and d.datname = current_database() \
    left join pg_class c on s.classid = 'pg_class'::regclass and c.oid = s.objid \
    left join pg_proc p on s.classid = 'pg_proc'::regclass and p.oid = s.objid \
    join pg_namespace n on n.oid = case s.classid when 'pg_namespace'::regclass then s.objid \
      else coalesce(c.relnamespace, p.pronamespace) end \
    where s.refclassid = 'pg_authid'::regclass and s.deptype = 'a' \
    and s.refobjid in (select oid from pg_roles where rolname = any ($1)) and not starts_with(n.nspname, $2) and n.nspname <> $3 order by 1";

const DEFAULTS: &str = "select distinct pg_get_userbyid(d.defaclrole)::text, n.nspname::text, k.word from pg_default_acl d \
    left join pg_namespace n on n.oid = d.defaclnamespace \
    join (values ('r', 'TABLES'), ('S', 'SEQUENCES'), ('f', 'ROUTINES'), ('n', 'SCHEMAS'), ('T', 'TYPES')) k (kind, word) \
      on k.kind = d.defaclobjtype::text \
    cross join aclexplode(d.defaclacl) a join pg_roles r on r.oid = a.grantee where r.rolname = any ($1) order by 1, 2, 3";

/// What our roles own besides masking schemas: not ours to drop.
const OWNED: &str = "select pg_describe_object(s.classid, s.objid, 0) from pg_shdepend s \
    join pg_database d on d.oid = s.dbid and d.datname = current_database() \
    left join pg_class c on s.classid = 'pg_class'::regclass and c.oid = s.objid \
    left join pg_type t on s.classid = 'pg_type'::regclass and t.oid = s.objid \
    left join pg_namespace n on n.oid = case s.classid when 'pg_namespace'::regclass then s.objid \
      else coalesce(c.relnamespace, t.typnamespace) end \
    where s.refclassid = 'pg_authid'::regclass and s.deptype = 'o' \
    and s.refobjid in (select oid from pg_roles where rolname = any ($1)) and not coalesce(n.nspname = any ($2), false) \
    order by 1 limit 5";

const GATES: &str = "select count(*) from pg_stat_activity \
    where usename = $1 and datname = current_database() and pid <> pg_backend_pid()";

/// Looks, and refuses where something is in the way. Changes nothing.
pub async fn plan(client: &Client, broker: &str) -> Result<Removal, RemovalError> {
    client.batch_execute("set search_path = pg_catalog").await?;
    let database: String = client.query_one("select current_database()::text", &[]).await?.try_get(0)?;
    let gates: i64 = client.query_one(GATES, &[&broker]).await?.try_get(0)?;
    if gates > 0 {
        return Err(RemovalError::InUse(database));
    }
    let names = async |sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]| {
        let rows = client.query(sql, parameters).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, tokio_postgres::Error>>()
    };
    let login = role_sql::login_comment("");
    let session_roles = names(SESSION_ROLES, &[&LOGIN_PREFIX, &login, &SCOPE_PREFIX]).await?;
    let mask_schemas = names(MASK_SCHEMAS, &[&MASK_PREFIX, &MASKER, &SALT_SCHEMA]).await?;
    let (mut roles, mut droppable) = (Vec::new(), Vec::new());
    for row in client.query(ROLES, &[&broker, &MASKER, &SESSIONS, &BROKER_COMMENT]).await? {
        let (name, is_ours, is_needed): (String, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if is_ours && !is_needed {
            droppable.push(name.clone());
        }
        roles.push(name);
    }
    let owned = names(OWNED, &[&roles, &mask_schemas]).await?;
    if !owned.is_empty() {
        return Err(RemovalError::Owns(owned.join(", ")));
    }
    let broker = roles.iter().find(|role| *role == broker).cloned();
    let schemas = names(SCHEMAS, &[&roles, &MASK_PREFIX, &SALT_SCHEMA]).await?;
    let defaults = client.query(DEFAULTS, &[&roles]).await?;
    let defaults = defaults.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
    let defaults = defaults.collect::<Result<_, tokio_postgres::Error>>()?;
    Ok(Removal { database, broker, session_roles, mask_schemas, roles, droppable, schemas, defaults })
}
