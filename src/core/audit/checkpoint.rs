//! Checkpoints: the head of a tree as a signed note of exactly three lines (C2SP tlog-checkpoint).
//!
//! Extension lines are refused: nobody could audit what stands in them.

use crate::core::audit::merkle::Hash;
use crate::core::audit::note::{Note, NoteError, NoteSigner, SignedBy, VerifierKey};
use crate::core::encoding::{base64, hex, unbase64};
use crate::core::grant::SessionId;

/// A tree's name, size and root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub origin: String,
    pub size: u64,
    pub root: Hash,
}

/// Why a checkpoint is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("not three lines of origin, size and root")]
    Form,
}

impl Checkpoint {
    /// The note's text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, base64(&self.root))
    }

    /// The root in hex, as it stands in lines.
    pub fn root_hex(&self) -> String {
        hex(&self.root)
    }

    /// The signed note.
    pub fn sign(&self, signer: &NoteSigner) -> String {
        signer.sign(&self.text())
    }

    /// Reads the text of a checkpoint.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Form)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Form);
        };
        let size = decimal(size).ok_or(CheckpointError::Form)?;
        let root = unbase64(root).and_then(|bytes| bytes.try_into().ok()).ok_or(CheckpointError::Form)?;
        if origin.is_empty() {
            return Err(CheckpointError::Form);
        }
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Reads a signed checkpoint; every signature must be by one of `keys`, the first among them.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<(Self, Vec<SignedBy>), CheckpointError> {
        let note = Note::parse(note)?;
        let signed = note.open(keys)?;
        Ok((Self::parse(note.text())?, signed))
    }
}

/// The origin of a client's own tree: the log's origin and the session.
pub fn session_origin(log: &str, session: &SessionId) -> String {
    format!("{log}/session/{}", session.as_str())
}

/// A number in decimal digits without leading zeros.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// What a client signs to show that it holds the key that will sign its transcript.
pub fn possession_text(nonce: &str, origin: &str) -> String {
    format!("dbgate-pop/v1\n{nonce}\n{origin}\n")
}
