//! One client's account on disk: lines that only grow, and the head that counts them.
//!
//! The head is written last: lines behind it are from an upload that a crash cut off, were never
//! acknowledged, and are written over by the next one.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::{TranscriptError, parsed};
use crate::core::api::TranscriptUpload;
use crate::core::audit::checkpoint::Checkpoint;
use crate::core::audit::merkle::Frontier;
use crate::core::audit::note::Note;
use crate::core::grant::SessionId;
use crate::core::transcript::{Chain, Event, Leaf};
use crate::server::audit::LogError;
use crate::sys::files;

/// The longest account that is taken in, in bytes.
const LARGEST: usize = 256 * 1024 * 1024;

/// The files of one account.
pub struct Account {
    session: SessionId,
    /// The hash of the gateway's `session.open`, to which the first line is tied.
    opened: Leaf,
    lines: PathBuf,
    head: PathBuf,
}

/// What came of an upload.
pub struct Taken {
    /// The head with the log's cosignature.
    pub cosigned: String,
    /// Whether the account is longer than before.
    pub is_new: bool,
}

impl Account {
    /// The id has been checked to be 26 letters and digits: it cannot lead out of the folder.
    pub fn of(folder: &Path, session: &SessionId, opened: Leaf) -> Self {
        let path = |kind: &str| folder.join(format!("{}.{kind}", session.as_str()));
        Self { session: session.clone(), opened, lines: path("lines"), head: path("head") }
    }

    /// The lines that were acknowledged, and the cosigned head over them.
    pub fn read(&self) -> Result<(Vec<String>, Option<String>), TranscriptError> {
        if !self.head.exists() {
            return Ok((Vec::new(), None));
        }
        let head = String::from_utf8_lossy(&files::read_private(&self.head)?).into_owned();
        let signed = Checkpoint::parse(parsed(&head)?.text());
        let size = signed.ok().and_then(|signed| usize::try_from(signed.size).ok());
        let text = std::fs::read_to_string(&self.lines).map_err(LogError::Read)?;
        let lines: Vec<String> = text.lines().take(size.unwrap_or(0)).map(str::to_owned).collect();
        if Some(lines.len()) != size {
            let reason = "the stored transcript is not what was acknowledged".to_owned();
            return Err(LogError::Tampered { line: 0, what: reason }.into());
        }
        Ok((lines, Some(head)))
    }

    /// Checks an upload against what is stored, stores what is new, and has the head cosigned.
    pub fn take(
        &mut self,
        upload: &TranscriptUpload,
        signed: &Checkpoint,
        cosign: impl FnOnce(&Note) -> String,
    ) -> Result<Taken, TranscriptError> {
        let (mut lines, stored_head) = self.read()?;
        let known = lines.len();
        extend(&mut lines, upload)?;
        let size = usize::try_from(signed.size).unwrap_or(usize::MAX);
        // A head over fewer lines than were acknowledged would take some of them back.
        if size < known {
            return Err(TranscriptError::Conflict);
        }
        let tree = self.walk(&lines)?;
        if (signed.size, signed.root) != (tree.size(), tree.root()) {
            return Err(TranscriptError::Refused("the head is not that of the lines".to_owned()));
        }
        let is_new = lines.len() > known || stored_head.is_none();
        if let (false, Some(cosigned)) = (is_new, stored_head) {
            return Ok(Taken { cosigned, is_new });
        }
        self.store(&lines, known)?;
        let cosigned = cosign(&parsed(&upload.head)?);
        files::write_private(&self.head, cosigned.as_bytes())?;
        Ok(Taken { cosigned, is_new })
    }

    /// Writes the lines from `known` on behind those that were acknowledged.
    fn store(&self, lines: &[String], known: usize) -> Result<(), TranscriptError> {
        let text = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (old, new) = lines.split_at_checked(known).unwrap_or((lines, &[]));
        let kept = u64::try_from(text(old).len()).unwrap_or(u64::MAX);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&self.lines).and_then(|mut file| {
            file.set_len(kept)?;
            file.seek(SeekFrom::Start(kept))?;
            file.write_all(text(new).as_bytes())?;
            file.sync_all()
        });
        Ok(written.map_err(LogError::Read)?)
    }

    /// Checks form and chain of every line, and grows the tree.
    fn walk(&self, lines: &[String]) -> Result<Frontier, TranscriptError> {
        let mut chain = Chain::new(self.session.clone(), self.opened);
        let mut tree = Frontier::default();
        for (index, line) in lines.iter().enumerate() {
            let wrong = |what: &str| TranscriptError::Refused(format!("line {}: {what}", index + 1));
            let event = Event::parse(line).map_err(|error| wrong(&error.to_string()))?;
            chain.admit(&event).map_err(wrong)?;
            if (event.kind == "begin") != (index == 0) {
                return Err(wrong("`begin` stands first, and nowhere else"));
            }
            tree.push(event.line.leaf());
        }
        Ok(tree)
    }
}

/// Adds what is new; what overlaps must be the same, and nothing may be left out.
fn extend(lines: &mut Vec<String>, upload: &TranscriptUpload) -> Result<(), TranscriptError> {
    let from = usize::try_from(upload.from).map_err(|_| TranscriptError::Conflict)?;
    let stored = lines.get(from..).ok_or(TranscriptError::Conflict)?;
    let overlap = stored.len().min(upload.lines.len());
    if stored.get(..overlap) != upload.lines.get(..overlap) {
        return Err(TranscriptError::Conflict);
    }
    lines.extend(upload.lines.iter().skip(overlap).cloned());
    if lines.iter().map(|line| line.len() + 1).sum::<usize>() > LARGEST {
        return Err(TranscriptError::Refused("the transcript is too long".to_owned()));
    }
    Ok(())
}
