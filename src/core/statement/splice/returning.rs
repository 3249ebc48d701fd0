//! RETURNING on a masked target: constants in place of the columns that may not be read.
//!
//! Only whole entries are replaced: `*`, `alias.*`, and a masked column by itself. A masked column
//! inside an expression is left to PostgreSQL, which denies it.

use super::{Cut, Editor, quoted};
use crate::core::statement::grammar;
use crate::core::statement::tree::Tree;

impl Editor<'_> {
    /// Rewrites the RETURNING list of an INSERT, UPDATE, DELETE or MERGE whose target is masked.
    pub(super) fn returning(&mut self, tree: &mut Tree) {
        let target = tree.get("relation");
        let (schema, name) = (target.get("schemaname").text(), target.get("relname").text());
        let columns = (self.masks.columns)((!schema.is_empty()).then_some(schema), name);
        let Some(columns) = columns.filter(|_| !tree.get("returning_clause").is_nothing()) else { return };
        let alias = target.get("alias").get("aliasname").text();
        let alias = if alias.is_empty() { name.to_owned() } else { alias.to_owned() };
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
            match self.entry(&entry, &alias, is_alone, &columns) {
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
            let column = columns.iter().find(|column| column.name == name && column.mask.is_some())?;
            column.text(qualifier, entry.get("name").text().is_empty())
        };
        let first = self.token_at(reference)?;
        let end = self.tokens.get(first + 2 * (fields.len() - 1))?.1;
        self.cuts.push(Cut { start: self.tokens.get(first)?.0, end, text: text.clone() });
        let mut shown = grammar::parse(&format!("SELECT {text}")).ok()?.pop()?.tree;
        let Some(Tree::List(mut targets)) = shown.get_mut("target_list").map(std::mem::take) else { return None };
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
        self.tokens.iter().position(|(start, _)| *start == at)
    }
}

/// One column of a masked relation: as it is, or a constant of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub name: String,
    pub mask: Option<String>,
    /// A masking view would show a part of it.
    pub discloses: bool,
}

impl Shown {
    fn text(&self, qualifier: &str, with_name: bool) -> String {
        let name = quoted(&self.name);
        match (&self.mask, qualifier) {
            (Some(mask), _) if with_name => format!("{mask} AS {name}"),
            (Some(mask), _) => mask.clone(),
            (None, "") => name,
            (None, qualifier) => format!("{}.{name}", quoted(qualifier)),
        }
    }
}
