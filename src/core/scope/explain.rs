//! What a scope grants, relation by relation and column by column.
//!
//! One function decides the extent of every right: the GRANTs are written from it and the
//! explanation is read from it, so what a person is told and what PostgreSQL holds cannot differ.

use serde::{Deserialize, Serialize};

use super::{ColumnScope, RelationName, RelationScope, Scope};

/// A privilege on rows, in PostgreSQL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    Select,
    Insert,
    Update,
    Delete,
}

impl Right {
    pub const ALL: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// As GRANT and `has_table_privilege` spell it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// How far a right reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    Nothing,
    /// These columns, in the relation's order.
    Columns(Vec<String>),
    Whole,
}

impl Extent {
    /// What `has_table_privilege` answers.
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }

    /// The columns, where it is column by column.
    fn names(self) -> Vec<String> {
        match self {
            Self::Columns(names) => names,
            // A relation with a view that takes new rows has masked columns or a filter: nothing is whole.
            Self::Nothing | Self::Whole => Vec::new(),
        }
    }

    /// What `has_column_privilege` answers.
    pub fn covers(&self, column: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Columns(names) => names.iter().any(|name| name == column),
            Self::Whole => true,
        }
    }
}

/// The extent of a right on the relation itself.
///
/// Whole where nothing of it is masked, so that system columns and LOCK work as usual; column by
/// column otherwise. None where rows are filtered or a view is rebuilt: the view is the only door.
pub fn on_relation(relation: &RelationScope, right: Right) -> Extent {
    if relation.is_closed() || !relation.allows(right) || relation.keeps_back(right, None) {
        return Extent::Nothing;
    }
    if right == Right::Delete || (!relation.is_masked() && relation.gives_all(right)) {
        return Extent::Whole;
    }
    these(relation, |column| match right {
        // A new row may hold what its writer knows already.
        Right::Insert => !column.is_generated && !is_kept_back(relation, right, column),
        Right::Update => is_changed(relation, column),
        Right::Select | Right::Delete => column.mask.is_none(),
    })
}

/// Whether a column may be changed. A change to a masked one would be blind, and its error messages an
/// oracle.
fn is_changed(relation: &RelationScope, column: &ColumnScope) -> bool {
    column.mask.is_none() && !column.is_generated && !is_kept_back(relation, Right::Update, column)
}

fn is_kept_back(relation: &RelationScope, right: Right, column: &ColumnScope) -> bool {
    relation.keeps_back(right, Some(&column.name))
}

/// The extent of a right on the masking view that stands for the relation.
pub fn on_view(relation: &RelationScope, right: Right) -> Extent {
    if relation.view.is_none() || !relation.allows(right) || relation.keeps_back(right, None) {
        return Extent::Nothing;
    }
    match right {
        Right::Select | Right::Delete => Extent::Whole,
        // It goes to the table itself, or to the view that takes new rows: this one takes no values for
        // what it computes.
        Right::Insert => Extent::Nothing,
        Right::Update if !relation.is_masked() && relation.gives_all(right) => Extent::Whole,
        Right::Update => these(relation, |column| is_changed(relation, column)),
    }
}

/// The columns of the view that takes new rows, by right: those of the relation itself, and to be read
/// those that show a part.
pub fn on_rows_view(relation: &RelationScope) -> [(Right, Vec<String>); 3] {
    [Right::Select, Right::Insert, Right::Update].map(|right| {
        let mut names = match (right, &relation.filter) {
            (_, None) => on_relation(relation, right).names(),
            (Right::Select, Some(_)) => these(relation, |column| column.mask.is_none()).names(),
            (Right::Insert, Some(_)) => {
                these(relation, |column| !column.is_generated && !is_kept_back(relation, right, column)).names()
            }
            (Right::Update | Right::Delete, Some(_)) => Vec::new(),
        };
        if right == Right::Select {
            names.extend(relation.columns.iter().filter_map(ColumnScope::shown_by));
        }
        (right, names)
    })
}

/// How far a right reaches, whichever way the gateway takes it.
pub fn reach(relation: &RelationScope, right: Right) -> Extent {
    let rows = || match (right, relation.rows_view()) {
        (Right::Insert, Some(_)) => {
            let found = on_rows_view(relation).into_iter().find(|(one, _)| *one == right);
            found.map_or_else(Vec::new, |(_, names)| names)
        }
        _ => Vec::new(),
    };
    match (on_relation(relation, right), on_view(relation, right)) {
        (Extent::Nothing, Extent::Nothing) => match rows() {
            names if names.is_empty() => Extent::Nothing,
            names => Extent::Columns(names),
        },
        (Extent::Nothing, extent) | (extent, _) => extent,
    }
}

fn these(relation: &RelationScope, fits: impl Fn(&ColumnScope) -> bool) -> Extent {
    let names: Vec<String> =
        relation.columns.iter().filter(|column| fits(column)).map(|column| column.name.clone()).collect();
    if names.is_empty() { Extent::Nothing } else { Extent::Columns(names) }
}

/// What a scope says of one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation<'s> {
    /// No rule permits anything, or it does not exist.
    NotGranted,
    /// The policy allows it, but it cannot be made safe; the reason.
    Withheld(&'s str),
    Granted(Box<Granted<'s>>),
}

/// The rights on one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted<'s> {
    pub relation: &'s RelationScope,
    /// On the relation itself, in the order of [`Right::ALL`].
    pub rights: [Extent; 4],
    /// On the masking view that stands for it; all `Nothing` where there is none.
    pub through_view: [Extent; 4],
    pub columns: Vec<ColumnGrant<'s>>,
}

