//! A target that crashes under open sessions, one that is a standby until it is promoted, and one
//! that is full.

use dbgate::core::grant::{Access, GrantId};
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use dbgate::server::grants::end;
use dbgate::server::sessions::EndReason;
use tokio_postgres::Client;

use crate::support::cluster::Fate;
use crate::support::dbgate::{Program, said};
use crate::support::gate::{Gate, Place, SHOP, column, reconfigure};
use crate::support::until::until;

fn cluster(purpose: &str) -> Cluster {
    // What a client was told is done must outlive a crash.
    cluster_with(purpose, &[("synchronous_commit", "on")])
}

/// A cluster of the test's own, with these settings.
pub fn cluster_with(purpose: &str, parameters: &[(&str, &str)]) -> Cluster {
    let installation = Installation::find().expect("PostgreSQL server programs");
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Cluster::start(&installation, purpose, &Settings { parameters, ..Settings::default() }).expect("a cluster")
}

fn place(cluster: &Cluster) -> Place<'_> {
    Place { cluster, database: "postgres".into(), sql: SHOP, target: "demo", policy: &crate::support::gate::POLICY }
}

/// The SQLSTATE that ends a session which meets its target's end.
async fn farewell(client: &Client, sql: &str) -> String {
    match client.simple_query(sql).await {
        Ok(_) => "none".to_owned(),
        Err(error) => error.code().map_or_else(|| "closed".to_owned(), |code| code.code().to_owned()),
    }
}

