//! Ways around the verdict that were once open: each is tried as an attacker would, and the
//! database itself is asked what became of it.

use bytes::BytesMut;
use dbgate::core::grant::Access;
use dbgate::core::wire::frame::Message;
use dbgate::core::wire::frontend;
use tokio_postgres::Client;

use crate::support::gate::{Gate, SHOP, cluster, column, refusal, superuser};
use crate::support::requests::ask;
use crate::support::wire::{Peer, error, rows};

/// Lets engineers run code blocks and procedures: what then holds is the gateway, not a rule.
const OPEN: &str = r#"
@id("code-blocks")
permit (principal in Group::"engineers", action == Action::"admin", resource);

@id("come-in")
permit (principal in Group::"engineers", action == Action::"connect", resource);

@id("read")
permit (principal in Group::"engineers",
        action in [Action::"read", Action::"reveal", Action::"execute"], resource);

@id("write")
permit (principal in Group::"engineers",
        action in [Action::"insert", Action::"update", Action::"delete"], resource)
when { context.access == "write" };

@id("at-most-100")
@code("impact_too_large")
@reason("more than 100 rows of one relation")
forbid (principal, action in [Action::"insert", Action::"update", Action::"delete"], resource)
when { context has impact && context.impact.rows > 100 };
"#;

/// A gate whose only policy is [`OPEN`].
async fn open_gate(database: &str, sql: &str) -> Gate {
    Gate::without_pack(database, sql, &[("classification.toml", ""), ("open.cedar", OPEN)]).await
}

/// Runs a text, then asks from outside for a number that must not have changed.
async fn stays(gate: &Gate, client: &Client, sql: &str, count: &str, expected: i64) -> String {
    let (state, message) = refusal(client, sql).await;
    assert_eq!(gate.count(count).await, expected, "{sql}: {message}");
    assert_eq!(column(client, "select 1").await.expect("the session goes on"), ["1"]);
    state
}

/// Shows that an attack is one: without the gate it changes the number.
async fn bites(gate: &Gate, sql: &str, count: &str) {
    let open = superuser(&gate.database).await;
    let before: i64 = open.query_one(count, &[]).await.expect(count).get(0);
    open.batch_execute(&format!("begin; {sql}; set constraints all immediate")).await.expect(sql);
    let after: i64 = open.query_one(count, &[]).await.expect(count).get(0);
    open.batch_execute("rollback").await.expect("rolled back");
    assert_ne!(before, after, "{sql}");
}

const CUSTOMERS: &str = "select count(*) from customers";
const ORDERS: &str = "select count(*) from orders";

const VOUCHED: &str = r#"
[[column]]
match = "public.customers.email"
tags = ["pii"]
[[channel]]
match = "jobs_*"
"#;

const MASKED: &str = r#"
@id("mask-pii")
@mask("null")
forbid (principal, action == Action::"reveal", resource) when { resource.tags.contains("pii") };
"#;

#[tokio::test]
async fn what_others_send_is_heard_on_channels_that_are_vouched_for_only() {
    let policy = [("classification.toml", VOUCHED), ("open.cedar", OPEN), ("masked.cedar", MASKED)];
    let gate = Gate::without_pack("hole_listen", SHOP, &policy).await;
    let grant = gate.grant(Access::Write).await;
    let (client, mut connection) = gate.open(&grant).await;
    let (heard, mut channels) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let tokio_postgres::AsyncMessage::Notification(found) = message {
                let _ = heard.send(format!("{} {}", found.channel(), found.payload()));
            }
        }
    });
    let (state, message) = refusal(&client, "listen rows").await;
    assert!(state == "42501" && message.contains("`rows`"), "{message}");
    client.batch_execute("listen jobs_done").await.expect("vouched for");
    // Nothing in PostgreSQL keeps a block from listening to anything.
    client.batch_execute("do $$ begin execute 'listen rows'; end $$").await.expect("no text shows it");
    let listening = column(&client, "select string_agg(c, ' ' order by c) from pg_listening_channels() c").await;
    assert_eq!(listening.expect("asked"), ["jobs_done rows"]);
    let other = superuser(&gate.database).await;
    for sql in ["notify rows, 'canary 1'", "notify jobs_done, 'one'", "notify rows, 'canary 2'"] {
        other.batch_execute(sql).await.expect(sql);
    }
    // What a trigger sends in the session's own name is no better; and between statements as within.
    client.batch_execute("notify rows, 'canary 3'; notify jobs_done, 'two'").await.expect("sent");
    let mut all = Vec::new();
    while all.len() < 2 {
        all.push(channels.recv().await.expect("the connection lives"));
    }
    assert_eq!(all, ["jobs_done one", "jobs_done two"]);
    drop(client);
    gate.stop().await;
}

