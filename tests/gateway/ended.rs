//! What comes behind the end of a transaction in one pipeline is judged by how things stand then: the
//! target says so with its next ReadyForQuery only.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frontend;

use crate::support::gate::{self, AT_MOST_100, Gate, SHOP};
use crate::support::requests::ask;
use crate::support::wire::{Peer, error, rows};

const ROWS: &str = "select count(*) from orders";
const DELETE: &str = "delete from orders where id > 0";

/// Statements of the extended protocol, without a Sync.
fn requests(texts: &[&str]) -> BytesMut {
    let mut out = BytesMut::new();
    for sql in texts {
        frontend::parse_statement("", sql, &mut out);
        frontend::bind("", "", &[], &mut out);
        frontend::execute("", 0, &mut out);
    }
    out
}

async fn synced(peer: &mut Peer, texts: &[&str]) -> Option<String> {
    let mut out = requests(texts);
    frontend::sync(&mut out);
    peer.send(&out).await;
    error(&peer.until(b'Z').await).map(|error| error.sqlstate)
}

#[tokio::test]
async fn a_commit_behind_the_end_of_a_failed_block_is_judged() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    for (begins, ends) in [
        ("begin", &["rollback", "begin", DELETE, "commit"][..]),
        ("begin; savepoint s", &["rollback to s", DELETE, "commit"][..]),
        ("begin", &["rollback and chain", DELETE, "commit"][..]),
    ] {
        let mut peer = Peer::through(&grant).await;
        peer.query(begins).await;
        assert_eq!(error(&peer.query("select 1/0").await).expect("fails").sqlstate, "22012");
        assert_eq!(synced(&mut peer, ends).await.as_deref(), Some("42501"), "{ends:?}");
        peer.query("rollback").await;
        peer.query(begins).await;
        peer.query("select 1/0").await;
        let told = peer.query(&ends.join("; ")).await;
        assert_eq!(error(&told).expect("refused").sqlstate, "42501", "{ends:?}");
        peer.query("rollback").await;
        // What is small goes through.
        peer.query(begins).await;
        peer.query("select 1/0").await;
        let small: Vec<&str> = ends
            .iter()
            .map(|sql| if *sql == DELETE { "update orders set amount = amount where id = 1" } else { sql })
            .collect();
        assert_eq!(synced(&mut peer, &small).await, None, "{small:?}");
        assert_eq!(gate.count(ROWS).await, 3000);
    }
    gate.stop().await;
}

