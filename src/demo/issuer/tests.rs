//! Sign-in from end to end: the client's code, this issuer over real HTTP, the broker's verifier.

use std::sync::Mutex;

use openidconnect::HttpRequest;
use openidconnect::http::Method;

use super::*;
use crate::client::config::Server;
use crate::client::issuer::{self as client, IssuerError};
use crate::client::login::{self, SignedIn};
use crate::core::api::{Discovery, GatewayAddress};
use crate::core::claims::IssuerRule;
use crate::core::encoding;
use crate::core::secret::Secret;
use crate::core::time::Moment;
use crate::server::identity::{IdentityError, Verifier};
use crate::sys::http::Http;
use crate::sys::paths::Paths;
use crate::sys::scratch::Scratch;
use crate::sys::secrets::{Store, StoreChoice};

async fn start(interval: u64) -> Issuer {
    let users = [
        DemoUser::new("ana", "Ana", "ana@example.com", &["engineers"]),
        DemoUser::new("bob", "Bob", "bob@example.com", &["engineers", "dba"]),
    ];
    Issuer::start(&users, Duration::from_secs(interval)).await.expect("started")
}

async fn client_of(issuer: &Issuer) -> client::Issuer {
    client::Issuer::discover(issuer.url(), CLIENT_ID, None).await.expect("discovered")
}

fn scopes() -> Vec<String> {
    SCOPES.iter().map(|scope| (*scope).to_owned()).collect()
}

async fn at_once(_: Duration) {
    tokio::task::yield_now().await;
}

async fn sign_in(issuer: &Issuer, login: &str) -> client::Tokens {
    let client = client_of(issuer).await;
    let invitation = client.begin(&scopes()).await.expect("a code");
    issuer.approve(&invitation.code, login).expect("approved");
    client.wait(&invitation, at_once).await.expect("tokens")
}

fn verifier(issuer: &Issuer) -> Verifier {
    Verifier::new(vec![IssuerRule::new(issuer.url(), CLIENT_ID)]).expect("one rule")
}

#[tokio::test]
async fn a_person_signs_in_and_the_broker_knows_name_and_groups() {
    let issuer = start(0).await;
    let tokens = sign_in(&issuer, "bob").await;
    let identity = verifier(&issuer).verify(tokens.id_token.expose(), clock::now()).await.expect("genuine");
    assert_eq!(identity.subject, "bob@example.com");
    assert_eq!(identity.sub, "bob");
    assert_eq!(identity.groups, ["dba", "engineers"]);
    assert_eq!(identity.expires, tokens.expires);
    issuer.stop().await;
}

