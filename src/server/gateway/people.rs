//! Asking people: what a statement is bound to, and the request for it.
//!
//! What must stay true: before anybody is asked the statement has been rolled back or has not run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::circumstances::Circumstances;
use super::foresee::Planner;
use super::relay::Mode;
use super::session::{End, Session};
use super::steady::{Era, unasked};
use super::trial::Trying;
use super::values::Values;
use super::wait::Waiting;
use crate::core::approval::steady::Leaning;
use crate::core::approval::{Asked, Estimate, Forecast, Lift, Request, RequestId, Reviewers, Spent, State, Trial};
use crate::core::policy::{Denial, Impact};
use crate::core::statement::facts::{Effect, Facts};
use crate::core::time::Moment;
use crate::core::wire::backend::ErrorFields;
use crate::server::approvals::{ApprovalError, Approvals};
use crate::server::check::Planned;
use crate::server::grants::LiveGrant;
use crate::server::http::refusal::chain;
use crate::server::state;
use crate::sys::{clock, random};

/// What a session knows of people who may be asked.
pub struct People {
    pub approvals: Arc<Approvals>,
    /// Where a role is borrowed for what they have approved.
    pub state: Arc<state::State>,
    principal: String,
    /// How long a statement waits on the wire; none for clients that wait by themselves.
    pub hold: Option<Duration>,
    /// Whether people are asked at all.
    is_asking: bool,
    /// Where a rule has a glass, it is broken.
    breaks_glass: bool,
    /// Nothing is committed in this session.
    pub trying: Option<Trying>,
    /// The statement that runs, where it is one that people can be asked about.
    at: Option<Box<At>>,
    /// What the planner said of it.
    pub planner: Planner,
    /// What people have let through of the statement that runs.
    pub lift: Option<Lift>,
    /// The statement that its text alone does not let run, and an approval does.
    pub lifted: Option<Arc<Planned>>,
    /// What the session has done to its settings.
    pub(super) era: Box<Era>,
    /// What came of it, as far as it is known.
    pub(super) spent: Option<Spent>,
    pub(super) tag: String,
    /// When an approval was last looked for.
    pub(super) looked: Moment,
    /// The request that the client waits for.
    pub waiting: Option<Waiting>,
}

/// A statement as it was begun, alone or as the first write of its transaction.
pub struct At {
    pub text: Arc<str>,
    pub planned: Arc<Planned>,
    /// What the extended protocol has bound it with.
    values: Option<Values>,
    /// A setting had changed by then since it was bound.
    is_old: bool,
    pub began: Instant,
}

/// How a stopped statement goes on.
pub enum Stopped {
    /// The client is told.
    Tell(Box<ErrorFields>),
    /// The client waits: it is told nothing yet.
    Wait,
    /// The client has been told already.
    Told,
}

impl People {
    /// `wishes` is what our own client says in its startup message; native clients say nothing.
    /// `most` is how long a native client lets itself be held; `settings` is what the session begins with.
    pub fn new(
        state: &Arc<state::State>,
        live: &LiveGrant,
        wishes: Option<&str>,
        most: Option<Duration>,
        settings: &BTreeMap<String, String>,
    ) -> Self {
        let approvals = &state.approvals;
        let hold = approvals.config().hold_native;
        let hold = most.map_or(hold, |most| most.min(hold));
        Self {
            approvals: approvals.clone(),
            state: state.clone(),
            principal: live.grant.identity.principal(),
            hold: (wishes.is_none() && !hold.is_zero()).then_some(hold),
            breaks_glass: wishes.is_some_and(|wishes| wishes.split(' ').any(|wish| wish == "break-glass")),
            trying: Trying::wished(wishes),
            is_asking: approvals.config().is_enabled
                && wishes.is_none_or(|wishes| !wishes.split(' ').any(|wish| wish == "no-request")),
            at: None,
            planner: Planner::NotAsked,
            lift: None,
            lifted: None,
            era: Box::new(Era::beginning(settings.keys())),
            spent: None,
            tag: String::new(),
            looked: clock::now(),
            waiting: None,
        }
    }

