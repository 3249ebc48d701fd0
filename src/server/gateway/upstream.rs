//! The target's side: a just-in-time login role for this one connection.
//!
//! The role can log in only while the gateway dials, with a password nobody else ever sees.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::core::encoding;
use crate::core::role_sql;
use crate::core::scope::catalog::Catalog;
use crate::core::secret::Secret;
use crate::core::wire::scram::Verifier;
use crate::server::grants::LiveGrant;
use crate::server::roles::{self, RoleError};
use crate::server::scopes::{self, ScopeError};
use crate::server::state::ServedTarget;
use crate::server::targets::TargetError;
use crate::sys::dial::{Connection, Dial, DialError, Tls};
use crate::sys::random;

/// How long the target may take to let us in.
const DEADLINE: Duration = Duration::from_secs(15);

/// How often the password is hashed. Many rounds slow down who guesses passwords; nobody guesses
/// 256 random bits that are good for one dial, and each round would slow that dial down.
const ROUNDS: u32 = 1;
/// How long a scope that was found whole is taken to be so, while the catalog is the same.
const FRESH: Duration = Duration::from_secs(2);

/// Scopes that were looked at just now: many connections in a row need no look each.
#[derive(Default)]
pub struct Ensured {
    scopes: Mutex<HashMap<String, (Option<Weak<Catalog>>, Instant)>>,
}

impl Ensured {
    fn is_fresh(&self, scope_role: &str, catalog: Option<&Arc<Catalog>>) -> bool {
        let scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.get(scope_role).is_some_and(|(known, at)| {
            at.elapsed() < FRESH && known.as_ref().map(Weak::as_ptr) == catalog.map(Arc::as_ptr)
        })
    }

    fn note(&self, scope_role: &str, catalog: Option<Arc<Catalog>>) {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        scopes.retain(|_, (_, at)| at.elapsed() < FRESH);
        scopes.insert(scope_role.to_owned(), (catalog.as_ref().map(Arc::downgrade), Instant::now()));
    }
}

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
    let password = Secret::new(encoding::base64url(&random::bytes::<32>()));
    let verifier = Verifier::derive(&password, &random::bytes::<16>(), ROUNDS).to_string();
    // Until the login role belongs to it, nothing else holds on to the scope.
    let making = served.making().await;
    let subject = &grant.identity.subject;
    let known = served.known_catalog(&grant.database);
    let mut made = None;
    if served.ensured().is_fresh(&live.scope_role.name, known.as_ref()) {
        // Should the scope be gone all the same, it is made below.
        made = roles::make_login(&admin, &live.scope_role, subject, id, &verifier, grant.expires).await.ok();
    }
    let login_role = match made {
        Some(login_role) => login_role,
        None => {
            // A database that was dropped and made anew has lost what the scope was granted in it.
            match scopes::ensure(&admin, &live.scope).await {
                Err(_) if admin.is_closed() => {
                    admin = target.admin(&grant.database).await?;
                    scopes::ensure(&admin, &live.scope).await?
                }
                ensured => ensured?,
            };
            served.ensured().note(&live.scope_role.name, known);
            roles::make_login(&admin, &live.scope_role, subject, id, &verifier, grant.expires).await?
        }
    };
    drop(making);
    let parameters: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let dialled = Connection::open(&Dial {
        host: target.host(),
        port: target.port(),
        database: &grant.database,
        user: &login_role,
        password: &password,
        tls: target.tls().map_or(Tls::Off, |config| Tls::Verified(config.clone())),
        parameters: &parameters,
        deadline: DEADLINE,
    })
    .await;
    // Whether it worked or not, nobody logs in as this role again.
    roles::disable_login(&admin, &login_role).await?;
    served.admins().keep(admin, &grant.database);
    Ok(dialled?)
}
