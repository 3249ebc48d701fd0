//! The use of an approval: claimed for one statement, and accounted for when it is known what came of it.
//!
//! What must stay true: an approval is used up before what it lets through is sent; it lets through
//! that one statement and nothing that travels with it; a statement in the client's own block has
//! come to something only when that block has ended.

use std::sync::Arc;

use super::people::{People, bound};
use super::relay::Mode;
use super::seldom;
use super::session::{End, Session};
use super::values::Values;
use crate::core::approval::{OverCap, Spent};
use crate::core::policy::Denial;
use crate::core::statement::facts::{Facts, TransactionVerb};
use crate::server::approvals::ApprovalError;
use crate::server::check::{Hold, Planned, refused};
use crate::server::http::refusal::chain;
use crate::sys::clock;

impl People {
    /// Whether the approval that is being used was claimed for this very statement.
    pub fn is_lifted(&self, planned: &Arc<Planned>) -> bool {
        self.lift.is_some() && self.lifted.as_ref().is_some_and(|lifted| Arc::ptr_eq(lifted, planned))
    }

    /// Notes a command tag while an approval is being used: of the statement that was let through,
    /// or of what ends its transaction.
    pub fn note_tag(&mut self, facts: &Facts, tag: &str) {
        match facts.transaction {
            Some(TransactionVerb::Rollback | TransactionVerb::RollbackTo) => {
                self.note_failure("40000", "it was rolled back by the client");
            }
            // Whatever happens behind it.
            Some(TransactionVerb::Commit) if tag == "COMMIT" && !self.tag.is_empty() && self.spent.is_none() => {
                self.spent = Some(Spent::Committed { tag: self.tag.clone() });
            }
            Some(_) => {}
            None if self.lift.is_some() && self.tag.is_empty() => tag.clone_into(&mut self.tag),
            None => {}
        }
    }

    /// Notes that what was let through failed, or its transaction did. The first reason counts.
    pub fn note_failure(&mut self, sqlstate: &str, message: &str) {
        if self.lift.is_some() && self.spent.is_none() {
            self.spent = Some(Spent::Failed { sqlstate: sqlstate.to_owned(), message: message.to_owned() });
        }
    }

    /// The statement did more than was approved.
    pub fn note_over_cap(&mut self, over: OverCap) {
        self.spent = Some(Spent::OverCap { rows: over.rows, cap: over.cap });
    }

    /// Whether a statement may run while an approval is being used: one that only reads, or that
    /// ends the transaction, once what was approved has run.
    pub fn lets_ride(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        if self.lift.is_none() {
            return true;
        }
        !self.tag.is_empty()
            && match facts.transaction {
                Some(
                    TransactionVerb::Commit
                    | TransactionVerb::Rollback
                    | TransactionVerb::RollbackTo
                    | TransactionVerb::Release,
                ) => true,
                // What is taken back to a savepoint in between would be told apart from what stays.
                Some(TransactionVerb::Begin | TransactionVerb::Savepoint | TransactionVerb::TwoPhase) => false,
                None => planned.hold == Hold::Not && !facts.locks && facts.upkeep.is_none(),
            }
    }
}

impl Session {
    /// Whether people may have let exactly this through. Cheap, and no proof.
    pub(super) fn may_be_approved(&mut self, text: &str) -> bool {
        self.people.looked = clock::now();
        self.people.approvals.may_be_approved(self.people.principal(), bound(text))
    }

    /// Uses up the approval of a statement, if there is one for exactly this. False where the target
    /// has failed before it could be asked: the client has its error.
    pub(super) async fn claim(
        &mut self,
        text: &str,
        facts: &Facts,
        values: Option<&Values>,
        mode: Mode,
    ) -> Result<bool, End> {
        if !self.may_be_approved(text) {
            return Ok(true);
        }
        let text = bound(text);
        let Some(found) = self.circumstances(text, facts, values, mode).await? else { return Ok(false) };
        if found.leaning.is_some() {
            return Ok(true);
        }
        let session = self.record.session().as_str();
        match self.people.approvals.claim(&found.binding, session).await {
            Ok(lift) => self.people.lift = lift,
            Err(ApprovalError::Log(error)) => return Err(End::Unrecorded(error)),
            // Then it is not approved, and is asked for again.
            Err(error) => tracing::warn!(error = %chain(&error), "an approval could not be used"),
        }
        (self.people.spent, self.people.tag) = (None, String::new());
        Ok(true)
    }

    /// What a statement leaves behind once the target has answered its Sync: rows to be kept, and the
    /// account of an approval.
    pub(super) async fn after_statement(&mut self) {
        if self.record.is_undone() {
            seldom(self.record_undone()).await;
        }
        let block_goes_on = self.status == b'T' && self.held.counts_pending();
        if self.held.image.is_some() && !block_goes_on {
            seldom(self.keep_after()).await;
        }
        // What came of it is known already, or with the end of the client's block.
        if self.people.lift.is_some() && (self.people.spent.is_some() || !block_goes_on) {
            seldom(self.settle_account()).await;
        }
    }

    /// Notes what came of the statement that an approval let through.
    async fn settle_account(&mut self) {
        let spent = match self.people.spent.take() {
            None if self.status == b'E' => {
                Spent::Failed { sqlstate: "25P02".to_owned(), message: "its transaction failed".to_owned() }
            }
            None if !self.people.tag.is_empty() => Spent::Committed { tag: std::mem::take(&mut self.people.tag) },
            None => Spent::Failed { sqlstate: "XX000".to_owned(), message: "it did not run".to_owned() },
            Some(spent) => spent,
        };
        self.finish_account(spent).await;
    }

    /// The session ends. A block that waits for its next statement is rolled back with it; of
    /// anything else the outcome stays open.
    pub(super) async fn abandon_account(&mut self) {
        if let Some(spent) = self.people.spent.take() {
            self.finish_account(spent).await;
        } else if self.status != b'I' && self.pipeline.is_empty() {
            let message = "the session ended before its transaction was committed".to_owned();
            self.finish_account(Spent::Failed { sqlstate: "40000".to_owned(), message }).await;
        }
    }

    async fn finish_account(&mut self, spent: Spent) {
        self.people.lifted = None;
        let Some(lift) = self.people.lift.take() else { return };
        if let Err(error) = self.people.approvals.finish(lift.request(), spent).await {
            tracing::error!(error = %chain(&error), "what came of an approved statement could not be noted");
        }
    }
}

/// Why a statement does not run while an approval is being used.
pub(super) fn with_approved() -> Box<Denial> {
    refused(
        "approved_alone",
        "a statement that was approved runs alone: until its transaction ends nothing else is written",
        "send Sync or COMMIT first, then the next statement",
    )
}
