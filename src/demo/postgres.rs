//! A real PostgreSQL server of our own: found on the machine, started on a free loopback port in a
//! temporary folder, under an account that is not root, gone when we are.
//!
//! Durability is switched off: nothing in it is worth keeping. Nothing outside this machine can
//! reach it, and even on the machine every login needs a password that is never written down.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::core::encoding;
use crate::core::secret::Secret;
use crate::demo::guardian::{Account, Folder, Guarded};
use crate::sys::random;

/// How long the server may take to accept connections; usually a fifth of a second.
const START_LIMIT: Duration = Duration::from_secs(30);
/// A free port can be taken by another program before the server binds it.
const PORT_ATTEMPTS: u32 = 5;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    #[error("no PostgreSQL server (`initdb` and `postgres`) was found on this machine")]
    NotInstalled,
    #[error("DBGATE_POSTGRES_BIN names `{}`, where there is no `initdb` and `postgres`", .0.display())]
    NotThere(PathBuf),
    #[error("PostgreSQL refuses to run as root, and there is neither a `postgres` nor a `nobody` account to run it as")]
    NoAccount,
    #[error("cannot use the temporary folder")]
    Folder(#[source] std::io::Error),
    #[error("cannot run `{}`", program.display())]
    Run { program: PathBuf, source: std::io::Error },
    #[error("`initdb` failed:\n{0}")]
    Initdb(String),
    #[error("PostgreSQL did not start:\n{0}")]
    Start(String),
}

impl PostgresError {
    /// The exact line that helps on this machine, where one does.
    pub fn hint(&self) -> Option<&'static str> {
        if !matches!(self, Self::NotInstalled) {
            return None;
        }
        let have = |program: &str| search_path().any(|folder| folder.join(program).is_file());
        Some(if have("apt-get") {
            "Run: sudo apt-get install postgresql"
        } else if have("dnf") {
            "Run: sudo dnf install postgresql-server"
        } else if have("brew") {
            "Run: brew install postgresql@17"
        } else {
            "Install the PostgreSQL server (14 or later) and put its `bin` folder on PATH, or name it in DBGATE_POSTGRES_BIN"
        })
    }
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// Server programs found on this machine.
#[derive(Clone, Debug)]
pub struct Installation {
    folder: PathBuf,
}

impl Installation {
    /// Looks where it was told (`DBGATE_POSTGRES_BIN`), on PATH, where `pg_config` points, and
    /// where Debian, Red Hat, Homebrew and Postgres.app put it; the newest version wins.
    ///
    /// # Errors
    /// [`PostgresError::NotInstalled`] when there is none.
    pub fn find() -> Result<Self, PostgresError> {
        let complete = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
        // Who names a folder means that one: another version found elsewhere would be a surprise.
        if let Some(told) = std::env::var_os("DBGATE_POSTGRES_BIN").map(PathBuf::from) {
            return Self::at(told);
        }
        let asked = || {
            let output = Command::new("pg_config").arg("--bindir").output().ok()?;
            Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
        };
        let places = search_path().chain(asked()).chain(usual_places());
        places.into_iter().find(complete).map(|folder| Self { folder }).ok_or(PostgresError::NotInstalled)
    }

    /// The programs in one folder.
    ///
    /// # Errors
    /// [`PostgresError::NotThere`] when they are not.
    pub fn at(folder: PathBuf) -> Result<Self, PostgresError> {
        let complete = folder.join("initdb").is_file() && folder.join("postgres").is_file();
        if complete { Ok(Self { folder }) } else { Err(PostgresError::NotThere(folder)) }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// `/usr/lib/postgresql/17/bin` and its likes, the newest version first.
fn usual_places() -> Vec<PathBuf> {
    let with_versions = [
        ("/usr/lib/postgresql", "bin"),
        ("/usr", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "bin"),
    ];
    let mut places = Vec::new();
    for (parent, inner) in with_versions {
        let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let digits = name.trim_start_matches("pgsql-").trim_start_matches("postgresql@");
                Some((digits.parse().ok()?, entry.path().join(inner)))
            })
            .collect();
        versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        places.extend(versions.into_iter().map(|(_, path)| path));
    }
    places
}

/// What a server is started with beyond the usual.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `name`, `value` as on the command line (`-c name=value`).
    pub parameters: Vec<(String, String)>,
    /// Lines put in front of the usual `pg_hba.conf`, which asks everybody for a SCRAM password.
    pub hba: Vec<String>,
    /// Files made in the server's folder before the start, readable by it alone: `(name, content)`.
    pub files: Vec<(String, Secret)>,
}

/// A running server; dropping it stops it and removes all that was its own.
#[derive(Debug)]
pub struct Cluster {
    guarded: Guarded,
    port: u16,
    password: Secret,
}

