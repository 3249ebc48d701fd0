//! What a verification found: a table, not a bit.

use serde::Serialize;

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Every line is the one that was logged.
    Integrity,
    /// From the session's opening to its close, nothing is missing.
    Completeness,
    /// The client's own account is signed by the key the grant names.
    ClientSigned,
    /// Both accounts tell the same.
    Reconciled,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Evidence of tampering, or of two accounts that contradict each other.
    Bad,
    /// Something is not there (yet).
    Missing,
    /// Worth a look.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub aspect: Aspect,
    pub severity: Severity,
    /// `file`, `grant`, `gateway`, `client`, `head` or `receipt`.
    pub section: &'static str,
    /// Line of the file, from 1; none where the finding is about the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    pub what: String,
}

/// The state of one aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Good,
    Bad,
    Missing,
    /// A session of a native client has no client account.
    NotApplicable,
}

/// What the whole comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Good,
    Tampered,
    Incomplete,
}

/// What the session was, as far as the file tells. To be believed only if the integrity is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub session: String,
    pub subject: String,
    pub target: String,
    pub database: String,
    pub role: String,
    pub opened: String,
    pub closed: String,
    pub statements: u64,
    pub denied: u64,
    pub rows: u64,
    pub gateway_lines: usize,
    pub client_lines: usize,
    pub origin: String,
    pub log_index: u64,
    pub log_size: u64,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub integrity: State,
    pub completeness: State,
    pub client_signed: State,
    pub reconciled: State,
    /// 0: the gateway's account only; 1: the client signed its own.
    pub level: u64,
    pub findings: Vec<Finding>,
    pub summary: Summary,
}

impl Report {
    /// Tampering outweighs gaps.
    pub fn outcome(&self) -> Outcome {
        let has = |severity| self.findings.iter().any(|finding| finding.severity == severity);
        if has(Severity::Bad) {
            Outcome::Tampered
        } else if has(Severity::Missing) {
            Outcome::Incomplete
        } else {
            Outcome::Good
        }
    }

    /// A table over findings; `level` 0 has no client account to judge.
    pub(super) fn from_findings(findings: Vec<Finding>, level: u64, summary: Summary) -> Self {
        let state = |aspect: Aspect| {
            let has = |severity| findings.iter().any(|found| found.aspect == aspect && found.severity == severity);
            // A file whose lines cannot be trusted says nothing good of anything else.
            let broken = findings.iter().any(|f| f.aspect == Aspect::Integrity && f.severity == Severity::Bad);
            match () {
                () if has(Severity::Bad) => State::Bad,
                () if has(Severity::Missing) => State::Missing,
                () if level == 0 && matches!(aspect, Aspect::ClientSigned | Aspect::Reconciled) => State::NotApplicable,
                () if broken => State::Missing,
                () => State::Good,
            }
        };
        Self {
            integrity: state(Aspect::Integrity),
            completeness: state(Aspect::Completeness),
            client_signed: state(Aspect::ClientSigned),
            reconciled: state(Aspect::Reconciled),
            level,
            findings,
            summary,
        }
    }
}
