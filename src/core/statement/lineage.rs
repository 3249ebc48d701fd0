//! Which columns of a stored query's result can hold what is masked, told from its text.
//!
//! A materialized view keeps values, so nothing can be put in place of what it was made from: its
//! columns are granted or masked as they are. PostgreSQL's own text of the query names every column it
//! reads. One that may show a masked column names it; a query that does more with the name than to
//! show it (a join, a condition, an order, an alias) could carry it under another name or in
//! which rows there are, and nothing is told about that.

use std::collections::BTreeSet;

use super::grammar;
use super::tree::Tree;

/// Clauses in which rows are put together: a copied column shows there under two names.
const BLENDING: [&str; 2] = ["distinct_clause", "with_clause"];

/// For every column of the result whether it names one of these, each of which the query is known to
/// read; `None` where it cannot be told.
pub fn tainted(definition: &str, masked: &BTreeSet<&str>) -> Option<Vec<bool>> {
    let parsed = grammar::parse(definition).ok()?;
    let [statement] = parsed.as_slice() else { return None };
    let Tree::Node("SelectStmt", fields) = &statement.tree else { return None };
    let select = &statement.tree;
    // 1 is SETOP_NONE of the parser's protobuf: the arms of a UNION share their columns.
    if select.get("op").int() != 1 || BLENDING.iter().any(|clause| !is_empty(select.get(clause))) {
        return None;
    }
    let elsewhere = fields.iter().filter(|(name, _)| *name != "target_list");
    if elsewhere.into_iter().any(|(_, field)| names(field, masked)) || renames(select) {
        return None;
    }
    let targets = select.get("target_list").items();
    // A name that is read and stands nowhere was changed since.
    let is_named = |name: &&str| targets.iter().any(|target| names(target, &BTreeSet::from([*name])));
    if !masked.iter().all(is_named) {
        return None;
    }
    Some(targets.iter().map(|target| names(target, masked)).collect())
}

/// Whether one of the names stands anywhere in it, be it as a column or as anything else.
fn names(tree: &Tree, masked: &BTreeSet<&str>) -> bool {
    match tree {
        Tree::Text(text) => masked.contains(text.as_str()),
        Tree::List(items) => items.iter().any(|item| names(item, masked)),
        Tree::Node(_, fields) => fields.iter().any(|(_, field)| names(field, masked)),
        Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => false,
    }
}

/// Whether a list of aliases or a star gives columns names that are not written beside them.
fn renames(tree: &Tree) -> bool {
    match tree {
        Tree::Node("AStar", _) => true,
        Tree::Node(kind, fields) => {
            (*kind == "Alias" && !is_empty(tree.get("colnames"))) || fields.iter().any(|(_, field)| renames(field))
        }
        Tree::List(items) => items.iter().any(renames),
        Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => false,
    }
}

fn is_empty(tree: &Tree) -> bool {
    tree.is_nothing() || matches!(tree, Tree::List(items) if items.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_clear_only_where_the_masked_one_is_shown_and_nothing_else() {
        let table = [
            (
                "SELECT c.id, c.email AS contact, count(o.id) AS n FROM public.c c JOIN public.o o ON o.c = c.id \
                 GROUP BY c.id",
                Some(vec![false, true, false]),
            ),
            ("SELECT id, lower(email), sum(email::int) AS s FROM public.c GROUP BY id", Some(vec![false, true, true])),
            ("SELECT id, (SELECT max(x.email) FROM public.c x) AS m FROM public.c", Some(vec![false, true])),
            ("SELECT id, c.email IS NULL AS none FROM public.c", Some(vec![false, true])),
            // The name that is shown by another column is not worth telling apart.
            ("SELECT id AS email FROM public.c", Some(vec![true])),
            ("SELECT id, rank() OVER (ORDER BY email) FROM public.c", Some(vec![false, true])),
            ("SELECT id, count(*) AS n FROM public.c GROUP BY id", None),
            ("SELECT id FROM public.c WHERE email ~~ 'a%'", None),
            ("SELECT id, email AS e FROM public.c ORDER BY email", None),
            ("SELECT id, count(*) FROM public.c GROUP BY id, email", None),
            ("SELECT email, rank() OVER w FROM public.c WINDOW w AS (ORDER BY email)", None),
            ("SELECT s.e, email FROM (SELECT email AS e FROM public.c) s", None),
            ("WITH s AS (SELECT email AS e FROM public.c) SELECT s.e, email FROM s", None),
            ("SELECT c.x, email FROM public.c c(i, x)", None),
            ("SELECT x.email FROM public.c x JOIN public.d y USING (email)", None),
            ("SELECT j.i, email FROM (public.c JOIN public.d USING (id)) j(i, e)", None),
            ("SELECT id, email FROM public.c UNION SELECT 1, x FROM public.d", None),
            ("SELECT DISTINCT id, email FROM public.c", None),
            ("SELECT c.*, email FROM public.c", None),
        ];
        for (sql, expected) in table {
            assert_eq!(tainted(sql, &BTreeSet::from(["email"])), expected, "{sql}");
        }
    }
}
