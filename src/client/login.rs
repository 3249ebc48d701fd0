//! Step 1, login: who is at this workstation, and a token that proves it.
//!
//! Tokens come from a device sign-in and are kept by [`Store`], or are given by the environment
//! (pipelines, agents), and then nothing is kept and nobody is asked. A kept token is renewed
//! before it ends; a renewed refresh token is stored before it is used, because many issuers
//! accept each only once.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::config::Server;
use crate::client::issuer::{self, Invitation, Issuer, IssuerError, Tokens};
use crate::core::api::Discovery;
use crate::core::secret::Secret;
use crate::core::time::Moment;
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use crate::sys::secrets::{self, Place, Store, StoreError};

/// A token that ends sooner is renewed first, so that it lives through the request.
const TOO_SOON: Duration = Duration::from_secs(60);
/// How long signing out waits for an issuer to forget the refresh token.
const FAREWELL: Duration = Duration::from_secs(5);

/// Variables that may hold a token, in the order in which they are looked at, and whether the
/// value is a file's name.
const GIVEN: [(&str, Form); 4] = [
    ("DBGATE_TOKEN_FILE", Form::File),
    ("DBGATE_TOKEN", Form::Value),
    ("DBGATE_ID_TOKEN_FILE", Form::File),
    ("DBGATE_ID_TOKEN", Form::Value),
];

#[derive(Clone, Copy)]
enum Form {
    File,
    Value,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("You are not signed in to {host}.")]
    NotSignedIn { host: String },
    #[error("Your sign-in to {host} ended at {ended}.")]
    Ended { host: String, ended: String },
    #[error("the token in {0} is empty")]
    Empty(String),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

/// What is kept between commands.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    version: u32,
    issuer: String,
    client_id: String,
    id_token: Secret,
    refresh_token: Option<Secret>,
    /// Microseconds since 1970.
    expires: Moment,
}

/// A sign-in that has just been made.
#[derive(Debug)]
pub struct NewLogin {
    pub token: Secret,
    pub place: Place,
    pub expires: Moment,
    /// Whether it renews itself.
    pub renews: bool,
}

/// Signs in with a device code. `invite` shows the person where to go; tokens go to `store`.
pub async fn login(
    discovery: &Discovery,
    server: &Server,
    store: &Store,
    invite: impl FnOnce(&Invitation),
) -> Result<NewLogin, LoginError> {
    let issuer = Issuer::discover(&discovery.issuer, &discovery.client_id, server.ca_file.as_deref()).await?;
    let invitation = issuer.begin(&discovery.scopes).await?;
    invite(&invitation);
    let tokens = issuer.wait(&invitation, tokio::time::sleep).await?;
    let kept = Kept::new(&discovery.issuer, &discovery.client_id, tokens);
    let (keeper, secret) = (store.clone(), kept.to_secret());
    let place = apart(move || keeper.save(&secret)).await?;
    Ok(NewLogin { place, expires: kept.expires, renews: kept.refresh_token.is_some(), token: kept.id_token })
}

