//! `dbgate target init`: makes a database ready for the gateway, once and again.
//!
//! What is run is what is printed. No clear password is ever in SQL or in an argument: the
//! broker's is made here, kept in its file, and reaches the database as a SCRAM verifier.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio_postgres::Client;

use crate::cli::configured::{Configured, rejected, superuser};
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::encoding;
use crate::core::role_sql::{self, PrepareTarget};
use crate::core::secret::Secret;
use crate::core::wire::scram;
use crate::server::http::refusal::chain;
use crate::server::targets::{Target, TargetError};
use crate::sys::{files, random};

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
pub async fn run(arguments: &InitArguments, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.config, &arguments.name)?;
    let target = &place.target;
    let client = match &arguments.superuser_dsn_file {
        Some(file) => Some(superuser(target, file, "dbgate target init").await?),
        None => None,
    };
    if let Some(client) = &client {
        refuse_standby(target, client).await?;
    }
    let schemas = match &client {
        Some(client) => schemas(client).await.map_err(|error| rejected(target, &error))?,
        None => known_schemas(target).await,
    };
    let admin = &target.config().admin;
    let prepare = PrepareTarget {
        broker: &admin.user,
        database: target.database(),
        schemas: &schemas,
        lend: &target.config().lend,
    };
    let mut statements = role_sql::prepare_target(&prepare);
    if let Some(file) = &admin.password_file {
        statements.push(set_password(&admin.user, &broker_password(file)?));
    }
    let Some(client) = client.filter(|_| arguments.apply) else {
        print(&statements, form, target, false);
        eprintln!("Nothing was changed. Run this as a superuser in database {}, or add:", target.database());
        eprintln!("  --apply --superuser-dsn-file FILE");
        return Ok(Exit::Ok);
    };
    apply(&client, &statements).await.map_err(|error| rejected(target, &error))?;
    if form == Form::Json {
        print(&statements, form, target, true);
    }
    confirm(target, &schemas).await
}

/// What is made on the primary comes to its standbys by itself.
async fn refuse_standby(target: &Target, client: &Client) -> Result<(), Failure> {
    let row = client.query_one("select pg_is_in_recovery()", &[]).await.map_err(|error| rejected(target, &error))?;
    match row.try_get(0) {
        Ok(false) => Ok(()),
        Ok(true) | Err(_) => {
            let standby = TargetError::Standby { target: target.config().name.clone(), address: target.address() };
            Err(Failure::new(Exit::Connection, standby.to_string()).hint("Nothing was changed."))
        }
    }
}

/// The statements, for a person to run or for a program to read.
pub(super) fn print(statements: &[String], form: Form, target: &Target, applied: bool) {
    match form {
        Form::Text => statements.iter().for_each(|statement| println!("{statement};")),
        Form::Json => println!(
            "{:#}",
            json!({
                "schema": "dbgate.target/1",
                "target": target.config().name,
                "database": target.database(),
                "applied": applied,
                "sql": statements,
            })
        ),
    }
}

/// All or nothing: a target that is half prepared would be hard to understand.
pub(super) async fn apply(client: &Client, statements: &[String]) -> Result<(), tokio_postgres::Error> {
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
pub(super) async fn schemas(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
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
