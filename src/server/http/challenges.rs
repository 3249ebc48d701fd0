//! `POST /v1/challenges`: a nonce that the next grant request signs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::{Extension, Json};

use crate::core::api::{ApiError, Challenge, ErrorCode};
use crate::core::encoding;
use crate::server::grants;
use crate::server::http::Caller;
use crate::server::http::refusal::Refusal;
use crate::server::state::State;
use crate::sys::{clock, random};

/// How long a nonce may be used.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Makes a nonce for the caller: good once, for five minutes.
#[utoipa::path(post, path = "/v1/challenges", tag = "grants", security(("bearer" = [])), responses(
    (status = 200, body = Challenge), (status = 401, body = ApiError), (status = 429, body = ApiError)))]
pub async fn make(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Challenge>, Refusal> {
    let nonce = encoding::base64url(&random::bytes::<24>());
    let now = clock::now();
    let principal = grants::principal(caller.identity());
    if !state.store.add_challenge(&nonce, &principal, now, now.after(LIFETIME)).await? {
        return Err(Refusal::new(ErrorCode::Busy, "too many unused challenges; use one or wait five minutes"));
    }
    Ok(Json(Challenge { nonce }))
}
