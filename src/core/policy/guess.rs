//! Who may guess at what is masked. Where a value must be unique, must exist elsewhere, or is held against
//! others of its row, a write tells something of it, whatever a role may read: PostgreSQL has to look.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::{Answer, Asking};
use super::{Policy, lint};
use crate::core::grant::Access;
use crate::core::scope::RelationName;
use crate::core::scope::catalog::{Catalog, Column, Relation};
use crate::core::scope::explain::Right;
use crate::core::scope::telling::{Telling, tellings};

/// A column that somebody may guess at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guessable {
    pub relation: RelationName,
    pub column: String,
    /// The writes that tell of it: `INSERT INTO public.customers`.
    pub by: BTreeSet<String>,
}

/// The columns that are masked for a person of the rules' groups who may write what tells of them all the
/// same. Only those that somebody has classified: `is_classified` says so of relations, by OID.
pub fn guessable(
    policy: &Policy,
    target: &str,
    environment: &str,
    catalog: &Catalog,
    is_classified: &dyn Fn(u32) -> bool,
) -> BTreeSet<Guessable> {
    let by_oid: BTreeMap<u32, &Relation> = catalog.relations.values().map(|one| (one.oid, one)).collect();
    let mut found: BTreeMap<(RelationName, String), BTreeSet<String>> = BTreeMap::new();
    for identity in lint::people(policy) {
        for access in [Access::Write, Access::Admin] {
            let subject = lint::asking(&identity, target, environment, &catalog.database, access);
            let asking = Asking::new(policy, &subject);
            if policy.may_connect(&subject).is_err() {
                continue;
            }
            let classified = catalog.relations.values().filter(|one| is_classified(one.oid));
            let masked: BTreeMap<(u32, i16), Masked<'_>> = classified.flat_map(|one| masked(&asking, one)).collect();
            for Telling { of, on, right, .. } in tellings(catalog, &|oid, at| masked.contains_key(&(oid, at))) {
                let (Some(one), Some(on)) = (masked.get(&of), by_oid.get(&on)) else { continue };
                if one.may_be_guessed && may_write(policy, &asking, on, right) {
                    let by = format!("{} {}", verb(right), on.name);
                    found.entry((one.relation.clone(), one.column.to_owned())).or_default().insert(by);
                }
            }
        }
    }
    found.into_iter().map(|((relation, column), by)| Guessable { relation, column, by }).collect()
}

const fn verb(right: Right) -> &'static str {
    match right {
        Right::Select => "SELECT FROM",
        Right::Insert => "INSERT INTO",
        Right::Update => "UPDATE",
        Right::Delete => "DELETE FROM",
    }
}

fn may_write(policy: &Policy, asking: &Asking<'_>, relation: &Relation, right: Right) -> bool {
    let tags = policy.classification().relation_tags(&relation.name);
    let entities = asking.relation(&relation.name, Some(relation.kind), &tags, &[]);
    matches!(asking.on(&right.word().to_lowercase(), &entities, None), Answer::Allow)
}

/// A column that a rule masks.
struct Masked<'c> {
    relation: &'c RelationName,
    column: &'c str,
    /// No rule forbids it.
    may_be_guessed: bool,
}

/// The columns of a relation that rules mask. What nobody is permitted to see is hidden too, but it is
/// hidden with its relation most often.
fn masked<'c>(asking: &Asking<'_>, relation: &'c Relation) -> Vec<((u32, i16), Masked<'c>)> {
    let entities = asking.existing(relation);
    let masked = |(at, column): (usize, &'c Column)| {
        let answer = asking.on_column("reveal", &entities, at);
        let may_be_guessed = || matches!(asking.on_column("guess", &entities, at), Answer::Allow | Answer::Unpermitted);
        matches!(answer, Answer::Forbidden { .. }).then(|| {
            let one = Masked { relation: &relation.name, column: &column.name, may_be_guessed: may_be_guessed() };
            ((relation.oid, column.number), one)
        })
    };
    relation.columns.iter().enumerate().filter_map(masked).collect()
}
