//! Access that people must agree to: asked for ahead of time, and used up by the grant.

use std::time::Duration;

use crate::core::api::{ErrorCode, GrantRequest};
use crate::core::approval::{Admission, Asked, Binding, Forecast, Request, RequestId};
use crate::core::grant::SessionId;
use crate::core::identity::Identity;
use crate::core::policy::{Denial, Policy, Subject};
use crate::server::grants::issue;
use crate::server::http::refusal::Refusal;
use crate::server::state::State;
use crate::sys::{clock, random};

/// Asks people to let somebody in.
pub async fn ask(state: &State, identity: Identity, request: GrantRequest) -> Result<Request, Refusal> {
    let served = state.target(&request.target).ok_or_else(|| Refusal::not_found("target"))?;
    let length = issue::length(&request)?;
    issue::texts(&request)?;
    let database = served.choose_database(request.database.as_deref())?;
    let subject = issue::subject(served, &database, &identity, &request);
    let policy = served.policy();
    let Err(denial) = policy.may_connect(&subject) else {
        return Err(Refusal::new(ErrorCode::Conflict, "nobody need be asked: the policy lets you in"));
    };
    if !may_ask(state, &denial) {
        return Err(denial.into());
    }
    let now = clock::now();
    let message = format!("{}, for {} min", denial.message, length.as_secs().div_ceil(60));
    let asked = Asked {
        id: RequestId::from_random(random::bytes()),
        binding: Binding::of_access(&subject, length, policy.digest()),
        values: Vec::new(),
        requester: identity.clone(),
        environment: served.environment().to_owned(),
        reason: request.reason.clone(),
        ticket: request.ticket.clone(),
        session: String::new(),
        denial: Denial { message, ..denial },
        forecast: Forecast::default(),
        created: now,
        expires: now.after(state.approvals.config().ttl),
    };
    Ok(state.approvals.ask(asked).await?.0)
}

/// Whether somebody comes in by the policy, or may because people have agreed. Nothing is used up.
pub fn may_enter(state: &State, subject: &Subject<'_>, policy: &Policy) -> Result<Option<Denial>, Refusal> {
    let Err(denial) = policy.may_connect(subject) else { return Ok(None) };
    if !may_ask(state, &denial) {
        return Err(denial.into());
    }
    let binding = Binding::of_access(subject, Duration::ZERO, policy.digest());
    match state.approvals.may_be_approved(&binding.principal, &binding.statement) {
        true => Ok(Some(denial)),
        false => Err(to_be_asked(denial, subject)),
    }
}

/// Uses up the approval that lifts `denial`.
pub async fn admit(
    state: &State,
    subject: &Subject<'_>,
    policy: &Policy,
    denial: Denial,
    session: &SessionId,
) -> Result<Admission, Refusal> {
    let binding = Binding::of_access(subject, Duration::ZERO, policy.digest());
    let admitted = state.approvals.admit(&binding, session.as_str()).await?;
    admitted.filter(|one| one.covers(&denial, policy.digest())).ok_or_else(|| to_be_asked(denial, subject))
}

fn may_ask(state: &State, denial: &Denial) -> bool {
    denial.approvers.is_some() && state.approvals.config().is_enabled
}

fn to_be_asked(denial: Denial, subject: &Subject<'_>) -> Refusal {
    let Subject { target, access, .. } = subject;
    let ask = format!("dbgate request create {target} --access {} --for 15m --reason \"…\"", access.word());
    Refusal::from(denial).hint(format!("Ask for it: {ask}"))
}
