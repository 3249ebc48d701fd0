//! What the record says of statements that come to nothing: whose an error is, what was skipped behind
//! it, and what went with its transaction.

use super::relay::Mode;
use super::session::{End, Session};
use crate::core::policy::Denial;
use crate::core::session::{Owner, Step};
use crate::core::statement::facts::Effect;
use crate::core::wire::backend::ErrorFields;
use crate::server::audit::{Protocol, Said};
use crate::server::check::{Hold, Planned, refused};
use crate::sys::clock;

/// Whose an error of the target's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of the statement whose turn it is.
    Running,
    /// Of what a request of the client's would have named: which of its Parse, Bind and Close that was.
    Named(u64),
    Nobodys,
}

impl Session {
    /// Whose the error is that answers this request. Asked before the names are undone.
    pub(super) fn fault(&self, owner: Owner, step: Step, mode: Mode) -> Fault {
        match (owner, step) {
            // What the gateway asks ahead of a statement is about that statement.
            (Owner::Gateway, _) | (Owner::Client, Step::Execute | Step::Query) => Fault::Running,
            (Owner::Client, Step::Sync | Step::Ending | Step::Nothing) => Fault::Nobodys,
            (Owner::Client, _) if mode == Mode::Simple => Fault::Running,
            (Owner::Client, Step::Parse | Step::Bind) => Fault::Named(self.changes.answered_so_far()),
            (Owner::Client, Step::Describe | Step::Close | Step::Deferred) => Fault::Nobodys,
        }
    }

    /// The target has failed, after so many of the client's Parse, Bind and Close: the error is its
    /// statement's, and nothing behind it was run.
    pub(super) async fn record_failure(&mut self, (fault, answered): (Fault, u64), state: &str) -> Result<(), End> {
        self.record.has_failed();
        let is_its = |places: [u64; 2]| match fault {
            Fault::Running => true,
            Fault::Named(place) => places.contains(&place),
            Fault::Nobodys => false,
        };
        let front = self.executions.front().filter(|front| is_its(front.places));
        if let Some((number, part)) = front.map(|front| (front.number, front.part)) {
            self.record.error(number, part, state, clock::now()).await?;
        }
        self.executions.clear();
        self.fail_bound(fault, answered, state).await?;
        Ok(self.record.skip_rest(clock::now()).await?)
    }

    /// The client is told an error of the gateway's, about this part of what it was let do: what was only bound
    /// came to nothing, and nothing else that has no outcome is run.
    pub(super) async fn record_refusal(
        &mut self,
        of: Option<(u64, u32, &Denial)>,
        error: &ErrorFields,
    ) -> Result<(), End> {
        self.account_bound().await?;
        if let Some((number, part, denial)) = of {
            self.record.vetoed(number, part, &error.sqlstate, denial, clock::now()).await?;
        }
        self.record.told(&error.sqlstate);
        Ok(self.record.skip_rest(clock::now()).await?)
    }

    /// What would have been run, had not what came before it failed meanwhile.
    pub(super) async fn record_unrun(&mut self, planned: &Planned, said: Said<'_>) -> Result<(), End> {
        self.record.allowed(&[&planned.cleared], said, Protocol::Extended, clock::now()).await?;
        Ok(self.record.skip_rest(clock::now()).await?)
    }

    /// Before anything could be said of it the target has answered with an error, which the client has.
    pub(super) async fn record_unread(&mut self, text: &str, protocol: Protocol) -> Result<(), End> {
        let denial = refused("not_read", "the target would not look at the statement", "see its error");
        self.record.denied(&denial, text, protocol, clock::now()).await?;
        Ok(())
    }

    /// A part has ended: what it has changed goes with its transaction.
    pub(super) fn note_change(&mut self, planned: &Planned, number: u64, part: u32) {
        let effect = planned.cleared.facts().effect;
        if effect != Effect::Transaction && (effect != Effect::Read || planned.hold != Hold::Not) {
            self.record.has_changed(number, part);
        }
    }

    /// The target has answered a Sync.
    pub(super) fn transaction_is_over(&mut self) {
        if self.status == b'I' {
            self.record.has_ended();
            self.idle = None;
        }
    }

    /// The session ends. Where nothing is on its way, the target rolls back what is open.
    pub(super) async fn abandon_transaction(&mut self) {
        if self.pipeline.is_empty() && (self.status != b'I' || self.pipeline.is_open()) {
            self.record.has_rolled_back();
        }
        self.record_undone().await;
    }

    /// Records the transaction that has just been rolled back, if there is one.
    pub(super) async fn record_undone(&mut self) {
        // What cannot be recorded any more ends without it.
        if self.record.is_undone()
            && let Err(error) = self.record.undone(clock::now()).await
        {
            tracing::error!(%error, "the end of a transaction could not be recorded");
        }
    }
}
