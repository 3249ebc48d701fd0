//! A request as JSON and pages show it.

use super::Approvals;
use crate::core::api::Principal;
use crate::core::api::request::{
    Binds, ChangeView, DecisionView, EstimateView, GlassView, ImpactView, ObjectView, OutcomeView, RemarkView,
    RequestView, ReviewersView, SCHEMA, TrialView,
};
use crate::core::approval::{Decider, Forecast, Glass, Outcome, Request, Spent, State, Trial};
use crate::core::identity::Identity;
use crate::core::policy::Impact;
use crate::core::statement::facts::RowAction;
use crate::sys::clock;

/// How often a program should ask.
const POLL: u64 = 10;

impl Approvals {
    /// A request for this identity's eyes.
    pub fn view(&self, request: &Request, identity: &Identity) -> RequestView {
        let now = clock::now();
        let is_open = request.state == State::Pending || request.awaits_review();
        let may_decide = is_open && request.may_decide(&Decider { identity, vouched: now }, now).is_ok();
        of(request, &self.url(&request.id), may_decide)
    }
}

/// A request as everybody who may see it sees it.
pub fn of(request: &Request, url: &str, may_decide: bool) -> RequestView {
    let id = request.id.as_str().to_owned();
    let decided = request.decided();
    let binding = &request.binding;
    RequestView {
        schema: SCHEMA.to_owned(),
        kind: if binding.window().is_some() { "access" } else { "statement" }.to_owned(),
        state: request.state.word().to_owned(),
        rule: request.denial.rule.clone(),
        code: request.denial.code.clone(),
        message: request.denial.message.clone(),
        url: url.to_owned(),
        created_at: request.created.rfc3339(),
        expires_at: request.expires.rfc3339(),
        poll_after_s: POLL,
        reviewers: ReviewersView {
            needed: request.reviewers.needed,
            given: request.agreed(),
            groups: vec![request.reviewers.group.clone()],
        },
        decided_by: decided.map(|decision| decision.by.clone()),
        comment: decided.and_then(|decision| decision.comment.clone()),
        target: binding.target.clone(),
        database: binding.database.clone(),
        environment: request.environment.clone(),
        access: binding.access,
        statement: binding.statement.clone(),
        parameters: request.values.clone(),
        principal: Principal {
            kind: request.requester.kind.word().to_owned(),
            subject: request.requester.subject.clone(),
            issuer: request.requester.issuer.clone(),
        },
        agent: binding.agent.clone(),
        reason: request.reason.clone(),
        ticket: request.ticket.clone(),
        impact: impact(&request.forecast),
        binds: Binds {
            target: binding.target.clone(),
            statements: format!("sha256:{}", binding.statement_digest()),
            params: binding.parameters.as_deref().map(|one| format!("sha256:{}", digest(one))),
            values: binding.parameters.clone(),
            policy: format!("sha256:{}", binding.policy),
            principal: request.requester.subject.clone(),
            max_rows: request.cap,
            settings: binding.settings.clone(),
            all: format!("sha256:{}", binding.digest()),
        },
        decisions: request
            .decisions
            .iter()
            .map(|one| DecisionView {
                by: one.by.clone(),
                decision: if one.approves { "approve" } else { "reject" }.to_owned(),
                comment: one.comment.clone(),
                max_rows: one.cap,
                at: one.at.rfc3339(),
            })
            .collect(),
        remarks: request
            .remarks
            .iter()
            .map(|one| RemarkView { by: one.by.clone(), text: one.text.clone(), at: one.at.rfc3339() })
            .collect(),
        outcome: request.outcome.as_ref().map(outcome),
        glass: request.glass.as_ref().map(glass),
        resume_argv: match binding.window() {
            None => ["dbgate", "exec", "--resume", &id, "--format", "json"].map(str::to_owned).to_vec(),
            Some(_) => {
                ["dbgate", "connect", &binding.target, "--access", binding.access.word()].map(str::to_owned).to_vec()
            }
        },
        request_id: id,
        may_decide,
    }
}

fn glass(glass: &Glass) -> GlassView {
    let found = glass.found.as_ref();
    GlassView {
        review_by: glass.due.rfc3339(),
        is_overdue: glass.is_overdue && found.is_none(),
        reviewed_by: found.map(|one| one.by.clone()),
        was_in_order: found.map(|one| one.approves),
        comment: found.and_then(|one| one.comment.clone()),
    }
}

fn digest(text: &str) -> String {
    crate::core::approval::Binding::digest_of(text)
}

fn outcome(outcome: &Outcome) -> OutcomeView {
    let (how, command_tag, sqlstate, message) = match &outcome.spent {
        Spent::Unknown => ("unknown", None, None, None),
        Spent::Committed { tag } => ("committed", Some(tag.clone()), None, None),
        Spent::OverCap { rows, cap } => {
            let message = crate::core::approval::OverCap { rows: *rows, cap: *cap }.to_string();
            ("over_cap", None, Some("ZG003".to_owned()), Some(message))
        }
        Spent::Failed { sqlstate, message } => ("failed", None, Some(sqlstate.clone()), Some(message.clone())),
    };
    OutcomeView {
        how: how.to_owned(),
        command_tag,
        sqlstate,
        message,
        session: outcome.session.clone(),
        at: outcome.at.rfc3339(),
    }
}

/// What is known of a statement's effect.
pub fn impact(forecast: &Forecast) -> ImpactView {
    let impacts = forecast.trial.as_ref().map(|trial| trial.impacts.as_slice()).unwrap_or_default();
    let estimate = forecast.estimate.map(|estimate| EstimateView {
        rows: Some(estimate.rows),
        cost: estimate.cost,
        method: "explain".to_owned(),
    });
    ImpactView {
        estimate,
        trial: forecast.trial.as_ref().map(|one| trial(one, &forecast.triggers)),
        objects: impacts.iter().map(object).collect(),
        reversible: reversible(impacts).to_owned(),
    }
}

fn trial(trial: &Trial, triggers: &[String]) -> TrialView {
    let cascades = trial.impacts.iter().filter(|impact| !impact.direct);
    TrialView {
        rows: trial.rows(),
        duration_ms: std::time::Duration::from_micros(trial.micros).as_secs_f64() * 1000.0,
        locks: trial.locks.clone(),
        cascades: cascades
            .map(|one| ChangeView { name: name(one), action: one.action.word().to_owned(), rows: one.rows })
            .collect(),
        side_effects: triggers.iter().map(|trigger| format!("trigger {trigger}")).collect(),
        skipped: trial.skipped.clone(),
    }
}

fn object(impact: &Impact) -> ObjectView {
    let total = impact.of.filter(|of| *of >= impact.rows && *of > 0 && impact.action != RowAction::Insert);
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share for people to see")]
    let share = total.map(|of| (impact.rows as f64 / of as f64 * 1000.0).round() / 1000.0);
    ObjectView {
        name: name(impact),
        action: impact.action.word().to_owned(),
        rows: impact.rows,
        direct: impact.direct,
        rows_total: total,
        share,
    }
}

fn name(impact: &Impact) -> String {
    format!("{}.{}", impact.schema, impact.relation)
}

/// Whether another statement can put things back: what was overwritten or removed is gone.
fn reversible(impacts: &[Impact]) -> &'static str {
    let loses = |impact: &Impact| matches!(impact.action, RowAction::Update | RowAction::Delete);
    match impacts {
        [] => "unknown",
        _ if impacts.iter().all(loses) => "no",
        _ if impacts.iter().any(loses) => "partly",
        _ => "yes",
    }
}
