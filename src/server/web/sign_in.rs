//! Signing in at the desk: OIDC's code flow with PKCE, state and nonce, bound to the browser that
//! began it; and asking the issuer again, before a decision, whether somebody still is a reviewer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreTokenResponse};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, CsrfToken, DiscoveryError, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl, RefreshToken, Scope,
    TokenResponse as _,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::coming::{Coming, PATIENCE, Seal};
use super::frame;
use super::pages::is_own_origin;
use super::visitor::{LONGEST, Visitor, Visitors, cookie, cookies};
use crate::core::encoding;
use crate::core::secret::Secret;
use crate::core::text;
use crate::core::time::Moment;
use crate::core::transcript::content;
use crate::server::config::IssuerSection;
use crate::server::identity::{issued_at, nonce_of};
use crate::server::state::State;
use crate::sys::http::{Http, HttpError};
use crate::sys::{clock, files, random};

/// How long what the issuer says of itself is believed. Anybody may begin to sign in.
const METADATA: Duration = Duration::from_secs(60);
/// How long it has for that; the next one waits meanwhile.
const ANSWERS: Duration = Duration::from_secs(5);
/// Sign-ins under way that one browser keeps. More are forgotten, or they fill up what it sends.
const MOST_COMING: usize = 8;
/// Longest words of the issuer's, or of who says so, that are passed on, in bytes.
const LONGEST_WORDS: usize = 300;
/// Longest address of a page to go on with.
const LONGEST_PAGE: usize = 200;

/// Everybody at the desk.
#[derive(Default)]
pub struct Desk {
    pub visitors: Visitors,
    seal: Seal,
    /// What the issuer said of itself last, and when.
    issuer: tokio::sync::Mutex<Option<(Moment, CoreProviderMetadata)>>,
}

/// Why nobody is signed in. Told in short words; what the issuer said goes to the program's log.
#[derive(Debug, thiserror::Error)]
enum SignInError {
    #[error("people cannot sign in here")]
    NoIssuer,
    #[error("this sign-in was not begun here, or took too long")]
    Unknown,
    #[error("the sign-in service cannot be reached ({0})")]
    Issuer(String),
    #[error("the sign-in service refused: {0}")]
    Refused(String),
    #[error("too many people are signing in")]
    Busy,
}

#[derive(Deserialize)]
pub struct Start {
    to: Option<String>,
}

