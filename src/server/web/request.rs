//! Requests as pages: the queue, and one request with everything a decision needs, in the order of
//! its weight: who, what, how much, why, and then the form.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

use super::frame::{self, Part};
use super::sql;
use super::visitor::Visitor;
use crate::core::api::request::{GlassView, ObjectView, RequestView};
use crate::core::text::{age_in_words, escape, escape_keeping_lines, grouped};
use crate::core::time::Moment;

/// The queue.
pub fn list(requests: &[RequestView], now: Moment) -> Markup {
    let waiting = requests.iter().filter(|view| view.state == "pending").count();
    let lead = match waiting {
        0 => "Nothing waits for a decision.".to_owned(),
        1 => "One request waits for a decision.".to_owned(),
        more => format!("{more} requests wait for a decision."),
    };
    html! {
        h1 { "Requests" }
        p.lead { (lead) }
        @if requests.is_empty() {
            div.card.empty { p { "What policy lets people decide turns up here." } }
        }
        ul.list {
            @for view in requests {
                li {
                    a.item href={ "/r/" (view.request_id) } {
                        div.line { b { (actor(view)) } (pill(view)) }
                        code { (view.statement) }
                        div.meta {
                            span { (view.target) " · " (view.database) }
                            (environment(view))
                            @if let Some(rows) = trial_rows(view) { span { (grouped(rows)) " rows" } }
                            @if view.state == "pending" { span { (left(view, now)) } }
                        }
                    }
                }
            }
        }
    }
}

/// A form that came back: what was typed is not lost, and why nothing came of it is said.
#[derive(Default)]
pub struct Form {
    pub problem: Option<String>,
    pub comment: String,
    pub max_rows: String,
}

/// One request.
pub fn detail(view: &RequestView, visitor: &Visitor, form: &Form, now: Moment) -> Markup {
    html! {
        div data-state=(view.state) {
            div.title { h1 { (headline(view)) } (pill(view)) }
            p.lead {
                (view.target) " · " (view.database) " · " (view.access.word()) " access "
                (environment(view)) " "
                @if view.state == "pending" { (left(view, now)) }
            }
            @if let Some(problem) = &form.problem { p.alert role="alert" { (problem) } }
            div.two {
                div { (who(view)) (statement(view)) @if !is_access(view) { (impact(view)) } (why(view)) }
                div.aside { (decision(view, visitor, form)) (story(view)) }
            }
        }
    }
}

/// What others have written, with no letter in it that nobody sees or that turns the text around it.
pub fn shown(mut view: RequestView) -> RequestView {
    let line = |text: &mut String| *text = escape(text).into_owned();
    let lines = |text: &mut String| *text = escape_keeping_lines(text);
    lines(&mut view.statement);
    line(&mut view.principal.subject);
    [&mut view.agent, &mut view.reason, &mut view.ticket, &mut view.comment].into_iter().flatten().for_each(line);
    line(&mut view.message);
    view.parameters.iter_mut().flatten().for_each(lines);
    view.impact.objects.iter_mut().for_each(|object| line(&mut object.name));
    if let Some(estimate) = &mut view.impact.estimate {
        estimate.plan.iter_mut().for_each(lines);
    }
    if let Some(trial) = &mut view.impact.trial {
        trial.cascades.iter_mut().for_each(|change| line(&mut change.name));
        trial.locks.iter_mut().chain(&mut trial.side_effects).chain(&mut trial.skipped).for_each(line);
    }
    let settings = std::mem::take(&mut view.binds.settings).into_iter();
    view.binds.settings =
        settings.map(|(name, value)| (escape(&name).into_owned(), escape(&value).into_owned())).collect();
    line(&mut view.database);
    view.remarks.iter_mut().for_each(|remark| {
        line(&mut remark.by);
        line(&mut remark.text);
    });
    view.decisions.iter_mut().for_each(|decision| {
        line(&mut decision.by);
        decision.comment.iter_mut().for_each(line);
    });
    if let Some(glass) = &mut view.glass {
        glass.comment.iter_mut().chain(&mut glass.reviewed_by).for_each(line);
    }
    if let Some(outcome) = &mut view.outcome {
        outcome.message.iter_mut().for_each(lines);
    }
    view
}

