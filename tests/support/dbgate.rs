//! The program as a process: an environment with nothing in it but a home of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use dbgate::core::encoding;
use dbgate::sys::random;
use serde_json::Value;

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

/// Runs a command with this on its standard input, on another thread, so that a gate in this
/// process goes on.
pub async fn feed(mut command: Command, input: impl Into<Vec<u8>>) -> Output {
    let input = input.into();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn().expect("the program starts");
        // It may end without reading.
        let _ = child.stdin.take().expect("piped").write_all(&input);
        child.wait_with_output().expect("it ends")
    };
    tokio::task::spawn_blocking(run).await.expect("joined")
}

/// Standard output as text.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The one JSON document on standard output.
pub fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// The document of `exec`, which must be valid against its schema.
pub fn exec_document(output: &Output) -> Value {
    let document = document(output);
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/exec-1.schema.json")).expect("a schema");
    assert!(jsonschema::is_valid(&schema, &document), "{document:#}");
    assert_eq!(document.get("exit_code").and_then(Value::as_i64), output.status.code().map(i64::from), "{document:#}");
    document
}

/// What was said on both channels, for the message of a failed assertion.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
