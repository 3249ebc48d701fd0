//! Reading the log at start: what was signed must still be there, what was torn is cut, and
//! sessions that a crash left open are closed in the record.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::log::{LogError, fields};
use super::stored::{Entry, Kind, Stored};
use crate::core::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::core::audit::merkle::{self, Hash};
use crate::core::audit::note::{NoteError, VerifierKey};
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Event, Leaf, Line};
use crate::core::{encoding, text};
use crate::sys::files;

/// How much is read at once.
const BLOCK: usize = 256 * 1024;
/// What is read of a line: its feed, and enough more to see that it is too long.
const LONGEST_READ: u64 = 32 * 1024;
/// The newest signed checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// What the file holds.
pub struct Recovered {
    pub stored: Stored,
    /// The hash of the last line.
    pub last: Leaf,
    /// Length and digest of a torn tail that was cut off.
    pub torn: Option<(u64, String)>,
    /// Lines that close what a crash left open.
    pub crashed: Vec<Closing>,
    /// Size and root of the newest checkpoint.
    pub signed: u64,
    pub root: Hash,
}

/// A line that closes a session after a crash.
#[derive(Clone)]
pub struct Closing {
    pub session: Arc<str>,
    pub line: Line,
    pub kind: Kind,
}

/// Reads the file. Up to the last signed checkpoint every line must be as it was signed. Behind it
/// stands what was written in the last second before a crash: from the first line that is torn or
/// does not follow, it is cut off and kept beside the log.
///
/// # Errors
/// When the lines do not reproduce the last signed checkpoint.
pub fn read(folder: &Path, path: &Path, key: &VerifierKey) -> Result<Recovered, LogError> {
    let checkpoint = checkpoint(folder, key)?;
    let signed = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let (mut stored, mut sessions) = (Stored::empty(folder)?, Sessions::default());
    let (mut last, mut whole) = (Leaf::NONE, 0);
    let mut file = BufReader::with_capacity(BLOCK, File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A line that is longer than any is not read to its end.
        let count = file.by_ref().take(LONGEST_READ).read_until(b'\n', &mut line)?;
        if count == 0 {
            break;
        }
        let number = stored.size() + 1;
        match admit(&line, &mut sessions) {
            Ok(event) => {
                if checkpoint.is_none() && !event.kind.starts_with("log.") {
                    return Err(tampered(number, "its checkpoint is missing"));
                }
                last = event.line.leaf();
                let length = u32::try_from(event.line.as_str().len()).unwrap_or(u32::MAX);
                let (session, kind) = (event.session.into(), Kind::of(&event.kind));
                stored.push_many(&Entry { leaf: last, length, session, kind })?;
                whole += u64::try_from(count).unwrap_or(u64::MAX);
            }
            Err(what) if number <= signed => return Err(tampered(number, &what)),
            Err(_) => break,
        }
    }
    stored.write()?;
    let root = checkpoint.as_ref().map_or_else(merkle::empty_root, |checkpoint| checkpoint.root);
    match stored.root_at(signed) {
        Some(found) if found == root => {}
        Some(_) => return Err(tampered(signed, "its lines are not the ones that were signed")),
        None => return Err(tampered(stored.size() + 1, "lines that were signed are missing")),
    }
    let torn = cut(folder, path, whole, &mut file)?;
    Ok(Recovered { stored, last, torn, crashed: sessions.close()?, signed, root })
}

/// Reads one line; it must be whole, canonical, and next in its session's chain.
fn admit(line: &[u8], sessions: &mut Sessions) -> Result<Event, String> {
    let text = line.strip_suffix(b"\n").ok_or("it is cut off")?;
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let event = Event::parse(text).map_err(|error| error.to_string())?;
    sessions.take(&event)?;
    Ok(event)
}

fn tampered(line: u64, what: &str) -> LogError {
    LogError::Tampered { line, what: what.to_owned() }
}

/// Cuts what stands behind the `whole` lines and keeps what was cut.
fn cut(folder: &Path, path: &Path, whole: u64, file: &mut BufReader<File>) -> Result<Option<(u64, String)>, LogError> {
    file.seek(io::SeekFrom::Start(whole))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    if tail.is_empty() {
        return Ok(None);
    }
    let digest = encoding::hex(&Sha256::digest(&tail));
    files::write_private(&folder.join("torn").join(&digest), &tail)?;
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(Some((u64::try_from(tail.len()).unwrap_or(0), digest)))
}