/// Forgets the tokens here and, where it can be reached, at the issuer. Says whether there were any.
pub async fn logout(server: &Server, store: &Store) -> Result<bool, LoginError> {
    let kept = store.load()?.and_then(|(secret, _)| Kept::read(&secret));
    let was_there = store.remove()?;
    if let Some(Kept { issuer, client_id, refresh_token: Some(refresh_token), .. }) = kept {
        let farewell = async {
            Issuer::discover(&issuer, &client_id, server.ca_file.as_deref()).await?.revoke(&refresh_token).await
        };
        // The token is gone from here either way; an issuer that is down must not keep people signed in.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
    Ok(was_there)
}

/// A token for one broker, renewed as needed.
pub struct SignedIn {
    server: Server,
    source: Source,
}

enum Source {
    /// A file that somebody else renews: read each time.
    File(PathBuf),
    Value(Secret),
    Kept {
        store: Store,
        place: Place,
        kept: Mutex<Kept>,
    },
}

impl SignedIn {
    /// The token that the environment gives, else the one that was kept at sign-in.
    pub fn load(server: &Server, store: Store) -> Result<Self, LoginError> {
        Self::find(server, store, |name| std::env::var(name).ok())
    }

    fn find(server: &Server, store: Store, variable: impl Fn(&str) -> Option<String>) -> Result<Self, LoginError> {
        let server = server.clone();
        let given = GIVEN.iter().find_map(|(name, form)| {
            variable(name).filter(|value| !value.is_empty()).map(|value| match form {
                Form::File => Source::File(value.into()),
                Form::Value => Source::Value(Secret::new(value.trim())),
            })
        });
        if let Some(source) = given {
            return Ok(Self { server, source });
        }
        let found = store.load()?.and_then(|(secret, place)| Some((Kept::read(&secret)?, place)));
        let Some((kept, place)) = found else {
            return Err(LoginError::NotSignedIn { host: server.host().to_owned() });
        };
        Ok(Self { server, source: Source::Kept { store, place, kept: Mutex::new(kept) } })
    }

    /// Where the token is, in words.
    pub fn where_it_is(&self) -> String {
        match &self.source {
            Source::File(path) => format!("file {}", path.display()),
            Source::Value(_) => "environment".to_owned(),
            Source::Kept { place, .. } => place.to_string(),
        }
    }

    /// A token that is good for the next minute at least.
    pub async fn token(&self) -> Result<Secret, LoginError> {
        match &self.source {
            Source::File(path) => {
                let token = secrets::token_from_file(path)?;
                if token.expose().is_empty() {
                    return Err(LoginError::Empty(format!("`{}`", path.display())));
                }
                self.unless_ended(token)
            }
            Source::Value(token) => self.unless_ended(token.clone()),
            Source::Kept { store, kept, .. } => {
                let current = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if current.lasts() {
                    return Ok(current.id_token);
                }
                let renewed = self.renew(store, current, Kept::lasts).await?;
                let token = renewed.id_token.clone();
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
                Ok(token)
            }
        }
    }

    /// A token that the issuer has made just now. One that was given cannot be renewed.
    pub async fn fresh_token(&self) -> Result<Secret, LoginError> {
        let Source::Kept { store, kept, .. } = &self.source else { return self.token().await };
        let current = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let renewed = self.renew(store, current, |_| false).await?;
        let token = renewed.id_token.clone();
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(token)
    }

    /// Renews under a lock: of several processes one asks the issuer, the others take its result,
    /// where that is good enough.
    async fn renew(&self, store: &Store, current: Kept, is_enough: fn(&Kept) -> bool) -> Result<Kept, LoginError> {
        let path = store.lock_file();
        let _lock = apart(move || files::lock(&path)).await?;
        let latest = store.load()?.and_then(|(secret, _)| Kept::read(&secret));
        let current = latest.filter(|latest| latest.expires > current.expires).unwrap_or(current);
        if is_enough(&current) {
            return Ok(current);
        }
        let Some(refresh_token) = &current.refresh_token else {
            return if current.expires > clock::now() { Ok(current) } else { Err(self.ended(current.expires)) };
        };
        let issuer = Issuer::discover(&current.issuer, &current.client_id, self.server.ca_file.as_deref());
        let renewed = match issuer.await {
            Ok(issuer) => issuer.renew(refresh_token).await,
            Err(error) => Err(error),
        };
        match renewed {
            Ok(tokens) => {
                let renewed = Kept::new(&current.issuer, &current.client_id, tokens);
                store.save(&renewed.to_secret())?;
                Ok(renewed)
            }
            // Still good for some seconds: better than nothing while the issuer is away.
            Err(_) if current.expires > clock::now() => Ok(current),
            Err(IssuerError::Refused(_)) => Err(self.ended(current.expires)),
            Err(error) => Err(error.into()),
        }
    }

    fn unless_ended(&self, token: Secret) -> Result<Secret, LoginError> {
        match issuer::expiry(&token) {
            Some(expires) if expires <= clock::now() => Err(self.ended(expires)),
            // Without a readable end the broker decides.
            _ => Ok(token),
        }
    }

    fn ended(&self, at: Moment) -> LoginError {
        LoginError::Ended { host: self.server.host().to_owned(), ended: at.rfc3339() }
    }
}

/// Runs what may block (a keyring that asks for its password, another process's lock) on a thread
/// that is not joined, so that Ctrl-C ends the program at once.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, waiting) = tokio::sync::oneshot::channel();
    // Nobody listens any more after Ctrl-C; then the result is of no use.
    std::thread::spawn(move || answer.send(work()).is_ok());
    waiting.await.expect("the work does not panic")
}

