//! A target as `server.toml` names it, for commands that run beside the gate rather than through it.

use std::path::{Path, PathBuf};

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cli::exit::{Exit, Failure};
use crate::cli::serve;
use crate::core::policy::Policy;
use crate::core::secret::Secret;
use crate::core::text;
use crate::server::config::{Config, TargetSection};
use crate::server::http::refusal::chain;
use crate::server::targets::{SAFE, Target, TargetError};
use crate::sys::{files, tls};

/// Which target, and how to get to it.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Target, as named in the configuration
    pub name: String,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// File with `user=… password=…` of a superuser (mode 0600); address and database are the target's
    #[arg(long, value_name = "FILE")]
    pub superuser_dsn_file: Option<PathBuf>,
}

/// A target with the configuration it stands in.
pub struct Configured {
    pub config: Config,
    pub section: TargetSection,
    pub target: Target,
}

impl Configured {
    /// Reads the configuration and finds the target in it.
    pub fn find(file: &Path, name: &str) -> Result<Self, Failure> {
        tls::install_provider();
        let config = serve::load(file)?;
        let section = config.targets.iter().find(|section| section.target.name == *name).cloned();
        let section = section.ok_or_else(|| {
            let known: Vec<_> = config.targets.iter().map(|section| section.target.name.as_str()).collect();
            Failure::new(Exit::Usage, format!("no target `{name}` in {}", file.display()))
                .hint(format!("There are: {}", known.join(", ")))
        })?;
        let target =
            Target::new(section.target.clone()).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
        Ok(Self { config, section, target })
    }

    /// The target's policy, or everything that is wrong with it.
    pub fn policy(&self) -> Result<Policy, Failure> {
        self.config.load_policy(&self.section).map_err(|error| Failure::new(Exit::Config, error.to_string()))
    }

    /// A connection to the target: the superuser's where a file is given, else the broker's own.
    pub async fn client(&self, superuser_file: Option<&Path>, purpose: &str) -> Result<Client, Failure> {
        match superuser_file {
            Some(file) => superuser(&self.target, file, purpose).await,
            None => {
                self.target.admin(self.target.database()).await.map_err(|error| {
                    Failure::new(Exit::Connection, chain(&error)).hint(step(&error, &self.config.file))
                })
            }
        }
    }
}

/// What helps where the broker's own role does not get in.
fn step(error: &TargetError, config: &Path) -> String {
    let init = |target: &str| {
        let config = config.display();
        format!("Prepare it with: dbgate target init {target} --apply --superuser-dsn-file FILE --config {config}")
    };
    match error {
        TargetError::SignIn { target, .. } if error.is_lasting() => init(target),
        TargetError::PasswordFile { target, source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            init(target)
        }
        TargetError::PasswordFile { .. } => "Whoever runs this must be able to read it.".to_owned(),
        TargetError::SignIn { .. } => "It may be starting or stopping. Try again in a moment.".to_owned(),
        TargetError::Refused { .. } => {
            "Is PostgreSQL running there? Check `host` and `port` in `dsn`, and its `listen_addresses`.".to_owned()
        }
        TargetError::Unreachable { .. } => "Check `host` in `dsn`, and the way there.".to_owned(),
        TargetError::Deadline { .. } => "Check `host` and `port` in `dsn`, and the firewalls on the way.".to_owned(),
        TargetError::Tls { .. } => {
            "Check `host` and `sslrootcert` in `dsn`: no password goes to a server that does not prove its name."
                .to_owned()
        }
        TargetError::Standby { .. } => "Correct `host` in `dsn`, or promote it.".to_owned(),
        TargetError::Full { .. } => {
            "Try again when other sessions have ended, or raise its `max_connections`.".to_owned()
        }
        TargetError::NoDatabase { .. } => "Correct `dbname` in `dsn`, or create the database.".to_owned(),
        TargetError::Config { .. } => "Correct `dsn`.".to_owned(),
    }
}

/// A superuser's connection: user and password from the file, TLS as for the target itself.
pub async fn superuser(target: &Target, file: &Path, purpose: &str) -> Result<Client, Failure> {
    let bytes = files::read_private(file).map_err(|error| Failure::new(Exit::Config, chain(&error)))?;
    let wrong = || Failure::new(Exit::Config, format!("{} is not of the form `user=… password=…`", file.display()));
    let dsn = String::from_utf8(bytes).map(Secret::new).map_err(|_| wrong())?;
    // The parser's own words could quote the password.
    let mut options: tokio_postgres::Config = dsn.expose().trim().parse().map_err(|_| wrong())?;
    if options.get_hosts().is_empty() && options.get_hostaddrs().is_empty() {
        options.host(target.host()).port(target.port());
    }
    options.dbname(target.database()).application_name(purpose);
    let connected = match target.tls() {
        None => {
            options.ssl_mode(SslMode::Disable);
            options.connect(NoTls).await.map(|(client, connection)| (client, tokio::spawn(connection)).0)
        }
        Some(tls) => {
            options.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(tls.as_ref().clone());
            options.connect(tls).await.map(|(client, connection)| (client, tokio::spawn(connection)).0)
        }
    };
    let client = connected.map_err(|error| rejected(target, &error))?;
    client.batch_execute(SAFE).await.map_err(|error| rejected(target, &error))?;
    Ok(client)
}

/// The target does not do what it was told.
pub fn rejected(target: &Target, error: &tokio_postgres::Error) -> Failure {
    let exit = if error.as_db_error().is_some() { Exit::Sql } else { Exit::Connection };
    let message = text::escape_keeping_lines(&chain(error));
    Failure::new(exit, format!("target `{}` ({}): {message}", target.config().name, target.address())).hint(
        match tls::advice(error) {
            Some(advice) => format!("Nothing was changed. {advice}."),
            None => "Nothing was changed.".to_owned(),
        },
    )
}
