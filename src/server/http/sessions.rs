//! `POST /v1/sessions/{id}/transcript` and `GET /v1/sessions/{id}/evidence`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Path, Request, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use tokio::sync::Semaphore;

use crate::core::api::{ApiError, TranscriptReceipt, TranscriptUpload};
use crate::core::grant::{Grant, SessionId};
use crate::server::grants;
use crate::server::http::refusal::Refusal;
use crate::server::http::{Caller, read_json};
use crate::server::state::State;

/// Accounts that are taken in at once.
static UPLOADS: Semaphore = Semaphore::const_new(16);

/// Takes in the client's own record of a session and countersigns it.
#[utoipa::path(post, path = "/v1/sessions/{id}/transcript", tag = "sessions", security(("bearer" = [])),
    params(("id" = String, Path, description = "The session's id")), request_body = TranscriptUpload,
    responses((status = 200, body = TranscriptReceipt), (status = 400, body = ApiError),
    (status = 401, body = ApiError), (status = 404, body = ApiError), (status = 409, body = ApiError),
    (status = 503, body = ApiError)))]
pub async fn upload(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<TranscriptReceipt>, Refusal> {
    let grant = own_session(&state, &caller, &id).await?;
    // An account is large: it is read when it is known whose it is, and few are at once.
    let _turn = UPLOADS.acquire().await.map_err(|error| Refusal::internal(&error))?;
    let upload: TranscriptUpload = read_json(Bytes::from_request(request, &()).await)?;
    let accepted = tokio::spawn(async move { state.transcripts.accept(&grant, &upload).await });
    Ok(Json(accepted.await.map_err(|error| Refusal::internal(&error))??))
}

/// The evidence container of a session: what `dbgate audit verify` reads.
#[utoipa::path(get, path = "/v1/sessions/{id}/evidence", tag = "sessions", security(("bearer" = [])),
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, body = String), (status = 401, body = ApiError), (status = 404, body = ApiError)))]
pub async fn evidence(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let grant = own_session(&state, &caller, &id).await?;
    let container = state.transcripts.evidence(&grant).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], container).into_response())
}

/// The grant of a session of the caller's; anybody else's is not found.
async fn own_session(state: &State, caller: &Caller, id: &str) -> Result<Grant, Refusal> {
    let missing = || Refusal::not_found("session");
    let session = SessionId::parse(id).ok_or_else(missing)?;
    let (grant, owner) = state.store.grant_of_session(&session).await?.ok_or_else(missing)?;
    if owner == grants::principal(caller.identity()) { Ok(grant) } else { Err(missing()) }
}
