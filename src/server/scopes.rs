//! Makes what a scope grants real in a target: its role, its grants, its masking views.
//!
//! One advisory lock per database guards making and dropping, because concurrent GRANTs on one
//! table fail in PostgreSQL. Nothing is changed or dropped that lacks our prefix and our comment.

mod beyond;
mod compiled;
mod complete;
mod whole;

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::core::grant::Access;
use crate::core::mask;
use crate::core::role_sql::{self, Grantable};
use crate::core::scope::explain::Right;
use crate::core::scope::{RelationName, Scope};
use crate::server::http::refusal::chain;

use beyond::beyond;
pub use compiled::{Compiled, Compiler};
pub use complete::Complete;
use whole::is_incomplete;

/// Each scope adds an entry to the ACL of every table; PostgreSQL ends at about 2,400.
pub const MOST_SCOPES: i64 = 500;

/// How long to wait for the lock. Anyone in the database may hold an advisory lock: a clear error
/// then beats waiting for ever.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a clash with the owner's own GRANTs is tried again.
const TRIES: usize = 3;

/// A scope role that exists in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeRole {
    pub name: String,
    pub access: Access,
    /// Relations the broker may not hand out yet: `target init` has not covered them.
    pub missing: Vec<RelationName>,
}

/// Why a scope could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    #[error("the target already has {MOST_SCOPES} live scopes; end sessions or widen policies so that they share")]
    TooMany,
    #[error("the role `{0}` exists in the target but was not made by dbgate for this scope")]
    NotOurs(String),
    #[error("another session of the database holds dbgate's lock; try again")]
    Locked,
    #[error("PUBLIC may read or write {} past the policy; REVOKE it, or classify it as open", listed(.0))]
    Exposed(Vec<RelationName>),
    #[error("the role `{role}` was given more than the policy gives: {}; REVOKE it", .beyond.join(", "))]
    Widened { role: String, beyond: Vec<String> },
    #[error("the masking view of {relation} cannot be made: {reason}")]
    View { relation: RelationName, reason: String },
    #[error("cannot make or drop the role of a scope")]
    Target(#[from] tokio_postgres::Error),
}

/// Makes the scope's role and views unless they exist. Nobody else may use the client meanwhile.
pub async fn ensure(client: &Client, scope: &Scope) -> Result<ScopeRole, ScopeError> {
    Ok(look_or_make(client, scope, &scope.digest()).await?.0)
}

/// The same for a digest that is known; says whether all of it was there already.
async fn look_or_make(client: &Client, scope: &Scope, digest: &str) -> Result<(ScopeRole, bool), ScopeError> {
    let name = role_sql::scope_role(digest);
    let exposed = exposed(client, scope).await?;
    if !exposed.is_empty() {
        return Err(ScopeError::Exposed(exposed));
    }
    // Most often it exists and is complete: then no lock is taken.
    let mut found = None;
    if exists(client, scope, digest, &name).await? {
        let grantable = grantable(client, scope).await?;
        if beyond(client, scope, &grantable, &name).await?.is_empty()
            && !is_incomplete(client, scope, &grantable, &name).await?
        {
            found = Some(ungrantable(scope, &grantable));
        }
    }
    let is_as_found = found.is_some();
    let missing = match found {
        Some(missing) => missing,
        None => make_locked(client, scope, digest, &name).await?,
    };
    Ok((ScopeRole { name, access: scope.access, missing }, is_as_found))
}

