//! Transactions that are like the ones before: their COMMIT finds its count there already, and is judged by it only
//! where it says all.

use dbgate::core::grant::Access;

use super::told::counts;
use super::trips::waits;
use crate::support::gate::{AT_MOST_100, Gate, SHOP, cluster, superuser};
use crate::support::recorder::recorder;
use crate::support::requests::{Requests, ask, either_way};
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

/// What an application may have: a function that runs a text, and one that says that it changes nothing.
const CODE: &str = "
create table evil (id bigint generated always as identity, label text);
create function writes(n int) returns boolean language plpgsql as
  'begin insert into evil (label) select ''x'' from generate_series(1, n); return true; end';
create function is_calm() returns boolean language plpgsql immutable as 'begin return writes(500); end';
create table jobs (t text);
create function job() returns trigger language plpgsql as 'begin execute new.t; return new; end';
create trigger t after insert on jobs for each row execute function job();
create function run(t text) returns int language plpgsql as 'begin execute t; return 1; end';
";

#[tokio::test]
async fn what_calls_code_before_it_runs_ends_such_a_count() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let gate = Gate::without_pack("habit_code", &format!("{SHOP}{TABLES}{CODE}"), &policy).await;
    let hidden = |sql: &str| format!("select run('{}')", sql.replace('\'', "''"));
    let domain = hidden("create domain pg_temp.d as int check (writes(current_setting('my.n')::int))");
    let (nothing, much) = ("set my.n = 0".to_owned(), "set my.n = 500".to_owned());
    let prepare = hidden("prepare hid as select '{5}'::pg_temp.d[]");
    // Its plan is made anew.
    let path = "set search_path = pg_catalog, public".to_owned();
    type Behind = fn(Requests) -> Requests;
    // Under a name that is a COMMIT to the gate.
    let (gone, other) = ("deallocate c", "prepare c as select is_calm()");
    let job = |sql: &str| format!("insert into jobs values ('{sql}')");
    let cases: [(Vec<String>, Behind); 6] = [
        (vec![hidden(gone), hidden(other)], |ask| ask.bind("", "c")),
        (vec![job(gone), job(other)], |ask| ask.bind("", "c")),
        (vec![hidden("prepare hid as select is_calm()")], |ask| ask.bind("", "hid")),
        (vec![], |ask| ask.parse("", "select is_calm()").bind("", "")),
        (vec![domain.clone(), much.clone()], |ask| ask.parse("x", "select '{5}'::pg_temp.d[]")),
        (vec![nothing, domain, prepare, much, path], |ask| ask.describe_statement("hid")),
    ];
    for (before, behind) in cases {
        let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
        ask().parse("c", "commit").sync(&mut peer).await;
        for sql in &before {
            assert_eq!(error(&peer.query(sql).await), None, "{sql}");
        }
        let write = ["begin", "update plain set n = 3 where id = 3"];
        for _ in 0..2 {
            transaction(&mut peer, &[write[0], write[1], "commit"], true).await;
        }
        transaction(&mut peer, &write, true).await;
        let told = behind(ask()).run("commit").sync(&mut peer).await;
        // Refused by its count, or by what was bound.
        let said = error(&told).map(|error| error.sqlstate).unwrap_or_default();
        let made = gate.count("select count(*) from evil").await;
        assert_eq!(made, 0, "{before:?}: {said}");
        drop(peer);
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_is_older_than_its_locks_does_not_tell_what_a_commit_does() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let parts = "create table events (id int, at date) partition by range (at);
        create table events_1 partition of events for values from ('2030-01-01') to ('2031-01-01');";
    let gate = Gate::without_pack("habit_old", &format!("{SHOP}{TABLES}{parts}"), &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let begin = ["begin isolation level repeatable read", "select 1"];
    let write = "update plain set n = 4 where id = 4";
    for _ in 0..2 {
        transaction(&mut peer, &[begin[0], begin[1], write, "commit"], true).await;
    }
    transaction(&mut peer, &begin, true).await;
    let owner = superuser(&gate.database).await;
    let trigger = "create constraint trigger t after update on plain deferrable initially deferred \
        for each row execute function clear()";
    owner.batch_execute(trigger).await.expect("made");
    let told = either_way(&mut peer, write, true).await;
    let commit = either_way(&mut peer, "commit", true).await;
    let refused = error(&told).or(error(&commit)).expect("refused");
    assert!(refused.message.contains("200 of"), "{refused:?}");
    owner.batch_execute("drop trigger t on plain").await.expect("dropped");
    // Nor what the rows of a relation that it does not see are.
    for way in [false, true] {
        peer.query("rollback").await;
        transaction(&mut peer, &begin, way).await;
        owner
            .batch_execute("create table events_2 partition of events for values from ('2031-01-01') to ('2032-01-01')")
            .await
            .expect("made");
        let insert = "insert into events select i, '2031-05-05' from generate_series(1, 500) i";
        let told = either_way(&mut peer, insert, way).await;
        let commit = either_way(&mut peer, "commit", way).await;
        let refused = error(&told).or(error(&commit)).expect("refused");
        assert!(refused.message.contains("cannot be counted"), "{refused:?}");
        assert_eq!(gate.count("select count(*) from events").await, 0);
        owner.batch_execute("drop table events_2").await.expect("dropped");
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_cursor_that_code_leaves_open_does_not_run_behind_the_count() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let gate = Gate::without_pack("habit_kept", &format!("{SHOP}{CODE}"), &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let declares = [
        "select run('declare c cursor with hold for select writes(500)')",
        "insert into jobs values ('declare c cursor with hold for select writes(500)')",
    ];
    for (way, declare) in [(false, declares[0]), (true, declares[0]), (false, declares[1]), (true, declares[1])] {
        let told = either_way(&mut peer, declare, way).await;
        assert!(error(&told).expect("refused").message.contains("WITH HOLD"), "{:?}", error(&told));
        either_way(&mut peer, "begin", way).await;
        let told = either_way(&mut peer, declare, way).await;
        let commit = either_way(&mut peer, "commit", way).await;
        assert!(error(&told).or(error(&commit)).expect("refused").message.contains("WITH HOLD"));
        // One of the client's own, beside writes that call nothing.
        let honest =
            ["begin", "declare k cursor with hold for select id from orders", "delete from orders where id = 9"];
        transaction(&mut peer, &honest, way).await;
        transaction(&mut peer, &["commit", "fetch 1 from k", "close k"], way).await;
        // What it leaves for itself only is as good as any.
        transaction(&mut peer, &["begin", "select run('declare c cursor for select 1')", "commit"], way).await;
        assert_eq!(rows(&peer.query("select count(*) from pg_cursors").await), [["0"]]);
    }
    assert_eq!(gate.count("select count(*) from evil").await, 0);
    drop(peer);
    gate.stop().await;
}
