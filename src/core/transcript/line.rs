//! A line of a transcript, its hash as a leaf, and the chain that links a side's lines.
//!
//! Invariant: a [`Line`] is canonical, of version 1, and at most [`LONGEST`] bytes; only
//! [`Chain::append`] and [`Line::parse`] make one. Each line names the leaf hash of the one
//! before it, so one proof for the last line commits to all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::core::encoding;
use crate::core::grant::SessionId;
use crate::core::time::Moment;
use crate::core::transcript::canonical::{self, CanonicalError, Members};

/// The longest line in bytes, well below the 64 KiB that an entry of a C2SP tile may have.
pub const LONGEST: usize = 16 * 1024;
/// Statements that one line may stand for.
pub const LONGEST_RUN: u64 = 1024;

/// The members every line has; callers of [`Chain::append`] must not bring their own.
const COMMON: [&str; 7] = ["v", "k", "sid", "seq", "prev", "t", "m"];

/// SHA-256 of a zero byte and the line: the leaf hash of RFC 6962 section 2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf(pub [u8; 32]);

impl Leaf {
    /// What stands before the first line of a new log.
    pub const NONE: Self = Self([0; 32]);

    /// The leaf hash of a text.
    pub fn of(text: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update([0u8]);
        hash.update(text.as_bytes());
        Self(hash.finalize().into())
    }

    /// Lower-case hex, as it stands in lines.
    pub fn hex(&self) -> String {
        encoding::hex(&self.0)
    }

    /// Reads lower-case hex of 32 bytes.
    pub fn from_hex(text: &str) -> Option<Self> {
        encoding::unhex(text).map(Self)
    }
}

/// Why something is not a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("longer than {LONGEST} bytes")]
    TooLong,
    #[error("not in canonical form")]
    NotCanonical,
    #[error(transparent)]
    Value(#[from] CanonicalError),
    #[error("format version is not 1")]
    Version,
    #[error("member `{0}` is missing or of the wrong form")]
    Member(&'static str),
    #[error("member `{0}` is written by the chain itself")]
    Reserved(String),
}

/// One line: canonical text without its line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    text: String,
    leaf: Leaf,
}

impl Line {
    /// Reads a line; anything that is not canonical is refused.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        Event::parse(text).map(|event| event.line)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub const fn leaf(&self) -> Leaf {
        self.leaf
    }
}

/// A line together with what it says.
#[derive(Clone, Debug)]
pub struct Event {
    pub line: Line,
    pub kind: String,
    /// A session's ULID, or `~` and the instance for the log's own lines.
    pub session: String,
    pub sequence: u64,
    pub previous: Leaf,
    pub at: Moment,
    pub since_start: Duration,
    members: Map<String, Value>,
}

impl Event {
    /// Reads a line and the members every line has.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        if text.len() > LONGEST {
            return Err(LineError::TooLong);
        }
        let members = canonical::read(text).ok_or(LineError::NotCanonical)?;
        if members.get("v").and_then(Value::as_u64) != Some(1) {
            return Err(LineError::Version);
        }
        let string = |name: &'static str| members.get(name).and_then(Value::as_str).ok_or(LineError::Member(name));
        let number = |name: &'static str| members.get(name).and_then(Value::as_u64).ok_or(LineError::Member(name));
        let session = string("sid")?;
        if SessionId::parse(session).is_none() && !is_instance(session) {
            return Err(LineError::Member("sid"));
        }
        Ok(Self {
            line: Line { text: text.to_owned(), leaf: Leaf::of(text) },
            kind: string("k")?.to_owned(),
            session: session.to_owned(),
            sequence: number("seq")?,
            previous: Leaf::from_hex(string("prev")?).ok_or(LineError::Member("prev"))?,
            at: Moment::from_micros(i64::try_from(number("t")?).map_err(|_| LineError::Member("t"))?),
            since_start: Duration::from_micros(number("m")?),
            members,
        })
    }

    /// A member as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name)?.as_str()
    }

    /// A member as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.members.get(name)?.as_u64()
    }

    /// The numbers of the statements that the line is about: of a `stmt`, `result` or `skipped` as
    /// many as it has `times`.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        let first = self.number("no").unwrap_or(0);
        let times = match self.kind.as_str() {
            "stmt" | "result" | "skipped" => self.number("times").unwrap_or(1).clamp(1, LONGEST_RUN),
            _ => 1,
        };
        first..first.saturating_add(times)
    }

    /// A member as it is.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }
}

