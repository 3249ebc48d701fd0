//! What the workstation asks of the OIDC issuer: a device code (RFC 8628), tokens, renewed tokens.
//!
//! The ID token is verified here too, so that a wrong answer of the issuer is seen at sign-in and
//! not at the first statement. Whether it opens anything is the broker's decision alone.

use std::future::Future;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod, CoreDeviceAuthorizationResponse,
    CoreGrantType, CoreIdToken, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm,
    CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType, CoreTokenResponse,
};
use openidconnect::http::{Method, header};
use openidconnect::{
    AdditionalProviderMetadata, AuthType, ClientId, DeviceAuthorizationUrl, DeviceCodeErrorResponseType,
    DiscoveryError, EndpointMaybeSet, EndpointNotSet, EndpointSet, ErrorResponse, HttpRequest, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, ProviderMetadata, RefreshToken, RequestTokenError,
    Scope, TokenResponse as _,
};
use serde::{Deserialize, Serialize};

use crate::core::secret::Secret;
use crate::core::text;
use crate::core::time::Moment;
use crate::sys::clock;
use crate::sys::http::{self, Http, HttpError};

/// Why the issuer gave no tokens.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error(transparent)]
    Address(#[from] HttpError),
    #[error("cannot reach the issuer {issuer} ({why})")]
    Unreachable { issuer: String, why: String },
    #[error("the issuer {issuer} gave an answer that cannot be read: {why}")]
    Malformed { issuer: String, why: String },
    #[error("the issuer {0} does not offer sign-in with a device code")]
    NoDeviceFlow(String),
    #[error("the sign-in was declined")]
    Declined,
    #[error("the code expired before anyone entered it")]
    CodeExpired,
    #[error("the issuer refuses: {0}")]
    Refused(String),
    #[error("the issuer's ID token does not hold: {0}")]
    NotVerified(String),
}

/// Between two questions whether somebody has signed in, even if the issuer allows for more.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// A code that is not entered by then is given up.
const LONGEST_VALID: Duration = Duration::from_secs(24 * 60 * 60);

/// What the issuer hands out.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub id_token: Secret,
    pub refresh_token: Option<Secret>,
    /// When the ID token ends.
    pub expires: Moment,
}

/// What a person needs to sign in.
pub struct Invitation {
    /// The page to visit.
    pub page: String,
    /// The same with the code filled in.
    pub complete_page: Option<String>,
    /// The code to enter there.
    pub code: String,
    pub valid: Duration,
    details: CoreDeviceAuthorizationResponse,
    verifier: Option<PkceCodeVerifier>,
}

/// Members of the issuer's metadata beyond OIDC's own.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Endpoints {
    device_authorization_endpoint: Option<DeviceAuthorizationUrl>,
    revocation_endpoint: Option<String>,
    #[serde(default)]
    code_challenge_methods_supported: Vec<String>,
}

impl AdditionalProviderMetadata for Endpoints {}

type Metadata = ProviderMetadata<
    Endpoints,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// One issuer and the client id to use there.
pub struct Issuer {
    http: Http,
    url: String,
    client_id: String,
    metadata: Metadata,
}

impl Issuer {
    /// Reads the issuer's metadata and keys.
    pub async fn discover(url: &str, client_id: &str, ca_file: Option<&Path>) -> Result<Self, IssuerError> {
        let http = Http::new(url, ca_file)?;
        let issuer = IssuerUrl::new(url.to_owned()).map_err(|_| HttpError::Address(url.to_owned()))?;
        let metadata = Metadata::discover_async(issuer, &http).await.map_err(|error| discovery_error(url, error))?;
        Ok(Self { http, url: url.to_owned(), client_id: client_id.to_owned(), metadata })
    }

