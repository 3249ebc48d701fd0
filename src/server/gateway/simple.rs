//! The simple protocol: one Query message, any number of statements.
//!
//! Upstream it is the extended protocol in one implicit transaction; the client sees what simple
//! protocol shows. All statements are judged before the first one runs, but for those behind a change
//! of names: see `moved`.

use std::sync::Arc;

use super::account::with_approved;
use super::aside;
use super::ask::Leftover;
use super::foresee::Foreseen;
use super::held::Asked;
use super::relay::Mode;
use super::seldom;
use super::session::{End, Session};
use crate::core::policy::Denial;
use crate::core::session::Owner;
use crate::core::statement::grammar::{self, GrammarError, Statement};
use crate::core::wire::backend;
use crate::core::wire::frame;
use crate::core::wire::frontend::{self, Named};
use crate::server::audit::{Protocol, Said, Wording};
use crate::server::check::{Hold, Planned, refused};
use crate::server::decisions::Decided;
use crate::sys::clock;

impl Session {
    /// Serves one Query message; where people must be asked and the client can wait, that too.
    pub(super) async fn simple(&mut self, sql: &str) -> Result<(), End> {
        self.attempt(sql).await?;
        self.people.forget();
        self.after_statement().await;
        match self.people.waiting.take() {
            Some(waiting) => seldom(self.wait_for_people(waiting, sql)).await,
            None => Ok(()),
        }
    }

    /// Runs a Query message as far as it may run.
    async fn attempt(&mut self, sql: &str) -> Result<(), End> {
        if !self.pipeline.is_empty() && !seldom(self.answered_before()).await? {
            return Ok(());
        }
        self.prepared.remove("");
        self.portals.remove("");
        if !self.refresh_for(sql, Mode::Simple).await? {
            return Ok(());
        }
        self.follow_policy();
        let is_using = self.people.lift.is_some();
        let known = aside::judge(sql.len(), || self.context.find(sql)).filter(|decided| self.goes_on_with(decided));
        let (decided, behind) = match known {
            Some(decided) => (decided, Vec::new()),
            None => match seldom(self.decide(sql)).await? {
                Some(stage) => stage,
                None => return Ok(()),
            },
        };
        let statements = &decided.statements;
        // One approval lets one statement through, not what travels with it.
        if is_using && !statements.iter().all(|(planned, _)| self.people.lets_ride(planned)) {
            return seldom(self.refuse(&with_approved(), sql)).await;
        }
        let cleared: Vec<_> = statements.iter().map(|(planned, _)| &planned.cleared).collect();
        let forwarded = forwarded(statements);
        let stands_at_commit = matches!(statements.as_slice(), [(one, _)] if self.stands_at_commit(one));
        let (wording, forwarded) = (&decided.wording, forwarded.as_deref());
        let said = Said { text: sql, wording, forwarded, parameters: None, stands_at_commit };
        let recorded = self.record.allowed(&cleared, said, Protocol::Simple, clock::now()).await?;
        let number = recorded.number();
        if self.run_all(statements, number, 0, !behind.is_empty()).await? && !behind.is_empty() {
            seldom(self.run_behind(sql, number, behind, statements.len())).await?;
        }
        Ok(())
    }

