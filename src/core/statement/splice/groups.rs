//! GROUP BY a key of a relation that something else stands for: PostgreSQL no longer knows that the
//! other columns of the row follow from the key, so those that are named are grouped by as well.
//!
//! What must stay true: the groups are the same. Only where the rows of one group are the same row of
//! the relation may more of its columns be added.

use std::collections::BTreeMap;

use super::{Editor, SpliceError, quoted};
use crate::core::statement::grammar;
use crate::core::statement::tree::Tree;

/// What is known of a relation for GROUP BY.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// Columns each that no two rows share, none of them masked or null.
    pub keys: Vec<Vec<String>>,
    /// Columns that can be grouped by.
    pub columns: Vec<String>,
}

/// Columns that are grouped by as well, and in front of which item.
pub(super) struct More {
    item: usize,
    columns: Vec<String>,
}

/// A relation in FROM under the name that it goes by.
struct Source {
    schema: String,
    name: String,
    grouping: Grouping,
}

impl Source {
    /// The column that a reference takes from it, as far as its text says; a star is the empty name.
    fn column<'t>(&self, reference: &'t Tree) -> Option<&'t str> {
        let fields = reference.get("fields").items();
        let (last, qualifier) = fields.split_last().filter(|_| reference.kind() == "ColumnRef")?;
        let word = |part: &Tree| part.get("sval").text() == self.name;
        let is_its_own = match qualifier {
            [] => true,
            [name] => word(name),
            [schema, name] => word(name) && schema.get("sval").text() == self.schema,
            _ => false,
        };
        let column = last.get("sval").text();
        let is_there = last.kind() == "AStar" || self.grouping.columns.iter().any(|known| known == column);
        (is_its_own && is_there).then_some(column)
    }
}

impl Editor<'_> {
    /// What a SELECT has to group by as well, once its relations give way to something else: in order.
    pub(super) fn grouped(&self, tree: &Tree) -> Vec<More> {
        let items = tree.get("group_clause").items();
        let mut sources = Vec::new();
        if !items.is_empty() {
            self.sources(tree.get("from_clause"), &mut sources);
        }
        let mut all: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for More { item, columns } in sources.iter().filter_map(|source| more(tree, items, source)) {
            all.entry(item).or_default().extend(columns);
        }
        all.into_iter().map(|(item, columns)| More { item, columns }).collect()
    }

    fn sources(&self, tree: &Tree, sources: &mut Vec<Source>) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.sources(item, sources)),
            Tree::Node("JoinExpr", _) if tree.get("alias").is_nothing() => {
                self.sources(tree.get("larg"), sources);
                self.sources(tree.get("rarg"), sources);
            }
            Tree::Node("RangeVar", _) if self.replacement(tree).is_some() => {
                let (schema, relation) = tree.relation();
                let alias = tree.get("alias");
                let grouping = (self.masks.groups)(schema, relation);
                // Columns may go by other names, too.
                if let Some(grouping) = grouping.filter(|_| alias.get("colnames").items().is_empty()) {
                    let name = if alias.is_nothing() { relation } else { alias.get("aliasname").text() };
                    sources.push(Source {
                        schema: schema.unwrap_or_default().to_owned(),
                        name: name.to_owned(),
                        grouping,
                    });
                }
            }
            // A sub-select has columns of its own, and a sample is of no relation that gives way.
            Tree::Node(..) | Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    /// Makes it so. The items are those that [`Self::grouped`] looked at.
    pub(super) fn group(&mut self, tree: &mut Tree, more: Vec<More>) {
        // From the back, so that the places in front stay true.
        for More { item, columns } in more.into_iter().rev() {
            let list = columns.join(", ");
            let at = tree.get("group_clause").items().get(item).and_then(|item| self.token_at(item));
            let at = at.and_then(|index| self.tokens.get(index)).map(|(start, _)| *start);
            let parsed = grammar::parse(&format!("SELECT 1 GROUP BY {list}")).ok().and_then(|mut all| all.pop());
            match (at, parsed, tree.get_mut("group_clause")) {
                (Some(start), Some(parsed), Some(Tree::List(items))) => {
                    self.cut(start, start, format!("{list}, "));
                    items.splice(item..item, parsed.tree.get("group_clause").items().iter().cloned());
                }
                _ => self.fail(SpliceError::Unsupported),
            }
        }
    }
}

