//! A temporary folder, and a child that outlives us just long enough to clear up after us.
//!
//! The guardian is `sh` reading from a pipe that only this process holds open. However we end, by
//! return, Ctrl-C, a panic or `kill -9`, the kernel closes the pipe, and the guardian stops what it
//! guards and removes the folder. It stands in a process group of its own, so that Ctrl-C at the
//! terminal reaches us and not the server behind our back.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::core::encoding;
use crate::sys::random;

/// `$1` is the folder; what follows, if anything, is the server to run until the pipe closes.
/// The traps come after the server is started: an ignored signal is inherited. To PostgreSQL, TERM
/// then INT means: no new connections, then end those that are open. It is not restarted.
const SCRIPT: &str = r#"
folder=$1
shift
cd /
if [ $# -gt 0 ]; then
    "$@" </dev/null >"$folder/server.log" 2>&1 &
    server=$!
fi
trap '' INT HUP TERM
read -r _
if [ -n "${server-}" ]; then
    kill -TERM "$server" 2>/dev/null
    kill -INT "$server" 2>/dev/null
    wait "$server"
fi
rm -rf "$folder"
"#;

/// A user of this machine, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: u32,
    pub group: u32,
}

/// A folder of our own, readable by its owner only, not yet guarded.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The account it was given to; none: it is ours.
    account: Option<Account>,
}

impl Folder {
    /// Makes `dbgate-<purpose>-<random>` in the machine's temporary folder.
    ///
    /// # Errors
    /// When the temporary folder cannot be written to.
    pub fn create(purpose: &str) -> std::io::Result<Self> {
        let name = format!("dbgate-{purpose}-{}", encoding::hex(&random::bytes::<6>()));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, account: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether we are root, told by who owns what we just made.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn is_roots(&self) -> std::io::Result<bool> {
        Ok(std::fs::metadata(&self.path)?.uid() == 0)
    }

    /// Gives the folder to another account; only root can.
    ///
    /// # Errors
    /// When we are not root.
    pub fn give_to(&mut self, account: Account) -> std::io::Result<()> {
        std::os::unix::fs::chown(&self.path, Some(account.user), Some(account.group))?;
        self.account = Some(account);
        Ok(())
    }

    /// A command that runs as the folder's owner, in it, and knows nothing of our environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("HOME", &self.path);
        command.current_dir(&self.path).stdin(Stdio::null());
        if let Some(account) = self.account {
            // The standard library drops the supplementary groups when root changes the user.
            command.uid(account.user).gid(account.group);
        }
        command
    }

    /// Starts the guardian; with a server it runs that first.
    ///
    /// # Errors
    /// When `sh` cannot be started. The folder then stays.
    pub fn guard(self, server: &[String]) -> std::io::Result<Guarded> {
        let mut command = self.command(Path::new("/bin/sh"));
        command.arg("-c").arg(SCRIPT).arg("dbgate-guardian").arg(&self.path).args(server);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let guardian = command.spawn()?;
        Ok(Guarded { folder: self, guardian })
    }
}

/// A folder whose end is certain.
#[derive(Debug)]
pub struct Guarded {
    folder: Folder,
    guardian: Child,
}

impl Guarded {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    /// What the server wrote, for an error that says why it did not start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path.join("server.log")).unwrap_or_default()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Closing the pipe is the signal; waiting makes the end visible to whoever looks next.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_and_goes_with_its_guard() {
        let folder = Folder::create("test").expect("a temporary folder");
        assert_eq!(std::fs::metadata(folder.path()).expect("it exists").mode() & 0o777, 0o700);
        std::fs::write(folder.path().join("file"), "x").expect("writable");
        let guarded = folder.guard(&[]).expect("sh");
        let path = guarded.path().to_owned();
        drop(guarded);
        assert!(!path.exists());
    }

    #[test]
    fn what_the_guardian_runs_ends_when_the_guard_does() {
        let folder = Folder::create("test").expect("a temporary folder");
        let guarded = folder.guard(&["sleep".to_owned(), "1000".to_owned()]).expect("sh");
        let path = guarded.path().to_owned();
        drop(guarded);
        assert!(!path.exists(), "the guardian waited for its server, then removed the folder");
    }
}
