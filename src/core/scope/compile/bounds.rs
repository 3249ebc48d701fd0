//! Keeps back partitions whose bounds tell a masked column: which partition a row is read from says what it holds
//! there. Through the table that has them the rows are read as ever.

use std::collections::BTreeMap;

use super::Decision;
use crate::core::scope::catalog::Catalog;
use crate::core::scope::telling;

/// Withholds every partition below such a key, those of partitions too.
pub(super) fn keep_back(catalog: &Catalog, decisions: &mut BTreeMap<u32, Decision>) {
    let mut parts: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for part in catalog.relations.values() {
        part.parents.iter().for_each(|parent| parts.entry(*parent).or_default().push(part.oid));
    }
    let mut told: Vec<(u32, String)> = Vec::new();
    for table in catalog.relations.values() {
        let column = decisions.get(&table.oid).and_then(|decision| telling::bounds(table, &decision.scope));
        let Some(column) = column else { continue };
        let name = &table.name;
        let reason = format!("its bounds would tell {name}.{column}, which is masked; use {name}");
        let mut below = vec![table.oid];
        while let Some(oid) = below.pop() {
            for part in parts.get(&oid).into_iter().flatten() {
                below.push(*part);
                told.push((*part, reason.clone()));
            }
        }
    }
    for (part, reason) in told {
        if let Some(decision) = decisions.get_mut(&part) {
            decision.is_told_by_bounds |= decision.withheld.is_none() && decision.scope.read;
            decision.withheld.get_or_insert(reason);
        }
    }
}
