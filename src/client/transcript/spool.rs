//! Accounts of earlier sessions that the gateway has not acknowledged, or whose evidence has not
//! been fetched: handed in by the next run of the program.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::{TranscriptError, files_of};
use crate::core::api::TranscriptUpload;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::note::Note;
use crate::core::grant::SessionId;
use crate::sys::files;

/// One account that waits. Its head is signed: no key is needed any more.
#[derive(Clone, Debug)]
pub struct Spooled {
    folder: PathBuf,
    pub session: SessionId,
    pub upload: TranscriptUpload,
}

impl Spooled {
    /// Keeps the evidence as `<session>.dbgt` and takes the account off the spool.
    pub fn save_evidence(&self, evidence: &str) -> Result<PathBuf, TranscriptError> {
        let path = files_of(&self.folder, self.session.as_str());
        files::write_private(&path, evidence.as_bytes())?;
        clear(&self.folder, self.session.as_str())?;
        Ok(path)
    }
}

/// What waits in `folder`, oldest first. Sessions that another process is still writing are left
/// out; so is what was never signed, for nobody would take it.
pub fn spool(folder: &Path) -> Vec<Spooled> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sessions: Vec<SessionId> =
        names.filter_map(|name| SessionId::parse(name.strip_suffix(".lines")?)).collect();
    // The id begins with the time.
    sessions.sort();
    sessions.into_iter().filter_map(|session| read(folder, session)).collect()
}

fn read(folder: &Path, session: SessionId) -> Option<Spooled> {
    let path = lines_of(folder, session.as_str());
    // The writer holds the lock for as long as its session lasts.
    File::open(&path).ok()?.try_lock_shared().ok()?;
    let head = String::from_utf8(files::read_private(&head_of(folder, session.as_str())).ok()?).ok()?;
    let signed = Checkpoint::parse(Note::parse(&head).ok()?.text()).ok()?;
    let text = std::fs::read_to_string(&path).ok()?;
    // Lines behind the last head were written just before a crash: unsigned, so not part of the account.
    let size = usize::try_from(signed.size).ok()?;
    let lines: Vec<String> = text.lines().take(size).map(str::to_owned).collect();
    if lines.len() != size {
        return None;
    }
    // The gateway's cosignature under a head that was acknowledged is not ours to hand in again.
    let own = own_head(&head)?;
    Some(Spooled {
        folder: folder.to_owned(),
        session,
        upload: TranscriptUpload { from: 0, lines, head: own, done: true },
    })
}

/// The note with its first signature line only, which is the client's.
fn own_head(head: &str) -> Option<String> {
    let (text, signatures) = head.split_at(head.rfind("\n\n")? + 2);
    Some(format!("{text}{}\n", signatures.lines().next()?))
}

/// Removes what has been handed in.
pub(super) fn clear(folder: &Path, session: &str) -> Result<(), TranscriptError> {
    files::remove(&lines_of(folder, session))?;
    files::remove(&head_of(folder, session))?;
    Ok(())
}

/// The file of an account's lines.
pub(super) fn lines_of(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.lines"))
}

/// The file of its signed head.
pub(super) fn head_of(folder: &Path, session: &str) -> PathBuf {
    folder.join(format!("{session}.head"))
}
