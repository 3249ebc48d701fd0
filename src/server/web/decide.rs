//! Forms: a reviewer's yes, no, or question.
//!
//! The issuer is asked again who the visitor is, at the moment of the click.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use openidconnect::url::form_urlencoded;

use super::frame::{self, Part};
use super::pages::{is_own_origin, one, visible, visitor};
use super::request::Form;
use super::sign_in::{asked_again, cookie_name};
use super::visitor::{Visitor, cookie};
use crate::core::approval::{Decider, Refused, Request};
use crate::server::approvals::ApprovalError;
use crate::server::state::State;
use crate::sys::clock;

/// The largest form: a comment and a few short fields.
const LONGEST_FORM: usize = 16 * 1024;
/// Of a form whose key another sign-in has.
const OLD_PAGE: &str = "That page was from an earlier sign-in, so nothing was done. Look again, and decide here.";

/// What a reviewer does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Approve,
    Reject,
    Question,
}

/// `POST /r/ID/approve`
pub async fn approve(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Body) -> Response {
    act(state, headers, id, body, Verb::Approve).await
}

/// `POST /r/ID/reject`
pub async fn reject(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Body) -> Response {
    act(state, headers, id, body, Verb::Reject).await
}

/// `POST /r/ID/question`
pub async fn question(state: Shared<Arc<State>>, headers: HeaderMap, id: Path<String>, body: Body) -> Response {
    act(state, headers, id, body, Verb::Question).await
}

async fn act(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Body,
    verb: Verb,
) -> Response {
    let page = format!("/r/{id}");
    let Some(known) = visitor(&state, &headers) else { return frame::sign_in(&page, None) };
    if !is_own_origin(&state.config.server.public_url, &headers) {
        return with_status(frame::not_found(Part::Requests, &known), StatusCode::FORBIDDEN);
    }
    let Ok(body) = to_bytes(body, LONGEST_FORM).await else {
        return with_status(frame::not_found(Part::Requests, &known), StatusCode::PAYLOAD_TOO_LARGE);
    };
    let fields: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.trim());
    let (comment, max_rows) = (field("comment").to_owned(), field("max_rows").to_owned());
    let again = |problem: String| Form { problem: Some(problem), comment: comment.clone(), max_rows: max_rows.clone() };
    if !known.is_own_form(field("key")) {
        if !known.may_read(clock::now()) {
            return frame::sign_in(&page, Some(OLD_PAGE));
        }
        let response = match visible(&state, &known, &id).await {
            Some(found) => one(&state, &known, &found, &again(OLD_PAGE.to_owned())),
            None => frame::not_found(Part::Requests, &known),
        };
        return with_status(response, StatusCode::FORBIDDEN);
    }
    let cookie = cookie(&headers, cookie_name(&state)).unwrap_or_default();
    let (visitor, refused) = asked_again(&state, cookie, known.clone()).await;
    let too_old = || {
        let why = refused.clone().unwrap_or_else(|| "Your sign-in is older than five minutes".to_owned());
        frame::sign_in(&page, Some(&format!("{why}. Nothing was decided. Sign in again to decide.")))
    };
    if !visitor.may_read(clock::now()) {
        return too_old();
    }
    // Who has just lost the group is told so, rather than that there is nothing.
    let found = match visible(&state, &visitor, &id).await {
        None => visible(&state, &known, &id).await,
        found => found,
    };
    let Some(found) = found else { return frame::not_found(Part::Requests, &visitor) };
    let is_review = field("review") == "yes";
    let wanted = Wanted { verb, comment: comment.clone(), cap: max_rows.clone(), is_review };
    match carried_out(&state, &visitor, found.clone(), wanted).await {
        // A reload shows the page again and sends nothing.
        Ok(()) => Redirect::to(&page).into_response(),
        Err(ApprovalError::Refused(Refused::Stale)) => too_old(),
        Err(error) => {
            // What stands now, not what stood when the page was opened.
            let found = state.approvals.request(&found.id).await.unwrap_or(found);
            with_status(one(&state, &visitor, &found, &again(error.to_string())), StatusCode::CONFLICT)
        }
    }
}

fn with_status(mut response: Response, status: StatusCode) -> Response {
    *response.status_mut() = status;
    response
}

/// In a task of its own: a browser that hangs up does not stop it between record and effect.
async fn carried_out(
    state: &Arc<State>,
    visitor: &Arc<Visitor>,
    found: Request,
    wanted: Wanted,
) -> Result<(), ApprovalError> {
    let (state, visitor) = (state.clone(), visitor.clone());
    let carried_out = tokio::spawn(async move {
        let decider = Decider { identity: &visitor.identity, vouched: visitor.vouched };
        carry_out(&state, &found, &decider, wanted).await
    });
    carried_out.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a decision failed");
        Err(ApprovalError::Missing)
    })
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
