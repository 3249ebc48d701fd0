//! Risky statements wait for a person: through the real program, psql and the API.

use std::io::{BufReader, Read as _};
use std::process::{Child, ChildStderr, Command};

use serde_json::Value;

use crate::support::dbgate::said;
use crate::support::gate::SHOP;
use crate::support::scene::{Scene, UPDATE, id_in};
use crate::support::until::until;

fn valid(document: &Value) {
    let schema: Value = serde_json::from_str(include_str!("../../docs/schema/exec-1.schema.json")).expect("a schema");
    assert!(jsonschema::is_valid(&schema, document), "{document:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_a_reviewer_approves_and_the_stored_text_runs_once() {
    let scene = Scene::start("").await;
    let (code, document) = scene.exec(UPDATE).await;
    assert_eq!(code, Some(6), "{document:#}");
    valid(&document);
    let approval = &document["approval"];
    assert_eq!((&document["status"], &approval["state"]), (&"pending".into(), &"pending".into()));
    assert_eq!(approval["impact"]["trial"]["rows"], 1500, "{approval:#}");
    assert!(approval["impact"]["estimate"]["rows"].as_u64().is_some_and(|rows| (1000..2000).contains(&rows)));
    assert_eq!(approval["binds"]["max_rows"], 1650);
    assert_eq!(approval["impact"]["trial"]["locks"][0], "RowExclusiveLock public.orders");
    assert_eq!(scene.changed().await, 0, "nothing has happened");
    assert_eq!(scene.gate.count("select count(*) from pg_locks where relation = 'orders'::regclass").await, 0);
    let id = approval["request_id"].as_str().expect("an id").to_owned();
    assert_eq!(scene.ask(UPDATE).await, id, "the same statement is the same request");

    let own = scene.run("ana", &["approve", &id]).await;
    assert_eq!(own.status.code(), Some(5), "{}", said(&own));
    assert!(said(&own).contains("self_approval"), "{}", said(&own));
    assert_eq!(scene.logged("approval.refused", &id), 1);
    let outsider = scene.run("bob", &["approve", &id]).await;
    assert_ne!(outsider.status.code(), Some(0), "{}", said(&outsider));

    let mut waiting = scene.command("ana", &["request", "wait", &id]).await;
    let waiting = waiting.spawn().expect("it runs");
    let shown = scene.run("raj", &["request", "show", &id]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    for part in ["refund-bot (agent, declared) for ana@example.com", "1,500 of 3,000", "impact-limit", UPDATE] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let approved = scene.run("raj", &["approve", &id, "-m", "only test orders"]).await;
    assert_eq!(approved.status.code(), Some(0), "{}", said(&approved));
    let waited = tokio::task::spawn_blocking(move || waiting.wait_with_output()).await.expect("joined").expect("ended");
    assert_eq!(waited.status.code(), Some(0), "{}", said(&waited));
    assert!(said(&waited).contains("approved by raj@example.com: only test orders"), "{}", said(&waited));

    assert_eq!(scene.resume("bob", &id).await.0, Some(5), "it is Ana's");
    let (code, first) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(0), "{first:#}");
    valid(&first);
    assert_eq!(first["statements"][0]["command_tag"], "UPDATE 1500");
    assert_eq!(scene.changed().await, 1500);
    let (code, again) = scene.resume("ana", &id).await;
    assert_eq!((code, &again["replayed"]), (Some(0), &true.into()), "{again:#}");
    valid(&again);
    assert_eq!(again["statements"][0]["rows_affected"], 1500);
    assert_eq!(scene.gate.count("select count(*) from orders where amount > 20000").await, 0, "it ran once");
    for kind in ["approval.request", "approval.decision", "approval.executed", "approval.outcome"] {
        assert_eq!(scene.logged(kind, &id), 1, "{kind}");
    }
    let transcript = first["audit"]["transcript"].as_str().expect("evidence");
    let verified = scene.run("ana", &["audit", "verify", transcript]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_cap_it_is_rolled_back_and_the_approval_is_spent() {
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let more = "insert into orders select i, 1, 5 from generate_series(10001, 15000) i";
    crate::support::gate::superuser(&scene.gate.database).await.batch_execute(more).await.expect("more rows");
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(8), "{document:#}");
    valid(&document);
    assert_eq!(document["error"]["code"], "row_cap_exceeded");
    assert!(document["error"]["message"].as_str().expect("text").contains("row_cap_exceeded (6500 > 1650)"));
    assert_eq!(scene.changed().await, 0);
    let (code, again) = scene.resume("ana", &id).await;
    assert_eq!((code, &again["replayed"]), (Some(8), &true.into()), "spent: {again:#}");
    assert_eq!(scene.changed().await, 0);
    assert_eq!(scene.logged("approval.outcome", &id), 1);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_withdrawn_and_unasked_have_their_exit_codes() {
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    assert_eq!(scene.run("raj", &["reject", &id, "-m", "wrong table"]).await.status.code(), Some(0));
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!((code, &document["status"]), (Some(7), &"rejected".into()), "{document:#}");
    assert_eq!(document["approval"]["comment"], "wrong table");
    // Whoever waits for it gets one document, and its words beside it.
    let waiting = scene.ask("delete from customers where id <= 300").await;
    for (id, code, state, words) in [(&id, 7, "rejected", "was rejected by"), (&waiting, 6, "pending", "still waits")] {
        let output = scene.run("ana", &["request", "wait", id, "--timeout", "1s", "--format", "json"]).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        assert_eq!((&document["request_id"], &document["state"]), (&id.as_str().into(), &state.into()));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{}", said(&output));
    }
    assert_eq!(scene.run("ana", &["request", "withdraw", &waiting]).await.status.code(), Some(0));
    let id = scene.ask(UPDATE).await;
    assert_eq!(scene.run("ana", &["request", "withdraw", &id]).await.status.code(), Some(0));
    assert_eq!(scene.resume("ana", &id).await.0, Some(7));
    let late = scene.run("raj", &["approve", &id]).await;
    assert_ne!(late.status.code(), Some(0), "{}", said(&late));
    let arguments = ["exec", "demo", "--access", "write", "--no-request", "-c", UPDATE];
    assert_eq!(scene.run("ana", &arguments).await.status.code(), Some(5));
    let listed = scene.run("raj", &["request", "ls", "--reviewable"]).await;
    assert!(said(&listed).contains("No request"), "{}", said(&listed));
    assert_eq!(scene.changed().await, 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_waits_when_told_to_and_runs_it_in_the_same_session() {
    let scene = Scene::start("").await;
    let arguments = ["exec", "demo", "--access", "write", "--wait", "60s", "-c", UPDATE];
    let mut child = scene.command("ana", &arguments).await.spawn().expect("it runs");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "UPDATE 1500\n");
    assert_eq!(scene.changed().await, 1500);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_told_at_once_held_without_locks_and_answered() {
    let scene = Scene::start("").await;
    let mut child = scene.psql(UPDATE).await.spawn().expect("psql starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    let locks = "select count(*) from pg_locks where relation = 'orders'::regclass";
    assert_eq!(scene.gate.count(locks).await, 0, "no lock is held while people think");
    assert_eq!(scene.changed().await, 0);
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("joined").expect("ended");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "UPDATE 1500\n");
    assert_eq!(scene.changed().await, 1500);

    let mut child = scene.psql("delete from orders where amount > 10000").await.spawn().expect("psql starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    assert_eq!(scene.run("raj", &["reject", &id, "-m", "keep them"]).await.status.code(), Some(0));
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("ZG002") && rest.contains("raj@example.com: keep them"), "{rest}");
    child.wait().expect("ended");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_hold_is_over_psql_gets_zg001_and_the_same_statement_again_uses_the_approval() {
    let scene = Scene::start("[approvals]\nhold_native = \"1s\"\n").await;
    let mut command = scene.psql(UPDATE).await;
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    assert_ne!(output.status.code(), Some(0));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("NOTICE") && told.contains("ZG001") && told.contains("dbgate exec --resume apr_"), "{told}");
    let id = id_in(&mut told.as_bytes());
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let mut command = scene.psql(UPDATE).await;
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(scene.changed().await, 1500);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_decides_ends_and_who_waits_is_told() {
    let scene = Scene::start("[approvals]\nttl = \"3s\"\n").await;
    let mut command = scene.psql(UPDATE).await;
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("ZG004") && told.contains("expired before anybody decided"), "{told}");
    let id = id_in(&mut told.as_bytes());
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!((code, &document["approval"]["state"]), (Some(7), &"expired".into()), "{document:#}");
    assert_eq!(scene.logged("approval.ended", &id), 1);
    let late = scene.run("raj", &["approve", &id]).await;
    assert_ne!(late.status.code(), Some(0), "{}", said(&late));
    assert_eq!(scene.changed().await, 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_client_says_how_long_it_lets_itself_be_held() {
    let scene = Scene::start("").await;
    let mut command = scene.psql(UPDATE).await;
    command.env("PGOPTIONS", "-c dbgate.hold=0");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("ZG001") && !told.contains("NOTICE"), "{told}");
    let mut command = scene.psql("select 1").await;
    command.env("PGOPTIONS", "-c dbgate.hold=soon");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    assert!(said(&output).contains("number of seconds"), "{}", said(&output));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_a_waiting_psql_withdraws_the_request() {
    let scene = Scene::start("").await;
    let mut child = scene.psql(UPDATE).await.spawn().expect("psql starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("text");
    child.wait().expect("ended");
    assert!(rest.contains("57014"), "{rest}");
    let shown = scene.run("raj", &["request", "show", &id]).await;
    assert!(said(&shown).contains("WITHDRAWN"), "{}", said(&shown));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_what_a_write_would_do_and_leaves_everything_as_it_was() {
    let scene = Scene::start("").await;
    let check = async |impact: &str, sql: &str| {
        let arguments = ["check", "demo", "--access", "write", "--impact", impact, "--format", "json", "-c", sql];
        let output = scene.run("ana", &arguments).await;
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output.status.code(), document["statements"][0].clone())
    };
    let (code, tried) = check("trial", "delete from customers where status = 'idle'").await;
    assert_eq!((code, &tried["verdict"]), (Some(5), &"needs_approval".into()), "{tried:#}");
    assert_eq!(tried["impact"]["trial"]["rows"], 2000);
    assert_eq!(tried["impact"]["trial"]["cascades"][0]["rows"], 1500);
    assert_eq!(tried["rule"], "impact-limit");
    assert!(tried["message"].as_str().is_some_and(|said| said.starts_with("DELETE would remove")), "{tried:#}");
    assert!(tried["hint"].as_str().is_some_and(|said| said.contains("dbgate exec demo --access write")), "{tried:#}");
    // Of the text alone nobody can say how many rows it meets.
    let (code, allowed) = check("none", "delete from customers where status = 'idle'").await;
    assert_eq!((code, &allowed["verdict"]), (Some(0), &"allow".into()), "{allowed:#}");
    assert!(allowed["hint"].as_str().is_some_and(|said| said.contains("--impact trial")), "{allowed:#}");
    let (code, read) = check("none", "select 1").await;
    assert_eq!((code, &read["hint"]), (Some(0), &Value::Null));
    let arguments = ["check", "demo", "--access", "write", "-c", "delete from customers where id < 100"];
    let output = scene.run("ana", &arguments).await;
    assert!(said(&output).contains("Limits on rows are looked at when it runs."), "{}", said(&output));
    let (code, tried) = check("trial", "update orders set amount = 1 where id <= 3").await;
    assert_eq!((code, &tried["verdict"], &tried["impact"]["trial"]["rows"]), (Some(0), &"allow".into(), &3.into()));
    let (code, tried) = check("estimate", UPDATE).await;
    assert_eq!((code, &tried["verdict"]), (Some(0), &"allow".into()), "{tried:#}");
    assert!(tried["impact"]["estimate"]["rows"].as_u64().is_some_and(|rows| (1000..2000).contains(&rows)));
    assert!(tried["impact"]["trial"]["skipped"].is_string());
    let (code, read) = check("trial", "select 1").await;
    assert_eq!((code, &read["impact"]), (Some(0), &Value::Null));
    assert_eq!(scene.gate.count("select count(*) from customers").await, 1000);
    assert_eq!(scene.gate.count("select count(*) from orders where amount = 1").await, 1);
    let listed = scene.run("ana", &["request", "ls"]).await;
    assert!(said(&listed).contains("No request"), "nobody was asked: {}", said(&listed));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_the_queue_is_gone_through_one_by_one() {
    let scene = Scene::start("").await;
    let (first, second) = (scene.ask(UPDATE).await, scene.ask("delete from customers where id <= 300").await);
    let piped = scene.run("raj", &["review"]).await;
    assert_eq!(piped.status.code(), Some(64), "without a terminal nobody is asked: {}", said(&piped));
    let command = scene.at_a_terminal("raj", &["review"]).await;
    let at_the_terminal = move || -> Result<(), rexpect::error::Error> {
        let mut terminal = rexpect::session::spawn_command(command, Some(30_000))?;
        terminal.exp_string("1 of 2")?;
        terminal.exp_string("refund-bot (agent, declared) for ana@example.com")?;
        terminal.exp_string("[s]kip")?;
        terminal.send_line("c")?;
        terminal.exp_string("most rows")?;
        terminal.send_line("1,234")?;
        terminal.exp_string("was approved by raj@example.com")?;
        terminal.exp_string("2 of 2")?;
        terminal.exp_string("[s]kip")?;
        terminal.send_line("x")?;
        terminal.exp_string("what to say")?;
        terminal.send_line("not these")?;
        terminal.exp_string("was rejected by raj@example.com: not these")?;
        terminal.exp_eof()?;
        Ok(())
    };
    tokio::task::spawn_blocking(at_the_terminal).await.expect("joined").expect("the conversation");
    // The newest comes first: it was approved for 1,234 rows and changes 1,200; the other was rejected.
    assert_eq!(scene.resume("ana", &second).await.0, Some(0));
    assert_eq!(scene.resume("ana", &first).await.0, Some(7));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_prompt_one_waits_and_the_statement_goes_on_when_people_agree() {
    let scene = Scene::start("").await;
    let command = scene.at_a_terminal("ana", &["connect", "demo", "--access", "write", "-X"]).await;
    let (named, id) = std::sync::mpsc::channel();
    let (agreed, go_on) = std::sync::mpsc::channel();
    let at_the_prompt = move || -> Result<(), rexpect::error::Error> {
        let mut terminal = rexpect::session::spawn_command(command, Some(30_000))?;
        terminal.exp_string("rw=>")?;
        terminal.send_line(&format!("{UPDATE};"))?;
        terminal.exp_string("waiting for approval apr_")?;
        let rest = terminal.exp_string(" ")?;
        let _ = named.send(format!("apr_{}", rest.trim()));
        let _ = go_on.recv();
        terminal.exp_string("was approved by raj@example.com")?;
        terminal.exp_string("UPDATE 1500")?;
        terminal.send_line("\\q")?;
        terminal.exp_eof()?;
        Ok(())
    };
    let talking = tokio::task::spawn_blocking(at_the_prompt);
    let id = tokio::task::spawn_blocking(move || id.recv().expect("a request is named")).await.expect("joined");
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    agreed.send(()).expect("somebody waits");
    talking.await.expect("joined").expect("the conversation");
    assert_eq!(scene.changed().await, 1500);
    scene.end().await;
}

/// A psql that waits for people, and the request that it made.
async fn held(scene: &Scene, sql: &str) -> (Child, BufReader<ChildStderr>, String) {
    held_by(scene.psql(sql).await)
}

fn held_by(mut psql: Command) -> (Child, BufReader<ChildStderr>, String) {
    let mut child = psql.spawn().expect("psql starts");
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    (child, errors, id)
}

/// Deleting customers needs somebody's word, however few they are.
async fn precious(sql: &str) -> Scene {
    let rule = "@id(\"precious\")\n@approval(\"dba\")\n@reason(\"customers are precious\")\n\
                forbid (principal, action == Action::\"delete\", resource) when { context has statement };\n";
    let scene = Scene::start_over(sql, "").await;
    scene.restart(|folder| std::fs::write(folder.join("policy/p.cedar"), rule).expect("a rule")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_statement_that_is_stopped_again_has_come_to_nothing() {
    let scene = precious(SHOP).await;
    let (mut child, mut errors, first) = held(&scene, "delete from customers where id > 700").await;
    // Agreed to for its text, with no number of rows; then there are too many.
    assert_eq!(scene.run("raj", &["approve", &first]).await.status.code(), Some(0));
    let second = id_in(&mut errors);
    assert_ne!(first, second);
    // The client hears of the second before everything of the first is written down.
    let mut shown = Value::Null;
    for _ in 0..100 {
        let told = scene.run("raj", &["request", "show", &first, "--format", "json"]).await;
        shown = serde_json::from_slice(&told.stdout).expect("JSON");
        if shown.pointer("/outcome/how").is_some() {
            break;
        }
    }
    assert_eq!(shown.pointer("/outcome/how").and_then(Value::as_str), Some("failed"), "{shown:#}");
    assert_eq!(scene.gate.count("select count(*) from customers").await, 1_000);
    assert_eq!(scene.run("raj", &["reject", &second, "-m", "too many"]).await.status.code(), Some(0));
    child.wait().expect("ended");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_while_psql_waits_is_the_one_that_counts() {
    let scene = Scene::start("").await;
    let conninfo = scene.conninfo().await;
    let (mut child, mut errors, id) = held_by(Scene::psql_to(&conninfo, UPDATE));
    let rule =
        "@id(\"frozen\")\nforbid (principal, action == Action::\"update\", resource) when { context has statement };\n";
    std::fs::write(scene.gate.folder.join("policy/frozen.cedar"), rule).expect("a rule");
    scene.gate.running.reload();
    // Until its grant is judged anew.
    let mut other = Scene::psql_to(&conninfo, "update orders set amount = amount where id = 1");
    until("the rule is in force", async || !other.output().expect("psql runs").status.success()).await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("text");
    assert!(rest.contains("42501") && rest.contains("frozen"), "{rest}");
    child.wait().expect("ended");
    assert_eq!(scene.changed().await, 0);
    scene.end().await;
}

/// The usual way to keep a trigger from calling itself.
const GUARDED: &str = "
create function guarded() returns trigger language plpgsql as $$ begin
  if current_setting('app.guard', true) = 'on' then return new; end if;
  perform set_config('app.guard', 'on', true);
  return new; end $$;
create trigger guarded before update on orders for each row execute function guarded();
create trigger guarded_too after delete on customers for each row execute function guarded();";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_what_has_changed_its_own_circumstances() {
    let places =
        "create table places as select i as id, 'Asia/Tokyo' as timezone from generate_series(1, 300) i; analyze;";
    let scene = precious(&format!("{SHOP}{GUARDED}{places}")).await;
    let mut command = scene.psql(UPDATE).await;
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    let said = said(&output);
    assert!(said.contains("42501") && said.contains("sets `app.guard` itself") && !said.contains("apr_"), "{said}");
    // A column may be called like a setting.
    let (mut child, errors, id) = held(&scene, "update places set timezone = 'UTC' where id > 7").await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    drop(errors);
    assert!(child.wait().expect("ended").success());
    // Nothing of it has run where the text is asked about.
    let (mut child, errors, id) = held(&scene, "delete from customers where id = 7").await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    drop(errors);
    assert!(child.wait().expect("ended").success());
    scene.end().await;
}
