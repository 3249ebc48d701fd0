//! The databases behind the gateway: where each one is, and the connection that manages it.
//!
//! TLS with verified name and chain unless the target is on this machine or the operator wrote
//! `insecure = true`: whoever can pose as the target would get the broker's password.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::core::mask::net::Net;
use crate::core::secret::Secret;
use crate::server::seats;
use crate::sys::tls;

/// How long a target may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// One `[[target]]` of the server's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    pub name: String,
    /// As in `production`; policies see it.
    pub environment: String,
    /// `host=… port=… dbname=… sslmode=verify-full|disable sslrootcert=…`
    pub dsn: String,
    pub admin: AdminConfig,
    /// Allows a connection without TLS to another machine.
    #[serde(default)]
    pub insecure: bool,
    /// Where relative paths in `dsn` start: the folder of the file it stands in.
    #[serde(skip)]
    pub folder: PathBuf,
    /// Owners of tables whose rights are lent to a definition that people have approved.
    #[serde(default)]
    pub lend: Vec<String>,
    /// The longest that such a definition may run.
    #[serde(skip, default = "usual_lending")]
    pub lend_for: Duration,
    /// What is done with values that look sensitive in columns that nobody has classified.
    #[serde(default)]
    pub content_scan: Net,
    /// How many sessions one principal may have here at a time.
    #[serde(default = "usual_sessions")]
    pub max_sessions: NonZeroU32,
    /// How many of the target's connections are left to who does not come through here.
    #[serde(default)]
    pub reserve_connections: Option<u32>,
}

const fn usual_sessions() -> NonZeroU32 {
    seats::USUAL
}

/// An hour: for building most indexes, and no evening.
pub const fn usual_lending() -> Duration {
    Duration::from_secs(60 * 60)
}

/// How the server itself signs in: as a role with CREATEROLE, not as a superuser.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    pub user: String,
    /// A file with nothing but the password; none where the target asks for none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Why a target cannot be used. Names the target and its address, since several may be behind one gate.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("target `{target}`: {message}")]
    Config { target: String, message: String },
    #[error("target `{target}`: cannot read the password file {path}")]
    PasswordFile { target: String, path: String, source: std::io::Error },
    #[error("gate is up, but {target} ({address}) refuses connections")]
    Refused { target: String, address: String },
    #[error("gate is up, but {target} ({address}) cannot be reached: {}", cause(error))]
    Unreachable { target: String, address: String, error: tokio_postgres::Error },
    #[error("gate is up, but {target} ({address}) does not answer within {} s", DEADLINE.as_secs())]
    Deadline { target: String, address: String },
    #[error("{target} ({address}) does not offer TLS, or its certificate is not trusted: {}", cause(error))]
    Tls { target: String, address: String, error: tokio_postgres::Error },
    #[error("{target} ({address}) is a standby, where no role can be made; let `dsn` name the primary")]
    Standby { target: String, address: String },
    #[error("{target} ({address}) has no connection left")]
    Full { target: String, address: String },
    #[error("{target} ({address}) has no database `{database}`")]
    NoDatabase { target: String, address: String, database: String },
    #[error("{target} ({address}) does not let `{user}` in: {message}")]
    SignIn { target: String, address: String, user: String, message: String, code: SqlState },
}

impl TargetError {
    /// Whether it stays so until an operator changes something: a password, a certificate, a right.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Config { .. } | Self::PasswordFile { .. } | Self::NoDatabase { .. } => true,
            // A wrong password, a line of pg_hba.conf, a right to connect. While it starts, a server refuses as well.
            Self::SignIn { code, .. } => code.code().starts_with("28") || *code == SqlState::INSUFFICIENT_PRIVILEGE,
            // A connection that broke in the middle says nothing of certificates.
            Self::Tls { error, .. } => !tls::is_broken_off(error),
            Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Deadline { .. }
            | Self::Standby { .. }
            | Self::Full { .. } => false,
        }
    }
}

