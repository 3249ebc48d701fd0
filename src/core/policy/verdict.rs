//! What a judgement is: allow, deny, or ask a person; and the proof that it was asked for.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::core::scope::catalog::Relation;
use crate::core::statement::facts::{Facts, RowAction};

/// The answer to one statement or one impact.
#[derive(Clone, Debug)]
#[must_use]
pub enum Verdict {
    Allow(Cleared),
    /// Every rule that stands in the way can be lifted by a group.
    NeedApproval(Denial),
    Deny(Denial),
}

/// Proof that [`super::Policy::judge`] allowed a statement. Forwarding asks for it. Cheap to clone:
/// texts of one shape share it.
#[derive(Clone, Debug)]
pub struct Cleared {
    facts: Arc<Facts>,
    policy: Arc<str>,
    limits: Limits,
}

impl Cleared {
    /// Only the judge calls this.
    pub(super) fn new(facts: Facts, policy: &str, limits: Limits) -> Self {
        Self { facts: Arc::new(facts), policy: policy.into(), limits }
    }

    /// A clearance that no policy gave, for tests of what comes after the judge.
    #[cfg(test)]
    pub(crate) fn assumed(facts: Facts) -> Self {
        Self::new(facts, "test", Limits::default())
    }

    /// What was judged.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The same, to be kept.
    pub fn shared_facts(&self) -> Arc<Facts> {
        self.facts.clone()
    }

    /// How far it may go.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Digest of the policy that allowed it.
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// Why not, and what would help. Travels in DETAIL and HINT of the error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// A stable word for the reason, as in `write_without_predicate`.
    pub code: String,
    /// The `@id` of the deciding rule; `default-deny` where no rule permits.
    pub rule: String,
    /// One sentence for the person.
    pub message: String,
    /// What to do instead.
    pub hint: Option<String>,
    /// Qualified names of the objects concerned.
    pub objects: Vec<String>,
    /// The group that may lift it, where every deciding rule names one.
    pub approvers: Option<String>,
    /// The group that may go ahead at once and be reviewed afterwards, where every deciding rule names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Byte offset in the statement that the finding points at.
    pub offset: Option<usize>,
}

/// What a held write really did to one relation, measured before commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    pub schema: String,
    pub relation: String,
    pub action: RowAction,
    /// Exact number of rows.
    pub rows: u64,
    /// Rows the relation holds, as estimated by the server's statistics; none when unknown.
    pub of: Option<u64>,
    /// Whether the statement's own text names this relation, or a cascade or trigger reached it.
    pub direct: bool,
    /// Where the session has put rows there itself, and these could all be among them or the others': how many
    /// others there were before. It is their share that matters.
    #[serde(skip)]
    pub others: Option<u64>,
}

impl Impact {
    /// What a text does to a relation that it names, of as many rows as the catalog expects.
    pub fn expected(relation: &Relation, action: RowAction, rows: u64) -> Self {
        Self {
            schema: relation.name.schema.clone(),
            relation: relation.name.name.clone(),
            action,
            rows,
            of: u64::try_from(relation.estimated_rows).ok(),
            direct: true,
            others: None,
        }
    }
}
