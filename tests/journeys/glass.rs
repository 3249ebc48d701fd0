//! Without waiting, and before there is anything to wait for: broken glasses, and access that people
//! agree to ahead of time.

use std::path::Path;
use std::time::Duration;

use dbgate::core::time::Moment;
use dbgate::sys::clock;
use serde_json::Value;

use crate::support::dbgate::said;
use crate::support::scene::Scene;

/// A scene with one more rule.
async fn under(rule: &'static str) -> Scene {
    let add = |folder: &Path| std::fs::write(folder.join("policy/more.cedar"), rule).expect("a rule");
    Scene::start("").await.restart(add).await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_call_goes_ahead_and_is_reviewed_by_somebody_else() {
    let scene = under(
        "@id(\"precious\") @approval(\"dba\") @break_glass(\"oncall\") @reason(\"customers are precious\")\n\
         forbid (principal, action == Action::\"delete\", resource) when { context has impact };",
    )
    .await;
    let delete = ["exec", "demo", "--access", "write", "--format", "json", "-c", "delete from customers where id = 5"];
    let broken = [&delete[..], &["--break-glass", "--reason", "the site is down"]].concat();
    let run = async |arguments: &[&str]| {
        let output = scene.run("ana", arguments).await;
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), document, said(&output))
    };
    let silent = [&delete[..], &["--break-glass"]].concat();
    assert_eq!(run(&silent).await.0, Some(64), "it takes a reason");
    let (code, document, _) = run(&broken).await;
    assert_eq!(code, Some(6), "she is not on call, and so she waits: {document:#}");
    scene.issuer.set_groups("ana", &["engineers", "oncall"]);
    let (code, document, _) = run(&[&broken[..], &["--agent", "bot"]].concat()).await;
    assert_eq!(code, Some(6), "an agent breaks no glass: {document:#}");
    let (code, document, text) = run(&broken).await;
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(document.pointer("/statements/0/command_tag"), Some(&"DELETE 1".into()), "{document:#}");
    assert_eq!(scene.gate.count("select count(*) from customers where id = 5").await, 0);

    let listed = scene.run("raj", &["request", "ls", "--reviewable", "--format", "json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let is_broken = |one: &&Value| one.get("glass").is_some();
    let found = listed["requests"].as_array().expect("a list").iter().find(is_broken).expect("it is to be reviewed");
    let id = found["request_id"].as_str().expect("an id").to_owned();
    assert_eq!((&found["state"], &found["reason"]), (&"executed".into(), &"the site is down".into()), "{found:#}");
    let own = scene.run("ana", &["approve", &id]).await;
    assert!(said(&own).contains("self_approval"), "{}", said(&own));
    let unsaid = scene.run("raj", &["reject", &id, "-m", " "]).await;
    assert_ne!(unsaid.status.code(), Some(0), "{}", said(&unsaid));
    let reviewed = scene.run("raj", &["reject", &id, "-m", "a typo is no fire"]).await;
    assert_eq!(reviewed.status.code(), Some(0), "{}", said(&reviewed));
    let shown = scene.run("ana", &["request", "show", &id]).await;
    assert!(said(&shown).contains("not in order, says raj@example.com: a typo is no fire"), "{}", said(&shown));
    assert_ne!(scene.run("kim", &["approve", &id]).await.status.code(), Some(0), "it is reviewed once");
    for (kind, times) in
        [("approval.glass", 1), ("approval.review", 1), ("approval.decision", 0), ("approval.outcome", 1)]
    {
        assert_eq!(scene.logged(kind, &id), times, "{kind}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_that_people_agree_to_is_asked_for_ahead_and_good_for_one_grant() {
    let scene = under(
        "@id(\"write-asks\") @approval(\"dba\") @reason(\"write access takes a second person\")\n\
         forbid (principal, action == Action::\"connect\", resource) when { context.access == \"write\" };",
    )
    .await;
    let write = [
        "exec",
        "demo",
        "--access",
        "write",
        "--for",
        "2h",
        "--format",
        "json",
        "-c",
        "update orders set amount = 1 where id = 7",
    ];
    let listed = async || said(&scene.run("ana", &["ls"]).await);
    let before = listed().await;
    assert!(before.contains("BY APPROVAL\n") && before.contains("  read    write\n"), "{before}");
    assert!(before.contains("Ask for it: dbgate request create demo --access write"), "{before}");
    let refused = scene.run("ana", &write).await;
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    assert!(said(&refused).contains("dbgate request create demo --access write"), "{}", said(&refused));
    let needless = scene.run("ana", &["request", "create", "demo", "--access", "read", "--format", "json"]).await;
    let document: Value = serde_json::from_slice(&needless.stdout).expect("one document");
    assert_eq!(document["state"], "not_needed");
    assert_eq!(needless.status.code(), Some(0), "{}", said(&needless));
    let ask =
        ["request", "create", "demo", "--access", "write", "--for", "15m", "--reason", "OPS-91", "--format", "json"];
    let asked = scene.run("ana", &ask).await;
    assert_eq!(asked.status.code(), Some(6), "{}", said(&asked));
    let asked: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let id = asked["request_id"].as_str().expect("an id").to_owned();
    assert_eq!((&asked["kind"], &asked["binds"]["settings"]["for"]), (&"access".into(), &"900".into()), "{asked:#}");
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(64), "it is no statement: {document:#}");
    assert_eq!(scene.run("ana", &write).await.status.code(), Some(5), "it waits");
    assert!(listed().await.contains(&format!("write ({id} waits)")), "{}", listed().await);
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let approved = listed().await;
    assert!(approved.contains(&format!("write ({id} approved, until ")), "{approved}");
    assert!(approved.contains("Use it: dbgate connect demo --access write"), "{approved}");
    assert_eq!(scene.run("bob", &write).await.status.code(), Some(5), "it is Ana's");
    let done = scene.run("ana", &write).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let done: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let ends = done.pointer("/session/expires_at").and_then(Value::as_str).and_then(Moment::parse).expect("an end");
    assert!(ends.since(clock::now()) <= Duration::from_secs(900), "no longer than was approved");
    assert_eq!(scene.run("ana", &write).await.status.code(), Some(5), "it is used up");
    assert!(!listed().await.contains(&id), "{}", listed().await);
    let shown = scene.run("ana", &["request", "show", &id]).await;
    assert!(said(&shown).contains("GRANT gr_"), "{}", said(&shown));
    // A grant that lives is seen as well, by whoever has it.
    let again = scene.run("ana", &ask).await;
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    let again = again["request_id"].as_str().expect("an id");
    assert_eq!(scene.run("raj", &["approve", again]).await.status.code(), Some(0));
    assert_eq!(scene.run("ana", &["conninfo", "demo", "--access", "write"]).await.status.code(), Some(0));
    assert!(listed().await.contains("write (granted until "), "{}", listed().await);
    assert!(!said(&scene.run("bob", &["ls"]).await).contains("granted"), "bob has none");
    for kind in ["approval.request", "approval.decision", "approval.executed", "approval.outcome"] {
        assert_eq!(scene.logged(kind, &id), 1, "{kind}");
    }
    scene.end().await;
}
