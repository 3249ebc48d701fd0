//! Breaking the glass: somebody goes ahead at once, and is looked at afterwards.
//!
//! What must stay true: it takes a person of the group that the rule names, and a reason; whoever
//! broke the glass does not review it; nothing but a review makes the review go away.

use serde::{Deserialize, Serialize};

use super::state::Refused;
use super::{Decider, Decision, Remark, Request, State};
use crate::core::identity::{Identity, Kind};
use crate::core::time::Moment;

/// How long reviewers have.
pub const REVIEW_WITHIN: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

/// The glass of a request that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glass {
    /// When it is to be reviewed.
    pub due: Moment,
    /// What a reviewer found: `approves` where it was in order.
    pub found: Option<Decision>,
    /// Reviewers have been reminded.
    pub is_overdue: bool,
}

impl Request {
    /// Goes ahead without anybody's word: whoever asked, as who they are now. It is used like an
    /// approval, and reviewed afterwards.
    pub fn break_glass(&self, who: &Identity, reason: Option<&str>, now: Moment) -> Result<Self, Refused> {
        let group = self.denial.break_glass.as_deref().ok_or(Refused::NoGlass)?;
        if who.principal() != self.binding.principal {
            return Err(Refused::NotYours);
        }
        if who.kind != Kind::Human || self.binding.agent.is_some() {
            return Err(Refused::NotAPerson);
        }
        if !who.groups.iter().any(|own| own == group) {
            return Err(Refused::NotOnCall(group.to_owned()));
        }
        let reason = reason.map(str::trim).filter(|reason| !reason.is_empty()).ok_or(Refused::NoReason)?;
        self.is_pending(now)?;
        let glass = Glass { due: now.after(REVIEW_WITHIN), found: None, is_overdue: false };
        let (requester, reason) = (who.clone(), Some(reason.to_owned()));
        Ok(Self { state: State::Approved, glass: Some(glass), requester, reason, ..self.clone() })
    }

    /// Whether somebody must still look at what was done.
    pub fn awaits_review(&self) -> bool {
        self.glass.as_ref().is_some_and(|glass| glass.found.is_none())
    }

    /// A reviewer says whether it was in order.
    pub fn review(
        &self,
        decider: &Decider<'_>,
        is_in_order: bool,
        comment: Option<&str>,
        now: Moment,
    ) -> Result<Self, Refused> {
        self.may_decide(decider, now)?;
        let Some(glass) = self.glass.as_ref().filter(|glass| glass.found.is_none()) else {
            return Err(Refused::Closed(self.state));
        };
        let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
        if !is_in_order && comment.is_none() {
            return Err(Refused::NoComment);
        }
        comment.map_or(Ok(()), super::state::one_line)?;
        let found = Decision {
            principal: decider.identity.principal(),
            by: decider.identity.subject.clone(),
            approves: is_in_order,
            comment: comment.map(str::to_owned),
            cap: None,
            at: now,
        };
        Ok(Self { glass: Some(Glass { found: Some(found), ..glass.clone() }), ..self.clone() })
    }

    /// The time for the review is over: reviewers are reminded, once. `None` while nothing is overdue.
    pub fn remind(&self, now: Moment) -> Option<Self> {
        let glass =
            self.glass.as_ref().filter(|glass| glass.found.is_none() && !glass.is_overdue && now >= glass.due)?;
        let mut next = self.clone();
        next.glass = Some(Glass { is_overdue: true, ..glass.clone() });
        let text = "the glass was broken here, and nobody has reviewed it in time".to_owned();
        next.remarks.push(Remark { by: "dbgate".to_owned(), text, at: now });
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, person, raj, request};
    use super::*;

    fn on_call() -> Request {
        let mut request = request();
        request.denial.break_glass = Some("oncall".into());
        request.binding.agent = None;
        request
    }

    fn broken(at: Moment) -> Request {
        on_call().break_glass(&person("ana", &["oncall"]), Some("the site is down"), at).expect("broken")
    }

    #[test]
    fn it_takes_a_person_on_call_with_a_reason_and_a_rule_that_has_a_glass() {
        assert_eq!(broken(at(10)).state, State::Approved);
        assert_eq!(broken(at(10)).reason.as_deref(), Some("the site is down"));
        let breaks = |request: &Request, who: &Identity, reason| request.break_glass(who, reason, at(10));
        let (ana, why) = (person("ana", &["oncall"]), Some("why"));
        let agents = Request { binding: super::super::tests::binding(), ..on_call() };
        let closed = Request { state: State::Rejected, ..on_call() };
        let bot = Identity { kind: Kind::Agent, ..ana.clone() };
        for (result, refused) in [
            (breaks(&request(), &ana, why), Refused::NoGlass),
            (breaks(&on_call(), &person("ana", &["dba"]), why), Refused::NotOnCall("oncall".into())),
            (breaks(&on_call(), &ana, Some(" ")), Refused::NoReason),
            (breaks(&on_call(), &person("raj", &["oncall"]), why), Refused::NotYours),
            (breaks(&agents, &ana, why), Refused::NotAPerson),
            (breaks(&on_call(), &bot, why), Refused::NotAPerson),
            (breaks(&closed, &ana, why), Refused::Closed(State::Rejected)),
        ] {
            assert_eq!(result, Err(refused));
        }
    }

    #[test]
    fn it_is_used_once_and_reviewed_by_somebody_else() {
        let broken = broken(at(10));
        let (used, lift) = broken.execute(&broken.binding, "s", at(11)).expect("used");
        assert_eq!(lift.request(), &broken.id);
        assert!(used.awaits_review());
        let (raj, ana) = (raj(), person("ana", &["dba"]));
        let (raj, ana) = (Decider { identity: &raj, vouched: at(20) }, Decider { identity: &ana, vouched: at(20) });
        assert_eq!(used.review(&ana, true, None, at(20)), Err(Refused::SelfApproval));
        assert_eq!(used.review(&raj, false, None, at(20)), Err(Refused::NoComment));
        let found = used.review(&raj, false, Some("there was no need"), at(20)).expect("reviewed");
        assert!(!found.awaits_review());
        assert_eq!(found.state, State::Executed, "what was done stays done");
        assert_eq!(found.review(&raj, true, None, at(21)), Err(Refused::Closed(State::Executed)));
    }

    #[test]
    fn what_nobody_reviews_in_time_is_told_once_and_stays_open() {
        let broken = broken(at(0));
        assert_eq!(broken.remind(at(24 * 3600 - 1)), None);
        let late = broken.remind(at(24 * 3600)).expect("overdue");
        assert!(late.awaits_review());
        assert_eq!((late.remind(at(25 * 3600)), late.remarks.len()), (None, 1));
    }
}
