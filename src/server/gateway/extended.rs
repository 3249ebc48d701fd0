//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages gather until Flush or Sync and travel together. A statement is judged at Parse,
//! recorded at Execute, and what is held is judged once per pipeline, before its Sync.

use std::sync::Arc;

use bytes::Bytes;

use super::account::with_approved;
use super::foresee::Foreseen;
use super::held::Asked;
use super::moved::{Undecided, outdated};
use super::named::Parsed;
use super::people::{self, Stopped};
use super::refuse::denial_error;
use super::relay::{Drained, Mode};
use super::seldom;
use super::session::{Bound, End, Judged, Session};
use super::trial::only_tries;
use super::values::Values;
use crate::core::policy::Denial;
use crate::core::session::{Owner, Step};
use crate::core::statement::facts::CopyDirection;
use crate::core::statement::grammar::{self, GrammarError};
use crate::core::wire::backend::ErrorFields;
use crate::core::wire::frame::Message;
use crate::core::wire::frontend::{self, Frontend, Named};
use crate::server::audit::{Protocol, Said, Wording};
use crate::server::check::{Hold, Planned, RESERVED, refused, reserved};
use crate::server::decisions::Decided;
use crate::sys::clock;

impl Session {
    /// Serves one message of the extended protocol.
    pub(super) async fn extended(&mut self, message: &Message, parsed: Frontend<'_>) -> Result<(), End> {
        if self.is_skipping && parsed != Frontend::Sync {
            return Ok(());
        }
        if self.changes.must_settle()
            && !matches!(parsed, Frontend::Sync | Frontend::Flush)
            && !seldom(self.answered()).await?
        {
            return Ok(());
        }
        self.make_room(&parsed);
        match parsed {
            Frontend::Parse { name, sql, types } => self.on_parse(message, name, sql, types).await?,
            Frontend::Bind { portal, statement, parameters } => {
                self.on_bind(message, portal, statement, parameters).await?;
            }
            Frontend::Describe { name, .. } => match name.starts_with(RESERVED) {
                true => seldom(self.deny(&reserved(name), "")).await?,
                false => self.pass(message, Step::Describe),
            },
            Frontend::Execute { portal, rows } => self.on_execute(message, portal, rows).await?,
            Frontend::Close { what, name } => self.on_close(message, what, name).await?,
            Frontend::Flush => seldom(self.on_flush()).await?,
            Frontend::Sync => self.on_sync().await?,
            _ => return Err(End::Protocol),
        }
        if self.is_ahead() && !self.is_skipping {
            seldom(self.send_ahead()).await?;
        }
        Ok(())
    }

    async fn on_parse(&mut self, message: &Message, name: &str, sql: &str, types: &[u8]) -> Result<(), End> {
        if name.starts_with(RESERVED) {
            return seldom(self.deny(&reserved(name), sql)).await;
        }
        if !self.is_ready_to_read(sql).await? {
            return Ok(());
        }
        if let Err(denial) = self.has_room_to_prepare(name, sql) {
            return seldom(self.deny(&denial, sql)).await;
        }
        let types_of = Bytes::copy_from_slice(types);
        let mut decided = self.decided(sql);
        if self.has_moved_names && super::moved::names_something(&decided) {
            if !seldom(self.catch_up()).await? {
                return Ok(());
            }
            decided = self.decided(sql);
        }
        let decided = match decided {
            Ok(decided) => decided,
            // The target only reads it.
            Err(Undecided::Unjudged(judged)) => {
                self.name_statement(name, Some(Parsed::unjudged(judged, sql, types_of, self.context.clone())));
                self.pass(message, Step::Parse);
                return Ok(());
            }
            Err(Undecided::Denied(denial)) => return seldom(self.deny(&denial, sql)).await,
        };
        let Some((planned, _)) = decided.statements.first() else { return Err(End::Protocol) };
        let (text, wording) = (sql.into(), decided.wording.clone());
        let judged = Judged::Planned(planned.clone());
        let (era, context) = (self.era(), self.context.clone());
        self.name_statement(name, Some(Parsed { judged, types: types_of, era, text, wording, place: 0, context }));
        if planned.is_spliced {
            self.ask_parse(Owner::Client, name, &planned.forward, &frontend::types(types)?);
        } else {
            self.pass(message, Step::Parse);
        }
        Ok(())
    }

