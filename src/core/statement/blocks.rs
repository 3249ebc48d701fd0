//! The walk that finds which sources of a statement meet, and by what: see [`super::joins`].

use std::collections::HashSet;

use super::answers::{self, are_distinct};
use super::effects::called;
use super::facts::Name;
use super::joins::{Block, Joins, Level, Link, Reference, Side, Source};
use super::often::written;
use super::tree::Tree;

/// The joins of a statement.
pub(super) fn of(statement: &Tree) -> Joins {
    let mut walk = Walk { joins: Joins::default(), kept: Vec::new(), left: MOST_WORK };
    walk.any(statement, &Frame::default());
    walk.joins
}

/// What the rows of a query by itself are.
pub(super) fn rows_of(query: &Tree) -> Source {
    let mut walk = Walk { joins: Joins::default(), kept: Vec::new(), left: MOST_WORK };
    match walk.query(query, &Frame::default()) {
        _ if walk.joins.are_too_many => Source::Keyed(Vec::new()),
        source => source,
    }
}

/// Sources, links and common tables that one place of a statement may have; nobody writes more by hand.
const MOST: usize = 128;
/// So many names, sources and links are copied from one place of a statement to another.
const MOST_WORK: usize = 1_000_000;

/// What can be named at some place of a statement.
#[derive(Clone, Default)]
struct Frame {
    /// Aliases, and the sources behind each; nearest last.
    names: Vec<(String, Vec<usize>)>,
    /// Sources of the query itself, and what links them.
    sources: Vec<usize>,
    links: Vec<usize>,
    /// Sources and links of the queries around it.
    around: Vec<usize>,
    around_links: Vec<usize>,
    /// What WITH has named.
    common: Vec<(String, Source)>,
    /// The query inside of another that this is, or is in.
    level: Option<usize>,
    /// A function that makes rows out of the row beside it has been let through.
    has_function: bool,
}

impl Frame {
    /// How much there is to copy.
    fn size(&self) -> usize {
        let named: usize = self.names.iter().map(|(_, sources)| 1 + sources.len()).sum();
        let common: usize = self.common.iter().map(|(_, source)| size(source)).sum();
        let own = self.sources.len() + self.links.len();
        named + common + own + self.around.len() + self.around_links.len()
    }
}

fn size(source: &Source) -> usize {
    match source {
        Source::Relation(_, renamed) => 1 + renamed.as_ref().map_or(0, Vec::len),
        Source::Keyed(keys) => 1 + keys.iter().map(Vec::len).sum::<usize>(),
        Source::Values(_, distinct) => 1 + distinct.len(),
        Source::Rows(_) => 1,
    }
}

struct Walk {
    joins: Joins,
    /// Left sides of outer joins: their rows come back whatever the condition says.
    kept: Vec<(Vec<usize>, Vec<usize>)>,
    /// What is left of the work that one statement is worth.
    left: usize,
}

impl Walk {
    /// Takes so much of the work that is left; false where there are too many of anything, and no more
    /// is looked at.
    fn take(&mut self, work: usize) -> bool {
        self.left = self.left.saturating_sub(work);
        self.joins.are_too_many |= self.left == 0;
        !self.joins.are_too_many
    }

