//! `GET /v1/whoami`: whom the broker takes the caller for.

use axum::{Extension, Json};

use crate::core::api::{ApiError, WhoAmI};
use crate::server::http::Caller;

/// Whom the broker takes the caller for.
#[utoipa::path(get, path = "/v1/whoami", tag = "sign-in", security(("bearer" = [])), responses(
    (status = 200, body = WhoAmI), (status = 401, body = ApiError)))]
pub async fn read(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    let identity = caller.identity();
    Json(WhoAmI {
        subject: identity.subject.clone(),
        issuer: identity.issuer.clone(),
        kind: identity.kind.word().to_owned(),
        groups: identity.groups.clone(),
        expires_at: identity.expires.rfc3339(),
    })
}
