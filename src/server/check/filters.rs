//! Ways round a filter: what reaches rows that the policy hides, or tells of them, although it goes through
//! the filtering view.
//!
//! What must stay true: where nobody can say whether a statement does, it counts as one that does.

use super::{Check, refused};
use crate::core::policy::Denial;
use crate::core::scope::RelationScope;
use crate::core::statement::facts::{Facts, Name, RowAction};

/// What the names of PostgreSQL's functions that count rows, or blocks of them, hold.
const COUNTERS: [&str; 4] = ["tuples", "numscans", "blocks_", "_since_"];

impl Check<'_> {
    /// PostgreSQL looks for the row that ON CONFLICT updates below the view; a plan that has run says how many
    /// rows a filter has taken out, and so do counters; one that has not run, how many there are likely to be, if
    /// only by its shape under one setting of the planner's and another.
    pub(super) fn goes_round_a_filter(&self, facts: &Facts) -> Option<Box<Denial>> {
        if !self.scope.relations.values().any(|scope| scope.filter.is_some()) {
            return None;
        }
        let hidden = |name: &Name| self.may_be_filtered(name);
        let mut touched = facts.touches.iter().map(|touch| &touch.relation);
        if facts.verb.starts_with("EXPLAIN") && (touched.clone().any(hidden) || self.plans_what_hides(facts)) {
            let what = "a plan would tell how many rows the policy's filter hides";
            return Some(refused(
                "filtered_form",
                what,
                "ask for the plan of a statement on relations without a filter",
            ));
        }
        let counts = |name: &str| COUNTERS.iter().any(|part| name.contains(part));
        let mut functions = facts.functions.iter().map(|name| name.name.as_str());
        if touched.any(is_counted) || functions.any(|name| name.starts_with("pg_stat_get_") && counts(name)) {
            let what = "PostgreSQL's counters would tell how many rows the policy's filter hides";
            return Some(refused("filtered_form", what, "ask for a count of the rows that you may see"));
        }
        let updates = |name: &Name| {
            facts.touches.iter().any(|touch| touch.action == RowAction::Update && touch.relation == *name)
        };
        let has_filter = |name: &Name| self.scope_of(name).is_some_and(|scope| scope.filter.is_some());
        let mut inserted = facts.touches.iter().filter(|touch| touch.action == RowAction::Insert);
        inserted.any(|touch| has_filter(&touch.relation) && updates(&touch.relation)).then(|| {
            let what = "ON CONFLICT DO UPDATE would reach rows that the policy's filter hides";
            refused("filtered_form", what, "UPDATE what is there, and INSERT ... ON CONFLICT DO NOTHING")
        })
    }

    /// Whether it is a plan of something prepared of which the same is so.
    fn plans_what_hides(&self, facts: &Facts) -> bool {
        let Some(name) = &facts.prepared else { return false };
        self.prepared.get(name).is_none_or(|planned| {
            planned.cleared.facts().touches.iter().any(|touch| self.may_be_filtered(&touch.relation))
        })
    }

    /// Whether a filter may stand between the statement and rows of this name: in the policy's own view of it, or in
    /// one that it reads.
    fn may_be_filtered(&self, name: &Name) -> bool {
        self.may_be_own_view(name) || self.scope_of(name).is_some_and(RelationScope::is_closed)
    }

    fn scope_of(&self, name: &Name) -> Option<&RelationScope> {
        self.scope.relations.get(&self.resolve(name)?.name)
    }
}

/// Whether it is one of PostgreSQL's views of what was read and written of each table or index, or of all.
fn is_counted(name: &Name) -> bool {
    let is_catalog = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
    let name = name.name.as_str();
    let ends = ["_tables", "_indexes"].iter().any(|end| name.ends_with(end));
    is_catalog && (name == "pg_stat_database" || (name.starts_with("pg_stat") && ends))
}
