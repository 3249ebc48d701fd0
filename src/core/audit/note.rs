//! C2SP signed notes: a text, an empty line, signature lines. Ed25519 only.
//!
//! Two kinds of signature are known: type 1 over the text itself (a log's or a session's head),
//! and type 4, a cosignature with a time (C2SP tlog-cosignature), which the log puts under a head.
//! [`Note::open`] is strict: a signature line that no given key made is an error, because bytes in
//! a line that nobody checks could be changed unseen.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::core::encoding::{base64, hex, unbase64, unhex};

/// Most signature lines in a note, as the format demands readers to take at least.
const MOST_SIGNATURES: usize = 16;

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The note's text. Type byte 1.
    Ed25519,
    /// The time and the note's text: "seen at this moment". Type byte 4.
    Cosignature,
}

impl Algorithm {
    const fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key with its name, as `name+id+base64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: Algorithm,
    key: VerifyingKey,
}

impl VerifierKey {
    /// From the 32 bytes of a public key; weak keys and bad names are refused.
    pub fn new(name: &str, algorithm: Algorithm, key: &[u8; 32]) -> Result<Self, NoteError> {
        let key = VerifyingKey::from_bytes(key).map_err(|_| NoteError::Key)?;
        // A key of small order accepts signatures that nobody made.
        if !is_key_name(name) || key.is_weak() {
            return Err(NoteError::Key);
        }
        Ok(Self { name: name.to_owned(), algorithm, key })
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, rest) = text.split_once('+').ok_or(NoteError::Key)?;
        let (id, material) = rest.split_once('+').ok_or(NoteError::Key)?;
        let material = unbase64(material).ok_or(NoteError::Key)?;
        let (kind, key) = material.split_first().ok_or(NoteError::Key)?;
        let algorithm = match kind {
            1 => Algorithm::Ed25519,
            4 => Algorithm::Cosignature,
            _ => return Err(NoteError::Key),
        };
        let key = Self::new(name, algorithm, key.try_into().map_err(|_| NoteError::Key)?)?;
        if unhex(id) != Some(key.id()) {
            return Err(NoteError::Key);
        }
        Ok(key)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public key itself.
    pub fn bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The same key and name for the other kind of signature.
    #[must_use]
    pub fn with_algorithm(&self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self.clone() }
    }

    /// First four bytes of SHA-256 over name, line feed, type and key.
    fn id(&self) -> [u8; 4] {
        let mut hash = Sha256::new();
        hash.update(self.name.as_bytes());
        hash.update([b'\n', self.algorithm.byte()]);
        hash.update(self.key.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// Checks the bytes behind the key id; returns the time of a cosignature.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<u64> {
        let (time, signature) = match self.algorithm {
            Algorithm::Ed25519 => (0, signature),
            Algorithm::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*time), signature)
            }
        };
        let signature = Signature::from_bytes(signature.try_into().ok()?);
        let message = self.message(text, time);
        // Strict: one signature has one spelling, and keys of small order do not count.
        self.key.verify_strict(message.as_bytes(), &signature).ok().map(|()| time)
    }

    fn message(&self, text: &str, time: u64) -> String {
        match self.algorithm {
            Algorithm::Ed25519 => text.to_owned(),
            Algorithm::Cosignature => format!("cosignature/v1\ntime {time}\n{text}"),
        }
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut material = vec![self.algorithm.byte()];
        material.extend_from_slice(self.key.as_bytes());
        write!(out, "{}+{}+{}", self.name, hex(&self.id()), base64(&material))
    }
}

/// A private key with its name. The key zeroes itself on drop.
#[derive(Clone)]
pub struct NoteSigner {
    name: String,
    key: SigningKey,
}

impl NoteSigner {
    /// `name` is the origin the key speaks for: no spaces, no plus sign.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::Key);
        }
        Ok(Self { name: name.to_owned(), key })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), algorithm: Algorithm::Ed25519, key: self.key.verifying_key() }
    }

    /// A note over `text`, which ends with a line feed.
    pub fn sign(&self, text: &str) -> String {
        let key = self.verifier();
        format!("{text}\n{}", self.line(&key, &[], &key.message(text, 0)))
    }

    /// The note with this key's cosignature added: "seen at `seconds`".
    pub fn cosign(&self, note: &Note, seconds: u64) -> String {
        let key = self.verifier().with_algorithm(Algorithm::Cosignature);
        format!("{}{}", note.as_str(), self.line(&key, &seconds.to_be_bytes(), &key.message(note.text(), seconds)))
    }

    fn line(&self, key: &VerifierKey, before: &[u8], message: &str) -> String {
        let mut bytes = key.id().to_vec();
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(&self.key.sign(message.as_bytes()).to_bytes());
        format!("\u{2014} {} {}\n", self.name, base64(&bytes))
    }
}

/// Why a note is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("not a verifier key of the form `name+id+base64`")]
    Key,
    #[error("not in the form of a signed note")]
    Form,
    #[error("the signature of `{0}` does not match the text")]
    Signature(String),
    #[error("a signature line of `{0}`, a key that was not given")]
    UnknownKey(String),
    #[error("two signatures by the same key")]
    Twice,
    #[error("no signature by `{0}`")]
    Unsigned(String),
}

/// A note whose form has been checked, but no signature yet.
#[derive(Clone, Debug)]
pub struct Note {
    note: String,
    text_length: usize,
    signatures: Vec<Line>,
}

/// One signature line.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

/// A key whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy {
    pub key: VerifierKey,
    /// Seconds since 1970, for a cosignature.
    pub time: Option<u64>,
}

impl Note {
    /// Reads a note; nothing of it is to be trusted before [`Note::open`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(NoteError::Form);
        }
        let split = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, rest) = (note.get(..=split).ok_or(NoteError::Form)?, note.get(split + 2..).ok_or(NoteError::Form)?);
        let lines = rest.strip_suffix('\n').ok_or(NoteError::Form)?;
        let signatures = lines.split('\n').map(Line::parse).collect::<Option<Vec<_>>>().ok_or(NoteError::Form)?;
        if signatures.len() > MOST_SIGNATURES {
            return Err(NoteError::Form);
        }
        Ok(Self { note: note.to_owned(), text_length: text.len(), signatures })
    }

    /// The signed text with its final line feed.
    pub fn text(&self) -> &str {
        self.note.get(..self.text_length).unwrap_or_default()
    }

    /// The whole note.
    pub fn as_str(&self) -> &str {
        &self.note
    }

    /// Checks every signature line; all must be by one of `keys`, each key at most once, and the
    /// first of `keys` must be among them.
    pub fn open(&self, keys: &[VerifierKey]) -> Result<Vec<SignedBy>, NoteError> {
        let mut signed: Vec<SignedBy> = Vec::new();
        for line in &self.signatures {
            let key = keys.iter().find(|key| key.name == line.name && key.id() == line.id);
            let key = key.ok_or_else(|| NoteError::UnknownKey(line.name.clone()))?;
            if signed.iter().any(|by| by.key == *key) {
                return Err(NoteError::Twice);
            }
            let time = key.verify(self.text(), &line.signature);
            let time = time.ok_or_else(|| NoteError::Signature(line.name.clone()))?;
            let time = (key.algorithm == Algorithm::Cosignature).then_some(time);
            signed.push(SignedBy { key: key.clone(), time });
        }
        match keys.first() {
            Some(needed) if signed.iter().any(|by| by.key == *needed) => Ok(signed),
            Some(needed) => Err(NoteError::Unsigned(needed.name.clone())),
            None => Err(NoteError::Unsigned(String::new())),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (name, bytes) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = unbase64(bytes)?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        (is_key_name(name) && !signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: *id,
            signature: signature.to_vec(),
        })
    }
}

/// Not empty, no Unicode space, no plus sign, no control character.
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}
