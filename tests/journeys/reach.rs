//! What a statement reaches: code that calls code, and tables that other tables lead to. An approval
//! is for all of that as it was, and for what its code asks the session for.

use dbgate::core::grant::Access;
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::dbgate::said;
use crate::support::gate::{SHOP, superuser};
use crate::support::scene::{Scene, UPDATE};

/// A trigger calls a function, which writes to a table with a life of its own; and rows refer to orders.
const APP: &str = "create schema app; grant usage on schema app to public;\n\
    create domain app.word as text;\n\
    create domain app.number as int;\n\
    create type app.pair as (a app.number);\n\
    create table app.log (at timestamptz default now(), who text default current_user, what app.word);\n\
    create table app.lines (order_id int references orders);\n\
    create function app.clean(text) returns text language sql immutable as 'select lower($1)';\n\
    create view app.seen as select what from app.log;\n\
    create function app.note(what text) returns void language plpgsql as \
      $$ begin insert into app.log (what) values (app.clean(what)); perform from app.seen limit 1; end $$;\n\
    create function app.noted() returns trigger language plpgsql security definer as \
      $$ begin perform app.note(tg_table_name || coalesce(current_setting('app.person', true), '')); return null; end $$;\n\
    create trigger noted after update on orders for each statement execute function app.noted();\n\
    create function app.nothing() returns trigger language plpgsql as 'begin return null; end';\n\
    create table parts (id int, n int) partition by range (id);\n\
    create table parts_1 partition of parts for values from (0) to (1000);\n\
    insert into parts select i, 0 from generate_series(1, 900) i;\n\
    create function app.run(text) returns void language plpgsql as 'begin execute $1; end';\n\
    create function app.choose(text) returns text language sql as $$ select set_config('my.most', $1, false) $$;";

async fn scene() -> Scene {
    Scene::start_over(&format!("{SHOP}\n{APP}\nanalyze;"), "").await
}

