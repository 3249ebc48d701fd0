//! Step 1, login, at the broker: is this token genuine, ours and still good?
//!
//! Accepted are signed JWTs of a configured issuer: ID tokens (`aud` is the rule's `client_id`) and
//! JWT access tokens (RFC 9068, `aud` is the rule's `audience`). Never accepted: no signature,
//! HMAC signatures (a public client's secret is public), another issuer or audience, a further
//! audience that no rule names, a token that has ended or does not hold yet, opaque tokens.

mod keys;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openidconnect::core::{
    CoreGenderClaim, CoreIdTokenVerifier, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    ClaimsVerificationError, ClientId, EmptyAdditionalClaims, IdToken, IssuerUrl, JsonWebTokenType, Nonce,
    SignatureVerificationError,
};
use serde_json::{Map, Value};

use crate::core::claims::{self, Claims, ClaimsError, IssuerRule};
use crate::core::encoding;
use crate::core::identity::{Identity, Kind};
use crate::core::text;
use crate::core::time::Moment;
use crate::server::identity::keys::{KeyCache, Need};
use crate::sys::http::{Http, HttpError};

/// A longer token is not read at all. Tokens with hundreds of groups stay below.
const LONGEST_TOKEN: usize = 32 * 1024;
/// How far the issuer's clock may be ahead of ours.
const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// Asymmetric algorithms only: with a symmetric one, whoever can verify can also forge.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// `typ` of ID tokens and of JWT access tokens.
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

type Token =
    IdToken<EmptyAdditionalClaims, CoreGenderClaim, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm>;

/// Why a token gives no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the bearer token is not a signed JSON web token")]
    NotAToken,
    #[error("the token is of an issuer that this broker does not know")]
    UnknownIssuer,
    #[error("the token's signature does not hold")]
    Signature,
    #[error("the token is signed with a key that the issuer does not list")]
    UnknownKey,
    #[error("the token is for another audience")]
    Audience { accepted: Vec<Accepted> },
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token cannot be accepted: {0}")]
    Refused(String),
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error("the issuer {issuer} cannot be asked for its keys ({why})")]
    IssuerDown { issuer: String, why: String },
}

/// An audience that tokens of an issuer may be for, and whose tokens those are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub kind: Kind,
    pub audience: String,
}

/// Why no verifier can be made from the configuration.
#[derive(Debug, thiserror::Error)]
pub enum VerifierError {
    #[error("no issuer is configured: nobody could sign in")]
    NoIssuer,
    #[error("issuer `{issuer}`")]
    Issuer { issuer: String, source: HttpError },
}

/// Verifies bearer tokens of the configured issuers.
pub struct Verifier {
    issuers: Vec<Issuer>,
}

struct Issuer {
    rule: IssuerRule,
    keys: KeyCache,
}

impl Verifier {
    /// Checks the rules, all of them; asks no issuer yet, so that the broker starts while an issuer is away.
    pub fn new(rules: Vec<IssuerRule>) -> Result<Self, Vec<VerifierError>> {
        if rules.is_empty() {
            return Err(vec![VerifierError::NoIssuer]);
        }
        let (mut issuers, mut problems) = (Vec::new(), Vec::new());
        for rule in rules {
            match Issuer::new(rule) {
                Ok(issuer) => issuers.push(issuer),
                Err(error) => problems.push(error),
            }
        }
        if problems.is_empty() { Ok(Self { issuers }) } else { Err(problems) }
    }

