//! Login roles: made for one connection each, and proven gone at its end.
//!
//! A live session outlives even DROP ROLE, so ending one means: nobody can log in, every backend
//! is gone (asked of PostgreSQL, twice), and only then the role is dropped.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::core::role_sql::{self, Login};
use crate::core::time::Moment;
use crate::server::scopes::{self, ScopeError, ScopeRole};

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
    #[error("cannot make or drop the login role `{name}`")]
    Target { name: String, source: tokio_postgres::Error },
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// Makes the login role of one connection and answers with its name. `verifier` is a SCRAM
/// verifier. Until [`disable_login`] anyone with the password can connect, so dial at once.
pub async fn make_login(
    client: &Client,
    scope_role: &ScopeRole,
    who: &str,
    id: &str,
    verifier: &str,
    valid_until: Moment,
) -> Result<String, RoleError> {
    let name = role_sql::login_name(who, id);
    let failed = |source| RoleError::Target { name: name.clone(), source };
    let row =
        client.query_one("select current_database()::text, current_setting('server_version_num')::int4", &[]).await;
    let row = row.map_err(failed)?;
    let (database, version): (String, i32) = (row.get(0), row.get(1));
    let login = Login {
        name: &name,
        scope_role: &scope_role.name,
        database: &database,
        verifier,
        valid_until: &valid_until.rfc3339(),
        read_only: scope_role.access == crate::core::grant::Access::Read,
    };
    let sql = role_sql::make_login(&login, u32::try_from(version).unwrap_or(0));
    // One message is one transaction: there is no moment with half a role.
    client.batch_execute(&sql.join(";\n")).await.map_err(failed)?;
    Ok(name)
}

/// After the gateway has dialled: nobody can connect as the role any more.
pub async fn disable_login(client: &Client, login_role: &str) -> Result<(), RoleError> {
    let disabled = client.batch_execute(&role_sql::disable_login(login_role)).await;
    disabled.map_err(|source| RoleError::Target { name: login_role.to_owned(), source })
}

/// Ends a login role and its sessions. A role that is gone already has ended.
pub async fn end(client: &Client, login_role: &str) -> Result<Ended, RoleError> {
    let failed = |source| RoleError::Target { name: login_role.to_owned(), source };
    let row = client
        .query_opt(
            "select shobj_description(oid, 'pg_authid'), current_database()::text, \
         current_setting('server_version_num')::int4, \
         array(select g.rolname::text from pg_catalog.pg_auth_members m \
           join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid) \
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

/// Tells every session of the role to end until PostgreSQL shows none, twice in a row: one that
/// was just being set up when it was looked for shows up the second time.
async fn terminate(client: &Client, login_role: &str) -> Result<u32, RoleError> {
    let sql = role_sql::terminate(login_role);
    let give_up = tokio::time::Instant::now() + PATIENCE;
    let (mut seen, mut quiet) = (0, 0);
    while quiet < 2 {
        let rows = client.query(&sql, &[]).await;
        let rows = rows.map_err(|source| RoleError::Target { name: login_role.to_owned(), source })?;
        quiet = if rows.is_empty() { quiet + 1 } else { 0 };
        seen = seen.max(u32::try_from(rows.len()).unwrap_or(u32::MAX));
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
/// At start nothing is to be kept. Later `keep` must name the login roles of live sessions, also
/// of those that are just being opened, and the scope roles of live grants that wait for their
/// next connection. Several gateways on one target must each keep the others' roles.
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
