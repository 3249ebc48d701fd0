//! What the record says of statements that came to nothing: each has its outcome, once, and the evidence
//! verifies.

use bytes::BytesMut;
use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;
use serde_json::Value;

use crate::support::gate::{AT_MOST_100, Gate, SHOP};
use crate::support::requests::ask;
use crate::support::until::until;
use crate::support::wire::{Peer, error, rows};

/// A constraint that is looked at when a transaction commits.
const LATE: &str = "create table late (id int unique deferrable initially deferred);";

const ONE: &str = "update orders set amount = 0 where id = 1";
const TWO: &str = "update orders set amount = 0 where id = 2";
const ALL: &str = "delete from orders where id > 0";

async fn gate(database: &str) -> Gate {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let grants = "grant select, insert, update, delete on late to public;";
    Gate::without_pack(&format!("outcomes_{database}"), &format!("{SHOP}{LATE}{grants}"), &policy).await
}

/// The outcomes in a session's record, in their order, and what has none in front. The evidence must verify.
pub async fn outcomes(gate: &Gate, grant: &GrantAnswer) -> Vec<String> {
    let mut told = Vec::new();
    for line in gate.record(grant).await {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or_default();
        let place = format!("{}.{}", number("no"), number("part"));
        match text("k").as_str() {
            "result" => told.push(format!("{place} {}", text("tag"))),
            kind @ ("error" | "skipped" | "undone") => told.push(format!("{place} {kind} {}", text("state"))),
            _ => {}
        }
        // A line may stand for several.
        let first = told.last().cloned().unwrap_or_default();
        if let (true, Some(times)) = (text("k") != "stmt", line.get("times").and_then(Value::as_u64)) {
            told.extend((1..times).map(|next| first.replacen(&place, &format!("{}.0", number("no") + next), 1)));
        }
    }
    told
}

/// What one connection does, and what its record then says.
macro_rules! told {
    ($gate:expr, |$peer:ident| $does:block) => {{
        let grant = $gate.grant(Access::Write).await;
        let mut $peer = Peer::through(&grant).await;
        $does
        drop($peer);
        outcomes(&$gate, &grant).await
    }};
}

#[tokio::test]
async fn what_is_behind_an_error_is_skipped_and_what_is_before_it_undone() {
    let gate = gate("errors").await;
    let told = told!(gate, |peer| {
        let failed = ask().run(ONE).run("select 1/0").run(TWO).run("select 1").sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "22012");
        assert_eq!(rows(&ask().run("select 3").sync(&mut peer).await), [["3"]]);
    });
    let skipped = ["1.0 UPDATE 1", "2.0 error 22012", "3.0 skipped 22012", "4.0 skipped 22012", "1.0 undone 22012"];
    assert_eq!(told, [&skipped[..], &["5.0 SELECT 1"]].concat());
    // The error of a text that nothing runs is nobody's who has another.
    let told = told!(gate, |peer| {
        let failed = ask().parse("x", "select no_such_column from orders").run(ONE).sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "42703");
    });
    assert_eq!(told, ["1.0 skipped 42703"]);
    // Of what is only bound each has its own.
    let told = told!(gate, |peer| {
        let bound = ask().parse("a", "select 1").bind("a", "a").parse("b", "select 'x'::text::int").bind("b", "b");
        let failed = bound.parse("c", "select 3").bind("c", "c").sync(&mut peer).await;
        assert_eq!(error(&failed).map(|error| error.sqlstate).as_deref(), Some("22P02"));
    });
    assert_eq!(told, ["1.0 (bound)", "2.0 error 22P02", "3.0 skipped 22P02"]);
    // Several statements of one Query.
    let told = told!(gate, |peer| {
        let failed = peer.query(&format!("{ONE}; select 1/0; {TWO}; select 1")).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "22012");
    });
    assert_eq!(told, ["1.0 UPDATE 1", "1.1 error 22012", "1.2 skipped 22012", "1.3 skipped 22012", "1.0 undone 22012"]);
    // A text that is no statement has an outcome too, and takes nobody else's.
    let told = told!(gate, |peer| {
        let done = ask().run("-- nothing").run(ONE).sync(&mut peer).await;
        assert!(error(&done).is_none());
    });
    assert_eq!(told, ["1.0 ", "2.0 UPDATE 1"]);
    let told = told!(gate, |peer| {
        let failed = ask().execute("nothing").run(TWO).sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "34000");
    });
    assert_eq!(told, ["1.0 skipped 34000"]);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 1);
    gate.stop().await;
}

