//! Step 2, credential: grants that are live in this process.
//!
//! A credential is good only while its grant is in this registry. It is not read back from the
//! store at start: the password of a credential is nowhere but with its holder, the key of its
//! record is nowhere but in memory, so a restart ends every grant.

pub mod ahead;
pub mod end;
pub mod issue;
pub mod keep;
pub mod leases;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::core::approval::Admission;
use crate::core::grant::{Grant, GrantId};
use crate::core::identity::Identity;
use crate::core::policy::{Policy, Subject};
use crate::core::scope::Scope;
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::time::Moment;
use crate::server::decisions::Context;
use crate::server::scopes::ScopeRole;
use crate::server::sessions::EndReason;
use crate::sys::clock;

/// Most live grants of one principal.
pub const MOST_LIVE: usize = 20;

/// Names a principal for limits and ownership: issuer and `sub`, which nobody can choose.
pub fn principal(identity: &Identity) -> String {
    identity.principal()
}

/// A grant whose credential opens connections.
pub struct LiveGrant {
    pub grant: Grant,
    /// SCRAM verifier of the credential, in `pg_authid` form.
    pub verifier: String,
    pub scope: Arc<Scope>,
    /// The role in the target that holds the scope's privileges.
    pub scope_role: ScopeRole,
    /// Key of the commitments in the record of its session.
    pub session_key: [u8; 32],
    /// Leaf hash of the log's grant line: the record of its session begins with it.
    pub grant_leaf: [u8; 32],
    principal: String,
    /// What its statements are judged by: a policy that takes nothing from it may take this one's place.
    policy: RwLock<Arc<Policy>>,
    /// People have let them in.
    admission: Option<Admission>,
    opened: AtomicBool,
    ended: AtomicBool,
    leases: leases::Leases,
    /// What the target's definitions have become since the grant was made.
    newest: RwLock<Option<Arc<Catalog>>>,
    /// What was decided in its sessions, for the next of them.
    decided: Mutex<Option<Arc<Context>>>,
}

impl LiveGrant {
    /// What its statements are judged by now.
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(in crate::server) fn put_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Whether nothing was defined since this was read, as far as the gate has seen.
    pub fn is_newest(&self, catalog: &Arc<Catalog>) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().is_none_or(|newest| Arc::ptr_eq(newest, catalog))
    }

    /// Whether by what was defined since this was read, dynamic SQL may run behind a relation of it.
    pub fn has_become_dynamic(&self, catalog: &Arc<Catalog>, relation: &Relation) -> bool {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.as_ref().is_some_and(|newest| !Arc::ptr_eq(newest, catalog) && !newest.is_static(relation))
    }

    pub(in crate::server) fn put_newest(&self, catalog: &Arc<Catalog>) {
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = Some(catalog.clone());
    }

    /// Keeps what was decided in a session that is over. The context holds on to its catalog, so only
    /// one is kept, and no longer than it holds.
    pub fn keep_decisions(&self, context: &Arc<Context>) {
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.clone());
    }

    /// What was decided in a session before, by this policy and catalog.
    pub fn kept_decisions(&self, policy: &Arc<Policy>, catalog: &Arc<Catalog>) -> Option<Arc<Context>> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.clone().filter(|context| context.is_for(policy, catalog))
    }

    /// Lets go of decisions by another policy or catalog.
    pub(in crate::server) fn drop_decisions(&self, policy: &Arc<Policy>, catalog: &Arc<Catalog>) {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        *decided = decided.take().filter(|context| context.is_for(policy, catalog));
    }

    /// Whether the policy lets them in, or people have and it still counts.
    pub(in crate::server) fn may_stay(&self, policy: &Policy, subject: &Subject<'_>) -> bool {
        let admitted = |denial| self.admission.as_ref().is_some_and(|one| one.covers(&denial, policy.digest()));
        policy.may_connect(subject).map_or_else(admitted, |()| true)
    }

    /// Whether people have let them in, rather than the policy by itself.
    pub(in crate::server) const fn came_by_approval(&self) -> bool {
        self.admission.is_some()
    }

    /// Whether it was made for this principal, see [`principal`].
    pub(in crate::server) fn is_of(&self, who: &str) -> bool {
        self.principal == who
    }

    /// Whether it has been ended; its time may also simply be over, see [`Grants::by_user`].
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// From here on no connection can be registered for it.
    pub(in crate::server) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// Every live grant of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Grants {
    live: Arc<RwLock<Live>>,
}