    /// Finds queries in any part of a statement.
    fn any(&mut self, tree: &Tree, frame: &Frame) {
        if self.joins.are_too_many {
            return;
        }
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.any(item, frame)),
            Tree::Node("SelectStmt", _) => drop(self.query(tree, frame)),
            Tree::Node("SubLink", _) => {
                self.any(tree.get("testexpr"), frame);
                self.inner(tree.get("subselect"), frame, matches!(tree.get("sub_link_type").int(), 1 | 3));
            }
            Tree::Node("UpdateStmt" | "DeleteStmt" | "MergeStmt", fields) => {
                let before = self.kept.len();
                let mut own = self.begin(tree, frame);
                for name in ["relation", "from_clause", "using_clause", "source_relation"] {
                    match tree.get(name) {
                        Tree::List(items) => items.iter().for_each(|item| self.item(item, &mut own)),
                        Tree::Nothing => {}
                        one => self.item(one, &mut own),
                    }
                }
                let in_from = own.links.len();
                self.condition(tree.get("where_clause"), &mut own);
                self.condition(tree.get("join_condition"), &mut own);
                self.keep(before, own.links.get(in_from..).unwrap_or_default());
                self.end(&own);
                let is_rest = |name: &str| {
                    !matches!(name, "relation" | "from_clause" | "using_clause" | "source_relation" | "with_clause")
                };
                fields.iter().filter(|(name, _)| is_rest(name)).for_each(|(_, field)| self.any(field, &own));
            }
            Tree::Node(_, fields) if tree.get("with_clause").is_nothing() => {
                fields.iter().for_each(|(_, field)| self.any(field, frame));
            }
            Tree::Node(_, fields) => {
                let own = self.begin(tree, frame);
                let rest = fields.iter().filter(|(name, _)| *name != "with_clause");
                rest.for_each(|(_, field)| self.any(field, &own));
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    /// The frame of a query, with what its WITH names.
    fn begin(&mut self, tree: &Tree, frame: &Frame) -> Frame {
        if self.joins.are_too_many || !self.take(frame.size()) {
            return Frame::default();
        }
        let mut own = frame.clone();
        let with = tree.get("with_clause");
        for table in with.get("ctes").items() {
            let name = table.get("ctename").text().to_owned();
            // One that reads itself has rows of which nothing is known.
            if with.get("recursive").flag() {
                own.common.push((name.clone(), Source::Keyed(Vec::new())));
            }
            let source = renamed(self.query(table.get("ctequery"), &own), table.get("aliascolnames"));
            own.common.push((name, source));
            self.joins.are_too_many |= own.common.len() > MOST;
            if self.joins.are_too_many {
                break;
            }
        }
        own
    }

    fn end(&mut self, own: &Frame) {
        if own.sources.len() < 2 || !self.take(own.sources.len() + own.links.len()) {
            return;
        }
        self.joins.blocks.push(Block { sources: own.sources.clone(), links: own.links.clone(), inside: None });
    }

    fn started(&mut self, tree: &Tree, frame: &Frame) -> Frame {
        let own = self.begin(tree, frame);
        self.fresh(&own)
    }

    /// A query that begins anew: nothing of what stands around it is its own.
    fn fresh(&mut self, frame: &Frame) -> Frame {
        let sources = frame.around.len() + frame.sources.len();
        let links = frame.around_links.len() + frame.links.len();
        if sources > MOST || links > 8 * MOST || frame.names.len() > 2 * MOST {
            self.joins.are_too_many = true;
        }
        if self.joins.are_too_many || !self.take(frame.size()) {
            return Frame::default();
        }
        Frame {
            around: [frame.around.as_slice(), &frame.sources].concat(),
            around_links: [frame.around_links.as_slice(), &frame.links].concat(),
            level: frame.level,
            names: frame.names.clone(),
            common: frame.common.clone(),
            ..Frame::default()
        }
    }

    /// Walks a query, and says what its rows are as a source.
    fn query(&mut self, tree: &Tree, frame: &Frame) -> Source {
        if tree.kind() != "SelectStmt" {
            self.any(tree, frame);
            return Source::Keyed(Vec::new());
        }
        let mut own = self.started(tree, frame);
        self.fill(tree, &mut own);
        self.end(&own);
        answers::of(tree, &own.sources, &self.joins)
    }

    /// FROM and WHERE of a query, then the queries below it.
    fn fill(&mut self, tree: &Tree, own: &mut Frame) {
        let before = self.kept.len();
        tree.get("from_clause").items().iter().for_each(|item| self.item(item, own));
        let in_from = own.links.len();
        self.condition(tree.get("where_clause"), own);
        self.keep(before, own.links.get(in_from..).unwrap_or_default());
        let Tree::Node(_, fields) = tree else { return };
        let is_rest = |name: &str| !matches!(name, "from_clause" | "with_clause");
        fields.iter().filter(|(name, _)| is_rest(name)).for_each(|(_, field)| self.any(field, own));
    }

    /// What was kept since may not multiply either; what holds for all rows holds for its own.
    fn keep(&mut self, before: usize, always: &[usize]) {
        for (sources, links) in self.kept.split_off(before.min(self.kept.len())) {
            if sources.len() > 1 && self.take(sources.len() + links.len() + always.len()) {
                self.joins.blocks.push(Block { sources, links: [links.as_slice(), always].concat(), inside: None });
            }
        }
    }

    /// A query that is run for the rows around it, where it names any of them.
    fn inner(&mut self, tree: &Tree, frame: &Frame, is_looked_up: bool) -> Source {
        if tree.kind() != "SelectStmt" {
            return Source::Keyed(Vec::new());
        }
        let mut own = self.started(tree, frame);
        let level = self.joins.levels.len();
        self.joins.levels.push(Level { around: own.around.clone(), names: Vec::new(), outer: own.level });
        own.level = Some(level);
        self.fill(tree, &mut own);
        self.end(&own);
        // A lookup by equalities alone is one in a table of hashes.
        let is_apart = own.sources.is_empty() || (is_looked_up && self.is_hashed(tree, &own));
        let names = self.references(tree, &own);
        if let Some(level) = self.joins.levels.get_mut(level) {
            level.names = names;
        }
        if !is_apart && self.take(own.size()) {
            self.joins.blocks.push(Block {
                sources: [own.around.as_slice(), &own.sources].concat(),
                links: [own.around_links.as_slice(), &own.links].concat(),
                inside: Some(level),
            });
        }
        answers::of(tree, &own.sources, &self.joins)
    }

    /// Whether a query meets what is around it by equalities only, each with one side in it.
    fn is_hashed(&mut self, tree: &Tree, own: &Frame) -> bool {
        let around: HashSet<usize> = own.around.iter().copied().collect();
        let is_around = |name: &Reference| name.sources.iter().all(|at| around.contains(at));
        let named = self.references(tree, own).iter().filter(|name| is_around(name)).count();
        let mut met = 0;
        for link in own.links.iter().filter_map(|at| self.joins.links.get(*at)) {
            if let Link::Equal(left, right) = link {
                for (one, other) in [(left, right), (right, left)] {
                    let is_outer = !one.uses.is_empty() && one.uses.iter().all(is_around);
                    if is_outer && !other.uses.iter().any(is_around) {
                        met += one.uses.len();
                    }
                }
            }
        }
        named == met
    }

    fn source(&mut self, item: &Tree, name: &str, source: Source, own: &mut Frame) {
        if own.sources.len() >= MOST {
            self.joins.are_too_many = true;
            return;
        }
        let at = self.joins.sources.len();
        self.joins.sources.push(source);
        own.sources.push(at);
        let alias = item.get("alias").get("aliasname").text();
        own.names.push((if alias.is_empty() { name } else { alias }.to_owned(), vec![at]));
    }

    fn item(&mut self, item: &Tree, own: &mut Frame) {
        match item.kind() {
            "RangeVar" => {
                let (schema, name) = item.relation();
                let common = own.common.iter().rev().find(|(common, _)| schema.is_none() && common == name);
                let source = match common {
                    Some((_, source)) if self.take(size(source)) => source.clone(),
                    Some(_) => return,
                    None => Source::Relation(Name::new(schema, name), None),
                };
                self.source(item, name, renamed(source, item.get("alias").get("colnames")), own);
            }
            "RangeTableSample" => self.item(item.get("relation"), own),
            "JoinExpr" => self.join(item, own),
            "RangeSubselect" => self.sub_select(item, own),
            _ => {
                let source = function(item, own);
                self.source(item, "", source, own);
                self.any(item, own);
            }
        }
    }

    fn sub_select(&mut self, item: &Tree, own: &mut Frame) {
        let query = item.get("subquery");
        let alias = item.get("alias");
        if item.get("lateral").flag()
            && answers::is_plain(query)
            && alias.get("colnames").items().is_empty()
            && answers::is_as_it_is(query)
        {
            // Its rows are those of its FROM, met by what its WHERE says.
            let (names, sources) = (own.names.len(), own.sources.len());
            let mut inside = self.begin(query, own);
            query.get("from_clause").items().iter().for_each(|item| self.item(item, &mut inside));
            self.condition(query.get("where_clause"), &mut inside);
            self.any(query.get("where_clause"), &inside);
            let new = inside.sources.get(sources..).unwrap_or_default().to_vec();
            (own.sources, own.links) = (inside.sources, inside.links);
            own.names.truncate(names);
            own.names.push((alias.get("aliasname").text().to_owned(), new));
            return;
        }
        let source = match item.get("lateral").flag() {
            // What it answers for one row is no key over all of them.
            true => match self.inner(query, own, false) {
                source @ (Source::Rows(_) | Source::Values(..)) => source,
                Source::Keyed(keys) if keys.iter().any(Vec::is_empty) => Source::Keyed(keys),
                Source::Keyed(_) | Source::Relation(..) => Source::Keyed(Vec::new()),
            },
            false => {
                let mut outer = own.clone();
                (outer.sources, outer.links) = (Vec::new(), Vec::new());
                self.query(query, &outer)
            }
        };
        self.source(item, "", renamed(source, alias.get("colnames")), own);
    }

    fn join(&mut self, item: &Tree, own: &mut Frame) {
        let (first, links) = (own.sources.len(), own.links.len());
        self.item(item.get("larg"), own);
        let (middle, of_left) = (own.sources.len(), own.links.len());
        self.item(item.get("rarg"), own);
        let end = own.links.len();
        let left = own.sources.get(first..middle).unwrap_or_default().to_vec();
        let right = own.sources.get(middle..).unwrap_or_default().to_vec();
        // JoinType: 1 inner, 2 left, 3 full, 4 right.
        let kind = item.get("jointype").int();
        if matches!(kind, 2 | 3) {
            self.kept.push((left.clone(), own.links.get(links..of_left).unwrap_or_default().to_vec()));
        }
        if matches!(kind, 3 | 4) {
            self.kept.push((right.clone(), own.links.get(of_left..end).unwrap_or_default().to_vec()));
        }
        if item.get("is_natural").flag() {
            self.link(Link::Natural(left.clone(), right.clone()), own);
        }
        for column in item.get("using_clause").items() {
            if !self.take(2 * (left.len() + right.len())) {
                return;
            }
            let side = |sources: &[usize]| {
                let column = Reference { sources: sources.to_vec(), column: column.get("sval").text().to_owned() };
                Side { column: Some(column.clone()), uses: vec![column] }
            };
            self.link(Link::Equal(side(&left), side(&right)), own);
        }
        self.condition(item.get("quals"), own);
        self.any(item.get("quals"), own);
        let alias = item.get("alias").get("aliasname").text();
        if !alias.is_empty() {
            let is_renamed = !item.get("alias").get("colnames").items().is_empty();
            own.names.push((alias.to_owned(), if is_renamed { Vec::new() } else { [left, right].concat() }));
        }
    }

    /// The equalities that must all hold.
    fn condition(&mut self, condition: &Tree, own: &mut Frame) {
        // BoolExprType: 1 AND.
        if condition.kind() == "BoolExpr" && condition.get("boolop").int() == 1 {
            condition.get("args").items().iter().for_each(|part| self.condition(part, own));
            return;
        }
        let operator = condition.get("name").items().last().map_or("", |part| part.get("sval").text());
        // A_Expr_Kind: 1 an operator by itself.
        if condition.kind() != "AExpr" || condition.get("kind").int() != 1 || operator != "=" {
            return;
        }
        let (left, right) = (condition.get("lexpr"), condition.get("rexpr"));
        // Rows are equal column by column.
        let pairs: Vec<(&Tree, &Tree)> = match (left.kind(), right.kind()) {
            ("RowExpr", "RowExpr") => left.get("args").items().iter().zip(right.get("args").items()).collect(),
            _ => vec![(left, right)],
        };
        for (left, right) in pairs {
            let link = Link::Equal(self.side(left, own), self.side(right, own));
            self.link(link, own);
        }
    }

    fn side(&mut self, tree: &Tree, own: &Frame) -> Side {
        Side { column: reference(tree, own), uses: self.references(tree, own) }
    }

    /// The columns that are named anywhere in a part of a statement.
    fn references(&mut self, tree: &Tree, own: &Frame) -> Vec<Reference> {
        let mut names = Vec::new();
        tree.visit(&mut |node| {
            if node.kind() == "ColumnRef" && self.take(1) {
                let name = reference(node, own);
                self.take(name.as_ref().map_or(0, |name| name.sources.len()));
                names.extend(name);
            }
        });
        names
    }

    fn link(&mut self, link: Link, own: &mut Frame) {
        if own.links.len() >= 8 * MOST {
            self.joins.are_too_many = true;
            return;
        }
        own.links.push(self.joins.links.len());
        self.joins.links.push(link);
    }
}

/// Columns that go by new names are keys of nothing that is known.
fn renamed(source: Source, names: &Tree) -> Source {
    match source {
        Source::Keyed(keys) if keys.iter().any(Vec::is_empty) => Source::Keyed(keys),
        Source::Relation(..) | Source::Keyed(_) if !names.items().is_empty() => Source::Keyed(Vec::new()),
        Source::Values(rows, distinct) if !names.items().is_empty() => {
            let named = (1..).zip(names.items()).map(|(at, name)| (format!("column{at}"), name.get("sval").text()));
            let distinct = named.filter(|(own, _)| distinct.contains(own)).map(|(_, name)| name.to_owned());
            Source::Values(rows, distinct.collect())
        }
        source => source,
    }
}

/// The column that a node names. A name that nobody has here is one of a query further in.
fn reference(node: &Tree, own: &Frame) -> Option<Reference> {
    if node.kind() != "ColumnRef" {
        return None;
    }
    let text = |field: &Tree| field.get("sval").text().to_owned();
    let behind = |alias: &str| own.names.iter().rev().find(|(name, _)| name == alias).map(|(_, at)| at.clone());
    match node.get("fields").items() {
        [column] => {
            let column = text(column);
            let nearest = own.sources.iter().rev().chain(own.around.iter().rev()).copied();
            let sources = behind(&column).unwrap_or_else(|| nearest.collect());
            (!sources.is_empty()).then_some(Reference { sources, column })
        }
        [.., relation, column] => Some(Reference { sources: behind(&text(relation))?, column: text(column) }),
        [] => None,
    }
}

/// Rows out of a function: as many as are written out; of a column beside it as many as one row holds,
/// which for one such function is no more than is stored.
fn function(item: &Tree, own: &mut Frame) -> Source {
    let (mut rows, mut looks_beside, mut is_written, mut calls) = (1_u64, false, true, 0);
    let mut is_distinct = false;
    item.visit(&mut |node| match node.kind() {
        "ColumnRef" => looks_beside = true,
        "ParamRef" | "SubLink" => is_written = false,
        "FuncCall" => {
            calls += 1;
            rows = rows.max(written(node).unwrap_or(1));
            let array = node.get("args").items().first().filter(|array| array.kind() == "AArrayExpr");
            is_distinct = called(node) == "unnest"
                && array.is_some_and(|array| are_distinct(array.get("elements").items().iter().cloned()));
        }
        "AArrayExpr" => rows = rows.max(u64::try_from(node.get("elements").items().len()).unwrap_or(u64::MAX)),
        "AConst" => {
            let length = u64::try_from(node.get("val").get("sval").text().len()).unwrap_or(u64::MAX);
            rows = rows.max(length);
        }
        _ => {}
    });
    if looks_beside {
        let is_first = !std::mem::replace(&mut own.has_function, true);
        return if is_first && rows <= 100 { Source::Keyed(vec![Vec::new()]) } else { Source::Keyed(Vec::new()) };
    }
    match (is_written && calls <= 1, is_distinct) {
        (true, true) => {
            let alias = item.get("alias");
            let column = alias.get("colnames").items().first().map_or(alias.get("aliasname"), |name| name.get("sval"));
            Source::Values(rows, vec![column.text().to_owned()])
        }
        (true, false) => Source::Rows(rows),
        (false, _) => Source::Keyed(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use crate::core::statement::facts::Name;
    use crate::core::statement::grammar;
    use crate::core::statement::joins::Known;

    /// Big tables with a key of their own, a small one, and one of which nothing is known.
    fn relation(name: &Name) -> Option<Known> {
        let (own, key, rows): (&[&str], &[&str], u64) = match name.name.as_str() {
            "customers" => (&["nation_id", "tier"], &["id"], 10_000_000),
            "orders" => (&["customer_id", "status", "at", "tags"], &["id"], 10_000_000),
            "lines" => (&["order_id", "line", "qty", "product_id", "supplier_id"], &["order_id", "line"], 10_000_000),
            "products" => (&["price"], &["id"], 10_000_000),
            "offers" => (&["product_id", "supplier_id", "cost"], &["product_id", "supplier_id"], 10_000_000),
            "nations" => (&["region"], &["id"], 25),
            "months" => (&["start", "stop"], &["id"], 120),
            _ => return None,
        };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Some(Known {
            columns: names(&[key, own].concat()).into_iter().collect(),
            keys: vec![names(key)],
            references: match name.name.as_str() {
                "orders" => vec![(names(&["customer_id"]), 10)],
                "lines" => {
                    vec![(names(&["order_id"]), 4), (names(&["product_id"]), 30), (names(&["supplier_id"]), 5000)]
                }
                "offers" => vec![(names(&["product_id"]), 4)],
                "customers" => vec![(names(&["nation_id"]), 400_000)],
                _ => Vec::new(),
            },
            rows: Some(rows),
        })
    }

    fn multiplies(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.joins.may_multiply(&relation))
    }

    #[test]
    fn what_may_grow_with_two_relations_is_seen() {
        for sql in [
            "select * from orders, customers",
            "select * from orders cross join customers",
            "select count(*) from orders a join customers b on true",
            "select 1 from orders x, orders y where x.id <> y.id",
            "select * from orders a, customers b, products c where a.id = b.id",
            "select * from orders a join customers b on a.id < b.id",
            "select * from orders a, customers b where a.id = b.id or true",
            "select * from orders a, customers b where not a.id = b.id",
            "select a.id from orders a join orders b on a.status = b.status",
            "select a.id from orders a full join orders b on a.status = b.status",
            "select a.id from orders a join orders b on a.id + b.id = b.id + a.id",
            "select a.id from orders a join orders b on (a.id > 0) = (b.id > 0)",
            "select a.id from orders a join orders b on coalesce(a.id, b.id) is not null",
            "select count(*) from lines a join lines b using (qty)",
            "select count(*) from customers a natural join (select nation_id from customers) b",
            "select count(*) from orders a, lateral (select * from orders b) b, lateral (select * from lines c) c",
            "select 1 from customers a, lateral (select o.customer_id as id from orders o) x where a.tier = x.id",
            "select 1 from orders a, lateral (select 1 as id from orders b) x where x.id = a.status",
            "select (select sum((select count(c.id + b.id + a.id) from orders c)) from orders b) from orders a",
            "select (select count(*) from customers b where b.tier <> a.status) from orders a",
            "select (select (select count(*) from orders c where c.id <> a.id)) from orders a",
            "select (select count(*) from customers b where b.nation_id = a.nation_id) from customers a",
            "select (select count(*) from lines b where b.supplier_id = a.supplier_id) from lines a",
            "select a.id from orders a join orders b on a.customer_id = b.customer_id",
            "select (select count(*) from lines b, lines c where b.product_id = a.product_id \
             and c.product_id = a.product_id) from lines a",
            "select * from customers a where a.tier in (select b.status from orders b where b.at > \
             (select max(c.qty) from lines c where c.order_id <> b.id))",
            "select * from customers a where a.tier in (select b.status from orders b where b.at > \
             (select max(c.qty) from lines c where c.order_id = b.id and c.line > a.id))",
            "select (select count(*) from orders b where b.status = a.status) from orders a",
            "select * from orders a where exists (select 1 from orders b where b.at > a.at)",
            "select * from orders a where exists (select 1 from orders b where b.status = a.status and b.at > a.at)",
            "select count(*) from unnest(array[1,2,3,4,5,6,7,8,9]) a, unnest(array[1,2,3,4,5,6,7,8,9]) b, \
             unnest(array[1,2,3,4,5,6,7,8,9]) c, unnest(array[1,2,3,4,5,6,7,8,9]) d, unnest(array[1,2,3,4,5,6,7,8,9]) e, \
             unnest(array[1,2,3,4,5,6,7,8,9]) f",
            "select * from orders o, unnest(o.tags) a, unnest(o.tags) b",
            "select * from orders o, unnest($1::int[]) x",
            "select * from orders, unknown",
            "select o.id from orders o, (values (1), (2), (3), (4)) a (x), (values (1), (2), (3), (4)) b (x)",
            "select o.id from orders o join (values (1), (1), (1), (1), (1), (1), (1), (1), (1), (1), (1)) v (x) \
             on v.x = o.status",
            "select o.id from orders o, (select id from nations limit 20) n",
            "select o.id from orders o join unnest(array[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]::int[]) x on x = o.status",
            "select o.id from orders o join (values (1), (' 1'), ('+1'), ('01'), (2), (' 2'), ('+2'), ('02'), (3), (' 3'), \
             ('+3')) v (x) on v.x = o.status",
            "select * from unknown a join unknown b using (x)",
            "with a as (select status from orders) select * from a x join a y on x.status = y.status",
            "delete from orders using customers b where orders.status = 'x'",
            "update orders set status = 'x' from customers b",
            "update orders o set status = 'x' from customers c cross join products p left join lines l on c.id = p.id \
             where o.id = l.order_id and l.line = 1",
            "select 1 from customers c cross join products p left join orders o on c.id = p.id and o.id = p.id",
            "insert into orders select a.* from orders a, customers b",
            "merge into orders o using customers c on o.status = c.tier when matched then delete",
            "explain analyze select * from orders, customers",
            "(select * from orders, customers) union all select 1, 2",
        ] {
            assert!(multiplies(sql), "{sql}");
        }
    }

    #[test]
    fn what_nobody_looks_through_may_grow() {
        let list = |part: &str, many| vec![part; many].join(", ");
        assert!(multiplies(&format!("select 1 from {}", list("orders", 2_000))));
        let looked = "(select count(*) from orders o where o.customer_id = c.id)";
        assert!(!multiplies(&format!("select {} from customers c", list(looked, 500))));
        let lines = list("lines", 100);
        let equal = vec!["lines.id = lines.qty + 1"; 900].join(" and ");
        assert!(multiplies(&format!("select {} from {lines} where {equal}", list(looked, 500))));
    }

    #[test]
    fn what_is_joined_by_keys_is_not() {
        for sql in [
            "select 1",
            "select * from orders where id = 1",
            "select * from orders o, customers c where o.customer_id = c.id",
            "select * from orders o join customers c on c.id = o.customer_id and o.at > '2020-01-01'",
            "select * from customers c left join orders o on o.customer_id = c.id",
            "select * from customers c full join orders o on o.customer_id = c.id",
            "select * from orders o join lines on order_id = o.id join products p on p.id = product_id",
            "select * from lines l join orders o on l.order_id = o.id left join customers c on c.id = o.customer_id \
             left join nations n on n.id = c.nation_id",
            "select * from lines l, offers s where s.product_id = l.product_id and s.supplier_id = l.supplier_id",
            "select * from lines l, offers s where (s.product_id, s.supplier_id) = (l.product_id, l.supplier_id)",
            "select * from lines l join offers s using (product_id, supplier_id)",
            "select * from products natural join (select id, tier from customers) c",
            "select * from orders o join orders p on o.id = p.id",
            "select * from nations a, nations b",
            "select * from nations n, months m where m.start < m.stop",
            "select * from orders o, customers c where o.id = 7 and c.id = $1",
            "select * from orders o join (values (1, 'a'), (2, 'b')) v (x, y) on v.y = o.status",
            "select * from orders o join unnest($1::int[]) x on x = o.id",
            "select o.id, v.name from orders o cross join (values ('at'), ('status'), ('tags')) v (name)",
            "select * from orders o join (values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'a'), (5, 'a'), (6, 'a'), (7, 'a'), \
             (8, 'a'), (9, 'a'), (10, 'a'), (11, 'a')) v (x, y) on v.x = o.status",
            "select * from orders o join unnest(array[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]) x on x = o.status",
            "select * from nations, (values (1), (2), (3), (4)) a (x), (values (1), (2), (3), (4)) b (x)",
            "select * from orders o, unnest(o.tags) t",
            "select (select max(line) from lines where order_id = o.id) from orders o",
            "select (select count(*) from orders o where o.customer_id = c.id) from customers c",
            "select * from lines l join products p on p.id = l.product_id \
             where l.qty < (select 0.2 * avg(i.qty) from lines i where i.product_id = p.id)",
            "select * from products p, offers o where p.id = o.product_id \
             and o.cost = (select min(i.cost) from offers i where p.id = i.product_id)",
            "select * from lines l join orders o on o.id = l.order_id where exists \
             (select 1 from lines i where i.order_id = l.order_id and i.supplier_id <> l.supplier_id)",
            "select * from customers a, nations n where a.nation_id = n.id and a.tier in (select b.status from orders b \
             where b.at > (select max(c.qty) from lines c where c.order_id = b.id))",
            "select * from customers a where a.tier in (select b.status from orders b where b.at > \
             (select max(c.qty) from lines c where c.order_id = b.id))",
            "select * from customers c, lateral (select * from orders o where o.customer_id = c.id) x",
            "select * from customers c, lateral (select * from orders o where o.customer_id = c.id limit 3) x",
            "select * from customers c where exists (select 1 from orders o where o.status = c.tier)",
            "select * from orders o where o.status in (select tier from customers)",
            "select * from orders where at > (select avg(at) from orders)",
            "with t as (select customer_id, count(*) as n from orders group by customer_id) \
             select * from customers c join t on t.customer_id = c.id join t u on u.customer_id = c.id",
            "select * from (select o.customer_id as c, sum(id) as n from orders o group by 1) t, customers where t.c = id",
            "select * from orders o, (select max(id) as most from customers) m where o.id <= m.most",
            "select * from (select distinct status from orders) s join orders o on o.status = s.status",
            "select * from (select id as o, customer_id from orders) x join lines l on l.order_id = x.o",
            "select * from (select * from orders where id > 5) x join lines l on l.order_id = x.id",
            "update orders set status = c.tier from customers c where c.id = customer_id",
            "delete from orders o using customers c where o.customer_id = c.id",
            "merge into orders o using customers c on o.id = c.id when matched then delete",
            "select id from orders union all select id from customers",
            "with recursive t as (select 1 union all select 2 from t join orders on orders.id = 3) select * from t",
        ] {
            assert!(!multiplies(sql), "{sql}");
        }
    }
}
