//! Step 3, session: one PostgreSQL connection through the gateway, with its own record.
//!
//! What must stay true: every statement is in the client's record before its first byte is sent,
//! and every row that arrives is in the record's digest before anyone sees it. A statement that
//! cannot be recorded is not sent. [`run`] carries one statement out, [`stop`] is what can cut it
//! short: Ctrl-C, a signal, a time limit.

pub mod run;
pub mod stop;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;

use crate::client::credential::Credential;
use crate::core::api::{GrantAnswer, TranscriptUpload};
use crate::core::grant::Access;
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frontend;
use crate::sys::dial::{Connection, Dial, DialError, Tls};
use crate::sys::tls::{self, TlsError};

/// From name lookup to ReadyForQuery, the target's login role included.
const DEADLINE: Duration = Duration::from_secs(30);
/// Asks the gateway to name the session and its first record line.
const EXTENSION: (&str, &str) = ("_pq_.dbgate", "1");

/// The client's own account of the session. Its lines are written before what they tell of happens.
pub trait Recorder: Send {
    /// A statement is about to be sent; `advice` is what the local check said. Answers its number.
    fn statement(&mut self, text: &str, advice: Advice) -> io::Result<u64>;
    /// A result begins: the names of its columns.
    fn columns(&mut self, names: &[String]);
    /// A row of it, as the body of its DataRow message.
    fn row(&mut self, body: &[u8]);
    /// A piece of COPY data, in either direction.
    fn copy(&mut self, bytes: &[u8]);
    /// A part of the statement is done, with its command tag.
    fn result(&mut self, tag: &str) -> io::Result<()>;
    /// The statement failed.
    fn error(&mut self, sqlstate: &str) -> io::Result<()>;
    /// A cancel request is about to be sent.
    fn cancel(&mut self) -> io::Result<()>;
    /// The session is over: the last line, and what is to be handed in.
    fn end(&mut self) -> io::Result<TranscriptUpload>;
}

/// What the local check said of a statement that was sent all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Allow,
    Warn,
    /// Not understood here.
    Unknown,
}

impl Advice {
    /// The word in the record.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Unknown => "unknown",
        }
    }
}

/// Makes the recorder, once the gateway has said which line its own record begins with.
pub type Recording<'a> = dyn FnOnce(&Opened<'_>) -> io::Result<Box<dyn Recorder>> + Send + 'a;

/// What the gateway says of a session that it has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub session: &'a str,
    /// Leaf hash of the gateway's `session.open` line, hex.
    pub open_leaf: &'a str,
}

/// Whether a transaction is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    Idle,
    Open,
    Failed,
    /// The connection is gone.
    Lost,
}

impl Transaction {
    /// The prompt's mark, as psql's `%x`.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Idle => "",
            Self::Open => "*",
            Self::Failed => "!",
            Self::Lost => "?",
        }
    }
}

/// Why there is no session, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the gateway's certificate authority cannot be used: {0}")]
    Authority(#[from] TlsError),
    #[error(transparent)]
    Dial(DialError),
    #[error("{}", .0.message)]
    Refused(Box<ErrorFields>),
    /// The gateway or the target ended the session and said why.
    #[error("{}", .0.message)]
    Ended(Box<ErrorFields>),
    #[error("the connection to the gateway was lost: {0}")]
    Lost(DialError),
    #[error("the statement could not be recorded here, so it was not sent: {0}")]
    Unrecorded(io::Error),
    #[error("the gateway did not say which line its record of this session begins with")]
    NoOpening,
    /// What takes the rows failed: a full disk, a closed pipe.
    #[error(transparent)]
    Output(io::Error),
    #[error("stopped while the statement was running")]
    Abandoned,
}

impl From<DialError> for SessionError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(fields) => Self::Refused(fields),
            other => Self::Dial(other),
        }
    }
}

/// An open session.
pub struct Session {
    connection: Connection,
    parameters: BTreeMap<String, String>,
    grant: GrantAnswer,
    recorder: Option<Box<dyn Recorder>>,
    transaction: Transaction,
    statements: u64,
}

impl Session {
    /// Connects with a credential. `settings` are startup parameters, such as `TimeZone`.
    pub async fn open(
        credential: &Credential,
        settings: &[(&str, &str)],
        recording: Option<Box<Recording<'_>>>,
    ) -> Result<Self, SessionError> {
        let grant = credential.answer.clone();
        let config = tls::client(grant.gateway.ca_pem.as_deref())?;
        let mut parameters = settings.to_vec();
        if recording.is_some() {
            parameters.push(EXTENSION);
        }
        let connection = Connection::open(&Dial {
            host: &grant.gateway.host,
            port: grant.gateway.port,
            database: &grant.wire_database,
            user: &grant.user,
            password: &grant.password,
            tls: Tls::Verified(config),
            parameters: &parameters,
            deadline: DEADLINE,
        })
        .await?;
        let parameters = connection.parameters().clone();
        let recorder = match recording {
            Some(make) => {
                let open_leaf = parameters.get("dbgate.open").ok_or(SessionError::NoOpening)?;
                let session = parameters.get("dbgate.session").map_or(grant.session_id.as_str(), String::as_str);
                Some(make(&Opened { session, open_leaf }).map_err(SessionError::Unrecorded)?)
            }
            None => None,
        };
        Ok(Self { connection, parameters, grant, recorder, transaction: Transaction::Idle, statements: 0 })
    }

    /// The grant this session lives on.
    pub fn grant(&self) -> &GrantAnswer {
        &self.grant
    }

    /// The recorded session's id.
    pub fn id(&self) -> &str {
        self.parameters.get("dbgate.session").map_or(self.grant.session_id.as_str(), String::as_str)
    }

    /// A ParameterStatus of the server, such as `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    pub fn transaction(&self) -> Transaction {
        self.transaction
    }

    /// How many statements were sent.
    pub fn statements(&self) -> u64 {
        self.statements
    }

    /// Whether rows that are not wanted any more may be cancelled: nothing can be lost by it.
    pub fn may_cancel_reads(&self) -> bool {
        self.grant.access == Access::Read && self.transaction == Transaction::Idle
    }

    /// Writes the record's last line; what it answers is to be uploaded before [`Session::terminate`],
    /// so that the gateway closes its own record knowing the client's.
    pub fn end_record(&mut self) -> io::Result<Option<TranscriptUpload>> {
        self.recorder.take().map(|mut recorder| recorder.end()).transpose()
    }

    /// Says goodbye. A gateway that is gone already does not mind.
    pub async fn terminate(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        let _ = self.connection.send(&out).await;
    }
}
