//! Names of prepared statements and portals: whatever a client does to make the gateway take one for
//! another statement than the target does, what runs is what was judged.

use dbgate::core::grant::Access;
use dbgate::core::wire::frame::Message;
use dbgate::core::wire::frontend::Named;

use crate::support::gate::{Gate, SHOP};
use crate::support::requests::ask;
use crate::support::wire::{Peer, error, rows, tags};

/// Changes all 3,000 orders, of which the policy lets through a hundred.
const WIPE: &str = "update orders set amount = -1 where id > 0";
const WIPED: &str = "select count(*) from orders where amount = -1";

fn state(messages: &[Message]) -> String {
    error(messages).map(|error| error.sqlstate).unwrap_or_default()
}

#[tokio::test]
async fn a_statement_is_what_the_target_has_under_its_name() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let (again, broken) = ("select 1", "selec 1");
    // A name that is taken keeps its meaning; so does one that an error kept from being closed.
    let mut peer = Peer::through(&grant).await;
    ask().parse("p", WIPE).sync(&mut peer).await;
    assert_eq!(state(&ask().parse("p", again).sync(&mut peer).await), "42P05");
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "42501");
    ask().parse("q", broken).close(Named::Statement, "p").sync(&mut peer).await;
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "42501");
    assert_eq!(state(&ask().parse("p", again).parse("p", again).sync(&mut peer).await), "42P05");
    // SQL and protocol share names, in one pipeline as well.
    let mut peer = Peer::through(&grant).await;
    ask().parse("p", again).sync(&mut peer).await;
    let swapped = ask().run("deallocate p").run(&format!("prepare p as {WIPE}")).run_named("p").sync(&mut peer).await;
    assert_eq!(state(&swapped), "42501");
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "42501");
    // A text that cannot be read leaves nothing that could be run, and an empty one runs as such.
    let mut peer = Peer::through(&grant).await;
    ask().parse("p", broken).sync(&mut peer).await;
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "26000");
    assert_eq!(tags(&ask().run("").sync(&mut peer).await), "12IZ");
    assert_eq!(state(&ask().execute("nothing").sync(&mut peer).await), "34000");
    // After all that the names are free for honest use.
    let told = ask().parse("p", "select 'honest'").run_named("p").sync(&mut peer).await;
    assert_eq!(rows(&told), [["honest"]]);
    let told = ask().run("prepare s as select 'from sql'").run("execute s").run("deallocate s").sync(&mut peer).await;
    assert_eq!(rows(&told), [["from sql"]]);
    let told = ask().parse("s", "select 'again'").run_named("s").close(Named::Statement, "s").sync(&mut peer).await;
    assert_eq!(rows(&told), [["again"]]);
    assert_eq!(gate.count(WIPED).await, 0);
    gate.stop().await;
}

#[tokio::test]
async fn a_portal_is_what_the_target_has_under_its_name() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    // A name that is taken keeps its meaning, also after the error was rolled back.
    ask().run("begin").parse("w", WIPE).bind("P", "w").run("savepoint a").sync(&mut peer).await;
    assert_eq!(state(&ask().parse("r", "select 1").bind("P", "r").sync(&mut peer).await), "42P03");
    peer.query("rollback to a").await;
    assert_eq!(state(&ask().execute("P").sync(&mut peer).await), "42501");
    peer.query("rollback").await;
    // A cursor that has taken the name of a portal is read by FETCH, which is judged.
    ask().run("begin").bind("P", "r").sync(&mut peer).await;
    peer.query("close \"P\"").await;
    ask().run("declare \"P\" cursor for select touch_all()").sync(&mut peer).await;
    assert_eq!(state(&ask().execute("P").sync(&mut peer).await), "42501");
    peer.query("rollback").await;
    // What ends a transaction in the middle of a pipeline does not hide what comes behind it.
    let thirds =
        ["id <= 100", "id between 101 and 2900"].map(|rows| format!("update orders set amount = -1 where {rows}"));
    let [small, large] = thirds;
    let told = ask().run(&small).run("commit").run(&large).run("commit").sync(&mut peer).await;
    assert_eq!((tags(&told).contains('E'), state(&told).as_str()), (true, "42501"));
    assert_eq!(gate.count(WIPED).await, 100);
    gate.stop().await;
}

