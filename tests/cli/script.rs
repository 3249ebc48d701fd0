//! `exec` and piped `connect`: what scripts and agents rely on.

use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use crate::support::dbgate::{document, exec_document, feed, said, text};
use crate::support::desk::Desk;
use crate::support::gate::SHOP;
use crate::support::served::Served;
use crate::support::until::until;

/// Whether a statement that sleeps runs in the target, as a count.
const ASLEEP: &str = "select count(*) from pg_stat_activity where query like '%pg_sleep%' and state = 'active' \
                      and pid <> pg_backend_pid() and datname = current_database()";

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended")
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_limit_cuts_the_echo_of_a_write_and_not_the_write() {
    let desk = Desk::begin(SHOP).await;
    let sql = "update orders set amount = 7777 where id <= 50 returning id";
    let arguments = ["exec", "demo", "--access", "write", "--format", "json", "--max-rows", "10", "-c", sql];
    let output = desk.run(&arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let answer = exec_document(&output);
    let statement = &answer["statements"][0];
    assert_eq!((&statement["status"], &statement["command_tag"]), (&json!("done"), &json!("UPDATE 50")));
    assert_eq!((&statement["row_count"], &statement["rows_affected"]), (&json!(10), &json!(50)));
    assert_eq!(statement["truncated"]["by"], "rows");
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 7777").await, 50);
    // The same inside a block of the script's own.
    let script = format!("begin; {}; commit;", sql.replace("7777", "8888"));
    let output = desk.run(&["exec", "demo", "--access", "write", "--max-rows", "10", "-c", &script]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 8888").await, 50);
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_gets_little_and_is_told_what_is_missing() {
    let desk = Desk::begin(SHOP).await;
    let orders = "select * from orders";
    let output = desk.run(&["exec", "demo", "-c", orders, "--format", "json", "--agent", "bot"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(output.stdout.len() <= 64 * 1024, "{}", output.stdout.len());
    let answer = exec_document(&output);
    assert_eq!(answer["statements"][0]["row_count"], 200);
    assert_eq!(answer["statements"][0]["truncated"]["limit"], 200);
    let narrow = ["exec", "demo", "-c", orders, "--agent", "bot", "--fail-on-truncate"];
    assert_eq!(desk.run(&narrow).await.status.code(), Some(8));
    let exact = "select * from orders where id <= 200";
    let output = desk.run(&["exec", "demo", "-c", exact, "--format", "json", "--agent", "bot"]).await;
    assert_eq!(exec_document(&output)["statements"][0]["truncated"], json!(null));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_keep_every_digit_and_columns_their_place() {
    let desk = Desk::begin(SHOP).await;
    let sql = r"select 9007199254740993::int8, 0.10::numeric, 'NaN'::float8, '\xdeadbeef'::bytea, 1 a, 2 a";
    let output = desk.run(&["exec", "demo", "--format", "json", "-c", sql]).await;
    let rows = &exec_document(&output)["statements"][0]["rows"];
    assert_eq!(*rows, json!([["9007199254740993", "0.10", "NaN", "\\xdeadbeef", 1, 2]]));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_copy_stands_in_the_script_and_is_never_cut_into_statements() {
    let desk = Desk::begin(SHOP).await;
    let script = "copy audit_trail (what) from stdin;\nit's; drop table orders;\n-- no comment\n\\.\n\
                  select count(*) from audit_trail;\n";
    let file = desk.program.home().join("load.sql");
    std::fs::write(&file, script).expect("written");
    let output = desk.run(&["exec", "demo", "--access", "write", "-f", &file.display().to_string()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(text(&output).starts_with("COPY 2\n"), "{}", text(&output));
    let found = "select count(*) from audit_trail where what in ('it''s; drop table orders;', '-- no comment')";
    assert_eq!(desk.gate.count(found).await, 2);
    // In a document what is copied out is rows.
    let sql = "copy (select id from orders order by id limit 3) to stdout";
    let output = desk.run(&["exec", "demo", "--format", "json", "--max-rows", "2", "-c", sql]).await;
    let statement = &exec_document(&output)["statements"][0];
    assert_eq!((&statement["rows"], &statement["columns"][0]["name"]), (&json!([["1"], ["2"]]), &json!("copy")));
    // Lines are counted across the data.
    let output = desk.feed(&["exec", "demo", "--access", "write", "-"], &format!("{script}selec;\n")).await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains(":6:"), "{}", said(&output));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_early_the_statement_is_cancelled_and_the_transcript_handed_in() {
    let desk = Desk::begin(SHOP).await;
    let sleep = ["exec", "demo", "--format", "json", "-c", "select pg_sleep(50)", "-c", "select 2"];
    for (name, code, status) in [("-INT", 130, "cancelled"), ("-TERM", 143, "cancelled"), ("", 124, "timeout")] {
        let limit: &[&str] = if name.is_empty() { &["--timeout", "2s"] } else { &[] };
        let child = spawn(desk.command(&[&sleep[..], limit].concat()));
        until("it sleeps", async || desk.gate.count(ASLEEP).await == 1).await;
        if !name.is_empty() {
            signal(&child, name);
        }
        let output = ended(child).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let answer = exec_document(&output);
        assert_eq!(answer["status"], status, "{answer:#}");
        assert_eq!(answer["statements"][1]["status"], "not_run", "{answer:#}");
        let path = answer["audit"]["transcript"].as_str().expect("the transcript is in").to_owned();
        let verified = desk.run(&["audit", "verify", &path]).await;
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
        assert_eq!(desk.gate.count(ASLEEP).await, 0);
    }
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_revoked_under_its_client_is_cut_short_and_not_tampered_with() {
    let desk = Desk::begin(SHOP).await;
    let child =
        spawn(desk.command(&["exec", "demo", "--format", "json", "-c", "select 1", "-c", "select pg_sleep(50)"]));
    until("it sleeps", async || desk.gate.count(ASLEEP).await == 1).await;
    let grant = desk.gate.running.state().grants.ids().first().expect("a grant").as_str().to_owned();
    let output = desk.run(&["revoke", &grant]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("57P01: the session was ended: revoked"), "{}", said(&output));
    let answer = exec_document(&output);
    assert_eq!(desk.gate.count(ASLEEP).await, 0);
    let path = answer["audit"]["transcript"].as_str().unwrap_or_else(|| panic!("{}", said(&output))).to_owned();
    let verified = desk.run(&["audit", "verify", &path]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(!said(&verified).contains("TAMPERED"), "{}", said(&verified));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lost_after_a_write_was_sent_leaves_open_what_became_of_it() {
    let mut served = Served::start("link_lost", SHOP).await;
    let write = "update orders set amount = 5 where id = 1 and pg_sleep(30) is not null";
    let arguments = ["exec", "demo", "--access", "write", "--format", "json", "-c", write, "-c", "select 2"];
    let child = spawn(served.command(&arguments));
    until("it sleeps", async || served.count(ASLEEP).await == 1).await;
    served.kill();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(10), "{}", said(&output));
    let answer = exec_document(&output);
    assert_eq!(answer["status"], "outcome_unknown");
    assert_eq!(answer["statements"][0]["status"], "unknown");
    assert!(said(&output).contains("Look at the data before you run it again"), "{}", said(&output));
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_says_whether_it_stands() {
    let desk = Desk::begin(SHOP).await;
    let update = |id: u32| format!("update orders set amount = 4141 where id = {id}");
    let [first, second, third] = [1, 2, 3].map(update);
    let told = async |more: &[&str], script: &str, code: i32| {
        let arguments = ["exec", "demo", "--access", "write", "--format", "json"];
        let output = desk.run(&[&arguments[..], more, &["-c", script]].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{script}: {}", said(&output));
        let answer = exec_document(&output);
        let statements = answer["statements"].as_array().expect("statements").iter();
        let words: Vec<_> = statements.map(|one| one["status"].as_str().unwrap_or_default().to_owned()).collect();
        (words.join(" "), answer, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // By itself each of them commits, and whoever reads of a failure reads that too.
    let (words, answer, beside) = told(&[], &format!("{first}; {second}; selec; {third}"), 3).await;
    assert_eq!(words, "done done failed not_run");
    assert_eq!(answer["error"]["hint"], "2 statements before it have been committed.");
    assert_eq!(answer["warnings"][0]["code"], "committed", "{answer:#}");
    assert!(beside.contains("2 statements before it have been committed."), "{beside}");
    let (words, answer, beside) = told(&["-c", &first], "update orders set amount = 0", 5).await;
    assert_eq!((words.as_str(), &answer["warnings"][0]["code"]), ("done denied", &json!("committed")));
    assert!(beside.contains("1 statement before it has been committed."), "{beside}");
    let (words, _, beside) = told(&["--on-error", "continue"], &format!("selec; {first}"), 3).await;
    assert_eq!(words, "failed done");
    assert!(beside.contains("1 statement has been committed."), "{beside}");
    // Together they stand or fall, and what only reads is nothing to tell of.
    let (words, answer, beside) = told(&[], &format!("select 1; begin; {third}; selec"), 3).await;
    assert_eq!((words.as_str(), &answer["error"]["hint"]), ("done rolled_back rolled_back failed", &json!(null)));
    assert!(!beside.contains("committed"), "{beside}");
    let (words, answer, _) = told(&[], &format!("{first}; begin; {third}"), 1).await;
    assert_eq!(words, "done rolled_back rolled_back");
    assert!(answer["error"]["message"].to_string().contains("1 statement before it has been committed."), "{answer:#}");
    let (words, _, _) = told(&[], &format!("begin; {third}; rollback; {first}"), 0).await;
    assert_eq!(words, "rolled_back rolled_back done done");
    let (words, _, _) = told(&["--on-error", "continue"], &format!("begin; {third}; selec; commit"), 3).await;
    assert_eq!(words, "rolled_back rolled_back failed rolled_back");
    let saved = format!("begin; {first}; savepoint a; {third}; rollback to a; commit");
    assert_eq!(told(&[], &saved, 0).await.0, "done done done rolled_back done done");
    // What the policy stops in a transaction takes along what came before it.
    let (words, _, beside) = told(&[], &format!("begin; {third}; update orders set amount = 0"), 5).await;
    assert_eq!(words, "rolled_back rolled_back denied");
    assert!(!beside.contains("committed"), "{beside}");
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 4141").await, 2);
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lost_in_a_commit_leaves_open_what_became_of_its_transaction() {
    let slow = "create function slow() returns trigger language plpgsql as \
                $$ begin perform pg_sleep(30); return null; end $$; \
                create constraint trigger slow after update on orders deferrable initially deferred \
                for each row execute function slow();";
    let mut served = Served::start("commit_lost", &format!("{SHOP}\n{slow}")).await;
    let script = "begin; update orders set amount = 5 where id = 1; commit; select 2";
    let child = spawn(served.command(&["exec", "demo", "--access", "write", "--format", "json", "-c", script]));
    let waits = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    until("it commits", async || served.count(waits).await == 1).await;
    served.kill();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(10), "{}", said(&output));
    let answer = exec_document(&output);
    let words: Vec<_> = (0..4).map(|index| answer["statements"][index]["status"].clone()).collect();
    assert_eq!(words, ["unknown", "unknown", "unknown", "not_run"], "{answer:#}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_refused_names_the_next_step() {
    let desk = Desk::begin(SHOP).await;
    let told = async |arguments: &[&str], code: i32| {
        let output = desk.run(&[&["exec", "demo", "--format", "json"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        (exec_document(&output), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let write = "update orders set amount = 1 where id = 1";
    let (answer, beside) = told(&["-c", write], 5).await;
    assert_eq!(answer["denial"]["rule"], "default-deny", "{answer:#}");
    assert!(beside.contains("a session with write access may: --access write"), "{beside}");
    let (answer, _) = told(&["--access", "admin", "-c", "select 1"], 5).await;
    assert!(answer["error"]["hint"].to_string().contains("--access may be: read, write"), "{answer:#}");
    for (values, sql) in [
        (&[][..], "select 1 where 1 = $1"),
        (&["-p", "1", "-p", "2"], "select 1 where $1::int = 1"),
        (&["-p", "one"], "select $1::int"),
    ] {
        let (answer, _) = told(&[values, &["-c", sql]].concat(), 3).await;
        assert!(answer["error"]["hint"].to_string().contains("-p"), "{sql}: {answer:#}");
    }
    for nothing in ["", "-- only a remark\n"] {
        let (answer, beside) = told(&["-c", nothing], 0).await;
        assert_eq!(
            (&answer["statements"], beside.as_str()),
            (&json!([]), "Nothing was run: no statement was given.\n")
        );
    }
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_dangerous_runs_because_nobody_is_there_to_ask() {
    let desk = Desk::begin(SHOP).await;
    let sql = "update orders set amount = 0";
    for access in ["read", "write"] {
        let output = desk.run(&["exec", "demo", "--access", access, "-c", sql]).await;
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    }
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 0").await, 0);
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn piped_connect_is_exec_and_writes_its_document() {
    let desk = Desk::begin(SHOP).await;
    let output = desk.feed(&["connect", "demo", "--format", "json"], "select 1;\nselect 2;\n").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(exec_document(&output)["statements"][1]["rows"], json!([[2]]));
    let output = desk.feed(&["connect", "demo"], "select 1;\nselec;\nselect 3;\n").await;
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_with_nobody_at_it_gets_no_prompt() {
    let desk = Desk::begin(SHOP).await;
    let program = env!("CARGO_BIN_EXE_dbgate");
    let at_terminal = |line: String, marker: Option<(&str, &str)>| {
        let mut command = desk.command(&[]);
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).env_clear();
        terminal.envs(command.env("TERM", "dumb").get_envs().filter_map(|(name, value)| Some((name, value?))));
        terminal.envs(marker);
        feed(terminal, "")
    };
    let output = at_terminal(format!("{program} connect demo --no-input"), None).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    let output = at_terminal(format!("{program} connect demo"), Some(("CLAUDECODE", "1"))).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert!(text(&output).contains("Run: dbgate exec demo -c SQL"), "{}", text(&output));
    assert_eq!(desk.gate.login_roles().await, Vec::<String>::new());
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_bug_of_any_command() {
    let desk = Desk::begin(SHOP).await;
    let output = desk.run(&["exec", "demo", "-c", "select 1", "--format", "json"]).await;
    let evidence = exec_document(&output)["audit"]["transcript"].as_str().expect("evidence").to_owned();
    let all = "select * from orders a join orders b using (customer_id)";
    let commands: [&[&str]; 17] = [
        &[],
        &["--help"],
        &["--version"],
        &["help-exit-codes"],
        &["completions", "bash"],
        &["policy"],
        &["ls"],
        &["ls", "--format", "json"],
        &["whoami"],
        &["conninfo", "demo"],
        &["check", "demo", "-c", "select 1; select 2"],
        &["check", "demo", "-c", "select 1", "--format", "json"],
        &["exec", "demo", "-c", all],
        &["exec", "demo", "-c", all, "--format", "csv"],
        &["exec", "demo", "-c", all, "--format", "ndjson"],
        &["exec", "demo", "-c", all, "--format", "json"],
        &["audit", "verify", &evidence],
    ];
    // What a full disk has not taken is no success.
    let answers = |arguments: &&&[&str]| !matches!(arguments.first(), Some(&("--help" | "--version" | "policy")));
    for arguments in commands.iter().filter(answers) {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("a device");
        let mut command = desk.command(arguments);
        let child = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped()).spawn().expect("it starts");
        let output = ended(child).await;
        let shown = String::from_utf8_lossy(&output.stderr);
        let code = if arguments.first() == Some(&"audit") { 2 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {shown}");
        assert!(shown.contains("No space left on device") && !shown.contains("panicked"), "{arguments:?}: {shown}");
    }
    for arguments in commands {
        let mut child = spawn(desk.command(arguments));
        drop(child.stdout.take());
        let output = ended(child).await;
        let shown = String::from_utf8_lossy(&output.stderr);
        assert!(!shown.contains("panicked"), "{arguments:?}: {shown}");
        let code = output.status.code();
        // What `exec` ran it says first; then that nobody has read it.
        let is_right = matches!((arguments.first(), code), (Some(&"exec"), Some(141)))
            || (arguments.first() != Some(&"exec") && matches!(code, Some(0 | 64 | 141)));
        assert!(is_right, "{arguments:?}: {code:?} {shown}");
    }
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_told_what_does_not_stand_and_what_it_did_not_get() {
    let desk = Desk::begin(SHOP).await;
    let begun = "begin; update orders set amount = 5555 where id = 1 returning id";
    let exec = ["exec", "demo", "--access", "write", "--for", "99h", "-c"];
    let output = desk.run(&[&exec[..], &[begun]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("nothing that it wrote stands"), "{}", said(&output));
    assert!(said(&output).contains("The grant lasts for 480 minutes"), "{}", said(&output));
    assert!(text(&output).contains("(1 row)\n\nUPDATE 1\n"), "{}", text(&output));
    let output = desk.run(&[&exec[..], &[begun, "--format", "json"]].concat()).await;
    let answer = exec_document(&output);
    assert_eq!((output.status.code(), &answer["exit_code"]), (Some(1), &json!(1)));
    assert!(answer["error"]["message"].to_string().contains("rolled back"), "{answer}");
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 5555").await, 0);
    let chained = format!("{begun}; commit and chain; select 1");
    let ended = "begin; delete from orders where id = 2; rollback and chain";
    let prepared = "begin; prepare p as select 1; execute p";
    for stands in ["begin; select 1", &format!("{begun}; commit"), &chained, ended, prepared] {
        let output = desk.run(&["exec", "demo", "--access", "write", "-c", stands]).await;
        assert_eq!(output.status.code(), Some(0), "{stands}: {}", said(&output));
    }
    assert_eq!(desk.gate.count("select count(*) from orders where amount = 5555").await, 1);
    // A mark at the front of a file is no part of it.
    let file = desk.program.home().join("marked.sql");
    std::fs::write(&file, "\u{feff}select 1 as one;\n").expect("written");
    let output = desk.run(&["exec", "demo", "-f", &file.display().to_string()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = desk.feed(&["exec", "demo", "-"], "\u{feff}select 1;").await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = desk.run(&["exec", "demo", "--timeout", "1s", "-c", "select pg_sleep(60)"]).await;
    assert!(said(&output).contains("canceling statement due to --timeout"), "{}", said(&output));
    // What is no evidence was not tampered with.
    for no_evidence in ["", "a poem\n", "dbgate\n"] {
        std::fs::write(&file, no_evidence).expect("written");
        let output = desk.run(&["audit", "verify", &file.display().to_string()]).await;
        assert_eq!(output.status.code(), Some(2), "{no_evidence}: {}", said(&output));
        assert!(said(&output).contains("is no evidence file"), "{}", said(&output));
    }
    desk.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_flags_are_one_document_too_and_a_context_stands_for_its_broker() {
    let desk = Desk::begin(SHOP).await;
    let output = desk.run(&["ls", "--fromat", "json", "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert_eq!(document(&output)["exit_code"], 64);
    assert_eq!(document(&output)["error"]["hint"], "Run: dbgate ls --help");
    let output = desk.run(&["exec", "--format", "json", "-c", "select 1"]).await;
    assert!(document(&output).to_string().contains("<TARGET>"), "{}", document(&output));
    let output = desk.run(&["request", "wait", "--format", "json"]).await;
    assert_eq!(document(&output)["error"]["hint"], "Run: dbgate request wait --help");
    let config = format!("version = 1\n[contexts.work]\nserver = \"{}\"\n", desk.server);
    std::fs::write(desk.program.home().join("config.toml"), config).expect("written");
    let with = |arguments: &[&str]| {
        let mut command = desk.program.command(arguments);
        command.env("DBGATE_ID_TOKEN", &desk.token);
        command
    };
    let output = feed(with(&["ls", "--context", "work"]), "").await;
    assert!(text(&output).contains("demo"), "{}", said(&output));
    let output = feed(with(&["ls", "--context", "home"]), "").await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert!(said(&output).contains("no context `home`; there are: work"), "{}", said(&output));
    // Alone it says what to do next, and does not wait for anything.
    let output = feed(desk.program.command(&[]), "").await;
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output).lines().count() <= 15 && text(&output).contains("dbgate login"), "{}", text(&output));
    desk.end().await;
}
