//! Login roles in a target: made, opened for one connection after another, and proven gone at their end.
//!
//! A live session outlives even DROP ROLE, so ending one means: nobody can log in, every backend
//! is gone (asked of PostgreSQL, twice), and only then the role is dropped.

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::core::grant::Access;
use crate::core::role_sql::{self, Login};
use crate::core::time::Moment;
use crate::server::scopes::{self, ScopeError, ScopeRole};
use crate::server::state::ServedTarget;
use crate::server::targets::TargetError;

/// How long to wait between two looks at the sessions that were told to end.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// When to give up waiting. A backend ends at once unless the kernel holds it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was left of a login role, and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Sessions that had to be ended.
    pub terminated: u32,
    /// Whether the role is gone. It is disabled in any case.
    pub dropped: bool,
}

/// Why a login role could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error("the role `{0}` was not made by dbgate for this database")]
    NotOurs(String),
    #[error("sessions of the role `{0}` do not end; it can no longer log in")]
    StillThere(String),
    #[error("the target does not say what it knows of the login role `{0}`")]
    Unseen(String),
    #[error("cannot make or drop the login role `{name}`")]
    Target { name: String, source: tokio_postgres::Error },
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// The hash of everything that made a login role what it was when it was made, in PostgreSQL's
/// words: to be compared, never read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsMade([u8; 32]);

/// What there is of a login role.
#[derive(Debug)]
pub struct Look {
    server_version: u32,
    state: Option<AsMade>,
    backends: u32,
    /// Connections that the target serves to all but those with reserved ones.
    pub serves: u32,
    /// How many of them are not in use; below zero where superusers have some.
    pub free: i64,
}

impl Look {
    /// Whether the role is as it was made, with nothing owned, granted or set since, and no backend
    /// runs as it: then it is as good as a new one.
    pub fn is_unused(&self, as_made: &AsMade) -> bool {
        self.state.as_ref() == Some(as_made) && self.backends == 0
    }

    /// Whether there is a role of that name.
    pub const fn is_there(&self) -> bool {
        self.state.is_some()
    }
}

/// What a login role is made for.
pub struct Purpose<'a> {
    pub name: &'a str,
    pub scope_role: &'a ScopeRole,
    pub database: &'a str,
    pub valid_until: Moment,
}

/// Looks at a login role.
pub async fn look(client: &Client, name: &str) -> Result<Look, RoleError> {
    let messages = client.simple_query(&role_sql::look_at_login(name)).await;
    seen(&messages.map_err(|source| RoleError::Target { name: name.to_owned(), source })?, name)
}

/// Makes a login role, of which there is none by that name. With a SCRAM verifier anyone with its
/// password can connect until [`disable_login`], so dial at once.
pub async fn make_login(
    client: &Client,
    purpose: &Purpose<'_>,
    before: &Look,
    verifier: Option<&str>,
) -> Result<AsMade, RoleError> {
    let name = purpose.name;
    let login = Login {
        name,
        scope_role: &purpose.scope_role.name,
        database: purpose.database,
        valid_until: &purpose.valid_until.rfc3339(),
        read_only: purpose.scope_role.access == Access::Read,
    };
    let mut sql = role_sql::make_login(&login, before.server_version);
    sql.extend(verifier.map(|verifier| role_sql::enable_login(name, verifier)));
    sql.push(role_sql::look_at_login(name));
    // One message is one transaction: there is no moment with half a role.
    let messages = client.simple_query(&sql.join(";\n")).await;
    let made = seen(&messages.map_err(|source| RoleError::Target { name: name.to_owned(), source })?, name)?;
    made.state.ok_or_else(|| RoleError::Unseen(name.to_owned()))
}

fn seen(messages: &[SimpleQueryMessage], name: &str) -> Result<Look, RoleError> {
    let look = |row: &SimpleQueryRow| {
        Some(Look {
            server_version: row.try_get(0).ok()??.parse().ok()?,
            state: row.try_get(1).ok()?.map(|state| AsMade(Sha256::digest(state).into())),
            backends: row.try_get(2).ok()??.parse().ok()?,
            serves: row.try_get(3).ok()??.parse().ok()?,
            free: row.try_get(4).ok()??.parse().ok()?,
        })
    };
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => look(row),
        // The other kinds say how a statement ended; the enum may grow.
        _ => None,
    });
    row.ok_or_else(|| RoleError::Unseen(name.to_owned()))
}

/// Opens a login role for the holder of a password. Until [`disable_login`], so dial at once.
pub async fn enable_login(client: &Client, name: &str, verifier: &str) -> Result<(), RoleError> {
    let enabled = client.batch_execute(&role_sql::enable_login(name, verifier)).await;
    enabled.map_err(|source| RoleError::Target { name: name.to_owned(), source })
}

