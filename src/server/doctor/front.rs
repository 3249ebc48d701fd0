//! What stands between us and the server: a pooler would break every fact a session relies on, and
//! a line in clear text gives the broker's password to whoever listens.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::core::mask::literal;
use crate::server::targets::{Target, TargetError};

use super::finding::{Finding, Severity};

/// How often a third connection is dialled.
const THIRDS: usize = 5;

/// What two connections at once, and a third after the first has ended, said of their backends.
#[derive(Clone, Copy, Debug)]
struct Observed {
    first: i32,
    second: i32,
    /// Whether the third's backend had started before the third was dialled.
    third_is_older: bool,
}

/// Two live connections never share a backend, and a backend is never older than its connection.
fn is_pooled(seen: Observed) -> bool {
    seen.first == seen.second || seen.third_is_older
}

/// Dials a few times as the broker.
pub(super) async fn look(target: &Target) -> Result<Vec<Finding>, TargetError> {
    let mut findings: Vec<Finding> = in_clear(target).into_iter().collect();
    let seen = observe(target).await?;
    if seen.is_some_and(is_pooled) {
        findings.push(Finding {
            code: "pooler",
            severity: Severity::Hole,
            object: target.address(),
            detail: String::new(),
            why: "a pooler answers here: roles, settings and counts of one session would be those of another. \
                  Let `dsn` name the server itself"
                .to_owned(),
            sql: Vec::new(),
            lines: Vec::new(),
        });
    }
    Ok(findings)
}

/// Nothing where an answer is not of the expected form; then something else is broken and is told.
async fn observe(target: &Target) -> Result<Option<Observed>, TargetError> {
    const PID: &str = "select pg_backend_pid()";
    let database = target.database();
    let (one, two) = (target.admin(database).await?, target.admin(database).await?);
    let seen = async { Some((cell(&one, PID).await?, cell(&two, PID).await?, cell(&two, "select now()").await?)) };
    let Some((first, second, now)) = seen.await else { return Ok(None) };
    let (Ok(first), Ok(second)) = (first.parse(), second.parse()) else { return Ok(None) };
    drop(one);
    let older = format!(
        "select backend_start < {}::timestamptz from pg_stat_activity where pid = pg_backend_pid()",
        literal(&now)
    );
    // A pooler may not have heard yet that the first has ended.
    let mut third_is_older = false;
    for _ in 0..THIRDS {
        let three = target.admin(database).await?;
        let Some(older) = cell(&three, &older).await else { return Ok(None) };
        third_is_older |= older == "t";
        if third_is_older {
            break;
        }
    }
    Ok(Some(Observed { first, second, third_is_older }))
}

/// The first cell of an answer. Asked for as a text: between the steps of a prepared statement a pooler may change
/// the backend.
async fn cell(client: &Client, sql: &str) -> Option<String> {
    let answered = client.simple_query(sql).await.ok()?;
    answered.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

fn in_clear(target: &Target) -> Option<Finding> {
    target.is_in_clear().then(|| Finding {
        code: "clear_text",
        severity: Severity::Hole,
        object: target.address(),
        detail: "sslmode=disable, insecure = true".to_owned(),
        why: "the line to the target is not encrypted, and anybody on the way can pose as it".to_owned(),
        sql: Vec::new(),
        lines: vec![format!(
            "sslmode=verify-full in the `dsn` of target `{}`, without `insecure`",
            target.config().name
        )],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::mask::net::Net;
    use crate::server::targets::{AdminConfig, TargetConfig, usual_lending};

    #[test]
    fn one_backend_for_two_connections_or_one_from_before_is_a_pooler() {
        let seen = |first, second, third_is_older| Observed { first, second, third_is_older };
        for (seen, expected) in [(seen(1, 2, false), false), (seen(1, 1, false), true), (seen(1, 2, true), true)] {
            assert_eq!(is_pooled(seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_line_without_tls_to_another_machine_is_told() {
        for (host, insecure, expected) in
            [("10.0.3.4", true, true), ("127.0.0.1", true, false), ("127.0.0.1", false, false)]
        {
            let config = TargetConfig {
                name: "prod".into(),
                environment: "production".into(),
                dsn: format!("host={host} dbname=shop sslmode=disable"),
                admin: AdminConfig { user: "dbgate_broker".into(), password_file: None },
                insecure,
                folder: std::path::PathBuf::new(),
                lend: Vec::new(),
                lend_for: usual_lending(),
                content_scan: Net::Off,
                max_sessions: crate::server::seats::USUAL,
                reserve_connections: None,
            };
            let target = Target::new(config).expect("configured");
            assert_eq!(in_clear(&target).map(|finding| finding.code), expected.then_some("clear_text"), "{host}");
        }
    }
}
