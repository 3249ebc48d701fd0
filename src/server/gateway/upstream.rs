//! The target's side: a just-in-time login role for one connection at a time.
//!
//! The role can log in only while the gateway dials, with a password that is made for this one dial
//! and that nobody else ever sees. Before and after, the target itself says that the role is as it was
//! made and that nobody runs as it; a role that is not is dropped and never used again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Client;

use crate::core::encoding;
use crate::core::grant::Access;
use crate::core::secret::Secret;
use crate::core::wire::scram::Verifier;
use crate::server::audit::RoleEnd;
use crate::server::grants::leases::Lease;
use crate::server::http::refusal::chain;
use crate::server::roles::{self, Ended, RoleError};
use crate::server::scopes::{ScopeError, ScopeRole};
use crate::server::state::ServedTarget;
use crate::server::targets::TargetError;
use crate::sys::dial::{Connection, Dial, DialError, Tls};
use crate::sys::random;

/// How long the target may take to let us in.
const DEADLINE: Duration = Duration::from_secs(15);

/// How often the password is hashed. Many rounds slow down who guesses passwords; nobody guesses
/// 256 random bits that are good for one dial, and each round would slow that dial down.
const ROUNDS: u32 = 1;

/// Why there is no connection to the target.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error("the grant has ended")]
    Ended,
    #[error("cannot connect to the target")]
    Dial(#[from] DialError),
}

/// Opens the lease's role, connects as it, and takes its LOGIN away again.
pub async fn connect(
    served: &ServedTarget,
    lease: &mut Lease,
    settings: &BTreeMap<String, String>,
) -> Result<Connection, UpstreamError> {
    let live = lease.grant().clone();
    let (target, database) = (served.target(), &live.grant.database);
    let _turn = served.admins().turn().await;
    let mut admin = served.admins().borrow(target, database).await?;
    let (password, verifier) = credential();
    // Until the login role belongs to it, nothing else holds on to the scope.
    let making = served.making().await;
    match open(served, &admin, lease, &verifier).await {
        Err(_) if admin.is_closed() => {
            admin = target.admin(database).await?;
            open(served, &admin, lease, &verifier).await?;
        }
        opened => opened?,
    }
    drop(making);
    // Whoever ended the grant meanwhile may have looked for the role before it was there.
    if live.has_ended() {
        return Err(UpstreamError::Ended);
    }
    let parameters: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let connection = dial(served, admin, lease, &password, &parameters).await?;
    if live.has_ended() { Err(UpstreamError::Ended) } else { Ok(connection) }
}

/// Lets the lease's role log in, once the target has said that scope and role are as they were made.
/// A role that is not is dropped and made anew: an administrator may have dropped it, or changed it.
async fn open(served: &ServedTarget, admin: &Client, lease: &mut Lease, verifier: &str) -> Result<(), UpstreamError> {
    let live = lease.grant().clone();
    if live.has_ended() {
        return Err(UpstreamError::Ended);
    }
    // A database that was dropped and made anew has lost what the scope was granted in it.
    let scope = served.complete().ensure(admin, &live.scope, &live.grant.scope);
    let (scope, look) = tokio::join!(scope, roles::look(admin, lease.name()));
    let look = scope.map_err(UpstreamError::from).and(look.map_err(UpstreamError::from))?;
    if lease.as_made().is_some_and(|as_made| look.is_unused(as_made)) {
        return Ok(roles::enable_login(admin, lease.name(), verifier).await?);
    }
    if look.is_there() {
        tracing::warn!(role = lease.name(), "the login role is not as it was made: it is made anew");
        let ended = roles::end(admin, lease.name()).await?;
        if !ended.dropped && !lease.renew() {
            return Err(UpstreamError::Ended);
        }
    }
    let as_made = roles::make_login(admin, &lease.purpose(&live.scope_role), &look, Some(verifier)).await?;
    lease.made(as_made);
    Ok(())
}

/// Makes a role that becomes `owner` as soon as it is connected, connects as it, and takes its LOGIN away again.
pub async fn lend(
    served: &ServedTarget,
    lease: &mut Lease,
    owner: &str,
    parameters: &[(&str, &str)],
) -> Result<Connection, UpstreamError> {
    let admin = served.admins().borrow(served.target(), &lease.grant().grant.database).await?;
    let (password, verifier) = credential();
    let owner = ScopeRole { name: owner.to_owned(), access: Access::Admin, missing: Vec::new() };
    let look = roles::look(&admin, lease.name()).await?;
    roles::make_login(&admin, &lease.purpose(&owner), &look, Some(&verifier)).await?;
    dial(served, admin, lease, &password, parameters).await
}

/// The connection is over, and where `has_left` the target has closed it: leaves the role to the
/// grant's next connection, or drops it.
pub async fn settle(served: &ServedTarget, lease: Lease, has_left: bool) -> RoleEnd {
    let _turn = served.admins().closing_turn().await;
    if !has_left || lease.grant().has_ended() || !is_unused(served, &lease).await {
        return drop_role(served, lease).await;
    }
    match lease.give_back() {
        Ok(()) => RoleEnd::Kept,
        Err(lease) => drop_role(served, lease).await,
    }
}

/// Whether the target says that the role is as it was made and nobody runs as it.
async fn is_unused(served: &ServedTarget, lease: &Lease) -> bool {
    let database = &lease.grant().grant.database;
    let (Some(as_made), Ok(admin)) = (lease.as_made(), served.admins().borrow(served.target(), database).await) else {
        return false;
    };
    let look = roles::look(&admin, lease.name()).await;
    served.admins().keep(admin, database);
    look.is_ok_and(|look| look.is_unused(as_made))
}

/// Drops the role of a lease, when its turn comes.
pub async fn end(served: &ServedTarget, lease: Lease) -> RoleEnd {
    let _turn = served.admins().closing_turn().await;
    drop_role(served, lease).await
}

async fn drop_role(served: &ServedTarget, lease: Lease) -> RoleEnd {
    match roles::end_at(served, &lease.grant().grant.database, lease.name()).await {
        Ok(Ended { dropped: true, .. }) => {
            lease.gone();
            RoleEnd::Dropped
        }
        Ok(Ended { dropped: false, .. }) => RoleEnd::Left,
        Err(error) => {
            tracing::warn!(role = lease.name(), error = chain(&error), "the login role is dropped later");
            RoleEnd::Left
        }
    }
}

/// A password that exists nowhere but here, and what the target keeps of it.
fn credential() -> (Secret, String) {
    let password = Secret::new(encoding::base64url(&random::bytes::<32>()));
    let verifier = Verifier::derive(&password, &random::bytes::<16>(), ROUNDS);
    (password, verifier.to_string())
}

async fn dial(
    served: &ServedTarget,
    admin: Client,
    lease: &Lease,
    password: &Secret,
    parameters: &[(&str, &str)],
) -> Result<Connection, UpstreamError> {
    let (target, database, user) = (served.target(), lease.grant().grant.database.as_str(), lease.name());
    let dialled = Connection::open(&Dial {
        host: target.host(),
        port: target.port(),
        database,
        user,
        password,
        tls: target.tls().map_or(Tls::Off, |config| Tls::Verified(config.clone())),
        parameters,
        deadline: DEADLINE,
    })
    .await;
    // Whether it worked or not, nobody logs in as this role again.
    roles::disable_login(&admin, user).await?;
    served.admins().keep(admin, database);
    Ok(dialled?)
}
