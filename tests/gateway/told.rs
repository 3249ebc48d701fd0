//! While a block goes on, command tags are believed where they tell all that a statement did, and the target is
//! asked for its counts everywhere else; before a commit it always is.

use dbgate::core::grant::Access;

use crate::support::gate::{AT_MOST_100, Gate, SHOP, cluster, superuser};
use crate::support::recorder::{Connections, Passed, recorder};
use crate::support::requests::{ask, either_way};
use crate::support::until::until;
use crate::support::wire::{Peer, error, rows, tags};

/// A table of which a tag tells all, and others that look like it.
const TABLES: &str = "
create table plain (id int primary key, v text, at timestamptz default now(), n bigint generated always as identity);
create function note() returns trigger language plpgsql as
  'begin delete from orders where id <= 200; return new; end';
create table noted (like plain); create trigger t after insert on noted for each row execute function note();
create table ruled (like plain); create rule r as on insert to ruled do also delete from orders where id = 5;
create table parts (id int, v text) partition by range (id);
create table part_1 partition of parts for values from (0) to (1000);
create table parent (id int, v text); create table heir () inherits (parent);
create function own() returns int language sql volatile as 'select 1';
create table filled (id int, v int default own());
create function is_good(text) returns boolean language sql immutable as 'select true';
create table checked (id int, v text check (is_good(v)));
create table looked_up (id int, v text); create index on looked_up (is_good(v));
create domain good as text check (is_good(value)); create table typed (id int, v good);
create table by_domain (id int, v text default ('a'::good)::text);
create table locked (id int, v text default pg_advisory_xact_lock_shared(1)::text);
create table telling (id int, v xml default query_to_xml('select 1', true, false, ''));
create function place(int) returns int language sql immutable as 'select $1';
create table placed (id int, v text) partition by range (place(id));
create table placed_1 partition of placed for values from (0) to (1000);
create table guarded (id int, v text); alter table guarded enable row level security;
create policy p on guarded using (true); create view over as select id, v from plain;
";

/// A gate whose transactions change a hundred rows of a table at most.
async fn limited(database: &str) -> Gate {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    Gate::without_pack(&format!("told_{database}"), &format!("{SHOP}{TABLES}"), &policy).await
}

/// How often the session has asked the target for its counts.
pub fn counts(passed: &Connections) -> usize {
    let is_count = |one: &&Passed| matches!(one, Passed::Asked(b'B', text) if text.contains("dbgate_counts"));
    passed.lock().expect("whole").iter().flatten().filter(is_count).count()
}

