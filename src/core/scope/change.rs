//! Whether a new scope takes away something that an older one gives.
//!
//! Widening waits for the next session; what is taken away must end the sessions that hold it.
//! What is gone from the database (a dropped table or column) was not taken away by anybody here.

use super::explain::{Extent, Right, reach};
use super::{ColumnScope, RelationName, RelationScope, Scope};

/// Whether sessions of the old scope hold anything that the new one does not give.
///
/// `exists` tells by OID whether a relation is still there.
pub fn narrows(old: &Scope, new: &Scope, exists: impl Fn(u32) -> bool) -> bool {
    if old.access != new.access {
        return true;
    }
    old.relations.iter().any(|(name, before)| match new.relations.get(name) {
        Some(after) if after.oid == before.oid => {
            relation_narrows(before, after) || (draws(name, before) && !draws(name, after))
        }
        // Made anew under its name: the old grants went with the old one.
        Some(_) => false,
        None => exists(before.oid),
    })
}

/// Whether it is a sequence that may be drawn from by itself.
fn draws(name: &RelationName, relation: &RelationScope) -> bool {
    relation.sequences.iter().any(|(schema, sequence)| *schema == name.schema && *sequence == name.name)
}

fn relation_narrows(before: &RelationScope, after: &RelationScope) -> bool {
    // A relation with a view that loses it, or the other way round, is as good as the better of both.
    Right::ALL.into_iter().any(|right| is_smaller(&reach(before, right), &reach(after, right), after))
        || before.filter != after.filter
        || before.rebuilt != after.rebuilt && before.rebuilt.is_some()
        || before.columns.iter().any(|column| shows_more(column, after))
}

fn is_smaller(before: &Extent, after: &Extent, relation: &RelationScope) -> bool {
    match (before, after) {
        (Extent::Nothing, _) | (_, Extent::Whole) => false,
        (Extent::Whole, _) => true,
        (Extent::Columns(names), after) => {
            let is_there = |name: &&String| relation.columns.iter().any(|column| column.name == **name);
            names.iter().filter(is_there).any(|name| !after.covers(name))
        }
    }
}

/// Whether a column was seen in a way that is not given any more.
fn shows_more(before: &ColumnScope, after: &RelationScope) -> bool {
    let Some(now) = after.columns.iter().find(|column| column.number == before.number) else { return false };
    match (&before.mask, &now.mask) {
        (_, None) => false,
        (None, Some(_)) => true,
        // Constants say nothing, whichever it was.
        (Some(old), Some(new)) => old.discloses && (old.name != new.name || !new.discloses),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::core::grant::Access;
    use crate::core::scope::ColumnMask;

    fn column(number: i16, mask: Option<(&str, bool)>) -> ColumnScope {
        ColumnScope {
            name: format!("c{number}"),
            number,
            type_name: "text".into(),
            type_oid: 25,
            mask: mask.map(|(name, discloses)| ColumnMask {
                name: name.into(),
                expression: "null".into(),
                discloses,
                rule: "r".into(),
            }),
            is_generated: false,
        }
    }

    fn relation(columns: Vec<ColumnScope>) -> RelationScope {
        RelationScope {
            oid: 7,
            read: true,
            insert: false,
            update: true,
            delete: false,
            columns,
            view: None,
            filter: None,
            rebuilt: None,
            sequences: Vec::new(),
            untold: Vec::new(),
        }
    }

    fn scope(relation: Option<RelationScope>) -> Scope {
        Scope {
            cluster: "1".into(),
            database: "shop".into(),
            access: Access::Write,
            schemas: vec!["public".into()],
            relations: relation.map(|one| (RelationName::new("public", "t"), one)).into_iter().collect(),
            withheld: BTreeMap::new(),
        }
    }

    #[test]
    fn only_what_is_taken_away_from_what_is_still_there_narrows() {
        let clear = || relation(vec![column(1, None), column(2, None)]);
        let masked = |mask: &str, discloses| relation(vec![column(1, None), column(2, Some((mask, discloses)))]);
        let filtered = |filter: &str| RelationScope { filter: Some(filter.into()), ..clear() };
        let drawing = |names: &[&str]| RelationScope {
            sequences: names.iter().map(|name| ("public".to_owned(), (*name).to_owned())).collect(),
            ..clear()
        };
        let less = |relation: RelationScope| RelationScope { update: false, ..relation };
        let cases = [
            ("the same", clear(), clear(), false),
            ("a mask goes", masked("null", false), clear(), false),
            ("a mask comes", clear(), masked("null", false), true),
            ("a new clear column", clear(), relation(vec![column(1, None), column(2, None), column(3, None)]), false),
            (
                "a new masked column was open to a grant on the whole",
                clear(),
                relation(vec![column(1, None), column(2, None), column(3, Some(("null", false)))]),
                true,
            ),
            ("a dropped column", masked("null", false), relation(vec![column(2, Some(("null", false)))]), false),
            ("a constant for another", masked("null", false), masked("redact", false), false),
            ("less of a part", masked("email", true), masked("null", false), true),
            ("another part", masked("email", true), masked("last4", true), true),
            ("no writes any more", clear(), less(clear()), true),
            ("writes too", less(clear()), clear(), false),
            ("rows are left out", clear(), filtered("a"), true),
            ("other rows", filtered("a"), filtered("b"), true),
            ("a sequence that may not be drawn from any more", drawing(&["t"]), drawing(&[]), true),
            ("the sequence of a dropped column", drawing(&["t", "s"]), drawing(&["t"]), false),
            ("another relation of the name", clear(), RelationScope { oid: 8, ..masked("null", false) }, false),
        ];
        for (what, before, after, expected) in cases {
            assert_eq!(narrows(&scope(Some(before)), &scope(Some(after)), |_| true), expected, "{what}");
        }
        assert!(narrows(&scope(Some(clear())), &scope(None), |oid| oid == 7), "not granted any more");
        assert!(!narrows(&scope(Some(clear())), &scope(None), |_| false), "dropped");
    }
}