async fn roles(superuser: &Client) -> Vec<String> {
    let sql = "select rolname::text from pg_roles where rolname like 'dbgate_u_%' order by 1";
    superuser.query(sql, &[]).await.expect("roles").iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_open_sessions_ends_them_with_an_error_and_leaves_nothing() {
    let cluster = cluster("crash");
    let gate = Gate::before(&place(&cluster), "http://127.0.0.1:1", "").await;
    let (read, write) = (gate.grant(Access::Read).await, gate.grant(Access::Write).await);
    let (idle, open, running) = (gate.connect(&read).await, gate.connect(&write).await, gate.connect(&write).await);
    column(&idle, "select 1").await.expect("works");
    open.batch_execute("begin; update customers set status = 'lost' where id = 1").await.expect("not committed");
    running.batch_execute("update customers set status = 'kept' where id = 2").await.expect("committed");
    let mut fate = Fate::of(&cluster);
    let superuser = fate.superuser(cluster.port(), "postgres").await;
    let pause = tokio::spawn(async move {
        let told = farewell(&running, "select pg_sleep(50)").await;
        (running, told)
    });
    until("the statement runs", async || {
        let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(50)%' and state = 'active' \
                   and pid <> pg_backend_pid()";
        superuser.query_one(sql, &[]).await.expect("activity").get::<_, i64>(0) == 1
    })
    .await;
    fate.crash();
    // 57P01 and 57P02 are the server's own last words, 08006 ours; `closed`: the words came between two statements.
    let (running, told) = pause.await.expect("joined");
    assert!(["57P01", "57P02", "08006"].contains(&told.as_str()), "the running statement hears {told}");
    for (what, client) in [("idle", &idle), ("in a transaction", &open), ("running", &running)] {
        let told = farewell(client, "select 1").await;
        assert!(["57P01", "57P02", "08006", "closed"].contains(&told.as_str()), "{what}: {told}");
    }
    let superuser = fate.superuser(cluster.port(), "postgres").await;
    let statuses = "select string_agg(status, ',' order by id) from customers where id <= 2";
    assert_eq!(superuser.query_one(statuses, &[]).await.expect("rows").get::<_, &str>(0), "active,kept");
    // The same grants go on with new sessions, and the roles of the lost ones are gone.
    let again = gate.connect(&write).await;
    assert_eq!(column(&again, "select count(*) from customers where email is null").await.expect("works"), ["0"]);
    assert_eq!(column(&again, "select status from customers where id = 2").await.expect("works"), ["kept"]);
    until("only the role of the new session is left", async || roles(&superuser).await.len() == 1).await;
    drop(again);
    for grant in [&read, &write] {
        let id = GrantId::parse(&grant.grant_id).expect("an id");
        end::end(gate.running.state(), &id, EndReason::Revoked).await.expect("ended");
    }
    assert_eq!(roles(&superuser).await, Vec::<String>::new());
    gate.stop().await;
    let scopes = "select count(*) from pg_roles where rolname like 'dbgate\\_s\\_%'";
    assert_eq!(superuser.query_one(scopes, &[]).await.expect("roles").get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_by_name_until_it_is_promoted() {
    let cluster = cluster("standby");
    let place = place(&cluster);
    let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
    let mut fate = Fate::of(&cluster);
    let port = fate.standby();
    // The same gate, which finds the standby where the primary was.
    let primary = format!("port={} ", cluster.port());
    let to_standby = |text: String| text.replace(&primary, &format!("port={port} "));
    let gate = gate.restart(|folder| reconfigure(folder, to_standby)).await;
    let refused =
        format!("{:?}", gate.ask("ana@example.com", Access::Read, 600).await.expect_err("no role can be made"));
    assert!(refused.contains("target `demo` is a standby now"), "{refused}");

    let program = Program::new();
    let config = gate.folder.join("server.toml").display().to_string();
    let dsn = gate.folder.join("superuser").display().to_string();
    let run = async |arguments: &[&str]| {
        let mut command = program.command(arguments);
        command.args(["--config", &config]);
        tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs")
    };
    let init = run(&["target", "init", "demo", "--apply", "--superuser-dsn-file", &dsn]).await;
    let text = said(&init);
    assert!(text.contains("is a standby, where no role can be made") && text.contains("Nothing was changed"), "{text}");
    assert_eq!(init.status.code(), Some(2), "{text}");
    let doctor = run(&["doctor", "demo"]).await;
    assert!(said(&doctor).contains("is a standby, where no role can be made"), "{}", said(&doctor));
    let doctor = run(&["doctor", "demo", "--superuser-dsn-file", &dsn]).await;
    assert!(said(&doctor).contains("WEAKNESS  standby  postgres (in recovery)"), "{}", said(&doctor));

    fate.promote();
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    assert_eq!(column(&client, "select count(*) from customers").await.expect("works"), ["1000"]);
    let superuser = fate.superuser(port, "postgres").await;
    assert_eq!(roles(&superuser).await.len(), 1, "made where the session is");
    drop(client);
    gate.stop().await;
    assert_eq!(roles(&superuser).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_becomes_a_standby_under_a_live_grant_is_named_to_the_client() {
    let cluster = cluster("demoted");
    let gate = Gate::before(&place(&cluster), "http://127.0.0.1:1", "").await;
    let grant = gate.grant(Access::Read).await;
    column(&gate.connect(&grant).await, "select 1").await.expect("works");
    let mut fate = Fate::of(&cluster);
    fate.demote();
    let refused = gate.try_connect(&grant, grant.password.expose(), &grant.wire_database).await.expect_err("refused");
    let refused = refused.as_db_error().expect("the gate says why");
    assert_eq!(refused.code().code(), "57P03", "{refused}");
    assert!(refused.message().contains("target \"demo\" is a standby now"), "{refused}");
    fate.restore();
    // The role that waited is still there, or is made anew: the grant goes on.
    let again = gate.connect(&grant).await;
    assert_eq!(column(&again, "select count(*) from customers").await.expect("works"), ["1000"]);
    gate.stop().await;
    assert_eq!(roles(&fate.superuser(cluster.port(), "postgres").await).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_is_named_as_full_and_takes_sessions_again() {
    let cluster = cluster_with("full", &[("max_connections", "20"), ("superuser_reserved_connections", "3")]);
    let gate = Gate::before(&place(&cluster), "http://127.0.0.1:1", "").await;
    let grant = gate.grant(Access::Read).await;
    let superuser = cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("superuser");
    tokio::spawn(superuser.1);
    superuser.0.batch_execute("create role crowd login password 'crowd'").await.expect("a role");
    let mut crowd = Vec::new();
    let refused = loop {
        match cluster.superuser("postgres").user("crowd").password("crowd").connect(tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                crowd.push(client);
            }
            Err(_) => match gate.try_connect(&grant, grant.password.expose(), &grant.wire_database).await {
                // A connection that the broker kept for a while has made room for it.
                Ok(client) => crowd.push(client),
                Err(refused) => break refused,
            },
        }
    };
    let refused = refused.as_db_error().expect("the gate says why");
    assert_eq!(refused.code().code(), "53300", "{refused}");
    assert!(refused.message().contains("target \"demo\" has no connection left"), "{refused}");
    drop(crowd);
    until("there is room again", async || {
        gate.try_connect(&grant, grant.password.expose(), &grant.wire_database).await.is_ok()
    })
    .await;
    gate.stop().await;
    assert_eq!(roles(&superuser.0).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_connections_of_a_target_are_left_to_others() {
    const LEFT: usize = 5;
    let cluster = cluster_with("left", &[("max_connections", "20"), ("superuser_reserved_connections", "3")]);
    let gate = Gate::before(&place(&cluster), "http://127.0.0.1:1", &format!("reserve_connections = {LEFT}")).await;
    let grant = gate.grant(Access::Read).await;
    let (superuser, connection) =
        cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("superuser");
    tokio::spawn(connection);
    superuser.batch_execute("create role crowd login password 'crowd'").await.expect("a role");
    let mut sessions = Vec::new();
    let refused = loop {
        match gate.try_connect(&grant, grant.password.expose(), &grant.wire_database).await {
            Ok(client) => sessions.push(client),
            Err(refused) => break refused,
        }
    };
    let refused = refused.as_db_error().expect("the gate says why");
    assert_eq!(refused.code().code(), "53300", "{refused}");
    assert!(refused.message().contains("target \"demo\" has no connection left for the gateway"), "{refused}");
    assert!(refused.detail().is_some_and(|detail| detail.contains("The last 5 of its connections")), "{refused:?}");
    assert!(!sessions.is_empty());
    // A connection of the broker's may still be there for a moment.
    until("others have what is left", async || {
        let mut others = Vec::new();
        for _ in 0..LEFT {
            others.extend(
                cluster.superuser("postgres").user("crowd").password("crowd").connect(tokio_postgres::NoTls).await,
            );
        }
        others.len() == LEFT
    })
    .await;
    sessions.pop();
    until("there is room again", async || {
        gate.try_connect(&grant, grant.password.expose(), &grant.wire_database).await.is_ok()
    })
    .await;
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_has_so_many_sessions_at_a_target_whatever_their_grants() {
    let gate = Gate::start_with(SHOP, "max_sessions = 3").await;
    let (one, other) = (gate.grant(Access::Read).await, gate.grant(Access::Write).await);
    let mut sessions = vec![gate.connect(&one).await, gate.connect(&other).await, gate.connect(&other).await];
    for grant in [&one, &other] {
        let refused =
            gate.try_connect(grant, grant.password.expose(), &grant.wire_database).await.expect_err("refused");
        let refused = refused.as_db_error().expect("the gate says why");
        assert_eq!(refused.code().code(), "53300", "{refused}");
        assert!(refused.message().contains("you have 3 sessions at target \"demo\""), "{refused}");
    }
    let bea = gate.grant_as("bea@example.com", Access::Read, 600).await;
    assert_eq!(column(&gate.connect(&bea).await, "select 1").await.expect("somebody else"), ["1"]);
    sessions.pop();
    until("a seat is free again", async || {
        gate.try_connect(&one, one.password.expose(), &one.wire_database).await.is_ok()
    })
    .await;
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_come_while_as_many_leave_find_room() {
    const MANY: usize = 70;
    let cluster = cluster_with("crowd", &[("max_connections", "115")]);
    let room = "max_sessions = 300\nreserve_connections = 0";
    let gate = Gate::before(&place(&cluster), "http://127.0.0.1:1", room).await;
    let grant = gate.grant(Access::Read).await;
    let all = async || futures_util::future::join_all((0..MANY).map(|_| gate.connect(&grant))).await;
    for _ in 0..3 {
        // Those of the round before are still being cleared away.
        drop(all().await);
    }
    gate.stop().await;
    let superuser = cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("superuser");
    tokio::spawn(superuser.1);
    assert_eq!(roles(&superuser.0).await, Vec::<String>::new());
}
