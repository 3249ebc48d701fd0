//! Opening a session behind the door, and closing it: role, connection, record, cleanup.
//!
//! What must stay true: the record of the opening is durable before the client is told that it is
//! in; whatever happens, the login role is settled and the end is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::watch;

use super::ask::{Leftover, OwnStatements};
use super::asked::asked_settings;
use super::client::Client;
use super::door::SignedIn;
use super::held::Held;
use super::net::Netting;
use super::people::People;
use super::seldom;
use super::session::{End, Session};
use super::stop::Alarm;
use super::upstream::{self, OpenRole, UpstreamError};
use crate::core::grant::SessionId;
use crate::core::policy::{Policy, Subject, Verdict};
use crate::core::scope::catalog::Catalog;
use crate::core::session::Pipeline;
use crate::core::statement::facts::{Effect, Facts};
use crate::core::transcript::{Leaf, SessionKey};
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::startup::{self, Startup};
use crate::server::audit::{Opening, SessionOpen, SessionRecord};
use crate::server::decisions::Context;
use crate::server::grants::LiveGrant;
use crate::server::grants::leases::Lease;
use crate::server::http::refusal::chain;
use crate::server::seats::Seat;
use crate::server::sessions::{CancelKey, Kill, Registered, SessionHandle};
use crate::server::state::{ServedTarget, State};
use crate::server::targets::TargetError;
use crate::sys::dial::{CancelHandle, DialError};
use crate::sys::link::Link;
use crate::sys::{clock, random};

/// The protocol extension by which our own client asks for the record's first line.
pub const EXTENSION: &str = "_pq_.dbgate";

/// How long a native client lets itself be held: it may be less than the configuration says.
const HOLD: &str = "dbgate.hold";

/// How long a backend that has nothing to do may take to leave.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves a client that has signed in until its session ends.
pub async fn session(signed_in: Box<SignedIn>, state: &Arc<State>) {
    // What opening takes is given back before the session waits for its client.
    let Some(opened) = seldom(open(*signed_in, state)).await else { return };
    let Opened { mut session, begun, served, lease, seat } = opened;
    let end = if let Err(end) = begun { end } else { session.serve().await };
    seldom(close(&mut session, &end, served, lease, seat, state)).await;
}

/// A session with all that it takes to end it.
struct Opened<'s> {
    session: Box<Session>,
    /// Whether it can be served.
    begun: Result<(), End>,
    served: &'s ServedTarget,
    lease: Lease,
    seat: Seat<'s>,
}

/// Opens a session, or tells the client why there is none.
async fn open(signed_in: SignedIn, state: &Arc<State>) -> Option<Opened<'_>> {
    let SignedIn { mut client, grant, startup, address, tls_version } = signed_in;
    let (wishes, served, policy) = match settle(&startup, &grant, state).await {
        Ok(settled) => settled,
        Err(error) => return turn_away(&mut client, &error).await,
    };
    let Some(seat) = served.seats().take(grant.grant.identity.principal()) else {
        return turn_away(&mut client, &no_seat(served)).await;
    };
    let is_first = state.grants.first_session(&grant.grant.id);
    let session = match is_first {
        true => grant.grant.session.clone(),
        false => SessionId::new(clock::now(), random::bytes()),
    };
    let Some(mut lease) = grant.lease() else { return turn_away(&mut client, &has_ended()).await };
    let handle = SessionHandle {
        session: session.clone(),
        grant: grant.grant.id.clone(),
        target: grant.grant.target.clone(),
        database: grant.grant.database.clone(),
        started: clock::now(),
        kill: Kill::default(),
        cancel: OnceLock::new(),
        upstream: OnceLock::new(),
        cancelled: watch::Sender::new(0),
    };
    let Some(registered) = state.sessions.register(handle, &grant) else {
        return turn_away(&mut client, &has_ended()).await;
    };
    let about = About { session, address: address.to_string(), tls_version, is_first };
    match connected(client, startup, &mut lease, served, policy, wishes, registered, about, state).await {
        Ok((session, begun)) => Some(Opened { session, begun, served, lease, seat }),
        // Who may still be on the way in is ended with the role.
        Err(()) => {
            upstream::end(served, lease).await;
            None
        }
    }
}

