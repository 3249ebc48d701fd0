//! What of a script stands: which statements were committed, and which were rolled back with their transaction.
//!
//! It follows from what the server says after each statement: whether a transaction is open, and the tag of
//! what ended it. The text tells only which savepoint is meant; where it does not, what became of statements behind
//! one is not known. Statements are counted from 0.

use std::ops::Range;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use crate::core::statement::facts::TransactionVerb;
use crate::core::statement::local::{self, Look};

/// What became of a statement that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stands,
    RolledBack,
    /// The link was lost while its transaction was being committed, or it went back to nobody knows which savepoint.
    Unknown,
}

/// What a text says of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    verb: Option<TransactionVerb>,
    /// Where the text tells it.
    savepoint: Option<String>,
}

impl Control {
    /// Reads one statement.
    pub fn of(sql: &str) -> Self {
        let Look::Facts(facts) = local::look(sql) else { return Self::default() };
        let verb = facts.first().and_then(|facts| facts.transaction);
        Self { verb, savepoint: verb.and_then(|_| last_name(sql)) }
    }

    /// Whether it is to commit a transaction.
    pub fn commits(&self) -> bool {
        self.verb == Some(TransactionVerb::Commit)
    }
}

/// The name at the end of a text, as PostgreSQL folds it.
fn last_name(sql: &str) -> Option<String> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().ok()?;
    let mut told = tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon));
    match told.next_back()? {
        Token::Word(word) if word.quote_style.is_some() => Some(word.value),
        Token::Word(word) => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Follows a session from statement to statement.
#[derive(Debug, Default)]
pub struct Standing {
    /// The first statement of the transaction that is open.
    began: Option<usize>,
    /// By name, where it is known.
    savepoints: Vec<(Option<String>, usize)>,
    /// One was released, and nobody knows which.
    is_unsure: bool,
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
        let ends = ends || tag == Some("COMMIT");
        if status == b'I' || ends {
            let is_kept = matches!(tag, Some("COMMIT" | "PREPARE TRANSACTION"));
            // A COMMIT of what has failed says ROLLBACK, and has not done what it was for.
            let end = if control.commits() && tag.is_some() { statement + 1 } else { statement };
            if !is_kept {
                self.fates.push((began..end, Fate::RolledBack));
            }
            self.savepoints.clear();
            self.is_unsure = false;
            // AND CHAIN begins the next.
            self.began = (status != b'I').then_some(statement + 1);
            return;
        }
        if let Some(tag) = tag {
            self.mark(began, statement, control, tag);
        }
    }

    /// Savepoints of a transaction that goes on: the tag tells what was done, the text to which.
    fn mark(&mut self, began: usize, statement: usize, control: &Control, tag: &str) {
        let name = &control.savepoint;
        let is_known = name.is_some() && !self.is_unsure && self.savepoints.iter().all(|(name, _)| name.is_some());
        let named = self.savepoints.iter().rposition(|(other, _)| other == name).filter(|_| is_known);
        match tag {
            "SAVEPOINT" => self.savepoints.push((name.clone(), statement)),
            "RELEASE" => match named {
                Some(at) => self.savepoints.truncate(at),
                None => self.is_unsure = true,
            },
            "ROLLBACK" => {
                let kept = named.and_then(|at| self.savepoints.get(at));
                self.fates.push(match kept {
                    Some((_, at)) => (at + 1..statement, Fate::RolledBack),
                    // It may have begun anew altogether.
                    None => (began..statement, Fate::Unknown),
                });
                match named {
                    Some(at) => self.savepoints.truncate(at + 1),
                    None => self.is_unsure = true,
                }
            }
            _ => {}
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
        let mut told = self.fates.iter().filter(|(range, _)| range.contains(&statement)).map(|(_, fate)| *fate);
        match told.clone().any(|fate| fate == Fate::RolledBack) {
            true => Fate::RolledBack,
            false => told.next().unwrap_or(Fate::Stands),
        }
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
    fn comments_are_no_names_and_what_a_name_does_not_tell_is_not_known() {
        let at = |sql: &'static str| (sql, "SAVEPOINT", b'T');
        let back = |sql: &'static str| (sql, "ROLLBACK", b'T');
        let end = ("commit", "COMMIT", b'I');
        let said = [BEGIN, at("savepoint a /* s */"), WRITE, at("-- the \"old\" one\nsavepoint b -- s"), WRITE];
        assert_eq!(fates(&[&said[..], &[back("rollback to a /* s */"), end]].concat()), "++---++");
        assert_eq!(fates(&[&said[..], &[back("/* x */ rollback to b"), end]].concat()), "++++-++");
        let spelled = [BEGIN, at("savepoint U&\"a\""), WRITE, back("rollback to U&\"a\""), WRITE];
        assert_eq!(fates(&[&spelled[..], &[end]].concat()), "???+++");
        assert_eq!(fates(&[&spelled[..], &[("rollback", "ROLLBACK", b'I')]].concat()), "-----+");
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