#[tokio::test]
async fn the_target_is_asked_where_a_tag_does_not_tell_all() {
    let (port, passed) = recorder(cluster().port()).await;
    let gate = Gate::start_recorded(&format!("{SHOP}{TABLES}"), port).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    assert_eq!(error(&peer.query("create temp table mine (id int, v text)").await), None);
    let told = [
        "delete from orders where id = 7",
        "insert into plain (id, v) values (1, 'a'), (2, 'b')",
        "insert into plain (id, v) select id, amount::text from orders where id between 3 and 50",
        "insert into plain (id) values (1) on conflict do nothing",
        "update plain set v = 'c' where id = 2 returning id, v",
        "update orders set amount = amount + 1 where id in (select id from plain)",
        "insert into mine values (1, 'a')",
        "insert into pg_temp.mine values (1, 'a')",
    ];
    let asked = [
        "insert into plain (id) values (1) on conflict (id) do update set v = 'd'",
        "with d as (delete from plain where id = 1 returning 1) insert into orders select 5001, 1, 1 from d",
        "merge into plain using (values (1)) x (id) on plain.id = x.id when matched then delete",
        "insert into ruled (id, n) values (1, 1)",
        "insert into parts values (1, 'a')",
        "update parent set v = 'a' where id = 1",
        "insert into filled values (1)",
        "insert into checked values (1, 'a')",
        "insert into looked_up values (1, 'a')",
        "insert into typed values (1, 'a')",
        "insert into by_domain (id) values (1)",
        "insert into locked (id) values (1)",
        "insert into telling (id) values (1)",
        "insert into placed_1 values (1, 'a')",
        "insert into heir values (1, 'a')",
        "insert into plain (id, v) select id, v from parent where id > 5",
        "insert into guarded values (1, 'a')",
        "insert into over values (9, 'a')",
        "delete from customers where id = 9",
        // Rows of the session's own are told apart by the counters.
        "delete from orders where id = 8",
    ];
    let owner = superuser(&gate.database).await;
    let all = told.iter().map(|sql| (sql, false)).chain(asked.iter().map(|sql| (sql, true)));
    for (sql, is_asked) in all {
        for way in [false, true] {
            owner.batch_execute("delete from plain").await.expect("empty");
            peer.query("begin").await;
            if way {
                // Not two alike one behind the other: their count would go along with the write.
                peer.query("select 1").await;
            }
            let before = counts(&passed);
            let answers = either_way(&mut peer, sql, way).await;
            assert_eq!(error(&answers), None, "{sql}");
            assert_eq!(counts(&passed) > before, is_asked, "{sql}");
            // The commit is counted in any case.
            let before = counts(&passed);
            assert_eq!(tags(&peer.query("commit").await), "CZ", "{sql}");
            assert_eq!(counts(&passed), before + 1, "{sql}");
        }
    }
    // What was taken back is in the counters, and in no tag.
    let before = counts(&passed);
    peer.query("begin; savepoint s; update orders set amount = 1 where id = 1; rollback to s").await;
    assert_eq!(error(&peer.query("update orders set amount = 1 where id = 1").await), None);
    assert!(counts(&passed) > before);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_tags_tell_is_added_up_and_refused_with_the_target_s_numbers() {
    let gate = limited("sums").await;
    for way in [false, true] {
        let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
        peer.query("begin").await;
        for first in [1, 41, 81] {
            let sql = format!("update orders set amount = -1 where id between {first} and {}", first + 39);
            let told = either_way(&mut peer, &sql, way).await;
            match first {
                81 => {
                    assert!(error(&told).expect("refused").message.contains("120 of 3,000 rows"), "{:?}", error(&told))
                }
                _ => assert_eq!(error(&told), None),
            }
        }
        assert_eq!(rows(&peer.query("rollback; select min(amount) >= 0 from orders").await), [["t"]]);
        // What has returned one row has changed them all.
        peer.query("begin").await;
        let all = "update orders set amount = -1 where id <= 200 returning id";
        let told = ask().parse("", all).bind("", "").execute_part("", 1).sync(&mut peer).await;
        assert!(error(&told).expect("refused").message.contains("200 of"), "{:?}", error(&told));
        peer.query("rollback").await;
        // Of many in one pipeline no more are answered than may stand.
        peer.query("begin").await;
        let one = ask().parse("one", "update orders set amount = -1 where id = $1");
        let many = (1..=1000).map(|id| id.to_string());
        let told = many.fold(one, |all, id| all.bind_values("one", &[&id]).execute("")).sync(&mut peer).await;
        assert!(error(&told).expect("refused").message.contains("1,000 of"), "{:?}", error(&told));
        assert!(tags(&told).matches('C').count() <= 100, "{}", tags(&told));
        peer.query("rollback").await;
        // A row that a trigger makes many is refused at once, not at the commit.
        peer.query("begin").await;
        let told = peer.query("insert into noted (id, n) values (1, 1)").await;
        assert!(error(&told).expect("refused").message.contains("200 of"), "{:?}", error(&told));
        drop(peer);
    }
    assert_eq!(gate.count("select count(*) from orders where amount >= 0").await, 3000);
    gate.stop().await;
}

#[tokio::test]
async fn a_trigger_that_nobody_has_told_the_gate_of_is_seen_at_the_commit_at_the_latest() {
    let gate = limited("late").await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("begin").await;
    let owner = superuser(&gate.database).await;
    owner
        .batch_execute("create trigger t after insert on plain for each row execute function note()")
        .await
        .expect("made");
    let told = ask().run("insert into plain (id) values (1)").sync(&mut peer).await;
    let commit = peer.query("commit").await;
    let refused = error(&told).or(error(&commit)).expect("refused");
    assert!(refused.message.contains("200 of"), "{refused:?}");
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_comes_behind_the_end_of_a_block_in_its_pipeline_is_counted_for_itself() {
    let gate = limited("behind").await;
    const MUCH: &str = "delete from orders where id <= 200";
    const LITTLE: &str = "update orders set amount = amount where id = 1";
    for end in ["rollback", "commit"] {
        for first in ["select 1", LITTLE] {
            let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
            ask().run("begin").run(first).sync(&mut peer).await;
            let told = ask().run(end).run(MUCH).sync(&mut peer).await;
            assert!(error(&told).expect("refused").message.contains("200 of"), "{end} {first}");
            // The same by what was prepared before.
            ask().run("begin").run(first).parse("s", MUCH).sync(&mut peer).await;
            let told = ask().run(end).run_named("s").sync(&mut peer).await;
            assert!(error(&told).expect("refused").message.contains("200 of"), "{end} {first}");
            drop(peer);
        }
    }
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    gate.stop().await;
}

#[tokio::test]
async fn tags_are_not_believed_any_more_once_something_was_defined() {
    let (port, passed) = recorder(cluster().port()).await;
    let gate = Gate::start_recorded(&format!("{SHOP}{TABLES}"), port).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let is_asked = async |peer: &mut Peer| {
        let before = counts(&passed);
        peer.query("begin").await;
        assert_eq!(error(&peer.query("update orders set amount = amount where id = 1").await), None);
        let is_asked = counts(&passed) > before;
        peer.query("rollback").await;
        is_asked
    };
    // The gate looks for what is new all the time, and may just have done so.
    until("it has looked", async || {
        let asked = is_asked(&mut peer).await;
        if asked {
            peer = Peer::through(&gate.grant(Access::Write).await).await;
        }
        !asked
    })
    .await;
    let owner = superuser(&gate.database).await;
    owner.batch_execute("create table newer (id int)").await.expect("made");
    let took = until("the new table is seen", async || is_asked(&mut peer).await).await;
    assert!(took < std::time::Duration::from_secs(30), "a new table is seen");
    assert!(is_asked(&mut peer).await, "and stays so for this session");
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn the_first_answers_of_a_pipeline_come_while_the_target_works_on_the_last() {
    let gate = limited("early").await;
    let mut owner = superuser(&gate.database).await;
    let blocker = owner.transaction().await.expect("begun");
    blocker.execute("update orders set amount = 0 where id = 90", &[]).await.expect("updated");
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("begin").await;
    // PostgreSQL sends what it has said once that is 8 KiB.
    let one = ask().parse("one", "update orders set amount = 1 where id = $1 returning repeat('x', 300)");
    let many = (1..=90).map(|id| id.to_string());
    many.fold(one, |all, id| all.bind_values("one", &[&id]).execute("")).and_sync().send(&mut peer).await;
    assert_eq!(tags(&peer.until(b'C').await), "12DC");
    blocker.rollback().await.expect("rolled back");
    assert_eq!(tags(&peer.until(b'Z').await), "2DC".repeat(89) + "Z");
    assert_eq!(tags(&peer.query("commit").await), "CZ");
    assert_eq!(gate.count("select count(*) from orders where amount = 1").await, 90);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn the_target_is_not_asked_in_a_transaction_that_has_failed() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let first = ["begin", "savepoint a", "update orders set amount = 1 where id = 1", "release a", "savepoint b"];
    for sql in first {
        assert_eq!(error(&ask().run(sql).sync(&mut peer).await), None, "{sql}");
    }
    let again = ask().run("insert into orders (id, customer_id, amount) values (1, 1, 1)").sync(&mut peer).await;
    assert_eq!(error(&again).expect("taken").sqlstate, "23505");
    // As drivers do that prepare everything: what a Flush brings is only that it was read.
    ask().parse("back", "rollback to b").and_flush().send(&mut peer).await;
    assert_eq!(tags(&peer.until(b'1').await), "1");
    assert_eq!(tags(&ask().bind("", "back").execute("").sync(&mut peer).await), "2CZ");
    // What comes behind it in one pipeline is counted again.
    let again = ask().run("insert into orders (id, customer_id, amount) values (1, 1, 1)").sync(&mut peer).await;
    assert_eq!(error(&again).expect("taken").sqlstate, "23505");
    let behind = ask().run_named("back").run("update orders set amount = 2 where id = 2").and_flush();
    behind.send(&mut peer).await;
    assert_eq!(tags(&ask().sync(&mut peer).await), "2C12CZ");
    assert_eq!(tags(&peer.query("commit").await), "CZ");
    assert_eq!(gate.count("select sum(amount)::bigint from orders where id in (1, 2)").await, 3);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn reading_on_from_a_cursor_is_counted_where_its_query_may_write() {
    let (port, passed) = recorder(cluster().port()).await;
    let gate = Gate::start_recorded(&format!("{SHOP}{TABLES}"), port).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let calm = "declare c cursor for select id from orders order by id";
    let wild = "declare c cursor for select id, own() from orders order by id";
    let code = "select own()";
    for way in [false, true] {
        for (before, is_counted) in [
            (vec![calm], false),
            (vec![calm, "savepoint s", "update orders set amount = amount where id = 1", "rollback to s"], false),
            (vec![wild], true),
            (vec![calm, "close c", wild], true),
            (vec![calm, code], true),
            (vec![wild, "close c", calm], false),
        ] {
            peer.query("begin").await;
            for sql in &before {
                assert_eq!(error(&either_way(&mut peer, sql, way).await), None, "{sql}");
            }
            let counted = counts(&passed);
            for first in ["1", "2"] {
                let fetched = either_way(&mut peer, "fetch 1 from c", way).await;
                assert_eq!(rows(&fetched)[0][0], first, "{before:?}");
            }
            assert_eq!(counts(&passed) > counted, is_counted, "{before:?} {way}");
            peer.query("rollback").await;
        }
    }
    drop(peer);
    gate.stop().await;
}
