//! What of a script stands: which statements were committed, and which were rolled back with their transaction.
//!
//! It follows from what the server says after each statement: whether a transaction is open, and the tag of
//! what ended it. The text tells only which savepoint is meant. Statements are counted from 0.

use std::ops::Range;

use crate::core::statement::facts::TransactionVerb;
use crate::core::statement::local::{self, Look};

/// What became of a statement that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stands,
    RolledBack,
    /// The link was lost while its transaction was being committed.
    Unknown,
}

/// What a text says of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    verb: Option<TransactionVerb>,
    savepoint: String,
}

impl Control {
    /// Reads one statement.
    pub fn of(sql: &str) -> Self {
        let Look::Facts(facts) = local::look(sql) else { return Self::default() };
        let verb = facts.first().and_then(|facts| facts.transaction);
        Self { verb, savepoint: if verb.is_some() { last_name(sql) } else { String::new() } }
    }

    /// Whether it is to commit a transaction.
    pub fn commits(&self) -> bool {
        self.verb == Some(TransactionVerb::Commit)
    }
}

/// The name at the end of a text, as PostgreSQL folds it.
fn last_name(sql: &str) -> String {
    let text = sql.trim_end_matches(|letter: char| letter.is_whitespace() || letter == ';');
    match text.strip_suffix('"').and_then(|quoted| quoted.split_once('"')) {
        Some((_, name)) => name.to_owned(),
        None => text.rsplit(char::is_whitespace).next().unwrap_or_default().to_ascii_lowercase(),
    }
}

/// Follows a session from statement to statement.
#[derive(Debug, Default)]
pub struct Standing {
    /// The first statement of the transaction that is open.
    began: Option<usize>,
    savepoints: Vec<(String, usize)>,
    fates: Vec<(Range<usize>, Fate)>,
}

impl Standing {
    /// Takes in how a statement ended: its tag, unless it failed, and what the server said of transactions
    /// after it (`I` none is open, `T` one is, `E` one has failed).
    pub fn ran(&mut self, statement: usize, control: &Control, tag: Option<&str>, status: u8) {
        let Some(began) = self.began else {
            self.began = (status != b'I').then_some(statement);
            return;
        };
        let ends = matches!(control.verb, Some(TransactionVerb::Commit | TransactionVerb::Rollback)) && tag.is_some();
        if status == b'I' || ends {
            let is_kept = matches!(tag, Some("COMMIT" | "PREPARE TRANSACTION"));
            // A COMMIT of what has failed says ROLLBACK, and has not done what it was for.
            let end = if control.commits() && tag.is_some() { statement + 1 } else { statement };
            if !is_kept {
                self.fates.push((began..end, Fate::RolledBack));
            }
            self.savepoints.clear();
            // AND CHAIN begins the next.
            self.began = (status != b'I').then_some(statement + 1);
            return;
        }
        if tag.is_some() {
            self.mark(statement, control);
        }
    }

    /// Savepoints of a transaction that goes on.
    fn mark(&mut self, statement: usize, control: &Control) {
        let named = self.savepoints.iter().rposition(|(name, _)| *name == control.savepoint);
        match control.verb {
            Some(TransactionVerb::Savepoint) => self.savepoints.push((control.savepoint.clone(), statement)),
            Some(TransactionVerb::Release) => self.savepoints.truncate(named.unwrap_or(self.savepoints.len())),
            Some(TransactionVerb::RollbackTo) => {
                // One that is not known by name is taken for the oldest: less stands than may be thought.
                let kept = named.unwrap_or(0) + 1;
                let from = self.savepoints.get(kept - 1).map_or(statement, |(_, at)| at + 1);
                self.fates.push((from..statement, Fate::RolledBack));
                self.savepoints.truncate(kept);
            }
            Some(
                TransactionVerb::Begin
                | TransactionVerb::Commit
                | TransactionVerb::Rollback
                | TransactionVerb::TwoPhase,
            )
            | None => {}
        }
    }

    /// The session has ended, or was lost while this ran: what was open was rolled back, unless it was being
    /// committed.
    pub fn ended(&mut self, running: Option<&Control>) {
        if let Some(began) = self.began.take() {
            let fate = if running.is_some_and(Control::commits) { Fate::Unknown } else { Fate::RolledBack };
            self.fates.push((began..usize::MAX, fate));
        }
    }

