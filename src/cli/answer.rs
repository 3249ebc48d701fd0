//! The JSON document of `exec`, and what is kept of each statement for it (`dbgate.exec/1`).
//!
//! It is one document for every outcome. Rows are spelled as they come, so that numbers keep every digit.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::cli::exec::Limits;
use crate::cli::exit::{Exit, Failure};
use crate::cli::people;
use crate::client::connect::Session;
use crate::client::render::Column;
use crate::client::render::report::{Origin, Refusal};
use crate::client::render::value;
use crate::client::standing::{Control, Fate, Standing};
use crate::core::api::GrantAnswer;
use crate::core::api::request::RequestView;
use crate::core::encoding;
use crate::core::session::tag_rows;
use crate::core::statement::local::{self, Look};
use crate::core::wire::backend::ErrorFields;

/// What one statement answered, as far as the JSON document keeps it.
pub struct Outcome {
    digest: String,
    kind: &'static str,
    control: Control,
    limits: Limits,
    bytes: u64,
    tag: Option<String>,
    columns: Vec<Column>,
    rows: Vec<Box<RawValue>>,
    pub row_count: u64,
    cut: Option<Cut>,
    duration: Duration,
}

/// Which limit a result ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Rows,
    Bytes,
}

impl Outcome {
    pub fn new(sql: &str, limits: Limits) -> Self {
        let facts = match local::look(sql) {
            Look::Facts(facts) => facts.into_iter().next(),
            Look::Unknown { .. } => None,
        };
        let kind = facts.as_ref().map_or("unknown", |facts| facts.effect.word());
        Self {
            digest: format!("sha256:{}", encoding::hex(&Sha256::digest(sql.as_bytes()))),
            kind: if kind == "transaction" { "session" } else { kind },
            control: Control::of(sql),
            limits,
            bytes: 0,
            tag: None,
            columns: Vec::new(),
            rows: Vec::new(),
            row_count: 0,
            cut: None,
            duration: Duration::ZERO,
        }
    }

    pub fn columns(&mut self, columns: Vec<Column>) {
        self.columns = columns;
    }

    /// Takes a row in; false once there are enough. A limit counts as met only when a row more comes.
    pub fn row(&mut self, values: &[Option<&[u8]>], keep: bool) -> bool {
        if self.cut.is_some() {
            return false;
        }
        if self.row_count >= self.limits.rows {
            self.cut = Some(Cut::Rows);
            return false;
        }
        let spelled = keep.then(|| {
            let types: Vec<_> = self.columns.iter().map(|column| column.type_oid).collect();
            value::row(&types, values)
        });
        let length =
            spelled.as_ref().map_or_else(|| values.iter().flatten().map(|cell| cell.len() + 1).sum(), String::len);
        self.bytes = self.bytes.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.bytes > self.limits.bytes {
            self.cut = Some(Cut::Bytes);
            return false;
        }
        self.row_count += 1;
        self.rows.extend(spelled.and_then(|row| RawValue::from_string(row).ok()));
        true
    }

    /// Whether nothing in it can have changed anything, as far as its text shows.
    fn only_reads(&self) -> bool {
        matches!(self.kind, "read" | "session")
    }

    /// Whether its tag says that it has written, or leaves that open: EXECUTE has the tag of what it runs.
    fn has_written(&self) -> bool {
        match self.kind {
            "read" | "session" => false,
            "write" | "ddl" => true,
            _ => !self.tag.as_deref().is_some_and(|tag| tag.starts_with("SELECT")),
        }
    }

    pub fn done(&mut self, tag: &str) {
        self.tag = Some(tag.to_owned());
    }

    pub fn took(&mut self, duration: Duration) {
        self.duration = duration;
    }

