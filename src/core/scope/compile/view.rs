//! Relations that show other relations' rows: views, materialized views, and parents of tables.
//!
//! A view reads with its owner's rights, so column grants on the tables behind it do not hold in
//! it. An ordinary view over what is masked is rebuilt over what stands for it; of a materialized
//! view the columns that show what is masked are masked too. What cannot be told apart is withheld,
//! unless the classification names its own columns one for one.

use std::collections::{BTreeMap, BTreeSet};

use super::Decision;
use crate::core::mask;
use crate::core::policy::classification::Classification;
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};
use crate::core::scope::explain::Right;
use crate::core::scope::{ColumnMask, RelationName};
use crate::core::statement::facts::Name;
use crate::core::statement::splice::{self, Masks, Spot};
use crate::core::statement::{grammar, lineage};

/// The reason where a definition cannot be put over masked relations.
pub(super) const NOT_REWRITTEN: &str = "it reads a masked relation in a way that cannot be rewritten";

/// What becomes of a view over masked relations.
enum Fate {
    Rebuilt(String),
    /// These columns of it, by position, hold what is masked by a rule.
    Masked(Vec<usize>, String),
    Withheld(String),
}

/// Rebuilds and withholds until nothing more has to be: a view over a withheld view is withheld
/// too, one over a rebuilt view is rebuilt.
pub(super) fn settle(classification: &Classification, catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    let by_oid: BTreeMap<u32, &Relation> =
        catalog.relations.values().map(|relation| (relation.oid, relation)).collect();
    let views: Vec<&Relation> = catalog
        .relations
        .values()
        .filter(|relation| is_view(relation.kind) && !classification.covers(relation))
        .collect();
    let children: Vec<&Relation> = catalog.relations.values().filter(|relation| !relation.parents.is_empty()).collect();
    let has_masks = super::hides(decisions);
    loop {
        let mut found: Vec<(u32, Fate)> = Vec::new();
        for view in &views {
            if is_granted(decisions, view.oid) {
                found.extend(fate(view, decisions, &by_oid, has_masks).map(|fate| (view.oid, fate)));
            }
        }
        for child in &children {
            let is_told = decisions.get(&child.oid).is_some_and(|decision| decision.is_told_by_bounds);
            if is_granted(decisions, child.oid) || is_told || is_view(child.kind) {
                continue;
            }
            let reason = format!("it would show the rows of {}, which is not granted", child.name);
            let above = child.parents.iter().filter(|parent| is_granted(decisions, **parent));
            found.extend(above.map(|parent| (*parent, Fate::Withheld(reason.clone()))));
        }
        if found.is_empty() {
            break;
        }
        for (oid, fate) in found {
            match (decisions.get_mut(&oid), fate) {
                (Some(decision), Fate::Withheld(reason)) => _ = decision.withheld.get_or_insert(reason),
                (Some(decision), Fate::Rebuilt(definition)) => decision.scope.rebuilt = Some(definition),
                (Some(decision), Fate::Masked(columns, rule)) => {
                    by_oid.get(&oid).iter().for_each(|view| hide(view, decision, &columns, &rule));
                }
                (None, _) => {}
            }
        }
    }
}

/// Writing through a view writes with its owner's rights: only where all behind it may be written.
pub(super) fn restrict_writes(catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    for view in catalog.relations.values().filter(|relation| is_view(relation.kind)) {
        let behind: Vec<u32> = view.depends_on.iter().map(|(oid, _)| *oid).collect();
        let free = |decision: &Decision| decision.withheld.is_none() && !decision.scope.is_replaced();
        let all = |may: fn(&Decision) -> bool| {
            behind.iter().all(|oid| decisions.get(oid).is_some_and(|decision| free(decision) && may(decision)))
        };
        let (insert, update, delete) = (
            all(|decision| decision.scope.gives_all(Right::Insert)),
            all(|decision| decision.scope.gives_all(Right::Update)),
            all(|decision| decision.scope.gives_all(Right::Delete)),
        );
        if let Some(decision) = decisions.get_mut(&view.oid) {
            decision.scope.insert &= insert;
            decision.scope.update &= update;
            decision.scope.delete &= delete;
        }
    }
}

