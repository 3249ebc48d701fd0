//! Refusing: what the client is told, and how the target is made to forget.
//!
//! A denial is an ERROR with SQLSTATE 42501, never FATAL: the connection lives on. DETAIL is JSON
//! for programs, HINT is for people.

use super::held::{Asked, Verdict};
use super::people::Stopped;
use super::relay::Mode;
use super::session::{End, Session};
use crate::core::approval::OverCap;
use crate::core::encoding;
use crate::core::policy::Denial;
use crate::core::session::{Owner, Step};
use crate::core::statement::facts::{Facts, TransactionVerb};
use crate::core::statement::grammar::TOO_COMPLEX;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::frame::Message;
use crate::core::wire::frontend;
use crate::server::audit::Protocol;
use crate::server::check::{NOT_PREPARED, NOT_TEXT, Planned, TOO_MANY, WRONG_KIND, refused};
use crate::sys::{clock, random};

impl Session {
    /// Whether this statement ends the client's transaction block.
    pub(super) fn ends_block(&self, planned: &Planned) -> bool {
        let ends = matches!(planned.cleared.facts().transaction, Some(TransactionVerb::Commit));
        ends && self.held.counts_pending() && self.status != b'E'
    }

    /// What to do where PostgreSQL refuses what the policy gives: the broker may not give rights on everything yet.
    pub(super) fn waits_for_init(&self, state: &str) -> Option<String> {
        let facts = self.executions.front().filter(|_| state == "42501")?.planned.cleared.facts();
        let missing = &self.grant.scope_role.missing;
        let mut touched = facts.touches.iter().filter_map(|touch| self.resolve(&touch.relation));
        let waits = touched.find(|relation| missing.contains(&relation.name))?;
        let target = &self.grant.grant.target;
        Some(format!(
            "the broker may not give rights on {} yet; its operators can run: dbgate target init {target}",
            waits.name
        ))
    }

    /// Refuses a Query before any of it ran, or asks those who may let it run.
    pub(super) async fn refuse_or_ask(&mut self, denial: &Denial, sql: &str, alone: Option<&Facts>) -> Result<(), End> {
        let Some(facts) = alone.filter(|_| denial.approvers.is_some()) else { return self.refuse(denial, sql).await };
        self.record.denied(denial, sql, Protocol::Simple, clock::now()).await?;
        match self.ask_about_text(denial, sql, facts, None).await? {
            Stopped::Tell(error) => {
                self.client.error(&error);
                self.end_refused(&error.sqlstate).await
            }
            Stopped::Wait => Ok(()),
            Stopped::Told => {
                backend::write_ready(self.status, self.client.out());
                Ok(())
            }
        }
    }

    /// Refuses a Query before any of it ran.
    pub(super) async fn refuse(&mut self, denial: &Denial, sql: &str) -> Result<(), End> {
        self.record.denied(denial, sql, Protocol::Simple, clock::now()).await?;
        let error = denial_error(denial, sql);
        self.people.note_failure(&error.sqlstate, &error.message);
        self.client.error(&error);
        self.end_refused(&error.sqlstate).await
    }

    /// Refuses the rest of a Query from this part on, after what stands before it has run.
    pub(super) async fn refuse_behind(
        &mut self,
        denial: &Denial,
        sql: &str,
        (number, part): (u64, usize),
    ) -> Result<(), End> {
        self.record.denied_behind(number, part, denial, clock::now()).await?;
        self.veto_with(denial, &denial_error(denial, sql), None, Mode::Simple).await
    }

    /// Refuses a message whose text is no text: an error like any other, as it is to PostgreSQL.
    pub(super) async fn refuse_bytes(&mut self, message: &Message) -> Result<(), End> {
        if self.is_skipping {
            return Ok(());
        }
        let mut texts = message.body.split(|byte| *byte == 0);
        let text = texts.nth(usize::from(message.tag == b'P')).unwrap_or_default();
        let mut denial =
            refused(NOT_TEXT, &format!("invalid byte sequence for encoding \"UTF8\": {}", bad(&message.body)), "");
        denial.hint = None;
        let text = String::from_utf8_lossy(text);
        if message.tag != b'Q' {
            return self.deny(&denial, &text).await;
        }
        match self.answered_before().await? {
            true => self.refuse(&denial, &text).await,
            false => Ok(()),
        }
    }

