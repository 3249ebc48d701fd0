//! Why: for a relation and its columns, the rules that decide and what comes of them.
//!
//! What comes of them is read from the compiled scope, which is what PostgreSQL enforces; the rules
//! are asked of the same engine. The two are put side by side here and never worked out twice.

use serde::Serialize;

use super::engine::Asking;
use super::{Policy, Subject};
use crate::core::mask::{self, own_types::Types};
use crate::core::scope::catalog::{self, Catalog, RelationKind};
use crate::core::scope::compile;
use crate::core::scope::explain::{self as rights, Extent, Granted};
use crate::core::scope::{ColumnMask, RelationName, Scope, Untold};

/// What may be done with one relation, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `schema.name`.
    pub relation: String,
    pub kind: RelationKind,
    /// Why it is not granted although the policy allows reading it.
    pub withheld: Option<String>,
    /// The condition that rows must meet to be seen or written.
    pub filter: Option<String>,
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
    /// What of it is not granted although these rules permit it, since its outcome would tell something
    /// of a masked column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<Untold>,
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
    /// What comes back as NULL although the rule's mask would show something of it, and why.
    pub lost: Vec<String>,
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
    let granted = match rights::explain(scope, name) {
        rights::Explanation::Granted(granted) => Some(granted),
        rights::Explanation::NotGranted | rights::Explanation::Withheld(_) => None,
    };
    let reaches = |granted: &Granted<'_>, at: usize| {
        // A view that is put together anew in each statement is read without a right on it.
        (at == 0 && granted.relation.read && granted.relation.rebuilt.is_some())
            || rights::Right::ALL
                .get(at)
                .is_some_and(|right| rights::reach(granted.relation, *right) != Extent::Nothing)
    };
    let action = |(at, action): (usize, &'static str)| Action {
        action,
        granted: granted.as_ref().is_some_and(|granted| reaches(granted, at)),
        rules: asking.deciding(action, &entities, None),
        untold: granted.as_ref().map(|granted| untold(granted, at)).unwrap_or_default(),
    };
    let actions = ["read", "insert", "update", "delete"].into_iter().enumerate().map(action).collect();
    let columns = relation.columns.iter().zip(&tags).enumerate().map(|(at, (column, tags))| {
        let shown = granted.as_ref().and_then(|granted| granted.columns.iter().find(|shown| shown.name == column.name));
        let seen = shown.map_or(rights::Seen::Hidden, |shown| shown.seen);
        let mask = match seen {
            rights::Seen::Masked { .. } => granted
                .as_ref()
                .and_then(|granted| granted.relation.columns.iter().find(|one| one.name == column.name)?.mask.as_ref()),
            rights::Seen::Hidden | rights::Seen::Clear => None,
        };
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
            seen: match seen {
                rights::Seen::Hidden => Seen::Hidden,
                rights::Seen::Clear => Seen::Clear,
                rights::Seen::Masked { .. } => Seen::Masked,
            },
            mask: mask.map(|mask| mask.name.clone()),
            expression: mask.map(|mask| mask.expression.clone()),
            lost: mask.map(|mask| lost(policy, mask, relation, column, &catalog.types)).unwrap_or_default(),
            rules,
        }
    });
    Some(Explanation {
        relation: name.to_string(),
        kind: relation.kind,
        withheld: scope.withheld.get(name).cloned(),
        filter: granted.as_ref().and_then(|granted| granted.relation.filter.clone()),
        actions,
        columns: columns.collect(),
    })
}

/// What a scope keeps back of one action.
fn untold(granted: &Granted<'_>, at: usize) -> Vec<Untold> {
    let right = rights::Right::ALL.get(at);
    granted.relation.untold.iter().filter(|one| Some(&one.right) == right).cloned().collect()
}

/// What a mask leaves out that its rule would show.
fn lost(
    policy: &Policy,
    shown: &ColumnMask,
    relation: &catalog::Relation,
    column: &catalog::Column,
    types: &Types,
) -> Vec<String> {
    let named = policy.rules().find(|rule| rule.id == shown.rule).and_then(|rule| rule.mask.as_deref());
    let named = named.unwrap_or("null");
    match mask::expression(named, compile::masked(relation, column), types) {
        Ok(expression) if named == shown.name => expression.lost,
        Ok(_) => {
            vec![format!("less than `{named}`: another rule, row-level security or what it is made of forbids that")]
        }
        Err(error) => vec![format!("NULL: {error}")],
    }
}
