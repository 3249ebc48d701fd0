//! The broker's HTTP API as the client calls it: one method a route, one error type for all.

use openidconnect::http::{Method, StatusCode};
use openidconnect::{HttpRequest, http::header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::config::Server;
use crate::core::api::request::{Approve, RequestView, Requests, Say};
use crate::core::api::undo::Undos;
use crate::core::api::{
    ApiError, ApiErrorBody, Challenge, Discovery, GrantAnswer, GrantRequest, Targets, TranscriptReceipt,
    TranscriptUpload, WhoAmI,
};
use crate::core::secret::Secret;
use crate::core::text;
use crate::sys::http::{Http, HttpError};

/// The one version of the API that this program speaks.
const VERSION: u32 = 1;

/// Why the broker gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("cannot reach {url} ({why})")]
    Unreachable { url: String, why: String },
    #[error("{}", .0.message)]
    Api(ApiErrorBody),
    #[error("the broker's answer cannot be read: {0}")]
    Malformed(String),
    #[error("the broker does not accept the sign-in")]
    NotSignedIn,
}

/// One broker.
#[derive(Clone, Debug)]
pub struct Broker {
    http: Http,
    url: String,
}

impl Broker {
    /// Prepares a client for `server`; connects to nothing yet.
    pub fn new(server: &Server) -> Result<Self, BrokerError> {
        let http =
            Http::new(&server.url, server.ca_file.as_deref()).map_err(|error| unreachable(&server.url, &error))?;
        Ok(Self { http, url: server.url.clone() })
    }

    /// The broker's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What a client must know before it can sign in.
    pub async fn discovery(&self) -> Result<Discovery, BrokerError> {
        let discovery: Discovery = self.ask(Method::GET, "/v1/discovery", None, None::<&()>).await?;
        if discovery.version == VERSION {
            Ok(discovery)
        } else {
            Err(BrokerError::Malformed(format!(
                "it speaks version {}, this dbgate speaks version {VERSION}",
                discovery.version
            )))
        }
    }

    /// The targets that the caller may at least connect to.
    pub async fn targets(&self, token: &Secret) -> Result<Targets, BrokerError> {
        self.ask(Method::GET, "/v1/targets", Some(token), None::<&()>).await
    }

    /// Whom the broker takes the caller for.
    pub async fn whoami(&self, token: &Secret) -> Result<WhoAmI, BrokerError> {
        self.ask(Method::GET, "/v1/whoami", Some(token), None::<&()>).await
    }

    /// A nonce for the next grant request.
    pub async fn challenge(&self, token: &Secret) -> Result<Challenge, BrokerError> {
        self.ask(Method::POST, "/v1/challenges", Some(token), None::<&()>).await
    }

    /// Asks for a grant.
    pub async fn grant(&self, token: &Secret, request: &GrantRequest) -> Result<GrantAnswer, BrokerError> {
        self.ask(Method::POST, "/v1/grants", Some(token), Some(request)).await
    }

    /// Ends a grant before its time.
    pub async fn revoke(&self, token: &Secret, grant: &str) -> Result<(), BrokerError> {
        let path = format!("/v1/grants/{}", segment(grant)?);
        self.send(Method::DELETE, &path, Some(token), None::<&()>).await.map(drop)
    }

    /// Hands in lines of the client's record.
    pub async fn upload(
        &self,
        token: &Secret,
        session: &str,
        upload: &TranscriptUpload,
    ) -> Result<TranscriptReceipt, BrokerError> {
        let path = format!("/v1/sessions/{}/transcript", segment(session)?);
        self.ask(Method::POST, &path, Some(token), Some(upload)).await
    }

    /// The evidence container of a session.
    pub async fn evidence(&self, token: &Secret, session: &str) -> Result<String, BrokerError> {
        let path = format!("/v1/sessions/{}/evidence", segment(session)?);
        let body = self.send(Method::GET, &path, Some(token), None::<&()>).await?;
        String::from_utf8(body).map_err(|_| BrokerError::Malformed("it is not text".to_owned()))
    }

    /// What small writes of a session changed.
    pub async fn undos(&self, token: &Secret, session: &str) -> Result<Undos, BrokerError> {
        self.ask(Method::GET, &format!("/v1/sessions/{}/undo", segment(session)?), Some(token), None::<&()>).await
    }

    /// Requests that wait for people: `mine`, `reviewable`, or all that may be seen.
    pub async fn requests(&self, token: &Secret, which: &str) -> Result<Requests, BrokerError> {
        self.ask(Method::GET, &format!("/v1/requests?{which}"), Some(token), None::<&()>).await
    }

    /// Asks people to let the caller in.
    pub async fn create_request(&self, token: &Secret, wanted: &GrantRequest) -> Result<RequestView, BrokerError> {
        self.ask(Method::POST, "/v1/requests", Some(token), Some(wanted)).await
    }