/// Relations of which PUBLIC, and so every role there is, may read what the scope masks, filters or
/// withholds. No grant to a role can take that back.
async fn exposed(client: &Client, scope: &Scope) -> Result<Vec<RelationName>, ScopeError> {
    // An empty column stands for any.
    let mut places: Vec<(&RelationName, &str, Right)> =
        scope.withheld.keys().map(|name| (name, "", Right::Select)).collect();
    for (name, relation) in &scope.relations {
        let masked = relation.columns.iter().filter(|column| column.mask.is_some());
        places.extend(masked.map(|column| (name, column.name.as_str(), Right::Select)));
        if relation.is_closed() {
            places.push((name, "", Right::Select));
        }
        let untold = relation.untold.iter();
        places.extend(untold.map(|one| (name, one.column.as_deref().unwrap_or_default(), one.right)));
    }
    let schemas: Vec<&str> = places.iter().map(|(name, _, _)| name.schema.as_str()).collect();
    let names: Vec<&str> = places.iter().map(|(name, _, _)| name.name.as_str()).collect();
    let columns: Vec<&str> = places.iter().map(|(_, column, _)| *column).collect();
    let rights: Vec<&str> = places.iter().map(|(_, _, right)| right.word()).collect();
    let rows = client
        .query(
            "select distinct n.nspname::text, c.relname::text \
         from unnest($1::text[], $2::text[], $3::text[], $4::text[]) w (schema, name, attribute, word) \
         join pg_catalog.pg_namespace n on n.nspname = w.schema \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name \
         left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = w.attribute and not a.attisdropped \
         where case when w.word = 'DELETE' then has_table_privilege('public', c.oid, w.word) \
           when w.attribute = '' then has_any_column_privilege('public', c.oid, w.word) \
           else has_column_privilege('public', c.oid, a.attnum, w.word) end order by 1, 2",
            &[&schemas, &names, &columns, &rights],
        )
        .await;
    Ok(rows?.iter().map(|row| RelationName::new(row.get(0), row.get(1))).collect())
}

fn listed(names: &[RelationName]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

async fn make_locked(
    client: &Client,
    scope: &Scope,
    digest: &str,
    name: &str,
) -> Result<Vec<RelationName>, ScopeError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        begin(client).await?;
        let made = match make(client, scope, digest, name).await {
            Ok(missing) => client.batch_execute("commit").await.map(|()| missing).map_err(ScopeError::from),
            Err(error) => Err(error),
        };
        match made {
            Ok(missing) => return Ok(missing),
            Err(error) => {
                client.batch_execute("rollback").await?;
                if tries == 0 || !is_clash(&error) {
                    return Err(error);
                }
            }
        }
    }
}

/// Drops scope roles of this database that no login role belongs to, except those in `keep`.
/// Answers with the names of the dropped.
pub async fn drop_unused(client: &Client, keep: &[String]) -> Result<Vec<String>, ScopeError> {
    begin(client).await?;
    let dropped = match drop_all(client, keep).await {
        Ok(dropped) => client.batch_execute("commit").await.map(|()| dropped).map_err(ScopeError::from),
        Err(error) => Err(error),
    };
    if dropped.is_err() {
        client.batch_execute("rollback").await?;
    }
    dropped
}

async fn begin(client: &Client) -> Result<(), ScopeError> {
    let sql = format!(
        "begin; set local lock_timeout = '{}ms'; set local client_min_messages = error; \
         select pg_catalog.pg_advisory_xact_lock({})",
        LOCK_TIMEOUT.as_millis(),
        role_sql::SCOPE_LOCK
    );
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(()),
        Err(error) => {
            client.batch_execute("rollback").await?;
            let is_timeout = error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
            Err(if is_timeout { ScopeError::Locked } else { error.into() })
        }
    }
}

/// Whether the scope's role is there. Another role of its name is never taken for it.
async fn exists(client: &Client, scope: &Scope, digest: &str, name: &str) -> Result<bool, ScopeError> {
    let comment = role_sql::scope_comment(digest, &scope.database);
    let sql = "select shobj_description(oid, 'pg_authid') from pg_catalog.pg_roles where rolname = $1";
    match client.query_opt(sql, &[&name]).await? {
        None => Ok(false),
        Some(row) if row.get::<_, Option<String>>(0).as_deref() == Some(&comment) => Ok(true),
        Some(_) => Err(ScopeError::NotOurs(name.to_owned())),
    }
}

