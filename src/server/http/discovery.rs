//! `GET /v1/discovery`: all that a client must know before it can sign in.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;

use crate::core::api::{ApiError, Discovery, ErrorCode};
use crate::server::http::refusal::Refusal;
use crate::server::state::State;

/// What a client must know before it can sign in. Public.
#[utoipa::path(get, path = "/v1/discovery", tag = "sign-in", responses(
    (status = 200, body = Discovery), (status = 404, body = ApiError)))]
pub async fn read(Shared(state): Shared<Arc<State>>) -> Result<Json<Discovery>, Refusal> {
    let Some(section) = state.config.sign_in() else {
        return Err(Refusal::new(ErrorCode::NotFound, "people cannot sign in here: only workloads are configured"));
    };
    Ok(Json(Discovery {
        version: 1,
        issuer: section.rule.issuer.clone(),
        client_id: section.rule.client_id.clone(),
        scopes: section.scopes.clone(),
        gateway: state.gateway.clone(),
        origin: state.log.origin().to_owned(),
        log_key: state.log.verifier_key(),
    }))
}
