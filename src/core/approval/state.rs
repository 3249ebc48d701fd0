//! How a request goes on: each step is a pure function from one state to the next.

use serde::{Deserialize, Serialize};

use super::{Binding, Lift, Request};
use crate::core::identity::{Identity, Kind};
use crate::core::time::Moment;

/// How long ago the issuer may have vouched for whoever decides: membership in a group is asked
/// for at the moment of deciding, not at the moment of signing in.
pub const FRESH: std::time::Duration = std::time::Duration::from_secs(5 * 60);
/// Clocks of issuer and gateway may differ by this much.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);
/// Longest comment, in bytes: it is read by people and recorded in one line. The 500 letters that the pages take
/// are no more than that in any script.
pub const LONGEST_COMMENT: usize = 1500;
/// The greatest cap: the greatest number that the record can name.
const GREATEST_CAP: u64 = (1 << 53) - 1;
/// Who remarks on a request that nobody has looked at.
const GATEWAY: &str = "dbgate";
/// How its remark on one that is void begins.
const VOID: &str = "void:";

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pending,
    Approved,
    Rejected,
    /// Its time is over, or what it was for is not there any more.
    Expired,
    Withdrawn,
    /// Used: the statement ran, or tried to.
    Executed,
}

impl State {
    /// The word used in JSON and in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Executed => "executed",
        }
    }

    /// Whether anything can still happen.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }
}

/// Whoever wants to decide, and when their issuer last vouched for their groups.
#[derive(Clone, Copy, Debug)]
pub struct Decider<'a> {
    pub identity: &'a Identity,
    pub vouched: Moment,
}

/// One person's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Issuer and subject.
    pub principal: String,
    /// The name people know.
    pub by: String,
    pub approves: bool,
    pub comment: Option<String>,
    /// The most rows this person agrees to.
    pub cap: Option<u64>,
    pub at: Moment,
}

/// Something said without deciding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    pub by: String,
    pub text: String,
    pub at: Moment,
}

/// What became of the approved statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub spent: Spent,
    pub session: String,
    pub at: Moment,
}

/// How the one use ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Spent {
    /// Sent; what came of it is not known (yet).
    Unknown,
    Committed {
        tag: String,
    },
    /// It would have changed more than was approved, and was rolled back.
    OverCap {
        rows: u64,
        cap: u64,
    },
    /// The target or the policy refused it; nothing was changed.
    Failed {
        sqlstate: String,
        message: String,
    },
}

/// Why a step is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("self_approval: you asked for it, or an agent of yours did; somebody else must decide")]
    SelfApproval,
    #[error("only people decide; a program may ask")]
    NotAPerson,
    #[error("deciding takes a member of the group `{0}`, and you are not one now")]
    NotAReviewer(String),
    #[error("the policy lets you approve nothing here")]
    NotPermitted,
    #[error("your sign-in is older than five minutes; sign in again to decide")]
    Stale,
    #[error("you have decided this already; it takes another person")]
    Twice,
    #[error("it is {} already", .0.word())]
    Closed(State),
    #[error("its time is over")]
    TooLate,
    #[error("say why: a rejection needs a comment")]
    NoComment,
    #[error("a comment is one line of at most {LONGEST_COMMENT} bytes without control characters")]
    Comment,
    #[error("the cap must be a whole number of rows, at least one")]
    Cap,
    #[error("it is not yours")]
    NotYours,
    #[error("it has not been approved")]
    NotApproved,
    #[error("the rule has no glass to break")]
    NoGlass,
    #[error("breaking the glass takes a member of the group `{0}`")]
    NotOnCall(String),
    #[error("breaking the glass takes a reason")]
    NoReason,
    #[error("it has gone on since you looked at it; look again")]
    Moved,
    #[error("it is for something else: {} changed", .0.join(", "))]
    Changed(Vec<String>),
}

