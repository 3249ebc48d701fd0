//! Tags flow to wherever the same values can be read: along inheritance and partitioning, into
//! generated columns, and into foreign keys.
//!
//! Along inheritance they flow both ways. Reading a parent reads its children's rows, and only
//! the parent's privileges are looked at: a column that is classified in a partition alone must be
//! masked in the partitioned table as well.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::policy::classification::Classification;
use crate::core::scope::catalog::{Against, Catalog, Relation};

/// Tags of every relation and column after they have flowed.
pub(super) struct Tags {
    relations: BTreeMap<u32, (BTreeSet<String>, Vec<BTreeSet<String>>)>,
    none: BTreeSet<String>,
}

impl Tags {
    pub fn relation(&self, oid: u32) -> &BTreeSet<String> {
        self.relations.get(&oid).map_or(&self.none, |(tags, _)| tags)
    }

    /// By position in the relation's columns.
    pub fn column(&self, oid: u32, index: usize) -> &BTreeSet<String> {
        self.relations.get(&oid).and_then(|(_, columns)| columns.get(index)).unwrap_or(&self.none)
    }
}

/// Reads the classification and lets the tags flow until nothing changes.
pub(super) fn tags(classification: &Classification, catalog: &Catalog) -> Tags {
    let by_oid: BTreeMap<u32, &Relation> =
        catalog.relations.values().map(|relation| (relation.oid, relation)).collect();
    let mut relations: BTreeMap<u32, (BTreeSet<String>, Vec<BTreeSet<String>>)> = BTreeMap::new();
    for relation in catalog.relations.values() {
        let own = classification.relation_tags(&relation.name);
        let mut columns = classification.column_tags(relation);
        // A relation's tags are tags of each of its columns.
        columns.iter_mut().for_each(|tags| tags.extend(own.iter().cloned()));
        relations.insert(relation.oid, (own, columns));
    }
    let links: Vec<(u32, u32)> = catalog
        .relations
        .values()
        .flat_map(|child| child.parents.iter().map(|parent| (*parent, child.oid)))
        .filter(|(parent, _)| by_oid.contains_key(parent))
        .collect();
    // Tags only grow and are finite, so this ends.
    let mut moved = true;
    while moved {
        moved = false;
        for (parent, child) in &links {
            if let (Some(above), Some(below)) = (by_oid.get(parent), by_oid.get(child)) {
                moved |= between(&mut relations, above, below);
            }
        }
        for relation in by_oid.values() {
            moved |= generated(&mut relations, relation);
            moved |= referred(&mut relations, relation, &by_oid, classification);
        }
    }
    Tags { relations, none: BTreeSet::new() }
}

type Gathered = BTreeMap<u32, (BTreeSet<String>, Vec<BTreeSet<String>>)>;

/// Relation tags go down; column tags go both ways between columns of one name.
fn between(all: &mut Gathered, parent: &Relation, child: &Relation) -> bool {
    let Some((mut above_tags, mut above)) = all.remove(&parent.oid) else { return false };
    let mut moved = false;
    if let Some((below_tags, below)) = all.get_mut(&child.oid) {
        moved |= pour(&above_tags, below_tags);
        for (column, tags) in parent.columns.iter().zip(&mut above) {
            let at = child.columns.iter().position(|other| other.name == column.name);
            if let Some(other) = at.and_then(|at| below.get_mut(at)) {
                moved |= pour(tags, other);
                moved |= pour(other, tags);
            }
        }
    }
    all.insert(parent.oid, (std::mem::take(&mut above_tags), above));
    moved
}

/// A generated column shows what it is computed from.
fn generated(all: &mut Gathered, relation: &Relation) -> bool {
    let Some((_, columns)) = all.get_mut(&relation.oid) else { return false };
    let mut moved = false;
    for (index, column) in relation.columns.iter().enumerate() {
        for source in &column.generated_from {
            let at = relation.columns.iter().position(|other| other.number == *source);
            let Some(tags) = at.and_then(|at| columns.get(at)).cloned() else { continue };
            if let Some(own) = columns.get_mut(index) {
                moved |= pour(&tags, own);
            }
        }
    }
    moved
}

/// A foreign key holds what it refers to. What somebody has classified by an entry of its own stays so.
fn referred(
    all: &mut Gathered,
    relation: &Relation,
    by_oid: &BTreeMap<u32, &Relation>,
    classification: &Classification,
) -> bool {
    let mut moved = false;
    for constraint in &relation.constraints {
        let Against::Relation { oid, columns: above } = &constraint.against else { continue };
        for (number, at) in constraint.columns.iter().zip(above) {
            let position = |one: &Relation, number| one.columns.iter().position(|column| column.number == number);
            let from = by_oid.get(oid).and_then(|above| position(above, *at));
            let tags = from.and_then(|from| all.get(oid)?.1.get(from)).cloned().unwrap_or_default();
            let into = position(relation, *number);
            let column = into.and_then(|into| relation.columns.get(into));
            if column.is_none_or(|column| classification.names(&relation.name, &column.name)) {
                continue;
            }
            if let Some(own) = into.and_then(|into| all.get_mut(&relation.oid)?.1.get_mut(into)) {
                moved |= pour(&tags, own);
            }
        }
    }
    moved
}

/// Adds tags; tells whether any was new.
fn pour(from: &BTreeSet<String>, into: &mut BTreeSet<String>) -> bool {
    let before = into.len();
    into.extend(from.iter().cloned());
    into.len() > before
}
