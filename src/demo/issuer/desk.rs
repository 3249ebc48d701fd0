//! The issuer's state: sign-ins that wait, refresh tokens, keys. Time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::core::encoding;
use crate::core::time::Moment;
use crate::demo::issuer::signer::Signer;
use crate::demo::issuer::{CLIENT_ID, DemoUser, Form};
use crate::sys::random;

/// RFC 8628 section 3.4.
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How long a code can be entered.
const CODE_LIFE: Duration = Duration::from_secs(600);
/// Short, so that the demo shows how a session renews its token.
const TOKEN_LIFE: Duration = Duration::from_secs(900);
/// RFC 8628 section 3.5: who asks too soon waits this much longer from then on.
const SLOWER: Duration = Duration::from_secs(5);
/// More sign-ins than any demo has at once.
const MOST_WAITING: usize = 200;

/// Who sits behind the page and the token endpoint.
pub struct Desk {
    url: String,
    users: Vec<DemoUser>,
    interval: Duration,
    /// By device code.
    waiting: HashMap<String, Waiting>,
    /// Refresh token to the login it stands for. Each is good for one use.
    refresh: HashMap<String, String>,
    /// The last one signs; all are published.
    signers: Vec<Signer>,
}

struct Waiting {
    user_code: String,
    /// PKCE: the client that began must be the one that fetches.
    challenge: Option<String>,
    expires: Moment,
    interval: Duration,
    asked: Option<Moment>,
    state: State,
}

enum State {
    Open,
    Approved(String),
    Declined,
}

/// What the person at the page decides.
pub enum Answer<'a> {
    Approve(&'a str),
    Decline,
}

/// Refusals of RFC 6749 section 5.2 and RFC 8628 section 3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("nobody has answered yet")]
    Pending,
    #[error("ask less often")]
    SlowDown,
    #[error("the code has expired")]
    Expired,
    #[error("the person declined")]
    Declined,
    #[error("the code or token is not known, was used, or is another client's")]
    InvalidGrant,
    #[error("this issuer has one client, `dbgate-cli`")]
    InvalidClient,
    #[error("only device codes and refresh tokens are taken")]
    UnsupportedGrant,
    #[error("PKCE takes S256 only, and too many sign-ins wait for none")]
    InvalidRequest,
}

impl Refusal {
    /// The registered error code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::Expired => "expired_token",
            Self::Declined => "access_denied",
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::UnsupportedGrant => "unsupported_grant_type",
            Self::InvalidRequest => "invalid_request",
        }
    }
}

impl Desk {
    pub fn new(url: &str, users: &[DemoUser], interval: Duration) -> Self {
        Self {
            url: url.to_owned(),
            users: users.to_vec(),
            interval,
            waiting: HashMap::new(),
            refresh: HashMap::new(),
            signers: vec![Signer::new()],
        }
    }

    /// Hands out a device code and a code to type.
    pub fn begin(&mut self, form: &Form, now: Moment) -> Result<Value, Refusal> {
        is_our_client(form)?;
        let challenge = form.field("code_challenge");
        let method_fits = challenge.is_empty() || form.field("code_challenge_method") == "S256";
        self.waiting.retain(|_, waiting| waiting.expires > now);
        if !method_fits || self.waiting.len() >= MOST_WAITING {
            return Err(Refusal::InvalidRequest);
        }
        let (device_code, user_code) = (encoding::base64url(&random::bytes::<32>()), user_code());
        let answer = json!({
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": format!("{}/device", self.url),
            "verification_uri_complete": format!("{}/device?user_code={user_code}", self.url),
            "expires_in": CODE_LIFE.as_secs(),
            "interval": self.interval.as_secs(),
        });
        let waiting = Waiting {
            user_code,
            challenge: (!challenge.is_empty()).then(|| challenge.to_owned()),
            expires: now.after(CODE_LIFE),
            interval: self.interval,
            asked: None,
            state: State::Open,
        };
        self.waiting.insert(device_code, waiting);
        Ok(answer)
    }

    /// The code as shown and who may be chosen, if a sign-in waits for it.
    pub fn waiting(&self, typed: &str, now: Moment) -> Option<(String, &[DemoUser])> {
        let typed = letters(typed);
        let waits = |waiting: &&Waiting| letters(&waiting.user_code) == typed && waiting.is_open(now);
        self.waiting.values().find(waits).map(|waiting| (waiting.user_code.clone(), self.users.as_slice()))
    }

    /// Takes the person's answer; false where nothing waits for it. An answer is final.
    pub fn answer(&mut self, typed: &str, answer: Answer<'_>, now: Moment) -> bool {
        let state = match answer {
            Answer::Approve(login) if self.users.iter().any(|user| user.login == login) => {
                State::Approved(login.to_owned())
            }
            Answer::Approve(_) => return false,
            Answer::Decline => State::Declined,
        };
        let typed = letters(typed);
        let waits = |waiting: &&mut Waiting| letters(&waiting.user_code) == typed && waiting.is_open(now);
        match self.waiting.values_mut().find(waits) {
            Some(waiting) => {
                waiting.state = state;
                true
            }
            None => false,
        }
    }

