//! `dbgate policy test`: runs a policy's own cases and says which do not come true.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::exit::{Exit, Failure};
use crate::cli::policy::files::{self, Found, Which};
use crate::cli::whoami::Form;
use crate::core::policy::Policy;
use crate::core::policy::file::{Problem, Source};
use crate::core::policy::selftest::{self, ENDING, Outcome};
use crate::core::text::escape;

#[derive(Clone, Debug, clap::Args)]
pub struct TestArguments {
    #[command(flatten)]
    pub which: Which,
    /// Write the outcome for a build server too, as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
}

/// Runs every case.
pub fn run(arguments: &TestArguments, form: Form) -> Result<Exit, Failure> {
    let found = files::read(&arguments.which, None)?;
    // Read without its cases first: a folder does not load while one fails, and all are to be told.
    let rules: Vec<Source> = found.sources.iter().filter(|source| !source.name.ends_with(ENDING)).cloned().collect();
    let policy = Policy::parse(&rules).map_err(|problems| unreadable(&found, &problems))?;
    let outcomes = selftest::run(&policy, &found.sources).map_err(|problems| unreadable(&found, &problems))?;
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let exit = if failed == 0 { Exit::Ok } else { Exit::Incomplete };
    if let Some(file) = &arguments.junit {
        let written = std::fs::write(file, junit(&outcomes));
        written.map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", file.display())))?;
    }
    match form {
        Form::Json => println!("{:#}", as_json(&found, &outcomes, exit)),
        Form::Text => {
            for outcome in &outcomes {
                let word = if outcome.failure.is_none() { "pass" } else { "FAIL" };
                println!("{word}  {}:{}  {}", outcome.file, outcome.line, escape(&outcome.name));
                outcome.failure.iter().for_each(|failure| println!("      {}", escape(failure)));
            }
            println!("{} cases, {failed} failed", outcomes.len());
        }
    }
    if outcomes.is_empty() {
        eprintln!("There is no `*{ENDING}` file. See: dbgate policy production -o DIR");
    }
    Ok(exit)
}

fn unreadable(found: &Found, problems: &[Problem]) -> Failure {
    let told: Vec<String> = problems.iter().map(|problem| files::told(&found.folder, problem)).collect();
    Failure::new(Exit::Config, told.join("\n"))
}

fn as_json(found: &Found, outcomes: &[Outcome], exit: Exit) -> Value {
    let case = |outcome: &Outcome| {
        json!({"file": found.folder.join(&outcome.file).display().to_string(), "line": outcome.line,
            "name": outcome.name, "passed": outcome.failure.is_none(), "failure": outcome.failure})
    };
    let cases: Vec<Value> = outcomes.iter().map(case).collect();
    json!({"schema": "dbgate.policy-test/1", "exit_code": exit.code(), "cases": cases})
}

fn junit(outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"policy\" tests=\"{}\" failures=\"{failed}\">\n",
        outcomes.len()
    );
    for outcome in outcomes {
        let (file, name) = (xml(&outcome.file), xml(&outcome.name));
        // Writing to a string cannot fail.
        let _ = match &outcome.failure {
            None => writeln!(text, "  <testcase classname=\"{file}\" name=\"{name}\"/>"),
            Some(failure) => writeln!(
                text,
                "  <testcase classname=\"{file}\" name=\"{name}\"><failure message=\"{}\"/></testcase>",
                xml(failure)
            ),
        };
    }
    text + "</testsuite>\n"
}

fn xml(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_well_formed_whatever_a_case_is_called() {
        let outcome = |failure: Option<&str>| Outcome {
            file: "a.test.toml".into(),
            line: 1,
            name: "a < \"b\" & c\n".into(),
            failure: failure.map(str::to_owned),
        };
        let text = junit(&[outcome(None), outcome(Some("<x>"))]);
        assert!(text.contains("tests=\"2\" failures=\"1\""), "{text}");
        assert!(text.contains("name=\"a &lt; &quot;b&quot; &amp; c \"/>"), "{text}");
        assert!(text.contains("<failure message=\"&lt;x&gt;\"/>"), "{text}");
    }
}
