//! Where tokens rest: the operating system's keyring, else a file that only its owner can read.
//!
//! A keyring can be there and still refuse: no session bus, a locked collection, a value too long.
//! So nothing is believed before a write has worked, and the file is what remains. The file's
//! existence says where the tokens are; a value is never left in both places.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use serde::Deserialize;

use crate::core::encoding;
use crate::core::secret::Secret;
use crate::sys::files::{self, FileError};
use crate::sys::paths::Paths;

/// Under this name entries show in the keyring.
const SERVICE: &str = "dbgate";
/// A person may have to type the keyring's password; a broken session bus must not hang us.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which places may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreChoice {
    /// The keyring where it works, else a file.
    #[default]
    Auto,
    /// The keyring or nothing.
    Keyring,
    /// A file with mode 0600.
    File,
}

impl std::str::FromStr for StoreChoice {
    type Err = StoreError;

    fn from_str(word: &str) -> Result<Self, StoreError> {
        match word {
            "auto" => Ok(Self::Auto),
            "keyring" => Ok(Self::Keyring),
            "file" => Ok(Self::File),
            other => Err(StoreError::UnknownChoice(other.to_owned())),
        }
    }
}

impl StoreChoice {
    /// `DBGATE_TOKEN_STORE` where it is set, else what the configuration says.
    pub fn from_environment(configured: Self) -> Result<Self, StoreError> {
        match std::env::var("DBGATE_TOKEN_STORE") {
            Ok(word) if !word.is_empty() => word.parse(),
            _ => Ok(configured),
        }
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Keyring,
    File(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Keyring => out.write_str("system keyring"),
            Self::File(path) => write!(out, "file {} (mode 0600)", path.display()),
        }
    }
}

/// Why a secret could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("unknown token store `{0}`: auto, keyring or file")]
    UnknownChoice(String),
    #[error(
        "the system keyring cannot be used: {0}\nRun with DBGATE_TOKEN_STORE=file to keep the token in a 0600 file"
    )]
    Keyring(String),
    #[error(transparent)]
    File(#[from] FileError),
}

/// One secret's place: the tokens for one broker.
#[derive(Clone, Debug)]
pub struct Store {
    choice: StoreChoice,
    account: String,
    file: PathBuf,
}

impl Store {
    /// The place for `account`, such as a broker's address. Touches nothing yet.
    pub fn new(choice: StoreChoice, paths: &Paths, account: &str) -> Self {
        let file = paths.state().join("tokens").join(format!("{}.json", file_name(account)));
        Self { choice, account: account.to_owned(), file }
    }

    /// Keeps `secret` and says where. Replaces what was kept before, wherever that was.
    pub fn save(&self, secret: &Secret) -> Result<Place, StoreError> {
        if self.choice != StoreChoice::File {
            match self.in_keyring(Request::Write(secret.clone())) {
                Ok(_) => {
                    files::remove(&self.file)?;
                    return Ok(Place::Keyring);
                }
                Err(why) if self.choice == StoreChoice::Keyring => return Err(StoreError::Keyring(why)),
                // No keyring here: the file below, and the sign-in says so once.
                Err(_) => {}
            }
        }
        files::write_private(&self.file, secret.expose().as_bytes())?;
        Ok(Place::File(self.file.clone()))
    }

