//! What PostgreSQL itself enforces, without the gateway in front: a just-in-time role, asked
//! directly, and its end. The server works as a broker role without superuser rights.

use std::time::{Duration, Instant};

use crate::support::bench::{answer, bench, connect};
use crate::support::gate::PREPARING;
use dbgate::core::grant::Access;
use dbgate::core::mask;
use dbgate::core::role_sql::{self, PrepareTarget};
use dbgate::core::scope::{RelationName, Scope};
use dbgate::server::{roles, scopes};

const SHOP: &str = "
    create schema hr;
    create domain tax_id as text not null check (value ~ '^TX-');
    create table customers (id serial primary key, name text not null, email text not null unique, ssn char(11),
        tax tax_id, card varchar(19), born date, email_norm text generated always as (lower(email)) stored);
    insert into customers (name, email, ssn, tax, card, born) values
        ('Ana', 'canary@example.com', '123-45-6789', 'TX-1', '4111111111111111', '1980-05-17'),
        ('Bo', 'no-at-sign', null, 'TX-2', '42', null);
    create table orders (id int primary key, customer_id int references customers on delete cascade, note text);
    insert into orders values (1, 1, 'fast'), (2, 2, 'slow');
    create table events (id int, actor text, at date) partition by range (at);
    create table events_2025 partition of events for values from ('2025-01-01') to ('2026-01-01');
    insert into events values (1, 'canary actor', '2025-02-03');
    create table hr.persons (id int, iban text);
    create table hr.employees (title text) inherits (hr.persons);
    insert into hr.employees values (1, 'canary iban', 'boss');
    create view order_list as select id, note from orders;
    create view directory as select id, email from customers;
    create view whole as select id, to_jsonb(c) as j from customers c;
    create view counted as select count(*) as n from customers;
    create function by_invoker(i int) returns text language sql stable as 'select email from customers where id = i';
    create function by_definer(i int) returns text language sql stable security definer
        as 'select email from customers where id = i';
    create view through_definer as select by_definer(1) as e;
    create materialized view summary as select by_invoker(1) as e;
    create table notes (id int, owner name, body text);
    alter table notes enable row level security;
    create policy own on notes using (owner = current_user);
    insert into notes values (1, 'somebody else', 'canary note');
    create table memos (id int, body text);
    alter table memos enable row level security;
    create policy few on memos using (id < 10);
    insert into memos values (1, 'canary memo'), (99, 'canary out of sight');
    create view directory_of as select d.email as who, o.note from directory d join orders o on o.customer_id = d.id;
    create view by_letter as select name from customers where email like 'canary%';
    create view newest as with c as (select * from customers) select c.id, upper(c.email) as mail, count(*) over () as n
        from c left join lateral (select x.email from customers x where x.id = c.id) y on true;
    create view only_these as select email from only customers;
    create view memo_list as select id, body from memos;
    analyze";

const CLASSIFICATION: &str = r#"
[[column]]
match = "public.customers.email"
tags = ["secret"]
[[column]]
match = "public.customers.ssn"
tags = ["pii"]
[[column]]
match = "public.customers.tax"
tags = ["pii"]
[[column]]
match = "public.events_2025.actor"
tags = ["pii"]
[[column]]
match = "hr.persons.iban"
tags = ["pii"]
"#;

fn spliced(scope: &Scope, relation: &str) -> String {
    let name = RelationName::new("public", relation);
    mask::splice_text(&name, scope.relations.get(&name).expect("granted"), false)
}

