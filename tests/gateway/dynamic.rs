//! Dynamic SQL behind a table: what a trigger, a rule, a default or a check runs out of a row can put statements under
//! prepared names, the gateway's own among them. Rows are counted all the same, and names are what they were.

use dbgate::core::grant::Access;
use dbgate::core::wire::frame::Message;

use crate::support::gate::{Gate, SHOP, superuser};
use crate::support::requests::{ask, either_way};
use crate::support::until::until;
use crate::support::wire::{Peer, error};

const WIPED: &str = "select count(*) from orders where amount = -1";
/// Changes more orders than the policy lets through.
const WIPE: &str = "update orders set amount = -1 where id <= 505";
/// Puts a query without rows in place of the one that counts.
const REPLACE: &str = "deallocate all; prepare dbgate_counts as select 1 where false";

const TABLES: &str = "
create function run(t text) returns int language plpgsql as $$ declare part text; begin
  foreach part in array string_to_array(t, ';') loop execute part; end loop; return 1; end $$;
create function by_trigger() returns trigger language plpgsql as $$ declare part text; begin
  foreach part in array string_to_array(new.t, ';') loop execute part; end loop; return new; end $$;
create function by_call() returns trigger language plpgsql as 'begin perform run(new.t); return new; end';
create function by_row() returns trigger language plpgsql as 'begin insert into ran (t) values (new.t); return new; end';
create function by_delete() returns trigger language plpgsql as 'begin perform run(old.t); return old; end';
create function labelled(t text) returns int immutable language plpgsql as 'begin return run(t); end';
create function is_run(t text) returns bool language plpgsql as 'begin return run(t) = 1; end';
create table ran (id serial, t text);
create trigger runs before insert on ran for each row execute function by_trigger();
create table calls (id serial, t text);
create trigger calls before insert on calls for each row execute function by_call();
create table passes (id serial, t text);
create trigger passes before insert on passes for each row execute function by_row();
create table ruled (id serial, t text);
create rule also as on insert to ruled do also insert into ran (t) values (new.t);
create table late (id serial, t text);
create constraint trigger late after insert on late deferrable initially deferred for each row execute function by_trigger();
create table parent (id int primary key, t text);
create table child (id int references parent on delete cascade, t text);
create trigger goes before delete on child for each row execute function by_delete();
create table parts (id int, t text) partition by range (id);
create table part partition of parts for values from (0) to (9);
create trigger runs before insert on part for each row execute function by_trigger();
create table filled (id serial, t int default run(current_setting('my.text')));
create domain filling int default run(current_setting('my.text'));
create table typed (id serial, t filling);
create table checked (id serial, t text check (is_run(t)));
create table indexed (id serial, t text);
create index on indexed (labelled(t));
create table plain (id serial, t text);
";

/// The tables behind which such a text runs, and what makes it run, where that is not an INSERT of it.
const WAYS: [(&str, Option<&str>); 11] = [
    ("ran", None),
    ("calls", None),
    ("passes", None),
    ("ruled", None),
    ("late", None),
    ("child", Some("delete from parent where id = 1")),
    ("parts", Some("insert into parts (id, t) values (1, '{}')")),
    ("filled", Some("insert into filled (id) values (1)")),
    ("typed", Some("insert into typed (id) values (1)")),
    ("checked", None),
    ("indexed", None),
];

fn state(messages: &[Message]) -> String {
    error(messages).map(|error| error.sqlstate).unwrap_or_default()
}

/// Whether the policy has stopped it for the rows that it changes.
fn is_too_much(messages: &[Message]) -> bool {
    error(messages).is_some_and(|error| error.sqlstate == "42501" && error.message.contains("more than 100 rows"))
}

/// What has `text` run behind this table.
fn way(table: &str, how: Option<&str>, text: &str) -> String {
    let insert = || format!("insert into {table} (t) values ('{text}')");
    how.map_or_else(insert, |how| how.replace("{}", text))
}

