//! Server-sent events: that something has changed, never what. The page is then read again, with
//! the rights that its visitor has by then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;

use super::pages::{reader, visible};
use crate::server::state::State;

/// Between signs of life.
const ALIVE: Duration = Duration::from_secs(15);

/// `/requests/events`
pub async fn all(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    match reader(&state, &headers).await {
        Some(_) => steps(state),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}

/// `/r/ID/events`
pub async fn one(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let Some(visitor) = reader(&state, &headers).await else { return StatusCode::UNAUTHORIZED.into_response() };
    match visible(&state, &visitor, &id).await {
        Some(_) => steps(state),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn steps(state: Arc<State>) -> Response {
    let steps = state.approvals.steps();
    let events = stream::unfold((steps, state), |(mut steps, state)| async move {
        steps.changed().await.ok()?;
        // A page that listens must not keep the process from ending.
        if state.approvals.is_closing() {
            return None;
        }
        let count = *steps.borrow_and_update();
        Some((Ok::<_, Infallible>(Event::default().event("step").data(count.to_string())), (steps, state)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
}
