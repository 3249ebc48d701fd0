//! Keeping live grants to what the policy, the groups and the database say now.
//!
//! Widening waits for the next grant. What is taken away ends every session that holds it: the
//! database is asked, not the gateway, because a connection that is open keeps its privileges
//! whatever becomes of the policy. A policy that cannot be read leaves the old one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::core::identity::Identity;
use crate::core::policy::{Policy, Subject};
use crate::core::scope::catalog::Catalog;
use crate::core::scope::change;
use crate::server::catalog;
use crate::server::config::PolicyStamp;
use crate::server::grants::{LiveGrant, end, principal};
use crate::server::http::refusal::chain;
use crate::server::scopes;
use crate::server::sessions::EndReason;
use crate::server::state::{ServedTarget, State};
use crate::sys::clock;

/// How often policy folders are looked at. With the time that clients get to hear why, a
/// tightened policy has ended its sessions in less than two seconds.
const TICK: Duration = Duration::from_millis(250);

/// How often each database with live grants is asked whether its definitions changed.
const LOOK: Duration = Duration::from_secs(1);

/// A target is asked for a tenth of the time at most: with ten thousand relations one look takes
/// a quarter of a second.
const RESTS: u32 = 9;
/// However slow a look was: definitions are not left alone for longer.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// How often scopes that nobody uses are dropped.
const CLEAR: Duration = Duration::from_secs(5);

/// How long the store remembers a grant after its end.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// What was seen at the last look.
#[derive(Default)]
struct Seen {
    policies: BTreeMap<String, PolicyStamp>,
    /// By target and database.
    definitions: BTreeMap<(String, String), i64>,
}

/// Watches policies and definitions until told to stop.
pub async fn watch(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut seen = Seen { policies: stamps(&state), ..Seen::default() };
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut look, mut clear) = (Instant::now() + LOOK, Instant::now() + CLEAR);
    loop {
        let is_asked = tokio::select! {
            _ = tick.tick() => false,
            () = state.reload.notified() => true,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match is_asked {
            true => reload(&state, state.targets.keys().cloned().collect()).await,
            false => changed_policies(&state, &mut seen).await,
        }
        if Instant::now() >= look {
            let started = Instant::now();
            changed_definitions(&state, &mut seen).await;
            look = Instant::now() + LOOK.max(started.elapsed() * RESTS).min(LONGEST_REST);
        }
        if Instant::now() >= clear {
            for served in state.targets.values() {
                clear_unused(&state, served).await;
            }
            forget_ended(&state).await;
            clear = Instant::now() + CLEAR;
        }
    }
}

fn stamps(state: &State) -> BTreeMap<String, PolicyStamp> {
    let targets = state.config.targets.iter();
    targets.map(|section| (section.target.name.clone(), section.policy.stamp())).collect()
}

/// Reads the policies anew whose files changed and have since rested for one tick: half a file
/// may be a policy too, and a wider one.
async fn changed_policies(state: &Arc<State>, seen: &mut Seen) {
    let now = stamps(state);
    let mut rested = BTreeSet::new();
    for (target, stamp) in &now {
        let before = seen.policies.get(target);
        let in_force = state.target(target).map(ServedTarget::policy_stamp);
        if before == Some(stamp) && in_force.as_ref() != Some(stamp) {
            rested.insert(target.clone());
        }
    }
    seen.policies = now;
    if !rested.is_empty() {
        reload(state, rested).await;
    }
}

/// Puts the policies of these targets in force as their files have them now.
async fn reload(state: &Arc<State>, targets: BTreeSet<String>) {
    for section in state.config.targets.iter().filter(|section| targets.contains(&section.target.name)) {
        let Some(served) = state.target(&section.target.name) else { continue };
        // Taken before the files are read: what changes meanwhile is seen as another change.
        served.note_stamp(section.policy.stamp());
        match state.config.load_policy(section) {
            Ok(policy) => {
                if served.put_policy(policy) {
                    tracing::info!(
                        target = served.name(),
                        policy = served.policy().digest(),
                        "a new policy is in force"
                    );
                    recheck(state, served, None).await;
                }
            }
            Err(error) => {
                tracing::error!(target = served.name(), error = %chain(&error), "the old policy stays in force");
            }
        }
    }
}

/// Looks for databases whose definitions changed, and at the grants there.
async fn changed_definitions(state: &Arc<State>, seen: &mut Seen) {
    let mut now = BTreeMap::new();
    for served in state.targets.values() {
        for database in databases(state, served) {
            let place = (served.name().to_owned(), database);
            // A connection of its own that is closed at once: an idle one would keep an owner from
            // dropping the database. A target that does not answer is asked again.
            let Ok(client) = served.target().admin(&place.1).await else { continue };
            let Ok(mark) = catalog::mark(&client).await else { continue };
            drop(client);
            // At the first look nobody knows whether something changed since the grant was made.
            if seen.definitions.get(&place) != Some(&mark) {
                recheck(state, served, Some(&place.1)).await;
            }
            now.insert(place, mark);
        }
    }
    seen.definitions = now;
}

