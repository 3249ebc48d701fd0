//! Somebody new at a workstation without a desktop and without a keyring: what the bare program
//! says, signing in, changing one's mind, and where the token rests.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::dbgate::{Program, exec_document, feed, said, text};
use crate::support::desk;
use crate::support::gate::{Gate, SHOP};

/// `dbgate login` that has shown its code and waits.
struct Waiting {
    child: Child,
    rest: BufReader<std::process::ChildStderr>,
    invitation: String,
}

impl Waiting {
    /// As over SSH: the display of another machine is of no use, and no browser is started.
    fn start(program: &Program, server: &str) -> Self {
        let mut command = program.command(&["login", "--server", server]);
        command.env("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22").env("DISPLAY", ":0");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("login starts");
        let mut rest = BufReader::new(child.stderr.take().expect("piped"));
        let mut invitation = String::new();
        while !invitation.contains("valid") {
            assert_ne!(rest.read_line(&mut invitation).expect("text"), 0, "{invitation}");
        }
        Self { child, rest, invitation }
    }

    fn code(&self) -> &str {
        let (_, rest) = self.invitation.split_once("and enter").expect("a code to enter");
        rest.split_whitespace().next().expect("a code")
    }

    /// The exit code, and all that was said.
    fn ended(mut self) -> (Option<i32>, String) {
        let (mut error, mut out) = (self.invitation, String::new());
        self.rest.read_to_string(&mut error).expect("text");
        self.child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        (self.child.wait().expect("ended").code(), out + &error)
    }
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn the_bare_program_says_how_to_begin_and_hangs_nowhere() {
    let program = Program::new();
    let output = feed(program.command(&[]), "").await;
    assert_eq!(output.status.code(), Some(64));
    let shown = said(&output);
    assert!(shown.lines().count() <= 15, "{shown}");
    for word in ["login", "ls", "connect"] {
        assert!(shown.contains(&format!("dbgate {word}")), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_is_broken_off_leaves_nothing() {
    let issuer = desk::issuer().await;
    let gate = Gate::start_for(SHOP, issuer.url()).await;
    let (program, server) = (Program::new(), format!("http://{}", gate.running.api_address()));
    let waiting = tokio::task::block_in_place(|| Waiting::start(&program, &server));
    assert!(waiting.invitation.starts_with("Open http"), "{}", waiting.invitation);
    let began = Instant::now();
    let interrupt = Command::new("kill").args(["-INT", &waiting.child.id().to_string()]).status();
    assert!(interrupt.expect("kill runs").success());
    let (code, shown) = tokio::task::block_in_place(|| waiting.ended());
    assert_eq!(code, Some(130), "{shown}");
    assert!(shown.contains("nobody was signed in") && began.elapsed() < Duration::from_secs(5), "{shown}");
    let is_token = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "tokens");
    let kept: Vec<_> = files(program.home().into()).into_iter().filter(is_token).collect();
    assert!(kept.is_empty(), "{kept:?}");
    gate.stop().await;
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_keyring_the_token_is_its_owners_alone_and_that_is_said_once() {
    let issuer = desk::issuer().await;
    let gate = Gate::start_for(SHOP, issuer.url()).await;
    let (program, server) = (Program::new(), format!("http://{}", gate.running.api_address()));
    let waiting = tokio::task::block_in_place(|| Waiting::start(&program, &server));
    issuer.approve(waiting.code(), "ana").expect("approved at the issuer's page");
    let (code, shown) = tokio::task::block_in_place(|| waiting.ended());
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Signed in as ana@example.com"), "{shown}");
    let place = shown.split("Token in file ").nth(1).and_then(|rest| rest.split(" (mode 0600)").next());
    let place = PathBuf::from(place.unwrap_or_else(|| panic!("{shown}")));
    assert!(place.components().any(|part| part.as_os_str() == "tokens"), "{shown}");
    assert_eq!(std::fs::metadata(&place).expect("there").permissions().mode() & 0o777, 0o600);

    let run = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        command.env("DBGATE_SERVER", &server);
        command
    };
    let output = feed(run(&["ls"]), "").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(text(&output).contains("demo") && output.stderr.is_empty(), "{}", said(&output));

    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    let output = feed(run(&["ls"]), "").await;
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains(&format!("chmod 600 {}", place.display())), "{}", said(&output));

    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(feed(run(&["logout"]), "").await.status.code(), Some(0));
    let output = feed(run(&["exec", "demo", "-c", "select 1", "--format", "json"]), "").await;
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(exec_document(&output).get("status").and_then(serde_json::Value::as_str), Some("auth_required"));
    gate.stop().await;
    issuer.stop().await;
}