/// A page for what the store could not answer.
pub fn failed(visitor: &Visitor, why: &str) -> Response {
    tracing::error!(why, "requests cannot be listed");
    let body = html! { div.empty { h1 { "This cannot be shown now" } p { "Try again in a moment." } } };
    let mut response = frame::page("Requests", Part::Requests, visitor, None, &body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn who(view: &RequestView) -> Markup {
    let name = view.agent.as_deref().unwrap_or(&view.principal.subject);
    let initial: String =
        name.chars().find(|letter| letter.is_alphanumeric()).into_iter().flat_map(char::to_uppercase).collect();
    html! {
        section.card aria-labelledby="who" {
            h2 #who { "Who acts" }
            div.who {
                span class={ "face" @if view.agent.is_some() { " agent" } } aria-hidden="true" { (initial) }
                div {
                    @match &view.agent {
                        Some(agent) => { b { (agent) } span.small { "an agent, by its own word, for " (view.principal.subject) } }
                        None => { b { (view.principal.subject) } span.small { (view.principal.kind) } }
                    }
                }
            }
            @if view.reason.is_some() || view.ticket.is_some() {
                dl {
                    @if let Some(reason) = &view.reason { dt { "Reason" } dd { (reason) } }
                    @if let Some(ticket) = &view.ticket { dt { "Ticket" } dd { (ticket) } }
                }
            }
        }
    }
}

fn statement(view: &RequestView) -> Markup {
    html! {
        section.card aria-labelledby="what" {
            h2 #what {
                @match (is_access(view), view.outcome.is_some()) {
                    (true, _) => "What is asked for",
                    (false, true) => "The statement, as it was sent",
                    (false, false) => "The statement, as it would run",
                }
            }
            pre tabindex="0" { @if is_access(view) { (view.statement) } @else { (sql::highlighted(&view.statement)) } }
            @if !view.parameters.is_empty() {
                dl.values {
                    @for (number, value) in (1..).zip(&view.parameters) {
                        dt { "$" (number) }
                        dd { @match value { Some(text) => code { (text) }, None => "NULL" } }
                    }
                }
            }
            details {
                summary { "What an approval is bound to" }
                dl {
                    dt { "Everything" } dd { code { (view.binds.all) } }
                    dt { "Policy" } dd { code { (view.binds.policy) } }
                    @for (name, value) in &view.binds.settings { dt { (name) } dd { code { (value) } } }
                }
                p.note { "If any of it differs when it runs, or the definition of a table has changed, the approval is void." }
            }
        }
    }
}

fn impact(view: &RequestView) -> Markup {
    let impact = &view.impact;
    let trial = impact.trial.as_ref();
    html! {
        section.card aria-labelledby="impact" {
            h2 #impact { "What it would change" }
            div.figures {
                @if let Some(rows) = trial_rows(view) {
                    div.figure { b { (grouped(rows)) } span { "rows, tried and rolled back" } }
                }
                @if let Some(rows) = impact.estimate.as_ref().and_then(|one| one.rows) {
                    div.figure { b { (grouped(rows)) } span { "rows by the estimate" } }
                }
                @if let Some(cap) = view.binds.max_rows {
                    div.figure { b { (grouped(cap)) } span { (if view.glass.is_some() { "rows at most" } else { "rows at most, if approved" }) } }
                }
            }
            @if let Some(why) = trial.and_then(|trial| trial.skipped.as_ref()) { p { "It has not been tried: " (why) "." } }
            ul.bars { @for object in &impact.objects { (bar(object)) } }
            dl {
                @if let Some(trial) = trial.filter(|trial| trial.skipped.is_none()) {
                    dt { "Took" } dd { (format!("{:.1} ms", trial.duration_ms)) }
                    @if !trial.locks.is_empty() { dt { "Locks" } dd { (trial.locks.join(", ")) } }
                    @if !trial.side_effects.is_empty() { dt { "Also" } dd { (trial.side_effects.join(", ")) } }
                }
                dt { "Can be undone" }
                dd {
                    (match impact.reversible.as_str() {
                        "yes" => "yes, by removing what it adds",
                        "no" => "no: what it overwrites or removes is gone",
                        "partly" => "partly: what it overwrites or removes is gone",
                        _ => "not known",
                    })
                }
            }
            @if let Some(estimate) = impact.estimate.as_ref().filter(|one| !one.plan.is_empty()) {
                details.plan {
                    summary {
                        "The plan"
                        @if let Some(age) = estimate.stats_age_s { ", by statistics that are " (age_in_words(age)) " old" }
                    }
                    pre tabindex="0" { (estimate.plan.join("\n")) }
                }
            }
        }
    }
}

/// The share of the table as a bar; drawn without a style of its own, which the page's policy forbids.
fn bar(object: &ObjectView) -> Markup {
    let percent = object.share.map(|share| share * 100.0);
    let share = percent.map(|percent| match percent {
        small if small > 0.0 && small < 1.0 => "under 1 %".to_owned(),
        percent => format!("{percent:.0} %"),
    });
    let numbers = match object.rows_total {
        Some(total) => format!("{} of {}", grouped(object.rows), grouped(total)),
        None => format!("{} rows", grouped(object.rows)),
    };
    // A sliver stays visible: one row of a million is still a row.
    let width = percent.map(|percent| format!("{:.2}", percent.max(0.75)));
    html! {
        li class=(object.action) {
            div.row {
                b { (object.name) }
                span {
                    (object.action) " " (numbers)
                    @if let Some(share) = &share { " · " (share) }
                    @if !object.direct { " · by cascade or trigger" }
                }
            }
            @if let Some(width) = width {
                svg viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label={ (share.unwrap_or_default()) " of " (object.name) } {
                    // Closed in so many words: a `rect` left open would hold the next one.
                    rect.track width="100" height="8" {}
                    rect.fill width=(width) height="8" {}
                }
            }
        }
    }
}

fn why(view: &RequestView) -> Markup {
    html! {
        section.card aria-labelledby="why" {
            h2 #why { "Why it was stopped" }
            p { (view.message) "." }
            p.small { "Rule " code { (view.rule) } " of the policy" }
        }
    }
}

/// For what went ahead without anybody's word.
fn review(view: &RequestView, visitor: &Visitor, glass: &GlassView, form: &Form) -> Markup {
    html! {
        form.card method="post" action={ "/r/" (view.request_id) "/approve" } aria-labelledby="decide"
            data-kept[form.problem.is_some()] {
            input type="hidden" name="key" value=(visitor.form_key);
            input type="hidden" name="review" value="yes";
            h2 #decide { "Your review" }
            p.small { "The glass was broken: it ran without anybody's word. To be reviewed by " (at(&glass.review_by)) "." }
            label for="comment" { "Comment " small { "needed if it was not in order" } }
            input #comment type="text" name="comment" value=(form.comment) maxlength="500" autocomplete="off";
            div.buttons {
                button.primary { "It was in order" }
                button.danger.wide formaction={ "/r/" (view.request_id) "/reject" } { "It was not" }
            }
        }
    }
}

fn decision(view: &RequestView, visitor: &Visitor, form: &Form) -> Markup {
    let is_own = view.principal.subject == visitor.identity.subject;
    let to_review = view.glass.as_ref().filter(|_| view.awaits_review() && view.may_decide);
    html! {
        @if let Some(glass) = to_review {
            (review(view, visitor, glass, form))
        } @else if view.state == "pending" && (view.may_decide || is_own) {
            form.card method="post" action={ "/r/" (view.request_id) "/question" } aria-labelledby="decide"
            data-kept[form.problem.is_some()] {
                input type="hidden" name="key" value=(visitor.form_key);
                @if view.may_decide {
                    h2 #decide { "Your decision" }
                    p.small {
                        "It runs once, exactly as shown. "
                        @if view.reviewers.needed > 1 {
                            (view.reviewers.given) " of " (view.reviewers.needed) " have agreed so far."
                        }
                    }
                    label for="comment" { "Comment " small { "needed to reject or ask" } }
                    input #comment type="text" name="comment" value=(form.comment) maxlength="500" autocomplete="off";
                    label for="max_rows" { "Most rows " small { "of all tables together" } }
                    input #max_rows type="text" inputmode="numeric" name="max_rows" value=(form.max_rows) autocomplete="off"
                        placeholder=[view.binds.max_rows.map(grouped)];
                    div.buttons {
                        button.primary formaction={ "/r/" (view.request_id) "/approve" } { "Approve once" }
                        button.danger formaction={ "/r/" (view.request_id) "/reject" } { "Reject" }
                        button { "Ask" }
                    }
                } @else {
                    h2 #decide { "Your own request" }
                    p.small { "Somebody else of " (view.reviewers.groups.join(", ")) " decides. You can answer questions here." }
                    label for="comment" { "Answer" }
                    input #comment type="text" name="comment" value=(form.comment) maxlength="500" autocomplete="off";
                    div.buttons { button.primary { "Send" } }
                }
            }
        } @else if view.state == "approved" && is_own {
            div.card {
                h2 { (if is_access(view) { "Open it" } else { "Run it" }) }
                @let length = if is_access(view) { view.resume_argv.len() } else { 4 };
                pre { (view.resume_argv.get(..length).unwrap_or_default().join(" ")) }
            }
        }
    }
}

/// What has happened so far.
fn story(view: &RequestView) -> Markup {
    html! {
        section.card aria-labelledby="story" {
            h2 #story { "What happened" }
            ol.story {
                li { (actor(view)) " asked" time { (at(&view.created_at)) } }
                @for remark in &view.remarks { li { b { (remark.by) } ": " (remark.text) time { (at(&remark.at)) } } }
                @for decision in &view.decisions {
                    li {
                        b { (decision.by) } " " (if decision.decision == "approve" { "approved" } else { "rejected" })
                        @if let Some(rows) = decision.max_rows { ", at most " (grouped(rows)) " rows" }
                        @if let Some(comment) = &decision.comment { ": " (comment) }
                        time { (at(&decision.at)) }
                    }
                }
                @if view.glass.is_some() { li { b { (view.principal.subject) } " broke the glass" } }
                @if let Some(outcome) = &view.outcome {
                    li {
                        @match outcome.how.as_str() {
                            "committed" => { "Ran and was committed: " code { (outcome.command_tag.as_deref().unwrap_or_default()) } }
                            "unknown" => "Running",
                            _ => { "Nothing was changed: " (outcome.message.as_deref().unwrap_or_default()) }
                        }
                        time { (at(&outcome.at)) }
                    }
                } @else if !matches!(view.state.as_str(), "pending" | "approved" | "rejected") {
                    li { (view.state) }
                }
                @if let Some((glass, by)) = view.glass.as_ref().and_then(|glass| Some((glass, glass.reviewed_by.as_ref()?))) {
                    li {
                        b { (by) } (if glass.was_in_order == Some(true) { " found it in order" } else { " found it not in order" })
                        @if let Some(comment) = &glass.comment { ": " (comment) }
                    }
                }
            }
        }
    }
}

fn is_access(view: &RequestView) -> bool {
    view.kind == "access"
}

fn pill(view: &RequestView) -> Markup {
    if let Some(glass) = view.glass.as_ref().filter(|glass| glass.reviewed_by.is_none()) {
        let text = if glass.is_overdue { "review overdue" } else { "glass broken, review due" };
        return html! { span.pill.rejected { (text) } };
    }
    let text = match view.state.as_str() {
        "pending" => format!(
            "waits for {} of {}",
            view.reviewers.needed.saturating_sub(view.reviewers.given),
            view.reviewers.groups.join(", ")
        ),
        "executed" => match view.outcome.as_ref().map(|outcome| outcome.how.as_str()) {
            Some("committed") => "done".to_owned(),
            Some("over_cap" | "failed") => "ran, rolled back".to_owned(),
            _ => "running".to_owned(),
        },
        state => state.to_owned(),
    };
    let is_rolled_back = text.ends_with("rolled back");
    html! { span class={ "pill " (if is_rolled_back { "rejected" } else { &view.state }) } { (text) } }
}

fn environment(view: &RequestView) -> Markup {
    html! { span class={ "chip " @if view.environment == "production" { "production" } } { (view.environment) } }
}

/// `DELETE on public.customers and 1 other`
fn headline(view: &RequestView) -> String {
    if is_access(view) {
        return format!("{} access to {}", view.access.word(), view.target);
    }
    let verb = view.statement.split_whitespace().next().unwrap_or_default().to_uppercase();
    let mut direct = view.impact.objects.iter().filter(|object| object.direct).map(|object| object.name.as_str());
    match (direct.next(), view.impact.objects.len()) {
        (Some(name), 1) => format!("{verb} on {name}"),
        (Some(name), more) => format!("{verb} on {name} and {} other", more.saturating_sub(1)),
        (None, _) => format!("{verb} on {}", view.target),
    }
}

fn actor(view: &RequestView) -> String {
    match &view.agent {
        Some(agent) => format!("{agent} for {}", view.principal.subject),
        None => view.principal.subject.clone(),
    }
}

fn trial_rows(view: &RequestView) -> Option<u64> {
    view.impact.trial.as_ref().filter(|trial| trial.skipped.is_none()).map(|trial| trial.rows)
}

/// How long something can still be decided.
fn left(view: &RequestView, now: Moment) -> String {
    match Moment::parse(&view.expires_at).map(|end| end.since(now)) {
        Some(left) if left >= Duration::from_secs(60) => format!("{} min left", left.as_secs() / 60),
        Some(_) | None => "less than a minute left".to_owned(),
    }
}

/// `2026-11-23 20:10 UTC`
pub fn at(rfc3339: &str) -> String {
    let minutes = rfc3339.get(..16).unwrap_or(rfc3339).replace('T', " ");
    format!("{minutes} UTC")
}
