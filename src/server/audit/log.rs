//! The log: lines in, positions and proofs out.
//!
//! What must stay true: a checkpoint is signed only over lines that are durable, and is itself
//! durable before anyone sees it; its size never goes down.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::index::Place;
use super::recover;
use super::stored::{Kind, Stored};
use super::writer::{NotTaken, Pending, Writer};
use crate::core::api::KeyProof;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::note::{Note, NoteError, NoteSigner};
use crate::core::audit::proof::Proof;
use crate::core::encoding;
use crate::core::grant::{Grant, SessionId};
use crate::core::time::Moment;
use crate::core::transcript::line::LONGEST;
use crate::core::transcript::{Chain, Leaf, Line, LineError, content};
use crate::sys::files::{self, FileError};
use crate::sys::{clock, random};

/// The file of lines.
pub const LINES: &str = "log.ndjson";
/// How long a line may stand without a signed checkpoint over it.
const CADENCE: Duration = Duration::from_secs(1);
/// How long the log may be silent: a beat proves that nothing happened.
const BEAT: Duration = Duration::from_secs(60);
/// Most of a text from outside that a line takes.
const LONGEST_TEXT: usize = 1024;

/// Why something is not recorded, or the log does not open.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the audit log does not accept records")]
    Stopped,
    #[error("too many records wait to be written")]
    Busy,
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
    #[error(
        "the log was signed with another key than the one in `log-signing-key`. Bring that file back from a copy; \
         nothing is served until then"
    )]
    OtherKey,
    #[error("this is the log `{found}`, and by `public_url` it would be `{expected}`. A log keeps its name")]
    OtherName { found: String, expected: String },
    #[error("the session's record is closed")]
    Closed,
    #[error("there is no statement to record")]
    Nothing,
}

impl From<NotTaken> for LogError {
    fn from(reason: NotTaken) -> Self {
        match reason {
            NotTaken::Full => Self::Busy,
            NotTaken::Failed => Self::Stopped,
        }
    }
}

/// Where a line stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

/// The first line of an account, which may not be durable yet.
#[must_use]
pub struct Opening {
    pub(super) log: Arc<Log>,
    pub(super) line: Pending,
}

impl Opening {
    /// Waits until it is.
    pub async fn durable(self) -> Result<(), LogError> {
        self.log.durable(self.line).await.map(drop)
    }
}

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
    started: Instant,
    /// Size of the newest checkpoint on disk.
    signed: Mutex<u64>,
}

impl Log {
    /// Opens the log in `folder`, checks it against its last checkpoint, closes what a crash left
    /// open, and notes the start.
    pub async fn open(folder: &Path, origin: &str, key: &[u8; 32]) -> Result<Arc<Self>, LogError> {
        files::make_private_folder(folder)?;
        let signer = NoteSigner::new(origin, SigningKey::from_bytes(key))?;
        let path = folder.join(LINES);
        // Locked first: a second process must not cut what the first is writing.
        let append = files::append_private(&path)?;
        let recovered = recover::read(folder, &path, &signer.verifier())?;
        let instance = encoding::crockford(&random::bytes::<10>());
        let log = Arc::new(Self {
            file: File::open(&path)?,
            writer: Writer::start(append, recovered.stored),
            signer,
            folder: folder.to_owned(),
            chain: Mutex::new(Chain::for_log(&instance, recovered.last)),
            started: Instant::now(),
            signed: Mutex::new(recovered.signed),
        });
        let build = env!("CARGO_PKG_VERSION");
        let start = json!({
            "inst": instance, "build": build, "n": log.size(),
            "last_cp": {"n": recovered.signed, "root": encoding::hex(&recovered.root)},
        });
        log.own("log.start", start).await?;
        if let Some((bytes, digest)) = recovered.torn {
            log.own("log.recovered", json!({"torn_bytes": bytes, "torn_sha256": digest})).await?;
        }
        for closing in recovered.crashed {
            log.append(&closing.line, &closing.session, closing.kind).await?;
        }
        log.checkpoint()?;
        keep_up(&log);
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
        self.writer.is_accepting()
    }

    /// Appends a line; returns when it is durable. Once this was polled the line is in the queue:
    /// giving up waiting does not take it back.
    pub async fn append(&self, line: &Line, session: &Arc<str>, kind: Kind) -> Result<Position, LogError> {
        self.durable(self.queue(line, session, kind)?).await
    }

    /// Queues a line and returns at once; [`Log::durable`] waits for it.
    pub(super) fn queue(&self, line: &Line, session: &Arc<str>, kind: Kind) -> Result<Pending, LogError> {
        Ok(self.writer.append(line, session, kind)?)
    }