/// What is known of a connection before its session begins.
struct About {
    session: SessionId,
    address: String,
    tls_version: &'static str,
    is_first: bool,
}

/// Settings for the target, and how long the client says it may be held.
struct Wishes {
    settings: BTreeMap<String, String>,
    /// Those that were judged now, as `name=value`, and what they were judged with.
    judged: Vec<String>,
    catalog: Arc<Catalog>,
    hold: Option<Duration>,
}

type Settled<'s> = (Wishes, &'s ServedTarget, Arc<Policy>);

/// Judges what the startup message asks for, as if it had come by SET.
async fn settle<'s>(startup: &Startup, live: &LiveGrant, state: &'s State) -> Result<Settled<'s>, Box<ErrorFields>> {
    let served = state
        .target(&live.grant.target)
        .ok_or_else(|| Box::new(ErrorFields::fatal("3D000", "the target is not configured any more")))?;
    let policy = served.policy();
    let catalog = served.catalog(&live.grant.database).await.map_err(|_| Box::new(unreachable_target(served)))?;
    let known = live.kept_decisions(&policy, &catalog);
    let (mut settings, mut judged, mut hold) = (BTreeMap::new(), Vec::new(), None);
    for (name, value) in asked_settings(startup)? {
        if name.eq_ignore_ascii_case(HOLD) {
            let seconds = value.parse().map_err(|_| {
                Box::new(ErrorFields::fatal("22023", format!("`{HOLD}` is a number of seconds, 0 for none")))
            })?;
            hold = Some(Duration::from_secs(seconds));
            continue;
        }
        let setting = format!("{}={}", name.to_lowercase(), value.to_lowercase());
        if !known.as_ref().is_some_and(|known| known.lets_set(&setting)) {
            let facts = Facts { settings: vec![setting.clone()], ..Facts::plain("SET", Effect::Session) };
            match policy.judge(&subject(live), facts, &live.scope, &catalog, &[]) {
                Verdict::Allow(_) => judged.push(setting),
                Verdict::Deny(denial) | Verdict::NeedApproval(denial) => {
                    return Err(Box::new(ErrorFields::fatal("42501", denial.message)));
                }
            }
        }
        settings.insert(name, value);
    }
    Ok((Wishes { settings, judged, catalog, hold }, served, policy))
}

fn subject(live: &LiveGrant) -> Subject<'_> {
    Subject::of(&live.grant)
}

/// Why there is no connection is for the program's log: a client hears that there is none.
fn unreachable_target(served: &ServedTarget) -> ErrorFields {
    ErrorFields::fatal("08006", format!("the gateway is up, but target \"{}\" cannot be reached", served.name()))
}

/// A standby that is promoted takes sessions again, and so does a target that somebody leaves: the
/// client may come back.
fn no_session(served: &ServedTarget, error: &UpstreamError) -> ErrorFields {
    match error {
        UpstreamError::Target(TargetError::Full { .. }) => full_target(served),
        UpstreamError::Dial(DialError::Refused(fields)) if fields.sqlstate == "53300" => full_target(served),
        // About what the client has asked for: settings that are not there, values that they do not take.
        UpstreamError::Dial(DialError::Refused(fields)) if is_about_settings(&fields.sqlstate) => {
            ErrorFields { severity: "FATAL".to_owned(), ..(**fields).clone() }
        }
        UpstreamError::Target(TargetError::Standby { .. }) => {
            let message = format!("target \"{}\" is a standby now, where no session can be prepared", served.name());
            ErrorFields::fatal("57P03", message)
        }
        UpstreamError::Reserved(reserved) => reserved_target(served, *reserved),
        UpstreamError::Ended => has_ended(),
        UpstreamError::Target(_) | UpstreamError::Role(_) | UpstreamError::Scope(_) | UpstreamError::Dial(_) => {
            unreachable_target(served)
        }
    }
}