/// The databases of a target in which grants are live.
fn databases(state: &State, served: &ServedTarget) -> BTreeSet<String> {
    state.grants.of_target(served.name()).iter().map(|live| live.grant.database.clone()).collect()
}

/// Ends the grants that hold more than they would get now; the others are judged by the new policy.
async fn recheck(state: &Arc<State>, served: &ServedTarget, only: Option<&str>) {
    let policy = served.policy();
    for database in databases(state, served) {
        if only.is_some_and(|only| only != database) {
            continue;
        }
        let Some(catalog) = newest(served, &database).await else { continue };
        let grants = state.grants.of_target(served.name());
        let mut lose = Vec::new();
        for live in grants.into_iter().filter(|live| live.grant.database == database) {
            live.drop_decisions(&policy, &catalog);
            live.put_newest(&catalog);
            match still_holds(served, &policy, &catalog, &live, &live.grant.identity).await {
                true => live.put_policy(policy.clone()),
                false => lose.push(live),
            }
        }
        end_all(state, lose.into_iter()).await;
    }
}

/// What exists now, or what was known of it: a policy is tightened whether the target answers or not.
async fn newest(served: &ServedTarget, database: &str) -> Option<Arc<Catalog>> {
    if let Ok(client) = served.admin(database).await
        && let Ok(catalog) = served.fresh_catalog(&client, database).await
    {
        return Some(catalog);
    }
    served.catalog(database).await.ok()
}

/// Whether everything that a grant gives would be given again to this identity.
async fn still_holds(
    served: &ServedTarget,
    policy: &Arc<Policy>,
    catalog: &Arc<Catalog>,
    live: &LiveGrant,
    identity: &Identity,
) -> bool {
    let subject = Subject { identity, ..Subject::of(&live.grant) };
    if !live.may_stay(policy, &subject) {
        return false;
    }
    // A process that stops ends every grant.
    let Ok(compiled) = served.compiler().compile(policy, &subject, catalog).await else { return false };
    if *compiled.digest == *live.grant.scope {
        return true;
    }
    let exists: BTreeSet<u32> = catalog.relations.values().map(|relation| relation.oid).collect();
    !change::narrows(&live.scope, &compiled.scope, |oid| exists.contains(&oid))
}

/// Ends the grants of somebody whose groups are not what they were, where that takes something
/// away. Called with every identity that has just been verified.
pub async fn seen(state: &Arc<State>, identity: &Identity) {
    let who = principal(identity);
    let changed = |live: &Arc<LiveGrant>| live.is_of(&who) && live.grant.identity.groups != identity.groups;
    let mut lose = Vec::new();
    for live in state.grants.all().into_iter().filter(changed) {
        let Some(served) = state.target(&live.grant.target) else { continue };
        let Ok(catalog) = served.catalog(&live.grant.database).await else { continue };
        if !still_holds(served, &served.policy(), &catalog, &live, identity).await {
            lose.push(live);
        }
    }
    end_all(state, lose.into_iter()).await;
}

/// Ends grants side by side: each gives its client a moment to hear why.
async fn end_all(state: &Arc<State>, grants: impl Iterator<Item = Arc<LiveGrant>>) {
    join_all(grants.map(|live| async move {
        tracing::info!(grant = live.grant.id.as_str(), "a grant holds more than it would get now: it ends");
        // A refusal is logged where it happens, and tried again.
        let _ = end::end(state, &live.grant.id, EndReason::Tightened).await;
    }))
    .await;
}

/// Drops the scopes of a target that no grant uses. What fails is tried again at the next look.
pub async fn clear_unused(state: &State, served: &ServedTarget) {
    for database in served.take_to_clear() {
        let _nothing_made = served.nothing_made().await;
        let mut keep: Vec<String> =
            state.grants.of_target(served.name()).iter().map(|live| live.scope_role.name.clone()).collect();
        keep.extend(state.grants.all_ending().iter().map(|(live, _)| live.scope_role.name.clone()));
        let dropped = async {
            let client = served.admin(&database).await.map_err(|_| "the target cannot be reached".to_owned())?;
            scopes::drop_unused(&client, &keep).await.map_err(|error| chain(&error))
        };
        match dropped.await {
            Ok(dropped) if dropped.is_empty() => {}
            Ok(dropped) => tracing::debug!(target = served.name(), database, count = dropped.len(), "scopes dropped"),
            Err(error) => {
                tracing::warn!(target = served.name(), database, error, "unused scopes cannot be dropped yet");
                served.must_clear(&database);
            }
        }
    }
}

/// Removes grants from the store that ended long ago. Until then a client that was away can still
/// hand in its record of the session.
async fn forget_ended(state: &State) {
    if let Err(error) = state.store.forget_ended(clock::now().before(REMEMBERED)).await {
        tracing::warn!(error = %chain(&error), "grants that ended long ago stay in the store");
    }
}