    /// Who asks.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// A statement begins that people can be asked about.
    pub fn begin(&mut self, planned: &Arc<Planned>, text: &Arc<str>, values: Option<Values>) {
        let (text, planned) = (text.clone(), planned.clone());
        let is_old = values.as_ref().is_some_and(|values| values.era != self.era.number());
        self.at = Some(Box::new(At { text, planned, values, is_old, began: Instant::now() }));
        self.planner = Planner::NotAsked;
    }

    /// Whether people could be asked about what runs.
    pub fn is_alone(&self) -> bool {
        self.at.is_some()
    }

    /// The values that the statement which runs was bound with.
    pub fn values(&self) -> Option<Values> {
        self.at.as_ref().and_then(|at| at.values.clone())
    }

    /// More than one statement travels together.
    pub fn travel_together(&mut self) {
        self.at = None;
    }

    /// Whether people are asked at all.
    pub fn is_asking(&self) -> bool {
        self.is_asking && self.trying.is_none()
    }

    /// The statement that runs, for the last time.
    pub fn take_at(&mut self) -> Option<At> {
        self.at.take().map(|at| *at)
    }

    /// What the planner said of it.
    pub fn estimate(&self) -> Option<Estimate> {
        match &self.planner {
            Planner::Said(estimate) => Some(estimate.clone()),
            Planner::NotAsked | Planner::Asked => None,
        }
    }

    /// Whatever began is over, or is more than one statement.
    pub fn forget(&mut self) {
        self.planner = Planner::NotAsked;
        self.at = None;
    }
}

impl Session {
    /// Whether people can be asked about a statement: nothing that it could build on was written
    /// before it, its text says all that it does, and it can be run again as it is.
    pub(super) fn is_alone(&self, facts: &Facts) -> bool {
        let is_outside = self.status == b'I' && !self.is_block && !self.is_dirty;
        // What runs as an owner runs outside of the client's transaction.
        let is_first = self.is_first_write() && facts.upkeep.is_none();
        let says_all = facts.transaction.is_none() && facts.prepared.is_none() && facts.copy.is_none();
        (is_outside || is_first) && says_all && self.is_only_bound(facts) && !self.leans_on_the_session(facts)
    }

    /// Whether no other statement may have changed rows by being bound.
    fn is_only_bound(&self, facts: &Facts) -> bool {
        !self.held.has_bound_more
            && self.held.bound.as_ref().is_none_or(|bound| std::ptr::eq(&raw const **bound, facts))
    }

    /// Whether its text alone says that it means what only this session knows. For the rest see `steady`.
    fn leans_on_the_session(&self, facts: &Facts) -> bool {
        facts.touches.iter().any(|touch| self.is_own(&touch.relation))
    }

    /// Whether the client's block is open, as far as it is known, and nothing was written in it.
    fn is_first_write(&self) -> bool {
        let is_open = self.status == b'T' && self.is_block && !self.is_dirty;
        (is_open || self.held.has_only_begun) && self.last_held().is_none()
    }