/// Errors of a startup message's settings; those of signing in are of class 28 and the gateway's own.
fn is_about_settings(sqlstate: &str) -> bool {
    ["22", "42", "55"].iter().any(|class| sqlstate.starts_with(class))
}

fn full_target(served: &ServedTarget) -> ErrorFields {
    let message = format!("the gateway is up, but target \"{}\" has no connection left", served.name());
    ErrorFields {
        hint: Some("Try again when other sessions have ended.".into()),
        ..ErrorFields::fatal("53300", message)
    }
}

fn reserved_target(served: &ServedTarget, reserved: u32) -> ErrorFields {
    let error = full_target(served);
    let detail = format!("The last {reserved} of its connections are left to others (`reserve_connections`).");
    ErrorFields { message: format!("{} for the gateway", error.message), detail: Some(detail), ..error }
}

fn no_seat(served: &ServedTarget) -> ErrorFields {
    let (most, name) = (served.seats().most(), served.name());
    ErrorFields {
        hint: Some("Close some of them, or ask its operators to raise `max_sessions`.".into()),
        ..ErrorFields::fatal("53300", format!("you have {most} sessions at target \"{name}\", and no more at a time"))
    }
}

fn has_ended() -> ErrorFields {
    ErrorFields::fatal("57P01", "the grant has ended")
}

async fn turn_away<T>(client: &mut Client, error: &ErrorFields) -> Option<T> {
    client.error(error);
    // A client that is gone need not be told.
    let _ = client.flush().await;
    client.shut().await;
    None
}

/// Connects to the target, opens the record, greets the client. With the session comes whether it can be served.
#[expect(clippy::too_many_arguments, reason = "the parts of a session come together here, once")]
async fn connected(
    mut client: Client,
    startup: Startup,
    lease: &mut Lease,
    served: &ServedTarget,
    policy: Arc<Policy>,
    asked: Wishes,
    registered: Registered,
    about: About,
    state: &Arc<State>,
) -> Result<(Box<Session>, Result<(), End>), ()> {
    let live = &lease.grant().clone();
    let settings = asked.settings.into_iter().chain(own_settings(live, &about)).collect();
    let (connection, role) = match upstream::connect(served, lease, &settings).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(target = served.name(), error = %chain(&error), "no connection to the target");
            return turn_away(&mut client, &no_session(served, &error)).await.ok_or(());
        }
    };
    let cancel = cancellable(registered.handle(), connection.cancel_handle(), &startup);
    let Ok(catalog) = served.catalog(&live.grant.database).await else { return given_up(role).await };
    let (target, parameters) = connection.into_link();
    let wishes = startup.parameters.get(EXTENSION).map(String::as_str);
    let opening = opening(&about, &startup, live, &catalog, lease.name().to_owned(), state);
    let (key, leaf, now) = (SessionKey::from_bytes(live.session_key), Leaf(live.grant_leaf), clock::now());
    let record = SessionRecord::open(&state.log, &live.grant, leaf, key, opening, about.session, now).await;
    let (record, opened) = match record {
        Ok(opened) => opened,
        Err(error) => {
            turn_away::<()>(&mut client, &End::Unrecorded(error).farewell().unwrap_or_default()).await;
            return given_up(role).await;
        }
    };
    let welcome = welcome(&startup, &parameters, &record, &cancel);
    let context = state.decisions.context(&live.grant.id, &policy, &catalog, &[], &[], false);
    let mut session = Box::new(Session {
        people: People::new(state, live, wishes, asked.hold, &settings),
        client,
        target,
        up: BytesMut::new(),
        pipeline: Pipeline::default(),
        held_out: BytesMut::new(),
        executions: VecDeque::new(),
        held: Held::default(),
        baseline_asked: false,
        is_vetoing: false,
        own: OwnStatements::default(),
        leftover: Leftover::default(),
        context,
        decisions: state.decisions.clone(),
        holds_tags: false,
        late_description: BytesMut::new(),
        expiry: Box::pin(tokio::time::sleep(live.grant.expires.since(clock::now()))),
        status: b'I',
        ahead: Box::default(),
        is_block: false,
        is_dirty: false,
        is_skipping: false,
        stop: super::stop::Stop::No,
        idle: None,
        has_masks: live.scope.relations.values().any(crate::core::scope::RelationScope::is_masked),
        net: Netting::new(served.target().config().content_scan),
        grant: live.clone(),
        policy,
        catalog,
        record,
        registered,
        alarm: Alarm::new(),
        search_path: Vec::new(),
        temporary: Vec::new(),
        has_own_views: false,
        may_misread: false,
        facts_stale: true,
        counts_rows: false,
        prepared: BTreeMap::new(),
        portals: BTreeMap::new(),
        cursors: BTreeMap::new(),
        has_own_code: false,
        has_odd_tables: false,
        has_moved_names: false,
        changes: super::named::Changes::default(),
        description: super::description::Description::default(),
    });
    let begun = begin(&mut session, role, lease, opened, &welcome).await;
    if begun.is_ok() && session.context.is_for(&session.policy, &asked.catalog) {
        asked.judged.iter().for_each(|setting| session.context.remember_set(setting));
    }
    Ok((session, begun))
}