    /// Asks for a device code, with PKCE where the issuer offers it.
    pub async fn begin(&self, scopes: &[String]) -> Result<Invitation, IssuerError> {
        let endpoints = self.metadata.additional_metadata();
        let Some(endpoint) = endpoints.device_authorization_endpoint.clone() else {
            return Err(IssuerError::NoDeviceFlow(self.url.clone()));
        };
        // A code is of no use where the tokens cannot be fetched; people hear of that before they enter it.
        if let Some(tokens) = self.metadata.token_endpoint() {
            http::checked(tokens.as_str())?;
        }
        let client = self.client().set_device_authorization_url(endpoint);
        let mut request = client
            .exchange_device_code()
            .add_scopes(scopes.iter().filter(|scope| *scope != "openid").cloned().map(Scope::new));
        let mut verifier = None;
        if endpoints.code_challenge_methods_supported.iter().any(|method| method == "S256") {
            let (challenge, secret) = PkceCodeChallenge::new_random_sha256();
            request = request
                .add_extra_param("code_challenge", challenge.as_str().to_owned())
                .add_extra_param("code_challenge_method", "S256");
            verifier = Some(secret);
        }
        let details: CoreDeviceAuthorizationResponse = request
            .request_async(&self.http)
            .await
            .map_err(|error| self.token_error(error, |refusal| IssuerError::Refused(printable(refusal))))?;
        // It would be asked about a code that has ended.
        if details.interval() > details.expires_in().min(LONGEST_VALID) {
            let why = format!("it wants to be asked every {} s only", details.interval().as_secs());
            return Err(IssuerError::Malformed { issuer: self.url.clone(), why });
        }
        // Shown, and maybe opened in a browser: nothing but a web address may be.
        http::checked(details.verification_uri().as_str())?;
        let complete_page = details.verification_uri_complete().map(|page| page.secret().clone());
        Ok(Invitation {
            page: details.verification_uri().to_string(),
            complete_page: complete_page.filter(|page| http::checked(page).is_ok()),
            code: details.user_code().secret().clone(),
            valid: details.expires_in().min(LONGEST_VALID),
            details,
            verifier,
        })
    }

    /// Asks again and again, as often as the issuer allows, until the person has answered.
    /// Dropping the future stops at once; the code then expires by itself.
    pub async fn wait<S, F>(&self, invitation: &Invitation, sleep: S) -> Result<Tokens, IssuerError>
    where
        S: Fn(Duration) -> F,
        F: Future<Output = ()>,
    {
        let client = self.client();
        let mut request =
            client.exchange_device_access_token(&invitation.details).map_err(|error| self.malformed(&error))?;
        if let Some(verifier) = &invitation.verifier {
            request = request.add_extra_param("code_verifier", verifier.secret().clone());
        }
        // As often as the issuer allows, but neither without a pause nor beyond the end of the code.
        let pause = |length: Duration| sleep(length.max(SHORTEST_PAUSE));
        let asking = request.request_async(&self.http, pause, Some(invitation.valid));
        let answer = tokio::time::timeout(invitation.valid, asking).await.map_err(|_| IssuerError::CodeExpired)?;
        let answer: CoreTokenResponse = answer.map_err(|error| {
            self.token_error(error, |refusal| match refusal.error() {
                DeviceCodeErrorResponseType::AccessDenied => IssuerError::Declined,
                DeviceCodeErrorResponseType::ExpiredToken => IssuerError::CodeExpired,
                _ => IssuerError::Refused(printable(refusal)),
            })
        })?;
        self.tokens(&answer, None)
    }

    /// New tokens for a refresh token. An issuer may replace the refresh token with each use.
    pub async fn renew(&self, refresh_token: &Secret) -> Result<Tokens, IssuerError> {
        let client = self.client();
        let kept = RefreshToken::new(refresh_token.expose().to_owned());
        let request = client.exchange_refresh_token(&kept).map_err(|error| self.malformed(&error))?;
        let answer = request.request_async(&self.http).await;
        let refused = |error| self.token_error(error, |refusal| IssuerError::Refused(printable(refusal)));
        self.tokens(&answer.map_err(refused)?, Some(refresh_token))
    }