/// `~` and the instance's letters: the pseudo-session of a log's own lines.
fn is_instance(session: &str) -> bool {
    session.strip_prefix('~').is_some_and(|name| {
        (1..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

/// The state of one side's chain: makes the next line.
#[derive(Clone, Debug)]
pub struct Chain {
    session: String,
    sequence: u64,
    previous: Leaf,
    at: Moment,
    since_start: Duration,
}

impl Chain {
    /// The chain of a session; `first_prev` ties it to the grant (gateway) or to `session.open` (client).
    pub fn new(session: SessionId, first_prev: Leaf) -> Self {
        Self::begin(session.as_str().to_owned(), first_prev)
    }

    /// The chain of a log's own lines, for one run of the process. `instance` is upper-case letters and digits.
    pub fn for_log(instance: &str, first_prev: Leaf) -> Self {
        Self::begin(format!("~{instance}"), first_prev)
    }

    fn begin(session: String, previous: Leaf) -> Self {
        Self { session, sequence: 0, previous, at: Moment::from_micros(0), since_start: Duration::ZERO }
    }

    /// The chain that goes on after `last`.
    pub fn resume(last: &Event) -> Self {
        Self {
            session: last.session.clone(),
            sequence: last.sequence.saturating_add(1),
            previous: last.line.leaf(),
            at: last.at,
            since_start: last.since_start,
        }
    }

    /// Makes the next line and moves on to it.
    ///
    /// A clock that was set back does not run backwards here: `t` stays where it was, and `m`,
    /// which is measured by a monotonic clock, tells the true distance.
    pub fn append(
        &mut self,
        kind: &str,
        at: Moment,
        since_start: Duration,
        members: BTreeMap<String, Value>,
    ) -> Result<Line, LineError> {
        let line = self.next(kind, at, since_start, members)?;
        self.advance(&line, at, since_start);
        Ok(line)
    }

    /// The next line, without moving on: for callers that may fail to store it.
    pub fn next(
        &self,
        kind: &str,
        at: Moment,
        since_start: Duration,
        mut members: BTreeMap<String, Value>,
    ) -> Result<Line, LineError> {
        if let Some(reserved) = COMMON.iter().find(|name| members.contains_key(**name)) {
            return Err(LineError::Reserved((*reserved).to_owned()));
        }
        let elapsed = self.since_start.max(since_start).as_micros();
        members.insert("v".into(), 1.into());
        members.insert("k".into(), kind.into());
        members.insert("sid".into(), self.session.as_str().into());
        members.insert("seq".into(), self.sequence.into());
        members.insert("prev".into(), self.previous.hex().into());
        members.insert("t".into(), self.at.max(at).micros().into());
        members.insert("m".into(), u64::try_from(elapsed).unwrap_or(u64::MAX).into());
        Self::line(canonical::object(&members)?)
    }

    /// The same from members that are canonical text already: for lines that are many. The members
    /// are gone then, whether there is a line or not.
    pub fn next_of(
        &self,
        kind: &str,
        at: Moment,
        since_start: Duration,
        members: &mut Members,
    ) -> Result<Line, LineError> {
        let elapsed = self.since_start.max(since_start).as_micros();
        members.number("v", 1).text("k", kind).text("sid", &self.session).number("seq", self.sequence);
        members.hex("prev", &self.previous.0).number("m", u64::try_from(elapsed).unwrap_or(u64::MAX));
        members.number("t", u64::try_from(self.at.max(at).micros()).unwrap_or(0));
        // Two of one name are refused: callers bring none of these.
        Self::line(members.object()?)
    }

    fn line(text: String) -> Result<Line, LineError> {
        if text.len() > LONGEST {
            return Err(LineError::TooLong);
        }
        let leaf = Leaf::of(&text);
        Ok(Line { text, leaf })
    }

    /// Moves on to a line that [`Chain::next`] made with the same moments.
    pub fn advance(&mut self, line: &Line, at: Moment, since_start: Duration) {
        self.sequence = self.sequence.saturating_add(1);
        self.previous = line.leaf();
        self.at = self.at.max(at);
        self.since_start = self.since_start.max(since_start);
    }

    /// Whether `event` may stand next in this chain, and what is wrong if not.
    pub fn admit(&mut self, event: &Event) -> Result<(), &'static str> {
        if event.session != self.session {
            return Err("it belongs to another session");
        }
        if event.sequence != self.sequence {
            return Err("its sequence number does not follow");
        }
        if event.previous != self.previous {
            return Err("it does not name the hash of the line before it");
        }
        if event.at < self.at || event.since_start < self.since_start {
            return Err("its time is before that of the line before it");
        }
        *self = Self::resume(event);
        Ok(())
    }

    /// The name in `sid`.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The leaf of the last line; before the first line, what was given to [`Chain::new`].
    pub const fn previous(&self) -> Leaf {
        self.previous
    }

    /// How many lines there are.
    pub const fn length(&self) -> u64 {
        self.sequence
    }
}
