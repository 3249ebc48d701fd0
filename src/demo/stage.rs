//! Sets everything up on one machine, and takes it down again: PostgreSQL with the shop, the
//! issuer, broker and gateway in this process, and a home folder for the client's commands.
//!
//! The broker reads a `server.toml` as any broker does; nothing here is a special mode of it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::core::role_sql;
use crate::core::secret::Secret;
use crate::demo::data;
use crate::demo::guardian::{Folder, Guarded};
use crate::demo::issuer::{CLIENT_ID, DemoUser, Issuer};
use crate::demo::postgres::{Cluster, Installation, Settings};
use crate::demo::screen::{Screen, thousands};
use crate::server::config::Config;
use crate::server::run::{self, Running};

/// Who walks. An engineer: reads and writes, approves nothing.
pub const PERSON: &str = "ana";
/// Who decides. A database administrator with a workstation of her own.
pub const REVIEWER: &str = "bea";
/// How often the client asks whether the sign-in was approved; RFC 8628 counts in seconds.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Everything that runs.
pub struct Stage {
    /// Where the broker answers.
    pub server: String,
    pub issuer: Issuer,
    /// A superuser's look from outside: what the walk shows to prove what dbgate says.
    pub outside: Client,
    running: Running,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
    folder: Guarded,
    // Last, so that the server outlives whoever is connected to it.
    cluster: Cluster,
}

impl Stage {
    /// Sets it up, telling what is ready.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or a part does not start. What was started is stopped.
    pub async fn set(screen: Screen) -> anyhow::Result<Self> {
        let began = Instant::now();
        let installation = Installation::find()?;
        // `initdb` and the wait block; nothing else runs yet.
        let cluster = Cluster::start(&installation, "demo", &Settings::default())?;
        let (outside, connection) = fill(&cluster).await.context("cannot load the shop")?;
        let (outside, broker_password) = outside;
        let rows: i64 = data::counts(&outside).await?.iter().map(|(_, rows)| rows).sum();
        let version: String = outside.query_one("select current_setting('server_version')", &[]).await?.try_get(0)?;
        let version = version.split_whitespace().next().unwrap_or_default();
        screen.ready(&format!("PostgreSQL {version} with a shop of {} rows", thousands(rows)), began.elapsed());

        let began = Instant::now();
        let folder = Folder::create("demo").context("cannot use the temporary folder")?;
        let folder = folder.guard(&[]).context("cannot run `sh`")?;
        let issuer = Issuer::start(&people(), ASK_EVERY).await?;
        let (api, wire) = free_ports().context("cannot find a free port")?;
        let file = write_configuration(folder.path(), &cluster, &issuer, &broker_password, api, wire)?;
        let running = run::start(Config::load(&file)?).await?;
        let server = format!("http://{}", running.api_address());
        screen.ready("issuer, broker and gateway on 127.0.0.1", began.elapsed());
        Ok(Self { server, issuer, outside, running, connection, folder, cluster })
    }

    /// The client's `DBGATE_HOME`.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The reviewer's `DBGATE_HOME`.
    pub fn reviewers_home(&self) -> PathBuf {
        self.folder.path().join("reviewer")
    }

    /// Ids of the grants that are in force.
    pub fn grants(&self) -> Vec<String> {
        self.running.state().grants.ids().iter().map(|id| id.as_str().to_owned()).collect()
    }

    /// Takes everything down in order: sessions and roles first, the server last. Says how many
    /// just-in-time roles were left after the broker had stopped; it must be none.
    ///
    /// # Errors
    /// When the server does not answer any more. It is stopped all the same.
    pub async fn strike(self) -> anyhow::Result<usize> {
        self.running.stop().await;
        self.issuer.stop().await;
        let left = roles_left(&self.outside).await.map(|roles| roles.len());
        drop(self.outside);
        let _ = self.connection.await;
        drop(self.folder);
        drop(self.cluster);
        Ok(left?)
    }
}

