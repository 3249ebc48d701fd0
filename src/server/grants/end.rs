//! The end of a grant: its time is over, its principal gave it back, or the process stops.
//!
//! The order is the promise. The credential opens nothing any more; the connections are told to
//! go; what is left of them in the target is ended by force, roles with their backends; and only
//! what the target itself confirms counts as gone. What cannot be done now is tried again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::core::api::ErrorCode;
use crate::core::grant::{Grant, GrantId};
use crate::server::grants::{LiveGrant, keep};
use crate::server::http::refusal::{Refusal, chain};
use crate::server::roles;
use crate::server::sessions::EndReason;
use crate::server::state::State;
use crate::server::store::StoreError;
use crate::sys::clock;

/// How long connections may take to end themselves, so that the client hears why.
const POLITENESS: Duration = Duration::from_millis(500);

/// How often the clock is looked at for grants whose time is over.
const TICK: Duration = Duration::from_millis(250);

/// How often what a target did not confirm is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How many grants are ended side by side: each asks the target over a connection of its own.
const AT_ONCE: usize = 8;

/// Ends a grant; when it answers `Ok`, nothing of it is left in the target.
///
/// Two may end the same grant at the same time: every step can be done twice, one of them
/// records it. A grant whose end failed is tried again by whoever asks, and by [`reap`].
pub async fn end(state: &State, id: &GrantId, reason: EndReason) -> Result<(), Refusal> {
    state.grants.begin_end(id, reason);
    state.sessions.kill_grant(id, reason);
    // The end itself does not wait for the store: what is not noted now is found at the next start.
    let noted = state.store.begin_end(id, reason.word()).await;
    let _ = tokio::time::timeout(POLITENESS, state.sessions.until_gone(id)).await;
    let finished = match state.grants.ending(id) {
        Some(live) => finish(state, &live, reason).await,
        None => Ok(()),
    };
    noted?;
    finished
}

/// Clears the target of what the grant left there, and notes it.
async fn finish(state: &State, live: &LiveGrant, reason: EndReason) -> Result<(), Refusal> {
    let grant = &live.grant;
    end_roles(state, live).await?;
    // What is left then owns something in another database.
    let are_dropped = live.roles().is_empty();
    if state.grants.finish_end(&grant.id) {
        // The end itself does not wait for the log: leaving rights standing would be worse.
        if let Err(error) = state.log.grant_end(grant, reason.word(), are_dropped).await {
            tracing::error!(grant = grant.id.as_str(), %error, "the end of a grant could not be recorded");
        }
        if let Some(served) = state.target(&grant.target) {
            served.must_clear(&grant.database);
        }
        state.store.finish_end(&grant.id, clock::now()).await?;
        tracing::info!(grant = grant.id.as_str(), reason = reason.word(), "grant ended");
    }
    Ok(())
}

/// Ends every login role of a grant, whether a session holds it or it waits for one.
async fn end_roles(state: &State, live: &LiveGrant) -> Result<(), Refusal> {
    let (grant, roles) = (&live.grant, live.roles());
    if roles.is_empty() {
        return Ok(());
    }
    let refuse = |cause: String| {
        tracing::warn!(grant = grant.id.as_str(), target = grant.target, cause, "a role could not be ended yet");
        Refusal::new(
            ErrorCode::TargetDown,
            "the credential opens nothing any more, but the target does not confirm that its role is gone; \
             the broker goes on trying",
        )
    };
    let served = state.target(&grant.target).ok_or_else(|| refuse("the target is not configured".into()))?;
    for role in roles {
        let ended = roles::end_at(served, &grant.database, &role).await.map_err(|error| refuse(chain(&error)))?;
        match ended.dropped {
            true => live.forget_role(&role),
            false => tracing::warn!(role, "the role owns something in another database: it cannot log in, but stays"),
        }
    }
    Ok(())
}

/// Ends what a process that is gone left behind: every grant that has not ended, every role.
pub async fn clear_leftovers(state: &State) {
    let grants = match state.store.unfinished_grants().await {
        Ok(grants) => grants,
        Err(error) => {
            tracing::error!(error = %chain(&error), "leftover grants cannot be read");
            Vec::new()
        }
    };
    for grant in &grants {
        tracing::info!(grant = grant.id.as_str(), "a grant of an earlier process ends");
        if let Err(error) = forget(state, grant).await {
            tracing::error!(grant = grant.id.as_str(), error = %chain(&error), "its end cannot be noted");
        }
        if let Some(served) = state.target(&grant.target) {
            served.must_sweep(&grant.database);
        }
    }
    sweep(state).await;
}

