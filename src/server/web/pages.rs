//! The pages themselves: who asks, what they may see, and how it is shown.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::HeaderMap;
use axum::response::Response;

use super::frame::{self, Part};
use super::visitor::{Visitor, cookie};
use super::{request, session, sign_in};
use crate::core::approval::{Request, RequestId};
use crate::core::grant::SessionId;
use crate::server::approvals::Which;
use crate::server::state::State;
use crate::sys::clock;

/// `/requests`
pub async fn requests(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let Some(visitor) = visitor(&state, &headers) else { return frame::sign_in("/requests", None) };
    let found = match state.approvals.list(&visitor.identity, Which::Visible).await {
        Ok(found) => found,
        Err(error) => return request::failed(&visitor, &error.to_string()),
    };
    let views: Vec<_> = found.iter().map(|one| request::shown(state.approvals.view(one, &visitor.identity))).collect();
    let body = request::list(&views, clock::now());
    frame::page("Requests", Part::Requests, &visitor, Some("/requests/events"), &body)
}

/// `/r/ID`
pub async fn request(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let Some(visitor) = visitor(&state, &headers) else { return frame::sign_in(&format!("/r/{id}"), None) };
    match visible(&state, &visitor, &id).await {
        Some(found) => one(&state, &visitor, &found, None),
        None => frame::not_found(Part::Requests, &visitor),
    }
}

/// A request's page, with what went wrong where something did.
pub fn one(state: &State, visitor: &Visitor, found: &Request, problem: Option<&str>) -> Response {
    let view = request::shown(state.approvals.view(found, &visitor.identity));
    let body = request::detail(&view, visitor, problem, clock::now());
    let title = format!("{} · {}", view.request_id, view.state);
    frame::page(&title, Part::Requests, visitor, Some(&format!("/r/{}/events", view.request_id)), &body)
}

/// `/sessions`
pub async fn sessions(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let Some(visitor) = visitor(&state, &headers) else { return frame::sign_in("/sessions", None) };
    let body = session::list(&session::open(&state, &visitor.identity), clock::now());
    frame::page("Sessions", Part::Sessions, &visitor, None, &body)
}

/// `/sessions/ID`
pub async fn session(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let Some(visitor) = visitor(&state, &headers) else { return frame::sign_in(&format!("/sessions/{id}"), None) };
    let found = SessionId::parse(&id).and_then(|id| session::recorded(&state, &visitor.identity, &id));
    match found {
        Some(account) => frame::page("Session", Part::Sessions, &visitor, None, &session::detail(&account)),
        None => frame::not_found(Part::Sessions, &visitor),
    }
}

/// Who is signed in, if anybody.
pub fn visitor(state: &State, headers: &HeaderMap) -> Option<Arc<Visitor>> {
    state.desk.visitors.find(cookie(headers, sign_in::cookie_name(state))?, clock::now())
}

/// A request that the visitor may see.
pub async fn visible(state: &State, visitor: &Visitor, id: &str) -> Option<Request> {
    let found = state.approvals.request(&RequestId::parse(id)?).await.ok()?;
    state.approvals.is_visible(&found, &visitor.identity).then_some(found)
}
