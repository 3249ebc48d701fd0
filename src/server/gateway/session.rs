//! One session: waits for the client or the target, runs what the client asks, and cleans up.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;

use super::ask::{Leftover, OwnStatements};
use super::client::Client;
use super::held::Held;
use super::named::Parsed;
use super::patience::Limit;
use super::relay::Mode;
use super::rows::Execution;
use super::values::Values;
use crate::core::approval::Lift;
use crate::core::policy::{Denial, Policy, Subject};
use crate::core::scope::Scope;
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::session::{OutOfTurn, Owner, Pipeline};
use crate::core::statement::facts::{Name, TransactionVerb};
use crate::core::statement::grammar;
use crate::core::statement::reading;
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frame::{self, Message, View, WireError};
use crate::core::wire::frontend::{self, Frontend};
use crate::server::audit::{LogError, SessionRecord, Wording};
use crate::server::check::{Check, Planned, refused};
use crate::server::decisions::{Context, Decisions};
use crate::server::grants::LiveGrant;
use crate::server::sessions::{EndReason, Registered};
use crate::sys::link::Link;

/// Bytes of the target's answers that are kept while the client asks for more.
const MOST_AHEAD: usize = 64 * 1024;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the client has gone")]
    ClientGone,
    #[error("the client said goodbye")]
    Goodbye,
    #[error("connection to the target was lost")]
    TargetLost,
    #[error("the target has ended the session, and said why")]
    TargetSaid,
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
            Self::ClientGone | Self::Goodbye | Self::TargetSaid => return None,
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
            Self::TargetLost | Self::TargetSaid => "target",
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
    /// Nothing where the text holds no statement.
    pub planned: Option<Arc<Planned>>,
    pub values: Values,
    /// People have let it through, with these values.
    pub is_lifted: bool,
    pub text: Arc<str>,
    pub wording: Arc<Wording>,
    /// The places of its Parse and its Bind among the client's requests.
    pub places: [u64; 2],
    /// What the parts that were read have used up, where it is read in parts.
    pub used: Option<Arc<super::bound::Used>>,
}

/// What is known of a statement that a name stands for.
#[derive(Clone)]
pub enum Judged {
    Planned(Arc<Planned>),
    /// The text holds no statement.
    Empty,
    /// The gateway cannot read it. The target says what is wrong with it; where it finds nothing wrong, it
    /// reads another grammar than ours, and nothing of it runs.
    Unread,
    /// It does not run unless people let it through, with its values.
    Unlifted,
    /// What its names mean may have changed since it was judged like this.
    Outdated(Arc<Planned>),
}

impl Judged {
    /// What may run.
    pub const fn planned(&self) -> Option<&Arc<Planned>> {
        match self {
            Self::Planned(planned) => Some(planned),
            Self::Empty | Self::Unread | Self::Unlifted | Self::Outdated(_) => None,
        }
    }
}

