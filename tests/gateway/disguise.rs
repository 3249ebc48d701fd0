//! Functions that are called without looking like it: as a field, an operator, an aggregate.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, SHOP, column, refusal};

const CALLS: &str = "
create function peek(orders) returns text language sql security definer
  as 'select email from customers where id = $1.customer_id';
create function peek_at(text, int) returns text language sql security definer
  as 'select email from customers where id = $2';
create operator ?=> (leftarg = text, rightarg = int, function = peek_at);
create aggregate peeked(int) (sfunc = peek_at, stype = text, initcond = '');
create type shown as (email text);
create function show_as(int) returns shown language sql security definer
  as 'select row(email)::shown from customers where id = $1';
create cast (int as shown) with function show_as(int);
create function is_known(text) returns boolean language sql stable security definer
  as 'select exists (select from customers where email = $1)';
create domain known as text check (is_known(value));
create domain known_too as known;
create type holder as (a int, b known);
create function take(known) returns int language sql as 'select 1';
create function by_name(int) returns text language sql stable security definer
  as 'select email from customers where id = $1';
create function contact(int) returns text language sql stable as 'select by_name($1)';
create function contact_of(int) returns text language plpgsql stable as 'begin return \"contact\" ($1); end';
create function look(text, int) returns text language sql security definer
  as 'select email from customers where id = $2';
revoke execute on function look(text, int) from public;
create aggregate looked(int) (sfunc = look, stype = text, initcond = '');
create view through_operator as select id, '' ?=> id as mail from orders;
create view through_aggregate as select looked(id) as mail from orders where id = 3;
create view through_function as select contact_of(3) as mail;
create materialized view stats as
  select tablename::text, attname::text, most_common_vals::text as mail from pg_stats;
create materialized view dump as select query_to_xml('select email from customers', true, false, '')::text as mail;
create function purge(orders) returns int language sql volatile
  as 'delete from orders where id > 100; select 1';
";