    /// Tells the issuer to forget a refresh token (RFC 7009), where it takes such requests.
    pub async fn revoke(&self, refresh_token: &Secret) -> Result<(), IssuerError> {
        let Some(endpoint) = &self.metadata.additional_metadata().revocation_endpoint else {
            return Ok(());
        };
        let body = openidconnect::url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", refresh_token.expose())
            .append_pair("token_type_hint", "refresh_token")
            .append_pair("client_id", &self.client_id)
            .finish();
        let request: HttpRequest = openidconnect::http::Request::builder()
            .method(Method::POST)
            .uri(endpoint)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.into_bytes())
            .map_err(|error| self.malformed(&error))?;
        self.http.send(request).await?;
        Ok(())
    }

    fn client(&self) -> Client {
        let client_id = ClientId::new(self.client_id.clone());
        // A public client: it has no secret, and says who it is in the request's body.
        CoreClient::from_provider_metadata(self.metadata.clone(), client_id, None).set_auth_type(AuthType::RequestBody)
    }

    /// Verifies what came back. `kept` stays in use where the issuer sent no new refresh token.
    fn tokens(&self, answer: &CoreTokenResponse, kept: Option<&Secret>) -> Result<Tokens, IssuerError> {
        let missing = || IssuerError::NotVerified("there is none in the answer".to_owned());
        let id_token = answer.id_token().ok_or_else(missing)?;
        let expires = self.verify(id_token)?;
        let renewed = answer.refresh_token().map(|token| Secret::new(token.secret().as_str()));
        Ok(Tokens {
            id_token: Secret::new(id_token.to_string()),
            refresh_token: renewed.or_else(|| kept.cloned()),
            expires,
        })
    }

    fn verify(&self, id_token: &CoreIdToken) -> Result<Moment, IssuerError> {
        let micros = u64::try_from(clock::now().micros()).unwrap_or(0);
        let now: SystemTime = UNIX_EPOCH + Duration::from_micros(micros);
        let public_key = |algorithm: &&CoreJwsSigningAlgorithm| {
            !matches!(
                algorithm,
                CoreJwsSigningAlgorithm::None
                    | CoreJwsSigningAlgorithm::HmacSha256
                    | CoreJwsSigningAlgorithm::HmacSha384
                    | CoreJwsSigningAlgorithm::HmacSha512
            )
        };
        let offered = self.metadata.id_token_signing_alg_values_supported();
        let client = self.client();
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(offered.iter().filter(public_key).cloned())
            .set_time_fn(move || now.into());
        // No nonce was sent, so none may come back: it would be of somebody else's sign-in.
        let no_nonce =
            |nonce: Option<&Nonce>| if nonce.is_none() { Ok(()) } else { Err("unexpected nonce".to_owned()) };
        let claims =
            id_token.claims(&verifier, no_nonce).map_err(|error| IssuerError::NotVerified(printable(&error)))?;
        Ok(Moment::from_seconds(claims.expiration().timestamp()))
    }

    fn token_error<T: ErrorResponse + 'static>(
        &self,
        error: RequestTokenError<HttpError, T>,
        refused: impl FnOnce(&T) -> IssuerError,
    ) -> IssuerError {
        match error {
            RequestTokenError::ServerResponse(refusal) => refused(&refusal),
            RequestTokenError::Request(HttpError::Unreachable(why)) => {
                IssuerError::Unreachable { issuer: self.url.clone(), why }
            }
            RequestTokenError::Request(error) => error.into(),
            RequestTokenError::Parse(error, _) => self.malformed(&error),
            RequestTokenError::Other(why) => self.malformed(&why),
        }
    }

    fn malformed(&self, why: &dyn std::fmt::Display) -> IssuerError {
        IssuerError::Malformed { issuer: self.url.clone(), why: printable(why) }
    }
}

/// Foreign words, safe to print.
fn printable(text: &dyn std::fmt::Display) -> String {
    text::escape(&text.to_string()).into_owned()
}

fn discovery_error(issuer: &str, error: DiscoveryError<HttpError>) -> IssuerError {
    let issuer = issuer.to_owned();
    match error {
        DiscoveryError::Request(HttpError::Unreachable(why)) => IssuerError::Unreachable { issuer, why },
        DiscoveryError::Request(error) => error.into(),
        DiscoveryError::Response(status, _, _) => {
            IssuerError::Malformed { issuer, why: format!("status {}", status.as_u16()) }
        }
        other => IssuerError::Malformed { issuer, why: printable(&other) },
    }
}

/// When a token says that it ends. Read without verifying: only to know when to renew it.
pub fn expiry(token: &Secret) -> Option<Moment> {
    let payload = token.expose().split('.').nth(1)?;
    let claims: serde_json::Value = serde_json::from_slice(&crate::core::encoding::unbase64url(payload)?).ok()?;
    claims.get("exp")?.as_i64().map(Moment::from_seconds)
}