async fn make(client: &Client, scope: &Scope, digest: &str, name: &str) -> Result<Vec<RelationName>, ScopeError> {
    let mut exists = exists(client, scope, digest, name).await?;
    let grantable = grantable(client, scope).await?;
    if exists {
        let more = beyond(client, scope, &grantable, name).await?;
        if !more.is_empty() {
            set_aside(client, scope, name, more).await?;
            exists = false;
        }
    }
    let mut sql = Vec::new();
    if !exists {
        let counted = client
            .query_one(
                "select count(*), current_setting('server_version_num')::int4 from pg_catalog.pg_roles \
                 where starts_with(rolname, $1) and starts_with(shobj_description(oid, 'pg_authid'), 'dbgate scope ')",
                &[&role_sql::SCOPE_PREFIX],
            )
            .await?;
        let (count, version): (i64, i32) = (counted.get(0), counted.get(1));
        if count >= MOST_SCOPES {
            return Err(ScopeError::TooMany);
        }
        sql.extend(role_sql::make_scope(digest, &scope.database, u32::try_from(version).unwrap_or(0)));
    } else if is_incomplete(client, scope, &grantable, name).await? {
        // Made before `target init` covered all of it.
        drop_views_of(client, name).await?;
    } else {
        // Somebody else made it while we waited for the lock.
        return Ok(ungrantable(scope, &grantable));
    }
    sql.extend(role_sql::grant_scope(name, scope, &grantable));
    for step in role_sql::make_views(name, scope, &grantable) {
        let Some(relation) = step.relation else {
            sql.push(step.sql);
            continue;
        };
        client.batch_execute(&std::mem::take(&mut sql).join(";\n")).await?;
        client.batch_execute(&step.sql).await.map_err(|error| refused_view(relation, error))?;
    }
    client.batch_execute(&sql.join(";\n")).await?;
    // What is made just now is what was meant, or it is not given to anybody.
    let beyond = beyond(client, scope, &grantable, name).await?;
    if !beyond.is_empty() {
        return Err(ScopeError::Widened { role: name.to_owned(), beyond });
    }
    Ok(ungrantable(scope, &grantable))
}

/// Sets a role aside that holds more than it should. The broker could take back only what it gave itself, so
/// another role is made in its place; the sessions that run as this one end, and it is dropped like any that
/// is unused, as soon as its owner's grants allow.
async fn set_aside(client: &Client, scope: &Scope, name: &str, more: Vec<String>) -> Result<(), ScopeError> {
    // By their names: somebody may have granted it another scope's.
    let views: Vec<String> = scope.relations.values().flat_map(whole::views_of).map(|(view, _)| view).collect();
    drop_views(client, &views).await?;
    let oid = client.query_one("select oid from pg_catalog.pg_roles where rolname = $1", &[&name]).await?;
    match client.batch_execute(&role_sql::set_aside(name, oid.try_get(0)?)).await {
        Ok(()) => {}
        // The role of a superuser is beyond the broker.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Err(ScopeError::Widened { role: name.to_owned(), beyond: more });
        }
        Err(error) => return Err(error.into()),
    }
    tracing::warn!(role = name, beyond = more.join(", "), "a scope's role was given more than the policy gives");
    let sessions = "select pg_terminate_backend(a.pid) from pg_catalog.pg_auth_members m \
         join pg_catalog.pg_roles u on u.oid = m.member join pg_catalog.pg_stat_activity a on a.usesysid = u.oid \
         where m.roleid = $1 and starts_with(u.rolname, $2)";
    client.query(sessions, &[&oid.try_get::<_, u32>(0)?, &role_sql::LOGIN_PREFIX]).await?;
    Ok(())
}

/// A view that PostgreSQL does not take says something about the view; a lost connection does not.
fn refused_view(relation: RelationName, error: tokio_postgres::Error) -> ScopeError {
    match error.as_db_error() {
        Some(refusal) if error.code().is_some_and(|code| code.code().starts_with("42")) => {
            ScopeError::View { relation, reason: refusal.message().to_owned() }
        }
        Some(_) | None => error.into(),
    }
}

fn ungrantable(scope: &Scope, grantable: &Grantable) -> Vec<RelationName> {
    let lacking = scope.relations.iter().filter(|(_, relation)| !grantable.relations.contains(&relation.oid));
    lacking.map(|(name, _)| name.clone()).collect()
}

