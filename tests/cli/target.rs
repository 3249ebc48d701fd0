//! What the owner of a database does: look at what init would change, migrate, dump, and take
//! everything of dbgate out again.

use std::path::Path;
use std::process::{Command, Output};

use dbgate::core::grant::Access;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use crate::support::dbgate::{Program, said};
use crate::support::gate::{self, Gate, Place, SHOP, column};

const CLASSIFICATION: (&str, &str) = (
    "classification.toml",
    "[[column]]\nmatch = \"public.customers.email\"\ntags = [\"pii\", \"email\"]\n\
     [[column]]\nmatch = \"public.customers.ssn\"\ntags = [\"pii\"]\n",
);

/// `dbgate target …` as a process; the configuration is the folder's.
async fn target(folder: &Path, arguments: &[&str], after: &[&str]) -> Output {
    let program = Program::new();
    let config = folder.join("server.toml").display().to_string();
    let dsn = folder.join("superuser").display().to_string();
    let mut command = program.command(&["target"]);
    command.args(arguments).args(["--config", &config, "--superuser-dsn-file", &dsn]);
    if !after.is_empty() {
        command.arg("--").args(after);
    }
    tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs")
}

/// A program of PostgreSQL's, as superuser of the cluster.
fn tool(cluster: &Cluster, name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(name);
    command.args(["-h", cluster.host(), "-p", &cluster.port().to_string(), "-U", "postgres"]).args(arguments);
    let output = command.env("PGPASSWORD", cluster.password().expose()).output().expect(name);
    assert!(output.status.success(), "{name}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

/// Everything of a database and of the cluster's roles that a dump shows. Passwords are salted anew
/// and newer programs frame a dump with a random key: neither belongs to the comparison.
fn dumped(cluster: &Cluster, database: &str) -> String {
    let schema = tool(cluster, "pg_dump", &["--schema-only", "--create", database]);
    let roles = tool(cluster, "pg_dumpall", &["--roles-only", "--no-role-passwords"]);
    let kept = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    format!("{schema}{roles}").lines().filter(kept).collect::<Vec<_>>().join("\n")
}

async fn connect(cluster: &Cluster, database: &str) -> Client {
    let (client, connection) = cluster.superuser(database).connect(NoTls).await.expect("superuser connects");
    tokio::spawn(connection);
    client
}

async fn own_cluster(purpose: &str) -> Cluster {
    let installation = Installation::find().expect("PostgreSQL server programs");
    let cluster = Cluster::start(&installation, purpose, &Settings::default()).expect("a cluster");
    connect(&cluster, "postgres").await.batch_execute("create database shop").await.expect("a database");
    cluster
}

/// With owners of their own, default privileges of their own, and a second schema.
const LIVED_IN: &str = "
    create role owner nologin; create role reporting nologin;
    create schema app authorization owner;
    set role owner; create table app.invoices (id serial primary key, total numeric); reset role;
    grant select on app.invoices to reporting;
    alter default privileges for role owner in schema app grant select on tables to reporting;
    grant select (id) on customers to reporting;
    alter default privileges for role owner revoke execute on functions from public;";

#[tokio::test(flavor = "multi_thread")]
async fn remove_leaves_database_and_roles_as_they_were_before_init() {
    let cluster = own_cluster("remove").await;
    let sql = format!("{SHOP}{LIVED_IN}");
    connect(&cluster, "shop").await.batch_execute(&sql).await.expect("a shop");
    let before = dumped(&cluster, "shop");
    let policy = [CLASSIFICATION];
    let place = Place { cluster: &cluster, database: "shop".into(), sql: "", target: "demo", policy: &policy };
    let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
    let grant = gate.grant(Access::Write).await;
    let session = gate.connect(&grant).await;
    assert_eq!(
        column(&session, "select email from customers where id = 1").await.expect("reads"),
        ["u***@e******.com"]
    );
    let running = target(&gate.folder, &["remove", "demo", "--apply"], &[]).await;
    assert_eq!(running.status.code(), Some(1), "a gate is running: {}", said(&running));
    assert!(said(&running).contains("Stop `dbgate serve`"), "{}", said(&running));
    // As if it had been killed: what it made stays behind.
    drop(session);
    let folder = gate.folder.clone();
    gate.running.stop().await;
    let leftovers = "create role dbgate_u_ana_1 login; comment on role dbgate_u_ana_1 is 'dbgate login in shop'; \
                     grant dbgate_sessions to dbgate_u_ana_1; grant select on app.invoices to dbgate_u_ana_1; \
                     create role dbgate_u_theirs";
    connect(&cluster, "shop").await.batch_execute(leftovers).await.expect("leftovers");

    let printed = target(&folder, &["remove", "demo"], &[]).await;
    let script = String::from_utf8(printed.stdout.clone()).expect("text");
    assert!(script.contains("DROP ROLE \"dbgate_broker\";"), "{}", said(&printed));
    assert!(dumped(&cluster, "shop").contains("dbgate_broker"), "printing changes nothing");
    let applied = target(&folder, &["remove", "demo", "--apply"], &[]).await;
    assert_eq!(applied.status.code(), Some(0), "{}", said(&applied));
    let theirs = "drop role dbgate_u_theirs";
    connect(&cluster, "shop").await.batch_execute(theirs).await.expect("what is not ours is still there");
    assert_eq!(dumped(&cluster, "shop"), before);

    // What is printed does the same.
    gate::prepare_again(&folder).await;
    let printed = target(&folder, &["remove", "demo"], &[]).await;
    let script = String::from_utf8(printed.stdout).expect("text");
    connect(&cluster, "shop").await.batch_execute(&script).await.expect("the printed script runs");
    assert_eq!(dumped(&cluster, "shop"), before);
    std::fs::remove_dir_all(&folder).expect("folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_database_keeps_its_roles() {
    let cluster = own_cluster("two").await;
    connect(&cluster, "postgres").await.batch_execute("create database other").await.expect("a database");
    let place = |database: &str| Place {
        cluster: &cluster,
        database: database.to_owned(),
        sql: "create table t (id int)",
        target: "demo",
        policy: &[CLASSIFICATION],
    };
    let (one, two) = (gate::prepared(&place("shop"), "http://127.0.0.1:1", "").await, place("other"));
    let two = gate::prepared(&two, "http://127.0.0.1:1", "").await;
    let removed = target(&one, &["remove", "demo", "--apply"], &[]).await;
    assert_eq!(removed.status.code(), Some(0), "{}", said(&removed));
    assert!(said(&removed).contains("Kept, because other databases need them"), "{}", said(&removed));
    let diff = target(&two, &["diff", "demo"], &[]).await;
    assert_eq!(diff.status.code(), Some(0), "{}", said(&diff));
    let schema = tool(&cluster, "pg_dump", &["--schema-only", "shop"]);
    assert!(!schema.contains("dbgate"), "{schema}");
    [one, two].iter().for_each(|folder| std::fs::remove_dir_all(folder).expect("folder"));
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_shows_what_init_would_change_and_init_changes_it() {
    let cluster = own_cluster("diff").await;
    let policy = [CLASSIFICATION];
    let place = Place { cluster: &cluster, database: "shop".into(), sql: SHOP, target: "demo", policy: &policy };
    let folder = gate::prepared(&place, "http://127.0.0.1:1", "").await;
    let diff = async || {
        let output = target(&folder, &["diff", "demo", "--format", "json"], &[]).await;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let codes = |member: &str| -> Vec<String> {
            let list = answer.get(member).and_then(Value::as_array).expect("a list");
            list.iter().filter_map(|one| Some(one.get("code")?.as_str()?.to_owned())).collect()
        };
        (output.status.code(), codes("missing"), codes("extra"))
    };
    let same = (Some(0), vec![], vec![]);
    assert_eq!(diff().await, same);
    let superuser = connect(&cluster, "shop").await;
    superuser.batch_execute("create schema later; create table later.t (id int)").await.expect("later");
    let (exit, missing, extra) = diff().await;
    let grants = ["broker_grants", "default_grants", "default_grants", "default_grants", "masker_grants"];
    let mut sorted = missing.clone();
    sorted.sort();
    assert_eq!((exit, sorted.as_slice(), extra.len()), (Some(8), grants.map(str::to_owned).as_slice(), 0));
    gate::prepare_again(&folder).await;
    assert_eq!(diff().await, same);
    superuser
        .batch_execute("grant select on later.t to dbgate_sessions; create role dbgate_s_mine")
        .await
        .expect("extra");
    let (exit, missing, extra) = diff().await;
    assert_eq!((exit, missing.len(), extra.len()), (Some(8), 0, 2), "{extra:?}");
    superuser.batch_execute("revoke all on later.t from dbgate_sessions; drop role dbgate_s_mine").await.expect("gone");
    assert_eq!(diff().await, same);
    superuser.batch_execute("drop owned by dbgate_broker, dbgate_masker, dbgate_sessions; drop role dbgate_broker, dbgate_masker, dbgate_sessions").await.expect("gone");
    let (exit, missing, _) = diff().await;
    assert_eq!((exit, missing.as_slice()), (Some(8), ["not_prepared"; 3].map(str::to_owned).as_slice()));
    std::fs::remove_dir_all(&folder).expect("folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_database_is_dumped_and_restored() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Read).await;
    let session = gate.connect(&grant).await;
    column(&session, "select email from customers where id = 1").await.expect("a masking view is there");
    let cluster = gate::cluster();
    let dump = gate.folder.join("dump").display().to_string();
    tool(cluster, "pg_dump", &["--format", "custom", "--file", &dump, &gate.database]);
    let copy = format!("{}_copy", gate.database);
    tool(cluster, "createdb", &[&copy]);
    tool(cluster, "pg_restore", &["--exit-on-error", "--dbname", &copy, &dump]);
    let counted = "select (select count(*) from customers) || ' ' || (select count(*) from orders)";
    for database in [&gate.database, &copy] {
        let row = gate::superuser(database).await.query_one(counted, &[]).await.expect("counts");
        assert_eq!(row.get::<_, String>(0), "1000 3000", "{database}");
    }
    tool(cluster, "dropdb", &[&copy]);
    drop(session);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_with_the_views_away_and_the_views_come_back() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let session = gate.connect(&grant).await;
    let masked = "select email from customers where id = 1";
    let shown = ["u***@e******.com"];
    assert_eq!(column(&session, masked).await.expect("reads"), shown);
    let added = "insert into customers (id, name, email) values (7001, 'x', 'u@example.com') on conflict (id) \
                 do update set name = 'y' returning email";
    let owner = gate::superuser(&gate.database).await;
    let alter = "alter table customers alter column email type varchar(200)";
    owner.batch_execute(alter).await.expect_err("a masking view is in the way");

    let service = format!(
        "host=127.0.0.1 port={} user=postgres password={} dbname={}",
        gate::cluster().port(),
        gate::cluster().password().expose(),
        gate.database
    );
    let migrate = async |sql: &str| {
        let psql = ["psql", &service, "-q", "-v", "ON_ERROR_STOP=1", "-c", sql];
        target(&gate.folder, &["migrate", "demo"], &psql).await
    };
    let done = migrate(alter).await;
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(said(&done).contains("2 taken away, 2 made again"), "{}", said(&done));
    assert_eq!(column(&session, masked).await.expect("the session goes on"), shown);
    assert_eq!(column(&session, added).await.expect("and adds rows"), shown);

    let failing = migrate("select 1 from no_such_table").await;
    assert_eq!(failing.status.code(), Some(1), "{}", said(&failing));
    assert!(said(&failing).contains("2 taken away, 2 made again"), "{}", said(&failing));
    assert_eq!(column(&session, masked).await.expect("the session goes on"), shown);

    // Under the old text the name would now show the address.
    let swap = "alter table customers rename column email to x; alter table customers rename column name to email; \
                alter table customers rename column x to name";
    let swapped = migrate(swap).await;
    assert_eq!(swapped.status.code(), Some(0), "{}", said(&swapped));
    assert!(said(&swapped).contains("Sessions that read through them were ended: dbgate_u_ana_"), "{}", said(&swapped));
    column(&session, masked).await.expect_err("its session has ended");
    assert_eq!(gate.count("select count(*) from pg_views where schemaname like 'dbgate_m_%'").await, 0);
    assert_eq!(gate.login_roles().await, [""; 0]);
    let held = "select count(*) from pg_locks where locktype = 'advisory' and database = \
                (select oid from pg_database where datname = current_database())";
    assert_eq!(gate.count(held).await, 0, "the lock is free");
    drop(session);
    gate.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_a_cut_short_migration_left_away_are_made_for_the_next_session() {
    let gate = Gate::start(SHOP).await;
    let first = gate.grant(Access::Read).await;
    let masked = "select email from customers where id = 1";
    column(&gate.connect(&first).await, masked).await.expect("reads");
    let drop_views = "do $$ declare v record; begin for v in select schemaname, viewname from pg_views \
                      where schemaname like 'dbgate_m_%' loop execute format('drop view %I.%I', v.schemaname, v.viewname); \
                      end loop; end $$";
    gate::superuser(&gate.database).await.batch_execute(drop_views).await.expect("dropped");
    let second = gate.grant(Access::Read).await;
    let session = gate.connect(&second).await;
    assert_eq!(column(&session, masked).await.expect("reads"), ["u***@e******.com"]);
    drop(session);
    gate.stop().await;
}