#[derive(Deserialize)]
pub struct Callback {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// Sends the browser to the issuer.
pub async fn start(Shared(state): Shared<Arc<State>>, headers: HeaderMap, Query(query): Query<Start>) -> Response {
    let mut response = begin(&state, query.to.as_deref()).await.unwrap_or_else(|error| failed(&error));
    let coming = cookies(&headers, &coming_name_of(&state, ""));
    if coming.len() >= MOST_COMING {
        for name in coming {
            response = with_cookie(response, &state, &name, "", Duration::ZERO);
        }
    }
    response
}

/// The browser comes back from the issuer.
pub async fn callback(
    Shared(state): Shared<Arc<State>>,
    headers: HeaderMap,
    Query(query): Query<Callback>,
) -> Response {
    let name = coming_name(&state, query.state.as_deref().unwrap_or_default());
    let response = finish(&state, &headers, &name, query).await.unwrap_or_else(|error| failed(&error));
    with_cookie(response, &state, &name, "", Duration::ZERO)
}

/// Signs out, where a page of ours asks for it.
pub async fn end(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    if !is_own_origin(&state.config.server.public_url, &headers) {
        return Redirect::to("/requests").into_response();
    }
    if let Some(id) = cookie(&headers, cookie_name(&state)) {
        state.desk.visitors.leave(id);
    }
    with_cookie(Redirect::to("/requests").into_response(), &state, cookie_name(&state), "", Duration::ZERO)
}

fn failed(error: &SignInError) -> Response {
    let said = said(error);
    tracing::warn!(error = said, "a sign-in at the desk failed");
    frame::sign_in_failed(&said)
}

/// Some of it are a stranger's words.
fn said(error: &SignInError) -> String {
    text::escape(content::clip(&error.to_string(), LONGEST_WORDS)).into_owned()
}

async fn begin(state: &State, to: Option<&str>) -> Result<Response, SignInError> {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let (client, _, section) = issuer(state).await?;
    let ask = || CsrfToken::new(encoding::base64url(&random::bytes::<24>()));
    let nonce = || Nonce::new(encoding::base64url(&random::bytes::<24>()));
    let mut request =
        client.authorize_url(CoreAuthenticationFlow::AuthorizationCode, ask, nonce).set_pkce_challenge(challenge);
    for scope in section.scopes.iter().filter(|scope| *scope != "openid") {
        request = request.add_scope(Scope::new(scope.clone()));
    }
    let (url, csrf, nonce) = request.url();
    let (expires, name) = (clock::now().after(PATIENCE), coming_name(state, csrf.secret()));
    let coming = Coming { state: csrf.into_secret(), verifier, nonce, to: own_page(to), expires };
    let kept = state.desk.seal.close(&coming).ok_or(SignInError::Unknown)?;
    Ok(with_cookie(Redirect::to(url.as_str()).into_response(), state, &name, &kept, PATIENCE))
}

async fn finish(state: &State, headers: &HeaderMap, name: &str, query: Callback) -> Result<Response, SignInError> {
    let now = clock::now();
    let answer = query.state.unwrap_or_default();
    // Begun in this very browser: nobody can be signed in as somebody else by a link.
    let coming = cookie(headers, name).and_then(|kept| state.desk.seal.open(kept, &answer, now));
    let was_here = cookie(headers, cookie_name(state)).filter(|id| state.desk.visitors.find(id, now).is_some());
    let Some(coming) = coming else {
        // Back from a page that came behind: nothing is wrong with who is signed in.
        return was_here.map(|_| Redirect::to("/requests").into_response()).ok_or(SignInError::Unknown);
    };
    let code = query.code.ok_or_else(|| SignInError::Refused(query.error.unwrap_or_default()))?;
    let (client, http, _) = issuer(state).await?;
    let tokens = client
        .exchange_code(AuthorizationCode::new(code))
        .map_err(|error| SignInError::Refused(error.to_string()))?
        .set_pkce_verifier(coming.verifier)
        .request_async(&http)
        .await
        .map_err(|error| SignInError::Refused(error.to_string()))?;
    let visitor = visitor(state, &tokens, Some(&coming.nonce), now).await?;
    was_here.inspect(|id| state.desk.visitors.leave(id));
    let id = state.desk.visitors.enter(visitor, now).ok_or(SignInError::Busy)?;
    Ok(with_cookie(Redirect::to(&coming.to).into_response(), state, cookie_name(state), &id, LONGEST))
}

/// What the issuer's answer says, verified as any bearer token is.
async fn visitor(
    state: &State,
    tokens: &CoreTokenResponse,
    nonce: Option<&Nonce>,
    now: Moment,
) -> Result<Visitor, SignInError> {
    let token = tokens.id_token().ok_or_else(|| SignInError::Refused("no ID token".to_owned()))?.to_string();
    let identity = state.verifier.verify(&token, now).await.map_err(|error| SignInError::Refused(error.to_string()))?;
    if nonce.is_some_and(|nonce| nonce_of(&token).as_deref() != Some(nonce.secret())) {
        return Err(SignInError::Refused("the ID token is for another sign-in".to_owned()));
    }
    let vouched = issued_at(&token).unwrap_or(Moment::from_micros(0));
    let refresh_token = tokens.refresh_token().map(|token| Secret::new(token.secret().clone()));
    Ok(Visitor::new(identity, vouched, refresh_token, now))
}

/// Who the visitor is right now, by the issuer's word: groups can be lost between opening a page
/// and clicking. Without a way to ask, what was said at sign-in stands, and may be too old to count; where the
/// issuer does not vouch for them, nothing does, and why is said.
pub async fn asked_again(state: &Arc<State>, id: &str, known: Arc<Visitor>) -> (Arc<Visitor>, Option<String>) {
    let (state, id, without) = (state.clone(), id.to_owned(), Arc::new(known.without_proof()));
    // In a task of its own: a browser that hangs up does not lose the token that the issuer has just given.
    let asked = tokio::spawn(async move { ask_again(&state, &id, known).await });
    asked.await.unwrap_or_else(|error| {
        tracing::error!(%error, "asking the issuer failed");
        (without, None)
    })
}

async fn ask_again(state: &State, id: &str, known: Arc<Visitor>) -> (Arc<Visitor>, Option<String>) {
    let _turn = known.asking.lock().await;
    let now = clock::now();
    // Somebody else's click of this moment may have asked meanwhile.
    let Some(visitor) = state.desk.visitors.find(id, now) else { return (Arc::new(known.without_proof()), None) };
    let Some(refresh_token) = visitor.refresh_token.clone().filter(|_| visitor.vouched == known.vouched) else {
        return (visitor, None);
    };
    match renewed(state, &refresh_token, now).await {
        Ok(next) => {
            let Visitor { identity, vouched, refresh_token, .. } = next;
            // Another person than the one whose page it is cannot come of it.
            if identity.principal() != visitor.identity.principal() {
                return (visitor, None);
            }
            let renewed = state.desk.visitors.renew(id, identity, vouched, refresh_token);
            // Signed out meanwhile.
            (renewed.unwrap_or_else(|| Arc::new(visitor.without_proof())), None)
        }
        Err(error) => {
            let said = said(&error);
            tracing::warn!(error = said, "the issuer does not vouch for a visitor any more");
            (Arc::new(visitor.without_proof()), Some(said))
        }
    }
}

async fn renewed(state: &State, refresh_token: &Secret, now: Moment) -> Result<Visitor, SignInError> {
    let (client, http, _) = issuer(state).await?;
    let tokens = client
        .exchange_refresh_token(&RefreshToken::new(refresh_token.expose().to_owned()))
        .map_err(|error| SignInError::Refused(error.to_string()))?
        .request_async(&http)
        .await
        .map_err(|error| SignInError::Refused(error.to_string()))?;
    visitor(state, &tokens, None, now).await
}

/// The issuer of people.
async fn issuer(state: &State) -> Result<(Client, Http, &IssuerSection), SignInError> {
    let section = state.config.sign_in().ok_or(SignInError::NoIssuer)?;
    let unreachable = |error: &dyn std::error::Error| SignInError::Issuer(error.to_string());
    let rule = &section.rule;
    let http = Http::new(&rule.issuer, rule.ca_file.as_deref().map(Path::new)).map_err(|error| unreachable(&error))?;
    let url = IssuerUrl::new(rule.issuer.clone()).map_err(|error| unreachable(&error))?;
    let metadata = metadata(state, url, &http).await.map_err(|error| unreachable(&error))?;
    let secret = match &section.client_secret_file {
        Some(file) => {
            let text = files::read_private(file).map_err(|error| unreachable(&error))?;
            Some(ClientSecret::new(String::from_utf8_lossy(&text).trim().to_owned()))
        }
        None => None,
    };
    let redirect = RedirectUrl::new(format!("{}/auth/callback", state.config.server.public_url));
    let redirect = redirect.map_err(|error| unreachable(&error))?;
    let client = CoreClient::from_provider_metadata(metadata, ClientId::new(rule.client_id.clone()), secret);
    Ok((client.set_redirect_uri(redirect), http, section))
}

/// What the issuer says of itself, as of a minute ago at most: it may change.
async fn metadata(
    state: &State,
    url: IssuerUrl,
    http: &Http,
) -> Result<CoreProviderMetadata, DiscoveryError<HttpError>> {
    let (mut last, now) = (state.desk.issuer.lock().await, clock::now());
    if let Some((_, known)) = last.as_ref().filter(|(at, _)| now.since(*at) < METADATA) {
        return Ok(known.clone());
    }
    let read = tokio::time::timeout(ANSWERS, CoreProviderMetadata::discover_async(url, http)).await;
    let read = read.map_err(|_| DiscoveryError::Other("it takes too long to answer".to_owned()))??;
    *last = Some((now, read.clone()));
    Ok(read)
}

/// The page to go on with: one of ours, by its path.
fn own_page(to: Option<&str>) -> String {
    let is_ours = |to: &&str| {
        to.starts_with('/')
            && !to.starts_with("//")
            && to.len() <= LONGEST_PAGE
            && to.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b))
    };
    to.filter(is_ours).unwrap_or("/requests").to_owned()
}

