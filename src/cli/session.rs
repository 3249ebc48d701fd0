//! What `connect`, `exec` and `check` share: from flags to an open session, and back.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use crate::cli::args::Asking;
use crate::cli::exit::{Exit, Failure};
use crate::cli::workstation::Workstation;
use crate::client::connect::{self, Session, SessionError};
use crate::client::credential::{self, Ask, Credential};
use crate::client::transcript::pins;
use crate::core::audit::VerifierKey;
use crate::core::grant::SessionId;
use crate::core::identity::Declared;
use crate::core::secret::Secret;
use crate::core::time::Moment;
use crate::sys::dial::DialError;
use crate::sys::{clock, tls};

/// A workstation that is signed in and holds a grant.
pub struct Granted {
    pub desk: Workstation,
    pub token: Secret,
    pub credential: Credential,
}

/// Asks the broker for a grant; `sign` says whether this program keeps a transcript of it.
pub async fn grant(server: Option<&str>, target: &str, asking: &Asking, sign: bool) -> Result<Granted, Failure> {
    let desk = Workstation::open(server, None)?;
    let token = desk.token().await?;
    let declared = Declared { agent: asking.agent.clone(), model: asking.model.clone(), task: asking.task.clone() };
    let ask = Ask {
        target: target.to_owned(),
        database: asking.database.clone(),
        access: asking.access,
        seconds: asking.seconds,
        reason: asking.reason.clone(),
        ticket: asking.ticket.clone(),
        declared,
        sign,
    };
    let mut credential = credential::obtain(&desk.broker, &token, ask).await?;
    pin(&desk, &credential)?;
    tell_if_short(asking.seconds, &credential.answer.expires_at);
    // Whom the person trusts for the broker is trusted for its gateway, which shows the same certificate.
    if let (None, Some(path)) = (&credential.answer.gateway.ca_pem, &desk.server.ca_file) {
        let read = std::fs::read_to_string(path);
        let pem = read.map_err(|error| Failure::new(Exit::Config, format!("{}: {error}", path.display())))?;
        credential.answer.gateway.ca_pem = Some(pem);
    }
    Ok(Granted { desk, token, credential })
}

/// A grant may end sooner than was asked for, by policy or because no grant lasts longer.
fn tell_if_short(asked: Option<u64>, expires_at: &str) {
    // What the way there takes is no shortening, and neither is a clock that differs.
    const WAY: Duration = Duration::from_secs(300);
    let (Some(asked), Some(expires)) = (asked.map(Duration::from_secs), Moment::parse(expires_at)) else { return };
    let lasts = expires.since(clock::now());
    if lasts + WAY < asked {
        eprintln!(
            "The grant lasts for {} minutes, until {expires_at}; more was asked for.",
            lasts.as_secs().div_ceil(60)
        );
    }
}

