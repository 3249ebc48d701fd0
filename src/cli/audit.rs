//! `dbgate audit verify FILE`: judges an evidence file, offline, with public keys only.
//!
//! Exit codes of this command: 0 all good; 1 tampered or contradictory; 2 the file or a key cannot
//! be used; 3 nothing is wrong with it, but something is missing.

use std::io::Write;
use std::path::Path;

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::client::transcript::pins;
use crate::core::audit::report::{Finding, Report, Severity, State};
use crate::core::audit::verify::verify_bytes;
use crate::core::audit::{Outcome, VerifierKey, container};
use crate::core::text::escape;
use crate::sys::paths::Paths;

/// The file or a key cannot be used: code 2, so that a script never takes it for tampering.
const UNUSABLE: Exit = Exit::Connection;
/// Valid but incomplete: code 3.
const INCOMPLETE: Exit = Exit::Sql;
/// The largest evidence file that is read.
const LARGEST: u64 = 1 << 30;

/// Verifies `file` against `keys` (verifier keys, or files that hold one a line) or, where none is
/// given, against the log keys this machine has pinned. What was found is in the report; the exit
/// code says what it comes to.
pub fn verify(file: &Path, keys: &[String], json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let keys = if keys.is_empty() { pinned(file)? } else { given(keys)? };
    let size = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
    if size > LARGEST {
        return Err(Failure::new(UNUSABLE, format!("`{}` is larger than any evidence file", file.display())));
    }
    let bytes = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
    if !container::is_one(&bytes) {
        let message = format!("`{}` is no evidence file", file.display());
        return Err(Failure::new(UNUSABLE, message).hint("`dbgate exec` and `connect` name theirs when they end"));
    }
    let report = verify_bytes(&bytes, &keys);
    let text = if json { as_json(&report)? } else { as_text(&report) };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(Exit::ClosedPipe),
        written => written.map_err(|error| Failure::new(UNUSABLE, format!("the report cannot be written: {error}")))?,
    }
    Ok(match report.outcome() {
        Outcome::Good => Exit::Ok,
        Outcome::Tampered => Exit::Failed,
        Outcome::Incomplete => INCOMPLETE,
    })
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(UNUSABLE, format!("cannot read `{}`: {error}", file.display()))
}

fn pinned(file: &Path) -> Result<Vec<VerifierKey>, Failure> {
    let folder = Paths::from_environment().state().join("pins");
    let keys = pins::pinned(&folder).map_err(|error| Failure::new(UNUSABLE, error.to_string()))?;
    if keys.is_empty() {
        return Err(Failure::new(UNUSABLE, "No log key is known on this machine, and none was given.").hint(format!(
            "Run: dbgate audit verify {} --key NAME+ID+KEY (the log's operator publishes it; it is `log_key` of /v1/discovery)",
            file.display()
        )));
    }
    Ok(keys)
}

fn given(keys: &[String]) -> Result<Vec<VerifierKey>, Failure> {
    let mut read = Vec::new();
    for key in keys {
        // A verifier key has plus signs and three parts; anything else is a file.
        let text = if VerifierKey::parse(key).is_ok() { Ok(key.clone()) } else { std::fs::read_to_string(key) };
        let lines = text.unwrap_or_default();
        let parsed: Option<Vec<_>> = lines.lines().map(|line| VerifierKey::parse(line).ok()).collect();
        match parsed.filter(|keys| !keys.is_empty()) {
            Some(keys) => read.extend(keys),
            None => {
                let message = format!("`{}` is neither a log key nor a file with one", escape(key));
                return Err(
                    Failure::new(UNUSABLE, message).hint("A log key looks like: gate.example.com/log+1a2b3c4d+AbCd…")
                );
            }
        }
    }
    Ok(read)
}

fn as_json(report: &Report) -> Result<String, Failure> {
    let mut value = serde_json::to_value(report).map_err(|error| Failure::new(UNUSABLE, error.to_string()))?;
    if let Some(members) = value.as_object_mut() {
        members.insert("schema".into(), "dbgate.verification/1".into());
        members.insert("outcome".into(), json!(report.outcome()));
    }
    Ok(format!("{value:#}\n"))
}

