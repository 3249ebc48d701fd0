//! How far one statement may go: rows, time, and the rows it locks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dbgate::core::grant::Access;
use tokio_postgres::SimpleQueryMessage;

use super::failover::cluster_with;
use super::outcomes::outcomes;
use crate::support::gate::{Gate, Place, SHOP, cluster, column, refusal, superuser};
use crate::support::requests::ask;
use crate::support::until::until;
use crate::support::wire::{Peer, error, message, rows};

const SHORT: &str = r#"
@id("short")
@limit("50 rows")
forbid (principal, action == Action::"execute", resource);
"#;

#[tokio::test]
async fn a_transaction_that_is_left_open_is_rolled_back() {
    let idle = "@id(\"idle\") @limit(\"200 ms idle\") forbid (principal, action == Action::\"execute\", resource);";
    let gate = with_rules("idle", idle).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.simple_query("begin; update orders set amount = 0 where id = 1").await.expect("one row");
    // Outside of a transaction nothing is held, so nothing ends.
    let calm = gate.connect(&gate.grant(Access::Write).await).await;
    while !client.is_closed() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(gate.count("select amount::int8 from orders where id = 1").await, 1);
    assert_eq!(column(&calm, "select 1").await.expect("goes on"), ["1"]);
    drop(calm);
    gate.stop().await;
}

/// A gate whose every statement ends after 50 rows.
async fn short(database: &str) -> Gate {
    with_rules(database, SHORT).await
}

async fn with_rules(database: &str, rules: &str) -> Gate {
    with(database, rules, SHOP).await
}

async fn with(database: &str, rules: &str, sql: &str) -> Gate {
    let name = format!("limits_{database}");
    superuser("postgres").await.batch_execute(&format!("create database {name}")).await.expect("database");
    let policy = [("classification.toml", ""), ("short.cedar", rules)];
    let place = Place { cluster: cluster(), database: name, sql, target: "demo", policy: &policy };
    let _guard = crate::support::gate::PREPARING.lock().await;
    Gate::before(&place, "http://127.0.0.1:1", "").await
}

#[tokio::test]
async fn a_result_stops_at_its_limit_and_the_session_goes_on() {
    let gate = short("rows").await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    assert_eq!(column(&client, "select id from orders order by id limit 50").await.expect("50 rows").len(), 50);
    let (state, message) = refusal(&client, "select id from orders").await;
    assert_eq!(state, "54000");
    assert!(message.contains("50 rows"), "{message}");
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    let error = client.query("select id from orders", &[]).await.expect_err("extended too");
    assert_eq!(error.code().map(|code| code.code()), Some("54000"));
    assert_eq!(client.query_one("select 2", &[]).await.expect("goes on").get::<_, i32>(0), 2);
    // In a block it fails the transaction, as any error does.
    client.simple_query("begin; update orders set amount = 0 where id = 1").await.expect("one row");
    assert_eq!(refusal(&client, "select id from orders").await.0, "54000");
    assert_eq!(refusal(&client, "select 1").await.0, "25P02");
    client.simple_query("commit").await.expect("rolls back");
    assert_eq!(gate.count("select amount::int8 from orders where id = 1").await, 1);
    drop(client);
    gate.stop().await;
}

