//! One session: waits for the client or the target, runs what the client asks, and cleans up.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, watch};

use super::client::Client;
use super::held::Held;
use super::relay::{Execution, Mode};
use crate::core::policy::{Denial, Policy, Subject};
use crate::core::scope::Scope;
use crate::core::scope::catalog::Catalog;
use crate::core::session::{OutOfTurn, Pipeline};
use crate::core::statement::facts::TransactionVerb;
use crate::core::transcript::SessionKey;
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frame::{Message, WireError};
use crate::core::wire::frontend::{self, Frontend};
use crate::server::audit::{LogError, SessionRecord};
use crate::server::check::{Check, Planned};
use crate::server::grants::LiveGrant;
use crate::server::sessions::{EndReason, Registered};
use crate::sys::clock;
use crate::sys::dial::Reading;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client has gone")]
    ClientGone,
    #[error("the client said goodbye")]
    Goodbye,
    #[error("connection to the target was lost")]
    TargetLost,
    #[error("the session was ended: {}", .0.word())]
    Killed(EndReason),
    #[error("the grant has expired")]
    Expired,
    #[error("the transaction was left open for longer than policy allows, so it is rolled back")]
    Idle,
    #[error("a statement could not be recorded, so it was not run: {0}")]
    Unrecorded(#[from] LogError),
    #[error("protocol violation")]
    Protocol,
    #[error("protocol violation: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    OutOfTurn(#[from] OutOfTurn),
    #[error("setting `{0}` must keep its value in this session")]
    Pinned(String),
    #[error("the held result exceeds what the gateway keeps; narrow RETURNING")]
    TooMuchHeld,
    #[error("the target did something else than what was judged")]
    WrongTag,
}

impl End {
    /// What the client is told, if there is a client to tell.
    pub fn farewell(&self) -> Option<ErrorFields> {
        let state = match self {
            Self::ClientGone | Self::Goodbye => return None,
            Self::TargetLost => "08006",
            Self::Killed(_) | Self::Expired => "57P01",
            Self::Idle => "25P03",
            Self::Unrecorded(_) => "ZG005",
            Self::Protocol | Self::Wire(_) | Self::OutOfTurn(_) => "08P01",
            Self::Pinned(_) | Self::WrongTag => "42501",
            Self::TooMuchHeld => "54000",
        };
        Some(ErrorFields::fatal(state, self.to_string()))
    }

    /// The word in the record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ClientGone | Self::Goodbye => "client",
            Self::TargetLost => "target",
            Self::Killed(reason) => reason.word(),
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::Unrecorded(_) => "unrecorded",
            Self::Protocol | Self::Wire(_) | Self::OutOfTurn(_) | Self::TooMuchHeld => "protocol",
            Self::Pinned(_) | Self::WrongTag => "policy",
        }
    }
}

/// A portal of the extended protocol.
#[derive(Clone)]
pub struct Bound {
    pub planned: Arc<Planned>,
    /// Formats, values and result formats as the client sent them.
    pub parameters: Bytes,
    pub text: Arc<str>,
}

/// What a Parse left behind.
#[derive(Clone)]
pub struct Parsed {
    pub planned: Arc<Planned>,
    pub text: Arc<str>,
}

/// Everything of one session.
pub struct Session {
    pub(super) client: Client,
    pub(super) people: super::people::People,
    pub(super) reader: Reading,
    pub(super) writer: mpsc::Sender<Bytes>,
    /// Requests gathered for the target.
    pub(super) up: BytesMut,
    pub(super) pipeline: Pipeline,
    /// Answers the client may not see before the verdict.
    pub(super) held_out: BytesMut,
    pub(super) executions: std::collections::VecDeque<Execution>,
    pub(super) held: Held,
    pub(super) baseline_asked: bool,
    pub(super) is_vetoing: bool,
    pub(super) has_own: bool,
    /// `I`, `T` or `E` as the target last said.
    pub(super) status: u8,
    /// A block was opened in requests that no Sync has closed yet.
    pub(super) is_block: bool,
    /// Something ran since the last Sync.
    pub(super) is_dirty: bool,
    /// After an error in the extended protocol: everything up to Sync is skipped.
    pub(super) is_skipping: bool,
    pub(super) grant: Arc<LiveGrant>,
    pub(super) policy: Arc<Policy>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) key: SessionKey,
    pub(super) record: SessionRecord,
    /// Keeps the session in the registry for as long as it lives.
    pub(super) registered: Registered,
    pub(super) ended: watch::Receiver<Option<EndReason>>,
    pub(super) search_path: Vec<String>,
    pub(super) temporary: Vec<String>,
    pub(super) facts_stale: bool,
    pub(super) counts_rows: bool,
    pub(super) stop: super::stop::Stop,
    /// How long an open transaction may wait for its next statement.
    pub(super) idle: Option<std::time::Duration>,
    pub(super) has_masks: bool,
    pub(super) prepared: BTreeMap<String, Parsed>,
    pub(super) portals: BTreeMap<String, Bound>,
    pub(super) columns: Vec<String>,
    pub(super) masked_columns: Vec<usize>,
}

impl Session {
    pub(super) fn scope(&self) -> &Scope {
        &self.grant.scope
    }

