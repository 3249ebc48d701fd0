//! The gateway's account of one connection: every statement before it runs, every outcome after.

use serde_json::{Value, json};

use super::log::{Log, LogError, Position, fields};
use crate::core::grant::{Grant, SessionId};
use crate::core::policy::{Cleared, Denial, Impact};
use crate::core::statement::facts::{Effect, Facts};
use crate::core::time::Moment;
use crate::core::transcript::{Chain, Domain, Leaf, Line, RowsDigest, SessionKey, content, redact};
use crate::server::config::Durability;

/// Objects and relations named in one line; more are counted.
const MOST_OBJECTS: usize = 32;
/// How much of a normalised text a line keeps, in bytes.
const LONGEST_TEXT: usize = 8 * 1024;

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

/// How a statement came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    Extended,
}

impl Protocol {
    const fn word(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "ext",
        }
    }
}

/// Proof that a statement was recorded before it ran. Only the record makes one, from what the
/// policy cleared; forwarding asks for it.
pub struct Recorded {
    number: u64,
    cleared: Vec<Cleared>,
}

impl Recorded {
    /// The statement's number in the session, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What was cleared, by part.
    pub fn cleared(&self) -> &[Cleared] {
        &self.cleared
    }
}

/// How one statement ended.
pub struct ResultRecord {
    pub tag: String,
    pub rows: u64,
    pub bytes: u64,
    pub columns: Vec<String>,
    /// Positions of masked columns.
    pub masked: Vec<usize>,
    pub rows_digest: String,
    pub sqlstate: String,
    pub micros: u64,
    /// `I`, `T` or `E`.
    pub transaction: char,
}

/// The account of one connection.
pub struct SessionRecord {
    log: std::sync::Arc<Log>,
    chain: Chain,
    session: SessionId,
    key: SessionKey,
    who: String,
    opened: Moment,
    open_line: Line,
    durability: Durability,
    level: u8,
    statements: u64,
    denied: u64,
    errors: u64,
    rows: u64,
    bytes: u64,
}

impl SessionRecord {
    /// Opens the account; durable when it returns.
    pub async fn open(
        log: &std::sync::Arc<Log>,
        grant: &Grant,
        grant_leaf: Leaf,
        key: SessionKey,
        about: SessionOpen,
        session: SessionId,
        now: Moment,
    ) -> Result<Self, LogError> {
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
        log.append(line.clone(), session.as_str()).await?;
        Ok(Self {
            log: log.clone(),
            chain,
            session,
            key,
            who: grant.identity.subject.clone(),
            opened: now,
            open_line: line,
            durability: about.durability,
            level: about.level,
            statements: 0,
            denied: 0,
            errors: 0,
            rows: 0,
            bytes: 0,
        })
    }

    /// The first line of the account: the client's first line names its hash.
    pub fn open_line(&self) -> &Line {
        &self.open_line
    }

    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Records statements that may run: one line a part, the text in the first.
    pub async fn allowed(
        &mut self,
        cleared: Vec<Cleared>,
        text: &str,
        forwarded: Option<&str>,
        parameters: Option<&[u8]>,
        protocol: Protocol,
        now: Moment,
    ) -> Result<Recorded, LogError> {
        self.statements += 1;
        let number = self.statements;
        let last = cleared.len().saturating_sub(1);
        let may_wait = self.durability == Durability::Writes
            && cleared
                .iter()
                .all(|one| matches!(one.facts().effect, Effect::Read | Effect::Session | Effect::Transaction));
        for (part, one) in cleared.iter().enumerate() {
            let mut members = self.statement(number, part, one.facts(), protocol);
            members.insert("dec".to_owned(), "allow".into());
            if part == 0 {
                members.extend(self.text(text));
                let optional = [
                    ("fwd_c", forwarded.map(|text| content::statement_commitment(&self.key, text))),
                    ("par_c", parameters.map(|bytes| self.key.commit(Domain::Parameters, bytes))),
                ];
                members.extend(optional.into_iter().filter_map(|(name, hash)| Some((name.to_owned(), hash?.into()))));
            }
            // The queue keeps its order: when the last line is durable, so are the ones before it.
            self.write("stmt", members, now, part == last && !may_wait).await?;
        }
        Ok(Recorded { number, cleared })
    }

    /// Records a text without a statement: nothing runs, but the client sent it and has it written down.
    pub async fn nothing(&mut self, text: &str, protocol: Protocol, now: Moment) -> Result<(), LogError> {
        self.statements += 1;
        let mut members = self.statement(self.statements, 0, &Facts::plain("", Effect::Read), protocol);
        members.insert("dec".to_owned(), "allow".into());
        members.extend(self.text(text));
        self.write("stmt", members, now, true).await?;
        let result = ResultRecord {
            tag: String::new(),
            rows: 0,
            bytes: 0,
            columns: Vec::new(),
            masked: Vec::new(),
            rows_digest: RowsDigest::new(&self.key).finish(),
            sqlstate: "00000".to_owned(),
            micros: 0,
            transaction: 'I',
        };
        self.result(self.statements, 0, result, now).await
    }