    /// Judges the text of a Parse. An empty one the server answers as such; several statements it
    /// refuses; of a syntax error it says where it is.
    pub(super) fn decide_parse(&mut self, sql: &str) -> Result<Arc<Decided>, Undecided> {
        let statements = match grammar::parse(sql) {
            Ok(statements) => statements,
            Err(GrammarError::Syntax(_)) => return Err(Undecided::Unjudged(Judged::Unread)),
            Err(error) => return Err(Undecided::Denied(refused(error.code(), &error.to_string(), error.way_out()))),
        };
        let statement = match statements.as_slice() {
            [] => return Err(Undecided::Unjudged(Judged::Empty)),
            [statement] => statement,
            _ => return Err(Undecided::Unjudged(Judged::Unread)),
        };
        if let Some(name) = statement.facts.executed()
            && !self.follow_names(name)
        {
            return Err(Undecided::Denied(outdated()));
        }
        let planned = self.plan(statement, &self.known_statements(), None).map_err(|denial| {
            // Whether people have let it through depends on its values. Until then nothing of it can be bound.
            match denial.approvers.is_some() && self.people.is_asking() {
                true => Undecided::Unjudged(Judged::Unlifted),
                false => Undecided::Denied(denial),
            }
        })?;
        let before = u32::try_from(sql.get(..statement.start).unwrap_or("").chars().count()).unwrap_or(0);
        let statements = vec![(Arc::new(planned), before)];
        let decided = Arc::new(Decided { statements, wording: Arc::new(Wording::of(sql)) });
        self.remember(sql, &decided);
        Ok(decided)
    }

    async fn on_bind(
        &mut self,
        message: &Message,
        portal: &str,
        statement: &str,
        parameters: &[u8],
    ) -> Result<(), End> {
        if portal.starts_with(RESERVED) || statement.starts_with(RESERVED) {
            return seldom(self.deny(&reserved(portal), "")).await;
        }
        if let Err(denial) = self.has_room_to_bind(portal, parameters.len()) {
            return seldom(self.deny(&denial, "")).await;
        }
        // What is kept beside others does not keep all that came along with it.
        let parameters = match portal {
            "" => message.body.slice_ref(parameters),
            _ => Bytes::copy_from_slice(parameters),
        };
        if (self.facts_stale || self.has_moved_names) && !seldom(self.catch_up_for(statement)).await? {
            return Ok(());
        }
        if !self.follow_names(statement) {
            let text = self.prepared.get(statement).map(|parsed| parsed.text.clone()).unwrap_or_default();
            return seldom(self.deny(&outdated(), &text)).await;
        }
        let bound = match self.prepared.get(statement).cloned() {
            // An error of the target's own comes first.
            Some(Parsed { judged: Judged::Unread, text, .. }) => return seldom(self.deny(&unread(), &text)).await,
            Some(Parsed { judged: Judged::Outdated(_), text, .. }) => {
                return seldom(self.deny(&outdated(), &text)).await;
            }
            Some(Parsed { judged: Judged::Unlifted, types, text, .. }) => {
                let values = Values { types, parameters, era: self.era() };
                return seldom(self.bind_unlifted(message, portal, statement, &text, values)).await;
            }
            Some(Parsed { judged, types, era, text, wording, place, .. }) => {
                let era = self.read_again(statement, &judged, &types, era)?;
                if let Err(denial) = self.hold_bound(&judged, &parameters) {
                    return seldom(self.deny(&denial, &text)).await;
                }
                let values = Values { types, parameters, era };
                let (planned, places) = (judged.planned().cloned(), [place; 2]);
                Some(Bound { planned, values, is_lifted: false, text, wording, places, used: None })
            }
            None => None,
        };
        self.name_portal(portal, bound);
        self.pass(message, Step::Bind);
        Ok(())
    }

