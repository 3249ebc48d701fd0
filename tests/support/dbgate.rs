//! The program as a process: an environment with nothing in it but a home of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dbgate::core::encoding;
use dbgate::sys::random;

/// A home folder to run the program in; gone when dropped.
pub struct Program {
    home: PathBuf,
}

impl Program {
    /// With an empty home.
    pub fn new() -> Self {
        let home = std::env::temp_dir().join(format!("dbgate-test-home-{}", encoding::hex(&random::bytes::<6>())));
        std::fs::create_dir(&home).expect("a temporary folder");
        Self { home }
    }

    /// The program with these arguments, ready to run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dbgate"));
        command.args(arguments).env_clear().env("HOME", &self.home).env("DBGATE_HOME", &self.home);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::null());
        command
    }

    /// Where it keeps its files.
    pub fn home(&self) -> &std::path::Path {
        &self.home
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// What was said on both channels, for the message of a failed assertion.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
