//! Definitions and maintenance by approval: run once as the owner, on a role that is gone after.

use std::path::Path;

use serde_json::Value;

use crate::support::dbgate::said;
use crate::support::gate::{SHOP, reconfigure};
use crate::support::scene::{Scene, id_in};

/// A scene whose tables, but for one, belong to an owner that is lent.
async fn lending(owner: &str) -> Scene {
    lending_for(owner, "").await
}

/// The same, with more lines for the target.
async fn lending_for(owner: &str, more: &str) -> Scene {
    let own = format!(
        "create function slow() returns boolean language plpgsql as 'begin perform pg_sleep(0.01); return true; end';
         create role {owner}; grant create, usage on schema public to {owner};
         alter table customers owner to {owner}; alter table orders owner to {owner};"
    );
    Scene::start_over(&format!("{SHOP}{own}"), &format!("lend = [\"{owner}\"]\n{more}\n[approvals]\nenabled = true\n"))
        .await
}

/// Raj asks with admin access; the exit code and the document.
async fn ask(scene: &Scene, sql: &str) -> (Option<i32>, Value) {
    let output = scene.run("raj", &["exec", "demo", "--access", "admin", "--format", "json", "-c", sql]).await;
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output))))
}

/// Raj asks, Kim approves, Raj runs it.
async fn agreed(scene: &Scene, sql: &str) -> (Option<i32>, Value) {
    let (code, document) = ask(scene, sql).await;
    assert_eq!(code, Some(6), "{document:#}");
    let id = document.pointer("/approval/request_id").and_then(Value::as_str).expect("an id").to_owned();
    let own = scene.run("raj", &["approve", &id]).await;
    assert!(said(&own).contains("self_approval"), "{}", said(&own));
    let approved = scene.run("kim", &["approve", &id]).await;
    assert_eq!(approved.status.code(), Some(0), "{}", said(&approved));
    let ran = scene.resume("raj", &id).await;
    let (code, again) = scene.resume("raj", &id).await;
    assert_eq!(
        (code, again.get("replayed")),
        (ran.0, Some(&true.into())),
        "it runs once: {again:#}\nafter {:#}",
        ran.1
    );
    ran
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_columns_and_maintenance_run_as_the_owner_and_leave_no_role_behind() {
    let scene = lending("shop_owner_a").await;
    for (sql, tag) in [
        ("create index concurrently orders_amount on orders (amount)", "CREATE INDEX"),
        ("alter table orders add column note text", "ALTER TABLE"),
        ("vacuum (analyze) orders", "VACUUM"),
        ("create table extras (id int primary key)", "CREATE TABLE"),
        ("truncate orders", "TRUNCATE TABLE"),
    ] {
        let (code, document) = agreed(&scene, sql).await;
        assert_eq!(code, Some(0), "{document:#}");
        assert_eq!(document["statements"][0]["command_tag"], tag, "{document:#}");
        let transcript = document["audit"]["transcript"].as_str().expect("evidence");
        let verified = scene.run("raj", &["audit", "verify", transcript]).await;
        assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    }
    let count = async |sql: &str| scene.gate.count(sql).await;
    assert_eq!(
        count("select count(*) from pg_index where indexrelid = 'orders_amount'::regclass and indisvalid").await,
        1
    );
    assert_eq!(count("select count(note) from orders").await, 0);
    let owned = "select count(*) from pg_class where relname in ('orders_amount', 'extras') \
                 and relowner = 'shop_owner_a'::regrole";
    assert_eq!(count(owned).await, 2, "what is made belongs to the owner");
    assert_eq!(scene.gate.login_roles().await, Vec::<String>::new(), "the roles are gone");
    let members = "select count(*) from pg_auth_members where roleid = 'shop_owner_a'::regrole";
    assert_eq!(count(members).await, 0, "nobody is a member of the owner");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lent_runs_no_longer_than_the_target_says() {
    let scene = lending_for("shop_owner_e", "lend_for = \"1s\"").await;
    // A hundredth of a second for each of 3,000 rows.
    let (code, document) = agreed(&scene, "alter table orders add check (slow())").await;
    assert_eq!(code, Some(3), "{document:#}");
    let error = &document["error"];
    assert_eq!(error["sqlstate"], "57014", "{document:#}");
    assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("`lend_for`")), "{document:#}");
    let added = "select count(*) from pg_constraint where conrelid = 'orders'::regclass and contype = 'c'";
    assert_eq!(scene.gate.count(added).await, 0);
    scene.end().await;
}

