//! The gateway's account of one connection: every statement before it runs, every outcome after.

use std::time::Instant;

use serde_json::{Value, json};

use super::log::{Log, LogError, Opening, Position, fields};
use super::outcome::Standing;
use super::outstanding::Outstanding;
use super::run::{self, Run};
use super::settle::Unsettled;
use super::stored::Kind;
use super::wording::Wording;
use super::writer::Pending;
use crate::core::grant::{Grant, SessionId};
use crate::core::policy::{Cleared, Denial};
use crate::core::statement::facts::{Effect, Facts, Touch};
use crate::core::time::Moment;
use crate::core::transcript::canonical::Members;
use crate::core::transcript::{Chain, Domain, Leaf, Line, LineError, SessionKey, content};
use crate::server::config::Durability;
use crate::sys::clock;

/// Objects and relations named in one line; more are counted.
pub(super) const MOST_OBJECTS: usize = 32;
/// Most of their names: with the longest normalised text a line stays below its limit.
pub(super) const LONGEST_NAME: usize = 128;

/// What the record says of a connection when it opens.
pub struct SessionOpen {
    pub client_address: String,
    pub tls_version: String,
    pub application: String,
    pub role: String,
    pub server_version: String,
    /// 0: the gateway's account only; 1: the client signs its own.
    pub level: u8,
    pub durability: Durability,
}

/// What became of the login role when its connection was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleEnd {
    /// The target has confirmed that it is gone.
    Dropped,
    /// Nobody can log in and no backend runs as it: it waits for the grant's next connection.
    Kept,
    /// The target could not be asked, or did not let it go: it is tried again.
    Left,
}

/// How a statement came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
}

impl Protocol {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "ext",
        }
    }
}

/// What came in, and what goes out for it.
#[derive(Clone, Copy)]
pub struct Said<'a> {
    pub text: &'a str,
    pub wording: &'a Wording,
    /// The text that is forwarded in its place, where it is another.
    pub forwarded: Option<&'a str>,
    /// Formats, values and result formats of a Bind.
    pub parameters: Option<&'a [u8]>,
    /// Nothing of what it does stands before its transaction commits.
    pub stands_at_commit: bool,
}

/// Proof that a statement was recorded before it ran. Only the record makes one, from what the
/// policy cleared; forwarding asks for it.
pub struct Recorded {
    number: u64,
}

impl Recorded {
    /// The statement's number in the session, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn of(number: u64) -> Self {
        Self { number }
    }
}

/// How one statement ended.
pub struct ResultRecord<'a> {
    pub tag: &'a str,
    pub rows: u64,
    pub bytes: u64,
    pub columns: &'a [String],
    /// Positions of masked columns.
    pub masked: &'a [usize],
    pub rows_digest: [u8; 32],
    pub micros: u64,
    /// `I`, `T` or `E`.
    pub transaction: char,
}

/// The account of one connection.
pub struct SessionRecord {
    pub(super) log: std::sync::Arc<Log>,
    chain: Chain,
    session: SessionId,
    /// Its name as the log's index keeps it.
    name: std::sync::Arc<str>,
    pub(super) key: SessionKey,
    pub(super) who: String,
    opened: Instant,
    open_leaf: Leaf,
    pub(super) durability: Durability,
    level: u8,
    pub(super) statements: u64,
    pub(super) denied: u64,
    pub(super) errors: u64,
    rows: u64,
    bytes: u64,
    pub(super) outstanding: Outstanding,
    /// The line that may yet grow.
    pub(super) run: Option<Box<Run>>,
    /// What the next one is put together in.
    pub(super) spare_run: Option<Box<Run>>,
    /// What the open transaction has done.
    pub(super) standing: Box<Standing>,
    /// What must be durable before something else happens.
    pub(super) unsettled: Unsettled,
    /// What the next line says, while it is put together.
    pub(super) members: Members,
    is_closed: bool,
}

