//! Requests that wait for people, as the broker shows them: `dbgate.request/1`.

use serde::{Deserialize, Serialize};

use crate::core::api::Principal;
use crate::core::grant::Access;

/// The mark of this form.
pub const SCHEMA: &str = "dbgate.request/1";

/// `GET /v1/requests`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Requests {
    pub requests: Vec<RequestView>,
}

/// One request as whoever asks may see it. The `approval` object of `dbgate.exec/1` is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RequestView {
    pub schema: String,
    pub request_id: String,
    /// `statement`, or `access`: then it is for a session.
    pub kind: String,
    /// `pending`, `approved`, `rejected`, `expired`, `withdrawn` or `executed`.
    pub state: String,
    pub rule: String,
    pub code: String,
    pub message: String,
    /// The page for reviewers.
    pub url: String,
    /// RFC 3339, as all moments here.
    pub created_at: String,
    pub expires_at: String,
    pub poll_after_s: u64,
    pub reviewers: ReviewersView,
    pub decided_by: Option<String>,
    pub comment: Option<String>,
    pub target: String,
    pub database: String,
    pub environment: String,
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub access: Access,
    pub statement: String,
    /// The values that it is bound with, as the target writes them out; they are part of what is approved.
    #[serde(default)]
    pub parameters: Vec<Option<String>>,
    pub principal: Principal,
    /// The program that says it acts for the principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    pub reason: Option<String>,
    pub ticket: Option<String>,
    pub impact: ImpactView,
    pub binds: Binds,
    pub decisions: Vec<DecisionView>,
    pub remarks: Vec<RemarkView>,
    /// What came of the one use, where there was one.
    pub outcome: Option<OutcomeView>,
    /// Whoever asked went ahead without anybody's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glass: Option<GlassView>,
    /// How to run what was approved.
    pub resume_argv: Vec<String>,
    /// Whether the caller may decide it.
    pub may_decide: bool,
}

impl RequestView {
    /// Whether anything can still happen.
    pub fn is_open(&self) -> bool {
        matches!(self.state.as_str(), "pending" | "approved")
    }

    /// Whether it went ahead without anybody's word, and nobody has said since whether that was in order.
    pub fn awaits_review(&self) -> bool {
        self.glass.as_ref().is_some_and(|glass| glass.reviewed_by.is_none())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ReviewersView {
    pub needed: usize,
    pub given: usize,
    pub groups: Vec<String>,
}

/// What the statement would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ImpactView {
    /// What the planner expects.
    pub estimate: Option<EstimateView>,
    /// What a run that was rolled back did.
    pub trial: Option<TrialView>,
    pub objects: Vec<ObjectView>,
    /// `yes`, `no`, `partly` or `unknown`.
    pub reversible: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct EstimateView {
    pub rows: Option<u64>,
    pub cost: f64,
    /// Always `explain`.
    pub method: String,
    /// Seconds since the statistics that it rests on were gathered; none where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats_age_s: Option<u64>,
    /// The steps of the plan, outermost first.
    #[serde(default)]
    pub plan: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TrialView {
    /// Rows of all relations together.
    pub rows: u64,
    pub duration_ms: f64,
    pub locks: Vec<String>,
    pub cascades: Vec<ChangeView>,
    pub side_effects: Vec<String>,
    pub skipped: Option<String>,
}

/// Rows of one relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ChangeView {
    pub name: String,
    /// `insert`, `update` or `delete`.
    pub action: String,
    pub rows: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ObjectView {
    pub name: String,
    /// `insert`, `update` or `delete`.
    pub action: String,
    pub rows: u64,
    /// False where a cascade or a trigger reached it.
    pub direct: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_total: Option<u64>,
    /// Of the rows it holds, 0 to 1; by the server's statistics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

/// What the approval is for; any difference voids it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Binds {
    pub target: String,
    pub statements: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub params: Option<String>,
    /// Types, formats and values as they came, base 64: what runs when it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
    pub policy: String,
    pub principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Settings under which the text was judged.
    #[cfg_attr(feature = "server", schema(value_type = Object))]
    pub settings: std::collections::BTreeMap<String, String>,
    /// Digest of all of it, definitions of the relations included.
    pub all: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct DecisionView {
    pub by: String,
    /// `approve` or `reject`.
    pub decision: String,
    pub comment: Option<String>,
    pub max_rows: Option<u64>,
    pub at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RemarkView {
    pub by: String,
    pub text: String,
    pub at: String,
}

/// A glass that was broken, and what reviewers found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct GlassView {
    pub review_by: String,
    pub is_overdue: bool,
    /// Who has looked at it.
    pub reviewed_by: Option<String>,
    pub was_in_order: Option<bool>,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct OutcomeView {
    /// `unknown`, `committed`, `over_cap` or `failed`.
    pub how: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub session: String,
    pub at: String,
}

/// `POST /v1/requests/{id}/approve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Approve {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Most rows it may change; without it, a tenth more than the trial changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<u64>,
    /// Whether it is the review of a broken glass that is meant, for who has looked: answered with a conflict where
    /// it is the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<bool>,
}

/// `POST /v1/requests/{id}/reject`, `…/question` and `…/reply`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Say {
    pub comment: String,
}