/// Lets the client hear that it is in, once nobody else can log in as its role and the opening is on the
/// disk. What its names mean is asked of the target meanwhile.
async fn begin(
    session: &mut Session,
    role: OpenRole<'_>,
    lease: &mut Lease,
    opened: Opening,
    welcome: &[u8],
) -> Result<(), End> {
    let asked = session.ask_facts().await;
    let handle = session.registered.handle();
    let answer = async {
        asked?;
        tokio::select! {
            biased;
            more = session.target.exchange() => more.map_err(|_| End::TargetLost),
            reason = handle.kill.told(true) => Err(End::Killed(reason)),
        }
    };
    let (closed, recorded, answered) = tokio::join!(role.close(), opened.durable(), answer);
    if let Err(error) = closed {
        tracing::warn!(role = lease.name(), error = %chain(&error), "the login role may be open: it is dropped, and its session with it");
        lease.distrust();
        return Err(End::TargetLost);
    }
    recorded?;
    answered?;
    session.client.out().extend_from_slice(welcome);
    if !session.learn_facts().await? {
        return Err(End::Protocol);
    }
    backend::write_ready(b'I', session.client.out());
    Ok(())
}

/// A session that comes to nothing after its role was opened.
async fn given_up<T>(role: OpenRole<'_>) -> Result<T, ()> {
    if let Err(error) = role.close().await {
        tracing::warn!(error = %chain(&error), "the login role is ended with its lease");
    }
    Err(())
}

/// What `SHOW dbgate.session` and its kin answer, and what triggers of the owner's can write down:
/// in the target all sessions of one scope are one role.
fn own_settings(live: &LiveGrant, about: &About) -> BTreeMap<String, String> {
    let grant = &live.grant;
    let told = [
        ("session", about.session.as_str()),
        ("grant_id", grant.id.as_str()),
        ("policy", &grant.policy),
        ("access", grant.access.word()),
        ("who", &grant.identity.subject),
        ("agent", grant.declared.agent.as_deref().unwrap_or_default()),
        ("expires", &grant.expires.rfc3339()),
    ];
    told.into_iter().map(|(name, value)| (format!("dbgate.{name}"), value.to_owned())).collect()
}