    /// A pipeline without its Sync is answered first, and its transaction goes on. False when it failed.
    pub(super) async fn answered_before(&mut self) -> Result<bool, End> {
        if self.pipeline.is_empty() {
            return Ok(true);
        }
        self.held.goes_on();
        let stands = self.answered_so_far(Asked::SoFar).await?;
        if stands {
            self.release();
        }
        Ok(stands)
    }

    /// Refuses a call by the fast path.
    pub(super) async fn refuse_call(&mut self) -> Result<(), End> {
        if self.answered_before().await? {
            let message = "fast-path function calls are not served: they have no text to judge";
            let error = ErrorFields::error("0A000", message);
            self.client.error(&error);
            self.end_refused(&error.sqlstate).await?;
        }
        Ok(())
    }

    /// What follows an error of ours that ends a Query: as after any error, a transaction that is open has failed.
    async fn end_refused(&mut self, state: &str) -> Result<(), End> {
        if self.status == b'E' || (self.status == b'I' && !self.is_dirty && !self.is_block) {
            backend::write_ready(self.status, self.client.out());
            return Ok(());
        }
        self.record.told(state);
        self.ask_veto();
        self.ask_sync(Owner::Client);
        self.round(Mode::Simple).await?;
        self.after_sync();
        Ok(())
    }

    /// Judges what is held. False when it may not stand: then it is rolled back and the client told.
    pub(super) async fn settle(&mut self, mode: Mode, asked: Asked) -> Result<bool, End> {
        if asked == Asked::SoFar && self.stands_so_far() {
            return Ok(true);
        }
        let verdict = self.verdict(mode, asked).await?;
        self.settle_by(verdict, mode, asked).await
    }

    /// The same, where the counts have come along with the answers.
    pub(super) async fn settle_counted(
        &mut self,
        rows: &[Vec<Option<String>>],
        mode: Mode,
        asked: Asked,
    ) -> Result<bool, End> {
        let verdict = self.judge_counts(rows, mode, asked).await?;
        self.settle_by(verdict, mode, asked).await
    }

