//! A reviewer at the desk: the pages in a real browser, on a phone and a desktop, light and dark.

use serde_json::json;

use crate::support::browser;
use crate::support::dbgate::said;
use crate::support::scene::{Scene, UPDATE, at_its_address};

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_sees_who_what_and_how_much_and_decides_with_and_without_javascript() {
    let scene = at_its_address(Scene::start("").await).await;
    let approve = scene.ask("delete from customers where status = 'idle'").await;
    let reject = scene.ask(UPDATE).await;
    let conninfo = scene.psql("select count(*) from orders").await;
    drop(conninfo);
    let waiting = scene.psql("update customers set status = 'active' where status = 'idle' and id > 400").await.spawn();
    let mut waiting = waiting.expect("psql starts");
    let arguments = json!({
        "desk": scene.server, "shots": browser::screenshots(), "approve": approve, "reject": reject, "person": "Raj",
    });
    let driven = browser::drive(&arguments).await;
    waiting.kill().expect("psql ends");
    waiting.wait().expect("psql ends");
    assert_eq!(driven.status.code(), Some(0), "{}", said(&driven));
    let (code, document) = scene.resume("ana", &approve).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(document["statements"][0]["command_tag"], "DELETE 500");
    assert_eq!(scene.gate.count("select count(*) from orders").await, 1500, "the cascade too");
    let (code, document) = scene.resume("ana", &reject).await;
    assert_eq!((code, &document["approval"]["comment"]), (Some(7), &"wrong table".into()));
    scene.end().await;
}
