//! Real drivers through the gate, each doing what applications do with it. `tests/run` installs
//! them, in the versions that tests/support/drivers names.

use std::path::{Path, PathBuf};
use std::time::Instant;

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use dbgate::sys::files;

use crate::support::gate::{Gate, SHOP};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/drivers")
}

/// A program as an application that knows the gate by its environment and a passfile.
fn client_program(gate: &Gate, grant: &GrantAnswer, program: &Path) -> tokio::process::Command {
    let (passfile, root) = (gate.folder.join("pgpass"), gate.folder.join("root.pem"));
    let (host, port) = (&grant.gateway.host, grant.gateway.port.to_string());
    let line = format!("{host}:{port}:{}:{}:{}\n", grant.wire_database, grant.user, grant.password.expose());
    files::write_private(&passfile, line.as_bytes()).expect("passfile");
    std::fs::write(&root, grant.gateway.ca_pem.as_deref().expect("an authority")).expect("authority");
    let mut command = tokio::process::Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", &gate.folder).env("PGHOST", host).env("PGPORT", &port).env("PGUSER", &grant.user);
    command.env("PGDATABASE", &grant.wire_database).env("PGPASSFILE", &passfile).env("PGSSLMODE", "verify-full");
    // For drivers that read no passfile; the password is worth nothing outside of this test.
    command.env("PGSSLROOTCERT", &root).env("GATE_PASSWORD", grant.password.expose());
    command
}

async fn run(gate: &Gate, grant: &GrantAnswer, program: &Path, arguments: &[&str]) {
    let output = client_program(gate, grant, program).args(arguments).output().await.expect("the program runs");
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.trim_end().ends_with("ok"), "{program:?} {arguments:?}\n{out}\n{error}");
}

/// Runs a script in a gate of its own; skips with a note where its driver is not installed.
async fn script(program: &Path, name: &str) {
    if !program.exists() {
        eprintln!("skipped: {} is not installed (tests/run installs it)", program.display());
        return;
    }
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    run(&gate, &grant, program, &[&folder().join(name).display().to_string()]).await;
    gate.stop().await;
}

#[tokio::test]
async fn psycopg() {
    script(&folder().join("venv/bin/python"), "psycopg_session.py").await;
}

#[tokio::test]
async fn asyncpg() {
    script(&folder().join("venv/bin/python"), "asyncpg_session.py").await;
}

#[tokio::test]
async fn sqlalchemy_and_django() {
    script(&folder().join("venv/bin/python"), "orm_session.py").await;
}

#[tokio::test]
async fn node() {
    let node = ["/usr/bin/node", "/usr/local/bin/node"].map(Path::new).into_iter().find(|node| node.exists());
    match node.filter(|_| folder().join("node_modules").exists()) {
        Some(node) => script(node, "pg_session.mjs").await,
        None => eprintln!("skipped: node and its drivers are not installed (tests/run installs them)"),
    }
}

#[tokio::test]
async fn jdbc() {
    let (jar, java) = (Path::new("/usr/share/java/postgresql.jar"), Path::new("/usr/bin/java"));
    if !jar.exists() || !java.exists() {
        eprintln!("skipped: Debian's libpostgresql-jdbc-java and a Java runtime are not installed");
        return;
    }
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let source = folder().join("Jdbc.java").display().to_string();
    run(&gate, &grant, java, &["-cp", &jar.display().to_string(), &source]).await;
    gate.stop().await;
}

#[tokio::test]
async fn tokio_postgres_pipelines_and_cancels() {
    let gate = Gate::start(SHOP).await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let one = client.prepare("select $1::int4 * 2").await.expect("prepared");
    let all = futures_util::future::join_all((0..100i32).map(|number| {
        let (client, one) = (&client, &one);
        async move { client.query_one(one, &[&number]).await.expect("a row").get::<_, i32>(0) }
    }));
    assert_eq!(all.await, (0..100).map(|number| number * 2).collect::<Vec<_>>());
    let slow = client.batch_execute("select pg_sleep(30)");
    let cancel = async {
        while gate
            .count(
                "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' \
                          and usename like 'dbgate_u_%' and datname = current_database()",
            )
            .await
            == 0
        {}
        gate.cancel(&client).await;
    };
    let began = Instant::now();
    let (ended, ()) = tokio::join!(slow, cancel);
    assert_eq!(ended.expect_err("cancelled").code().map(|code| code.code()), Some("57014"));
    assert!(began.elapsed().as_secs() < 20);
    drop(client);
    gate.stop().await;
}

/// pg_dump locks what it dumps as every SELECT does. Of what is masked it gets the definition; for its rows it
/// wants to read no view.
#[tokio::test]
async fn pg_dump() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let dump = async |table: &str, part: &str| {
        let mut command = client_program(&gate, &grant, Path::new("pg_dump"));
        command.args(["-Fp", part, "-t", table]);
        let output = command.output().await.expect("pg_dump runs");
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (out, error) = dump("orders", "-a").await;
    assert!(out.contains("COPY public.orders") && out.contains("3000\t1000\t3000.00"), "{out}\n{error}");
    let (out, error) = dump("customers", "-s").await;
    assert!(out.contains("CREATE TABLE public.customers") && error.is_empty(), "{out}\n{error}");
    let (out, error) = dump("customers", "-a").await;
    assert!(!out.contains("user1@") && !out.contains("123-45-") && !error.contains("lock"), "{out}\n{error}");
    gate.stop().await;
}
