//! Step aside for the owner's migration: masking views go, the owner's command runs, they come back.
//!
//! PostgreSQL refuses to alter or drop a column that a view shows. All this happens under the lock
//! that guards scopes, so that no view is made meanwhile. A view is made again only where the very
//! columns it was made from still have their numbers and names: after a swap of names the old text
//! would show what it was made to hide. Where that is not so, the scope goes and its sessions end.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::core::role_sql::rebuild::{KeptGrant, KeptView, drop_kept, make_kept};
use crate::core::role_sql::{self, LOGIN_PREFIX, MASK_PREFIX, MASKER, SCOPE_PREFIX};
use crate::core::scope::RelationName;
use crate::server::http::refusal::chain;
use crate::server::roles::{self, RoleError};
use crate::server::scopes::{self, ScopeError};

/// How long to wait for the scopes' lock, and for readers of the views to finish.
const PATIENCE: &str = "30s";

/// Why the views cannot be taken away or brought back.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("a session still reads through a masking view, or makes one")]
    Busy,
    #[error("the target does not do what it was told")]
    Query(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// A view that was taken away.
#[derive(Clone, Debug)]
struct Kept {
    view: KeptView,
    /// The scope role it was made for.
    scope_role: String,
    /// What it reads besides other masking views.
    reads: BTreeSet<Read>,
}

/// A column that a view reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Read {
    relation: u32,
    relation_name: String,
    number: i16,
    name: String,
}

/// The views are away, and the lock is held, until [`Aside::back`].
#[derive(Debug)]
#[must_use = "the views are away until they are brought back"]
pub struct Aside {
    kept: Vec<Kept>,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub rebuilt: Vec<RelationName>,
    /// Views that do not fit any more, and why.
    pub lost: Vec<(RelationName, String)>,
    /// Login roles whose sessions were ended, since they read through a lost view.
    pub ended: Vec<String>,
}

const VIEWS: &str = "select c.oid, n.nspname::text, c.relname::text, pg_get_viewdef(c.oid), coalesce(c.reloptions, '{}'), \
    obj_description(c.oid, 'pg_class'), s.name \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    cross join lateral (select min(pg_get_userbyid(a.grantee)::text) as name from (\
      select c.relacl as list union all select t.attacl from pg_attribute t where t.attrelid = c.oid) l \
      cross join aclexplode(l.list) a where a.grantee <> c.relowner) s \
    where c.relkind = 'v' and starts_with(n.nspname, $1) and s.name is not null \
    and n.nspowner = (select oid from pg_roles where rolname = $2) \
    order by c.oid";

const GRANTS: &str = "select c.oid, a.privilege_type, null::text, r.rolname::text from pg_class c \
    cross join aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee where c.oid = any ($1) and a.grantee <> c.relowner \
    union all select c.oid, a.privilege_type, t.attname::text, r.rolname::text from pg_class c \
    join pg_attribute t on t.attrelid = c.oid cross join aclexplode(t.attacl) a join pg_roles r on r.oid = a.grantee \
    where c.oid = any ($1) and a.grantee <> c.relowner order by 1, 4, 2, 3";

const READS: &str = "select distinct r.ev_class, t.attrelid, format('%I.%I', n.nspname, b.relname), t.attnum, t.attname::text \
    from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid \
     and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 \
    join pg_attribute t on t.attrelid = d.refobjid and t.attnum = d.refobjsubid \
    join pg_class b on b.oid = t.attrelid join pg_namespace n on n.oid = b.relnamespace \
    where r.ev_class = any ($1) and d.refobjid <> all ($1)";

/// Takes the views away. On failure nothing has changed.
/// It is done as the broker, which gave the rights that scopes hold: nobody else can take them back.
pub async fn step_aside(client: &Client, broker: &str) -> Result<Aside, MigrateError> {
    let setup = format!(
        "set session authorization {broker}; set search_path = pg_catalog; set lock_timeout = '{PATIENCE}'; set client_min_messages = error; \
         select pg_advisory_lock({})",
        role_sql::SCOPE_LOCK,
        broker = role_sql::identifier(broker),
    );
    client.batch_execute(&setup).await.map_err(busy)?;
    let taken = async {
        let kept = read(client).await?;
        let views: Vec<KeptView> = kept.iter().map(|kept| kept.view.clone()).collect();
        transaction(client, &drop_kept(&views)).await.map_err(busy)?;
        Ok(Aside { kept })
    };
    match taken.await {
        Ok(aside) => Ok(aside),
        Err(error) => {
            unlock(client).await?;
            Err(error)
        }
    }
}

