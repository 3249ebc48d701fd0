//! `dbgate serve`: broker and gateway, until they are told to stop.

use std::io::{ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::exit::{Exit, Failure};
use crate::server::audit::LogError;
use crate::server::certificates::CertificateError;
use crate::server::config::{Config, ConfigError};
use crate::server::http::refusal::chain;
use crate::server::notify::NotifyError;
use crate::server::prepare;
use crate::server::run::{self, StartError};
use crate::server::store::StoreError;
use crate::sys::files::FileError;

/// Serve the broker's API and the PostgreSQL gateway
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// Read the configuration and all files it names, list every problem, and stop
    #[arg(long)]
    pub check: bool,
}

/// Serves until SIGTERM or SIGINT; a second signal ends the process at once. SIGHUP has the
/// policies read anew.
pub async fn run(arguments: &ServeArguments, no_color: bool) -> Result<Exit, Failure> {
    if arguments.check {
        return check(&arguments.config);
    }
    let config = load(&arguments.config)?;
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

/// Says everything that is wrong with a configuration and with the files that it names. It reads what
/// a start reads, and writes, binds and connects to nothing.
fn check(file: &Path) -> Result<Exit, Failure> {
    let (config, problems) = Config::examine(file);
    let mut found: Vec<StartError> = Vec::new();
    if !problems.is_empty() {
        found.push(ConfigError(problems).into());
    }
    found.extend(config.map(prepare::examine).unwrap_or_default());
    if found.is_empty() {
        eprintln!("{}: no problem found", file.display());
        return Ok(Exit::Ok);
    }
    Err(failure(&StartError::Several(found), file))
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
    Failure::new(Exit::Config, error.to_string()).hint(corrected(file))
}

fn corrected(file: &Path) -> String {
    format!("Correct it, then run: dbgate serve --check --config {}", file.display())
}

/// Everything that stands in the way of a start, each line once, with what helps in each case.
fn failure(error: &StartError, file: &Path) -> Failure {
    let problems = match error {
        StartError::Several(problems) => problems.as_slice(),
        one => std::slice::from_ref(one),
    };
    if let [one] = problems {
        let (exit, usual) = class(one, file);
        return Failure::new(exit, chain(one)).hint(step(one, file).unwrap_or(usual));
    }
    let mut lines: Vec<String> = Vec::new();
    for problem in problems {
        let told = format!("{}\n{}", chain(problem), step(problem, file).unwrap_or_default());
        for line in told.lines().filter(|line| !line.is_empty()) {
            // Two targets may share a policy, and with it a mistake.
            if !lines.iter().any(|known| known == line) {
                lines.push(line.to_owned());
            }
        }
    }
    Failure::new(Exit::Config, lines.join("\n")).hint(corrected(file))
}

/// The exit code, and what helps where nothing more exact is known.
fn class(error: &StartError, file: &Path) -> (Exit, String) {
    match error {
        StartError::Config(_)
        | StartError::Certificate(_)
        | StartError::File(_)
        | StartError::Key(_)
        | StartError::Password { .. }
        | StartError::Target(_)
        | StartError::Identity(_)
        | StartError::Notify(_)
        | StartError::ClientSecret(_)
        | StartError::Several(_) => (Exit::Config, corrected(file)),
        StartError::Store(_) | StartError::Log(_) => {
            (Exit::Failed, "Nothing was started: what cannot be recorded does not run.".to_owned())
        }
        StartError::Listen { .. } => (Exit::Failed, "Correct the address, or the machine's network.".to_owned()),
    }
}

/// What helps against this very error; nothing where its own words say so.
fn step(error: &StartError, file: &Path) -> Option<String> {
    match error {
        StartError::Password { target, source: FileError::Missing { .. } } => {
            Some(format!("Run: dbgate target init {target} --config {}", file.display()))
        }
        StartError::Password { source, .. }
        | StartError::ClientSecret(source)
        | StartError::File(source)
        | StartError::Certificate(CertificateError::File(source) | CertificateError::Key(source))
        | StartError::Notify(NotifyError::File(source)) => reachable(source),
        StartError::Certificate(CertificateError::OtherKey { .. }) => {
            Some("Name a certificate and its own key in `tls_cert_file` and `tls_key_file`.".to_owned())
        }
        StartError::Key(_) => Some("Bring it back from a copy. It is never made anew.".to_owned()),
        StartError::Log(LogError::File(FileError::Failed { action: "lock", .. })) => {
            Some("Another `dbgate serve` uses this `data_dir`: only one process can.".to_owned())
        }
        StartError::Log(LogError::File(source)) | StartError::Store(StoreError::File(source)) => reachable(source),
        StartError::Store(error) if error.is_disk() => Some("Nothing was started. Is the disk full?".to_owned()),
        StartError::Store(StoreError::Migrate(_)) => {
            Some("Nothing was started. Run the version of dbgate that wrote it, or a newer one.".to_owned())
        }
        StartError::Listen { source, .. } => match source.kind() {
            ErrorKind::AddrInUse => Some("Another program uses the port. See: ss -ltnp".to_owned()),
            ErrorKind::AddrNotAvailable => Some("No interface of this machine has that address.".to_owned()),
            ErrorKind::PermissionDenied => {
                Some("Ports below 1024 take a right of their own: use a higher one.".to_owned())
            }
            _ => None,
        },
        StartError::Config(_)
        | StartError::Certificate(_)
        | StartError::Target(_)
        | StartError::Identity(_)
        | StartError::Notify(_)
        | StartError::Store(_)
        | StartError::Log(_)
        | StartError::Several(_) => None,
    }
}

/// What helps where the system refuses a file; what is wrong with its mode says so itself.
fn reachable(error: &FileError) -> Option<String> {
    match error {
        FileError::Failed { action: "read" | "look at", .. } => {
            Some("The user of `dbgate serve` must be able to read it. See: namei -l FILE".to_owned())
        }
        FileError::Failed { .. } => Some("The user of `dbgate serve` must be able to write there.".to_owned()),
        FileError::Missing { .. }
        | FileError::TooOpen { .. }
        | FileError::TooLarge { .. }
        | FileError::FolderWritable { .. }
        | FileError::FolderReadable { .. }
        | FileError::FolderOfAnother { .. } => None,
    }
}
