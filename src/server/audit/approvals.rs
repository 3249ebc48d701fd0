//! What the log says of requests that wait for people. Each line is durable before the step that
//! it tells of takes effect.

use serde_json::{Map, Value, json};

use super::log::{Log, LogError};
use crate::core::approval::{Lift, Outcome, Request, RequestId, Spent};
use crate::core::identity::Identity;
use crate::core::transcript::{content, redact};

/// Most of a text from outside that a line takes.
const LONGEST: usize = 1024;

impl Log {
    /// A request is about to be made.
    pub async fn approval_asked(&self, request: &Request) -> Result<(), LogError> {
        let shape = redact::shape(&request.binding.statement);
        let mut members = object(json!({
            "apr": request.id.as_str(), "binding": request.binding.digest(), "ses": request.session,
            "target": request.binding.target, "db": request.binding.database, "pol": request.binding.policy,
            "norm": content::clip(&shape, 4 * LONGEST), "fp": redact::fingerprint(&shape),
            "rule": clip(&request.denial.rule), "code": clip(&request.denial.code),
            "group": clip(&request.reviewers.group), "needed": request.reviewers.needed,
            "exp": request.expires.seconds(),
        }));
        who(&mut members, &request.requester);
        let optional = [
            ("agent", request.binding.agent.as_deref().map(|agent| clip(agent).into())),
            ("cap", request.cap.map(Value::from)),
            ("rows", request.forecast.trial.as_ref().map(|trial| trial.rows().into())),
        ];
        members.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        self.approval("approval.request", members).await
    }

    /// Somebody is about to say yes or no: the last decision of `next`.
    pub async fn approval_decided(&self, next: &Request, by: &Identity) -> Result<(), LogError> {
        let mut members = object(json!({"apr": next.id.as_str(), "state": next.state.word()}));
        who(&mut members, by);
        if let Some(decision) = next.decided() {
            members.insert("dec".to_owned(), if decision.approves { "approve" } else { "reject" }.into());
            members.extend(decision.comment.as_deref().map(|text| ("comment".to_owned(), clip(text).into())));
        }
        members.extend(next.cap.map(|cap| ("cap".to_owned(), cap.into())));
        self.approval("approval.decision", members).await
    }

    /// The glass is about to be broken.
    pub async fn approval_glass(&self, next: &Request) -> Result<(), LogError> {
        let due = next.glass.as_ref().map(|glass| glass.due.seconds());
        let mut members = object(json!({"apr": next.id.as_str(), "due": due}));
        who(&mut members, &next.requester);
        members.extend(next.reason.as_deref().map(|text| ("reason".to_owned(), clip(text).into())));
        self.approval("approval.glass", members).await
    }

    /// Somebody is about to say what they found behind a broken glass.
    pub async fn approval_reviewed(&self, next: &Request, by: &Identity) -> Result<(), LogError> {
        let mut members = object(json!({"apr": next.id.as_str()}));
        who(&mut members, by);
        if let Some(found) = next.glass.as_ref().and_then(|glass| glass.found.as_ref()) {
            members.insert("found".to_owned(), if found.approves { "in_order" } else { "not_in_order" }.into());
            members.extend(found.comment.as_deref().map(|text| ("comment".to_owned(), clip(text).into())));
        }
        self.approval("approval.review", members).await
    }

    /// Somebody tried to decide and may not.
    pub async fn approval_refused(&self, id: &RequestId, by: &Identity, why: &str) -> Result<(), LogError> {
        let mut members = object(json!({"apr": id.as_str(), "why": clip(why)}));
        who(&mut members, by);
        self.approval("approval.refused", members).await
    }

    /// Somebody is about to ask or answer: the last remark of `next`.
    pub async fn approval_remark(&self, next: &Request) -> Result<(), LogError> {
        let remark = next.remarks.last();
        let (by, text) = remark.map_or(("", ""), |remark| (remark.by.as_str(), remark.text.as_str()));
        self.approval("approval.remark", object(json!({"apr": next.id.as_str(), "by": clip(by), "text": clip(text)})))
            .await
    }

    /// It is about to end without being used: withdrawn, expired or void.
    pub async fn approval_ended(&self, next: &Request) -> Result<(), LogError> {
        let mut members = object(json!({"apr": next.id.as_str(), "state": next.state.word()}));
        members.extend(next.remarks.last().map(|remark| ("last".to_owned(), clip(&remark.text).into())));
        self.approval("approval.ended", members).await
    }

    /// It is about to be used.
    pub async fn approval_used(&self, lift: &Lift, session: &str, binding: &str) -> Result<(), LogError> {
        let members = object(json!({"apr": lift.request().as_str(), "ses": session, "binding": binding}));
        self.approval("approval.executed", members).await
    }

    /// What came of it.
    pub async fn approval_outcome(&self, id: &RequestId, outcome: &Outcome) -> Result<(), LogError> {
        let mut members = object(json!({"apr": id.as_str(), "ses": outcome.session}));
        let more = match &outcome.spent {
            Spent::Unknown => json!({"how": "unknown"}),
            Spent::Committed { tag } => json!({"how": "committed", "tag": clip(tag)}),
            Spent::OverCap { rows, cap } => json!({"how": "over_cap", "rows": rows, "cap": cap}),
            Spent::Failed { sqlstate, .. } => json!({"how": "failed", "state": clip(sqlstate)}),
        };
        members.extend(object(more));
        self.approval("approval.outcome", members).await
    }

    async fn approval(&self, kind: &str, members: Map<String, Value>) -> Result<(), LogError> {
        self.own(kind, Value::Object(members)).await.map(drop)
    }
}

fn object(members: Value) -> Map<String, Value> {
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn who(members: &mut Map<String, Value>, identity: &Identity) {
    members.insert("sub".to_owned(), clip(&identity.sub).into());
    members.insert("iss".to_owned(), clip(&identity.issuer).into());
    members.insert("who".to_owned(), clip(&identity.subject).into());
    members.insert("kind".to_owned(), identity.kind.word().into());
}

fn clip(text: &str) -> &str {
    content::clip(text, LONGEST)
}
