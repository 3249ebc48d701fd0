//! `dbgate target init`: makes a database ready for the gateway, once and again.
//!
//! What is run is what is printed. No clear password is ever in SQL or in an argument: the
//! broker's is made here, kept in its file, and reaches the database as a SCRAM verifier.

use std::path::{Path, PathBuf};

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cli::exit::{Exit, Failure};
use crate::cli::serve;
use crate::core::role_sql::{self, PrepareTarget};
use crate::core::secret::Secret;
use crate::core::wire::scram;
use crate::core::{encoding, text};
use crate::server::http::refusal::chain;
use crate::server::targets::Target;
use crate::sys::{files, random, tls};

/// Prepare the databases behind the gateway
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArguments {
    #[command(subcommand)]
    pub command: TargetCommand,
}

/// What can be done with a target.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TargetCommand {
    /// Print the SQL that prepares a target; with --apply, run it
    #[command(
        after_help = "Examples:\n  dbgate target init prod\n  dbgate target init prod --apply --superuser-dsn-file /run/secrets/postgres"
    )]
    Init(InitArguments),
}

#[derive(Clone, Debug, clap::Args)]
pub struct InitArguments {
    /// Target, as named in the configuration
    pub name: String,
    /// Run the SQL instead of printing it; may be repeated, and covers what was added since
    #[arg(long, requires = "superuser_dsn_file")]
    pub apply: bool,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// File with `user=… password=…` of a superuser (mode 0600); address and database are the target's
    #[arg(long, value_name = "FILE")]
    pub superuser_dsn_file: Option<PathBuf>,
}

/// Prints or applies what a target needs.
pub async fn run(arguments: &TargetArguments) -> Result<Exit, Failure> {
    let TargetCommand::Init(arguments) = &arguments.command;
    init(arguments).await
}

async fn init(arguments: &InitArguments) -> Result<Exit, Failure> {
    tls::install_provider();
    let config = serve::load(&arguments.config)?;
    let name = &arguments.name;
    let section = config.targets.iter().find(|section| section.target.name == *name).ok_or_else(|| {
        let known: Vec<_> = config.targets.iter().map(|section| section.target.name.as_str()).collect();
        Failure::new(Exit::Usage, format!("no target `{name}` in {}", arguments.config.display()))
            .hint(format!("There are: {}", known.join(", ")))
    })?;
    let target = Target::new(section.target.clone()).map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let superuser = match &arguments.superuser_dsn_file {
        Some(file) => Some(connect(&target, file).await?),
        None => None,
    };
    let schemas = match &superuser {
        Some(client) => schemas(client).await.map_err(|error| rejected(&target, &error))?,
        None => known_schemas(&target).await,
    };
    let admin = &section.target.admin;
    let prepare = PrepareTarget { broker: &admin.user, database: target.database(), schemas: &schemas };
    let mut statements = role_sql::prepare_target(&prepare);
    if let Some(file) = &admin.password_file {
        statements.push(set_password(&admin.user, &broker_password(file)?));
    }
    let Some(client) = superuser.filter(|_| arguments.apply) else {
        for statement in &statements {
            println!("{statement};");
        }
        eprintln!("Nothing was changed. Run this as a superuser in database {}, or add:", target.database());
        eprintln!("  --apply --superuser-dsn-file FILE");
        return Ok(Exit::Ok);
    };
    apply(&client, &statements).await.map_err(|error| rejected(&target, &error))?;
    confirm(&target, &schemas).await
}

/// All or nothing: a target that is half prepared would be hard to understand.
async fn apply(client: &Client, statements: &[String]) -> Result<(), tokio_postgres::Error> {
    // Never in the server's statement log, whatever the operator has set: there is a verifier in it.
    let quiet = "set local log_statement = 'none'; set local log_min_duration_statement = -1; \
                 set local client_min_messages = warning";
    let script = format!("begin; {quiet}; {}; commit", statements.join("; "));
    match client.batch_execute(&script).await {
        Ok(()) => Ok(()),
        Err(error) => {
            client.batch_execute("rollback").await?;
            Err(error)
        }
    }
}

