//! Step 6, transcript: taking in the client's own account, and handing out the evidence.
//!
//! What must stay true: a line that was taken in is never taken back or changed; a head is
//! countersigned only over lines that are stored; the gateway cannot mend a difference, only show it.

mod account;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::api::{TranscriptReceipt, TranscriptUpload};
use crate::core::audit::checkpoint::{self, Checkpoint};
use crate::core::audit::container::Parts;
use crate::core::audit::note::{Algorithm, Note, VerifierKey};
use crate::core::encoding;
use crate::core::grant::{Grant, SessionId};
use crate::core::transcript::Event;
use crate::server::audit::{Log, LogError};
use crate::sys::clock;
use crate::sys::files::{self, FileError};
use account::Account;

/// How long the evidence waits for the session's last line. Closing includes dropping the role.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why an upload or a request for evidence is refused.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error("{0}")]
    Refused(String),
    #[error("the transcript contradicts what was handed in before")]
    Conflict,
    #[error("the session has no record yet")]
    NoSession,
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The clients' accounts.
pub struct Transcripts {
    folder: PathBuf,
    log: Arc<Log>,
    /// Heads taken in by this process: size and root.
    heads: Mutex<HashMap<SessionId, (u64, String)>>,
    /// Uploads of one session go one after the other.
    turns: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Transcripts {
    /// Opens the folder.
    pub fn open(folder: &Path, log: Arc<Log>) -> Result<Self, FileError> {
        files::make_private_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), log, heads: Mutex::default(), turns: Mutex::default() })
    }

    /// Takes in lines and head. Handing in again what is stored already is no error; the answer
    /// comes after everything is on disk and the head is a line of the log.
    pub async fn accept(&self, grant: &Grant, upload: &TranscriptUpload) -> Result<TranscriptReceipt, TranscriptError> {
        let session = &grant.session;
        let (opened, _) = self.log.session_state(session).ok_or(TranscriptError::NoSession)?;
        let head = self.opened_head(grant, &upload.head)?;
        let turn = lock(&self.turns).entry(session.clone()).or_default().clone();
        let taken = {
            let _turn = turn.lock().await;
            let (mut account, upload) = (Account::of(&self.folder, session, opened), upload.clone());
            let (log, signed) = (self.log.clone(), head.clone());
            // Hashing and writing a long account takes its time: not on a thread that serves sessions.
            let work = move || account.take(&upload, &signed, |note| log.cosign(note, clock::now()));
            tokio::task::spawn_blocking(work).await.map_err(|_| LogError::Stopped)??
        };
        // The map keeps no turn that nobody waits for.
        lock(&self.turns).retain(|_, turn| Arc::strong_count(turn) > 1);
        let root = encoding::hex(&head.root);
        if taken.is_new {
            self.log.client_head(session, head.size, &root).await?;
        }
        lock(&self.heads).insert(session.clone(), (head.size, root));
        Ok(TranscriptReceipt { commit_point: head.size, head: taken.cosigned, evidence: None })
    }

    /// The client's head, as `session.close` names it. Asked for once, when the session closes.
    pub fn client_head(&self, session: &SessionId) -> Option<(u64, String)> {
        lock(&self.heads).remove(session)
    }

    /// The evidence of the grant's session, once its last line is written.
    pub async fn evidence(&self, grant: &Grant) -> Result<String, TranscriptError> {
        let session = &grant.session;
        self.log.session_state(session).ok_or(TranscriptError::NoSession)?;
        // A session that goes on for longer is told as far as it has come: genuine, and incomplete.
        let _ = tokio::time::timeout(PATIENCE, self.log.closed(session)).await;
        let (gateway, last) = self.log.session_lines(session)?.ok_or(TranscriptError::NoSession)?;
        let opened = gateway.first().and_then(|line| Event::parse(line).ok()).ok_or(TranscriptError::NoSession)?;
        let granted = self.log.find_grant(opened.previous)?;
        let (client, head) = Account::of(&self.folder, session, opened.line.leaf()).read()?;
        let receipt = self.log.receipt(last)?;
        let parts = Parts {
            grant: granted.as_deref(),
            gateway: &gateway,
            client: &client,
            head: head.as_deref(),
            receipt: &receipt,
        };
        Ok(parts.write())
    }

    /// Reads a head: signed by the key the grant names, for this session of this log.
    fn opened_head(&self, grant: &Grant, head: &str) -> Result<Checkpoint, TranscriptError> {
        let refused = |what: &str| TranscriptError::Refused(what.to_owned());
        let key = grant.client_key.as_deref().and_then(encoding::unhex::<32>);
        let key = key.ok_or_else(|| refused("this session has no client key"))?;
        let origin = checkpoint::session_origin(self.log.origin(), &grant.session);
        let key =
            VerifierKey::new(&origin, Algorithm::Ed25519, &key).map_err(|_| refused("the client key is not usable"))?;
        let (head, _) = Checkpoint::open(head, &[key]).map_err(|error| refused(&format!("the head: {error}")))?;
        if head.origin == origin { Ok(head) } else { Err(refused("the head is of another session")) }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The note as it is in memory, for [`Account::take`].
fn parsed(note: &str) -> Result<Note, TranscriptError> {
    Note::parse(note).map_err(|error| TranscriptError::Refused(error.to_string()))
}

#[cfg(test)]
mod tests;
