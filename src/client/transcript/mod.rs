//! Step 6, transcript: the client's own signed account of a session.
//!
//! What must stay true: a statement is written here before it is sent; every line is chained to
//! the gateway's `session.open`; the head is signed anew whenever a statement is complete, so that
//! a crash leaves at most the last statement unsigned. The signing key lives in memory only: what
//! waits in the [`spool`] is signed already and can be handed in without it.

pub mod pins;
mod spool;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use crate::core::api::{TranscriptReceipt, TranscriptUpload};
use crate::core::audit::Report;
use crate::core::audit::checkpoint::{Checkpoint, session_origin};
use crate::core::audit::merkle::Frontier;
use crate::core::audit::note::{Algorithm, Note, NoteError, NoteSigner, VerifierKey};
use crate::core::audit::receipt::{self, ReceiptError};
use crate::core::audit::verify::verify;
use crate::core::encoding;
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Domain, Leaf, LineError, SessionKey, content};
use crate::sys::clock;
use crate::sys::files::{self, FileError};

pub use spool::spool;

/// How long written lines may wait to be made durable. The gateway has its own record of them.
const SYNC: Duration = Duration::from_secs(5);
/// Most of a text that a `note` or an argument may take in a line.
const LONGEST_TEXT: usize = 1024;

/// Why the client's account cannot be kept. Nothing may be sent then.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot write `{}`: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("a line of the transcript: {0}")]
    Line(#[from] LineError),
    #[error("the transcript's head: {0}")]
    Head(#[from] NoteError),
    #[error("the grant's receipt does not hold: {0}")]
    Grant(#[from] ReceiptError),
    #[error("the log recorded another client key than ours: the grant is not for this program")]
    OtherKey,
    #[error("the gateway's receipt is not for what was handed in")]
    Receipt,
    #[error("the evidence holds another account than the one this program wrote")]
    OtherAccount,
}

/// Checks that the grant is in the log and names our key, before anything is done with it.
pub fn accept_grant(
    line: &str,
    receipt: &str,
    log_key: &VerifierKey,
    signing: &SigningKey,
) -> Result<Checkpoint, TranscriptError> {
    let (grant, checkpoint) = receipt::open(line, receipt, log_key)?;
    let ours = encoding::hex(signing.verifying_key().as_bytes());
    if grant.kind != "grant" || grant.text("client_key") != Some(ours.as_str()) {
        return Err(TranscriptError::OtherKey);
    }
    Ok(checkpoint)
}

/// How a part of a statement looked from here.
pub struct Received<'a> {
    /// Rows by DataRow messages; 0 for a COPY.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// [`crate::core::transcript::RowsDigest`] over them.
    pub rows_digest: &'a str,
    pub columns: &'a [String],
}

/// The account that is being written.
pub struct ClientTranscript {
    folder: PathBuf,
    session: SessionId,
    signer: NoteSigner,
    key: SessionKey,
    chain: Chain,
    tree: Frontier,
    file: File,
    /// Lines from `acknowledged` on.
    lines: Vec<String>,
    acknowledged: u64,
    statements: u64,
    started: Instant,
    synced: Instant,
    has_ended: bool,
}

impl ClientTranscript {
    /// Begins the account in `folder`. `open_leaf` is the leaf hash of the gateway's `session.open`.
    pub fn begin(
        folder: &Path,
        session: SessionId,
        origin: &str,
        signing: SigningKey,
        key: SessionKey,
        open_leaf: Leaf,
        agent: &str,
    ) -> Result<Self, TranscriptError> {
        files::make_private_folder(folder)?;
        let signer = NoteSigner::new(&session_origin(origin, &session), signing)?;
        let file = files::append_private(&spool::lines_of(folder, session.as_str()))?;
        let mut transcript = Self {
            chain: Chain::new(session.clone(), open_leaf),
            folder: folder.to_owned(),
            signer,
            tree: Frontier::default(),
            file,
            lines: Vec::new(),
            acknowledged: 0,
            statements: 0,
            started: Instant::now(),
            synced: Instant::now(),
            has_ended: false,
            key,
            session,
        };
        let members = json!({
            "agent": content::clip(agent, 256), "ver": env!("CARGO_PKG_VERSION"), "open_h": open_leaf.hex(),
            "key_c": transcript.key.check_value(transcript.session.as_str()),
        });
        transcript.write("begin", members)?;
        transcript.sign()?;
        Ok(transcript)
    }

    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// The key that commits to rows.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Writes down a statement, before it is sent; returns its number, which the gateway counts
    /// alike: one Query message is one statement. `local` is what the local check thought:
    /// `allow`, `warn`, `deny` or `unknown`.
    pub fn statement(&mut self, text: &str, local: &str) -> Result<u64, TranscriptError> {
        self.statement_with(text, None, local)
    }

    /// The same with bound parameters, as the bytes the gateway sees.
    pub fn statement_with(
        &mut self,
        text: &str,
        parameters: Option<&[u8]>,
        local: &str,
    ) -> Result<u64, TranscriptError> {
        let number = self.statements + 1;
        let commitment = content::statement_commitment(&self.key, text);
        let mut members = json!({"no": number, "stmt_c": commitment, "local": local});
        if let (Some(bytes), Some(members)) = (parameters, members.as_object_mut()) {
            members.insert("par_c".into(), self.key.commit(Domain::Parameters, bytes).into());
        }
        self.write("stmt", members)?;
        self.statements = number;
        Ok(number)
    }

    /// Writes down a statement that the local check stopped. It has no number: it was not sent.
    pub fn blocked(&mut self, text: &str, rule: &str) -> Result<(), TranscriptError> {
        let commitment = content::statement_commitment(&self.key, text);
        self.write("blocked", json!({"stmt_c": commitment, "rule": content::clip(rule, 256)}))?;
        self.sign()
    }

    /// Writes down how a part of a statement ended.
    pub fn result(&mut self, number: u64, part: u64, received: &Received<'_>) -> Result<(), TranscriptError> {
        let mut members = json!({
            "no": number, "part": part, "rows": received.rows, "bytes": received.bytes,
            "rows_c": received.rows_digest, "state": "00000",
        });
        if let Some(members) = members.as_object_mut() {
            members.extend(content::columns(received.columns));
        }
        self.write("result", members)?;
        self.sign()
    }

    /// Writes down that a statement failed.
    pub fn error(&mut self, number: u64, sqlstate: &str) -> Result<(), TranscriptError> {
        self.write("error", json!({"no": number, "state": content::clip(sqlstate, 64)}))?;
        self.sign()
    }

    /// Writes down that the person cancelled a statement.
    pub fn cancel(&mut self, number: u64) -> Result<(), TranscriptError> {
        self.write("cancel", json!({"no": number, "by": "client"}))
    }

    /// Writes down a remark of the person.
    pub fn note(&mut self, text: &str) -> Result<(), TranscriptError> {
        self.write("note", json!({"text": content::clip(text, LONGEST_TEXT)}))?;
        self.sign()
    }

    /// Writes down a head of the gateway's log that was received and checked: what the gateway
    /// says of this session up to here can then not be rewritten without contradicting this line.
    pub fn checkpoint(&mut self, head: &Checkpoint) -> Result<(), TranscriptError> {
        self.write("cp", json!({"n": head.size, "root": head.root_hex()}))
    }

    /// What has not been handed in yet, for an upload in the middle of the session.
    pub fn pending(&self) -> TranscriptUpload {
        TranscriptUpload { from: self.acknowledged, lines: self.lines.clone(), head: self.head(), done: self.has_ended }
    }

    /// Ends the account, makes it durable and returns what is to be handed in. Hand it in before
    /// Terminate is sent: `session.close` can then name the client's head.
    pub fn end(&mut self) -> Result<TranscriptUpload, TranscriptError> {
        if !self.has_ended {
            self.write("end", json!({"n_stmt": self.statements}))?;
            self.file.sync_data().map_err(|source| self.failed(source))?;
            self.has_ended = true;
            let whole = TranscriptUpload { from: 0, lines: self.all_lines()?, head: self.head(), done: true };
            spool::keep(&self.folder, self.session.as_str(), &whole)?;
        }
        Ok(self.pending())
    }

    /// The file in which the ended account waits until its evidence has come back.
    pub fn spooled(&self) -> PathBuf {
        spool::ended(&self.folder, self.session.as_str())
    }

    /// Takes the gateway's receipt in: it must carry the log's cosignature of our own head.
    pub fn mark_uploaded(&mut self, receipt: &TranscriptReceipt, log: &VerifierKey) -> Result<(), TranscriptError> {
        let note = Note::parse(&receipt.head)?;
        let signed = note.open(&[log.with_algorithm(Algorithm::Cosignature), self.signer.verifier()])?;
        let head = Checkpoint::parse(note.text()).map_err(|_| TranscriptError::Receipt)?;
        // An upload in the middle may be answered when more lines have been written already.
        let is_ours = signed.len() == 2 && head.origin == self.signer.name() && head.size == receipt.commit_point;
        let handed = usize::try_from(head.size.saturating_sub(self.acknowledged)).unwrap_or(usize::MAX);
        if !is_ours || head.size < self.acknowledged || handed > self.lines.len() {
            return Err(TranscriptError::Receipt);
        }
        self.lines.drain(..handed);
        self.acknowledged = head.size;
        Ok(())
    }

    /// Verifies the evidence that came back: all that [`verify`] checks, and that the client's
    /// account in it is the one this program wrote, to the byte.
    pub fn check_evidence(&self, evidence: &str, log: &VerifierKey) -> Result<Report, TranscriptError> {
        let mut tree = Frontier::default();
        evidence.lines().filter_map(|line| line.strip_prefix("c ")).for_each(|line| tree.push(Leaf::of(line)));
        if (tree.size(), tree.root()) != (self.tree.size(), self.tree.root()) {
            return Err(TranscriptError::OtherAccount);
        }
        Ok(verify(evidence, std::slice::from_ref(log)))
    }

    /// Every line, from the file where they are not in memory any more.
    fn all_lines(&self) -> Result<Vec<String>, TranscriptError> {
        if self.acknowledged == 0 {
            return Ok(self.lines.clone());
        }
        let path = spool::lines_of(&self.folder, self.session.as_str());
        let text = std::fs::read_to_string(&path).map_err(|source| TranscriptError::Write { path, source })?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The signed head over all lines so far.
    fn head(&self) -> String {
        let (size, root) = (self.tree.size(), self.tree.root());
        Checkpoint { origin: self.signer.name().to_owned(), size, root }.sign(&self.signer)
    }

    /// Keeps the head beside the lines. Not made durable here: losing it costs a signature over
    /// the last statements, and a sync per statement would cost every user time.
    fn sign(&self) -> Result<(), TranscriptError> {
        let path = spool::head_of(&self.folder, self.session.as_str());
        let draft = path.with_extension("head-draft");
        files::remove(&draft)?;
        let mut file = files::append_private(&draft)?;
        file.write_all(self.head().as_bytes())
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|source| TranscriptError::Write { path, source })
    }

    fn write(&mut self, kind: &str, members: Value) -> Result<(), TranscriptError> {
        let members: BTreeMap<String, Value> = match members {
            Value::Object(members) => members.into_iter().collect(),
            _ => BTreeMap::new(),
        };
        let (at, since) = (clock::now(), self.started.elapsed());
        let line = self.chain.next(kind, at, since, members)?;
        // One write call with the line feed in it, so that a crash leaves a torn line, never a merged one.
        self.file.write_all(format!("{}\n", line.as_str()).as_bytes()).map_err(|source| self.failed(source))?;
        self.chain.advance(&line, at, since);
        self.tree.push(line.leaf());
        self.lines.push(line.as_str().to_owned());
        if self.synced.elapsed() >= SYNC {
            self.file.sync_data().map_err(|source| self.failed(source))?;
            self.synced = Instant::now();
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> TranscriptError {
        TranscriptError::Write { path: spool::lines_of(&self.folder, self.session.as_str()), source }
    }
}

#[cfg(test)]
mod tests;