#[tokio::test]
async fn a_statement_that_is_run_by_another_counts_with_all_it_does() {
    let sql = format!(
        "{SHOP} create function reap() returns int language sql volatile as \
         'update orders set amount = -1; select 1';"
    );
    let gate = Gate::start(&sql).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    peer.query("prepare p as select reap()").await;
    peer.query("prepare q(int) as select $1").await;
    for sql in [
        "execute p",
        "create temp table t as execute p",
        "create temp table t as execute q(reap())",
        "explain analyze execute p",
        "explain analyze execute q(reap())",
        "explain analyze create temp table t as execute p",
        "execute q(reap())",
    ] {
        assert_eq!(state(&peer.query(sql).await), "42501", "{sql}");
        assert_eq!(state(&ask().run(sql).sync(&mut peer).await), "42501", "{sql}, extended");
        assert_eq!(gate.count(WIPED).await, 0, "{sql}");
    }
    assert_eq!(state(&peer.query("execute nothing").await), "26000");
    assert_eq!(rows(&peer.query("execute q(3)").await), [["3"]]);
    assert_eq!(state(&peer.query("create temp table t as execute q(4)").await), "");
    assert_eq!(rows(&peer.query("table t").await), [["4"]]);
    gate.stop().await;
}

#[tokio::test]
async fn a_name_that_code_has_taken_from_what_names_nothing_is_given_back() {
    let run = "create function run(t text) returns int language plpgsql as 'begin execute t; return 1; end'";
    let gate = Gate::start(&format!("{SHOP};{run}")).await;
    let grant = gate.grant(Access::Write).await;
    let texts = ["set application_name = 'a'", "begin", "commit", "rollback", "show all", "discard all", "reset all"];
    for sql in texts.into_iter().chain(["set transaction read write"]) {
        for is_block in [false, true] {
            let mut peer = Peer::through(&grant).await;
            ask().parse("p", sql).sync(&mut peer).await;
            assert_eq!(state(&peer.query("select run('deallocate p')").await), "");
            assert_eq!(state(&peer.query(&format!("select run('prepare p as {WIPE}')")).await), "");
            if is_block {
                peer.query("begin").await;
            }
            let told = ask().run_named("p").sync(&mut peer).await;
            let is_refused = is_block && sql == "discard all";
            assert_eq!(state(&told), if is_refused { "25001" } else { "" }, "{sql}");
            peer.query("commit").await;
            assert_eq!(gate.count(WIPED).await, 0, "{sql}");
            drop(peer);
        }
    }
    gate.stop().await;
}

/// Lets engineers run code blocks; what holds then is the count.
const BLOCKS: &str = r#"
@id("all")
permit (principal in Group::"engineers", action, resource);

@id("at-most-100")
@code("impact_too_large")
@reason("more than 100 rows of one relation")
forbid (principal, action in [Action::"insert", Action::"update", Action::"delete"], resource)
when { context has impact && context.impact.rows > 100 };
"#;

#[tokio::test]
async fn code_that_gives_a_name_another_meaning_does_not_hide_what_it_means_now() {
    let policy = [("classification.toml", ""), ("blocks.cedar", BLOCKS)];
    let gate = Gate::without_pack("names_blocks", SHOP, &policy).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    ask().parse("p", "select 1").sync(&mut peer).await;
    let swap = format!("do $$ begin execute 'deallocate p'; execute 'prepare p as {WIPE}'; end $$");
    assert_eq!(state(&ask().run(&swap).run_named("p").sync(&mut peer).await), "42501");
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "42501");
    assert_eq!(gate.count(WIPED).await, 0);
    gate.stop().await;
}

#[tokio::test]
async fn what_begins_and_ends_a_block_is_the_same_whatever_names_mean() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let serializable = "set transaction isolation level serializable";
    let named = [("b", "begin isolation level serializable"), ("c", "commit"), ("r", "rollback"), ("s", serializable)];
    for (name, sql) in named {
        assert_eq!(state(&ask().parse(name, sql).sync(&mut peer).await), "");
    }
    let ended = async |peer: &mut Peer, name: &str| {
        let told = ask().run_named(name).sync(peer).await;
        (state(&told), told.last().map(|one| one.body.to_vec()))
    };
    let (open, over) = ((String::new(), Some(b"T".to_vec())), (String::new(), Some(b"I".to_vec())));
    for hides in ["set constraints all deferred", "select set_config('search_path', 'public', false)"] {
        for end in ["c", "r"] {
            // A block that has failed.
            peer.query("begin").await;
            assert_eq!(state(&peer.query(hides).await), "", "{hides}");
            assert_eq!(state(&peer.query("select 1/0").await), "22012");
            assert_eq!(ended(&mut peer, end).await, over, "{hides}, {end}");
            // And one that has only begun.
            assert_eq!(ended(&mut peer, "b").await, open, "{hides}");
            assert_eq!(rows(&peer.query("show transaction_isolation").await), [["serializable"]]);
            assert_eq!(ended(&mut peer, end).await, over, "{hides}, {end}");
            peer.query("begin").await;
            assert_eq!(ended(&mut peer, "s").await, open, "{hides}");
            assert_eq!(ended(&mut peer, end).await, over, "{hides}, {end}");
        }
    }
    drop(peer);
    gate.stop().await;
}