    pub fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// The limit that cut the result off, and what helps.
    pub fn advice(&self) -> Option<(&'static str, u64, &'static str)> {
        Some(match self.cut? {
            Cut::Rows => {
                ("rows", self.limits.rows, "More rows exist. Aggregate, add WHERE or LIMIT, or raise --max-rows.")
            }
            Cut::Bytes => (
                "bytes",
                self.limits.bytes,
                "More rows exist. Name fewer columns, add WHERE or LIMIT, or raise --max-bytes.",
            ),
        })
    }

    fn json(&self, index: usize, status: Status, fate: Fate) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| {
                json!({"name": column.name, "type": value::type_name(column.type_oid), "oid": column.type_oid,
                       "mask": column.mask, "source": column.source})
            })
            .collect();
        let changed = self.tag.as_deref().filter(|tag| !tag.starts_with("SELECT"));
        let affected = changed.and_then(tag_rows);
        // What was not cancelled was counted by the server.
        let total = self.tag.as_deref().and_then(tag_rows);
        let truncated = self
            .advice()
            .map(|(by, limit, advice)| json!({"by": by, "limit": limit, "total_known": total, "advice": advice}));
        let rows: Vec<_> = self.rows.iter().map(|row| row.get()).collect();
        let milliseconds = self.duration.as_secs_f64() * 1000.0;
        let mut out = json!({
            "index": index, "digest": self.digest, "kind": self.kind, "status": status.word(fate), "command_tag": self.tag,
            "rows_affected": affected, "columns": columns, "row_count": self.rows.len(), "truncated": truncated,
            "notices": [], "duration_ms": (milliseconds * 1000.0).round() / 1000.0, "trust": "untrusted-data",
        })
        .to_string();
        // Rows are spliced in as they were spelled: numbers keep every digit.
        out.pop();
        let _ = write!(out, ",\"rows\":[{}]}}", rows.join(","));
        out
    }
}

/// How a statement ended by itself, whatever became of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Done,
    Failed,
    Denied,
    Pending,
    NotRun,
    /// The link broke while it ran, and it may have written.
    Unknown,
}

impl Status {
    fn word(self, fate: Fate) -> &'static str {
        match (self, fate) {
            (Self::Done, Fate::Stands) => "done",
            (Self::Done, Fate::RolledBack) => "rolled_back",
            (Self::Done, Fate::Unknown) | (Self::Unknown, _) => "unknown",
            (Self::Failed, _) => "failed",
            (Self::Denied, _) => "denied",
            (Self::Pending, _) => "pending",
            (Self::NotRun, _) => "not_run",
        }
    }
}

/// Everything the JSON document says.
pub struct Answer {
    target: Value,
    principal: Value,
    session: Value,
    statements: Vec<(Outcome, Status)>,
    standing: Standing,
    /// What was committed although it did not end well.
    committed: Option<String>,
    denial: Option<Value>,
    approval: Option<Value>,
    error: Option<Value>,
    warnings: Vec<Value>,
    /// Path of the evidence file.
    pub evidence: Option<String>,
    is_truncated: bool,
    /// It was run before; this is what came of it then.
    pub is_replayed: bool,
    /// Answers are written as they come, not as one document.
    pub is_for_people: bool,
}

impl Answer {
    pub fn new(target: &str) -> Self {
        Self {
            target: json!({"name": target}),
            principal: json!({"kind": "human", "subject": "unknown"}),
            session: Value::Null,
            statements: Vec::new(),
            standing: Standing::default(),
            committed: None,
            denial: None,
            approval: None,
            error: None,
            warnings: Vec::new(),
            evidence: None,
            is_truncated: false,
            is_replayed: false,
            is_for_people: false,
        }
    }

    /// What a request says of target and principal, before there is a session or without one.
    pub fn about(&mut self, view: &RequestView) {
        self.target = json!({"name": view.target, "database": view.database, "environment": view.environment});
        let (kind, subject, issuer) = (&view.principal.kind, &view.principal.subject, &view.principal.issuer);
        self.principal = json!({"kind": kind, "subject": subject, "issuer": issuer});
    }

