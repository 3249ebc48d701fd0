//! A person's first day, with the certified provider as issuer and the program as a process:
//! sign in, read masked rows, be stopped, use psql, keep a transcript that proves itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::dbgate::{Program, feed, said, text};
use crate::support::gate::{Gate, SHOP, cluster};
use crate::support::oidc::Oidc;
use crate::support::until::until;

/// A gate, an issuer, and a program that is signed in as alice of the engineers.
struct Day {
    gate: Gate,
    oidc: Oidc,
    program: Program,
    server: String,
}

impl Day {
    async fn begin() -> Self {
        let oidc = Oidc::start(&[]);
        let gate = Gate::start_for(SHOP, oidc.url()).await;
        let server = format!("http://{}", gate.running.api_address());
        let day = Self { gate, oidc, program: Program::new(), server };
        day.sign_in().await;
        day
    }

    async fn sign_in(&self) {
        let mut command = self.program.command(&["login", "--no-open", "--server", &self.server]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("login starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let page = lines.by_ref().find_map(|line| {
            let line = line.expect("text");
            let start = line.find("http")?;
            Some(line[start..].trim_end_matches(',').split_whitespace().next()?.trim_end_matches(',').to_owned())
        });
        let rest = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        self.oidc.approve(&page.expect("an address to go to").replace(" on", ""), "alice").await;
        let output =
            tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended");
        assert_eq!(output.status.code(), Some(0), "{} {}", said(&output), rest.join().expect("joined"));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains("alice"), "{shown}");
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        self.feed(arguments, "").await
    }

    /// Runs the program on another thread, so that the gate in this process goes on.
    async fn feed(&self, arguments: &[&str], input: &str) -> Output {
        feed(self.program.command(arguments), input).await
    }

    async fn end(self) {
        self.gate.stop().await;
        self.oidc.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masked_rows_denials_and_errors_have_their_form_and_exit_code() {
    let day = Day::begin().await;
    let sql = "select id, email, ssn from customers order by id limit 3";
    let output = day.run(&["exec", "demo", "-c", sql, "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/exec-1.schema.json")).expect("a schema");
    assert!(jsonschema::is_valid(&schema, &document), "{document:#}");
    assert!(!text(&output).contains("123-45") && !text(&output).contains("user1@example.com"), "{}", text(&output));
    assert_eq!(document["statements"][0]["row_count"], 3);
    assert!(document["statements"][0]["columns"][1]["mask"].is_string(), "{document:#}");

    let output = day.run(&["exec", "demo", "-c", "drop table customers"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert_eq!(day.gate.count("select count(*) from customers").await, 1000);

    let output = day.feed(&["exec", "demo", "-"], "select 1;\nselec;\nselect 3;\n").await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(text(&output).contains('1') && !text(&output).contains('3'), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains(":2:"), "{}", said(&output));

    let output = day.run(&["exec", "nowhere", "-c", "select 1"]).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    let output = day.run(&["check", "demo", "-c", "delete from orders", "--access", "write"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    day.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_out_there_is_one_document_and_exit_code_4() {
    let day = Day::begin().await;
    assert_eq!(day.run(&["logout"]).await.status.code(), Some(0));
    let output = day.run(&["exec", "demo", "-c", "select 1", "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["status"], "auth_required");
    let mut wrong = day.program.command(&["exec", "demo", "-c", "select 1"]);
    wrong.env("DBGATE_TOKEN", "not.a.token");
    let output = feed(wrong, "").await;
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    day.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_psql_sees_masked_rows_and_natural_catalogs() {
    let day = Day::begin().await;
    let output = day.run(&["conninfo", "demo", "--access", "write"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let conninfo = text(&output).trim().to_owned();
    assert!(!conninfo.contains("password="), "{conninfo}");
    let psql = |script: &'static str| {
        let mut command = Command::new("psql");
        command.args(["-X", "-At", &conninfo]).env_clear().env("PATH", "/usr/bin:/bin");
        feed(command, script)
    };
    let script = "\\d\n\\dt\n\\d customers\nselect * from customers limit 3;\nselect * from public.customers limit 3;\n\
                  select to_jsonb(c) from customers c limit 1;\ncopy customers to stdout;\n";
    let output = psql(script).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = text(&output);
    assert!(shown.contains("public|customers|table|postgres"), "{shown}");
    assert!(!shown.contains("123-45-") && !shown.contains("@example.com"), "masked values in: {shown}");
    assert!(shown.contains("name 1000"), "the copy is whole");

    let output = psql("begin; delete from orders where id=1; rollback;\nselect count(*) from orders;\n").await;
    assert!(text(&output).contains("DELETE 1") && text(&output).ends_with("3000\n"), "{}", said(&output));
    let output = psql("copy orders from stdin;\n9001\t1\t5\n9002\t1\t5\n\\.\nselect count(*) from orders;\n").await;
    assert!(text(&output).contains("COPY 2") && text(&output).contains("3002"), "{}", said(&output));
    day.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_target_within_a_second() {
    let day = Day::begin().await;
    let conninfo = text(&day.run(&["conninfo", "demo"]).await).trim().to_owned();
    let mut command = Command::new("psql");
    command.args(["-X", "-At", &conninfo, "-c", "select pg_sleep(60)"]).env_clear().env("PATH", "/usr/bin:/bin");
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql starts");
    let running = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active' \
                   and datname = current_database()";
    let took = until("it runs", async || day.gate.count(running).await > 0).await;
    assert!(took < Duration::from_secs(20), "the statement never started");
    let cancelled = Instant::now();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended");
    assert!(cancelled.elapsed() < Duration::from_secs(1), "{:?}", cancelled.elapsed());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("canceling statement due to user request"),
        "{}",
        said(&output)
    );
    assert_eq!(day.gate.count(running).await, 0);
    day.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transcript_proves_itself_and_any_changed_byte_is_found() {
    let day = Day::begin().await;
    let output = day.run(&["exec", "demo", "-c", "select count(*) from orders; select 1", "--format", "json"]).await;
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let path = document["audit"]["transcript"].as_str().unwrap_or_else(|| panic!("{}", said(&output))).to_owned();
    let output = day.run(&["audit", "verify", &path]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(text(&output).contains("reconciled     good"), "{}", text(&output));
    let good = std::fs::read(&path).expect("the evidence");
    let changed = format!("{path}.changed");
    for at in (0..good.len()).step_by(good.len() / 12) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&changed, &bad).expect("a copy");
        let output = day.run(&["audit", "verify", &changed]).await;
        assert_eq!(output.status.code(), Some(1), "byte {at}: {}", said(&output));
        let names = text(&output).lines().any(|line| line.contains(": ") && line.starts_with("  "));
        assert!(names, "it names what is wrong: {}", text(&output));
    }
    // No secret of the target is anywhere near the client.
    let password = cluster().password().expose();
    let home = Command::new("grep").args(["-r", "-l", password, &day.program.home().display().to_string()]).output();
    assert_eq!(text(&home.expect("grep runs")), "");
    day.end().await;
}
