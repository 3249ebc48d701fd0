//! The target's side: a just-in-time login role for this one connection.
//!
//! The role can log in only while the gateway dials, with a password nobody else ever sees.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::encoding;
use crate::core::grant::Access;
use crate::core::role_sql;
use crate::core::secret::Secret;
use crate::core::wire::scram::Verifier;
use crate::server::grants::LiveGrant;
use crate::server::roles::{self, RoleError};
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
    #[error("cannot connect to the target")]
    Dial(#[from] DialError),
}

/// What tells the login role of one connection from all others of the same principal.
pub fn new_id() -> String {
    encoding::crockford(&random::bytes::<10>()).to_lowercase()
}

/// The name of the login role that a connection with this id will use.
pub fn role_name(live: &LiveGrant, id: &str) -> String {
    role_sql::login_name(&live.grant.identity.subject, id)
}

/// Makes the role, connects as it, and takes its LOGIN away again.
pub async fn connect(
    served: &ServedTarget,
    live: &LiveGrant,
    id: &str,
    settings: &BTreeMap<String, String>,
) -> Result<Connection, UpstreamError> {
    let grant = &live.grant;
    let target = served.target();
    let mut admin = served.admins().borrow(target, &grant.database).await?;
    // Until the login role belongs to it, nothing else holds on to the scope.
    let making = served.making().await;
    // A database that was dropped and made anew has lost what the scope was granted in it.
    match served.complete().ensure(&admin, &live.scope, &grant.scope).await {
        Err(_) if admin.is_closed() => {
            admin = target.admin(&grant.database).await?;
            served.complete().ensure(&admin, &live.scope, &grant.scope).await?
        }
        ensured => ensured?,
    };
    let (password, verifier) = credential();
    let subject = &grant.identity.subject;
    let login_role = roles::make_login(&admin, &live.scope_role, subject, id, &verifier, grant.expires).await?;
    drop(making);
    let parameters: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    dial(served, admin, &grant.database, &login_role, &password, &parameters).await
}

/// Makes a role that becomes `owner` as soon as it is connected, connects as it, and takes its LOGIN away again.
pub async fn lend(
    served: &ServedTarget,
    live: &LiveGrant,
    id: &str,
    owner: &str,
    parameters: &[(&str, &str)],
) -> Result<Connection, UpstreamError> {
    let grant = &live.grant;
    let admin = served.admins().borrow(served.target(), &grant.database).await?;
    let (password, verifier) = credential();
    let owner = ScopeRole { name: owner.to_owned(), access: Access::Admin, missing: Vec::new() };
    let subject = &grant.identity.subject;
    let login_role = roles::make_login(&admin, &owner, subject, id, &verifier, grant.expires).await?;
    dial(served, admin, &grant.database, &login_role, &password, parameters).await
}

/// A password that exists nowhere but here, and what the target keeps of it.
fn credential() -> (Secret, String) {
    let password = Secret::new(encoding::base64url(&random::bytes::<32>()));
    let verifier = Verifier::derive(&password, &random::bytes::<16>(), ROUNDS);
    (password, verifier.to_string())
}

async fn dial(
    served: &ServedTarget,
    admin: tokio_postgres::Client,
    database: &str,
    login_role: &str,
    password: &Secret,
    parameters: &[(&str, &str)],
) -> Result<Connection, UpstreamError> {
    let target = served.target();
    let dialled = Connection::open(&Dial {
        host: target.host(),
        port: target.port(),
        database,
        user: login_role,
        password,
        tls: target.tls().map_or(Tls::Off, |config| Tls::Verified(config.clone())),
        parameters,
        deadline: DEADLINE,
    })
    .await;
    // Whether it worked or not, nobody logs in as this role again.
    roles::disable_login(&admin, login_role).await?;
    served.admins().keep(admin, database);
    Ok(dialled?)
}
