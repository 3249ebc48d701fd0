//! Step 3, session: the connection through the gateway, as the workstation holds it.
//!
//! What must stay true: a statement is in the client's transcript before it is sent, and every
//! answer is noted in it; the transcript is handed in before the connection says goodbye.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;

use crate::client::broker::{Broker, BrokerError};
use crate::client::credential::Credential;
use crate::client::render::Column;
use crate::client::render::report::Refusal;
use crate::client::transcript::{self, ClientTranscript, Received, TranscriptError};
use crate::core::audit::{Outcome, VerifierKey, verify};
use crate::core::encoding;
use crate::core::grant::{Access, SessionId};
use crate::core::secret::Secret;
use crate::core::transcript::{Leaf, RowsDigest, SessionKey};
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::frame::WireError;
use crate::core::wire::frontend;
use crate::sys::dial::{CancelHandle, Connection, Dial, DialError, Tls};
use crate::sys::files::{self, FileError};
use crate::sys::paths::Paths;
use crate::sys::tls::{self, TlsError};

/// How long the gateway may take to let us in: it makes a role and connects to the target.
const DEADLINE: Duration = Duration::from_secs(30);

/// SQLSTATE of a cancelled statement.
const QUERY_CANCELED: &str = "57014";

/// Why there is no session, or it broke.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the gateway's certificate authority is not usable")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error("the gateway did not name the session's record")]
    NoRecord,
    #[error("{}", .0.message)]
    Ended(Box<ErrorFields>),
}