    /// A held write did more than policy lets it do alone. Its transaction is still open.
    pub(super) async fn ask_about_impact(&mut self, denial: &Denial, impacts: Vec<Impact>) -> Result<Stopped, End> {
        let Some(mut at) = self.people.at.take().filter(|_| self.people.is_asking) else {
            return Ok(refused(denial, self.people.is_asking));
        };
        // What it has run itself may have changed settings.
        if let (Some(values), false) = (&mut at.values, at.is_old) {
            values.era = self.era();
        }
        let micros = u64::try_from(at.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (text, facts) = (bound(&at.text), at.planned.cleared.facts());
        let found = self.circumstances(text, facts, at.values.as_ref(), Mode::Extended).await?;
        let Some(mut found) = found else { return Ok(Stopped::Told) };
        let moved = found.moved.take().map(Leaning::Moved);
        if let Some(leaning) = found.leaning.take().or(moved) {
            return Ok(unasked(denial, &leaning));
        }
        if let Some(values) = &at.values {
            let Some(shown) = self.written_out(text, values, Mode::Extended).await? else { return Ok(Stopped::Told) };
            found.values = shown;
        }
        // Nothing was counted where the planner's word was enough.
        let skipped = impacts.is_empty().then(|| "the planner expects too much of it".to_owned());
        let trial = Trial { impacts, micros, locks: found.locks.clone(), skipped };
        let mode = if at.values.is_some() { Mode::Extended } else { Mode::Simple };
        self.ask(denial, found, trial, mode).await
    }

    /// A statement is refused for its text, and people may lift that. Nothing has run.
    pub(super) async fn ask_about_text(
        &mut self,
        denial: &Denial,
        text: &str,
        facts: &Facts,
        values: Option<&Values>,
    ) -> Result<Stopped, End> {
        // What needs rights that no session's role has, and that are not lent, is not asked about.
        let is_out_of_reach = matches!(facts.effect, Effect::Ddl | Effect::Utility | Effect::Unknown);
        if !self.people.is_asking || (is_out_of_reach && facts.upkeep.is_none()) {
            return Ok(Stopped::Tell(Box::new(super::refuse::denial_error(denial, text))));
        }
        let mode = if values.is_some() { Mode::Extended } else { Mode::Simple };
        let found = self.circumstances(bound(text), facts, values, mode).await?;
        let Some(mut found) = found else { return Ok(Stopped::Told) };
        if let Some(leaning) = &found.leaning {
            return Ok(unasked(denial, leaning));
        }
        if let Some(values) = values {
            let Some(shown) = self.written_out(text, values, mode).await? else { return Ok(Stopped::Told) };
            found.values = shown;
        }
        let trial = match facts.upkeep {
            None => Trial { skipped: Some("refused before it ran".to_owned()), ..Trial::default() },
            Some(_) => match self.owner_of(&found.binding.oids()).await {
                Ok(_) => self.expected_of(facts),
                Err(denial) => return Ok(Stopped::Tell(Box::new(super::refuse::denial_error(&denial, text)))),
            },
        };
        self.ask(denial, found, trial, mode).await
    }

    async fn ask(&mut self, denial: &Denial, found: Circumstances, trial: Trial, mode: Mode) -> Result<Stopped, End> {
        let (grant, now) = (&self.grant.grant, clock::now());
        let asked = Asked {
            id: RequestId::from_random(random::bytes()),
            binding: found.binding,
            values: found.values,
            requester: grant.identity.clone(),
            environment: grant.environment.clone(),
            reason: grant.reason.clone(),
            ticket: grant.ticket.clone(),
            session: self.record.session().as_str().to_owned(),
            denial: denial.clone(),
            forecast: Forecast {
                estimate: self.people.estimate(),
                trial: Some(trial),
                triggers: found.triggers,
                statistics_age: found.statistics_age,
            },
            created: now,
            expires: now.after(self.people.approvals.config().ttl),
        };
        let (request, changed) = match self.people.approvals.ask(asked).await {
            Ok(asked) => asked,
            Err(ApprovalError::Log(error)) => return Err(End::Unrecorded(error)),
            Err(error @ ApprovalError::TooMany) => {
                let hint = Some(error.to_string());
                let told = ErrorFields { hint, ..super::refuse::denial_error(denial, "") };
                return Ok(Stopped::Tell(Box::new(told)));
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "nobody could be asked");
                return Ok(refused(denial, true));
            }
        };
        if self.people.breaks_glass && request.state == State::Pending {
            let grant = &self.grant.grant;
            let broken = self.people.approvals.break_glass(&request.id, &grant.identity, grant.reason.as_deref());
            let told = match broken.await {
                Ok(broken) => self.broken(&broken),
                Err(ApprovalError::Log(error)) => return Err(End::Unrecorded(error)),
                Err(error) => ErrorFields {
                    detail: Some(self.detail(&request)),
                    ..ErrorFields::error("ZG001", format!("{error}. It waits for {}", request.reviewers))
                },
            };
            return Ok(Stopped::Tell(Box::new(told)));
        }
        // It would have been used, had it been there and for the statement as it begins.
        let was_there = request.decisions.last().is_some_and(|decision| decision.at < self.people.looked);
        if request.state == State::Approved && was_there {
            return Ok(Stopped::Tell(Box::new(self.does_not_apply(&request))));
        }
        // In the extended protocol a driver waits for more than one answer: it is told at once. So is
        // who has a transaction open: nothing of it may be kept while people think.
        if self.people.hold.is_none() || mode == Mode::Extended || self.is_block {
            return Ok(Stopped::Tell(Box::new(self.pending(&request, &changed))));
        }
        let cancelled = self.registered.handle().cancelled.subscribe();
        self.people.waiting = Some(Waiting { id: request.id.clone(), cancelled });
        if found.hears_notices {
            let notice = self.notice(&request);
            crate::core::wire::backend::write_error(b'N', &notice, self.client.out());
        }
        Ok(Stopped::Wait)
    }