/// Notes the end of a grant whose process is gone; its roles are the sweep's business.
async fn forget(state: &State, grant: &Grant) -> Result<(), StoreError> {
    state.store.begin_end(&grant.id, EndReason::Stopping.word()).await?;
    if let Err(error) = state.log.grant_end(grant, EndReason::Stopping.word(), false).await {
        tracing::error!(grant = grant.id.as_str(), %error, "the end of a grant could not be recorded");
    }
    state.store.finish_end(&grant.id, clock::now()).await
}

/// Clears the databases that have not been cleared since the start. One that cannot be reached is
/// tried again, and in any case before the first grant there.
async fn sweep(state: &State) {
    for served in state.targets.values() {
        for database in served.unswept() {
            // Refusals are logged where they happen.
            if let Ok(client) = served.admin(&database).await {
                let _ = served.sweep(&client, &database).await;
            }
        }
    }
}

/// Ends grants as their time runs out, tries again what failed, sweeps; until told to stop.
pub async fn reap(state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(TICK);
    let mut retry = tokio::time::Instant::now() + RETRY;
    // Beside the clock: a backend that does not end must not keep other grants alive.
    let mut working = JoinSet::new();
    let mut trying: Option<AbortHandle> = None;
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        while working.try_join_next().is_some() {}
        state.targets.values().for_each(|served| served.admins().trim());
        let expired = state.grants.expired(clock::now());
        if !expired.is_empty() {
            // From here on the next tick does not find them any more.
            expired.iter().for_each(|id| state.grants.begin_end(id, EndReason::Expired));
            let state = state.clone();
            working.spawn(async move { end_each(&state, expired, EndReason::Expired).await });
        }
        let is_free = trying.as_ref().is_none_or(AbortHandle::is_finished);
        if is_free && tokio::time::Instant::now() >= retry {
            trying = Some(working.spawn(try_again(state.clone())));
            retry = tokio::time::Instant::now() + RETRY;
        }
    }
    // What is not dropped by then is swept at the next start.
    trying.iter().for_each(AbortHandle::abort);
    while working.join_next().await.is_some() {}
}

/// Ends grants side by side. A refusal is logged where it happens, and tried again.
async fn end_each(state: &State, ids: Vec<GrantId>, reason: EndReason) {
    let end_one = |id: GrantId| async move {
        let _ = end(state, &id, reason).await;
    };
    stream::iter(ids).for_each_concurrent(AT_ONCE, end_one).await;
}

async fn try_again(state: Arc<State>) {
    finish_all(&state).await;
    clear_lost(&state).await;
    sweep(&state).await;
}

/// Ends what could not be ended before. A refusal is logged where it happens.
async fn finish_all(state: &State) {
    for (live, reason) in state.grants.all_ending() {
        let _ = finish(state, &live, reason).await;
    }
}

/// Drops the roles of sessions that are over while their grants go on: a target that crashes takes
/// its sessions with it and cannot be asked to drop their roles.
async fn clear_lost(state: &State) {
    for live in state.grants.all() {
        let lost = live.lost_roles();
        let Some(served) = state.target(&live.grant.target) else { continue };
        for role in lost {
            // What fails is tried again at the next look.
            let ended = roles::end_at(served, &live.grant.database, &role).await;
            if ended.is_ok_and(|ended| ended.dropped) {
                live.forget_role(&role);
            }
        }
    }
}

/// Ends every grant: the process stops. What a target does not confirm is swept at the next start.
pub async fn end_all(state: &State) {
    state.sessions.kill_all(EndReason::Stopping);
    let _ = tokio::time::timeout(POLITENESS, state.sessions.until_empty()).await;
    end_each(state, state.grants.ids(), EndReason::Stopping).await;
    // Where the role was being made or dropped at that very moment.
    finish_all(state).await;
    for served in state.targets.values() {
        keep::clear_unused(state, served).await;
    }
}
