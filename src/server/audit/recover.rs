//! Reading the log at start: what was signed must still be there, what was torn is cut, and
//! sessions that a crash left open are closed in the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::log::{LogError, fields};
use super::writer::Stored;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::note::VerifierKey;
use crate::core::encoding;
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Event, Leaf, Line};
use crate::sys::files;

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
}

/// A line that closes a session after a crash.
pub struct Closing {
    pub session: String,
    pub line: Line,
}

/// Reads the file; cuts a torn last line off and keeps the cut bytes beside it.
///
/// # Errors
/// When the lines do not reproduce the last signed checkpoint, or are not lines at all.
pub fn read(folder: &Path, path: &Path, key: &VerifierKey) -> Result<Recovered, LogError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (lines, tail) = bytes.split_at(whole);
    let torn = cut(folder, path, whole, tail)?;
    let text = std::str::from_utf8(lines).map_err(|_| tampered(0, "not UTF-8"))?;
    let mut stored = Stored::default();
    let mut sessions = Sessions::default();
    let mut last = Leaf::NONE;
    for line in text.lines() {
        let number = stored.tree.size() + 1;
        let event = Event::parse(line).map_err(|error| tampered(number, &error.to_string()))?;
        sessions.take(&event).map_err(|what| tampered(number, what))?;
        last = event.line.leaf();
        stored.push(&event.line, &event.session);
    }
    check(folder, &stored, key)?;
    Ok(Recovered { stored, last, torn, crashed: sessions.close()? })
}

fn tampered(line: u64, what: &str) -> LogError {
    LogError::Tampered { line, what: what.to_owned() }
}

/// Cuts an unfinished last line: it was never acknowledged to anyone.
fn cut(folder: &Path, path: &Path, whole: usize, tail: &[u8]) -> Result<Option<(u64, String)>, LogError> {
    if tail.is_empty() {
        return Ok(None);
    }
    let digest = encoding::hex(&Sha256::digest(tail));
    files::write_private(&folder.join("torn").join(&digest), tail)?;
    let file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.set_len(u64::try_from(whole).unwrap_or(0))?;
    file.sync_all()?;
    Ok(Some((u64::try_from(tail.len()).unwrap_or(0), digest)))
}

/// The tree must reproduce the last checkpoint that was signed.
fn check(folder: &Path, stored: &Stored, key: &VerifierKey) -> Result<(), LogError> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(());
    }
    let note = String::from_utf8_lossy(&files::read_private(&path)?).into_owned();
    let (checkpoint, _) = Checkpoint::open(&note, std::slice::from_ref(key))
        .map_err(|error| tampered(0, &format!("its checkpoint: {error}")))?;
    match stored.tree.root_at(checkpoint.size) {
        Some(root) if root == checkpoint.root => Ok(()),
        Some(_) => Err(tampered(checkpoint.size, "its lines are not the ones that were signed")),
        None => Err(tampered(checkpoint.size, "lines that were signed are missing")),
    }
}

/// Sessions seen so far, as far as closing them needs.
#[derive(Default)]
struct Sessions {
    open: BTreeMap<String, Open>,
}

struct Open {
    chain: Chain,
    last: Event,
    statements: u64,
    denied: u64,
    errors: u64,
    rows: u64,
    bytes: u64,
    /// Statements that were let through and have no outcome yet.
    pending: BTreeSet<(u64, u64)>,
}

impl Sessions {
    /// Takes in a line; a break in a session's chain is an error.
    fn take(&mut self, event: &Event) -> Result<(), &'static str> {
        let Some(session) = SessionId::parse(&event.session) else { return Ok(()) };
        let known = self.open.entry(event.session.clone()).or_insert_with(|| Open {
            chain: Chain::new(session, event.previous),
            last: event.clone(),
            statements: 0,
            denied: 0,
            errors: 0,
            rows: 0,
            bytes: 0,
            pending: BTreeSet::new(),
        });
        known.chain.admit(event)?;
        known.last = event.clone();
        let place = (event.number("no").unwrap_or(0), event.number("part").unwrap_or(0));
        match event.kind.as_str() {
            "stmt" => {
                known.statements = place.0;
                match event.text("dec") {
                    Some("allow") => drop(known.pending.insert(place)),
                    _ => known.denied += 1,
                }
            }
            "result" => {
                known.rows += event.number("rows").unwrap_or(0);
                known.bytes += event.number("bytes").unwrap_or(0);
                known.pending.remove(&place);
            }
            "error" => {
                known.errors += 1;
                known.pending.retain(|(number, _)| *number != place.0);
            }
            "session.close" => drop(self.open.remove(&event.session)),
            _ => {}
        }
        Ok(())
    }

    /// What a crash left open, closed: statements whose outcome nobody saw are said to be unknown.
    fn close(self) -> Result<Vec<Closing>, LogError> {
        let mut lines = Vec::new();
        for (session, mut open) in self.open {
            let (at, since) = (open.last.at, open.last.since_start);
            for (number, part) in &open.pending {
                let members = fields(json!({"no": number, "part": part}));
                lines.push(Closing {
                    session: session.clone(),
                    line: open.chain.append("result.unknown", at, since, members)?,
                });
            }
            let members = fields(json!({
                "reason": "crash", "n_stmt": open.statements, "n_deny": open.denied, "n_err": open.errors,
                "rows": open.rows, "bytes_out": open.bytes, "role_dropped": false, "client": "pending",
            }));
            lines.push(Closing { session, line: open.chain.append("session.close", at, since, members)? });
        }
        Ok(lines)
    }
}
