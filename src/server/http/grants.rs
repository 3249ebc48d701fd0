//! `POST /v1/grants` and `DELETE /v1/grants/{id}`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::{Extension, Json};

use crate::core::api::{ApiError, GrantAnswer, GrantRequest};
use crate::core::grant::GrantId;
use crate::server::grants::{self, end, issue};
use crate::server::http::refusal::Refusal;
use crate::server::http::{Caller, read_json};
use crate::server::sessions::EndReason;
use crate::server::state::State;

/// Judges the request and hands out a credential, recorded before it is handed out.
#[utoipa::path(post, path = "/v1/grants", tag = "grants", security(("bearer" = [])), request_body = GrantRequest,
    responses((status = 200, body = GrantAnswer), (status = 400, body = ApiError), (status = 401, body = ApiError),
    (status = 403, body = ApiError), (status = 404, body = ApiError), (status = 429, body = ApiError),
    (status = 502, body = ApiError), (status = 503, body = ApiError)))]
pub async fn make(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<GrantAnswer>, Refusal> {
    let request: GrantRequest = read_json(body)?;
    let identity = caller.identity().clone();
    // In a task of its own: a caller that hangs up does not stop it between record and register.
    let made = tokio::spawn(async move { issue::issue(&state, identity, request).await });
    made.await.map_err(|error| Refusal::internal(&error))?.map(Json)
}

/// Ends a grant of the caller's: when this answers, its roles and backends are gone from the target.
#[utoipa::path(delete, path = "/v1/grants/{id}", tag = "grants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The grant's id")),
    responses((status = 204), (status = 401, body = ApiError), (status = 404, body = ApiError),
    (status = 502, body = ApiError)))]
pub async fn end(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let id = GrantId::parse(&id).ok_or_else(|| Refusal::not_found("grant"))?;
    let (_, owner) = state.store.grant(&id).await?.ok_or_else(|| Refusal::not_found("grant"))?;
    if owner != grants::principal(caller.identity()) {
        return Err(Refusal::not_found("grant"));
    }
    let ended = tokio::spawn(async move { end::end(&state, &id, EndReason::Revoked).await });
    ended.await.map_err(|error| Refusal::internal(&error))??;
    Ok(StatusCode::NO_CONTENT)
}