impl SessionRecord {
    /// Opens the account. Nobody is told so before [`Opening::durable`] has returned.
    pub async fn open(
        log: &std::sync::Arc<Log>,
        grant: &Grant,
        grant_leaf: Leaf,
        key: SessionKey,
        about: SessionOpen,
        session: SessionId,
        now: Moment,
    ) -> Result<(Self, Opening), LogError> {
        let mut chain = Chain::new(session.clone(), grant_leaf);
        let mut members = json!({
            "grant_h": grant_leaf.hex(), "gr": grant.id.as_str(), "cred": grant.user, "level": about.level,
            "sub": grant.identity.sub, "iss": grant.identity.issuer, "who": grant.identity.subject,
            "kind": grant.identity.kind.word(), "target": grant.target, "db": grant.database,
            "access": grant.access.word(), "role": about.role, "pol": grant.policy, "mask": grant.scope,
            "src": about.client_address, "tls": about.tls_version, "app": content::clip(&about.application, 256),
            "srv": about.server_version, "key_c": key.check_value(session.as_str()),
        });
        if let (1, Some(client_key), Some(members)) = (about.level, &grant.client_key, members.as_object_mut()) {
            members.insert("client_key".to_owned(), client_key.as_str().into());
        }
        let line = chain.append("session.open", now, std::time::Duration::ZERO, fields(members))?;
        let name = std::sync::Arc::from(session.as_str());
        let opening = Opening { log: log.clone(), line: log.queue_in_turn(&line, &name, Kind::Other).await? };
        let record = Self {
            log: log.clone(),
            chain,
            session,
            name,
            key,
            who: grant.identity.subject.clone(),
            opened: Instant::now(),
            open_leaf: line.leaf(),
            durability: about.durability,
            level: about.level,
            statements: 0,
            denied: 0,
            errors: 0,
            rows: 0,
            bytes: 0,
            outstanding: Outstanding::default(),
            run: None,
            spare_run: None,
            standing: Box::default(),
            unsettled: Unsettled::default(),
            members: Members::new(),
            is_closed: false,
        };
        Ok((record, opening))
    }

    /// The first line of the account: the client's first line names its hash.
    pub fn open_leaf(&self) -> Leaf {
        self.open_leaf
    }

    /// The key of its commitments.
    pub const fn key(&self) -> &SessionKey {
        &self.key
    }

    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Records statements that may run: one line a part, the text in the first. They may be sent
    /// once [`SessionRecord::settled`] has returned.
    pub async fn allowed(
        &mut self,
        cleared: &[&Cleared],
        said: Said<'_>,
        protocol: Protocol,
        now: Moment,
    ) -> Result<Recorded, LogError> {
        let Said { text, wording, forwarded, parameters, stands_at_commit } = said;
        let due = self.due(cleared, stands_at_commit);
        if let ([one], Protocol::Extended, true) = (cleared, protocol, run::may_grow(&said)) {
            return self.run_on(one, said, due, now).await;
        }
        self.written().await?;
        let number = self.statements + 1;
        let mut recorded = None;
        for (part, one) in cleared.iter().enumerate() {
            self.statement(number, part, one.facts(), protocol);
            self.members.text("dec", "allow");
            if part == 0 {
                self.text(text, wording);
                let forwarded = forwarded.map(|text| content::statement_digest(&self.key, text));
                let parameters = parameters.map(|bytes| self.key.commitment(Domain::Parameters, bytes));
                for (name, hash) in [("fwd_c", forwarded), ("par_c", parameters)] {
                    if let Some(hash) = &hash {
                        self.members.hex(name, hash);
                    }
                }
            }
            recorded = Some(self.queue("stmt", now).await?);
            // Counted as soon as they are queued: who gives up waiting does not take them back.
            self.statements = number;
            self.outstanding.insert(number, count(part));
        }
        self.unsettled.note(recorded.ok_or(LogError::Nothing)?, due);
        Ok(Recorded { number })
    }

    /// Records a text without a statement: nothing runs, but the client sent it and has it written down.
    pub async fn nothing(&mut self, text: &str, protocol: Protocol, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        let number = self.statements + 1;
        self.statement(number, 0, &Facts::plain("", Effect::Read), protocol);
        self.members.text("dec", "allow");
        self.text(text, &Wording::of(text));
        self.queue("stmt", now).await?;
        self.statements = number;
        self.outstanding.insert(number, 0);
        self.came_to_nothing(number, 0, "", 'I', now).await
    }

