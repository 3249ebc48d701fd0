//! Errors of the client in the user's words: what failed, facts, the command to run next; and
//! the exit code that scripts rely on.

use crate::cli::exit::{Exit, Failure};
use crate::client::broker::BrokerError;
use crate::client::config::ConfigError;
use crate::client::issuer::IssuerError;
use crate::client::login::LoginError;
use crate::core::api::{ApiErrorBody, ErrorCode};
use crate::sys::files::FileError;
use crate::sys::secrets::StoreError;

const SIGN_IN: &str = "Run: dbgate login";

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Unreachable { url, why } => {
                Self::new(Exit::Connection, format!("Cannot reach {} ({why}). No target was contacted.", host(&url)))
                    .hint("Check the network or VPN, and the address in --server, DBGATE_SERVER or config.toml")
            }
            BrokerError::Api(error) => api(error),
            BrokerError::Malformed(why) => {
                Self::new(Exit::Connection, format!("The broker's answer cannot be used: {why}"))
                    .hint("Check the address in --server, DBGATE_SERVER or config.toml")
            }
            BrokerError::NotSignedIn => {
                Self::new(Exit::AuthRequired, "The broker does not accept your sign-in.").hint(SIGN_IN)
            }
        }
    }
}

/// A refusal of the broker. Its own hint wins, for it knows more.
fn api(error: ApiErrorBody) -> Failure {
    let ApiErrorBody { code, message, hint, retryable: _ } = error;
    let (exit, message, usual) = match code {
        ErrorCode::AuthRequired => {
            (Exit::AuthRequired, format!("The broker does not accept your sign-in: {message}"), Some(SIGN_IN))
        }
        ErrorCode::Denied => (Exit::Denied, message, None),
        ErrorCode::UnknownTarget => (Exit::Usage, message, Some("List: dbgate ls")),
        ErrorCode::NotFound | ErrorCode::BadRequest => (Exit::Usage, message, None),
        ErrorCode::Conflict => (Exit::Failed, message, None),
        ErrorCode::TargetDown => (Exit::Connection, message, None),
        ErrorCode::Unrecorded => (Exit::Unrecorded, message, None),
        ErrorCode::Busy => (Exit::Busy, message, Some("Try again in a moment")),
        ErrorCode::Internal => (Exit::Failed, message, None),
    };
    let failure = Failure::new(exit, message);
    match hint.or_else(|| usual.map(str::to_owned)) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::NotSignedIn { .. } | LoginError::Ended { .. } => {
                Self::new(Exit::AuthRequired, error.to_string()).hint(SIGN_IN)
            }
            LoginError::Empty(_) => Self::new(Exit::AuthRequired, error.to_string()),
            LoginError::File(error) => error.into(),
            LoginError::Store(error) => error.into(),
            LoginError::Issuer(error) => error.into(),
        }
    }
}

impl From<IssuerError> for Failure {
    fn from(error: IssuerError) -> Self {
        let exit = match &error {
            IssuerError::Address(_) | IssuerError::Unreachable { .. } | IssuerError::Malformed { .. } => {
                Exit::Connection
            }
            IssuerError::NoDeviceFlow(_) => Exit::Config,
            IssuerError::Declined
            | IssuerError::CodeExpired
            | IssuerError::Refused(_)
            | IssuerError::NotVerified(_) => Exit::AuthRequired,
        };
        let failure = Self::new(exit, sentence(&error.to_string()));
        if exit == Exit::AuthRequired { failure.hint(SIGN_IN) } else { failure }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::NoServer | ConfigError::Address(_) | ConfigError::UnknownContext { .. } => Exit::Usage,
            ConfigError::File(_) | ConfigError::Invalid { .. } | ConfigError::CannotEdit { .. } => Exit::Config,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::File(error) => error.into(),
            other => Self::new(Exit::Config, other.to_string()),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let exit = match &error {
            FileError::TooOpen { .. }
            | FileError::FolderWritable { .. }
            | FileError::FolderReadable { .. }
            | FileError::FolderOfAnother { .. } => Exit::Config,
            FileError::Missing { .. } | FileError::TooLarge { .. } | FileError::Failed { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

/// Host and port of an address, as people say them; the port where none is written, for the reader
/// who must open a firewall.
fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split('/').next().unwrap_or(rest);
    let has_port = host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    match scheme {
        "https" if !has_port => format!("{host}:443"),
        "http" if !has_port => format!("{host}:80"),
        _ => host.to_owned(),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: ErrorCode, hint: Option<&str>) -> Failure {
        let hint = hint.map(str::to_owned);
        BrokerError::Api(ApiErrorBody { code, message: "m".into(), hint, retryable: false }).into()
    }

    #[test]
    fn every_refusal_of_the_broker_has_its_exit_code() {
        for (code, exit) in [
            (ErrorCode::AuthRequired, 4),
            (ErrorCode::Denied, 5),
            (ErrorCode::UnknownTarget, 64),
            (ErrorCode::TargetDown, 2),
            (ErrorCode::Unrecorded, 9),
            (ErrorCode::Busy, 75),
            (ErrorCode::Internal, 1),
        ] {
            assert_eq!(refusal(code, None).exit.code(), exit, "{code:?}");
        }
    }

    #[test]
    fn the_next_command_is_named_and_the_brokers_own_hint_wins() {
        assert_eq!(refusal(ErrorCode::AuthRequired, None).hint.as_deref(), Some("Run: dbgate login"));
        assert_eq!(refusal(ErrorCode::UnknownTarget, Some("h")).hint.as_deref(), Some("h"));
    }

    #[test]
    fn an_unreachable_broker_is_named_with_its_port() {
        let url = "https://gate.example.com".to_owned();
        let failure = Failure::from(BrokerError::Unreachable { url, why: "connection refused".into() });
        assert_eq!(failure.exit, Exit::Connection);
        assert_eq!(failure.message, "Cannot reach gate.example.com:443 (connection refused). No target was contacted.");
    }

    #[test]
    fn not_being_signed_in_says_how_to() {
        let failure = Failure::from(LoginError::NotSignedIn { host: "gate.example.com".into() });
        assert_eq!(failure.to_string(), "You are not signed in to gate.example.com.\nRun: dbgate login");
    }
}