    /// One request; the answer waits up to so many seconds for it to change.
    pub async fn request(&self, token: &Secret, id: &str, wait: u64) -> Result<RequestView, BrokerError> {
        let path = format!("/v1/requests/{}?wait={wait}s", segment(id)?);
        self.ask(Method::GET, &path, Some(token), None::<&()>).await
    }

    /// Approves a request.
    pub async fn approve(&self, token: &Secret, id: &str, body: &Approve) -> Result<RequestView, BrokerError> {
        self.ask(Method::POST, &format!("/v1/requests/{}/approve", segment(id)?), Some(token), Some(body)).await
    }

    /// Says something to a request: `reject` or `question`.
    pub async fn say(&self, token: &Secret, id: &str, verb: &str, comment: &str) -> Result<RequestView, BrokerError> {
        let body = Say { comment: comment.to_owned() };
        self.ask(Method::POST, &format!("/v1/requests/{}/{verb}", segment(id)?), Some(token), Some(&body)).await
    }

    /// Takes a request back.
    pub async fn withdraw(&self, token: &Secret, id: &str) -> Result<RequestView, BrokerError> {
        self.ask(Method::POST, &format!("/v1/requests/{}/withdraw", segment(id)?), Some(token), None::<&()>).await
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<A, BrokerError> {
        let answer = self.send(method, path, token, body).await?;
        // The text of a JSON error may quote the answer: what it holds is foreign.
        serde_json::from_slice(&answer)
            .map_err(|error| BrokerError::Malformed(text::escape(&error.to_string()).into_owned()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<Vec<u8>, BrokerError> {
        let request = request(&self.url, method, path, token, body)?;
        let answer = self.http.send(request).await.map_err(|error| unreachable(&self.url, &error))?;
        let status = answer.status();
        if status.is_success() { Ok(answer.into_body()) } else { Err(refusal(status, answer.body())) }
    }
}

fn request(
    url: &str,
    method: Method,
    path: &str,
    token: Option<&Secret>,
    body: Option<&(impl Serialize + Sync)>,
) -> Result<HttpRequest, BrokerError> {
    let mut request = openidconnect::http::Request::builder()
        .method(method)
        .uri(format!("{url}{path}"))
        .header(header::ACCEPT, "application/json, text/plain");
    if let Some(token) = token {
        let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| BrokerError::NotSignedIn)?;
        // Keeps the token out of debug output.
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let bytes = match body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            serde_json::to_vec(body).map_err(|error| BrokerError::Malformed(error.to_string()))?
        }
        None => Vec::new(),
    };
    request.body(bytes).map_err(|error| BrokerError::Malformed(error.to_string()))
}

/// What a status other than success says. Text from the peer is made safe for a terminal here.
fn refusal(status: StatusCode, body: &[u8]) -> BrokerError {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(ApiError { mut error }) => {
            error.message = text::escape_keeping_lines(&error.message);
            error.hint = error.hint.map(|hint| text::escape_keeping_lines(&hint));
            BrokerError::Api(error)
        }
        Err(_) if status == StatusCode::UNAUTHORIZED => BrokerError::NotSignedIn,
        Err(_) => BrokerError::Malformed(format!("status {}; is this a dbgate broker?", status.as_u16())),
    }
}

fn unreachable(url: &str, error: &HttpError) -> BrokerError {
    BrokerError::Unreachable { url: url.to_owned(), why: error.to_string() }
}

/// An identifier as one segment of a path: nothing that could name another route.
fn segment(id: &str) -> Result<&str, BrokerError> {
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if is_plain { Ok(id) } else { Err(BrokerError::Malformed(format!("`{}` is not an id", text::escape(id)))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::api::ErrorCode;

    #[test]
    fn a_refusal_of_the_broker_keeps_its_code_and_is_safe_to_print() {
        let body = br#"{"error":{"code":"denied","message":"no \u001b[2J","retryable":false}}"#;
        match refusal(StatusCode::FORBIDDEN, body) {
            BrokerError::Api(error) => {
                assert_eq!(error.code, ErrorCode::Denied);
                assert_eq!(error.message, "no \\u{1b}[2J");
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_no_broker_is_said_so() {
        assert!(matches!(refusal(StatusCode::UNAUTHORIZED, b""), BrokerError::NotSignedIn));
        assert!(matches!(refusal(StatusCode::BAD_GATEWAY, b"<html>"), BrokerError::Malformed(_)));
    }

    #[test]
    fn ids_cannot_name_another_route() {
        assert!(segment("gr_0123456789ABCDEF").is_ok());
        for escape in ["", "../targets", "a/b", "a?b", "a%2fb"] {
            assert!(segment(escape).is_err(), "{escape}");
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_down_is_unreachable_with_its_address() {
        // A port that was free a moment ago: bound, then closed again.
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("address").port();
        let server = Server::new(&format!("http://127.0.0.1:{port}"), None).expect("loopback");
        match Broker::new(&server).expect("client").discovery().await.expect_err("down") {
            BrokerError::Unreachable { url, why } => {
                assert_eq!(url, server.url);
                assert_eq!(why.to_lowercase(), "connection refused");
            }
            other => panic!("{other}"),
        }
    }
}