    /// Records that a statement was answered without rows.
    pub async fn came_to_nothing(
        &mut self,
        number: u64,
        part: u32,
        tag: &str,
        transaction: char,
        now: Moment,
    ) -> Result<(), LogError> {
        let rows_digest = self.key.no_rows();
        let (rows, bytes, micros) = (0, 0, 0);
        let result = ResultRecord { tag, rows, bytes, columns: &[], masked: &[], rows_digest, micros, transaction };
        self.result(number, part, result, now).await
    }

    /// Records a statement that was refused.
    pub async fn denied(
        &mut self,
        denial: &Denial,
        text: &str,
        protocol: Protocol,
        now: Moment,
    ) -> Result<u64, LogError> {
        self.written().await?;
        let number = self.statements + 1;
        self.given(json!({
            "no": number, "part": 0, "proto": protocol.word(), "who": self.who, "dec": "deny",
            "rules": [content::clip(&denial.rule, 256)], "code": content::clip(&denial.code, 256),
        }))?;
        self.text(text, &Wording::of(text));
        let recorded = self.queue("stmt", now).await?;
        self.statements = number;
        self.denied += 1;
        self.log.durable(recorded).await?;
        Ok(number)
    }

    /// Records how a part ended.
    pub async fn result(
        &mut self,
        number: u64,
        part: u32,
        result: ResultRecord<'_>,
        now: Moment,
    ) -> Result<(), LogError> {
        self.written().await?;
        self.ended(number, part, &result);
        self.members.number("us", result.micros);
        self.write("result", now, false).await?;
        self.rows += result.rows;
        self.bytes += result.bytes;
        self.outstanding.remove(number, part.into());
        Ok(())
    }

    /// Begins a line with all that is said of a result but how long it took.
    pub(super) fn ended(&mut self, number: u64, part: u32, result: &ResultRecord<'_>) {
        let masked = result.masked.iter().map(|place| count(*place));
        let mut buffer = [0; 4];
        let transaction = result.transaction.encode_utf8(&mut buffer);
        self.members.clear();
        self.members
            .number("no", number)
            .number("part", part.into())
            .text("tag", content::clip(result.tag, 256))
            .number("rows", result.rows)
            .number("bytes", result.bytes)
            .hex("rows_c", &result.rows_digest)
            .text("state", "00000")
            .text("tx", transaction)
            .numbers("masked", masked)
            .texts("cols", content::shown_columns(result.columns))
            .number("ncols", count(result.columns.len()));
    }

    /// Records that the target refused or failed a part of a statement.
    pub async fn error(&mut self, number: u64, part: u32, sqlstate: &str, now: Moment) -> Result<(), LogError> {
        self.written().await?;
        self.given(json!({"no": number, "part": part, "state": content::clip(sqlstate, 64)}))?;
        self.write("error", now, false).await?;
        self.errors += 1;
        self.outstanding.remove(number, part.into());
        Ok(())
    }

    /// Closes the account; durable when it returns. `head` is the client's, if it came in.
    pub async fn close(
        &mut self,
        reason: &str,
        role: RoleEnd,
        head: Option<(u64, String)>,
        now: Moment,
    ) -> Result<Position, LogError> {
        self.written().await?;
        // What has no outcome by now will never have one that was seen.
        while let Some((number, part, _)) = self.outstanding.first_run() {
            self.given(json!({"no": number, "part": part}))?;
            self.queue("result.unknown", now).await?;
            self.outstanding.remove(number, part);
        }
        self.closing(reason, role, head)?;
        let pending = self.queue("session.close", now).await?;
        self.is_closed = true;
        self.log.durable_in_turn(pending).await
    }

    /// The same for who cannot wait.
    fn close_now(&mut self, reason: &str, now: Moment) -> Result<(), LogError> {
        self.written_now()?;
        while let Some((number, part, _)) = self.outstanding.first_run() {
            self.given(json!({"no": number, "part": part}))?;
            self.queue_now("result.unknown", now)?;
            self.outstanding.remove(number, part);
        }
        self.closing(reason, RoleEnd::Left, None)?;
        self.queue_now("session.close", now)?;
        self.is_closed = true;
        Ok(())
    }

