//! HTTP as dbgate speaks it: no redirects, bounded answers, and TLS everywhere but on loopback.
//!
//! Bearer tokens travel in these requests. A redirect, a proxy before loopback or plain HTTP to
//! another machine would hand them to somebody else, so each is refused here, in one place.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openidconnect::url::{Host, Url};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

/// Making a connection; a broker that does not answer is said to be down after this long.
const CONNECT: Duration = Duration::from_secs(5);
/// A whole request: a grant may wait for a slow target.
const WHOLE: Duration = Duration::from_secs(60);
/// The longest answer that is read: an evidence file of a long session.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{0}` is not an address")]
    Address(String),
    #[error("`{0}` is plain http, which is accepted for this machine only; use https")]
    Plain(String),
    #[error("cannot read certificates from `{path}`: {why}")]
    Certificates { path: String, why: String },
    #[error("{0}")]
    Setup(String),
    #[error("{0}")]
    Unreachable(String),
    #[error("the answer is larger than 256 MiB")]
    TooLarge,
}

/// A client for one peer.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
}

impl Http {
    /// A client for `url`, which trusts `ca_file` beside the machine's own authorities.
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, HttpError> {
        let url = checked(url)?;
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&url, ca_file)?)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .user_agent(concat!("dbgate/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| HttpError::Setup(root_cause(&error)))?;
        Ok(Self { client })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        checked(&request.uri().to_string())?;
        let request = reqwest::Request::try_from(request).map_err(|error| HttpError::Setup(root_cause(&error)))?;
        let unreachable = |error: reqwest::Error| HttpError::Unreachable(root_cause(&error));
        let mut answer = self.client.execute(request).await.map_err(unreachable)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > LARGEST_ANSWER {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// What `openidconnect` sends its requests through. A named, boxed future: a closure's would not
/// be `Send` for every lifetime, and a server moves it between threads.
impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Reads an address and refuses plain HTTP to another machine.
pub fn checked(text: &str) -> Result<Url, HttpError> {
    let url = Url::parse(text).map_err(|_| HttpError::Address(text.to_owned()))?;
    match url.scheme() {
        "https" if url.has_host() => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(HttpError::Plain(text.to_owned())),
        _ => Err(HttpError::Address(text.to_owned())),
    }
}

/// Whether the host is this machine by its very name: nothing is looked up.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// TLS with ring, named here so that no process-wide default is needed.
fn tls(url: &Url, ca_file: Option<&Path>) -> Result<rustls::ClientConfig, HttpError> {
    let mut roots = rustls::RootCertStore::empty();
    if url.scheme() == "https" {
        // Single unreadable system certificates are skipped: the one that matters shows in the handshake.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let failed = |why: String| HttpError::Certificates { path: path.display().to_string(), why };
        let certificates = authorities(path).map_err(failed)?;
        for certificate in certificates {
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn authorities(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, String> {
    use rustls::pki_types::pem::PemObject as _;
    let found: Result<Vec<_>, _> =
        rustls::pki_types::CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?.collect();
    match found {
        Ok(certificates) if certificates.is_empty() => Err("no certificate in it".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(error.to_string()),
    }
}

/// The innermost reason: "Connection refused" says more than "error sending request".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    // "Connection refused (os error 111)": the number helps nobody who reads the words.
    match text.find(" (os error ") {
        // It stands in the middle of a sentence of ours.
        Some(end) => text.get(..end).unwrap_or(&text).to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for fine in ["https://gate.example.com", "http://127.0.0.1:8480", "http://localhost:1/x", "http://[::1]:2"] {
            assert!(checked(fine).is_ok(), "{fine}");
        }
        for refused in
            ["http://gate.example.com", "http://127.0.0.1.example.com", "http://localhost.example.com", "ftp://x", "x"]
        {
            assert!(checked(refused).is_err(), "{refused}");
        }
    }

    /// Answers one request with `answer`, over TLS where a configuration is given.
    async fn answer_once(answer: &'static str, tls: Option<Arc<rustls::ServerConfig>>) -> u16 {
        use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
        async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
            // A request without a body fits one read on loopback.
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            match tls {
                None => talk(stream, answer).await,
                Some(tls) => {
                    if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                        talk(stream, answer).await;
                    }
                }
            }
        });
        port
    }

    async fn fetch(url: &str, ca_file: Option<&Path>) -> Result<HttpResponse, HttpError> {
        let request = openidconnect::http::Request::get(url).body(Vec::new()).expect("a request");
        Http::new(url, ca_file)?.send(request).await
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        let port = answer_once(moved, None).await;
        let answer = fetch(&format!("http://127.0.0.1:{port}/"), None).await.expect("answered");
        assert_eq!(answer.status().as_u16(), 302);
    }

    #[cfg(feature = "server")]
    #[tokio::test]
    async fn tls_is_trusted_by_the_given_authority_only() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a key that fits");
        let config = Arc::new(config);
        let scratch = crate::sys::scratch::Scratch::new();
        let authority = scratch.path().join("ca.pem");
        std::fs::write(&authority, made.cert.pem()).expect("written");
        let fine = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let url = |port: u16| format!("https://localhost:{port}/");

        let port = answer_once(fine, Some(config.clone())).await;
        assert_eq!(fetch(&url(port), Some(&authority)).await.expect("trusted").body(), b"ok");
        let port = answer_once(fine, Some(config.clone())).await;
        assert!(matches!(fetch(&url(port), None).await, Err(HttpError::Unreachable(_))));
        let port = answer_once(fine, Some(config)).await;
        let other_name = format!("https://127.0.0.1:{port}/");
        assert!(matches!(fetch(&other_name, Some(&authority)).await, Err(HttpError::Unreachable(_))));
    }
}
