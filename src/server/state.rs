//! What every request and connection of this process shares.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::core::api::{ErrorCode, GatewayAddress};
use crate::core::grant::{Access, GrantId};
use crate::core::identity::Identity;
use crate::core::policy::Policy;
use crate::core::scope::catalog::Catalog;
use crate::core::text;
use crate::server::admins::Admins;
use crate::server::approvals::Approvals;
use crate::server::audit::Log;
use crate::server::catalog;
use crate::server::certificates::Certificates;
use crate::server::config::{Config, PolicyStamp};
use crate::server::decisions::Decisions;
use crate::server::gateway::keeper::Keeper;
use crate::server::grants::Grants;
use crate::server::http::refusal::{Refusal, chain};
use crate::server::identity::Verifier;
use crate::server::images::Images;
use crate::server::roles;
use crate::server::scopes::{Compiler, Complete};
use crate::server::seats::Seats;
use crate::server::sessions::{EndReason, Sessions};
use crate::server::store::Store;
use crate::server::targets::{Target, TargetError};
use crate::server::transcript::Transcripts;
use crate::server::web::sign_in::Desk;
use crate::sys::clock;

/// How long what is known of a database is taken for what is there while no definition changes: sizes
/// of relations change too.
const CATALOG_LASTS: Duration = Duration::from_secs(60);

/// Everything that is shared.
pub struct State {
    pub config: Config,
    pub targets: BTreeMap<String, ServedTarget>,
    pub store: Store,
    pub verifier: Verifier,
    pub log: Arc<Log>,
    pub transcripts: Transcripts,
    pub grants: Grants,
    pub approvals: Arc<Approvals>,
    /// What small writes changed.
    pub images: Images,
    /// Reviewers in their browsers.
    pub desk: Desk,
    pub sessions: Sessions,
    /// Where PostgreSQL clients connect.
    pub gateway: GatewayAddress,
    pub certificates: Certificates,
    /// Who may stand at the gateway's door.
    pub keeper: Keeper,
    /// What was decided about texts that were judged before.
    pub decisions: Arc<Decisions>,
    pub stopping: AtomicBool,
    /// Somebody wants the policies read anew.
    pub reload: tokio::sync::Notify,
}

impl State {
    /// A target by its name.
    pub fn target(&self, name: &str) -> Option<&ServedTarget> {
        self.targets.get(name)
    }

    /// What exists in a database of a target, as far as it is known; read on first use.
    pub async fn catalog(&self, target: &str, database: &str) -> Result<Arc<Catalog>, Refusal> {
        self.served(target)?.catalog(database).await
    }

    /// The same, read anew.
    pub async fn refresh_catalog(&self, target: &str, database: &str) -> Result<Arc<Catalog>, Refusal> {
        let served = self.served(target)?;
        let client = served.admin(database).await?;
        served.read_catalog(&client, database).await
    }

    fn served(&self, target: &str) -> Result<&ServedTarget, Refusal> {
        self.target(target).ok_or_else(|| Refusal::new(ErrorCode::UnknownTarget, format!("no target `{target}`")))
    }

    /// Removes a grant that was never handed out.
    pub async fn forget(&self, id: &GrantId) {
        let ended = async {
            self.store.begin_end(id, EndReason::Unrecorded.word()).await?;
            self.store.finish_end(id, clock::now()).await
        };
        if let Err(error) = ended.await {
            tracing::error!(grant = id.as_str(), error = %chain(&error), "a grant that was not made stays in the store");
        }
    }