#[tokio::test]
async fn a_masked_column_cannot_be_read_in_any_spelling() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Write, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    assert!(role.missing.is_empty());
    let (name, client) = bench.login(&role, "a1").await;
    let client = client.expect("signed in");
    let who = answer(&client, "select session_user || ' ' || current_user").await;
    assert_eq!(who, format!("{name} {}", role.name));
    client.batch_execute("prepare p as select email from customers").await.expect("nothing is read yet");
    let refused = [
        "select email from customers",
        "select * from customers",
        "table customers",
        "select c from customers c",
        "select to_jsonb(c) from customers c",
        "select (c).email from customers c",
        "select email_norm from customers",
        "select name from customers where email like 'c%'",
        "select name from customers order by email",
        "select count(*) from customers group by email",
        "select name from only customers where length(email) > 3",
        "copy customers to stdout",
        "copy customers (email) to stdout",
        "copy (select email from customers) to stdout",
        "select query_to_xml('select email from customers', true, false, '')",
        "select table_to_xml('customers', true, false, '')",
        "do $$ begin raise exception '%', (select email from customers limit 1); end $$",
        "select by_invoker(1)",
        "update customers set name = email",
        "update customers set name = name returning email",
        "update customers set name = name where email > 'a'",
        "delete from customers returning *",
        "insert into orders (id, note) select 9, email from customers",
        "insert into customers (name, email, tax) values ('x', 'y', 'TX-9') returning *",
        "merge into orders o using customers c on o.customer_id = c.id when matched then update set note = c.email",
        "with x as (select email from customers) select * from x",
        "execute p",
        "declare d cursor with hold for select email from customers",
        "explain analyze select email from customers",
        "create temp table t as select email from customers",
        "select * from directory",
        "select * from whole",
        "select * from through_definer",
        "select * from summary",
        "select actor from events",
        "select actor from events_2025",
        "select iban from hr.persons",
        "select iban from hr.employees",
        "select email from customers for update",
        "alter table customers disable trigger all",
        "truncate orders",
        "drop table orders",
        "create table public.mine (i int)",
        "select pg_read_file('PG_VERSION')",
        "select setval('customers_id_seq', 1)",
    ];
    for sql in refused {
        let seen = answer(&client, sql).await;
        assert!(!seen.contains("canary") && seen.contains("42501"), "{sql}\n{seen}");
    }
    let stats =
        answer(&client, "select most_common_vals, histogram_bounds from pg_stats where attname = 'email'").await;
    assert_eq!(stats, "");
    // An error must not show the row it failed on.
    let failing = answer(&client, "update customers set name = null where id = 1").await;
    assert!(failing.contains("23502") && !failing.contains("canary"), "{failing}");
    // PostgreSQL answers with a warning; what counts is that nothing was granted.
    let _ = answer(&client, "grant select on customers to public").await;
    let public =
        "select count(*) from pg_class c, aclexplode(c.relacl) a where c.oid = 'customers'::regclass and a.grantee = 0";
    assert_eq!(bench.count(public).await, 0);
    // The one way that privileges cannot close: PUBLIC may run it. The judge refuses to call it.
    assert_eq!(answer(&client, "select by_definer(1)").await, "canary@example.com");
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
}

#[tokio::test]
async fn what_is_allowed_works_and_the_splice_shows_masks() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Write, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (name, client) = bench.login(&role, "a2").await;
    let client = client.expect("signed in");
    let inline = spliced(&scope, "customers");
    let cases = [
        ("select id, name from customers order by 1".to_owned(), "1|Ana\n2|Bo"),
        (
            format!("select id, email, ssn, tax, email_norm from {inline} customers order by id"),
            "1|NULL|***        |NULL|NULL\n2|NULL|***        |NULL|NULL",
        ),
        (format!("select to_jsonb(c) ->> 'name' from {inline} c where id = 1 for update"), "Ana"),
        ("select count(*) from customers".to_owned(), "2"),
        ("select * from counted".to_owned(), "2"),
        ("select note from orders where id = 1".to_owned(), "fast"),
        ("select ctid is not null from orders where id = 1".to_owned(), "t"),
        ("select * from order_list where id = 1".to_owned(), "1|fast"),
        ("select id from events".to_owned(), "1"),
        (
            "insert into customers (name, email, tax) values ('Cy', 'cy@example.com', 'TX-3') returning id".to_owned(),
            "3",
        ),
        ("update customers set name = 'Cyd' where id = 3 returning name".to_owned(), "Cyd"),
        ("delete from customers where id = 3 returning id".to_owned(), "3"),
        ("select id from memos".to_owned(), "1"),
    ];
    for (sql, expected) in cases {
        assert_eq!(answer(&client, &sql).await, expected, "{sql}");
    }
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
}

