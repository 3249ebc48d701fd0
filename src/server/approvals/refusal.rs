//! What a client of the broker is answered where a step was not taken.

use super::ApprovalError;
use crate::core::api::ErrorCode;
use crate::core::approval::Refused;
use crate::server::http::refusal::{Refusal, chain};

impl From<ApprovalError> for Refusal {
    fn from(error: ApprovalError) -> Self {
        match error {
            ApprovalError::Missing => Self::not_found("request"),
            ApprovalError::TooMany => Self::new(ErrorCode::Conflict, error.to_string()),
            ApprovalError::Raced => Self::new(ErrorCode::Conflict, error.to_string()).hint("Look at it again."),
            ApprovalError::Refused(refused) => refused.into(),
            ApprovalError::Log(error) => {
                tracing::error!(error = %chain(&error), "a step of a request could not be recorded");
                Self::unrecorded()
            }
            ApprovalError::Store(error) => error.into(),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Stale => Self::sign_in(message).hint("Run: dbgate login"),
            Refused::SelfApproval
            | Refused::NotAPerson
            | Refused::NotAReviewer(_)
            | Refused::NotPermitted
            | Refused::NoGlass
            | Refused::NotOnCall(_)
            | Refused::NoReason
            | Refused::NotYours => Self::new(ErrorCode::Denied, message),
            Refused::Twice
            | Refused::Closed(_)
            | Refused::TooLate
            | Refused::NotApproved
            | Refused::Moved
            | Refused::Changed(_) => Self::new(ErrorCode::Conflict, message),
            Refused::NoComment | Refused::Comment | Refused::Cap => Self::bad_request(message),
        }
    }
}
