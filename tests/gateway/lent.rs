//! Code that ends in a function with its owner's rights, by way of defaults, bodies, rules and types.

use dbgate::core::grant::Access;

use crate::support::gate::{Gate, POLICY, SHOP, column, refusal, superuser};
use crate::support::until::until;

const LOOKUP: &str = "
create function lookup_email(bigint) returns text language sql stable security definer
  as 'select email from customers where id = $1';
";

/// Functions that call it without writing its name in front of a parenthesis.
const CODE: &str = r#"
create function by_default(i bigint, d text default lookup_email(1)) returns text language sql stable as 'select d';
create function by_list(i bigint, variadic d text[] default array[lookup_email(1)]) returns text language sql stable
  as 'select d[1]';
create function over_default(i bigint) returns text language sql stable as 'select by_default(i)';
create function with_comment(i bigint) returns text language sql stable as 'select lookup_email/* */(i)';
create function with_line(i bigint) returns text language sql stable as E'select lookup_email -- a\n(i)';
create function with_code(i bigint) returns text language sql stable as 'select U&"lookup\005femail"(i)';
create function "q""x"(bigint) returns text language sql stable security definer
  as 'select email from customers where id = $1';
create function with_quote(i bigint) returns text language sql stable as 'select "q""x"(i)';
create operator @#@ (rightarg = bigint, function = lookup_email);
create function with_operator(i bigint) returns text language sql stable as 'select @#@ i';
create function with_operator_parsed(i bigint) returns text language sql stable begin atomic select @#@ i; end;
create type cte as (id bigint);
create function of_cte(cte) returns text language sql stable security definer
  as 'select email from customers where id = $1.id';
create cast (cte as text) with function of_cte(cte);
create function with_cast(i bigint) returns text language sql stable as 'select row(i)::cte::text';
create function with_cast_parsed(i bigint) returns text language sql stable begin atomic select row(i)::cte::text; end;
create function lk(orders) returns text language sql stable security definer
  as 'select email from customers where id = $1.customer_id';
create function with_field(i int) returns text language sql stable as 'select o.lk from orders o where o.id = i';
create function sec_of(cte) returns text language sql stable security definer
  as 'select email from customers where id = $1.id';
create function with_field_of(i bigint) returns text language plpgsql stable
  as 'declare c cte; begin c.id := i; return (c).sec_of; end';
create view over_defaults as select id, by_default(id) as mail from orders;
create view over_operators as select id, with_operator_parsed(id) as mail from orders;
create function harmless(i bigint) returns text language sql stable as 'select ''seen '' || i';
"#;

#[tokio::test]
async fn what_ends_in_anothers_rights_is_refused_however_it_gets_there() {
    let gate = Gate::start(&format!("{SHOP}{LOOKUP}{CODE}")).await;
    let client = gate.connect(&gate.grant(Access::Read).await).await;
    let mut seen = Vec::new();
    for sql in [
        "select by_default(3)",
        "select by_list(3)",
        "select over_default(3)",
        "select with_comment(3)",
        "select with_line(3)",
        "select with_code(3)",
        "select with_quote(3)",
        "select with_operator(3)",
        "select with_operator_parsed(3)",
        "select with_cast(3)",
        "select with_cast_parsed(3)",
        "select with_field(3)",
        "select with_field_of(3)",
        "select mail from over_defaults where id = 3",
        "select mail from over_operators where id = 3",
    ] {
        seen.extend(unrefused(&client, sql).await);
    }
    assert_eq!(seen, Vec::<String>::new());
    assert_eq!(column(&client, "select harmless(3)").await.expect("runs"), ["seen 3"]);
    drop(client);
    gate.stop().await;
}

/// What was answered in place of a refusal.
async fn unrefused(client: &tokio_postgres::Client, sql: &str) -> Option<String> {
    match client.simple_query(sql).await {
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => None,
        other => Some(format!("{sql}: {other:?}")),
    }
}

const DOMAINS: &str = "
create domain dd as text default lookup_email(1);
create domain over_dd as dd;
create type with_dd as (a dd);
create domain plain_domain as text default 'x';
create table tdom (id int, a dd);
create table tplain (id int, a plain_domain, b text default upper('b'));
create function makes_one() returns text language plpgsql
  as 'declare found text; begin create temp table of_dd (a dd); insert into of_dd default values;
      select a into found from of_dd; return found; end';
";