    /// The same, but waits while too many lines wait to be written.
    pub(super) async fn queue_in_turn(&self, line: &Line, session: &Arc<str>, kind: Kind) -> Result<Pending, LogError> {
        loop {
            match self.queue(line, session, kind) {
                Err(LogError::Busy) => {}
                other => return other,
            }
            let written = self.writer.written();
            tokio::pin!(written);
            // Registered before the next try, so that a batch that is written in between is not missed.
            written.as_mut().enable();
            match self.queue(line, session, kind) {
                Err(LogError::Busy) => written.await,
                other => return other,
            }
        }
    }

    pub(super) async fn durable(&self, pending: Pending) -> Result<Position, LogError> {
        self.writer.durable(pending).await.map(Position).ok_or(LogError::Stopped)
    }

    /// The same for who does not mind to wait for others' lines.
    pub(super) async fn durable_in_turn(&self, pending: Pending) -> Result<Position, LogError> {
        self.writer.durable_in_turn(pending).await.map(Position).ok_or(LogError::Stopped)
    }

    /// Whether the line is durable by now.
    pub(super) fn is_durable(&self, pending: Pending) -> bool {
        self.writer.is_durable(pending)
    }

    /// Has what was queued written now.
    pub(super) fn hurry(&self) {
        self.writer.hurry();
    }