    /// ZG001: somebody was asked.
    pub(super) fn pending(&self, request: &Request, changed: &[String]) -> ErrorFields {
        let void = match changed {
            [] => String::new(),
            _ => format!(" An earlier approval is void, because {} changed.", changed.join(", ")),
        };
        let id = request.id.as_str();
        let message =
            format!("{}.{void} It waits for {}: {id}", request.denial.message.trim_end_matches('.'), request.reviewers);
        let hint = format!(
            "Once it is approved, run the same statement again, or: dbgate exec --resume {id}\n{}",
            self.people.approvals.url(&request.id)
        );
        ErrorFields { detail: Some(self.detail(request)), hint: Some(hint), ..ErrorFields::error("ZG001", message) }
    }

    /// ZG004: what was approved is bound to something that holds only once it runs.
    fn does_not_apply(&self, request: &Request) -> ErrorFields {
        let id = request.id.as_str();
        let message = format!(
            "{}. {id} is approved, but not for the statement as it begins: what it is bound to changes while it runs",
            request.denial.message.trim_end_matches('.')
        );
        ErrorFields { detail: Some(self.detail(request)), ..ErrorFields::error("ZG004", message) }
    }

    /// ZG001 as well: our own client, which alone breaks glasses, sends it again.
    fn broken(&self, request: &Request) -> ErrorFields {
        let message = format!("the glass is broken: {} is reviewed by {}", request.id.as_str(), request.reviewers);
        ErrorFields { detail: Some(self.detail(request)), ..ErrorFields::error("ZG001", message) }
    }

    /// What programs read in DETAIL.
    pub(super) fn detail(&self, request: &Request) -> String {
        let detail = serde_json::json!({
            "code": request.denial.code, "rule": request.denial.rule, "objects": request.denial.objects,
            "approvers": request.denial.approvers, "request_id": request.id.as_str(), "state": request.state.word(),
            "url": self.people.approvals.url(&request.id), "retryable": request.state.is_open(),
        });
        detail.to_string()
    }

    fn notice(&self, request: &Request) -> ErrorFields {
        let url = self.people.approvals.url(&request.id);
        let waits = self.people.hold.unwrap_or_default().as_secs();
        ErrorFields {
            severity: "NOTICE".to_owned(),
            detail: Some(request.denial.message.clone()),
            hint: Some(format!("It waits here for {waits} s. Ctrl-C withdraws it.")),
            ..ErrorFields::error("00000", format!("{} waits for {}: {url}", request.id.as_str(), request.reviewers))
        }
    }
}

/// The text that an approval is bound to: without the blanks and semicolons that clients add.
pub(super) fn bound(text: &str) -> &str {
    text.trim().trim_end_matches(|letter: char| letter == ';' || letter.is_whitespace())
}

pub(super) fn refused(denial: &Denial, is_asking: bool) -> Stopped {
    let mut error = super::refuse::denial_error(denial, "");
    if is_asking && denial.approvers.as_deref().and_then(Reviewers::parse).is_some() {
        let how = "to ask for approval, send the statement by itself, or as the first write of its transaction";
        error.hint = Some(error.hint.map_or(how.to_owned(), |hint| format!("{hint}; {how}")));
    }
    Stopped::Tell(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_text_is_the_same_from_every_client() {
        for text in ["delete from t", " delete from t;", "delete from t ; \n"] {
            assert_eq!(bound(text), "delete from t");
        }
    }
}
