//! Keeps back what the policy's rules about `guess` forbid: writes whose outcome would tell something
//! of a masked column. Such a rule takes away; what no rule forbids goes by the rules about writes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, about, flow};
use crate::core::policy::engine::{Alike, Answer, DEFAULT_DENY};
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::scope::telling::{Telling, tellings};
use crate::core::scope::{BUILT_IN, RelationScope, Untold};

/// Asks about each masked column that something would tell of, once.
pub(super) fn keep_back<'c>(
    alike: &mut Alike<'_, 'c>,
    catalog: &'c Catalog,
    tags: &'c flow::Tags,
    decisions: &mut BTreeMap<u32, Decision>,
) {
    let found = {
        // What nobody is permitted to see is another matter than what a rule masks: a reference to it is
        // part of the work of who may make one.
        let is_masked = |oid: u32, number: i16| {
            let columns = decisions.get(&oid).into_iter().flat_map(|decision| &decision.scope.columns);
            let column = columns.into_iter().find(|column| column.number == number);
            column.and_then(|column| column.mask.as_ref()).is_some_and(|mask| mask.rule != DEFAULT_DENY)
        };
        tellings(catalog, &is_masked)
    };
    // Rights that the policy does not give are not kept back.
    let given: Vec<Telling> = found
        .into_iter()
        .filter(|one| decisions.get(&one.on).is_some_and(|decision| decision.scope.allows(one.right)))
        .collect();
    if given.is_empty() {
        return;
    }
    let by_oid: BTreeMap<u32, &'c Relation> = catalog.relations.values().map(|one| (one.oid, one)).collect();
    let asked: BTreeSet<(u32, i16)> = given.iter().map(|one| one.of).collect();
    let mut forbidden: BTreeMap<(u32, i16), (String, String)> = BTreeMap::new();
    for (oid, number) in asked {
        let Some(relation) = by_oid.get(&oid).copied() else { continue };
        let Some(at) = relation.columns.iter().position(|column| column.number == number) else { continue };
        let rule = match alike.questions(about(relation, tags)).guess(at) {
            Answer::Allow | Answer::Unpermitted => continue,
            Answer::Broken(_) => BUILT_IN.to_owned(),
            Answer::Forbidden { rules, .. } => {
                rules.first().map_or_else(|| DEFAULT_DENY.to_owned(), |rule| rule.id.clone())
            }
        };
        let column = relation.columns.get(at).map(|column| column.name.as_str()).unwrap_or_default();
        forbidden.insert((oid, number), (format!("{}.{column}", relation.name), rule));
    }
    for telling in given {
        let (Some((of, rule)), Some(decision)) = (forbidden.get(&telling.of), decisions.get_mut(&telling.on)) else {
            continue;
        };
        keep(&mut decision.scope, telling, of, rule);
    }
}

fn keep(scope: &mut RelationScope, telling: Telling, of: &str, rule: &str) {
    let named = telling.column.map(|at| scope.columns.iter().find(|one| one.number == at).map(|one| one.name.clone()));
    let column = match named {
        None => None,
        Some(Some(name)) => Some(name),
        // A column that the scope does not know is not given either.
        Some(None) => return,
    };
    scope.untold.push(Untold {
        right: telling.right,
        column,
        constraint: telling.constraint,
        of: of.to_owned(),
        rule: rule.to_owned(),
    });
    scope.untold.sort();
    scope.untold.dedup();
}