    /// People were asked about a statement, and it has not run.
    pub fn waits(&mut self, outcome: Outcome, view: &RequestView) {
        let status = if view.is_open() { Status::Pending } else { Status::Denied };
        self.approval = Some(json!(view));
        self.statements.push((outcome, status));
    }

    pub fn granted(&mut self, answer: &GrantAnswer) {
        self.target = json!({"name": answer.target, "database": answer.database, "environment": answer.environment});
        self.principal = json!({"kind": answer.principal.kind, "subject": answer.principal.subject, "issuer": answer.principal.issuer});
        self.session =
            json!({"id": answer.session_id, "access": answer.access.word(), "expires_at": answer.expires_at});
    }

    pub fn opened(&mut self, session: &Session) {
        if let (Some(target), Some(version)) = (self.target.as_object_mut(), session.parameters().get("server_version"))
        {
            target.insert("server_version".to_owned(), version.as_str().into());
        }
    }

    /// Takes in what the server says of transactions after a statement, before its outcome is kept.
    pub fn ran(&mut self, outcome: &Outcome, has_failed: bool, status: u8) {
        let tag = outcome.tag.as_deref().filter(|_| !has_failed);
        self.standing.ran(self.statements.len(), &outcome.control, tag, status);
    }

    pub fn push(&mut self, outcome: Outcome) {
        let masked: Vec<_> = outcome.columns.iter().filter(|column| column.mask.is_some()).collect();
        if !masked.is_empty() {
            let names: Vec<_> = masked
                .iter()
                .map(|c| format!("{} ({})", c.source.as_deref().unwrap_or(&c.name), c.mask.as_deref().unwrap_or("")))
                .collect();
            let message = format!("{} of {} columns masked: {}", masked.len(), outcome.columns.len(), names.join(", "));
            self.warnings.push(json!({"code": "masked_columns", "message": message}));
        }
        self.is_truncated |= outcome.is_cut();
        self.statements.push((outcome, Status::Done));
    }

    pub fn not_run(&mut self, sql: &str) {
        self.statements.push((Outcome::new(sql, Limits::NONE), Status::NotRun));
    }

    /// The link broke while it ran.
    pub fn lost(&mut self, outcome: Outcome) {
        let status = if self.only_reads(&outcome) { Status::Failed } else { Status::Unknown };
        self.standing.ended(Some(&outcome.control));
        self.statements.push((outcome, status));
    }

    pub fn failed(&mut self, outcome: Outcome, fields: &ErrorFields, origin: &Origin<'_>, exit: Exit) {
        let index = self.statements.len();
        let (line, column) = origin.place(fields);
        let position = json!({"file": origin.file, "line": line, "column": column});
        match Refusal::of(fields) {
            Some(refusal) => {
                let remedies: Vec<_> =
                    fields.hint.iter().map(|hint| json!({"kind": "ask_human", "note": hint})).collect();
                self.denial = Some(json!({
                    "decision_id": refusal.decision, "code": refusal.code, "rule": refusal.rule,
                    "statement_index": index, "message": fields.message, "objects": refusal.objects,
                    "position": position, "retryable": refusal.retryable, "remedies": remedies,
                }));
                self.statements.push((outcome, Status::Denied));
            }
            None => {
                self.error = Some(json!({
                    "code": people::code_of(fields).unwrap_or_else(|| exit.word().to_owned()), "sqlstate": fields.sqlstate, "message": fields.message,
                    "detail": fields.detail, "hint": fields.hint, "position": position, "retryable": false,
                }));
                self.statements.push((outcome, Status::Failed));
            }
        }
    }

    /// Whether there was no statement.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Whether nothing in what runs now can change anything. A COMMIT does what was written before it.
    pub fn only_reads(&self, outcome: &Outcome) -> bool {
        outcome.only_reads() && !(outcome.control.commits() && self.has_unfinished())
    }