/// Just-in-time login roles that exist in the target now.
///
/// # Errors
/// What PostgreSQL says.
pub async fn roles_left(outside: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "select rolname::text from pg_roles where rolname like 'dbgate\\_u\\_%' order by rolname";
    outside.query(sql, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// Those of them that a session runs as, and until when they are valid.
///
/// # Errors
/// What PostgreSQL says.
pub async fn session_roles(outside: &Client) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let sql = "select rolname::text, coalesce(to_char(rolvaliduntil at time zone 'UTC', 'HH24:MI:SS'), '') \
               from pg_roles where rolname like 'dbgate\\_u\\_%' \
               and oid in (select usesysid from pg_stat_activity) order by rolname";
    outside.query(sql, &[]).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

type Connection = JoinHandle<Result<(), tokio_postgres::Error>>;

/// Makes the database `shop` and loads it; hands back the superuser's connection to it.
async fn fill(cluster: &Cluster) -> Result<((Client, Secret), Connection), tokio_postgres::Error> {
    let (client, connection) = cluster.superuser("postgres").connect(NoTls).await?;
    let first = tokio::spawn(connection);
    client.batch_execute(&format!("create database {}", data::DATABASE)).await?;
    drop(client);
    let _ = first.await;
    let (client, connection) = cluster.superuser(data::DATABASE).connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let password = data::password();
    data::load(&client, &password).await?;
    Ok(((client, password), connection))
}

fn people() -> [DemoUser; 2] {
    [
        DemoUser::new(PERSON, "Ana Ferreira", "ana@shop.example", &["engineers"]),
        DemoUser::new(REVIEWER, "Bea Lindqvist", "bea@shop.example", &["engineers", "dba"]),
    ]
}

/// Two ports that are free now: the configuration must name them before they are bound.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

/// Writes what an administrator would write: `server.toml`, the policy folder, the broker's
/// password in a file; and the client's `config.toml`.
fn write_configuration(
    folder: &Path,
    cluster: &Cluster,
    issuer: &Issuer,
    broker_password: &Secret,
    api: u16,
    wire: u16,
) -> anyhow::Result<PathBuf> {
    let (policy, home) = (folder.join("policy"), folder.join("home"));
    private_folder(&policy)?;
    private_folder(&home)?;
    private_folder(&folder.join("data"))?;
    private_file(&policy.join("classification.toml"), data::CLASSIFICATION)?;
    let password = folder.join("broker-password");
    private_file(&password, broker_password.expose())?;
    let reviewer = folder.join("reviewer");
    private_folder(&reviewer)?;
    for home in [&home, &reviewer] {
        // Tokens of the demo never meet the keyring of the person who runs it.
        private_file(&home.join("config.toml"), "version = 1\n\n[credentials]\nstore = \"file\"\n")?;
    }
    let file = folder.join("server.toml");
    let text = format!(
        r#"version = 1

[server]
public_url  = "http://127.0.0.1:{api}"
api_listen  = "127.0.0.1:{api}"
wire_listen = "127.0.0.1:{wire}"
data_dir    = "data"

[[identity.oidc]]
issuer    = "{issuer}"
client_id = "{CLIENT_ID}"

[[targets]]
name          = "demo"
environment   = "demo"
dsn           = "host={host} port={port} dbname={database} sslmode=disable"
admin         = {{ user = "{user}", password_file = "{password}" }}
pack          = "production"
policy        = "policy"
"#,
        issuer = issuer.url(),
        host = cluster.host(),
        port = cluster.port(),
        database = data::DATABASE,
        user = role_sql::BROKER,
        password = password.display(),
    );
    private_file(&file, &text)?;
    Ok(file)
}

fn private_folder(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().mode(0o700).create(path);
    made.with_context(|| format!("cannot make `{}`", path.display()))
}

fn private_file(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::tls;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_stage_answers_and_leaves_nothing_behind() {
        tls::install_provider();
        let stage = Stage::set(Screen::new()).await.expect("the stage is set");
        let address = stage.server.strip_prefix("http://").expect("plain http on loopback").to_owned();
        assert!(tokio::net::TcpStream::connect(&address).await.is_ok());
        assert!(stage.home().join("config.toml").is_file());
        assert!(stage.grants().is_empty());
        let folders = [stage.folder.path().to_owned(), stage.cluster.folder().to_owned()];
        assert_eq!(stage.strike().await.expect("struck in order"), 0);
        assert!(tokio::net::TcpStream::connect(&address).await.is_err());
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
