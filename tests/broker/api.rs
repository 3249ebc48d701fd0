//! The broker's API over real HTTP, with tokens of a real issuer and a real database behind it.

use std::time::{Duration, Instant};

use dbgate::client::issuer::Issuer as Client;
use dbgate::core::audit::checkpoint::possession_text;
use dbgate::core::encoding;
use dbgate::demo::issuer::{CLIENT_ID, DemoUser, Issuer, SCOPES};
use dbgate::sys::http::Http;
use ed25519_dalek::{Signer as _, SigningKey};
use openidconnect::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::gate::{Gate, SHOP, superuser};

/// A gate, an issuer, and somebody who talks to both.
struct Scene {
    issuer: Issuer,
    gate: Gate,
    http: Http,
}

/// One answer.
struct Answer {
    status: StatusCode,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// Status and `error.code` of a refusal.
    fn refusal(&self) -> (u16, String) {
        let code = self.json().pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(SHOP).await
    }

    async fn start_with(sql: &str) -> Self {
        let users = [
            DemoUser::new("ana", "Ana", "ana@example.com", &["engineers"]),
            DemoUser::new("bob", "Bob", "bob@example.com", &["engineers"]),
            DemoUser::new("eve", "Eve", "eve@example.com", &[]),
        ];
        let issuer = Issuer::start(&users, Duration::ZERO).await.expect("issuer");
        // A second target that nobody answers for: port 1 of this machine.
        let more = format!(
            "\n[[targets]]\nname = \"down\"\nenvironment = \"production\"\n\
             dsn = \"host=127.0.0.1 port=1 dbname=x sslmode=disable\"\nadmin = {{ user = \"dbgate_broker\" }}\n\
             pack = \"production\"\n\
             \n[[identity.oidc]]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n",
            issuer.url()
        );
        let gate = Gate::start_with(sql, &more).await;
        let http = Http::new(&url(&gate, ""), None).expect("HTTP");
        Self { issuer, gate, http }
    }

    /// An ID token of a person.
    async fn token(&self, login: &str) -> String {
        let client = Client::discover(self.issuer.url(), CLIENT_ID, None).await.expect("discovered");
        let invitation = client.begin(&SCOPES.map(str::to_owned)).await.expect("a code");
        self.issuer.approve(&invitation.code, login).expect("approved");
        let tokens = client.wait(&invitation, |_| tokio::task::yield_now()).await.expect("tokens");
        tokens.id_token.expose().to_owned()
    }

    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
        let mut request = Request::builder().method(method).uri(url(&self.gate, path));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.http.send(request.body(body.into()).expect("a request")).await.expect("an answer");
        let text = String::from_utf8(response.body().clone()).expect("text");
        Answer { status: response.status(), text }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.call("GET", path, token, "").await
    }

    async fn ask(&self, token: &str, request: &Value) -> Answer {
        self.call("POST", "/v1/grants", Some(token), request.to_string()).await
    }

    async fn stop(self) {
        self.gate.stop().await;
        self.issuer.stop().await;
    }
}

fn url(gate: &Gate, path: &str) -> String {
    format!("http://{}{path}", gate.running.api_address())
}

