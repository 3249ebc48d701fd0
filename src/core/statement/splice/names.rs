//! What goes by `schema.relation.column` where something else stands for the relation: it has no schema
//! any more, only the relation's bare name.
//!
//! A bare name means what stands nearest. Where anything else of that name could be meant, the
//! statement is refused: an alias in the client's text tells them apart.

use std::collections::BTreeMap;

use super::{Editor, SpliceError, Spot, writes};
use crate::core::statement::tree::Tree;

/// A relation without an alias that something stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bare {
    spot: Spot,
    /// What stands for it, which tells whether `schema.relation` is the same one.
    replacement: String,
}

impl Editor<'_> {
    /// The relations without an alias, by their bare names, that this node brings in and that will be replaced.
    pub(super) fn bare(&self, tree: &Tree) -> BTreeMap<String, Bare> {
        let mut names = BTreeMap::new();
        for clause in SOURCES {
            self.bare_in(tree.get(clause), &mut names);
        }
        if writes(tree.kind()) {
            self.bare_one(tree.get("relation"), self.target_spot(tree, tree.kind()), &mut names);
        }
        if !names.is_empty() {
            let mut brought = brought(tree);
            brought.sort_unstable();
            let mut pairs = brought.iter().zip(brought.iter().skip(1));
            if let Some((twice, _)) = pairs.find(|(one, next)| one == next && names.contains_key(**one)) {
                self.fail(SpliceError::Ambiguous((*twice).to_owned()));
            }
        }
        names
    }

    fn bare_in(&self, tree: &Tree, names: &mut BTreeMap<String, Bare>) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.bare_in(item, names)),
            Tree::Node("JoinExpr", _) => {
                self.bare_in(tree.get("larg"), names);
                self.bare_in(tree.get("rarg"), names);
            }
            Tree::Node("RangeVar", _) => self.bare_one(tree, Self::spot(tree), names),
            _ => {}
        }
    }

    fn bare_one(&self, range: &Tree, spot: Spot, names: &mut BTreeMap<String, Bare>) {
        if range.get("alias").is_nothing()
            && let Some(replacement) = self.replaced(range, spot)
        {
            names.insert(range.get("relname").text().to_owned(), Bare { spot, replacement });
        }
    }

    /// Cuts the schema off `schema.relation.column` everywhere below.
    pub(super) fn shorten(&mut self, tree: &mut Tree, names: &BTreeMap<String, Bare>) {
        let Tree::Node(_, fields) = tree else { return };
        fields.iter_mut().for_each(|(_, field)| self.shorten_in(field, names, &[]));
    }

    /// `nearer` are the names that what stands between brings in.
    fn shorten_in(&mut self, tree: &mut Tree, names: &BTreeMap<String, Bare>, nearer: &[String]) {
        match tree {
            Tree::List(items) => items.iter_mut().for_each(|item| self.shorten_in(item, names, nearer)),
            Tree::Node("ColumnRef", _) => self.shorten_one(tree, names, nearer),
            Tree::Node(..) => {
                let more: Vec<String> = brought(tree).into_iter().map(str::to_owned).collect();
                let all = if more.is_empty() { nearer } else { &[nearer, &more].concat() };
                let Tree::Node(_, fields) = tree else { return };
                fields.iter_mut().for_each(|(_, field)| self.shorten_in(field, names, all));
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    fn shorten_one(&mut self, reference: &mut Tree, names: &BTreeMap<String, Bare>, nearer: &[String]) {
        let first = self.token_at(reference);
        let Some(Tree::List(parts)) = reference.get_mut("fields") else { return };
        let [schema, relation, _, ..] = parts.as_slice() else { return };
        let (schema, relation) = (schema.get("sval").text(), relation.get("sval").text());
        let Some(bare) = names.get(relation) else { return };
        match (self.masks.source)(Some(schema), relation, bare.spot) {
            Ok(Some(replacement)) if replacement == bare.replacement => {}
            _ => return,
        }
        if nearer.iter().any(|name| name == relation || name == UNTOLD) {
            self.fail(SpliceError::Ambiguous(relation.to_owned()));
        }
        parts.remove(0);
        match first.and_then(|index| Some((self.tokens.get(index)?.0, self.tokens.get(index + 2)?.0))) {
            Some((start, end)) => self.cut(start, end, String::new()),
            None => self.fail(SpliceError::Unsupported),
        }
    }
}

/// A name that only PostgreSQL works out: of what looks like a function and is none.
const UNTOLD: &str = "";

/// The clauses that bring rows in.
const SOURCES: [&str; 3] = ["from_clause", "using_clause", "source_relation"];

/// The names by which a node's columns can be said: those of its FROM and of what it writes.
fn brought(tree: &Tree) -> Vec<&str> {
    let mut names = Vec::new();
    // USING of a join is a list of columns.
    if tree.kind() != "JoinExpr" {
        SOURCES.iter().for_each(|clause| brought_by(tree.get(clause), &mut names));
    }
    if writes(tree.kind()) {
        brought_by(tree.get("relation"), &mut names);
    }
    if !tree.get("on_conflict_clause").is_nothing() {
        names.push("excluded");
    }
    names
}

fn brought_by<'t>(tree: &'t Tree, names: &mut Vec<&'t str>) {
    if let Tree::List(items) = tree {
        return items.iter().for_each(|item| brought_by(item, names));
    }
    let alias = tree.get("alias").get("aliasname").text();
    match tree.kind() {
        _ if !alias.is_empty() => names.push(alias),
        "RangeVar" => names.push(tree.get("relname").text()),
        "JoinExpr" => {
            ["larg", "rarg"].iter().for_each(|side| brought_by(tree.get(side), names));
            let columns = tree.get("join_using_alias").get("aliasname").text();
            names.extend((!columns.is_empty()).then_some(columns));
        }
        "RangeTableSample" => brought_by(tree.get("relation"), names),
        "RangeFunction" => tree.get("functions").items().iter().for_each(|one| {
            let function = one.items().first().filter(|call| call.kind() == "FuncCall");
            let name = function.and_then(|call| call.get("funcname").items().last());
            names.push(name.map_or(UNTOLD, |name| name.get("sval").text()));
        }),
        // A sub-select without an alias has no name.
        "" | "RangeSubselect" => {}
        _ => names.push(UNTOLD),
    }
}