#[tokio::test]
async fn a_type_that_fills_itself_with_anothers_rights_is_refused() {
    let gate = Gate::start(&format!("{SHOP}{LOOKUP}{DOMAINS}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.batch_execute("create temp table own (b int)").await.expect("a table of its own");
    let mut seen = Vec::new();
    for sql in [
        "create temp table t1 (a dd)",
        "create temp table t2 (a over_dd)",
        "create temp table t3 of with_dd",
        "alter table own add column a dd",
        "alter table own alter column b type public.dd",
        "create temp table t4 as select a from tdom",
        "select a into temp t5 from tdom",
        "create temp table t6 (like tdom)",
        "select makes_one()",
        "insert into tdom (id) values (1) returning *",
        "insert into tdom default values",
    ] {
        seen.extend(unrefused(&client, sql).await);
    }
    assert_eq!(seen, Vec::<String>::new());
    let added = column(&client, "insert into tplain (id) values (1) returning concat(a, b)").await;
    assert_eq!(added.expect("defaults of PostgreSQL's own"), ["xB"]);
    assert_eq!(column(&client, "select id from tdom").await.expect("read"), Vec::<String>::new());
    drop(client);
    gate.stop().await;
}

const TABLES: &str = "
create table scratch (id int, label text default lookup_email(4), num int);
create table child () inherits (scratch);
insert into scratch values (1, 'a', 1);
create view through as select id, num from scratch;
create table outbox (id serial, topic text);
create rule r1 as on insert to outbox where new.topic = 'r1'
  do also insert into scratch (label, num) select email, 4711 from customers where id = 2;
create table asked (id int, topic text);
create rule r2 as on update to asked where exists (select from customers where email = new.topic)
  do also insert into kept values (1);
create table sends (id int, topic text);
create rule r3 as on delete to sends do also insert into scratch (num) values (1);
create table relays (id int, topic text);
create rule r4 as on insert to relays do also insert into outbox (topic) values ('r1');
create table called (id int, topic text);
create rule r5 as on insert to called do also insert into kept select length(lookup_email(1));
create table logged (id int, topic text);
create table trail (id int, topic text);
create rule r6 as on update to logged do also insert into trail values (old.id, old.topic);
create rule r7 as on update to customers where old.email = new.name do also insert into kept values (7);
create rule r8 as on update to logged where old.topic = new.topic do also insert into kept values (8);
";

#[tokio::test]
async fn a_table_that_writes_what_others_may_read_takes_no_such_writes() {
    let sql = format!("{SHOP}{LOOKUP}create table kept (n int); {TABLES}");
    let gate = Gate::start(&sql).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let mut seen = Vec::new();
    for sql in [
        "insert into scratch default values returning label",
        "insert into scratch (id) values (1) returning label",
        "insert into public.scratch (id, label) values (1, default) returning label",
        "update scratch set label = default where id = 1",
        "copy scratch (id) from stdin",
        "merge into scratch using (select 2 as id) n on scratch.id = n.id when not matched then insert (id) values (n.id)",
        "insert into child (id) values (1)",
        "insert into through (id) values (1)",
        "do $$ begin insert into scratch (id) values (7); end $$",
        "insert into outbox (topic) values ('r1')",
        "insert into relays (topic) values ('x')",
        "insert into called values (1, 'x')",
        "update asked set topic = 'user2@example.com' where id = 1",
        "delete from sends where id = 1",
        "update customers set name = 'user1@example.com' where id = 1",
    ] {
        seen.extend(unrefused(&client, sql).await);
    }
    assert_eq!(seen, Vec::<String>::new());
    for (sql, words) in [
        (
            "insert into scratch (id) values (1)",
            "insert on public.scratch is not granted: default of label would tell of what public.lookup_email may read",
        ),
        (
            "insert into outbox (topic) values ('x')",
            "insert on public.outbox is not granted: rule r1 would tell of public.customers.email",
        ),
    ] {
        let (code, message) = refusal(&client, sql).await;
        assert_eq!(code, "42501");
        assert!(message.contains(words), "{message}");
    }
    for sql in [
        "update scratch set num = 3 where id = 1",
        "delete from scratch where id = 1",
        "insert into asked values (1, 'x')",
        "delete from asked where id = 1",
        "insert into sends values (1, 'x')",
        "delete from outbox where id = 1",
        "insert into logged values (1, 'x')",
        "update logged set topic = 'y' where id = 1",
    ] {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn what_somebody_vouches_for_may_fill_columns() {
    let vouched = "[[function]]\nmatch = \"public.lookup_email\"\n";
    let classification = format!("{}\n{vouched}", POLICY[0].1);
    let gate = Gate::start_under(
        &format!("{SHOP}{LOOKUP}create table kept (n int); {TABLES}"),
        &[("classification.toml", &classification)],
    )
    .await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    client.batch_execute("insert into scratch (id) values (1); insert into called values (1, 'x')").await.expect("let");
    assert_eq!(refusal(&client, "insert into outbox (topic) values ('r1')").await.0, "42501");
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn defaults_and_rules_made_meanwhile_are_seen() {
    let tables = "create table fresh (id int, a text); create domain late as text;
        create table kept (n int); create table ruled (id int, a text)";
    let gate = Gate::start(&format!("{SHOP}{LOOKUP}{tables}")).await;
    let owner = superuser(&gate.database).await;
    for (change, sql) in [
        ("alter table fresh alter a set default lookup_email(1)", "insert into fresh (id) values (1) returning a"),
        ("alter domain late set default lookup_email(1)", "create temp table t (a late)"),
        (
            "create rule r as on insert to ruled do also insert into kept select length(email) from customers",
            "insert into ruled values (1, 'x')",
        ),
    ] {
        owner.batch_execute(change).await.expect(change);
        let took = until(change, async || {
            // What was given before is ended with what it gave too much.
            let client = gate.connect(&gate.grant(Access::Write).await).await;
            unrefused(&client, &format!("begin; {sql}; rollback")).await.is_none()
        })
        .await;
        assert!(took < std::time::Duration::from_secs(30), "{change}");
    }
    gate.stop().await;
}