    /// Binds a statement that its text alone does not let run: uses up the approval of exactly this,
    /// or asks for one.
    async fn bind_unlifted(
        &mut self,
        message: &Message,
        portal: &str,
        name: &str,
        text: &Arc<str>,
        values: Values,
    ) -> Result<(), End> {
        let Some(statement) = grammar::parse(text).ok().and_then(|all| all.into_iter().next()) else {
            return Err(End::Protocol);
        };
        if self.people.lift.is_some() {
            return self.deny(&with_approved(), text).await;
        }
        let is_alone = self.is_alone(&statement.facts);
        if is_alone && !self.claim(text, &statement.facts, Some(&values), Mode::Extended).await? {
            self.is_skipping = true;
            return self.record_unread(text, Protocol::Extended).await;
        }
        let planned = match self.plan(&statement, &self.known_statements(), self.people.lift.as_ref()) {
            Ok(planned) => Arc::new(planned),
            Err(denial) => {
                self.record.denied(&denial, text, Protocol::Extended, clock::now()).await?;
                let stopped = match is_alone && denial.approvers.is_some() {
                    true => self.ask_about_text(&denial, text, &statement.facts, Some(&values)).await?,
                    false => people::refused(&denial, self.people.is_asking()),
                };
                return match stopped {
                    Stopped::Tell(error) => self.turn_down_with(&error, None).await,
                    Stopped::Wait | Stopped::Told => {
                        self.is_skipping = true;
                        Ok(())
                    }
                };
            }
        };
        // Whatever the name has come to mean there: what people agreed to is what runs.
        if let Err(denial) = self.hold_bound(&Judged::Planned(planned.clone()), &values.parameters) {
            return self.deny(&denial, text).await;
        }
        self.ask_instead(name, &planned.forward, &frontend::types(&values.types)?);
        self.people.lifted = Some(planned.clone());
        let (wording, places, text, planned) = (Wording::of(text).into(), [u64::MAX; 2], text.clone(), Some(planned));
        self.name_portal(portal, Some(Bound { planned, values, is_lifted: true, text, wording, places, used: None }));
        self.pass(message, Step::Bind);
        Ok(())
    }

    async fn on_execute(&mut self, message: &Message, portal: &str, rows: i32) -> Result<(), End> {
        // It is recorded as run or as refused.
        self.ahead.unrun.run(portal);
        let Some(bound) = self.portals.get(portal).cloned() else {
            return seldom(self.execute_unknown(message, portal)).await;
        };
        let Some(planned) = bound.planned.map(|planned| self.as_its_cursor(planned)) else {
            self.pass(message, Step::Nothing);
            return Ok(seldom(self.record.nothing(&bound.text, Protocol::Extended, clock::now())).await?);
        };
        if self.people.trying.is_some() {
            return seldom(self.deny(&only_tries(), &bound.text)).await;
        }
        let (values, text) = (bound.values, bound.text);
        let forwarded = planned.is_spliced.then_some(planned.forward.as_str());
        let stands_at_commit = self.stands_at_commit(&planned);
        let parameters = Some(&*values.parameters);
        let said = Said { text: &text, wording: &bound.wording, forwarded, parameters, stands_at_commit };
        if self.ends_block(&planned) && !seldom(self.judged_before_commit(Mode::Extended)).await? {
            return seldom(self.record_unrun(&planned, said)).await;
        }
        if let Err(denial) = self.judge_again(&planned, &text) {
            return seldom(self.deny(&denial, &text)).await;
        }
        if bound.is_lifted && !self.people.is_lifted(&planned) {
            let denial = refused("approved_once", "the approval of this statement was used up", "send it again");
            return seldom(self.deny(&denial, &text)).await;
        }
        if bound.is_lifted && self.is_lent(&planned) {
            return seldom(self.execute_lent(&planned, &text, &bound.wording, &values)).await;
        }
        match self.is_alone(planned.cleared.facts()) {
            true if bound.is_lifted => self.people.begin(&planned, &text, Some(values.clone())),
            true if planned.hold.is_counted() && self.people.lift.is_none() => {
                if !seldom(self.claim(&text, planned.cleared.facts(), Some(&values), Mode::Extended)).await? {
                    self.is_skipping = true;
                    return seldom(self.record_unrun(&planned, said)).await;
                }
                self.people.begin(&planned, &text, Some(values.clone()));
            }
            // One approval lets one statement through, not what travels with it.
            true | false if !self.people.lets_ride(&planned) => {
                return seldom(self.deny(&with_approved(), &text)).await;
            }
            true | false => self.people.travel_together(),
        }
        let recorded = self.record.allowed(&[&planned.cleared], said, Protocol::Extended, clock::now()).await?;
        self.held.goes_on();
        if self.must_be_answered_before(&planned) && !seldom(self.answered_so_far(Asked::SoFar)).await? {
            return Ok(());
        }
        if let Err(denial) = self.guard(&planned, recorded.number(), 0) {
            let of = Some((recorded.number(), 0, &*denial));
            return seldom(self.turn_down_with(&denial_error(&denial, &text), of)).await;
        }
        self.begin(recorded.number(), 0, &planned, 0);
        self.runs_portal(portal, rows > 0 && !planned.returns_nothing());
        self.moves_block(planned.cleared.facts());
        self.is_dirty = true;
        match self.foresee(&planned, Mode::Extended).await? {
            Foreseen::GoOn => {}
            Foreseen::Failed => {
                self.is_skipping = true;
                return Ok(());
            }
            Foreseen::Refused(denial) => {
                return seldom(self.veto(&denial, Some((recorded.number(), 0)), Mode::Extended)).await;
            }
            Foreseen::Stop(verdict) => return seldom(self.take_back(verdict, Mode::Extended)).await,
        }
        if self.net.is_some() {
            // What the client knows of the columns it may have asked for long ago.
            self.ask_describe(Owner::Gateway, Named::Portal, portal);
        }
        self.pass(message, Step::Execute);
        self.changes.executed(planned.cleared.facts());
        self.may_come_again(&planned, &text, portal, rows);
        if planned.cleared.facts().copy == Some(CopyDirection::FromClient) {
            // The data comes next, and nothing may stand between.
            seldom(self.answered()).await?;
        }
        Ok(())
    }