    /// Runs the statements of a Query from this part on. False when the rest of it must not run.
    pub(super) async fn run_all(
        &mut self,
        statements: &[(Arc<Planned>, u32)],
        number: u64,
        first: usize,
        has_more: bool,
    ) -> Result<bool, End> {
        for (at, (planned, before)) in statements.iter().enumerate() {
            let index = first + at;
            let part = Part {
                number,
                index: u32::try_from(index).unwrap_or(u32::MAX),
                before: *before,
                is_first: index == 0,
                is_last: at + 1 == statements.len() && !has_more,
            };
            if !self.run(&self.as_its_cursor(planned.clone()), part).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Judges a text that is not known yet, as far as it can be judged by now. Nothing when the client
    /// has been answered.
    async fn decide(&mut self, sql: &str) -> Result<Option<Stage>, End> {
        let statements = match aside::judge(sql.len(), || grammar::parse(sql)) {
            Ok(statements) => statements,
            Err(GrammarError::Syntax(_)) => {
                self.explain_syntax(sql).await?;
                return Ok(None);
            }
            Err(error) => {
                self.refuse(&refused(error.code(), &error.to_string(), error.way_out()), sql).await?;
                return Ok(None);
            }
        };
        if statements.is_empty() {
            self.record.nothing(sql, Protocol::Simple, clock::now()).await?;
            frame::write(self.client.out(), b'I', |_| ());
            backend::write_ready(self.status, self.client.out());
            return Ok(None);
        }
        let is_single = statements.len() == 1 && self.people.lift.is_none();
        let alone = statements.first().filter(|one| is_single && self.is_alone(&one.facts));
        if let Some(statement) = alone
            && !self.claim(&statement.text, &statement.facts, None, Mode::Simple).await?
        {
            seldom(self.record_unread(sql, Protocol::Simple)).await?;
            backend::write_ready(self.status, self.client.out());
            return Ok(None);
        }
        let planned =
            match aside::judge(sql.len(), || self.plan_all(statements.iter(), statements.len() > 1, alone.is_some())) {
                Ok(planned) => planned,
                Err(denial) => {
                    self.refuse_or_ask(&denial, sql, alone.map(|one| &one.facts)).await?;
                    return Ok(None);
                }
            };
        if let Some(denial) = self.untriable(&planned) {
            self.refuse(&denial, sql).await?;
            return Ok(None);
        }
        let planned: Vec<_> = planned.into_iter().map(Arc::new).collect();
        if let (Some(statement), Some(planned)) = (alone, planned.first()) {
            self.people.begin(planned, &Arc::from(statement.text.as_str()), None);
        }
        let (mut counted, mut characters) = (0, 0);
        let mut before = |statement: &Statement| {
            characters += sql.get(counted..statement.start).unwrap_or("").chars().count();
            counted = statement.start;
            u32::try_from(characters).unwrap_or(0)
        };
        let placed = statements.iter().zip(planned).map(|(statement, one)| (one, before(statement))).collect();
        let decided = Arc::new(Decided { statements: placed, wording: Arc::new(Wording::of(sql)) });
        let behind = statements.into_iter().skip(decided.statements.len());
        let behind: Vec<_> = behind.map(|statement| (before(&statement), statement)).collect();
        if behind.is_empty() {
            aside::judge(sql.len(), || self.remember(sql, &decided));
        }
        Ok(Some((decided, behind)))
    }

    /// Whether what is known of a text is all that matters: not where a part of it was approved, or is only tried.
    fn goes_on_with(&mut self, decided: &Decided) -> bool {
        if self.people.trying.is_some() || self.has_stages(decided) {
            return false;
        }
        match decided.statements.as_slice() {
            [(one, _)] if one.hold.is_counted() && self.is_alone(one.cleared.facts()) => {
                // What people let through is planned with what they said.
                if one.is_spliced || self.people.lift.is_some() || self.may_be_approved(&one.forward) {
                    return false;
                }
                self.people.begin(one, &Arc::from(one.forward.as_str()), None);
                true
            }
            _ => true,
        }
    }

    /// Remembers what policy alone has decided. What people let through is for this once.
    pub(super) fn remember(&self, sql: &str, decided: &Arc<Decided>) {
        if self.people.lift.is_none() {
            self.context.remember(sql, decided);
        }
    }

    /// Runs one statement; false when the rest of the string must not run.
    async fn run(&mut self, planned: &Arc<Planned>, part: Part) -> Result<bool, End> {
        if self.is_lent(planned) {
            seldom(self.run_lent(planned, part.number)).await?;
            backend::write_ready(self.status, self.client.out());
            return Ok(false);
        }
        if self.ends_block(planned) && !seldom(self.judged_before_commit(Mode::Simple)).await? {
            return Ok(false);
        }
        if let Err(denial) = self.guard(planned, part.number, part.index) {
            seldom(self.veto(&denial, Some((part.number, part.index)), Mode::Simple)).await?;
            return Ok(false);
        }
        if !part.is_last {
            self.held.goes_on();
        }
        self.begin(part.number, part.index, planned, part.before);
        self.is_dirty = true;
        let foreseen = self.foresee(planned, Mode::Simple).await?;
        if !matches!(foreseen, Foreseen::GoOn) {
            seldom(self.stop_foreseen(foreseen, part)).await?;
            return Ok(false);
        }
        self.holds_tags = true;
        // Behind a COPY nothing may be sent before its data; behind a held write nothing before the verdict.
        let counting = self.counting(planned, part);
        let goes_at_once = part.is_last && !self.awaits_commit() && planned.cleared.facts().copy.is_none();
        let mut is_ahead = false;
        match goes_at_once {
            true if part.is_first && is_whole(planned) => {
                self.ask_query(&planned.forward);
                self.leftover = Leftover::default();
            }
            true => {
                self.ask_statement(planned);
                self.ask_sync(Owner::Client);
            }
            false => {
                self.ask_statement(planned);
                counting.into_iter().for_each(|asked| self.ask_counts(asked));
                is_ahead = part.is_last && self.is_told_in_block() && self.ask_ahead();
                frontend::flush(&mut self.up);
            }
        }
        let mut drained = self.round(Mode::Simple).await?;
        self.note_plan(&mut drained.rows);
        self.holds_tags = false;
        if let Some((number, part, tag)) = drained.wrong_tag {
            seldom(self.wrong_tag(number, part, &tag, Mode::Simple)).await?;
            return Ok(false);
        }
        if goes_at_once {
            if self.stop.is_silent() {
                seldom(self.end_silence(Mode::Simple)).await?;
            }
            self.after_sync();
            return Ok(!drained.failed);
        }
        if drained.failed {
            seldom(self.close_failed(Mode::Simple)).await?;
            return Ok(false);
        }
        let is_settled = match part.is_last && self.commits_at_sync() {
            _ if let Some(asked) = counting => seldom(self.settle_counted(&drained.rows, Mode::Simple, asked)).await?,
            true if self.awaits_commit() => seldom(self.settle(Mode::Simple, Asked::BeforeCommit)).await?,
            false if self.is_holding() => seldom(self.settle(Mode::Simple, Asked::SoFar)).await?,
            true | false => true,
        };
        if !is_settled {
            return Ok(false);
        }
        match part.is_last {
            true => {
                self.held.habit.counted = is_ahead.then_some(drained.rows);
                seldom(self.finish(Mode::Simple)).await?;
            }
            // Its transaction goes on, and nothing can hide what has ended within it.
            false => self.release(),
        }
        Ok(true)
    }

    /// Ends a Query of which it was foreseen that it must not go on.
    async fn stop_foreseen(&mut self, foreseen: Foreseen, part: Part) -> Result<(), End> {
        match foreseen {
            Foreseen::GoOn => Ok(()),
            Foreseen::Failed => self.close_failed(Mode::Simple).await,
            Foreseen::Refused(denial) => self.veto(&denial, Some((part.number, part.index)), Mode::Simple).await,
            Foreseen::Stop(verdict) => self.take_back(verdict, Mode::Simple).await,
        }
    }

    /// A statement of a Query as the target is asked for it.
    fn ask_statement(&mut self, planned: &Planned) {
        self.ask_parse(Owner::Client, "", &planned.forward, &[]);
        match self.reads_binary(planned.cleared.facts()) {
            true => self.ask_bind_binary(Owner::Client, "", ""),
            false => self.ask_bind(Owner::Client, "", "", &[]),
        }
        self.ask_describe(Owner::Client, Named::Portal, "");
        self.ask_execute(Owner::Client, "", 0);
        self.leftover = Leftover { statement: true, portal: true };
    }

    /// What a statement's rows are counted for, where the count can go to the target along with it.
    fn counting(&self, planned: &Planned, part: Part) -> Option<Asked> {
        let facts = planned.cleared.facts();
        let is_plain = self.is_holding() && facts.transaction.is_none() && facts.copy.is_none();
        let commits = part.is_last && self.commits_at_sync();
        let asked = if commits { Asked::BeforeCommit } else { Asked::SoFar };
        (is_plain && !self.held.told.is_enough(asked)).then_some(asked)
    }

    /// Lets the server say what is wrong with a text that the grammar refuses: it says it with a
    /// position. Nothing runs: the text is only parsed, under a name of ours.
    async fn explain_syntax(&mut self, sql: &str) -> Result<(), End> {
        // The Sync behind it must not commit what was not judged for that yet.
        if self.is_dirty {
            return self.refuse(&not_parsed(), sql).await;
        }
        const NAME: &str = "dbgate_syntax";
        self.ask_parse(Owner::Client, NAME, sql, &[]);
        self.ask_close(Owner::Client, Named::Statement, NAME);
        self.ask_sync(Owner::Gateway);
        let drained = self.round(Mode::Simple).await?;
        if drained.failed {
            backend::write_ready(self.status, self.client.out());
            self.after_sync();
            return self.record_unparsed(sql).await;
        }
        // The server reads what our grammar does not. What cannot be read is not run.
        self.after_sync();
        self.refuse(&refused("unparseable", "the gateway cannot read this statement", "write it another way"), sql)
            .await
    }

    async fn record_unparsed(&mut self, sql: &str) -> Result<(), End> {
        self.record.denied(&not_parsed(), sql, Protocol::Simple, clock::now()).await?;
        Ok(())
    }
}

fn not_parsed() -> Box<Denial> {
    refused("syntax", "the statement could not be parsed", "correct it")
}

/// One statement of a string.
#[derive(Clone, Copy)]
struct Part {
    number: u64,
    index: u32,
    /// Characters of the client's text before it.
    before: u32,
    is_first: bool,
    is_last: bool,
}

/// Whether a statement may go on as a Query. A text without a semicolon is one statement however
/// a lexer reads it; nothing must stand around it, and it changes nothing that is counted.
fn is_whole(planned: &Planned) -> bool {
    planned.hold == Hold::Not && !planned.forward.contains(';')
}

/// What was judged of a Query, and what is judged once that has run: each statement with the
/// characters of the text before it.
type Stage = (Arc<Decided>, Vec<(u32, Statement)>);

/// The texts that are forwarded in place of the client's, where they are others.
pub(super) fn forwarded(statements: &[(Arc<Planned>, u32)]) -> Option<String> {
    let texts = || statements.iter().map(|(planned, _)| planned.forward.as_str()).collect::<Vec<_>>().join(";");
    statements.iter().any(|(planned, _)| planned.is_spliced).then(texts)
}