/// Shows that the broker gets in with what has been set.
async fn confirm(target: &Target, schemas: &[String]) -> Result<Exit, Failure> {
    let name = &target.config().name;
    target.admin(target.database()).await.map_err(|error| {
        Failure::new(Exit::Connection, format!("target `{name}` is prepared, but the broker cannot sign in: {error}"))
            .hint("Check pg_hba.conf: it must admit the broker and +dbgate_sessions with scram-sha-256.")
    })?;
    eprintln!("Target {name} is prepared: schemas {}.", schemas.join(", "));
    eprintln!("Next: dbgate serve");
    Ok(Exit::Ok)
}

/// The broker's password: the one in its file, or a new one that is put there.
fn broker_password(file: &Path) -> Result<Secret, Failure> {
    let failed = |error: files::FileError| Failure::new(Exit::Config, chain(&error));
    if !file.exists() {
        let password = Secret::new(encoding::base64url(&random::bytes::<32>()));
        files::write_private(file, password.expose().as_bytes()).map_err(failed)?;
        eprintln!("Made {} with a new password (mode 0600).", file.display());
    }
    let bytes = files::read_private(file).map_err(failed)?;
    let not_text = || Failure::new(Exit::Config, format!("{} does not hold text", file.display()));
    let password = String::from_utf8(bytes).map(Secret::new).map_err(|_| not_text())?;
    let password = Secret::new(password.expose().trim_end_matches(['\r', '\n']));
    match password.expose().is_empty() {
        true => Err(Failure::new(Exit::Config, format!("{} is empty", file.display()))
            .hint("Remove it, and a password is made.")),
        false => Ok(password),
    }
}

/// PostgreSQL takes a verifier as it is, so the password itself is in no statement and no log.
fn set_password(user: &str, password: &Secret) -> String {
    let verifier = scram::Verifier::derive(password, &random::bytes::<16>(), scram::ITERATIONS).to_string();
    format!("ALTER ROLE {} PASSWORD {}", role_sql::identifier(user), role_sql::literal(&verifier))
}

/// The schemas that may be handed out.
async fn schemas(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    Ok(client.query(role_sql::OWN_SCHEMAS, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The same as far as it can be known without a superuser: as the broker sees it, else `public`.
async fn known_schemas(target: &Target) -> Vec<String> {
    if let Ok(client) = target.admin(target.database()).await
        && let Ok(found) = schemas(&client).await
    {
        return found;
    }
    eprintln!("The target cannot be asked for its schemas yet; this covers schema public only.");
    vec!["public".to_owned()]
}

/// A superuser's connection: user and password from the file, TLS as for the target itself.
async fn connect(target: &Target, file: &Path) -> Result<Client, Failure> {
    let bytes = files::read_private(file).map_err(|error| Failure::new(Exit::Config, chain(&error)))?;
    let wrong = || Failure::new(Exit::Config, format!("{} is not of the form `user=… password=…`", file.display()));
    let dsn = String::from_utf8(bytes).map(Secret::new).map_err(|_| wrong())?;
    // The parser's own words could quote the password.
    let mut options: tokio_postgres::Config = dsn.expose().trim().parse().map_err(|_| wrong())?;
    if options.get_hosts().is_empty() && options.get_hostaddrs().is_empty() {
        options.host(target.host()).port(target.port());
    }
    options.dbname(target.database()).application_name("dbgate target init");
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
    connected.map_err(|error| rejected(target, &error))
}

fn rejected(target: &Target, error: &tokio_postgres::Error) -> Failure {
    let exit = if error.as_db_error().is_some() { Exit::Sql } else { Exit::Connection };
    let message = text::escape_keeping_lines(&chain(error));
    Failure::new(exit, format!("target `{}` ({}): {message}", target.config().name, target.address()))
        .hint("Nothing was changed.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    #[test]
    fn a_password_is_made_once_and_never_printed_in_sql() {
        let scratch = Scratch::new();
        let file = scratch.path().join("broker-password");
        let made = broker_password(&file).expect("made");
        assert_eq!(broker_password(&file).expect("read"), made);
        let sql = set_password("dbgate_broker", &made);
        assert!(sql.contains("SCRAM-SHA-256$4096:") && !sql.contains(made.expose()), "{sql}");
    }

    #[test]
    fn an_empty_password_file_is_refused() {
        let scratch = Scratch::new();
        let file = scratch.path().join("broker-password");
        files::write_private(&file, b"\n").expect("written");
        assert!(broker_password(&file).is_err());
    }
}
