//! The login roles of a grant, each lent to one connection at a time.
//!
//! What must stay true: a role belongs to one grant for its whole life, so it never serves another
//! principal, scope or database; while somebody holds it nobody else gets it; and every role there may
//! be in the target is known here before it is made, until the target has confirmed that it is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LiveGrant;
use crate::core::encoding;
use crate::core::role_sql;
use crate::server::roles::{AsMade, Purpose};
use crate::server::scopes::ScopeRole;
use crate::sys::random;

/// How many roles of a grant wait for its next connections: as many as a tool opens and closes side
/// by side. More would be rows in the target's catalogs that every session reads past.
const MOST_IDLE: usize = 4;

/// Every login role of a grant that may be in the target.
#[derive(Default)]
pub(super) struct Leases {
    roles: Mutex<BTreeMap<String, Use>>,
}

enum Use {
    Held,
    Idle(AsMade),
    /// Nobody holds it, and it could not be dropped.
    Lost,
}

/// The right to use one login role. Dropped without a word it leaves the role to be cleared away.
#[must_use]
pub struct Lease {
    live: Arc<LiveGrant>,
    name: String,
    /// Nothing where the role is still to be made.
    as_made: Option<AsMade>,
    is_settled: bool,
}

impl LiveGrant {
    /// A role for the grant's next connection, idle or still to be made. None when the grant has ended.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        let mut roles = self.leases.lock();
        if self.has_ended() {
            return None;
        }
        let idle = roles.iter_mut().find_map(|(name, one)| match one {
            Use::Idle(as_made) => Some((name.clone(), as_made.clone(), one)),
            Use::Held | Use::Lost => None,
        });
        let (name, as_made) = match idle {
            Some((name, as_made, one)) => {
                *one = Use::Held;
                (name, Some(as_made))
            }
            None => (self.enter(&mut roles), None),
        };
        drop(roles);
        Some(Lease { live: self.clone(), name, as_made, is_settled: false })
    }

    /// A role that is made for one use and dropped after it. None when the grant has ended.
    pub fn one_shot(self: &Arc<Self>) -> Option<Lease> {
        let mut roles = self.leases.lock();
        if self.has_ended() {
            return None;
        }
        let name = self.enter(&mut roles);
        drop(roles);
        Some(Lease { live: self.clone(), name, as_made: None, is_settled: false })
    }

    fn enter(&self, roles: &mut BTreeMap<String, Use>) -> String {
        let id = encoding::crockford(&random::bytes::<10>()).to_lowercase();
        let name = role_sql::login_name(&self.grant.identity.subject, &id);
        roles.insert(name.clone(), Use::Held);
        name
    }

    /// Login roles in the target that may still be there.
    pub fn roles(&self) -> Vec<String> {
        self.leases.lock().keys().cloned().collect()
    }

    /// Those that nobody holds and that could not be dropped.
    pub(super) fn lost_roles(&self) -> Vec<String> {
        let roles = self.leases.lock();
        roles.iter().filter(|(_, one)| matches!(one, Use::Lost)).map(|(name, _)| name.clone()).collect()
    }

    /// The target has confirmed that the role is gone.
    pub(super) fn forget_role(&self, role: &str) {
        self.leases.lock().remove(role);
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Use>> {
        // The map is whole between any two statements, so a panic elsewhere does not spoil it.
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The role's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The grant it belongs to.
    pub const fn grant(&self) -> &Arc<LiveGrant> {
        &self.live
    }

    /// How the role was made; nothing where it is still to be made.
    pub const fn as_made(&self) -> Option<&AsMade> {
        self.as_made.as_ref()
    }

    /// The role has been made.
    pub fn made(&mut self, as_made: AsMade) {
        self.as_made = Some(as_made);
    }

    /// The role may not be what it should be: nobody uses it after this.
    pub fn distrust(&mut self) {
        self.as_made = None;
    }

    /// Gives up the role, which cannot be dropped yet, for one that is still to be made. False when the
    /// grant has ended.
    pub fn renew(&mut self) -> bool {
        let another = self.live.one_shot();
        let is_new = another.is_some();
        if let Some(another) = another {
            *self = another;
        }
        is_new
    }

    /// What the role is made for: `scope_role` is what it becomes.
    pub fn purpose<'a>(&'a self, scope_role: &'a ScopeRole) -> Purpose<'a> {
        let grant = &self.live.grant;
        Purpose { name: &self.name, scope_role, database: &grant.database, valid_until: grant.expires }
    }

    /// Leaves the role, which is as it was made, to the grant's next connection.
    ///
    /// # Errors
    /// The lease itself, where the grant has ended or has enough of them: the role is to be dropped.
    pub fn give_back(mut self) -> Result<(), Self> {
        let Some(as_made) = self.as_made.clone() else { return Err(self) };
        let live = self.live.clone();
        let mut roles = live.leases.lock();
        let idle = roles.values().filter(|one| matches!(one, Use::Idle(_))).count();
        match roles.get_mut(&self.name) {
            Some(one) if !live.has_ended() && idle < MOST_IDLE => {
                *one = Use::Idle(as_made);
                self.is_settled = true;
                Ok(())
            }
            // The end of the grant has dropped it meanwhile.
            Some(_) | None => Err(self),
        }
    }

    /// The target has confirmed that the role is gone.
    pub fn gone(mut self) {
        self.live.forget_role(&self.name);
        self.is_settled = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Also where the end of the grant has found no role yet: it may have been made behind that.
        if !self.is_settled {
            self.live.leases.lock().insert(self.name.clone(), Use::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::grants::tests::live;

    /// A lease of a role that has been made.
    fn made(live: &Arc<LiveGrant>) -> Lease {
        let mut lease = live.lease().expect("the grant is live");
        lease.made(AsMade::default());
        lease
    }

    #[test]
    fn a_role_that_is_given_back_is_the_next_ones_and_nobody_elses() {
        let (one, other) = (live(1), live(2));
        let first = made(&one);
        let name = first.name().to_owned();
        let second = one.lease().expect("another role");
        assert_ne!(second.name(), name, "one that is held is not lent again");
        assert!(second.as_made().is_none());
        assert!(first.give_back().is_ok());
        assert_ne!(other.lease().expect("a role").name(), name, "nor to another grant");
        let again = one.lease().expect("the idle one");
        assert_eq!((again.name(), again.as_made().is_some()), (name.as_str(), true));
        again.gone();
        assert!(!one.roles().contains(&name));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let live = live(1);
        let held: Vec<Lease> = (0..=MOST_IDLE).map(|_| made(&live)).collect();
        let refused = held.into_iter().filter_map(|lease| lease.give_back().err()).count();
        assert_eq!(refused, 1);
        assert_eq!(live.roles().len(), MOST_IDLE + 1, "the one too many is known until the target drops it");
        assert_eq!(live.lost_roles().len(), 1);
    }

    #[test]
    fn what_was_never_made_or_is_made_for_one_use_is_not_kept() {
        let live = live(1);
        assert!(live.lease().expect("a role").give_back().is_err());
        let one_shot = live.one_shot().expect("a role");
        let name = one_shot.name().to_owned();
        drop(one_shot);
        assert!(live.lost_roles().contains(&name), "whoever forgets it leaves it to be cleared away");
        assert_ne!(live.lease().expect("a role").name(), name);
    }

    #[test]
    fn one_that_may_be_open_is_not_kept() {
        let live = live(1);
        let mut lease = made(&live);
        lease.distrust();
        assert!(lease.as_made().is_none() && lease.give_back().is_err());
        assert_eq!(live.lost_roles().len(), 1, "it is to be dropped");
    }

    #[test]
    fn an_ended_grant_lends_nothing_and_keeps_nothing() {
        let live = live(1);
        let (held, idle) = (made(&live), made(&live));
        idle.give_back().ok().expect("the grant is live");
        live.end();
        assert!(live.lease().is_none() && live.one_shot().is_none());
        assert!(held.give_back().is_err());
        assert_eq!(live.roles().len(), 2, "its end knows both");
    }
}
