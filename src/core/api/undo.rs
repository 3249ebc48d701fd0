//! What small writes of a session changed, and how to take it back: `dbgate.undo/1`.

use serde::{Deserialize, Serialize};

/// The mark of this form.
pub const SCHEMA: &str = "dbgate.undo/1";

/// `GET /v1/sessions/{id}/undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Undos {
    pub schema: String,
    pub session: String,
    /// The latest first.
    pub writes: Vec<UndoView>,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct UndoView {
    /// The statement's number in the session's record.
    pub statement: u64,
    pub target: String,
    pub database: String,
    /// RFC 3339, as all moments here.
    pub at: String,
    /// After this nothing of it is kept.
    pub expires_at: String,
    /// As in `public.orders`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// The statement that takes it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Why there is none, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}
