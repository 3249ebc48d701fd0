//! How often the target is waited for: a read costs what it costs directly, a counted write one more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;

use crate::support::gate::{Gate, SHOP, cluster};
use crate::support::recorder::{Connections, Passed, recorder, recorder_that_holds};
use crate::support::requests::either_way;
use crate::support::wire::{Peer, error, tags};

/// Messages after which the target's answer is waited for: Flush, Sync and Query.
pub fn waits(passed: &Connections) -> usize {
    let connections = passed.lock().expect("whole");
    let is_sessions = |passed: &&Vec<Passed>| {
        passed.iter().any(|one| matches!(one, Passed::Asked(_, text) if text.contains("'the session'")))
    };
    let passed = connections.iter().find(is_sessions).expect("the session's connection");
    passed.iter().filter(|one| matches!(one, Passed::Asked(b'H' | b'S' | b'Q', _))).count()
}

#[tokio::test]
async fn a_read_adds_no_wait_for_the_target_and_a_counted_write_one() {
    let (port, passed) = recorder(cluster().port()).await;
    let big = "create table big (id int primary key, other int unique, v int);
        insert into big select i, i, i from generate_series(1, 120000) i; analyze big;";
    let gate = Gate::start_recorded(&format!("{SHOP}\n{big}"), port).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("select 'the session'").await;
    let prepared = |sql: &str, out: &mut BytesMut| {
        frontend::parse_statement("", sql, out);
        frontend::bind("", "", &[], out);
        frontend::execute("", 0, out);
        frontend::sync(out);
    };
    let simple = |sql: &str, out: &mut BytesMut| frontend::query(sql, out);
    // Directly each of them is one wait.
    let cases: [(&str, usize); 13] = [
        ("select id from orders where id = 5", 1),
        ("select id, email from customers where id = 5", 1),
        ("select shout(name) from customers where id = 5", 1),
        ("update orders set amount = 5 where id = 5", 2),
        ("update customers set name = 'n' where id = 5 returning *", 2),
        ("insert into orders values (5000, 1, 1)", 2),
        ("delete from orders where id = 5000", 2),
        // A write to a large table waits for the planner, unless a key names its row.
        ("update big set v = 1 where id = 7", 2),
        ("delete from big where other = 8 and v > 5", 2),
        ("update big set v = 1 where v = 9", 3),
        ("begin", 1),
        ("update orders set amount = 6 where id = 6", 2),
        ("commit", 2),
    ];
    let ways: [&dyn Fn(&str, &mut BytesMut); 2] = [&simple, &prepared];
    for way in ways {
        // Of the last one in a block the Sync may be on its way still.
        let (before, mut most) = (waits(&passed), 0);
        for (sql, waited_for) in cases {
            most += waited_for;
            let mut out = BytesMut::new();
            way(sql, &mut out);
            peer.send(&out).await;
            assert_eq!(error(&peer.until(b'Z').await), None, "{sql}");
            let waited = waits(&passed) - before;
            assert!(waited <= most, "up to {sql}: {waited} waits, not {most}");
        }
    }
    drop(peer);
    gate.stop().await;
}

/// The target's own answer to the Sync may take as long as it likes.
#[tokio::test]
async fn in_a_block_that_goes_on_a_counted_write_waits_for_its_count_only() {
    let holds = Arc::new(AtomicBool::new(false));
    let (port, _) = recorder_that_holds(cluster().port(), holds.clone()).await;
    let gate = Gate::start_recorded(SHOP, port).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    assert_eq!(peer.query("begin").await.last().map(|one| one.body.to_vec()), Some(b"T".to_vec()));
    for (at, way) in [false, true, false].into_iter().enumerate() {
        let sql = format!("update orders set amount = {} where id = 6", at + 100);
        holds.store(true, Ordering::SeqCst);
        let told = either_way(&mut peer, &sql, way).await;
        holds.store(false, Ordering::SeqCst);
        assert_eq!(
            (error(&told), told.last().map(|one| (one.tag, one.body.to_vec()))),
            (None, Some((b'Z', b"T".to_vec())))
        );
        // What comes next finds the session in order, also where it fails.
        assert_eq!(error(&peer.query("savepoint s; select 1/0").await).expect("fails").sqlstate, "22012");
        peer.query("rollback to s").await;
    }
    assert_eq!(tags(&peer.query("commit").await), "CZ");
    assert_eq!(gate.count("select amount::int8 from orders where id = 6").await, 102);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_long_pipeline_is_sent_on_while_it_comes_and_judged_before_its_end() {
    let (port, passed) = recorder(cluster().port()).await;
    let gate = Gate::start_recorded(SHOP, port).await;
    let grant = gate.grant(Access::Write).await;
    // Each row takes a kilobyte on its way.
    let inserts = |first: i64, rows: i64| {
        let (mut out, filler) = (BytesMut::new(), "x".repeat(1024));
        frontend::parse_statement("row", "insert into orders select $1, 1, 1 where $2 <> ''", &mut out);
        for id in first..first + rows {
            frontend::bind("", "row", &[Some(&id.to_string()), Some(&filler)], &mut out);
            frontend::execute("", 0, &mut out);
        }
        out
    };
    let executed = || {
        let connections = passed.lock().expect("whole");
        connections.iter().flatten().filter(|one| matches!(one, Passed::Asked(b'E', _))).count()
    };
    let rows = async |gate: &Gate| gate.count("select count(*) from orders where id >= 10000").await;
    // One that is given up in the middle, one that ends, and one that goes beyond what policy allows.
    let mut peer = Peer::through(&grant).await;
    let before = executed();
    peer.send(&inserts(10_000, 90)).await;
    while executed() < before + 50 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(rows(&gate).await, 0);
    drop(peer);
    let mut peer = Peer::through(&grant).await;
    for (first, count, state, there) in [(20_000, 90, None, 90), (30_000, 110, Some("42501"), 90)] {
        let mut out = inserts(first, count);
        frontend::close(frontend::Named::Statement, "row", &mut out);
        frontend::sync(&mut out);
        peer.send(&out).await;
        assert_eq!(error(&peer.until(b'Z').await).map(|error| error.sqlstate).as_deref(), state);
        assert_eq!(rows(&gate).await, there);
    }
    drop(peer);
    gate.stop().await;
}