    /// Whether something was written in a transaction that is still open.
    pub fn has_unfinished(&self) -> bool {
        let open = self.standing.open_from().unwrap_or(usize::MAX);
        let mut written = (0..).zip(&self.statements).filter(|(index, one)| *index >= open && self.wrote(*index, one));
        written.next().is_some()
    }

    /// Whether it has written, and that was not rolled back.
    fn wrote(&self, index: usize, (outcome, status): &(Outcome, Status)) -> bool {
        *status == Status::Done && outcome.has_written() && self.standing.of(index) == Fate::Stands
    }

    /// The session has ended: what was not committed is rolled back. Where not all went well, answers what was
    /// committed all the same.
    pub fn ended(&mut self, went_well: bool) -> Option<&str> {
        self.standing.ended(None);
        let written: Vec<_> = (0..)
            .zip(&self.statements)
            .filter(|(index, one)| self.wrote(*index, one))
            .map(|(index, _)| index)
            .collect();
        let failed = self.statements.iter().position(|(_, status)| *status != Status::Done);
        let last = written.last().filter(|_| !went_well)?;
        let what = if written.len() == 1 { "1 statement" } else { &format!("{} statements", written.len()) };
        let before = if failed.is_none_or(|failed| *last < failed) { " before it" } else { "" };
        let have = if written.len() == 1 { "has" } else { "have" };
        self.committed = Some(format!("{what}{before} {have} been committed."));
        self.committed.as_deref()
    }

    /// The document.
    pub fn document(&self, exit: Exit, failure: Option<&Failure>) -> String {
        let ended = if self.session.is_null() { ("grant_refused", "connect") } else { ("grant_ended", "grant") };
        let denial = self.denial.clone().or_else(|| denied_at_the_door(exit, failure, ended));
        let status = match exit {
            Exit::Incomplete if self.error.is_some() => "sql_error",
            Exit::Pending if self.approval.is_none() => "unavailable",
            // Without a denial there is nothing that says who refused what.
            Exit::Denied if denial.is_none() => "unavailable",
            exit => exit.status(),
        };
        let mut error = self.error.clone().or_else(|| failure.map(told));
        if let (Some(committed), Some(hint)) = (&self.committed, error.as_mut().and_then(|error| error.get_mut("hint")))
            && hint.is_null()
        {
            *hint = committed.as_str().into();
        }
        let told = self.committed.iter().map(|message| json!({"code": "committed", "message": message}));
        let warnings: Vec<_> = self.warnings.iter().cloned().chain(told).collect();
        let mut head = json!({
            "schema": "dbgate.exec/1", "status": status, "exit_code": exit.code(), "target": self.target,
            "principal": self.principal, "session": self.session, "warnings": warnings,
            "audit": {"record_ids": [], "transcript": self.evidence},
        });
        if let Some(members) = head.as_object_mut() {
            if self.is_replayed {
                members.insert("replayed".to_owned(), true.into());
            }
            members.extend(self.approval.clone().map(|approval| ("approval".to_owned(), approval)));
            members.extend(denial.map(|denial| ("denial".to_owned(), denial)));
            members.extend(error.map(|error| ("error".to_owned(), error)));
        }
        let mut text = head.to_string();
        text.pop();
        let statements = self.statements.iter().enumerate();
        let statements: Vec<_> = statements
            .map(|(index, (outcome, status))| outcome.json(index, *status, self.standing.of(index)))
            .collect();
        let _ = write!(text, ",\"statements\":[{}]}}", statements.join(","));
        text
    }
}

/// A failure as JSON documents tell it.
fn told(failure: &Failure) -> Value {
    json!({"code": failure.exit.word(), "message": failure.message, "hint": failure.hint, "retryable": false})
}

/// The document of a command that failed and has no document of its own (`dbgate.error/1`).
pub fn failure_document(failure: &Failure) -> String {
    let (status, exit) = (failure.exit.status(), failure.exit.code());
    json!({"schema": "dbgate.error/1", "status": status, "exit_code": exit, "error": told(failure)}).to_string()
}

