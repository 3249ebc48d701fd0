//! Forms: a reviewer's yes, no, or question.
//!
//! The issuer is asked again who the visitor is, at the moment of the click.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use openidconnect::url::form_urlencoded;

use super::frame::{self, Part};
use super::pages::{is_own_origin, one, visible, visitor};
use super::sign_in::{asked_again, cookie_name};
use super::visitor::cookie;
use crate::core::approval::{Decider, Refused, Request};
use crate::server::approvals::ApprovalError;
use crate::server::state::State;

/// What a reviewer does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Approve,
    Reject,
    Question,
}

/// `POST /r/ID/approve`
pub async fn approve(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Bytes) -> Response {
    act(state, headers, id, body, Verb::Approve).await
}

/// `POST /r/ID/reject`
pub async fn reject(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Bytes) -> Response {
    act(state, headers, id, body, Verb::Reject).await
}

/// `POST /r/ID/question`
pub async fn question(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Bytes) -> Response {
    act(state, headers, id, body, Verb::Question).await
}

async fn act(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
    verb: Verb,
) -> Response {
    let page = format!("/r/{id}");
    let Some(known) = visitor(&state, &headers) else { return frame::sign_in(&page, None) };
    let form: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim());
    let is_from_here = is_own_origin(&state.config.server.public_url, &headers) && known.is_own_form(field("key"));
    if !is_from_here {
        let mut response = frame::not_found(Part::Requests, &known);
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    }
    let cookie = cookie(&headers, cookie_name(&state)).unwrap_or_default();
    let visitor = asked_again(&state, cookie, known.clone()).await;
    // Who has just lost the group is told so, rather than that there is nothing.
    let found = match visible(&state, &visitor, &id).await {
        None => visible(&state, &known, &id).await,
        found => found,
    };
    let Some(found) = found else { return frame::not_found(Part::Requests, &visitor) };
    let (comment, cap) = (field("comment").to_owned(), field("max_rows").to_owned());
    let is_review = field("review") == "yes";
    let shared = state.clone();
    let decider = visitor.clone();
    // In a task of its own: a browser that hangs up does not stop it between record and effect.
    let carried_out = tokio::spawn(async move {
        let decider = Decider { identity: &decider.identity, vouched: decider.vouched };
        let wanted = Wanted { verb, comment, cap, is_review };
        carry_out(&shared, &found, &decider, wanted).await.map_err(|error| (error, found))
    });
    match carried_out.await {
        // A reload shows the page again and sends nothing.
        Ok(Ok(())) => Redirect::to(&page).into_response(),
        Ok(Err((ApprovalError::Refused(Refused::Stale), _))) => {
            frame::sign_in(&page, Some("Your sign-in is older than five minutes. Sign in again to decide."))
        }
        Ok(Err((error, found))) => {
            // What stands now, not what stood when the page was opened.
            let found = state.approvals.request(&found.id).await.unwrap_or(found);
            let mut response = one(&state, &visitor, &found, Some(&error.to_string()));
            *response.status_mut() = StatusCode::CONFLICT;
            response
        }
        Err(error) => {
            tracing::error!(%error, "a decision failed");
            frame::not_found(Part::Requests, &visitor)
        }
    }
}

struct Wanted {
    verb: Verb,
    comment: String,
    cap: String,
    /// The page that was looked at asked for the review of a broken glass.
    is_review: bool,
}

async fn carry_out(state: &State, found: &Request, decider: &Decider<'_>, wanted: Wanted) -> Result<(), ApprovalError> {
    let comment = Some(wanted.comment.as_str()).filter(|text| !text.is_empty());
    match wanted.verb {
        Verb::Approve => {
            let cap = match wanted.cap.as_str() {
                "" => None,
                text => Some(text.replace([',', '_', ' '], "").parse().map_err(|_| Refused::Cap)?),
            };
            state.approvals.approve(&found.id, decider, comment, cap, Some(wanted.is_review)).await
        }
        Verb::Reject => state.approvals.reject(&found.id, decider, &wanted.comment).await,
        Verb::Question if found.binding.principal == decider.identity.principal() => {
            state.approvals.reply(&found.id, &found.binding.principal, &wanted.comment).await
        }
        Verb::Question => state.approvals.question(&found.id, decider, &wanted.comment).await,
    }
    .map(drop)
}
