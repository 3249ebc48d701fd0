//! What is masked, in the places where PostgreSQL keeps it beside the rows: bounds of partitions, foreign keys,
//! the write-ahead log.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, column, refusal};

const SHOP: &str = "
    create table people (id int, name text, city text, pay int) partition by list (city);
    create table people_a partition of people for values in ('Athens', 'Arles') partition by range (id);
    create table people_a_1 partition of people_a for values from (0) to (100);
    create table people_b partition of people for values in ('Bonn');
    insert into people values (1, 'Ana', 'Athens', 10), (2, 'Bo', 'Bonn', 20);
    create table trips (id int, city text, at date) partition by range (at);
    create table trips_old partition of trips for values from ('2000-01-01') to ('2020-01-01') partition by hash (lower(city));
    create table trips_old_0 partition of trips_old for values with (modulus 1, remainder 0);
    create table trips_new partition of trips for values from ('2020-01-01') to ('2030-01-01');
    insert into trips values (1, 'Athens', '2010-01-01'), (2, 'Bonn', '2025-01-01');
    create view in_bonn as select id, name from people_b;
    create view cheap as select id, name from people where pay < 15;
    create table customers (id int primary key, email text unique, tags jsonb);
    create index on customers using gin (tags);
    insert into customers values (1, 'canary@example.com', '{\"a\": 1}');
    create table subs (id int primary key, email text references customers (email), email_too text references customers (email),
      customer int references customers, plan text);
    insert into subs values (1, 'canary@example.com', 'canary@example.com', 1, 'free');
    create table plain (id int primary key, note text);
    insert into plain values (1, 'x');
    analyze";

const TAGS: &str = r#"
[[column]]
match = "public.people*.city"
tags = ["pii"]
[[column]]
match = "public.trips.city"
tags = ["pii"]
[[column]]
match = "public.customers.email"
tags = ["pii"]
[[column]]
match = "public.customers.tags"
tags = ["pii"]
[[column]]
match = "public.subs.email_too"
tags = []
"#;

#[tokio::test]
async fn partitions_by_a_masked_column_are_out_of_reach_by_name_and_plan() {
    let gate = Gate::start_under(SHOP, &[("classification.toml", TAGS)]).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for sql in [
        "select id from people_a",
        "select id from people_a_1",
        "select id from people_b",
        "select id from only people_b",
        "update people_b set name = 'x' where id = 2",
        "delete from people_a_1 where id = 1",
        "insert into people_b (id, name, city) values (3, 'Cy', 'Bonn')",
        "select id from trips_old_0",
        "select id from in_bonn",
        "explain select id from people where id = 1",
        "explain analyze select id from people where id = 1",
        "explain (analyze, costs off) select id from cheap where id = 1",
        "explain (analyze) update people set name = 'x' where id = 1",
        "explain analyze select id from trips where id = 1",
        "explain analyze select id from trips_old where id = 1",
        "select idx_tup_fetch, relname from pg_stat_xact_user_tables",
        "select pg_stat_get_xact_tuples_fetched('people_b'::regclass)",
        "select tableoid::regclass, id from people",
    ] {
        let (code, message) = refusal(&client, sql).await;
        assert_eq!(code, "42501", "{sql}: {message}");
    }
    for (sql, expected) in [
        ("select name from people order by id", vec!["Ana", "Bo"]),
        ("select name from people where pay > 15", vec!["Bo"]),
        ("select name from cheap", vec!["Ana"]),
        ("select id from trips order by id", vec!["1", "2"]),
        ("select id from trips_new", vec!["2"]),
        ("select id from trips_old", vec!["1"]),
        ("insert into people (id, name, city) values (3, 'Cy', 'Arles') returning name", vec!["Cy"]),
        ("update people set name = 'Cyd' where id = 3 returning name", vec!["Cyd"]),
        ("delete from people where id = 3 returning id", vec!["3"]),
    ] {
        assert_eq!(column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")), expected, "{sql}");
    }
    for sql in ["explain analyze select note from plain", "explain select id from trips_new"] {
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_mask_follows_a_foreign_key_but_for_a_column_that_an_entry_names() {
    let gate = Gate::start_under(SHOP, &[("classification.toml", TAGS)]).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    for (sql, expected) in [
        ("select email from subs", "***"),
        ("select email_too from subs", "canary@example.com"),
        ("select customer from subs", "1"),
        ("select plan from subs", "free"),
    ] {
        assert_eq!(column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")), [expected], "{sql}");
    }
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn how_much_a_write_to_masked_columns_logs_is_not_told() {
    let gate = Gate::start_under(SHOP, &[("classification.toml", TAGS)]).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client
        .simple_query("prepare one as insert into customers (id, tags) values (10, '{\"a\": 1}')")
        .await
        .expect("kept");
    for sql in [
        "explain (analyze, wal) insert into customers (id, tags) values (9, '{\"a\": 1}')",
        "explain (analyze true, wal on, costs off) update customers set tags = '{}' where id = 1",
        "explain (analyze, wal) delete from customers where id = 7",
        "explain (analyze, wal) with w as (insert into customers (id) values (9) returning id) select * from w",
        "explain (analyze, wal) execute one",
    ] {
        let (code, message) = refusal(&client, sql).await;
        assert_eq!((code.as_str(), message.contains("log")), ("42501", true), "{sql}: {message}");
    }
    for sql in [
        "explain (analyze, wal) update plain set note = 'y' where id = 1",
        "explain (analyze, wal off) update subs set plan = 'z' where id = 1",
        "explain (analyze, wal) select id from customers",
        "explain (analyze) delete from customers where id = 7",
    ] {
        client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    drop(client);
    gate.stop().await;
}
