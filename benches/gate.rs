//! A PostgreSQL with test data and a gate in front of it, for `benches/run`: starts both, prints
//! one line of JSON that says how to reach them, and ends when its standard input does.

#[path = "../tests/support/gate.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod gate;

use std::io::{Read as _, Write as _};

use dbgate::core::grant::Access;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use gate::{Gate, Place};

/// One masked column in the table that pgbench reads, one in a table beside it.
const CLASSIFICATION: &str = "
[[column]]
match = \"public.pgbench_accounts.filler\"
tags = [\"pii\"]

[[column]]
match = \"public.people.email\"
tags = [\"pii\", \"email\"]
";

/// A limit would end the bulk reads; everything else of the pack stays.
const SQL: &str = "create table people (id int primary key, name text, email text);
    insert into people select g, 'name ' || g, g || '@example.com' from generate_series(1, 1000) g; analyze people;
    create table people_open (like people including all);
    insert into people_open select * from people; analyze people_open;
    create table batch (id bigint generated always as identity primary key, n int, v text);";

/// The pack as it is, for somebody who may add a thousand rows at once.
const PACK: &str = include_str!("../src/core/policy/packs/production/production.cedar");

#[tokio::main]
async fn main() {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let durability = argument("--durability").unwrap_or_else(|| "writes".into());
    let masks = argument("--masks").is_none_or(|value| value != "off");
    let scale = argument("--scale").unwrap_or_else(|| "10".into());
    let rows = argument("--rows").unwrap_or_else(|| "2000000".into());
    let connections = argument("--connections").unwrap_or_else(|| "1700".into());
    let parameters =
        [("shared_buffers", "1GB"), ("max_connections", &connections), ("jit", "off"), ("autovacuum", "off")];
    // As it is installed: what the target commits is on its disk, as what the gate records is on the gate's.
    let durable = ["fsync", "synchronous_commit", "full_page_writes"].map(|name| (name, "on"));
    let parameters = parameters.into_iter().chain(durable);
    let parameters = parameters.map(|(name, value): (&str, &str)| (name.to_owned(), value.to_owned())).collect();
    let installation = Installation::find().expect("PostgreSQL server programs");
    let settings = Settings { parameters, ..Settings::default() };
    let cluster = Cluster::start(&installation, "bench", &settings).expect("a cluster");
    let superuser = |sql: &str| {
        let (cluster, sql) = (&cluster, sql.to_owned());
        async move {
            let (client, connection) =
                cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("superuser");
            tokio::spawn(connection);
            client.batch_execute(&sql).await.expect("sql");
        }
    };
    superuser("create database bench").await;
    superuser("create role bench superuser login password 'bench'").await;
    let mut fill = tokio::process::Command::new("pgbench");
    fill.args(["-i", "-q", "-s", &scale, "-h", "127.0.0.1", "-p", &cluster.port().to_string(), "-U", "bench", "bench"]);
    fill.env("PGPASSWORD", "bench").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(fill.status().await.expect("pgbench").success(), "pgbench -i");
    let bulk = format!(
        "{SQL} create table bulk as select g::bigint as id, md5(g::text) || ' text' as body, g || '@example.com' as mail, \
         '+49 30 ' || g as phone, (g * 1.25)::numeric(12,2) as amount, now() as at from generate_series(1, {rows}) g; \
         analyze bulk;"
    );
    let classification = if masks { CLASSIFICATION } else { "" };
    let access = if argument("--access").as_deref() == Some("write") { Access::Write } else { Access::Read };
    let loads = PACK.replace("total > 100 ", "total > 100000 ");
    let policy: &[_] = match access {
        Access::Read => &[("classification.toml", classification)],
        Access::Write | Access::Admin => &[("classification.toml", classification), ("loads.cedar", &*loads)],
    };
    let place = Place { cluster: &cluster, database: "bench".into(), sql: &bulk, target: "bench", policy };
    let lines = format!(
        "[server-lines]wire_plain = true\n[audit]\ndurability = \"{durability}\"\n[target-lines]max_sessions = 1600"
    );
    let folder = gate::prepared(&place, "http://127.0.0.1:1", &lines).await;
    if access != Access::Read {
        gate::drop_pack(&folder);
    }
    let gate = Gate::of(folder, &place).await;
    let grant = gate.grant_as("ana@example.com", access, 8 * 3600).await;
    let verifier = verifier(&cluster).await;
    let ca = gate.folder.join("ca.pem");
    std::fs::write(&ca, grant.gateway.ca_pem.as_deref().unwrap_or_default()).expect("ca.pem");
    let told = serde_json::json!({
        "pid": std::process::id(), "postgres": cluster.port(), "gate": grant.gateway.port, "user": grant.user,
        "password": grant.password.expose(), "database": grant.wire_database, "ca": ca, "verifier": verifier,
        "log": gate.folder.join("data"),
    });
    let mut out = std::io::stdout();
    writeln!(out, "{told}").and_then(|()| out.flush()).expect("stdout");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .expect("a thread")
        .expect("stdin");
    gate.stop().await;
}

/// The SCRAM verifier of the role that goes straight: pgbouncer needs the same.
async fn verifier(cluster: &Cluster) -> String {
    let (client, connection) = cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("superuser");
    tokio::spawn(connection);
    let row = client.query_one("select rolpassword from pg_authid where rolname = 'bench'", &[]).await.expect("a row");
    row.get(0)
}
