//! Row filters and masking views on PostgreSQL itself, through the gate and past it.

use dbgate::core::grant::Access;
use dbgate::core::mask;
use dbgate::core::scope::RelationName;
use dbgate::server::{roles, scopes};
use futures_util::TryStreamExt as _;

use crate::support::bench::{answer, bench};
use crate::support::gate::{Gate, column, refusal};

const TENANTS: &str = "
    create table ten (id int primary key, tenant text not null, note text, secret text);
    insert into ten select i, case when i % 2 = 0 then 'a' else 'b' end, 'note ' || i, 'canary ' || i
      from generate_series(1, 10) i;
    create view notes_of as select id, note from ten;
    create view how_many as select count(*) as n from ten;
    create view over_ten as select id, note from ten;
    create table plain (id int);
    create function first_secret() returns text language sql stable as 'select secret from ten order by id limit 1';
    analyze";

const ONE_TENANT: &str = r#"
@id("own-tenant") @filter("tenant = 'a'")
forbid (principal, action == Action::"read", resource)
when { resource.name == "ten" };
@id("no-secrets") @mask("last4")
forbid (principal, action == Action::"reveal", resource)
when { resource.relation == "ten" && resource.name == "secret" };
"#;

#[tokio::test]
async fn below_a_filter_only_the_row_of_a_key_is_locked_by_itself() {
    let gate = Gate::start_under(TENANTS, &[("filter.cedar", ONE_TENANT)]).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for sql in [
        "select id from ten where note ~ '2' for update",
        "select id from ten where id = 2.0 for update",
        "select id from ten where id + 0 = 2 limit 1 for update",
        "with n as (select id from ten where note ~ '2' limit 1 for update) update ten set note = 'x' from n where ten.id = n.id",
    ] {
        let (state, message) = refusal(&client, sql).await;
        assert_eq!(state, "42501", "{sql}");
        assert!(message.contains("where nobody can count them"), "{sql}: {message}");
    }
    let locked = column(&client, "begin; select id from ten where id = 2 and note ~ 'note' for update").await;
    assert_eq!(locked.expect("one row"), ["2"]);
    // Somebody else gets at the others.
    let other = gate.connect(&gate.grant(Access::Write).await).await;
    let changed = column(&other, "update ten set note = 'y' where id = 4 returning id").await;
    assert_eq!(changed.expect("not locked"), ["4"]);
    client.batch_execute("rollback").await.expect("rollback");
    drop((client, other));
    gate.stop().await;
}

