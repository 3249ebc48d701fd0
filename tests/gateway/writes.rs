//! Commit on our word: a write is counted before it is committed, and taken back when it is too large.

use std::time::Duration;

use bytes::Bytes;
use dbgate::core::grant::Access;

use crate::support::gate::{Gate, SHOP, cluster, column, refusal, superuser};
use crate::support::requests::ask;
use crate::support::until::until;
use crate::support::wire::{Peer, code, error, rows};

#[tokio::test]
async fn a_small_write_commits_and_a_large_one_is_taken_back_with_its_cascade_counted() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    client.simple_query("update orders set amount = 1 where id = 1").await.expect("one row");
    assert_eq!(gate.count("select amount::int8 from orders where id = 1").await, 1);

    let (state, message) = refusal(&client, "delete from customers where status = 'idle'").await;
    assert_eq!(state, "42501");
    assert!(message.contains("500") && message.contains("1,500"), "{message}");
    assert_eq!(gate.count("select count(*) from customers").await, 1000);
    assert_eq!(gate.count("select count(*) from orders").await, 3000);

    assert_eq!(refusal(&client, "delete from orders").await.0, "42501");
    assert_eq!(refusal(&client, "delete from orders where true").await.0, "42501");
    let counted = client.execute("delete from orders where customer_id = $1", &[&7i32]).await.expect("three rows");
    assert_eq!(counted, 3);
    assert_eq!(gate.count("select count(*) from orders").await, 2997);
    let error = client.execute("delete from orders where customer_id > $1", &[&0i32]).await.expect_err("all of them");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    assert_eq!(gate.count("select count(*) from orders").await, 2997);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn in_a_transaction_counts_add_up_and_a_rollback_is_the_clients_own() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    client.simple_query("begin; delete from orders where id = 1; rollback").await.expect("rolled back");
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    client.simple_query("begin").await.expect("begin");
    client.simple_query("delete from orders where id <= 60").await.expect("60 rows");
    assert_eq!(refusal(&client, "delete from orders where id <= 120").await.0, "42501", "120 in all");
    assert_eq!(refusal(&client, "select 1").await.0, "25P02", "the transaction has failed");
    client.simple_query("rollback").await.expect("rollback");
    client.simple_query("begin; delete from orders where id <= 60; commit").await.expect("60 rows");
    assert_eq!(gate.count("select count(*) from orders").await, 2940);
    client.simple_query("delete from orders where id between 61 and 120").await.expect("a new transaction counts anew");
    assert_eq!(gate.count("select count(*) from orders").await, 2880);
    drop(client);
    gate.stop().await;
}

/// Tables that were never analysed: their sizes are known from what was counted when they were filled.
#[tokio::test]
async fn a_share_is_of_what_others_have_put_there() {
    let more = "create table queue (id serial, label text) with (autovacuum_enabled = off);
                create table backlog (id serial, label text) with (autovacuum_enabled = off);";
    let gate = Gate::start(&format!("{SHOP}{more}")).await;
    let filled = superuser(&gate.database).await;
    filled.batch_execute("insert into backlog (label) select 'old' from generate_series(1, 60)").await.expect("filled");
    // Statistics are handed in when a session ends.
    drop(filled);
    let live = "select pg_stat_get_live_tuples('backlog'::regclass)";
    until("they are handed in", async || gate.count(live).await == 60).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let run = async |sql: &str| client.simple_query(sql).await.map(drop);
    let fill =
        |table: &str, rows: u32| format!("insert into {table} (label) select 'new' from generate_series(1, {rows})");

    // Most of what others have put there, though nobody has measured the table.
    let (state, message) = refusal(&client, "delete from backlog where id <= 50").await;
    assert!(state == "42501" && message.contains("50 of 60 rows"), "{message}");
    run("delete from backlog where id <= 20").await.expect("a third");
    // What the session has put there it may take away, in one transaction or in several.
    run(&format!("begin; {}; delete from queue where label = 'new'; commit", fill("queue", 32))).await.expect("own");
    run(&fill("queue", 30)).await.expect("filled");
    run("delete from queue where label = 'new'").await.expect("own");
    assert_eq!(gate.count("select count(*) from queue").await, 0);
    // Once, and only if it was left there.
    run(&fill("backlog", 20)).await.expect("filled");
    run("delete from backlog where label = 'new'").await.expect("own");
    assert_eq!(refusal(&client, "delete from backlog where label = 'old'").await.0, "42501");
    for undo in ["rollback", "drop table customers", "rollback to a; commit"] {
        let sql = format!("begin; savepoint a; {}; {undo}", fill("backlog", 40));
        let _ = run(&sql).await;
        let _ = run("commit").await;
        assert_eq!(gate.count("select count(*) from backlog").await, 40, "{undo}");
        assert_eq!(refusal(&client, "delete from backlog where label = 'old'").await.0, "42501", "{undo}");
    }
    drop(client);
    gate.stop().await;
}