/// A target that is configured safely. Nothing is connected yet.
pub struct Target {
    config: TargetConfig,
    host: String,
    port: u16,
    database: String,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// How a connection with rights of the server's own begins, whatever a database or a role is set to. What its
/// texts call is PostgreSQL's: in any other schema somebody may have put a function or an operator of the same
/// name that fits better, and would run with those rights. And literals end where they seem to.
pub const SAFE: &str = "set search_path = pg_catalog, pg_temp; set standard_conforming_strings = on";

impl Target {
    /// Checks the configuration and loads certificates.
    pub fn new(config: TargetConfig) -> Result<Self, TargetError> {
        let wrong = |message: String| TargetError::Config { target: config.name.clone(), message };
        let settings = settings(&config.dsn).map_err(wrong)?;
        let setting = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let host = setting("host").ok_or_else(|| wrong("`dsn` has no host".to_owned()))?;
        let database = setting("dbname").ok_or_else(|| wrong("`dsn` has no dbname".to_owned()))?;
        let port = match setting("port") {
            None => 5432,
            Some(text) => text.parse().map_err(|_| wrong(format!("`{text}` is not a port")))?,
        };
        let tls = match setting("sslmode").as_deref() {
            Some("disable") if is_local(&host) || config.insecure => None,
            Some("disable") => {
                let message =
                    format!("sslmode=disable to {host}, which is not this machine; set insecure = true to allow it");
                return Err(wrong(message));
            }
            None | Some("verify-full") if host.starts_with('/') => {
                return Err(wrong("a socket has no TLS: write sslmode=disable".to_owned()));
            }
            None | Some("verify-full") => {
                let root = setting("sslrootcert").map(|file| config.folder.join(file));
                Some(trusted(root.as_deref()).map_err(wrong)?)
            }
            Some(other) => return Err(wrong(format!("sslmode={other}: only verify-full and disable are supported"))),
        };
        Ok(Self { host, port, database, tls, config })
    }

    /// As it was configured.
    pub fn config(&self) -> &TargetConfig {
        &self.config
    }

    /// The database of the target's `dsn`.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Name or address of the machine; a directory where it is a socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// How to speak TLS to it; none where it goes in clear text.
    pub fn tls(&self) -> Option<&Arc<rustls::ClientConfig>> {
        self.tls.as_ref()
    }

    /// Whether what goes to another machine goes in clear text.
    pub fn is_in_clear(&self) -> bool {
        self.tls.is_none() && !is_local(&self.host)
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// A connection with the server's own rights. It ends when the client is dropped.
    pub async fn admin(&self, database: &str) -> Result<Client, TargetError> {
        let mut options = tokio_postgres::Config::new();
        options.host(&self.host).port(self.port).dbname(database).user(&self.config.admin.user);
        options.application_name("dbgate").connect_timeout(DEADLINE);
        if let Some(password) = self.password()? {
            options.password(password.expose());
        }
        let connecting = async {
            match &self.tls {
                None => {
                    options.ssl_mode(tokio_postgres::config::SslMode::Disable);
                    let (client, connection) = options.connect(NoTls).await?;
                    Ok((client, run(connection)))
                }
                Some(tls) => {
                    options.ssl_mode(tokio_postgres::config::SslMode::Require);
                    let (client, connection) = options.connect(MakeRustlsConnect::new(tls.as_ref().clone())).await?;
                    Ok((client, run(connection)))
                }
            }
        };
        match tokio::time::timeout(DEADLINE, connecting).await {
            Ok(Ok((_, Kind::Standby))) => {
                Err(TargetError::Standby { target: self.config.name.clone(), address: self.address() })
            }
            Ok(Ok((client, Kind::Primary))) => {
                client.batch_execute(SAFE).await.map_err(|error| self.explain(error, database))?;
                Ok(client)
            }
            Ok(Err(error)) => Err(self.explain(error, database)),
            Err(_) => Err(TargetError::Deadline { target: self.config.name.clone(), address: self.address() }),
        }
    }

    /// Read at every connection, so that a changed password needs no restart.
    fn password(&self) -> Result<Option<Secret>, TargetError> {
        let Some(path) = &self.config.admin.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|source| TargetError::PasswordFile {
            target: self.config.name.clone(),
            path: path.display().to_string(),
            source,
        })?;
        Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
    }

