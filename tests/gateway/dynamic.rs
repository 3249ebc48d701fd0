//! Dynamic SQL behind a table: what a trigger, a rule, a default or a check runs out of a row can put statements under
//! prepared names, the gateway's own among them. Rows are counted all the same, and names are what they were.

use dbgate::core::grant::Access;
use dbgate::core::scope::RelationName;
use dbgate::core::scope::catalog::RelationKind;
use dbgate::core::wire::frame::Message;
use dbgate::core::wire::frontend::Named;
use dbgate::server::catalog;
use tokio_postgres::Client;

use crate::support::bench::bench;
use crate::support::gate::{Gate, SHOP, superuser};
use crate::support::requests::{ask, either_way};
use crate::support::until::until;
use crate::support::wire::{Peer, error, rows};

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
async fn a_name_stays_taken_where_what_took_it_fails_waits_or_is_deferred() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let grant = gate.grant(Access::Write).await;
    // Its tag is that of a read.
    let swap = "deallocate p; prepare p as with w as (update orders set amount = -1 where id <= 505 returning 1) select count(*) from w";
    let fails = way("ran", None, &format!("{swap}; nonsense"));
    let call = |text: &str| format!("select run('{text}')");
    let fails_in_a_call = call(&format!("{swap}; nonsense"));
    let moves = way("ran", None, &format!("{swap}; set search_path = public, pg_temp"));
    let late = way("late", None, swap);
    let planned = format!("select labelled('{swap}')");
    for (before, evil) in [
        ("", fails.as_str()),
        ("", &fails_in_a_call),
        ("begin", &fails),
        ("begin", &way("ran", None, swap)),
        ("", &moves),
        ("", &late),
        ("", &format!("explain {planned}")),
    ] {
        for is_extended in [false, true] {
            let mut peer = Peer::through(&grant).await;
            ask().parse("p", "select count(*) from customers where false").sync(&mut peer).await;
            if before.is_empty() {
                either_way(&mut peer, evil, is_extended).await;
            } else {
                peer.query(before).await;
                either_way(&mut peer, evil, is_extended).await;
                peer.query("rollback").await;
            }
            let told = ask().run_named("p").sync(&mut peer).await;
            assert_eq!(gate.count(WIPED).await, 0, "{before} {evil}: {told:?}");
            drop(peer);
        }
    }
    // A part of it has run; and nothing but its plan was made.
    let rows = format!("insert into ran (t) values ('{swap}'), (null) returning id");
    for evil in [ask().parse("", &rows).bind("", "").execute_part("", 1), ask().parse("", &planned).bind("", "")] {
        let mut peer = Peer::through(&grant).await;
        ask().parse("p", "select count(*) from customers where false").sync(&mut peer).await;
        evil.sync(&mut peer).await;
        let told = ask().run_named("p").sync(&mut peer).await;
        assert_eq!(gate.count(WIPED).await, 0, "{told:?}");
        drop(peer);
    }
    gate.stop().await;
}