/// Over TLS the name itself says that no other path or host can have set it.
pub fn cookie_name(state: &State) -> &'static str {
    if is_tls(state) { "__Host-dbgate_desk" } else { "dbgate_desk" }
}

/// The same of a sign-in under way, each under its own: two that are begun in two tabs both end well.
fn coming_name(state: &State, answer: &str) -> String {
    let digest = Sha256::digest(answer.as_bytes());
    coming_name_of(state, &encoding::hex(digest.get(..8).unwrap_or_default()))
}

fn coming_name_of(state: &State, own: &str) -> String {
    format!("{}dbgate_coming_{own}", if is_tls(state) { "__Host-" } else { "" })
}

fn is_tls(state: &State) -> bool {
    state.config.server.public_url.starts_with("https://")
}

fn with_cookie(mut response: Response, state: &State, name: &str, value: &str, lasts: Duration) -> Response {
    let secure = if is_tls(state) { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={}{secure}", lasts.as_secs());
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::own_page;

    #[test]
    fn after_signing_in_one_stays_on_this_site() {
        assert_eq!(own_page(Some("/r/apr_0123456789ABCDEF")), "/r/apr_0123456789ABCDEF");
        for elsewhere in ["//evil.example.com", "https://evil.example.com", "/\\evil", "/r/x?y=z", "", "/a:b@c"] {
            assert_eq!(own_page(Some(elsewhere)), "/requests", "{elsewhere}");
        }
    }
}