    fn explain(&self, error: tokio_postgres::Error, database: &str) -> TargetError {
        let (target, address) = (self.config.name.clone(), self.address());
        if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) {
            return TargetError::Full { target, address };
        }
        if error.code() == Some(&SqlState::UNDEFINED_DATABASE) {
            return TargetError::NoDatabase { target, address, database: database.to_owned() };
        }
        if let Some(detail) = error.as_db_error() {
            let (user, message) = (self.config.admin.user.clone(), detail.message().to_owned());
            return TargetError::SignIn { target, address, user, message, code: detail.code().clone() };
        }
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<std::io::Error>() {
                if io.kind() == std::io::ErrorKind::ConnectionRefused {
                    return TargetError::Refused { target, address };
                }
                if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                    return TargetError::Tls { target, address, error };
                }
            }
            cause = inner.source();
        }
        // The driver's own words: it has no kind to match on for a server without TLS.
        if error.to_string().contains("TLS") {
            return TargetError::Tls { target, address, error };
        }
        TargetError::Unreachable { target, address, error }
    }
}

/// What a server said it is when it was dialled.
enum Kind {
    Primary,
    Standby,
}

/// Lets a connection run by itself. Every server since 14 says by itself whether it is in recovery.
fn run<S, T>(connection: tokio_postgres::Connection<S, T>) -> Kind
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_standby = connection.parameter("in_hot_standby") == Some("on");
    tokio::spawn(connection);
    if is_standby { Kind::Standby } else { Kind::Primary }
}

/// The innermost reason: the driver's own text only says at which step it failed.
fn cause(error: &tokio_postgres::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    match tls::advice(error) {
        Some(advice) => format!("{inner} ({advice})"),
        None => inner.to_string(),
    }
}

fn trusted(root: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, String> {
    let named =
        root.map_or_else(|| "the machine's certificates".to_owned(), |file| format!("sslrootcert {}", file.display()));
    let pem = match root {
        None => None,
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| format!("{named}: {error}"))?),
    };
    tls::client(pem.as_deref()).map_err(|error| format!("{named}: {error}"))
}

fn is_local(host: &str) -> bool {
    host.starts_with('/') || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads `key=value` pairs as libpq does: values may stand in single quotes, backslash escapes.
fn settings(dsn: &str) -> Result<Vec<(String, String)>, String> {
    const KNOWN: [&str; 5] = ["host", "port", "dbname", "sslmode", "sslrootcert"];
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut rest = dsn.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| format!("`dsn`: `{rest}` is not key=value"))?;
        let key = key.trim();
        if !KNOWN.contains(&key) {
            return Err(format!("`dsn`: unknown key `{key}`: one of {}", KNOWN.join(", ")));
        }
        if settings.iter().any(|(known, _)| known == key) {
            return Err(format!("`dsn`: `{key}` stands there twice"));
        }
        let (value, left) = value(after.trim_start())?;
        settings.push((key.to_owned(), value));
        rest = left.trim_start();
    }
    Ok(settings)
}

