//! The desk of the reviewers: a few pages, rendered here, that need no script.
//!
//! What must stay true: nothing on a page is markup unless it was written here; a page that
//! changes something asks for a token that only this session's own pages hold; nothing is loaded
//! from anywhere else.

mod coming;
mod decide;
mod frame;
mod live;
mod pages;
mod request;
mod session;
pub mod sign_in;
mod sql;
mod visitor;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use sha2::{Digest as _, Sha256};

use crate::core::encoding;
use crate::server::state::State;

/// Light and dark, phone and desktop.
const STYLE: &str = include_str!("style.css");
/// Shows what has changed without a reload; everything works without it.
const SCRIPT: &str = include_str!("live.js");

/// Only what is in the page itself, known by its hash.
static CONTENT_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", encoding::base64(&Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; form-action 'self'; \
         frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("a policy of printable letters")
});

/// Every page.
pub fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/requests") }))
        .route("/requests", get(pages::requests))
        .route("/requests/events", get(live::all))
        .route("/r/{id}", get(pages::request))
        .route("/r/{id}/events", get(live::one))
        .route("/r/{id}/approve", post(decide::approve))
        .route("/r/{id}/reject", post(decide::reject))
        .route("/r/{id}/question", post(decide::question))
        .route("/sessions", get(pages::sessions))
        .route("/sessions/{id}", get(pages::session))
        .route("/auth/start", get(sign_in::start))
        .route("/auth/callback", get(sign_in::callback))
        .route("/auth/end", post(sign_in::end))
        .layer(middleware::from_fn(headers))
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, CONTENT_POLICY.clone());
    // The address of a page names a request: no business of the next site.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}