#[tokio::test]
async fn code_behind_a_commit_runs_where_it_cannot_commit_by_itself() {
    let gate =
        Gate::without_pack("ended_blocks", SHOP, &[("classification.toml", ""), ("open.cedar", AT_MOST_100)]).await;
    let grant = gate.grant(Access::Write).await;
    let code = "do $$ begin delete from orders; commit; end $$";
    for begins in [&["commit", code][..], &["commit and chain", code][..]] {
        let mut peer = Peer::through(&grant).await;
        peer.query("begin").await;
        assert!(synced(&mut peer, begins).await.is_some(), "{begins:?}");
        let mut peer = Peer::through(&grant).await;
        peer.query("begin").await;
        assert!(error(&peer.query(&begins.join("; ")).await).is_some(), "{begins:?}");
    }
    // A block that the client has only begun is the client's to end.
    let mut peer = Peer::through(&grant).await;
    let small = "do $$ begin update orders set amount = 0 where id = 1; end $$";
    assert_eq!(synced(&mut peer, &["begin", small]).await, None);
    peer.query("rollback").await;
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    assert_eq!(gate.count(ROWS).await, 3000);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn what_is_sent_ahead_or_flushed_has_the_limits_of_what_is_asked_for() {
    let rules =
        "@id(\"short\") @limit(\"1 s, 1500 ms idle\") forbid (principal, action == Action::\"execute\", resource);";
    let policy = [("classification.toml", ""), ("short.cedar", rules)];
    let gate = Gate::start_under(SHOP, &policy).await;
    let grant = gate.grant(Access::Write).await;
    // So long that it goes out before its Sync, which never comes.
    let mut peer = Peer::through(&grant).await;
    let padding = "x".repeat(40_000);
    peer.send(&requests(&[&format!("/* {padding} */ select pg_sleep(60)")])).await;
    assert_eq!(error(&peer.until(b'E').await).expect("stopped").sqlstate, "57014");
    // Rows that a flushed statement has locked count, and its transaction does not stay open.
    let mut peer = Peer::through(&grant).await;
    let mut out = requests(&["select id from orders where id > 0 for update"]);
    frontend::flush(&mut out);
    peer.send(&out).await;
    assert_eq!(error(&peer.until(b'E').await).expect("too many").sqlstate, "42501");
    peer.until_closed().await;
    let mut peer = Peer::through(&grant).await;
    let mut out = requests(&["update orders set amount = 0 where id = 1"]);
    frontend::flush(&mut out);
    peer.send(&out).await;
    peer.until(b'C').await;
    peer.until_closed().await;
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    // Cursors that outlive their transaction are filled at the Sync.
    let mut peer = Peer::through(&grant).await;
    let hold = "declare c cursor with hold for select * from generate_series(1, 1000000000)";
    assert_eq!(synced(&mut peer, &[hold]).await.as_deref(), Some("57014"));
    assert_eq!(rows(&peer.query("select 1").await), [["1"]]);
    let two = ["begin", &hold.replace("with hold ", ""), "declare d cursor for select 1", "fetch all c"];
    assert_eq!(synced(&mut peer, &two).await.as_deref(), Some("57014"));
    drop(peer);
    gate.stop().await;
}

/// As at PostgreSQL itself, where a statement that fails ends its transaction before the Sync.
#[tokio::test]
async fn what_is_refused_in_a_pipeline_holds_no_lock_until_its_sync() {
    let gate = Gate::start_under(SHOP, &[("classification.toml", ""), ("rules.cedar", AT_MOST_100)]).await;
    let grant = gate.grant(Access::Write).await;
    let other = gate::superuser(&gate.database).await;
    let one = "update orders set amount = 0 where id = 1";
    for (begins, refused) in [("", "alter system set work_mem = 1"), ("begin", DELETE), ("", DELETE)] {
        let mut peer = Peer::through(&grant).await;
        if !begins.is_empty() {
            peer.query(begins).await;
        }
        let mut out = requests(&[one, refused]);
        frontend::flush(&mut out);
        peer.send(&out).await;
        assert_eq!(error(&peer.until(b'E').await).expect("refused").sqlstate, "42501", "{begins} {refused}");
        let locked = "set lock_timeout = '15s'; select from orders where id = 1 for update";
        other.batch_execute(locked).await.unwrap_or_else(|_| panic!("{begins} {refused}: it is still locked"));
        let mut out = BytesMut::new();
        frontend::sync(&mut out);
        peer.send(&out).await;
        peer.until(b'Z').await;
        peer.query("rollback").await;
        assert_eq!(rows(&peer.query("select count(*) from orders where amount = 0").await), [["0"]]);
        assert_eq!(rows(&peer.query(ROWS).await), [["3000"]]);
    }
    gate.stop().await;
}

/// What is only read by the target, or bound, has its locks, and so has what is read in part.
#[tokio::test]
async fn what_holds_locks_has_the_limit_of_what_holds_them() {
    let idle = r#"
@id("hour") @limit("60 min idle") forbid (principal, action == Action::"execute", resource);
@id("short") @limit("300 ms idle") forbid (principal, action == Action::"execute", resource)
when { context has statement && context.statement.holds };
"#;
    let code = "create function draws() returns setof int language sql volatile as 'select generate_series(1, 9)';";
    let policy = [("classification.toml", ""), ("idle.cedar", idle)];
    let gate = Gate::start_under(&format!("{SHOP}{code}"), &policy).await;
    let grant = gate.grant(Access::Write).await;
    let mut calm = Peer::through(&grant).await;
    calm.query("begin; select count(*) from orders").await;
    let part = |sql: &str| ask().parse("", sql).bind("", "").execute_part("", 1);
    for (what, asked) in [
        ("read", ask().parse("", "update orders set amount = 0 where id = 1")),
        ("bound", ask().parse("", "update orders set amount = 0 where id = 1").bind("", "")),
        ("read in part", part("update orders set amount = 0 where id < 9 returning id")),
        ("a function's rows, in part", part("select draws()")),
        ("an advisory lock", ask().run("select pg_advisory_lock(7)")),
        ("a function, with reads behind it", ask().run("select draws()").run("select 1")),
    ] {
        let mut peer = Peer::through(&grant).await;
        asked.flush(&mut peer).await;
        let told = peer.until_closed().await;
        assert_eq!(error(&told).map(|error| error.sqlstate).as_deref(), Some("25P03"), "{what}");
    }
    // In a block as well, and it ends with the block.
    let mut peer = Peer::through(&grant).await;
    for sql in ["begin", "select draws()", "commit", "begin", "select count(*) from orders"] {
        peer.query(sql).await;
    }
    let mut other = Peer::through(&grant).await;
    other.query("begin; select draws()").await;
    assert_eq!(error(&other.until_closed().await).expect("idle").sqlstate, "25P03");
    // Reads go on, and what only runs what was said to be read.
    for sql in ["prepare p as select count(*) from orders", "execute p"] {
        assert!(error(&calm.query(sql).await).is_none(), "{sql}");
    }
    assert_eq!(rows(&peer.query(ROWS).await), [["3000"]]);
    assert_eq!(rows(&calm.query(ROWS).await), [["3000"]]);
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    drop((peer, calm));
    gate.stop().await;
}

/// A text that is refused behind one that the target has read: its locks go at once.
#[tokio::test]
async fn what_was_only_read_holds_no_lock_behind_a_refusal() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let other = gate::superuser(&gate.database).await;
    let mut peer = Peer::through(&grant).await;
    let asked =
        ask().parse("", "update orders set amount = 0 where id = 1").parse("x", "alter system set work_mem = 1");
    asked.flush(&mut peer).await;
    assert_eq!(error(&peer.until(b'E').await).expect("refused").sqlstate, "42501");
    let locked = "set lock_timeout = '15s'; lock table orders in access exclusive mode";
    other.batch_execute(&format!("begin; {locked}; rollback")).await.expect("nobody has it locked");
    assert_eq!(error(&ask().sync(&mut peer).await).map(|error| error.sqlstate), None);
    assert_eq!(rows(&peer.query(ROWS).await), [["3000"]]);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_large_result_behind_a_write_ends_its_statement_and_not_the_session() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let large = "select repeat('x', 100000) from generate_series(1, 300)";
    let told = ask().run("update orders set amount = 0 where id = 1").run(large).run("select 1").sync(&mut peer).await;
    let refused = error(&told).expect("too much");
    assert_eq!((refused.severity.as_str(), refused.sqlstate.as_str()), ("ERROR", "54000"));
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    // The same of what a function says on the way.
    let notices = "do $$ begin for i in 1..300 loop raise notice '%', repeat('x', 100000); end loop; end $$";
    let told = ask().run("update orders set amount = 0 where id = 1").run(notices).sync(&mut peer).await;
    assert!(error(&told).is_some());
    // A single row that is too long; and what fits.
    let row = "select repeat('x', 20000000)";
    let told = ask().run("update orders set amount = 0 where id = 1").run(row).sync(&mut peer).await;
    assert_eq!(error(&told).expect("too much").sqlstate, "54000");
    let fits = "select repeat('x', 100000) from generate_series(1, 100)";
    let told = ask().run("update orders set amount = 0 where id = 1").run(fits).sync(&mut peer).await;
    assert_eq!((error(&told).is_none(), rows(&told).len()), (true, 100));
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 1);
    drop(peer);
    gate.stop().await;
}
