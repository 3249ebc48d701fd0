//! Accounts that the gateway has not acknowledged, or whose evidence has not come back: handed in
//! by the next run of the program.
//!
//! While a session lasts its lines are in `<session>.pending` (locked by the writer) and its head in
//! `<session>.head`; an ended account is one file, `<session>.spool`, the upload as it is to be sent.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::TranscriptError;
use crate::core::api::TranscriptUpload;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::note::Note;
use crate::core::grant::SessionId;
use crate::sys::files;

/// What waits in `folder`, oldest first: session, upload, and the file to remove once the evidence
/// is there. Every head is signed already: no key is needed. Sessions that another process is
/// still writing are left out; so is what was never signed, for nobody would take it.
pub fn spool(folder: &Path) -> Vec<(SessionId, TranscriptUpload, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    // The name begins with the time.
    paths.sort();
    paths.into_iter().filter_map(|path| waiting(folder, path)).collect()
}

fn waiting(folder: &Path, path: PathBuf) -> Option<(SessionId, TranscriptUpload, PathBuf)> {
    let session = SessionId::parse(path.file_stem()?.to_str()?)?;
    let upload = match path.extension()?.to_str()? {
        "spool" => serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?,
        "pending" if !ended(folder, session.as_str()).exists() => cut_off(folder, session.as_str())?,
        "head" if !lines_of(folder, session.as_str()).exists() => {
            // Of an account that has been handed in; a head without lines says nothing.
            let _ = files::remove(&path);
            return None;
        }
        _ => return None,
    };
    Some((session, upload, path))
}

/// The account of a session that a crash cut off, as far as it was signed.
fn cut_off(folder: &Path, session: &str) -> Option<TranscriptUpload> {
    let path = lines_of(folder, session);
    // The writer holds the lock for as long as its session lasts.
    File::open(&path).ok()?.try_lock_shared().ok()?;
    let head = String::from_utf8(files::read_private(&head_of(folder, session)).ok()?).ok()?;
    let signed = Checkpoint::parse(Note::parse(&head).ok()?.text()).ok()?;
    let text = std::fs::read_to_string(&path).ok()?;
    // Lines behind the last head were written just before the crash: unsigned, so not of the account.
    let size = usize::try_from(signed.size).ok()?;
    let lines: Vec<String> = text.lines().take(size).map(str::to_owned).collect();
    (lines.len() == size).then_some(TranscriptUpload { from: 0, lines, head, done: true })
}

/// Puts an ended account on the spool; the files of the running session are then no longer needed.
pub(super) fn keep(folder: &Path, session: &str, upload: &TranscriptUpload) -> Result<(), TranscriptError> {
    let path = ended(folder, session);
    let text = serde_json::to_vec(upload)
        .map_err(|error| TranscriptError::Write { path: path.clone(), source: error.into() })?;
    files::write_private(&path, &text)?;
    files::remove(&lines_of(folder, session))?;
    files::remove(&head_of(folder, session))?;
    Ok(())
}

/// The file of an ended account.
pub(super) fn ended(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.spool"))
}

/// The file of the lines while the session lasts.
pub(super) fn lines_of(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.pending"))
}

/// The file of the signed head while the session lasts.
pub(super) fn head_of(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.head"))
}