/// A grant that policy refused, or that ended under its session: no statement was denied.
fn denied_at_the_door(exit: Exit, failure: Option<&Failure>, (code, rule): (&str, &str)) -> Option<Value> {
    let failure = failure.filter(|_| exit == Exit::Denied)?;
    Some(json!({
        "decision_id": "", "code": code, "rule": rule, "message": failure.message, "retryable": false,
        "remedies": failure.hint.iter().map(|hint| json!({"kind": "ask_human", "note": hint})).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::script::Statement;

    #[test]
    fn a_failure_before_any_session_is_still_one_valid_document() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/schema/exec-1.schema.json")).expect("a schema");
        let failure = Failure::new(Exit::AuthRequired, "sign in").hint("Run: dbgate login");
        let document = Answer::new("demo").document(failure.exit, Some(&failure));
        let document: Value = serde_json::from_str(&document).expect("JSON");
        assert!(jsonschema::is_valid(&schema, &document), "{document}");
        assert_eq!(document.get("status"), Some(&json!("auth_required")));
    }

    fn outcome(limits: Limits, rows: usize) -> Outcome {
        let mut outcome = Outcome::new("select n from t", limits);
        outcome.columns(vec![Column { name: "n".into(), type_oid: 20, mask: Some("null".into()), source: None }]);
        for _ in 0..rows {
            outcome.row(&[Some(b"12345678")], true);
        }
        outcome
    }

    #[test]
    fn a_limit_is_met_only_when_a_row_more_comes() {
        let three = Limits { rows: 3, ..Limits::NONE };
        assert_eq!(outcome(three, 3).advice(), None);
        let cut = outcome(three, 5);
        assert_eq!((cut.advice().map(|(by, limit, _)| (by, limit)), cut.row_count), (Some(("rows", 3)), 3));
        // A row is spelled ["12345678"]: twelve bytes.
        let cut = outcome(Limits { bytes: 30, ..Limits::NONE }, 5);
        assert_eq!((cut.advice().map(|(by, limit, _)| (by, limit)), cut.row_count), (Some(("bytes", 30)), 2));
    }

    #[test]
    fn every_outcome_is_a_valid_document() {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/schema/exec-1.schema.json")).expect("a schema");
        let statement = Statement { text: "drop table t".into(), line: 2, column: 1 };
        let origin = Origin { file: Some("f.sql"), statement: &statement };
        let mut refusal = ErrorFields::error("42501", "no");
        refusal.detail = Some(r#"{"rule":"r","decision":"dec_1","code":"c","retryable":false}"#.into());
        refusal.hint = Some("ask".into());
        for (fields, exit, status) in [
            (None, Exit::Ok, "ok"),
            (Some(ErrorFields::error("42601", "syntax error")), Exit::Sql, "sql_error"),
            (Some(refusal), Exit::Denied, "denied"),
        ] {
            let mut answer = Answer::new("demo");
            answer.push(outcome(Limits { rows: 2, ..Limits::NONE }, 3));
            if let Some(fields) = fields {
                answer.failed(Outcome::new(&statement.text, Limits::NONE), &fields, &origin, exit);
                answer.not_run("select 2");
            }
            let document: Value = serde_json::from_str(&answer.document(exit, None)).expect("JSON");
            assert!(jsonschema::is_valid(&schema, &document), "{document}");
            assert_eq!(document.get("status"), Some(&json!(status)));
        }
        let mut answer = Answer::new("demo");
        answer.lost(Outcome::new("delete from t where id = 1", Limits::NONE));
        let failure = Failure::new(Exit::OutcomeUnknown, "lost");
        let document: Value = serde_json::from_str(&answer.document(failure.exit, Some(&failure))).expect("JSON");
        assert!(jsonschema::is_valid(&schema, &document), "{document}");
        assert_eq!(document.pointer("/statements/0/status"), Some(&json!("unknown")));
    }
}
