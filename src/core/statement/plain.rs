//! Whether a SELECT names of a masked relation only what may be read as it is. Then nothing needs to
//! stand in its place, and PostgreSQL sees the table itself: its primary key, its samples, its plan.
//!
//! Whoever is unsure answers no: a splice shows the same values. A wrong yes ends in "permission
//! denied", never in a leak.

use std::collections::{BTreeMap, BTreeSet};

use super::grammar::Statement;
use super::tree::Tree;

/// The columns of a masked relation: those that may be read as they are, and the others.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub shown: BTreeSet<String>,
    pub hidden: BTreeSet<String>,
}

/// `columns` knows a relation by the schema as written (if any) and its name; nothing where it is not
/// masked.
pub fn names_only_what_is_shown(
    statement: &Statement,
    columns: &dyn Fn(Option<&str>, &str) -> Option<Columns>,
) -> bool {
    let mut seen = Seen::default();
    statement.tree.visit(&mut |node| seen.source(node, columns));
    let is_closed = seen.relations.values().any(|columns| columns.shown.is_empty());
    if seen.is_unsure || is_closed || seen.using.iter().any(|name| seen.hides(name)) {
        return false;
    }
    let mut is_plain = true;
    statement.tree.visit(&mut |node| {
        if node.kind() == "ColumnRef" {
            is_plain &= seen.allows(node.get("fields").items());
        }
    });
    is_plain
}

/// What the statement takes rows from.
#[derive(Default)]
struct Seen {
    /// Masked relations by the names that they go by in it.
    relations: BTreeMap<String, Columns>,
    /// Names that stand for joins: their rows hold columns of both sides.
    joins: BTreeSet<String>,
    /// Columns of USING.
    using: BTreeSet<String>,
    is_unsure: bool,
}

impl Seen {
    fn source(&mut self, node: &Tree, columns: &dyn Fn(Option<&str>, &str) -> Option<Columns>) {
        let alias = node.get("alias").get("aliasname").text();
        let renames = !node.get("alias").get("colnames").items().is_empty();
        match node.kind() {
            "RangeVar" => {
                let (schema, name) = node.relation();
                let Some(columns) = columns(schema, name) else { return };
                let known = self.relations.entry(if alias.is_empty() { name } else { alias }.to_owned()).or_default();
                known.hidden.extend(columns.hidden);
                // Two relations may go by one name in different places.
                known.shown = match known.shown.is_empty() {
                    true => columns.shown,
                    false => known.shown.intersection(&columns.shown).cloned().collect(),
                };
                self.is_unsure |= renames;
            }
            "JoinExpr" => {
                self.is_unsure |= node.get("is_natural").flag() || renames;
                self.using
                    .extend(node.get("using_clause").items().iter().map(|name| name.get("sval").text().to_owned()));
                if !alias.is_empty() {
                    self.joins.insert(alias.to_owned());
                }
            }
            "CopyStmt" => self.is_unsure |= !copies_shown(node, columns),
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" | "ViewStmt" => self.is_unsure = true,
            _ => {}
        }
    }

    fn hides(&self, column: &str) -> bool {
        self.relations.values().any(|columns| columns.hidden.contains(column))
    }

    /// Whether a reference surely means something that may be read.
    fn allows(&self, fields: &[Tree]) -> bool {
        let names: Vec<&str> = fields.iter().map(|field| field.get("sval").text()).collect();
        let Some((column, before)) = names.split_last() else { return false };
        // A star, or a whole row by its name.
        let is_row = self.relations.contains_key(*column) || self.joins.contains(*column);
        if column.is_empty() || is_row || self.hides(column) {
            return false;
        }
        match before.last() {
            None => true,
            Some(row) if self.joins.contains(*row) => false,
            // Any other name would be a function of the whole row.
            Some(row) => {
                SYSTEM.contains(column)
                    || self.relations.get(*row).is_none_or(|columns| columns.shown.contains(*column))
            }
        }
    }
}

/// Whether it is COPY of columns that it names, all of which may be read as they are.
fn copies_shown(copy: &Tree, columns: &dyn Fn(Option<&str>, &str) -> Option<Columns>) -> bool {
    let (schema, name) = copy.get("relation").relation();
    let named = copy.get("attlist").items();
    let known = columns(schema, name);
    !copy.get("is_from").flag()
        && !named.is_empty()
        && known.is_some_and(|known| named.iter().all(|column| known.shown.contains(column.get("sval").text())))
}

/// Columns of the system's own. Those that would tell something are not granted.
const SYSTEM: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::statement::grammar;

    fn is_plain(sql: &str) -> bool {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let columns = |_: Option<&str>, name: &str| {
            (name == "people").then(|| Columns { shown: set(&["id", "name"]), hidden: set(&["email"]) })
        };
        names_only_what_is_shown(&grammar::parse(sql).expect(sql).remove(0), &columns)
    }

    #[test]
    fn what_names_only_shown_columns_needs_nothing_in_their_place() {
        for sql in [
            "select id, name from people",
            "select p.name, count(o.id) from people p left join orders o on o.person = p.id group by p.id",
            "select count(*) from people where name like 'a%'",
            "select public.people.name from public.people",
            "select o.total from orders o, (select id from people) p where o.person = p.id",
            "select name from people join orders using (id) order by 1",
            "with p as (select id from people) select p.id from p",
            "select ctid, p.xmin, xmax::text from people p where p.ctid = '(0,1)'",
            "explain select id from people",
            "prepare q as select id from people where id = $1",
            "copy people (id, name) to stdout",
        ] {
            assert!(is_plain(sql), "{sql}");
        }
    }

    #[test]
    fn whatever_may_mean_more_does() {
        for sql in [
            "select * from people",
            "select p.* from people p",
            "select email from people",
            "select name from people where email like 'a%'",
            "select p from people p",
            "select people from people",
            "select public.people from public.people",
            "select p.label from people p",
            "select to_jsonb(p) from people p",
            "table people",
            "select x from people as p(a, b, x)",
            "select id from people natural join orders",
            "select id from people join orders using (email)",
            "select j.id from (people join orders on true) as j",
            "select j from (people join orders using (id)) as j",
            "select id from people order by email",
            "select (select email from people) from orders",
            "with p as (select * from people) select id from p",
            "update orders set x = p.name from people p where p.id = 1",
            "copy people (id, email) to stdout",
            "copy people to stdout",
            "copy people (id) from stdin",
            "copy (select email from people) to stdout",
            "create temp view v as select id from people",
            "select id from people group by id having max(email) > ''",
            "select id from people window w as (order by email)",
        ] {
            assert!(!is_plain(sql), "{sql}");
        }
    }
}