#[tokio::test]
async fn what_a_commit_takes_back_is_undone() {
    let gate = gate("commits").await;
    let twice = "insert into late values (1), (1)";
    // At the Sync, by COMMIT in a pipeline and in a Query, and with all of it in one Query.
    let told = told!(gate, |peer| {
        let failed = ask().run(twice).sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "23505");
    });
    assert_eq!(told, ["1.0 INSERT 0 2", "1.0 undone 23505"]);
    let told = told!(gate, |peer| {
        let failed = ask().run("begin").run(twice).run("commit").run("select 1").sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "23505");
    });
    assert_eq!(told, ["1.0 BEGIN", "2.0 INSERT 0 2", "3.0 skipped 23505", "2.0 undone 23505"]);
    let told = told!(gate, |peer| {
        for sql in ["begin", twice, "commit"] {
            peer.query(sql).await;
        }
    });
    assert_eq!(told, ["1.0 BEGIN", "2.0 INSERT 0 2", "3.0 skipped 23505", "2.0 undone 23505"]);
    let told = told!(gate, |peer| {
        peer.query(&format!("begin; {twice}; commit; select 1")).await;
    });
    assert_eq!(told, ["1.0 BEGIN", "1.1 INSERT 0 2", "1.2 skipped 23505", "1.3 skipped 23505", "1.1 undone 23505"]);
    // What was committed before stands.
    let told = told!(gate, |peer| {
        let failed = ask().run("begin").run(ONE).run("commit").run(TWO).run("select 1/0").sync(&mut peer).await;
        assert_eq!(error(&failed).expect("fails").sqlstate, "22012");
    });
    let committed = ["1.0 BEGIN", "2.0 UPDATE 1", "3.0 COMMIT", "4.0 UPDATE 1", "5.0 error 22012", "4.0 undone 22012"];
    assert_eq!(told, committed);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 1);
    assert_eq!(gate.count("select count(*) from late").await, 0);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_what_it_did_takes_its_transaction_along() {
    let gate = gate("vetoes").await;
    let told = told!(gate, |peer| {
        assert_eq!(error(&ask().run(ONE).run(ALL).sync(&mut peer).await).expect("refused").sqlstate, "42501");
    });
    assert_eq!(told, ["1.0 UPDATE 1", "2.0 DELETE 3000", "2.0 error 42501", "1.0 undone 42501"]);
    let told = told!(gate, |peer| {
        assert_eq!(error(&peer.query(&format!("{ONE}; {ALL}; select 1")).await).expect("refused").sqlstate, "42501");
    });
    let vetoed = ["1.0 UPDATE 1", "1.1 DELETE 3000", "1.1 error 42501", "1.2 skipped 42501", "1.0 undone 42501"];
    assert_eq!(told, vetoed);
    // In a block, where more follows the refusal; and with a COMMIT behind it in the pipeline.
    let told = told!(gate, |peer| {
        for sql in ["begin", ONE, ALL, "do $$ begin null; end $$", "select 1", "rollback"] {
            peer.query(sql).await;
        }
    });
    let block = ["1.0 BEGIN", "2.0 UPDATE 1", "3.0 DELETE 3000", "3.0 error 42501"];
    let failed = ["4.0 error 25P02", "5.0 error 25P02", "2.0 undone 42501", "6.0 ROLLBACK"];
    assert_eq!(told, [&block[..], &failed].concat());
    let told = told!(gate, |peer| {
        let told = ask().run("begin").run(ONE).run(ALL).run("commit").sync(&mut peer).await;
        assert_eq!(error(&told).expect("refused").sqlstate, "42501");
    });
    assert_eq!(told, [&block[..], &["4.0 skipped 42501", "2.0 undone 42501"]].concat());
    // What cannot run as it is, is refused; what came before it in its transaction goes with it.
    let told = told!(gate, |peer| {
        let told = ask().run(ONE).parse("", "select 1").bind("p", "").run("fetch all from p").run(TWO);
        assert_eq!(error(&told.sync(&mut peer).await).expect("refused").sqlstate, "42501");
    });
    let fetched = ["1.0 UPDATE 1", "3.0 (bound)", "2.0 error 42501", "1.0 undone 42501"];
    assert_eq!(told, fetched);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    gate.stop().await;
}