/// Keeps the log's public key, so that evidence can be verified offline later. A key that is not
/// the one kept is refused: whoever took the broker over could announce a log of their own.
fn pin(desk: &Workstation, credential: &Credential) -> Result<(), Failure> {
    let key = VerifierKey::parse(&credential.log_key)
        .map_err(|_| Failure::new(Exit::Connection, "The broker's answer cannot be used: its log key is not one"))?;
    pins::pin(&desk.paths.state().join("pins"), &key).map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Opens the session of a grant.
pub async fn open(granted: Granted, application: &str) -> Result<(Session, Workstation, Secret), Failure> {
    open_with(granted, application, "1", &[]).await
}

/// The same, with what the gateway is to know and the settings of the session.
pub async fn open_with(
    granted: Granted,
    application: &str,
    wishes: &str,
    settings: &[(&str, &str)],
) -> Result<(Session, Workstation, Secret), Failure> {
    let Granted { desk, token, credential } = granted;
    let doubted = connect::flush_spool(&desk.broker, &token, &desk.paths, &credential.log_key).await;
    doubted.iter().for_each(|evidence| warn_of_doubt(evidence));
    let session = Session::open_with(credential, &desk.paths, application, wishes, settings).await?;
    Ok((session, desk, token))
}

/// Ends a session: transcript in, evidence kept. Gives the grant back as well: nobody needs it now.
pub async fn close(session: Session, desk: &Workstation, token: &Secret) -> Result<Option<String>, Failure> {
    let grant = session.credential().answer.grant_id.clone();
    let closed = session.close(&desk.broker, token).await?;
    if let Some(evidence) = closed.evidence.as_ref().filter(|_| closed.is_doubted) {
        warn_of_doubt(evidence);
    }
    if let Some(problem) = closed.problem {
        eprintln!("The transcript could not be handed in yet ({problem}); it is kept and tried again next time.");
    }
    // It expires by itself if this fails.
    let _ = desk.broker.revoke(token, &grant).await;
    Ok(closed.evidence.map(|path| path.display().to_string()))
}

/// The evidence of a session is not the account that was written here.
fn warn_of_doubt(evidence: &Path) {
    let session = evidence.file_stem().unwrap_or_default().display();
    eprintln!("The evidence of session {session} does not verify. The account that was written here is kept.");
    eprintln!("Next: dbgate audit verify {}", evidence.display());
}

/// `dbgate revoke`.
pub async fn revoke(server: Option<&str>, grant: &str) -> Result<Exit, Failure> {
    let desk = Workstation::open(server, None)?;
    desk.broker.revoke(&desk.token().await?, grant).await?;
    eprintln!("Grant {grant} has ended; its role is gone.");
    Ok(Exit::Ok)
}

/// Variables by which agents and pipelines make themselves known. They switch prompts off and
/// grant nothing: an agent's terminal is a terminal, but nobody reads its prompt.
const NOBODY: [&str; 8] =
    ["CI", "AGENT", "AI_AGENT", "CLAUDECODE", "CURSOR_AGENT", "GEMINI_CLI", "CODEX_SANDBOX", "CLINE_ACTIVE"];

/// Whether a person sits at both ends.
pub fn is_interactive(no_input: bool) -> bool {
    let is_marked = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false");
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    has_terminal && !no_input && !NOBODY.iter().any(is_marked)
}

/// The first letters of a session's id, for banners.
pub fn short(id: &SessionId) -> String {
    id.as_str().chars().take(10).collect()
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Dial(DialError::Refused(fields)) => {
                let exit = match fields.sqlstate.as_str() {
                    // At the door: the grant has ended already.
                    "42501" | "57P01" => Exit::Denied,
                    "ZG005" => Exit::Unrecorded,
                    "28P01" | "28000" => Exit::AuthRequired,
                    _ => Exit::Connection,
                };
                let usual = match exit {
                    Exit::Denied => {
                        Some("What was not committed is rolled back. A new grant is asked for by running it again")
                    }
                    Exit::Unrecorded => Some("Tell the operators of the gateway; nothing runs unrecorded"),
                    _ => None,
                };
                let failure = Self::new(exit, fields.message);
                match fields.hint.as_deref().or(usual) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            SessionError::Ended(fields) => {
                let exit = if fields.sqlstate == "ZG005" { Exit::Unrecorded } else { Exit::Connection };
                Self::new(exit, format!("{}: {}", fields.sqlstate, fields.message))
                    .hint("What was not committed is rolled back. A new grant is asked for by running it again")
            }
            SessionError::Dial(DialError::Tls(error)) => {
                let hint = tls::advice(&error).unwrap_or("Try again; if it stays, tell the operators of the gateway");
                Self::new(Exit::Connection, format!("No session: TLS with the gateway failed: {error}")).hint(hint)
            }
            SessionError::Transcript(error) => Self::new(Exit::Unrecorded, format!("{error}, so nothing was run"))
                .hint("Check the disk and the folder's permissions, then run it again"),
            other => Self::new(Exit::Connection, format!("The session broke: {other}"))
                .hint("Run it again; what was not committed is rolled back"),
        }
    }
}
