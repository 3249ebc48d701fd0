//! Compares the two accounts of a session: what the gateway recorded with what the client signed.
//!
//! Statements pair by number, results by number and part. Neither side can repair a difference
//! afterwards: each holds the other's signed head.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::core::audit::report::Severity;
use crate::core::transcript::Event;

/// How far the two clocks may be apart before it is worth a look.
const SKEW: i64 = 30_000_000;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The gateway recorded a statement that the client did not sign.
    GatewayOnly,
    /// The client signed a statement that the gateway did not record.
    ClientOnly,
    Text,
    Parameters,
    Order,
    /// Rows, bytes, content, columns or SQLSTATE of a result.
    Result,
    /// One side has a result, the other has none.
    Partial,
    /// The local check judged otherwise than the gateway.
    Decision,
    Skew,
    /// The client's account ends before the session did.
    TailUnsigned,
    /// Stopped by the client's own check; never sent.
    BlockedLocally,
}

/// What a client hears when its session ends for another reason than its own word: revoked or expired, left idle
/// in a transaction, the target gone, nothing can be recorded, out of turn.
const FAREWELLS: [&str; 5] = ["57P01", "25P03", "08006", "ZG005", "08P01"];

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: Kind,
    pub severity: Severity,
    /// The statement's number.
    pub number: u64,
    pub what: String,
}

/// One side's account, by statement number.
struct Account<'a> {
    statements: BTreeMap<u64, Statement<'a>>,
    /// In the order they were recorded.
    order: Vec<u64>,
    results: BTreeMap<(u64, u64), &'a Event>,
    errors: BTreeMap<u64, &'a Event>,
    /// Statements whose outcome the gateway could not see, as after a crash.
    unknown: BTreeSet<u64>,
    /// Why the session closed, as far as that is known; `crash` where the next process closed it.
    closed: Option<&'a str>,
}

/// One statement, whose line may be that of others as well.
struct Statement<'a> {
    line: &'a Event,
    /// What it is bound to.
    parameters: Option<&'a str>,
}

/// The statements of a line, by number.
fn statements(line: &Event) -> impl Iterator<Item = (u64, Statement<'_>)> {
    let bound = line.member("par_c");
    let of_it = move |at: usize| match bound {
        Some(Value::Array(all)) => all.get(at).and_then(Value::as_str),
        one => one.and_then(Value::as_str),
    };
    line.numbers().enumerate().map(move |(at, number)| (number, Statement { line, parameters: of_it(at) }))
}

impl<'a> Account<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut account = Self {
            statements: BTreeMap::new(),
            order: Vec::new(),
            results: BTreeMap::new(),
            errors: BTreeMap::new(),
            unknown: BTreeSet::new(),
            closed: None,
        };
        for event in events {
            let number = event.number("no").unwrap_or(0);
            let part = event.number("part").unwrap_or(0);
            match event.kind.as_str() {
                // Further statements of one message carry no text of their own.
                "stmt" if part == 0 => {
                    account.order.extend(event.numbers());
                    account.statements.extend(statements(event));
                }
                "result" => account.results.extend(event.numbers().map(|number| ((number, part), event))),
                "error" => drop(account.errors.insert(number, event)),
                "result.unknown" => drop(account.unknown.insert(number)),
                "session.close" => account.closed = event.text("reason"),
                // Other kinds have no twin.
                _ => {}
            }
        }
        account
    }
}