const GUARDED: &str = "
    create role plain_reader;
    create function me() returns name language sql stable as 'select current_user';
    create table by_role (id int); alter table by_role enable row level security;
    create policy few on by_role to plain_reader using (id = 1);
    create table by_user (id int, owner name); alter table by_user enable row level security;
    create policy own on by_user using (owner = current_user);
    create table by_function (id int, owner name); alter table by_function enable row level security;
    create policy own on by_function using (owner = me());
    create table by_value (id int, email text); alter table by_value enable row level security;
    create policy small on by_value using (id < 3);
    create view through as select id, email from by_value;
    insert into by_role values (1), (2);
    insert into by_user values (1, 'plain_reader'); insert into by_function values (1, 'plain_reader');
    insert into by_value values (1, 'canary'), (2, 'canary'), (3, 'canary out of sight');";

/// A session is one role for many people: a row policy that asks who asks would answer for the wrong one.
#[tokio::test]
async fn row_policies_are_answered_right_or_not_at_all() {
    let tags = VOUCHED.replace("public.customers.email", "public.by_value.email");
    let policy = [("classification.toml", tags.as_str()), ("open.cedar", OPEN), ("masked.cedar", MASKED)];
    let sql = format!("{SHOP}{}", GUARDED.replace("plain_reader", "hole_reader"));
    let gate = Gate::without_pack("hole_policies", &sql, &policy).await;
    for access in [Access::Read, Access::Write] {
        let client = gate.connect(&gate.grant(access).await).await;
        for table in ["by_role", "by_user", "by_function", "through"] {
            let (state, message) = refusal(&client, &format!("select * from {table}")).await;
            assert!(state == "42501" && message.contains("row policies"), "{table}: {message}");
        }
        let seen =
            column(&client, "select string_agg(id || coalesce(email, '-'), ' ' order by id) from by_value").await;
        assert_eq!(seen.expect("granted"), ["1- 2-"]);
        if access == Access::Write {
            let changed = column(&client, "update by_value set id = id where id > 0 returning id").await;
            assert_eq!(changed.expect("granted"), ["1", "2"]);
            assert_eq!(refusal(&client, "insert into by_value (id) values (7)").await.0, "42501");
        }
    }
    gate.stop().await;
    superuser("postgres")
        .await
        .batch_execute("drop database hole_policies with (force); drop role hole_reader")
        .await
        .ok();
}