    /// The secret and its place; `None` where nothing was kept.
    pub fn load(&self) -> Result<Option<(Secret, Place)>, StoreError> {
        if self.choice != StoreChoice::Keyring {
            match files::read_private(&self.file) {
                Ok(bytes) => {
                    let secret = Secret::new(String::from_utf8_lossy(&bytes).into_owned());
                    return Ok(Some((secret, Place::File(self.file.clone()))));
                }
                Err(FileError::Missing { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match (self.choice, self.choice != StoreChoice::File) {
            (_, false) => Ok(None),
            (choice, true) => match self.in_keyring(Request::Read) {
                Ok(found) => Ok(found.map(|secret| (secret, Place::Keyring))),
                Err(why) if choice == StoreChoice::Keyring => Err(StoreError::Keyring(why)),
                Err(_) => Ok(None),
            },
        }
    }

    /// Forgets the secret everywhere; says whether there was one.
    pub fn remove(&self) -> Result<bool, StoreError> {
        let in_file = files::remove(&self.file)?;
        if self.choice == StoreChoice::File {
            return Ok(in_file);
        }
        match self.in_keyring(Request::Remove) {
            Ok(found) => Ok(in_file || found.is_some()),
            Err(why) if self.choice == StoreChoice::Keyring => Err(StoreError::Keyring(why)),
            Err(_) => Ok(in_file),
        }
    }

    /// Where the secret is now; `None` where nothing is kept.
    pub fn where_it_is(&self) -> Result<Option<Place>, StoreError> {
        Ok(self.load()?.map(|(_, place)| place))
    }

    /// A file beside the tokens: whoever renews them holds its lock.
    pub fn lock_file(&self) -> PathBuf {
        self.file.with_extension("lock")
    }

    /// Asks the keyring on a thread of its own: its client blocks, and it may wait for a person.
    fn in_keyring(&self, request: Request) -> Result<Option<Secret>, String> {
        let (answer, waiting) = mpsc::sync_channel(1);
        let account = self.account.clone();
        std::thread::Builder::new()
            .name("keyring".into())
            .spawn(move || answer.send(ask_keyring(&account, &request)))
            .map_err(|error| error.to_string())?;
        waiting.recv_timeout(PATIENCE).map_err(|_| "it does not answer".to_owned())?
    }
}

enum Request {
    Read,
    Write(Secret),
    Remove,
}

fn ask_keyring(account: &str, request: &Request) -> Result<Option<Secret>, String> {
    let entry = keyring::Entry::new(SERVICE, account).map_err(|error| reason(&error))?;
    let found = |outcome: keyring::Result<Secret>| match outcome {
        Ok(secret) => Ok(Some(secret)),
        Err(keyring::Error::NoEntry) => Ok(None),
        Err(error) => Err(reason(&error)),
    };
    match request {
        Request::Read => found(entry.get_password().map(Secret::new)),
        Request::Remove => found(entry.delete_credential().map(|()| Secret::new(""))),
        Request::Write(secret) => {
            // Read back: some keyrings take a write and lose it (no persistence without a login).
            entry.set_password(secret.expose()).map_err(|error| reason(&error))?;
            match found(entry.get_password().map(Secret::new))? {
                Some(kept) if kept == *secret => Ok(None),
                _ => Err("it does not give back what was written".to_owned()),
            }
        }
    }
}

/// The keyring's reason. When no store could be opened at all, the cause says why.
fn reason(error: &keyring::Error) -> String {
    match (error, keyring::Entry::store_status()) {
        (keyring::Error::NoDefaultStore, Err(cause)) => cause.to_string(),
        _ => error.to_string(),
    }
}

/// A readable file name that differs for accounts that differ.
fn file_name(account: &str) -> String {
    use sha2::Digest as _;
    let readable: String =
        account.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).take(60).collect();
    let digest = encoding::hex(&sha2::Sha256::digest(account.as_bytes()));
    format!("{readable}-{}", digest.get(..8).unwrap_or(&digest))
}

/// Reads a bearer token from a file that only its owner may read; white space around it is dropped.
pub fn token_from_file(path: &Path) -> Result<Secret, FileError> {
    let bytes = files::read_private(path)?;
    Ok(Secret::new(String::from_utf8_lossy(&bytes).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    #[test]
    fn a_secret_in_a_file_is_found_replaced_and_forgotten() {
        let scratch = Scratch::new();
        let store = Store::new(StoreChoice::File, &Paths::under(scratch.path()), "http://127.0.0.1:8480");
        assert_eq!(store.load().expect("nothing yet"), None);
        store.save(&Secret::new("one")).expect("saved");
        let place = store.save(&Secret::new("two")).expect("saved again");
        assert_eq!(store.load().expect("there"), Some((Secret::new("two"), place.clone())));
        assert!(place.to_string().contains("mode 0600"));
        assert!(store.remove().expect("removed"));
        assert!(!store.remove().expect("nothing left"));
    }

    #[test]
    fn accounts_do_not_share_a_file() {
        assert_ne!(file_name("http://a:1"), file_name("http://a-1"));
        assert!(!file_name("../../etc/x").contains('/'));
    }

    #[test]
    fn store_words_are_read_and_others_refused() {
        assert_eq!("file".parse::<StoreChoice>().expect("known"), StoreChoice::File);
        assert!("keychain".parse::<StoreChoice>().is_err());
    }
}
