//! Relations that show other relations' rows: views, materialized views, and parents of tables.
//!
//! A view reads with its owner's rights, so column grants on the tables behind it do not hold in
//! it. One that reads a masked column or a relation that is not granted is withheld, unless the
//! classification names its own columns one for one.

use std::collections::BTreeMap;

use super::Decision;
use crate::core::policy::classification::Classification;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Relation, RelationKind};

/// Withholds until nothing more has to be: a view over a withheld view is withheld too.
pub(super) fn withhold(classification: &Classification, catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    let names: BTreeMap<u32, &RelationName> =
        catalog.relations.values().map(|relation| (relation.oid, &relation.name)).collect();
    let views: Vec<&Relation> = catalog
        .relations
        .values()
        .filter(|relation| is_view(relation.kind) && !classification.covers(relation))
        .collect();
    let children: Vec<&Relation> = catalog.relations.values().filter(|relation| !relation.parents.is_empty()).collect();
    let has_masks = decisions
        .values()
        .any(|decision| decision.withheld.is_some() || !decision.scope.read || decision.scope.is_masked());
    loop {
        let mut found: Vec<(u32, String)> = Vec::new();
        for relation in &views {
            if is_granted(decisions, relation.oid) {
                found.extend(why(relation, decisions, &names, has_masks).map(|reason| (relation.oid, reason)));
            }
        }
        for child in &children {
            if is_granted(decisions, child.oid) || is_view(child.kind) {
                continue;
            }
            let reason = format!("it would show the rows of {}, which is not granted", child.name);
            let above = child.parents.iter().filter(|parent| is_granted(decisions, **parent));
            found.extend(above.map(|parent| (*parent, reason.clone())));
        }
        if found.is_empty() {
            break;
        }
        for (oid, reason) in found {
            if let Some(decision) = decisions.get_mut(&oid) {
                decision.withheld.get_or_insert(reason);
            }
        }
    }
    // Writing through a view writes with its owner's rights: only where all behind it may be written.
    for view in catalog.relations.values().filter(|relation| is_view(relation.kind)) {
        let behind: Vec<u32> = view.depends_on.iter().map(|(oid, _)| *oid).collect();
        let all = |may: fn(&Decision) -> bool| behind.iter().all(|oid| decisions.get(oid).is_some_and(may));
        let (insert, update, delete) = (
            all(|decision| decision.withheld.is_none() && decision.scope.insert && !decision.scope.is_masked()),
            all(|decision| decision.withheld.is_none() && decision.scope.update && !decision.scope.is_masked()),
            all(|decision| decision.withheld.is_none() && decision.scope.delete && !decision.scope.is_masked()),
        );
        if let Some(decision) = decisions.get_mut(&view.oid) {
            decision.scope.insert &= insert;
            decision.scope.update &= update;
            decision.scope.delete &= delete;
        }
    }
}

/// The reason to withhold a view, if there is one.
fn why(
    view: &Relation,
    decisions: &BTreeMap<u32, Decision>,
    names: &BTreeMap<u32, &RelationName>,
    has_masks: bool,
) -> Option<String> {
    view.depends_on.iter().find_map(|(oid, attribute)| {
        let (Some(decision), Some(name)) = (decisions.get(oid), names.get(oid)) else {
            // A function with its owner's rights, or a relation that is gone since: cannot be followed.
            return has_masks.then(|| "it reads through a function or relation that cannot be followed".to_owned());
        };
        if decision.withheld.is_some() || !decision.scope.read {
            return Some(format!("it shows {name}, which is not granted"));
        }
        let shown = decision.scope.columns.iter().filter(|column| *attribute == 0 || column.number == *attribute);
        let masked = shown.into_iter().find(|column| column.mask.is_some())?;
        Some(format!("it shows {name}.{}, which is masked", masked.name))
    })
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
