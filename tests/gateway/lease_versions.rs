//! Login roles go from one connection of their grant to the next alike on every supported version: what
//! memberships bring, who may drop a role and what its rows in the catalogs say differs between them.

use dbgate::core::grant::Access;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use tokio_postgres::{Client, NoTls};

use super::leases::{LEFT, leave, revoke, role};
use super::versions::others;
use crate::support::gate::{Gate, POLICY, Place, SHOP, column};
use crate::support::until::until;

#[tokio::test]
async fn every_supported_version_lends_clean_roles_only() {
    let mut installations = vec![Installation::find().expect("PostgreSQL server programs")];
    installations.extend(others().into_iter().map(|folder| Installation::at(folder).expect("complete")));
    for installation in installations {
        let cluster = Cluster::start(&installation, "leases", &Settings::default()).expect("a cluster");
        let place =
            Place { cluster: &cluster, database: "postgres".into(), sql: SHOP, target: "demo", policy: &POLICY };
        let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
        let (owner, connection) = cluster.superuser("postgres").connect(NoTls).await.expect("superuser connects");
        tokio::spawn(connection);
        let version = count(&owner, "select current_setting('server_version_num')::int8 / 10000").await;
        one_after_the_other(&gate, &owner, version).await;
        nothing_is_left(&gate, &owner, version).await;
        assert_eq!(roles(&owner).await, [""; 0], "{version}");
        gate.stop().await;
    }
}

async fn count(owner: &Client, sql: &str) -> i64 {
    owner.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Login roles in the cluster.
async fn roles(owner: &Client) -> Vec<String> {
    let sql = "select rolname::text from pg_roles where rolname like 'dbgate\\_u\\_%' order by 1";
    owner.query(sql, &[]).await.expect("roles").iter().map(|row| row.get(0)).collect()
}

/// One role, a password for each session, nobody signed in or able to in between, and nothing of a session
/// in the next.
async fn one_after_the_other(gate: &Gate, owner: &Client, version: i64) {
    let grant = gate.grant(Access::Write).await;
    let (mut numbers, mut passwords) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let client = gate.connect(&grant).await;
        let (name, number) = role(&client).await;
        let stored = "select rolpassword from pg_authid where rolname = $1";
        passwords.push(owner.query_one(stored, &[&name]).await.expect("the role").get::<_, String>(0));
        numbers.push(number);
        assert!(column(&client, "select * from mine").await.is_err(), "{version}");
        assert_ne!(column(&client, "show work_mem").await.expect("granted"), ["9MB"], "{version}");
        let update = format!("update customers set name = 'r{round}' where id = 1");
        column(&client, &update).await.unwrap_or_else(|error| panic!("{version}: {error:?}"));
        for state in ["select pg_advisory_lock(4711)", "create temporary table mine (i int)", "set work_mem = '9MB'"] {
            column(&client, state).await.unwrap_or_else(|error| panic!("{version}: {state}: {error:?}"));
        }
        leave(gate, &grant, client).await;
        for is_left in [
            format!("select count(*) from pg_roles where rolname = '{name}' and rolcanlogin"),
            format!("select count(*) from pg_stat_activity where usename = '{name}'"),
            "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711".to_owned(),
        ] {
            assert_eq!(count(owner, &is_left).await, 0, "{version}: {is_left}");
        }
    }
    numbers.dedup();
    passwords.sort();
    passwords.dedup();
    assert_eq!((numbers.len(), passwords.len()), (1, 3), "{version}: {numbers:?}");
    let (one, other) = (gate.connect(&grant).await, gate.connect(&grant).await);
    assert_ne!(role(&one).await, role(&other).await, "{version}");
    revoke(gate, &grant).await;
    assert_eq!(roles(owner).await, [""; 0], "{version}");
    assert!(column(&other, "select 1").await.is_err(), "{version}");
}

/// Whatever somebody leaves on a role, held or idle, goes with it.
async fn nothing_is_left(gate: &Gate, owner: &Client, version: i64) {
    let grant = gate.grant(Access::Read).await;
    let scope = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member \
                 where r.rolname like 'dbgate\\_u\\_%' and m.admin_option";
    let admin = (
        "do $$ begin execute format('grant %I to ROLE with admin option', (select g.rolname from pg_auth_members m \
        join pg_roles g on g.oid = m.roleid join pg_roles r on r.oid = m.member \
        where r.rolname = 'ROLE' and g.rolname like 'dbgate\\_s\\_%' limit 1)); end $$",
        scope,
    );
    let mut left = vec![admin];
    left.extend(LEFT.iter().map(|(leave_it, is_there)| (*leave_it, *is_there)));
    for (at, (leave_it, is_there)) in left.into_iter().enumerate() {
        let is_there = match is_there.starts_with("select count") {
            true => is_there.to_owned(),
            false => format!("select count(*) from ({is_there}) one"),
        };
        let client = gate.connect(&grant).await;
        let (name, number) = role(&client).await;
        // One after the other held and idle: leases.rs tries both for each on one version.
        let is_held = at % 2 == 0;
        let client = if is_held {
            Some(client)
        } else {
            leave(gate, &grant, client).await;
            None
        };
        let sql = leave_it.replace("ROLE", &name);
        owner.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{version}: {sql}: {error:?}"));
        assert_ne!(count(owner, &is_there).await, 0, "{version}: it is seen: {sql}");
        if let Some(client) = client {
            leave(gate, &grant, client).await;
        }
        let next = gate.connect(&grant).await;
        assert_ne!(role(&next).await.1, number, "{version}: {sql}");
        until("it is gone", async || count(owner, &is_there).await == 0).await;
        leave(gate, &grant, next).await;
    }
    revoke(gate, &grant).await;
}
