//! One line for a statement that is run many times: the rows that a driver sends as a batch differ in
//! their parameters alone, and mostly end alike.
//!
//! What must stay true: a run is in the log before anything of it is sent, and before every line that
//! comes after it; of a run that was given up before it was written nothing has been sent or counted.

use std::sync::Arc;

use super::log::LogError;
use super::session::{Protocol, Recorded, ResultRecord, Said, SessionRecord, count};
use super::settle::Due;
use super::writer::Pending;
use crate::core::policy::Cleared;
use crate::core::statement::facts::Facts;
use crate::core::time::Moment;
use crate::core::transcript::canonical::Members;
use crate::core::transcript::{Domain, LONGEST, LONGEST_RUN};

/// Longer texts have a line each.
const LONGEST_TEXT: usize = 2048;
/// What every line has beside its members, and how often the statement ran.
const REST: usize = 512;
/// A commitment in a list.
const BOUND: usize = 67;

/// How many statements may share a line that has so many bytes before what was bound.
fn most_of(bytes: usize) -> u64 {
    count(LONGEST.saturating_sub(REST + bytes) / BOUND).clamp(1, LONGEST_RUN)
}

/// A line that may yet grow.
pub(super) struct Run {
    first: u64,
    length: u64,
    now: Moment,
    what: What,
    /// The text of the statement, or the tag of its result: the same for all.
    text: String,
    /// The line so far.
    members: Members,
    /// Commitments to what was bound, of one statement after the other.
    parameters: Vec<[u8; 32]>,
}

/// What it is a line of.
#[derive(Default)]
enum What {
    #[default]
    Nothing,
    Statements {
        facts: Arc<Facts>,
        due: Due,
    },
    Results {
        rows_digest: [u8; 32],
        transaction: char,
        micros: u64,
    },
}

/// Whether a statement has returned nothing.
fn is_empty(result: &ResultRecord<'_>) -> bool {
    result.rows == 0 && result.bytes == 0 && result.columns.is_empty() && result.masked.is_empty()
}

/// Whether statements like this one may share a line.
pub(super) fn may_grow(said: &Said<'_>) -> bool {
    said.forwarded.is_none() && said.parameters.is_some() && said.text.len() <= LONGEST_TEXT
}

impl Run {
    fn new(now: Moment) -> Self {
        let (text, members, parameters) = Default::default();
        Self { first: 0, length: 0, now, what: What::Nothing, text, members, parameters }
    }

    /// Whether its line must be durable by then.
    fn is_due(&self, by: Due) -> bool {
        matches!(self.what, What::Statements { due, .. } if due == by)
    }

    /// Whether the next statement is this one again.
    fn takes_statement(&self, text: &str, facts: &Arc<Facts>) -> bool {
        let is_same = matches!(&self.what, What::Statements { facts: own, .. } if Arc::ptr_eq(own, facts));
        is_same && self.text == text && self.length < most_of(self.members.bytes())
    }

    /// Whether the next statement has ended just like those before it.
    fn takes_result(&self, number: u64, result: &ResultRecord<'_>) -> bool {
        let is_same = matches!(self.what, What::Results { rows_digest, transaction, .. }
            if (rows_digest, transaction) == (result.rows_digest, result.transaction));
        is_same && self.length < LONGEST_RUN && number == self.first + self.length && self.text == result.tag
    }

    /// Adds what is known only now that the run has ended.
    fn finish(&mut self) {
        if self.length > 1 {
            self.members.number("times", self.length);
        }
        match (&self.what, self.parameters.as_slice()) {
            (What::Statements { .. }, [one]) => drop(self.members.hex("par_c", one)),
            (What::Statements { .. }, all) => drop(self.members.hexes("par_c", all)),
            (What::Results { micros, .. }, _) => drop(self.members.number("us", *micros)),
            (What::Nothing, _) => {}
        }
    }

    const fn kind(&self) -> &'static str {
        match self.what {
            What::Results { .. } => "result",
            What::Statements { .. } | What::Nothing => "stmt",
        }
    }
}

impl SessionRecord {
    /// Records a statement of the extended protocol; its line waits for more of the same until it has
    /// to be [written](Self::written).
    pub(super) async fn run_on(
        &mut self,
        cleared: &Cleared,
        said: Said<'_>,
        due: Due,
        now: Moment,
    ) -> Result<Recorded, LogError> {
        let (facts, parameters) = (cleared.shared_facts(), said.parameters.unwrap_or_default());
        let is_due = self.run.as_ref().is_some_and(|run| run.is_due(due));
        if let Some(recorded) = is_due.then(|| self.again(said.text, &facts, parameters, now)).flatten() {
            return Ok(recorded);
        }
        self.written().await?;
        self.statement(self.statements + 1, 0, &facts, Protocol::Extended);
        self.members.text("dec", "allow");
        self.text(said.text, said.wording);
        let what = What::Statements { facts: facts.clone(), due };
        self.begin_run(self.statements + 1, said.text, what, now);
        self.again(said.text, &facts, parameters, now).ok_or(LogError::Nothing)
    }

