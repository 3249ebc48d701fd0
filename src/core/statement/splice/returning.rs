//! RETURNING on a masked target: constants in place of the columns that may not be read.
//!
//! Only whole entries are replaced: `*`, `alias.*`, and a masked column by itself. A masked column
//! inside an expression is left to PostgreSQL, which denies it.

use super::{Editor, Spot, quoted, writes};
use crate::core::statement::tree::Tree;

impl Editor<'_> {
    /// The columns of a masked target.
    pub(super) fn columns_of(&self, target: &Tree) -> Option<Vec<Shown>> {
        let (schema, name) = target.relation();
        (self.masks.columns)(schema, name)
    }

    /// The columns of a masked target that RETURNING has to show in another way: with constants where
    /// the relation itself is written, by the names of their masks where a view takes its rows. The view
    /// that UPDATE and DELETE write through shows them by their own names.
    pub(super) fn returned(&self, tree: &Tree, kind: &str) -> Option<Vec<Shown>> {
        if !writes(kind) || tree.get("returning_clause").is_nothing() {
            return None;
        }
        let (target, spot) = (tree.get("relation"), self.target_spot(tree, kind));
        let mut columns = self.columns_of(target)?;
        match (spot, self.replaced(target, spot)) {
            (_, None) => {}
            (Spot::NewRows | Spot::ShownRows, Some(_)) => columns.iter_mut().for_each(Shown::take_rows),
            (Spot::Rows | Spot::RowsOfItself | Spot::Target | Spot::ShownTarget, Some(_)) => return None,
        }
        Some(columns)
    }

    /// Rewrites the RETURNING list of an INSERT, UPDATE, DELETE or MERGE whose target is masked.
    pub(super) fn returning(&mut self, tree: &mut Tree, columns: &[Shown]) {
        let target = tree.get("relation");
        // A target that was replaced goes by the name it had.
        let alias = target.get("alias").get("aliasname").text();
        let alias = if alias.is_empty() { target.get("relname").text() } else { alias }.to_owned();
        // Beside other relations a bare name or star may mean theirs.
        let is_alone = ["from_clause", "using_clause"].iter().all(|clause| tree.get(clause).items().is_empty())
            && tree.get("source_relation").is_nothing();
        let Some(Tree::List(entries)) =
            tree.get_mut("returning_clause").and_then(|returning| returning.get_mut("exprs"))
        else {
            return;
        };
        let old = std::mem::take(entries);
        for entry in old {
            match self.entry(&entry, &alias, is_alone, columns) {
                Some(shown) => entries.extend(shown),
                None => entries.push(entry),
            }
        }
    }

    /// What stands for one entry, its cut made; none where it stays as it is.
    fn entry(&mut self, entry: &Tree, alias: &str, is_alone: bool, columns: &[Shown]) -> Option<Vec<Tree>> {
        let reference = entry.get("val");
        let fields = reference.get("fields").items();
        if reference.kind() != "ColumnRef" {
            return None;
        }
        let (qualifier, last) = match fields {
            [last] if is_alone => ("", last),
            [qualifier, last] if qualifier.get("sval").text() == alias => (alias, last),
            _ => return None,
        };
        let text = if last.kind() == "AStar" {
            let all = columns.iter().map(|column| column.text(qualifier, true));
            all.collect::<Vec<_>>().join(", ")
        } else {
            let name = last.get("sval").text();
            let column = columns.iter().find(|column| column.name == name && column.is_replaced())?;
            column.text(qualifier, entry.get("name").text().is_empty())
        };
        let first = self.token_at(reference)?;
        let end = self.tokens.get(first + 2 * (fields.len() - 1))?.1;
        self.cut(self.tokens.get(first)?.0, end, text.clone());
        if self.failed.get().is_some() {
            return None;
        }
        let Tree::List(mut targets) = self.targets(&format!("SELECT {text}"))? else { return None };
        // An alias of the statement's own stands behind what was cut.
        if let ([target], false) = (targets.as_mut_slice(), entry.get("name").text().is_empty())
            && let Some(name) = target.get_mut("name")
        {
            *name = entry.get("name").clone();
        }
        Some(targets)
    }

    /// The index of the token that a node starts with.
    pub(super) fn token_at(&self, node: &Tree) -> Option<usize> {
        let at = node.location()?.checked_sub(self.start)?;
        self.tokens.binary_search_by_key(&at, |(start, _)| *start).ok()
    }
}

/// One column of a masked relation: as it is, or a constant of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub mask: Option<String>,
    /// A masking view would show a part of it.
    pub discloses: bool,
    /// The column that shows this part in the view that takes new rows.
    pub by: Option<String>,
}

impl Shown {
    /// Through the view that takes new rows: no mask in place of a part that the view shows.
    fn take_rows(&mut self) {
        if self.by.is_some() {
            self.mask = None;
        }
    }

    fn is_replaced(&self) -> bool {
        self.mask.is_some() || self.by.is_some()
    }

    fn text(&self, qualifier: &str, with_name: bool) -> String {
        let name = quoted(&self.name);
        let of =
            |name: &str| if qualifier.is_empty() { name.to_owned() } else { format!("{}.{name}", quoted(qualifier)) };
        let shown = match (&self.mask, &self.by) {
            (Some(mask), _) => mask.clone(),
            (None, Some(by)) => of(&quoted(by)),
            (None, None) => return of(&name),
        };
        if with_name { format!("{shown} AS {name}") } else { shown }
    }
}