#[tokio::test]
async fn a_read_scope_cannot_write_even_in_a_read_write_transaction() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Read, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (name, client) = bench.login(&role, "a3").await;
    let client = client.expect("signed in");
    assert!(answer(&client, "delete from orders").await.contains("25006"));
    client.batch_execute("begin read write").await.expect("read-only mode is a comfort only");
    assert!(answer(&client, "delete from orders where id = 1").await.contains("42501"));
    client.batch_execute("rollback").await.expect("rolled back");
    client.batch_execute("begin read write").await.expect("again");
    assert!(answer(&client, "select nextval('customers_id_seq')").await.contains("42501"));
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
}

#[tokio::test]
async fn a_disclosing_mask_reads_through_a_view_that_updates_and_keeps_null() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let rule = |id: &str, column: &str, mask: &str| {
        format!(
            "@id(\"{id}\") @mask(\"{mask}\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
             when {{ resource.relation == \"customers\" && resource.name == \"{column}\" }};\n"
        )
    };
    let extra = [
        rule("c", "card", "last4"),
        rule("b", "born", "year"),
        rule("n", "name", "email"),
        rule("memos", "body", "partial").replace("customers", "memos"),
    ];
    let scope = bench.scope(Access::Write, &extra.concat()).await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    assert_eq!(scopes::ensure(&bench.broker, &scope).await.expect("made once"), role);
    let (name, client) = bench.login(&role, "a4").await;
    let client = client.expect("signed in");
    let view = spliced(&scope, "customers");
    assert!(view.starts_with("\"dbgate_m_"), "{view}");
    let shown = answer(&client, &format!("select card, born, name, email from {view} customers order by id")).await;
    assert_eq!(shown, "***1111|1980-01-01|***|NULL\n***|NULL|***|NULL");
    let back = answer(&client, &format!("update {view} as customers set id = id where id = 1 returning card")).await;
    assert_eq!(back, "***1111");
    assert_eq!(answer(&client, &format!("select card from {view} c where id = 1 for update")).await, "***1111");
    assert!(answer(&client, "select card from customers").await.contains("42501"));
    let written = answer(&client, &format!("update {view} set card = 'x' where id = 1")).await;
    assert!(written.contains("cannot update column"), "{written}");
    // A view would get around the row policies.
    assert!(scope.withheld.get(&RelationName::new("public", "memos")).is_some_and(|why| why.contains("row-level")));
    assert!(answer(&client, "select id from memos").await.contains("42501"));
    drop(client);
    roles::end(&bench.broker, &name).await.expect("ended");
    assert!(scopes::drop_unused(&bench.broker, &[]).await.expect("dropped").contains(&role.name));
    assert_eq!(bench.count("select count(*) from pg_views where schemaname like 'dbgate_m_%'").await, 0);
}

#[tokio::test]
async fn views_over_masked_relations_are_rebuilt_over_what_stands_for_them() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let email = "@id(\"mail\") @mask(\"partial\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                 when { resource.relation == \"customers\" && resource.name == \"name\" };";
    for extra in ["", email] {
        let scope = bench.scope(Access::Write, extra).await;
        let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
        assert_eq!(scopes::ensure(&bench.broker, &scope).await.expect("complete"), role);
        let (name, client) = bench.login(&role, "v").await;
        let client = client.expect("signed in");
        let cases = [
            ("directory", "id, email", "1|NULL\n2|NULL"),
            ("directory_of", "who, note", "NULL|fast\nNULL|slow"),
            ("whole", "j ->> 'email', j ->> 'tax'", "NULL|NULL\nNULL|NULL"),
            // The condition sees what may be seen.
            ("by_letter", "count(*)", "0"),
            ("newest", "id, mail, n", "1|NULL|2\n2|NULL|2"),
        ];
        for (view, columns, expected) in cases {
            let from = spliced(&scope, view);
            let shown = answer(&client, &format!("select {columns} from {from} v order by 1")).await;
            assert_eq!(shown, expected, "{view}");
            let past = answer(&client, &format!("select * from {view}")).await;
            assert!(past.contains("42501"), "{view}: {past}");
        }
        let why = |name: &str| scope.withheld.get(&RelationName::new("public", name)).map(String::as_str);
        assert_eq!(why("summary"), Some("it reads through a function or relation that cannot be followed"));
        assert_eq!(why("through_definer"), Some("it reads through a function or relation that cannot be followed"));
        assert_eq!(why("only_these"), Some("it reads a masked relation in a way that cannot be rewritten"));
        drop(client);
        roles::end(&bench.broker, &name).await.expect("ended");
    }
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
    assert_eq!(bench.count("select count(*) from pg_views where schemaname like 'dbgate_m_%'").await, 0);
}