    /// The first statement of the transaction that is open.
    pub fn open_from(&self) -> Option<usize> {
        self.began
    }

    /// What became of a statement that ran, as far as is known now.
    pub fn of(&self, statement: usize) -> Fate {
        self.fates.iter().find(|(range, _)| range.contains(&statement)).map_or(Fate::Stands, |(_, fate)| *fate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of each statement: `+` stands, `-` rolled back, `?` not known. `!` is one that failed.
    fn fates(script: &[(&str, &str, u8)]) -> String {
        let mut standing = Standing::default();
        for (statement, (sql, tag, status)) in script.iter().enumerate() {
            standing.ran(statement, &Control::of(sql), (*tag != "!").then_some(*tag), *status);
        }
        standing.ended(None);
        let letter = |statement| match standing.of(statement) {
            Fate::Stands => '+',
            Fate::RolledBack => '-',
            Fate::Unknown => '?',
        };
        (0..script.len()).map(letter).collect()
    }

    const BEGIN: (&str, &str, u8) = ("begin", "BEGIN", b'T');
    const WRITE: (&str, &str, u8) = ("insert into t values (1)", "INSERT 0 1", b'T');
    const ALONE: (&str, &str, u8) = ("insert into t values (1)", "INSERT 0 1", b'I');
    const WRONG: (&str, &str, u8) = ("selec", "!", b'E');

    #[test]
    fn what_stands_alone_stands_and_what_is_left_open_does_not() {
        assert_eq!(fates(&[ALONE, ("selec", "!", b'I'), ALONE]), "+++");
        assert_eq!(fates(&[ALONE, BEGIN, WRITE]), "+--");
        assert_eq!(fates(&[ALONE, BEGIN, WRITE, WRONG]), "+---");
    }

    #[test]
    fn a_transaction_stands_by_its_commit_only() {
        assert_eq!(fates(&[BEGIN, WRITE, ("commit", "COMMIT", b'I'), ALONE]), "++++");
        assert_eq!(fates(&[BEGIN, WRITE, ("rollback", "ROLLBACK", b'I'), ALONE]), "--++");
        // What has failed cannot be committed, and a COMMIT may fail itself.
        assert_eq!(fates(&[BEGIN, WRITE, WRONG, ("commit", "ROLLBACK", b'I'), ALONE]), "----+");
        assert_eq!(fates(&[BEGIN, WRITE, ("end", "!", b'I'), ALONE]), "--++");
        assert_eq!(fates(&[BEGIN, WRITE, ("commit and chain", "COMMIT", b'T'), WRITE]), "+++-");
        assert_eq!(fates(&[BEGIN, WRITE, ("rollback and chain", "ROLLBACK", b'T'), WRITE]), "--+-");
    }

    #[test]
    fn a_savepoint_keeps_what_stands_before_it() {
        let at = |sql: &'static str| (sql, "SAVEPOINT", b'T');
        let back = |sql: &'static str| (sql, "ROLLBACK", b'T');
        let end = ("commit", "COMMIT", b'I');
        assert_eq!(fates(&[BEGIN, WRITE, at("savepoint a"), WRITE, back("rollback to A"), WRITE, end]), "+++-+++");
        let nested = [BEGIN, at("savepoint a"), WRITE, at("savepoint \"A\""), WRITE];
        assert_eq!(fates(&[&nested[..], &[back("rollback to savepoint \"A\";"), end]].concat()), "++++-++");
        assert_eq!(fates(&[&nested[..], &[back("rollback work to a"), end]].concat()), "++---++");
        // The last of a name is meant, and none that was released.
        let again = [BEGIN, at("savepoint a"), WRITE, at("savepoint a"), WRITE];
        assert_eq!(fates(&[&again[..], &[back("rollback to a"), end]].concat()), "++++-++");
        let released = [("release a", "RELEASE", b'T'), back("rollback to a"), end];
        assert_eq!(fates(&[&again[..], &released].concat()), "++----++");
    }

    #[test]
    fn a_link_lost_in_a_commit_leaves_open_what_became_of_it() {
        for (sql, fate) in [("commit", Fate::Unknown), ("select 1", Fate::RolledBack)] {
            let mut standing = Standing::default();
            standing.ran(0, &Control::of("begin"), Some("BEGIN"), b'T');
            standing.ended(Some(&Control::of(sql)));
            assert_eq!(standing.of(0), fate);
        }
    }
}
