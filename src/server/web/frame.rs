//! What every page has: head, navigation, who is signed in.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::visitor::Visitor;
use super::{SCRIPT, STYLE};

/// Which part of the desk a page belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Requests,
    Sessions,
}

/// A page for somebody who is signed in. `events` is where the script listens for changes.
pub fn page(title: &str, part: Part, visitor: &Visitor, events: Option<&str>, body: &Markup) -> Response {
    let tab = |name: &str, path: &str, own: Part| {
        html! { a href=(path) aria-current=[(part == own).then_some("page")] { (name) } }
    };
    whole(
        title,
        &html! {
            a.skip href="#main" { "Skip to content" }
            header.top {
                div {
                    (brand())
                    nav aria-label="Desk" {
                        (tab("Requests", "/requests", Part::Requests))
                        (tab("Sessions", "/sessions", Part::Sessions))
                    }
                    form.me method="post" action="/auth/end" {
                        span title=(visitor.identity.groups.join(", ")) { (visitor.identity.subject) }
                        button.link { "Sign out" }
                    }
                }
            }
            main #main data-events=[events] { (body) }
        },
    )
    .into_response()
}

/// A page for somebody who is not signed in yet, with the way back to where they wanted to go.
pub fn sign_in(to: &str, why: Option<&str>) -> Response {
    let body = html! {
        main #main {
            div.card.sign {
                (brand())
                h1 { "Sign in to decide" }
                p.small { "Requests that wait for approval, and the sessions they came from." }
                @if let Some(why) = why { p.alert role="alert" { (why) } }
                a.button.primary href={ "/auth/start?to=" (to) } { "Sign in" }
            }
        }
    };
    (StatusCode::UNAUTHORIZED, whole("Sign in", &body)).into_response()
}

/// A sign-in that came to nothing.
pub fn sign_in_failed(why: &str) -> Response {
    let mut response = sign_in("/requests", Some(why));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

/// Something that is not there, or not for this visitor: one page for both.
pub fn not_found(part: Part, visitor: &Visitor) -> Response {
    let body = html! {
        div.empty { h1 { "Nothing here" } p { "It does not exist, or it is not yours to see." } }
    };
    let mut response = page("Not found", part, visitor, None, &body);
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

fn brand() -> Markup {
    html! {
        a.brand href="/requests" {
            svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" aria-hidden="true" {
                path d="M4 21V9a8 8 0 0 1 16 0v12" {}
                path d="M9.3 21v-9M14.7 21v-9M2 21h20" {}
            }
            "dbgate"
        }
    }
}

fn whole(title: &str, body: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · dbgate" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Html(page.into_string())
}