/// What one statement brings, in order.
pub enum Event<'a> {
    Columns(Vec<Column>),
    Row(&'a [Option<&'a [u8]>]),
    /// The command tag of a part.
    Done(&'a str),
    Empty,
    Notice(&'a ErrorFields),
    Error(&'a ErrorFields),
    /// Data of COPY … TO STDOUT.
    CopyOut(&'a [u8]),
    /// COPY … FROM STDIN wants its data.
    CopyIn,
    /// The rest of the rows was cancelled, because what came was enough.
    Cut,
}

/// What the receiver of events wants next.
pub enum Reply {
    GoOn,
    /// The data of a COPY FROM.
    Data(Vec<u8>),
    /// There is no data for a COPY FROM: it fails, with this reason.
    NoData(&'static str),
    /// Enough rows. What is still to come is cancelled only where nothing can be undone by that;
    /// else it is read and dropped.
    Enough,
}

/// An open session.
pub struct Session {
    connection: Connection,
    transcript: ClientTranscript,
    credential: Credential,
    id: SessionId,
    /// The key by which receipts and evidence are checked.
    log: VerifierKey,
    /// `I`, `T` or `E`, as the server last said.
    status: u8,
    folder: PathBuf,
    is_lost: bool,
}

impl Session {
    /// Opens the session of a credential.
    pub async fn open(credential: Credential, paths: &Paths, application: &str) -> Result<Self, SessionError> {
        Self::open_with(credential, paths, application, "1", &[]).await
    }

    /// The same. `wishes` is said to the gateway; `settings` come in the place of ours.
    pub async fn open_with(
        credential: Credential,
        paths: &Paths,
        application: &str,
        wishes: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self, SessionError> {
        let answer = &credential.answer;
        let signing = credential.signing.clone().ok_or(SessionError::NoRecord)?;
        let log = VerifierKey::parse(&credential.log_key).map_err(TranscriptError::Head)?;
        // Before anything is done with it: the grant must be in the log, under our key.
        transcript::accept_grant(&answer.grant_line, &answer.receipt, &log, &signing)?;
        let config = tls::client(answer.gateway.ca_pem.as_deref())?;
        let mut parameters = vec![
            ("application_name", application),
            ("client_encoding", "UTF8"),
            ("datestyle", "ISO"),
            ("timezone", "UTC"),
            ("intervalstyle", "postgres"),
            ("_pq_.dbgate", wishes),
        ];
        parameters.retain(|(name, _)| !settings.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));
        parameters.extend_from_slice(settings);
        let connection = Connection::open(&Dial {
            host: &answer.gateway.host,
            port: answer.gateway.port,
            database: &answer.wire_database,
            user: &answer.user,
            password: &answer.password,
            tls: Tls::Verified(config),
            parameters: &parameters,
            deadline: DEADLINE,
        })
        .await?;
        let named = |name: &str| connection.parameters().get(name).cloned();
        let id = named("dbgate.session").and_then(|text| SessionId::parse(&text)).ok_or(SessionError::NoRecord)?;
        let leaf = named("dbgate.open").and_then(|text| Leaf::from_hex(&text)).ok_or(SessionError::NoRecord)?;
        let key = encoding::unhex::<32>(answer.session_key.expose()).ok_or(SessionError::NoRecord)?;
        let folder = paths.state().join("sessions");
        let key = SessionKey::from_bytes(key);
        let transcript =
            ClientTranscript::begin(&folder, id.clone(), &credential.origin, signing, key, leaf, application)?;
        Ok(Self { connection, transcript, credential, id, log, status: b'I', folder, is_lost: false })
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// What was granted.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// What the server says of itself.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        self.connection.parameters()
    }

    /// `I` idle, `T` in a transaction, `E` in a failed one.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// Cancels what runs, from another task.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.connection.cancel_handle()
    }

    /// Sends one text by the simple protocol and reports everything that comes back.
    pub async fn run(
        &mut self,
        sql: &str,
        local: &str,
        see: &mut (dyn FnMut(Event<'_>) -> Reply + Send),
    ) -> Result<(), SessionError> {
        let number = self.transcript.statement(sql, local)?;
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out);
        self.connection.send(&out).await.inspect_err(|_| self.is_lost = true)?;
        self.answers(number, see).await.inspect_err(|_| self.is_lost = true)
    }

    /// Sends one statement with bound values (see [`frontend::bound`]) by the extended protocol.
    pub async fn run_bound(
        &mut self,
        sql: &str,
        bound: &[u8],
        local: &str,
        see: &mut (dyn FnMut(Event<'_>) -> Reply + Send),
    ) -> Result<(), SessionError> {
        let (types, parameters) = frontend::unbound(bound)?;
        let number = self.transcript.statement_with(sql, Some(&parameters), local)?;
        let mut out = BytesMut::new();
        frontend::parse_typed("", sql, &types, &mut out);
        frontend::bind_raw("", "", &parameters, &mut out);
        frontend::describe(frontend::Named::Portal, "", &mut out);
        frontend::execute("", 0, &mut out);
        frontend::sync(&mut out);
        self.connection.send(&out).await.inspect_err(|_| self.is_lost = true)?;
        self.answers(number, see).await.inspect_err(|_| self.is_lost = true)
    }

    /// Asks for a verdict without running: the gateway judges a Parse as it judges a statement.
    /// `None` when it may run.
    pub async fn check(&mut self, sql: &str) -> Result<Option<ErrorFields>, SessionError> {
        let mut out = BytesMut::new();
        frontend::parse_statement("", sql, &mut out);
        frontend::sync(&mut out);
        self.connection.send(&out).await?;
        let mut refused = None;
        loop {
            let message = self.connection.receive().await?;
            match message.tag {
                b'E' => {
                    let fields = backend::error_fields(&message.body)?;
                    if Refusal::of(&fields).is_some() {
                        // The gateway counts a refused statement; so does this account.
                        let number = self.transcript.statement(sql, "unknown")?;
                        self.transcript.error(number, &fields.sqlstate)?;
                    }
                    refused = Some(fields);
                }
                b'Z' => return Ok(refused),
                _ => {}
            }
        }
    }

    async fn answers(
        &mut self,
        number: u64,
        see: &mut (dyn FnMut(Event<'_>) -> Reply + Send),
    ) -> Result<(), SessionError> {
        let (mut part, mut names) = (0, Vec::new());
        let mut digest = RowsDigest::new(self.transcript.key());
        // A cancelled statement takes its transaction along, and a write of many rows must not fail
        // because its echo is long: only a read of its own may be cut off.
        let may_cut = self.credential.answer.access == Access::Read && self.status == b'I';
        let mut has_cancelled = false;
        loop {
            let message = self.connection.receive().await?;
            let reply = match message.tag {
                b'T' => {
                    let fields = backend::row_description(&message.body)?;
                    names = fields.iter().map(|field| field.name.clone()).collect();
                    let masks = &self.credential.answer.masks;
                    see(Event::Columns(fields.iter().map(|field| Column::from_field(field, masks)).collect()))
                }
                b'D' => {
                    digest.row(&message.body);
                    see(Event::Row(&backend::data_row(&message.body)?))
                }
                b'd' => {
                    digest.row(&message.body);
                    see(Event::CopyOut(&message.body))
                }
                b'G' => see(Event::CopyIn),
                b'C' => {
                    let tag = backend::command_tag(&message.body)?;
                    let is_copy = tag.starts_with("COPY");
                    let done = std::mem::replace(&mut digest, RowsDigest::new(self.transcript.key()));
                    let (rows, bytes) = (if is_copy { 0 } else { done.rows() }, done.bytes());
                    let received = Received { rows, bytes, rows_digest: &done.finish(), columns: &names };
                    self.transcript.result(number, part, &received)?;
                    (part, names) = (part + 1, Vec::new());
                    see(Event::Done(tag))
                }
                b'I' => {
                    let nothing = encoding::hex(&self.transcript.key().no_rows());
                    let received = Received { rows: 0, bytes: 0, rows_digest: &nothing, columns: &[] };
                    self.transcript.result(number, part, &received)?;
                    part += 1;
                    see(Event::Empty)
                }
                b'E' => {
                    let fields = backend::error_fields(&message.body)?;
                    self.transcript.error(number, &fields.sqlstate)?;
                    let is_our_cancel = has_cancelled && fields.sqlstate == QUERY_CANCELED;
                    let reply = see(if is_our_cancel { Event::Cut } else { Event::Error(&fields) });
                    if fields.severity == "FATAL" {
                        return Err(SessionError::Ended(Box::new(fields)));
                    }
                    reply
                }
                b'N' => see(Event::Notice(&backend::error_fields(&message.body)?)),
                b'Z' => {
                    self.status = message.body.first().copied().unwrap_or(b'I');
                    return Ok(());
                }
                _ => Reply::GoOn,
            };
            match reply {
                Reply::GoOn => {}
                Reply::Data(data) => self.connection.send(&copy_in(&data, &mut digest)).await?,
                Reply::NoData(why) => {
                    let mut out = BytesMut::new();
                    frontend::copy_fail(why, &mut out);
                    self.connection.send(&out).await?;
                }
                Reply::Enough if may_cut && !has_cancelled => {
                    has_cancelled = true;
                    self.connection.cancel_handle().cancel().await?;
                }
                Reply::Enough => {}
            }
        }
    }

    /// Hands the transcript in, says goodbye, and keeps the evidence. The text says what could
    /// not be done; nothing is lost by it, for the spool is tried again.
    pub async fn close(mut self, broker: &Broker, token: &Secret) -> Result<Closed, SessionError> {
        let upload = self.transcript.end()?;
        let spooled = self.transcript.spooled();
        let handed_in = broker.upload(token, self.id.as_str(), &upload).await;
        if !self.is_lost {
            let mut out = BytesMut::new();
            frontend::terminate(&mut out);
            // The gateway may be gone; the transcript is safe in any case.
            let _ = self.connection.send(&out).await;
        }
        let problem = |error: &dyn std::error::Error| {
            Ok(Closed { evidence: None, problem: Some(error.to_string()), is_doubted: false })
        };
        let receipt = match handed_in {
            Ok(receipt) => receipt,
            Err(error) => return problem(&error),
        };
        if let Err(error) = self.transcript.mark_uploaded(&receipt, &self.log) {
            return problem(&error);
        }
        let (path, evidence) = match keep(broker, token, &self.id, &self.folder).await {
            Ok(kept) => kept,
            Err(error) => return problem(&error),
        };
        match self.transcript.check_evidence(&evidence, &self.log) {
            Ok(report) if report.outcome() == Outcome::Good => {
                files::remove(&spooled).map_err(TranscriptError::File)?;
                Ok(Closed { evidence: Some(path), problem: None, is_doubted: false })
            }
            // The account stays on the spool: it is what proves the difference.
            Ok(report) if report.outcome() == Outcome::Incomplete => {
                let why = format!("the evidence is not complete; run: dbgate audit verify {}", path.display());
                Ok(Closed { evidence: Some(path), problem: Some(why), is_doubted: false })
            }
            Ok(_) | Err(TranscriptError::OtherAccount) => {
                Ok(Closed { evidence: Some(path), problem: None, is_doubted: true })
            }
            Err(error) => problem(&error),
        }
    }
}

/// The data of a COPY FROM as messages, noted in the digest as it travels.
fn copy_in(data: &[u8], digest: &mut RowsDigest) -> BytesMut {
    let mut out = BytesMut::new();
    for block in data.chunks(64 * 1024) {
        digest.row(block);
        frontend::copy_data(block, &mut out);
    }
    frontend::copy_done(&mut out);
    out
}

/// What is left of a session.
pub struct Closed {
    /// The evidence file.
    pub evidence: Option<PathBuf>,
    /// What could not be handed in yet.
    pub problem: Option<String>,
    /// The evidence does not say what happened here.
    pub is_doubted: bool,
}

/// Why evidence could not be kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Fetches the evidence and keeps it, whatever it says: it is evidence either way.
async fn keep(
    broker: &Broker,
    token: &Secret,
    id: &SessionId,
    folder: &std::path::Path,
) -> Result<(PathBuf, String), KeepError> {
    let evidence = broker.evidence(token, id.as_str()).await?;
    let path = folder.join(format!("{}.dbgt", id.as_str()));
    files::write_private(&path, evidence.as_bytes())?;
    Ok((path, evidence))
}

/// Hands in what earlier sessions could not; quiet, and tried again next time. An account that the evidence
/// does not hold to the byte, or that contradicts it, stays: it is what proves the difference. Answers where that evidence is.
pub async fn flush_spool(broker: &Broker, token: &Secret, paths: &Paths, log_key: &str) -> Vec<PathBuf> {
    let folder = paths.state().join("sessions");
    let Ok(log) = VerifierKey::parse(log_key) else { return Vec::new() };
    let mut doubted = Vec::new();
    for (session, upload, path) in transcript::spool(&folder) {
        if broker.upload(token, session.as_str(), &upload).await.is_err() {
            continue;
        }
        let Ok((kept, evidence)) = keep(broker, token, &session, &folder).await else { continue };
        let held = evidence.lines().filter_map(|line| line.strip_prefix("c "));
        let from = usize::try_from(upload.from).unwrap_or(usize::MAX);
        let is_whole = held.skip(from).eq(upload.lines.iter().map(String::as_str));
        match is_whole && verify(&evidence, std::slice::from_ref(&log)).outcome() != Outcome::Tampered {
            // Left behind, it would only be handed in once more.
            true => drop(files::remove(&path)),
            false => doubted.push(kept),
        }
    }
    doubted
}
