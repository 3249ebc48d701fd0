//! `dbgate conninfo` and `dbgate psql`: native clients, without a secret in any argument list.
//!
//! The password lies in a passfile (0600) in a folder of ours; what is printed names the file.
//! Files of grants that have ended are removed at the next call.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::cli::args::{Asking, Format, Global};
use crate::cli::exit::{Exit, Failure};
use crate::cli::interrupt::Interrupts;
use crate::cli::session::{self, Granted};
use crate::cli::whoami::print_json;
use crate::sys::{clock, files, tls};

/// The passfile in a grant's folder.
const PASS: &str = "pass";
/// The authority of the gateway's certificate.
const CA: &str = "ca.pem";

/// Prints the connection string of a new grant.
pub async fn run(global: &Global, target: &str, ask: &Asking) -> Result<Exit, Failure> {
    let granted = session::grant(global.server.as_deref(), target, ask, false).await?;
    let native = Native::write(&granted)?;
    let answer = &granted.credential.answer;
    if global.format == Format::Json {
        print_json(&json!({
            "schema": "dbgate.conninfo/1", "conninfo": native.conninfo, "grant_id": answer.grant_id,
            "host": answer.gateway.host, "port": answer.gateway.port, "database": answer.wire_database,
            "user": answer.user, "passfile": native.folder.join(PASS), "sslmode": "verify-full",
            "sslrootcert": native.folder.join(CA),
            "expires_at": answer.expires_at,
        }))?;
        return Ok(Exit::Ok);
    }
    println!("{}", native.conninfo);
    if global.quiet {
        return Ok(Exit::Ok);
    }
    eprintln!("Valid until {}. Give it back: dbgate revoke {}", answer.expires_at, answer.grant_id);
    Ok(Exit::Ok)
}

/// Runs psql with a grant of its own, and gives the grant back when psql ends.
pub async fn psql(server: Option<&str>, target: &str, ask: &Asking, arguments: &[String]) -> Result<Exit, Failure> {
    let granted = session::grant(server, target, ask, false).await?;
    // Ctrl-C is psql's: it cancels a statement there and must not end us.
    let _ignored = Interrupts::listen()?;
    let native = Native::write(&granted)?;
    let status = tokio::process::Command::from({
        let mut command = Command::new("psql");
        command
            .arg(&native.conninfo)
            .args(arguments)
            .env_remove("PGPASSWORD")
            .env_remove("PGHOST")
            .env_remove("PGUSER");
        command
    })
    .status()
    .await;
    native.remove();
    // It expires by itself if this fails.
    let _ = granted.desk.broker.revoke(&granted.token, &granted.credential.answer.grant_id).await;
    let status = status.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot start psql: {error}"))
            .hint("Install it (Debian: apt install postgresql-client), or use: dbgate connect")
    })?;
    Ok(match status.code() {
        Some(0) => Exit::Ok,
        Some(2) => Exit::Connection,
        Some(3) => Exit::Sql,
        _ => Exit::Failed,
    })
}

/// The files of one native client's grant.
struct Native {
    folder: PathBuf,
    conninfo: String,
}

impl Native {
    fn write(granted: &Granted) -> Result<Self, Failure> {
        let all = granted.desk.paths.state().join("native");
        clear(&all);
        let answer = &granted.credential.answer;
        let folder = all.join(&answer.grant_id);
        let (pass, ca) = (folder.join(PASS), folder.join(CA));
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let line = format!("*:*:*:{}:{}\n", escaped(&answer.user), escaped(answer.password.expose()));
        files::write_private(&pass, line.as_bytes())?;
        files::write_private(&folder.join("expires"), answer.expires_at.as_bytes())?;
        // In a file always: libpq before version 16 does not know `sslrootcert=system`.
        let roots = match &answer.gateway.ca_pem {
            Some(pem) => pem.clone(),
            None => tls::machine_roots().map_err(|error| Failure::new(Exit::Config, error.to_string()))?,
        };
        files::write_private(&ca, roots.as_bytes())?;
        let conninfo = format!(
            "host={} port={} dbname={} user={} passfile={} sslmode=verify-full sslrootcert={}",
            quoted(&answer.gateway.host),
            answer.gateway.port,
            quoted(&answer.wire_database),
            quoted(&answer.user),
            quoted(&pass.display().to_string()),
            quoted(&ca.display().to_string()),
        );
        Ok(Self { folder, conninfo })
    }

    fn remove(&self) {
        // What stays is useless without its grant, and is removed at the next call.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes the files of grants whose time is over.
fn clear(all: &Path) {
    let now = clock::now().rfc3339();
    for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
        let expires = std::fs::read_to_string(entry.path().join("expires")).unwrap_or_default();
        // RFC 3339 in UTC sorts as text.
        if expires < now {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A value of a connection string (PostgreSQL manual, section 34.1.1).
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn values_of_a_connection_string_are_quoted_where_they_must_be() {
        assert_eq!(quoted("/a/b.pem"), "/a/b.pem");
        assert_eq!(quoted("it's \\ x"), "'it\\'s \\\\ x'");
        assert_eq!(quoted(""), "''");
    }
}
