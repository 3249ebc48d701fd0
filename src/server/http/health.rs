//! `GET /healthz` and `GET /readyz`: for those who watch and those who balance.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;

use crate::server::state::State;

/// The process runs and answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// The process can hand out grants: its store answers, its log takes records, it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = String), (status = 503, body = String)))]
pub async fn ready(Shared(state): Shared<Arc<State>>) -> (StatusCode, &'static str) {
    if state.is_stopping() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    if state.store.ping().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n");
    }
    if !state.log.is_accepting() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the audit log is not accepting records\n");
    }
    (StatusCode::OK, "ready\n")
}