#[tokio::test]
async fn waiting_goes_on_until_the_person_has_answered() {
    let issuer = start(0).await;
    let client = client_of(&issuer).await;
    let invitation = client.begin(&scopes()).await.expect("a code");
    let asked = Mutex::new(0);
    let answered = client.wait(&invitation, |_| {
        let mut asked = asked.lock().expect("one thread");
        *asked += 1;
        if *asked == 3 {
            issuer.approve(&invitation.code, "ana").expect("approved");
        }
        at_once(Duration::ZERO)
    });
    assert!(answered.await.is_ok());
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_to_wait_longer_and_does() {
    let issuer = start(1).await;
    let client = client_of(&issuer).await;
    let invitation = client.begin(&scopes()).await.expect("a code");
    let (told, mut waits) = tokio::sync::mpsc::unbounded_channel();
    let waiting = client.wait(&invitation, |wait| {
        told.send(wait).expect("the test listens");
        at_once(wait)
    });
    let seen = async { (waits.recv().await, waits.recv().await) };
    tokio::select! {
        biased;
        seen = seen => assert_eq!(seen, (Some(Duration::from_secs(1)), Some(Duration::from_secs(6)))),
        outcome = waiting => panic!("nobody answered: {outcome:?}"),
    }
}

#[tokio::test]
async fn a_code_that_expired_or_was_declined_ends_the_wait() {
    let issuer = start(0).await;
    let client = client_of(&issuer).await;
    let invitation = client.begin(&scopes()).await.expect("a code");
    issuer.expire_codes();
    assert!(matches!(client.wait(&invitation, at_once).await, Err(IssuerError::CodeExpired)));
    assert!(issuer.approve(&invitation.code, "ana").is_err());

    let invitation = client.begin(&scopes()).await.expect("a code");
    let declined = format!("user_code={}", invitation.code);
    let page = send(issuer.url(), Method::POST, "/device", &[], &declined).await;
    assert!(page.1.contains("Declined"));
    assert!(matches!(client.wait(&invitation, at_once).await, Err(IssuerError::Declined)));
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens_once() {
    let issuer = start(0).await;
    let client = client_of(&issuer).await;
    let first = sign_in(&issuer, "ana").await.refresh_token.expect("a refresh token");
    let second = client.renew(&first).await.expect("renewed").refresh_token.expect("a new one");
    assert!(second != first);
    assert!(matches!(client.renew(&first).await, Err(IssuerError::Refused(_))));
    client.revoke(&second).await.expect("taken");
    assert!(matches!(client.renew(&second).await, Err(IssuerError::Refused(_))));
}

#[tokio::test]
async fn only_the_client_that_began_can_fetch_the_tokens() {
    let issuer = start(0).await;
    let mut desk = issuer.shared.desk();
    let challenge = "client_id=dbgate-cli&code_challenge=abc&code_challenge_method=S256";
    let begun = desk.begin(&Form::read(challenge.as_bytes()), clock::now()).expect("a code");
    let (code, device) = (begun["user_code"].as_str().expect("text"), begun["device_code"].as_str().expect("text"));
    assert!(desk.answer(code, Answer::Approve("ana"), clock::now()));
    let fetch =
        format!("client_id=dbgate-cli&grant_type={}&device_code={device}&code_verifier=guess", desk::DEVICE_GRANT);
    assert_eq!(desk.token(&Form::read(fetch.as_bytes()), clock::now()), Err(Refusal::InvalidGrant));
}

fn reworked(token: &str, header: Option<&str>, change: impl Fn(&mut Vec<u8>)) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let header = header.map_or_else(|| parts[0].to_owned(), |json| encoding::base64url(json.as_bytes()));
    let mut signature = encoding::unbase64url(parts[2]).expect("base 64");
    change(&mut signature);
    format!("{header}.{}.{}", parts[1], encoding::base64url(&signature))
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let issuer = start(0).await;
    let verifier = verifier(&issuer);
    let good = issuer.token_with(&json!({}));
    assert!(verifier.verify(&good, clock::now()).await.is_ok());
    let forgeries = [
        reworked(&good, None, |signature| signature[10] ^= 1),
        reworked(&good, None, Vec::clear),
        reworked(&good, Some(r#"{"alg":"none"}"#), |_| {}),
        reworked(&good, Some(r#"{"alg":"none"}"#), Vec::clear),
        reworked(&good, Some(r#"{"alg":"HS256","typ":"JWT"}"#), |_| {}),
        reworked(&good, Some(r#"{"alg":"EdDSA","typ":"JWT","crit":["x"],"x":1}"#), |_| {}),
        reworked(&good, Some(r#"{"alg":"EdDSA","typ":"logout+jwt"}"#), |_| {}),
    ];
    for forgery in forgeries {
        assert!(verifier.verify(&forgery, clock::now()).await.is_err(), "{forgery}");
    }
    let stranger = start(0).await;
    let of_another_key = stranger.token_with(&json!({ "iss": issuer.url() }));
    assert!(matches!(verifier.verify(&of_another_key, clock::now()).await, Err(IdentityError::UnknownKey)));
    let of_another_issuer = stranger.token_with(&json!({}));
    assert!(matches!(verifier.verify(&of_another_issuer, clock::now()).await, Err(IdentityError::UnknownIssuer)));
}

#[tokio::test]
async fn genuine_tokens_are_refused_for_others_and_at_other_times() {
    let issuer = start(0).await;
    let rule =
        IssuerRule { audience: Some("https://gate.example.com".into()), ..IssuerRule::new(issuer.url(), CLIENT_ID) };
    let verifier = Verifier::new(vec![rule]).expect("one rule");
    let (now, at) = (clock::now(), |seconds: i64| clock::now().seconds() + seconds);
    for accepted in [
        json!({ "aud": "https://gate.example.com" }),
        json!({ "aud": [CLIENT_ID] }),
        json!({ "aud": [CLIENT_ID, "https://gate.example.com"] }),
        json!({ "nbf": at(-1) }),
        json!({ "nbf": 1.5 }),
    ] {
        assert!(verifier.verify(&issuer.token_with(&accepted), now).await.is_ok(), "{accepted}");
    }
    let refusal = async |changes: Value| verifier.verify(&issuer.token_with(&changes), now).await.expect_err("refused");
    assert!(matches!(refusal(json!({ "aud": "other" })).await, IdentityError::Audience { .. }));
    assert!(matches!(refusal(json!({ "aud": [CLIENT_ID, "other"] })).await, IdentityError::Audience { .. }));
    assert!(matches!(refusal(json!({ "exp": at(-1) })).await, IdentityError::Expired));
    assert!(matches!(refusal(json!({ "iat": at(900) })).await, IdentityError::NotYet));
    for later in
        [json!(at(900)), json!(f64::from(i32::MAX) + 0.5), json!(at(-9).to_string()), json!([1]), json!(u64::MAX)]
    {
        assert!(matches!(refusal(json!({ "nbf": later })).await, IdentityError::NotYet), "{later}");
    }
    assert!(matches!(refusal(json!({ "email_verified": false })).await, IdentityError::Claims(_)));
    for (changes, said) in [
        (json!({ "sub": null }), "the token has no claim `sub`"),
        (json!({ "exp": null }), "the token has no claim `exp`"),
        (json!({ "exp": "tomorrow" }), "the claim `exp` cannot be read as a date"),
        (json!({ "act": { "sub": "robot" } }), "by its claim `act` somebody else acts for this person"),
    ] {
        assert_eq!(refusal(changes).await.to_string(), said);
    }
    let IdentityError::Audience { accepted } = refusal(json!({ "aud": "other" })).await else { panic!("an audience") };
    let audiences: Vec<_> = accepted.iter().map(|one| one.audience.as_str()).collect();
    assert_eq!(audiences, [CLIENT_ID, "https://gate.example.com"]);
    let good = issuer.token_with(&json!({}));
    let too_late = now.after(Duration::from_secs(3600));
    assert!(matches!(verifier.verify(&good, too_late).await, Err(IdentityError::Expired)));
}

#[tokio::test]
async fn a_new_key_is_found_and_an_invented_one_does_not_flood_the_issuer() {
    let issuer = start(0).await;
    let verifier = verifier(&issuer);
    let now = clock::now();
    let before = issuer.token_with(&json!({}));
    assert!(verifier.verify(&before, now).await.is_ok());
    issuer.rotate_key();
    let after = issuer.token_with(&json!({}));
    // The keys were fetched a moment ago, so the new one is not asked for yet ...
    assert!(matches!(verifier.verify(&after, now).await, Err(IdentityError::UnknownKey)));
    // ... and ten seconds later it is, once.
    let later = now.after(Duration::from_secs(10));
    assert!(verifier.verify(&after, later).await.is_ok());
    assert!(verifier.verify(&before, later).await.is_ok());
    issuer.rotate_key();
    assert!(matches!(verifier.verify(&issuer.token_with(&json!({})), later).await, Err(IdentityError::UnknownKey)));
}

#[tokio::test]
async fn keys_outlive_an_outage_of_the_issuer_but_not_for_ever() {
    let issuer = start(0).await;
    let (verifier, unasked) = (verifier(&issuer), verifier(&issuer));
    let changes = json!({ "exp": clock::now().seconds() + 100_000 });
    let (token, now) = (issuer.token_with(&changes), clock::now());
    assert!(verifier.verify(&token, now).await.is_ok());
    issuer.stop().await;
    let minutes = |count: u64| now.after(Duration::from_secs(60 * count));
    assert!(verifier.verify(&token, minutes(30)).await.is_ok());
    let refusal = verifier.verify(&token, minutes(61)).await.expect_err("too old");
    assert!(matches!(refusal, IdentityError::IssuerDown { .. }));
    assert!(matches!(unasked.verify(&token, now).await, Err(IdentityError::IssuerDown { .. })));
}

async fn send(url: &str, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut request = openidconnect::http::Request::builder().method(method).uri(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request: HttpRequest = request.body(body.as_bytes().to_vec()).expect("a request");
    let answer = Http::new(url, None).expect("loopback").send(request).await.expect("an answer");
    (answer.status().as_u16(), String::from_utf8(answer.into_body()).expect("text"))
}

#[tokio::test]
async fn requests_that_name_another_host_or_come_from_another_page_are_refused() {
    let issuer = start(0).await;
    let url = issuer.url();
    let own = [("origin", url)];
    assert_eq!(send(url, Method::GET, "/device", &own, "").await.0, 200);
    for foreign in [("host", "rebound.example.com"), ("origin", "https://evil.example.com"), ("origin", "null")] {
        assert_eq!(send(url, Method::GET, "/device", &[foreign], "").await.0, 403, "{foreign:?}");
    }
}

#[tokio::test]
async fn the_page_signs_a_person_in_without_a_script() {
    let issuer = start(0).await;
    let client = client_of(&issuer).await;
    let invitation = client.begin(&scopes()).await.expect("a code");
    let complete = invitation.complete_page.clone().expect("a page with the code");
    let path = complete.strip_prefix(issuer.url()).expect("its own page");
    let (status, page) = send(issuer.url(), Method::GET, path, &[], "").await;
    assert_eq!(status, 200);
    assert!(page.contains(&invitation.code) && page.contains("value=\"ana\"") && !page.contains("<script"));
    let typed = invitation.code.to_lowercase().replace('-', " ");
    let form = format!("user_code={}&user=ana", typed.replace(' ', "+"));
    assert!(send(issuer.url(), Method::POST, "/device", &[], &form).await.1.contains("Signed in"));
    assert!(client.wait(&invitation, at_once).await.is_ok());
    assert!(send(issuer.url(), Method::GET, path, &[], "").await.1.contains("No sign-in waits"));
}

fn workstation(scratch: &Scratch) -> (Server, Store) {
    let server = Server::new("http://127.0.0.1:8480", None).expect("loopback");
    let store = Store::new(StoreChoice::File, &Paths::under(scratch.path()), &server.url);
    (server, store)
}

fn discovery(issuer: &Issuer) -> Discovery {
    Discovery {
        version: 1,
        issuer: issuer.url().to_owned(),
        client_id: CLIENT_ID.to_owned(),
        scopes: scopes(),
        gateway: GatewayAddress { host: "127.0.0.1".into(), port: 6432, ca_pem: None },
        origin: "127.0.0.1/log".into(),
        log_key: String::new(),
    }
}

#[tokio::test]
async fn signing_in_keeps_tokens_until_signing_out() {
    let (issuer, scratch) = (start(0).await, Scratch::new());
    let (server, store) = workstation(&scratch);
    let discovery = discovery(&issuer);
    let approve = |invitation: &client::Invitation| issuer.approve(&invitation.code, "ana").expect("approved");
    let signed_in = login::login(&discovery, &server, &store, approve).await.expect("signed in");
    assert!(signed_in.renews);
    let loaded = SignedIn::load(&server, store.clone()).expect("kept");
    assert_eq!(loaded.token().await.expect("good"), signed_in.token);
    assert!(loaded.where_it_is().contains("0600"));
    assert!(login::logout(&server, &store).await.expect("signed out"));
    assert!(SignedIn::load(&server, store.clone()).is_err());
    assert!(!login::logout(&server, &store).await.expect("nothing left"));
}

/// Two processes renew the same tokens: a refresh token is good for one use, so one must wait
/// for the other and take what it got.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_end_soon_are_renewed_once_for_all() {
    let (issuer, scratch) = (start(0).await, Scratch::new());
    let (server, store) = workstation(&scratch);
    let refresh = sign_in(&issuer, "ana").await.refresh_token.expect("a refresh token");
    let kept = json!({
        "version": 1, "issuer": issuer.url(), "client_id": CLIENT_ID, "id_token": "old",
        "refresh_token": refresh.expose(), "expires": clock::now().after(Duration::from_secs(30)).micros(),
    });
    store.save(&Secret::new(kept.to_string())).expect("saved");
    let (one, other) = (SignedIn::load(&server, store.clone()), SignedIn::load(&server, store.clone()));
    let (one, other) = (one.expect("kept"), other.expect("kept"));
    let (first, second) = tokio::join!(one.token(), other.token());
    let first = first.expect("renewed");
    assert!(first != Secret::new("old"));
    assert_eq!(first, second.expect("the same"));
    let verified = verifier(&issuer).verify(first.expose(), clock::now()).await.expect("genuine");
    assert!(verified.expires > Moment::from_micros(clock::now().micros()));
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_renewed_has_ended() {
    let (issuer, scratch) = (start(0).await, Scratch::new());
    let (server, store) = workstation(&scratch);
    let kept = json!({
        "version": 1, "issuer": issuer.url(), "client_id": CLIENT_ID, "id_token": "old",
        "refresh_token": "withdrawn", "expires": 1_000_000,
    });
    store.save(&Secret::new(kept.to_string())).expect("saved");
    let loaded = SignedIn::load(&server, store).expect("kept");
    assert!(matches!(loaded.token().await, Err(login::LoginError::Ended { .. })));
}

/// A server moves these between threads, so they must be `Send`: it would not compile otherwise.
#[test]
fn the_futures_of_sign_in_and_verification_can_move_between_threads() {
    fn movable<T: Send>(_: impl FnOnce() -> T) {}
    movable(|| async {
        let verifier = Verifier::new(Vec::new()).expect("never run");
        Ok::<_, anyhow::Error>(verifier.verify("", clock::now()).await?)
    });
    movable(|| async {
        let (server, store) = workstation(&Scratch::new());
        let token = SignedIn::load(&server, store)?.token().await?;
        Ok::<_, anyhow::Error>(token)
    });
}
