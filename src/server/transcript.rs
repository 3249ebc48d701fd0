//! Step 6, transcript: taking in the client's own account, and handing out the evidence.
//!
//! What must stay true: a line that was taken in is never taken back or changed; a head is
//! countersigned only over lines that are stored; the gateway cannot mend a difference, only show it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::core::api::{TranscriptReceipt, TranscriptUpload};
use crate::core::audit::checkpoint::{self, Checkpoint};
use crate::core::audit::container::Parts;
use crate::core::audit::merkle::Frontier;
use crate::core::audit::note::{Algorithm, Note, VerifierKey};
use crate::core::encoding;
use crate::core::grant::{Grant, SessionId};
use crate::core::transcript::{Chain, Event, Leaf};
use crate::server::audit::{Log, LogError};
use crate::sys::clock;
use crate::sys::files::{self, FileError};

/// How long the evidence waits for the session's last line.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);
/// The longest account that is taken in, in lines.
const MOST_LINES: usize = 1_000_000;

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
    /// Uploads are short and rare: one at a time keeps a file whole.
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Transcripts {
    /// Opens the folder.
    pub fn open(folder: &Path, log: Arc<Log>) -> Result<Self, FileError> {
        files::make_private_folder(folder)?;
        let (heads, one_at_a_time) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { folder: folder.to_owned(), log, heads, one_at_a_time })
    }

    /// Takes in lines and head. Handing in again what is stored already is no error.
    pub async fn accept(&self, grant: &Grant, upload: &TranscriptUpload) -> Result<TranscriptReceipt, TranscriptError> {
        let _guard = self.one_at_a_time.lock().await;
        let session = &grant.session;
        let (gateway, _) = self.log.session_lines(session)?.ok_or(TranscriptError::NoSession)?;
        let opened = gateway.first().map(|line| Leaf::of(line)).ok_or(TranscriptError::NoSession)?;
        let mut lines = self.stored_lines(session)?;
        let known = lines.len();
        extend(&mut lines, upload)?;
        let tree = walk(&lines, session, opened)?;
        let head = self.opened_head(grant, &upload.head)?;
        if (head.size, head.root) != (tree.size(), tree.root()) {
            return Err(TranscriptError::Refused("the head is not that of the lines".to_owned()));
        }
        let note = Note::parse(&upload.head).map_err(|error| TranscriptError::Refused(error.to_string()))?;
        let cosigned = self.log.cosign(&note, clock::now());
        if lines.len() > known || !self.path(session, "head").exists() {
            files::write_private(&self.path(session, "lines"), (lines.join("\n") + "\n").as_bytes())?;
            files::write_private(&self.path(session, "head"), cosigned.as_bytes())?;
        }
        let root = encoding::hex(&head.root);
        self.heads().insert(session.clone(), (head.size, root.clone()));
        if is_closed(&gateway) && lines.len() > known {
            self.log.late_head(session, head.size, &root).await?;
        }
        Ok(TranscriptReceipt { commit_point: head.size, head: cosigned, evidence: None })
    }

    /// The client's head, as `session.close` names it.
    pub fn client_head(&self, session: &SessionId) -> Option<(u64, String)> {
        self.heads().get(session).cloned()
    }

    /// The evidence of the grant's session, once its last line is written.
    pub async fn evidence(&self, grant: &Grant) -> Result<String, TranscriptError> {
        let session = &grant.session;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let (gateway, last) = loop {
            let (lines, last) = self.log.session_lines(session)?.ok_or(TranscriptError::NoSession)?;
            if is_closed(&lines) || tokio::time::Instant::now() >= deadline {
                break (lines, last);
            }
            tokio::time::sleep(LOOK).await;
        };
        let granted = gateway.first().and_then(|line| Event::parse(line).ok()).map(|open| open.previous);
        let granted = match granted {
            Some(leaf) => self.log.find(leaf)?,
            None => None,
        };
        let client = self.stored_lines(session)?;
        let head = match self.path(session, "head") {
            path if path.exists() => Some(text(&path)?),
            _ => None,
        };
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

    fn stored_lines(&self, session: &SessionId) -> Result<Vec<String>, TranscriptError> {
        let path = self.path(session, "lines");
        if !path.exists() {
            return Ok(Vec::new());
        }
        Ok(text(&path)?.lines().map(str::to_owned).collect())
    }

    /// The id has been checked to be 26 letters and digits: it cannot lead out of the folder.
    fn path(&self, session: &SessionId, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", session.as_str()))
    }

    fn heads(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, (u64, String)>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(path: &Path) -> Result<String, FileError> {
    Ok(String::from_utf8_lossy(&files::read_private(path)?).into_owned())
}

fn is_closed(lines: &[String]) -> bool {
    lines.last().and_then(|line| Event::parse(line).ok()).is_some_and(|event| event.kind == "session.close")
}

/// Adds what is new; what overlaps must be the same.
fn extend(lines: &mut Vec<String>, upload: &TranscriptUpload) -> Result<(), TranscriptError> {
    let from = usize::try_from(upload.from).map_err(|_| TranscriptError::Conflict)?;
    let stored = lines.get(from..).ok_or(TranscriptError::Conflict)?;
    let overlap = stored.len().min(upload.lines.len());
    if stored.get(..overlap) != upload.lines.get(..overlap) {
        return Err(TranscriptError::Conflict);
    }
    lines.extend(upload.lines.iter().skip(overlap).cloned());
    if lines.len() > MOST_LINES {
        return Err(TranscriptError::Refused("the transcript is too long".to_owned()));
    }
    Ok(())
}

/// Checks form and chain of every line, and grows the tree.
fn walk(lines: &[String], session: &SessionId, opened: Leaf) -> Result<Frontier, TranscriptError> {
    let mut chain = Chain::new(session.clone(), opened);
    let mut tree = Frontier::default();
    for (index, line) in lines.iter().enumerate() {
        let wrong = |what: &str| TranscriptError::Refused(format!("line {}: {what}", index + 1));
        let event = Event::parse(line).map_err(|error| wrong(&error.to_string()))?;
        chain.admit(&event).map_err(wrong)?;
        tree.push(event.line.leaf());
    }
    Ok(tree)
}