/// Masks columns with NULL. What is masked already stays so if nothing of it is shown.
fn hide(view: &Relation, decision: &mut Decision, columns: &[usize], rule: &str) {
    for at in columns {
        let (Some(column), Some(known)) = (decision.scope.columns.get_mut(*at), view.columns.get(*at)) else {
            continue;
        };
        if column.mask.as_ref().is_none_or(|mask| mask.discloses) {
            column.mask = Some(ColumnMask {
                name: "null".to_owned(),
                expression: mask::null(super::masked(view, known)).sql,
                discloses: false,
                rule: rule.to_owned(),
            });
        }
    }
}

/// What has to become of a view, if it cannot stay as it is.
fn fate(
    view: &Relation,
    decisions: &BTreeMap<u32, Decision>,
    by_oid: &BTreeMap<u32, &Relation>,
    has_masks: bool,
) -> Option<Fate> {
    let mut shows = None;
    for (oid, attribute) in &view.depends_on {
        let (Some(decision), Some(behind)) = (decisions.get(oid), by_oid.get(oid)) else {
            if !has_masks {
                continue;
            }
            // A function with its owner's rights, or a relation that is gone since.
            return Some(Fate::Withheld("it reads through a function or relation that cannot be followed".to_owned()));
        };
        if decision.withheld.is_some() || !decision.scope.read {
            return Some(Fate::Withheld(format!("it shows {}, which is not granted", behind.name)));
        }
        let shown = decision.scope.columns.iter().filter(|column| *attribute == 0 || column.number == *attribute);
        if let Some(masked) = shown.into_iter().find(|column| column.mask.is_some()) {
            shows.get_or_insert(format!("it shows {}.{}, which is masked", behind.name, masked.name));
        } else if decision.scope.is_closed() {
            shows.get_or_insert(format!("it shows rows of {}, which are filtered or masked", behind.name));
        }
    }
    let shows = shows?;
    if decisions.get(&view.oid).is_some_and(|decision| decision.scope.rebuilt.is_some()) {
        return None;
    }
    if view.kind == RelationKind::MaterializedView {
        return stored(view, decisions, &shows);
    }
    let Some(definition) = &view.definition else { return Some(Fate::Withheld(shows)) };
    let guarded = view.depends_on.iter().filter_map(|(oid, _)| by_oid.get(oid)).find(|one| one.has_row_security);
    if let Some(guarded) = guarded {
        let reason = format!("{shows}, and the row policies of {} would judge the wrong role", guarded.name);
        return Some(Fate::Withheld(reason));
    }
    let known: BTreeSet<&RelationName> =
        view.depends_on.iter().filter_map(|(oid, _)| by_oid.get(oid)).map(|behind| &behind.name).collect();
    if !reads_only(definition, &known) {
        return Some(Fate::Withheld("it has changed while it was read; ask again".to_owned()));
    }
    match over_masks(definition, |_, _| Some("x".to_owned())) {
        Some(_) => Some(Fate::Rebuilt(definition.clone())),
        None => Some(Fate::Withheld(NOT_REWRITTEN.to_owned())),
    }
}

