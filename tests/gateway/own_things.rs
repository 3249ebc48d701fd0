//! What a session has made for itself, or called by another name, excuses nothing that it does to others.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, SHOP};
use crate::support::requests::ask;
use crate::support::wire::{Peer, code, error, rows};

/// Rules like those that production has for shares: small numbers do not matter.
const SMALL: &str = "
create table settings (key text primary key, value text);
insert into settings select 'k' || g from generate_series(1, 41) g;
grant all on settings to public;
analyze settings;
create function purge(int) returns int language sql volatile as 'delete from orders where id <= $1; select 1';
create function calmly(int) returns int language sql stable as 'select purge($1)';
create function surely(int) returns int language plpgsql immutable as 'begin return purge($1); end';
create domain checked as int check (purge(value) > 0);
grant execute on function purge(int), calmly(int), surely(int) to public;
";

#[tokio::test]
async fn rows_locked_through_a_temporary_view_are_counted_by_whatever_name_it_goes() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "create temp view few as select id from orders order by id offset 2999").await, None);
    for name in ["few", "pg_temp.few"] {
        assert_eq!(code(&mut peer, "begin").await, None);
        let told = error(&peer.query(&format!("select id from {name} where id > 0 for update")).await).expect(name);
        assert_eq!(told.sqlstate, "42501", "{name}: {}", told.message);
        assert_eq!(code(&mut peer, "rollback").await, None);
    }
    assert_eq!(code(&mut peer, "create temp table mine as select 1 as id").await, None);
    assert_eq!(code(&mut peer, "select id from mine where id > 0 for update").await.as_deref(), Some("42501"));
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, "create temp table mine as select 1 as id").await, None);
    assert_eq!(code(&mut peer, "select id from pg_temp.mine where id > 0 for update").await, None, "its own rows");
}

#[tokio::test]
async fn rows_locked_in_front_of_a_block_are_counted_in_it() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let (locks, few) =
        ("select id from orders where id > 0 for update", "select id from orders where id < 9 for update");
    let mut peer = Peer::through(&grant).await;
    assert_eq!(code(&mut peer, locks).await, None, "gone with the statement");
    for (locks, is_refused) in [(locks, true), (few, false)] {
        for text in [format!("{locks}; begin; select 1"), format!("{locks}; begin")] {
            assert_eq!(code(&mut peer, &text).await.is_some(), is_refused, "{text}");
            assert_eq!(code(&mut peer, "rollback").await, None);
        }
        let told = ask().run(locks).run("begin").sync(&mut peer).await;
        assert_eq!(error(&told).is_some(), is_refused, "{locks}");
        assert_eq!(code(&mut peer, "rollback").await, None);
    }
}

#[tokio::test]
async fn every_row_of_every_table_that_is_locked_counts_for_that_table() {
    let gate = Gate::start(&format!("{SHOP}{SMALL}")).await;
    let grant = gate.grant(Access::Write).await;
    let itself = "join orders b on b.id = a.id + 100 join orders c on c.id = a.id + 200";
    let cases = [
        (format!("select 1 from orders a {itself} where a.id <= 60 for update"), false),
        (format!("select 1 from orders a {itself} where a.id <= 30 for update"), true),
        (format!("select 1 from orders a {itself} where a.id <= 60 for update of a"), true),
        (
            "select 1 from orders a join customers k on k.id = a.id where a.id <= 60 for update of a, k".to_owned(),
            false,
        ),
        ("select 1 from orders a join customers k on k.id = a.id where a.id <= 40 for update of a, k".to_owned(), true),
        // What is locked elsewhere is no share of a small table.
        (
            "select 1 from orders where id <= 80 for update; select 1 from settings where key = 'k1' for update"
                .to_owned(),
            true,
        ),
        // A cursor that locks nothing is read to its end.
        (
            "select 1 from orders where id = 1 for update; declare c cursor for select 1 from orders; fetch all from c"
                .to_owned(),
            true,
        ),
        ("declare c cursor for select 1 from orders for update; fetch 80 from c; fetch 80 from c".to_owned(), false),
    ];
    for (sql, stands) in cases {
        let mut peer = Peer::through(&grant).await;
        assert_eq!(code(&mut peer, "begin").await, None);
        let told = error(&peer.query(&sql).await);
        assert_eq!(told.is_none(), stands, "{sql}: {told:?}");
    }
}