/// After the gateway has dialled: nobody can connect as the role any more.
pub async fn disable_login(client: &Client, login_role: &str) -> Result<(), RoleError> {
    let disabled = client.batch_execute(&role_sql::disable_login(login_role)).await;
    disabled.map_err(|source| RoleError::Target { name: login_role.to_owned(), source })
}

/// Ends a login role and its sessions. A role that is gone already has ended.
pub async fn end(client: &Client, login_role: &str) -> Result<Ended, RoleError> {
    let failed = |source| RoleError::Target { name: login_role.to_owned(), source };
    // From 16 on a membership that somebody else gave is not ours to take back; it goes with the role.
    let row = client
        .query_opt(
            "select shobj_description(oid, 'pg_authid'), current_database()::text, \
         current_setting('server_version_num')::int4, \
         array(select g.rolname::text from pg_catalog.pg_auth_members m \
           join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid \
           and (current_setting('server_version_num')::int4 < 160000 or pg_get_userbyid(m.grantor) = current_user)) \
         from pg_catalog.pg_roles r where rolname = $1",
            &[&login_role],
        )
        .await;
    let Some(row) = row.map_err(failed)? else { return Ok(Ended { terminated: 0, dropped: true }) };
    let (comment, database, version): (Option<String>, String, i32) = (row.get(0), row.get(1), row.get(2));
    let is_ours = comment.is_some_and(|comment| comment == role_sql::login_comment(&database));
    if !is_ours || !login_role.starts_with(role_sql::LOGIN_PREFIX) {
        return Err(RoleError::NotOurs(login_role.to_owned()));
    }
    let groups: Vec<String> = row.get(3);
    client.batch_execute(&role_sql::retire_login(login_role, &groups).join(";\n")).await.map_err(failed)?;
    let terminated = terminate(client, login_role).await?;
    let sql = role_sql::drop_role(login_role, u32::try_from(version).unwrap_or(0));
    let dropped = match client.batch_execute(&sql.join(";\n")).await {
        Ok(()) => true,
        // It owns something in another database: disabled for good, but the name stays.
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => false,
        // Somebody else dropped it in between.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => true,
        Err(error) => return Err(failed(error)),
    };
    Ok(Ended { terminated, dropped })
}

/// Why a role could not be ended over a connection that had to be found first.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Role(#[from] RoleError),
}

/// The same over a connection of the server's own, kept or new.
pub async fn end_at(served: &ServedTarget, database: &str, login_role: &str) -> Result<Ended, EndError> {
    let mut admin = served.admins().borrow(served.target(), database).await?;
    let mut ended = end(&admin, login_role).await;
    // A kept one may have gone down with a target that has come back.
    if ended.is_err() && admin.is_closed() {
        admin = served.target().admin(database).await?;
        ended = end(&admin, login_role).await;
    }
    if ended.is_ok() {
        served.admins().keep(admin, database);
    }
    Ok(ended?)
}

/// Tells every session of the role to end until PostgreSQL shows none, twice in a row: one that
/// was just being set up when it was looked for shows up the second time.
async fn terminate(client: &Client, login_role: &str) -> Result<u32, RoleError> {
    let sql = role_sql::terminate(login_role);
    let give_up = tokio::time::Instant::now() + PATIENCE;
    let (mut seen, mut quiet) = (0, 0);
    while quiet < 2 {
        let messages = client.simple_query(&sql).await;
        let messages = messages.map_err(|source| RoleError::Target { name: login_role.to_owned(), source })?;
        let rows = messages.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count();
        quiet = if rows == 0 { quiet + 1 } else { 0 };
        seen = seen.max(u32::try_from(rows).unwrap_or(u32::MAX));
        if quiet < 2 {
            if tokio::time::Instant::now() > give_up {
                return Err(RoleError::StillThere(login_role.to_owned()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Ok(seen)
}

/// Ends every login role of this database that is not in `keep`, then drops the scope roles that
/// no login role belongs to and `keep` does not name. Answers with the names of the login roles.
///
/// At start nothing is to be kept. Later `keep` must name the login roles of live grants, also of
/// those that wait for their next connection, and their scope roles. Several gateways on one target
/// must each keep the others' roles.
pub async fn sweep(client: &Client, keep: &[String]) -> Result<Vec<String>, RoleError> {
    let comment = role_sql::login_comment("");
    let leftovers = client
        .query(
            "select rolname::text from pg_catalog.pg_roles where starts_with(rolname, $1) and rolname <> all($2) \
         and shobj_description(oid, 'pg_authid') = $3 || current_database()",
            &[&role_sql::LOGIN_PREFIX, &keep, &comment],
        )
        .await;
    let leftovers = leftovers.map_err(|source| RoleError::Target { name: "dbgate_u_*".to_owned(), source })?;
    let mut ended = Vec::new();
    for row in leftovers {
        let name: String = row.get(0);
        end(client, &name).await?;
        ended.push(name);
    }
    scopes::drop_unused(client, keep).await?;
    Ok(ended)
}
