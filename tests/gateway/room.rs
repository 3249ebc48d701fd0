//! What sessions share with everybody on the target: room for locks. And what else of locks adds up.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, SHOP, superuser};
use crate::support::requests::ask;
use crate::support::wire::{Peer, code, error, rows, tags};

async fn one(peer: &mut Peer, sql: &str) -> i64 {
    rows(&peer.query(sql).await).concat().concat().parse().expect("a number")
}

/// Sends one statement after the other until one is refused; how many were not, and the words.
async fn until_refused(peer: &mut Peer, most: usize, sql: impl Fn(usize) -> String) -> (usize, String) {
    for count in 0..most {
        if let Some(told) = error(&peer.query(&sql(count)).await) {
            assert_eq!(told.sqlstate, "42501", "{}", told.message);
            return (count, told.detail.unwrap_or_default());
        }
    }
    panic!("nothing refused {}", sql(most));
}

const HELD: &str = "select count(*) from pg_locks where pid = pg_backend_pid() and not fastpath";

#[tokio::test]
async fn advisory_locks_do_not_add_up_until_the_target_has_no_room() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    // A thousand is what an application may have, one by one and all at once.
    let mut peer = Peer::through(&grant).await;
    for key in 0..300 {
        assert_eq!(code(&mut peer, &format!("select pg_advisory_lock({key})")).await, None, "{key}");
    }
    assert_eq!(code(&mut peer, "select pg_advisory_unlock_all()").await, None);
    let many =
        |step: usize| format!("select count(pg_advisory_lock_shared(g)) from generate_series({step}001, {step}999) g");
    let (before, told) = until_refused(&mut peer, 9, many).await;
    assert!(before >= 2 && told.contains("too_many_locks"), "{before} {told}");
    assert!(one(&mut peer, HELD).await < 3_500);
    // Whatever way they are asked for.
    let series = "select pg_try_advisory_lock(g) from generate_series(9001, 9900) g";
    let refused = ask().run(series).sync(&mut peer).await;
    assert!(error(&refused).and_then(|told| told.detail).is_some_and(|told| told.contains("too_many_locks")));
    for sql in ["begin", &format!("declare c cursor for {series}")] {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
    }
    assert_eq!(code(&mut peer, "fetch all from c").await.as_deref(), Some("42501"));
    assert_eq!(code(&mut peer, "rollback").await, None);
    let text = "select query_to_xml('select pg_try_advisory_lock(1)', true, true, '')";
    assert_eq!(code(&mut peer, text).await.as_deref(), Some("42501"));
    // What is released can be taken again.
    assert_eq!(code(&mut peer, "select pg_advisory_unlock_all()").await, None);
    assert_eq!(code(&mut peer, series).await, None);
    // Those of a transaction count as well, and go with it.
    assert_eq!(code(&mut peer, "select pg_advisory_unlock_all(); begin").await, None);
    let many =
        |step: usize| format!("select count(pg_advisory_xact_lock(g)) from generate_series({step}001, {step}999) g");
    let (before, _) = until_refused(&mut peer, 9, many).await;
    assert!(before >= 2);
    assert_eq!(code(&mut peer, "rollback").await, None);
    assert!(one(&mut peer, HELD).await < 10);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn relations_of_ones_own_do_not_add_up_either() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let columns = |from: usize, to: usize| {
        (from..to).map(|column| format!("c{column} int unique")).collect::<Vec<_>>().join(", ")
    };
    let mut peer = Peer::through(&grant).await;
    // Each in one transaction.
    let same = |sql: &'static str| move |step: usize| sql.replace('#', &step.to_string());
    for (made, most) in [
        ("select 1 as a into temp a#", 200),
        ("create temp table b# (a int)", 200),
        ("create temp table d# as select 1 as a", 200),
        ("explain analyze create temp table e# as select 1 as a", 200),
        ("create temp table g# (a int primary key, b serial)", 66),
    ] {
        assert_eq!(code(&mut peer, "begin").await, None);
        let (before, told) = until_refused(&mut peer, 300, same(made)).await;
        assert!(before == most && told.contains("too_many_temporary"), "{made}: {before} {told}");
        assert_eq!(code(&mut peer, "rollback").await, None);
    }
    let wide = format!("create temp table w ({})", columns(0, 300));
    assert_eq!(code(&mut peer, &wide).await.as_deref(), Some("42501"));
    // Indexes that are taken over, and a table for each.
    assert_eq!(code(&mut peer, &format!("create temp table w ({})", columns(0, 190))).await, None);
    assert_eq!(code(&mut peer, "begin").await, None);
    let (before, _) = until_refused(&mut peer, 30, same("create temp table l# (like w including indexes)")).await;
    assert!((2..20).contains(&before), "{before}");
    assert_eq!(code(&mut peer, "rollback").await, None);
    // A transaction that is opened behind savepoints keeps a lock for each.
    for sql in ["drop table w", "create temp table s (a int)", "begin"] {
        assert_eq!(code(&mut peer, sql).await, None, "{sql}");
    }
    let (before, told) =
        until_refused(&mut peer, 3_000, |step| format!("savepoint s{step}; insert into s values (1)")).await;
    assert!(before >= 1_000 && told.contains("too_many_locks"), "{before} {told}");
    assert_eq!(code(&mut peer, "rollback").await, None);
    // In many transactions.
    let (before, told) =
        until_refused(&mut peer, 12, |step| format!("create temp table m{step} ({})", columns(0, 150))).await;
    assert!(before >= 6 && told.contains("too_many_temporary"), "{before} {told}");
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn only_fetch_and_execute_read_on() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let run = |name: &str| format!("select length(cursor_to_xml('{name}', 100000, true, true, '')::text)");
    assert_eq!(code(&mut peer, "begin").await, None);
    let lock = "select id from orders where id > 0 for update";
    assert_eq!(code(&mut peer, &format!("declare c cursor for {lock}")).await, None);
    assert_eq!(code(&mut peer, &run("c")).await.as_deref(), Some("42501"));
    assert_eq!(code(&mut peer, "rollback; begin").await, None);
    let bound = ask().parse("s", "delete from orders where id < 40 returning id").bind("p", "s").sync(&mut peer).await;
    assert_eq!(tags(&bound), "12Z");
    let inner = run("p").replace('\'', "''");
    let within = format!("select query_to_xml('{inner}', true, true, '')");
    for sql in [run("p"), within] {
        assert_eq!(code(&mut peer, "savepoint a").await, None);
        assert_eq!(code(&mut peer, &sql).await.as_deref(), Some("42501"), "{sql}");
        assert_eq!(code(&mut peer, "rollback to a").await, None);
    }
    assert_eq!(code(&mut peer, "commit").await, None);
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn rows_locked_in_front_of_begin_do_not_stay_locked_behind_it() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let lock = "select id from orders where id > 0 for update";
    assert_eq!(code(&mut peer, &format!("{lock}; begin; select 1")).await.as_deref(), Some("42501"));
    assert_eq!(code(&mut peer, "rollback").await, None);
    let refused = ask().run(lock).run("begin").sync(&mut peer).await;
    assert_eq!(error(&refused).map(|told| told.sqlstate).as_deref(), Some("42501"));
    // The block has failed: nothing stays locked.
    assert!(refused.last().is_some_and(|ready| &*ready.body == b"E"));
    let admin = superuser(&gate.database).await;
    let free = admin.query("select id from orders for update skip locked", &[]).await.expect("free");
    assert_eq!(free.len(), 3000);
    assert_eq!(code(&mut peer, "rollback").await, None);
    // By itself, and behind BEGIN, it is what it was.
    assert_eq!(code(&mut peer, lock).await, None);
    assert_eq!(code(&mut peer, "begin; select id from orders where id = 1 for update; commit").await, None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_locks_can_be_prepared_and_run() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "prepare x as select id from orders where id = $1 for update").await, None);
    for sql in ["execute x(5)", "select touch_all()", "execute x(6)", "begin; execute x(7); commit"] {
        let told = code(&mut peer, sql).await;
        assert_eq!(told.is_some(), sql.contains("touch_all"), "{sql}: {told:?}");
    }
    // What the name has come to mean since is what counts.
    assert_eq!(code(&mut peer, "create temp view orders as select * from public.orders where id > 0").await, None);
    assert_eq!(code(&mut peer, "begin").await, None);
    assert!(code(&mut peer, "execute x(5)").await.is_some());
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_snapshot_can_be_shared() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let (mut first, mut other) = (Peer::through(&grant).await, Peer::through(&grant).await);
    let begin = "begin; set transaction isolation level repeatable read, read only";
    assert_eq!(code(&mut first, begin).await, None);
    let snapshot = rows(&first.query("select pg_catalog.pg_export_snapshot()").await).concat().concat();
    assert!(!snapshot.is_empty());
    gate.count("with gone as (delete from orders where id = 1 returning 1) select count(*) from gone").await;
    assert_eq!(code(&mut other, begin).await, None);
    assert_eq!(code(&mut other, &format!("set transaction snapshot '{snapshot}'")).await, None);
    assert_eq!(one(&mut other, "select count(*) from orders").await, 3000);
    drop((first, other));
    gate.stop().await;
}
