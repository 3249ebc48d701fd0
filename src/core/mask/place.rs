//! What stands in a FROM clause where a masked relation was named.

use super::{Masked, identifier, null};
use crate::core::scope::catalog::{Catalog, Relation};
use crate::core::scope::{ColumnScope, RelationName, RelationScope};
use crate::core::statement::splice::{Grouping, Shown};

/// The text that replaces a masked relation's name, without an alias: the masking view's name, or a
/// sub-select over the columns that may be read with constants for the others.
///
/// `only` keeps ONLY in force. A masking view has no ONLY form and shows children too: a
/// caller that finds ONLY on a relation with a view has to refuse.
pub fn splice_text(relation: &RelationName, scope: &RelationScope, only: bool) -> String {
    splice_columns(relation, scope, only, |_| true)
}

/// The same with some of the columns only, by their numbers.
pub fn splice_columns(
    relation: &RelationName,
    scope: &RelationScope,
    only: bool,
    is_wanted: impl Fn(i16) -> bool,
) -> String {
    if let Some((schema, name)) = &scope.view {
        return format!("{}.{}", identifier(schema), identifier(name));
    }
    let wanted = scope.columns.iter().filter(|column| is_wanted(column.number));
    let columns: Vec<String> = wanted
        .map(|column| match &column.mask {
            None => identifier(&column.name),
            Some(mask) => format!("{} as {}", mask.expression, identifier(&column.name)),
        })
        .collect();
    let source = match &scope.rebuilt {
        Some(definition) => rebuilt(relation, scope, definition),
        None => {
            let only = if only { "only " } else { "" };
            format!("{only}{}", relation.quoted())
        }
    };
    format!("(select {} from {source})", columns.join(", "))
}

/// A view's query in place of the view, under the view's own names.
pub fn rebuilt(relation: &RelationName, scope: &RelationScope, definition: &str) -> String {
    let names: Vec<String> = scope.columns.iter().map(|column| identifier(&column.name)).collect();
    format!("({definition}) as {} ({})", identifier(&relation.name), names.join(", "))
}

/// The view that takes new rows and shows their masks, where there is one: see
/// [`RelationScope::rows_view`].
pub fn rows_view(scope: &RelationScope) -> Option<String> {
    scope.rows_view().map(|(schema, name)| format!("{}.{}", identifier(&schema), identifier(&name)))
}

/// The columns of a masked relation for RETURNING. A mask that discloses a part would have to read
/// the column, which the role may not, so there nothing of it is shown where the write cannot go
/// through a view.
pub fn returned(relation: &RelationName, scope: &RelationScope) -> Vec<Shown> {
    let mask = |column: &ColumnScope| {
        let mask = column.mask.as_ref()?;
        Some(if mask.discloses { null(masked(relation, column)).sql } else { mask.expression.clone() })
    };
    let shown = |column: &ColumnScope| Shown {
        name: column.name.clone(),
        mask: mask(column),
        discloses: column.mask.as_ref().is_some_and(|mask| mask.discloses),
        by: scope.rows_view().and_then(|_| column.shown_by()),
    };
    scope.columns.iter().map(shown).collect()
}

/// Types of PostgreSQL's that know no equality, so that nothing can be grouped by them.
const UNEQUAL: [&str; 9] = ["json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle"];

/// What GROUP BY has to know of a relation that something else stands for.
pub fn grouping(scope: &RelationScope, relation: &Relation, catalog: &Catalog) -> Grouping {
    let clear = |number: &i16| {
        let column = relation.columns.iter().find(|column| column.number == *number && column.not_null)?;
        let shown = scope.columns.iter().find(|shown| shown.number == *number && shown.mask.is_none())?;
        (shown.name == column.name).then(|| column.name.clone())
    };
    let keys = relation.unique_keys.iter().filter_map(|key| key.iter().map(clear).collect::<Option<Vec<_>>>());
    let keys = keys.filter(|key| catalog.is_unique(relation, key)).collect();
    let can_be = |column: &&ColumnScope| !UNEQUAL.contains(&column.type_name.trim_end_matches("[]"));
    Grouping { keys, columns: scope.columns.iter().filter(can_be).map(|column| column.name.clone()).collect() }
}

fn masked<'a>(relation: &'a RelationName, column: &'a ColumnScope) -> Masked<'a> {
    let (schema, relation) = (relation.schema.as_str(), relation.name.as_str());
    Masked { schema, relation, column: &column.name, type_name: &column.type_name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::scope::ColumnMask;

    fn scope(view: Option<(String, String)>) -> RelationScope {
        let mask =
            ColumnMask { name: "null".into(), expression: "null::text".into(), discloses: false, rule: "r".into() };
        let column = |name: &str, mask: Option<ColumnMask>| ColumnScope {
            name: name.into(),
            number: 1,
            type_name: "text".into(),
            type_oid: 25,
            mask,
            is_generated: false,
        };
        RelationScope {
            oid: 1,
            read: true,
            insert: false,
            update: false,
            delete: false,
            columns: vec![column("id", None), column("e\"mail", Some(mask))],
            view,
            filter: None,
            rebuilt: None,
            sequences: Vec::new(),
            untold: Vec::new(),
        }
    }

    #[test]
    fn constants_are_spliced_inline_and_views_by_name() {
        let name = RelationName::new("public", "customers");
        let inline = "(select \"id\", null::text as \"e\"\"mail\" from \"public\".\"customers\")";
        assert_eq!(splice_text(&name, &scope(None), false), inline);
        assert!(splice_text(&name, &scope(None), true).contains(" from only \"public\""));
        let view = Some(("dbgate_m_1".to_owned(), "customers".to_owned()));
        assert_eq!(splice_text(&name, &scope(view), false), "\"dbgate_m_1\".\"customers\"");
    }
}
