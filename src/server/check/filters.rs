//! Ways round a filter or mask: what reaches rows or values that the policy hides, or tells of them, although it
//! goes through the view or the rights that hide them.
//!
//! What must stay true: where nobody can say whether a statement does, it counts as one that does.

use std::collections::BTreeSet;

use super::{Check, refused};
use crate::core::policy::Denial;
use crate::core::scope::catalog::{Relation, RelationKind};
use crate::core::scope::{RelationScope, telling};
use crate::core::statement::facts::{Facts, Name, RowAction};

/// What the names of PostgreSQL's functions that count rows, or blocks of them, hold.
const COUNTERS: [&str; 4] = ["tuples", "numscans", "blocks_", "_since_"];

impl Check<'_> {
    /// How much a write logs says what it met in the indexes of masked columns.
    pub(super) fn measures_what_is_masked(&self, facts: &Facts) -> Option<Box<Denial>> {
        let is_masked = |facts: &Facts| {
            let mut written = facts.touches.iter().filter(|touch| touch.action != RowAction::Read);
            written.any(|touch| self.scope_of(&touch.relation).is_some_and(RelationScope::is_masked))
        };
        let prepared = || {
            let planned = facts.prepared.as_ref().and_then(|name| self.prepared.get(name));
            planned.is_some_and(|planned| is_masked(planned.cleared.facts()))
        };
        (facts.shows_wal && (is_masked(facts) || prepared())).then(|| {
            let what = "how much a write has logged would tell of columns that are masked";
            refused("masked_form", what, "leave WAL out of the options of EXPLAIN")
        })
    }

    /// PostgreSQL looks for the row that ON CONFLICT updates below the view; a plan that has run says how many
    /// rows a filter has taken out, and so do counters; one that has not run, how many there are likely to be, if
    /// only by its shape under one setting of the planner's and another.
    pub(super) fn goes_round_a_filter(&self, facts: &Facts) -> Option<Box<Denial>> {
        let mut touched = facts.touches.iter().map(|touch| &touch.relation);
        let counts = |name: &str| COUNTERS.iter().any(|part| name.contains(part));
        let mut functions = facts.functions.iter().map(|name| name.name.as_str());
        let is_plan = facts.verb.starts_with("EXPLAIN");
        let is_counted =
            touched.clone().any(is_counted) || functions.any(|name| name.starts_with("pg_stat_get_") && counts(name));
        let is_split = |(name, scope)| {
            self.catalog.relations.get(name).is_some_and(|one| self.is_split(one, scope, &mut BTreeSet::new()))
        };
        let has_filters = self.scope.relations.values().any(|scope| scope.filter.is_some());
        if !has_filters && !((is_plan || is_counted) && self.scope.relations.iter().any(is_split)) {
            return None;
        }
        let hidden = |name: &Name| self.may_be_filtered(name);
        if is_plan && (touched.any(hidden) || self.plans_what_hides(facts)) {
            let what = "a plan would tell of rows or values that the policy hides, behind its filter or by partition";
            return Some(refused(
                "filtered_form",
                what,
                "ask for the plan of a statement on relations without a filter, and without partitions by a masked column",
            ));
        }
        if is_counted {
            let what = "PostgreSQL's counters would tell of rows that the policy's filter hides, or of partitions by a masked column";
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
        let hides = |relation: &Relation| {
            let scope = self.scope.relations.get(&relation.name);
            scope.is_some_and(|scope| scope.is_closed() || self.is_split(relation, scope, &mut BTreeSet::new()))
        };
        self.may_be_own_view(name) || self.resolve(name).is_some_and(hides)
    }

    /// Whether it, a part of it or what a view reads has partitions by a masked column: a plan says from which of
    /// them rows come.
    fn is_split(&self, relation: &Relation, scope: &RelationScope, seen: &mut BTreeSet<u32>) -> bool {
        if !seen.insert(relation.oid) {
            return false;
        }
        let is_view = relation.kind == RelationKind::View;
        let stands_behind = |one: &Relation| match is_view {
            true => relation.depends_on.iter().any(|(oid, _)| *oid == one.oid),
            false => one.parents.contains(&relation.oid),
        };
        let mut is_split = |one: &Relation| {
            let scope = self.scope.relations.get(&one.name);
            stands_behind(one) && scope.is_some_and(|scope| self.is_split(one, scope, seen))
        };
        telling::bounds(relation, scope).is_some()
            || ((is_view || relation.kind == RelationKind::Partitioned)
                && self.catalog.relations.values().any(&mut is_split))
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
