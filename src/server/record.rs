//! Step 7, audit, as the broker needs it: what it writes into the log.

use crate::core::api::KeyProof;
use crate::core::grant::Grant;
use crate::server::audit::{GrantRecorded, LogError};
use crate::server::sessions::EndReason;
use crate::server::state::State;

/// Writes the grant's record durably. Nothing is handed out before this has succeeded.
pub async fn grant(state: &State, grant: &Grant, proof: Option<&KeyProof>) -> Result<GrantRecorded, LogError> {
    state.log.grant(grant, proof).await
}

/// Records the end of a grant.
pub async fn end(state: &State, grant: &Grant, reason: EndReason) -> Result<(), LogError> {
    state.log.grant_end(grant, reason.word()).await
}

/// Writes the log's last record.
pub async fn close(state: &State) {
    state.log.stop().await;
}
