//! Step 6, transcript: the client's own signed account of a session.
//!
//! Every statement is written down before it is sent. The head is signed with a key that lives
//! only in this process; once it is signed, the file can wait in the spool without the key.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use crate::core::api::TranscriptUpload;
use crate::core::audit::checkpoint::{self, Checkpoint};
use crate::core::audit::merkle::Frontier;
use crate::core::audit::note::{NoteError, NoteSigner};
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Leaf, LineError, SessionKey, content};
use crate::sys::clock;
use crate::sys::files::{self, FileError};

/// Why a statement could not be written down, and so was not sent.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error("the transcript file cannot be written")]
    File(#[from] FileError),
    #[error("the transcript file cannot be written")]
    Write(#[from] std::io::Error),
    #[error("a record does not fit the transcript: {0}")]
    Line(#[from] LineError),
    #[error("the session's name is not usable")]
    Name(#[from] NoteError),
}

/// How a statement's result looked from here.
pub struct Received<'a> {
    pub rows: u64,
    pub bytes: u64,
    pub rows_digest: &'a str,
    pub columns: &'a [String],
}

/// The account of one session.
pub struct ClientTranscript {
    chain: Chain,
    tree: Frontier,
    lines: Vec<String>,
    file: File,
    path: PathBuf,
    signer: NoteSigner,
    key: SessionKey,
    started: Instant,
    statements: u64,
}

impl ClientTranscript {
    /// Begins the account in `folder` (0700), in a file of its own (0600).
    pub fn begin(
        folder: &Path,
        session: SessionId,
        origin: &str,
        signing: SigningKey,
        key: SessionKey,
        open_leaf: Leaf,
        agent: &str,
    ) -> Result<Self, TranscriptError> {
        let path = folder.join(format!("{}.pending", session.as_str()));
        let signer = NoteSigner::new(&checkpoint::session_origin(origin, &session), signing)?;
        let check = key.check_value(session.as_str());
        let mut transcript = Self {
            chain: Chain::new(session, open_leaf),
            tree: Frontier::default(),
            lines: Vec::new(),
            file: files::append_private(&path)?,
            path,
            signer,
            key,
            started: Instant::now(),
            statements: 0,
        };
        let version = env!("CARGO_PKG_VERSION");
        let members = json!({"agent": agent, "ver": version, "open_h": open_leaf.hex(), "key_c": check});
        transcript.write("begin", members)?;
        Ok(transcript)
    }

    /// Writes a statement down; it may be sent once this returns. Gives its number.
    pub fn statement(&mut self, text: &str, local: &str) -> Result<u64, TranscriptError> {
        self.statements += 1;
        let number = self.statements;
        let hash = content::statement_commitment(&self.key, text);
        self.write("stmt", json!({"no": number, "stmt_c": hash, "local": local}))?;
        Ok(number)
    }

    /// Notes what came back of a part.
    pub fn result(&mut self, number: u64, part: u64, received: &Received<'_>) -> Result<(), TranscriptError> {
        let mut members = json!({
            "no": number, "part": part, "rows": received.rows, "bytes": received.bytes,
            "rows_c": received.rows_digest, "state": "00000",
        });
        if let Some(members) = members.as_object_mut() {
            members.extend(content::columns(received.columns));
        }
        self.write("result", members)
    }

    /// Notes an error that came back.
    pub fn error(&mut self, number: u64, sqlstate: &str) -> Result<(), TranscriptError> {
        self.write("error", json!({"no": number, "state": sqlstate}))
    }

    /// Ends the account: what is to be handed in.
    pub fn end(&mut self) -> Result<TranscriptUpload, TranscriptError> {
        self.write("end", json!({}))?;
        self.file.sync_all()?;
        let upload = TranscriptUpload { from: 0, lines: self.lines.clone(), head: self.head(), done: true };
        // Kept until the broker has it: lines and head, everything an upload needs.
        let text = serde_json::to_vec(&upload).map_err(std::io::Error::from)?;
        files::write_private(&self.path.with_extension("spool"), &text)?;
        files::remove(&self.path)?;
        Ok(upload)
    }

    /// Where the ended account waits for its upload.
    pub fn spooled(&self) -> PathBuf {
        self.path.with_extension("spool")
    }

    /// The key that commits to rows.
    pub fn key(&self) -> &SessionKey {
        &self.key
    }

    fn head(&self) -> String {
        let origin = self.signer.name().to_owned();
        Checkpoint { origin, size: self.tree.size(), root: self.tree.root() }.sign(&self.signer)
    }

    fn write(&mut self, kind: &str, members: Value) -> Result<(), TranscriptError> {
        let members = match members {
            Value::Object(members) => members.into_iter().collect(),
            _ => Default::default(),
        };
        let since: Duration = self.started.elapsed();
        let line = self.chain.append(kind, clock::now(), since, members)?;
        self.file.write_all(line.as_str().as_bytes())?;
        self.file.write_all(b"\n")?;
        self.tree.push(line.leaf());
        self.lines.push(line.as_str().to_owned());
        Ok(())
    }
}

/// Accounts that ended and were not handed in yet: session and upload.
pub fn spool(folder: &Path) -> Vec<(SessionId, TranscriptUpload, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let read = |path: PathBuf| {
        let session = SessionId::parse(path.file_stem()?.to_str()?)?;
        let upload = serde_json::from_slice(&files::read_private(&path).ok()?).ok()?;
        Some((session, upload, path))
    };
    let waiting = entries.filter_map(|entry| Some(entry.ok()?.path()));
    waiting.filter(|path| path.extension().is_some_and(|e| e == "spool")).filter_map(read).collect()
}