/// All differences, in order of the statements.
pub fn reconcile(gateway: &[Event], client: &[Event]) -> Vec<Difference> {
    let (ours, theirs) = (Account::of(gateway), Account::of(client));
    let has_ended = client.last().is_some_and(|event| event.kind == "end");
    let last_signed = theirs.order.iter().max().copied().unwrap_or(0);
    let mut found = Vec::new();
    let mut add = |kind, severity, number, what: String| found.push(Difference { kind, severity, number, what });
    for (number, event) in &ours.statements {
        match theirs.statements.get(number) {
            Some(twin) => compare_statements(*number, event, twin, &mut add),
            None if !has_ended && *number > last_signed => {
                let what = "the client's account ends before this statement".to_owned();
                add(Kind::TailUnsigned, Severity::Missing, *number, what);
            }
            None => add(Kind::GatewayOnly, Severity::Bad, *number, "the client did not sign this statement".to_owned()),
        }
    }
    let last_recorded = ours.order.iter().max().copied().unwrap_or(0);
    let is_farewell = |error: &&Event| error.text("state").is_some_and(|state| FAREWELLS.contains(&state));
    let is_answered = |number: &u64| {
        theirs.results.keys().any(|place| place.0 == *number)
            || theirs.errors.get(number).is_some_and(|error| !is_farewell(error))
    };
    for number in theirs.statements.keys().filter(|number| !ours.statements.contains_key(number)) {
        // The client signs before it sends, and the end of a session may be on its way to it by then.
        let was_over = *number > last_recorded && ours.closed.is_some_and(|reason| reason != "client");
        let (severity, what) = match was_over && !is_answered(number) {
            true => (Severity::Missing, "signed by the client when the session was over, and not answered"),
            false => (Severity::Bad, "signed by the client, absent from the gateway's account"),
        };
        add(Kind::ClientOnly, severity, *number, what.to_owned());
    }
    let shared = |order: &[u64], other: &BTreeMap<u64, Statement<'_>>| -> Vec<u64> {
        order.iter().filter(|number| other.contains_key(number)).copied().collect()
    };
    if shared(&ours.order, &theirs.statements) != shared(&theirs.order, &ours.statements) {
        add(Kind::Order, Severity::Bad, 0, "the two accounts have the statements in another order".to_owned());
    }
    compare_results(&ours, &theirs, has_ended, &mut add);
    for event in client.iter().filter(|event| event.kind == "blocked") {
        let what = format!("the client's own check stopped a statement ({})", event.text("rule").unwrap_or("no rule"));
        add(Kind::BlockedLocally, Severity::Note, event.number("no").unwrap_or(0), what);
    }
    found.sort_by_key(|difference| (difference.number, difference.kind));
    found
}

fn compare_statements(
    number: u64,
    ours: &Statement<'_>,
    theirs: &Statement<'_>,
    add: &mut impl FnMut(Kind, Severity, u64, String),
) {
    let is_bound_alike = ours.parameters == theirs.parameters;
    let (ours, theirs) = (ours.line, theirs.line);
    if ours.text("stmt_c") != theirs.text("stmt_c") {
        add(Kind::Text, Severity::Bad, number, "the text that was run is not the text the client signed".to_owned());
    }
    if !is_bound_alike {
        add(Kind::Parameters, Severity::Bad, number, "the parameters are not those the client signed".to_owned());
    }
    let (decision, local) = (ours.text("dec").unwrap_or_default(), theirs.text("local").unwrap_or_default());
    if matches!((decision, local), ("allow", "deny") | ("deny", "allow")) {
        add(Kind::Decision, Severity::Note, number, format!("gateway: {decision}, local check: {local}"));
    }
    let apart = ours.at.micros().abs_diff(theirs.at.micros());
    if apart > SKEW.unsigned_abs() {
        add(Kind::Skew, Severity::Warning, number, format!("the two clocks are {} s apart", apart / 1_000_000));
    }
}

fn compare_results(
    ours: &Account,
    theirs: &Account,
    has_ended: bool,
    add: &mut impl FnMut(Kind, Severity, u64, String),
) {
    for (place, event) in &ours.results {
        let Some(twin) = theirs.results.get(place) else {
            // A statement that failed later in the message, or a broken link, leaves it out.
            let severity =
                if has_ended && !theirs.errors.contains_key(&place.0) { Severity::Warning } else { Severity::Note };
            add(Kind::Partial, severity, place.0, "the client did not record this result".to_owned());
            continue;
        };
        for (member, meaning) in [
            ("rows", "number of rows"),
            ("bytes", "number of bytes"),
            ("rows_c", "content"),
            ("cols", "columns"),
            ("state", "SQLSTATE"),
        ] {
            let (left, right): (Option<&Value>, Option<&Value>) = (event.member(member), twin.member(member));
            // Both say all of it, be it that there was nothing.
            if left != right {
                let what = format!("the {meaning} delivered is not what the client received");
                add(Kind::Result, Severity::Bad, place.0, what);
            }
        }
    }
    for place in theirs.results.keys().filter(|place| !ours.results.contains_key(place)) {
        // A gateway that has crashed may have passed on what it could not record any more; no other may.
        let is_lost = ours.closed == Some("crash") && ours.unknown.contains(&place.0);
        let severity = if is_lost { Severity::Warning } else { Severity::Bad };
        add(Kind::Result, severity, place.0, "the client received a result the gateway did not record".to_owned());
    }
    for (number, event) in &ours.errors {
        if let Some(twin) = theirs.errors.get(number)
            && event.text("state") != twin.text("state")
        {
            add(Kind::Result, Severity::Bad, *number, "the SQLSTATE of the error differs".to_owned());
        }
    }
}
