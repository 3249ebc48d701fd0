//! `dbgate audit verify`: the auditor's step. Needs a file and public keys, no server.

use std::io::Write;
use std::path::Path;

use crate::cli::exit::{Exit, Failure};
use crate::core::audit::note::VerifierKey;
use crate::core::audit::report::{Outcome, Report, Severity};
use crate::core::text;
use crate::sys::paths::Paths;

/// The largest file that is read.
const LARGEST: u64 = 1024 * 1024 * 1024;

/// Verifies one evidence file and prints the table.
pub fn verify(file: &Path, keys: &[String], json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let unreadable = |why: String| Failure::new(Exit::Connection, format!("cannot read {}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LARGEST {
        return Err(unreadable(format!("larger than {LARGEST} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let keys = trusted(keys)?;
    let report = crate::core::audit::verify::verify_bytes(&bytes, &keys);
    let written = match json {
        true => serde_json::to_string(&report).map_err(std::io::Error::from).and_then(|text| writeln!(out, "{text}")),
        false => table(&report, out),
    };
    written.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(match report.outcome() {
        Outcome::Good => Exit::Ok,
        Outcome::Tampered => Exit::Failed,
        // 3 means here what it means for psql: it ran, and the answer is not what was wanted.
        Outcome::Incomplete => Exit::Sql,
    })
}

/// The keys that were given, or those kept when signing in to brokers.
fn trusted(given: &[String]) -> Result<Vec<VerifierKey>, Failure> {
    let kept = match given.is_empty() {
        true => kept_keys(),
        false => given.to_vec(),
    };
    if kept.is_empty() {
        return Err(Failure::new(Exit::Usage, "no public key of a log is known here")
            .hint("Give one: dbgate audit verify FILE --key 'NAME+HASH+KEY'"));
    }
    let read = |text: &String| {
        VerifierKey::parse(text.trim())
            .map_err(|_| Failure::new(Exit::Usage, format!("`{text}` is not a verifier key")))
    };
    kept.iter().map(read).collect()
}

/// Keys pinned in the state folder: one file a log.
fn kept_keys() -> Vec<String> {
    let folder = Paths::from_environment().state().join("pins");
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok()).collect()
}

fn table(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let summary = &report.summary;
    let verdict = match report.outcome() {
        Outcome::Good => "OK",
        Outcome::Tampered => "FAILED",
        Outcome::Incomplete => "INCOMPLETE",
    };
    let show = |text: &str| text::escape(text).into_owned();
    writeln!(
        out,
        "{verdict}  session {}  {} on {}/{}",
        show(&summary.session),
        show(&summary.subject),
        show(&summary.target),
        show(&summary.database)
    )?;
    writeln!(out, "  recorded       {} to {}", show(&summary.opened), show(&summary.closed))?;
    writeln!(out, "  statements     {} ({} denied), {} rows", summary.statements, summary.denied, summary.rows)?;
    writeln!(out, "  lines          {} gateway, {} client", summary.gateway_lines, summary.client_lines)?;
    writeln!(out, "  log            {} at {} of {}", show(&summary.origin), summary.log_index, summary.log_size)?;
    let states = [
        ("integrity", report.integrity),
        ("completeness", report.completeness),
        ("client signed", report.client_signed),
        ("reconciled", report.reconciled),
    ];
    for (name, state) in states {
        writeln!(out, "  {name:<14} {}", format!("{state:?}").to_lowercase())?;
    }
    for finding in &report.findings {
        let mark = if finding.severity == Severity::Bad { "!!" } else { "--" };
        let line = finding.line.map_or(String::new(), |line| format!(" line {line}"));
        writeln!(out, "  {mark} {}{line}: {}", finding.section, show(&finding.what))?;
    }
    Ok(())
}
