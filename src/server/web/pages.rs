//! The pages themselves: who asks, what they may see, and how it is shown.

use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use openidconnect::url::Url;

use super::frame::{self, Part};
use super::request::Form;
use super::visitor::{Visitor, cookie};
use super::{request, session, sign_in};
use crate::core::approval::{Request, RequestId};
use crate::core::grant::SessionId;
use crate::server::approvals::Which;
use crate::server::state::State;
use crate::sys::clock;

/// `/requests`
pub async fn requests(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let Some(visitor) = reader(&state, &headers).await else { return frame::sign_in("/requests", None) };
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
    let Some(visitor) = reader(&state, &headers).await else { return frame::sign_in(&format!("/r/{id}"), None) };
    match visible(&state, &visitor, &id).await {
        Some(found) => one(&state, &visitor, &found, &Form::default()),
        None => frame::not_found(Part::Requests, &visitor),
    }
}

/// A request's page, its form as it was sent where something went wrong with it.
pub fn one(state: &State, visitor: &Visitor, found: &Request, form: &Form) -> Response {
    let view = request::shown(state.approvals.view(found, &visitor.identity));
    let body = request::detail(&view, visitor, form, clock::now());
    let title = format!("{} · {}", view.request_id, view.state);
    frame::page(&title, Part::Requests, visitor, Some(&format!("/r/{}/events", view.request_id)), &body)
}

/// `/sessions`
pub async fn sessions(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let Some(visitor) = reader(&state, &headers).await else { return frame::sign_in("/sessions", None) };
    let body = session::list(&session::open(&state, &visitor.identity), clock::now());
    frame::page("Sessions", Part::Sessions, &visitor, None, &body)
}

/// `/sessions/ID`
pub async fn session(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    let Some(visitor) = reader(&state, &headers).await else { return frame::sign_in(&format!("/sessions/{id}"), None) };
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

/// The same, where the issuer has vouched for them lately: else it is asked again.
pub async fn reader(state: &Arc<State>, headers: &HeaderMap) -> Option<Arc<Visitor>> {
    let known = visitor(state, headers)?;
    if known.may_read(clock::now()) {
        return Some(known);
    }
    let id = cookie(headers, sign_in::cookie_name(state))?;
    let (asked, _) = sign_in::asked_again(state, id, known).await;
    Some(asked).filter(|visitor| visitor.may_read(clock::now()))
}

/// A browser says which page a form was sent from; one that says another than one at `public_url` is not ours.
/// It writes its own way what the configuration may write another: `https://Gate.example.com:443`.
pub fn is_own_origin(public_url: &str, headers: &HeaderMap) -> bool {
    let origin = |text: &str| Url::parse(text).ok().map(|url| url.origin()).filter(|origin| origin.is_tuple());
    headers.get(header::ORIGIN).is_none_or(|from| {
        let from = from.to_str().ok().and_then(origin);
        from.is_some() && from == origin(public_url)
    })
}

/// A request that the visitor may see.
pub async fn visible(state: &State, visitor: &Visitor, id: &str) -> Option<Request> {
    let found = state.approvals.request(&RequestId::parse(id)?).await.ok()?;
    state.approvals.is_visible(&found, &visitor.identity).then_some(found)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_form_comes_from_a_page_of_this_desk_however_its_address_is_written() {
        let is_own = |public_url: &str, from: &'static str| {
            is_own_origin(public_url, &HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(from))]))
        };
        for public_url in ["https://gate.example.com", "https://Gate.Example.com", "https://gate.example.com:443"] {
            assert!(is_own(public_url, "https://gate.example.com"), "{public_url}");
            let others =
                ["http://gate.example.com", "https://gate.example.com:8443", "https://example.com", "null", ""];
            for other in others {
                assert!(!is_own(public_url, other), "{public_url}: {other}");
            }
        }
        assert!(is_own("http://127.0.0.1:8080", "http://127.0.0.1:8080"));
        assert!(is_own_origin("https://gate.example.com", &HeaderMap::new()), "not every client says so");
    }
}