/// What the record says of the connection.
fn opening(
    about: &About,
    startup: &Startup,
    live: &LiveGrant,
    catalog: &Catalog,
    role: String,
    state: &State,
) -> SessionOpen {
    let is_signing = about.is_first && live.grant.client_key.is_some() && startup.parameters.contains_key(EXTENSION);
    SessionOpen {
        client_address: about.address.clone(),
        tls_version: about.tls_version.to_owned(),
        application: startup.parameters.get("application_name").cloned().unwrap_or_default(),
        role,
        server_version: catalog.server_version_text.clone(),
        durability: state.config.audit.durability,
        level: u8::from(is_signing),
    }
}

/// From now on, whoever shows the key that is returned cancels what the session runs.
fn cancellable(handle: &SessionHandle, upstream: CancelHandle, startup: &Startup) -> CancelKey {
    let secret = match startup.minor >= startup::LONG_KEYS {
        true => random::bytes::<32>().to_vec(),
        false => random::bytes::<4>().to_vec(),
    };
    let key = CancelKey { process: upstream.process(), secret };
    // Set once, here.
    let _ = (handle.upstream.set(upstream), handle.cancel.set(key.clone()));
    key
}

/// What PostgreSQL says after sign-in: settings, and a key to cancel with, whose secret is ours.
fn welcome(
    startup: &Startup,
    parameters: &BTreeMap<String, String>,
    record: &SessionRecord,
    key: &CancelKey,
) -> BytesMut {
    let mut out = BytesMut::new();
    for (name, value) in parameters {
        backend::write_parameter(name, value, &mut out);
    }
    if startup.parameters.contains_key(EXTENSION) {
        backend::write_parameter("dbgate.session", record.session().as_str(), &mut out);
        backend::write_parameter("dbgate.open", &record.open_leaf().hex(), &mut out);
    }
    backend::write_key(key.process, &key.secret, &mut out);
    out
}

/// Ends a session: the client's farewell, the target's, the role's, and the record's last line.
async fn close(
    session: &mut Session,
    end: &End,
    served: &ServedTarget,
    lease: Lease,
    seat: Seat<'_>,
    state: &Arc<State>,
) {
    // In the middle of a row nothing else can be said.
    if let Some(farewell) = end.farewell().filter(|_| !session.is_torn()) {
        session.client.error(&farewell);
    }
    // A client that is gone need not be told, and one that takes nothing does not keep the target.
    if session.client.push().await.is_err() || session.client.is_written() {
        session.client.shut().await;
    }
    keep_decisions(&session.grant, &session.context, served).await;
    let has_left = leave(session).await;
    // A pool that closes one opens the next at once.
    if has_left {
        drop(seat);
    }
    let (role, ()) = tokio::join!(upstream::settle(served, lease, has_left), session.client.part(GOODBYE));
    let head = state.transcripts.client_head(session.record.session());
    if let Err(error) = session.record.close(end.reason(), role, head, clock::now()).await {
        tracing::error!(%error, "the end of a session could not be recorded");
    }
}

/// Leaves what was decided to the grant's next session, while it holds.
async fn keep_decisions(live: &LiveGrant, context: &Arc<Context>, served: &ServedTarget) {
    if let Ok(catalog) = served.catalog(&live.grant.database).await
        && context.is_for(&live.policy(), &catalog)
    {
        live.keep_decisions(context);
    }
}

/// Says goodbye to the target. True where it has closed the connection, which a backend does last.
async fn leave(session: &mut Session) -> bool {
    let is_at_rest = session.pipeline.is_empty() && !session.grant.has_ended();
    let target = &mut session.target;
    crate::core::wire::frontend::terminate(&mut target.out);
    // The target may be gone, too; the role is ended in any case.
    let _ = target.push().await;
    // What still runs is not waited for: it is ended with the role.
    let has_left = is_at_rest && tokio::time::timeout(GOODBYE, until_closed(target)).await.is_ok();
    target.shut().await;
    has_left
}

async fn until_closed(target: &mut Link) {
    while target.fill().await.is_ok() {
        target.input.clear();
    }
}
