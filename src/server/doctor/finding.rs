//! What was found, how bad it is, and what closes it; and a query whose rows are findings.

use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::core::policy::RUNS_TEXT;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A session can see or do what the policy does not grant.
    Hole,
    /// A defence is thinner than it should be, or something will not work.
    Weakness,
}

/// One thing that should be put right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A stable word, as in `definer_function`.
    pub code: &'static str,
    pub severity: Severity,
    /// What it is about, quoted as in SQL.
    pub object: String,
    /// What is special about this one; empty where the object says it all.
    pub detail: String,
    /// What can happen, and what to do where no statement does it.
    pub why: String,
    /// Statements that close it for good.
    pub sql: Vec<String>,
    /// Lines for a file (`classification.toml`, `pg_hba.conf`, `server.toml`), where that closes it.
    pub lines: Vec<String>,
}

/// Something that could not be looked at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    pub what: &'static str,
    pub why: String,
}

/// A query for one kind of finding. Its rows are `(object, detail, statements that close it)`.
pub(super) struct Look {
    code: &'static str,
    severity: Severity,
    why: &'static str,
    sql: String,
}

impl Look {
    pub fn new(code: &'static str, severity: Severity, why: &'static str, sql: String) -> Self {
        Self { code, severity, why, sql }
    }

    /// Whether what it finds missing is what `target init` adds.
    pub fn is_for_init(&self) -> bool {
        const ADDED: [&str; 6] =
            ["not_prepared", "broker_rights", "broker_grants", "masker_grants", "masker_schema", "default_grants"];
        ADDED.contains(&self.code)
    }

    /// Whether it tells of PostgreSQL's version rather than of how the database was prepared.
    pub fn is_about_the_server(&self) -> bool {
        self.code == "createrole_before_16"
    }

    /// Runs the query. A catalog that this role may not read is no error: it is said.
    pub async fn take(&self, client: &Client) -> Result<Result<Vec<Finding>, Unseen>, tokio_postgres::Error> {
        let rows = match client.query(&self.sql, &[]).await {
            Ok(rows) => rows,
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                return Ok(Err(Unseen { what: self.code, why: unreadable(&error) }));
            }
            Err(error) => return Err(error),
        };
        let finding = |row: &tokio_postgres::Row| {
            Ok(Finding {
                code: self.code,
                severity: self.severity,
                object: row.try_get(0)?,
                detail: row.try_get(1)?,
                why: self.why.to_owned(),
                sql: row.try_get(2)?,
                lines: Vec::new(),
            })
        };
        rows.iter().map(finding).collect::<Result<_, tokio_postgres::Error>>().map(Ok)
    }
}

/// The server's own words, and what helps.
pub(super) fn unreadable(error: &tokio_postgres::Error) -> String {
    let message = error.as_db_error().map_or_else(|| error.to_string(), |detail| detail.message().to_owned());
    format!("{message}; try again with --superuser-dsn-file")
}

/// Puts the shared parts into a query: `<own>` (a schema `n` that is neither PostgreSQL's nor ours),
/// `<routine>` (the full name of function `p`), `<public_may_call>`, `<scope_role>` (role `g` is one of ours),
/// `<broker>`, `<runs_text>`.
pub(super) fn abbreviated(sql: &str) -> String {
    let runs_text = format!("'{{{}}}'::text[]", RUNS_TEXT.join(","));
    sql.replace("<own>", "n.nspname <> 'information_schema' and n.nspname !~ '^(pg_|dbgate_)'")
        .replace("<routine>", "format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))")
        .replace(
            "<public_may_call>",
            "exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x where x.grantee = 0)",
        )
        .replace(
            "<scope_role>",
            "starts_with(g.rolname, 'dbgate_s_') \
             and coalesce(shobj_description(g.oid, 'pg_authid'), '') ~ '^dbgate scope [0-9a-f]{64} in '",
        )
        .replace("<broker>", "current_setting('dbgate.broker')")
        .replace("<runs_text>", &runs_text)
}
