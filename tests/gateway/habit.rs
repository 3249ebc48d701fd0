//! Transactions that are like the ones before: their COMMIT finds its count there already, and is judged by it only
//! where it says all.

use dbgate::core::grant::Access;

use super::told::counts;
use super::trips::waits;
use crate::support::gate::{AT_MOST_100, Gate, SHOP, cluster, superuser};
use crate::support::recorder::recorder;
use crate::support::requests::{ask, either_way};
use crate::support::wire::{Peer, error, rows};

const TABLES: &str = "
create table plain (id int primary key, n int); insert into plain select i, 0 from generate_series(1, 50) i;
create table late (id int primary key deferrable initially deferred, n int references plain deferrable initially deferred);
create function clear() returns trigger language plpgsql as 'begin delete from orders where id <= 200; return new; end';
";

/// One transaction of these statements, each a turn of its own.
async fn transaction(peer: &mut Peer, statements: &[&str], way: bool) {
    for sql in statements {
        assert_eq!(error(&either_way(peer, sql, way).await), None, "{sql}");
    }
}

#[tokio::test]
async fn the_third_of_a_kind_waits_for_the_target_once_less() {
    for way in [false, true] {
        let (port, passed) = recorder(cluster().port()).await;
        let gate = Gate::start_recorded(&format!("{SHOP}{TABLES}"), port).await;
        let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
        peer.query("select 'the session'").await;
        let mut seen = Vec::new();
        // A read in between is a turn as well; where a habit ends, nothing goes wrong.
        let one = ["begin", "select 1", "update plain set n = n + 1 where id = 1", "commit"];
        let two =
            ["begin", "update plain set n = n + 1 where id = 1", "update plain set n = n + 1 where id = 2", "commit"];
        let read = ["begin", "update plain set n = n + 1 where id = 1", "select n from plain where id = 1", "commit"];
        for statements in [one, one, one, one, two, two, two, read] {
            let before = (waits(&passed), counts(&passed));
            transaction(&mut peer, &statements, way).await;
            seen.push((waits(&passed) - before.0, counts(&passed) - before.1));
        }
        let first = seen[0];
        assert_eq!(first.1, 1, "{seen:?}");
        // Of the last turn the Sync may have come late to the one before.
        let saved = |at: usize| (seen[at].0 + 1 == first.0, seen[at].1);
        assert_eq!((saved(2), saved(3)), ((true, 1), (true, 1)), "{seen:?}");
        // All of these have three turns: the first that is different in nothing but what it runs goes on alike.
        assert_eq!((seen[5].1, seen[6].1, seen[7].1), (1, 1, 1), "{seen:?}");
        assert_eq!(gate.count("select sum(n) from plain").await, 4 + 6 + 1);
        drop(peer);
        gate.stop().await;
    }
}

#[tokio::test]
async fn what_comes_behind_such_a_count_is_counted_as_well() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    for way in [false, true] {
        let grant = gate.grant(Access::Write).await;
        let mut peer = Peer::through(&grant).await;
        let short = ["begin", "update plain set n = 1 where id = 1", "commit"];
        transaction(&mut peer, &short, way).await;
        transaction(&mut peer, &short, way).await;
        let (little, much) = ("update plain set n = 2 where id = 2", "update plain set n = 2 where id between 3 and 9");
        transaction(&mut peer, &["begin", little, much, "commit"], way).await;
        // In one turn with the COMMIT there is no other count.
        transaction(&mut peer, &short, way).await;
        transaction(&mut peer, &short, way).await;
        transaction(&mut peer, &["begin", little], way).await;
        let told = match way {
            true => ask().run(much).run("commit").sync(&mut peer).await,
            false => peer.query(&format!("{much}; commit")).await,
        };
        assert_eq!(error(&told), None);
        drop(peer);
        let changed = |line: &serde_json::Value| {
            let is_it = line.get("k").and_then(serde_json::Value::as_str) == Some("impact");
            is_it.then(|| line["changes"][0]["rows"].as_u64())
        };
        let changed: Vec<_> = gate.record(&grant).await.iter().filter_map(changed).flatten().collect();
        assert_eq!(changed, [1, 1, 8, 1, 1, 8]);
    }
    gate.stop().await;
}

#[tokio::test]
async fn what_is_deferred_to_the_commit_is_counted_there() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let gate = Gate::without_pack("habit_late", &format!("{SHOP}{TABLES}"), &policy).await;
    for way in [false, true] {
        let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
        for id in [1, 2] {
            transaction(&mut peer, &["begin", &format!("update plain set n = 5 where id = {id}"), "commit"], way).await;
        }
        for id in 1..4 {
            let insert = format!("insert into late values ({id}, 1)");
            transaction(&mut peer, &["begin", &insert, "commit"], way).await;
        }
        transaction(&mut peer, &["begin", "insert into late values (1, 2)"], way).await;
        let told = either_way(&mut peer, "commit", way).await;
        assert_eq!(error(&told).expect("there twice").sqlstate, "23505");
        transaction(&mut peer, &["begin", "insert into late values (4, 2000)"], way).await;
        let told = either_way(&mut peer, "commit", way).await;
        assert_eq!(error(&told).expect("refers to nothing").sqlstate, "23503");
        // A trigger that nobody has told the gate of yet, and that runs at the commit.
        either_way(&mut peer, "begin", way).await;
        let owner = superuser(&gate.database).await;
        let trigger = "create constraint trigger t after update on plain deferrable initially deferred \
            for each row execute function clear()";
        owner.batch_execute(trigger).await.expect("made");
        let told = either_way(&mut peer, "update plain set n = 6 where id = 3", way).await;
        let commit = either_way(&mut peer, "commit", way).await;
        let refused = error(&told).or(error(&commit)).expect("refused");
        assert!(refused.message.contains("200 of"), "{refused:?}");
        owner.batch_execute("drop trigger t on plain; delete from late").await.expect("dropped");
        assert_eq!(rows(&peer.query("select count(*) from orders").await), [["3000"]]);
        drop(peer);
    }
    gate.stop().await;
}