/// What the file claims is shown only when the lines are the ones that were logged.
fn as_text(report: &Report) -> String {
    let mut text = String::new();
    let summary = &report.summary;
    if report.integrity == State::Good {
        text += &format!("Session {} of {}\n", escape(&summary.session), escape(&summary.subject));
        text +=
            &format!("  on {} ({}) as {}\n", escape(&summary.target), escape(&summary.database), escape(&summary.role));
        let closed = if summary.closed.is_empty() { "not closed" } else { &summary.closed };
        text += &format!("  from {} to {closed}\n", summary.opened);
        text += &format!(
            "  {}, {} denied, {}\n",
            counted(summary.statements, "statement"),
            summary.denied,
            counted(summary.rows, "row")
        );
        text +=
            &format!("  log {}, line {} of {}\n\n", escape(&summary.origin), summary.log_index + 1, summary.log_size);
    }
    for (name, state) in [
        ("integrity", report.integrity),
        ("completeness", report.completeness),
        ("client-signed", report.client_signed),
        ("reconciled", report.reconciled),
    ] {
        text += &format!("  {name:<14} {}\n", word(state));
    }
    let level = if report.level == 0 { "0 (the gateway's account only)" } else { "1 (signed by the client)" };
    text += &format!("  {:<14} {level}\n", "level");
    if !report.findings.is_empty() {
        text += "\n";
    }
    report.findings.iter().for_each(|finding| text += &told(finding));
    text += match report.outcome() {
        Outcome::Good => "\nOK\n",
        Outcome::Tampered => "\nTAMPERED: keep the file as it is, and fetch the session's evidence again\n",
        Outcome::Incomplete => {
            "\nINCOMPLETE: genuine so far; fetch it again when the session is closed and handed in\n"
        }
    };
    text
}

fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

const fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Bad => "bad",
        State::Missing => "missing",
        State::NotApplicable => "not applicable (a native client)",
    }
}

fn told(finding: &Finding) -> String {
    let weight = match finding.severity {
        Severity::Bad => "!!",
        Severity::Missing => "missing",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let place = finding.line.map(|line| format!(", line {line}")).unwrap_or_default();
    format!("  {weight:<8} {}{place}: {}\n", finding.section, escape(&finding.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");

    fn run(file: &str, json: bool) -> (Result<Exit, Failure>, String) {
        let mut out = Vec::new();
        let key = format!("{VECTORS}/log.vkey");
        let result = verify(&Path::new(VECTORS).join(file), &[key], json, &mut out);
        (result, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_genuine_file_is_told_in_a_table() {
        let (result, text) = run("good.dbgt", false);
        assert_eq!(result.expect("readable"), Exit::Ok, "{text}");
        assert!(text.contains("  integrity      good\n") && text.ends_with("\nOK\n"), "{text}");
        let (_, text) = run("good.dbgt", true);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((value["outcome"].as_str(), value["integrity"].as_str()), (Some("good"), Some("good")));
    }

    #[test]
    fn every_ending_has_its_exit_code() {
        let code = |file: &str| run(file, false).0.unwrap_or_else(|failure| failure.exit).code();
        assert_eq!(code("bad-edit.dbgt"), 1);
        assert_eq!(code("bad-text.dbgt"), 1);
        assert_eq!(code("bad-cut.dbgt"), 1);
        assert_eq!(code("open.dbgt"), 3);
        assert_eq!(code("absent.dbgt"), 2);
        let mut out = Vec::new();
        let bad_key = verify(&Path::new(VECTORS).join("good.dbgt"), &["nonsense".into()], false, &mut out);
        assert_eq!(bad_key.expect_err("refused").exit.code(), 2);
    }

    #[test]
    fn what_a_broken_file_claims_is_not_shown() {
        let (_, text) = run("bad-edit.dbgt", false);
        assert!(!text.contains("ana@example.com") && text.contains("line "), "{text}");
    }
}
