//! The log: lines in, positions and proofs out.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::recover;
use super::writer::{Stored, Writer};
use crate::core::api::KeyProof;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::note::{Note, NoteError, NoteSigner};
use crate::core::audit::proof::Proof;
use crate::core::encoding;
use crate::core::grant::{Grant, SessionId};
use crate::core::time::Moment;
use crate::core::transcript::{Chain, Leaf, Line, LineError};
use crate::sys::files::{self, FileError};
use crate::sys::{clock, random};

/// Why something is not recorded, or the log does not open.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the audit log does not accept records")]
    Stopped,
    #[error("a record does not fit the log: {0}")]
    Line(#[from] LineError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the audit log cannot be read")]
    Read(#[from] std::io::Error),
    #[error("the audit log was changed at line {line}: {what}. Restore it from a copy; nothing is served until then")]
    Tampered { line: u64, what: String },
    #[error("the log's name is not usable")]
    Name(#[from] NoteError),
}

/// Where a line stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

/// A grant that stands in the log.
pub struct GrantRecorded {
    pub line: String,
    /// A tlog-proof of the line.
    pub receipt: String,
    pub leaf: [u8; 32],
}

/// The gateway's log.
pub struct Log {
    writer: Writer,
    signer: NoteSigner,
    folder: PathBuf,
    /// For reading lines back.
    file: File,
    /// The log's own lines: starts, policies, grants.
    chain: Mutex<Chain>,
    opened: Moment,
    is_failed: AtomicBool,
}

impl Log {
    /// Opens the log in `folder`, checks it against its last checkpoint, and notes the start.
    pub async fn open(folder: &Path, origin: &str, key: &[u8; 32]) -> Result<Arc<Self>, LogError> {
        files::make_private_folder(folder)?;
        let signer = NoteSigner::new(origin, SigningKey::from_bytes(key))?;
        let path = folder.join("log.ndjson");
        // Locked first: a second process must not cut what the first is writing.
        let append = files::append_private(&path)?;
        let recovered = recover::read(folder, &path, &signer.verifier())?;
        let last = recovered.last;
        let instance = encoding::crockford(&random::bytes::<10>());
        let log = Arc::new(Self {
            file: File::open(&path)?,
            writer: Writer::start(append, recovered.stored),
            signer,
            folder: folder.to_owned(),
            chain: Mutex::new(Chain::for_log(&instance, last)),
            opened: clock::now(),
            is_failed: AtomicBool::new(false),
        });
        let build = env!("CARGO_PKG_VERSION");
        log.own("log.start", json!({"inst": instance, "build": build, "n": log.size()})).await?;
        if let Some((bytes, digest)) = recovered.torn {
            log.own("log.recovered", json!({"torn_bytes": bytes, "torn_sha256": digest})).await?;
        }
        for line in recovered.crashed {
            let session = line.session.clone();
            log.append(line.line, &session).await?;
        }
        log.checkpoint()?;
        Ok(log)
    }

    /// The log's name, as in `gate.example.com/log`.
    pub fn origin(&self) -> &str {
        self.signer.name()
    }

    /// The public key as a C2SP verifier key.
    pub fn verifier_key(&self) -> String {
        self.signer.verifier().to_string()
    }

    /// Whether records are still taken.
    pub fn is_accepting(&self) -> bool {
        !self.is_failed.load(Ordering::Acquire)
    }

    /// Appends a line; returns when it is durable.
    pub async fn append(&self, line: Line, session: &str) -> Result<Position, LogError> {
        match self.writer.append(line, session).await {
            Some(index) => Ok(Position(index)),
            None => {
                self.is_failed.store(true, Ordering::Release);
                Err(LogError::Stopped)
            }
        }
    }

    /// Appends a line that is made durable with the next ones.
    pub fn append_soon(&self, line: Line, session: &str) -> Result<(), LogError> {
        if self.writer.append_soon(line, session) {
            return Ok(());
        }
        self.is_failed.store(true, Ordering::Release);
        Err(LogError::Stopped)
    }

    /// Records a grant, with the proof that the client holds its key.
    pub async fn grant(&self, grant: &Grant, proof: Option<&KeyProof>) -> Result<GrantRecorded, LogError> {
        let mut members = json!({
            "gr": grant.id.as_str(), "ses": grant.session.as_str(), "cred": grant.user,
            "sub": grant.identity.sub, "iss": grant.identity.issuer, "who": grant.identity.subject,
            "kind": grant.identity.kind.word(), "target": grant.target, "db": grant.database,
            "access": grant.access.word(), "scope": grant.scope, "pol": grant.policy,
            "nbf": grant.not_before.seconds(), "exp": grant.expires.seconds(),
        });
        let optional = [
            ("client_key", grant.client_key.clone()),
            ("reason", grant.reason.clone()),
            ("ticket", grant.ticket.clone()),
            ("agent", grant.declared.agent.clone()),
            ("model", grant.declared.model.clone()),
            ("task", grant.declared.task.clone()),
        ];
        if let Some(members) = members.as_object_mut() {
            members.extend(optional.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
            if let Some(proof) = proof {
                members.insert("pop".to_owned(), json!({"nonce": proof.nonce, "sig": proof.signature}));
            }
        }
        let (line, position) = self.own("grant", members).await?;
        Ok(GrantRecorded { receipt: self.receipt(position)?, leaf: line.leaf().0, line: line.as_str().to_owned() })
    }

    /// Records the end of a grant.
    pub async fn grant_end(&self, grant: &Grant, reason: &str) -> Result<(), LogError> {
        self.own("grant.end", json!({"gr": grant.id.as_str(), "reason": reason})).await.map(drop)
    }

    /// Records that a client's account came in after its session had closed.
    pub async fn late_head(&self, session: &SessionId, size: u64, root: &str) -> Result<(), LogError> {
        self.own("client.head", json!({"ses": session.as_str(), "n": size, "root": root})).await.map(drop)
    }

    /// Writes the last line and signs the last checkpoint.
    pub async fn stop(&self) {
        let stopped = self.own("log.stop", json!({})).await.map(drop).and_then(|()| self.checkpoint());
        if let Err(error) = stopped {
            tracing::error!(%error, "the log was not closed in order");
        }
    }

    /// A checkpoint and the proof that the line at `position` is under it, as a C2SP tlog-proof.
    pub fn receipt(&self, position: Position) -> Result<String, LogError> {
        let (checkpoint, path) = {
            let stored = self.writer.stored();
            let size = stored.tree.size();
            (self.head(&stored), stored.tree.inclusion(position.0, size).ok_or(LogError::Stopped)?)
        };
        let signed = checkpoint.sign(&self.signer);
        self.keep(&signed)?;
        Ok(Proof { index: position.0, path, checkpoint: signed }.write())
    }

    /// The note with the log's cosignature.
    pub fn cosign(&self, note: &Note, at: Moment) -> String {
        self.signer.cosign(note, u64::try_from(at.seconds()).unwrap_or(0))
    }

    /// The lines of a session in order, and the position of the last.
    pub fn session_lines(&self, session: &SessionId) -> Result<Option<(Vec<String>, Position)>, LogError> {
        let places: Vec<(u64, (u64, u32))> = {
            let stored = self.writer.stored();
            let Some(indexes) = stored.sessions.get(session.as_str()) else { return Ok(None) };
            let place = |index: &u64| {
                let at = usize::try_from(*index).ok()?;
                Some((*index, *stored.places.get(at)?))
            };
            indexes.iter().filter_map(place).collect()
        };
        let lines = places.iter().map(|(_, place)| self.read(*place)).collect::<Result<Vec<_>, _>>()?;
        Ok(places.last().map(|(index, _)| (lines, Position(*index))))
    }

    /// The line with this hash among the log's own of this and earlier runs.
    pub fn find(&self, leaf: Leaf) -> Result<Option<String>, LogError> {
        let place = {
            let stored = self.writer.stored();
            let index = (0..stored.tree.size()).rev().find(|index| stored.tree.leaf(*index) == Some(leaf));
            index.and_then(|index| stored.places.get(usize::try_from(index).ok()?).copied())
        };
        place.map(|place| self.read(place)).transpose()
    }

    fn read(&self, (offset, length): (u64, u32)) -> Result<String, LogError> {
        let mut bytes = vec![0u8; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn size(&self) -> u64 {
        self.writer.stored().tree.size()
    }

    fn head(&self, stored: &Stored) -> Checkpoint {
        let size = stored.tree.size();
        let root = stored.tree.root_at(size).unwrap_or_else(crate::core::audit::merkle::empty_root);
        Checkpoint { origin: self.origin().to_owned(), size, root }
    }

    fn checkpoint(&self) -> Result<(), LogError> {
        let checkpoint = self.head(&self.writer.stored());
        self.keep(&checkpoint.sign(&self.signer))
    }

    /// Keeps the newest signed checkpoint: at the next start the log must still agree with it.
    fn keep(&self, signed: &str) -> Result<(), LogError> {
        Ok(files::write_private(&self.folder.join(recover::CHECKPOINT), signed.as_bytes())?)
    }

    /// Appends one of the log's own lines.
    async fn own(&self, kind: &str, members: Value) -> Result<(Line, Position), LogError> {
        let (line, name) = {
            let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock::now();
            let line = chain.append(kind, now, now.since(self.opened), fields(members))?;
            (line, chain.session().to_owned())
        };
        let position = self.append(line.clone(), &name).await?;
        Ok((line, position))
    }
}

/// The members of a JSON object as a line takes them.
pub(super) fn fields(members: Value) -> BTreeMap<String, Value> {
    match members {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
