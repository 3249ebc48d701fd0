//! `/v1/requests`: what waits for people, and what people say to it.
//!
//! Requests are made by the gateway, for only there is known what a statement means and did.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Query, State as Shared};
use axum::{Extension, Json};
use serde::Deserialize;

use crate::core::api::request::{Approve, RequestView, Requests, Say};
use crate::core::api::{ApiError, GrantRequest};
use crate::core::approval::{Decider, Request, RequestId};
use crate::server::approvals::Which;
use crate::server::grants::ahead;
use crate::server::http::refusal::Refusal;
use crate::server::http::{Caller, read_json};
use crate::server::state::State;

/// Longest wait of one call: shorter than what proxies and clients take for a dead connection.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// `?mine`, `?reviewable`; both are flags, whatever their value.
#[derive(Debug, Default, Deserialize)]
pub struct Choice {
    mine: Option<String>,
    reviewable: Option<String>,
}

/// `?wait=45s`
#[derive(Debug, Default, Deserialize)]
pub struct Patience {
    wait: Option<String>,
}

/// Requests that the caller made or may decide; `?mine` or `?reviewable` for one of the two.
#[utoipa::path(get, path = "/v1/requests", tag = "requests", security(("bearer" = [])),
    params(("mine" = Option<String>, Query, description = "Only the caller's own"),
    ("reviewable" = Option<String>, Query, description = "Only those that the caller may decide now")),
    responses((status = 200, body = Requests), (status = 401, body = ApiError)))]
pub async fn list(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Query(choice): Query<Choice>,
) -> Result<Json<Requests>, Refusal> {
    let which = match (choice.mine.is_some(), choice.reviewable.is_some()) {
        (true, false) => Which::Mine,
        (false, true) => Which::Reviewable,
        (false, false) | (true, true) => Which::Visible,
    };
    let found = state.approvals.list(caller.identity(), which).await?;
    let requests = found.iter().map(|one| state.approvals.view(one, caller.identity())).collect();
    Ok(Json(Requests { requests }))
}

/// Asks people to let the caller in; the grant is asked for once they have.
#[utoipa::path(post, path = "/v1/requests", tag = "requests", security(("bearer" = [])), request_body = GrantRequest,
    responses((status = 200, body = RequestView), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 503, body = ApiError)))]
pub async fn create(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Refusal> {
    let request: GrantRequest = read_json(body)?;
    carried_out(async move {
        let asked = ahead::ask(&state, caller.identity().clone(), request).await?;
        Ok(state.approvals.view(&asked, caller.identity()))
    })
    .await
}

/// One request; `?wait=45s` answers when its state has changed, or that time is over.
#[utoipa::path(get, path = "/v1/requests/{id}", tag = "requests", security(("bearer" = [])),
    params(("id" = String, Path, description = "The request's id"),
    ("wait" = Option<String>, Query, description = "Seconds to wait for a change, as in 45s")),
    responses((status = 200, body = RequestView), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 404, body = ApiError)))]
pub async fn read(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Query(patience): Query<Patience>,
) -> Result<Json<RequestView>, Refusal> {
    let request = visible(&state, &caller, &id).await?;
    let request = match patience.wait.as_deref().map(wait).transpose()? {
        Some(longest) if request.state.is_open() => state.approvals.wait(&request.id, request.state, longest).await?,
        Some(_) | None => request,
    };
    Ok(Json(state.approvals.view(&request, caller.identity())))
}

/// The caller lets it happen, once, up to the cap. The issuer must have vouched for the caller's groups
/// within the last five minutes.
#[utoipa::path(post, path = "/v1/requests/{id}/approve", tag = "requests", security(("bearer" = [])),
    params(("id" = String, Path, description = "The request's id")), request_body = Approve,
    responses((status = 200, body = RequestView), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 503, body = ApiError)))]
pub async fn approve(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Refusal> {
    let Approve { comment, max_rows, review } = read_json(body)?;
    let id = visible(&state, &caller, &id).await?.id;
    carried_out(async move {
        let next = state.approvals.approve(&id, &decider(&caller), comment.as_deref(), max_rows, review).await?;
        Ok(state.approvals.view(&next, caller.identity()))
    })
    .await
}

/// The caller says no, and why.
#[utoipa::path(post, path = "/v1/requests/{id}/reject", tag = "requests", security(("bearer" = [])),
    params(("id" = String, Path, description = "The request's id")), request_body = Say,
    responses((status = 200, body = RequestView), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 503, body = ApiError)))]
pub async fn reject(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Refusal> {
    let Say { comment } = read_json(body)?;
    let id = visible(&state, &caller, &id).await?.id;
    carried_out(async move {
        let next = state.approvals.reject(&id, &decider(&caller), &comment).await?;
        Ok(state.approvals.view(&next, caller.identity()))
    })
    .await
}

/// A reviewer asks something back, or the requester answers; the request stays as it is.
#[utoipa::path(post, path = "/v1/requests/{id}/question", tag = "requests", security(("bearer" = [])),
    params(("id" = String, Path, description = "The request's id")), request_body = Say,
    responses((status = 200, body = RequestView), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 503, body = ApiError)))]
pub async fn question(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RequestView>, Refusal> {
    let Say { comment } = read_json(body)?;
    let request = visible(&state, &caller, &id).await?;
    carried_out(async move {
        let principal = caller.identity().principal();
        let next = match request.binding.principal == principal {
            true => state.approvals.reply(&request.id, &principal, &comment).await?,
            false => state.approvals.question(&request.id, &decider(&caller), &comment).await?,
        };
        Ok(state.approvals.view(&next, caller.identity()))
    })
    .await
}

/// The requester takes it back.
#[utoipa::path(post, path = "/v1/requests/{id}/withdraw", tag = "requests", security(("bearer" = [])),
    params(("id" = String, Path, description = "The request's id")),
    responses((status = 200, body = RequestView), (status = 401, body = ApiError), (status = 403, body = ApiError),
    (status = 404, body = ApiError), (status = 409, body = ApiError), (status = 503, body = ApiError)))]
pub async fn withdraw(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<RequestView>, Refusal> {
    let id = visible(&state, &caller, &id).await?.id;
    carried_out(async move {
        let next = state.approvals.withdraw(&id, &caller.identity().principal()).await?;
        Ok(state.approvals.view(&next, caller.identity()))
    })
    .await
}

/// In a task of its own: a caller that hangs up does not stop it between record and effect.
async fn carried_out(
    step: impl Future<Output = Result<RequestView, Refusal>> + Send + 'static,
) -> Result<Json<RequestView>, Refusal> {
    tokio::spawn(step).await.map_err(|error| Refusal::internal(&error))?.map(Json)
}

fn decider(caller: &Caller) -> Decider<'_> {
    Decider { identity: caller.identity(), vouched: caller.vouched() }
}

/// A request that the caller may see; any other is not found.
async fn visible(state: &State, caller: &Caller, id: &str) -> Result<Request, Refusal> {
    let missing = || Refusal::not_found("request");
    let id = RequestId::parse(id).ok_or_else(missing)?;
    let request = state.approvals.request(&id).await?;
    if state.approvals.is_visible(&request, caller.identity()) { Ok(request) } else { Err(missing()) }
}

fn wait(text: &str) -> Result<Duration, Refusal> {
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<u64>();
    let seconds = seconds.map_err(|_| Refusal::bad_request("`wait` is a number of seconds, as in 45s"))?;
    Ok(Duration::from_secs(seconds).min(LONGEST_WAIT))
}