/// What of the scope the broker may hand out: `target init` or an owner decides that.
async fn grantable(client: &Client, scope: &Scope) -> Result<Grantable, ScopeError> {
    // Where `target init` has not made a place for views, what they stand for waits for it.
    let may_make = "select exists (select from pg_catalog.pg_namespace where nspname = $1 \
                    and nspowner = (select oid from pg_catalog.pg_roles where rolname = $2))";
    let may_make: bool = client.query_one(may_make, &[&mask::VIEWS_SCHEMA, &role_sql::MASKER]).await?.get(0);
    let candidates = scope.relations.values().filter(|relation| may_make || relation.view.is_none());
    let oids: Vec<u32> = candidates.map(|relation| relation.oid).collect();
    let relations = client
        .query(
            "select c.oid, c.relkind in ('r', 'p', 'm') from pg_catalog.pg_class c where c.oid = any($1) \
         and has_table_privilege(c.oid, 'SELECT WITH GRANT OPTION') \
         and has_schema_privilege(c.relnamespace, 'USAGE WITH GRANT OPTION')",
            &[&oids],
        )
        .await;
    let relations = relations?;
    let stored = relations.iter().filter(|row| row.get(1)).map(|row| row.get(0)).collect();
    let relations: BTreeSet<u32> = relations.iter().map(|row| row.get(0)).collect();
    let known = known(client, &relations).await?;
    let withheld = known_withheld(client, scope).await?;
    let named: Vec<&(String, String)> = scope.relations.values().flat_map(|relation| &relation.sequences).collect();
    let schemas: Vec<&str> = named.iter().map(|(schema, _)| schema.as_str()).collect();
    let names: Vec<&str> = named.iter().map(|(_, name)| name.as_str()).collect();
    let sequences = client
        .query(
            "select distinct n.nspname::text, c.relname::text from unnest($1::text[], $2::text[]) w (schema, name) \
         join pg_catalog.pg_namespace n on n.nspname = w.schema \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name and c.relkind = 'S' \
         where case when c.relkind = 'S' then has_sequence_privilege(c.oid, 'USAGE WITH GRANT OPTION') end",
            &[&schemas, &names],
        )
        .await;
    let sequences = sequences?;
    let sequences = sequences.iter().map(|row| RelationName::new(row.get(0), row.get(1))).collect();
    Ok(Grantable { relations, known, withheld, sequences, stored })
}

/// Whether a right on foreign keys to a relation `c` can be given and is worth nothing.
macro_rules! may_be_known {
    () => {
        "has_table_privilege(c.oid, 'REFERENCES WITH GRANT OPTION') \
         and not has_database_privilege('public', current_database(), 'CREATE') \
         and not exists (select from pg_catalog.pg_namespace n where has_schema_privilege('public', n.oid, 'CREATE'))"
    };
}

/// Relations whose names may be shown by a right on foreign keys: none where PUBLIC may make
/// tables, since there a foreign key would tell which values exist.
async fn known(client: &Client, relations: &BTreeSet<u32>) -> Result<BTreeSet<u32>, ScopeError> {
    let oids: Vec<u32> = relations.iter().copied().collect();
    let sql = concat!("select c.oid from pg_catalog.pg_class c where c.oid = any($1) and ", may_be_known!());
    Ok(client.query(sql, &[&oids]).await?.iter().map(|row| row.get(0)).collect())
}

/// The same for what the scope withholds: it is named in the catalogs anyway.
async fn known_withheld(client: &Client, scope: &Scope) -> Result<BTreeSet<RelationName>, ScopeError> {
    let schemas: Vec<&str> = scope.withheld.keys().map(|name| name.schema.as_str()).collect();
    let names: Vec<&str> = scope.withheld.keys().map(|name| name.name.as_str()).collect();
    let sql = concat!(
        "select n.nspname::text, c.relname::text from unnest($1::text[], $2::text[]) w (schema, name) \
         join pg_catalog.pg_namespace n on n.nspname = w.schema \
         join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.name where ",
        may_be_known!()
    );
    let rows = client.query(sql, &[&schemas, &names]).await?;
    Ok(rows.iter().map(|row| RelationName::new(row.get(0), row.get(1))).collect())
}

