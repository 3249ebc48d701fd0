//! Files that only their owner may read: written whole or not at all, refused when too open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::core::encoding;
use crate::sys::random;

/// No secret, token or configuration is longer; a larger file is not ours.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Why a file could not be read or written. Always names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("no file `{}`", path.display())]
    Missing { path: PathBuf },
    #[error("`{}` can be read by others (mode {mode:03o})\nRun: chmod 600 {}", path.display(), path.display())]
    TooOpen { path: PathBuf, mode: u32 },
    #[error("`{}` is larger than 16 MiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("`{}` can be written to by others (mode {mode:03o}), who could put other files into it\nRun: chmod 700 {}; of a mounted volume name a folder below it, which is made", path.display(), path.display())]
    FolderWritable { path: PathBuf, mode: u32 },
    #[error("`{}` can be looked into by others (mode {mode:03o})\nRun: chmod 700 {}", path.display(), path.display())]
    FolderReadable { path: PathBuf, mode: u32 },
    #[error("`{}` belongs to another user (uid {owner}), who could put other files into it", path.display())]
    FolderOfAnother { path: PathBuf, owner: u32 },
    #[error("cannot {action} `{}`: {source}", path.display())]
    Failed { action: &'static str, path: PathBuf, source: io::Error },
}

impl FileError {
    fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound if action == "read" => Self::Missing { path },
            _ => Self::Failed { action, path, source },
        }
    }
}

/// Writes `bytes` to `path` with mode 0600. After a crash the old or the new content is there,
/// never a part of it; missing folders are made with mode 0700.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = folder_of(path);
    make_private_folder(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}", encoding::hex(&random::bytes::<6>())));
    let written = write_new(&temporary, bytes)
        .map_err(FileError::failed("write", &temporary))
        .and_then(|()| fs::rename(&temporary, path).map_err(FileError::failed("write", path)));
    if written.is_err() {
        // The write's own error is what the caller must hear; a leftover is only untidy.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    sync_folder(folder).map_err(FileError::failed("write", folder))
}

/// Reads a file that must be its owner's alone. The mode is taken from the open file, so that
/// nobody can swap the file between the look and the read.
pub fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut file = File::open(path).map_err(FileError::failed("read", path))?;
    refuse_if_open_to_others(&file, path)?;
    let mut bytes = Vec::new();
    (&mut file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(FileError::failed("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Removes a file; says whether there was one.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FileError::failed("remove", path)(error)),
    }
}

/// Makes `folder` and its missing parents, each with mode 0700. Folders that exist keep theirs.
pub fn make_private_folder(folder: &Path) -> Result<(), FileError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(FileError::failed("make", folder))
}

/// Refuses a folder that others can write to: they could replace any file in it, whatever its mode.
/// One that is not there yet is fine.
pub fn refuse_if_others_write(folder: &Path) -> Result<(), FileError> {
    match permissions(folder)? {
        Some((mode, _)) if mode & 0o022 != 0 => Err(FileError::FolderWritable { path: folder.to_owned(), mode }),
        Some(_) | None => Ok(()),
    }
}

/// What is not as it should be with a folder that only its owner should look into. It is not changed:
/// where the name is a mistake, as in `/var/lib`, others need it as it is.
pub fn folder_doubts(folder: &Path) -> Vec<FileError> {
    let Ok(Some((mode, owner))) = permissions(folder) else { return Vec::new() };
    let path = folder.to_owned();
    // One that they can write to is refused by name.
    let readable =
        (mode & 0o077 != 0 && mode & 0o022 == 0).then(|| FileError::FolderReadable { path: path.clone(), mode });
    let is_other = own_uid().is_some_and(|own| own != owner);
    let other = is_other.then_some(FileError::FolderOfAnother { path, owner });
    readable.into_iter().chain(other).collect()
}

/// Mode and owner, where there is such a folder.
#[cfg(unix)]
fn permissions(folder: &Path) -> Result<Option<(u32, u32)>, FileError> {
    use std::os::unix::fs::MetadataExt as _;
    match fs::metadata(folder) {
        Ok(metadata) => Ok(Some((metadata.mode() & 0o777, metadata.uid()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::failed("look at", folder)(error)),
    }
}

#[cfg(not(unix))]
fn permissions(_folder: &Path) -> Result<Option<(u32, u32)>, FileError> {
    Ok(None)
}

/// Whom this process runs as, where the system says so in a file.
fn own_uid() -> Option<u32> {
    permissions(Path::new("/proc/self")).ok().flatten().map(|(_, owner)| owner)
}

/// Held while one process renews what several share; released on drop, also by a crash.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Waits until this process alone holds the lock file at `path`.
pub fn lock(path: &Path) -> Result<Lock, FileError> {
    make_private_folder(folder_of(path))?;
    let file = private_options().truncate(false).open(path).map_err(FileError::failed("open", path))?;
    file.lock().map_err(FileError::failed("lock", path))?;
    Ok(Lock { _file: file })
}

/// Opens a private file that only grows. One process at a time: a second one is refused.
pub fn append_private(path: &Path) -> Result<File, FileError> {
    make_private_folder(folder_of(path))?;
    let file = private_options().append(true).open(path).map_err(FileError::failed("open", path))?;
    file.try_lock().map_err(|error| FileError::failed("lock", path)(error.into()))?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the file if there is none, and takes it from the eyes of others if there is.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    let file = private_options().truncate(false).open(path).map_err(FileError::failed("open", path))?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        file.set_permissions(mode).map_err(FileError::failed("guard", path))?;
    }
    Ok(())
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // create_new: a link that somebody put there is not followed.
    let mut file = private_options().create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    // The rename itself is durable only once the folder is.
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn refuse_if_open_to_others(file: &File, path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(FileError::failed("read", path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 { Err(FileError::TooOpen { path: path.to_owned(), mode }) } else { Ok(()) }
}

#[cfg(not(unix))]
fn refuse_if_open_to_others(_file: &File, _path: &Path) -> Result<(), FileError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::sys::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o777
    }

    #[test]
    fn a_private_file_is_0600_in_a_0700_folder_and_replaced_whole() {
        let scratch = Scratch::new();
        let path = scratch.path().join("a/b/token");
        write_private(&path, b"first, longer").expect("written");
        write_private(&path, b"second").expect("replaced");
        assert_eq!(read_private(&path).expect("read"), b"second");
        assert_eq!((mode(&path), mode(&scratch.path().join("a/b"))), (0o600, 0o700));
        let left: Vec<_> = fs::read_dir(scratch.path().join("a/b")).expect("folder").collect();
        assert_eq!(left.len(), 1, "no temporary file stays");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_by_name() {
        let scratch = Scratch::new();
        let path = scratch.path().join("token");
        write_private(&path, b"x").expect("written");
        for open in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(open)).expect("chmod");
            let refusal = read_private(&path).expect_err("too open");
            assert!(matches!(refusal, FileError::TooOpen { mode, .. } if mode == open));
            assert!(refusal.to_string().contains(&path.display().to_string()));
        }
    }

    #[test]
    fn what_is_not_there_is_missing_not_broken() {
        let scratch = Scratch::new();
        let path = scratch.path().join("none");
        assert!(matches!(read_private(&path), Err(FileError::Missing { .. })));
        assert!(!remove(&path).expect("nothing to remove"));
    }
}
