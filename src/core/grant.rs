//! A grant: who may reach which target, how, why and until when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::encoding;
use crate::core::identity::{Declared, Identity};
use crate::core::time::Moment;

/// The longest a grant may last, whatever is asked for.
pub const LONGEST: Duration = Duration::from_secs(8 * 60 * 60);
/// How long a grant lasts when nothing is asked for.
pub const USUAL: Duration = Duration::from_secs(30 * 60);

/// How far a session may go. A higher level includes the lower ones; policy may still say no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    #[default]
    Read,
    Write,
    Admin,
}

impl Access {
    /// The word used on the command line, in policies and in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The two or three letters of the prompt.
    pub const fn prompt(self) -> &'static str {
        match self {
            Self::Read => "ro",
            Self::Write => "rw",
            Self::Admin => "adm",
        }
    }
}

impl std::str::FromStr for Access {
    type Err = UnknownAccess;

    fn from_str(word: &str) -> Result<Self, UnknownAccess> {
        match word {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            other => Err(UnknownAccess(other.to_owned())),
        }
    }
}

/// A word that names no access level.
#[derive(Debug, thiserror::Error)]
#[error("unknown access `{0}`: read, write or admin")]
pub struct UnknownAccess(String);

/// Names one grant: `gr_` and 16 letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    /// From ten random bytes.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        Self(format!("gr_{}", encoding::crockford(&bytes)))
    }

    /// Reads an id that came from outside; anything of another form is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.strip_prefix("gr_")?;
        let well_formed = letters.len() == 16 && letters.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        well_formed.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names one recorded session: a ULID (26 Crockford letters, the first ten tell the time).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// From the moment it begins and ten random bytes.
    pub fn new(at: Moment, random: [u8; 10]) -> Self {
        let milliseconds = u64::try_from(at.micros() / 1000).unwrap_or(0);
        let mut value = [0u8; 16];
        value[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
        value[6..].copy_from_slice(&random);
        // 128 bits in 26 letters of 5: the two spare bits stand in front.
        let mut number = u128::from_be_bytes(value);
        let mut letters = [0u8; 26];
        for letter in letters.iter_mut().rev() {
            let index = usize::try_from(number & 31).unwrap_or(0);
            *letter = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".get(index).copied().unwrap_or(b'0');
            number >>= 5;
        }
        Self(String::from_utf8_lossy(&letters).into_owned())
    }

    /// Reads an id that came from outside; anything of another form is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == 26 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        well_formed.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One grant, as the broker decided it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    /// The recorded session of the first connection that uses this grant.
    pub session: SessionId,
    pub target: String,
    pub database: String,
    pub environment: String,
    pub access: Access,
    pub identity: Identity,
    pub declared: Declared,
    pub reason: Option<String>,
    pub ticket: Option<String>,
    pub not_before: Moment,
    pub expires: Moment,
    /// Digest of the scope: names the role that holds the privileges.
    pub scope: String,
    /// Digest of the policy the grant was judged by.
    pub policy: String,
    /// Hex Ed25519 public key the client will sign its transcript with; none for native clients.
    pub client_key: Option<String>,
    /// The user name of the gateway credential.
    pub user: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_has_26_letters_and_sorts_by_time() {
        let early = SessionId::new(Moment::from_seconds(1_700_000_000), [255; 10]);
        let late = SessionId::new(Moment::from_seconds(1_700_000_001), [0; 10]);
        assert_eq!(early.as_str().len(), 26);
        assert!(early < late);
        assert_eq!(SessionId::parse(early.as_str()), Some(early));
    }

    #[test]
    fn ids_from_outside_are_checked() {
        let id = GrantId::from_random([7; 10]);
        assert_eq!(GrantId::parse(id.as_str()), Some(id));
        assert_eq!(GrantId::parse("gr_../../etc/passwd"), None);
        assert_eq!(SessionId::parse("../x"), None);
    }
}