    /// The identity that `bearer` proves at the moment `now`.
    pub async fn verify(&self, bearer: &str, now: Moment) -> Result<Identity, IdentityError> {
        if bearer.len() > LONGEST_TOKEN {
            return Err(IdentityError::NotAToken);
        }
        let all = payload(bearer).ok_or(IdentityError::NotAToken)?;
        let named = all.get("iss").and_then(Value::as_str).unwrap_or_default();
        // Not trusted yet: it only picks the rules, and the verifier compares it again.
        let mut refusal = IdentityError::UnknownIssuer;
        for issuer in &self.issuers {
            if issuer.rule.issuer != named {
                continue;
            }
            match issuer.verify(bearer, &all, now).await {
                Ok(identity) => return Ok(identity),
                // Of several rules for one issuer, the one that the token is for says what is wrong with it.
                Err(IdentityError::Audience { accepted: further }) => match &mut refusal {
                    IdentityError::UnknownIssuer => refusal = IdentityError::Audience { accepted: further },
                    IdentityError::Audience { accepted } => accepted.extend(further),
                    _ => {}
                },
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }
}

impl Issuer {
    fn new(rule: IssuerRule) -> Result<Self, VerifierError> {
        let failed = |source| VerifierError::Issuer { issuer: rule.issuer.clone(), source };
        let http = Http::new(&rule.issuer, rule.ca_file.as_deref().map(Path::new)).map_err(failed)?;
        let url = IssuerUrl::new(rule.issuer.clone()).map_err(|_| failed(HttpError::Address(rule.issuer.clone())))?;
        Ok(Self { keys: KeyCache::new(url, http), rule })
    }

    async fn verify(&self, bearer: &str, all: &Map<String, Value>, now: Moment) -> Result<Identity, IdentityError> {
        let unreadable = |_| claims::malformed(all).map_or(IdentityError::NotAToken, IdentityError::Claims);
        let token: Token = bearer.parse().map_err(unreadable)?;
        let keys = self.keys.get(Need::Fresh, now).await?;
        let verified = match self.check(&token, &keys, now) {
            Err(IdentityError::UnknownKey) => {
                let newer = self.keys.get(Need::Newer, now).await?;
                self.check(&token, &newer, now)?
            }
            outcome => outcome?,
        };
        // `nbf` is no claim of OIDC, so the verifier leaves it to us. What is no date is no permission.
        if all.get("nbf").is_some_and(|from| date(from).is_none_or(|from| from > now.after(CLOCK_LEEWAY))) {
            return Err(IdentityError::NotYet);
        }
        Ok(claims::identity(&Claims { all: all.clone(), ..verified }, &self.rule)?)
    }

    /// Signature, issuer, audience and times, by the audience of ID tokens or of access tokens.
    fn check(&self, token: &Token, keys: &CoreJsonWebKeySet, now: Moment) -> Result<Claims, IdentityError> {
        let mut outcome = self.check_for(&self.rule.client_id, token, keys, now);
        if let (Err(IdentityError::Audience { .. }), Some(audience)) = (&outcome, &self.rule.audience) {
            outcome = self.check_for(audience, token, keys, now);
        }
        outcome.map_err(|error| match error {
            IdentityError::Audience { .. } => IdentityError::Audience { accepted: self.accepted() },
            other => other,
        })
    }

    fn accepted(&self) -> Vec<Accepted> {
        let audiences = std::iter::once(&self.rule.client_id).chain(&self.rule.audience);
        audiences.map(|audience| Accepted { kind: self.rule.kind, audience: audience.clone() }).collect()
    }

    fn check_for(
        &self,
        audience: &str,
        token: &Token,
        keys: &CoreJsonWebKeySet,
        now: Moment,
    ) -> Result<Claims, IdentityError> {
        let time = UNIX_EPOCH + Duration::from_micros(u64::try_from(now.micros()).unwrap_or(0));
        let latest_issue = now.after(CLOCK_LEEWAY).seconds();
        let types = TYPES.iter().filter_map(|name| JsonWebTokenType::new((*name).to_owned()).normalize().ok());
        let ours = [Some(&self.rule.client_id), self.rule.audience.as_ref()];
        let verifier = CoreIdTokenVerifier::new_public_client(
            ClientId::new(audience.to_owned()),
            self.keys.issuer().clone(),
            keys.clone(),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_allowed_jose_types(types)
        // A token that is also for somebody else could be replayed by them.
        .set_other_audience_verifier_fn(move |other| ours.iter().flatten().any(|name| **name == **other))
        .set_time_fn(move || SystemTime::into(time))
        .set_issue_time_verifier_fn(move |issued| {
            if issued.timestamp() <= latest_issue { Ok(()) } else { Err("issued in the future".to_owned()) }
        });
        // The nonce is the client's to check: it binds the token to the sign-in, not to us.
        let verified = token.claims(&verifier, |_: Option<&Nonce>| Ok(())).map_err(refusal)?;
        Ok(Claims {
            issuer: verified.issuer().to_string(),
            sub: verified.subject().to_string(),
            expires: Moment::from_seconds(verified.expiration().timestamp()),
            all: Map::new(),
        })
    }
}

/// When a token was made, by its own word: for a token that was verified.
pub fn issued_at(bearer: &str) -> Option<Moment> {
    date(payload(bearer)?.get("iat")?)
}

/// A NumericDate (RFC 7519, section 2): seconds, of which there may be parts.
fn date(value: &Value) -> Option<Moment> {
    let since = Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    i64::try_from(since.as_micros()).ok().map(Moment::from_micros)
}

/// The nonce in a token, by its own word: for a token that was verified.
pub fn nonce_of(bearer: &str) -> Option<String> {
    payload(bearer)?.get("nonce")?.as_str().map(str::to_owned)
}

/// The claims as they stand in the token: nothing in them is trusted before the signature is.
fn payload(bearer: &str) -> Option<Map<String, Value>> {
    let mut parts = bearer.split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&encoding::unbase64url(payload)?).ok()
}

/// The verifier's reasons in ours. Its texts quote the token; only short words go out.
fn refusal(error: ClaimsVerificationError) -> IdentityError {
    match error {
        ClaimsVerificationError::Expired(why) if why.starts_with("issued") => IdentityError::NotYet,
        ClaimsVerificationError::Expired(_) => IdentityError::Expired,
        ClaimsVerificationError::InvalidAudience(_) => IdentityError::Audience { accepted: Vec::new() },
        ClaimsVerificationError::InvalidIssuer(_) => IdentityError::UnknownIssuer,
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            IdentityError::UnknownKey
        }
        ClaimsVerificationError::SignatureVerification(_) => IdentityError::Signature,
        other => IdentityError::Refused(text::escape(&other.to_string()).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_issuer_or_with_one_in_the_clear_there_is_no_verifier() {
        let refused = |rules| Verifier::new(rules).err().expect("no verifier");
        assert!(matches!(refused(Vec::new()).as_slice(), [VerifierError::NoIssuer]));
        let rule = |issuer: &str| IssuerRule::new(issuer, "dbgate-cli");
        let rules = ["http://idp.example.com", "https://fine.example.com", "no address"].map(rule).to_vec();
        assert!(matches!(refused(rules).as_slice(), [VerifierError::Issuer { .. }, VerifierError::Issuer { .. }]));
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused_before_anybody_is_asked() {
        let verifier = Verifier::new(vec![IssuerRule::new("https://idp.example.com", "c")]).expect("a rule");
        let payload = |json: &str| format!("e30.{}.x", encoding::base64url(json.as_bytes()));
        let long = "x".repeat(LONGEST_TOKEN + 1);
        let other = payload(r#"{"iss":"https://other.example.com"}"#);
        for no_token in ["", "x", "a.b.c", "e30.e30.e30.e30", &payload("7"), &long] {
            assert!(verifier.verify(no_token, Moment::from_seconds(1)).await.is_err(), "{no_token}");
        }
        let refusal = verifier.verify(&other, Moment::from_seconds(1)).await.expect_err("not configured");
        assert!(matches!(refusal, IdentityError::UnknownIssuer));
    }
}