impl Kept {
    fn new(issuer: &str, client_id: &str, tokens: Tokens) -> Self {
        let Tokens { id_token, refresh_token, expires } = tokens;
        Self {
            version: 1,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            id_token,
            refresh_token,
            expires,
        }
    }

    /// What was kept by another version or damaged is as good as nothing: sign in again.
    fn read(secret: &Secret) -> Option<Self> {
        serde_json::from_str::<Self>(secret.expose()).ok().filter(|kept| kept.version == 1)
    }

    fn to_secret(&self) -> Secret {
        Secret::new(serde_json::to_string(self).expect("strings and numbers always serialise"))
    }

    fn lasts(&self) -> bool {
        self.expires > clock::now().after(TOO_SOON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::encoding;
    use crate::sys::paths::Paths;
    use crate::sys::scratch::Scratch;
    use crate::sys::secrets::StoreChoice;

    fn load(scratch: &Scratch, variables: &[(&str, &str)]) -> Result<SignedIn, LoginError> {
        let server = Server::new("http://127.0.0.1:8480", None).expect("loopback");
        let store = Store::new(StoreChoice::File, &Paths::under(scratch.path()), &server.url);
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        SignedIn::find(&server, store, find)
    }

    fn ending(seconds: i64) -> String {
        format!("e30.{}.x", encoding::base64url(format!("{{\"exp\":{seconds}}}").as_bytes()))
    }

    #[test]
    fn without_a_token_the_host_is_named() {
        let error = load(&Scratch::new(), &[]).err().expect("nobody signed in");
        assert_eq!(error.to_string(), "You are not signed in to 127.0.0.1:8480.");
    }

    #[tokio::test]
    async fn a_given_token_is_used_as_it_is_and_not_after_its_end() {
        let scratch = Scratch::new();
        let later = ending(clock::now().seconds() + 5);
        let given = load(&scratch, &[("DBGATE_ID_TOKEN", "x"), ("DBGATE_TOKEN", &later)]).expect("given");
        assert_eq!(given.token().await.expect("good"), Secret::new(later.as_str()));
        let over = load(&scratch, &[("DBGATE_TOKEN", &ending(1))]).expect("given");
        assert!(matches!(over.token().await, Err(LoginError::Ended { .. })));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_token_file_is_read_each_time_and_must_be_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let scratch = Scratch::new();
        let path = scratch.path().join("token");
        files::write_private(&path, b"one\n").expect("written");
        let given = load(&scratch, &[("DBGATE_TOKEN_FILE", &path.to_string_lossy())]).expect("given");
        assert_eq!(given.token().await.expect("read"), Secret::new("one"));
        files::write_private(&path, b"two").expect("renewed by somebody else");
        assert_eq!(given.token().await.expect("read again"), Secret::new("two"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(given.token().await, Err(LoginError::File(FileError::TooOpen { .. }))));
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_not_signed_in() {
        let scratch = Scratch::new();
        let store = Store::new(StoreChoice::File, &Paths::under(scratch.path()), "http://127.0.0.1:8480");
        store.save(&Secret::new("{\"version\":2}")).expect("saved");
        assert!(matches!(load(&scratch, &[]), Err(LoginError::NotSignedIn { .. })));
    }
}
