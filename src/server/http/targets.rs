//! `GET /v1/targets`: what the caller may at least connect to, or ask people for.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::{Extension, Json};

use crate::core::api::{Agreement, ApiError, ByApproval, TargetSummary, Targets};
use crate::core::approval::{self, Request};
use crate::core::grant::Access;
use crate::core::identity::Identity;
use crate::server::approvals::Which;
use crate::server::http::Caller;
use crate::server::http::refusal::Refusal;
use crate::server::state::{ServedTarget, State};
use crate::sys::clock;

/// The targets that the caller may connect to, and what may be asked for there.
#[utoipa::path(get, path = "/v1/targets", tag = "targets", security(("bearer" = [])), responses(
    (status = 200, body = Targets), (status = 401, body = ApiError)))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Targets>, Refusal> {
    let identity = caller.identity();
    let asks_people = state.approvals.config().is_enabled;
    let requests = if asks_people { state.approvals.list(identity, Which::Mine).await? } else { Vec::new() };
    let summary = |served: &ServedTarget| {
        let access = served.access_offered(identity);
        let asked_for = if asks_people { served.access_by_approval(identity) } else { Vec::new() };
        let by_approval: Vec<_> =
            asked_for.into_iter().map(|access| agreement(&state, served, identity, &requests, access)).collect();
        (!access.is_empty() || !by_approval.is_empty()).then(|| TargetSummary {
            name: served.name().to_owned(),
            environment: served.environment().to_owned(),
            database: served.database().to_owned(),
            access,
            by_approval,
        })
    };
    Ok(Json(Targets { targets: state.targets.values().filter_map(summary).collect() }))
}

/// How far people have agreed to this access. What is approved says more than what is in use, and that
/// more than what waits.
fn agreement(
    state: &State,
    served: &ServedTarget,
    identity: &Identity,
    requests: &[Request],
    access: Access,
) -> ByApproval {
    let (now, policy) = (clock::now(), served.policy());
    let open = |wanted: approval::State| {
        requests.iter().find(|request| {
            let binding = &request.binding;
            let is_it = binding.window().is_some() && binding.target == served.name() && binding.access == access;
            // Under another policy it is void.
            is_it && request.state == wanted && request.expires > now && binding.policy == policy.digest()
        })
    };
    let asked = |agreement: Agreement, request: &Request| ByApproval {
        access,
        state: agreement,
        request: Some(request.id.as_str().to_owned()),
        until: Some(request.expires.rfc3339()),
    };
    if let Some(approved) = open(approval::State::Approved) {
        return asked(Agreement::Approved, approved);
    }
    let principal = identity.principal();
    let granted = state.grants.of_target(served.name()).into_iter().find(|live| {
        live.is_of(&principal) && live.grant.access == access && live.came_by_approval() && live.grant.expires > now
    });
    match (granted, open(approval::State::Pending)) {
        (Some(live), _) => {
            ByApproval { access, state: Agreement::Granted, request: None, until: Some(live.grant.expires.rfc3339()) }
        }
        (None, Some(pending)) => asked(Agreement::Pending, pending),
        (None, None) => ByApproval { access, state: Agreement::NotAsked, request: None, until: None },
    }
}
