//! The JSON between `dbgate` and its broker, version 1. Additive changes only.

pub mod request;
pub mod undo;

use serde::{Deserialize, Serialize};

use crate::core::grant::Access;
use crate::core::identity::Declared;
use crate::core::secret::Secret;

/// `GET /v1/discovery`: all that a client must know before it can sign in. Public.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Discovery {
    /// Always 1.
    pub version: u32,
    pub issuer: String,
    pub client_id: String,
    pub scopes: Vec<String>,
    pub gateway: GatewayAddress,
    /// Origin of the audit log, as in `gate.example.com/log`.
    pub origin: String,
    /// The log's public key as a C2SP verifier key: `name+hash+base64`.
    pub log_key: String,
}

/// Where PostgreSQL clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct GatewayAddress {
    pub host: String,
    pub port: u16,
    /// PEM of the certificate authority to trust for this address; none: the machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// `GET /v1/targets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Targets {
    pub targets: Vec<TargetSummary>,
}

/// One target that the caller may at least connect to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TargetSummary {
    pub name: String,
    pub environment: String,
    pub database: String,
    /// What may be asked for, lowest first.
    #[cfg_attr(feature = "server", schema(value_type = Vec<String>))]
    pub access: Vec<Access>,
    /// What people must agree to first, lowest first.
    #[serde(default)]
    pub by_approval: Vec<ByApproval>,
}

/// Access that people must agree to, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ByApproval {
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub access: Access,
    pub state: Agreement,
    /// The request that waits, or was approved and is not used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// RFC 3339: until when the request can be decided and used, or the grant lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Whether people have agreed to somebody's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub enum Agreement {
    /// Nobody has been asked.
    NotAsked,
    Pending,
    /// The next grant uses it up.
    Approved,
    /// A grant that came of it lives.
    Granted,
}

/// `GET /v1/whoami`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    pub subject: String,
    pub issuer: String,
    pub kind: String,
    pub groups: Vec<String>,
    /// RFC 3339.
    pub expires_at: String,
}

/// `POST /v1/challenges`: a nonce that the next grant request signs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Challenge {
    pub nonce: String,
}

/// `POST /v1/grants`: asks for a credential.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct GrantRequest {
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub access: Access,
    /// How long, in seconds; the broker may give less.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(value_type = Object))]
    pub declared: Declared,
    /// Proof that the caller holds the key that will sign the transcript; none for native clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<KeyProof>,
}

/// An Ed25519 signature over `dbgate-pop/v1\n<nonce>\n<origin>\n`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct KeyProof {
    /// 32 bytes, hex.
    pub client_key: String,
    pub nonce: String,
    /// 64 bytes, hex.
    pub signature: String,
}

/// The answer to a grant request: what is needed to open the session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct GrantAnswer {
    pub grant_id: String,
    pub principal: Principal,
    /// The recorded session of the first connection.
    pub session_id: String,
    pub target: String,
    pub environment: String,
    pub database: String,
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub access: Access,
    /// RFC 3339.
    pub expires_at: String,
    pub gateway: GatewayAddress,
    /// The `database` to name in the startup message: the target's name, or `target/database`.
    pub wire_database: String,
    pub user: String,
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub password: Secret,
    pub policy: String,
    /// The key of the commitments in this session's record: 32 bytes, hex.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub session_key: Secret,
    /// The log's grant line, exactly as recorded, and its inclusion proof (C2SP tlog-proof text).
    pub grant_line: String,
    pub receipt: String,
    pub masks: Vec<MaskedColumn>,
    /// What exists and can be read: for completion and local checks. Not an authority.
    pub catalog: Vec<CatalogRelation>,
}

/// Whom the grant is for, as the broker verified it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Principal {
    /// `human`, `agent` or `workload`.
    pub kind: String,
    pub subject: String,
    pub issuer: String,
}

/// A column that comes back masked for this grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct MaskedColumn {
    pub schema: String,
    pub relation: String,
    pub column: String,
    pub mask: String,
    /// As PostgreSQL numbers them, to recognise the column in a RowDescription.
    pub table_oid: u32,
    pub attribute: i16,
}

/// A relation the grant may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct CatalogRelation {
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
}

/// `POST /v1/sessions/{id}/transcript`: the client's lines from `from` on, and its signed head.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TranscriptUpload {
    /// Index of the first line in `lines`.
    pub from: u64,
    pub lines: Vec<String>,
    /// The client's head: a C2SP checkpoint as a signed note.
    pub head: String,
    /// The session is over; nothing follows.
    #[serde(default)]
    pub done: bool,
}

/// The gateway's receipt for a transcript.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct TranscriptReceipt {
    /// How many of the client's lines are durably stored.
    pub commit_point: u64,
    /// The client's head with the log's cosignature line added.
    pub head: String,
    /// The whole evidence container, once the session is closed (see `docs/audit-format.md`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// Every refusal and failure of the broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ApiError {
    pub error: ApiErrorBody,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct ApiErrorBody {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub retryable: bool,
}

/// What went wrong, in a form a program can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub enum ErrorCode {
    /// 401: no token, or one that is wrong, expired or for another audience.
    AuthRequired,
    /// 403: policy says no.
    Denied,
    /// 404: no such target.
    UnknownTarget,
    /// 404: no such grant or session, or not the caller's.
    NotFound,
    /// 400: the request itself is wrong.
    BadRequest,
    /// 409: contradicts what is already recorded.
    Conflict,
    /// 502: the target cannot be reached or prepared.
    TargetDown,
    /// 503: the audit log takes no records, so nothing is done.
    Unrecorded,
    /// 429: too many.
    Busy,
    /// 500.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_request_needs_a_target_only_and_refuses_unknown_members() {
        let request: GrantRequest = serde_json::from_str(r#"{"target":"demo"}"#).expect("minimal request");
        assert_eq!(request.access, Access::Read);
        assert!(serde_json::from_str::<GrantRequest>(r#"{"target":"demo","acess":"write"}"#).is_err());
    }
}
