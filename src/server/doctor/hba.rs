//! `pg_hba.conf`: who may sign in past the gate, and whether our roles can from anywhere else.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::finding::{Finding, Severity, Unseen, unreadable};
use crate::core::role_sql::SESSIONS;

/// One rule, as `pg_hba_file_rules` shows it.
#[derive(Clone, Debug, Default)]
struct Rule {
    line: i32,
    /// `local`, `host`, `hostssl` and their likes.
    kind: String,
    databases: Vec<String>,
    users: Vec<String>,
    address: String,
    netmask: String,
    method: String,
    error: String,
}

const RULES: &str = "select line_number, coalesce(type, ''), coalesce(database, '{}'), coalesce(user_name, '{}'), \
    coalesce(address, ''), coalesce(netmask, ''), coalesce(auth_method, ''), coalesce(error, '') \
    from pg_hba_file_rules order by line_number";

/// Reads the rules, where this role may, and looks at those for the database.
pub(super) async fn look(
    client: &Client,
    database: &str,
    broker: &str,
) -> Result<Result<Vec<Finding>, Unseen>, tokio_postgres::Error> {
    let rows = match client.query(RULES, &[]).await {
        Ok(rows) => rows,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Ok(Err(Unseen { what: "pg_hba.conf", why: unreadable(&error) }));
        }
        Err(error) => return Err(error),
    };
    let rule = |row: &tokio_postgres::Row| -> Result<Rule, tokio_postgres::Error> {
        Ok(Rule {
            line: row.try_get(0)?,
            kind: row.try_get(1)?,
            databases: row.try_get(2)?,
            users: row.try_get(3)?,
            address: row.try_get(4)?,
            netmask: row.try_get(5)?,
            method: row.try_get(6)?,
            error: row.try_get(7)?,
        })
    };
    let rules: Vec<Rule> = rows.iter().map(rule).collect::<Result<_, _>>()?;
    Ok(Ok(judge(&rules, database, broker)))
}

/// The first rule that fits decides in PostgreSQL, so a refusal above closes what stands below.
fn judge(rules: &[Rule], database: &str, broker: &str) -> Vec<Finding> {
    let ours = [broker.to_owned(), format!("+{SESSIONS}")];
    let mut findings = Vec::new();
    let mut refused: Vec<&String> = Vec::new();
    for rule in rules {
        if !rule.error.is_empty() {
            findings.push(finding("hba_error", Severity::Weakness, rule, "PostgreSQL cannot read this line", vec![]));
        }
        if !rule.concerns(database) {
            continue;
        }
        if rule.method == "reject" {
            // Only a refusal of every address closes anything for good.
            refused.extend(ours.iter().filter(|user| rule.address == "all" && rule.names(user)));
            continue;
        }
        if rule.method == "trust" {
            let why = "whoever reaches the server here is anybody they say they are: write scram-sha-256";
            findings.push(finding("hba_trust", Severity::Hole, rule, why, vec![]));
        }
        if rule.kind == "local" || !rule.is_wide() {
            continue;
        }
        let open: Vec<&str> =
            ours.iter().filter(|user| rule.names(user) && !refused.contains(user)).map(String::as_str).collect();
        if !open.is_empty() {
            let why = "these roles need the gate's address only; lines to put above it, with the gate's own address";
            let who = ours.join(",");
            let lines =
                vec![format!("host all {who} GATE_ADDRESS/32 scram-sha-256"), format!("host all {who} all reject")];
            findings.push(finding("hba_open", Severity::Weakness, rule, why, lines));
        }
        if rule.users.iter().any(|user| user == "all") {
            let why = "every role that has a password may sign in from there, past the gate: name the roles that must";
            findings.push(finding("hba_direct", Severity::Weakness, rule, why, vec![]));
        }
    }
    findings
}

impl Rule {
    fn concerns(&self, database: &str) -> bool {
        self.databases
            .iter()
            .any(|name| ["all", "sameuser", "samerole", "samegroup", database].contains(&name.as_str()))
    }