    /// Whether what stands before a statement is answered and judged before it runs.
    fn must_be_answered_before(&self, planned: &Planned) -> bool {
        // Whether a block is open decides who commits it: only the answers say.
        let must_know_block = planned.hold == Hold::OwnBlock && self.held.has_moved;
        // Its data may be long in coming.
        let takes_time = planned.cleared.facts().copy == Some(CopyDirection::FromClient) && self.is_holding();
        must_know_block || takes_time
    }

    /// What the target's own connection must not run: what came before is answered first, then it
    /// runs elsewhere.
    async fn execute_lent(
        &mut self,
        planned: &Arc<Planned>,
        text: &str,
        wording: &Wording,
        values: &Values,
    ) -> Result<(), End> {
        if !self.answered().await? {
            return Ok(());
        }
        let parameters = Some(&*values.parameters);
        let said = Said { text, wording, forwarded: None, parameters, stands_at_commit: false };
        let recorded = self.record.allowed(&[&planned.cleared], said, Protocol::Extended, clock::now()).await?;
        self.is_skipping = !self.run_lent(planned, recorded.number()).await?;
        Ok(())
    }

    async fn on_close(&mut self, message: &Message, what: Named, name: &str) -> Result<(), End> {
        if name.starts_with(RESERVED) {
            return seldom(self.deny(&reserved(name), "")).await;
        }
        match what {
            Named::Statement => self.name_statement(name, None),
            Named::Portal => self.name_portal(name, None),
        }
        self.pass(message, Step::Close);
        Ok(())
    }

    /// The client wants what there is so far; held writes are judged first.
    pub(super) async fn on_flush(&mut self) -> Result<(), End> {
        self.ahead.bytes = 0;
        // No Sync ends what is answered now: its locks stay.
        self.held.is_kept_open = true;
        if self.answered_so_far(Asked::SoFar).await? {
            self.release();
        }
        self.client.awaits_all();
        Ok(())
    }

    /// Gets everything asked so far answered and judged. False when it failed or was refused.
    pub(super) async fn answered_so_far(&mut self, asked: Asked) -> Result<bool, End> {
        // In a transaction that has failed nothing can be counted, unless it goes back to a savepoint first.
        if self.status == b'E' && !self.held.has_moved {
            return self.answered().await;
        }
        // The count goes along, unless where a block begins or ends is only known from the answers.
        if self.held.counts_pending() && !self.held.has_moved && !self.held.told.is_enough(asked) {
            self.ask_counts(asked);
            let drained = self.answered_with_rows().await?;
            if drained.failed_ours {
                // What was deferred to the client's COMMIT has failed: its block ends with that.
                self.held.commit_failed = asked == Asked::BeforeCommit && self.is_block;
            }
            return match drained.failed {
                true => Ok(false),
                false => self.settle_counted(&drained.rows, Mode::Extended, asked).await,
            };
        }
        Ok(self.answered().await? && (!self.held.counts_pending() || self.settle(Mode::Extended, asked).await?))
    }

