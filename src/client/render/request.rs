//! Requests that wait for people, as reviewers and requesters read them on a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::core::api::request::{GlassView, ImpactView, ObjectView, RequestView};
use crate::core::text::{age_in_words, escape, escape_keeping_lines, grouped};

/// Cells of a bar.
const BAR: usize = 20;

/// Who really acts, as in `refund-bot (declared) for ana@example.com`.
pub fn actor(view: &RequestView) -> String {
    let subject = escape(&view.principal.subject);
    match (&view.agent, view.principal.kind.as_str()) {
        (Some(agent), _) => format!("{} (agent, declared) for {subject}", escape(agent)),
        (None, "human") => subject.into_owned(),
        (None, kind) => format!("{subject} ({})", escape(kind)),
    }
}

/// Everything a decision needs, in the order of its weight: who, where, what, how much, why.
pub fn card(view: &RequestView) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}  {}", escape(&view.request_id), escape(&view.state).to_uppercase());
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "  {label:<9} {}", text.replace('\n', "\n            "));
    };
    line("who", &actor(view));
    for (label, text) in [("reason", &view.reason), ("ticket", &view.ticket)] {
        if let Some(text) = text {
            line(label, &escape(text));
        }
    }
    let (target, environment, database) = (escape(&view.target), escape(&view.environment), escape(&view.database));
    line("where", &format!("{target} · {environment} · {database} · {} access", view.access.word()));
    line("statement", &escape_keeping_lines(&view.statement));
    for (number, value) in (1..).zip(&view.parameters) {
        let value = value.as_deref().map_or_else(|| "NULL".into(), |text| format!("'{}'", escape(text)));
        line("", &format!("${number} = {value}"));
    }
    for (label, text) in effect(&view.impact) {
        line(label, &text);
    }
    line("why", &format!("{} (rule {})", escape(&view.message), escape(&view.rule)));
    let reviewers = &view.reviewers;
    line(
        "needs",
        &format!("{} of {}, {} given", reviewers.needed, escape(&reviewers.groups.join(", ")), reviewers.given),
    );
    if let Some(cap) = view.binds.max_rows {
        line("cap", &format!("{} rows, or it is rolled back", grouped(cap)));
    }
    line("until", &escape(&view.expires_at));
    for decision in &view.decisions {
        let comment = decision.comment.as_deref().map(|text| format!(": {}", escape(text))).unwrap_or_default();
        line(&escape(&decision.decision), &format!("{}{comment}", escape(&decision.by)));
    }
    for remark in &view.remarks {
        line("said", &format!("{}: {}", escape(&remark.by), escape(&remark.text)));
    }
    if let Some(glass) = &view.glass {
        line("glass", &reviewed(glass));
    }
    if let Some(outcome) = &view.outcome {
        let text = outcome.command_tag.as_ref().or(outcome.message.as_ref()).unwrap_or(&outcome.how);
        line("outcome", &escape(text));
    }
    line("page", &escape(&view.url));
    out
}

/// What became of the review of a broken glass.
fn reviewed(glass: &GlassView) -> String {
    let comment = glass.comment.as_deref().map(|text| format!(": {}", escape(text))).unwrap_or_default();
    match (&glass.reviewed_by, glass.was_in_order) {
        (Some(by), Some(true)) => format!("broken; in order, says {}{comment}", escape(by)),
        (Some(by), _) => format!("broken; not in order, says {}{comment}", escape(by)),
        (None, _) if glass.is_overdue => {
            format!("broken, and the review is overdue since {}", escape(&glass.review_by))
        }
        (None, _) => format!("broken; to be reviewed by {}", escape(&glass.review_by)),
    }
}

/// What a statement would do, line by line with a label each.
pub fn effect(impact: &ImpactView) -> Vec<(&'static str, String)> {
    let mut lines: Vec<_> = impact.objects.iter().map(|object| ("rows", rows(object))).collect();
    lines.push(("", numbers(impact)));
    if let Some(estimate) = &impact.estimate {
        lines.extend(estimate.plan.iter().map(|step| ("plan", escape(step).into_owned())));
        lines.extend(estimate.stats_age_s.map(|age| ("", format!("statistics are {} old", age_in_words(age)))));
    }
    let effects = impact.trial.iter().flat_map(|trial| &trial.side_effects);
    lines.extend(effects.map(|effect| ("also", escape(effect).into_owned())));
    lines
}

