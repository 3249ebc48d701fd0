//! Drivers, and statements with bound values: who sends them is told at once that people decide, and
//! the approval is for these values.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;
use serde_json::Value;
use tokio_postgres::error::DbError;
use tokio_postgres::types::ToSql;

use crate::support::dbgate::said;
use crate::support::gate::{SHOP, reconfigure};
use crate::support::scene::{Psycopg, Scene};
use crate::support::wire::{Peer, error};

const RAISE: &str = "update orders set amount = amount + $1::int4 where amount < $2::int4";

/// What the gate told a driver, which waits for nothing.
fn told(error: &tokio_postgres::Error) -> (String, Option<String>) {
    let error: &DbError = error.as_db_error().expect("an error of the server");
    let detail: Value = error.detail().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let id = detail.get("request_id").and_then(Value::as_str).map(str::to_owned);
    (error.code().code().to_owned(), id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_is_told_at_once_and_the_same_values_again_use_the_approval_once() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let raise = client.prepare(RAISE).await.expect("prepared");
    let (state, id) = told(&client.execute(&raise, &[&10_000, &1501]).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    let id = id.expect("a request");
    assert_eq!(scene.changed().await, 0);
    let shown = scene.run("raj", &["request", "show", &id, "--format", "json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["parameters"], serde_json::json!(["10000", "1501"]), "binary values, as PostgreSQL writes them");
    assert!(shown["impact"]["estimate"]["rows"].as_u64().is_some_and(|rows| (500..3000).contains(&rows)), "{shown:#}");
    let card = scene.run("raj", &["request", "show", &id]).await;
    assert!(said(&card).contains("$2 = '1501'"), "{}", said(&card));
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let (state, other) = told(&client.execute(&raise, &[&10_000, &1601]).await.expect_err("other values"));
    assert_eq!(state, "ZG001");
    assert_ne!(other.as_deref(), Some(id.as_str()), "which are another request");
    assert_eq!(scene.changed().await, 0);
    assert_eq!(client.execute(&raise, &[&10_000, &1501]).await.expect("approved"), 1500);
    assert_eq!(scene.changed().await, 1500);
    let (state, again) = told(&client.execute(&raise, &[&9_999, &20_000]).await.expect_err("it is used up"));
    assert_eq!((state.as_str(), again.is_some()), ("ZG001", true));
    client.execute("update orders set amount = amount where id = $1", &[&7]).await.expect("the session goes on");
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_text_asks_is_judged_with_its_values() {
    let scene = Scene::start("").await;
    let rule = "@id(\"precious\")\n@approval(\"dba\")\n@reason(\"customers are precious\")\n\
                forbid (principal, action == Action::\"delete\", resource) when { context has statement };\n";
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/p.cedar"), rule).expect("a rule")).await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let delete = client.prepare("delete from customers where id = $1 returning name").await.expect("it is only read");
    let (state, id) = told(&client.query(&delete, &[&5]).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    assert_eq!(scene.run("raj", &["approve", &id.expect("a request")]).await.status.code(), Some(0));
    let (state, _) = told(&client.query(&delete, &[&6]).await.expect_err("another customer"));
    assert_eq!(state, "ZG001");
    let rows = client.query(&delete, &[&5]).await.expect("approved");
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), ["name 5"]);
    assert_eq!(scene.gate.count("select count(*) from customers").await, 999);
    client
        .batch_execute("begin; update customers set name = name where id = 7")
        .await
        .expect("a block that has written");
    let (state, id) = told(&client.query(&delete, &[&7]).await.expect_err("then nobody is asked"));
    assert_eq!((state.as_str(), id), ("42501", None));
    client.batch_execute("rollback; begin").await.expect("a block");
    let (state, id) = told(&client.query(&delete, &[&7]).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    client.batch_execute("rollback").await.expect("it ends");
    assert_eq!(scene.run("raj", &["approve", &id.expect("a request")]).await.status.code(), Some(0));
    client.batch_execute("begin").await.expect("a block");
    assert_eq!(client.query(&delete, &[&7]).await.expect("approved").len(), 1);
    client.batch_execute("commit").await.expect("committed");
    assert_eq!(scene.gate.count("select count(*) from customers").await, 998);
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_people_agree_to_runs_for_a_driver_once_in_a_block_and_outside() {
    let rule = "@id(\"precious\")\n@approval(\"dba\")\n@reason(\"orders are precious\")\n\
                forbid (principal, action == Action::\"execute\", resource) \
                when { context has statement && context.statement.unbounded };\n";
    let scene = Scene::start("").await;
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/p.cedar"), rule).expect("a rule")).await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let series = client.prepare("select i from generate_series(1, $1::int4) i").await.expect("it is only read");
    for block in ["", "begin"] {
        client.batch_execute(block).await.expect("a block, or none");
        let (state, id) = told(&client.query(&series, &[&2]).await.expect_err("it asks"));
        assert_eq!(state, "ZG001");
        client.batch_execute("rollback").await.expect("it ends");
        assert_eq!(scene.run("raj", &["approve", &id.expect("a request")]).await.status.code(), Some(0));
        client.batch_execute(block).await.expect("a block, or none");
        assert_eq!(client.query(&series, &[&2]).await.expect("approved").len(), 2);
        let (state, _) = told(&client.query(&series, &[&2]).await.expect_err("it is used up"));
        assert_eq!(state, "ZG001", "in {block:?}");
        client.batch_execute("rollback").await.expect("it ends");
    }
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_lets_nothing_through_that_travels_with_what_was_approved() {
    let scene = Scene::start("").await;
    let rule = "@id(\"precious\")\n@approval(\"dba\")\n@reason(\"customers are precious\")\n\
                forbid (principal, action == Action::\"delete\", resource) when { context has statement };\n";
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/p.cedar"), rule).expect("a rule")).await;
    let mut peer = Peer::through(&scene.gate.grant(Access::Write).await).await;
    let (approved, other) = ("delete from customers where id = 5", "delete from customers where id = 6");
    let mut asked = async |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        frontend::sync(&mut out);
        peer.send(&out).await;
        let told = error(&peer.until(b'Z').await);
        let detail = told.as_ref().and_then(|told| told.detail.as_deref()).unwrap_or("{}");
        let detail: Value = serde_json::from_str(detail).expect("JSON");
        let id = detail.get("request_id").and_then(Value::as_str).unwrap_or_default().to_owned();
        (told.map(|told| told.sqlstate).unwrap_or_default(), id)
    };
    let bound = |out: &mut BytesMut| {
        frontend::parse_statement("a", approved, out);
        frontend::bind("pa", "a", &[], out);
    };
    let agree = async |id: String| {
        assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    };
    // While the approval is in use another text is prepared; it is no more than it would be alone.
    agree(asked(&bound).await.1).await;
    assert_eq!(asked(&bound).await.0, "42P05", "the target's own error comes before any question");
    let close = |out: &mut BytesMut| frontend::close(frontend::Named::Statement, "a", out);
    assert_eq!(asked(&close).await.0, "");
    let prepared = |out: &mut BytesMut| {
        bound(out);
        frontend::parse_statement("b", other, out);
    };
    assert_eq!(asked(&prepared).await.0, "", "both are prepared");
    let run = |out: &mut BytesMut| {
        frontend::bind("pb", "b", &[], out);
        frontend::execute("pb", 0, out);
    };
    assert_eq!(asked(&run).await.0, "ZG001", "the other asks by itself");
    // The approval that was bound and not run is used up.
    assert_eq!(asked(&close).await.0, "");
    let (state, id) = asked(&bound).await;
    assert_eq!(state, "ZG001");
    agree(id).await;
    assert_eq!(asked(&close).await.0, "");
    let two = |out: &mut BytesMut| {
        bound(out);
        frontend::bind("pb", "b", &[], out);
        frontend::execute("pb", 0, out);
    };
    assert_eq!(asked(&two).await.0, "42501", "nothing is bound beside it");
    assert_eq!(asked(&close).await.0, "");
    // A block that begins behind the Bind does not carry it on.
    let (state, id) = asked(&bound).await;
    assert_eq!(state, "ZG001");
    agree(id).await;
    assert_eq!(asked(&close).await.0, "");
    let begun = |out: &mut BytesMut| {
        bound(out);
        frontend::parse_statement("begin", "begin", out);
        frontend::bind("begin", "begin", &[], out);
        frontend::execute("begin", 0, out);
    };
    assert_eq!(asked(&begun).await.0, "42501");
    assert_eq!(scene.gate.count("select count(*) from customers").await, 1000);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_binds_values_and_resume_runs_them() {
    let scene = Scene::start("").await;
    let sql = "update orders set amount = amount + $1 where amount < $2";
    let ask = ["exec", "demo", "--access", "write", "-p", "10000", "-p", "1501", "-c", sql, "--format", "json"];
    let output = scene.run("ana", &ask).await;
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["approval"]["parameters"], serde_json::json!(["10000", "1501"]), "{document:#}");
    let id = document["approval"]["request_id"].as_str().expect("an id").to_owned();
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(scene.changed().await, 1500);
    let transcript = document["audit"]["transcript"].as_str().expect("evidence");
    let verified = scene.run("ana", &["audit", "verify", transcript]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    let several = scene.run("ana", &["exec", "demo", "-p", "1", "-c", "select $1; select 2"]).await;
    assert_eq!(several.status.code(), Some(64), "{}", said(&several));
    let read =
        scene.run("ana", &["exec", "demo", "-p", "it's", "-c", "select $1::text || '!'", "--format", "csv"]).await;
    assert!(said(&read).contains("it's!"), "{}", said(&read));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_asks_and_both_it_and_resume_run_what_was_approved() {
    let Some(psycopg) = Psycopg::find() else { return };
    let scene = Scene::start("").await;
    let conninfo = scene.conninfo().await;
    let run = async |arguments: &[&str]| psycopg.run(&conninfo, arguments).await;
    let asked = run(&["1501"]).await;
    let id = asked.strip_prefix("ZG001 ").unwrap_or_else(|| panic!("{asked}")).to_owned();
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(run(&["1501", "prepared"]).await, "done 1500", "prepared or not, it is the same statement");
    let asked = run(&["9000"]).await;
    let id = asked.strip_prefix("ZG001 ").unwrap_or_else(|| panic!("{asked}")).to_owned();
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(scene.changed().await, 3000);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_planner_expects_to_be_huge_is_not_run_for_a_driver_either() {
    let big = "create table big (id int primary key, n int not null);
               insert into big select i, i % 7 from generate_series(1, 120000) i; analyze big;";
    let scene = Scene::start_over(&format!("{SHOP}{big}"), "").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let change = client.prepare("update big set n = $1 where n < $2").await.expect("prepared");
    let (state, id) = told(&client.execute(&change, &[&0, &6]).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    let shown = scene.run("raj", &["request", "show", &id.expect("a request"), "--format", "json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert!(shown["impact"]["trial"]["skipped"].is_string(), "{shown:#}");
    assert!(shown["impact"]["estimate"]["rows"].as_u64().is_some_and(|rows| rows > 90_000), "{shown:#}");
    assert_eq!(scene.gate.count("select n_tup_upd from pg_stat_user_tables where relname = 'big'").await, 0);
    let one = client.prepare("update big set n = n where id = $1").await.expect("prepared");
    assert_eq!(client.execute(&one, &[&7]).await.expect("an ordinary write goes through"), 1);
    let wrong = client.execute("update big set n = 1 / ($1::int4 - $1) where id = 3", &[&4]).await;
    let (state, _) = told(&wrong.expect_err("it divides by zero"));
    assert_eq!(state, "22012", "the error is the statement's own");
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_the_pack_agents_a_colleague_of_the_person_decides_and_bulk_is_refused() {
    let scene = Scene::start("").await;
    let agents = |text: String| text.replace("pack = \"production\"", "pack = \"agents\"");
    let scene = scene.restart(|folder| reconfigure(folder, agents)).await;
    let id = scene.ask("update orders set amount = amount + 10000 where id <= 40").await;
    let own = scene.run("ana", &["approve", &id]).await;
    assert!(said(&own).contains("self_approval"), "{}", said(&own));
    assert_eq!(scene.run("bob", &["approve", &id]).await.status.code(), Some(0), "a colleague");
    assert_eq!(scene.resume("ana", &id).await.0, Some(0));
    assert_eq!(scene.changed().await, 40);
    let (code, document) = scene.exec("update orders set amount = 0 where id <= 400").await;
    assert_eq!((code, &document["denial"]["rule"]), (Some(5), &"agents-no-bulk".into()), "{document:#}");
    let silent = scene.run("ana", &["exec", "demo", "--agent", "refund-bot", "-c", "select 1"]).await;
    assert!(said(&silent).contains("--reason"), "an agent says why: {}", said(&silent));
    let product = "select a.id from orders a, customers b";
    let long = ["exec", "demo", "--agent", "refund-bot", "--reason", "r", "--max-rows", "9999", "-c", product];
    let long = scene.run("ana", &long).await;
    assert!(said(&long).contains("the most the policy lets"), "{}", said(&long));
    let person = scene.run("ana", &["exec", "demo", "-c", "select count(*) from orders"]).await;
    assert_eq!(person.status.code(), Some(0), "people work as before: {}", said(&person));
    scene.end().await;
}

fn as_parameter(text: &String) -> &(dyn ToSql + Sync) {
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_what_of_a_value_they_do_not_see_and_thousands_are_no_obstacle() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let note = "update orders set amount = amount + length($1::text) where amount < 1501";
    let long = "x".repeat(10_000);
    let (state, id) = told(&client.execute(note, &[&long]).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    let shown = scene.run("raj", &["request", "show", &id.expect("a request"), "--format", "json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let value = shown["parameters"][0].as_str().expect("a value");
    let whole = dbgate::core::approval::Binding::digest_of(&long);
    assert!(value.ends_with(&format!("… [the first 2000 of 10000 bytes; SHA-256 of all: {whole}]")), "{value}");
    // An ORM sends a row's worth of them for each row; PostgreSQL takes 1,664 columns.
    let values: Vec<String> = (1..=1_700).map(|number| format!("(${number}::text)")).collect();
    let many = format!("insert into audit_trail (what) values {}", values.join(", "));
    let texts: Vec<String> = (1..=1_700).map(|number| format!("row {number}")).collect();
    let parameters: Vec<_> = texts.iter().map(as_parameter).collect();
    let (state, id) = told(&client.execute(&many, &parameters).await.expect_err("it asks"));
    assert_eq!(state, "ZG001");
    let id = id.expect("a request");
    let shown = scene.run("raj", &["request", "show", &id, "--format", "json"]).await;
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&shown["parameters"][0], &shown["parameters"][1699]), (&"row 1".into(), &"row 1700".into()));
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(client.execute(&many, &parameters).await.expect("approved"), 1_700);
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_principal_has_fifty_requests_open_and_no_more() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let mut ids = Vec::new();
    for number in 0..50 {
        let sql = format!("update orders set amount = amount + {number} where amount < 1501");
        let (state, id) = told(&client.execute(&sql, &[]).await.expect_err("it asks"));
        assert_eq!(state, "ZG001");
        ids.push(id.expect("a request"));
    }
    let more = "update orders set amount = amount - 1 where amount < 1501";
    let (state, id) = told(&client.execute(more, &[]).await.expect_err("it is refused"));
    assert_eq!((state.as_str(), id), ("42501", None));
    // An approval is found again when the broker starts anew, and makes room when it is used.
    assert_eq!(scene.run("raj", &["approve", &ids[7]]).await.status.code(), Some(0));
    drop(client);
    let scene = scene.restart(|_| ()).await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    assert_eq!(
        client.execute("update orders set amount = amount + 7 where amount < 1501", &[]).await.expect("approved"),
        1_500
    );
    let (state, id) = told(&client.execute(more, &[]).await.expect_err("it asks"));
    assert_eq!((state.as_str(), id.is_some()), ("ZG001", true));
    drop(client);
    scene.end().await;
}