#[tokio::test]
async fn a_view_that_the_target_does_not_take_is_named_and_nothing_is_made() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    // Groups by the primary key alone, which a sub-select does not have.
    bench
        .superuser
        .batch_execute("create view per_key as select id, email, count(*) from customers group by id")
        .await
        .expect("a view");
    let scope = bench.scope(Access::Read, "").await;
    let refused = scopes::ensure(&bench.broker, &scope).await.expect_err("refused");
    let scopes::ScopeError::View { relation, reason } = refused else { panic!("{refused}") };
    assert_eq!(relation, RelationName::new("public", "per_key"));
    assert!(reason.contains("GROUP BY"), "{reason}");
    assert_eq!(bench.count("select count(*) from pg_views where schemaname like 'dbgate_m_%'").await, 0);
    let role = role_sql::scope_role(&scope.digest());
    assert_eq!(bench.count(&format!("select count(*) from pg_roles where rolname = '{role}'")).await, 0);
}

#[tokio::test]
async fn a_live_session_dies_with_its_role_within_two_seconds() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Write, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (name, client) = bench.login(&role, "a5").await;
    let client = client.expect("signed in");
    // What would keep a role from being dropped: things it owns, default privileges, open work.
    client.batch_execute("alter default privileges grant select on tables to public").await.expect("any role may");
    client
        .batch_execute("create temp table t (i int); begin; update orders set note = 'x' where id = 1")
        .await
        .expect("busy");
    roles::disable_login(&bench.broker, &name).await.expect("disabled");
    let again = connect(bench.cluster, &name, "pw", &bench.database).await.expect_err("nobody logs in any more");
    assert!(again.as_db_error().is_some_and(|error| error.code().code() == "28000"), "{again}");
    let started = Instant::now();
    let ended = roles::end(&bench.broker, &name).await.expect("ended");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(ended, roles::Ended { terminated: 1, dropped: true });
    let gone = format!("select count(*) from pg_roles where rolname = '{name}'");
    assert_eq!(bench.count(&gone).await, 0);
    assert_eq!(bench.count(&format!("select count(*) from pg_stat_activity where usename = '{name}'")).await, 0);
    assert!(client.simple_query("select 1").await.is_err());
    assert_eq!(bench.count("select count(*) from orders where note = 'x'").await, 0);
    // Ending what has ended is no error.
    let ended = roles::end(&bench.broker, &name).await.expect("ended already");
    assert_eq!(ended, roles::Ended { terminated: 0, dropped: true });
}

