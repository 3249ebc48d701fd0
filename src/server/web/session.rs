//! Sessions as pages: who is in now, and what a session did, as the log says it: literals left out.

use maud::{Markup, html};
use serde_json::Value;

use super::request::at;
use crate::core::grant::SessionId;
use crate::core::identity::Identity;
use crate::core::text::{escape, escape_keeping_lines, grouped};
use crate::core::time::Moment;
use crate::core::transcript::Event;
use crate::server::state::State;

/// A connection that is open now.
pub struct Open {
    pub id: String,
    pub who: String,
    pub target: String,
    pub database: String,
    pub access: &'static str,
    pub started: Moment,
    pub ends: Moment,
}

/// What is recorded of one session.
pub struct Account {
    id: String,
    events: Vec<Event>,
}

/// Open connections that somebody may see: their own, and those to targets where they approve.
pub fn open(state: &State, identity: &Identity) -> Vec<Open> {
    let mut found: Vec<Open> = state
        .sessions
        .open()
        .into_iter()
        .filter_map(|handle| {
            let grant = &state.grants.by_id(&handle.grant)?.grant;
            may_see(state, identity, &grant.identity.principal(), &grant.target).then(|| Open {
                id: handle.session.as_str().to_owned(),
                who: grant.identity.subject.clone(),
                target: grant.target.clone(),
                database: grant.database.clone(),
                access: grant.access.word(),
                started: handle.started,
                ends: grant.expires,
            })
        })
        .collect();
    found.sort_by_key(|open| std::cmp::Reverse(open.started));
    found
}

/// What the log says of a session that somebody may see.
pub fn recorded(state: &State, identity: &Identity, id: &SessionId) -> Option<Account> {
    let (lines, _) = state.log.session_lines(id).ok()??;
    let events: Vec<Event> = lines.iter().filter_map(|line| Event::parse(line).ok()).collect();
    let opened = events.first().filter(|event| event.kind == "session.open")?;
    let principal = format!("{} {}", opened.text("iss")?, opened.text("sub")?);
    let account = Account { id: id.as_str().to_owned(), events };
    may_see(state, identity, &principal, account.said("target")).then_some(account)
}

fn may_see(state: &State, identity: &Identity, principal: &str, target: &str) -> bool {
    let approves = || {
        state.target(target).is_some_and(|served| {
            served.policy().may_approve(identity, served.name(), served.environment(), served.database())
        })
    };
    identity.principal() == principal || approves()
}

impl Account {
    /// Whether what had this result, at this place of the record, did not stand in the end.
    fn is_undone(&self, at: usize, of: (u64, u64)) -> bool {
        let place = |event: &Event| (event.number("no").unwrap_or(0), event.number("part").unwrap_or(0));
        self.events.iter().skip(at).any(|event| event.kind == "undone" && place(event) <= of)
    }

    /// A word of the first line.
    fn said(&self, member: &str) -> &str {
        self.events.first().and_then(|event| event.text(member)).unwrap_or_default()
    }
}

/// Who is in.
pub fn list(open: &[Open], now: Moment) -> Markup {
    html! {
        h1 { "Sessions" }
        p.lead {
            @match open.len() {
                0 => "Nobody is connected right now.",
                1 => "One connection is open.",
                more => { (more) " connections are open." }
            }
        }
        ul.list {
            @for one in open {
                li {
                    a.item href={ "/sessions/" (one.id) } {
                        div.line { b { (escape(&one.who)) } span.chip { (one.access) " access" } }
                        div.meta {
                            span { (escape(&one.target)) " · " (escape(&one.database)) }
                            span { "since " (at(&one.started.rfc3339())) }
                            span { (one.ends.since(now).as_secs() / 60) " min left" }
                        }
                    }
                }
            }
        }
    }
}

/// What one did.
pub fn detail(account: &Account) -> Markup {
    let closed = account.events.last().filter(|event| event.kind == "session.close");
    let statements: Vec<&Event> = account.events.iter().filter(|event| event.kind == "stmt").collect();
    html! {
        div.title {
            h1 { (escape(account.said("who"))) " on " (escape(account.said("target"))) }
            span class={ "pill " @if closed.is_none() { "approved" } } { (if closed.is_some() { "closed" } else { "open" }) }
        }
        p.lead {
            (escape(account.said("db"))) " · " (escape(account.said("access"))) " access · "
            (account.events.first().map(|event| at(&event.at.rfc3339())).unwrap_or_default())
        }
        section aria-labelledby="did" {
            h2 #did { "Statements, with literals left out" }
            @if statements.is_empty() { p.small { "None yet." } }
            ol.list { @for event in statements { (statement(account, event)) } }
        }
        p.small { "Session " code { (account.id) } " · role " code { (escape(account.said("role"))) } }
    }
}

fn statement(account: &Account, event: &Event) -> Markup {
    let (number, part) = (event.number("no").unwrap_or(0), event.number("part").unwrap_or(0));
    let of_it = |kind: &str| {
        // What does not say of which part it is, is of the whole message.
        let is_of_it = move |one: &Event| {
            one.kind == kind && one.numbers().contains(&number) && one.number("part").is_none_or(|other| other == part)
        };
        account.events.iter().enumerate().rev().find(|(_, one)| is_of_it(one))
    };
    let said = |kind: &str, name: &str| of_it(kind).and_then(|(_, one)| one.text(name));
    let (result, error, skipped) = (said("result", "tag"), said("error", "state"), said("skipped", "state"));
    let impact = of_it("impact").map(|(_, one)| one);
    let is_vetoed = impact.is_some_and(|one| one.member("stands") == Some(&Value::Bool(false)));
    let changes = !matches!(event.text("effect"), Some("read" | "transaction"));
    let is_undone =
        is_vetoed || (changes && of_it("result").is_some_and(|(at, _)| account.is_undone(at, (number, part))));
    let rows = impact.and_then(|one| one.member("changes")?.as_array().map(|all| changed(all)));
    // A line that stands for several statements is shown once.
    let last = event.numbers().end.saturating_sub(1);
    let is_allowed = event.text("dec") == Some("allow");
    html! {
        li.item {
            div.line {
                b.n { (number) @if part > 0 { "." (part) } @if last > number { "–" (last) } }
                span class={ "pill " (if is_allowed { "approved" } else { "rejected" }) } {
                    (if is_allowed { "allowed" } else { "denied" })
                }
            }
            code.whole { (escape_keeping_lines(event.text("norm").unwrap_or("(part of the statement above)"))) }
            div.meta {
                @if let Some(code) = event.text("code").filter(|_| !is_allowed) { span { (escape(code)) } }
                @if let Some(state) = skipped { span { "not run, behind error " (escape(state)) } }
                @else if is_undone { span { "rolled back" } }
                @else if let Some(error) = error { span { "error " (escape(error)) } }
                @else if let Some(tag) = result.filter(|tag| !tag.is_empty()) { span { (escape(tag)) } }
                @if let Some(rows) = rows.filter(|rows| !rows.is_empty()) { span { (escape(&rows)) } }
            }
        }
    }
}

/// `500 of public.customers, 1,500 of public.orders`
fn changed(changes: &[Value]) -> String {
    let one = |change: &Value| {
        let rows = change.get("rows")?.as_u64()?;
        Some(format!("{} of {}", grouped(rows), change.get("rel")?.as_str()?))
    };
    changes.iter().filter_map(one).collect::<Vec<_>>().join(", ")
}
