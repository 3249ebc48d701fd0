//! `dbgate doctor` on what is not in the database: the server's age, its TLS, the line to it, and
//! what stands in front of it.

use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dbgate::demo::postgres::{Cluster, Installation, Settings};
use serde_json::Value;

use crate::support::dbgate::{Program, said};
use crate::support::gate::{self, POLICY, Place, SHOP, reconfigure, superuser};

struct Examined {
    program: Program,
    folder: PathBuf,
}

impl Examined {
    /// A prepared target whose `server.toml` is then changed.
    async fn prepare(cluster: &Cluster, database: &str, edit: impl Fn(String) -> String) -> Self {
        let place = Place { cluster, database: database.into(), sql: SHOP, target: "demo", policy: &POLICY };
        let folder = gate::prepared(&place, "http://127.0.0.1:1", "").await;
        let file = folder.join("server.toml");
        std::fs::write(&file, edit(std::fs::read_to_string(&file).expect("server.toml"))).expect("server.toml");
        Self { program: Program::new(), folder }
    }

    /// The findings, as `(severity, object)` by code.
    async fn findings(&self, as_superuser: bool) -> Vec<(String, String, String)> {
        let config = self.folder.join("server.toml").display().to_string();
        let dsn = self.folder.join("superuser").display().to_string();
        let mut command = self.program.command(&["doctor", "demo", "--format", "json", "--config", &config]);
        if as_superuser {
            command.args(["--superuser-dsn-file", &dsn]);
        }
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let found = answer.get("findings").and_then(Value::as_array).expect("a list");
        let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).expect("text").to_owned();
        found.iter().map(|one| (text(one, "code"), text(one, "severity"), text(one, "object"))).collect()
    }
}

impl Drop for Examined {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn has(found: &[(String, String, String)], code: &str, severity: &str, object: &str) -> bool {
    found.iter().any(|one| (one.0.as_str(), one.1.as_str(), one.2.as_str()) == (code, severity, object))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_and_a_line_in_clear_text_are_told() {
    let installation = Installation::find().expect("PostgreSQL server programs");
    // Nobody else reaches this address either, but it is not the one that stands for "this machine only".
    let parameters = vec![("listen_addresses".to_owned(), "127.0.0.1,127.0.0.2".to_owned())];
    let cluster = Cluster::start(&installation, "front", &Settings { parameters, ..Settings::default() });
    let cluster = cluster.expect("a cluster");
    let usual = Examined::prepare(&cluster, "postgres", |text| text).await;
    let found = usual.findings(false).await;
    assert!(has(&found, "ssl_off", "weakness", "ssl"), "{found:?}");
    assert!(!found.iter().any(|one| one.0 == "clear_text"), "{found:?}");
    // This address is any of this machine's, so nothing says that it is not another's.
    let far = |text: String| {
        text.replace("host=127.0.0.1 ", "host=0.0.0.0 ").replace("environment = ", "insecure = true\nenvironment = ")
    };
    reconfigure(&usual.folder, far);
    let found = usual.findings(false).await;
    assert!(has(&found, "clear_text", "hole", &format!("0.0.0.0:{}", cluster.port())), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_16_the_broker_is_nearly_a_superuser_and_the_doctor_says_so() {
    let database = "aged";
    superuser("postgres").await.batch_execute(&format!("create database {database}")).await.expect("database");
    let guard = gate::PREPARING.lock().await;
    let target = Examined::prepare(gate::cluster(), database, |text| text).await;
    drop(guard);
    let sql = "select current_setting('server_version_num')::int4";
    let version: i32 = superuser(database).await.query_one(sql, &[]).await.expect("a version").get(0);
    let found = target.findings(true).await;
    assert_eq!(found.iter().any(|one| one.0 == "createrole_before_16"), version < 160_000, "{version} {found:?}");
}

/// A pgbouncer in front of a cluster, as whoever the cluster runs as: it refuses to be root.
struct Bouncer {
    process: Child,
    port: u16,
}

impl Bouncer {
    /// None where it is not installed.
    fn start(cluster: &Cluster, mode: &str) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let folder = cluster.folder().join(mode);
        std::fs::create_dir(&folder).expect("folder");
        let users = format!("\"dbgate_broker\" \"{}\"\n", gate::BROKER_PASSWORD);
        std::fs::write(folder.join("users.txt"), users).expect("users");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\nunix_socket_dir =\n",
            cluster.port(),
            folder.join("users.txt").display()
        );
        std::fs::write(folder.join("pgbouncer.ini"), text).expect("pgbouncer.ini");
        let owner = std::fs::metadata(cluster.folder().join("data")).expect("data");
        let mut command = Command::new(program);
        command.arg("-q").arg(folder.join("pgbouncer.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        if std::fs::metadata("/proc/self").expect("proc").uid() == 0 {
            for path in [folder.clone(), folder.join("users.txt"), folder.join("pgbouncer.ini")] {
                std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).expect("given");
            }
            command.uid(owner.uid()).gid(owner.gid());
        }
        let process = command.spawn().expect("pgbouncer runs");
        let bouncer = Self { process, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "pgbouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(bouncer)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_front_of_the_server_is_found_out() {
    let installation = Installation::find().expect("PostgreSQL server programs");
    let cluster = Cluster::start(&installation, "pooled", &Settings::default()).expect("a cluster");
    let target = Examined::prepare(&cluster, "postgres", |text| text).await;
    assert!(!target.findings(false).await.iter().any(|one| one.0 == "pooler"));
    let file = target.folder.join("server.toml");
    let straight = std::fs::read_to_string(&file).expect("server.toml");
    for mode in ["transaction", "session"] {
        let Some(bouncer) = Bouncer::start(&cluster, mode) else {
            eprintln!("skipped: pgbouncer is not installed");
            return;
        };
        let (here, there) = (format!("port={} ", cluster.port()), format!("port={} ", bouncer.port));
        std::fs::write(&file, straight.replace(&here, &there)).expect("server.toml");
        let found = target.findings(false).await;
        assert!(has(&found, "pooler", "hole", &format!("127.0.0.1:{}", bouncer.port)), "{mode}: {found:?}");
    }
}