#[tokio::test]
async fn what_is_public_needs_no_token_and_everything_else_does() {
    let scene = Scene::start().await;
    let discovery = scene.get("/v1/discovery", None).await.json();
    assert_eq!(discovery["origin"], "127.0.0.1/log");
    assert_eq!(discovery["client_id"], CLIENT_ID);
    assert!(discovery["gateway"]["ca_pem"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(scene.get(path, None).await.status, StatusCode::OK, "{path}");
    }
    let token = scene.token("ana").await;
    let (signed, signature) = token.rsplit_once('.').expect("a signed token");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    for bad in [None, Some("not.a.token"), Some(forged.as_str())] {
        for (method, path) in [
            ("GET", "/v1/targets"),
            ("GET", "/v1/whoami"),
            ("POST", "/v1/challenges"),
            ("POST", "/v1/grants"),
            ("DELETE", "/v1/grants/gr_0123456789ABCDEF"),
            ("POST", "/v1/sessions/01ARZ3NDEKTSV4RRFFQ69G5FAV/transcript"),
            ("GET", "/v1/sessions/01ARZ3NDEKTSV4RRFFQ69G5FAV/evidence"),
        ] {
            let answer = scene.call(method, path, bad, "").await;
            assert_eq!(answer.refusal(), (401, "auth_required".into()), "{method} {path} {bad:?}");
        }
    }
    assert_eq!(scene.get("/v1/nothing", None).await.refusal(), (404, "not_found".into()));
    assert_eq!(scene.call("PUT", "/v1/whoami", None, "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    scene.stop().await;
}

#[tokio::test]
async fn callers_see_themselves_and_what_is_theirs() {
    let scene = Scene::start().await;
    let (ana, eve) = (scene.token("ana").await, scene.token("eve").await);
    let me = scene.get("/v1/whoami", Some(&ana)).await.json();
    assert_eq!((me["subject"].as_str(), me["kind"].as_str()), (Some("ana@example.com"), Some("human")));
    let targets = scene.get("/v1/targets", Some(&ana)).await.json();
    let names: Vec<_> = targets["targets"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["demo", "down"]);
    assert_eq!(scene.get("/v1/targets", Some(&eve)).await.json()["targets"], json!([]));
    assert_eq!(scene.ask(&eve, &json!({"target": "demo"})).await.refusal(), (403, "denied".into()));
    scene.stop().await;
}

#[tokio::test]
async fn what_cannot_be_granted_is_refused_with_its_reason() {
    let scene = Scene::start().await;
    let ana = scene.token("ana").await;
    let long = "x".repeat(5 * 1024 * 1024);
    for (body, expected) in [
        (json!({"target": "demp"}).to_string(), (404, "unknown_target")),
        (json!({"target": "down"}).to_string(), (502, "target_down")),
        (json!({"target": "demo", "database": "no such"}).to_string(), (404, "not_found")),
        (json!({"target": "demo", "database": ""}).to_string(), (400, "bad_request")),
        (json!({"target": "demo", "for": 0}).to_string(), (400, "bad_request")),
        (json!({"target": "demo", "reason": "a\nb"}).to_string(), (400, "bad_request")),
        (json!({"target": "demo", "acess": "read"}).to_string(), (400, "bad_request")),
        ("{".to_owned(), (400, "bad_request")),
        (long, (413, "bad_request")),
    ] {
        let answer = scene.call("POST", "/v1/grants", Some(&ana), body.clone()).await;
        let (status, code) = answer.refusal();
        assert_eq!((status, code.as_str()), expected, "{}: {}", &body[..body.len().min(80)], answer.text);
        // Addresses and roles of targets are no business of callers.
        assert!(!answer.text.contains("127.0.0.1") && !answer.text.contains("dbgate_broker"), "{}", answer.text);
    }
    let nowhere = scene.ask(&ana, &json!({"target": "demo", "database": "no such"})).await;
    assert!(nowhere.text.contains("target `demo` has no database `no such`"), "{}", nowhere.text);
    let is_retryable = |answer: &Answer| answer.json().pointer("/error/retryable").and_then(Value::as_bool);
    assert_eq!(is_retryable(&nowhere), Some(false));
    assert_eq!(is_retryable(&scene.ask(&ana, &json!({"target": "down"})).await), Some(true));
    // What only its operators can change is said to be theirs.
    std::fs::write(scene.gate.folder.join("broker-password"), "another").expect("written");
    let locked = scene.ask(&ana, &json!({"target": "demo"})).await;
    assert_eq!(
        (locked.refusal(), is_retryable(&locked)),
        ((502, "target_down".into()), Some(false)),
        "{}",
        locked.text
    );
    assert!(locked.text.contains("its operators must act") && !locked.text.contains("password"), "{}", locked.text);
    let near = scene.ask(&ana, &json!({"target": "demp"})).await;
    assert!(near.text.contains("Did you mean demo?"), "{}", near.text);
    scene.stop().await;
}

#[tokio::test]
async fn a_grant_is_its_owners_to_end_and_then_nothing_of_it_is_left() {
    let scene = Scene::start().await;
    let (ana, bob) = (scene.token("ana").await, scene.token("bob").await);
    let answer = scene.ask(&ana, &json!({"target": "demo", "reason": "a test"})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let grant: dbgate::core::api::GrantAnswer = serde_json::from_str(&answer.text).expect("a grant");
    assert!(grant.grant_line.contains(&grant.grant_id) && grant.receipt.contains("tlog-proof"), "{}", grant.receipt);
    assert!(grant.masks.iter().any(|mask| mask.column == "ssn"));
    let client = scene.gate.connect(&grant).await;
    let roles = scene.gate.login_roles().await;
    assert_eq!(roles.len(), 1, "{roles:?}");

    let path = format!("/v1/grants/{}", grant.grant_id);
    assert_eq!(scene.call("DELETE", &path, Some(&bob), "").await.refusal(), (404, "not_found".into()));
    let evidence = format!("/v1/sessions/{}/evidence", grant.session_id);
    assert_eq!(scene.get(&evidence, Some(&bob)).await.refusal(), (404, "not_found".into()));
    assert_eq!(scene.gate.login_roles().await, roles);

    let started = Instant::now();
    assert_eq!(scene.call("DELETE", &path, Some(&ana), "").await.status, StatusCode::NO_CONTENT);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(scene.gate.login_roles().await, Vec::<String>::new());
    let backends = format!("select count(*) from pg_stat_activity where usename = '{}'", roles[0]);
    assert_eq!(scene.gate.count(&backends).await, 0);
    assert!(client.simple_query("select 1").await.is_err());
    assert_eq!(
        scene.call("DELETE", &path, Some(&ana), "").await.status,
        StatusCode::NO_CONTENT,
        "ending twice is fine"
    );
    let evidence = scene.get(&evidence, Some(&ana)).await;
    assert!(evidence.text.starts_with("dbgate-transcript/v1"), "{}", evidence.text);
    scene.stop().await;
}

#[tokio::test]
async fn a_proof_of_the_clients_key_works_once_and_for_its_owner() {
    let scene = Scene::start().await;
    let (ana, bob) = (scene.token("ana").await, scene.token("bob").await);
    let key = SigningKey::from_bytes(&[5; 32]);
    let challenge = scene.call("POST", "/v1/challenges", Some(&ana), "").await.json();
    let nonce = challenge["nonce"].as_str().expect("a nonce").to_owned();
    let request = |nonce: &str, origin: &str| {
        let signature = key.sign(possession_text(nonce, origin).as_bytes());
        json!({"target": "demo", "reason": "a test", "proof": {
            "client_key": encoding::hex(key.verifying_key().as_bytes()),
            "nonce": nonce,
            "signature": encoding::hex(&signature.to_bytes()),
        }})
    };
    let good = request(&nonce, "127.0.0.1/log");
    assert_eq!(scene.ask(&bob, &good).await.refusal(), (400, "bad_request".into()), "another's nonce");
    let answer = scene.ask(&ana, &good).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(
        answer.json()["grant_line"].as_str().expect("a line").contains(&encoding::hex(key.verifying_key().as_bytes()))
    );
    assert_eq!(scene.ask(&ana, &good).await.refusal(), (400, "bad_request".into()), "a nonce that was used");
    let challenge = scene.call("POST", "/v1/challenges", Some(&ana), "").await.json();
    let wrong = request(challenge["nonce"].as_str().expect("a nonce"), "elsewhere/log");
    assert_eq!(scene.ask(&ana, &wrong).await.refusal(), (400, "bad_request".into()), "another origin");
    scene.stop().await;
}

#[tokio::test]
async fn one_principal_has_so_many_grants_and_no_more() {
    let scene = Scene::start().await;
    let (ana, bob) = (scene.token("ana").await, scene.token("bob").await);
    let request = json!({"target": "demo", "reason": "a test"});
    let mut first = None;
    for _ in 0..dbgate::server::grants::MOST_LIVE {
        let answer = scene.ask(&ana, &request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        first.get_or_insert(answer.json()["grant_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(scene.ask(&ana, &request).await.refusal(), (429, "busy".into()));
    assert_eq!(scene.ask(&bob, &request).await.status, StatusCode::OK);
    let path = format!("/v1/grants/{}", first.expect("the first"));
    assert_eq!(scene.call("DELETE", &path, Some(&ana), "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(scene.ask(&ana, &request).await.status, StatusCode::OK);
    scene.stop().await;
}

#[tokio::test]
async fn a_role_that_an_earlier_process_left_is_gone_before_the_first_grant() {
    let gate = Gate::start(SHOP).await;
    let database = gate.database.clone();
    let grant = gate.grant(dbgate::core::grant::Access::Read).await;
    let open = gate.connect(&grant).await;
    assert_eq!(gate.login_roles().await.len(), 1);
    // The same leftovers that a killed process has: role, backend, and a grant that has not ended.
    let config = gate.running.state().config.clone();
    let leftover = dbgate::server::store::Store::open(&config.server.data_dir).await.expect("store");
    assert_eq!(leftover.unfinished_grants().await.expect("grants").len(), 1);
    let ghost = "create role dbgate_u_ghost_1; do $$ begin execute format('comment on role dbgate_u_ghost_1 is %L', \
                 (select shobj_description(oid, 'pg_authid') from pg_roles where rolname like 'dbgate_u_ana%' \
                 and shobj_description(oid, 'pg_authid') like '% in ' || current_database())); end $$";
    superuser(&database).await.batch_execute(ghost).await.expect("a ghost");
    drop(open);
    gate.running.stop().await;
    assert!(leftover.unfinished_grants().await.expect("grants").is_empty());
    // The log's writer lets go of its file a moment after the stop.
    let deadline = Instant::now() + Duration::from_secs(5);
    let running = loop {
        match dbgate::server::run::start(config.clone()).await {
            Ok(running) => break running,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let ghosts = "select count(*) from pg_roles where rolname = 'dbgate_u_ghost_1'";
    assert_eq!(superuser(&database).await.query_one(ghosts, &[]).await.expect("count").get::<_, i64>(0), 0);
    running.stop().await;
    std::fs::remove_dir_all(&gate.folder).expect("folder");
}
