//! The demo's own OIDC issuer: real protocol, make-believe people.
//!
//! Anyone who can open its page may be anyone. So it listens on 127.0.0.1 only, answers only
//! requests that come from this machine and name it as host (a web page cannot rebind a name to
//! it), makes its key at start and forgets everything at the end.

mod desk;
mod page;
mod signer;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use openidconnect::url::form_urlencoded;
use serde_json::{Value, json};

use crate::demo::issuer::desk::{Answer, Desk, Refusal};
use crate::sys::clock;

/// The one client that may sign in here.
pub const CLIENT_ID: &str = "dbgate-cli";
/// What a client asks for to get names, groups and renewal.
pub const SCOPES: [&str; 4] = ["openid", "email", "groups", "offline_access"];
/// No form of ours is longer.
const LONGEST_FORM: usize = 16 * 1024;

/// A make-believe person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoUser {
    /// The short name on the page, and `sub`.
    pub login: String,
    pub name: String,
    pub email: String,
    pub groups: Vec<String>,
}

impl DemoUser {
    pub fn new(login: &str, name: &str, email: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { login: login.to_owned(), name: name.to_owned(), email: email.to_owned(), groups }
    }
}

/// The running issuer.
pub struct Issuer {
    url: String,
    shared: Arc<Shared>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

struct Shared {
    url: String,
    /// `host:port` as requests must name it.
    hosts: [String; 2],
    desk: Mutex<Desk>,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuer {
    /// Starts on a free port of 127.0.0.1. Clients are told to ask every `interval` (whole seconds).
    pub async fn start(users: &[DemoUser], interval: Duration) -> anyhow::Result<Self> {
        let wanted = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let listener = tokio::net::TcpListener::bind(wanted).await.context("the demo issuer finds no free port")?;
        let address = listener.local_addr()?;
        anyhow::ensure!(address.ip().is_loopback(), "the demo issuer serves this machine only");
        let url = format!("http://127.0.0.1:{}", address.port());
        let shared = Arc::new(Shared {
            url: url.clone(),
            hosts: [format!("127.0.0.1:{}", address.port()), format!("localhost:{}", address.port())],
            desk: Mutex::new(Desk::new(&url, users, interval)),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let service = router(shared.clone()).into_make_service_with_connect_info::<SocketAddr>();
        let server = axum::serve(listener, service).with_graceful_shutdown(async {
            // Dropped without a word counts as stopped too.
            let _ = stopped.await;
        });
        let task = tokio::spawn(server.into_future());
        Ok(Self { url, shared, stop, task })
    }

    /// The issuer's address and name: `iss` of its tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers a sign-in as the page would, for the walk-through on screen.
    pub fn approve(&self, user_code: &str, login: &str) -> anyhow::Result<()> {
        let answered = self.shared.desk().answer(user_code, Answer::Approve(login), clock::now());
        anyhow::ensure!(answered, "no sign-in waits with the code {user_code}, or there is no {login}");
        Ok(())
    }

    /// Puts somebody into other groups: what tokens say from now on.
    pub fn set_groups(&self, login: &str, groups: &[&str]) {
        self.shared.desk().set_groups(login, groups);
    }

    /// Signs with a new key from now on; tokens of the old one stay valid, as in a planned rotation.
    pub fn rotate_key(&self) {
        self.shared.desk().rotate_key();
    }

    /// Stops answering. Open connections are finished first, but not waited for long.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let abort = self.task.abort_handle();
        if tokio::time::timeout(Duration::from_millis(200), self.task).await.is_err() {
            // A client keeps its connection open: there is nothing to finish.
            abort.abort();
        }
    }

    #[cfg(test)]
    pub(crate) fn expire_codes(&self) {
        self.shared.desk().expire_codes();
    }

    /// An ID token as this issuer would sign it, with members changed: for tests of the verifier.
    #[cfg(test)]
    pub(crate) fn token_with(&self, changes: &Value) -> String {
        self.shared.desk().token_with(changes)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/jwks", get(keys))
        .route("/device_authorization", post(device_authorization))
        .route("/authorize", get(authorize))
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route("/device", get(device_page).post(device_answer))
        .route("/style.css", get(style))
        .route("/", get(device_page))
        .layer(axum::middleware::from_fn_with_state(shared.clone(), guard))
        .layer(DefaultBodyLimit::max(LONGEST_FORM))
        .with_state(shared)
}

/// Lets through what comes from this machine and names it; gives every answer its safety headers.
async fn guard(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if !peer.ip().is_loopback() || !is_for(&shared.hosts, request.headers()) {
        return (StatusCode::FORBIDDEN, "the demo issuer serves this machine only\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a request names this server as its host, and as the page it comes from. Programs send
/// no origin; a browser says which page a form was sent from.
fn is_for(hosts: &[String], headers: &HeaderMap) -> bool {
    let header = |name| headers.get(name).map(HeaderValue::as_bytes);
    let names_us = header(header::HOST).is_some_and(|host| hosts.iter().any(|ours| ours.as_bytes() == host));
    let comes_from_us = |origin: &[u8]| hosts.iter().any(|ours| format!("http://{ours}").as_bytes() == origin);
    names_us && header(header::ORIGIN).is_none_or(comes_from_us)
}

async fn metadata(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let url = &shared.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "device_authorization_endpoint": format!("{url}/device_authorization"),
        "revocation_endpoint": format!("{url}/revoke"),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", desk::DEVICE_GRANT, "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [signer::ALGORITHM],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256"],
    }))
}

async fn keys(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.desk().keys())
}

async fn device_authorization(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let outcome = shared.desk().begin(&Form::read(&body), clock::now());
    answer(outcome)
}

/// The code flow: asks who one is, and sends the browser back. A link, not a form, for a form may
/// not lead to another site.
async fn authorize(State(shared): State<Arc<Shared>>, Query(query): Query<Vec<(String, String)>>) -> Response {
    let form = Form(query);
    if let Err(refusal) = desk::is_fair(&form) {
        return (StatusCode::BAD_REQUEST, format!("{refusal}\n")).into_response();
    }
    let user = form.field("user");
    if user.is_empty() {
        let this = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form.0).finish();
        return Html(page::choose_for_page(&this, shared.desk().users())).into_response();
    }
    match shared.desk().code_for(&form, clock::now()) {
        Ok(code) => {
            let answer = [("code", code.as_str()), ("state", form.field("state"))];
            let answer = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer).finish();
            let target = format!("{}?{answer}", form.field("redirect_uri"));
            (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response()
        }
        Err(refusal) => (StatusCode::BAD_REQUEST, format!("{refusal}\n")).into_response(),
    }
}

async fn token(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let outcome = shared.desk().token(&Form::read(&body), clock::now());
    answer(outcome)
}

/// RFC 7009: the answer is the same whether the token was known or not.
async fn revoke(State(shared): State<Arc<Shared>>, body: Bytes) -> StatusCode {
    shared.desk().revoke(&Form::read(&body));
    StatusCode::OK
}

async fn device_page(State(shared): State<Arc<Shared>>, Query(query): Query<Vec<(String, String)>>) -> Html<String> {
    let code = query.iter().find(|(name, _)| name == "user_code").map(|(_, value)| value.as_str());
    Html(match code {
        None => page::ask_for_code(None),
        Some(code) => match shared.desk().waiting(code, clock::now()) {
            Some((code, users)) => page::choose(&code, users),
            None => page::ask_for_code(Some(code)),
        },
    })
}

async fn device_answer(State(shared): State<Arc<Shared>>, body: Bytes) -> Html<String> {
    let form = Form::read(&body);
    let (code, user) = (form.field("user_code"), form.field("user"));
    let choice = if user.is_empty() { Answer::Decline } else { Answer::Approve(user) };
    Html(if shared.desk().answer(code, choice, clock::now()) {
        page::done(!user.is_empty())
    } else {
        page::ask_for_code(Some(code))
    })
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)
}

fn answer(outcome: Result<Value, Refusal>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    match outcome {
        Ok(body) => (headers, Json(body)).into_response(),
        Err(refusal) => {
            let body = json!({ "error": refusal.code(), "error_description": refusal.to_string() });
            (StatusCode::BAD_REQUEST, headers, Json(body)).into_response()
        }
    }
}

/// The fields of a posted form.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    fn read(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The field's value, empty where there is none.
    fn field(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests;
