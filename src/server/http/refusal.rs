//! Every refusal and failure as the caller sees it: a status, a code, one sentence, what to do.
//!
//! What went wrong inside goes to the program's own log, never into an answer.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::core::api::{ApiError, ApiErrorBody, ErrorCode};
use crate::core::claims::ClaimsError;
use crate::core::identity::Kind;
use crate::core::policy::Denial;
use crate::server::identity::{Accepted, IdentityError};
use crate::server::store::StoreError;
use crate::server::transcript::TranscriptError;

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub struct Refusal {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    status: Option<StatusCode>,
    is_lasting: bool,
}

impl Refusal {
    /// With the usual status of the code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, status: None, is_lasting: false }
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With another status than the code's own.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Trying again will not help, although it would with other refusals of this code.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    /// 401: sign in.
    pub fn sign_in(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::AuthRequired, message).hint("Run: dbgate login")
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// 404, the same whether it does not exist or belongs to somebody else.
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no such {what}, or it is not yours"))
    }

    /// 503: the log takes no records, so nothing was done.
    pub fn unrecorded() -> Self {
        Self::new(ErrorCode::Unrecorded, "the audit log is not accepting records, so nothing was done")
            .hint("Tell the operators of the gateway; nothing runs unrecorded.")
    }

    /// 500; the cause goes to the program's log only.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(cause), "a request failed");
        Self::new(ErrorCode::Internal, "the broker failed; its log says why").hint("Try again, or tell its operators.")
    }

    /// What a program can branch on.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    fn usual_status(&self) -> StatusCode {
        match self.code {
            ErrorCode::AuthRequired => StatusCode::UNAUTHORIZED,
            ErrorCode::Denied => StatusCode::FORBIDDEN,
            ErrorCode::UnknownTarget | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
            ErrorCode::Conflict => StatusCode::CONFLICT,
            ErrorCode::TargetDown => StatusCode::BAD_GATEWAY,
            ErrorCode::Unrecorded => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether the same request may succeed later.
    fn is_retryable(&self) -> bool {
        match self.code {
            _ if self.is_lasting => false,
            ErrorCode::TargetDown | ErrorCode::Unrecorded | ErrorCode::Busy | ErrorCode::Internal => true,
            ErrorCode::AuthRequired
            | ErrorCode::Denied
            | ErrorCode::UnknownTarget
            | ErrorCode::NotFound
            | ErrorCode::BadRequest
            | ErrorCode::Conflict => false,
        }
    }
}

/// The sentence alone, for those who speak another protocol.
impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

/// An error with its causes, for the log.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        // Some errors end with the words of their cause.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

/// Policy says no: its own words, which are meant for the person.
impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        let refusal = Self::new(ErrorCode::Denied, format!("{} (rule {})", denial.message, denial.rule));
        match denial.hint {
            Some(hint) => refusal.hint(hint),
            None => refusal,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        if error.is_disk() {
            tracing::error!(error = %chain(&error), "the store cannot be written; nothing is granted");
            return Self::unrecorded();
        }
        Self::internal(&error)
    }
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        match &error {
            // Our side's trouble, not the caller's: signing in again would not help.
            IdentityError::IssuerDown { .. } => {
                tracing::warn!(%error, "a token could not be checked");
                Self::new(ErrorCode::Internal, "the sign-in service cannot be asked whether the token is good")
                    .status(StatusCode::SERVICE_UNAVAILABLE)
                    .hint("Try again in a minute.")
            }
            IdentityError::Audience { accepted } => match asked_elsewhere(accepted) {
                Some(hint) => Self::sign_in(error.to_string()).hint(hint),
                None => Self::sign_in(error.to_string()),
            },
            IdentityError::Claims(ClaimsError::ActedFor) => Self::sign_in(error.to_string()).hint(
                "Sign in as yourself: dbgate login. A program that acts for people needs a rule of its own at the \
                 broker, with kind = \"agent\".",
            ),
            IdentityError::NotAToken
            | IdentityError::UnknownIssuer
            | IdentityError::Signature
            | IdentityError::UnknownKey
            | IdentityError::Expired
            | IdentityError::NotYet
            | IdentityError::Refused(_)
            | IdentityError::Claims(_) => Self::sign_in(error.to_string()),
        }
    }
}

/// What programs do for a token of the right audience; people sign in, which is asked for by itself.
fn asked_elsewhere(accepted: &[Accepted]) -> Option<String> {
    let programs = accepted.iter().filter(|one| one.kind != Kind::Human);
    let audiences: Vec<_> = programs.map(|one| format!("`{}`", one.audience)).collect();
    if audiences.is_empty() {
        return None;
    }
    let ask = format!("sk the issuer for a token whose audience is {}", audiences.join(" or "));
    Some(match accepted.iter().any(|one| one.kind == Kind::Human) {
        true => format!("Run: dbgate login. Programs a{ask}"),
        false => format!("A{ask}"),
    })
}

impl From<TranscriptError> for Refusal {
    fn from(error: TranscriptError) -> Self {
        match error {
            TranscriptError::Refused(_) => Self::bad_request(error.to_string()),
            TranscriptError::Conflict => Self::new(ErrorCode::Conflict, error.to_string()),
            TranscriptError::NoSession => Self::not_found("session"),
            TranscriptError::Log(error) => {
                tracing::error!(error = %chain(&error), "a transcript could not be recorded");
                Self::unrecorded()
            }
            TranscriptError::File(error) => Self::internal(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status.unwrap_or_else(|| self.usual_status());
        let retryable = self.is_retryable();
        let body =
            ApiError { error: ApiErrorBody { code: self.code, message: self.message, hint: self.hint, retryable } };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_status() {
        for (code, status, is_retryable) in [
            (ErrorCode::AuthRequired, 401, false),
            (ErrorCode::Denied, 403, false),
            (ErrorCode::UnknownTarget, 404, false),
            (ErrorCode::NotFound, 404, false),
            (ErrorCode::BadRequest, 400, false),
            (ErrorCode::Conflict, 409, false),
            (ErrorCode::TargetDown, 502, true),
            (ErrorCode::Unrecorded, 503, true),
            (ErrorCode::Busy, 429, true),
            (ErrorCode::Internal, 500, true),
        ] {
            let refusal = Refusal::new(code, "no");
            assert_eq!(refusal.is_retryable(), is_retryable, "{code:?}");
            assert_eq!(refusal.into_response().status().as_u16(), status, "{code:?}");
        }
    }

    #[test]
    fn a_token_for_others_is_answered_with_who_should_have_it() {
        let accepted = |kind| Accepted { kind, audience: "https://gate.example.com".into() };
        let hint = |accepted| Refusal::from(IdentityError::Audience { accepted }).hint.expect("a hint");
        assert_eq!(hint(vec![accepted(Kind::Human)]), "Run: dbgate login");
        for kind in [Kind::Agent, Kind::Workload] {
            let ask = "sk the issuer for a token whose audience is `https://gate.example.com`";
            assert_eq!(hint(vec![accepted(kind)]), format!("A{ask}"));
            let both = vec![accepted(Kind::Human), accepted(kind)];
            assert_eq!(hint(both), format!("Run: dbgate login. Programs a{ask}"));
        }
    }

    #[test]
    fn an_inner_failure_does_not_leave_the_program() {
        let refusal = Refusal::internal(&std::io::Error::other("password of the target is hunter2"));
        assert!(!format!("{refusal:?}").contains("hunter2"));
    }
}
