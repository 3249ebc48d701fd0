//! Login roles serve one connection of their grant after another, and nothing passes from one to the next.

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::{Access, GrantId};
use dbgate::server::grants::end;
use dbgate::server::sessions::EndReason;
use tokio_postgres::Client;

use crate::support::gate::{Gate, SHOP, column, superuser};
use crate::support::until::until;

fn id(grant: &GrantAnswer) -> GrantId {
    GrantId::parse(&grant.grant_id).expect("an id")
}

/// Ends a session and waits until the gate has settled what is behind it.
pub(super) async fn leave(gate: &Gate, grant: &GrantAnswer, client: Client) {
    let left = gate.running.state().sessions.count_of(&id(grant)) - 1;
    drop(client);
    until("the session is over", async || gate.running.state().sessions.count_of(&id(grant)) <= left).await;
}

/// Name and number of the role that a session has signed in as.
pub(super) async fn role(client: &Client) -> (String, String) {
    let sql = "select concat_ws(' ', usename, usesysid) from pg_stat_activity where pid = pg_backend_pid()";
    let both = column(client, sql).await.expect("granted").concat();
    let (name, number) = both.split_once(' ').expect("two words");
    (name.to_owned(), number.to_owned())
}

pub(super) async fn revoke(gate: &Gate, grant: &GrantAnswer) {
    end::end(gate.running.state(), &id(grant), EndReason::Revoked).await.expect("nothing of it is left");
}

#[tokio::test]
async fn the_sessions_of_a_grant_have_one_role_after_the_other_with_a_new_password_each() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let known = gate.login_roles().await;
    let stored = "select rolpassword from pg_authid where rolname like 'dbgate_u_%' and rolname = $1";
    let owner = superuser(&gate.database).await;
    let (mut numbers, mut passwords) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let client = gate.connect(&grant).await;
        let (name, number) = role(&client).await;
        assert_eq!(known, std::slice::from_ref(&name), "made ahead, and no other");
        passwords.push(owner.query_one(stored, &[&name]).await.expect("the role").get::<_, String>(0));
        numbers.push(number);
        column(&client, &format!("update customers set name = 'r{round}' where id = 1")).await.expect("granted");
        leave(&gate, &grant, client).await;
        let open = format!("select count(*) from pg_roles where rolname = '{name}' and rolcanlogin");
        assert_eq!(gate.count(&open).await, 0, "nobody can log in in between");
        let backends = format!("select count(*) from pg_stat_activity where usename = '{name}'");
        assert_eq!(gate.count(&backends).await, 0, "nobody runs as it in between");
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "the same role: {numbers:?}");
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), 3, "a password for each");
    revoke(&gate, &grant).await;
    assert_eq!(gate.login_roles().await, Vec::<String>::new());
    gate.stop().await;
}

#[tokio::test]
async fn sessions_side_by_side_have_roles_of_their_own_and_few_of_them_wait_afterwards() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let mut clients = Vec::new();
    let mut roles = Vec::new();
    for _ in 0..6 {
        let client = gate.connect(&grant).await;
        roles.push(role(&client).await);
        clients.push(client);
    }
    roles.sort();
    roles.dedup();
    assert_eq!(roles.len(), 6);
    for client in clients {
        leave(&gate, &grant, client).await;
    }
    assert_eq!(gate.login_roles().await.len(), 4, "the others are dropped at once");
    let again = gate.connect(&grant).await;
    assert!(roles.contains(&role(&again).await));
    // One that is held, three that wait: all of them go with the grant.
    revoke(&gate, &grant).await;
    assert_eq!(gate.login_roles().await, Vec::<String>::new());
    let backends =
        "select count(*) from pg_stat_activity where usename like 'dbgate_u_%' and datname = current_database()";
    assert_eq!(gate.count(backends).await, 0);
    assert!(column(&again, "select 1").await.is_err());
    gate.stop().await;
}

#[tokio::test]
async fn roles_that_wait_go_when_the_time_is_over() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant_as("ana@example.com", Access::Read, 4).await;
    let (one, other) = (gate.connect(&grant).await, gate.connect(&grant).await);
    leave(&gate, &grant, one).await;
    until("both roles are gone", async || gate.login_roles().await.is_empty()).await;
    assert!(column(&other, "select 1").await.is_err());
    gate.stop().await;
}

