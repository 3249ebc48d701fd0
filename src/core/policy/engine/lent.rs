//! Says why a write is not granted that would run with rights its writer does not have, and keeps such code
//! out of relations that a session makes from others. PostgreSQL refuses the first by itself, without a reason.

use super::judge::plain;
use crate::core::policy::Denial;
use crate::core::policy::classification::Classification;
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::scope::explain::Right;
use crate::core::scope::{BUILT_IN, Scope};
use crate::core::statement::facts::{Facts, RowAction, Touch};

const HINT: &str =
    "vouch for the function in classification.toml, or leave out of the default or rule what it calls or reads";

/// Why this touch of the relation cannot be, if it cannot.
pub(super) fn refuse(
    classification: &Classification,
    facts: &Facts,
    touch: &Touch,
    relation: &Relation,
    scope: &Scope,
    catalog: &Catalog,
) -> Option<Denial> {
    let message = kept_back(touch, relation, scope)
        .or_else(|| taken_over(classification, facts, relation, catalog).filter(|_| scope.hides()))?;
    let mut denial = plain("definer_function", BUILT_IN, message);
    denial.hint = Some(HINT.to_owned());
    denial.objects = vec![relation.name.to_string()];
    denial.offset = touch.offset;
    Some(denial)
}

fn kept_back(touch: &Touch, relation: &Relation, scope: &Scope) -> Option<String> {
    let right = match touch.action {
        RowAction::Read => return None,
        RowAction::Insert => Right::Insert,
        RowAction::Update => Right::Update,
        RowAction::Delete => Right::Delete,
    };
    let granted = scope.relations.get(&relation.name)?;
    let mut kept =
        granted.untold.iter().filter(|one| one.right == right && one.rule == BUILT_IN && one.column.is_none());
    let kept = kept.next()?;
    let (action, name) = (touch.action.word(), &relation.name);
    Some(format!("{action} on {name} is not granted: {} would tell of {}", kept.constraint, kept.of))
}

/// A relation that is made from another has columns of its types, and with LIKE its defaults.
fn taken_over(
    classification: &Classification,
    facts: &Facts,
    relation: &Relation,
    catalog: &Catalog,
) -> Option<String> {
    if facts.makes.relations == 0 || matches!(facts.verb.as_str(), "CREATE INDEX" | "ALTER TABLE") {
        return None;
    }
    let carried = catalog.carried.get(&relation.oid).filter(|name| !classification.opens_function(name));
    let defaults = catalog.lent.get(&relation.oid).into_iter().flatten().filter(|one| one.column.is_some());
    let mut calls = defaults.filter(|_| facts.makes.takes_over).flat_map(|one| &one.calls);
    let name = carried.or_else(|| calls.find(|name| !classification.opens_function(name)))?;
    Some(format!("what is made from {} takes over `{name}`, which runs with its owner's rights", relation.name))
}
