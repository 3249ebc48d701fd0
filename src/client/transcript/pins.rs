//! Pinned log keys: the key a log had when it was first met, one small file a log.
//!
//! Whoever takes over a broker could announce a log key of their own; a client that has met the
//! log before notices.

use std::path::{Path, PathBuf};

use crate::core::audit::VerifierKey;
use crate::sys::files::{self, FileError};

/// Why a log is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` does not hold a log key", .0.display())]
    Unreadable(PathBuf),
    #[error(
        "the audit log `{origin}` has another key than before. If its operator announced that, remove `{}` and try again",
        path.display()
    )]
    KeyChanged { origin: String, path: PathBuf },
}

/// Remembers the log's key, or checks that it is the one remembered.
pub fn pin(folder: &Path, key: &VerifierKey) -> Result<(), PinError> {
    let path = folder.join(file_name(key.name()));
    match files::read_private(&path) {
        Ok(bytes) if read(&bytes).as_ref() == Some(key) => Ok(()),
        Ok(_) => Err(PinError::KeyChanged { origin: key.name().to_owned(), path }),
        Err(FileError::Missing { .. }) => Ok(files::write_private(&path, format!("{key}\n").as_bytes())?),
        Err(error) => Err(error.into()),
    }
}

/// All keys that are remembered.
pub fn pinned(folder: &Path) -> Result<Vec<VerifierKey>, PinError> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "vkey"));
    paths.map(|path| read(&files::read_private(&path)?).ok_or(PinError::Unreadable(path))).collect()
}

fn read(bytes: &[u8]) -> Option<VerifierKey> {
    VerifierKey::parse(std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?).ok()
}

/// An origin comes from the network: only letters, digits, dots and dashes reach the file system,
/// and everything else becomes its hex code, so that two origins never share a file.
fn file_name(origin: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
        other => format!("_{other:02x}"),
    };
    format!("{}.vkey", origin.bytes().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::core::audit::note::NoteSigner;
    use crate::core::encoding;
    use crate::sys::random;

    #[test]
    fn a_log_that_changes_its_key_is_noticed() {
        let folder = std::env::temp_dir().join(format!("dbgate-pins-{}", encoding::hex(&random::bytes::<8>())));
        let key =
            |name: &str, seed| NoteSigner::new(name, SigningKey::from_bytes(&[seed; 32])).expect("a name").verifier();
        assert!(pinned(&folder).expect("none yet").is_empty());
        assert!(pin(&folder, &key("gate.example/log", 1)).is_ok());
        assert!(pin(&folder, &key("gate.example/log", 1)).is_ok());
        assert!(pin(&folder, &key("../../etc/other", 2)).is_ok(), "an origin cannot lead out of the folder");
        assert!(matches!(pin(&folder, &key("gate.example/log", 3)), Err(PinError::KeyChanged { .. })));
        assert_eq!(pinned(&folder).expect("two").len(), 2);
        let _ = std::fs::remove_dir_all(&folder);
    }
}