#[tokio::test]
async fn a_role_never_serves_another_grant_or_principal() {
    let gate = Gate::start(SHOP).await;
    let first = gate.grant_as("ana@example.com", Access::Read, 600).await;
    let client = gate.connect(&first).await;
    let ours = role(&client).await;
    leave(&gate, &first, client).await;
    // The same scope, and so the same privileges: the role is another's all the same.
    for who in ["ana@example.com", "bob@example.com"] {
        let grant = gate.grant_as(who, Access::Read, 600).await;
        let client = gate.connect(&grant).await;
        assert_ne!(role(&client).await, ours, "{who}");
        leave(&gate, &grant, client).await;
    }
    assert_eq!(role(&gate.connect(&first).await).await, ours);
    gate.stop().await;
}

/// What an administrator, or a hole, could leave on a role; and what shows that it is still there.
pub(super) const LEFT: [(&str, &str); 7] = [
    (
        "alter role ROLE set work_mem = '77MB'",
        "select 1 from pg_db_role_setting where 'work_mem=77MB' = any (setconfig)",
    ),
    (
        "do $$ begin execute format('alter role ROLE in database %I set work_mem = ''78MB''', current_database()); end $$",
        "select 1 from pg_db_role_setting where 'work_mem=78MB' = any (setconfig)",
    ),
    (
        "grant pg_read_all_data to ROLE",
        "select 1 from pg_auth_members m join pg_roles r on r.oid = m.member \
         where m.roleid = 'pg_read_all_data'::regrole and r.rolname like 'dbgate_u_%'",
    ),
    ("alter role ROLE createdb", "select 1 from pg_roles where rolname like 'dbgate_u_%' and rolcreatedb"),
    (
        "alter role ROLE connection limit 9",
        "select 1 from pg_roles where rolname like 'dbgate_u_%' and rolconnlimit = 9",
    ),
    (
        "create schema left_behind authorization ROLE; create table left_behind.t (i int); \
         alter table left_behind.t owner to ROLE",
        "select 1 from pg_namespace where nspname = 'left_behind'",
    ),
    (
        "alter default privileges for role ROLE grant select on tables to public",
        "select 1 from pg_default_acl where pg_get_userbyid(defaclrole) like 'dbgate_u_%'",
    ),
];

#[tokio::test]
async fn what_is_left_on_a_role_never_meets_the_next_session() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let owner = superuser(&gate.database).await;
    for (leave_it, is_there) in LEFT {
        let is_there = format!("select count(*) from ({is_there}) one");
        for is_idle in [false, true] {
            let client = gate.connect(&grant).await;
            let (name, number) = role(&client).await;
            if is_idle {
                leave(&gate, &grant, client).await;
                owner.batch_execute(&leave_it.replace("ROLE", &name)).await.expect(leave_it);
            } else {
                owner.batch_execute(&leave_it.replace("ROLE", &name)).await.expect(leave_it);
                leave(&gate, &grant, client).await;
                assert_eq!(gate.count(&is_there).await, 0, "gone with the session: {leave_it}");
            }
            let next = gate.connect(&grant).await;
            assert_ne!(role(&next).await.1, number, "{leave_it}");
            assert_eq!(gate.count(&is_there).await, 0, "{leave_it}");
            leave(&gate, &grant, next).await;
        }
    }
    gate.stop().await;
}

#[tokio::test]
async fn what_a_session_held_goes_with_its_backend() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let before = role(&client).await;
    column(&client, "select pg_advisory_lock(4711)").await.expect("granted");
    column(&client, "create temporary table mine (i int)").await.expect("granted");
    column(&client, "set work_mem = '9MB'").await.expect("granted");
    column(&client, "prepare p as select 1").await.expect("granted");
    leave(&gate, &grant, client).await;
    let next = gate.connect(&grant).await;
    assert_eq!(role(&next).await, before, "the same role");
    let held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 \
                and database = (select oid from pg_database where datname = current_database())";
    assert_eq!(gate.count(held).await, 0);
    assert_ne!(column(&next, "show work_mem").await.expect("granted"), ["9MB"]);
    assert!(column(&next, "select * from mine").await.is_err());
    assert!(column(&next, "execute p").await.is_err());
    gate.stop().await;
}

/// The log's lines of one kind, in order.
fn recorded(gate: &Gate, kind: &str) -> Vec<serde_json::Value> {
    let log = std::fs::read_to_string(gate.folder.join("data/log/log.ndjson")).expect("the log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    lines.filter(|line| line.get("k").and_then(serde_json::Value::as_str) == Some(kind)).collect()
}

#[tokio::test]
async fn the_record_tells_a_role_that_waits_from_one_that_is_gone() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    leave(&gate, &grant, client).await;
    let client = gate.connect(&grant).await;
    let (name, _) = role(&client).await;
    let owner = superuser(&gate.database).await;
    owner.batch_execute(&format!("alter role {name} set work_mem = '9MB'")).await.expect("altered");
    leave(&gate, &grant, client).await;
    let flag = |line: &serde_json::Value, name: &str| line.get(name).and_then(serde_json::Value::as_bool);
    let closed = recorded(&gate, "session.close");
    let said: Vec<_> = closed.iter().map(|line| (flag(line, "role_dropped"), flag(line, "role_kept"))).collect();
    assert_eq!(said, [(Some(false), Some(true)), (Some(true), None)]);
    revoke(&gate, &grant).await;
    let ended = recorded(&gate, "grant.end");
    assert_eq!(ended.iter().map(|line| flag(line, "roles_dropped")).collect::<Vec<_>>(), [Some(true)]);
    gate.stop().await;
}