/// What must be there before it.
async fn ready(gate: &Gate, peer: &mut Peer, text: &str) {
    let rows = format!(
        "delete from child; delete from parent; insert into parent values (1); insert into child values (1, '{text}')"
    );
    let owner = superuser(&gate.database).await;
    owner.batch_execute(&format!("set session_replication_role = replica; {rows}")).await.expect("made");
    assert_eq!(state(&peer.query(&format!("set my.text = '{text}'")).await), "");
}

#[tokio::test]
async fn what_a_row_runs_does_not_change_what_is_counted() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let grant = gate.grant(Access::Write).await;
    for ((table, how), is_extended) in WAYS.into_iter().flat_map(|one| [(one, false), (one, true)]) {
        let runs = way(table, how, REPLACE);
        let mut peer = Peer::through(&grant).await;
        // The gateway's own statements are there by now.
        either_way(&mut peer, "update orders set amount = amount where id = 1", is_extended).await;
        // In its block.
        ready(&gate, &mut peer, REPLACE).await;
        peer.query("begin").await;
        assert_eq!(state(&either_way(&mut peer, &runs, is_extended).await), "", "{table}");
        let wiped = either_way(&mut peer, WIPE, is_extended).await;
        let committed = either_way(&mut peer, "commit", is_extended).await;
        assert!(is_too_much(&wiped) || is_too_much(&committed), "{table}: {wiped:?}");
        // In a transaction behind it.
        assert_eq!(state(&either_way(&mut peer, &runs, is_extended).await), "", "{table}");
        assert!(is_too_much(&either_way(&mut peer, WIPE, is_extended).await), "{table}");
        // In one with it, without a block.
        ready(&gate, &mut peer, REPLACE).await;
        let told = match is_extended {
            true => ask().run(&runs).run(WIPE).sync(&mut peer).await,
            false => peer.query(&format!("{runs}; {WIPE}")).await,
        };
        assert!(is_too_much(&told), "{table}: {told:?}");
        assert_eq!(gate.count(WIPED).await, 0, "{table}");
        drop(peer);
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_name_that_a_row_has_taken_runs_nothing_uncounted() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let grant = gate.grant(Access::Write).await;
    let runs = way("passes", None, &format!("deallocate p; prepare p as {WIPE}"));
    let mut peer = Peer::through(&grant).await;
    ask().parse("p", "select 1").sync(&mut peer).await;
    assert_eq!(state(&peer.query(&runs).await), "");
    assert_eq!(state(&ask().run_named("p").sync(&mut peer).await), "42501");
    drop(peer);
    let mut peer = Peer::through(&grant).await;
    ask().parse("p", "select 1").sync(&mut peer).await;
    assert_eq!(state(&ask().run(&runs).run_named("p").sync(&mut peer).await), "42501");
    drop(peer);
    let runs = way("passes", None, "close \"P\"; declare \"P\" cursor for select touch_all()");
    let mut peer = Peer::through(&grant).await;
    ask().run("begin").parse("p", "select 1").bind("P", "p").sync(&mut peer).await;
    assert_eq!(state(&ask().run(&runs).execute("P").run("commit").sync(&mut peer).await), "42501");
    drop(peer);
    assert_eq!(gate.count("select count(*) from orders where amount <= 0").await, 0);
    gate.stop().await;
}

#[tokio::test]
async fn what_becomes_dynamic_while_a_session_goes_on_is_so_in_it() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let runs = way("plain", None, REPLACE);
    assert_eq!(state(&peer.query(&runs).await), "");
    let trigger = "create trigger runs before insert on plain for each row execute function by_trigger()";
    superuser(&gate.database).await.batch_execute(trigger).await.expect("made");
    until("it is seen", async || {
        peer.query("begin").await;
        peer.query(&runs).await;
        let is_counted = is_too_much(&peer.query(WIPE).await) || is_too_much(&peer.query("commit").await);
        peer.query("rollback").await;
        superuser(&gate.database)
            .await
            .batch_execute("update orders set amount = 1 where amount = -1")
            .await
            .expect("made");
        is_counted
    })
    .await;
    drop(peer);
    gate.stop().await;
}
