//! Taking back a small write: kept where policy says so, proposed, and run like any other statement.

use dbgate::core::grant::Access;
use dbgate::core::undo::Kept;
use serde_json::Value;

use crate::support::dbgate::said;
use crate::support::gate::{SHOP, superuser};
use crate::support::requests::{Requests, ask};
use crate::support::scene::Scene;
use crate::support::wire::Peer;

/// Kept for a day, up to 50 rows.
const RULE: &str =
    "@id(\"keep\")\n@undo(\"50 rows, 24 h\")\nforbid (principal, action == Action::\"execute\", resource);\n";

const MORE: &str = "
create type place as (street text, number int);
create table notes (id int generated always as identity primary key, \"Body\" text, at timestamptz, parts json, span interval,
  price numeric(8,3), raw bytea, tags text[], home place default row('Main', null), twice numeric generated always as (price * 2) stored);
insert into notes (\"Body\", at, parts, span, price, raw, tags)
  select 'it''s \\ '||i, '2026-03-29 01:30+01', '{\"a\": [1, null]}', '1 mon -2 days', i / 3.0, '\\x00ff', array['a,b', null, 'ü\"']
  from generate_series(1, 20) i;
create function vets(text) returns boolean language plpgsql as
  $$ begin if current_user = 'dbgate_broker' then raise 'not yours'; end if; return true; end $$;
create domain code as text check (vets(value));
create table coded (id code primary key, n int);
insert into coded values ('a', 1), ('b', 2);
create table keyless (n int);
insert into keyless values (1);
set timezone = 'Asia/Tokyo';
analyze;
";

/// Everything in a table, as a superuser sees it.
async fn all(scene: &Scene, table: &str) -> Vec<String> {
    let client = superuser(&scene.gate.database).await;
    let rows = client.query(&format!("select t::text from {table} t order by 1"), &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn scene() -> Scene {
    let scene = Scene::start_over(&format!("{SHOP}\n{MORE}"), "").await;
    scene.restart(|folder| std::fs::write(folder.join("policy/undo.cedar"), RULE).expect("a rule")).await
}

/// Runs something as Ana; the session it ran in.
async fn run(scene: &Scene, sql: &str) -> String {
    let output = scene.run("ana", &["exec", "demo", "--access", "write", "-c", sql, "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    document.pointer("/session/id").and_then(Value::as_str).expect("a session").to_owned()
}

/// What is kept of the one write of a session.
async fn kept(scene: &Scene, session: &str) -> Value {
    let output = scene.run("ana", &["undo", session, "--format", "json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    document.pointer("/writes/0").cloned().expect("a write")
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_value_comes_back_as_it_was() {
    let scene = scene().await;
    let writes = [
        "update notes set \"Body\" = null, at = now(), parts = '[]', span = '1 s', price = price + 1, raw = '', tags = '{}', home = row('Side', null) where id <= 7",
        "delete from notes where id in (2, 3, 5)",
        // Behind other settings of the session the values are the same.
        "set datestyle = 'German'; set timezone = 'UTC'; set intervalstyle = 'sql_standard'; \
         update notes set at = at + interval '1 day', span = -span where id between 3 and 6",
        "update orders set amount = amount * 2 where id <= 50",
    ];
    let before = (all(&scene, "notes").await, all(&scene, "orders").await);
    for write in writes {
        let session = run(&scene, write).await;
        let now = (all(&scene, "notes").await, all(&scene, "orders").await);
        assert_ne!(now, before, "{write}");
        let shown = kept(&scene, &session).await;
        let number = shown.get("statement").and_then(Value::as_u64).expect("a number").to_string();
        let proposed = scene.run("ana", &["undo", &session, &number]).await;
        assert_eq!(String::from_utf8_lossy(&proposed.stdout).trim_end(), text(&shown, "sql"), "{shown:#}");
        assert!(said(&proposed).contains("--apply"), "{}", said(&proposed));
        assert_eq!((all(&scene, "notes").await, all(&scene, "orders").await), now, "it is only shown");
        let undone = scene.run("ana", &["undo", &session, &number, "--apply"]).await;
        assert_eq!(undone.status.code(), Some(0), "{write}: {}", said(&undone));
        assert_eq!((all(&scene, "notes").await, all(&scene, "orders").await), before, "{write}");
        let again = scene.run("ana", &["undo", &session, &number, "--apply"]).await;
        assert_eq!(again.status.code(), Some(3), "twice: {}", said(&again));
        assert_eq!((all(&scene, "notes").await, all(&scene, "orders").await), before, "{write}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_a_keys_type_is_not_run_by_the_server() {
    let scene = scene().await;
    let before = all(&scene, "coded").await;
    for write in ["update coded set n = n + 1 where id = 'a'", "delete from coded where id = 'b'"] {
        let session = run(&scene, write).await;
        let shown = kept(&scene, &session).await;
        let number = shown.get("statement").and_then(Value::as_u64).unwrap_or_else(|| panic!("{shown:#}")).to_string();
        let undone = scene.run("ana", &["undo", &session, &number, "--apply"]).await;
        assert_eq!(undone.status.code(), Some(0), "{write}: {}", said(&undone));
        assert_eq!(all(&scene, "coded").await, before, "{write}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_have_changed_since_are_left_alone_and_so_are_the_others() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    let ways = [
        ("update orders set amount = 1 where id <= 9", "update orders set amount = 2 where id = 3", "only 8 of 9 rows"),
        ("update orders set amount = 3 where id <= 9", "delete from orders where id <= 9", "only 0 of 9 rows"),
        ("delete from orders where id = 20", "insert into orders values (20, 1, 1)", "duplicate key"),
    ];
    for (write, meanwhile, told) in ways {
        let session = run(&scene, write).await;
        owner.batch_execute(meanwhile).await.expect("somebody else");
        let now = all(&scene, "orders").await;
        let number = kept(&scene, &session).await.get("statement").and_then(Value::as_u64).expect("one").to_string();
        let undone = scene.run("ana", &["undo", &session, &number, "--apply"]).await;
        assert_eq!(undone.status.code(), Some(3), "{write}");
        assert!(said(&undone).contains(told), "{write}: {}", said(&undone));
        assert_eq!(all(&scene, "orders").await, now, "{write}");
    }
    // A change of what the write did not touch is not in its way.
    let session = run(&scene, "update orders set amount = 4 where id between 10 and 12").await;
    owner.batch_execute("update orders set customer_id = 7 where id = 11").await.expect("somebody else");
    let number = kept(&scene, &session).await.get("statement").and_then(Value::as_u64).expect("one").to_string();
    let undone = scene.run("ana", &["undo", &session, &number, "--apply"]).await;
    assert_eq!(undone.status.code(), Some(0), "{}", said(&undone));
    assert_eq!(scene.gate.count("select sum(amount)::int8 from orders where id between 10 and 12").await, 33);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_says_why_and_nobody_else_sees_anything() {
    let scene = scene().await;
    let owner = superuser(&scene.gate.database).await;
    owner.batch_execute("delete from orders where customer_id = 990").await.expect("a customer without orders");
    let ways = [
        ("update orders set amount = 1 where id <= 51", "51 rows, and policy keeps at most 50"),
        ("insert into orders values (4000, 1, 1)", "deleting it"),
        ("delete from customers where id = 4", "more than one table"),
        ("delete from customers where id = 990", "masked for you"),
        ("update keyless set n = 2 where n = 1", "no primary key"),
        (
            "begin; update orders set amount = 2 where id = 1; update orders set amount = 3 where id = 2; commit",
            "not the only write",
        ),
        ("begin; savepoint a; update orders set amount = 3 where id = 3; commit", "savepoint"),
        ("update orders set id = 9000 where id = 8", "primary key"),
    ];
    for (write, why) in ways {
        let session = run(&scene, write).await;
        let shown = kept(&scene, &session).await;
        let told = scene.run("ana", &["undo", &session]).await;
        assert!(text(&shown, "why_not").contains(why) && said(&told).contains(why), "{write}: {shown:#}");
        let number = shown.get("statement").and_then(Value::as_u64).expect("a number").to_string();
        let refused = scene.run("ana", &["undo", &session, &number, "--apply", "--format", "json"]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(serde_json::from_slice::<Value>(&refused.stdout).is_ok(), "{}", said(&refused));
    }
    // Of customers with masked columns the others are kept.
    let session = run(&scene, "update customers set status = 'gone' where id = 6").await;
    let shown = kept(&scene, &session).await;
    assert!(text(&shown, "sql").contains("'idle'"), "{shown:#}");
    let columns = text(&shown, "sql").contains("user6@example.com") || text(&shown, "sql").contains("123-45");
    assert!(!columns, "{shown:#}");
    let bob = scene.run("bob", &["undo", &session]).await;
    assert_eq!(bob.status.code(), Some(64), "{}", said(&bob));
    let stored = std::fs::read(scene.gate.folder.join("data/broker.sqlite")).expect("the store");
    let wal = std::fs::read(scene.gate.folder.join("data/broker.sqlite-wal")).unwrap_or_default();
    for file in [stored, wal] {
        assert!(!String::from_utf8_lossy(&file).contains("'idle'"), "it is sealed");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_writer_may_not_see_any_more_are_not_shown() {
    let scene = scene().await;
    let session = run(&scene, "update customers set name = 'x' where id = 6").await;
    assert!(text(&kept(&scene, &session).await, "sql").contains("name 6"));
    let scene = scene
        .restart(|folder| {
            let more = "[[column]]\nmatch = \"public.customers.name\"\ntags = [\"pii\"]\n";
            let file = folder.join("policy/classification.toml");
            let before = std::fs::read_to_string(&file).expect("the file");
            std::fs::write(&file, format!("{before}\n{more}")).expect("the file");
        })
        .await;
    let shown = kept(&scene, &session).await;
    assert!(!shown.to_string().contains("name 6") && text(&shown, "why_not").contains("any more"), "{shown:#}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_back_asks_people_where_the_write_would_have_asked() {
    let scene = scene().await;
    let rule = "@id(\"big\")\n@approval(\"dba\")\n@reason(\"more than ten rows\")\nforbid (principal, action == Action::\"update\", resource)\n\
                when { context has impact && context.impact.rows > 10 && principal is User };\n";
    let client = scene.gate.connect(&scene.gate.grant(Access::Write).await).await;
    drop(client);
    let session = run(&scene, "update orders set amount = 1 where id <= 12").await;
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/big.cedar"), rule).expect("a rule")).await;
    let number = kept(&scene, &session).await.get("statement").and_then(Value::as_u64).expect("one").to_string();
    let asked = scene.run("ana", &["undo", &session, &number, "--apply", "--format", "json"]).await;
    assert_eq!(asked.status.code(), Some(6), "{}", said(&asked));
    let document: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let id = document.pointer("/approval/request_id").and_then(Value::as_str).expect("an id").to_owned();
    assert!(document.pointer("/approval/reason").and_then(Value::as_str).is_some_and(|why| why.starts_with("undo of")));
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(scene.resume("ana", &id).await.0, Some(0));
    assert_eq!(scene.gate.count("select sum(amount)::int8 from orders where id <= 12").await, 78);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_has_made_stand_is_kept_whatever_comes_behind_it() {
    let scene = scene().await;
    let write = |all: Requests, id: u32| {
        all.run("begin").run(&format!("update orders set amount = amount + 1 where id = {id}"))
    };
    let behind: [(&dyn Fn(Requests) -> Requests, usize); 3] =
        [(&|all| all.run("select 1/0"), 1), (&|all| write(all, 2).run("commit"), 2), (&|all| write(all, 1), 1)];
    for (at, (behind, writes)) in behind.into_iter().enumerate() {
        let grant = scene.gate.grant(Access::Write).await;
        let mut peer = Peer::through(&grant).await;
        behind(write(ask(), 1).run("commit")).sync(&mut peer).await;
        drop(peer);
        let kept = scene.gate.running.state().images.of_session(&grant.session_id).await.expect("read");
        let changes = kept.iter().filter(|image| matches!(image.kept, Kept::Change(_))).count();
        assert_eq!((kept.len(), changes), (writes, writes), "{at}");
    }
    scene.end().await;
}
