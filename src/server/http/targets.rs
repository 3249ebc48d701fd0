//! `GET /v1/targets`: what the caller may at least connect to.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::{Extension, Json};

use crate::core::api::{ApiError, TargetSummary, Targets};
use crate::server::http::Caller;
use crate::server::state::State;

/// The targets that the caller may connect to, and what may be asked for there.
#[utoipa::path(get, path = "/v1/targets", tag = "targets", security(("bearer" = [])), responses(
    (status = 200, body = Targets), (status = 401, body = ApiError)))]
pub async fn list(Shared(state): Shared<Arc<State>>, Extension(caller): Extension<Caller>) -> Json<Targets> {
    let targets = state
        .targets
        .values()
        .filter_map(|served| {
            let access = served.access_offered(caller.identity());
            (!access.is_empty()).then(|| TargetSummary {
                name: served.name().to_owned(),
                environment: served.environment().to_owned(),
                database: served.database().to_owned(),
                access,
            })
        })
        .collect();
    Json(Targets { targets })
}