    /// Records a statement that was refused.
    pub async fn denied(
        &mut self,
        denial: &Denial,
        text: &str,
        protocol: Protocol,
        now: Moment,
    ) -> Result<u64, LogError> {
        self.statements += 1;
        self.denied += 1;
        let members = json!({
            "no": self.statements, "part": 0, "proto": protocol.word(), "who": self.who, "dec": "deny",
            "rules": [content::clip(&denial.rule, 256)], "code": content::clip(&denial.code, 256),
        });
        let mut members = match members {
            Value::Object(members) => members,
            _ => serde_json::Map::new(),
        };
        members.extend(self.text(text));
        self.write("stmt", members, now, true).await?;
        Ok(self.statements)
    }

    /// Records how a part ended.
    pub async fn result(&mut self, number: u64, part: u32, result: ResultRecord, now: Moment) -> Result<(), LogError> {
        self.rows += result.rows;
        self.bytes += result.bytes;
        let members = json!({
            "no": number, "part": part, "tag": content::clip(&result.tag, 256), "rows": result.rows,
            "bytes": result.bytes, "rows_c": result.rows_digest, "state": result.sqlstate, "us": result.micros,
            "tx": result.transaction.to_string(), "masked": result.masked,
        });
        let mut members = object(members);
        members.extend(content::columns(&result.columns));
        self.write("result", members, now, false).await
    }

    /// Records that the target refused or failed a statement.
    pub async fn error(&mut self, number: u64, sqlstate: &str, now: Moment) -> Result<(), LogError> {
        self.errors += 1;
        self.write("error", object(json!({"no": number, "state": sqlstate})), now, false).await
    }

    /// Records what a held write changed, and whether it was let stand.
    pub async fn impact(&mut self, number: u64, impacts: &[Impact], stands: bool, now: Moment) -> Result<(), LogError> {
        let changes: Vec<Value> = impacts
            .iter()
            .take(MOST_OBJECTS)
            .map(|impact| {
                json!({"rel": content::clip(&format!("{}.{}", impact.schema, impact.relation), 256),
                       "act": impact.action.word(), "rows": impact.rows, "direct": impact.direct})
            })
            .collect();
        let members = json!({"no": number, "n": impacts.len(), "changes": changes, "stands": stands});
        self.write("impact", object(members), now, false).await
    }

    /// Closes the account; durable when it returns. `head` is the client's, if it came in.
    pub async fn close(
        &mut self,
        reason: &str,
        role_dropped: bool,
        head: Option<(u64, String)>,
        now: Moment,
    ) -> Result<Position, LogError> {
        let mut members = object(json!({
            "reason": reason, "n_stmt": self.statements, "n_deny": self.denied, "n_err": self.errors,
            "rows": self.rows, "bytes_out": self.bytes, "role_dropped": role_dropped,
        }));
        match (head, self.level) {
            (Some((size, root)), _) => drop(members.insert("client_head".to_owned(), json!({"n": size, "root": root}))),
            (None, 0) => drop(members.insert("client".to_owned(), "none".into())),
            (None, _) => drop(members.insert("client".to_owned(), "pending".into())),
        }
        let line = self.line("session.close", members, now)?;
        self.log.append(line, self.session.as_str()).await
    }

    /// Members that every part of a statement has.
    fn statement(&self, number: u64, part: usize, facts: &Facts, protocol: Protocol) -> serde_json::Map<String, Value> {
        let objects: Vec<Value> = facts
            .touches
            .iter()
            .take(MOST_OBJECTS)
            .map(|touch| content::clip(&format!("{} {}", touch.action.word(), touch.relation), 256).into())
            .collect();
        object(json!({
            "no": number, "part": part, "proto": protocol.word(), "who": self.who, "verb": facts.verb,
            "effect": facts.effect.word(), "objs": objects, "nobjs": facts.touches.len(),
        }))
    }

    /// Members that tell the text without disclosing its literals.
    fn text(&self, text: &str) -> serde_json::Map<String, Value> {
        let normal = redact::normalise(text);
        object(json!({
            "stmt_c": content::statement_commitment(&self.key, text), "len": text.len(),
            "norm": content::clip(&normal, LONGEST_TEXT),
        }))
    }

    fn line(&mut self, kind: &str, members: serde_json::Map<String, Value>, now: Moment) -> Result<Line, LogError> {
        Ok(self.chain.append(kind, now, now.since(self.opened), members.into_iter().collect())?)
    }

    async fn write(
        &mut self,
        kind: &str,
        members: serde_json::Map<String, Value>,
        now: Moment,
        is_durable: bool,
    ) -> Result<(), LogError> {
        let line = self.line(kind, members, now)?;
        match is_durable {
            true => self.log.append(line, self.session.as_str()).await.map(drop),
            false => self.log.append_soon(line, self.session.as_str()),
        }
    }
}

fn object(members: Value) -> serde_json::Map<String, Value> {
    match members {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    }
}