#[tokio::test]
async fn what_the_client_takes_back_or_leaves_open_is_undone() {
    let gate = gate("left").await;
    let told = told!(gate, |peer| {
        let script =
            ["begin", ONE, "savepoint s", "select 1/0", "rollback to s", TWO, "commit", "begin", ONE, "rollback"];
        for sql in script {
            assert_eq!(error(&peer.query(sql).await).is_some(), sql == "select 1/0", "{sql}");
        }
        peer.query("begin").await;
        peer.query(TWO).await;
    });
    let stands = ["1.0 BEGIN", "2.0 UPDATE 1", "3.0 SAVEPOINT", "4.0 error 22012", "5.0 ROLLBACK", "6.0 UPDATE 1"];
    let undone = ["7.0 COMMIT", "8.0 BEGIN", "9.0 UPDATE 1", "9.0 undone ", "10.0 ROLLBACK"];
    assert_eq!(told, [&stands[..], &undone, &["11.0 BEGIN", "12.0 UPDATE 1", "12.0 undone "]].concat());
    // Answered, and never synced.
    let told = told!(gate, |peer| {
        let mut out = BytesMut::new();
        frontend::parse_statement("", "update orders set amount = 7 where id = 3", &mut out);
        frontend::bind("", "", &[], &mut out);
        frontend::execute("", 0, &mut out);
        frontend::flush(&mut out);
        peer.send(&out).await;
        peer.until(b'C').await;
    });
    assert_eq!(told, ["1.0 UPDATE 1", "1.0 undone "]);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 2);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_only_bound_has_one_outcome_beside_a_write_that_stands_or_falls() {
    let gate = gate("beside").await;
    let told = told!(gate, |peer| {
        peer.query("begin").await;
        let bound = ask().parse("p", "select 1").run(ONE).bind("p", "p").sync(&mut peer).await;
        assert_eq!(error(&bound), None);
        peer.query("commit").await;
    });
    assert_eq!(told, ["1.0 BEGIN", "2.0 UPDATE 1", "3.0 (bound)", "4.0 COMMIT"]);
    let told = told!(gate, |peer| {
        let refused = ask().parse("p", "select 1").bind("p", "p").run(ALL).sync(&mut peer).await;
        assert_eq!(error(&refused).expect("refused").sqlstate, "42501");
        assert_eq!(rows(&ask().run("select 3").sync(&mut peer).await), [["3"]]);
    });
    let bound = told.iter().filter(|one| one.contains("(bound)")).count();
    assert_eq!((bound, told.iter().filter(|one| one.contains("skipped")).count()), (1, 0), "{told:?}");
}

/// Numbers of the statements that the record says something was changed by, and how many rows.
async fn impacts(gate: &Gate, grant: &GrantAnswer) -> Vec<(u64, u64)> {
    let lines = gate.record(grant).await;
    let impacts = lines.iter().filter(|line| line.get("k").and_then(Value::as_str) == Some("impact"));
    let number = |line: &Value, name: &str| line.pointer(name).and_then(Value::as_u64).unwrap_or_default();
    impacts.map(|line| (number(line, "/no"), number(line, "/changes/0/rows"))).collect()
}

#[tokio::test]
async fn what_was_changed_is_said_of_what_has_changed_it() {
    let gate = gate("changed").await;
    const FAILS: &str = "update orders set amount = 1 / 0 where id = 2";
    for is_pipeline in [false, true] {
        let grant = gate.grant(Access::Write).await;
        let mut peer = Peer::through(&grant).await;
        for sql in ["begin", ONE, "savepoint s"] {
            assert_eq!(error(&peer.query(sql).await), None);
        }
        // What comes behind it in its pipeline does not run at all.
        let failed = match is_pipeline {
            true => ask().run(FAILS).run(TWO).sync(&mut peer).await,
            false => peer.query(FAILS).await,
        };
        assert_eq!(error(&failed).map(|error| error.sqlstate).as_deref(), Some("22012"));
        for sql in ["rollback to s", "commit"] {
            assert_eq!(error(&peer.query(sql).await), None);
        }
        drop(peer);
        assert_eq!(impacts(&gate, &grant).await.last(), Some(&(2, 1)), "{is_pipeline}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_target_that_ends_a_session_has_the_last_word() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    for is_busy in [true, false] {
        let mut peer = Peer::through(&grant).await;
        let process = rows(&peer.query("select pg_backend_pid()").await)[0][0].clone();
        if is_busy {
            let mut query = BytesMut::new();
            frontend::query("select pg_sleep(60)", &mut query);
            peer.send(&query).await;
            let asleep = format!("select count(*) from pg_stat_activity where pid = {process} and state = 'active'");
            until("it sleeps", async || gate.count(&asleep).await > 0).await;
        }
        assert_eq!(gate.count(&format!("select pg_terminate_backend({process})::int::bigint")).await, 1);
        let told = peer.until_closed().await;
        let errors: Vec<_> = told.iter().filter(|message| message.tag == b'E').collect();
        assert_eq!(errors.len(), 1, "{told:?}");
        assert_eq!(
            error(&told).map(|fields| (fields.severity, fields.sqlstate)),
            Some(("FATAL".into(), "57P01".into()))
        );
    }
    gate.stop().await;
}

#[tokio::test]
async fn vacuum_meets_no_block_of_the_gateways() {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let grants = "grant create on schema public to public;";
    let gate = Gate::without_pack("outcomes_vacuum", &format!("{SHOP}{grants}"), &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Admin).await).await;
    for sql in ["create table kept (a int)", "vacuum kept", "vacuum (analyze, verbose) kept", "analyze kept"] {
        assert_eq!(error(&peer.query(sql).await).map(|fields| fields.message), None, "{sql}");
    }
    // In one of the client's it is refused by the target itself.
    peer.query("begin").await;
    assert_eq!(error(&peer.query("vacuum kept").await).map(|fields| fields.sqlstate), Some("25001".into()));
    drop(peer);
    gate.stop().await;
}