/// In a block, which is never held: its SQLSTATE, the request it made, and what was said.
async fn told(client: &Client, sql: &str) -> (String, String, String) {
    client.batch_execute("begin").await.expect("a block");
    let answered = client.batch_execute(sql).await;
    client.batch_execute("rollback").await.expect("it ends");
    let Err(failed) = answered else { return (String::new(), String::new(), String::new()) };
    let failed = failed.as_db_error().unwrap_or_else(|| panic!("an error of the server: {failed:?}"));
    let detail: Value = failed.detail().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let id = detail.get("request_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    (failed.code().code().to_owned(), id, format!("{} {}", failed.message(), failed.hint().unwrap_or_default()))
}

async fn approved(scene: &Scene, client: &Client, sql: &str) -> String {
    let (state, id, said_so) = told(client, sql).await;
    assert_eq!(state, "ZG001", "{sql}: {said_so}");
    let output = scene.run("raj", &["approve", &id]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_reaches_voids_the_approval_when_it_is_defined_anew() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    owner
        .batch_execute(
            "drop role if exists reach_helper; create role reach_helper; grant all on schema app to reach_helper; \
             alter function app.noted() owner to reach_helper; grant all on all tables in schema app to reach_helper",
        )
        .await
        .expect("a role");
    let grant = scene.gate.grant(Access::Write).await;
    let parts = "update parts set n = 1 where id > 100";
    let implied = "update parts set n = 1 where id in (select id from parts where id between 100 and 900)";
    let typed = "update parts set n = (row(1)::app.pair).a where id > 100";
    for (sql, change, what) in [
        (
            UPDATE,
            "create or replace function app.clean(text) returns text language sql immutable as 'select upper($1)'",
            "a function",
        ),
        (
            UPDATE,
            "create function app.clean(varchar) returns text language sql immutable as 'select $1::text'",
            "a function",
        ),
        (
            UPDATE,
            "create function app.more() returns trigger language plpgsql as 'begin return null; end'; \
             create trigger more after insert on app.log for each statement execute function app.more()",
            "a trigger",
        ),
        (UPDATE, "alter table app.log disable trigger more", "a trigger"),
        (UPDATE, "alter table app.log alter at set default now() - interval '1 day'", "a default"),
        (UPDATE, "alter table app.log add check (what <> 'x')", "a constraint"),
        (UPDATE, "alter domain app.word add check (value <> 'y')", "a constraint"),
        (UPDATE, "create rule also as on insert to app.log do also delete from app.lines", "a view or rule"),
        (UPDATE, "create or replace view app.seen as select what from app.log where what <> ''", "a view or rule"),
        (
            UPDATE,
            "create policy own on app.log using (true); alter table app.log enable row level security",
            "a row policy",
        ),
        (UPDATE, "create schema early; create table early.log (what text)", "a relation"),
        (UPDATE, "create table more_orders () inherits (orders)", "a relation"),
        (
            UPDATE,
            "alter table app.lines drop constraint lines_order_id_fkey, \
             add foreign key (order_id) references orders on update cascade on delete cascade",
            "a constraint",
        ),
        (
            UPDATE,
            "create function app.as_row(app.log) returns int language sql as 'select 1'; \
             create cast (app.log as int) with function app.as_row(app.log)",
            "a cast",
        ),
        (
            UPDATE,
            "create function app.plus(numeric, int) returns numeric language sql as 'select $1'; \
             create operator public.+ (leftarg = numeric, rightarg = int, function = app.plus)",
            "an operator",
        ),
        (
            implied,
            "create function app.same(numeric, text) returns boolean language sql as 'select true'; \
             create operator public.= (leftarg = numeric, rightarg = text, function = app.same)",
            "an operator",
        ),
        (implied, "create operator public.>= (leftarg = numeric, rightarg = text, function = app.same)", "an operator"),
        (typed, "alter domain app.number add check (value <> 7)", "a constraint"),
        (UPDATE, "grant pg_write_all_data to reach_helper", "a role"),
        (UPDATE, "create unique index on app.log (lower(what))", "an index"),
        (parts, "create table parts_2 partition of parts for values from (1000) to (2000)", "a relation"),
        (parts, "create trigger idle after update on parts_1 for each row execute function app.nothing()", "a trigger"),
    ] {
        let client = scene.gate.connect(&grant).await;
        voided(&scene, &client, &owner, (sql, change, what)).await;
    }
    scene.end().await;
}

async fn voided(scene: &Scene, client: &Client, owner: &Client, (sql, change, what): (&str, &str, &str)) {
    let id = approved(scene, client, sql).await;
    owner.batch_execute(change).await.unwrap_or_else(|error| panic!("{change}: {error:?}"));
    let (state, other, message) = told(client, sql).await;
    assert_eq!(state, "ZG001", "{change}: {message}");
    assert_ne!(id, other, "{change}");
    let why = format!("{what} that it reaches");
    assert!(message.contains("is void, because") && message.contains(&why), "{change}: {message}");
}

/// An application as most are, and a database in which others are at work.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_nothing_to_do_with_it_leaves_an_approval_as_it_is() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    owner.batch_execute("create temp table mine (id int)").await.expect("others have temporary tables");
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("set app.person = 'ana'").await.expect("its own");
    approved(&scene, &client, UPDATE).await;
    for change in [
        "create table app.other (id serial primary key, at timestamptz default now(), n int check (n > 0))",
        "create function app.of_others() returns trigger language plpgsql as 'begin perform lastval(); return null; end'",
        "create trigger other after insert on app.other for each row execute function app.of_others()",
        "create index on orders (customer_id)",
        "grant select on app.log to public",
        "analyze orders",
        "vacuum app.log",
        "create temp table more (id int) on commit drop",
    ] {
        owner.batch_execute(change).await.expect(change);
    }
    // Another grant's scope and roles come and go as well.
    drop(scene.gate.connect(&scene.gate.grant(Access::Read).await).await);
    assert_eq!(client.execute(UPDATE, &[]).await.expect("approved"), 1500);
    assert_eq!(scene.changed().await, 1500);
    assert_eq!(scene.gate.count("select count(*) from app.log where what = 'ordersana'").await, 1);
    // Where it makes its SQL while it runs, nobody knows what it reaches.
    let makes = "create or replace function app.note(what text) returns void language plpgsql as \
                 $$ begin execute format('insert into app.%I (what) select %L', 'log', what); end $$";
    owner
        .batch_execute("update orders set amount = amount - 10000 where amount > 10000; drop table app.other")
        .await
        .expect("as before");
    owner.batch_execute("drop function app.of_others()").await.expect("gone");
    owner.batch_execute(makes).await.expect("another body");
    approved(&scene, &client, UPDATE).await;
    assert_eq!(client.execute(UPDATE, &[]).await.expect("approved"), 1500);
    owner.batch_execute("update orders set amount = amount - 10000 where amount > 10000").await.expect("as before");
    for change in [
        "create function app.other() returns int language sql as 'select 1'",
        "alter domain app.word set default 'x'",
        "create table parts_2 partition of parts for values from (1000) to (2000)",
        "alter table parts enable row level security",
        "create unique index on customers (name, id)",
        "create trigger idle after update on parts for each statement execute function app.nothing()",
    ] {
        voided(&scene, &client, &owner, (UPDATE, change, "something in the database")).await;
    }
    owner
        .batch_execute("create function app.drawn() returns bigint language sql as 'select pg_backend_pid()'")
        .await
        .expect("made");
    let (state, id, message) = told(&client, UPDATE).await;
    assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{message}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_where_anything_it_reaches_looks_at_what_only_the_session_knows() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    for (look, back) in [
        (
            "create or replace function app.clean(text) returns text language sql begin atomic select pg_backend_pid()::text; end",
            "create or replace function app.clean(text) returns text language sql as 'select $1'",
        ),
        ("alter table app.log add n bigint default pg_backend_pid()", "alter table app.log drop n"),
        (
            "alter table app.log add check (what <> pg_backend_pid()::text)",
            "alter table app.log drop constraint log_what_check",
        ),
        (
            "alter domain app.word add constraint late check (value <> pg_backend_pid()::text)",
            "alter domain app.word drop constraint late",
        ),
        ("alter domain app.word set default pg_backend_pid()::text", "alter domain app.word drop default"),
        (
            "create trigger late after insert on app.log for each row when (pg_backend_pid() > 5) execute function app.nothing()",
            "drop trigger late on app.log",
        ),
        (
            "create rule late as on insert to app.log where pg_backend_pid() > 5 do instead nothing",
            "drop rule late on app.log",
        ),
        (
            "create or replace view app.seen as select what from app.log where exists (select from pg_settings where setting = 'x')",
            "create or replace view app.seen as select what from app.log",
        ),
        ("create policy late on app.log using (pg_backend_pid() > 5)", "drop policy late on app.log"),
        (
            "create function app.hidden() returns bigint language sql immutable as 'select pg_backend_pid()'; create index late on app.log ((app.hidden()))",
            "drop function app.hidden() cascade",
        ),
        (
            "create function app.deep() returns trigger language plpgsql as 'begin if false then perform currval(''s''); end if; return null; end'; \
          create trigger deep after update on parts for each statement execute function app.deep(); \
          create or replace function app.clean(text) returns text language sql as 'update parts set n = 2; select $1'",
            "drop function app.deep() cascade; create or replace function app.clean(text) returns text language sql as 'select $1'",
        ),
        (
            "create function app.from_word(app.log) returns int language sql as 'select pg_backend_pid()::int'; \
          create cast (app.log as int) with function app.from_word(app.log) as implicit",
            "drop function app.from_word(app.log) cascade",
        ),
    ] {
        owner.batch_execute(look).await.unwrap_or_else(|error| panic!("{look}: {error:?}"));
        let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
        let (state, id, message) = told(&client, UPDATE).await;
        assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{look}: {message}");
        assert!(message.contains("nobody can be asked"), "{look}: {message}");
        owner.batch_execute(back).await.unwrap_or_else(|error| panic!("{back}: {error:?}"));
    }
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    assert_eq!(told(&client, UPDATE).await.0, "ZG001", "all of that is gone");
    // What code has made in the session's own schema.
    client
        .batch_execute(
            "select app.run('create function pg_temp.lower(text) returns text language sql as ''select $1''')",
        )
        .await
        .expect("made");
    let (state, id, message) = told(&client, UPDATE).await;
    assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{message}");
    assert!(message.contains("of its own"), "{message}");
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    client.batch_execute("select app.run('create temp table other (id int)')").await.expect("made");
    let (state, id, message) = told(&client, UPDATE).await;
    assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{message}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_anything_it_reaches_asks_for_are_bound() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    let asks = "coalesce(current_setting('my.most', true), '') = '1'";
    let body = |asks: &str| {
        format!(
            "create or replace function app.clean(text) returns text language sql begin atomic select ({asks})::text; end"
        )
    };
    for (ask, back) in [
        (body(asks), "create or replace function app.clean(text) returns text language sql as 'select $1'"),
        (format!("alter table app.log add n bool default ({asks})"), "alter table app.log drop n"),
        (
            format!("alter domain app.word add constraint late check (value <> 'x' or {asks})"),
            "alter domain app.word drop constraint late",
        ),
        (
            format!(
                "create trigger late after insert on app.log for each row when ({asks}) execute function app.nothing()"
            ),
            "drop trigger late on app.log",
        ),
        (
            format!("create rule late as on insert to app.log where {asks} do instead nothing"),
            "drop rule late on app.log",
        ),
        (
            format!("create or replace view app.seen as select what from app.log where {asks}"),
            "create or replace view app.seen as select what from app.log",
        ),
    ] {
        owner.batch_execute(&ask).await.unwrap_or_else(|error| panic!("{ask}: {error:?}"));
        let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
        client.batch_execute("select app.choose('1')").await.expect("its own");
        let id = approved(&scene, &client, UPDATE).await;
        client.batch_execute("select app.choose('2')").await.expect("another");
        let (state, other, message) = told(&client, UPDATE).await;
        assert_eq!(state, "ZG001", "{ask}: {message}");
        assert_ne!(id, other, "{ask}");
        assert!(message.contains("the setting my.most"), "{ask}: {message}");
        owner.batch_execute(back).await.unwrap_or_else(|error| panic!("{back}: {error:?}"));
    }
    // Under a name that is put together it may be any.
    let any = "create or replace function app.clean(text) returns text language sql as $$ select current_setting('my.' || $1, true) $$";
    owner.batch_execute(any).await.expect("another body");
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    assert_eq!(told(&client, UPDATE).await.0, "ZG001", "it has set nothing");
    client.batch_execute("select app.choose('2')").await.expect("another");
    let (state, id, message) = told(&client, UPDATE).await;
    assert_eq!((state.as_str(), id.as_str()), ("42501", ""), "{message}");
    scene.end().await;
}