    /// Whether the process is on its way out: nothing new is begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// One target, its policy, and what is known of its databases.
pub struct ServedTarget {
    target: Target,
    policy: RwLock<Arc<Policy>>,
    /// How the files of that policy looked when they were read.
    stamp: Mutex<PolicyStamp>,
    /// Databases in which a scope may have come out of use.
    to_clear: Mutex<BTreeSet<String>>,
    catalogs: RwLock<HashMap<String, Known>>,
    compiler: Compiler,
    complete: Complete,
    /// Held while a scope has been made and is not in use yet; whoever drops unused ones waits for it.
    making: tokio::sync::RwLock<()>,
    sweeps: Mutex<BTreeMap<String, Arc<Sweep>>>,
    admins: Admins,
    seats: Seats,
}

/// What exists in a database, and how to tell that it has changed.
struct Known {
    mark: i64,
    since: Instant,
    catalog: Arc<Catalog>,
}

/// Whether leftovers of an earlier process are gone from a database.
#[derive(Default)]
struct Sweep {
    is_done: AtomicBool,
    /// Held while one caller clears the database and others, who must not make a scope before it
    /// is cleared, wait for that. It guards no data.
    running: tokio::sync::Mutex<()>,
}

impl ServedTarget {
    pub fn new(target: Target, policy: Policy, stamp: PolicyStamp) -> Self {
        let served = Self {
            seats: Seats::new(target.config().max_sessions),
            target,
            policy: RwLock::new(Arc::new(policy)),
            stamp: Mutex::new(stamp),
            to_clear: Mutex::default(),
            catalogs: RwLock::default(),
            compiler: Compiler::default(),
            complete: Complete::default(),
            making: tokio::sync::RwLock::default(),
            sweeps: Mutex::default(),
            admins: Admins::default(),
        };
        served.must_sweep(served.database());
        served
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Connections of the broker's own role that wait for their next use.
    pub fn admins(&self) -> &Admins {
        &self.admins
    }

    /// Everybody's sessions here.
    pub const fn seats(&self) -> &Seats {
        &self.seats
    }

    pub fn name(&self) -> &str {
        &self.target.config().name
    }

    pub fn environment(&self) -> &str {
        &self.target.config().environment
    }

    /// The database that is meant where none is named.
    pub fn database(&self) -> &str {
        self.target.database()
    }

    /// The policy as it stands; a new one may take its place at any time.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another policy in force. True where it says something else than the one before.
    pub(in crate::server) fn put_policy(&self, policy: Policy) -> bool {
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.digest() != policy.digest();
        *current = Arc::new(policy);
        is_new
    }

    /// How the files of the policy in force looked.
    pub(in crate::server) fn policy_stamp(&self) -> PolicyStamp {
        self.stamp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::server) fn note_stamp(&self, stamp: PolicyStamp) {
        *self.stamp.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
    }

    /// A grant in this database has ended: its scope may be of no more use.
    pub(in crate::server) fn must_clear(&self, database: &str) {
        self.to_clear.lock().unwrap_or_else(PoisonError::into_inner).insert(database.to_owned());
    }

    /// The databases to look for unused scopes in; from now on nobody else does.
    pub(in crate::server) fn take_to_clear(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.to_clear.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// While this is held no scope is dropped: from making one until something holds on to it.
    pub(in crate::server) async fn making(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.making.read().await
    }

    /// While this is held no scope is made.
    pub(in crate::server) async fn nothing_made(&self) -> tokio::sync::RwLockWriteGuard<'_, ()> {
        self.making.write().await
    }

    /// What somebody may ask for here, lowest first; nothing: the target is not theirs to see.
    pub fn access_offered(&self, identity: &Identity) -> Vec<Access> {
        self.policy().access_offered(identity, self.name(), self.environment(), self.database())
    }

    /// What they may ask people for here, lowest first.
    pub fn access_by_approval(&self, identity: &Identity) -> Vec<Access> {
        self.policy().access_by_approval(identity, self.name(), self.environment(), self.database())
    }

    /// The database a request is about.
    pub fn choose_database(&self, asked: Option<&str>) -> Result<String, Refusal> {
        let database = asked.unwrap_or_else(|| self.database());
        // 63 bytes is PostgreSQL's limit; control characters would end up in records and prompts.
        if database.is_empty() || database.len() > 63 || database.chars().any(char::is_control) {
            return Err(Refusal::bad_request("`database` is not a name"));
        }
        Ok(database.to_owned())
    }

    /// A connection of the broker's own role. Why there is none is for the log: addresses and
    /// role names of the target are no business of callers.
    pub async fn admin(&self, database: &str) -> Result<Client, Refusal> {
        self.target.admin(database).await.map_err(|error| self.unreachable(&error, database))
    }

    fn unreachable(&self, error: &TargetError, database: &str) -> Refusal {
        let name = self.name();
        let down = |message: String| Refusal::new(ErrorCode::TargetDown, message);
        match error {
            // Whoever asks has named it; the target's own database is for its operators to name.
            TargetError::NoDatabase { .. } if database != self.database() => {
                tracing::info!(target = name, database, "no such database");
                let message = format!("target `{name}` has no database `{}`", text::escape(database));
                return Refusal::new(ErrorCode::NotFound, message);
            }
            _ => tracing::warn!(target = name, error = %chain(error), "the target cannot be reached"),
        }
        match error {
            TargetError::Standby { .. } => {
                down(format!("target `{name}` is a standby now, where no session can be prepared"))
                    .hint("Its operators let `dsn` name the primary, or promote it.")
            }
            TargetError::Full { .. } => down(format!("the broker is up, but target `{name}` has no connection left"))
                .hint("Try again when other sessions have ended."),
            lasting if lasting.is_lasting() => {
                down(format!("the broker is up, but target `{name}` cannot be used as it is set up"))
                    .hint(format!(
                        "Trying again will not help: its operators must act. They can run: dbgate doctor {name}"
                    ))
                    .lasting()
            }
            _ => down(format!("the broker is up, but target `{name}` cannot be reached"))
                .hint("Try again; if it stays so, tell the operators of the target."),
        }
    }

    /// Names a database that may hold leftovers.
    pub(in crate::server) fn must_sweep(&self, database: &str) {
        self.sweep_of(database);
    }

    /// The databases that have not been cleared yet.
    pub(in crate::server) fn unswept(&self) -> Vec<String> {
        let sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        let left = sweeps.iter().filter(|(_, sweep)| !sweep.is_done.load(Ordering::Acquire));
        left.map(|(database, _)| database.clone()).collect()
    }

    /// Ends every login role and drops every scope that an earlier process left in a database.
    /// Happens once, before the first grant there: nothing of this process is in its way.
    pub(in crate::server) async fn sweep(&self, client: &Client, database: &str) -> Result<(), Refusal> {
        let sweep = self.sweep_of(database);
        let _running = sweep.running.lock().await;
        if sweep.is_done.load(Ordering::Acquire) {
            return Ok(());
        }
        let dropped = roles::sweep(client, &[]).await.map_err(|error| {
            tracing::warn!(target = self.name(), database, error = %chain(&error), "leftovers cannot be cleared");
            Refusal::new(
                ErrorCode::TargetDown,
                format!("target `{}` still holds roles of an earlier run that cannot be dropped yet", self.name()),
            )
            .hint("Try again; its operators can run: dbgate target init")
        })?;
        if !dropped.is_empty() {
            tracing::info!(target = self.name(), database, count = dropped.len(), "leftover roles dropped");
        }
        sweep.is_done.store(true, Ordering::Release);
        Ok(())
    }

    /// What compiles the scopes of this target.
    pub(in crate::server) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The scopes of this target that were found complete.
    pub(in crate::server) fn complete(&self) -> &Complete {
        &self.complete
    }

    fn sweep_of(&self, database: &str) -> Arc<Sweep> {
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        sweeps.entry(database.to_owned()).or_default().clone()
    }

    /// What exists in a database, as far as it is known.
    pub async fn catalog(&self, database: &str) -> Result<Arc<Catalog>, Refusal> {
        match self.known(database, |_| true) {
            Some(catalog) => Ok(catalog),
            None => {
                let client = self.admin(database).await?;
                self.read_catalog(&client, database).await
            }
        }
    }

    /// What exists in a database now, read anew only where a definition has changed.
    pub async fn fresh_catalog(&self, client: &Client, database: &str) -> Result<Arc<Catalog>, Refusal> {
        let mark = catalog::mark(client).await.map_err(|error| self.unreadable(&error))?;
        match self.known(database, |known| known.mark == mark && known.since.elapsed() < CATALOG_LASTS) {
            Some(catalog) => Ok(catalog),
            None => self.read_marked(client, database, mark).await,
        }
    }

    fn known(&self, database: &str, is_good: impl Fn(&Known) -> bool) -> Option<Arc<Catalog>> {
        let catalogs = self.catalogs.read().unwrap_or_else(PoisonError::into_inner);
        catalogs.get(database).filter(|known| is_good(known)).map(|known| known.catalog.clone())
    }

    /// Reads it anew, through a connection to that database.
    pub async fn read_catalog(&self, client: &Client, database: &str) -> Result<Arc<Catalog>, Refusal> {
        let mark = catalog::mark(client).await.map_err(|error| self.unreadable(&error))?;
        self.read_marked(client, database, mark).await
    }

    /// The mark is older than what is read now: a change in between is seen at the next look.
    async fn read_marked(&self, client: &Client, database: &str, mark: i64) -> Result<Arc<Catalog>, Refusal> {
        let since = Instant::now();
        let catalog = catalog::read(client, database).await.map_err(|error| self.unreadable(&error))?;
        let catalog = Arc::new(catalog);
        let mut catalogs = self.catalogs.write().unwrap_or_else(PoisonError::into_inner);
        catalogs.insert(database.to_owned(), Known { mark, since, catalog: catalog.clone() });
        Ok(catalog)
    }

    fn unreadable(&self, error: &(dyn std::error::Error + 'static)) -> Refusal {
        tracing::warn!(target = self.name(), error = %chain(error), "the catalog cannot be read");
        Refusal::new(ErrorCode::TargetDown, format!("the catalog of target `{}` cannot be read", self.name()))
            .hint("Its operators can run: dbgate target init")
    }
}
