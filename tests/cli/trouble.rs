//! When something is wrong: what failed, then the command to run next, the exit code, and with
//! `--format json` one valid document. What cannot be recorded does not run.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::dbgate::{Program, document, exec_document, feed, said, text};
use crate::support::desk::{Desk, issuer, token, trust};
use crate::support::gate::{Gate, SHOP};
use crate::support::served::Served;

/// What one failure must look like.
struct Wanted<'a> {
    exit: i32,
    status: &'a str,
    /// First line, or how it begins.
    first: &'a str,
    /// The last line.
    next: &'a str,
}

/// What stands in a document at a place, `Null` where nothing does.
fn at<'d>(document: &'d Value, place: &str) -> &'d Value {
    document.pointer(place).unwrap_or(&Value::Null)
}

/// Runs `exec` as people and as programs do, and `ls` or another command beside it.
async fn fails(command: impl Fn(&[&str]) -> Command, target: &str, wanted: &Wanted<'_>) {
    let output = feed(command(&["exec", target, "-c", "select 1"]), "").await;
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(wanted.exit), "{shown}");
    let (first, last) = (shown.lines().next().unwrap_or_default(), shown.lines().last().unwrap_or_default());
    assert!(first.starts_with(wanted.first), "{shown}");
    assert_eq!(last, wanted.next, "{shown}");
    assert_eq!(text(&output), "", "nothing but an answer goes to standard output");

    let output = feed(command(&["exec", target, "-c", "select 1", "--format", "json"]), "").await;
    assert_eq!(output.status.code(), Some(wanted.exit), "{}", said(&output));
    let told = exec_document(&output);
    assert_eq!(at(&told, "/status"), wanted.status, "{told:#}");
    assert_eq!(at(&told, "/statements"), &Value::Array(Vec::new()), "nothing ran: {told:#}");
    let message = match wanted.status {
        "denied" => at(&told, "/denial/message"),
        _ => at(&told, "/error/message"),
    };
    assert!(message.as_str().is_some_and(|text| text.starts_with(wanted.first)), "{told:#}");

    for other in [["check", target, "-c", "select 1"], ["conninfo", target, "--access", "read"]] {
        let output = feed(command(&[&other[..], &["--format", "json"]].concat()), "").await;
        assert_eq!(output.status.code(), Some(wanted.exit), "{other:?}: {}", said(&output));
        let told = document(&output);
        assert_eq!(at(&told, "/exit_code"), wanted.exit, "{other:?}: {told:#}");
        assert!(at(&told, "/error/message").as_str().is_some_and(|text| text.starts_with(wanted.first)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_prove_nobody_end_with_4_and_say_sign_in() {
    let issuer = issuer().await;
    let gate = Gate::start_with(SHOP, &trust(&issuer, "another-client")).await;
    let server = format!("http://{}", gate.running.api_address());
    let program = Program::new();
    let with = |token: &str| {
        let (token, program, server) = (token.to_owned(), &program, &server);
        move |arguments: &[&str]| {
            let mut command = program.command(arguments);
            command.env("DBGATE_SERVER", server).env("DBGATE_TOKEN", &token);
            command
        }
    };
    let wanted = |first| Wanted { exit: 4, status: "auth_required", first, next: "Run: dbgate login" };
    let good = token(&issuer).await;
    fails(with(&good), "demo", &wanted("The broker does not accept your sign-in: the token is for another audience"))
        .await;
    let (signed, signature) = good.rsplit_once('.').expect("a signed token");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let said = "The broker does not accept your sign-in: the token";
    fails(with(&forged), "demo", &wanted(said)).await;
    fails(with("not.a.token"), "demo", &wanted("The broker does not accept your sign-in: the bearer token is not"))
        .await;
    // Its end is read here, so that nobody need be asked; a broker's own look is in its tests.
    let ended = format!("e30.{}.x", dbgate::core::encoding::base64url(br#"{"exp":1}"#));
    fails(with(&ended), "demo", &wanted("Your sign-in to 127.0.0.1:")).await;
    let nobody = |arguments: &[&str]| {
        let mut command = program.command(arguments);
        command.env("DBGATE_SERVER", &server);
        command
    };
    fails(nobody, "demo", &wanted("You are not signed in to 127.0.0.1:")).await;
    gate.stop().await;
    issuer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_named_and_nothing_else_is() {
    let down = "\n[[targets]]\nname = \"down\"\nenvironment = \"production\"\n\
                dsn = \"host=127.0.0.1 port=1 dbname=x sslmode=disable\"\nadmin = { user = \"dbgate_broker\" }\n\
                pack = \"production\"\n";
    let desk = Desk::begin_with(SHOP, down).await;
    let command = |arguments: &[&str]| desk.command(arguments);
    fails(
        command,
        "demp",
        &Wanted {
            exit: 64,
            status: "unavailable",
            first: "No target \"demp\". Did you mean demo?",
            next: "List: dbgate ls",
        },
    )
    .await;
    let wanted = Wanted {
        exit: 2,
        status: "unavailable",
        first: "the broker is up, but target `down` cannot be reached",
        next: "Try again; if it stays so, tell the operators of the target.",
    };
    fails(command, "down", &wanted).await;
    let nobody = |arguments: &[&str]| {
        let mut command = desk.command(arguments);
        command.env("DBGATE_SERVER", "http://127.0.0.1:1");
        command
    };
    let wanted = Wanted {
        exit: 2,
        status: "unavailable",
        first: "Cannot reach 127.0.0.1:1 (connection refused). No target was contacted.",
        next: "Check the network or VPN, and the address in --server, DBGATE_SERVER or config.toml",
    };
    fails(nobody, "demo", &wanted).await;
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_nothing_is_granted_and_nothing_runs() {
    let served = Served::start("full_disk", SHOP).await;
    let update = ["exec", "demo", "--access", "write", "-c", "update orders set amount = 77 where id = 1"];
    let output = feed(served.command(&update), "").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(served.count("select amount::int8 from orders where id = 1").await, 77);

    // A session is open already when the disk fills up.
    let conninfo = text(&feed(served.command(&["conninfo", "demo", "--access", "write"]), "").await);
    let mut psql = Command::new("psql");
    psql.args(["-X", "-At", conninfo.trim()]).env_clear().env("PATH", "/usr/bin:/bin");
    psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut psql = psql.spawn().expect("psql starts");
    let mut input = psql.stdin.take().expect("piped");
    let mut answers = BufReader::new(psql.stdout.take().expect("piped")).lines();
    input.write_all(b"select 'open';\n").expect("it reads");
    assert_eq!(answers.next().expect("an answer").expect("text"), "open");

    let log = std::fs::metadata(served.folder.join("data/log/log.ndjson")).expect("the log");
    served.limit_files(log.len());
    input.write_all(b"update orders set amount = 88 where id = 2;\n").expect("it reads");
    drop(input);
    let output = psql.wait_with_output().expect("it ends");
    let shown = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("a statement could not be recorded, so it was not run"), "{shown}");
    assert_eq!(served.count("select amount::int8 from orders where id = 2").await, 2);

    let command = |arguments: &[&str]| served.command(arguments);
    let wanted = Wanted {
        exit: 9,
        status: "unavailable",
        first: "the audit log is not accepting records, so nothing was done",
        next: "Tell the operators of the gateway; nothing runs unrecorded.",
    };
    fails(command, "demo", &wanted).await;
    assert!(served.log().contains("the audit log cannot be written"), "{}", served.log());
    served.end().await;
}

/// Waits until the server's own log says so.
fn wait_for(served: &Served, what: &str) {
    let began = Instant::now();
    while !served.log().contains(what) {
        assert!(began.elapsed() < Duration::from_secs(60), "`{what}` was never said: {}", served.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_while_grants_are_made_ends_them_all() {
    let mut served = Served::start("stopping", SHOP).await;
    let ask = || served.command(&["conninfo", "demo"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let asked: Vec<_> = (0..16).map(|_| ask().expect("it starts")).collect();
    let said = |served: &Served, what: &str| served.log().matches(what).count();
    tokio::task::block_in_place(|| {
        wait_for(&served, "granted grant=");
        assert_eq!(served.terminate(), Some(0));
        for mut one in asked {
            one.wait().expect("it ends");
        }
    });
    // The log is read to its end by a thread of its own.
    tokio::task::block_in_place(|| wait_for(&served, ": stopped"));
    assert_eq!(said(&served, "granted grant="), said(&served, "grant ended"), "{}", served.log());
    served.end().await;
}