#[tokio::test]
async fn a_sweep_removes_what_is_ours_and_leaves_what_is_not() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Read, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    let (left, _client) = bench.login(&role, "left").await;
    let (kept, _kept_client) = bench.login(&role, "kept").await;
    let foreign = format!(
        "create role dbgate_u_foreign_{0}; create role dbgate_s_{0}; create role dbgate_u_other_{0}; \
         comment on role dbgate_u_other_{0} is 'dbgate login in another'",
        bench.database
    );
    bench.superuser.batch_execute(&foreign).await.expect("roles that only look like ours");
    let swept = roles::sweep(&bench.broker, std::slice::from_ref(&kept)).await.expect("swept");
    assert_eq!(swept, [left]);
    let names = bench.superuser.query("select rolname::text from pg_roles where rolname ~ '^dbgate_[us]_'", &[]);
    let names: Vec<String> = names.await.expect("names").iter().map(|row| row.get(0)).collect();
    assert!(names.contains(&kept) && names.contains(&role.name), "{names:?}");
    for start in ["dbgate_u_foreign_", "dbgate_s_", "dbgate_u_other_"] {
        assert!(names.contains(&format!("{start}{}", bench.database)), "{names:?}");
    }
    let foreign = format!("dbgate_u_foreign_{}", bench.database);
    assert!(matches!(roles::end(&bench.broker, &foreign).await, Err(roles::RoleError::NotOurs(_))));

    assert_eq!(roles::sweep(&bench.broker, &[]).await.expect("swept"), [kept]);
    let left = format!("select count(*) from pg_roles where rolname = '{}'", role.name);
    assert_eq!(bench.count(&left).await, 0, "a scope that nobody uses goes too");
    let drop =
        format!("drop role dbgate_u_foreign_{0}; drop role dbgate_s_{0}; drop role dbgate_u_other_{0}", bench.database);
    bench.superuser.batch_execute(&drop).await.expect("cleaned up");
}

#[tokio::test]
async fn a_role_of_the_same_name_is_never_taken_for_a_scope() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Read, "").await;
    let name = role_sql::scope_role(&scope.digest());
    bench.superuser.batch_execute(&format!("create role {name}")).await.expect("an impostor");
    let refused = scopes::ensure(&bench.broker, &scope).await;
    assert!(matches!(refused, Err(scopes::ScopeError::NotOurs(_))), "{refused:?}");
    bench.superuser.batch_execute(&format!("drop role {name}")).await.expect("gone");
}

#[tokio::test]
async fn a_relation_that_init_has_not_covered_is_left_out_until_it_has() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    bench.superuser.batch_execute("create schema late; create table late.t (i int)").await.expect("made");
    let scope = bench.scope(Access::Read, "").await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("the rest is granted");
    assert_eq!(role.missing, [RelationName::new("late", "t")]);
    let schemas = ["late".to_owned()];
    let prepare = PrepareTarget { broker: role_sql::BROKER, database: &bench.database, schemas: &schemas, lend: &[] };
    let one_at_a_time = PREPARING.lock().await;
    bench.superuser.batch_execute(&role_sql::prepare_target(&prepare).join(";\n")).await.expect("covered");
    drop(one_at_a_time);
    let role = scopes::ensure(&bench.broker, &scope).await.expect("completed");
    assert!(role.missing.is_empty());
    let can = format!("select has_table_privilege('{}', 'late.t', 'SELECT')::int::int8", role.name);
    assert_eq!(bench.count(&can).await, 1);
    // What an owner makes later is covered by default privileges.
    bench.superuser.batch_execute("create table late.u (i int)").await.expect("made");
    let scope = bench.scope(Access::Read, "").await;
    assert!(scopes::ensure(&bench.broker, &scope).await.expect("all of it").missing.is_empty());
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
async fn owners_change_their_tables_beside_constant_masks() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    // Views that name every column of a table keep their owner from changing it, dbgate or not.
    bench.superuser.batch_execute("drop view whole, newest").await.expect("dropped");
    let scope = bench.scope(Access::Write, "").await;
    scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    for sql in [
        "alter table customers alter column born type timestamp",
        "alter table customers drop column card",
        "alter table customers add column later text",
        "alter table orders alter column note type varchar(200)",
        "drop table events",
    ] {
        let done = bench.superuser.batch_execute(sql).await;
        // An ordinary view pins the columns that it shows, and the rebuilt one no more than these.
        assert_eq!(done.is_ok(), !sql.contains("orders"), "{sql}: {done:?}");
    }
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
async fn what_public_may_read_past_a_mask_is_not_given_at_all() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Read, "").await;
    for (open, shut, relation) in [
        ("grant select on customers to public", "revoke select on customers from public", "customers"),
        ("grant select (email) on customers to public", "revoke select (email) on customers from public", "customers"),
        ("grant select on directory to public", "revoke select on directory from public", "directory"),
        ("grant select on summary to public", "revoke select on summary from public", "summary"),
    ] {
        bench.superuser.batch_execute(open).await.expect(open);
        let refused = scopes::ensure(&bench.broker, &scope).await.expect_err(open);
        let scopes::ScopeError::Exposed(found) = refused else { panic!("{open}: {refused}") };
        assert_eq!(found, [RelationName::new("public", relation)], "{open}");
        bench.superuser.batch_execute(shut).await.expect(shut);
    }
    // What is not masked may be as open as its owner likes.
    bench
        .superuser
        .batch_execute("grant select on orders to public; grant select (name) on customers to public")
        .await
        .expect("open");
    scopes::ensure(&bench.broker, &scope).await.expect("nothing is got around");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