impl Cluster {
    /// Makes and starts a server. Blocks for about a second.
    ///
    /// # Errors
    /// When there is no account to run it as, or the server's own programs fail.
    pub fn start(installation: &Installation, purpose: &str, settings: &Settings) -> Result<Self, PostgresError> {
        let password = Secret::new(encoding::hex(&random::bytes::<24>()));
        let mut last = PostgresError::NotInstalled;
        for _ in 0..PORT_ATTEMPTS {
            let folder = prepare(installation, purpose, &password, settings)?;
            let port = free_port().map_err(PostgresError::Folder)?;
            let command = server_command(installation, folder.path(), port, settings);
            let guarded = folder.guard(&command).map_err(PostgresError::Folder)?;
            match wait_until_ready(&guarded) {
                Ok(()) => return Ok(Self { guarded, port, password }),
                Err(error) if guarded.log().contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Always loopback.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The password of the superuser `postgres`.
    pub fn password(&self) -> &Secret {
        &self.password
    }

    /// Where it lives, until it is dropped.
    pub fn folder(&self) -> &Path {
        self.guarded.path()
    }

    /// How `tokio_postgres` connects as the superuser.
    pub fn superuser(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host(self.host()).port(self.port).user("postgres").password(self.password.expose()).dbname(database);
        config
    }
}

/// `initdb` in a folder of the right owner, and the files the server will read.
fn prepare(
    installation: &Installation,
    purpose: &str,
    password: &Secret,
    settings: &Settings,
) -> Result<Folder, PostgresError> {
    let mut folder = Folder::create(purpose).map_err(PostgresError::Folder)?;
    let account = match folder.is_roots().map_err(PostgresError::Folder)? {
        true => Some(unprivileged_account()?),
        false => None,
    };
    let initialised = fill(installation, &mut folder, account, password, settings);
    if initialised.is_err() {
        // Nothing guards it yet.
        let _ = std::fs::remove_dir_all(folder.path());
    }
    initialised.map(|()| folder)
}

fn fill(
    installation: &Installation,
    folder: &mut Folder,
    account: Option<Account>,
    password: &Secret,
    settings: &Settings,
) -> Result<(), PostgresError> {
    let password_file = folder.path().join("password");
    write_private(&password_file, password.expose(), account)?;
    for (name, content) in &settings.files {
        write_private(&folder.path().join(name), content.expose(), account)?;
    }
    if let Some(account) = account {
        folder.give_to(account).map_err(PostgresError::Folder)?;
    }
    let program = installation.program("initdb");
    let mut command = folder.command(&program);
    command.args(["--pgdata", "data", "--username", "postgres", "--auth", "scram-sha-256", "--pwfile", "password"]);
    command.args(["--encoding", "UTF8", "--no-locale", "--no-sync"]);
    let output = command.output().map_err(|source| PostgresError::Run { program, source })?;
    if !output.status.success() {
        return Err(PostgresError::Initdb(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    std::fs::remove_file(&password_file).map_err(PostgresError::Folder)?;
    let hba = folder.path().join("data/pg_hba.conf");
    let usual = std::fs::read_to_string(&hba).map_err(PostgresError::Folder)?;
    // Overwritten in place, so that its owner and mode stay.
    let lines = settings.hba.iter().map(String::as_str).chain([usual.as_str()]).collect::<Vec<_>>().join("\n");
    std::fs::write(&hba, lines).map_err(PostgresError::Folder)
}

/// 0600, and the server's own: PostgreSQL refuses a key file of another owner.
fn write_private(path: &Path, content: &str, account: Option<Account>) -> Result<(), PostgresError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content.as_bytes())?;
        match account {
            Some(account) => std::os::unix::fs::chown(path, Some(account.user), Some(account.group)),
            None => Ok(()),
        }
    };
    write().map_err(PostgresError::Folder)
}

/// `postgres` where the package made it, else `nobody`.
fn unprivileged_account() -> Result<Account, PostgresError> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(name);
            let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            is_it.then_some(Account { user, group })
        })
    };
    find("postgres").or_else(|| find("nobody")).filter(|account| account.user != 0).ok_or(PostgresError::NoAccount)
}

/// A port that is free now. The listener is closed before the server binds it.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn server_command(installation: &Installation, folder: &Path, port: u16, settings: &Settings) -> Vec<String> {
    let mut command = vec![
        installation.program("postgres").to_string_lossy().into_owned(),
        "-D".to_owned(),
        folder.join("data").to_string_lossy().into_owned(),
    ];
    let port = port.to_string();
    let socket = folder.to_string_lossy();
    let usual = [
        ("listen_addresses", "127.0.0.1"),
        ("port", port.as_str()),
        // The folder is private to the server's own account, and a password is asked for all the same.
        ("unix_socket_directories", socket.as_ref()),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("autovacuum_naptime", "10s"),
    ];
    let extra = settings.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in usual.into_iter().chain(extra) {
        command.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    command
}

/// The last line of `postmaster.pid` says `ready` once connections are accepted.
fn wait_until_ready(guarded: &Guarded) -> Result<(), PostgresError> {
    let status = guarded.path().join("data/postmaster.pid");
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        if text.lines().any(|line| line.trim() == "ready") {
            return Ok(());
        }
        let log = guarded.log();
        // The server removes its status file when it gives up; FATAL is its last word before that.
        if log.contains("FATAL:") || began.elapsed() > START_LIMIT {
            return Err(PostgresError::Start(log));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_answers_asks_for_a_password_and_leaves_nothing() {
        let installation = Installation::find().expect("PostgreSQL is installed for the tests");
        let cluster = Cluster::start(&installation, "test", &Settings::default()).expect("it starts");
        let (client, connection) =
            cluster.superuser("postgres").connect(tokio_postgres::NoTls).await.expect("the superuser gets in");
        let connection = tokio::spawn(connection);
        let row = client.query_one("select current_user::text", &[]).await.expect("it answers");
        assert_eq!(row.get::<_, String>(0), "postgres");
        drop(client);
        connection.await.expect("joined").expect("closed in order");
        let mut other = cluster.superuser("postgres");
        other.password("wrong");
        assert!(other.connect(tokio_postgres::NoTls).await.is_err());
        let (folder, port) = (cluster.folder().to_owned(), cluster.port());
        drop(cluster);
        assert!(!folder.exists());
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    }
}
