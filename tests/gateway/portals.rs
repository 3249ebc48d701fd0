//! What is bound, read in parts, or prepared behind the gateway's back: nothing of it runs unrecorded,
//! unlimited or uncounted.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend::{self, Named};

use crate::support::gate::{Gate, SHOP, superuser};
use crate::support::requests::ask;
use crate::support::until::until;
use crate::support::wire::{Peer, code, error, rows, tags};

const ROWS: &str = "select count(*) from orders";
const DELETE: &str = "delete from orders where id > 0";

/// Code of the target's owner that deletes, and code that runs any text.
const CODE: &str = "
create function purge(int) returns int language sql volatile as 'delete from orders where id = $1; select 1';
create function run(what text) returns int language plpgsql volatile as 'begin execute what; return 1; end';
grant execute on function run(text), purge(int) to public;
";

/// Puts something harmless under the name by which the gateway counts.
const REPLACE: &str = "deallocate all; prepare dbgate_counts as select 1 where false";

#[tokio::test]
async fn the_names_of_the_gateways_own_statements_cannot_be_taken() {
    let gate = Gate::start(&format!("{SHOP}{CODE}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    // The gateway has prepared its statements.
    assert_eq!(code(&mut peer, "delete from orders where id = -1").await, None);
    for sql in [
        "deallocate dbgate_counts",
        "prepare dbgate_counts as select 1 where false",
        "prepare \"dbgate_facts\" as select 1",
        "execute dbgate_commit",
        "declare dbgate_portal cursor for select 1",
        "fetch all from dbgate_portal",
        "close dbgate_portal",
        "explain execute dbgate_commit",
        "create temp table t as execute dbgate_counts",
    ] {
        let told = error(&peer.query(sql).await).expect(sql);
        assert_eq!((told.sqlstate.as_str(), told.message.contains("belong to the gateway")), ("42501", true), "{sql}");
    }
    // Code says it without a word in the text.
    let replace = "execute 'deallocate all'; execute 'prepare dbgate_counts as select 1 where false'";
    let runs = "perform run('deallocate all'); perform run('prepare dbgate_counts as select 1 where false')";
    let by_call = ["deallocate all", "prepare dbgate_counts as select 1 where false"];
    for begin in [
        vec![format!("do $$ begin {replace}; {DELETE}; end $$")],
        vec![format!("do $$ begin {runs}; end $$")],
        vec![format!("do $$ begin {replace}; end $$")],
        by_call.map(|text| format!("select run('{text}')")).to_vec(),
    ] {
        let mut peer = Peer::through(&grant).await;
        code(&mut peer, "delete from orders where id = -1").await;
        for sql in begin.iter().map(String::as_str).chain([DELETE]) {
            code(&mut peer, sql).await;
        }
        assert_eq!(gate.count(ROWS).await, 3000, "{begin:?}");
    }
    // Neither do expressions of temporary relations.
    let (check, default) = (format!("check (run('{REPLACE}') = 1)"), format!("default run('{REPLACE}')"));
    for define in [
        vec![format!("create temp table t (x int {check})")],
        vec![format!("create temp table t (x int, y int {default})")],
        vec!["create temp table t (x int)".to_owned(), format!("alter table t alter x set {default}")],
    ] {
        let mut peer = Peer::through(&grant).await;
        code(&mut peer, "delete from orders where id = -1").await;
        for sql in define.iter().map(String::as_str).chain(["insert into t (x) values (1)", DELETE]) {
            code(&mut peer, sql).await;
        }
        assert_eq!(gate.count(ROWS).await, 3000, "{define:?}");
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn constraints_of_temporary_tables_change_nothing_uncounted() {
    let gate = Gate::start(&format!("{SHOP}{CODE}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "create temp table t (x int)").await, None);
    assert_eq!(code(&mut peer, "insert into t select g from generate_series(1, 3000) g").await, None);
    assert_eq!(code(&mut peer, "alter table t add constraint c check (purge(x) >= 0) not valid").await, None);
    assert_eq!(code(&mut peer, "alter table t validate constraint c").await.as_deref(), Some("42501"));
    assert_eq!(gate.count(ROWS).await, 3000);
    // What calls nothing goes on as before.
    assert_eq!(code(&mut peer, "alter table t add check (x > 0)").await, None);
    assert_eq!(code(&mut peer, "create index on t (x)").await, None);
    assert_eq!(code(&mut peer, "alter table t add y text; ").await, None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn settings_are_not_changed_by_way_of_a_view() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    for sql in [
        "update pg_settings set setting = 'pg_catalog' where name = 'search_path'",
        "update pg_catalog.pg_settings set setting = '1' where name like 'statement_%'",
        "with w as (update pg_settings set setting = 'x' where name = 'search_path' returning 1) select * from w",
    ] {
        assert_eq!(code(&mut peer, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    assert_eq!(rows(&peer.query("select count(*) > 10 from pg_settings").await), [["t"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_only_bound_is_recorded_and_has_its_time() {
    let rules = "@id(\"short\") @limit(\"500 ms\") forbid (principal, action == Action::\"execute\", resource);";
    let policy = [("classification.toml", ""), ("short.cedar", rules)];
    let forever = "create function forever() returns int language plpgsql stable as 'begin perform pg_sleep(600); return 1; end';";
    let gate = Gate::start_under(&format!("{SHOP}{forever}"), &policy).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    // The planner tells in its error what it has read.
    let read = "select id from customers where name = table_to_xml('audit_trail', true, true, '')::text::int::text";
    let told = ask().parse("", read).bind("", "").sync(&mut peer).await;
    assert_eq!(error(&told).expect("planned").sqlstate, "22P02");
    // It runs what does not change anything, for as long as that takes.
    let told = ask().parse("", "select id from orders where id = forever()").bind("", "").sync(&mut peer).await;
    assert_eq!(error(&told).expect("stopped").sqlstate, "57014");
    // One that another takes the place of, one that is closed, one that is run, one that never is.
    let requests = ask().parse("", "select 'replaced' as replaced").bind("", "");
    let requests = requests.parse("", "select 'closed' as closed").bind("c", "").close(Named::Portal, "c");
    let requests = requests.run("select 'run' as run").parse("", "select 'left' as left_over").bind("l", "");
    assert_eq!(tags(&requests.sync(&mut peer).await), "1212312DC12Z");
    drop(peer);
    let path = gate.folder.join("data/log/log.ndjson");
    let mut log = String::new();
    while !log.contains("session.close") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        log = std::fs::read_to_string(&path).expect("the log");
    }
    gate.stop().await;
    let lines: Vec<&str> = log.lines().collect();
    let all = lines.join("\n");
    for text in ["table_to_xml", "as replaced", "as closed", "as run", "as left_over"] {
        let said = lines.iter().filter(|line| line.contains("\"k\":\"stmt\"") && line.contains(text)).count();
        assert_eq!(said, 1, "{text}: {all}");
    }
    assert_eq!(all.matches("\"tag\":\"(bound)\"").count(), 3, "{all}");
    assert!(!all.contains("result.unknown"), "{all}");
}

/// SQL's PREPARE of what is masked: judged again when names have moved, by the text that the client wrote.
#[tokio::test]
async fn what_sql_prepares_of_a_masked_relation_is_judged_again_as_it_was_written() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let read = "select email from customers where id = 1";
    let masked = rows(&peer.query(read).await);
    assert_ne!(masked[0][0], "user1@example.com");
    assert_eq!(code(&mut peer, &format!("prepare x as {read}")).await, None);
    assert_eq!(rows(&peer.query("execute x").await), masked);
    assert_eq!(rows(&ask().run_named("x").sync(&mut peer).await), masked);
    // What names mean is looked up anew behind each of these.
    for sql in ["create temp table t (x int)", "set search_path = public, pg_catalog", "create temp view v as select 1"]
    {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
        let told = ask().run_named("x").sync(&mut peer).await;
        assert_eq!((error(&told).map(|error| error.message), rows(&told)), (None, masked.clone()), "{sql}");
        assert_eq!(rows(&peer.query("execute x").await), masked, "{sql}");
    }
    // Where they have come to mean something else, it is what the session has made.
    assert_eq!(code(&mut peer, "create temp table customers (id int, email text)").await, None);
    let told = ask().run_named("x").sync(&mut peer).await;
    assert!(error(&told).is_some() || rows(&told) == masked, "{}", tags(&told));
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn limits_hold_for_all_parts_of_a_result() {
    let rules = "@id(\"few\") @limit(\"1000 rows\") forbid (principal, action == Action::\"execute\", resource);";
    let policy = [("classification.toml", ""), ("few.cedar", rules)];
    let gate = Gate::start_under(SHOP, &policy).await;
    let grant = gate.grant(Access::Read).await;
    let mut peer = Peer::through(&grant).await;
    // The last part may ask for all that is left.
    for last in [400, 0] {
        let bound = ask().parse("", "select id from orders").bind("p", "");
        let parts = bound.execute_part("p", 400).execute_part("p", 400).execute_part("p", last);
        let told = parts.sync(&mut peer).await;
        assert_eq!((error(&told).expect("stopped").sqlstate.as_str(), rows(&told).len()), ("54000", 1000));
    }
    // By a cursor, also where a savepoint takes the failure back.
    for sql in ["begin", "declare c cursor for select id from orders", "fetch 600 from c", "savepoint s"] {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
    }
    for _ in 0..2 {
        assert_eq!(code(&mut peer, "fetch 600 from c").await.as_deref(), Some("54000"));
        assert_eq!(code(&mut peer, "rollback to s").await, None);
    }
    assert_eq!(code(&mut peer, "rollback").await, None);
    // Another statement begins anew.
    assert_eq!(rows(&peer.query("select id from orders limit 1000").await).len(), 1000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_portal_is_not_run_by_fetch() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    for sql in ["select id from orders where id > 0 for update", "delete from orders where id < 50 returning id"] {
        let mut peer = Peer::through(&grant).await;
        assert_eq!(code(&mut peer, "begin").await, None);
        assert_eq!(tags(&ask().parse("s", sql).bind("p", "s").sync(&mut peer).await), "12Z");
        assert_eq!(code(&mut peer, "fetch all from p").await.as_deref(), Some("42501"), "{sql}");
        code(&mut peer, "commit").await;
    }
    assert_eq!(gate.count(ROWS).await, 3000);
    gate.stop().await;
}

#[tokio::test]
async fn rows_are_locked_in_the_name_of_who_has_them() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "create temp table own as select 1 as x").await, None);
    for sql in [
        "select o.id from own, orders o where o.id > own.x for update of o",
        "select 1 from pg_catalog.pg_am a, orders o where a.amname = 'btree' and o.id > 0 for update of o",
    ] {
        assert_eq!(code(&mut peer, "begin").await, None);
        assert_eq!(code(&mut peer, sql).await.as_deref(), Some("42501"), "{sql}");
        assert_eq!(code(&mut peer, "rollback").await, None);
    }
    // A view of the session's own takes the place of the table that was judged.
    let locks = "select id from customers where id > 0 and id < 3 for update";
    assert!(error(&ask().parse("s", locks).sync(&mut peer).await).is_none());
    let view = "create temp view customers as select id from public.orders order by id offset 2998";
    assert_eq!(code(&mut peer, view).await, None);
    assert_eq!(code(&mut peer, "begin").await, None);
    assert_eq!(error(&ask().run_named("s").sync(&mut peer).await).expect("judged before").sqlstate, "42501");
    let free = superuser(&gate.database).await;
    let sql = "update orders set amount = amount where id = (select id from orders where id = 7 for update nowait)";
    assert_eq!(free.execute(sql, &[]).await.expect("not locked"), 1);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn rows_that_were_rolled_back_do_not_count_against_what_follows() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let few = "delete from orders where id <= 60";
    let told = ask().run("begin").run(few).run("rollback").run(few).sync(&mut peer).await;
    assert_eq!(error(&told).map(|error| error.message), None);
    assert_eq!(gate.count(ROWS).await, 2940);
    for sql in ["begin", "delete from orders where id between 61 and 120", "rollback"] {
        assert_eq!(code(&mut peer, sql).await, None);
    }
    assert_eq!(code(&mut peer, "delete from orders where id between 61 and 120").await, None);
    assert_eq!(gate.count(ROWS).await, 2880);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_cursor_that_outlives_its_transaction_keeps_its_limits() {
    let rules = "@id(\"few\") @limit(\"1000 rows\") forbid (principal, action == Action::\"execute\", resource)
        when { context has statement && context.statement.verb != \"FETCH\" };";
    let policy = [("classification.toml", ""), ("few.cedar", rules)];
    let gate = Gate::start_under(SHOP, &policy).await;
    let grant = gate.grant(Access::Read).await;
    let mut peer = Peer::through(&grant).await;
    let declare = "declare d cursor with hold for select id from orders";
    for begins in [&["begin", declare, "fetch 10 from d", "commit"][..], &[declare][..]] {
        for sql in begins {
            assert_eq!(code(&mut peer, sql).await, None, "{sql}");
        }
        assert_eq!(code(&mut peer, "select 1").await, None);
        assert_eq!(code(&mut peer, "fetch all from d").await.as_deref(), Some("54000"), "{begins:?}");
        assert_eq!(code(&mut peer, "close d").await, None);
    }
    // One that an earlier transaction has filled is not a later one's to take back.
    for sql in [declare, "begin", "rollback", "fetch 1000 from d"] {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
    }
    assert_eq!(code(&mut peer, "fetch 1 from d").await.as_deref(), Some("54000"));
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_transaction_does_not_use_up_the_locks_of_the_target() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "begin").await, None);
    let many = |from: u32| {
        (from..from + 150).map(|n| format!("create temp table t{n} (a int)")).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(code(&mut peer, &many(0)).await, None);
    assert_eq!(code(&mut peer, &many(150)).await.as_deref(), Some("42501"));
    assert_eq!(code(&mut peer, "rollback").await, None);
    assert_eq!(code(&mut peer, &many(0)).await, None);
    assert_eq!(code(&mut peer, &many(150)).await, None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_veto_is_one_whatever_stands_under_its_name() {
    let gate = Gate::start(&format!("{SHOP}{CODE}")).await;
    let grant = gate.grant(Access::Write).await;
    for begin in ["select run('prepare dbgate_refused as select 1')", "select run('select 1')"] {
        let mut peer = Peer::through(&grant).await;
        assert_eq!(code(&mut peer, begin).await, None, "{begin}");
        assert_eq!(code(&mut peer, DELETE).await.as_deref(), Some("42501"));
        assert_eq!(error(&ask().run(DELETE).sync(&mut peer).await).expect("vetoed").sqlstate, "42501");
        assert_eq!(gate.count(ROWS).await, 3000);
    }
    gate.stop().await;
}

/// A view that deletes when it is read, under the name of a table.
const SHADOW: &str = "
create schema shade; create table public.outbox (id int);
create view shade.outbox as select g as id, public.purge(g) as n from generate_series(1, 3000) g;
";

#[tokio::test]
async fn names_that_move_within_a_pipeline_are_followed() {
    let gate = Gate::start(&format!("{SHOP}{CODE}{SHADOW}")).await;
    let grant = gate.grant(Access::Write).await;
    let read = "select count(*) from (select * from outbox) o where o is not null";
    let moves = ["set search_path = shade, public", "select set_config('search_path', 'shade, public', false)"];
    for sets in moves {
        let mut peer = Peer::through(&grant).await;
        assert_eq!(code(&mut peer, &format!("{sets}; {read}")).await.as_deref(), Some("42501"), "{sets}");
        let mut peer = Peer::through(&grant).await;
        assert_eq!(
            error(&ask().run(sets).run(read).sync(&mut peer).await).expect("counted").sqlstate,
            "42501",
            "{sets}"
        );
        // What was prepared before is judged again, in the new meaning of its names.
        let mut peer = Peer::through(&grant).await;
        ask().parse("s", read).sync(&mut peer).await;
        assert_eq!(code(&mut peer, sets).await, None);
        assert_eq!(error(&ask().run_named("s").sync(&mut peer).await).expect("counted").sqlstate, "42501", "{sets}");
    }
    assert_eq!(gate.count(ROWS).await, 3000);
    gate.stop().await;
}

#[tokio::test]
async fn what_was_made_after_the_access_shows_nothing_that_is_masked() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut peer = Peer::through(&grant).await;
    let owner = superuser(&gate.database).await;
    owner
        .batch_execute("create view late as select email from customers; grant select on late to public")
        .await
        .expect("made");
    // Until the catalog is read again the view is not known, and its name is PostgreSQL's to resolve.
    until("the view is known", async || {
        let told = Peer::through(&grant).await.query("select email from late limit 1").await;
        error(&told).is_some_and(|error| error.message.contains("after this access"))
    })
    .await;
    assert_eq!(code(&mut peer, "select 1").await, None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_prepared_to_lock_rows_goes_on_and_is_judged_by_what_its_names_mean() {
    let gate = Gate::start(&format!("{SHOP}create sequence numbers; grant usage on sequence numbers to public;")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    ask().parse("s", "select id from orders where id = 7 for update skip locked").sync(&mut peer).await;
    for between in ["select 1", "select nextval('numbers')", "select random()", "set search_path = public", "reset all"]
    {
        assert_eq!(rows(&ask().run_named("s").sync(&mut peer).await), [["7"]], "{between}");
        assert_eq!(code(&mut peer, between).await, None, "{between}");
    }
    assert_eq!(rows(&ask().run_named("s").sync(&mut peer).await), [["7"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn names_that_a_failed_commit_took_back_are_asked_for_anew() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    for sql in [
        "begin",
        "create temp table p (id int primary key)",
        "create temp table orders (id int references p deferrable initially deferred)",
        "insert into orders values (1)",
    ] {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
    }
    assert_eq!(code(&mut peer, "commit").await.as_deref(), Some("23503"));
    for sql in ["truncate orders", "lock orders"] {
        assert!(error(&peer.query(sql).await).expect(sql).detail.is_some(), "judged as what it is: {sql}");
    }
    // Nor are those that a DROP in the same text uncovers.
    assert_eq!(code(&mut peer, "create temp table orders (id int)").await, None);
    for sql in ["drop table orders; truncate orders", "drop table orders; lock orders"] {
        assert_eq!(code(&mut peer, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    assert_eq!(code(&mut peer, "drop table if exists orders; drop table if exists nosuch").await, None);
    assert_eq!(gate.count(ROWS).await, 3000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn as_many_values_as_a_message_can_count_are_bound() {
    const MANY: usize = 33_000;
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Read).await).await;
    let places = (1..=MANY).map(|number| format!("${number}")).collect::<Vec<_>>().join(",");
    let sql = format!("select count(*) from orders where id in ({places})");
    let values: Vec<_> = (1..=MANY).map(|number| number.to_string()).collect();
    let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
    // With every type left open, and with every type named.
    for types in [vec![], vec![23; MANY]] {
        let mut pipeline = BytesMut::new();
        frontend::parse_typed("", &sql, &types, &mut pipeline);
        frontend::bind("", "", &values, &mut pipeline);
        frontend::execute("", 0, &mut pipeline);
        frontend::sync(&mut pipeline);
        peer.send(&pipeline).await;
        let told = peer.until(b'Z').await;
        assert_eq!(error(&told).map(|fields| fields.message), None);
        assert_eq!(rows(&told).len(), 1);
    }
    drop(peer);
    gate.stop().await;
}

/// Puts another cursor in the place of a portal.
const SWAP: &str = "create function swap() returns int language plpgsql volatile as
  $$ declare c refcursor := 'p'; begin close c; open c for select touch_all(); return 1; end $$;";

#[tokio::test]
async fn move_goes_on_in_a_portal_that_only_reads() {
    let gate = Gate::start(&format!("{SHOP}{SWAP}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    peer.query("begin").await;
    let read = ask().parse("s", "select id, ssn, name from customers order by id").bind("p", "s");
    assert_eq!(tags(&read.sync(&mut peer).await), "12Z");
    for sql in ["move forward 3 p", "move 2 from p"] {
        let told = peer.query(sql).await;
        assert_eq!((error(&told), tags(&told).as_str()), (None, "CZ"), "{sql}");
    }
    let told = ask().execute_part("p", 1).sync(&mut peer).await;
    let read = rows(&told);
    assert_eq!(read.iter().map(|row| (row[0].as_str(), row[2].as_str())).collect::<Vec<_>>(), [("6", "name 6")]);
    assert!(!format!("{told:?}").contains("123-45-"), "{told:?}");
    assert_eq!(tags(&ask().run("move all p").sync(&mut peer).await), "12CZ");
    assert_eq!(rows(&ask().execute("p").sync(&mut peer).await).len(), 0);
    // Rows that FETCH would show have no line in the record that says of what they are.
    assert_eq!(error(&peer.query("fetch 1 from p").await).expect("refused").sqlstate, "42501");
    peer.query("rollback").await;
    // What locks, changes rows, or may do so, does not run by the way.
    let calls = "select touch_all()";
    for sql in [
        calls,
        "select id from orders where id = 1 for update",
        "delete from orders where id < 9 returning id",
        "select nextval('seq')",
    ] {
        peer.query("begin; create temp sequence seq").await;
        assert_eq!(tags(&ask().parse("", sql).bind("p", "").sync(&mut peer).await), "12Z", "{sql}");
        let refused = error(&peer.query("move 1 in p").await).expect(sql);
        assert_eq!((refused.sqlstate.as_str(), refused.message.contains("FETCH reads")), ("42501", true), "{sql}");
        peer.query("rollback").await;
    }
    // Code may have put something else under the name.
    peer.query("begin").await;
    ask().bind("p", "s").sync(&mut peer).await;
    assert_eq!(error(&peer.query("select swap()").await), None);
    assert_eq!(error(&peer.query("move 1 in p").await).expect("refused").sqlstate, "42501");
    peer.query("rollback").await;
    drop(peer);
    gate.stop().await;
}