#[tokio::test]
async fn a_role_that_an_administrator_drops_is_made_anew_unnoticed() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    let (name, number) = role(&client).await;
    leave(&gate, &grant, client).await;
    superuser(&gate.database).await.batch_execute(&format!("drop role {name}")).await.expect("it owns nothing");
    let next = gate.connect(&grant).await;
    let (_, another) = role(&next).await;
    assert_ne!(another, number);
    assert_eq!(column(&next, "select count(*) from customers").await.expect("granted"), ["1000"]);
    // Dropped while it waits, and the grant is over: nothing is missed.
    leave(&gate, &grant, next).await;
    let drop = format!("drop role {}", gate.login_roles().await.concat());
    superuser(&gate.database).await.batch_execute(&drop).await.expect("it owns nothing");
    revoke(&gate, &grant).await;
    gate.stop().await;
}

#[tokio::test]
async fn a_role_that_cannot_be_dropped_is_not_lent_again() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let owner = superuser(&gate.database).await;
    // What the owner itself has granted the broker cannot take back.
    for is_idle in [false, true] {
        let client = gate.connect(&grant).await;
        let (name, _) = role(&client).await;
        let give = format!("grant select on customers to {name}");
        match is_idle {
            true => {
                leave(&gate, &grant, client).await;
                owner.batch_execute(&give).await.expect("granted");
            }
            false => {
                owner.batch_execute(&give).await.expect("granted");
                leave(&gate, &grant, client).await;
            }
        }
        let next = gate.connect(&grant).await;
        assert_ne!(role(&next).await.0, name);
        let may = format!(
            "select count(*) from pg_roles r where r.rolname = '{name}' and (r.rolcanlogin \
             or exists (select from pg_auth_members m where m.member = r.oid))"
        );
        assert_eq!(gate.count(&may).await, 0, "what is left of it is of no use");
        owner.batch_execute(&format!("revoke select on customers from {name}")).await.expect("revoked");
        until("it is dropped as soon as that is possible", async || !gate.login_roles().await.contains(&name)).await;
        leave(&gate, &grant, next).await;
    }
    gate.stop().await;
}

/// Stops a process, or lets it go on.
fn signal(name: &str, process: i32) {
    let status = std::process::Command::new("kill").args([name, &process.to_string()]).status().expect("kill");
    assert!(status.success(), "{name} {process}");
}

#[tokio::test]
async fn a_role_is_not_lent_while_an_old_backend_lives() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let client = gate.connect(&grant).await;
    let (name, _) = role(&client).await;
    let process = column(&client, "select pg_backend_pid()").await.expect("granted").concat().parse().expect("a pid");
    // A backend that hears neither goodbye nor the order to end.
    signal("-STOP", process);
    drop(client);
    let backends = format!("select count(*) from pg_stat_activity where usename = '{name}'");
    let open = format!("select count(*) from pg_roles where rolname = '{name}' and rolcanlogin");
    let mut others = Vec::new();
    for _ in 0..3 {
        let next = gate.connect(&grant).await;
        assert_ne!(role(&next).await.0, name);
        assert_eq!((gate.count(&backends).await, gate.count(&open).await), (1, 0));
        others.push(next);
    }
    drop(others);
    until("its session is given up", async || gate.running.state().sessions.count_of(&id(&grant)) == 0).await;
    // What does not end keeps no other grant alive.
    let short = gate.grant_as("bob@example.com", Access::Read, 2).await;
    let bob = gate.connect(&short).await;
    until("its time is over", async || column(&bob, "select 1").await.is_err()).await;
    let is_theirs = |role: &String| role.starts_with("dbgate_u_bob_");
    until("its role is gone", async || !gate.login_roles().await.iter().any(is_theirs)).await;
    assert_eq!(gate.count(&backends).await, 1);
    signal("-CONT", process);
    until("it ends, and its role with it", async || {
        gate.count(&backends).await == 0 && !gate.login_roles().await.contains(&name)
    })
    .await;
    gate.stop().await;
}
