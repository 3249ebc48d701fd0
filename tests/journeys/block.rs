//! Approvals inside transaction blocks, where most drivers work: the first write of a block can be
//! asked about, and an approval that is used in one is accounted for when the block ends.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::dbgate::said;
use crate::support::gate::{SHOP, superuser};
use crate::support::scene::{Psycopg, Scene, UPDATE};
use crate::support::until::until;
use crate::support::wire::{Peer, error, tags};

/// What a statement is answered with: its SQLSTATE, the request it made, and the hint.
async fn refused(client: &Client, sql: &str) -> (String, String, String) {
    let failed = client.batch_execute(sql).await.expect_err("it is refused");
    let failed = failed.as_db_error().expect("an error of the server");
    let detail: Value = failed.detail().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let id = detail.get("request_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    (failed.code().code().to_owned(), id, failed.hint().unwrap_or_default().to_owned())
}

/// Asks in a block, and has it approved.
async fn approved(scene: &Scene, client: &Client, sql: &str) -> String {
    client.batch_execute("begin").await.expect("a block");
    let (state, id, _) = refused(client, sql).await;
    assert_eq!(state, "ZG001");
    assert_eq!(refused(client, "select 1").await.0, "25P02", "the block has failed, as after any error");
    client.batch_execute("rollback").await.expect("it ends");
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    id
}

/// What came of a request, once that is known.
async fn outcome(scene: &Scene, id: &str) -> String {
    let mut outcome = String::new();
    until("it is known", async || {
        let shown = scene.run("raj", &["request", "show", id, "--format", "json"]).await;
        let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let word = |name: &str| shown.pointer(&format!("/outcome/{name}")).and_then(Value::as_str).unwrap_or_default();
        assert_ne!(word("how"), "", "it was used: {shown:#}");
        outcome = format!("{} {}{}", word("how"), word("command_tag"), word("message"));
        word("how") != "unknown"
    })
    .await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_of_a_block_is_asked_about_and_committed_with_its_block() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let id = approved(&scene, &client, UPDATE).await;
    client.batch_execute("begin; select 1").await.expect("a block that has read");
    client.batch_execute(UPDATE).await.expect("approved");
    assert_eq!(scene.changed().await, 0, "its block is open");
    let seen = client.query_one("select count(*) from orders where amount > 10000", &[]).await.expect("reads go on");
    assert_eq!(seen.get::<_, i64>(0), 1500);
    client.batch_execute("commit").await.expect("committed");
    assert_eq!(scene.changed().await, 1500);
    assert_eq!(outcome(&scene, &id).await, "committed UPDATE 1500");
    client.batch_execute("update orders set amount = amount where id = 7").await.expect("the session goes on");
    // It was for once, and for the first write of a block.
    client.batch_execute("begin; update orders set amount = amount where id = 7").await.expect("a small write");
    let (state, id, hint) = refused(&client, "update orders set amount = amount + 1 where amount >= 1501").await;
    assert_eq!((state.as_str(), id.as_str()), ("42501", ""));
    assert!(hint.contains("first write of its transaction"), "{hint}");
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_puts_constraints_off_is_no_write() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("begin; set constraints all deferred").await.expect("a block");
    assert_eq!(refused(&client, UPDATE).await.0, "ZG001");
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_write_that_its_block_takes_back_is_used_up_and_nothing_rides_along() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let ways = [
        ("rollback", "it was rolled back by the client"),
        ("rollback to before; commit", "it was rolled back by the client"),
        // Another write, even a small one, and what would hide what becomes of the first.
        ("update orders set amount = amount where id = 7", "until its transaction ends nothing else is written"),
        ("savepoint after", "until its transaction ends nothing else is written"),
        ("select id from orders where id = 7 for update", "until its transaction ends nothing else is written"),
        ("select 1/0", "division by zero"),
    ];
    for (way, why) in ways {
        let id = approved(&scene, &client, UPDATE).await;
        client.batch_execute("begin; savepoint before").await.expect("a block");
        client.batch_execute(UPDATE).await.expect("approved");
        // Known before, too, where a decision on the text is remembered.
        let ended = client.batch_execute(way).await;
        assert_eq!(ended.is_err(), !way.starts_with("rollback"), "{way}: {ended:?}");
        client.batch_execute("commit").await.expect("it ends");
        assert_eq!(scene.changed().await, 0, "{way}");
        let came = outcome(&scene, &id).await;
        assert!(came.starts_with("failed") && came.contains(why), "{way}: {came}");
    }
    // A client that goes away takes its block along.
    let id = approved(&scene, &client, UPDATE).await;
    client.batch_execute("begin").await.expect("a block");
    client.batch_execute(UPDATE).await.expect("approved");
    drop(client);
    let came = outcome(&scene, &id).await;
    assert!(came.contains("the session ended before its transaction was committed"), "{came}");
    assert_eq!(scene.changed().await, 0);
    scene.end().await;
}

/// Where the target is not there to say what an approval is bound to: the text is in the record all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_approved_text_that_the_target_will_not_look_at_is_recorded() {
    let scene = Scene::start("").await;
    let grant = scene.gate.grant(Access::Write).await;
    let client = scene.gate.connect(&grant).await;
    approved(&scene, &client, UPDATE).await;
    let locks = superuser(&scene.gate.database).await;
    locks.batch_execute("begin; lock pg_catalog.pg_trigger in access exclusive mode").await.expect("locked");
    let waits = "select count(*) from pg_locks where not granted and relation = 'pg_trigger'::regclass";
    let (state, ()) = tokio::join!(async { refused(&client, UPDATE).await.0 }, async {
        until("it waits", async || scene.gate.count(waits).await > 0).await;
        scene.gate.cancel(&client).await;
    });
    assert_eq!(state, "57014");
    locks.batch_execute("rollback").await.expect("let go");
    drop(client);
    let record = scene.gate.record(&grant).await;
    let denied: Vec<_> = record.iter().filter(|line| line["dec"] == "deny").map(|line| &line["code"]).collect();
    assert_eq!(denied.last().and_then(|code| code.as_str()), Some("not_read"), "{record:#?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_begins_in_the_same_pipeline_is_one_as_well() {
    let scene = Scene::start("").await;
    let mut peer = Peer::through(&scene.gate.grant(Access::Write).await).await;
    let pipeline = |out: &mut BytesMut, texts: &[&str]| {
        for text in texts {
            frontend::parse_statement("", text, out);
            frontend::bind("", "", &[], out);
            frontend::execute("", 0, out);
        }
        frontend::sync(out);
    };
    let mut send = async |texts: &[&str]| {
        let mut out = BytesMut::new();
        pipeline(&mut out, texts);
        peer.send(&out).await;
        peer.until(b'Z').await
    };
    let told = error(&send(&["begin", UPDATE]).await).expect("it asks");
    assert_eq!(told.sqlstate, "ZG001");
    let detail: Value = serde_json::from_str(told.detail.as_deref().unwrap_or_default()).expect("JSON");
    let id = detail["request_id"].as_str().expect("a request").to_owned();
    assert_eq!(error(&send(&["rollback"]).await), None);
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let told = error(&send(&["begin", "select 1", UPDATE]).await);
    assert_eq!(told.map(|told| told.sqlstate).as_deref(), Some("42501"), "what has run cannot be told from a write");
    assert_eq!(error(&send(&["rollback"]).await), None);
    let answered = send(&["begin", UPDATE]).await;
    assert_eq!((error(&answered), tags(&answered).as_str()), (None, "12C12CZ"));
    assert_eq!(scene.changed().await, 0);
    assert_eq!(error(&send(&["commit"]).await), None);
    assert_eq!(scene.changed().await, 1500);
    assert_eq!(outcome(&scene, &id).await, "committed UPDATE 1500");
    scene.end().await;
}

/// Whoever asked cannot choose what is written down about the use.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_of_a_use_is_what_happened() {
    let scene = Scene::start("").await;
    let owner = superuser(&scene.gate.database).await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    for end in ["commit; rollback", "commit and chain; rollback", "commit; select 1/0"] {
        let id = approved(&scene, &client, UPDATE).await;
        client.batch_execute("begin").await.expect("a block");
        client.batch_execute(UPDATE).await.expect("approved");
        // What comes behind the commit may fail.
        let _ = client.batch_execute(end).await;
        assert_eq!(scene.changed().await, 1500, "{end}");
        assert_eq!(outcome(&scene, &id).await, "committed UPDATE 1500", "{end}");
        let back = "update orders set amount = amount - 10000 where amount > 10000";
        owner.batch_execute(back).await.expect("as before");
        // A warning where nothing is open.
        let _ = client.batch_execute("rollback").await;
    }
    // In the extended protocol: refused behind it, and read in parts.
    let mut peer = Peer::through(&scene.gate.grant(Access::Write).await).await;
    let mut send = async |sql: &str, most: i32| {
        let mut out = BytesMut::new();
        frontend::parse_statement("", sql, &mut out);
        frontend::bind("", "", &[], &mut out);
        frontend::execute("", most, &mut out);
        frontend::sync(&mut out);
        peer.send(&out).await;
        error(&peer.until(b'Z').await).map(|told| told.sqlstate).unwrap_or_default()
    };
    let id = approved(&scene, &client, UPDATE).await;
    assert_eq!(send("begin", 0).await, "");
    assert_eq!(send(UPDATE, 0).await, "");
    assert_eq!(send("drop table orders", 0).await, "42501");
    assert_eq!(send("commit", 0).await, "");
    assert_eq!(scene.changed().await, 0);
    assert!(outcome(&scene, &id).await.starts_with("failed"));
    let parts = format!("{UPDATE} returning id");
    let id = approved(&scene, &client, &parts).await;
    assert_eq!(send(&parts, 1).await, "");
    assert_eq!(scene.changed().await, 1500);
    assert!(outcome(&scene, &id).await.starts_with("committed"));
    drop((peer, client));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_session_knows_is_not_asked_about() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("create temp table picked (id int)").await.expect("its own");
    for sql in [
        "update orders set amount = 0 where id <= current_setting('my.most')::int",
        "update orders set amount = 0 where id in (select id + 0 from picked) or id < 1000",
    ] {
        client.batch_execute("set my.most = '2000'").await.expect("its own");
        let (state, id, _) = refused(&client, sql).await;
        assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{sql}");
    }
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_what_the_commit_of_a_block_would_do_as_well() {
    let later = "create table noted (id int4);\n\
        create function note() returns trigger language plpgsql security definer as \
          $$ begin insert into noted select generate_series(1, 3); return null; end $$;\n\
        create constraint trigger late after update on orders deferrable initially deferred \
          for each row execute function note();";
    let scene = Scene::start_over(&format!("{SHOP}\n{later}"), "").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    let id = approved(&scene, &client, "update orders set amount = amount + 10000 where id <= 200").await;
    let shown = scene.run("raj", &["request", "show", &id, "--format", "json"]).await;
    let shown = String::from_utf8(shown.stdout).expect("text");
    assert!(shown.contains("noted") && shown.contains("600"), "{shown}");
    assert_eq!(superuser(&scene.gate.database).await.query("select from noted", &[]).await.expect("rows").len(), 0);
    drop(client);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_not_held_with_a_transaction_open() {
    let scene = Scene::start("[approvals]\nenabled = true\nhold_native = \"10m\"\n").await;
    let mut command = scene.psql("begin").await;
    command.args(["-c", UPDATE, "-c", "rollback"]);
    let output = tokio::task::spawn_blocking(move || command.output().expect("psql")).await.expect("joined");
    assert!(said(&output).contains("ZG001"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(0), "the last of them is fine: {}", said(&output));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_asks_in_its_own_transactions() {
    let Some(psycopg) = Psycopg::find() else { return };
    let scene = Scene::start("").await;
    let conninfo = scene.conninfo().await;
    let run = async |how: &str| psycopg.run(&conninfo, &["1501", how]).await;
    for how in ["transaction", "nested"] {
        let asked = run(how).await;
        let id = asked.strip_prefix("ZG001 ").unwrap_or_else(|| panic!("{asked}")).to_owned();
        assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
        assert_eq!(run(how).await, "done 1500");
        assert_eq!(outcome(&scene, &id).await, "committed UPDATE 1500");
        superuser(&scene.gate.database)
            .await
            .batch_execute("update orders set amount = amount - 10000 where amount > 10000")
            .await
            .expect("as before");
    }
    scene.end().await;
}

/// Whatever a session has to itself: the spelling makes no difference.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_what_only_the_session_knows_is_asked_about() {
    let code = "create function mine(int) returns int language sql stable as \
          $$ select coalesce(current_setting('my.most', true), '0')::int + $1 $$;\n\
        create function drawn() returns bigint language sql as $$ select lastval() $$;\n\
        create view told as select setting::int as most from pg_settings where name = 'statement_timeout';\n\
        create sequence numbers; grant usage on sequence numbers to public;";
    let scene = Scene::start_over(&format!("{SHOP}\n{code}"), "").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("set my.most = '2000'; set statement_timeout = '20s'").await.expect("its own");
    for condition in [
        "id <= ('my.most'::text).current_setting::int",
        "id <= (select setting::int from pg_settings where name = 'statement_timeout')",
        "id <= (select setting::int from pg_catalog.pg_show_all_settings() where name = 'statement_timeout')",
        "id <= 2000 + (select count(*) from pg_cursors)",
        "id <= 2000 + (select count(*) from pg_prepared_statements where name like 'x%')",
        "id <= 2000 + random()",
        "id <= 2000 + length(coalesce(obj_description('orders'::regclass), ''))",
        "id::oid < 2000 + ('pg_class'::regclass::oid::int - 1259)",
    ] {
        let sql = format!("update orders set amount = 0 where {condition}");
        let (state, id, _) = refused(&client, &sql).await;
        assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{sql}");
    }
    // What code of the database's own asks for is bound.
    let sql = "update orders set amount = amount + 10000 where id <= mine(0)";
    approved(&scene, &client, sql).await;
    assert_eq!(client.execute(sql, &[]).await.expect("as it was approved"), 2000);
    let id = approved(&scene, &client, sql).await;
    client.batch_execute("set my.most = '1000'; begin").await.expect("another, and a block, which is never held");
    let (state, other, _) = refused(&client, sql).await;
    assert_eq!(state, "ZG001", "asked anew: {other}");
    assert_ne!(id, other);
    client.batch_execute("rollback").await.expect("it ends");
    client.batch_execute("create temp table picked (id int)").await.expect("its own");
    let (state, other, _) = refused(&client, sql).await;
    assert_eq!((state.as_str(), other.as_str()), ("42501", ""), "code may look at temporary relations");
    client.batch_execute("drop table picked").await.expect("gone");
    client.batch_execute("select setseed(0.5)").await.expect("its own");
    let (state, other, _) = refused(&client, "update orders set amount = 1 where id <= 2000").await;
    assert_eq!((state.as_str(), other.as_str()), ("42501", ""), "nobody knows what code draws");
    drop(client);
    scene.end().await;
}

/// A text is read under the settings of its time: people are asked about what it means now.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_under_other_settings_is_read_again() {
    let scene = Scene::start("").await;
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("set datestyle = 'ISO, MDY'").await.expect("set");
    let sql = "update orders set amount = amount + 10000 where id <= extract(day from '01/02/2026'::date) * 1000";
    let month_first = client.prepare(sql).await.expect("prepared");
    client.batch_execute("set datestyle = 'ISO, DMY'").await.expect("set");
    let day_first = client.prepare(sql).await.expect("prepared");
    let told = async |statement: &tokio_postgres::Statement| {
        let error = client.execute(statement, &[]).await.expect_err("it asks");
        let error = error.as_db_error().expect("an error of the server").clone();
        let detail: Value = serde_json::from_str(error.detail().unwrap_or_default()).expect("JSON");
        detail["request_id"].as_str().unwrap_or_default().to_owned()
    };
    let id = told(&day_first).await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(client.execute(&month_first, &[]).await.expect("the same text, now"), 1000);
    assert_eq!(scene.changed().await, 1000);
    // So is what was prepared under settings that a savepoint, or the end of a block, has taken back.
    for (more, ends) in [("20000", "rollback to a"), ("40000", "rollback; begin")] {
        let sql = sql.replace("10000", more);
        let id = told(&client.prepare(&sql).await.expect("prepared")).await;
        assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
        client.batch_execute("begin; savepoint a; set datestyle = 'ISO, MDY'").await.expect("set");
        let month_first = client.prepare(&sql).await.expect("prepared");
        client.batch_execute(ends).await.expect("taken back");
        assert_eq!(client.execute(&month_first, &[]).await.expect("the same text, now"), 1000, "{ends}");
        client.batch_execute("commit").await.expect("committed");
    }
    drop(client);
    scene.end().await;
}
