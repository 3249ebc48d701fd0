//! Step 4, check: a request that waits for people. Who may decide it, until when, and what it covers.
//!
//! A [`Request`] is a value; every change of state is a function that gives the next one or says
//! why not. What must stay true: nobody decides on their own behalf; an approval covers what was
//! asked for and nothing else, once, within its time and its number of rows.

mod access;
mod binding;
pub mod estimate;
mod glass;
pub mod message;
mod state;
#[cfg(feature = "server")]
pub mod steady;

pub use access::Admission;
pub use binding::{Binding, BoundRelation};
pub use glass::Glass;
pub use state::{Decider, Decision, Outcome, Refused, Remark, Spent, State};

use serde::{Deserialize, Serialize};

use crate::core::encoding;
use crate::core::identity::Identity;
use crate::core::policy::{Denial, Impact};
use crate::core::time::Moment;

/// Names one request: `apr_` and 16 letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// From ten random bytes.
    pub fn from_random(bytes: [u8; 10]) -> Self {
        Self(format!("apr_{}", encoding::crockford(&bytes)))
    }

    /// Reads an id that came from outside; anything of another form is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let letters = text.strip_prefix("apr_")?;
        let well_formed = letters.len() == 16 && letters.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        well_formed.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who must agree: so many different people of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewers {
    pub needed: usize,
    pub group: String,
}

impl Reviewers {
    /// Reads `dba` or `2 of dba`; `None` where no number of people or no group is named.
    pub fn parse(text: &str) -> Option<Self> {
        let (needed, group) = match text.split_once(" of ") {
            Some((number, group)) => (number.trim().parse().ok()?, group),
            None => (1, text),
        };
        let group = group.trim();
        let is_possible = (1..=5).contains(&needed) && !group.is_empty();
        is_possible.then(|| Self { needed, group: group.to_owned() })
    }
}

impl std::fmt::Display for Reviewers {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.needed {
            1 => write!(out, "one member of {}", self.group),
            more => write!(out, "{more} members of {}", self.group),
        }
    }
}

/// What the planner expects a statement to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    pub rows: u64,
    pub cost: f64,
    /// The steps of the plan, outermost first, without values.
    #[serde(default)]
    pub plan: Vec<String>,
}

/// What a run that was rolled back did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub impacts: Vec<Impact>,
    pub micros: u64,
    /// As in `RowExclusiveLock public.orders`.
    pub locks: Vec<String>,
    /// Why there was none, where there was none.
    pub skipped: Option<String>,
}

impl Trial {
    /// Rows of all relations together, cascades and triggers included.
    pub fn rows(&self) -> u64 {
        self.impacts.iter().map(|impact| impact.rows).fold(0, u64::saturating_add)
    }
}

/// What is known of the statement's effect before anybody decides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    pub estimate: Option<Estimate>,
    pub trial: Option<Trial>,
    /// Triggers that the statement fires, as `relation: trigger`.
    pub triggers: Vec<String>,
    /// Seconds since the oldest of the relations' statistics were gathered, by which the planner guesses.
    #[serde(default)]
    pub statistics_age: Option<u64>,
}

/// A request in whatever state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    pub binding: Binding,
    /// The bound values as people are shown them; the binding holds them as they came.
    #[serde(default)]
    pub values: Vec<Option<String>>,
    pub requester: Identity,
    pub environment: String,
    pub reason: Option<String>,
    pub ticket: Option<String>,
    /// The recorded session it was asked in.
    pub session: String,
    /// Why it was stopped, in the policy's words.
    pub denial: Denial,
    pub reviewers: Reviewers,
    pub forecast: Forecast,
    /// Most rows that the approved statement may change, all relations together.
    pub cap: Option<u64>,
    pub created: Moment,
    pub expires: Moment,
    pub state: State,
    pub decisions: Vec<Decision>,
    /// Questions of reviewers and remarks on the way.
    pub remarks: Vec<Remark>,
    pub outcome: Option<Outcome>,
    /// It went ahead without anybody's word.
    #[serde(default)]
    pub glass: Option<Glass>,
}

/// What a new request is made of.
pub struct Asked {
    pub id: RequestId,
    pub binding: Binding,
    pub values: Vec<Option<String>>,
    pub requester: Identity,
    pub environment: String,
    pub reason: Option<String>,
    pub ticket: Option<String>,
    pub session: String,
    pub denial: Denial,
    pub forecast: Forecast,
    pub created: Moment,
    pub expires: Moment,
}

/// A tenth more than was measured, or else expected: rows that come in while people decide are no other statement.
fn cap_of(forecast: &Forecast) -> Option<u64> {
    let counted = forecast.trial.as_ref().filter(|trial| trial.skipped.is_none()).map(Trial::rows);
    let rows = counted.or(forecast.estimate.as_ref().map(|estimate| estimate.rows))?;
    Some(rows.saturating_add(rows.div_ceil(10)))
}

impl Request {
    /// A pending request; `None` where no group may lift what stands in the way.
    pub fn new(asked: Asked) -> Option<Self> {
        let reviewers = Reviewers::parse(asked.denial.approvers.as_deref()?)?;
        let Asked {
            id,
            binding,
            values,
            requester,
            environment,
            reason,
            ticket,
            session,
            denial,
            forecast,
            created,
            expires,
        } = asked;
        Some(Self {
            cap: cap_of(&forecast),
            id,
            binding,
            values,
            requester,
            environment,
            reason,
            ticket,
            session,
            denial,
            reviewers,
            forecast,
            created,
            expires,
            state: State::Pending,
            decisions: Vec::new(),
            remarks: Vec::new(),
            outcome: None,
            glass: None,
        })
    }
}

/// Proof that people let this statement through. Only [`Request::execute`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lift {
    request: RequestId,
    /// As the rule names them.
    approvers: String,
    /// What it was approved for, and what it is still.
    binding: Binding,
    cap: Option<u64>,
}

impl Lift {
    /// The request that was approved.
    pub fn request(&self) -> &RequestId {
        &self.request
    }

    /// What was approved.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Whether it lifts this refusal of the statement's text: the same people, the same policy.
    pub fn covers(&self, denial: &Denial, policy: &str) -> bool {
        self.binding.policy == policy && denial.approvers.as_deref() == Some(&self.approvers)
    }

    /// Whether it lifts this refusal of what the statement did.
    ///
    /// # Errors
    /// With the most it may change and what it changed, where that is too much.
    pub fn covers_impact(&self, denial: &Denial, policy: &str, impacts: &[Impact]) -> Result<bool, OverCap> {
        if !self.covers(denial, policy) {
            return Ok(false);
        }
        self.within_cap(impacts)?;
        // Nobody has seen numbers: nobody has agreed to them.
        Ok(self.cap.is_some())
    }

    /// Holds what the statement changed against the cap, also where no rule refuses it.
    ///
    /// # Errors
    /// With the most it may change and what it changed, where that is too much.
    pub fn within_cap(&self, impacts: &[Impact]) -> Result<(), OverCap> {
        let rows = impacts.iter().map(|impact| impact.rows).fold(0, u64::saturating_add);
        match self.cap {
            Some(cap) if rows > cap => Err(OverCap { rows, cap }),
            Some(_) | None => Ok(()),
        }
    }
}

/// The statement changed more rows than was approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row_cap_exceeded ({rows} > {cap}): more rows than were approved")]
pub struct OverCap {
    pub rows: u64,
    pub cap: u64,
}

#[cfg(test)]
pub mod tests;
