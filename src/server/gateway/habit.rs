//! Programs run one transaction like the other. Where the last ones had as many turns as this one has by now, the
//! count that the COMMIT waits for goes to the target along with the last write, and so does the way to the disk.
//!
//! What must stay true: such a count is that of the COMMIT only where nothing came behind it that may call code, and
//! where no code of somebody's can be deferred to the commit: nothing that the transaction has locked to write has a
//! trigger that is, as a snapshot tells that is younger than the lock, and while it is locked none can be made.
//! Otherwise the target is asked again.

use super::counters;
use super::held::{Asked, Verdict};
use super::relay::Mode;
use super::seldom;
use super::session::{End, Session};
use crate::core::wire::frontend::{Frontend, Named};

/// How many turns transactions had that wrote: each ends with a Sync, or is a Query.
#[derive(Default)]
pub struct Habit {
    /// Those of the open one that are over.
    turns: u32,
    /// All of those before the COMMIT of the last two, the younger one first.
    last: [u32; 2],
    /// Code may have run that nobody has read, and what names stand for at the target only that knows.
    is_broken: bool,
    /// What the target has counted along with what ran last.
    pub counted: Option<Vec<Vec<Option<String>>>>,
}

impl Habit {
    /// Whether the COMMIT comes behind this turn, if the transaction is like the last two.
    fn is_last_turn(&self) -> bool {
        self.last == [self.turns.saturating_add(1); 2] && !self.is_broken
    }

    /// A turn is over, and the transaction goes on.
    pub fn goes_on(&mut self) {
        self.turns = self.turns.saturating_add(1);
    }

    /// The COMMIT comes next.
    fn commits(&mut self) {
        self.last = [self.turns, self.last[0]];
    }

    /// Nothing is asked ahead any more.
    pub fn breaks(&mut self) {
        self.is_broken = true;
    }

    /// The transaction is over.
    pub fn ended(&mut self) {
        self.turns = 0;
        self.counted = None;
    }
}

impl Session {
    /// Asks for counts along with a turn that tags are enough for, where the COMMIT is likely to come next.
    pub(super) fn ask_ahead(&mut self) -> bool {
        let is_likely = self.held.habit.is_last_turn();
        if is_likely {
            self.record.commits_soon();
            self.ask_counts(Asked::SoFar);
        }
        is_likely
    }

    /// Whatever comes behind such a count makes it worthless, unless it leads to nothing but a COMMIT: what is read,
    /// bound or described may call code before it runs.
    pub(super) fn comes_behind(&mut self, message: &Frontend<'_>) {
        if self.held.habit.counted.is_some() && !self.leads_to_commit(message) {
            self.held.habit.counted = None;
        }
    }

    fn leads_to_commit(&self, message: &Frontend<'_>) -> bool {
        let bound = |name: &str| self.portals.get(name).is_some_and(|bound| is_commit(&bound.text));
        match message {
            Frontend::Query(sql) => is_commit(sql),
            Frontend::Parse { sql, types, .. } => types.is_empty() && is_commit(sql),
            Frontend::Bind { statement: name, .. } | Frontend::Describe { what: Named::Statement, name } => {
                // A value may be of a type that checks it.
                let parsed = self.prepared.get(*name);
                parsed.is_some_and(|parsed| parsed.types.is_empty() && is_commit(&parsed.text))
            }
            Frontend::Describe { what: Named::Portal, name } | Frontend::Execute { portal: name, .. } => bound(name),
            Frontend::Close { .. } | Frontend::Flush | Frontend::Sync | Frontend::Terminate => true,
            Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail | Frontend::FunctionCall => false,
        }
    }

    /// Judges what is held before a COMMIT of the client's. False when it may not stand.
    pub(super) async fn judged_before_commit(&mut self, mode: Mode) -> Result<bool, End> {
        self.held.habit.commits();
        if let Some(rows) = self.held.habit.counted.take().filter(|rows| self.is_counted_by(rows))
            && matches!(self.judge_counts(&rows, mode, Asked::SoFar).await?, Verdict::Stands)
        {
            return self.settle_by(Verdict::Stands, mode, Asked::BeforeCommit).await;
        }
        match mode {
            Mode::Extended => seldom(self.answered_so_far(Asked::BeforeCommit)).await,
            Mode::Simple => seldom(self.settle(mode, Asked::BeforeCommit)).await,
        }
    }

    /// Whether what was counted along with the last write is what a COMMIT would be counted for.
    fn is_counted_by(&self, rows: &[Vec<Option<String>>]) -> bool {
        // What is kept of rows before they change asks the target behind what the client has asked.
        let is_plain = self.is_all_told() && self.held.undo.is_none();
        let counted = counters::read(rows, "now");
        is_plain && counted.is_some_and(|all| !all.iter().any(|one| one.may_defer))
    }
}

/// Whether a text is a COMMIT and nothing else, as programs write it.
fn is_commit(sql: &str) -> bool {
    let mut words = sql.trim().trim_end_matches(';').split_ascii_whitespace();
    let is_any = |word: &str, of: [&str; 2]| of.iter().any(|one| word.eq_ignore_ascii_case(one));
    words.next().is_some_and(|word| is_any(word, ["commit", "end"]))
        && words.next().is_none_or(|word| is_any(word, ["work", "transaction"]))
        && words.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_transactions_that_are_alike_make_a_habit() {
        let mut habit = Habit::default();
        let mut transaction = |turns: usize| -> Vec<bool> {
            let mut turn = || {
                let is_last = habit.is_last_turn();
                habit.goes_on();
                is_last
            };
            let likely = (0..turns).map(|_| turn()).collect();
            habit.commits();
            habit.ended();
            likely
        };
        assert_eq!(transaction(2), [false, false]);
        assert_eq!(transaction(2), [false, false]);
        assert_eq!(transaction(2), [false, true]);
        assert_eq!(transaction(3), [false, true, false]);
        assert_eq!(transaction(3), [false, false, false]);
        assert_eq!(transaction(1), [false]);
        assert_eq!(transaction(1), [false]);
        assert_eq!(transaction(1), [true]);
    }

    #[test]
    fn a_commit_is_known_by_its_words() {
        for sql in ["COMMIT", " commit work ;", "End Transaction;\n", "commit;;"] {
            assert!(is_commit(sql), "{sql}");
        }
        for sql in ["", ";", "commit and chain", "commit; select 1", "commit prepared 'a'", "commit -- no", "rollback"]
        {
            assert!(!is_commit(sql), "{sql}");
        }
    }
}