/// Everything of one session.
pub struct Session {
    pub(super) client: Client,
    pub(super) people: super::people::People,
    pub(super) target: Link,
    /// Requests gathered for the target.
    pub(super) up: BytesMut,
    pub(super) pipeline: Pipeline,
    /// Answers the client may not see before the verdict.
    pub(super) held_out: BytesMut,
    pub(super) executions: std::collections::VecDeque<Execution>,
    pub(super) held: Held,
    pub(super) baseline_asked: bool,
    pub(super) is_vetoing: bool,
    pub(super) own: OwnStatements,
    pub(super) leftover: Leftover,
    /// Tags wait for ReadyForQuery: a commit that fails shows none in the simple protocol.
    pub(super) holds_tags: bool,
    /// A description that is shown with the first row.
    pub(super) late_description: BytesMut,
    /// Where decisions on texts are remembered, as long as what they depend on stays.
    pub(super) context: Arc<Context>,
    pub(super) decisions: Arc<Decisions>,
    /// When the grant ends.
    pub(super) expiry: Pin<Box<tokio::time::Sleep>>,
    /// `I`, `T` or `E` as the target last said.
    pub(super) status: u8,
    /// What is on its way although no answer to it was asked for.
    pub(super) ahead: Box<super::bound::Ahead>,
    /// A block was opened in requests that no Sync has closed yet.
    pub(super) is_block: bool,
    /// Something ran that no Sync has been answered for yet: it can still be rolled back.
    pub(super) is_dirty: bool,
    /// After an error in the extended protocol: everything up to Sync is skipped.
    pub(super) is_skipping: bool,
    pub(super) grant: Arc<LiveGrant>,
    pub(super) policy: Arc<Policy>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) record: SessionRecord,
    /// Keeps the session in the registry for as long as it lives.
    pub(super) registered: Registered,
    /// For whatever has a deadline.
    pub(super) alarm: super::stop::Alarm,
    pub(super) search_path: Vec<String>,
    pub(super) temporary: Vec<String>,
    /// The session has made a temporary view: from then on any unqualified name may mean one.
    pub(super) has_own_views: bool,
    /// Unqualified names may mean something else than what they were last told to mean.
    pub(super) has_moved_names: bool,
    /// Its temporary relations may call functions that may do anything.
    pub(super) has_own_code: bool,
    /// What its temporary relations call does not stand in the texts that made them.
    pub(super) has_odd_tables: bool,
    pub(super) facts_stale: bool,
    /// Code has run that nobody has read, and the target has not said since whether it has changed how
    /// texts are read: it does so with the answer to a Sync.
    pub(super) may_misread: bool,
    pub(super) counts_rows: bool,
    pub(super) stop: super::stop::Stop,
    /// How long an open transaction may wait for its next statement.
    pub(super) idle: Option<std::time::Duration>,
    pub(super) has_masks: bool,
    /// Looks through contents, where the target asks for it.
    pub(super) net: Option<Box<super::net::Netting>>,
    pub(super) prepared: BTreeMap<String, Parsed>,
    pub(super) portals: BTreeMap<String, Bound>,
    /// The cursors that DECLARE has made, by name.
    pub(super) cursors: BTreeMap<String, super::named::Cursor>,
    /// Changes of names that the target has been asked for and has not answered.
    pub(super) changes: super::named::Changes,
    pub(super) description: super::description::Description,
}

impl Session {
    pub(super) fn scope(&self) -> &Scope {
        &self.grant.scope
    }