/// Bound and never run; or bound, and something else runs.
#[tokio::test]
async fn what_binding_runs_is_counted() {
    let more = "create domain checked_text as text check (is_run(value));
      create function estimate(t text) returns int stable language plpgsql as 'begin return run(t); end';";
    let gate = Gate::start(&format!("{SHOP}{TABLES}{more}")).await;
    let grant = gate.grant(Access::Write).await;
    let planned = format!("select labelled('{WIPE}')");
    let estimated = format!("select count(*) from customers where id = estimate('{WIPE}')");
    let written = format!("update plain set t = t where id = labelled('{WIPE}')");
    let evil = |sql: &str| ask().parse("", sql).bind("", "");
    let domain = gate.count("select 'checked_text'::regtype::oid::int8").await;
    let domain = u32::try_from(domain).expect("an OID");
    let valued = |sql: &str| ask().parse_typed("", sql, &[domain]).bind_values("", &[WIPE]);
    for (number, requests) in [
        evil(&planned),
        evil(&estimated),
        evil(&written),
        evil(&planned).describe(""),
        evil(&planned).close(Named::Portal, ""),
        evil(&planned).parse("b", "select 1").bind("b", "b").execute("b"),
        evil(&planned).query("select 1"),
        evil(&planned).query("commit"),
        ask().run("begin").parse("", &planned).bind("", "").run("commit"),
        valued("select $1::text"),
        valued("insert into plain (t) values ($1)"),
        evil(&planned).run("discard all"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut peer = Peer::through(&grant).await;
        let told = requests.sync(&mut peer).await;
        peer.query("commit").await;
        assert_eq!(gate.count(WIPED).await, 0, "{number}: {told:?}");
        drop(peer);
    }
    // Ahead of the first write of a block.
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    peer.query("insert into plain (t) values (null)").await;
    peer.query("begin").await;
    evil(&planned).sync(&mut peer).await;
    peer.query("update plain set t = t where id = 1").await;
    peer.query("commit").await;
    assert_eq!(gate.count(WIPED).await, 0);
    // What changes nothing, or little, stands, and is told; what was there before is not charged.
    let small = "select labelled('update orders set amount = -1 where id <= 50')";
    for _ in 0..3 {
        assert_eq!(state(&ask().parse("", small).bind("", "").sync(&mut peer).await), "");
    }
    assert_eq!(gate.count(WIPED).await, 50);
    peer.query("begin").await;
    assert_eq!(state(&ask().parse("", "select labelled('select 1')").bind("", "").sync(&mut peer).await), "");
    assert_eq!(state(&peer.query("update orders set amount = 1 where id <= 50").await), "");
    assert_eq!(state(&peer.query("commit").await), "");
    assert_eq!(gate.count(WIPED).await, 0);
    drop(peer);
    let record = gate.record(&grant).await;
    let told = record.iter().filter(|line| line["k"] == "impact" && line.to_string().contains("\"rows\":50}"));
    let impacts: Vec<_> = record.iter().filter(|line| line["k"] == "impact").collect();
    assert!(told.count() >= 4, "{impacts:#?}");
    gate.stop().await;
}

/// Who may only read plans in a transaction that only reads.
#[tokio::test]
async fn what_binding_runs_for_who_may_only_read_changes_nothing() {
    let lends = "create function lent(t text) returns int immutable security definer language plpgsql as 'begin return run(t); end'";
    let gate = Gate::start(&format!("{SHOP}{TABLES}{lends}")).await;
    let grant = gate.grant(Access::Read).await;
    for name in ["labelled", "lent"] {
        let mut peer = Peer::through(&grant).await;
        let told = ask().parse("", &format!("select {name}('{WIPE}')")).bind("", "").sync(&mut peer).await;
        assert_eq!(gate.count(WIPED).await, 0, "{name}: {told:?}");
        drop(peer);
    }
    gate.stop().await;
}

#[tokio::test]
async fn maintenance_of_a_relation_of_ones_own_runs_nothing_uncounted() {
    let arms = "create function armed(t text) returns int immutable language plpgsql as $$ declare text text; begin
      if current_setting('my.text', true) <> '' then
        text := current_setting('my.text'); perform set_config('my.text', '', false); perform run(text);
      end if; return 1; end $$;";
    let gate = Gate::start(&format!("{SHOP}{TABLES}{arms}")).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for sql in ["vacuum analyze z", "vacuum full z", "vacuum (analyze) z", "analyze z"] {
        peer.query("drop table if exists z").await;
        peer.query("create temp table z (t text)").await;
        peer.query("insert into z values ('a'), ('b')").await;
        peer.query("set my.text = ''").await;
        assert_eq!(state(&peer.query("create index on z (armed(t))").await), "");
        peer.query(&format!("set my.text = '{WIPE}'")).await;
        assert_eq!(state(&peer.query(sql).await), "42501", "{sql}");
        assert_eq!(gate.count(WIPED).await, 0, "{sql}");
    }
    drop(peer);
    gate.stop().await;
}

/// How a text is read is asked along with the names.
#[tokio::test]
async fn a_backslash_behind_such_a_write_is_read_as_ever() {
    let gate = Gate::start(&format!("{SHOP}{TABLES}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let quiet = "insert into ran (t) values ('select 1')";
    let told = ask().run(quiet).run(r"select 'a\b'").sync(&mut peer).await;
    assert_eq!(rows(&told), [[r"a\b"]]);
    assert_eq!(rows(&peer.query(&format!(r"{quiet}; select 'a\b'")).await), [[r"a\b"]]);
    assert_eq!(
        state(&ask().run(r"insert into ran (t) values (replace('select.1', '.', E'\x20'))").sync(&mut peer).await),
        ""
    );
    drop(peer);
    for setting in ["standard_conforming_strings = off", "client_encoding = sjis"] {
        let mut peer = Peer::through(&grant).await;
        let odd = format!("insert into ran (t) values ('set {setting}')");
        assert_eq!(state(&ask().run(&odd).run(r"select 'a\b'").sync(&mut peer).await), "42501", "{setting}");
        drop(peer);
    }
    gate.stop().await;
}

#[tokio::test]
async fn what_is_deferred_again_and_again_is_counted() {
    let again = "create table deferring (id int); create function defers() returns trigger language plpgsql as $$ begin
      set constraints all deferred;
      if new.id > 0 then insert into deferring values (new.id - 1); end if;
      update orders set amount = -1 where id in (select id from orders where amount <> -1 order by id limit 90);
      return new; end $$;
    create constraint trigger defers after insert on deferring deferrable initially deferred for each row execute function defers();";
    let slow = "create table slow (id int); create function slows() returns trigger language plpgsql as $$ begin
      set constraints all deferred;
      if new.id > 0 then insert into slow values (new.id - 1); end if; return new; end $$;
    create constraint trigger slows after insert on slow deferrable initially deferred for each row execute function slows();";
    // Worked out again at the commit, as an excluded row may be one no longer.
    let excluded = "create table excluded (t text);
      create function works(t text) returns int language plpgsql as $$ declare turn text := current_setting('my.turn', true); begin
      if turn = 'first' then perform set_config('my.turn', 'again', false); end if;
      if turn is distinct from 'again' then return 1; end if;
      perform set_config('my.turn', 'within', false);
      set constraints all deferred;
      update orders set amount = -1 where id in (select id from orders where amount <> -1 order by id limit 30);
      if found then insert into excluded values ('more'); end if;
      perform set_config('my.turn', 'again', false);
      return (2 + random() * 100000000)::int; end $$;
      create function worked(t text) returns int immutable language plpgsql as 'begin return works(t); end';
      insert into excluded values ('there');
      alter table excluded add exclude using btree (worked(t) with =) deferrable initially deferred;";
    let gate = Gate::start(&format!("{SHOP}{TABLES}{again}{excluded}{slow}")).await;
    let grant = gate.grant(Access::Write).await;
    let nested = format!("set constraints all deferred; insert into late (t) values (''{WIPE}'')");
    let poisons = "set constraints all deferred; insert into late (t) values (''deallocate all''||chr(59)||''prepare dbgate_counts as select 1 where false'')";
    for is_extended in [false, true] {
        for (sql, expected) in [
            (format!("insert into late (t) values ('{nested}')"), "42501"),
            ("insert into deferring values (4)".to_owned(), "42501"),
            ("insert into deferring values (1000)".to_owned(), "42501"),
            (format!("insert into late (t) values ('{poisons}')"), ""),
            (WIPE.to_owned(), "42501"),
            ("insert into excluded values ('one')".to_owned(), "42501"),
            ("insert into slow values (20)".to_owned(), "42501"),
            ("insert into slow values (3)".to_owned(), ""),
        ] {
            let mut peer = Peer::through(&grant).await;
            peer.query("set my.turn = 'first'").await;
            let told = either_way(&mut peer, &sql, is_extended).await;
            assert_eq!(state(&told), expected, "{sql}");
            let is_endless = error(&told).is_some_and(|error| error.message.contains("defers more to it"));
            assert!(is_endless || !sql.contains("slow values (20)"), "{sql}: {told:?}");
            if expected.is_empty() {
                assert_eq!(state(&either_way(&mut peer, WIPE, is_extended).await), "42501", "behind {sql}");
            }
            peer.query("begin").await;
            let first = either_way(&mut peer, &sql, is_extended).await;
            let then = either_way(&mut peer, "commit and chain", is_extended).await;
            assert!(expected.is_empty() || [state(&first), state(&then)].contains(&expected.to_owned()), "{sql}");
            assert_eq!(gate.count(WIPED).await, 0, "{sql}");
            drop(peer);
        }
        // What comes to rest stands.
        let mut peer = Peer::through(&grant).await;
        assert_eq!(state(&either_way(&mut peer, "insert into deferring values (0)", is_extended).await), "");
        assert_eq!(gate.count(WIPED).await, 90);
        superuser(&gate.database).await.batch_execute("update orders set amount = 1").await.expect("as before");
        drop(peer);
    }
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

/// Tables and views by what may run behind them.
const SCENE: &str = r#"
create schema scene;
set search_path = scene;
create function run(t text) returns int language plpgsql as 'begin execute t; return 1; end';
create function first(t text) returns int immutable language plpgsql as 'begin return run(t); end';
create function "Σ"(t text) returns int language plpgsql as 'begin return scene.run(t); end';
create function alias(text, bool, bool, text) returns xml language internal volatile strict as 'query_to_xml';
create function stamps() returns trigger language plpgsql as 'begin new.t := now()::text; return new; end';
create function by_row() returns trigger language plpgsql as 'begin perform run(new.t); return new; end';
create function by_sigma() returns trigger language plpgsql as 'begin perform scene.Σ(new.t); return new; end';
create function sets() returns trigger language plpgsql as $$ begin update pg_settings set setting = new.t where name = 'search_path'; return new; end $$;
create function pivots() returns trigger language plpgsql as 'begin perform * from crosstab2(new.t); return new; end';
create function paths() returns trigger language plpgsql as $$ begin perform * from xpath_table('a', 'b', 'c', '/d', new.t) as r (a int); return new; end $$;
create function opens() returns trigger language plpgsql as 'declare c refcursor := new.t; begin close c; return new; end';
create function notes() returns trigger language plpgsql as 'begin insert into notes (t) values (new.t); return new; end';
create function passes() returns trigger language plpgsql as 'begin insert into by_row (t) values (new.t); return new; end';
create function calls() returns int language sql begin atomic select scene.first('select 1'); end;
create domain word as text check (value in ('temp', 'reset'));
create domain filled as int default run('select 1');
create domain queried as xml default query_to_xml(current_setting('my.text'), true, true, '');

create table plain (id int primary key, t text, w word check (length(w) < 9), s serial);
create table stamped (id int, t text); create trigger a before update on stamped for each row execute function stamps();
create table notes (id serial, t text);
create table noted (id int, t text); create trigger a before insert on noted for each row execute function notes();
create table owned (id int primary key); create table owner (id int references owned on delete cascade);
create table years (id int, t text) partition by range (id); create table year partition of years for values from (0) to (9);

create table by_row (id int, t text); create trigger a before insert on by_row for each row execute function by_row();
create table by_statement (id int, t text); create trigger a after insert on by_statement execute function by_row();
create table passing (id int, t text); create trigger a before insert on passing for each row execute function passes();
create table by_sigma (id int, t text); create trigger a before insert on by_sigma for each row execute function by_sigma();
create table by_setting (id int, t text); create trigger a before insert on by_setting for each row execute function sets();
create table by_cursor (id int, t text); create trigger a before insert on by_cursor for each row execute function opens();
create table by_crosstab (id int, t text); create trigger a before insert on by_crosstab for each row execute function pivots();
create table by_path (id int, t text); create trigger a before insert on by_path for each row execute function paths();
create table by_when (id int, t text); create trigger a before insert on by_when for each row when (run(new.t) = 1) execute function stamps();
create table by_query (id int, t text); create trigger a before insert on by_query for each row
  when (query_to_xml(new.t, true, true, '') is not null) execute function stamps();
create table by_alias (id int, t text check (alias(t, true, true, '') is not null));
create table by_atomic (id int default calls());
create table by_type (id filled); create table by_types (id queried);
create table by_index (id int, t text); create index on by_index (first(t));
create table gone (id int primary key); create table goes (id int references gone on update set null, t text);
create trigger a before update on goes for each row execute function by_row();
create table lists (id int, t text) partition by list (first(t)); create table list partition of lists for values in (1);
create table ruled (id int, t text); create rule a as on insert to ruled do also select run(new.t);
create view shown as select run(t) from plain;
create view instead as select id, t from plain; create trigger a instead of insert on instead for each row execute function by_row();
create table policied (id int, t text); alter table policied enable row level security;
create policy a on policied using (exists (select from shown));
create table base (id int, t text); create table kind () inherits (base);
create trigger a before insert on kind for each row execute function by_row();
"#;
const QUIET: [&str; 8] = ["noted", "notes", "owned", "owner", "plain", "stamped", "year", "years"];

/// What the catalog of this server's version says is behind each.
pub(super) async fn is_found(superuser: &Client, reader: &Client, database: &str) {
    superuser.batch_execute(SCENE).await.expect("a scene");
    let catalog = catalog::read(reader, database).await.expect("a catalog");
    let here =
        catalog.relations.values().filter(|one| one.name.schema == "scene" && one.kind != RelationKind::Sequence);
    let quiet: Vec<_> =
        here.filter(|one| !catalog.dynamic.contains(&one.oid)).map(|one| one.name.name.as_str()).collect();
    assert_eq!(quiet, QUIET, "{}", catalog.server_version);
    // A way of comparing values that runs anything may be behind any of them, where not all is PostgreSQL's own.
    let compares = "set search_path = scene; create type pair as (t text);
      create function compare(pair, pair) returns int immutable language plpgsql as 'begin return run($1.t); end';
      create function less(pair, pair) returns bool immutable language sql as 'select true';
      create operator <<< (leftarg = pair, rightarg = pair, procedure = less);
      create operator class pairs for type pair using btree as operator 1 <<< , function 1 compare(pair, pair)";
    superuser.batch_execute(compares).await.expect("a class");
    let swapped = "alter table noted rename to noted_before; alter table by_row rename to noted; reset search_path";
    superuser.batch_execute(swapped).await.expect("swapped");
    let now = catalog::read(reader, database).await.expect("a catalog");
    // Of what was there before: by its own kind of value, as before, and as another under its name.
    let before = |name: &str| catalog.relations.get(&RelationName::new("scene", name)).expect("it was there");
    let is_static = |name: &str| (catalog.is_static(before(name)), now.is_static(before(name)));
    assert_eq!(["stamped", "notes", "noted"].map(is_static), [(true, false), (true, true), (true, false)]);
    superuser
        .batch_execute("set client_min_messages = warning; drop schema scene cascade; reset client_min_messages")
        .await
        .expect("dropped");
}

#[tokio::test]
async fn what_may_run_behind_a_relation_is_found() {
    let bench = bench("", "").await;
    is_found(&bench.superuser, &bench.broker, &bench.database).await;
}
