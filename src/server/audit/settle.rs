//! Recorded before it happens: what must be durable before something more is sent.
//!
//! What must stay true: the log keeps the order of its lines, so when one is durable, so are all
//! before it. Nothing goes to a target behind a line that must be durable and is not, and no commit
//! behind any line of what it makes stand.

use super::log::LogError;
use super::session::SessionRecord;
use super::writer::Pending;
use crate::core::policy::Cleared;
use crate::core::statement::facts::{Effect, TransactionVerb};
use crate::server::config::Durability;

/// By when the line of a statement must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Before it is sent.
    Sent,
    /// Before its transaction is asked to commit.
    Commit,
    /// Soon: nothing waits for it.
    Soon,
}

/// The last lines of which something waits.
#[derive(Default)]
pub(super) struct Unsettled {
    sent: Option<Pending>,
    commit: Option<Pending>,
    /// What is sent next may commit.
    commits: bool,
    /// But what is sent first only asks.
    asks: bool,
    /// A commit comes soon.
    hurries: bool,
    /// Lines that a commit will wait for, since the disk was asked for some last.
    gathered: u32,
}

/// So many lines that a commit will wait for are worth a way to the disk of their own: a line of a batch may be 16 KiB.
const MANY: u32 = 16;

impl Unsettled {
    /// One more line is in the queue.
    pub fn note(&mut self, line: Pending, due: Due) {
        match due {
            Due::Sent => self.sent = Some(line),
            Due::Commit => {
                self.commit = Some(line);
                self.gathered = self.gathered.saturating_add(1);
            }
            Due::Soon => {}
        }
    }

    /// What the next thing that is sent waits for.
    fn next(&mut self) -> Option<Pending> {
        if !std::mem::take(&mut self.asks) && std::mem::take(&mut self.commits) {
            self.gathered = 0;
            self.sent = self.sent.max(self.commit.take());
        }
        self.sent
    }
}

impl SessionRecord {
    /// By when the line of these statements must be durable.
    pub(super) fn due(&mut self, cleared: &[&Cleared], stands_at_commit: bool) -> Due {
        self.unsettled.commits |= cleared.iter().any(|one| one.facts().transaction == Some(TransactionVerb::Commit));
        let changes_nothing = |one: &&Cleared| match one.facts().effect {
            Effect::Read | Effect::Session | Effect::Transaction => true,
            Effect::Write | Effect::Ddl | Effect::Utility | Effect::Unknown => false,
        };
        match self.durability {
            Durability::Strict => Due::Sent,
            Durability::Writes if cleared.iter().all(changes_nothing) => Due::Soon,
            Durability::Writes if stands_at_commit => Due::Commit,
            Durability::Writes => Due::Sent,
        }
    }

    /// What is sent next may commit: all that it makes stand must be durable by then.
    pub fn commits(&mut self) {
        self.unsettled.commits = true;
    }

    /// What is sent next commits nothing, whatever was recorded: it asks the target for what the verdict on a commit
    /// needs.
    pub fn asks(&mut self) {
        self.unsettled.asks = true;
    }

    /// Waits until every recorded statement that must be durable before anything more is sent is so.
    pub async fn settled(&mut self) -> Result<(), LogError> {
        self.grown().await?;
        if let Some(last) = self.unsettled.next() {
            self.settled_to(last).await?;
            self.unsettled.sent = None;
        }
        Ok(())
    }

    /// The last line that must be durable before anything more is sent, and is not yet. It is on its way from
    /// here on: nobody has to wait.
    ///
    /// # Errors
    /// When the log takes nothing.
    pub async fn settling(&mut self) -> Result<Option<Pending>, LogError> {
        self.grown().await?;
        let last = self.unsettled.next().filter(|last| !self.is_settled(*last));
        if last.is_some() {
            self.log.hurry();
        }
        Ok(last)
    }

    /// A commit comes behind what is sent next.
    pub fn commits_soon(&mut self) {
        self.unsettled.hurries = true;
    }

