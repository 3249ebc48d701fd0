//! Writes whose outcome tells something of what is masked.
//!
//! PostgreSQL holds a written row against other rows, against the rest of the row and against other
//! relations, whatever the writer may read. Whether it refuses is an answer: an INSERT asks whether a
//! value is there already, an UPDATE beside a masked column asks how the two compare, a DELETE asks
//! whether a masked column refers to the row. Everything that can be asked is found here once, for the
//! compiler, which may withhold it, and for the doctor, which tells of it.

use std::collections::{BTreeMap, BTreeSet};

use super::RelationScope;
use super::catalog::{Against, Catalog, Constraint, Relation};
use super::explain::Right;

/// One right to write that asks about a masked column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Telling {
    /// The masked column: relation and attribute number.
    pub of: (u32, i16),
    /// What is written to.
    pub on: u32,
    pub right: Right,
    /// The column that is written; none of a DELETE.
    pub column: Option<i16>,
    /// What PostgreSQL looks at.
    pub constraint: String,
}

/// Everything that can be asked about the masked columns of a database.
pub fn tellings(catalog: &Catalog, is_masked: &dyn Fn(u32, i16) -> bool) -> BTreeSet<Telling> {
    let by_oid: BTreeMap<u32, &Relation> = catalog.relations.values().map(|one| (one.oid, one)).collect();
    let mut found = Found { by_oid, is_masked, all: BTreeSet::new() };
    for relation in catalog.relations.values() {
        relation.constraints.iter().for_each(|constraint| found.look(relation, constraint));
        for column in relation.columns.iter().filter(|column| !column.generated_from.is_empty()) {
            let columns = column.generated_from.iter().copied().chain([column.number]).collect();
            let name = format!("generated column {}", column.name);
            // An error of its expression would say how the columns compare.
            found.look(relation, &Constraint { name, columns, against: Against::Itself });
        }
    }
    found.through_kin()
}

/// A masked column that the bounds of a table's partitions tell.
pub fn bounds<'s>(relation: &Relation, scope: &'s RelationScope) -> Option<&'s str> {
    let keys = relation.constraints.iter().filter(|one| one.against == Against::Bounds);
    let keys: BTreeSet<i16> = keys.flat_map(|one| one.columns.iter().copied()).collect();
    let mut masked = scope.columns.iter().filter(|column| column.mask.is_some());
    masked.find(|column| keys.contains(&column.number)).map(|column| column.name.as_str())
}

struct Found<'c> {
    by_oid: BTreeMap<u32, &'c Relation>,
    is_masked: &'c dyn Fn(u32, i16) -> bool,
    all: BTreeSet<Telling>,
}

impl Found<'_> {
    fn look(&mut self, relation: &Relation, constraint: &Constraint) {
        let whole = || relation.columns.iter().map(|column| column.number).collect();
        let columns: Vec<i16> = if constraint.columns.contains(&0) { whole() } else { constraint.columns.clone() };
        let masked: Vec<i16> = columns.iter().copied().filter(|at| (self.is_masked)(relation.oid, *at)).collect();
        let name = &constraint.name;
        let add = |found: &mut Self, of: i16, right: Right, column: i16| {
            found.add((relation.oid, of), relation, right, column, name);
        };
        match &constraint.against {
            Against::Rows { is_plain } => {
                for of in masked {
                    // A column that is left out has its default, which is no guess; where several make
                    // up what is compared, the others are as good as the masked one.
                    let asking = if *is_plain { vec![of] } else { columns.clone() };
                    asking.into_iter().for_each(|column| add(self, of, Right::Insert, column));
                    columns.iter().for_each(|column| add(self, of, Right::Update, *column));
                }
            }
            // A new row is known to who writes it.
            Against::Itself | Against::Session | Against::Bounds => {
                for of in masked {
                    columns.iter().for_each(|column| add(self, of, Right::Update, *column));
                }
            }
            Against::Relation { oid, columns: referred } => {
                for (column, at) in columns.iter().zip(referred) {
                    if (self.is_masked)(*oid, *at) {
                        self.add((*oid, *at), relation, Right::Insert, *column, name);
                        columns.iter().for_each(|one| self.add((*oid, *at), relation, Right::Update, *one, name));
                    }
                }
                for of in masked {
                    columns.iter().for_each(|column| add(self, of, Right::Update, *column));
                    // Who refers to a row is asked by taking the row away.
                    let Some(above) = self.by_oid.get(oid).copied() else { continue };
                    let of = (relation.oid, of);
                    referred.iter().for_each(|at| self.add(of, above, Right::Update, *at, name));
                    self.put(of, above.oid, Right::Delete, None, name);
                }
            }
        }
    }

    /// What is computed is written by writing what it is computed from.
    fn add(&mut self, of: (u32, i16), on: &Relation, right: Right, column: i16, constraint: &str) {
        let known = on.columns.iter().find(|one| one.number == column);
        let sources = known.map_or(&[][..], |one| &one.generated_from);
        let itself = [column];
        for at in if sources.is_empty() { &itself } else { sources } {
            // A masked column is never changed.
            if right != Right::Update || !(self.is_masked)(on.oid, *at) {
                self.put(of, on.oid, right, Some(*at), constraint);
            }
        }
    }

    fn put(&mut self, of: (u32, i16), on: u32, right: Right, column: Option<i16>, constraint: &str) {
        self.all.insert(Telling { of, on, right, column, constraint: constraint.to_owned() });
    }

    /// A row that is written through a parent is written in a child, and the other way round.
    fn through_kin(self) -> BTreeSet<Telling> {
        let Self { by_oid, is_masked, mut all } = self;
        let mut kin: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (oid, relation) in &by_oid {
            for parent in &relation.parents {
                kin.entry(*oid).or_default().insert(*parent);
                kin.entry(*parent).or_default().insert(*oid);
            }
        }
        let mut waiting: Vec<Telling> = all.iter().filter(|one| kin.contains_key(&one.on)).cloned().collect();
        while let Some(telling) = waiting.pop() {
            let Some(from) = by_oid.get(&telling.on) else { continue };
            let column = telling.column.and_then(|at| from.columns.iter().find(|one| one.number == at));
            for to in kin.get(&telling.on).into_iter().flatten().filter_map(|oid| by_oid.get(oid)) {
                let same = column.and_then(|column| to.columns.iter().find(|one| one.name == column.name));
                let is_fit = match (telling.column, same) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(_), Some(same)) => telling.right != Right::Update || !is_masked(to.oid, same.number),
                };
                let next = Telling { on: to.oid, column: same.map(|one| one.number), ..telling.clone() };
                if is_fit && all.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests;
