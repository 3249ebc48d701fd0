//! The target's side: a just-in-time login role for one connection at a time.
//!
//! The role can log in only while the gateway dials, with a password that is made for this one dial
//! and that nobody else ever sees. Before and after, the target itself says that the role is as it was
//! made and that nobody runs as it; a role that is not is dropped and never used again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;
use tokio_postgres::Client;

use super::session::End;
use crate::core::encoding;
use crate::core::grant::Access;
use crate::core::secret::Secret;
use crate::core::statement::reading;
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::scram::Verifier;
use crate::server::audit::RoleEnd;
use crate::server::grants::leases::Lease;
use crate::server::http::refusal::chain;
use crate::server::roles::{self, Ended, RoleError};
use crate::server::scopes::{ScopeError, ScopeRole};
use crate::server::seats;
use crate::server::state::ServedTarget;
use crate::server::targets::TargetError;
use crate::sys::dial::{Channel, Connection, Dial, DialError, Tls};
use crate::sys::random;

/// How long the target may take to let us in.
const DEADLINE: Duration = Duration::from_secs(15);

/// How long the target may have been left waiting for a name: it hangs up on who takes longer, by
/// its `authentication_timeout`, which is a second at least.
const FRESH: Duration = Duration::from_millis(500);

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
    #[error("the last {0} connections of the target are left to others")]
    Reserved(u32),
    #[error("cannot connect to the target")]
    Dial(#[from] DialError),
}

/// A role that can still log in. Nobody is told that a session is there before it cannot any more.
#[must_use]
pub struct OpenRole<'s> {
    served: &'s ServedTarget,
    admin: Client,
    role: String,
    database: String,
    /// Held until the server's own connection is free again.
    _turn: Option<SemaphorePermit<'s>>,
}

impl OpenRole<'_> {
    /// Takes the role's LOGIN away.
    pub async fn close(self) -> Result<(), RoleError> {
        roles::disable_login(&self.admin, &self.role).await?;
        self.served.admins().keep(self.admin, &self.database);
        Ok(())
    }
}

/// Opens the lease's role and connects as it.
pub async fn connect<'s>(
    served: &'s ServedTarget,
    lease: &mut Lease,
    settings: &BTreeMap<String, String>,
) -> Result<(Connection, OpenRole<'s>), UpstreamError> {
    let turn = served.admins().turn().await;
    let _coming = served.seats().come();
    let (password, verifier) = credential();
    let begun = Instant::now();
    // The target makes ready for somebody while it is asked about the role: who it is, it hears later.
    let (opened, early) = tokio::join!(let_in(served, lease, &verifier), reach(served));
    let admin = opened?;
    let early = early.ok().filter(|_| begun.elapsed() < FRESH);
    let parameters: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let dialled = dial(served, early, lease, &password, &parameters).await;
    let (role, database) = (lease.name().to_owned(), lease.grant().grant.database.clone());
    let open = OpenRole { served, admin, role, database, _turn: turn };
    match dialled {
        Ok(connection) if !lease.grant().has_ended() => Ok((connection, open)),
        // Whether it worked or not, nobody logs in as this role again.
        Ok(_) => open.close().await.map_err(UpstreamError::from).and(Err(UpstreamError::Ended)),
        Err(error) => open.close().await.map_err(UpstreamError::from).and(Err(error.into())),
    }
}

/// Lets the lease's role log in, and returns the connection of the server's own that it takes to end that.
async fn let_in(served: &ServedTarget, lease: &mut Lease, verifier: &str) -> Result<Client, UpstreamError> {
    let live = lease.grant().clone();
    let (target, database) = (served.target(), &live.grant.database);
    let mut admin = served.admins().borrow(target, database).await?;
    // Until the login role belongs to it, nothing else holds on to the scope.
    let making = served.making().await;
    match open(served, &admin, lease, verifier).await {
        Err(_) if admin.is_closed() => {
            admin = target.admin(database).await?;
            open(served, &admin, lease, verifier).await?;
        }
        opened => opened?,
    }
    drop(making);
    // Whoever ended the grant meanwhile may have looked for the role before it was there.
    if live.has_ended() { Err(UpstreamError::Ended) } else { Ok(admin) }
}

/// Lets the lease's role log in, once the target has said that scope and role are as they were made.
/// A role that is not is dropped and made anew: an administrator may have dropped it, or changed it.
async fn open(served: &ServedTarget, admin: &Client, lease: &mut Lease, verifier: &str) -> Result<(), UpstreamError> {
    let live = lease.grant().clone();
    if live.has_ended() {
        return Err(UpstreamError::Ended);
    }
    let coming = served.seats().coming();
    // A database that was dropped and made anew has lost what the scope was granted in it.
    let scope = served.complete().ensure(admin, &live.scope, &live.grant.scope);
    let (scope, look) = tokio::join!(scope, roles::look(admin, lease.name()));
    let look = scope.map_err(UpstreamError::from).and(look.map_err(UpstreamError::from))?;
    // The target does not count those yet that others are let in for at this moment.
    let reserved = seats::left_to_others(served.target().config().reserve_connections, look.serves);
    if reserved > 0 && look.free - i64::from(coming) < i64::from(reserved) {
        return Err(UpstreamError::Reserved(reserved));
    }
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
    let dialled = dial(served, None, lease, &password, parameters).await;
    // Whether it worked or not, nobody logs in as this role again.
    roles::disable_login(&admin, lease.name()).await?;
    served.admins().keep(admin, &lease.grant().grant.database);
    Ok(dialled?)
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

/// A channel to the target, over which nobody has been named yet.
async fn reach(served: &ServedTarget) -> Result<Channel, DialError> {
    let target = served.target();
    Channel::open(target.host(), target.port(), &tls(served), DEADLINE).await
}

fn tls(served: &ServedTarget) -> Tls {
    served.target().tls().map_or(Tls::Off, |config| Tls::Verified(config.clone()))
}

/// Signs in as the lease's role, through a channel that is there or a new one. The target reads texts as the
/// gateway does.
async fn dial(
    served: &ServedTarget,
    channel: Option<Channel>,
    lease: &Lease,
    password: &Secret,
    parameters: &[(&str, &str)],
) -> Result<Connection, DialError> {
    let (target, parameters) = (served.target(), reading::begun(parameters));
    let dial = Dial {
        host: target.host(),
        port: target.port(),
        database: &lease.grant().grant.database,
        user: lease.name(),
        password,
        tls: tls(served),
        parameters: &parameters,
        deadline: DEADLINE,
    };
    let connection = match channel {
        Some(channel) => Connection::open_through(channel, &dial).await?,
        None => Connection::open(&dial).await?,
    };
    // Something between might keep a parameter to itself.
    match connection.parameters().iter().find(|(name, value)| !reading::is_kept(name, value)) {
        Some((name, _)) => {
            let message = End::Pinned(name.clone()).to_string();
            Err(DialError::Refused(Box::new(ErrorFields::fatal("42501", message))))
        }
        None => Ok(connection),
    }
}