    /// Who is judged.
    pub(super) fn subject(&self) -> Subject<'_> {
        let grant = &self.grant.grant;
        Subject {
            identity: &grant.identity,
            target: &grant.target,
            environment: &grant.environment,
            database: &grant.database,
            access: grant.access,
            reason: grant.reason.as_deref(),
            ticket: grant.ticket.as_deref(),
        }
    }

    /// Judges and plans one statement.
    pub(super) fn plan(
        &self,
        statement: &crate::core::statement::grammar::Statement,
        prepared: &BTreeMap<String, Arc<Planned>>,
    ) -> Result<Planned, Box<Denial>> {
        let check = Check {
            policy: &self.policy,
            subject: self.subject(),
            scope: self.scope(),
            catalog: &self.catalog,
            search_path: &self.search_path,
            temporary: &self.temporary,
            prepared,
            lift: self.people.lift.as_ref(),
        };
        check.plan(statement)
    }

    /// Serves the client until something ends the session.
    pub async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                return end;
            }
        }
    }

    /// Waits for one message and acts on it.
    async fn turn(&mut self) -> Result<(), End> {
        self.client.flush().await?;
        let left = self.grant.grant.expires.since(clock::now());
        let idle = self.idle.filter(|_| self.status != b'I');
        let idle = idle.and_then(|idle| tokio::time::Instant::now().checked_add(idle));
        tokio::select! {
            biased;
            reason = ended(&mut self.ended) => Err(End::Killed(reason)),
            () = tokio::time::sleep(left) => Err(End::Expired),
            () = super::stop::until(idle) => Err(End::Idle),
            message = self.client.receive() => self.act(message?).await,
            message = self.reader.receive() => self.unasked(&message.map_err(|_| End::TargetLost)?),
        }
    }

    async fn act(&mut self, message: Message) -> Result<(), End> {
        match frontend::parse(&message)? {
            Frontend::Query(sql) => {
                self.is_skipping = false;
                self.simple(sql).await
            }
            Frontend::Terminate => Err(End::Goodbye),
            // What is left of a COPY that the target has ended.
            Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail => Ok(()),
            Frontend::FunctionCall => {
                let error =
                    ErrorFields::error("0A000", "fast-path function calls are not served: they have no text to judge");
                self.client.error(&error);
                crate::core::wire::backend::write_ready(self.status, &mut self.client.out);
                Ok(())
            }
            _ => self.extended(message).await,
        }
    }

    /// The target speaks while nothing was asked: a notification, a notice, or its end.
    pub(super) fn unasked(&mut self, message: &Message) -> Result<(), End> {
        match message.tag {
            b'N' | b'A' | b'S' => {
                message.write(&mut self.client.out);
                Ok(())
            }
            b'E' => {
                message.write(&mut self.client.out);
                Err(End::TargetLost)
            }
            _ => Err(End::Protocol),
        }
    }

    /// Follows what a statement that has just succeeded changed about the session.
    pub(super) fn follow(&mut self, planned: &Planned, tag: &str) {
        let facts = planned.cleared.facts();
        let limits = planned.cleared.limits();
        // The shortest of the transaction's statements; one that begins it begins anew.
        let begins = self.status == b'I';
        self.idle = if begins { limits.idle } else { self.idle.into_iter().chain(limits.idle).min() };
        let moves_path = |setting: &String| setting.starts_with("search_path") || setting == "all";
        if facts.settings.iter().any(moves_path)
            || matches!(
                facts.verb.as_str(),
                "DISCARD" | "SELECT INTO TEMP" | "CREATE TEMP TABLE" | "CREATE TEMP SEQUENCE"
            )
            || tag.starts_with("DROP")
        {
            self.facts_stale = true;
        }
        match facts.transaction {
            Some(TransactionVerb::Begin) => self.is_block = true,
            Some(TransactionVerb::Commit | TransactionVerb::Rollback) => {
                self.is_block = false;
                // A rollback takes back SET and temporary tables too.
                self.facts_stale = true;
                self.forget_held();
            }
            // What rolled back to a savepoint took with it is still in the counters.
            Some(TransactionVerb::RollbackTo) => self.facts_stale = true,
            Some(_) | None => {}
        }
        if facts.verb == "DISCARD" || (facts.verb == "DEALLOCATE" && facts.prepared.as_deref() == Some("")) {
            self.has_own = false;
            self.prepared.clear();
        }
    }

    /// Asks again for what the session's names mean, when something may have moved them.
    pub(super) async fn refresh(&mut self) -> Result<(), End> {
        if !self.facts_stale || self.status == b'E' || self.is_dirty {
            return Ok(());
        }
        self.prepare_own();
        self.ask_own("dbgate_facts", &[]);
        self.ask_sync(crate::core::session::Owner::Gateway);
        let drained = self.round(Mode::Extended).await?;
        let row = drained.rows.into_iter().next().unwrap_or_default();
        let mut values = row.into_iter().flatten();
        let mut list = || values.next().and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok());
        match (list(), list()) {
            (Some(path), Some(temporary)) => (self.search_path, self.temporary) = (path, temporary),
            _ => return Err(End::Protocol),
        }
        self.counts_rows = values.next().as_deref() == Some("on");
        self.facts_stale = false;
        Ok(())
    }
}

/// Waits until the session is told to end, and says why.
pub(super) async fn ended(signal: &mut watch::Receiver<Option<EndReason>>) -> EndReason {
    match signal.wait_for(Option::is_some).await {
        Ok(reason) => reason.unwrap_or(EndReason::Stopping),
        Err(_) => EndReason::Stopping,
    }
}
