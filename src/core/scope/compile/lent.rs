//! Keeps back writes that would run something with rights that the writer does not have: a default that ends
//! in a function with its owner's rights, and rules, which act as the relation's owner. What they put into a
//! column that may be read would otherwise be a way around every mask.

use std::collections::BTreeMap;

use super::{Decision, hides};
use crate::core::policy::classification::Classification;
use crate::core::scope::catalog::{Catalog, Lent, Relation};
use crate::core::scope::explain::Right;
use crate::core::scope::{BUILT_IN, Untold};

/// What would be told, by relation and right.
type Kept = BTreeMap<(u32, Right), String>;

/// Takes rights away until no more has to go: a rule may write to what another rule stands on.
pub(super) fn keep_back(classification: &Classification, catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    if catalog.lent.is_empty() || !hides(decisions) {
        return;
    }
    let by_oid: BTreeMap<u32, &Relation> = catalog.relations.values().map(|one| (one.oid, one)).collect();
    let mut kept = Kept::new();
    let mut waiting: Vec<(u32, &Lent)> =
        catalog.lent.iter().flat_map(|(oid, all)| all.iter().map(|lent| (*oid, lent))).collect();
    loop {
        let before = waiting.len();
        waiting.retain(|(oid, lent)| {
            let Some(of) = tells(lent, classification, decisions, &by_oid, &kept) else { return true };
            if let (Some(decision), Some(relation)) = (decisions.get_mut(oid), by_oid.get(oid)) {
                // A rule may write to it through a view as well.
                let through = by_oid.values().filter(|one| one.depends_on.iter().any(|(behind, _)| behind == oid));
                let places: Vec<u32> = through.map(|one| one.oid).chain([*oid]).collect();
                for (right, column) in taken(lent, relation) {
                    let (constraint, rule) = (lent.by.clone(), BUILT_IN.to_owned());
                    for place in &places {
                        kept.entry((*place, right)).or_insert_with(|| of.clone());
                    }
                    if decision.scope.allows(right) {
                        decision.scope.untold.push(Untold { right, column, constraint, of: of.clone(), rule });
                    }
                }
                decision.scope.untold.sort();
            }
            false
        });
        if waiting.len() == before {
            return;
        }
    }
}

/// What it would tell of, if anything.
fn tells(
    lent: &Lent,
    classification: &Classification,
    decisions: &BTreeMap<u32, Decision>,
    by_oid: &BTreeMap<u32, &Relation>,
    kept: &Kept,
) -> Option<String> {
    let called = lent.calls.iter().find(|name| !classification.opens_function(name));
    let called = called.map(|name| format!("what {name} may read"));
    let read = || lent.reads.iter().find_map(|(oid, number)| hidden(*oid, *number, decisions, by_oid));
    called.or_else(read).or_else(|| lent.writes.iter().find_map(|write| kept.get(write)).cloned())
}

/// What is kept from people in a column, or a relation, that a rule reads.
fn hidden(
    oid: u32,
    number: i16,
    decisions: &BTreeMap<u32, Decision>,
    by_oid: &BTreeMap<u32, &Relation>,
) -> Option<String> {
    let (Some(decision), Some(relation)) = (decisions.get(&oid), by_oid.get(&oid)) else {
        return Some("a relation that is not granted".to_owned());
    };
    if decision.withheld.is_some() || !decision.scope.read || decision.scope.is_closed() {
        return Some(relation.name.to_string());
    }
    let mut read = decision.scope.columns.iter().filter(|column| number == 0 || column.number == number);
    read.find(|column| column.mask.is_some()).map(|column| format!("{}.{}", relation.name, column.name))
}

/// The rights that go: a default is asked for by leaving its column out, and by name; what is computed is
/// asked for by changing what it is computed from.
fn taken(lent: &Lent, relation: &Relation) -> Vec<(Right, Option<String>)> {
    let mut taken = vec![(lent.right, None)];
    let Some(column) = lent.column.and_then(|at| relation.columns.iter().find(|one| one.number == at)) else {
        return taken;
    };
    let named = |at: &i16| relation.columns.iter().find(|one| one.number == *at).map(|one| one.name.clone());
    let itself = [column.number];
    let sources = if column.generated_from.is_empty() { &itself[..] } else { &column.generated_from };
    taken.extend(sources.iter().filter_map(named).map(|name| (Right::Update, Some(name))));
    taken
}
