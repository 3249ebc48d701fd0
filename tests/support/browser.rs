//! A headless Chromium that drives the reviewers' pages: `browser/desk.mjs` says what it does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where screenshots of this run end up: in the build folder, for whoever wants to look.
pub fn screenshots() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder for screenshots");
    folder
}

/// Runs the script with these arguments.
pub async fn drive(arguments: &serde_json::Value) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/browser");
    if !folder.join("node_modules/playwright-core").exists() {
        let install = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).status();
        assert!(install.expect("npm runs").success(), "npm ci in {}", folder.display());
    }
    let mut command = Command::new("node");
    command.arg("desk.mjs").arg(arguments.to_string()).current_dir(&folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::task::spawn_blocking(move || command.output().expect("node runs")).await.expect("joined")
}