/// Small enough that the target has ended it before it hears of the cancel, which then meets what the
/// gate has sent behind it: that waits for a trigger.
#[tokio::test]
async fn a_cancel_that_comes_late_and_meets_what_is_behind_its_statement_ends_that_too() {
    let slow = "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return null; end $$; \
                create constraint trigger slow after insert on audit_trail deferrable initially deferred \
                for each row execute function slow();";
    let gate = with("late", SHORT, &format!("{SHOP}{slow}")).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let noted = "insert into audit_trail (what) select 'noted' from generate_series(1, 60) returning what";
    let began = Instant::now();
    for behind in ["", "; select 1"] {
        let sql = format!("{noted}{behind}");
        assert_eq!(refusal(&client, &sql).await.0, "54000", "{sql}");
        assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(gate.count("select count(*) from audit_trail").await, 0);
    drop(client);
    let record = gate.record(&grant).await;
    let told = |kind| record.iter().filter(|line| line["k"] == kind && line["state"] == "54000").count();
    assert_eq!((told("error"), told("skipped")), (2, 1));
    gate.stop().await;
}

/// A target that waits for its standby has committed already: who stops it is told so.
#[tokio::test]
async fn a_commit_that_took_too_long_and_succeeded_is_one() {
    let waits = [("synchronous_standby_names", "nobody"), ("synchronous_commit", "local")];
    let cluster = cluster_with("standby", &waits);
    let (superuser, connection) = cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("in");
    tokio::spawn(connection);
    superuser.batch_execute("create database late").await.expect("a database");
    let policy = [("classification.toml", ""), ("short.cedar", &SHORT.replace("50 rows", "300 ms"))];
    let place = Place { cluster: &cluster, database: "late".into(), sql: SHOP, target: "demo", policy: &policy };
    let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    client.batch_execute("set synchronous_commit = on").await.expect("set");
    // It is there, so it has not failed: as a Query, and by Parse, Bind and Execute.
    client.batch_execute("create temp table waited (id int)").await.expect("made");
    client.execute("create temp table too (id int)", &[]).await.expect("made");
    client.batch_execute("begin").await.expect("a block");
    client.batch_execute("update orders set amount = 0 where id = 1").await.expect("a write");
    client.batch_execute("commit; select 1").await.expect("committed");
    assert_eq!(column(&client, "select amount::int8 from orders where id = 1").await.expect("goes on"), ["0"]);
    // What is temporary is dropped at the end, and that would wait too.
    client.batch_execute("set synchronous_commit = local").await.expect("set");
    drop(client);
    let record = gate.record(&grant).await;
    let is = |kind: &str, name: &str, value: &str| record.iter().any(|line| line["k"] == kind && line[name] == value);
    assert!(is("result", "tag", "COMMIT"), "{record:#?}");
    assert!(!record.iter().any(|line| line["k"] == "error" || line["k"] == "undone"), "{record:#?}");
    gate.stop().await;
}

#[tokio::test]
async fn a_copy_out_stops_at_its_limit() {
    let gate = short("copy").await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    let copied = client.copy_out("copy orders to stdout").await;
    let error = match copied {
        Err(error) => error,
        Ok(stream) => {
            use futures_util::TryStreamExt as _;
            stream.try_collect::<Vec<_>>().await.expect_err("beyond the limit")
        }
    };
    assert_eq!(error.code().map(|code| code.code()), Some("54000"));
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_statement_stops_when_its_time_is_up_and_nothing_runs_on_behind_the_gate() {
    let gate = with_rules("time", &SHORT.replace("50 rows", "300 ms")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let began = Instant::now();
    let (state, message) = refusal(&client, "select pg_sleep(30)").await;
    assert_eq!(state, "57014");
    assert!(message.contains("0.3 s"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let running = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and pid <> pg_backend_pid() \
                   and state = 'active' and usename like 'dbgate_u_%' and datname = current_database()";
    assert_eq!(gate.count(running).await, 0);
    let error = client.execute("update orders set amount = 5 where id = 2 and pg_sleep(30) is null", &[]).await;
    assert_eq!(error.expect_err("too long").code().map(|code| code.code()), Some("57014"));
    assert_eq!(gate.count("select amount::int8 from orders where id = 2").await, 2);
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    drop(client);
    gate.stop().await;
}

/// Sessions behind the gate that the target has, in one of these states.
fn sessions(states: &str) -> String {
    format!(
        "select count(*) from pg_stat_activity where usename like 'dbgate_u_%' and datname = current_database() \
         and state in ({states})"
    )
}

async fn wait_for(gate: &Gate, sql: &str, expected: i64) {
    until(sql, async || gate.count(sql).await == expected).await;
}

#[tokio::test]
async fn the_time_of_a_statement_is_up_for_a_client_that_does_not_read_as_well() {
    let gate = with_rules("deaf", &SHORT.replace("50 rows", "500 ms")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let mut asked = bytes::BytesMut::new();
    // More than all buffers between hold.
    dbgate::core::wire::frontend::query("select repeat('x', 1000) from generate_series(1, 100000)", &mut asked);
    peer.send(&asked).await;
    // It has begun when the first of its rows is here.
    peer.until(b'D').await;
    wait_for(&gate, &sessions("'active', 'idle in transaction'"), 0).await;
    // What had gone out comes whole, then the reason.
    let told = peer.until(b'Z').await;
    let fields = error(&told).expect("stopped");
    assert_eq!((fields.sqlstate.as_str(), fields.message.contains("0.5 s")), ("57014", true), "{}", fields.message);
    assert!(told.iter().filter(|message| message.tag == b'D').all(|row| row.body.len() == 1006));
    assert_eq!(rows(&peer.query("select 'goes on'").await), [["goes on"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_transaction_is_not_kept_open_by_not_reading() {
    let idle = "@id(\"idle\") @limit(\"300 ms idle\") forbid (principal, action == Action::\"execute\", resource);";
    let gate = with_rules("unread", idle).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("begin; update orders set amount = 0 where id = 1").await;
    let mut asked = bytes::BytesMut::new();
    for _ in 0..64 {
        dbgate::core::wire::frontend::query("select repeat('x', 250000)", &mut asked);
    }
    peer.send(&asked).await;
    wait_for(&gate, &sessions("'active', 'idle', 'idle in transaction'"), 0).await;
    assert_eq!(gate.count("select amount::int8 from orders where id = 1").await, 1);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_row_that_goes_beyond_a_limit_is_not_kept() {
    let gate = with_rules("row", &SHORT.replace("50 rows", "1 MiB")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let before = peak();
    let told = peer.query("select repeat('x', 200000000)").await;
    assert_eq!(error(&told).expect("too much").sqlstate, "54000");
    assert_eq!(rows(&peer.query("select 'goes on'").await), [["goes on"]]);
    // Where others share the process, they have a part in what it needs.
    if std::env::var_os("NEXTEST").is_some() {
        assert!(peak() - before < 50_000, "{before} {} KiB", peak());
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn an_error_that_quotes_a_huge_value_ends_its_session_alone() {
    let gate = short("words").await;
    let mut other = Peer::through(&gate.grant(Access::Write).await).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let told = peer.query("select repeat('x', 1000000)::int").await;
    assert_eq!(
        error(&told).map(|fields| (fields.sqlstate, fields.message.len() > 1_000_000)),
        Some(("22P02".into(), true))
    );
    let mut asked = bytes::BytesMut::new();
    dbgate::core::wire::frontend::query("select repeat('x', 20000000)::int", &mut asked);
    peer.send(&asked).await;
    let told = peer.until_closed().await;
    let fields = error(&told).expect("an end");
    assert_eq!((fields.severity.as_str(), fields.sqlstate.as_str()), ("FATAL", "08P01"), "{}", fields.message);
    assert_eq!(rows(&other.query("select 'goes on'").await), [["goes on"]]);
    drop(other);
    gate.stop().await;
}

/// The most memory that this process has had, KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn notices_are_heard_while_a_copy_goes_on() {
    let talks = "create function talks() returns trigger language plpgsql as $$ begin \
                 raise notice '%', repeat('x', 10000); return new; end $$; \
                 create trigger talks before insert on audit_trail for each row execute function talks();";
    let gate = with("notices", &SHORT.replace("50 rows", "60 s"), &format!("{SHOP}{talks}")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let mut out = bytes::BytesMut::new();
    dbgate::core::wire::frontend::query("copy audit_trail (what) from stdin", &mut out);
    peer.send(&out).await;
    peer.until(b'G').await;
    for _ in 0..20 {
        peer.send(&message(b'd', "one\n".repeat(5).as_bytes())).await;
    }
    peer.until(b'N').await;
    peer.send(&message(b'c', b"")).await;
    let told = peer.until(b'Z').await;
    assert_eq!(error(&told).map(|fields| fields.message), None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_copy_whose_client_says_nothing_more_stops_when_its_time_is_up() {
    let gate = with_rules("copying", &SHORT.replace("50 rows", "300 ms")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let mut sink = std::pin::pin!(client.copy_in("copy audit_trail (what) from stdin").await.expect("begins"));
    futures_util::SinkExt::send(&mut sink, Bytes::from_static(b"one\n")).await.expect("sent");
    let locks = "select count(*) from pg_locks where relation = 'audit_trail'::regclass and pid <> pg_backend_pid()";
    until("its locks are gone", async || gate.count(locks).await == 0).await;
    let error = sink.finish().await.expect_err("stopped");
    let error = error.as_db_error().expect("the gate says why");
    assert_eq!((error.code().code(), error.message().contains("0.3 s")), ("57014", true), "{error}");
    assert_eq!(gate.count("select count(*) from audit_trail").await, 0);
    assert_eq!(column(&client, "select 1").await.expect("goes on"), ["1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn the_pack_gives_statements_without_an_end_a_shorter_leash() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    let began = Instant::now();
    let sql = "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r";
    assert_eq!(refusal(&client, sql).await.0, "57014");
    // It would never end by itself.
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(refusal(&client, "select 1 from orders a, orders b").await.0, "54000");
    assert_eq!(
        column(&client, "select count(*) from orders a join orders b using (id)").await.expect("bounded"),
        ["3000"]
    );
    drop(client);
    gate.stop().await;
}

/// What no limit of time comes early enough for.
#[tokio::test]
async fn what_takes_all_memory_or_hears_no_cancel_is_refused_before_it_runs() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    for (sql, code) in [
        ("set geqo = off", "setting_refused"),
        ("set local join_collapse_limit to 100", "setting_refused"),
        ("set session from_collapse_limit = '100'", "setting_refused"),
        ("select set_config('geqo_threshold', '100', false)", "setting_refused"),
        ("set work_mem = '1TB'", "setting_refused"),
        ("set sort_mem = '1TB'", "setting_refused"),
        ("select xpath('//a//a', '<a/>')", "path_refused"),
        ("prepare p as select * from xmltable('//a//a' passing '<a/>' columns x text)", "path_refused"),
    ] {
        let error = client.simple_query(sql).await.expect_err(sql);
        let error = error.as_db_error().expect(sql);
        let detail = error.detail().unwrap_or_default();
        assert!(error.code().code() == "42501" && detail.contains(code), "{sql}: {error:?}");
    }
    client.batch_execute("set work_mem = '64MB'; set geqo_threshold = 8; reset geqo").await.expect("less");
    assert_eq!(column(&client, "select xpath('/a/b/text()', '<a><b>1</b></a>')::text").await.expect("a path"), ["{1}"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn rows_that_stay_locked_count_like_rows_that_change() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    assert_eq!(refusal(&client, "select id from orders for update").await.0, "42501");
    assert_eq!(refusal(&client, "select count(*) from (select id from orders for share) x").await.0, "42501");
    client.simple_query("begin").await.expect("begin");
    let locked = client.simple_query("select id from orders where id <= 60 for update").await.expect("60 rows");
    assert_eq!(locked.iter().filter(|m| matches!(m, SimpleQueryMessage::Row(_))).count(), 60);
    let (state, message) = refusal(&client, "select id from orders where id between 61 and 120 for update").await;
    assert_eq!(state, "42501");
    assert!(message.contains("would lock 120"), "{message}");
    client.simple_query("rollback").await.expect("rollback");
    client
        .simple_query("begin; declare c cursor for select id from orders where id > 0 for update")
        .await
        .expect("cursor");
    assert_eq!(refusal(&client, "fetch all from c").await.0, "42501");
    client.simple_query("rollback").await.expect("rollback");
    // Outside of a block the locks are gone with the statement.
    const MANY: &str = "select id from orders where id <= 500 for update";
    let free = column(&client, MANY).await.expect("no block");
    assert_eq!(free.len(), 500);
    // Not where something stands behind it in its transaction.
    let (state, message) = refusal(&client, &format!("{MANY}; select pg_sleep(60)")).await;
    assert!(state == "42501" && message.contains("would lock 500"), "{message}");
    drop(client);
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let alone = ask().run("select 1").run(MANY).sync(&mut peer).await;
    assert_eq!(error(&alone), None);
    let refused = [
        ask().run(MANY).run("select 1").sync(&mut peer).await,
        ask().run(MANY).run("copy audit_trail (what) from stdin").sync(&mut peer).await,
        // Behind it a Query is skipped like anything else, up to the Sync.
        ask().run(MANY).query("select pg_sleep(60)").sync(&mut peer).await,
    ];
    for told in refused {
        let told = error(&told).expect("refused");
        assert!(told.sqlstate == "42501" && told.message.contains("would lock 500"), "{told:?}");
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn locks_that_a_result_does_not_show_are_refused_or_counted() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for sql in [
        "select count(*) from (select id from orders where id > 0 for update) x",
        "with x as (select id from orders where id > 0 for update) select count(*) from x",
        "select id from orders where id > 0 order by id offset 2999 for update",
        "create temp table q as select id from orders where id > 0 for update",
        "create temp view locking as select id from orders where id > 0 for update",
        "explain analyze select id from orders where id > 0 for update",
        "update orders set amount = (select count(*) from (select id from orders where id > 0 for update) q) where id = 1",
        "declare c cursor for select count(*) from (select id from orders where id > 0 for update) x",
    ] {
        let (state, message) = refusal(&client, sql).await;
        assert_eq!(state, "42501", "{sql}");
        assert!(message.contains("where nobody can count them"), "{sql}: {message}");
    }
    // A view of the session's own may hide where the rows come from.
    client.batch_execute("create temp view own as select id from orders").await.expect("made");
    assert_eq!(refusal(&client, "select * from own where id > 0 for update").await.0, "42501");
    client.batch_execute("drop view own").await.expect("dropped");
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    // A queue says how many it takes.
    let take = "update orders set amount = 0 where id in (select id from orders where id > 5 order by id limit 40 for update skip locked)";
    client.batch_execute("begin").await.expect("begin");
    client.batch_execute(take).await.expect("forty of a hundred");
    client.batch_execute("rollback").await.expect("rollback");
    // With a parameter nobody knows; outside of a block the locks are gone with the statement.
    let asked = take.replace("limit 40", "limit $1");
    assert_eq!(client.execute(&asked, &[&3i64]).await.expect("three"), 3);
    client.batch_execute("begin").await.expect("begin");
    let error = client.execute(&asked, &[&3i64]).await.expect_err("as many as there are");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error}");
    client
        .batch_execute("rollback; begin; declare c cursor for select id from orders where id > 0 for update")
        .await
        .expect("cursor");
    let (_, message) = refusal(&client, "move forward 200 in c").await;
    assert!(message.contains("would lock 200"), "{message}");
    client
        .batch_execute("rollback; begin; declare c cursor for select id from orders where id > 0 for update")
        .await
        .expect("cursor");
    let (_, message) = refusal(&client, "fetch absolute 300 from c").await;
    assert!(message.contains("would lock 300"), "{message}");
    client.batch_execute("rollback").await.expect("rollback");
    // A portal that is read in parts.
    let mut client = client;
    let transaction = client.transaction().await.expect("begin");
    let portal = transaction.bind("select id from orders where id > 0 for update", &[]).await.expect("bound");
    assert_eq!(transaction.query_portal(&portal, 90).await.expect("ninety").len(), 90);
    let error = transaction.query_portal(&portal, 90).await.expect_err("too many together");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    drop(transaction);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_cursor_goes_no_further_than_its_query_would() {
    let rules = "@id(\"short\") @limit(\"50 rows, 400 ms\") forbid (principal, action == Action::\"execute\", resource) \
                 when { context has statement && context.statement.unbounded };";
    let gate = with_rules("cursors", rules).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let declare = "begin; declare c cursor for select * from generate_series(1, 1000000000)";
    client.batch_execute(declare).await.expect("declared");
    assert_eq!(refusal(&client, "fetch all from c").await.0, "57014");
    client.batch_execute(&format!("rollback; {declare}")).await.expect("declared");
    assert_eq!(refusal(&client, "move forward 900000000 in c").await.0, "57014");
    client.batch_execute("rollback").await.expect("rollback");
    // One that outlives its transaction is filled when that ends.
    let hold = declare.replace("cursor", "cursor with hold");
    client.batch_execute(&hold).await.expect("declared");
    assert_eq!(refusal(&client, "commit").await.0, "57014");
    assert_eq!(refusal(&client, hold.trim_start_matches("begin; ")).await.0, "57014");
    // Others of the session have their own way to go.
    client.batch_execute("begin; declare d cursor for select id from orders").await.expect("declared");
    assert_eq!(column(&client, "fetch 60 from d").await.expect("fetched").len(), 60);
    client.batch_execute("commit").await.expect("committed");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_grows_with_two_relations_has_the_short_leash_and_joins_by_keys_do_not() {
    let rules = "@id(\"short\") @limit(\"50 rows\") forbid (principal, action == Action::\"execute\", resource) \
                 when { context has statement && context.statement.unbounded };";
    let gate = with_rules("joins", rules).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for sql in [
        "select a.id from orders a join orders b on a.customer_id = b.customer_id",
        "select a.id from orders a full join orders b using (customer_id)",
        "select a.id from orders a join orders b on a.id + b.id = b.id + a.id where a.id < 100",
        "select a.id from customers a, lateral (select * from orders b) b",
        "select (select count(*) from orders b where b.amount <> a.amount) from orders a limit 60",
        "select 1 from unnest(array[1,2,3,4,5,6,7,8,9,10]) a, unnest(array[1,2,3,4,5,6,7,8,9,10]) b, \
         unnest(array[1,2,3,4,5,6,7,8,9,10]) c, customers",
        "select id, customer_id, count(*) from orders group by cube (id, customer_id, amount, id, amount)",
        "select format('%2000s', id) from orders",
        "select amount ^ 90 from orders",
        "select (0::float8).pg_sleep from orders",
        "create temp table own as select * from orders; select a.id from own a join own b using (id)",
    ] {
        assert_eq!(refusal(&client, sql).await.0, "54000", "{sql}");
    }
    for sql in [
        "select o.id from orders o join customers c on c.id = o.customer_id limit 60",
        "select c.id from customers c left join orders o on o.customer_id = c.id limit 60",
        "select (select count(*) from orders o where o.customer_id = c.id) from customers c limit 60",
        "with spent as (select customer_id, sum(amount) from orders group by customer_id) \
         select c.id from customers c join spent s on s.customer_id = c.id limit 60",
        "select id from orders where exists (select 1 from customers c where c.id = customer_id) limit 60",
        "select o.id from orders o join (values (1), (2)) v (x) on o.id % 2 = v.x - 1 limit 60",
        "select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid \
         join pg_namespace n on n.oid = c.relnamespace limit 60",
    ] {
        assert_eq!(column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).len(), 60, "{sql}");
    }
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn rows_that_a_conflict_leaves_as_they_are_are_locked_and_count() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let leave = "on conflict (id) do update set amount = 0 where orders.id < 0";
    let all = format!("insert into orders select * from orders {leave}");
    let one = format!("insert into orders values (7, 1, 1) {leave}");
    client.batch_execute("begin").await.expect("begin");
    client.batch_execute(&one).await.expect("one row");
    let (state, message) = refusal(&client, &all).await;
    assert_eq!(state, "42501");
    assert!(message.contains("rows"), "{message}");
    client.batch_execute("rollback").await.expect("rollback");
    // Outside of a block the locks are gone with the statement.
    client.batch_execute(&all).await.expect("no block");
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn most_of_a_small_relation_is_too_much() {
    let sql = "create table settings (key text primary key, value text); \
               insert into settings select 'k' || i, 'v' from generate_series(1, 40) i; analyze;";
    let gate = Gate::start(sql).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.simple_query("update settings set value = 'x' where key in ('k1', 'k2')").await.expect("two of 40");
    assert_eq!(refusal(&client, "update settings set value = 'x' where key like 'k%'").await.0, "42501");
    assert_eq!(gate.count("select count(*) from settings where value = 'x'").await, 2);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_bound_beside_a_result_that_was_stopped_has_one_outcome() {
    let gate = short("beside").await;
    let grant = gate.grant(Access::Read).await;
    let mut peer = Peer::through(&grant).await;
    let bound = ask().parse("s", "select 1").bind("p", "s");
    bound.run("select id from orders order by id limit 60").flush(&mut peer).await;
    assert_eq!(error(&ask().sync(&mut peer).await).map(|error| error.sqlstate).as_deref(), Some("54000"));
    assert_eq!(error(&ask().run("select 2").sync(&mut peer).await), None);
    drop(peer);
    let told = outcomes(&gate, &grant).await;
    assert_eq!(told.iter().filter(|one| one.starts_with("2.0 ")).collect::<Vec<_>>(), ["2.0 (bound)"], "{told:?}");
    gate.stop().await;
}