/// The columns of one relation that a SELECT names beside the key that it groups by.
fn more(tree: &Tree, items: &[Tree], source: &Source) -> Option<More> {
    // A number stands for an entry of the list.
    let entries = tree.get("target_list").items();
    let entry = |number: i64| entries.get(usize::try_from(number).ok()?.checked_sub(1)?).map(|entry| entry.get("val"));
    let meant = |item: &'_ Tree| -> Option<String> {
        let reference = match item.kind() {
            "AConst" => entry(item.get("val").get("ival").int())?,
            _ => item,
        };
        source.column(reference).filter(|column| !column.is_empty()).map(str::to_owned)
    };
    let grouped: Vec<Option<String>> = items.iter().map(meant).collect();
    let has = |column: &String| grouped.iter().flatten().any(|grouped| grouped == column);
    let key = source.grouping.keys.iter().find(|key| !key.is_empty() && key.iter().all(has))?;
    let item = grouped.iter().position(|column| column.as_ref().is_some_and(|column| key.contains(column)))?;
    let mut named: Vec<&str> = Vec::new();
    for clause in ["target_list", "having_clause", "sort_clause", "window_clause", "distinct_clause"] {
        tree.get(clause).visit(&mut |node| named.extend(source.column(node)));
    }
    let is_named = |column: &&String| named.iter().any(|name| name.is_empty() || name == column);
    let wanted = source.grouping.columns.iter().filter(is_named).filter(|column| !has(column));
    let columns: Vec<_> = wanted.map(|column| format!("{}.{}", quoted(&source.name), quoted(column))).collect();
    (!columns.is_empty()).then_some(More { item, columns })
}

#[cfg(test)]
mod tests {
    use super::super::{Masks, SpliceError, Spot, splice};
    use super::Grouping;
    use crate::core::statement::grammar;

    fn spliced(sql: &str) -> Result<Option<String>, SpliceError> {
        let source = |_: Option<&str>, name: &str, _: Spot| Ok((name == "c" || name == "d").then(|| "m.v".to_owned()));
        let groups = |_: Option<&str>, name: &str| {
            let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let keys = if name == "c" { vec![texts(&["id"])] } else { vec![texts(&["a", "b"])] };
            Some(Grouping { keys, columns: texts(&["id", "name", "email", "a", "b"]) })
        };
        let statement = grammar::parse(sql).expect(sql).remove(0);
        let masks = Masks { source: &source, copied: &|_, _| None, columns: &|_, _| None, groups: &groups };
        Ok(splice(&statement, masks)?.map(|spliced| spliced.text))
    }

    #[test]
    fn what_is_named_beside_a_key_is_grouped_by_as_well() {
        let all =
            |alias: &str| ["name", "email", "a", "b"].map(|column| format!("\"{alias}\".\"{column}\"")).join(", ");
        let table = [
            (
                "select x.id, x.name, count(o.id) from c x join o on o.c = x.id group by x.id order by x.email",
                "select x.id, x.name, count(o.id) from m.v x join o on o.c = x.id \
                 group by \"x\".\"name\", \"x\".\"email\", x.id order by x.email"
                    .to_owned(),
            ),
            (
                "select c.*, count(*) from c left join o on true group by o.y, c.id having max(o.x) > 1",
                format!(
                    "select c.*, count(*) from m.v AS \"c\" left join o on true group by o.y, {}, c.id having max(o.x) > 1",
                    all("c")
                ),
            ),
            (
                "select s.c.name from s.c group by s.c.id",
                "select c.name from m.v AS \"c\" group by \"c\".\"name\", c.id".to_owned(),
            ),
            (
                "select id, name from c group by 1",
                "select id, name from m.v AS \"c\" group by \"c\".\"name\", 1".to_owned(),
            ),
            (
                "select (select max(q) from o where o.n = c.name) from c group by c.id",
                "select (select max(q) from o where o.n = c.name) from m.v AS \"c\" group by \"c\".\"name\", c.id"
                    .to_owned(),
            ),
            (
                "select d.name, c.email from c, d group by d.b, d.a, c.id",
                "select d.name, c.email from m.v AS \"c\", m.v AS \"d\" \
                 group by \"d\".\"name\", d.b, d.a, \"c\".\"email\", c.id"
                    .to_owned(),
            ),
        ];
        for (sql, expected) in table {
            assert_eq!(spliced(sql), Ok(Some(expected)), "{sql}");
        }
    }

    #[test]
    fn where_no_key_is_grouped_by_nothing_is_added() {
        for sql in [
            "select x.name from c x group by x.name",
            "select x.id, count(*) from c x group by x.id",
            "select d.name from d x, o d group by d.a, d.b",
            "select d.name from d group by d.a",
            "select x.n from c x (i, n) group by x.i",
            "select x.name, count(*) from c x group by grouping sets ((x.id), (x.name))",
        ] {
            let expected =
                sql.replace(" c x", " m.v x").replace(" d x", " m.v x").replace("from d ", "from m.v AS \"d\" ");
            assert_eq!(spliced(sql), Ok(Some(expected)), "{sql}");
        }
    }
}