impl Aside {
    /// How many views are away.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there was nothing to take away.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Makes the views again and lets the lock go. What cannot be made again ends with its scope.
    pub async fn back(self, client: &Client) -> Result<Outcome, MigrateError> {
        let mut outcome = Outcome::default();
        let mut lost_roles = BTreeSet::new();
        for kept in &self.kept {
            let name = kept.view.name.clone();
            let made = match changed(client, kept).await? {
                Some(why) => Err(why),
                None => transaction(client, &make_kept(&kept.view)).await.map_err(|error| chain(&error)),
            };
            match made {
                Ok(()) => outcome.rebuilt.push(name),
                Err(why) => {
                    lost_roles.insert(kept.scope_role.clone());
                    outcome.lost.push((name, why));
                }
            }
        }
        if !lost_roles.is_empty() {
            outcome.ended = end(client, &lost_roles).await?;
        }
        unlock(client).await?;
        Ok(outcome)
    }
}

async fn read(client: &Client) -> Result<Vec<Kept>, tokio_postgres::Error> {
    let rows = client.query(VIEWS, &[&MASK_PREFIX, &MASKER]).await?;
    let mut order = Vec::new();
    let mut kept: BTreeMap<u32, Kept> = BTreeMap::new();
    for row in &rows {
        let (oid, schema, name): (u32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let view = KeptView {
            name: RelationName::new(&schema, &name),
            definition: row.try_get(3)?,
            options: row.try_get(4)?,
            comment: row.try_get(5)?,
            grants: Vec::new(),
        };
        order.push(oid);
        kept.insert(oid, Kept { view, scope_role: row.try_get(6)?, reads: BTreeSet::new() });
    }
    for row in client.query(GRANTS, &[&order]).await? {
        if let Some(one) = kept.get_mut(&row.try_get(0)?) {
            let grant = KeptGrant { privilege: row.try_get(1)?, column: row.try_get(2)?, role: row.try_get(3)? };
            one.view.grants.push(grant);
        }
    }
    for row in client.query(READS, &[&order]).await? {
        if let Some(one) = kept.get_mut(&row.try_get(0)?) {
            one.reads.insert(Read {
                relation: row.try_get(1)?,
                relation_name: row.try_get(2)?,
                number: row.try_get(3)?,
                name: row.try_get(4)?,
            });
        }
    }
    // In the order they were made, so that one that stands on another comes after it.
    Ok(order.iter().filter_map(|oid| kept.remove(oid)).collect())
}

/// Why the view must not be made again from its old text.
async fn changed(client: &Client, kept: &Kept) -> Result<Option<String>, tokio_postgres::Error> {
    const NOW: &str = "select format('%I.%I', n.nspname, c.relname), \
        (select t.attname::text from pg_attribute t where t.attrelid = c.oid and t.attnum = $2 and not t.attisdropped) \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1";
    for read in &kept.reads {
        let Some(row) = client.query_opt(NOW, &[&read.relation, &read.number]).await? else {
            return Ok(Some(format!("{} is gone", read.relation_name)));
        };
        let (relation, column): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        if relation != read.relation_name {
            return Ok(Some(format!("{} is {relation} now", read.relation_name)));
        }
        match column {
            Some(name) if name == read.name => {}
            Some(name) => return Ok(Some(format!("{relation}.{} is {name} now", read.name))),
            None => return Ok(Some(format!("{relation}.{} is gone", read.name))),
        }
    }
    Ok(None)
}

/// Ends the sessions of these scopes and drops the scopes: the next session gets one that fits.
async fn end(client: &Client, scope_roles: &BTreeSet<String>) -> Result<Vec<String>, MigrateError> {
    let names: Vec<&String> = scope_roles.iter().collect();
    let members = client
        .query(
            "select u.rolname::text from pg_auth_members m join pg_roles u on u.oid = m.member \
             join pg_roles s on s.oid = m.roleid where s.rolname = any ($1) and starts_with(u.rolname, $2) order by 1",
            &[&names, &LOGIN_PREFIX],
        )
        .await?;
    let mut ended = Vec::new();
    for row in &members {
        let login: String = row.try_get(0)?;
        // One that waits for its next connection had no session to end.
        if roles::end(client, &login).await?.terminated > 0 {
            ended.push(login);
        }
    }
    let others = client
        .query(
            "select rolname::text from pg_roles where starts_with(rolname, $1) and rolname <> all ($2)",
            &[&SCOPE_PREFIX, &names],
        )
        .await?;
    let others: Vec<String> = others.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    scopes::drop_unused(client, &others).await?;
    Ok(ended)
}

async fn transaction(client: &Client, statements: &[String]) -> Result<(), tokio_postgres::Error> {
    if statements.is_empty() {
        return Ok(());
    }
    let done = client.batch_execute(&format!("begin; {}; commit", statements.join(";\n"))).await;
    if done.is_err() {
        client.batch_execute("rollback").await?;
    }
    done
}

async fn unlock(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("select pg_advisory_unlock({})", role_sql::SCOPE_LOCK)).await
}

fn busy(error: tokio_postgres::Error) -> MigrateError {
    match error.code() {
        Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => MigrateError::Busy,
        _ => MigrateError::Query(error),
    }
}
