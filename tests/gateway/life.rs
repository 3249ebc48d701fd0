//! The life of a credential: what it opens, and that its role is gone with the grant.

use std::time::{Duration, Instant};

use dbgate::core::grant::{Access, GrantId};
use dbgate::server::grants::end;
use dbgate::server::sessions::EndReason;

use crate::support::gate::{Gate, SHOP};
use crate::support::until::until;

#[tokio::test]
async fn the_role_exists_while_the_grant_lives_and_is_gone_two_seconds_after_the_revoke() {
    let gate = Gate::start(SHOP).await;
    assert_eq!(gate.login_roles().await, Vec::<String>::new());
    let grant = gate.grant(Access::Read).await;
    let roles = gate.login_roles().await;
    assert_eq!(roles.len(), 1, "{roles:?}");
    let open = format!("select count(*) from pg_roles where rolname = '{}' and rolcanlogin", roles.concat());
    assert_eq!(gate.count(&open).await, 0, "nobody can log in before the gateway dials");
    let client = gate.connect(&grant).await;
    assert_eq!(gate.login_roles().await, roles, "the session has the role that waited for it");
    assert_eq!(gate.count(&open).await, 0, "nor after");
    let id = GrantId::parse(&grant.grant_id).expect("an id");
    let started = Instant::now();
    end::end(gate.running.state(), &id, EndReason::Revoked).await.expect("ended");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(gate.login_roles().await, Vec::<String>::new());
    let backends = format!("select count(*) from pg_stat_activity where usename = '{}'", roles.first().expect("one"));
    assert_eq!(gate.count(&backends).await, 0);
    assert!(client.simple_query("select 1").await.is_err());
    assert!(gate.try_connect(&grant, grant.password.expose(), "demo").await.is_err(), "the credential opens nothing");
    gate.stop().await;
}

#[tokio::test]
async fn a_wrong_password_another_database_and_an_unknown_user_are_refused_alike() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let code = |error: tokio_postgres::Error| error.code().map(|code| code.code().to_owned());
    let wrong = gate.try_connect(&grant, "guess", "demo").await.err().and_then(code);
    assert_eq!(wrong.as_deref(), Some("28P01"));
    let mut unknown = grant.clone();
    unknown.user = "dbg_nobody".into();
    let nobody = gate.try_connect(&unknown, "guess", "demo").await.err().and_then(code);
    assert_eq!(nobody.as_deref(), Some("28P01"));
    let elsewhere = gate.try_connect(&grant, grant.password.expose(), "postgres").await.err().and_then(code);
    assert_eq!(elsewhere.as_deref(), Some("28000"));
    gate.stop().await;
}

#[tokio::test]
async fn a_grant_ends_when_its_time_is_over() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant_as("ana@example.com", Access::Read, 4).await;
    let client = gate.connect(&grant).await;
    let took = until("its role goes", async || gate.login_roles().await.is_empty()).await;
    assert!(took < Duration::from_secs(10), "the role outlives its grant");
    assert!(client.simple_query("select 1").await.is_err());
    gate.stop().await;
}