    /// Gets everything asked so far answered. False when it failed.
    pub(super) async fn answered(&mut self) -> Result<bool, End> {
        Ok(!self.answered_with_rows().await?.failed)
    }

    /// The same, with the rows of the gateway's own queries.
    async fn answered_with_rows(&mut self) -> Result<Drained, End> {
        let mut drained = self.flush_up(Mode::Extended).await?;
        self.changes.settled();
        if drained.failed {
            self.is_skipping = true;
        } else if let Some((number, part, tag)) = drained.wrong_tag.take() {
            self.wrong_tag(number, part, &tag, Mode::Extended).await?;
            drained.failed = true;
        }
        Ok(drained)
    }

    /// Judges what is held before a Sync: it commits, unless the client's block goes on.
    async fn judged_before_sync(&mut self) -> Result<bool, End> {
        if !self.held.has_moved {
            return self.answered_so_far(self.asked_at_sync()).await;
        }
        if !self.answered().await? {
            return Ok(false);
        }
        Ok(!self.awaits_commit() || self.settle(Mode::Extended, self.asked_at_sync()).await?)
    }

    async fn on_sync(&mut self) -> Result<(), End> {
        self.ahead.bytes = 0;
        self.sync_up().await?;
        self.people.forget();
        self.after_statement().await;
        Ok(())
    }

    async fn sync_up(&mut self) -> Result<(), End> {
        let is_told = !self.is_skipping && self.is_told_in_block();
        if is_told && seldom(self.told_in_block()).await? {
            return Ok(());
        }
        if is_told || self.is_skipping || (self.awaits_commit() && !seldom(self.judged_before_sync()).await?) {
            return seldom(self.close_failed(Mode::Extended)).await;
        }
        if self.is_answered_in_block() {
            return seldom(self.sync_in_block()).await;
        }
        if self.held.own_block {
            self.ask_own("dbgate_commit", &[]);
        }
        self.ask_sync(Owner::Client);
        let drained = self.round(Mode::Extended).await?;
        if self.stop.is_silent() {
            seldom(self.end_silence(Mode::Extended)).await?;
        }
        self.after_sync();
        if self.ahead.unrun.is_open() {
            seldom(self.account_bound()).await?;
        }
        match drained.wrong_tag {
            Some((number, part, tag)) => seldom(self.wrong_tag(number, part, &tag, Mode::Extended)).await,
            None => Ok(()),
        }
    }

    /// Refuses a statement that was not recorded yet.
    pub(super) async fn deny(&mut self, denial: &Denial, sql: &str) -> Result<(), End> {
        self.record.denied(denial, sql, Protocol::Extended, clock::now()).await?;
        self.turn_down_with(&denial_error(denial, sql), None).await
    }

    /// Refuses in the middle of a pipeline: what came before is answered first, what follows up to
    /// Sync is skipped, and the target is made to fail as well. `of` is what was let through before, and why
    /// it is refused now.
    async fn turn_down_with(&mut self, error: &ErrorFields, of: Option<(u64, u32, &Denial)>) -> Result<(), End> {
        self.people.note_failure(&error.sqlstate, &error.message);
        if !self.pipeline.is_empty() {
            let drained = self.flush_up(Mode::Extended).await?;
            if drained.failed {
                self.is_skipping = true;
                return Ok(());
            }
        }
        self.record_refusal(of, error).await?;
        self.release();
        self.client.error(error);
        self.is_skipping = true;
        // Also what was only read by the target, or bound, has its locks.
        if self.is_dirty || self.status == b'T' || self.pipeline.is_open() {
            self.ask_veto();
            // At once: until it fails, the target keeps the locks of what came before.
            self.send().await?;
        }
        Ok(())
    }
}

fn unread() -> Box<Denial> {
    refused("unparseable", "the gateway cannot read this statement", "write it another way, one statement at a time")
}
