//! A newcomer tries it out: the walk works, reads well in a file, and leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::dbgate::{Program, said};

/// A temporary folder of its own for each test, so that what a demo leaves can be told from what others have.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dbgate-demo-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a temporary folder");
        // The server runs under another account and must get in.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(&path, open).expect("our own folder");
        Self(path)
    }

    fn left(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.0).expect("readable").map(|entry| entry.expect("an entry").path()).collect()
    }

    /// Processes that name the folder in their arguments.
    fn processes(&self) -> Vec<String> {
        let output = Command::new("ps").args(["-eo", "args"]).output().expect("ps runs");
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        all.lines().filter(|line| line.contains(&*self.0.to_string_lossy())).map(str::to_owned).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_walk_ends_well_without_colour_and_leaves_nothing() {
    let (program, scratch) = (Program::new(), Scratch::new("walk"));
    let output = program.command(&["demo", "--once"]).env("TMPDIR", &scratch.0).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(!shown.contains('\u{1b}'), "colour codes in a pipe");
    for step in 1..=10 {
        assert!(shown.lines().any(|line| line.starts_with(&format!("{step}  "))), "step {step} is missing:\n{shown}");
    }
    assert_eq!(scratch.left(), Vec::<PathBuf>::new());
    assert_eq!(scratch.processes(), Vec::<String>::new());
}

#[test]
fn a_demo_that_is_killed_leaves_no_server_and_no_folder() {
    let (program, scratch) = (Program::new(), Scratch::new("kill"));
    let mut command = program.command(&["demo", "--once"]);
    let mut child = command.env("TMPDIR", &scratch.0).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut rows = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let is_up = |row: &str| row.trim_start().starts_with("issuer, broker and gateway");
    assert!(rows.any(|row| is_up(&row.expect("UTF-8"))), "the stage was not set");
    child.kill().expect("kill -9");
    child.wait().expect("reaped");
    let began = Instant::now();
    while !(scratch.left().is_empty() && scratch.processes().is_empty()) {
        assert!(began.elapsed() < Duration::from_secs(20), "left: {:?} {:?}", scratch.left(), scratch.processes());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_postgresql_it_says_what_to_install() {
    let program = Program::new();
    let mut command = program.command(&["demo", "--once"]);
    let output = command.env("DBGATE_POSTGRES_BIN", "/nowhere").output().expect("it runs");
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("/nowhere"), "{}", said(&output));
}
