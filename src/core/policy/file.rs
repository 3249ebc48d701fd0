//! The policy folder: which files it has, and where in them something is wrong.
//!
//! A name that the vocabulary does not know is an error with file and line, never ignored:
//! a misspelt `@aproval` or tag must not quietly widen or narrow what people may do.

use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Effect, PolicySet, ValidationMode, Validator};
use sha2::Digest as _;

use super::classification::Classification;
use super::engine::Rule;
use super::limit::{Limits, Undo};
use super::selftest::ENDING;
use crate::core::approval::Reviewers;
use crate::core::statement::grammar;
use crate::core::{encoding, mask};

/// The file of a policy folder that says what is sensitive.
pub const CLASSIFICATION: &str = "classification.toml";
/// Annotations that mean something. Any other is an error.
const ANNOTATIONS: [&str; 10] =
    ["id", "code", "mask", "filter", "limit", "undo", "approval", "break_glass", "reason", "suggest"];

/// One file of a policy folder: its name inside the folder and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }
}

/// Something wrong in a policy folder, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl Problem {
    pub(super) fn at(source: &Source, offset: usize, message: impl Into<String>) -> Self {
        Self { file: source.name.clone(), line: line_of(&source.text, offset), message: message.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// A folder that was read without a problem.
pub(super) struct Folder {
    pub rules: Vec<(cedar_policy::Policy, Rule)>,
    pub classification: Classification,
}

/// Reads every file, or says everything that is wrong with them.
pub(super) fn read(sources: &[Source], validator: &Validator) -> Result<Folder, Vec<Problem>> {
    let mut folder = Folder { rules: Vec::new(), classification: Classification::default() };
    let mut problems = Vec::new();
    for source in sources {
        if source.name == CLASSIFICATION {
            match Classification::parse(source) {
                Ok(classification) => folder.classification = classification,
                Err(found) => problems.extend(found),
            }
        } else if source.name.ends_with(".cedar") {
            read_rules(source, validator, &mut folder.rules, &mut problems);
        } else if !source.name.ends_with(ENDING) {
            problems.push(Problem::at(source, 0, "neither `*.cedar` nor `classification.toml` nor `*.test.toml`"));
        }
    }
    if problems.is_empty() && folder.rules.is_empty() {
        let message = "no rule in any `*.cedar` file, so nobody could do anything".to_owned();
        problems.push(Problem { file: ".".to_owned(), line: 1, message });
    }
    if problems.is_empty() { Ok(folder) } else { Err(problems) }
}

/// SHA-256 over all files, in order of their names: two folders with one digest say the same.
pub(super) fn digest(sources: &[Source]) -> String {
    let mut sorted: Vec<&Source> = sources.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = sha2::Sha256::new();
    hash.update(b"dbgate-policy/v1\n");
    for source in sorted {
        // Lengths first, so that no text can pass for a file name or the other way round.
        hash.update(format!("{} {}\n", source.name.len(), source.text.len()));
        hash.update(&source.name);
        hash.update(&source.text);
    }
    encoding::hex(&hash.finalize())
}

fn read_rules(
    source: &Source,
    validator: &Validator,
    rules: &mut Vec<(cedar_policy::Policy, Rule)>,
    problems: &mut Vec<Problem>,
) {
    let set = match PolicySet::from_str(&source.text) {
        Ok(set) => set,
        Err(errors) => {
            problems.extend(errors.iter().map(|error| problem_of(source, &DetailedError::from(error))));
            return;
        }
    };
    if set.templates().next().is_some() {
        problems.push(Problem::at(source, 0, "templates (`?principal`, `?resource`) are not supported"));
    }
    let validation = validator.validate(&set, ValidationMode::Strict);
    problems.extend(validation.validation_errors().map(|error| problem_of(source, &DetailedError::from(error))));
    for policy in set.policies() {
        // The text of a policy is a piece of the file's text, so it can be found there again.
        let offset = source.text.find(policy.to_string().trim()).unwrap_or(0);
        match rule_of(policy) {
            Ok(rule) if rules.iter().any(|(_, other)| other.id == rule.id) => {
                problems.push(Problem::at(source, offset, format!("a second rule with the id `{}`", rule.id)));
            }
            Ok(rule) => rules.push((policy.clone(), rule)),
            Err(message) => problems.push(Problem::at(source, offset, message)),
        }
    }
}

/// Cedar's own message and the line it points at.
fn problem_of(source: &Source, error: &DetailedError) -> Problem {
    let offset = error.source_locations.first().map_or(0, |label| label.loc.start);
    // Cedar numbers policies from 0 where a person sees names; the line says more.
    let message = error.message.split_once("`, ").filter(|(head, _)| head.starts_with("for policy `"));
    let message = message.map_or(error.message.as_str(), |(_, rest)| rest);
    match &error.help {
        Some(help) => Problem::at(source, offset, format!("{message} ({help})")),
        None => Problem::at(source, offset, message),
    }
}

/// Reads the annotations of one rule; the message says which of them is wrong.
fn rule_of(policy: &cedar_policy::Policy) -> Result<Rule, String> {
    if let Some((key, _)) = policy.annotations().find(|(key, _)| !ANNOTATIONS.contains(key)) {
        return Err(format!("unknown annotation `@{key}`: one of @{}", ANNOTATIONS.join(", @")));
    }
    let text = |key: &str| policy.annotation(key).map(str::to_owned).filter(|text| !text.is_empty());
    let Some(id) = text("id") else { return Err("a rule without @id(\"...\")".to_owned()) };
    let forbids = policy.effect() == Effect::Forbid;
    for key in ["mask", "filter", "limit", "undo", "approval", "break_glass", "reason", "suggest", "code"] {
        if !forbids && policy.annotation(key).is_some() {
            return Err(format!("@{key} on a permit has no effect: put it on a forbid"));
        }
    }
    if policy.annotation("approval").is_some() && text("approval").is_none() {
        return Err("@approval names no group".to_owned());
    }
    if text("approval").is_some_and(|text| Reviewers::parse(&text).is_none()) {
        return Err("@approval is a group, as in `dba`, or up to five people of it, as in `2 of dba`".to_owned());
    }
    if policy.annotation("break_glass").is_some() && (text("break_glass").is_none() || text("approval").is_none()) {
        return Err("@break_glass names a group, beside the @approval of those who review it".to_owned());
    }
    if let Some(name) = policy.annotation("mask") {
        if !mask::is_known(name) {
            return Err(format!("unknown mask `{name}`: one of {}", mask::NAMES.join(", ")));
        }
        if !decides_only(policy, "reveal") {
            return Err("@mask belongs on a forbid of Action::\"reveal\" alone".to_owned());
        }
    }
    if let Some(condition) = policy.annotation("filter") {
        if !decides_only(policy, "read") || policy.annotation("approval").is_some() {
            return Err("@filter belongs on a forbid of Action::\"read\" alone, without @approval".to_owned());
        }
        if !is_condition(condition) {
            return Err(format!("@filter is not one SQL condition: {condition}"));
        }
    }
    let limit = policy.annotation("limit").map(Limits::parse).transpose()?;
    let undo = policy.annotation("undo").map(Undo::parse).transpose()?;
    let limit = match undo {
        None => limit,
        undo => Some(Limits { undo, ..limit.unwrap_or_default() }),
    };
    if limit.is_some() && (!decides_only(policy, "execute") || policy.annotation("approval").is_some()) {
        let name = if undo.is_some() { "undo" } else { "limit" };
        return Err(format!("@{name} belongs on a forbid of Action::\"execute\" alone, without @approval"));
    }
    Ok(Rule {
        code: text("code").unwrap_or_else(|| id.replace('-', "_")),
        id,
        mask: text("mask"),
        filter: text("filter"),
        limit,
        approval: text("approval"),
        break_glass: text("break_glass"),
        reason: text("reason"),
        suggest: text("suggest"),
    })
}

/// Whether a text can stand in a WHERE clause by itself and brings in no other relation: what a
/// sub-select would read, nobody has judged.
fn is_condition(text: &str) -> bool {
    // Inside brackets too, where a parenthesis too many cannot close what it did not open.
    ["SELECT 1 WHERE (", "SELECT ARRAY["].iter().zip([")", "]"]).all(|(open, close)| {
        match grammar::parse(&format!("{open}{text}\n{close}")).as_deref() {
            Ok([one]) => one.facts.verb == "SELECT" && one.facts.touches.is_empty(),
            Ok(_) | Err(_) => false,
        }
    })
}

fn decides_only(policy: &cedar_policy::Policy, wanted: &str) -> bool {
    match policy.action_constraint() {
        cedar_policy::ActionConstraint::Eq(action) => action.id().unescaped() == wanted,
        cedar_policy::ActionConstraint::In(actions) => actions.iter().all(|action| action.id().unescaped() == wanted),
        cedar_policy::ActionConstraint::Any => false,
    }
}

/// The line, from 1, that a byte offset stands in.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::policy::Policy;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<_> = files.iter().map(|(name, text)| Source::new(name, text)).collect();
        let found = Policy::parse(&sources).expect_err("a wrong folder");
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn wrong_names_are_errors_with_file_and_line() {
        let cases = [
            // (text, line, a word of the message)
            ("\n@id(\"a\")\npermit (principal, action == Action::\"reed\", resource);", 3, "reed"),
            (
                "@id(\"a\")\npermit (principal, action == Action::\"read\", resource)\nwhen { resource.tag == \"x\" };",
                3,
                "tag",
            ),
            ("@id(\"a\")\npermit (principal == Person::\"x\", action, resource);", 2, "Person"),
            ("\n\n@id(\"a\") @aproval(\"dba\")\nforbid (principal, action, resource);", 3, "@aproval"),
            ("@id(\"a\") @mask(\"emial\")\nforbid (principal, action == Action::\"reveal\", resource);", 1, "emial"),
            ("@id(\"a\") @mask(\"email\")\nforbid (principal, action == Action::\"read\", resource);", 1, "@mask"),
            (
                "@id(\"a\") @limit(\"9 lines\")\nforbid (principal, action == Action::\"execute\", resource);",
                1,
                "9 lines",
            ),
            ("@id(\"a\") @limit(\"9 rows\")\nforbid (principal, action == Action::\"read\", resource);", 1, "@limit"),
            ("@id(\"a\") @undo(\"9 rows\")\nforbid (principal, action == Action::\"execute\", resource);", 1, "9 rows"),
            (
                "@id(\"a\") @undo(\"9 rows, 1 h\")\nforbid (principal, action == Action::\"update\", resource);",
                1,
                "@undo",
            ),
            (
                "@id(\"a\") @filter(\"a = 1\")\nforbid (principal, action == Action::\"reveal\", resource);",
                1,
                "@filter",
            ),
            ("@id(\"a\") @filter(\"a = \")\nforbid (principal, action == Action::\"read\", resource);", 1, "@filter"),
            (
                "@id(\"a\") @filter(\"a in (select b from c)\")\nforbid (principal, action == Action::\"read\", resource);",
                1,
                "@filter",
            ),
            ("permit (principal, action, resource);", 1, "@id"),
            ("@id(\"a\") @approval(\"dba\")\npermit (principal, action, resource);", 1, "@approval"),
            ("@id(\"a\") @break_glass(\"oncall\")\nforbid (principal, action, resource);", 1, "@break_glass"),
            ("@id(\"a\") @approval(\"0 of dba\")\nforbid (principal, action, resource);", 1, "2 of dba"),
            ("@id(\"a\")\npermit (principal, action, resource)\nwhen {", 3, "unexpected"),
        ];
        for (text, line, word) in cases {
            let found = problems(&[("rules.cedar", text)]);
            let place = format!("rules.cedar:{line}: ");
            assert!(found.iter().any(|one| one.starts_with(&place) && one.contains(word)), "{text}\n{found:?}");
        }
    }

    #[test]
    fn a_second_rule_of_the_same_id_and_foreign_files_are_errors() {
        let rule = "@id(\"a\")\npermit (principal, action, resource);";
        assert_eq!(problems(&[("a.cedar", rule), ("b.cedar", rule)]), ["b.cedar:1: a second rule with the id `a`"]);
        assert!(problems(&[("a.cedar", rule), ("notes.txt", "")]).concat().starts_with("notes.txt:1:"));
        assert!(problems(&[(CLASSIFICATION, "")]).concat().contains("no rule"));
    }

    #[test]
    fn the_digest_depends_on_every_byte_and_not_on_the_order_of_files() {
        let (a, b) = (Source::new("a.cedar", "x"), Source::new("b.cedar", "y"));
        assert_eq!(digest(&[a.clone(), b.clone()]), digest(&[b.clone(), a.clone()]));
        assert_ne!(digest(&[a.clone(), b]), digest(&[a, Source::new("b.cedar", "z")]));
    }
}