fn value(text: &str) -> Result<(String, &str), String> {
    let (quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let (mut value, mut letters) = (String::new(), body.char_indices());
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, body.get(at + 1..).unwrap_or(""))),
            space if space.is_whitespace() && !quoted => return Ok((value, body.get(at..).unwrap_or(""))),
            other => value.push(other),
        }
    }
    if quoted { Err("`dsn`: a quote is not closed".to_owned()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(dsn: &str, insecure: bool) -> Result<Target, TargetError> {
        Target::new(TargetConfig {
            name: "prod".into(),
            environment: "production".into(),
            dsn: dsn.into(),
            admin: AdminConfig { user: "dbgate_broker".into(), password_file: None },
            insecure,
            folder: PathBuf::new(),
            lend: Vec::new(),
            lend_for: usual_lending(),
            content_scan: Net::Off,
            max_sessions: usual_sessions(),
            reserve_connections: None,
        })
    }

    #[test]
    fn without_tls_only_this_machine_or_an_explicit_word_will_do() {
        let cases = [
            ("host=127.0.0.1 dbname=shop sslmode=disable", false, true),
            ("host=localhost dbname=shop sslmode=disable", false, true),
            ("host=/run/postgresql dbname=shop sslmode=disable", false, true),
            ("host=10.0.3.4 dbname=shop sslmode=disable", false, false),
            ("host=localhost.evil.example dbname=shop sslmode=disable", false, false),
            ("host=10.0.3.4 dbname=shop sslmode=disable", true, true),
            ("host=10.0.3.4 dbname=shop sslmode=require", true, false),
            ("host=10.0.3.4 dbname=shop sslmode=prefer", false, false),
        ];
        for (dsn, insecure, expected) in cases {
            assert_eq!(target(dsn, insecure).is_ok(), expected, "{dsn}");
        }
    }

    #[test]
    fn a_dsn_is_read_as_libpq_reads_it_and_unknown_keys_are_errors() {
        let read = settings("host = 'a b' port=1 dbname=it\\'s").expect("well formed");
        let pairs: Vec<_> = read.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        assert_eq!(pairs, ["host:a b", "port:1", "dbname:it's"]);
        for wrong in ["host", "host='a", "hots=a", "host=a host=b", "host=a password=x"] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }

    /// Answers an SSLRequest as a target would, then shows `identity`'s certificate, if there is one.
    async fn pose_as_target(identity: Option<(String, String)>) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0u8; 8];
                stream.read_exact(&mut request).await.expect("an SSLRequest");
                let answer = if identity.is_some() { b"S" } else { b"N" };
                stream.write_all(answer).await.expect("answered");
                if let Some((chain, key)) = &identity {
                    let server = tls::server(chain, key, &[]).expect("a certificate");
                    // The client hangs up in the middle: that is the point.
                    let _ = tokio_rustls::TlsAcceptor::from(server).accept(stream).await;
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn a_certificate_of_another_authority_or_name_is_refused() {
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let (ours, other) = (made("localhost"), made("elsewhere.example"));
        let mut is_ca = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        is_ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let signing_key = rcgen::KeyPair::generate().expect("a key");
        let authority = rcgen::CertifiedKey { cert: is_ca.self_signed(&signing_key).expect("made"), signing_key };
        let folder = std::env::temp_dir().join(format!("dbgate-targets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let root = folder.join("root.pem");
        for (trusted, shown, advice) in [
            (&made("localhost"), &ours, "No authority that is trusted here"),
            (&other, &other, "for another host name"),
            (&authority, &authority, "CA:TRUE"),
        ] {
            std::fs::write(&root, trusted.cert.pem()).expect("written");
            let port = pose_as_target(Some((shown.cert.pem(), shown.signing_key.serialize_pem()))).await;
            let dsn = format!("host=localhost port={port} dbname=shop sslrootcert={}", root.display());
            let refused =
                target(&dsn, false).expect("configured").admin("shop").await.expect_err("a wrong certificate");
            assert!(matches!(refused, TargetError::Tls { .. }), "{refused}");
            assert!(refused.to_string().contains(advice), "{refused}");
        }
        // Nor does it go on in clear text where the server says that it has no TLS.
        let port = pose_as_target(None).await;
        let dsn = format!("host=localhost port={port} dbname=shop sslrootcert={}", root.display());
        let refused = target(&dsn, true).expect("configured").admin("shop").await.expect_err("no TLS");
        assert!(matches!(refused, TargetError::Tls { .. }), "{refused}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[tokio::test]
    async fn a_target_that_is_down_is_named_with_its_address() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("bound").port()
        };
        let dsn = format!("host=127.0.0.1 port={port} dbname=shop sslmode=disable");
        let refused = target(&dsn, false).expect("configured").admin("shop").await.expect_err("nobody listens");
        let message = format!("gate is up, but prod (127.0.0.1:{port}) refuses connections");
        assert_eq!(refused.to_string(), message);
    }

    #[test]
    fn unknown_members_of_a_target_are_errors() {
        let text = "name='p'\nenvironment='e'\ndsn='host=a dbname=b'\nadmin={user='u'}\n";
        assert!(toml::from_str::<TargetConfig>(text).is_ok());
        assert!(toml::from_str::<TargetConfig>(&format!("{text}insecur=true")).is_err());
    }
}