    /// The token endpoint.
    pub fn token(&mut self, form: &Form, now: Moment) -> Result<Value, Refusal> {
        is_our_client(form)?;
        let login = match form.field("grant_type") {
            DEVICE_GRANT => self.redeem(form, now)?,
            "refresh_token" => self.refresh.remove(form.field("refresh_token")).ok_or(Refusal::InvalidGrant)?,
            _ => return Err(Refusal::UnsupportedGrant),
        };
        let claims = self.claims(&login, now).ok_or(Refusal::InvalidGrant)?;
        let refresh_token = encoding::base64url(&random::bytes::<32>());
        self.refresh.insert(refresh_token.clone(), login);
        Ok(json!({
            // Nothing here takes access tokens; OAuth demands that there is one.
            "access_token": encoding::base64url(&random::bytes::<32>()),
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFE.as_secs(),
            "id_token": self.signer().sign(&claims),
            "refresh_token": refresh_token,
        }))
    }

    /// Forgets a refresh token.
    pub fn revoke(&mut self, form: &Form) {
        self.refresh.remove(form.field("token"));
    }

    /// The published keys.
    pub fn keys(&self) -> Value {
        json!({ "keys": self.signers.iter().map(Signer::public).collect::<Vec<_>>() })
    }

    pub fn rotate_key(&mut self) {
        self.signers.push(Signer::new());
    }

    fn redeem(&mut self, form: &Form, now: Moment) -> Result<String, Refusal> {
        let device_code = form.field("device_code");
        let waiting = self.waiting.get_mut(device_code).ok_or(Refusal::InvalidGrant)?;
        if waiting.expires <= now {
            return Err(Refusal::Expired);
        }
        if !waiting.was_begun_with(form.field("code_verifier")) {
            return Err(Refusal::InvalidGrant);
        }
        // A tenth of grace: two requests do not travel equally fast.
        let is_too_soon = waiting.asked.is_some_and(|at| now.since(at) < waiting.interval * 9 / 10);
        waiting.asked = Some(now);
        if is_too_soon {
            waiting.interval += SLOWER;
            return Err(Refusal::SlowDown);
        }
        let outcome = match &waiting.state {
            State::Open => return Err(Refusal::Pending),
            State::Approved(login) => Ok(login.clone()),
            State::Declined => Err(Refusal::Declined),
        };
        // Answered: the code is used up either way.
        self.waiting.remove(device_code);
        outcome
    }

    fn claims(&self, login: &str, now: Moment) -> Option<Value> {
        let user = self.users.iter().find(|user| user.login == login)?;
        Some(json!({
            "iss": self.url,
            "sub": user.login,
            "aud": CLIENT_ID,
            "iat": now.seconds(),
            "exp": now.after(TOKEN_LIFE).seconds(),
            "name": user.name,
            "email": user.email,
            "email_verified": true,
            "groups": user.groups,
        }))
    }

    fn signer(&self) -> &Signer {
        self.signers.last().expect("there is a key from the start, and none is ever removed")
    }

    #[cfg(test)]
    pub fn expire_codes(&mut self) {
        for waiting in self.waiting.values_mut() {
            waiting.expires = Moment::from_micros(0);
        }
    }

    #[cfg(test)]
    pub fn token_with(&self, changes: &Value) -> String {
        let login = self.users.first().expect("a user").login.clone();
        let mut claims = self.claims(&login, crate::sys::clock::now()).expect("known");
        for (name, value) in changes.as_object().expect("an object") {
            claims.as_object_mut().expect("an object").insert(name.clone(), value.clone());
        }
        self.signer().sign(&claims)
    }
}

impl Waiting {
    fn is_open(&self, now: Moment) -> bool {
        self.expires > now && matches!(self.state, State::Open)
    }

    fn was_begun_with(&self, verifier: &str) -> bool {
        use sha2::Digest as _;
        self.challenge.as_ref().is_none_or(|challenge| {
            let digest = encoding::base64url(&sha2::Sha256::digest(verifier.as_bytes()));
            digest.as_bytes().ct_eq(challenge.as_bytes()).into()
        })
    }
}

fn is_our_client(form: &Form) -> Result<(), Refusal> {
    if form.field("client_id") == CLIENT_ID { Ok(()) } else { Err(Refusal::InvalidClient) }
}

/// Eight consonants: no words by accident, no letters that look like digits (RFC 8628 section 6.1).
fn user_code() -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).map_or('B', |letter| char::from(*letter));
    let code: String = random::bytes::<8>().iter().map(letter).collect();
    let (first, second) = code.split_at(4);
    format!("{first}-{second}")
}

/// What a person typed, without spaces and hyphens, in capitals.
fn letters(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_uppercase()).collect()
}
