//! A reviewer at the desk: the pages in a real browser, on a phone and a desktop, light and dark.

use serde_json::json;

use crate::support::browser;
use crate::support::dbgate::said;
use crate::support::scene::{Scene, UPDATE, at_its_address};

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_sees_who_what_and_how_much_and_decides_with_and_without_javascript() {
    let rule = "@id(\"precious\") @approval(\"dba\") @break_glass(\"oncall\") @reason(\"customers are precious\")\n\
                forbid (principal, action == Action::\"delete\", resource)\n\
                when { context has impact && context.impact.rows == 1 };";
    let scene = Scene::start("").await;
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/more.cedar"), rule).expect("a rule")).await;
    let scene = at_its_address(scene).await;
    let approve = scene.ask("delete from customers where status = 'idle'").await;
    let reject = scene.ask(UPDATE).await;
    scene.issuer.set_groups("ana", &["engineers", "oncall"]);
    let broken = ["exec", "demo", "--access", "write", "--break-glass", "--reason", "the site is down", "-c"];
    let broken = scene.run("ana", &[&broken[..], &["delete from customers where id = 999"]].concat()).await;
    assert_eq!(broken.status.code(), Some(0), "{}", said(&broken));
    let values = [
        "exec", "demo", "--access", "write", "--ticket", "OPS-91", "--format", "json", "-p", "shipped", "-p", "900",
        "-c",
    ];
    let sql = "update customers\n   set status = $1\n where id <= $2  -- those of the first week";
    let values = scene.run("ana", &[&values[..], &[sql]].concat()).await;
    let values: serde_json::Value = serde_json::from_slice(&values.stdout).expect("JSON");
    let values = values.pointer("/approval/request_id").and_then(serde_json::Value::as_str).expect("an id").to_owned();
    let listed = scene.run("raj", &["request", "ls", "--reviewable", "--format", "json"]).await;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let listed = listed.pointer("/requests").and_then(serde_json::Value::as_array).expect("a list");
    let is_broken = |one: &&serde_json::Value| one.get("glass").is_some();
    let review = listed.iter().find(is_broken).and_then(|one| one.get("request_id")).expect("one with a glass").clone();
    let conninfo = scene.psql("select count(*) from orders").await;
    drop(conninfo);
    let waiting = scene.psql("update customers set status = 'active' where status = 'idle' and id > 400").await.spawn();
    let mut waiting = waiting.expect("psql starts");
    let arguments = json!({
        "desk": scene.server, "shots": browser::screenshots(), "approve": approve, "reject": reject, "person": "Raj",
        "review": review, "more": [{"name": "values", "id": values}],
    });
    let driven = browser::drive(&arguments).await;
    waiting.kill().expect("psql ends");
    waiting.wait().expect("psql ends");
    assert_eq!(driven.status.code(), Some(0), "{}", said(&driven));
    let (code, document) = scene.resume("ana", &approve).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(document["statements"][0]["command_tag"], "DELETE 500");
    assert_eq!(scene.gate.count("select count(*) from orders").await, 1497, "the cascades too");
    let (code, document) = scene.resume("ana", &reject).await;
    assert_eq!((code, &document["approval"]["comment"]), (Some(7), &"wrong table".into()));
    scene.end().await;
}