#[tokio::test]
async fn what_runs_with_its_owners_rights_is_refused_in_every_spelling() {
    let gate = Gate::start(&format!("{SHOP}{CALLS}")).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    for sql in [
        "select peek(o) from orders o where id = 3",
        "select o.peek from orders o where id = 3",
        "select (o).peek from orders o where id = 3",
        "select orders.peek from orders where id = 3",
        "select public.orders.peek from public.orders where id = 3",
        "select (select o).peek from orders o where id = 3",
        "select '' ?=> 3",
        "select '' operator(public.?=>) 3",
        "select 1 from orders where '' ?=> id = any (select 'x') limit 1",
        "select peeked(id) from orders where id = 3",
        "select looked(id) from orders where id = 3",
        "select contact(3)",
        "select contact_of(3)",
        "select mail from through_operator where id = 3",
        "select mail from through_aggregate",
        "select mail from through_function",
        "select mail from stats where tablename = 'customers'",
        "select mail from dump",
        "select 3::shown",
        "select cast(id as public.shown) from orders where id = 3",
        "select shown(3)",
        "select (3).shown",
        "select 'user3@example.com'::known",
        "select public.known('user3@example.com')",
        "select '{user3@example.com}'::known[]",
        "select 'user3@example.com'::known_too",
        "select row(1, 'user3@example.com')::holder",
        "select jsonb_populate_record(null::holder, '{\"b\": \"user3@example.com\"}')",
        "select * from jsonb_to_record('{\"b\": \"user3@example.com\"}') as r (b known)",
        "select b from xmltable('/r' passing ('<r>user3@example.com</r>'::xml) columns b known path '.') x",
        "create temp table guesses (b known)",
        "create temp table guesses of holder",
        "prepare guess (known) as select $1",
        "select take('user3@example.com')",
    ] {
        assert_eq!(refusal(&client, sql).await.0, "42501", "{sql}");
    }
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_no_policy_lets_be_called_is_refused_in_every_spelling() {
    let gate = Gate::start(SHOP).await;
    let large_objects = "select count(*) from pg_largeobject_metadata";
    for access in [Access::Read, Access::Write] {
        let client = gate.connect(&gate.grant(access).await).await;
        for sql in [
            "select lo_create(0)",
            "select (0::oid).lo_create",
            "select (x.o).lo_create from (select 987654::oid as o) x",
            "select x.lo_create from (select 1) x",
            "select query_to_xml('select lo_create(0)', true, false, '')",
            "select query_to_xml('select (0::oid).lo_create', true, false, '')",
            "select query_to_xml('select lo_' || 'create(0)', true, false, '')",
            "select query_to_xml('select ' || name, true, false, '') from customers limit 1",
            "select query_to_xml($$select set_config('role', 'none', false)$$, true, false, '')",
            "select ('select lo_create(0)'::text).ts_stat",
        ] {
            assert_eq!(refusal(&client, sql).await.0, "42501", "{sql}");
        }
        assert_eq!(column(&client, large_objects).await.expect("counted"), ["0"]);
        let each = "select query_to_xml(format('select count(*) as c from %I', relname), false, true, '')::text \
                    from pg_class where relname = 'orders'";
        assert!(column(&client, each).await.expect("a text that can be read").concat().contains("3000"));
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_field_that_is_a_call_is_counted_like_one() {
    let gate = Gate::start(&format!("{SHOP}{CALLS}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for sql in ["select o.purge from orders o where id = 1", "select (o).purge from orders o where id = 1"] {
        assert_eq!(refusal(&client, sql).await.0, "42501", "{sql}");
    }
    assert_eq!(column(&client, "select count(*) from orders").await.expect("counted"), ["3000"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_write_returns_what_may_be_seen_of_a_masked_relation() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let sql = "update customers set name = 'new' where id = 3 returning *";
    let rows = client.query(sql, &[]).await.expect("returns");
    let row = rows.first().expect("one row");
    assert_eq!(
        row.columns().iter().map(|column| column.name()).collect::<Vec<_>>(),
        ["id", "name", "email", "ssn", "status"]
    );
    assert_eq!((row.get::<_, i32>(0), row.get::<_, String>(1)), (3, "new".to_owned()));
    let shown = column(&client, "select email from customers where id = 3").await.expect("reads").concat();
    assert!(shown.contains('@') && !shown.contains("user3@"), "{shown}");
    let masked = (Some(shown), Some("***".to_owned()));
    assert_eq!((row.get::<_, Option<String>>(2), row.get::<_, Option<String>>(3)), masked);
    // The role reads nothing of the number, and the write need not go through a view for it.
    assert_eq!(refusal(&client, "delete from customers where id = 3 returning lower(ssn)").await.0, "42501");
    drop(client);
    gate.stop().await;
}

/// What is syntax to a newer server, and to this one a function of the owner's.
#[tokio::test]
async fn a_word_that_is_syntax_elsewhere_calls_what_the_server_calls() {
    const OWN: &str = "
        create function json_query(int, text) returns text language sql stable security definer
          as 'select email from customers where id = $1';
        create function json_scalar(int) returns int language sql volatile
          as 'update orders set amount = 0 where id = $1; select 1';
        create function json_serialize(bigint) returns bigint language sql volatile
          as 'update orders set amount = 0 where id = $1; select $1';";
    let gate = Gate::start(&format!("{SHOP}{OWN}")).await;
    if gate.count("select current_setting('server_version_num')::int8").await < 170_000 {
        let client = gate.connect(&gate.grant(Access::Write).await).await;
        for sql in [
            "select json_query(3, '$')",
            "select 1 from json_query(3, '$') q",
            "select json_query(id, '$') from orders",
        ] {
            let (code, message) = refusal(&client, sql).await;
            assert!(code == "42501" && message.contains("json_query"), "{sql}: {code} {message}");
            let error = client.query(sql, &[]).await.expect_err("extended too");
            assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{sql}");
        }
        for sql in ["select count(json_scalar(id)) from orders", "select json_serialize(id::bigint) from orders"] {
            assert_eq!(refusal(&client, sql).await.0, "42501", "counted, and too many: {sql}");
        }
        assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
        assert_eq!(column(&client, "select json_scalar(1)").await.expect("one row"), ["1"]);
        drop(client);
    }
    gate.stop().await;
}

#[tokio::test]
async fn effects_once_a_row_are_seen_in_every_spelling() {
    const SEQUENCE: &str = "create sequence ticket_no;
        create function numbers(int) returns setof int language sql stable as 'select generate_series(1, $1)';
        grant usage on sequence ticket_no to public;
        create table outbox (id bigserial primary key, topic text unique, line int);
        create table lines (line int, id int);
        insert into lines select g % 10, g from generate_series(1, 100) g;";
    let gate = Gate::start(&format!("{SHOP}{SEQUENCE}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.batch_execute("create temp table own (a bigint, b int)").await.expect("a table of its own");
    for sql in [
        "select count(('public.ticket_no'::regclass).nextval) from generate_series(1, 20000)",
        "select count((g::bigint).pg_try_advisory_lock) from generate_series(1, 3000) g",
        "select count(nextval('ticket_no')) from generate_series(1, 200) a, generate_series(1, 200) b",
        "select sum(n) from (select nextval('ticket_no') as n, numbers(20000)) x",
        "insert into own select nextval('ticket_no') from generate_series(1, 20000)",
        "create temp table drawing (a bigint default nextval('public.ticket_no'), b int)",
        "alter table own alter a set default nextval('ticket_no')",
        "create temp table locking (b int check (pg_try_advisory_lock(b)))",
        "select count(query_to_xml('select nextval(''ticket_no'')', true, true, '')) from generate_series(1, 20000)",
        "with recursive r (n) as (select 1::bigint union all select nextval('ticket_no') from (select n from r limit 1) x) \
         select count(*) from (select * from r limit 20000) y",
        "create temp table taken (like outbox including defaults)",
        "create temp table taken (like public.outbox including all)",
        "copy outbox (topic) from stdin where nextval('ticket_no') < 0",
        "copy outbox (topic) from stdin where topic = 'none'",
        "select count(*) from (select g from generate_series(1, 20000) g where g = g + 0) g, \
         (select nextval('ticket_no') as n union all select nextval('ticket_no')) x",
        "select count(n) from (select nextval('ticket_no') as n, (('{1' || repeat(',1', 20000) || '}')::int[]).unnest) x",
        "select nextval('ticket_no') order by numbers(20000)",
        "begin isolation level repeatable read; select count(pg_export_snapshot()) from generate_series(1, 20000)",
        "insert into own select g from generate_series(1, 20000) g returning nextval('ticket_no')",
        "insert into outbox (topic) select 'x' from generate_series(1, 20000) returning pg_advisory_lock(id)",
        "insert into outbox (topic) select 'x' from generate_series(1, 20000) on conflict (topic) do update set line = 1 \
         where nextval('ticket_no') < 0",
        "insert into outbox (id, topic) select nextval('ticket_no'), 'x' from generate_series(1, 20000) order by 1 limit 1",
        "update outbox set line = nextval('ticket_no') from generate_series(1, 20000) g where id = 1",
        // What it is pinned to is no key, or a key of another relation.
        "select pg_advisory_lock(id) from lines where line = 4",
        "select (select count(nextval('ticket_no')) from orders o where x.id = 1) from (select 1 as id) x",
    ] {
        let (code, message) = refusal(&client, sql).await;
        assert_eq!(code, "42501", "{sql}: {message}");
        assert!(message.contains("once for every row"), "{sql}: {message}");
    }
    // The same shape with another number in it is another matter, in the protocol that remembers shapes.
    let few = client.query("select nextval('ticket_no') from generate_series(1, 5)", &[]).await.expect("five");
    assert_eq!(few.len(), 5);
    let many = client.query("select nextval('ticket_no') from generate_series(1, 20000)", &[]).await;
    let error = many.expect_err("too many");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"));
    assert_eq!(column(&client, "select last_value from ticket_no").await.expect("read"), ["5"]);
    assert_eq!(gate.count("select count(*) from outbox").await, 0);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn effects_for_a_few_rows_are_what_applications_do() {
    let more = "create table outbox (id bigserial primary key, topic text);";
    let gate = Gate::start(&format!("{SHOP}{more}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for (sql, rows) in [
        ("select pg_try_advisory_lock(id) from orders where id = 42", 1),
        ("select pg_try_advisory_xact_lock(o.id) from orders o where o.id = 42 and amount > 0", 1),
        (
            "with x as (select id from orders order by id limit 5) select id from x where pg_try_advisory_xact_lock(id)",
            5,
        ),
        (
            "with u as (update orders set amount = 0 where id in (1, 2) returning id) select pg_notify('c', id::text) from u",
            2,
        ),
        (
            "with i as (insert into outbox (topic) values ('a'), ('b') returning id) select pg_notify('c', id::text) from i",
            2,
        ),
        ("update orders set amount = 1 where id < 4 returning pg_notify('c', id::text)", 3),
        ("create temp table taken (like outbox); select count(*) from taken", 1),
    ] {
        assert_eq!(column(&client, sql).await.expect(sql).len(), rows, "{sql}");
    }
    let locked = "select pg_try_advisory_lock(id) from orders where id = $1";
    let statement = client.prepare(locked).await.expect("prepared");
    assert_eq!(client.query(&statement, &[&42]).await.expect("one").len(), 1);
    // More than may change cannot be notified of either.
    let (code, message) = refusal(
        &client,
        "with u as (update orders set amount = 0 where id < 900 returning id) select pg_notify('c', 'd') from u",
    )
    .await;
    assert!(code == "42501" && message.contains("899"), "{code} {message}");
    // A table of its own has no keys that anybody knows, also for what was prepared before it.
    client.batch_execute("create temp table orders (id int)").await.expect("a table of its own");
    assert!(refusal(&client, locked.replace("$1", "42").as_str()).await.1.contains("once for every row"));
    let error = client.query(&statement, &[&42]).await.expect_err("not as it was judged");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("42501"), "{error}");
    drop(client);
    gate.stop().await;
}
