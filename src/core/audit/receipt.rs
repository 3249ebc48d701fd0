//! Checks one line against its receipt: for the client that is handed a grant.

use crate::core::audit::checkpoint::{Checkpoint, CheckpointError};
use crate::core::audit::merkle;
use crate::core::audit::note::VerifierKey;
use crate::core::audit::proof::Proof;
use crate::core::transcript::{Event, LineError};

/// Why a line is not proven to be in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("the line is not a line: {0}")]
    Line(#[from] LineError),
    #[error("the receipt is not a tlog-proof")]
    Form,
    #[error("the receipt's checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("the receipt's checkpoint is of another log")]
    Origin,
    #[error("the line is not in the log where the receipt says")]
    Inclusion,
}

/// The line's event and the signed head it stands under.
pub fn open(line: &str, receipt: &str, log: &VerifierKey) -> Result<(Event, Checkpoint), ReceiptError> {
    let event = Event::parse(line)?;
    let proof = Proof::parse(receipt).ok_or(ReceiptError::Form)?;
    let (checkpoint, _) = Checkpoint::open(&proof.checkpoint, std::slice::from_ref(log))?;
    if checkpoint.origin != log.name() {
        return Err(ReceiptError::Origin);
    }
    let leaf = event.line.leaf();
    if !merkle::verify_inclusion(proof.index, checkpoint.size, leaf, &proof.path, &checkpoint.root) {
        return Err(ReceiptError::Inclusion);
    }
    Ok((event, checkpoint))
}