    /// Something was sent: while the target works, what its commit will wait for goes to the disk, where that
    /// comes soon or much has gathered.
    pub fn hurries(&mut self) {
        let is_due = std::mem::take(&mut self.unsettled.hurries) || self.unsettled.gathered >= MANY;
        if is_due && self.unsettled.commit.is_some_and(|line| !self.is_settled(line)) {
            self.unsettled.gathered = 0;
            self.log.hurry();
        }
    }

    /// Whether what was recorded up to this line may run.
    pub fn is_settled(&self, line: Pending) -> bool {
        self.log.is_durable(line)
    }

    /// Waits for that. Cancel safe.
    pub async fn settled_to(&self, line: Pending) -> Result<(), LogError> {
        self.log.durable(line).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::facts::Facts;
    use crate::core::statement::grammar;
    use crate::server::audit::tests::{Folder, grant, open, session};
    use crate::server::audit::{Protocol, Said, Wording};
    use crate::sys::clock;

    fn cleared(sql: &str) -> Cleared {
        let facts = grammar::parse(sql).ok().and_then(|all| all.into_iter().next()).map(|one| one.facts);
        Cleared::assumed(facts.unwrap_or_else(|| Facts::plain(sql, Effect::Unknown)))
    }

    /// Records a text; whether sending it would wait.
    async fn waits(record: &mut SessionRecord, text: &str, protocol: Protocol, stands_at_commit: bool) -> bool {
        let (one, wording) = (cleared(text), Wording::of(text));
        let parameters = (protocol == Protocol::Extended).then_some(&b"1"[..]);
        let said = Said { text, wording: &wording, forwarded: None, parameters, stands_at_commit };
        record.allowed(&[&one], said, protocol, clock::now()).await.expect("recorded");
        record.grown().await.expect("queued");
        let Unsettled { sent, commit, commits, .. } = &record.unsettled;
        let waits = sent.is_some() || (*commits && commit.is_some());
        record.settled().await.expect("durable");
        waits
    }

    #[tokio::test]
    async fn what_its_transaction_makes_stand_is_durable_before_the_commit() {
        let folder = Folder::new();
        let log = open(&folder).await.expect("opened");
        let mut record = session(&log, &grant(None)).await;
        record.durability = Durability::Writes;
        for protocol in [Protocol::Simple, Protocol::Extended] {
            assert!(!waits(&mut record, "select 1", protocol, false).await);
            assert!(!waits(&mut record, "commit", protocol, false).await, "nothing is written");
            assert!(waits(&mut record, "insert into t values (1)", protocol, false).await);
            assert!(!waits(&mut record, "insert into t values (1)", protocol, true).await);
            let line = record.unsettled.commit.expect("one line");
            assert!(!waits(&mut record, "rollback", protocol, false).await);
            assert!(waits(&mut record, "commit", protocol, false).await);
            assert!(record.is_settled(line));
            // A Sync that commits has no line of its own.
            assert!(!waits(&mut record, "update t set a = 1", protocol, true).await);
            let line = record.unsettled.commit.expect("one line");
            record.commits();
            record.settled().await.expect("durable");
            assert!(record.is_settled(line) && record.unsettled.commit.is_none());
        }
        // What the verdict on a commit asks for does not wait for the disk; what comes behind it does.
        assert!(!waits(&mut record, "update t set a = 2", Protocol::Simple, true).await);
        let line = record.unsettled.commit.expect("one line");
        let (one, wording) = (cleared("commit"), Wording::of("commit"));
        let said =
            Said { text: "commit", wording: &wording, forwarded: None, parameters: None, stands_at_commit: false };
        record.allowed(&[&one], said, Protocol::Simple, clock::now()).await.expect("recorded");
        record.asks();
        assert_eq!(record.settling().await.expect("queued"), None);
        assert_eq!(record.unsettled.commit, Some(line));
        record.settled().await.expect("durable");
        assert!(record.is_settled(line) && record.unsettled.commit.is_none());
        record.durability = Durability::Strict;
        for sql in ["select 1", "insert into t values (1)", "begin"] {
            assert!(waits(&mut record, sql, Protocol::Simple, true).await, "{sql}");
        }
    }
}
