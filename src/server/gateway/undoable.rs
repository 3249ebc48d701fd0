//! Writes that a rollback takes back whole. Where durability is `writes`, their record may follow them to the
//! disk: it is there before their commit is asked for.
//!
//! What must stay true: whatever may do something that outlives its transaction is on the disk before it is
//! sent, and so is all that cannot be read from the text and the catalog.

use super::held::Asked;
use super::session::Session;
use crate::core::policy::Denial;
use crate::core::statement::facts::{Effect, Facts, Touch};
use crate::server::check::{Hold, Planned, refused};

impl Session {
    /// Whether all that a statement does stands or falls with its transaction.
    pub(super) fn stands_at_commit(&self, planned: &Planned) -> bool {
        let facts = planned.cleared.facts();
        let is_change = matches!(facts.verb.as_str(), "INSERT" | "UPDATE" | "DELETE" | "MERGE");
        let is_written = planned.hold == Hold::Counted && facts.effect == Effect::Write && is_change;
        let is_own = self.has_own_code || self.has_own_views || self.has_moved_names;
        is_written
            && !is_own
            // What has been defined since the session began nobody has told it.
            && self.grant.is_newest(&self.catalog)
            && self.calls_nothing(facts)
            && facts.touches.iter().all(|touch| self.is_inert(touch))
    }

    /// Whether a text calls nothing that writes, or that nobody has read. A cast may be a call, and need not
    /// stand in the text.
    pub(super) fn calls_nothing(&self, facts: &Facts) -> bool {
        self.is_tame(facts) && !self.runs_code(facts) && !facts.unread_text && !self.catalog.has_volatile_operators
    }

    /// Whether nothing of somebody's runs where this relation is read or written.
    fn is_inert(&self, touch: &Touch) -> bool {
        match self.is_own(&touch.relation) {
            true => !self.has_odd_tables,
            false => self.resolve(&touch.relation).is_some_and(|relation| relation.is_inert),
        }
    }

    /// Whether what commits by itself as it runs may do so here: nobody can judge that commit.
    pub(super) fn may_commit_by_itself(&self, facts: &Facts) -> Result<(), Box<Denial>> {
        let is_vacuum = facts.verb.starts_with("VACUUM");
        if is_vacuum && self.held.has_expressions {
            let what = "it would run what indexes of the session's own work out, which cannot be counted";
            return Err(refused("uncountable", what, "use ANALYZE or REINDEX, or drop those indexes"));
        }
        match (is_vacuum || facts.verb == "DISCARD ALL") && !self.is_block && self.held.counts_pending() {
            false => Ok(()),
            true => {
                let what = "it would commit what stands before it, which nobody has judged yet";
                Err(refused("several_statements", what, "send it alone"))
            }
        }
    }

    /// A Sync commits, unless the client's own block goes on.
    pub(super) fn asked_at_sync(&self) -> Asked {
        if self.commits_at_sync() { Asked::BeforeCommit } else { Asked::SoFar }
    }

    /// Whether a Sync commits what has run: only in the client's own block it does not.
    pub(super) fn commits_at_sync(&self) -> bool {
        !self.is_block || self.held.own_block
    }
}
