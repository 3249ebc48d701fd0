//! `dbgate doctor`: every known hole of a prepared database, with the statement that closes it.
//!
//! PostgreSQL enforces the policy, so what PostgreSQL lets everybody do no policy can take away. It
//! has no DENY: such rights must be revoked by who gave them. This only looks; it changes nothing.

mod data;
mod finding;
mod front;
mod hba;
mod meaning;
mod open;
mod roles;

use serde::Serialize;
use tokio_postgres::Client;

pub use finding::{Finding, Severity, Unseen};

use crate::core::policy::Policy;
use crate::server::catalog::{self, CatalogError};
use crate::server::targets::{Target, TargetError};

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub target: String,
    pub database: String,
    pub server_version: String,
    /// Holes first, then by code and object.
    pub findings: Vec<Finding>,
    /// What this role may not look at.
    pub unseen: Vec<Unseen>,
}

/// Why a target cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    #[error("the target does not answer a question about itself")]
    Query(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// Looks at everything, through a connection of its own that nobody else uses.
///
/// `is_broker` tells whether that is the broker's: only then, and where the broker gets in, what
/// stands in front of the server can be seen as the gateway sees it.
pub async fn examine(target: &Target, policy: &Policy, client: &Client) -> Result<Report, DoctorError> {
    let broker = &target.config().admin.user;
    get_ready(target, client).await?;
    let catalog = catalog::read(client, target.database()).await?;
    let (mut findings, mut unseen) = (Vec::new(), Vec::new());
    for look in open::looks().into_iter().chain(roles::looks()).chain(meaning::looks()) {
        match look.take(client).await? {
            Ok(found) => findings.extend(found),
            Err(hidden) => unseen.push(hidden),
        }
    }
    match hba::look(client, target.database(), broker).await? {
        Ok(found) => findings.extend(found),
        Err(hidden) => unseen.push(hidden),
    }
    findings.extend(data::look(client, target.config(), policy, &catalog).await?);
    match front::look(target).await {
        Ok(found) => findings.extend(found),
        Err(error) => unseen.push(Unseen { what: "what stands in front of the server", why: error.to_string() }),
    }
    findings.sort_by(|a, b| (a.severity, a.code, &a.object).cmp(&(b.severity, b.code, &b.object)));
    Ok(Report {
        target: target.config().name.clone(),
        database: catalog.database.clone(),
        server_version: catalog.server_version_text.clone(),
        findings,
        unseen,
    })
}

/// How a database differs from what `target init` leaves.
#[derive(Clone, Debug, Default)]
pub struct Preparation {
    /// What it would add.
    pub missing: Vec<Finding>,
    /// What it did not make, and what our roles should not have.
    pub extra: Vec<Finding>,
}

/// Compares a database with what `target init` leaves.
pub async fn preparation(target: &Target, client: &Client) -> Result<Preparation, tokio_postgres::Error> {
    get_ready(target, client).await?;
    let mut preparation = Preparation::default();
    for look in roles::looks() {
        if look.is_about_the_server() {
            continue;
        }
        // Catalogs of roles are open to everybody, so nothing here stays unseen.
        let found = look.take(client).await?.unwrap_or_default();
        if look.is_for_init() { preparation.missing.extend(found) } else { preparation.extra.extend(found) }
    }
    Ok(preparation)
}

/// Names are printed in full where the path does not show them. The setting is read by queries.
async fn get_ready(target: &Target, client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("set search_path = pg_catalog; set default_transaction_read_only = on").await?;
    client.execute("select set_config('dbgate.broker', $1, false)", &[&target.config().admin.user]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Every code in the sources of this folder: a string right after `code:`, `finding(` or a table's `(`.
    fn codes() -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/doctor");
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("folder") {
            let text = std::fs::read_to_string(entry.expect("entry").path()).expect("text");
            let code = text.lines().take_while(|line| !line.contains("cfg(test)")).collect::<Vec<_>>().join("\n");
            let before = |start: &str| {
                start.ends_with("finding(")
                    || start.ends_with("code: ")
                    || start.ends_with("(\n        ")
                    || start.ends_with("=> (\n                ")
            };
            let mut rest = code.as_str();
            while let Some((start, after)) = rest.split_once('"') {
                let (word, end) = after.split_once('"').unwrap_or((after, ""));
                let is_word = !word.is_empty()
                    && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
                if is_word && before(start) {
                    found.insert(word.to_owned());
                }
                rest = end;
            }
        }
        found
    }

    #[test]
    fn every_code_is_in_the_handbook_and_none_is_made_up() {
        let text = include_str!("../../../docs/doctor.md");
        let documented: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(code, _)| code.to_owned()))
            .collect();
        assert_eq!(codes(), documented);
    }
}
