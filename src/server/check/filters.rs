//! Ways round a filter: what reaches rows that the policy hides, or tells of them, although it goes through
//! the filtering view.
//!
//! What must stay true: where nobody can say whether a statement does, it counts as one that does.

use super::{Check, refused};
use crate::core::policy::Denial;
use crate::core::scope::RelationScope;
use crate::core::statement::facts::{Facts, Name, RowAction};
use crate::core::statement::grammar::Statement;

/// What the names of PostgreSQL's functions that count rows, or blocks of them, hold.
const COUNTERS: [&str; 4] = ["tuples", "numscans", "blocks_", "_since_"];

impl Check<'_> {
    /// PostgreSQL looks for the row that ON CONFLICT updates below the view; a plan that has run says how many
    /// rows a filter has taken out, one that has not how many there are likely to be; and so do its counters.
    pub(super) fn goes_round_a_filter(&self, statement: &Statement, facts: &Facts) -> Option<Box<Denial>> {
        if !self.scope.relations.values().any(|scope| scope.filter.is_some()) {
            return None;
        }
        let mut touched = facts.touches.iter().map(|touch| &touch.relation);
        let plans = facts.verb.starts_with("EXPLAIN");
        if plans && touched.clone().any(|name| self.may_be_filtered(name)) {
            let (what, hint) = match (facts.verb.as_str(), statement.shows_costs()) {
                ("EXPLAIN", false) => return None,
                ("EXPLAIN", true) => ("EXPLAIN would estimate how many rows the policy's filter hides", COSTS_OFF),
                _ => ("EXPLAIN ANALYZE would tell how many rows the policy's filter hides", COSTS_OFF),
            };
            return Some(refused("filtered_form", what, hint));
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

    /// Whether a filter may stand between the statement and rows of this name: in the policy's own view of it, or in
    /// one that it reads.
    fn may_be_filtered(&self, name: &Name) -> bool {
        self.may_be_own_view(name) || self.scope_of(name).is_some_and(RelationScope::is_closed)
    }

    fn scope_of(&self, name: &Name) -> Option<&RelationScope> {
        self.scope.relations.get(&self.resolve(name)?.name)
    }
}

const COSTS_OFF: &str = "use EXPLAIN (COSTS OFF)";

/// Whether it is one of PostgreSQL's views of what was read and written of each table or index.
fn is_counted(name: &Name) -> bool {
    let name = name.name.as_str();
    name.starts_with("pg_stat") && (name.ends_with("_tables") || name.ends_with("_indexes"))
}