/// What becomes of a materialized view that shows something masked: it holds values, so what it was
/// made from can be told of its columns only.
fn stored(view: &Relation, decisions: &BTreeMap<u32, Decision>, shows: &str) -> Option<Fate> {
    let withheld = || Some(Fate::Withheld(shows.to_owned()));
    let (Some(definition), Some(own)) = (&view.definition, decisions.get(&view.oid)) else { return withheld() };
    let mut masked = BTreeSet::new();
    let mut rule = None;
    for (oid, attribute) in &view.depends_on {
        // A whole row, or what another view made of its tables, has no column to follow.
        let Some(behind) = decisions.get(oid).filter(|behind| *attribute != 0 && !behind.scope.is_closed()) else {
            return withheld();
        };
        for column in &behind.scope.columns {
            if let (Some(mask), true) = (&column.mask, column.number == *attribute) {
                masked.insert(column.name.as_str());
                rule.get_or_insert_with(|| mask.rule.clone());
            }
        }
    }
    let Some(tainted) = lineage::tainted(definition, &masked).filter(|all| all.len() == view.columns.len()) else {
        return withheld();
    };
    let shown = |at: usize| own.scope.columns.get(at).is_some_and(|c| c.mask.as_ref().is_none_or(|m| m.discloses));
    if tainted.iter().all(|is_tainted| *is_tainted) {
        return withheld();
    }
    let left: Vec<usize> =
        tainted.iter().enumerate().filter(|(at, is_tainted)| **is_tainted && shown(*at)).map(|(at, _)| at).collect();
    (!left.is_empty()).then(|| Fate::Masked(left, rule.unwrap_or_default()))
}

/// Whether a definition names no relation that its dependencies do not: only of those is known
/// that they may be read.
fn reads_only(definition: &str, known: &BTreeSet<&RelationName>) -> bool {
    let Ok(parsed) = grammar::parse(definition) else { return false };
    let is_known = |name: &Name| match name.schema.as_deref() {
        None | Some("pg_catalog" | "information_schema") => true,
        Some(schema) => known.contains(&RelationName::new(schema, &name.name)),
    };
    parsed.iter().flat_map(|one| &one.facts.touches).all(|touch| is_known(&touch.relation))
}

/// A definition with something else in place of the relations it reads. PostgreSQL's own text
/// names every relation with its schema; a name without one is a WITH query or the system's.
pub(super) fn over_masks(definition: &str, instead: impl Fn(&str, &str) -> Option<String>) -> Option<String> {
    let parsed = grammar::parse(definition).ok()?;
    let [statement] = parsed.as_slice() else { return None };
    let with = |text: &dyn Fn(&str, &str) -> Option<String>| {
        let replace = |schema: Option<&str>, name: &str, spot: Spot| match spot {
            Spot::Rows => Ok(schema.and_then(|schema| text(schema, name))),
            // What stands for a relation shows its children too.
            Spot::RowsOfItself | Spot::Target | Spot::NewRows | Spot::ShownTarget | Spot::ShownRows => Ok(None),
        };
        splice::splice(
            statement,
            Masks { source: &replace, copied: &|_, _| None, columns: &|_, _| None, groups: &|_, _| None },
        )
        .ok()
        .map(|spliced| spliced.map_or_else(|| statement.text.clone(), |spliced| spliced.text))
    };
    // The owner of the views may read everything: a place that was missed would be a leak here, so
    // nothing that must be replaced may be left once each is replaced by a name of no meaning.
    let emptied = with(&|schema, name| instead(schema, name).map(|_| "x".to_owned()))?;
    let left = grammar::parse(&emptied).ok()?;
    let is_left = |name: &Name| name.schema.as_deref().is_some_and(|schema| instead(schema, &name.name).is_some());
    if left.iter().flat_map(|one| &one.facts.touches).any(|touch| is_left(&touch.relation)) {
        return None;
    }
    with(&instead).map(|text| text.trim().trim_end_matches(';').to_owned())
}

fn is_granted(decisions: &BTreeMap<u32, Decision>, oid: u32) -> bool {
    decisions.get(&oid).is_some_and(|decision| decision.withheld.is_none() && decision.scope.read)
}

fn is_view(kind: RelationKind) -> bool {
    match kind {
        RelationKind::View | RelationKind::MaterializedView => true,
        RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign | RelationKind::Sequence => false,
    }
}