/// The last checkpoint, signed by this log's key.
fn checkpoint(folder: &Path, key: &VerifierKey) -> Result<Option<Checkpoint>, LogError> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(None);
    }
    let note = String::from_utf8_lossy(&files::read_private(&path)?).into_owned();
    let (checkpoint, _) = Checkpoint::open(&note, std::slice::from_ref(key)).map_err(|error| match error {
        CheckpointError::Note(NoteError::UnknownKey(name)) if name == key.name() => LogError::OtherKey,
        CheckpointError::Note(NoteError::UnknownKey(found)) => {
            LogError::OtherName { found: text::escape(&found).into_owned(), expected: key.name().to_owned() }
        }
        other => tampered(0, &format!("its checkpoint: {other}")),
    })?;
    if checkpoint.origin != key.name() {
        return Err(tampered(0, "its checkpoint is of another log"));
    }
    Ok(Some(checkpoint))
}

/// Sessions seen so far, as far as closing them needs.
#[derive(Default)]
struct Sessions {
    open: BTreeMap<String, Open>,
}

struct Open {
    chain: Chain,
    last: Event,
    level: u64,
    statements: u64,
    denied: u64,
    errors: u64,
    rows: u64,
    bytes: u64,
    /// Statements that were let through and have no outcome yet.
    pending: BTreeSet<(u64, u64)>,
}

impl Open {
    fn new(session: SessionId, first: &Event) -> Self {
        Self {
            chain: Chain::new(session, first.previous),
            last: first.clone(),
            level: first.number("level").unwrap_or(0),
            statements: 0,
            denied: 0,
            errors: 0,
            rows: 0,
            bytes: 0,
            pending: BTreeSet::new(),
        }
    }

    fn take(&mut self, event: &Event) {
        self.last = event.clone();
        let place = (event.number("no").unwrap_or(0), event.number("part").unwrap_or(0));
        match event.kind.as_str() {
            "stmt" => {
                self.statements = event.numbers().end.saturating_sub(1);
                match event.text("dec") {
                    Some("allow") => self.pending.extend(event.numbers().map(|number| (number, place.1))),
                    _ => self.denied += 1,
                }
            }
            "result" | "skipped" => {
                self.rows += event.number("rows").unwrap_or(0);
                self.bytes += event.number("bytes").unwrap_or(0);
                for number in event.numbers() {
                    self.pending.remove(&(number, place.1));
                }
            }
            "result.unknown" => drop(self.pending.remove(&place)),
            "error" => {
                self.errors += 1;
                // One that does not say which part it is of is of all that had no outcome.
                let is_of_one = event.number("part").is_some();
                self.pending.retain(|other| if is_of_one { *other != place } else { other.0 != place.0 });
            }
            // The others open and close nothing.
            _ => {}
        }
    }

    /// Statements whose outcome nobody saw are said to be unknown; then the session is closed.
    fn close(mut self, session: &str) -> Result<Vec<Closing>, LogError> {
        let (at, since) = (self.last.at, self.last.since_start);
        let mut lines = Vec::new();
        let mut add = |kind: &str, members| -> Result<(), LogError> {
            let line = self.chain.append(kind, at, since, fields(members))?;
            lines.push(Closing { session: session.into(), line, kind: Kind::of(kind) });
            Ok(())
        };
        for (number, part) in &self.pending {
            add("result.unknown", json!({"no": number, "part": part}))?;
        }
        let client = if self.level == 0 { "none" } else { "pending" };
        let totals = json!({
            "reason": "crash", "n_stmt": self.statements, "n_deny": self.denied, "n_err": self.errors,
            "rows": self.rows, "bytes_out": self.bytes, "role_dropped": false, "client": client,
        });
        add("session.close", totals)?;
        Ok(lines)
    }
}

impl Sessions {
    /// Takes in a line; a break in a session's chain is an error.
    fn take(&mut self, event: &Event) -> Result<(), &'static str> {
        let Some(session) = SessionId::parse(&event.session) else { return Ok(()) };
        if !self.open.contains_key(&event.session) && event.kind != "session.open" {
            return Err("it belongs to a session that is not open");
        }
        let open = self.open.entry(event.session.clone()).or_insert_with(|| Open::new(session, event));
        open.chain.admit(event)?;
        open.take(event);
        if event.kind == "session.close" {
            self.open.remove(&event.session);
        }
        Ok(())
    }

    fn close(self) -> Result<Vec<Closing>, LogError> {
        let closed = self.open.into_iter().map(|(session, open)| open.close(&session));
        Ok(closed.collect::<Result<Vec<_>, _>>()?.concat())
    }
}