async fn a_scope_that_nobody_touched_is_not_looked_at_again_and_one_that_was_touched_is() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let scope = bench.scope(Access::Write, "").await;
    let (complete, digest) = (scopes::Complete::default(), scope.digest());
    let ensure = async || complete.ensure(&bench.broker, &scope, &digest).await;
    let pid: i32 = bench.broker.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let looked = format!("select (query !~ 'hashtextextended')::int::int8 from pg_stat_activity where pid = {pid}");
    let role = ensure().await.expect("made").name;
    let can = format!("select has_table_privilege('{role}', 'orders', 'SELECT')::int::int8");
    for (is_looked_at, what) in [(1, "made just now"), (0, "found complete before"), (0, "still the same")] {
        ensure().await.expect(what);
        assert_eq!(bench.count(&looked).await, is_looked_at, "{what}");
    }
    bench.broker.batch_execute(&format!("revoke select on orders from {role}")).await.expect("its grantor may");
    ensure().await.expect("made again");
    assert_eq!((bench.count(&looked).await, bench.count(&can).await), (1, 1));
    bench.superuser.batch_execute("grant select (email) on customers to public").await.expect("open");
    assert!(matches!(ensure().await, Err(scopes::ScopeError::Exposed(_))));
    bench.superuser.batch_execute("revoke select (email) on customers from public").await.expect("shut");
    ensure().await.expect("complete");
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
    assert_eq!(ensure().await.expect("made from nothing").name, role);
    assert_eq!(bench.count(&can).await, 1);
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
async fn a_single_right_that_is_taken_back_is_given_again() {
    let bench = bench(SHOP, CLASSIFICATION).await;
    let year = "@id(\"b\") @mask(\"year\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                when { resource.relation == \"customers\" && resource.name == \"born\" };\n";
    let scope = bench.scope(Access::Write, year).await;
    let role = scopes::ensure(&bench.broker, &scope).await.expect("made").name;
    let customers = scope.relations.get(&RelationName::new("public", "customers")).expect("granted");
    let place = |view: (String, String)| format!("{}.{}", mask::identifier(&view.0), mask::identifier(&view.1));
    let (view, rows) = (customers.view.clone().map(place), customers.rows_view().map(place));
    let (view, rows) = (view.expect("it shows years"), rows.expect("and of new rows"));
    let on = |kind: &str, object: &str, column: &str, right: &str| match column {
        "" => format!("has_{kind}_privilege('{role}', '{object}', '{right}')"),
        column => format!("has_column_privilege('{role}', '{object}', '{column}', '{right}')"),
    };
    for (by, what, right) in [
        ("broker", "select (name) on customers", on("table", "customers", "name", "SELECT")),
        ("broker", "insert (email) on customers", on("table", "customers", "email", "INSERT")),
        ("broker", "update (name) on customers", on("table", "customers", "name", "UPDATE")),
        ("broker", "delete on orders", on("table", "orders", "", "DELETE")),
        ("broker", "usage on schema hr", on("schema", "hr", "", "USAGE")),
        ("broker", "usage on sequence customers_id_seq", on("sequence", "customers_id_seq", "", "USAGE")),
        ("masker", &format!("update (name) on {view}"), on("table", &view, "name", "UPDATE")),
        ("masker", &format!("insert (born) on {rows}"), on("table", &rows, "born", "INSERT")),
        ("masker", &format!("select (id) on {rows}"), on("table", &rows, "id", "SELECT")),
    ] {
        let holds = format!("select ({right})::int::int8");
        assert_eq!(bench.count(&holds).await, 1, "{what}");
        let revoke = format!("set role dbgate_{by}; revoke {what} from {role}; reset role");
        bench.superuser.batch_execute(&revoke).await.expect(what);
        assert_eq!(bench.count(&holds).await, 0, "{what}");
        scopes::ensure(&bench.broker, &scope).await.expect("made whole");
        assert_eq!(bench.count(&holds).await, 1, "{what}");
    }
    // What the broker itself may not give is not waited for.
    let keep = "revoke grant option for delete on orders from dbgate_broker cascade";
    bench.superuser.batch_execute(keep).await.expect("revoked");
    assert!(scopes::ensure(&bench.broker, &scope).await.expect("as whole as can be").missing.is_empty());
    // Whole again: nothing is made anew.
    let made = format!("select '{view}'::regclass::oid::int8");
    let before = bench.count(&made).await;
    scopes::ensure(&bench.broker, &scope).await.expect("whole");
    assert_eq!(bench.count(&made).await, before);
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
}