#[derive(Default)]
struct Live {
    by_user: HashMap<String, Arc<LiveGrant>>,
    by_id: HashMap<GrantId, Arc<LiveGrant>>,
    ending: HashMap<GrantId, (Arc<LiveGrant>, EndReason)>,
    /// Live grants and those being made, by principal.
    counts: HashMap<String, usize>,
}

/// A place among a principal's grants, kept while one is being made; given back on drop.
#[must_use]
pub struct Place {
    grants: Grants,
    principal: String,
    is_taken: bool,
}

impl Grants {
    /// The live grant of a gateway user: `None` if there is none, or it has expired or ended.
    pub fn by_user(&self, user: &str) -> Option<Arc<LiveGrant>> {
        let live = self.read().by_user.get(user).cloned()?;
        (!live.has_ended() && live.grant.expires > clock::now()).then_some(live)
    }

    /// The same by the grant's id.
    pub fn by_id(&self, id: &GrantId) -> Option<Arc<LiveGrant>> {
        self.read().by_id.get(id).cloned()
    }

    /// True exactly once for a grant: that connection is its recorded session.
    pub fn first_session(&self, id: &GrantId) -> bool {
        self.by_id(id).is_some_and(|live| !live.opened.swap(true, Ordering::AcqRel))
    }

    /// Keeps a place for one more grant of a principal, if there is one.
    pub fn place(&self, principal: &str) -> Option<Place> {
        let mut live = self.write();
        let count = live.counts.entry(principal.to_owned()).or_default();
        if *count >= MOST_LIVE {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { grants: self.clone(), principal: principal.to_owned(), is_taken: false })
    }

    /// Takes a grant out of the live ones: its credential opens nothing from here on. It stays
    /// among the ending ones until [`Grants::finish_end`].
    pub(in crate::server) fn begin_end(&self, id: &GrantId, reason: EndReason) {
        let mut live = self.write();
        if let Some(taken) = live.by_id.remove(id) {
            taken.end();
            live.by_user.remove(&taken.grant.user);
            live.give_back(&taken.principal);
            live.ending.insert(id.clone(), (taken, reason));
        }
    }

    /// A grant whose end has begun and is not finished.
    pub(in crate::server) fn ending(&self, id: &GrantId) -> Option<Arc<LiveGrant>> {
        self.read().ending.get(id).map(|(live, _)| live.clone())
    }

    /// All of them, with the reasons.
    pub(in crate::server) fn all_ending(&self) -> Vec<(Arc<LiveGrant>, EndReason)> {
        self.read().ending.values().cloned().collect()
    }

    /// Nothing of the grant is left. True for one caller only.
    pub(in crate::server) fn finish_end(&self, id: &GrantId) -> bool {
        self.write().ending.remove(id).is_some()
    }

    /// Grants whose time is over.
    pub fn expired(&self, now: Moment) -> Vec<GrantId> {
        let live = self.read();
        live.by_id.values().filter(|one| one.grant.expires <= now).map(|one| one.grant.id.clone()).collect()
    }

    /// All live grants.
    pub(in crate::server) fn all(&self) -> Vec<Arc<LiveGrant>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Those for one target.
    pub(in crate::server) fn of_target(&self, target: &str) -> Vec<Arc<LiveGrant>> {
        self.read().by_id.values().filter(|live| live.grant.target == target).cloned().collect()
    }

    /// Ids of all live grants.
    pub fn ids(&self) -> Vec<GrantId> {
        self.read().by_id.keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    fn give_back(&mut self, principal: &str) {
        if let Some(count) = self.counts.get_mut(principal) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counts.remove(principal);
            }
        }
    }
}

/// What [`Place::fill`] needs besides the grant.
pub struct Credential {
    pub verifier: String,
    pub scope: Arc<Scope>,
    pub scope_role: ScopeRole,
    pub policy: Arc<Policy>,
    /// Where people have let them in.
    pub admission: Option<Admission>,
    pub session_key: [u8; 32],
    pub grant_leaf: [u8; 32],
}