#[tokio::test]
async fn a_block_or_procedure_cannot_commit_before_the_verdict() {
    let sql = format!(
        "{SHOP} create procedure wipe() language plpgsql as $$ begin delete from orders; commit; end $$;\
         create procedure tidy() language plpgsql as $$ begin delete from orders where id = 1; end $$;"
    );
    let gate = open_gate("holes_commit", &sql).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let block = "do $$ begin delete from orders; commit; end $$";
    assert_eq!(stays(&gate, &client, block, ORDERS, 3000).await, "2D000", "a commit inside is an error");
    assert_eq!(stays(&gate, &client, "call wipe()", ORDERS, 3000).await, "2D000");
    // Without the commit it is counted and taken back; small work of the same kind stands.
    assert_eq!(stays(&gate, &client, "do $$ begin delete from orders; end $$", ORDERS, 3000).await, "42501");
    let hidden = "do $$ begin execute 'delete from ' || 'orders'; end $$";
    assert_eq!(stays(&gate, &client, hidden, ORDERS, 3000).await, "42501");
    client.simple_query("call tidy()").await.expect("one row");
    assert_eq!(gate.count(ORDERS).await, 2999);
    let error = client.execute("do $$ begin delete from orders; commit; end $$", &[]).await.expect_err("extended too");
    assert_eq!(error.code().map(|code| code.code()), Some("2D000"));
    assert_eq!(gate.count(ORDERS).await, 2999);
    drop(client);
    gate.stop().await;
}

/// What is put into the inbox deletes much when its transaction commits.
const FLOOD: &str = "
create table inbox (id int);
create function flood() returns trigger language plpgsql as
  $$ begin delete from customers where id <= 500; return null; end $$;
create constraint trigger later after insert on inbox deferrable initially deferred
  for each row execute function flood();
";