async fn drop_all(client: &Client, keep: &[String]) -> Result<Vec<String>, ScopeError> {
    // A session makes nothing that lasts but large objects, and says what others may do with what it makes;
    // what somebody has made such a role's besides is not ours to drop.
    let unused = client
        .query(
            "select r.rolname::text, current_setting('server_version_num')::int4 from pg_catalog.pg_roles r \
         where starts_with(r.rolname, $1) and r.rolname <> all($2) \
         and shobj_description(r.oid, 'pg_authid') ~ '^dbgate scope [0-9a-f]{64} in ' \
         and substr(shobj_description(r.oid, 'pg_authid'), 82) = current_database() \
         and not exists (select from pg_catalog.pg_auth_members m join pg_catalog.pg_roles u on u.oid = m.member \
           where m.roleid = r.oid and starts_with(u.rolname, $3)) \
         and not exists (select from pg_catalog.pg_shdepend d left join pg_catalog.pg_class t \
             on d.classid = 'pg_catalog.pg_class'::regclass and t.oid = d.objid \
           where d.refclassid = 'pg_catalog.pg_authid'::regclass and d.refobjid = r.oid and d.deptype = 'o' \
             and d.dbid in (0, (select oid from pg_catalog.pg_database where datname = current_database())) \
             and d.classid not in ('pg_catalog.pg_largeobject'::regclass, 'pg_catalog.pg_default_acl'::regclass) \
             and t.relpersistence is distinct from 't')",
            &[&role_sql::SCOPE_PREFIX, &keep, &role_sql::LOGIN_PREFIX],
        )
        .await;
    let mut dropped = Vec::new();
    for row in unused? {
        let (name, version): (String, i32) = (row.get(0), row.get(1));
        client.batch_execute("savepoint one").await?;
        match drop_one(client, &name, u32::try_from(version).unwrap_or(0)).await {
            Ok(()) => {
                client.batch_execute("release savepoint one").await?;
                dropped.push(name);
            }
            // What its owner has granted to it keeps this one, and no other.
            Err(ScopeError::Target(error)) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
                client.batch_execute("rollback to savepoint one").await?;
                tracing::warn!(role = name, error = %chain(&error), "the role of a scope cannot be dropped");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(dropped)
}

async fn drop_one(client: &Client, name: &str, version: u32) -> Result<(), ScopeError> {
    drop_views_of(client, name).await?;
    client.batch_execute(&role_sql::drop_role(name, version).join(";\n")).await?;
    Ok(())
}

/// Drops those of these masking views that there are.
async fn drop_views(client: &Client, names: &[String]) -> Result<(), ScopeError> {
    let views = client
        .query(
            "select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relkind = 'v' and c.relname = any ($3) \
         and c.relowner = (select oid from pg_catalog.pg_roles where rolname = $2)",
            &[&mask::VIEWS_SCHEMA, &role_sql::MASKER, &names],
        )
        .await;
    let views: Vec<String> = views?.iter().map(|row| row.get(0)).collect();
    client.batch_execute(&role_sql::drop_views(&views).join(";\n")).await?;
    Ok(())
}

/// Drops the masking views of the role: those that it alone may read.
async fn drop_views_of(client: &Client, role: &str) -> Result<(), ScopeError> {
    let views = client
        .query(
            "select c.relname::text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relkind = 'v' \
         and c.relowner = (select oid from pg_catalog.pg_roles where rolname = $2) \
         and exists (select from (select c.relacl as list union all \
             select t.attacl from pg_catalog.pg_attribute t where t.attrelid = c.oid) l \
           cross join aclexplode(l.list) a where pg_get_userbyid(a.grantee) = $3)",
            &[&mask::VIEWS_SCHEMA, &role_sql::MASKER, &role],
        )
        .await;
    let views: Vec<String> = views?.iter().map(|row| row.get(0)).collect();
    client.batch_execute(&role_sql::drop_views(&views).join(";\n")).await?;
    Ok(())
}

/// "tuple concurrently updated": the owner granted or altered the same object at the same time.
fn is_clash(error: &ScopeError) -> bool {
    match error {
        ScopeError::Target(error) => {
            error.code() == Some(&SqlState::INTERNAL_ERROR)
                && error.as_db_error().is_some_and(|detail| detail.message().contains("concurrently"))
        }
        ScopeError::TooMany
        | ScopeError::NotOurs(_)
        | ScopeError::Locked
        | ScopeError::View { .. }
        | ScopeError::Widened { .. }
        | ScopeError::Exposed(_) => false,
    }
}