    fn names(&self, user: &str) -> bool {
        self.users.iter().any(|name| name == "all" || name == user)
    }

    /// Whether more than one machine fits. A host's name and `samehost` are one; the loopback network too.
    fn is_wide(&self) -> bool {
        let is_single = self.netmask == "255.255.255.255" || self.netmask == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        match self.address.as_str() {
            "samehost" => false,
            "all" | "samenet" => true,
            name if self.netmask.is_empty() => name.starts_with('.'),
            address => !is_single && !address.starts_with("127."),
        }
    }
}

fn finding(code: &'static str, severity: Severity, rule: &Rule, why: &str, lines: Vec<String>) -> Finding {
    let address =
        if rule.netmask.is_empty() { rule.address.clone() } else { format!("{} {}", rule.address, rule.netmask) };
    let told = [rule.kind.as_str(), &rule.databases.join(","), &rule.users.join(","), &address, &rule.method];
    let told: Vec<&str> = told.into_iter().filter(|part| !part.is_empty()).collect();
    Finding {
        code,
        severity,
        object: format!("pg_hba.conf line {}", rule.line),
        detail: if rule.error.is_empty() { told.join(" ") } else { rule.error.clone() },
        why: why.to_owned(),
        sql: Vec::new(),
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(rules: &[(&str, &str, &str, &str, &str)]) -> Vec<&'static str> {
        let rules: Vec<Rule> = rules
            .iter()
            .zip(1..)
            .map(|((kind, users, address, netmask, method), line)| Rule {
                line,
                kind: (*kind).to_owned(),
                databases: vec!["all".to_owned()],
                users: users.split(',').map(str::to_owned).collect(),
                address: (*address).to_owned(),
                netmask: (*netmask).to_owned(),
                method: (*method).to_owned(),
                error: String::new(),
            })
            .collect();
        judge(&rules, "shop", "dbgate_broker").iter().map(|finding| finding.code).collect()
    }

    const ONE: &str = "255.255.255.255";

    #[test]
    fn our_roles_are_admitted_from_one_address_and_refused_from_any_other() {
        let ours = "dbgate_broker,+dbgate_sessions";
        let closed = [("host", ours, "10.0.0.5", ONE, "scram-sha-256"), ("host", ours, "all", "", "reject")];
        assert_eq!(codes(&closed), [""; 0]);
        let app = ("host", "app", "10.0.0.0", "255.0.0.0", "scram-sha-256");
        assert_eq!(codes(&[closed[0], closed[1], app]), [""; 0], "who is named is meant");
        let everybody = ("host", "all", "0.0.0.0", "0.0.0.0", "scram-sha-256");
        assert_eq!(codes(&[closed[0], closed[1], everybody]), ["hba_direct"]);
        assert_eq!(codes(&[closed[0], everybody]), ["hba_open", "hba_direct"]);
        let half = ("host", "dbgate_broker", "all", "", "reject");
        assert_eq!(codes(&[half, everybody]), ["hba_open", "hba_direct"], "sessions are not refused");
    }

    #[test]
    fn this_machine_is_not_wide_and_trust_is_a_hole_anywhere() {
        for address in [("127.0.0.1", ONE), ("127.0.0.0", "255.0.0.0"), ("samehost", ""), ("gate.example.com", "")] {
            assert_eq!(codes(&[("host", "all", address.0, address.1, "scram-sha-256")]), [""; 0], "{address:?}");
        }
        assert_eq!(codes(&[("local", "all", "", "", "trust")]), ["hba_trust"]);
        for address in [("all", ""), ("samenet", ""), (".example.com", ""), ("::", "::")] {
            assert_eq!(
                codes(&[("host", "app,dbgate_broker", address.0, address.1, "md5")]),
                ["hba_open"],
                "{address:?}"
            );
        }
    }
}