#[tokio::test]
async fn rows_that_a_filter_leaves_out_can_neither_be_read_nor_written() {
    let gate = Gate::start_under(TENANTS, &[("filter.cedar", ONE_TENANT)]).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let cases = [
        ("select id from ten order by id", vec!["2", "4", "6", "8", "10"]),
        ("select distinct secret from ten where id = 4", vec!["***ry 4"]),
        ("select n from how_many", vec!["5"]),
        ("select note from notes_of where id < 4", vec!["note 2"]),
        ("select count(*) from ten where tenant = 'b'", vec!["0"]),
        ("update ten set note = 'x' where id = 2 returning note", vec!["x"]),
        ("update public.ten set note = 'y' where public.ten.id = 2 returning *", vec!["2"]),
        // Rows of the other tenant are not there: nothing is changed and nothing returned.
        ("update ten set note = 'x' where id = 1 returning secret", vec![]),
        ("delete from ten where id = 3 returning id", vec![]),
        ("insert into ten (id, tenant, note) values (20, 'a', 'new') returning note", vec!["new"]),
        ("insert into ten (id, tenant, note) values (20, 'a', 'z') on conflict do nothing returning note", vec![]),
        ("insert into ten (id, tenant, note) values (1, 'a', 'z') on conflict (id) do nothing returning note", vec![]),
        ("insert into ten (id, tenant, secret) values (22, 'a', 'canary 22') returning secret", vec!["***y 22"]),
        ("insert into ten (id, tenant, secret) values (23, 'a', 'canary 23') returning *", vec!["23"]),
        ("insert into public.ten as t (id, tenant) values (24, 'a') returning t.id", vec!["24"]),
        ("delete from ten where id in (22, 23, 24) returning secret", vec!["***y 22", "***y 23", "-"]),
        ("delete from ten where id = 20 returning id", vec!["20"]),
        ("table how_many", vec!["5"]),
    ];
    for (sql, expected) in cases {
        assert_eq!(column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")), expected, "{sql}");
    }
    // Hole 5: a row moved out of sight, a row put into the sight of others, and the base table itself.
    let refused = [
        ("update ten set tenant = 'b' where id = 2", "44000"),
        ("insert into ten (id, tenant, note) values (21, 'b', 'x')", "44000"),
        ("insert into ten (id, tenant, secret) values (21, 'b', 'x') returning secret", "44000"),
        // ON CONFLICT does not ask the view about the row that is there: it would be brought into sight.
        (
            "insert into ten (id, tenant) values (1, 'a') on conflict (id) do update set tenant = 'a' returning *",
            "42501",
        ),
        ("insert into ten (id, tenant, note) values (1, 'a', 'x') on conflict (id) do update set note = 'x'", "42501"),
        ("insert into ten (id, tenant, note) values (2, 'a', 'x') on conflict (id) do update set note = 'x'", "42501"),
        ("insert into ten (id, tenant, secret) values (25, 'a', 'x') returning upper(secret)", "42501"),
        ("select first_secret()", "42501"),
        ("select query_to_xml('select secret from ten', true, false, '')", "42501"),
    ];
    for (sql, state) in refused {
        let (found, message) = refusal(&client, sql).await;
        assert_eq!(found, state, "{sql}: {message}");
        assert!(!message.contains("canary"), "{message}");
    }
    assert_eq!(gate.count("select count(*) from ten where tenant = 'b'").await, 5);
    gate.stop().await;
}

#[tokio::test]
async fn no_way_goes_round_a_filter() {
    let gate = Gate::start_under(TENANTS, &[("filter.cedar", ONE_TENANT)]).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    client.batch_execute("create temp view mine as select id, note from ten").await.expect("made");
    client.batch_execute("prepare hidden as select 1 from ten where note = 'note 1'").await.expect("prepared");
    for sql in [
        "insert into ten (id, tenant, note) values (1, 'a', 'x') on conflict (id) do update set tenant = 'a' returning *",
        "insert into ten (id, tenant, note) values (1, 'a', 'x') on conflict (id) do update set note = 'x' where ten.note > ''",
        "with w as (insert into ten (id, tenant) values (1, 'a') on conflict (id) do update set tenant = 'a' returning id) select * from w",
        "explain (analyze) select 1 from ten where id = 1",
        "explain (analyze, costs off, timing off) select 1 from ten where note = 'note 1'",
        "explain analyze update ten set note = note where id = 1",
        // Nor what estimates them, through a view of the owner's or of the session's own, or the counters.
        "explain select 1 from ten where note = 'note 1'",
        "explain (costs off) select 1 from ten where note = 'note 1'",
        "explain execute hidden",
        "explain (format json) create temp table z as execute hidden",
        "select tup_fetched from pg_stat_database",
        "explain (analyze, costs off, timing off) select 1 from over_ten where note = 'note 1'",
        "explain select 1 from over_ten where note = 'note 1'",
        "explain (analyze, costs off) select 1 from mine where note = 'note 1'",
        "explain (analyze, costs off) select 1 from (select * from pg_temp.mine) m where note = 'note 1'",
        "select pg_stat_get_xact_tuples_fetched('ten'::regclass)",
        "select idx_tup_fetch from pg_stat_xact_user_tables",
        "select * from pg_catalog.pg_stat_user_tables",
        "select pg_catalog.pg_stat_get_live_tuples(1)",
    ] {
        let (code, message) = refusal(&client, sql).await;
        assert_eq!((code.as_str(), message.contains("filter")), ("42501", true), "{sql}: {message}");
    }
    let allowed = "insert into ten (id, tenant, note) values (2, 'a', 'x') on conflict (id) do nothing";
    assert_eq!(client.execute(allowed, &[]).await.expect("nothing to do"), 0);
    for sql in [
        "explain analyze select 1 from plain",
        "prepare shown as select 1 from plain; explain execute shown",
        "select pg_stat_get_backend_pid(1), count(*) from pg_stat_activity",
    ] {
        client.batch_execute(sql).await.expect(sql);
    }
    assert_eq!(gate.count("select count(*) from ten where tenant = 'b' and note like 'note %'").await, 5);
    gate.stop().await;
}

#[tokio::test]
async fn past_the_gate_the_filtered_table_is_out_of_reach_altogether() {
    let bench = bench(TENANTS, "").await;
    let scope = bench.scope(Access::Write, ONE_TENANT).await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (name, client) = bench.login(&role, "f").await;
    let client = client.expect("signed in");
    for sql in [
        "select id from ten",
        "update ten set note = 'x' where id = 1",
        "update ten set note = 'x' where id = 1 returning tenant",
        "insert into ten (id, tenant) values (30, 'b')",
        "delete from ten where id = 1",
        "select * from notes_of",
        "select * from how_many",
        "select first_secret()",
        "select ctid from ten",
    ] {
        let seen = answer(&client, sql).await;
        assert!(seen.contains("42501") && !seen.contains("canary"), "{sql}: {seen}");
    }
    let ten = scope.relations.get(&RelationName::new("public", "ten")).expect("granted");
    let place = |view: (String, String)| format!("{}.{}", mask::identifier(&view.0), mask::identifier(&view.1));
    let (view, rows) = (ten.view.clone().map(place).expect("a view"), ten.rows_view().map(place).expect("of new rows"));
    for (sql, state) in [
        (format!("insert into {view} (id, tenant) values (30, 'a')"), "42501"),
        (
            format!("insert into {view} (id, tenant) values (1, 'a') on conflict (id) do update set tenant = 'a'"),
            "42501",
        ),
        (
            format!("insert into {rows} (id, tenant) values (1, 'a') on conflict (id) do update set tenant = 'a'"),
            "42501",
        ),
        (
            format!(
                "insert into {rows} (id, tenant, secret, note) values (1, 'a', 'x', 'x') on conflict (id) do update set note = 'y'"
            ),
            "42501",
        ),
        (format!("insert into {rows} (id, tenant) values (30, 'b')"), "44000"),
        (format!("insert into {rows} (id, tenant) values (30, 'a') returning secret"), "42501"),
        (format!("insert into {rows} (id, tenant) values (30, 'a') returning *"), "42501"),
        (format!("select secret from {rows}"), "42501"),
        (format!("select r from {rows} r"), "42501"),
        (format!("select id from {rows} where secret like 'c%'"), "42501"),
        (format!("update {rows} set note = 'x' where id = 2"), "42501"),
        (format!("update {rows} set tenant = 'a' where id = 1"), "42501"),
        (format!("delete from {rows} where id = 2"), "42501"),
    ] {
        let seen = answer(&client, &sql).await;
        assert!(seen.contains(state) && !seen.contains("canary"), "{sql}: {seen}");
    }
    assert_eq!(answer(&client, &format!("select count(*) from {rows}")).await, "5");
    assert_eq!(bench.count("select count(*) from ten where tenant = 'b'").await, 5);
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
async fn a_look_up_by_key_through_a_masking_view_uses_the_index() {
    let many = "create table people (id int primary key, email text, name text);
        insert into people select i, 'u' || i || '@example.com', 'n' || i from generate_series(1, 20000) i;
        create unique index on people (email); analyze people";
    let masked = "[[column]]\nmatch = \"public.people.email\"\ntags = [\"email\"]";
    let bench = bench(many, masked).await;
    let scope = bench.scope(Access::Read, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (name, client) = bench.login(&role, "i").await;
    let client = client.expect("signed in");
    let people = RelationName::new("public", "people");
    let view = mask::splice_text(&people, scope.relations.get(&people).expect("granted"), false);
    for sql in [
        format!("select email from {view} p where id = 42"),
        format!("select a.email from {view} a join {view} b on a.id = b.id where b.id in (1, 2, 3)"),
    ] {
        let plan = answer(&client, &format!("explain (costs off) {sql}")).await;
        assert!(plan.contains("using people_pkey") && !plan.contains("Seq Scan"), "{sql}\n{plan}");
    }
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

/// Two tables of one name, one with a child and a column that is worked out; masks with a view (email) and without.
const ARCHIVE: &str = "
    create table people (id int primary key, name text, email text, card text, upper_name text generated always as (upper(name)) stored);
    insert into people values (1, 'Ana', 'canary1@example.com', '1'), (2, 'Bo', 'canary2@example.com', '2');
    create table staff (id int primary key, name text, card text, shout text generated always as (upper(name)) stored);
    insert into staff values (1, 'Ana', 'canary 1'), (2, 'Bo', 'canary 2');
    create table chiefs () inherits (staff);
    insert into chiefs values (3, 'Cy', 'canary 3');
    create table crew (id int, email text);
    create table pilots () inherits (crew);
    insert into crew values (1, 'canary1@example.com');
    insert into pilots values (2, 'canary2@example.com');
    create schema archive;
    create table archive.staff (id int primary key, name text);
    insert into archive.staff values (1, 'Ana');
    grant usage on schema archive to public;
    analyze";

const CARDS: &str = r#"
@id("no-mail") @mask("email")
forbid (principal, action == Action::"reveal", resource) when { resource.name == "email" };
@id("no-cards") @mask("null")
forbid (principal, action == Action::"reveal", resource) when { resource.name == "card" };
"#;

#[tokio::test]
async fn a_masked_relation_is_copied_and_named_as_without_masks() {
    let gate = Gate::start_under(ARCHIVE, &[("cards.cedar", CARDS)]).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    let copied = async |sql: &str| -> String {
        let stream = client.copy_out(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let parts: Vec<_> = stream.try_collect().await.expect(sql);
        String::from_utf8(parts.concat()).expect("text")
    };
    // COPY takes no rows of children, and no column that is worked out.
    for (sql, expected) in [
        ("copy staff to stdout", "1\tAna\t\\N\n2\tBo\t\\N\n"),
        ("copy public.staff (id, name) to stdout", "1\tAna\n2\tBo\n"),
        ("copy staff (card, id) to stdout", "\\N\t1\n\\N\t2\n"),
        ("copy people to stdout", "1\tAna\tc***@e******.com\t\\N\n2\tBo\tc***@e******.com\t\\N\n"),
        ("copy crew (id) to stdout", "1\n"),
    ] {
        assert_eq!(copied(sql).await, expected, "{sql}");
    }
    for (sql, expected) in [
        ("select id from only staff order by id", vec!["1", "2"]),
        ("select card is null from only staff", vec!["t", "t"]),
        ("select email from only people", vec!["c***@e******.com"; 2]),
        ("select public.staff.card is null from staff", vec!["t", "t", "t"]),
        (
            "select public.staff.card is null from public.staff where exists (select 1 from archive.staff a where a.id = public.staff.id)",
            vec!["t"],
        ),
    ] {
        assert_eq!(column(&client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")), expected, "{sql}");
    }
    // What cannot be said of a view, or would be said of the wrong relation, is not said at all.
    for (sql, why) in [
        ("select * from only crew", "rows without those of its children"),
        ("copy crew to stdout", "rows without those of its children"),
        (
            "select public.staff.card from public.staff where exists (select 1 from archive.staff where archive.staff.id = public.staff.id)",
            "\"staff\" is the name of more than one relation",
        ),
        ("select * from public.staff join archive.staff on true", "\"staff\" is the name of more than one relation"),
    ] {
        let (state, message) = refusal(&client, sql).await;
        assert_eq!(state, "42501", "{sql}: {message}");
        assert!(message.contains(why), "{sql}: {message}");
    }
    drop(client);
    gate.stop().await;
}
