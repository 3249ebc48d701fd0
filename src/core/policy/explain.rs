//! Why: for a relation and its columns, the rules that decide and what comes of them.
//!
//! What comes of them is read from the compiled scope, which is what PostgreSQL enforces; the rules
//! are asked of the same engine. The two are put side by side here and never worked out twice.

use serde::Serialize;

use super::engine::Asking;
use super::{Policy, Subject};
use crate::core::scope::catalog::{Catalog, RelationKind};
use crate::core::scope::{RelationName, Scope};

/// What may be done with one relation, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `schema.name`.
    pub relation: String,
    pub kind: RelationKind,
    /// Why it is not granted although the policy allows reading it.
    pub withheld: Option<String>,
    pub actions: Vec<Action>,
    pub columns: Vec<Column>,
}

/// One of read, insert, update, delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    pub action: &'static str,
    /// Whether the role of the session may do it at all.
    pub granted: bool,
    /// Those that forbid, else those that permit; none where no rule permits.
    pub rules: Vec<String>,
}

/// How one column comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    /// Its own tags and those of its relation. What flows in from other relations shows in the mask.
    pub tags: Vec<String>,
    pub seen: Seen,
    /// The mask, where it is masked.
    pub mask: Option<String>,
    /// What stands for it in SQL.
    pub expression: Option<String>,
    pub rules: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    Clear,
    Masked,
    /// The relation may not be read.
    Hidden,
}

/// Explains one relation; nothing where it does not exist.
pub fn relation(
    policy: &Policy,
    subject: &Subject<'_>,
    catalog: &Catalog,
    scope: &Scope,
    name: &RelationName,
) -> Option<Explanation> {
    let relation = catalog.relations.get(name)?;
    let asking = Asking::new(policy, subject);
    let own = policy.classification().relation_tags(name);
    let mut tags = policy.classification().column_tags(relation);
    tags.iter_mut().for_each(|tags| tags.extend(own.iter().cloned()));
    let named: Vec<_> = relation
        .columns
        .iter()
        .zip(&tags)
        .map(|(column, tags)| (column.name.as_str(), column.type_name.as_str(), tags))
        .collect();
    let entities = asking.relation(name, Some(relation.kind), &own, &named);
    let granted = scope.relations.get(name);
    let actions = [
        ("read", granted.is_some_and(|scope| scope.read)),
        ("insert", granted.is_some_and(|scope| scope.insert)),
        ("update", granted.is_some_and(|scope| scope.update)),
        ("delete", granted.is_some_and(|scope| scope.delete)),
    ];
    let actions =
        actions.map(|(action, granted)| Action { action, granted, rules: asking.deciding(action, &entities, None) });
    let columns = relation.columns.iter().zip(&tags).enumerate().map(|(at, (column, tags))| {
        let shown = granted
            .filter(|scope| scope.read)
            .and_then(|scope| scope.columns.iter().find(|shown| shown.number == column.number));
        let mask = shown.and_then(|shown| shown.mask.as_ref());
        let mut rules = asking.deciding("reveal", &entities, Some(at));
        // A mask may come from tags that flowed in: the scope knows the rule.
        if let Some(mask) = mask
            && !rules.contains(&mask.rule)
        {
            rules = vec![mask.rule.clone()];
        }
        Column {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            tags: tags.iter().cloned().collect(),
            seen: match (shown, mask) {
                (None, _) => Seen::Hidden,
                (Some(_), None) => Seen::Clear,
                (Some(_), Some(_)) => Seen::Masked,
            },
            mask: mask.map(|mask| mask.name.clone()),
            expression: mask.map(|mask| mask.expression.clone()),
            rules,
        }
    });
    Some(Explanation {
        relation: name.to_string(),
        kind: relation.kind,
        withheld: scope.withheld.get(name).cloned(),
        actions: actions.into(),
        columns: columns.collect(),
    })
}