/// `delete public.orders  ██████░░░░  1,500 of 3,000 (50 %), by cascade`
fn rows(object: &ObjectView) -> String {
    let name = format!("{} {}", escape(&object.action), escape(&object.name));
    let route = if object.direct { "" } else { ", by cascade or trigger" };
    match (object.share, object.rows_total) {
        (Some(share), Some(total)) => {
            #[expect(
                clippy::as_conversions,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "cells of a bar and a percentage for people to see"
            )]
            let (cells, percent) = ((share * BAR as f64).round() as usize, (share * 100.0).round() as u64);
            let bar = "█".repeat(cells.min(BAR)) + &"░".repeat(BAR - cells.min(BAR));
            format!("{bar} {percent:>3} %  {name}: {} of {}{route}", grouped(object.rows), grouped(total))
        }
        _ => format!("{name}: {} rows{route}", grouped(object.rows)),
    }
}

/// `estimate 19,998 · trial 19,998 rows in 85.3 ms, rolled back · not reversible`
fn numbers(impact: &ImpactView) -> String {
    let estimate = impact.estimate.as_ref().and_then(|one| one.rows);
    let mut parts: Vec<String> = estimate.map(|rows| format!("estimate {}", grouped(rows))).into_iter().collect();
    match impact.trial.as_ref() {
        Some(trial) => match &trial.skipped {
            Some(why) => parts.push(format!("no trial: {}", escape(why))),
            None => {
                parts.push(format!("trial {} rows in {:.1} ms, rolled back", grouped(trial.rows), trial.duration_ms));
            }
        },
        None => parts.push("no trial".to_owned()),
    }
    parts.push(
        match impact.reversible.as_str() {
            "yes" => "can be undone",
            "no" => "not reversible",
            "partly" => "partly reversible",
            _ => "reversible: not known",
        }
        .to_owned(),
    );
    parts.join(" · ")
}

/// What is asked and where it is decided, above the line that shows how long it takes.
pub fn asked(view: &RequestView) -> String {
    let (message, rule, url) = (escape(&view.message), escape(&view.rule), escape(&view.url));
    format!("NEEDS APPROVAL  {message}  rule {rule}\n  {url}\n")
}

/// Who is waited for and since when, on one line; `interrupt` says what Ctrl-C does.
pub fn status(view: &RequestView, waited: Duration, interrupt: &str) -> String {
    let (minutes, seconds) = (waited.as_secs() / 60, waited.as_secs() % 60);
    let reviewers = &view.reviewers;
    format!(
        "waiting for approval {} · {}/{} {} · {minutes:02}:{seconds:02} · {interrupt}",
        escape(&view.request_id),
        reviewers.given,
        reviewers.needed,
        escape(&reviewers.groups.join(", "))
    )
}

/// What whoever asked is told while it waits.
pub fn waiting(view: &RequestView) -> String {
    format!(
        "NEEDS APPROVAL  {}  rule {}\n  {} waits for {} of {} until {}\n  {}\n  Once it is approved: dbgate exec --resume {}\n",
        escape(&view.message),
        escape(&view.rule),
        escape(&view.request_id),
        view.reviewers.needed,
        escape(&view.reviewers.groups.join(", ")),
        escape(&view.expires_at),
        escape(&view.url),
        escape(&view.request_id),
    )
}

/// How it ended, in one sentence.
pub fn verdict(view: &RequestView) -> String {
    let id = escape(&view.request_id);
    let by = view.decided_by.as_deref().map(|by| format!(" by {}", escape(by))).unwrap_or_default();
    let comment = view.comment.as_deref().map(|text| format!(": {}", escape(text))).unwrap_or_default();
    let last = view.remarks.last().map(|remark| format!(": {}", escape(&remark.text))).unwrap_or_default();
    match view.state.as_str() {
        "approved" | "executed" if view.awaits_review() => format!("{id}: the glass is broken, and a review is due"),
        "approved" | "executed" if let Some(glass) = &view.glass => {
            let by = glass.reviewed_by.as_deref().unwrap_or_default();
            let found = if glass.was_in_order == Some(true) { "in order" } else { "not in order" };
            format!("{id} went ahead without anybody's word; {} found it {found}", escape(by))
        }
        "approved" | "rejected" => format!("{id} was {}{by}{comment}", escape(&view.state)),
        "expired" => format!("{id} has expired{last}"),
        "executed" => format!("{id} was approved{by} and has been used"),
        state => format!("{id} is {}", escape(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_share_and_says_the_numbers() {
        let object = ObjectView {
            name: "public.orders".into(),
            action: "delete".into(),
            rows: 1500,
            direct: false,
            rows_total: Some(3000),
            share: Some(0.5),
        };
        let expected = "██████████░░░░░░░░░░  50 %  delete public.orders: 1,500 of 3,000, by cascade or trigger";
        assert_eq!(rows(&object), expected);
        assert_eq!(rows(&ObjectView { share: None, direct: true, ..object }), "delete public.orders: 1,500 rows");
    }
}
