//! Keeps back partitions whose bounds tell a masked column: which partition a row is read from says what it holds
//! there. Through the table that has them the rows are read as ever.

use std::collections::BTreeMap;

use super::Decision;
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::scope::telling;

/// Withholds every partition below such a key, those of partitions too.
pub(super) fn keep_back(catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    let mut above: Vec<&Relation> = catalog.relations.values().collect();
    above.retain(|one| decisions.get(&one.oid).is_some_and(|decision| telling::bounds(one, &decision.scope).is_some()));
    let mut told: Vec<(&Relation, String)> = Vec::new();
    for table in above {
        let column = decisions.get(&table.oid).and_then(|decision| telling::bounds(table, &decision.scope));
        let reason = format!(
            "its bounds would tell {}.{}, which is masked; use {}",
            table.name,
            column.unwrap_or_default(),
            table.name
        );
        let mut below = vec![table.oid];
        while let Some(oid) = below.pop() {
            for part in catalog.relations.values().filter(|one| one.parents.contains(&oid)) {
                below.push(part.oid);
                told.push((part, reason.clone()));
            }
        }
    }
    for (part, reason) in told {
        if let Some(decision) = decisions.get_mut(&part.oid) {
            decision.is_told_by_bounds |= decision.withheld.is_none() && decision.scope.read;
            decision.withheld.get_or_insert(reason);
        }
    }
}