#[tokio::test]
async fn what_is_put_off_until_commit_happens_before_the_count() {
    let sql = format!(
        "{SHOP}{FLOOD}\
         create function reap() returns setof int language sql volatile as
           'delete from orders where id <= 400 returning id';"
    );
    let gate = Gate::start(&sql).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    bites(&gate, "insert into inbox values (1)", CUSTOMERS).await;
    assert_eq!(stays(&gate, &client, "insert into inbox values (1)", CUSTOMERS, 1000).await, "42501");
    client.simple_query("begin; set constraints all deferred").await.expect("begins");
    let put_off = "insert into inbox values (1); commit";
    assert_eq!(refusal(&client, put_off).await.0, "42501");
    client.simple_query("rollback").await.expect("over");
    assert_eq!(gate.count(CUSTOMERS).await, 1000);
    let error = client.execute("insert into inbox values ($1)", &[&1i32]).await.expect_err("extended too");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    assert_eq!(gate.count(CUSTOMERS).await, 1000);
    let held = "declare c cursor with hold for select * from reap()";
    assert_eq!(stays(&gate, &client, held, ORDERS, 3000).await, "42501");
    let in_block = format!("begin; {held}; commit");
    assert_eq!(refusal(&client, &in_block).await.0, "42501");
    client.simple_query("rollback").await.expect("over");
    assert_eq!(gate.count(ORDERS).await, 3000);
    // What cannot write may be held.
    client.simple_query("declare fine cursor with hold for select id from orders order by id").await.expect("held");
    assert_eq!(column(&client, "fetch 1 from fine").await.expect("a row"), ["1"]);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_view_an_operator_a_cast_or_a_default_that_writes_is_no_read() {
    let sql = format!(
        "{SHOP} create function spoil() returns int language sql volatile as
           'delete from orders where id <= 400; select 1';\
         create view harmless as select spoil() as n;\
         create function spoil_text(text) returns int language sql volatile as
           'delete from orders where id <= 400; select 1';\
         create function spoil_both(int, text) returns boolean language sql volatile as
           'delete from orders where id <= 400; select true';\
         create operator public.=== (leftarg = int, rightarg = text, function = spoil_both);\
         create type odd as (a text);\
         create function odd_to_int(odd) returns int language sql volatile as
           'delete from orders where id <= 400; select 1';\
         create cast (odd as int) with function odd_to_int(odd);"
    );
    let gate = Gate::start(&sql).await;
    let reader = gate.connect(&gate.grant(Access::Read).await).await;
    let writer = gate.connect(&gate.grant_as("raj@example.com", Access::Write, 600).await).await;
    let attacks = ["select * from harmless", "select 1 === 'a'", "select row('a')::odd::int", "table harmless"];
    for sql in attacks {
        bites(&gate, sql, ORDERS).await;
        // The target's read-only mode, a right that the role does not have, or the verdict.
        for client in [&reader, &writer] {
            let state = stays(&gate, client, sql, ORDERS, 3000).await;
            assert!(matches!(state.as_str(), "25006" | "42501"), "{sql}: {state}");
        }
        let in_block = format!("begin; {sql}; commit");
        assert!(writer.simple_query(&in_block).await.is_err(), "{sql}");
        writer.simple_query("rollback").await.expect("over");
        assert!(reader.query(sql, &[]).await.is_err(), "{sql}");
        assert_eq!(gate.count(ORDERS).await, 3000, "{sql}");
    }
    drop((reader, writer));
    gate.stop().await;
}

#[tokio::test]
async fn a_session_cannot_make_its_role_its_own() {
    let gate = open_gate("holes_alter", SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let role = gate.login_roles().await.pop().expect("a role");
    for text in [
        format!("alter role {role} password 'mine'"),
        "alter role current_user login".to_owned(),
        format!("alter user {role} set search_path = 'x'"),
        "alter default privileges grant all on tables to public".to_owned(),
        "set role none".to_owned(),
        format!("set session authorization {role}"),
    ] {
        assert!(client.simple_query(&text).await.is_err(), "{text}");
    }
    // Dynamic SQL shows nothing of this. What it achieves must be worth nothing.
    let hidden = format!(
        "do $$ begin perform set_config('role', 'none', true); \
         execute 'alter role {role} pass' || 'word ''mine'''; end $$"
    );
    let _ = client.simple_query(&hidden).await;
    let login = format!(
        "do $$ begin perform set_config('role', 'none', true); execute 'alter role {role} log' || 'in'; end $$"
    );
    assert!(client.simple_query(&login).await.is_err());
    let can = format!("select count(*) from pg_roles where rolname = '{role}' and rolcanlogin");
    assert_eq!(gate.count(&can).await, 0);
    let mut direct = tokio_postgres::Config::new();
    direct.host("127.0.0.1").port(cluster().port()).user(&role).password("mine").dbname(&gate.database);
    let error = direct.connect(tokio_postgres::NoTls).await.err().expect("the role opens nothing");
    assert_eq!(error.code().map(|code| code.code()), Some("28000"));
    drop(client);
    gate.stop().await;
}

/// Statements that the servers of today take and the grammar of the gateway, which is newer, does not.
#[tokio::test]
async fn what_the_gateway_cannot_read_does_not_run_in_either_protocol() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let extended = |sql: &str| {
        let mut out = BytesMut::new();
        frontend::parse_statement("", sql, &mut out);
        frontend::bind("", "", &[], &mut out);
        frontend::execute("", 0, &mut out);
        frontend::sync(&mut out);
        out
    };
    let odd = "delete from orders as system_user where system_user.id <= 9";
    for sql in [odd, "select touch_all() from (select 1) system_user", "delete from orders as system_user; select 1"] {
        peer.send(&extended(sql)).await;
        let told = error(&peer.until(b'Z').await).expect("refused");
        assert!(matches!(told.sqlstate.as_str(), "42501" | "42601"), "{sql}: {told:?}");
        let told = error(&peer.query(sql).await).expect("refused");
        assert!(matches!(told.sqlstate.as_str(), "42501" | "42601"), "{sql}: {told:?}");
    }
    peer.send(&extended("selec 1")).await;
    let told = error(&peer.until(b'Z').await).expect("the server's own words");
    assert_eq!((told.sqlstate.as_str(), told.position), ("42601", Some(1)));
    // Nor does asking the server about such a text commit what is not judged for that yet.
    let mut out = BytesMut::new();
    frontend::parse_statement("", "update orders set amount = 0 where id = 1", &mut out);
    frontend::bind("", "", &[], &mut out);
    frontend::execute("", 0, &mut out);
    frontend::flush(&mut out);
    peer.send(&out).await;
    peer.until(b'C').await;
    let told = error(&peer.query("select 1 from orders as system_user").await).expect("refused");
    assert_eq!(told.sqlstate, "42501");
    assert_eq!(rows(&peer.query("select count(*) from orders where amount = 0").await), [["0"]], "as after any error");
    assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(peer);
    gate.stop().await;
}

/// A function that runs any text can put a view of the session's own in front of a table.
#[tokio::test]
async fn names_that_code_has_moved_are_followed() {
    let more = "create table plain (id int); insert into plain values (1);
        create function run(text) returns void language plpgsql as 'begin execute $1; end';";
    let gate = Gate::start(&format!("{SHOP}\n{more}")).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let steps = [
        "select run($$create function pg_temp.p() returns int language sql volatile as 'delete from orders; select 1'$$)",
        "select run('create temp view plain as select pg_temp.p() as id')",
    ];
    client.simple_query("select * from plain").await.expect("a table, and remembered as one");
    for step in steps {
        client.simple_query(step).await.expect(step);
    }
    assert_eq!(refusal(&client, "select * from plain").await.0, "42501");
    let prepared = client.query("select * from plain", &[]).await;
    assert_eq!(prepared.expect_err("counted").code().map(tokio_postgres::error::SqlState::code), Some("42501"));
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(client);
    gate.stop().await;
}

/// An error of the gateway's fails whatever is open, also where no Sync has been answered yet.
#[tokio::test]
async fn a_refused_query_fails_the_transaction_that_it_came_into() {
    let gate = Gate::start(SHOP).await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    let write = "update orders set amount = 0 where id = 1";
    for texts in [&[write][..], &["begin", write][..]] {
        let mut out = BytesMut::new();
        for sql in texts {
            frontend::parse_statement("", sql, &mut out);
            frontend::bind("", "", &[], &mut out);
            frontend::execute("", 0, &mut out);
        }
        frontend::flush(&mut out);
        peer.send(&out).await;
        for _ in texts {
            peer.until(b'C').await;
        }
        assert_eq!(error(&peer.query("drop table orders").await).expect("refused").sqlstate, "42501");
        peer.query("commit").await;
        assert_eq!(gate.count("select count(*) from orders where amount = 0").await, 0);
    }
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn a_block_that_begins_in_the_gateways_own_is_the_clients_and_its_commit_is_judged() {
    let sql = format!(
        "{SHOP}{FLOOD}\
         create procedure fill() language sql as 'insert into inbox values (1)';"
    );
    let gate = open_gate("holes_begun", &sql).await;
    let status = |told: &[Message]| told.last().map(|one| (one.tag, one.body.to_vec()));
    // A Flush in front or behind, and a Query.
    for way in 0..4 {
        let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
        let first = ask().run("call fill()").and_flush();
        let begun = match way {
            0 => first.run("begin").sync(&mut peer).await,
            1 => first.run("begin").and_flush().sync(&mut peer).await,
            2 => {
                first.send(&mut peer).await;
                peer.query("begin").await
            }
            _ => {
                first.run("begin").send(&mut peer).await;
                peer.query("select 1").await
            }
        };
        assert_eq!((error(&begun), status(&begun)), (None, Some((b'Z', b"T".to_vec()))), "{way}");
        assert_eq!(error(&peer.query("insert into orders values (5000, 1, 1)").await), None, "{way}");
        assert_eq!(gate.count("select count(*) from orders").await, 3000, "{way}");
        let told = error(&peer.query("commit").await).expect("refused");
        assert!(told.sqlstate == "42501" && told.message.contains("500 of"), "{way}: {told:?}");
        drop(peer);
    }
    assert_eq!(gate.count("select count(*) from customers").await, 1000);
    gate.stop().await;
}