    pub(super) async fn settle_by(&mut self, verdict: Verdict, mode: Mode, asked: Asked) -> Result<bool, End> {
        let verdict = match verdict {
            // It is taken back in any case. Whoever decides is told what its COMMIT would do as well.
            Verdict::Asks(..) if asked == Asked::SoFar && self.people.is_alone() && self.people.is_asking() => {
                self.verdict(mode, Asked::BeforeCommit).await?
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Stands if asked == Asked::SoFar || self.keep_before(mode).await? => Ok(true),
            Verdict::Stands | Verdict::Failed => {
                self.held.commit_failed = asked == Asked::BeforeCommit && self.is_block;
                self.failed_before_sync(mode).await?;
                Ok(false)
            }
            refused => {
                self.held.commit_failed = asked == Asked::BeforeCommit && self.is_block;
                self.take_back(refused, mode).await?;
                Ok(false)
            }
        }
    }

    /// Takes back what ran and may not stand by itself; asks people where they may let it stand.
    pub(super) async fn take_back(&mut self, verdict: Verdict, mode: Mode) -> Result<(), End> {
        let of = self.to_blame();
        let (denial, error) = match verdict {
            Verdict::Stands | Verdict::Failed => return Ok(()),
            Verdict::Denied(denial) => return self.veto(&denial, of, mode).await,
            Verdict::Tried(tried) => match self.tried(*tried).await? {
                Some(error) => (super::trial::only_tries(), error),
                None => return self.failed_before_sync(mode).await,
            },
            Verdict::OverCap(over) => {
                self.people.note_over_cap(over);
                (refused("row_cap_exceeded", &over.to_string(), "ask again"), over_cap(over))
            }
            Verdict::Asks(denial, impacts) => match self.ask_about_impact(&denial, impacts).await? {
                Stopped::Tell(error) => (denial, *error),
                Stopped::Wait => return self.undo_quietly(&denial, of).await,
                Stopped::Told => return self.failed_before_sync(mode).await,
            },
        };
        self.veto_with(&denial, &error, of, mode).await
    }

    /// After an error that the client was told of: in the simple protocol the message ends here,
    /// in the extended everything up to Sync is skipped.
    pub(super) async fn failed_before_sync(&mut self, mode: Mode) -> Result<(), End> {
        self.held_out.clear();
        match mode {
            Mode::Simple => self.close_failed(mode).await,
            Mode::Extended => {
                self.is_skipping = true;
                // A veto does not wait for the client's Sync: what it takes back is locked until then.
                self.send().await
            }
        }
    }

    /// Makes the target forget what ran without a word to the client, who waits.
    async fn undo_quietly(&mut self, denial: &Denial, of: Option<(u64, u32)>) -> Result<(), End> {
        self.held_out.clear();
        self.late_description.clear();
        self.executions.clear();
        let of = of.map(|(number, part)| (number, part, denial));
        let error = ErrorFields::error("ZG001", denial.message.clone());
        self.record_refusal(of, &error).await?;
        // An approval that was used for it has come to nothing.
        self.people.note_failure(&error.sqlstate, &error.message);
        self.ask_veto();
        self.ask_sync(Owner::Gateway);
        self.round(Mode::Simple).await?;
        if self.held.own_block && self.status != b'I' {
            self.ask_own("dbgate_rollback", &[]);
            self.ask_sync(Owner::Gateway);
            self.round(Mode::Simple).await?;
        }
        self.after_sync();
        Ok(())
    }

    /// Takes back what ran, records that, and says why. `of` is the statement that it is about, and its part.
    pub(super) async fn veto(&mut self, denial: &Denial, of: Option<(u64, u32)>, mode: Mode) -> Result<(), End> {
        self.veto_with(denial, &denial_error(denial, ""), of, mode).await
    }

    /// The same, in other words than the denial's.
    async fn veto_with(
        &mut self,
        denial: &Denial,
        error: &ErrorFields,
        of: Option<(u64, u32)>,
        mode: Mode,
    ) -> Result<(), End> {
        self.held_out.clear();
        self.late_description.clear();
        self.executions.clear();
        self.record_refusal(of.map(|(number, part)| (number, part, denial)), error).await?;
        self.people.note_failure(&error.sqlstate, &error.message);
        self.client.error(error);
        self.ask_veto();
        self.failed_before_sync(mode).await
    }

    /// Ends a pipeline that has failed: Sync, and ROLLBACK if the block was our own or was to end.
    pub(super) async fn close_failed(&mut self, mode: Mode) -> Result<(), End> {
        self.is_skipping = false;
        self.held_out.clear();
        if self.stop.is_silent() {
            // The target knows of no failure yet.
            self.stop = super::stop::Stop::No;
            self.account_bound().await?;
            self.ask_veto();
            self.record.skip_rest(clock::now()).await?;
        }
        let rolls_back = self.held.own_block || self.held.commit_failed;
        self.held.is_active = false;
        if rolls_back {
            self.ask_sync(Owner::Gateway);
            self.round(mode).await?;
            if self.status != b'I' {
                self.ask_own("dbgate_rollback", &[]);
            }
        }
        self.ask_sync(Owner::Client);
        self.round(mode).await?;
        self.after_sync();
        Ok(())
    }

    /// Whether everything has been answered and a Sync can neither commit nor fail: the client's block goes on.
    pub(super) fn is_answered_in_block(&self) -> bool {
        let is_answered = self.pipeline.is_empty() && !self.ahead.unrun.is_open();
        is_answered && self.status == b'T' && !self.held.own_block && !self.held.has_moved
    }

    /// The client is not kept waiting for the answer to such a Sync. What it says next is: that is read as
    /// the settings say which come with the answer.
    pub(super) async fn sync_in_block(&mut self) -> Result<(), End> {
        self.release();
        backend::write_ready(self.status, self.client.out());
        self.client.push().await?;
        frontend::sync(&mut self.up);
        self.pipeline.expect(Step::Ending, Owner::Gateway);
        self.send().await?;
        self.after_sync();
        Ok(())
    }

    /// Takes the answer to that Sync.
    pub(super) async fn ended_in_block(&mut self) -> Result<(), End> {
        loop {
            self.unasked().await?;
            if !self.pipeline.is_ending() {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Commits what stands: the last Sync, with COMMIT first if the block was our own.
    pub(super) async fn finish(&mut self, mode: Mode) -> Result<(), End> {
        if self.is_answered_in_block() {
            return self.sync_in_block().await;
        }
        if self.held.own_block {
            self.ask_own("dbgate_commit", &[]);
        }
        self.ask_sync(Owner::Client);
        self.round(mode).await?;
        self.after_sync();
        Ok(())
    }

    /// After ReadyForQuery.
    pub(super) fn after_sync(&mut self) {
        (self.is_vetoing, self.may_misread) = (false, false);
        (self.held.has_only_begun, self.held.has_moved) = (false, false);
        self.is_dirty = false;
        self.executions.clear();
        self.changes.settled();
        self.is_block = self.status != b'I';
        if self.status == b'I' {
            // Portals end with their transaction.
            self.portals.clear();
            self.end_cursors(true);
            // A commit that failed took names back as well.
            let moved = std::mem::take(&mut self.held.has_moved_names);
            (self.facts_stale, self.has_moved_names) = (self.facts_stale | moved, self.has_moved_names | moved);
            self.people.era.ended();
            self.forget_held();
        } else {
            self.held.habit.goes_on();
        }
        self.release();
    }

    /// The target did something else than what was judged. What can be rolled back is, and the
    /// client is told; where it has been committed already the session ends.
    pub(super) async fn wrong_tag(&mut self, number: u64, part: u32, tag: &str, mode: Mode) -> Result<(), End> {
        let denial =
            refused("wrong_tag", &format!("the target answered `{tag}`, which is not what was judged"), "report this");
        if self.is_dirty {
            return self.veto(&denial, Some((number, part)), mode).await;
        }
        self.record.vetoed(number, part, "42501", &denial, clock::now()).await?;
        Err(End::WrongTag)
    }
}

/// The first bytes that are no text, as many as its length would have taken.
fn bad(bytes: &[u8]) -> String {
    let valid = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let rest = bytes.get(valid..).unwrap_or_default();
    let length = match rest.first() {
        Some(0xc0..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf7) => 4,
        Some(_) | None => 1,
    };
    let shown = rest.iter().take(length).take_while(|byte| **byte != 0);
    shown.map(|byte| format!("0x{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// ZG003: more rows than people have let through.
fn over_cap(over: OverCap) -> ErrorFields {
    let detail =
        serde_json::json!({"code": "row_cap_exceeded", "rows": over.rows, "cap": over.cap, "retryable": false});
    ErrorFields {
        detail: Some(detail.to_string()),
        hint: Some("It was rolled back and the approval is used up; ask again with the new numbers".to_owned()),
        ..ErrorFields::error("ZG003", over.to_string())
    }
}

/// The error a denial becomes.
pub fn denial_error(denial: &Denial, sql: &str) -> ErrorFields {
    let decision = format!("dec_{}", encoding::crockford(&random::bytes::<10>()));
    let detail = serde_json::json!({
        "code": denial.code,
        "rule": denial.rule,
        "decision": decision,
        "objects": denial.objects,
        "approvers": denial.approvers,
        "retryable": false,
    });
    let position = denial.offset.and_then(|offset| sql.get(..offset)).map(|before| before.chars().count() + 1);
    ErrorFields {
        detail: Some(detail.to_string()),
        hint: denial.hint.clone(),
        position: position.and_then(|position| u32::try_from(position).ok()),
        ..ErrorFields::error(sqlstate(denial), denial.message.clone())
    }
}

/// Drivers prepare again when they hear that a statement is gone. What PostgreSQL would say itself has
/// its number.
fn sqlstate(denial: &Denial) -> &'static str {
    match denial.code.as_str() {
        NOT_PREPARED => "26000",
        WRONG_KIND => "42809",
        NOT_TEXT => "22021",
        TOO_COMPLEX => "54001",
        TOO_MANY => "54000",
        _ => "42501",
    }
}