    /// Who is judged.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::of(&self.grant.grant)
    }

    /// The relation that a name means, unless it is the session's own.
    pub(super) fn resolve(&self, name: &Name) -> Option<&Relation> {
        self.catalog.resolve(name.schema.as_deref(), &name.name, &self.search_path)
    }

    /// Whether a name means a temporary relation of the session's.
    pub(super) fn is_own(&self, name: &Name) -> bool {
        match &name.schema {
            Some(schema) => schema.starts_with("pg_temp"),
            None => self.temporary.contains(&name.name),
        }
    }

    /// The context that decisions are remembered in from here on.
    pub(super) fn remembering(&self) -> Arc<Context> {
        let grant = &self.grant.grant.id;
        let (path, temporary) = (&self.search_path, &self.temporary);
        self.decisions.context(grant, &self.policy, &self.catalog, path, temporary, self.has_own_views)
    }

    /// Decisions of another policy or catalog are not this session's any more.
    pub(super) fn follow_policy(&mut self) {
        if !self.context.is_for(&self.policy, &self.catalog) {
            self.context = self.remembering();
        }
    }

    /// Judges and plans one statement. An approval that is being used counts only where it was
    /// claimed for this very statement.
    pub(super) fn plan(
        &self,
        statement: &crate::core::statement::grammar::Statement,
        prepared: &BTreeMap<String, Arc<Planned>>,
        lift: Option<&Lift>,
    ) -> Result<Planned, Box<Denial>> {
        self.check(prepared, lift).plan(statement)
    }

    /// What it judges statements by.
    pub(super) fn check<'s>(
        &'s self,
        prepared: &'s BTreeMap<String, Arc<Planned>>,
        lift: Option<&'s Lift>,
    ) -> Check<'s> {
        Check {
            policy: &self.policy,
            subject: self.subject(),
            scope: self.scope(),
            catalog: &self.catalog,
            search_path: &self.search_path,
            temporary: &self.temporary,
            has_own_views: self.has_own_views,
            prepared,
            lift,
        }
    }

    /// Judges what was prepared under another policy by the one that holds now.
    pub(super) fn judge_again(&self, planned: &Planned, text: &str) -> Result<(), Box<Denial>> {
        if planned.cleared.policy() == self.policy.digest() {
            return Ok(());
        }
        let unread = || refused("unparseable", "the statement cannot be read again", "prepare it again");
        let known = self.known_statements();
        match grammar::parse(text).ok().as_deref() {
            Some([statement]) => self.plan(statement, &known, None).map(|_| ()),
            Some(_) | None => Err(unread()),
        }
    }

    /// Serves the client until something ends the session.
    pub async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.turn().await {
                super::seldom(self.abandon_account()).await;
                super::seldom(self.abandon_transaction()).await;
                return end;
            }
        }
    }

    /// Waits for one message and acts on it.
    async fn turn(&mut self) -> Result<(), End> {
        // What the client has sent ahead is served before it is written to: one write answers many.
        if !self.client.is_full() {
            if self.ahead.again.is_some() && self.comes_again() {
                return match self.is_ahead() {
                    true => super::seldom(self.send_ahead()).await,
                    false => Ok(()),
                };
            }
            if let Some(message) = self.client.at_hand()? {
                return self.act(message).await;
            }
        }
        if self.is_ahead_meanwhile() {
            super::seldom(self.send_ahead()).await?;
        }
        self.client.push().await?;
        // The client hears how its statements ended while that is put down.
        self.record.ended_so_far().await?;
        if !self.client.is_written()
            && let Some(end) = super::seldom(self.written()).await?
        {
            return super::seldom(self.time_has_come(end)).await;
        }
        if self.pipeline.is_empty() {
            self.rest();
        }
        let is_idle = self.pipeline.is_empty() && self.status == b'I';
        // Answers to what was sent ahead are read when the client asks for them; until then few are kept.
        let has_room = self.pipeline.is_empty() || self.target.input.len() < MOST_AHEAD;
        let limit = self.limit();
        // What the client has sent ahead goes on without it.
        let settled = async {
            match self.ahead.settling {
                Some(settling) => self.record.settled_to(settling.line).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = self.client.receive() => self.act(message?).await,
            more = self.target.exchange(), if has_room => {
                more.map_err(|_| End::TargetLost)?;
                self.unasked().await
            }
            recorded = settled => {
                recorded?;
                super::seldom(self.send_ahead()).await
            }
            reason = self.registered.handle().kill.told(is_idle) => Err(End::Killed(reason)),
            () = &mut self.expiry => Err(End::Expired),
            limit = Limit::reached(limit, &mut self.alarm) => super::seldom(self.time_has_come(limit)).await,
        }
    }

    async fn act(&mut self, message: Message) -> Result<(), End> {
        self.ahead.again = None;
        if self.pipeline.is_ending() {
            super::seldom(self.ended_in_block()).await?;
        }
        self.policy = self.grant.policy();
        let parsed = match frontend::parse(&message) {
            Ok(parsed) => parsed,
            Err(WireError::NotText { .. }) => return super::seldom(self.refuse_bytes(&message)).await,
            Err(error) => return Err(error.into()),
        };
        self.comes_behind(&parsed);
        match parsed {
            Frontend::Terminate => Err(End::Goodbye),
            // After an error in the extended protocol nothing but Sync is looked at.
            Frontend::Query(_) | Frontend::FunctionCall if self.is_skipping => Ok(()),
            Frontend::Query(sql) => self.query(&message, sql).await,
            // What is left of a COPY that the target has ended.
            Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail => Ok(()),
            Frontend::FunctionCall => super::seldom(self.refuse_call()).await,
            parsed @ (Frontend::Parse { .. }
            | Frontend::Bind { .. }
            | Frontend::Describe { .. }
            | Frontend::Execute { .. }
            | Frontend::Close { .. }
            | Frontend::Flush
            | Frontend::Sync) => self.extended(&message, parsed).await,
        }
    }

    /// The target speaks while nothing was asked: a notification, a notice, or its end.
    pub(super) async fn unasked(&mut self) -> Result<(), End> {
        if !self.pipeline.is_empty() {
            return Ok(());
        }
        while let Some(message) = frame::take_from_server(&mut self.target.input)? {
            match message.tag {
                b'Z' => drop(self.pipeline.receive(message.tag)?),
                b'N' | b'A' | b'S' => self.aside(View { tag: message.tag, body: &message.body }, Owner::Client)?,
                b'E' => {
                    message.write(self.client.out());
                    return Err(End::TargetSaid);
                }
                _ => return Err(End::Protocol),
            }
        }
        self.flush_client().await
    }

    /// Follows what a statement that has just succeeded changed about the session.
    pub(super) fn follow(&mut self, planned: &Arc<Planned>, tag: &str) {
        let facts = planned.cleared.facts();
        match facts.transaction {
            Some(TransactionVerb::Commit) => self.end_cursors(tag == "COMMIT"),
            Some(TransactionVerb::Rollback) => self.end_cursors(false),
            Some(_) | None => {}
        }
        let hides_names = self.may_hide_names(planned);
        let moves_names = hides_names || super::moved::changes_names(facts) || tag.starts_with("DROP");
        self.facts_stale |= moves_names;
        // In a block it may be taken back.
        self.held.has_moved_names |= moves_names;
        match facts.transaction {
            // ReadyForQuery says it later.
            Some(TransactionVerb::Begin) => {
                (self.is_block, self.status) = (true, b'T');
                // What the gateway has begun is the client's from here on, and only its COMMIT ends it.
                self.held.own_block = false;
            }
            Some(verb @ (TransactionVerb::Commit | TransactionVerb::Rollback)) => {
                // What comes behind it in the pipeline is judged by what is so now; ReadyForQuery says it later.
                self.is_block = facts.chains;
                self.status = if facts.chains { b'T' } else { b'I' };
                // What comes next begins anew.
                self.idle = planned.cleared.limits().idle.filter(|_| facts.chains);
                if verb == TransactionVerb::Rollback || tag != "COMMIT" {
                    self.record.has_rolled_back();
                    // What was taken back is in the counters of relations that nobody has looked at.
                    self.held.is_unsure |= self.held.counts_pending();
                    self.held.undone();
                } else {
                    self.record.has_committed();
                }
                // The end of a block takes back SET LOCAL, a rollback SET and temporary tables too.
                self.facts_stale |= std::mem::take(&mut self.held.has_moved_names);
                self.forget_held();
            }
            // What rolled back to a savepoint took with it is still in the counters.
            Some(TransactionVerb::RollbackTo) => {
                self.status = b'T';
                self.facts_stale |= self.held.has_moved_names;
                self.held.undone();
                self.record.has_recovered();
            }
            Some(_) | None => {}
        }
        let runs_code = self.runs_code(facts) || (hides_names && self.runs_dynamic_sql(facts));
        self.people.era.note(facts, runs_code);
        self.note_named(planned, hides_names);
    }

    /// Asks what the session's names mean.
    pub(super) async fn ask_facts(&mut self) -> Result<(), End> {
        self.ask_own("dbgate_facts", &[]);
        self.ask_sync(Owner::Gateway);
        self.send().await
    }

    /// Reads the answer to that. False when it failed: a cancel or a limit of the client's own met it.
    pub(super) async fn learn_facts(&mut self) -> Result<bool, End> {
        let drained = super::seldom(self.round(Mode::Extended)).await?;
        if drained.failed {
            return Ok(false);
        }
        let row = drained.rows.into_iter().next().unwrap_or_default();
        let mut values = row.into_iter().flatten();
        let mut list = || values.next().and_then(|text| serde_json::from_str::<Vec<String>>(&text).ok());
        match (list(), list()) {
            (Some(path), Some(temporary)) => (self.search_path, self.temporary) = (path, temporary),
            _ => return Err(End::Protocol),
        }
        self.counts_rows = values.next().as_deref() == Some("on");
        self.has_own_views |= values.next().as_deref() == Some("t");
        self.held.has_expressions = values.next().as_deref() == Some("t");
        let mut is_kept = |name| values.next().is_some_and(|value| reading::is_kept(name, &value));
        let is_read = reading::READING.iter().all(|(name, _)| is_kept(name));
        self.may_misread = (self.may_misread || std::mem::take(&mut self.held.has_planned)) && !is_read;
        self.context = self.remembering();
        (self.facts_stale, self.has_moved_names) = (false, false);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::tests::size;
    use super::*;

    /// It is moved with every message, and every session keeps one.
    #[test]
    fn what_waits_for_an_answer_is_small() {
        type Served = &'static mut Session;
        let message = || Message { tag: 0, body: Bytes::new() };
        let (act, round) =
            (size(|session: Served| session.act(message())), size(|session: Served| session.round(Mode::Simple)));
        assert!(act <= 2048 && round <= 1280, "{act} {round}");
    }
}