/// Definitions fire event triggers, and TRUNCATE ... CASCADE reaches whatever refers to a table.
#[tokio::test(flavor = "multi_thread")]
async fn code_that_a_definition_would_run_is_part_of_what_was_agreed_to() {
    let scene = lending("shop_owner_g").await;
    let superuser = crate::support::gate::superuser(&scene.gate.database).await;
    let refers = "create table visits (customer_id int references customers); alter table visits owner to shop_owner_g; \
        create function event() returns event_trigger language plpgsql as 'begin end'; \
        create function late() returns trigger language plpgsql as 'begin return null; end'";
    superuser.batch_execute(refers).await.expect("made");
    for (sql, change) in [
        (
            "create index late on orders (amount)",
            "create event trigger late on ddl_command_end execute function event()",
        ),
        ("truncate customers cascade", "create trigger late after truncate on visits execute function late()"),
    ] {
        let (code, document) = ask(&scene, sql).await;
        assert_eq!(code, Some(6), "{document:#}");
        let id = document.pointer("/approval/request_id").and_then(Value::as_str).expect("an id").to_owned();
        assert_eq!(scene.run("kim", &["approve", &id]).await.status.code(), Some(0));
        superuser.batch_execute(change).await.expect(change);
        let (code, document) = scene.resume("raj", &id).await;
        assert_eq!(code, Some(6), "asked anew: {document:#}");
        assert_ne!(document["approval"]["request_id"], id.as_str(), "{document:#}");
    }
    assert_eq!(scene.gate.count("select count(*) from orders").await, 3000);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_lent_is_refused_and_nobody_is_asked() {
    let scene = lending("shop_owner_b").await;
    for (sql, why) in [
        ("alter table audit_trail add column x int", "not lent"),
        ("truncate orders, audit_trail", "not exactly one"),
        ("grant select on orders to public", "second person"),
        ("alter table orders owner to postgres", "second person"),
        ("create view all_of_it as select * from customers", "second person"),
        ("drop table orders", "second person"),
        ("do $$ begin perform 1; end $$", "effect the text does not show"),
    ] {
        let (code, document) = ask(&scene, sql).await;
        assert_eq!(code, Some(5), "{sql}: {document:#}");
        assert!(document["denial"]["message"].as_str().is_some_and(|text| text.contains(why)), "{sql}: {document:#}");
    }
    let engineer =
        scene.run("ana", &["exec", "demo", "--access", "write", "-c", "create index i on orders (id)"]).await;
    assert_eq!(engineer.status.code(), Some(5), "{}", said(&engineer));
    let listed = scene.run("raj", &["request", "ls"]).await;
    assert!(said(&listed).contains("No request"), "{}", said(&listed));
    // Where nothing is lent, nothing is asked either.
    let nothing = |text: String| text.replace("lend = [\"shop_owner_b\"]\n", "");
    let scene = scene.restart(|folder| reconfigure(folder, nothing)).await;
    assert_eq!(ask(&scene, "create index i on orders (id)").await.0, Some(5));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_more_than_an_owner_is_not_lent() {
    let scene = lending("shop_owner_c").await;
    let superuser = crate::support::gate::superuser(&scene.gate.database).await;
    superuser.batch_execute("alter role shop_owner_c createrole").await.expect("more");
    let (code, document) = ask(&scene, "create index i on orders (id)").await;
    assert_eq!(code, Some(5), "{document:#}");
    superuser.batch_execute("alter role shop_owner_c nocreaterole").await.expect("less");
    let (code, document) = agreed(&scene, "alter table orders add column amount int").await;
    assert_eq!((code, &document["error"]["sqlstate"]), (Some(3), &"42701".into()), "{document:#}");
    let held = crate::support::gate::superuser(&scene.gate.database).await;
    held.batch_execute("begin; lock table orders in access share mode").await.expect("a lock");
    let (code, document) = agreed(&scene, "alter table orders add column more int").await;
    assert_eq!(
        (code, &document["error"]["sqlstate"]),
        (Some(3), &"55P03".into()),
        "others need not wait: {document:#}"
    );
    assert_eq!(scene.gate.login_roles().await, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_gets_its_definition_run_when_it_sends_it_again() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/drivers/venv/bin/python");
    if !python.exists() {
        eprintln!("skipped: {} is not installed (tests/run installs it)", python.display());
        return;
    }
    let scene = lending("shop_owner_d").await;
    let output = scene.run("raj", &["conninfo", "demo", "--access", "admin"]).await;
    let conninfo = String::from_utf8(output.stdout).expect("text").trim().to_owned();
    let program = "
import json, sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    try:
        print(connection.execute('create index orders_customer on orders (customer_id)', prepare=True).statusmessage)
    except psycopg.Error as refused:
        print(refused.sqlstate, json.loads(refused.diag.message_detail)['request_id'])
    assert connection.execute('select 1 where %s', (True,)).fetchone() == (1,)
";
    let run = async || {
        let mut command = tokio::process::Command::new(&python);
        let output = command.args(["-c", program, &conninfo]).env_clear().output().await.expect("python runs");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let asked = run().await;
    let id = asked.strip_prefix("ZG001 ").unwrap_or_else(|| panic!("{asked}")).to_owned();
    assert_eq!(scene.run("kim", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(run().await, "CREATE INDEX");
    assert_eq!(scene.gate.count("select count(*) from pg_class where relname = 'orders_customer'").await, 1);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_made_under_the_settings_that_were_agreed_to() {
    let scene = lending("shop_owner_s").await;
    let owner = crate::support::gate::superuser(&scene.gate.database).await;
    let files = "create table files (id int primary key, body bytea, n int); alter table files owner to shop_owner_s; \
                 insert into files values (1, '\\x41ff', 1); \
                 create function looks() returns event_trigger language plpgsql as $$ begin \
                   perform current_setting('server_version_num'), current_setting('statement_timeout'); end $$; \
                 create event trigger looks on ddl_command_end execute function looks()";
    owner.batch_execute(files).await.expect("a table");
    let conninfo = scene.run("raj", &["conninfo", "demo", "--access", "admin"]).await;
    let conninfo = String::from_utf8(conninfo.stdout).expect("text").trim().to_owned();
    for sql in [
        "alter table files alter column body type text using body::text",
        "alter table files add constraint n_is_there check (not (n = null))",
    ] {
        let mut psql = std::process::Command::new("psql");
        psql.args([
            "-X",
            &conninfo,
            "-c",
            "set bytea_output = 'escape'",
            "-c",
            "set transform_null_equals = on",
            "-c",
            sql,
        ]);
        psql.env_clear().env("PATH", "/usr/bin:/bin").stderr(std::process::Stdio::piped());
        let mut child = psql.spawn().expect("psql starts");
        let mut errors = std::io::BufReader::new(child.stderr.take().expect("piped"));
        let id = id_in(&mut errors);
        let approved = scene.run("kim", &["approve", &id]).await;
        assert_eq!(approved.status.code(), Some(0), "{}", said(&approved));
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut errors, &mut rest).expect("text");
        assert!(child.wait().expect("ended").success(), "{sql}: {rest}");
    }
    assert_eq!(scene.gate.count("select count(*) from files where body = 'A\\377'").await, 1);
    let stored =
        "select count(*) from pg_constraint where conname = 'n_is_there' and pg_get_constraintdef(oid) ~ 'IS NULL'";
    assert_eq!(scene.gate.count(stored).await, 1);
    scene.end().await;
}
