//! What the gateway's lines must say, beyond being chained: the rules of a session's account.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::audit::report::{Aspect, Finding, Severity};
use crate::core::transcript::{Event, LONGEST_RUN};

/// Kinds of a session that this version knows.
const KNOWN: [&str; 11] = [
    "session.open",
    "stmt",
    "result",
    "error",
    "skipped",
    "undone",
    "cancel",
    "impact",
    "notice",
    "result.unknown",
    "session.close",
];

/// A line of the file together with what it says.
pub(super) struct Placed {
    pub line: usize,
    pub event: Event,
}

/// Goes through the gateway's account once.
pub(super) fn check(events: &[Placed]) -> Vec<Finding> {
    let mut account = Account::default();
    for (index, placed) in events.iter().enumerate() {
        account.line = placed.line;
        account.place(index, events.len(), &placed.event);
        account.take(&placed.event);
    }
    account.finish(events.last());
    account.findings
}

/// What has been seen so far.
#[derive(Default)]
struct Account {
    findings: Vec<Finding>,
    line: usize,
    /// Decision and line by number and part.
    statements: BTreeMap<(u64, u64), (bool, usize)>,
    answered: BTreeSet<(u64, u64)>,
    /// Those that ended with a result, and those that were not run.
    results: BTreeSet<(u64, u64)>,
    skipped: BTreeSet<(u64, u64)>,
    last: (u64, u64),
    denied: u64,
    errors: u64,
    rows: u64,
    bytes: u64,
}

impl Account {
    fn add(&mut self, aspect: Aspect, severity: Severity, what: impl Into<String>) {
        let line = Some(self.line);
        self.findings.push(Finding { aspect, severity, section: "gateway", line, what: what.into() });
    }

    fn bad(&mut self, what: impl Into<String>) {
        self.add(Aspect::Integrity, Severity::Bad, what);
    }

    fn place(&mut self, index: usize, length: usize, event: &Event) {
        if (event.kind == "session.open") != (index == 0) {
            self.bad("`session.open` must be the first line and no other");
        }
        if event.kind == "session.close" && index + 1 != length {
            self.bad("lines after `session.close`");
        }
        if !KNOWN.contains(&event.kind.as_str()) {
            self.add(
                Aspect::Integrity,
                Severity::Warning,
                format!("a kind this version does not know: `{}`", event.kind),
            );
        }
    }

    fn take(&mut self, event: &Event) {
        let (number, part) = (event.number("no").unwrap_or(0), event.number("part").unwrap_or(0));
        match event.kind.as_str() {
            "stmt" => {
                self.run(event);
                event.numbers().for_each(|number| self.statement(number, part, event));
            }
            "result" => {
                self.run(event);
                self.rows = self.rows.saturating_add(event.number("rows").unwrap_or(0));
                self.bytes = self.bytes.saturating_add(event.number("bytes").unwrap_or(0));
                for number in event.numbers() {
                    self.answer(number, part, "result");
                    if !self.results.insert((number, part)) {
                        self.bad(format!("a second result of statement {number}"));
                    }
                }
            }
            "error" => self.error(number, event.number("part")),
            "skipped" => {
                self.run(event);
                for number in event.numbers() {
                    if self.answered.contains(&(number, part)) {
                        self.bad(format!("statement {number} was skipped, and has another outcome"));
                    }
                    self.answer(number, part, "skip");
                    self.skipped.insert((number, part));
                }
            }
            "undone" if !self.results.contains(&(number, part)) => {
                self.bad(format!("statement {number} was undone, and has no result"));
            }
            "result.unknown" => {
                self.answer(number, part, "result");
                self.add(
                    Aspect::Completeness,
                    Severity::Note,
                    format!("the outcome of statement {number} is not known"),
                );
            }
            "session.close" => self.totals(event),
            // The others add nothing up.
            _ => {}
        }
    }

    /// A line may stand for several statements: then it has what was bound for each of them.
    fn run(&mut self, event: &Event) {
        let Some(times) = event.number("times") else { return };
        let bound = event.member("par_c").and_then(Value::as_array).map(Vec::len);
        let is_whole = event.kind != "stmt" || bound.and_then(|bound| u64::try_from(bound).ok()) == Some(times);
        let is_plain = event.number("part") == Some(0) && event.number("rows").unwrap_or(0) == 0;
        if !(2..=LONGEST_RUN).contains(&times) || !is_whole || !is_plain {
            self.bad(format!("a line that does not say what the {times} statements are that it stands for"));
        }
    }

    fn statement(&mut self, number: u64, part: u64, event: &Event) {
        let (last, last_part) = self.last;
        let follows = (number, part) == (last + 1, 0) || (last > 0 && (number, part) == (last, last_part + 1));
        if !follows {
            self.bad(format!("statement {number} does not follow statement {last}"));
        }
        let is_allowed = match event.text("dec") {
            Some("allow") => true,
            Some("deny") => false,
            _ => {
                self.bad(format!("statement {number} has no decision this version knows"));
                false
            }
        };
        self.denied += u64::from(!is_allowed);
        self.last = (number, part);
        self.statements.insert((number, part), (is_allowed, self.line));
    }

    /// An error of one part. Where it does not say of which, it ended the message: parts that had no
    /// result by then have none.
    fn error(&mut self, number: u64, part: Option<u64>) {
        self.errors += 1;
        if !self.statements.contains_key(&(number, part.unwrap_or(0))) {
            self.bad(format!("an error of statement {number}, which was not recorded"));
        }
        let parts = part.map_or((number, 0)..=(number, u64::MAX), |part| (number, part)..=(number, part));
        let parts: Vec<_> = self.statements.range(parts).map(|(place, _)| *place).collect();
        if parts.iter().any(|place| self.skipped.contains(place)) {
            self.bad(format!("an error of statement {number}, which was skipped"));
        }
        self.answered.extend(parts);
    }

    /// Only what was allowed can have an outcome, and nothing else if it was skipped.
    fn answer(&mut self, number: u64, part: u64, what: &str) {
        if self.skipped.contains(&(number, part)) {
            self.bad(format!("a {what} of statement {number}, which was skipped"));
        }
        match self.statements.get(&(number, part)) {
            Some((true, _)) => drop(self.answered.insert((number, part))),
            Some((false, _)) => self.bad(format!("a {what} of statement {number}, which was denied")),
            None => self.bad(format!("a {what} of statement {number}, which was not recorded")),
        }
    }

    fn totals(&mut self, event: &Event) {
        let totals = [
            ("n_stmt", self.last.0),
            ("n_deny", self.denied),
            ("n_err", self.errors),
            ("rows", self.rows),
            ("bytes_out", self.bytes),
        ];
        for (name, counted) in totals {
            if event.member(name).and_then(Value::as_u64) != Some(counted) {
                self.bad(format!("the total `{name}` of the session is not what its lines add up to ({counted})"));
            }
        }
    }

    fn finish(&mut self, last: Option<&Placed>) {
        if last.is_none_or(|placed| placed.event.kind != "session.close") {
            self.add(Aspect::Completeness, Severity::Missing, "the session has no `session.close`");
            return;
        }
        let open: Vec<(u64, usize)> = self
            .statements
            .iter()
            .filter(|(place, (is_allowed, _))| *is_allowed && !self.answered.contains(place))
            .map(|((number, _), (_, line))| (*number, *line))
            .collect();
        for (number, line) in open {
            self.line = line;
            self.add(Aspect::Completeness, Severity::Missing, format!("statement {number} has no outcome"));
        }
    }
}