    /// Records the same statement again, with other values, where its line still grows. Nothing where it has to be
    /// [recorded](Self::allowed) for itself.
    pub fn again(&mut self, text: &str, facts: &Arc<Facts>, parameters: &[u8], now: Moment) -> Option<Recorded> {
        let run = self.run.as_mut().filter(|run| run.takes_statement(text, facts))?;
        run.parameters.push(self.key.commitment(Domain::Parameters, parameters));
        (run.length, run.now) = (run.length + 1, now);
        Some(Recorded::of(self.statements + run.length))
    }

    /// Takes in how statements ended, `most` of them one behind the other, where they ended just like the one
    /// before them, which returned nothing. How many were: those behind have to be [recorded](Self::result_of_many).
    pub fn go_on(&mut self, number: u64, part: u32, result: &ResultRecord<'_>, most: usize, now: Moment) -> usize {
        let run = self.run.as_mut().filter(|run| part == 0 && run.takes_result(number, result));
        let Some(run) = run.filter(|_| is_empty(result)) else { return 0 };
        let times = most.min(usize::try_from(LONGEST_RUN - run.length).unwrap_or(0));
        (run.length, run.now) = (run.length + count(times), now);
        if let What::Results { micros, .. } = &mut run.what {
            *micros = result.micros;
        }
        times
    }

    /// Records how a statement ended; a line of one that returned nothing waits for more of the same
    /// until it has to be [written](Self::written).
    ///
    /// # Errors
    /// When the log takes nothing.
    pub async fn result_of_many(
        &mut self,
        number: u64,
        part: u32,
        result: ResultRecord<'_>,
        now: Moment,
    ) -> Result<(), LogError> {
        if part > 0 || !is_empty(&result) || result.tag.len() > LONGEST_TEXT {
            return self.result(number, part, result, now).await;
        }
        self.written().await?;
        let (rows_digest, transaction, micros) = (result.rows_digest, result.transaction, result.micros);
        self.ended(number, part, &result);
        self.begin_run(number, result.tag, What::Results { rows_digest, transaction, micros }, now);
        if let Some(run) = self.run.as_mut() {
            run.length = 1;
        }
        Ok(())
    }

    /// Queues the line that may have grown, if there is one.
    ///
    /// # Errors
    /// When the log does not take it: then none of the run was sent.
    pub async fn written(&mut self) -> Result<(), LogError> {
        let Some(run) = self.finished_run() else { return Ok(()) };
        let pending = self.queue(run.kind(), run.now).await?;
        self.end_run(run, pending);
        Ok(())
    }

    /// The same, small in the futures of those who wait for it.
    ///
    /// # Errors
    /// As [`Self::written`].
    pub async fn grown(&mut self) -> Result<(), LogError> {
        match self.run {
            Some(_) => Box::pin(self.written()).await,
            None => Ok(()),
        }
    }

    /// Queues how statements ended, where nothing more of the same is to come soon; what has yet to be sent may
    /// grow on.
    ///
    /// # Errors
    /// As [`Self::written`].
    pub async fn ended_so_far(&mut self) -> Result<(), LogError> {
        match &self.run {
            Some(run) if matches!(run.what, What::Results { .. }) => Box::pin(self.written()).await,
            Some(_) | None => Ok(()),
        }
    }

    /// The same for those who cannot wait.
    pub(super) fn written_now(&mut self) -> Result<(), LogError> {
        let Some(run) = self.finished_run() else { return Ok(()) };
        let pending = self.queue_now(run.kind(), run.now)?;
        self.end_run(run, pending);
        Ok(())
    }

    /// Begins a run with the line that was begun.
    fn begin_run(&mut self, first: u64, text: &str, what: What, now: Moment) {
        let mut run = self.spare_run.take().unwrap_or_else(|| Box::new(Run::new(now)));
        std::mem::swap(&mut run.members, &mut self.members);
        run.text.push_str(text);
        (run.first, run.length, run.what) = (first, 0, what);
        self.run = Some(run);
    }

    /// Ends the run; its members are those of the next line.
    fn finished_run(&mut self) -> Option<Box<Run>> {
        let mut run = self.run.take()?;
        run.finish();
        std::mem::swap(&mut run.members, &mut self.members);
        Some(run)
    }

    /// Counts what is in the queue now.
    fn end_run(&mut self, mut run: Box<Run>, pending: Pending) {
        let numbers = run.first..run.first + run.length;
        match std::mem::take(&mut run.what) {
            What::Statements { due, .. } => {
                self.statements += run.length;
                self.outstanding.insert_run(numbers);
                self.unsettled.note(pending, due);
            }
            What::Results { .. } => self.outstanding.remove_run(numbers),
            What::Nothing => {}
        }
        run.text.clear();
        run.parameters.clear();
        run.members.clear();
        self.spare_run = Some(run);
    }

    /// Nothing goes on: gives back what runs were put together in.
    pub fn rest(&mut self) {
        self.spare_run = None;
    }
}
