//! `dbgate serve`: broker and gateway, until they are told to stop.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::exit::{Exit, Failure};
use crate::server::config::{Config, ConfigError};
use crate::server::http::refusal::chain;
use crate::server::prepare;
use crate::server::run::{self, StartError};

/// Serve the broker's API and the PostgreSQL gateway
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// Read configuration and policies, list every problem, and stop
    #[arg(long)]
    pub check: bool,
}

/// Serves until SIGTERM or SIGINT; a second signal ends the process at once. SIGHUP has the
/// policies read anew.
pub async fn run(arguments: &ServeArguments, no_color: bool) -> Result<Exit, Failure> {
    let config = load(&arguments.config)?;
    if arguments.check {
        prepare::targets(&config).map_err(|error| failure(&error, &arguments.config))?;
        eprintln!("{}: no problem found", arguments.config.display());
        return Ok(Exit::Ok);
    }
    log_to_stderr(no_color);
    let signals = |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("no signals: {error}")));
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    let mut hangup = signals(SignalKind::hangup())?;
    let running = run::start(config).await.map_err(|error| failure(&error, &arguments.config))?;
    let mut signalled = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    loop {
        tokio::select! {
            () = signalled() => break,
            _ = hangup.recv() => running.reload(),
        }
    }
    tracing::info!("stopping: sessions end, their roles are dropped");
    tokio::select! {
        () = running.stop() => Ok(Exit::Ok),
        () = signalled() => Ok(Exit::Interrupted),
    }
}

/// The program's own log. `DBGATE_LOG` sets how much, as in `debug` or `info,dbgate::server=debug`.
fn log_to_stderr(no_color: bool) {
    // Drivers repeat at `info` what databases send them: that is not for this log.
    let filter = EnvFilter::try_from_env("DBGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info,tokio_postgres=warn"));
    let is_coloured = !no_color && std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_coloured);
    // A log that is set up already stays as it is.
    let _ = log.try_init();
}

/// Reads `server.toml`, or tells everything that is wrong with it.
pub fn load(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|error| misconfigured(&error, file))
}

fn misconfigured(error: &ConfigError, file: &Path) -> Failure {
    let hint = format!("Correct them, then run: dbgate serve --check --config {}", file.display());
    Failure::new(Exit::Config, error.to_string()).hint(hint)
}

fn failure(error: &StartError, file: &Path) -> Failure {
    match error {
        StartError::Config(error) => misconfigured(error, file),
        StartError::Password { target, .. } => Failure::new(Exit::Config, chain(error))
            .hint(format!("Run: dbgate target init {target} --config {}", file.display())),
        StartError::Certificate(_) | StartError::File(_) | StartError::Key(_) | StartError::Notify(_) => {
            Failure::new(Exit::Config, chain(error)).hint("Secret files must belong to this user and have mode 0600.")
        }
        StartError::Target(_) | StartError::Identity(_) => Failure::new(Exit::Config, chain(error))
            .hint(format!("Correct it, then run: dbgate serve --check --config {}", file.display())),
        StartError::Store(_) | StartError::Log(_) => Failure::new(Exit::Failed, chain(error))
            .hint("Nothing was started: what cannot be recorded does not run. Is another `dbgate serve` using data_dir, or the disk full?"),
        StartError::Listen { .. } => {
            Failure::new(Exit::Failed, chain(error)).hint("Another program may use the port. See: ss -ltnp")
        }
    }
}