#[tokio::test]
async fn rows_of_ones_own_lower_nobody_elses_share() {
    let gate = Gate::start(&format!("{SHOP}{SMALL}")).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let theirs = "delete from settings where key like 'k%'";
    assert!(code(&mut peer, theirs).await.is_some());
    for (begin, own) in [("", "one"), ("begin", "two")] {
        assert_eq!(code(&mut peer, begin).await, None);
        let put = format!("insert into settings select '{own}' || g from generate_series(1, 90) g");
        assert_eq!(code(&mut peer, &put).await, None);
        assert!(code(&mut peer, theirs).await.is_some(), "{begin}");
        code(&mut peer, "rollback").await;
        assert_eq!(gate.count("select count(*) from settings where key like 'k%'").await, 41, "{begin}");
        // Less than half of what the others have.
        assert_eq!(code(&mut peer, &format!("delete from settings where key in ('{own}1', '{own}2')")).await, None);
    }
    // Where others have nothing, all that is there is one's own.
    assert_eq!(code(&mut peer, "insert into audit_trail (what) select 'x' from generate_series(1, 60) g").await, None);
    assert_eq!(code(&mut peer, "delete from audit_trail where what = 'x'").await, None);
}

#[tokio::test]
async fn a_label_does_not_make_code_harmless() {
    let gate = Gate::start(&format!("{SHOP}{SMALL}")).await;
    let grant = gate.grant(Access::Write).await;
    for sql in [
        "select calmly(500)",
        "select surely(500)",
        "select sum(calmly(g)) from generate_series(1, 500) g",
        "select 500::checked",
        "select count(g::checked) from generate_series(1, 500) g",
    ] {
        let mut peer = Peer::through(&grant).await;
        assert!(code(&mut peer, sql).await.is_some(), "{sql}");
        assert_eq!(gate.count("select count(*) from orders").await, 3000, "{sql}");
    }
}

#[tokio::test]
async fn what_a_view_calls_counts_also_where_a_function_reads_it() {
    let purged =
        "create function purge() returns int language sql volatile as 'delete from orders where id <= 500; select 1';
        grant execute on function purge() to public;
        create view purged as select purge() as n; grant select on purged to public;";
    let gate = Gate::start(&format!("{SHOP}{purged}")).await;
    let grant = gate.grant(Access::Write).await;
    for sql in [
        "select table_to_xml('purged', true, false, '')",
        "select table_to_xml_and_xmlschema('purged', true, false, '')",
        "create temp view own as select purge() as n; select table_to_xml('own', true, false, '')",
    ] {
        assert!(code(&mut Peer::through(&grant).await, sql).await.is_some(), "{sql}");
        assert_eq!(gate.count("select count(*) from orders").await, 3000, "{sql}");
    }
}

#[tokio::test]
async fn settings_go_by_their_own_names_only() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = Peer::through(&grant).await;
    let before = rows(&peer.query("select current_user, current_setting('search_path')").await);
    for sql in [
        "select set_config(name, 'none', false) from (select 'role'::char(30) as name) x where name = 'role   '",
        "select set_config(name, 'none', false) from (select 'role' as name) x where name = 'jit'",
        "select set_config(name, 'none', false) from pg_settings where name = 'role  '",
        "select set_config('standard_conforming_strings '::bpchar, 'off', false)",
        "select set_config('standard_conforming_stringsX'::varchar(27), 'off', false)",
        "select set_config('role'::name, 'none', false)",
        "select set_config('role ', 'none', false)",
        "create temp view s as select * from pg_settings",
        "create temp view s as select * from pg_catalog.pg_settings where true",
    ] {
        assert_eq!(code(&mut peer, sql).await.as_deref(), Some("42501"), "{sql}");
    }
    assert_eq!(code(&mut peer, "set search_path = pg_temp, pg_catalog, public").await, None);
    assert_eq!(code(&mut peer, "create temp table pg_settings as select 'role'::char(9) as name").await, None);
    let through = "select set_config(name, 'none', false) from pg_settings where name = 'jit'";
    assert_eq!(code(&mut peer, through).await.as_deref(), Some("42501"));
    assert_eq!(code(&mut peer, "drop table pg_settings").await, None);
    assert_eq!(code(&mut peer, "reset search_path").await, None);
    // As pg_dump asks for it.
    let asked = "select set_config(name, 'off', false) from pg_settings where name = 'jit'";
    assert_eq!(code(&mut peer, asked).await, None);
    assert_eq!(rows(&peer.query("select current_user, current_setting('search_path')").await), before);
}
