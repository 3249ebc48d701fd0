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
    /// By authorization code.
    codes: HashMap<String, Authorized>,
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

/// Somebody who said at the page who they are, and waits to be fetched.
struct Authorized {
    login: String,
    challenge: String,
    redirect: String,
    nonce: String,
    expires: Moment,
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
    #[error("only codes and refresh tokens are taken")]
    UnsupportedGrant,
    #[error("PKCE with S256 is needed, and a page on this machine to go back to")]
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
            codes: HashMap::new(),
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
        let mut nonce = String::new();
        let login = match form.field("grant_type") {
            DEVICE_GRANT => self.redeem(form, now)?,
            "authorization_code" => {
                let authorized = self.fetch(form, now)?;
                nonce = authorized.nonce;
                authorized.login
            }
            "refresh_token" => self.refresh.remove(form.field("refresh_token")).ok_or(Refusal::InvalidGrant)?,
            _ => return Err(Refusal::UnsupportedGrant),
        };
        let mut claims = self.claims(&login, now).ok_or(Refusal::InvalidGrant)?;
        if let (false, Some(claims)) = (nonce.is_empty(), claims.as_object_mut()) {
            claims.insert("nonce".to_owned(), nonce.into());
        }
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

    /// Who may be chosen.
    pub fn users(&self) -> &[DemoUser] {
        &self.users
    }

    /// Puts somebody into other groups.
    pub fn set_groups(&mut self, login: &str, groups: &[&str]) {
        if let Some(user) = self.users.iter_mut().find(|user| user.login == login) {
            user.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        }
    }

    /// A code for whoever was chosen at the page, good once and for a short while.
    pub fn code_for(&mut self, form: &Form, now: Moment) -> Result<String, Refusal> {
        is_fair(form)?;
        let login = form.field("user").to_owned();
        self.codes.retain(|_, authorized| authorized.expires > now);
        if self.codes.len() >= MOST_WAITING || !self.users.iter().any(|user| user.login == login) {
            return Err(Refusal::InvalidRequest);
        }
        let authorized = Authorized {
            login,
            challenge: form.field("code_challenge").to_owned(),
            redirect: form.field("redirect_uri").to_owned(),
            nonce: form.field("nonce").to_owned(),
            expires: now.after(CODE_LIFE),
        };
        let code = encoding::base64url(&random::bytes::<32>());
        self.codes.insert(code.clone(), authorized);
        Ok(code)
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

    /// An authorization code is used up by the first who brings it, with the right verifier or not.
    fn fetch(&mut self, form: &Form, now: Moment) -> Result<Authorized, Refusal> {
        let authorized = self.codes.remove(form.field("code")).ok_or(Refusal::InvalidGrant)?;
        let fits = authorized.redirect == form.field("redirect_uri")
            && is_challenge_of(&authorized.challenge, form.field("code_verifier"));
        match fits && authorized.expires > now {
            true => Ok(authorized),
            false => Err(Refusal::InvalidGrant),
        }
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
        self.challenge.as_ref().is_none_or(|challenge| is_challenge_of(challenge, verifier))
    }
}

/// PKCE, S256 (RFC 7636 section 4.6).
fn is_challenge_of(challenge: &str, verifier: &str) -> bool {
    use sha2::Digest as _;
    let digest = encoding::base64url(&sha2::Sha256::digest(verifier.as_bytes()));
    digest.as_bytes().ct_eq(challenge.as_bytes()).into()
}

/// Whether a request of the code flow is one that is served: our client, PKCE, and back to a page on
/// this machine.
pub fn is_fair(form: &Form) -> Result<(), Refusal> {
    is_our_client(form)?;
    let redirect = form.field("redirect_uri");
    let is_here = openidconnect::url::Url::parse(redirect).is_ok_and(|url| {
        url.scheme() == "http"
            && crate::sys::http::is_loopback(&url)
            && url.query().is_none()
            && url.fragment().is_none()
    });
    let has_pkce = form.field("code_challenge_method") == "S256" && !form.field("code_challenge").is_empty();
    match is_here && has_pkce && form.field("response_type") == "code" {
        true => Ok(()),
        false => Err(Refusal::InvalidRequest),
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