impl Place {
    /// Makes the grant live: its credential opens connections from now on.
    pub fn fill(mut self, grant: Grant, credential: Credential) -> Arc<LiveGrant> {
        let Credential { verifier, scope, scope_role, policy, admission, session_key, grant_leaf } = credential;
        let live = Arc::new(LiveGrant {
            grant,
            verifier,
            scope,
            scope_role,
            session_key,
            grant_leaf,
            principal: self.principal.clone(),
            policy: RwLock::new(policy),
            admission,
            opened: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            newest: RwLock::default(),
            leases: leases::Leases::default(),
            decided: Mutex::default(),
        });
        self.is_taken = true;
        let mut all = self.grants.write();
        all.by_user.insert(live.grant.user.clone(), live.clone());
        all.by_id.insert(live.grant.id.clone(), live.clone());
        live
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_taken {
            self.grants.write().give_back(&self.principal);
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::core::grant::Access;
    use crate::server::decisions::Decisions;

    fn credential() -> Credential {
        let scope = Scope {
            cluster: "1".into(),
            database: "shop".into(),
            access: Access::Read,
            schemas: Vec::new(),
            relations: BTreeMap::new(),
            withheld: BTreeMap::new(),
        };
        Credential {
            verifier: "SCRAM-SHA-256$4096:AA==$AA==:AA==".into(),
            scope: Arc::new(scope),
            scope_role: ScopeRole { name: "dbgate_s_0".into(), access: Access::Read, missing: Vec::new() },
            policy: Arc::new(Policy::pack("production").expect("a pack")),
            admission: None,
            session_key: [0; 32],
            grant_leaf: [0; 32],
        }
    }

    fn lasting(number: u8) -> Grant {
        Grant { expires: clock::now().after(Duration::from_secs(60)), ..crate::server::store::tests::grant(number) }
    }

    /// A live grant outside any registry.
    pub fn live(number: u8) -> Arc<LiveGrant> {
        Grants::default().place("alice").expect("a place").fill(lasting(number), credential())
    }

    #[test]
    fn a_credential_is_good_until_its_grant_is_taken_out() {
        let grants = Grants::default();
        let grant = grants.place("alice").expect("a place").fill(lasting(1), credential());
        assert!(grants.by_user("user1").is_some());
        assert!(grants.by_user("user2").is_none());
        grants.begin_end(&grant.grant.id, EndReason::Revoked);
        assert!(grants.ending(&grant.grant.id).is_some());
        assert!(grants.finish_end(&grant.grant.id));
        assert!(!grants.finish_end(&grant.grant.id));
        assert!(grants.by_user("user1").is_none());
        assert!(grant.has_ended());
    }

    #[test]
    fn decisions_outlive_the_last_session_as_long_as_they_hold() {
        let (live, decisions) = (live(1), Decisions::default());
        let (policy, catalog) = (live.policy(), Arc::new(Catalog::default()));
        let context = || decisions.context(&live.grant.id, &policy, &catalog, &[], &[], false);
        let first = context();
        live.keep_decisions(&first);
        let kept = Arc::downgrade(&first);
        drop(first);
        assert!(kept.upgrade().is_some_and(|kept| Arc::ptr_eq(&kept, &context())));
        assert!(live.kept_decisions(&policy, &catalog).is_some_and(|kept| Arc::ptr_eq(&kept, &context())));
        assert!(live.kept_decisions(&policy, &Arc::new(Catalog::default())).is_none(), "of another catalog");
        live.drop_decisions(&policy, &catalog);
        assert!(kept.upgrade().is_some());
        live.drop_decisions(&policy, &Arc::new(Catalog::default()));
        assert!(kept.upgrade().is_none(), "another catalog");
    }

    #[test]
    fn an_expired_grant_opens_nothing_even_before_it_is_cleared_away() {
        let grants = Grants::default();
        grants.place("alice").expect("a place").fill(crate::server::store::tests::grant(1), credential());
        assert!(grants.by_user("user1").is_none());
        assert_eq!(grants.expired(clock::now()).len(), 1);
    }

    #[test]
    fn only_the_first_connection_is_the_recorded_session() {
        let grants = Grants::default();
        let grant = grants.place("alice").expect("a place").fill(lasting(1), credential());
        assert!(grants.first_session(&grant.grant.id));
        assert!(!grants.first_session(&grant.grant.id));
        assert!(!grants.first_session(&GrantId::from_random([9; 10])));
    }

    #[test]
    fn a_principal_has_so_many_places_and_gets_them_back() {
        let grants = Grants::default();
        let mut places: Vec<_> = (0..MOST_LIVE).map(|_| grants.place("alice").expect("a place")).collect();
        assert!(grants.place("alice").is_none());
        assert!(grants.place("bob").is_some());
        let filled = places.pop().expect("twenty places").fill(lasting(1), credential());
        assert!(grants.place("alice").is_none());
        grants.begin_end(&filled.grant.id, EndReason::Revoked);
        assert!(grants.place("alice").is_some());
    }
}