/// How one column is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnGrant<'s> {
    pub name: &'s str,
    pub seen: Seen<'s>,
    pub insert: bool,
    pub update: bool,
}

/// What a SELECT through the gateway shows of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'s> {
    Hidden,
    Clear,
    Masked { mask: &'s str, rule: &'s str },
}

impl Explanation<'_> {
    /// What `has_table_privilege` answers for the scope's role.
    pub fn has_table(&self, right: Right) -> bool {
        self.extent(right).is_some_and(Extent::is_whole)
    }

    /// What `has_column_privilege` answers; DELETE is no column's right.
    pub fn has_column(&self, column: &str, right: Right) -> bool {
        right != Right::Delete && self.extent(right).is_some_and(|extent| extent.covers(column))
    }

    fn extent(&self, right: Right) -> Option<&Extent> {
        match self {
            Self::NotGranted | Self::Withheld(_) => None,
            Self::Granted(granted) => {
                Right::ALL.iter().zip(&granted.rights).find(|(one, _)| **one == right).map(|(_, extent)| extent)
            }
        }
    }
}

/// Everything a scope grants on one relation, or why it grants nothing.
pub fn explain<'s>(scope: &'s Scope, name: &RelationName) -> Explanation<'s> {
    if let Some(reason) = scope.withheld.get(name) {
        return Explanation::Withheld(reason);
    }
    let Some(relation) = scope.relations.get(name) else { return Explanation::NotGranted };
    let rights = Right::ALL.map(|right| on_relation(relation, right));
    let through_view = Right::ALL.map(|right| on_view(relation, right));
    let (inserts, updates) = (reach(relation, Right::Insert), reach(relation, Right::Update));
    let columns = relation.columns.iter().map(|column| ColumnGrant {
        name: &column.name,
        seen: match &column.mask {
            _ if !relation.read => Seen::Hidden,
            None => Seen::Clear,
            Some(mask) => Seen::Masked { mask: &mask.name, rule: &mask.rule },
        },
        insert: inserts.covers(&column.name),
        update: updates.covers(&column.name),
    });
    let columns = columns.collect();
    Explanation::Granted(Box::new(Granted { relation, rights, through_view, columns }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::grant::Access;
    use crate::core::scope::ColumnMask;

    fn relation(masked: bool, filter: Option<&str>) -> RelationScope {
        let mask = masked.then(|| ColumnMask {
            name: "null".into(),
            expression: "null::text".into(),
            discloses: false,
            rule: "mask-secret".into(),
        });
        let column = |name: &str, mask, is_generated| ColumnScope {
            name: name.into(),
            number: 1,
            type_name: "text".into(),
            type_oid: 25,
            mask,
            is_generated,
        };
        RelationScope {
            oid: 1,
            read: true,
            insert: true,
            update: true,
            delete: false,
            columns: vec![column("id", None, true), column("name", None, false), column("email", mask, false)],
            view: filter.map(|_| ("dbgate_m_1_0".into(), "customers".into())),
            filter: filter.map(str::to_owned),
            rebuilt: None,
            sequences: Vec::new(),
            untold: Vec::new(),
        }
    }

    fn columns(names: &[&str]) -> Extent {
        Extent::Columns(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_right_reaches_whole_relations_clear_columns_or_nothing() {
        use Extent::{Nothing, Whole};
        let cases = [
            (relation(false, None), [Whole, Whole, Whole, Nothing], [Nothing, Nothing, Nothing, Nothing]),
            (
                relation(true, None),
                [columns(&["id", "name"]), columns(&["name", "email"]), columns(&["name"]), Nothing],
                [Nothing, Nothing, Nothing, Nothing],
            ),
            (
                relation(true, Some("true")),
                [Nothing, Nothing, Nothing, Nothing],
                [Whole, Nothing, columns(&["name"]), Nothing],
            ),
        ];
        // What is masked can be given to a new row behind a filter as well, through a view of its own that
        // changes nothing.
        let filtered = relation(true, Some("true"));
        let by_right = on_rows_view(&filtered).map(|(_, names)| names.join(" "));
        assert_eq!(by_right, ["id name", "name email", ""]);
        assert_eq!(reach(&filtered, Right::Insert), columns(&["name", "email"]));
        for (relation, on_it, through) in cases {
            assert_eq!(Right::ALL.map(|right| on_relation(&relation, right)), on_it, "{relation:?}");
            assert_eq!(Right::ALL.map(|right| on_view(&relation, right)), through, "{relation:?}");
        }
    }

    #[test]
    fn an_explanation_answers_as_postgresql_would_and_says_why_not() {
        let name = |name: &str| RelationName::new("public", name);
        let scope = Scope {
            cluster: "1".into(),
            database: "shop".into(),
            access: Access::Write,
            schemas: vec!["public".into()],
            relations: BTreeMap::from([(name("customers"), relation(true, None))]),
            withheld: BTreeMap::from([(name("whole"), "it shows everything".to_owned())]),
        };
        let found = explain(&scope, &name("customers"));
        assert!(!found.has_table(Right::Select) && found.has_column("name", Right::Select));
        assert!(!found.has_column("email", Right::Select) && found.has_column("email", Right::Insert));
        let Explanation::Granted(granted) = found else { panic!("granted") };
        let email = granted.columns.get(2).expect("three columns");
        let seen = Seen::Masked { mask: "null", rule: "mask-secret" };
        assert_eq!((email.seen, email.insert, email.update), (seen, true, false));
        assert_eq!(explain(&scope, &name("whole")), Explanation::Withheld("it shows everything"));
        assert_eq!(explain(&scope, &name("nowhere")), Explanation::NotGranted);
    }
}