#[tokio::test]
#[ignore = "measures; run it by name with --nocapture"]
async fn ten_thousand_relations_are_read_compiled_and_watched_in_seconds() {
    let masked = "[[column]]\nmatch = \"public.m1*.email\"\ntags = [\"secret\"]";
    let bench = bench("create table m1 (email text)", masked).await;
    for thousand in 0..10 {
        let many = format!(
            "do $$ begin for i in {} .. {} loop execute format('create table m%s (id int primary key, email text, \
             a int, b text, c date, d numeric)', i); if i % 20 = 0 then execute \
             format('create view mv%s as select id, email from m%s', i, i); end if; end loop; end $$",
            10_000 + thousand * 1000,
            10_999 + thousand * 1000
        );
        bench.superuser.batch_execute(&many).await.expect("made");
    }
    let timed = |what: &str, started: Instant| println!("{what}: {:?}", started.elapsed());
    let started = Instant::now();
    let catalog = dbgate::server::catalog::read(&bench.broker, &bench.database).await.expect("a catalog");
    timed("catalog read", started);
    assert!(catalog.relations.len() >= 10_500);
    for round in 0..3 {
        let started = Instant::now();
        dbgate::server::catalog::mark(&bench.broker).await.expect("a mark");
        timed(&format!("mark {round}"), started);
    }
    let started = Instant::now();
    let scope = bench.scope(Access::Write, "").await;
    timed("read and compiled", started);
    let started = Instant::now();
    scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    timed("made", started);
    let started = Instant::now();
    scopes::ensure(&bench.broker, &scope).await.expect("a scope role");
    timed("found complete", started);
    let (complete, digest) = (scopes::Complete::default(), scope.digest());
    for round in 0..2 {
        let started = Instant::now();
        complete.ensure(&bench.broker, &scope, &digest).await.expect("a scope role");
        timed(&format!("known complete {round}"), started);
    }
    let started = Instant::now();
    scopes::drop_unused(&bench.broker, &[]).await.expect("dropped");
    timed("dropped", started);
}
