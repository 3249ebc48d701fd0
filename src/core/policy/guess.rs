//! Who may guess at what is masked. Where a value must be unique, or must exist elsewhere, an INSERT
//! tells whether it does, whatever a role may read: PostgreSQL has to look.

use std::collections::BTreeSet;

use super::engine::{Answer, Asking};
use super::{Policy, lint};
use crate::core::grant::Access;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Relation};

/// A column that an INSERT asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Oracle {
    /// The relation whose column it is, by OID.
    pub relation: u32,
    pub attribute: i16,
    /// The relation that is inserted into, by OID.
    pub through: u32,
}

/// A column that somebody may guess at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guessable {
    pub relation: RelationName,
    pub column: String,
    pub through: RelationName,
}

/// Of these, the ones that are masked for a person of the rules' groups who may insert all the same.
pub fn guessable(
    policy: &Policy,
    target: &str,
    environment: &str,
    catalog: &Catalog,
    oracles: &BTreeSet<Oracle>,
) -> BTreeSet<Guessable> {
    let mut found = BTreeSet::new();
    for identity in lint::people(policy) {
        for access in [Access::Write, Access::Admin] {
            let subject = lint::asking(&identity, target, environment, &catalog.database, access);
            let asking = Asking::new(policy, &subject);
            if policy.may_connect(&subject).is_err() {
                continue;
            }
            for oracle in oracles {
                let places = (catalog.by_oid(oracle.relation), catalog.by_oid(oracle.through));
                let (Some(relation), Some(through)) = places else { continue };
                let Some(at) = relation.columns.iter().position(|column| column.number == oracle.attribute) else {
                    continue;
                };
                if may_insert(policy, &asking, through) && is_masked(&asking, relation, at) {
                    let column = relation.columns.get(at).map(|column| column.name.clone()).unwrap_or_default();
                    let (relation, through) = (relation.name.clone(), through.name.clone());
                    found.insert(Guessable { relation, column, through });
                }
            }
        }
    }
    found
}

fn may_insert(policy: &Policy, asking: &Asking<'_>, relation: &Relation) -> bool {
    let tags = policy.classification().relation_tags(&relation.name);
    let entities = asking.relation(&relation.name, Some(relation.kind), &tags, &[]);
    matches!(asking.on("insert", &entities, None), Answer::Allow)
}

fn is_masked(asking: &Asking<'_>, relation: &Relation, at: usize) -> bool {
    let entities = asking.existing(relation);
    // What nobody is permitted to see is hidden too, but it is hidden with its relation most often.
    asking.reveal(&entities).get(at).is_some_and(|answer| matches!(answer, Answer::Forbidden { .. }))
}