/// Whether two names are one person's: issuers spell them as they like.
fn is_same_name(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

impl Request {
    /// Whether this person may decide at all, leaving aside whether anything is left to decide.
    pub fn may_decide(&self, decider: &Decider<'_>, now: Moment) -> Result<(), Refused> {
        let Decider { identity, vouched } = *decider;
        let asked = &self.requester;
        // The same name at another issuer is taken for the same person: better one reviewer less.
        if (identity.issuer == asked.issuer && identity.sub == asked.sub)
            || is_same_name(&identity.subject, &asked.subject)
        {
            return Err(Refused::SelfApproval);
        }
        if identity.kind != Kind::Human {
            return Err(Refused::NotAPerson);
        }
        if !identity.groups.contains(&self.reviewers.group) {
            return Err(Refused::NotAReviewer(self.reviewers.group.clone()));
        }
        if now.since(vouched) > FRESH || vouched.since(now) > LEEWAY {
            return Err(Refused::Stale);
        }
        Ok(())
    }

    /// One person says yes. Enough of them make it approved; the lowest cap holds. Who names none agrees
    /// to the one that is shown.
    pub fn approve(
        &self,
        decider: &Decider<'_>,
        comment: Option<&str>,
        cap: Option<u64>,
        now: Moment,
    ) -> Result<Self, Refused> {
        self.open_to(decider, now)?;
        if cap.is_some_and(|cap| !(1..=GREATEST_CAP).contains(&cap)) {
            return Err(Refused::Cap);
        }
        let mut next = self.with(decider, true, comment, cap.or(self.cap), now)?;
        let agreed: Vec<_> = next.decisions.iter().filter(|decision| decision.approves).collect();
        let lowest = agreed.iter().filter_map(|decision| decision.cap).min();
        next.cap = lowest.or(self.cap);
        if agreed.len() >= self.reviewers.needed {
            next.state = State::Approved;
        }
        Ok(next)
    }

    /// One person says no, and why. That is enough.
    pub fn reject(&self, decider: &Decider<'_>, comment: &str, now: Moment) -> Result<Self, Refused> {
        self.open_to(decider, now)?;
        if comment.trim().is_empty() {
            return Err(Refused::NoComment);
        }
        Ok(Self { state: State::Rejected, ..self.with(decider, false, Some(comment), None, now)? })
    }

    /// A reviewer asks something back; the state stays.
    pub fn ask(&self, decider: &Decider<'_>, question: &str, now: Moment) -> Result<Self, Refused> {
        self.open_to(decider, now)?;
        self.remark(&decider.identity.subject, question, now)
    }

    /// The requester answers; the state stays.
    pub fn reply(&self, principal: &str, text: &str, now: Moment) -> Result<Self, Refused> {
        self.is_of(principal)?;
        self.is_pending(now)?;
        self.remark(&self.requester.subject, text, now)
    }

    /// The requester takes it back, before or after it was approved.
    pub fn withdraw(&self, principal: &str) -> Result<Self, Refused> {
        self.is_of(principal)?;
        match self.state {
            State::Pending | State::Approved => Ok(Self { state: State::Withdrawn, ..self.clone() }),
            closed => Err(Refused::Closed(closed)),
        }
    }

    /// Its time is over; `None` while it is not, or where nothing is left to expire.
    pub fn expire(&self, now: Moment) -> Option<Self> {
        (self.state.is_open() && now >= self.expires).then(|| Self { state: State::Expired, ..self.clone() })
    }

    /// What it was for is not there any more.
    pub fn void(&self, differences: &[String], now: Moment) -> Result<Self, Refused> {
        if !self.state.is_open() {
            return Err(Refused::Closed(self.state));
        }
        let why = format!("{VOID} {} changed", differences.join(", "));
        let next = self.remark(GATEWAY, crate::core::transcript::content::clip(&why, LONGEST_COMMENT), now)?;
        Ok(Self { state: State::Expired, ..next })
    }

    /// Why it was made void, where it was.
    pub fn why_void(&self) -> Option<&str> {
        let last = self.remarks.last().filter(|_| self.state == State::Expired)?;
        (last.by == GATEWAY && last.text.starts_with(VOID)).then_some(&*last.text)
    }

    /// Uses the approval up, for exactly what it was given for.
    pub fn execute(&self, binding: &Binding, session: &str, now: Moment) -> Result<(Self, Lift), Refused> {
        match self.state {
            State::Approved => {}
            State::Pending => return Err(Refused::NotApproved),
            closed => return Err(Refused::Closed(closed)),
        }
        if now >= self.expires {
            return Err(Refused::TooLate);
        }
        if *binding != self.binding {
            return Err(Refused::Changed(self.binding.difference(binding)));
        }
        let lift = Lift {
            request: self.id.clone(),
            approvers: self.denial.approvers.clone().unwrap_or_default(),
            binding: self.binding.clone(),
            cap: self.cap,
        };
        let outcome = Outcome { spent: Spent::Unknown, session: session.to_owned(), at: now };
        Ok((Self { state: State::Executed, outcome: Some(outcome), ..self.clone() }, lift))
    }

    /// Notes what came of it. Only the first word counts.
    pub fn finish(&self, spent: Spent, now: Moment) -> Result<Self, Refused> {
        match &self.outcome {
            Some(outcome) if self.state == State::Executed && outcome.spent == Spent::Unknown => {
                let outcome = Outcome { spent, at: now, ..outcome.clone() };
                Ok(Self { outcome: Some(outcome), ..self.clone() })
            }
            Some(_) | None => Err(Refused::Closed(self.state)),
        }
    }

    /// The last word of a person on it.
    pub fn decided(&self) -> Option<&Decision> {
        self.decisions.last()
    }

    /// How many have agreed.
    pub fn agreed(&self) -> usize {
        self.decisions.iter().filter(|decision| decision.approves).count()
    }

    fn open_to(&self, decider: &Decider<'_>, now: Moment) -> Result<(), Refused> {
        self.may_decide(decider, now)?;
        self.is_pending(now)?;
        // Distinct people: neither the same account nor the same name counts twice.
        let principal = decider.identity.principal();
        let is_same = |decision: &Decision| {
            decision.principal == principal || is_same_name(&decision.by, &decider.identity.subject)
        };
        if self.decisions.iter().any(is_same) { Err(Refused::Twice) } else { Ok(()) }
    }

    pub(super) fn is_pending(&self, now: Moment) -> Result<(), Refused> {
        match self.state {
            State::Pending if now < self.expires => Ok(()),
            State::Pending => Err(Refused::TooLate),
            closed => Err(Refused::Closed(closed)),
        }
    }

    fn is_of(&self, principal: &str) -> Result<(), Refused> {
        if self.binding.principal == principal { Ok(()) } else { Err(Refused::NotYours) }
    }

    fn with(
        &self,
        decider: &Decider<'_>,
        approves: bool,
        comment: Option<&str>,
        cap: Option<u64>,
        now: Moment,
    ) -> Result<Self, Refused> {
        let comment = comment.map(str::trim).filter(|comment| !comment.is_empty());
        comment.map_or(Ok(()), one_line)?;
        let mut next = self.clone();
        next.decisions.push(Decision {
            principal: decider.identity.principal(),
            by: decider.identity.subject.clone(),
            approves,
            comment: comment.map(str::to_owned),
            cap,
            at: now,
        });
        Ok(next)
    }

    fn remark(&self, by: &str, text: &str, now: Moment) -> Result<Self, Refused> {
        one_line(text)?;
        let mut next = self.clone();
        next.remarks.push(Remark { by: by.to_owned(), text: text.trim().to_owned(), at: now });
        Ok(next)
    }
}

pub(super) fn one_line(text: &str) -> Result<(), Refused> {
    let fits = !text.trim().is_empty() && text.len() <= LONGEST_COMMENT && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Refused::Comment) }
}
