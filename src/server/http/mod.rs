//! The broker's API over HTTP: one resource a file, one table of routes.
//!
//! [`ROUTES`] is the truth: the router is made from it, who may call is a column of it, and a
//! test holds the published OpenAPI document to it.

pub mod bearer;
mod challenges;
mod discovery;
mod grants;
mod health;
pub mod listen;
mod openapi;
pub mod refusal;
mod requests;
mod sessions;
mod targets;
mod undo;
mod whoami;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use serde::de::DeserializeOwned;

use crate::core::api::ErrorCode;
use crate::server::state::State;
use crate::server::web;
use bearer::Caller;
use refusal::Refusal;

/// Longest body.
const LONGEST_BODY: usize = 4 * 1024 * 1024;

/// Longest account of a session: some eighty thousand statements.
const LONGEST_ACCOUNT: usize = 64 * 1024 * 1024;

/// Longest time one request may take. The slowest waits for people to decide, up to 45 s.
const LONGEST_REQUEST: Duration = Duration::from_secs(55);

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody who can reach the listener.
    Anyone,
    /// Callers with a good bearer token.
    SignedIn,
}

/// One line of the table.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
    handler: fn() -> MethodRouter<Arc<State>>,
}

/// Every route there is.
pub const ROUTES: [Route; 19] = [
    route("get", "/v1/discovery", Who::Anyone, || get(discovery::read)),
    route("get", "/v1/targets", Who::SignedIn, || get(targets::list)),
    route("get", "/v1/whoami", Who::SignedIn, || get(whoami::read)),
    route("post", "/v1/challenges", Who::SignedIn, || post(challenges::make)),
    route("post", "/v1/grants", Who::SignedIn, || post(grants::make)),
    route("delete", "/v1/grants/{id}", Who::SignedIn, || delete(grants::end)),
    route("post", "/v1/sessions/{id}/transcript", Who::SignedIn, || {
        post(sessions::upload).layer(DefaultBodyLimit::max(LONGEST_ACCOUNT))
    }),
    route("get", "/v1/sessions/{id}/evidence", Who::SignedIn, || get(sessions::evidence)),
    route("get", "/v1/sessions/{id}/undo", Who::SignedIn, || get(undo::read)),
    route("get", "/v1/requests", Who::SignedIn, || get(requests::list)),
    route("post", "/v1/requests", Who::SignedIn, || post(requests::create)),
    route("get", "/v1/requests/{id}", Who::SignedIn, || get(requests::read)),
    route("post", "/v1/requests/{id}/approve", Who::SignedIn, || post(requests::approve)),
    route("post", "/v1/requests/{id}/reject", Who::SignedIn, || post(requests::reject)),
    route("post", "/v1/requests/{id}/question", Who::SignedIn, || post(requests::question)),
    route("post", "/v1/requests/{id}/withdraw", Who::SignedIn, || post(requests::withdraw)),
    route("get", "/healthz", Who::Anyone, || get(health::alive)),
    route("get", "/readyz", Who::Anyone, || get(health::ready)),
    route("get", "/openapi.json", Who::Anyone, || get(openapi::document)),
];

const fn route(method: &'static str, path: &'static str, who: Who, handler: fn() -> MethodRouter<Arc<State>>) -> Route {
    Route { method, path, who, handler }
}

/// The whole API.
pub fn router(state: Arc<State>) -> Router {
    let mut router = Router::new();
    for Route { path, who, handler, .. } in &ROUTES {
        let handler = match who {
            Who::Anyone => handler(),
            Who::SignedIn => handler().route_layer(middleware::from_fn_with_state(state.clone(), bearer::require)),
        };
        router = router.route(path, handler);
    }
    router
        .merge(web::router())
        .fallback(|| async { Refusal::new(ErrorCode::NotFound, "no such path").hint("See /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Refusal::bad_request("this path does not take this method").status(StatusCode::METHOD_NOT_ALLOWED)
        })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn(deadline))
        .layer(middleware::from_fn(headers))
        .layer(tower_http::trace::TraceLayer::new_for_http())
        .with_state(state)
}

/// Ends a request that takes too long.
async fn deadline(request: Request, next: Next) -> Result<Response, Refusal> {
    tokio::time::timeout(LONGEST_REQUEST, next.run(request))
        .await
        .map_err(|_| Refusal::new(ErrorCode::Internal, "the request took too long").status(StatusCode::GATEWAY_TIMEOUT))
}

/// Answers hold credentials: nothing on the way may keep them, no browser may guess their kind.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A JSON body, or a refusal that says what is wrong with it.
fn read_json<T: DeserializeOwned>(
    body: Result<axum::body::Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<T, Refusal> {
    let body = body.map_err(|rejection| Refusal::bad_request(rejection.body_text()).status(rejection.status()))?;
    serde_json::from_slice(&body).map_err(|error| Refusal::bad_request(format!("the body is not as expected: {error}")))
}

#[cfg(test)]
mod tests;