    /// Begins the last line.
    fn closing(&mut self, reason: &str, role: RoleEnd, head: Option<(u64, String)>) -> Result<(), LogError> {
        self.given(json!({
            "reason": content::clip(reason, 256), "n_stmt": self.statements, "n_deny": self.denied,
            "n_err": self.errors, "rows": self.rows, "bytes_out": self.bytes, "role_dropped": role == RoleEnd::Dropped,
        }))?;
        if role == RoleEnd::Kept {
            self.members.value("role_kept", &json!(true)).map_err(LineError::from)?;
        }
        match (head, self.level) {
            (Some((size, root)), 1..) => {
                let head = json!({"n": size, "root": root});
                self.members.value("client_head", &head).map_err(LineError::from)?
            }
            (_, 0) => self.members.text("client", "none"),
            (None, _) => self.members.text("client", "pending"),
        };
        Ok(())
    }

    /// Begins a line with the members that every part of a statement has.
    pub(super) fn statement(&mut self, number: u64, part: usize, facts: &Facts, protocol: Protocol) {
        let shown = |touch: &Touch| {
            let mut name = format!("{} {}", touch.action.word(), touch.relation);
            name.truncate(content::clip(&name, LONGEST_NAME).len());
            name
        };
        self.members.clear();
        self.members
            .number("no", number)
            .number("part", count(part))
            .text("proto", protocol.word())
            .text("who", &self.who)
            .text("verb", &facts.verb)
            .text("effect", facts.effect.word())
            .number("nobjs", count(facts.touches.len()))
            .texts("objs", facts.touches.iter().take(MOST_OBJECTS).map(shown));
    }

    /// Adds the members that tell the text without disclosing its literals.
    pub(super) fn text(&mut self, text: &str, wording: &Wording) {
        let commitment = content::statement_digest(&self.key, text);
        self.members
            .hex("stmt_c", &commitment)
            .number("len", count(text.len()))
            .text("norm", wording.norm())
            .text("fp", wording.fingerprint());
        if wording.is_cut() {
            self.members.flag("norm_cut", true);
        }
    }

    /// Begins a line with these members.
    pub(super) fn given(&mut self, members: Value) -> Result<(), LogError> {
        self.members.clear();
        if let Value::Object(members) = members {
            self.members.all(members).map_err(LineError::from)?;
        }
        Ok(())
    }

    /// Makes the line that was begun and queues it. The chain moves on only once the line is in the
    /// queue: a line that was not taken leaves no gap.
    pub(super) async fn queue(&mut self, kind: &str, now: Moment) -> Result<Pending, LogError> {
        let (line, since) = self.line(kind, now)?;
        let pending = match self.log.queue(&line, &self.name, Kind::of(kind)) {
            // Waiting here is what slows a client down that is faster than the disk.
            Err(LogError::Busy) => Box::pin(self.log.queue_in_turn(&line, &self.name, Kind::of(kind))).await?,
            queued => queued?,
        };
        self.chain.advance(&line, now, since);
        Ok(pending)
    }

    /// The same for those who cannot wait: a full queue is an error.
    pub(super) fn queue_now(&mut self, kind: &str, now: Moment) -> Result<Pending, LogError> {
        let (line, since) = self.line(kind, now)?;
        let pending = self.log.queue(&line, &self.name, Kind::of(kind))?;
        self.chain.advance(&line, now, since);
        Ok(pending)
    }

    fn line(&mut self, kind: &str, now: Moment) -> Result<(Line, std::time::Duration), LogError> {
        if self.is_closed {
            return Err(LogError::Closed);
        }
        let since = self.opened.elapsed();
        Ok((self.chain.next_of(kind, now, since, &mut self.members)?, since))
    }

    pub(super) async fn write(&mut self, kind: &str, now: Moment, is_durable: bool) -> Result<(), LogError> {
        let pending = self.queue(kind, now).await?;
        if is_durable {
            self.log.durable(pending).await?;
        }
        Ok(())
    }
}

/// A connection whose task ended in an unforeseen way is closed in the record all the same, so
/// that the session does not look as if it still went on.
impl Drop for SessionRecord {
    fn drop(&mut self) {
        if !self.is_closed
            && let Err(error) = self.close_now("crash", clock::now())
        {
            tracing::error!(%error, session = self.session.as_str(), "the end of a session could not be recorded");
        }
    }
}

pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
