//! Races and other mischief around approvals: each has one right outcome.

use dbgate::sys::http::Http;
use openidconnect::http::{Request, StatusCode, header};
use openidconnect::{HttpResponse, url::form_urlencoded};

use crate::support::dbgate::{Program, said};
use crate::support::gate::SHOP;
use crate::support::scene::{Scene, UPDATE, at_its_address, id_in};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_reviewers_who_race_one_decides_and_the_other_is_told() {
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    let (yes, no) = (["approve", &id], ["reject", &id, "-m", "no"]);
    let (raj, kim) = tokio::join!(scene.run("raj", &yes), scene.run("kim", &no));
    let codes = [raj.status.code(), kim.status.code()];
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{}{}", said(&raj), said(&kim));
    let loser = if raj.status.success() { &kim } else { &raj };
    assert!(said(loser).contains("already"), "{}", said(loser));
    assert_eq!(scene.logged("approval.decision", &id), 1);
    let expected = if raj.status.success() { 0 } else { 7 };
    assert_eq!(scene.resume("ana", &id).await.0, Some(expected));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changed_between_request_and_run_voids_the_approval() {
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let rule = "@id(\"one-more\")\nforbid (principal, action == Action::\"ddl\", resource);\n";
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/more.cedar"), rule).expect("a rule")).await;
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(6), "{document:#}");
    assert_ne!(document["approval"]["request_id"], id.as_str(), "it is asked for anew");
    assert_eq!(scene.changed().await, 0);
    let old = scene.run("ana", &["request", "show", &id]).await;
    assert!(said(&old).contains("EXPIRED") && said(&old).contains("the policy changed"), "{}", said(&old));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_redefined_between_request_and_run_voids_the_approval() {
    let scene = Scene::start("").await;
    let id = scene.ask(UPDATE).await;
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let trigger =
        "create function more() returns trigger language plpgsql as 'begin delete from customers; return new; end';
                   create trigger more after update on orders for each statement execute function more();";
    crate::support::gate::superuser(&scene.gate.database).await.batch_execute(trigger).await.expect("a trigger");
    let (code, document) = scene.resume("ana", &id).await;
    assert_ne!(code, Some(0), "{document:#}");
    assert_eq!(scene.changed().await, 0);
    assert_eq!(scene.gate.count("select count(*) from customers").await, 1000);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_while_psql_waits_keeps_the_request_and_later_the_approval() {
    let scene = Scene::start("").await;
    let mut child = scene.psql(UPDATE).await.spawn().expect("psql starts");
    let mut errors = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let id = id_in(&mut errors);
    let scene = scene.restart(|_| ()).await;
    let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("joined").expect("psql ends");
    assert!(!ended.success());
    assert_eq!(scene.changed().await, 0);
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let mut command = scene.psql(UPDATE).await;
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("psql runs");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(scene.changed().await, 1500);
    assert_eq!(scene.logged("approval.outcome", &id), 1);
    scene.end().await;
}

/// A browser without a screen: keeps cookies, follows where it is sent.
#[derive(Clone)]
struct Browser {
    desk: Http,
    issuer: Http,
    cookies: Vec<(String, String)>,
}

impl Browser {
    async fn send(&mut self, method: &str, url: &str, form: &[(&str, &str)]) -> HttpResponse {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::builder().method(method).uri(url).header(header::COOKIE, cookies.join("; "));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let http = if url.contains("/authorize") { &self.issuer } else { &self.desk };
        let answer = http.send(request.body(body.into_bytes()).expect("a request")).await.expect("an answer");
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let text = cookie.to_str().expect("text");
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Lax"), "{text}");
            let (name, value) = text.split(';').next().expect("a pair").split_once('=').expect("a pair");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        answer
    }
}

fn location(answer: &HttpResponse) -> String {
    answer.headers()[header::LOCATION].to_str().expect("an address").to_owned()
}

fn text(answer: &HttpResponse) -> String {
    String::from_utf8(answer.body().clone()).expect("text")
}

/// The value of a hidden field.
fn form_key(page: &str) -> String {
    let at = page.find("name=\"key\" value=\"").expect("a form with a key") + 18;
    page[at..].split('"').next().expect("a value").to_owned()
}

async fn signed_in(scene: &Scene, person: &str) -> Browser {
    let desk = Http::new(&scene.server, None).expect("HTTP");
    let issuer = Http::new(scene.issuer.url(), None).expect("HTTP");
    let mut browser = Browser { desk, issuer, cookies: Vec::new() };
    let start = browser.send("GET", &format!("{}/auth/start?to=/requests", scene.server), &[]).await;
    let chosen = browser.send("GET", &format!("{}&user={person}", location(&start)), &[]).await;
    let back = browser.send("GET", &location(&chosen), &[]).await;
    assert_eq!(location(&back), "/requests", "{}", text(&back));
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_group_between_opening_and_clicking_decides_nothing() {
    let scene = at_its_address(Scene::start("").await).await;
    let id = scene.ask(UPDATE).await;
    let mut browser = signed_in(&scene, "raj").await;
    let page = format!("{}/r/{id}", scene.server);
    let opened = browser.send("GET", &page, &[]).await;
    let policy = opened.headers()[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let key = form_key(&text(&opened));
    for wrong in ["", "x"] {
        let typed = [("key", wrong), ("comment", "looks right")];
        let answer = browser.send("POST", &format!("{page}/approve"), &typed).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "a form of another page");
        let told = text(&answer);
        assert!(told.contains("from an earlier sign-in") && told.contains("value=\"looks right\""), "{told}");
    }
    for cap in ["10.000", "0", "9007199254740992", "18446744073709551615"] {
        let typed = [("key", key.as_str()), ("comment", "fine"), ("max_rows", cap)];
        let answer = browser.send("POST", &format!("{page}/approve"), &typed).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{cap}");
        let told = text(&answer);
        assert!(told.contains("a whole number of rows") && told.contains(&format!("value=\"{cap}\"")), "{told}");
    }
    let much = "x".repeat(20_000);
    let answer = browser.send("POST", &format!("{page}/approve"), &[("key", &key), ("comment", &much)]).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    scene.issuer.set_groups("raj", &["engineers"]);
    let answer = browser.send("POST", &format!("{page}/approve"), &[("key", &key)]).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(text(&answer).contains("you are not one now"), "{}", text(&answer));
    // Three caps that are none, and this.
    assert_eq!((scene.logged("approval.refused", &id), scene.logged("approval.decision", &id)), (4, 0));
    scene.issuer.set_groups("raj", &["dba"]);
    let answer = browser.send("POST", &format!("{page}/approve"), &[("key", &key)]).await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", text(&answer));
    assert_eq!(scene.resume("ana", &id).await.0, Some(0));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_is_bound_to_the_browser_that_began_it_and_works_once() {
    let scene = at_its_address(Scene::start("").await).await;
    let mut browser = signed_in(&scene, "raj").await;
    let start = browser.send("GET", &format!("{}/auth/start", scene.server), &[]).await;
    let chosen = browser.send("GET", &format!("{}&user=raj", location(&start)), &[]).await;
    let callback = location(&chosen);
    let mut other = Browser { cookies: Vec::new(), ..browser.clone() };
    let (mut replayed, elsewhere) =
        (browser.clone(), browser.send("GET", &format!("{}/auth/start?to=/sessions", scene.server), &[]).await);
    replayed.cookies.retain(|(name, _)| name.starts_with("dbgate_coming_"));
    assert_eq!(other.send("GET", &callback, &[]).await.status(), StatusCode::FORBIDDEN, "another browser");
    other.send("GET", &format!("{}/auth/start", scene.server), &[]).await;
    assert_eq!(other.send("GET", &callback, &[]).await.status(), StatusCode::FORBIDDEN, "and one with its own sign-in");
    let before = browser.cookies.clone();
    assert_eq!(location(&browser.send("GET", &callback, &[]).await), "/requests", "its own browser");
    assert_eq!(replayed.send("GET", &callback, &[]).await.status(), StatusCode::FORBIDDEN, "once, whatever is kept");
    // Back to the address that was left: who is signed in stays so, and nobody is signed in anew.
    let after = browser.cookies.clone();
    assert_eq!(location(&browser.send("GET", &callback, &[]).await), "/requests");
    assert_eq!(browser.cookies, after);
    // The session that this one took the place of has ended.
    let mut old = Browser { cookies: before, ..browser.clone() };
    let requests = format!("{}/requests", scene.server);
    assert_eq!(old.send("GET", &requests, &[]).await.status(), StatusCode::UNAUTHORIZED);
    // Another sign-in that was begun in a second tab ends as well as the first.
    let chosen = browser.send("GET", &format!("{}&user=raj", location(&elsewhere)), &[]).await;
    assert_eq!(location(&browser.send("GET", &location(&chosen), &[]).await), "/sessions");
    // What a stranger says went wrong is said in letters that everybody sees.
    let begun = browser.send("GET", &format!("{}/auth/start", scene.server), &[]).await;
    let (_, answer) =
        location(&begun).split_once("state=").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a state");
    let answer = answer.split('&').next().unwrap_or_default().to_owned();
    let said = format!("{}/auth/callback?state={answer}&error=x%0a%e2%80%ae%1b[31m", scene.server);
    let told = text(&browser.send("GET", &said, &[]).await);
    assert!(told.contains("the sign-in service refused: x") && !told.contains(['\u{202e}', '\u{1b}']), "{told}");
    let own = signed_in(&scene, "ana").await;
    let id = scene.ask(UPDATE).await;
    let page = format!("{}/r/{id}", scene.server);
    let mut own = own;
    let opened = own.send("GET", &page, &[]).await;
    assert!(!text(&opened).contains("Approve once"), "nobody is offered to approve their own");
    let key = form_key(&text(&opened));
    let answer = own.send("POST", &format!("{page}/approve"), &[("key", &key)]).await;
    assert!(text(&answer).contains("self_approval"), "{}", text(&answer));
    scene.end().await;
}

/// What a receiver got: signature, delivery and body.
type Received = std::sync::Arc<std::sync::Mutex<Vec<(String, String, String)>>>;

/// A receiver that fails the first time and then takes everything.
async fn receiver() -> (String, Received) {
    use axum::http::HeaderMap;
    let received = Received::default();
    let kept = received.clone();
    let take = move |headers: HeaderMap, body: String| {
        let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        let mut all = kept.lock().expect("whole");
        all.push((header("x-dbgate-signature"), header("x-dbgate-delivery"), body));
        let status = if all.len() == 1 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        async move { status }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(take)).await });
    (url, received)
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_told_in_order_signed_and_without_literals() {
    let ((hook, webhook), (slack, card)) = tokio::join!(receiver(), receiver());
    let home = Program::new();
    let secrets = home.home();
    for (name, text) in [("hook", hook.as_str()), ("key", "a secret that is shared"), ("slack", slack.as_str())] {
        dbgate::sys::files::write_private(&secrets.join(name), text.as_bytes()).expect("a secret");
    }
    let folder = secrets.display();
    let approvals = format!(
        "[[approvals.notify]]\nkind = \"webhook\"\nurl_file = \"{folder}/hook\"\nhmac_key_file = \"{folder}/key\"\n\
         [[approvals.notify]]\nkind = \"slack\"\nurl_file = \"{folder}/slack\"\n"
    );
    let scene = Scene::start(&approvals).await;
    let id = scene.ask("update customers set status = 'secret word' where id <= 300").await;
    assert_eq!(scene.run("raj", &["approve", &id, "-m", "go on"]).await.status.code(), Some(0));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while webhook.lock().expect("whole").len() < 3 || card.lock().expect("whole").len() < 3 {
        assert!(std::time::Instant::now() < deadline, "messages are missing");
        tokio::task::yield_now().await;
    }
    let got = webhook.lock().expect("whole").clone();
    let events: Vec<String> = got
        .iter()
        .map(|(signature, _, body)| {
            let at = signature.strip_prefix("t=").and_then(|rest| rest.split(',').next()).expect("a moment");
            let at = dbgate::core::time::Moment::from_seconds(at.parse().expect("seconds"));
            assert_eq!(*signature, dbgate::core::approval::message::signature(b"a secret that is shared", at, body));
            assert!(!body.contains("secret word") && body.contains(&id), "{body}");
            let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
            body["event"].as_str().expect("a word").to_owned()
        })
        .collect();
    assert_eq!(events, ["requested", "requested", "decided"]);
    assert_eq!(got[0].1, got[1].1, "the second try is the same message");
    assert_ne!(got[1].1, got[2].1);
    let cards = card.lock().expect("whole").clone();
    assert!(cards[1].2.contains("refund-bot (agent) for ana@example.com"), "{}", cards[1].2);
    assert!(cards[2].2.contains("approved by *raj@example.com*: go on"), "{}", cards[2].2);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_must_agree_where_the_policy_says_so() {
    let scene = Scene::start("").await;
    let rule = "@id(\"two\")\n@approval(\"2 of dba\")\n@reason(\"customers are precious\")\n\
                forbid (principal, action == Action::\"delete\", resource) when { context has impact };\n";
    let scene = scene.restart(|folder| std::fs::write(folder.join("policy/two.cedar"), rule).expect("a rule")).await;
    let id = scene.ask("delete from customers where id = 5").await;
    let one = scene.run("raj", &["approve", &id]).await;
    assert!(said(&one).contains("1 of 2 agree"), "{}", said(&one));
    let again = scene.run("raj", &["approve", &id]).await;
    assert_ne!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(scene.resume("ana", &id).await.0, Some(6));
    assert_eq!(scene.run("kim", &["approve", &id]).await.status.code(), Some(0));
    assert_eq!(scene.resume("ana", &id).await.0, Some(0));
    assert_eq!(scene.gate.count("select count(*) from customers where id = 5").await, 0);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_planner_expects_to_be_huge_is_not_run_to_be_counted() {
    let big = "create table big (id int primary key, n int not null);
               insert into big select i, i % 7 from generate_series(1, 120000) i; analyze big;";
    let scene = Scene::start_over(&format!("{SHOP}{big}"), "").await;
    let (code, document) = scene.exec("update big set n = 0 where n < 6").await;
    assert_eq!(code, Some(6), "{document:#}");
    let impact = &document["approval"]["impact"];
    assert!(impact["trial"]["skipped"].is_string(), "{impact:#}");
    assert!(impact["estimate"]["rows"].as_u64().is_some_and(|rows| rows > 90_000), "{impact:#}");
    let dead = "select n_tup_upd from pg_stat_user_tables where relname = 'big'";
    assert_eq!(scene.gate.count(dead).await, 0, "not one row was written");
    let (code, _) = scene.exec("update big set n = 0 where id = 7").await;
    assert_eq!(code, Some(0), "an ordinary write goes through");
    let id = document["approval"]["request_id"].as_str().expect("an id").to_owned();
    assert_eq!(scene.run("raj", &["approve", &id]).await.status.code(), Some(0));
    let (code, document) = scene.resume("ana", &id).await;
    assert_eq!(code, Some(0), "{document:#}");
    assert_eq!(scene.gate.count("select count(*) from big where n not in (0, 6)").await, 0);
    scene.end().await;
}