/// Tables whose statistics are as old as they may be: that of so few rows is not made anew.
#[tokio::test]
async fn a_share_is_of_what_is_there_and_of_all_that_changes_it() {
    let small = |name: &str, rows: u32| {
        format!(
            "create table {name} (id int, label text) with (autovacuum_enabled = off);
             insert into {name} select i, 'old' from generate_series(1, {rows}) i;"
        )
    };
    let small = [small("flags", 40), small("kinds", 40), small("marks", 120)].concat();
    let gate = Gate::start(&format!("{SHOP}{small} analyze;")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let run = async |sql: &str| client.batch_execute(sql).await;
    let share = async |sql: &str| {
        let (state, message) = refusal(&client, sql).await;
        assert!(state == "42501" && message.contains("more than half of the relation"), "{sql}: {message}");
        let _ = run("rollback").await;
    };
    share("delete from marks where id <= 61").await;
    run("delete from marks where id <= 60").await.expect("half");
    share(
        "merge into flags f using generate_series(1, 40) i on f.id = i when matched and i <= 20 then delete \
           when matched then update set label = 'new'",
    )
    .await;
    share("with a as (update flags set label = 'new' where id <= 20) delete from flags where id > 20").await;
    share("begin; update flags set label = 'new' where id <= 20; delete from flags where id > 20; commit").await;
    run("delete from kinds where id <= 20").await.expect("half");
    share("delete from kinds where id > 20").await;
    assert_eq!(gate.count("select count(*) from kinds").await, 20);
    run("delete from kinds where id > 30").await.expect("ten of twenty");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_a_transaction_changes_adds_up_over_partitions_relations_and_actions() {
    let parts = "create table events (id int, kind text, day int) partition by range (day);
        create table events_1 partition of events for values from (1) to (2);
        create table events_2 partition of events for values from (2) to (3);
        insert into events select i, 'k', 1 + i % 2 from generate_series(1, 1000) i;
        create table old_events () inherits (audit_trail); insert into old_events (what) select 'x' from generate_series(1, 500);
        insert into audit_trail (what) select 'x' from generate_series(1, 500); analyze;";
    let gate = Gate::start(&format!("{SHOP};{parts}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let (state, message) = refusal(&client, "update events set kind = kind where id <= 180").await;
    assert_eq!(state, "42501");
    assert!(message.contains("90 of 500"), "{message}");
    client.batch_execute("update events set kind = 'l' where id <= 90").await.expect("45 of each");
    for sql in [
        "with a as (delete from orders where id <= 60), b as (update customers set name = 'x' where id > 940) select 1",
        "with a as (delete from events where id <= 60), b as (insert into events select i, 'n', 1 from generate_series(1, 60) i) select 1",
        "insert into orders select i, 1, 0 from generate_series(9001, 9060) i; delete from orders where id <= 60",
    ] {
        assert_eq!(refusal(&client, sql).await.0, "42501", "{sql}");
    }
    client.batch_execute("begin; update orders set amount = 0 where id <= 60").await.expect("so far");
    assert_eq!(refusal(&client, "update customers set name = 'y' where id <= 60").await.0, "42501");
    client.batch_execute("rollback").await.expect("rolled back");
    // Rows that are locked first and changed then are the same rows.
    client.batch_execute("begin").await.expect("begin");
    client.simple_query("select id from orders where id <= 80 for update").await.expect("locked");
    client.batch_execute("update orders set amount = 0 where id <= 80").await.expect("the same");
    client.batch_execute("rollback").await.expect("rolled back");
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_function_that_writes_is_counted_like_a_write() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let (state, message) = refusal(&client, "select touch_all()").await;
    assert_eq!(state, "42501", "{message}");
    let reader = gate.connect(&gate.grant_as("raj@example.com", Access::Read, 600).await).await;
    assert!(reader.simple_query("select touch_all()").await.is_err());
    assert_eq!(column(&client, "select 1").await.expect("alive"), ["1"]);
    drop((client, reader));
    gate.stop().await;
}

/// What was written is shown as it would be read, also where a mask shows a part of the value.
#[tokio::test]
async fn returning_shows_what_may_be_seen_of_a_masked_column() {
    let gate = Gate::start(&format!("{SHOP} create sequence ticket_no start 7;")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let email = column(&client, "select email from customers where id = 5").await.expect("reads").remove(0);
    assert!(email.contains('@') && !email.contains("user5@"), "{email}");
    for (sql, expected) in [
        ("update customers set name = 'n' where id = 5 returning email", email.clone()),
        ("update public.customers c set name = 'n' where c.id = 5 returning upper(c.email)", email.to_uppercase()),
        (
            "update customers c set name = o.id::text from orders o where o.id = c.id and c.id = 5 returning c.email",
            email.clone(),
        ),
        ("with u as (update customers set name = 'n' where id = 5 returning *) select email from u", email.clone()),
        // The condition sees what may be seen, as in a SELECT.
        ("update customers set name = 'n' where email = 'user5@example.com' returning email", String::new()),
        (
            "insert into customers (id, name, email) values (5001, 'x', 'new@example.com') returning email",
            "n***@e******.com".to_owned(),
        ),
        (
            "insert into public.customers as c values (5001, 'x', 'new@example.com') on conflict (id) \
             do update set name = excluded.name || c.status returning c.id, c.*",
            "5001".to_owned(),
        ),
        (
            "with i as (insert into customers values (5001, 'x') on conflict (id) do update set name = 'y' returning *) \
             select email from i",
            "n***@e******.com".to_owned(),
        ),
        // A view has no constraints that could be named, so nothing of it is shown here.
        (
            "insert into customers values (5001, 'x') on conflict on constraint customers_pkey do update set name = 'z' \
             returning email",
            "-".to_owned(),
        ),
        ("delete from customers where id = 5001 returning id, email", "5001".to_owned()),
        ("update only customers set name = 'n' where id = 5 returning email", "-".to_owned()),
        ("select nextval('ticket_no')", "7".to_owned()),
    ] {
        let shown = column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).join(",");
        assert!(!shown.contains("user5@") && !shown.contains("new@"), "{sql}: {shown}");
        assert_eq!(shown, expected, "{sql}");
    }
    assert_eq!(gate.count("select count(*) from customers where id = 5001").await, 0);
    assert_eq!(gate.count("select count(*) from customers where name = 'n'").await, 1);
    // More rows than may be changed are counted on the relation behind the view.
    let (state, _) = refusal(&client, "update customers set name = 'x' where id > 10 returning email").await;
    assert_eq!(state, "42501");
    assert_eq!(gate.count("select count(*) from customers where name = 'x'").await, 0);
    assert_eq!(refusal(&client, "select setval('ticket_no', 1)").await.0, "42501");
    let reader = gate.connect(&gate.grant(Access::Read).await).await;
    assert_eq!(refusal(&reader, "select nextval('ticket_no')").await.0, "42501");
    gate.stop().await;
}

#[tokio::test]
async fn a_copy_that_the_target_takes_slowly_goes_on_when_it_takes_more() {
    const LINES: usize = 24;
    // The first row waits for us; what the client sends meanwhile is more than sockets hold.
    let slow = "create table bulk (what text);
        create function wait_for_us() returns trigger language plpgsql as
            $$ begin perform pg_advisory_xact_lock_shared(4711); return new; end $$;
        create trigger slow before insert on bulk for each row execute function wait_for_us();";
    let gate = Gate::start(&format!("{SHOP};{slow}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let superuser = superuser(&gate.database).await;
    superuser.batch_execute("select pg_advisory_lock(4711)").await.expect("locked");
    let line = Bytes::from([vec![b'a'; 1_000_000], b"\n".to_vec()].concat());
    let mut sink = std::pin::pin!(client.copy_in("copy bulk from stdin").await.expect("begins"));
    let sent = std::cell::Cell::new(0);
    let copied = async {
        for _ in 0..LINES {
            futures_util::SinkExt::send(&mut sink, line.clone()).await?;
            sent.set(sent.get() + 1);
        }
        sink.finish().await
    };
    let release = async {
        let waits = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted";
        let mut before = usize::MAX;
        until("nothing more is taken", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let is_stuck = sent.get() == std::mem::replace(&mut before, sent.get());
            is_stuck && gate.count(waits).await > 0
        })
        .await;
        assert!(sent.get() < LINES, "more has to wait than fits in between");
        superuser.batch_execute("select pg_advisory_unlock(4711)").await.expect("unlocked");
    };
    let (copied, ()) = tokio::join!(copied, release);
    assert_eq!(copied.expect("copied"), 24);
    assert_eq!(gate.count("select sum(length(what)) from bulk").await, 24_000_000);
    drop(client);
    gate.stop().await;
}

/// A function of an owner's that drops what nobody looks at any more.
const DROPS: &str = "create table old as select * from orders;
  create function purge() returns int language plpgsql security definer as 'begin drop table old; return 1; end';
  grant execute on function purge() to public;";

#[tokio::test]
async fn whatever_a_write_hides_in_it_is_counted() {
    let gate = Gate::start(&format!("{SHOP}{DROPS}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let texts = [
        "create temp table x as with d as (delete from public.orders where id > 0 returning id) select count(*) from d",
        "with d as (update public.orders set amount = 0 where id > 0 returning id) select count(*) into temp x from d",
        "explain analyze create temp table x as with d as (delete from public.orders where id > 0 returning id) select * from d",
        "create table pg_temp.x as with d as (delete from public.orders where id > 0 returning id) select * from d",
        "select purge()",
    ];
    for sql in texts {
        for block in [false, true] {
            if block {
                peer.query("begin").await;
            }
            assert_eq!(code(&mut peer, sql).await.as_deref(), Some("42501"), "{sql}");
            peer.query("rollback").await;
            if block {
                peer.query("begin").await;
            }
            let told = ask().run(sql).sync(&mut peer).await;
            assert_eq!(error(&told).map(|fields| fields.sqlstate).as_deref(), Some("42501"), "{sql}");
            peer.query("rollback").await;
        }
    }
    assert_eq!(gate.count("select count(*) from orders where amount > 0").await, 3000);
    assert_eq!(gate.count("select count(*) from old").await, 3000);
    // A few rows are nothing else than a few rows.
    let few = "create temp table x as with d as (delete from public.orders where id < 3 returning id) select count(*) from d; table x";
    assert_eq!(rows(&peer.query(few).await), [["2"]]);
    assert_eq!(gate.count("select count(*) from orders").await, 2998);
    drop(peer);
    gate.stop().await;
}

/// A table of which a part is elsewhere.
fn elsewhere() -> String {
    format!(
        "create extension postgres_fdw;
         do $$ begin execute format('create server loop foreign data wrapper postgres_fdw
           options (host ''127.0.0.1'', port ''{}'', dbname %L)', current_database()); end $$;
         create user mapping for public server loop options (user 'postgres', password '{}');
         create table far (id int); insert into far select generate_series(100, 199);
         create table par (id int) partition by range (id);
         create table par_1 partition of par for values from (0) to (100);
         create foreign table par_2 partition of par for values from (100) to (1000) server loop options (table_name 'far');
         insert into par_1 select generate_series(0, 99); analyze par_1;",
        cluster().port(),
        cluster().password().expose()
    )
}

#[tokio::test]
async fn rows_that_are_on_another_server_cannot_be_counted() {
    let gate = Gate::start(&format!("{SHOP}{}", elsewhere())).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let told = error(&peer.query("delete from par where id > 97 and id < 103").await).expect("refused");
    assert!(told.sqlstate == "42501" && told.message.contains("is a foreign table"), "{told:?}");
    assert_eq!(gate.count("select count(*) from far").await, 100);
    assert_eq!(gate.count("select count(*) from par_1").await, 100);
    // What stays on this side is counted as ever.
    assert_eq!(code(&mut peer, "delete from par where id < 3").await, None);
    drop(peer);
    gate.stop().await;
}

/// What a session counts from is known again where the question for it was skipped.
#[tokio::test]
async fn what_was_committed_before_is_not_charged_again() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let one = "update orders set amount = amount where id = 1";
    for _ in 0..110 {
        assert_eq!(error(&peer.query(one).await), None);
    }
    let failed = ask().run("select 1 / 0").run(one).sync(&mut peer).await;
    assert_eq!(error(&failed).map(|error| error.sqlstate).as_deref(), Some("22012"));
    assert_eq!(error(&peer.query(one).await), None);
    // Nor is what was rolled back.
    let many = "update orders set amount = amount where id <= 60";
    assert_eq!(error(&ask().run("begin").run(many).run("rollback").sync(&mut peer).await), None);
    assert_eq!(error(&peer.query(many).await), None);
    drop(peer);
    gate.stop().await;
}