    /// Records a grant, with the proof that the client holds its key. Durable, and under a signed
    /// checkpoint, when it returns: only then may the credential be handed out.
    pub async fn grant(&self, grant: &Grant, proof: Option<&KeyProof>) -> Result<GrantRecorded, LogError> {
        let clip = |text: &str| content::clip(text, LONGEST_TEXT).to_owned();
        let mut members = fields(json!({
            "gr": grant.id.as_str(), "ses": grant.session.as_str(), "cred": grant.user,
            "sub": grant.identity.sub, "iss": grant.identity.issuer, "who": grant.identity.subject,
            "kind": grant.identity.kind.word(), "target": grant.target, "db": grant.database, "env": grant.environment,
            "access": grant.access.word(), "scope": grant.scope, "pol": grant.policy,
            "nbf": grant.not_before.seconds(), "exp": grant.expires.seconds(),
        }));
        let optional = [
            ("client_key", grant.client_key.clone()),
            ("reason", grant.reason.as_deref().map(clip)),
            ("ticket", grant.ticket.as_deref().map(clip)),
            ("agent", grant.declared.agent.as_deref().map(clip)),
            ("model", grant.declared.model.as_deref().map(clip)),
            ("task", grant.declared.task.as_deref().map(clip)),
        ];
        members.extend(optional.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
        if let Some(proof) = proof {
            members.insert("pop".to_owned(), json!({"nonce": proof.nonce, "sig": proof.signature}));
        }
        let (line, position) = self.own("grant", Value::Object(members.into_iter().collect())).await?;
        Ok(GrantRecorded { receipt: self.receipt(position)?, leaf: line.leaf().0, line: line.as_str().to_owned() })
    }

    /// Records the end of a grant, and whether the target has confirmed that none of its login roles is left.
    pub async fn grant_end(&self, grant: &Grant, reason: &str, roles_dropped: bool) -> Result<(), LogError> {
        let members = json!({"gr": grant.id.as_str(), "reason": reason, "roles_dropped": roles_dropped});
        self.own("grant.end", members).await.map(drop)
    }

    /// Records the policy of a target by its digest, before it takes effect.
    pub async fn policy(&self, target: &str, digest: &str) -> Result<(), LogError> {
        self.own("log.policy", json!({"target": content::clip(target, LONGEST_TEXT), "pol": digest})).await.map(drop)
    }

    /// Records the head of a client's account as it was taken in.
    pub async fn client_head(&self, session: &SessionId, size: u64, root: &str) -> Result<(), LogError> {
        self.own("client.head", json!({"ses": session.as_str(), "n": size, "root": root})).await.map(drop)
    }

    /// Writes the last line, signs the last checkpoint and takes no more records.
    pub async fn stop(&self) {
        let stopped = self.own("log.stop", json!({})).await;
        self.writer.stop();
        if let Err(error) = stopped.map(drop).and_then(|()| self.checkpoint()) {
            tracing::error!(%error, "the log was not closed in order");
        }
    }

    /// A checkpoint and the proof that the line at `position` is under it, as a C2SP tlog-proof.
    pub fn receipt(&self, position: Position) -> Result<String, LogError> {
        // One at a time from reading the size to the disk: a checkpoint is never replaced by a smaller one.
        let mut newest = self.newest();
        let (checkpoint, path) = {
            let stored = self.writer.stored();
            (self.head(&stored), stored.inclusion(position.0).ok_or(LogError::Stopped)?)
        };
        let signed = self.keep(&checkpoint, &mut newest)?;
        Ok(Proof { index: position.0, path, checkpoint: signed }.write())
    }

    /// The note with the log's cosignature.
    pub fn cosign(&self, note: &Note, at: Moment) -> String {
        self.signer.cosign(note, u64::try_from(at.seconds()).unwrap_or(0))
    }

    /// The lines of a session in order, and the position of the last.
    pub fn session_lines(&self, session: &SessionId) -> Result<Option<(Vec<String>, Position)>, LogError> {
        let last = self.writer.stored().last_of(session.as_str());
        let (mut at, mut lines) = (last, Vec::new());
        while let Some(index) = at {
            let place = self.writer.stored().place(index)?;
            lines.push(self.read(place)?);
            // Always further back: an index that was changed on disk does not lead in circles.
            at = place.previous.filter(|previous| *previous < index);
        }
        lines.reverse();
        Ok(last.map(|last| (lines, Position(last))))
    }

    /// The hash of a session's first line, and whether its last one is written.
    pub fn session_state(&self, session: &SessionId) -> Option<(Leaf, bool)> {
        self.writer.stored().session(session.as_str())
    }

    /// Waits until the session's last line is durable; as long as it takes.
    pub async fn closed(&self, session: &SessionId) {
        let is_closed = |stored: &Stored| stored.session(session.as_str()).is_some_and(|(_, is_closed)| is_closed);
        self.writer.wait_until(is_closed).await;
    }

    /// The grant whose line has this hash.
    pub fn find_grant(&self, leaf: Leaf) -> Result<Option<String>, LogError> {
        let place = {
            let stored = self.writer.stored();
            stored.grant(leaf).map(|at| stored.place(at)).transpose()?
        };
        place.map(|place| self.read(place)).transpose()
    }

    fn read(&self, place: Place) -> Result<String, LogError> {
        let mut bytes = vec![0u8; usize::try_from(place.length).unwrap_or(0).min(LONGEST)];
        self.file.read_exact_at(&mut bytes, place.offset)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn size(&self) -> u64 {
        self.writer.stored().size()
    }

    fn newest(&self) -> std::sync::MutexGuard<'_, u64> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn head(&self, stored: &Stored) -> Checkpoint {
        Checkpoint { origin: self.origin().to_owned(), size: stored.size(), root: stored.root() }
    }

    /// Signs a checkpoint over everything that is durable, unless the newest covers it already.
    pub(super) fn checkpoint(&self) -> Result<(), LogError> {
        let mut newest = self.newest();
        let checkpoint = self.head(&self.writer.stored());
        if checkpoint.size > *newest {
            self.keep(&checkpoint, &mut newest)?;
        }
        Ok(())
    }

    /// Signs, and keeps the newest checkpoint: at the next start the log must still agree with it.
    fn keep(&self, checkpoint: &Checkpoint, newest: &mut u64) -> Result<String, LogError> {
        let signed = checkpoint.sign(&self.signer);
        files::write_private(&self.folder.join(recover::CHECKPOINT), signed.as_bytes())?;
        *newest = checkpoint.size;
        Ok(signed)
    }

    /// Appends one of the log's own lines.
    pub(super) async fn own(&self, kind: &str, members: Value) -> Result<(Line, Position), LogError> {
        let (line, pending) = {
            // Queued under the lock: the file holds the chain in its order.
            let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
            let (now, since) = (clock::now(), self.started.elapsed());
            let line = chain.next(kind, now, since, fields(members))?;
            let pending = self.queue(&line, &chain.session().into(), Kind::of(kind))?;
            chain.advance(&line, now, since);
            (line, pending)
        };
        let position = self.durable(pending).await?;
        Ok((line, position))
    }
}

/// Signs a checkpoint at least every second in which something was recorded, and writes a beat
/// when nothing was for a minute. Ends with the log.
fn keep_up(log: &Arc<Log>) {
    let log = Arc::downgrade(log);
    tokio::spawn(async move {
        let (mut last, mut size) = (Instant::now(), 0);
        loop {
            tokio::time::sleep(CADENCE).await;
            let Some(log) = log.upgrade().filter(|log| log.is_accepting()) else { return };
            let theirs = log.clone();
            // It waits for the disk, so not on a thread that serves sessions.
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || theirs.checkpoint()).await {
                tracing::error!(%error, "no checkpoint of the audit log can be kept");
            }
            if log.size() != size {
                (last, size) = (Instant::now(), log.size());
            } else if last.elapsed() >= BEAT
                && let Err(error) = log.own("log.beat", json!({"n": size})).await
            {
                tracing::error!(%error, "the audit log has stopped");
            }
        }
    });
}

/// The members of a JSON object as a line takes them.
pub(super) fn fields(members: Value) -> BTreeMap<String, Value> {
    match members {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}
