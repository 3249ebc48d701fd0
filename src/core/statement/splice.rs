//! Putting what may be seen in place of a masked relation, by cutting into the original text.
//!
//! Nothing is ever printed from a tree: only the cuts are ours, all other bytes stay the client's.
//! A result is accepted only if it parses to the very tree that was intended; else the statement
//! is refused. If a place is missed, PostgreSQL answers "permission denied": a splice is comfort,
//! the role's privileges are the wall.

mod groups;
mod names;
mod returning;

pub use groups::Grouping;
pub use returning::Shown;

use std::cell::OnceCell;
use std::collections::HashMap;

use super::grammar::{self, Statement};
use super::length;
use super::tree::Tree;
use super::walk::Scope;

/// What is masked, by the schema as written (if any) and the relation's name. `None` leaves it alone.
#[derive(Clone, Copy)]
pub struct Masks<'a> {
    /// The text that stands for it, without alias; an error where nothing can.
    pub source: &'a dyn Fn(Option<&str>, &str, Spot) -> Result<Option<String>, SpliceError>,
    /// The columns that COPY takes where it names none.
    pub copied: &'a dyn Fn(Option<&str>, &str) -> Option<Vec<String>>,
    /// Every column in order, for RETURNING.
    pub columns: &'a dyn Fn(Option<&str>, &str) -> Option<Vec<Shown>>,
    /// What GROUP BY has to know of it.
    pub groups: &'a dyn Fn(Option<&str>, &str) -> Option<Grouping>,
}

/// Where a relation is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Rows are taken from it.
    Rows,
    /// The same, without its children.
    RowsOfItself,
    /// Rows of it are written: only a relation's name can stand there.
    Target,
    /// The same of an INSERT.
    NewRows,
    /// Rows of it are changed and what was written is shown, columns of which a mask shows a part among it.
    ShownTarget,
    /// The same of an INSERT, which may give those columns values.
    ShownRows,
}

/// Why a statement that names a masked relation cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    #[error("this form of reading a masked relation is not supported")]
    Unsupported,
    #[error("\"{0}\" is the name of more than one relation in it")]
    Ambiguous(String),
    #[error("its rows without those of its children are in no view")]
    OnlyItself,
    #[error("the rewritten statement does not mean what was intended")]
    Unverified,
}

/// A statement with something else in place of what is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
    pub text: String,
    /// In the order of the text.
    cuts: Vec<Cut>,
}

impl Spliced {
    /// Where in the statement a byte of the text stands; nothing where a cut has put it in.
    pub fn origin(&self, at: usize) -> Option<usize> {
        // Up to where the statement, and the text, are gone through.
        let (mut kept, mut passed) = (0, 0);
        for cut in &self.cuts {
            let next = passed + cut.start.saturating_sub(kept);
            if at < next {
                break;
            }
            passed = next + cut.text.len();
            if at < passed {
                return None;
            }
            kept = cut.end;
        }
        Some(kept + at.checked_sub(passed)?)
    }
}

/// Rewrites a statement; `None` when it names nothing that needs it.
///
/// # Errors
/// When it does but the result cannot be verified.
pub fn splice(statement: &Statement, masks: Masks<'_>) -> Result<Option<Spliced>, SpliceError> {
    let text = &statement.text;
    let tokens = grammar::tokens(text).ok_or(SpliceError::Unsupported)?;
    let mut editor = Editor {
        text,
        tokens,
        start: statement.start,
        masks,
        scope: Scope::default(),
        cuts: Vec::new(),
        read: HashMap::new(),
        added: 0,
        failed: OnceCell::new(),
    };
    let mut intended = statement.tree.clone();
    editor.edit(&mut intended, Place::Elsewhere);
    if let Some(error) = editor.failed.into_inner() {
        return Err(error);
    }
    if editor.cuts.is_empty() {
        return Ok(None);
    }
    let spliced = apply(text, editor.cuts)?;
    let parsed = grammar::parse(&spliced.text).map_err(|_| SpliceError::Unverified)?;
    match parsed.as_slice() {
        [one] if one.tree.clone().without_locations() == intended.without_locations() => Ok(Some(spliced)),
        _ => Err(SpliceError::Unverified),
    }
}

/// One cut: bytes `start..end` of the statement give way to `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cut {
    start: usize,
    end: usize,
    text: String,
}

/// Makes the cuts. The parser copies some sub-selects, so the same cut may be asked for twice.
fn apply(text: &str, mut cuts: Vec<Cut>) -> Result<Spliced, SpliceError> {
    cuts.sort_by_key(|cut| (cut.start, cut.end));
    cuts.dedup();
    let overlapping = cuts.iter().zip(cuts.iter().skip(1)).any(|(left, right)| left.end > right.start);
    if overlapping {
        return Err(SpliceError::Unsupported);
    }
    let mut spliced = String::with_capacity(text.len());
    let mut kept = 0;
    for cut in &cuts {
        spliced.push_str(text.get(kept..cut.start).ok_or(SpliceError::Unsupported)?);
        spliced.push_str(&cut.text);
        kept = cut.end;
    }
    spliced.push_str(text.get(kept..).ok_or(SpliceError::Unsupported)?);
    Ok(Spliced { text: spliced, cuts })
}

/// Where in the tree a name stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Something rows are taken from: may be replaced.
    From,
    /// What INSERT, UPDATE, DELETE or MERGE write: a spot of the target's.
    Target(Spot),
    /// A name in FOR UPDATE OF, anything else.
    Elsewhere,
}

struct Editor<'a> {
    text: &'a str,
    tokens: Vec<(usize, usize)>,
    start: usize,
    masks: Masks<'a>,
    /// CTE names visible here.
    scope: Scope,
    cuts: Vec<Cut>,
    /// What stands for relations, as it reads.
    read: HashMap<String, Option<Tree>>,
    /// The bytes that the cuts put in.
    added: usize,
    failed: OnceCell<SpliceError>,
}

impl Editor<'_> {
    fn edit(&mut self, tree: &mut Tree, place: Place) {
        if self.failed.get().is_some() {
            return;
        }
        match tree {
            Tree::List(items) => items.iter_mut().for_each(|item| self.edit(item, place)),
            Tree::Node("RangeVar", _) if place == Place::From => self.range(tree),
            Tree::Node("RangeVar", _) if let Place::Target(spot) = place => self.target(tree, spot),
            Tree::Node("CopyStmt", _) => self.copy(tree),
            Tree::Node(kind, _) => {
                let kind = *kind;
                let before = self.scope.len();
                let returned = self.returned(tree, kind);
                self.common_tables(tree);
                let bare = self.bare(tree);
                let more = self.grouped(tree);
                self.fields(tree, kind);
                self.group(tree, more);
                if let Some(columns) = returned {
                    self.returning(tree, &columns);
                }
                if !bare.is_empty() {
                    self.shorten(tree, &bare);
                }
                self.scope.truncate(before);
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    fn fields(&mut self, tree: &mut Tree, kind: &str) {
        let spot = self.target_spot(tree, kind);
        let Tree::Node(_, fields) = tree else { return };
        for (name, field) in fields {
            let place = match (kind, *name) {
                (_, "with_clause") => continue,
                (_, "from_clause" | "using_clause") | ("MergeStmt", "source_relation") => Place::From,
                ("JoinExpr", "larg" | "rarg") => Place::From,
                (kind, "relation") if writes(kind) => Place::Target(spot),
                _ => Place::Elsewhere,
            };
            self.edit(field, place);
        }
    }

    /// Brings the names of a WITH clause into scope, in the order PostgreSQL does.
    fn common_tables(&mut self, tree: &mut Tree) {
        let Some(with) = tree.get_mut("with_clause") else { return };
        let is_recursive = with.get("recursive").flag();
        let names = |tree: &Tree| -> Vec<String> {
            tree.get("ctes").items().iter().map(|cte| cte.get("ctename").text().to_owned()).collect()
        };
        if is_recursive {
            names(with).iter().for_each(|name| self.scope.push(name));
        }
        if let Some(Tree::List(expressions)) = with.get_mut("ctes") {
            for expression in expressions {
                self.edit(expression, Place::Elsewhere);
                if !is_recursive {
                    self.scope.push(expression.get("ctename").text());
                }
            }
        }
    }

    /// What stands for a RangeVar, if anything.
    fn replacement(&self, range: &Tree) -> Option<String> {
        self.replaced(range, Self::spot(range))
    }

    /// How a FROM clause names it.
    fn spot(range: &Tree) -> Spot {
        if range.get("inh").flag() { Spot::Rows } else { Spot::RowsOfItself }
    }

    /// What stands for it in such a spot.
    fn replaced(&self, range: &Tree, spot: Spot) -> Option<String> {
        let (schema, name) = range.relation();
        let is_read = matches!(spot, Spot::Rows | Spot::RowsOfItself);
        // No WITH query can be written to.
        if is_read && schema.is_none() && self.scope.has(name) {
            return None;
        }
        let replacement = (self.masks.source)(schema, name, spot);
        replacement.unwrap_or_else(|error| {
            self.fail(error);
            None
        })
    }

    /// Nothing is put together any more; the first reason is told.
    fn fail(&self, error: SpliceError) {
        self.failed.get_or_init(|| error);
    }

    /// Whether a part of a masked column of the target is to be shown. MERGE cannot write to a view in
    /// every version, a view has no form without the relation's children, and no constraints to name.
    fn target_spot(&self, tree: &Tree, kind: &str) -> Spot {
        let (target, returned) = (tree.get("relation"), tree.get("returning_clause"));
        let (plain, shown) = match kind {
            "UpdateStmt" | "DeleteStmt" => (Spot::Target, Spot::ShownTarget),
            "InsertStmt" if tree.get("on_conflict_clause").get("infer").get("conname").text().is_empty() => {
                (Spot::NewRows, Spot::ShownRows)
            }
            "InsertStmt" => return Spot::NewRows,
            _ => return Spot::Target,
        };
        if returned.is_nothing() || !target.get("inh").flag() {
            return plain;
        }
        let disclosed = self.columns_of(target).unwrap_or_default().into_iter().filter(|column| column.discloses);
        let names: Vec<String> = disclosed.map(|column| column.name).collect();
        if !names.is_empty() && shows(returned, &names) { shown } else { plain }
    }

    fn target(&mut self, range: &mut Tree, spot: Spot) {
        let Some(replacement) = self.replaced(range, spot) else { return };
        match range.get("inh").flag() {
            true => self.put(range, &replacement),
            false => self.fail(SpliceError::OnlyItself),
        }
    }

    /// A relation in a FROM clause.
    fn range(&mut self, range: &mut Tree) {
        if let Some(replacement) = self.replacement(range) {
            self.put(range, &replacement);
        }
    }

    /// Puts something else in a relation's place, under the name it went by.
    fn put(&mut self, range: &mut Tree, replacement: &str) {
        let name = range.get("relname").text().to_owned();
        let alias = range.get("alias").clone();
        let text = match alias {
            Tree::Nothing => format!("{replacement} AS {}", quoted(&name)),
            _ => replacement.to_owned(),
        };
        let intended = self.intended(&format!("SELECT * FROM {replacement} AS {}", quoted(&name)));
        match (self.span(range), intended) {
            (Some((start, end, is_table_command)), Some(mut intended)) => {
                let lead = if is_table_command { "SELECT * FROM " } else { "" };
                self.cut(start, end, format!("{lead}{text}"));
                if let (false, Some(place)) = (alias.is_nothing(), intended.get_mut("alias")) {
                    *place = alias;
                }
                *range = intended;
            }
            _ => self.fail(SpliceError::Unsupported),
        }
    }

    /// Makes a cut. A text that grows beyond what is read is not put together.
    fn cut(&mut self, start: usize, end: usize, text: String) {
        self.added += text.len();
        if self.added > length::LONGEST {
            self.fail(SpliceError::Unsupported);
        }
        self.cuts.push(Cut { start, end, text });
    }

    /// The FROM item of a query of ours.
    fn intended(&mut self, query: &str) -> Option<Tree> {
        self.read(query)?.get("from_clause").items().first().cloned()
    }

    /// The columns of a query of ours.
    fn targets(&mut self, query: &str) -> Option<Tree> {
        self.read(query).map(|tree| tree.get("target_list").clone())
    }

    /// What is put in place of many names is read once.
    fn read(&mut self, query: &str) -> Option<&Tree> {
        if !self.read.contains_key(query) {
            let parsed = grammar::parse(query).ok().and_then(|mut parsed| parsed.pop());
            self.read.insert(query.to_owned(), parsed.map(|one| one.tree));
        }
        self.read.get(query)?.as_ref()
    }

    /// The bytes of a relation's name with ONLY, parentheses and `*`; and whether the keyword
    /// TABLE stands before it, which becomes part of the cut.
    fn span(&self, range: &Tree) -> Option<(usize, usize, bool)> {
        let parts = [range.get("catalogname"), range.get("schemaname")].iter().filter(|p| !p.text().is_empty()).count();
        let mut first = self.token_at(range)?;
        let mut last = first + 2 * parts;
        let is = |index: Option<usize>, word: &str| {
            index.and_then(|index| self.word(index)).is_some_and(|token| token.eq_ignore_ascii_case(word))
        };
        if is(first.checked_sub(1), "only") {
            first -= 1;
        } else if is(first.checked_sub(1), "(") && is(first.checked_sub(2), "only") {
            first -= 2;
            last += 1;
        } else if is(Some(last + 1), "*") {
            last += 1;
        }
        let is_table_command = is(first.checked_sub(1), "table");
        if is_table_command {
            first -= 1;
        }
        Some((self.tokens.get(first)?.0, self.tokens.get(last)?.1, is_table_command))
    }

    fn word(&self, index: usize) -> Option<&str> {
        let (start, end) = self.tokens.get(index)?;
        self.text.get(*start..*end)
    }

    /// `COPY relation (columns) TO STDOUT` becomes `COPY (SELECT columns FROM ONLY …) TO STDOUT`: it takes no
    /// rows of children.
    fn copy(&mut self, tree: &mut Tree) {
        let relation = tree.get("relation").clone();
        if tree.get("is_from").flag() || relation.is_nothing() {
            let Tree::Node(_, fields) = tree else { return };
            fields.iter_mut().for_each(|(_, field)| self.edit(field, Place::Elsewhere));
            return;
        }
        let Some(replacement) = self.replaced(&relation, Spot::RowsOfItself) else { return };
        let columns: Vec<_> =
            tree.get("attlist").items().iter().map(|column| quoted(column.get("sval").text())).collect();
        let (schema, name) = relation.relation();
        let all = || (self.masks.copied)(schema, name);
        let list = match columns.as_slice() {
            [] => all().unwrap_or_default().iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "),
            columns => columns.join(", "),
        };
        let alias = quoted(name);
        let query = format!("SELECT {list} FROM {replacement} AS {alias}");
        let intended = self.read(&query).cloned();
        match (self.span(&relation), intended) {
            (Some((start, mut end, _)), Some(intended)) => {
                if !columns.is_empty() {
                    let close = self.tokens.iter().position(|(s, e)| *s >= end && self.text.get(*s..*e) == Some(")"));
                    end = close.and_then(|index| self.tokens.get(index)).map_or(end, |(_, e)| *e);
                }
                self.cut(start, end, format!("({query})"));
                let fields = [("relation", Tree::Nothing), ("attlist", Tree::List(Vec::new())), ("query", intended)];
                for (name, value) in fields {
                    if let Some(place) = tree.get_mut(name) {
                        *place = value;
                    }
                }
            }
            _ => self.fail(SpliceError::Unsupported),
        }
    }
}

/// Whether one of the names, or a star, stands anywhere in it.
fn shows(tree: &Tree, names: &[String]) -> bool {
    match tree {
        Tree::Node("AStar", _) => true,
        Tree::Node(_, fields) => fields.iter().any(|(_, field)| shows(field, names)),
        Tree::List(items) => items.iter().any(|item| shows(item, names)),
        Tree::Text(text) => names.contains(text),
        Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => false,
    }
}

/// Whether a node's `relation` is what it writes.
fn writes(kind: &str) -> bool {
    matches!(kind, "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt")
}

/// An identifier that means exactly these letters.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASKED: &str = "(SELECT id, null::text AS email FROM public.customers)";

    fn whole(sql: &str) -> Result<Option<Spliced>, SpliceError> {
        let replace = |schema: Option<&str>, name: &str, spot: Spot| {
            let known = name == "customers" && matches!(schema, None | Some("public"));
            Ok(match spot {
                Spot::Rows if known => Some(MASKED.to_owned()),
                Spot::RowsOfItself if known => Some(MASKED.replace("FROM", "FROM ONLY")),
                Spot::Rows | Spot::RowsOfItself | Spot::Target | Spot::NewRows => None,
                Spot::ShownTarget => Some("m.v".to_owned()),
                Spot::ShownRows => Some("m.r".to_owned()),
            })
        };
        let columns = |schema: Option<&str>, name: &str| {
            let shown = |name: &str, mask: Option<&str>| Shown {
                name: name.into(),
                mask: mask.map(str::to_owned),
                discloses: name == "card",
                by: (name == "card").then(|| "part".to_owned()),
            };
            let all = || vec![shown("id", None), shown("email", Some("null::text"))];
            let is_ours = matches!(schema, None | Some("public"));
            match name {
                "customers" if is_ours => Some(all()),
                "payers" if is_ours => Some([all(), vec![shown("card", Some("null::text"))]].concat()),
                _ => None,
            }
        };
        let statement = grammar::parse(sql).expect(sql).remove(0);
        let copied = |_: Option<&str>, _: &str| Some(vec!["id".to_owned(), "email".to_owned()]);
        splice(&statement, Masks { source: &replace, copied: &copied, columns: &columns, groups: &|_, _| None })
    }

    fn spliced(sql: &str) -> Result<Option<String>, SpliceError> {
        whole(sql).map(|spliced| spliced.map(|spliced| spliced.text))
    }

    #[test]
    fn what_was_not_put_in_has_its_place_in_the_statement() {
        for sql in [
            "select c.id, c.nosuch from customers c where c.id = 1",
            "select * from customers where nosuch = 1",
            "select public.customers.nosuch from public.customers, customers d where d.nosuch = 'é'",
            "insert into archive select customers.nosuch from only (customers)",
        ] {
            let spliced = whole(sql).expect(sql).expect("masked");
            for (at, _) in spliced.text.char_indices() {
                let (here, there) = (spliced.text.get(at..), spliced.origin(at).map(|origin| sql.get(origin..)));
                // Whatever stands there is the same letter; what is not known was put in.
                let first = |text: Option<&str>| text.and_then(|text| text.chars().next());
                assert!(there.is_none_or(|there| first(there) == first(here)), "{sql} {at}");
            }
            for word in ["nosuch", "select"] {
                let at = spliced.text.rfind(word).expect(word);
                assert_eq!(spliced.origin(at), sql.rfind(word), "{sql}");
            }
            let inside = spliced.text.find("null::text").expect("put in");
            assert_eq!((spliced.origin(inside), spliced.origin(spliced.text.len())), (None, Some(sql.len())));
        }
    }

    #[test]
    fn a_name_with_its_schema_means_what_it_meant() {
        let table = [
            (
                "select public.customers.id from public.customers",
                format!("select customers.id from {MASKED} AS \"customers\""),
            ),
            (
                "select public.customers.id from customers",
                format!("select customers.id from {MASKED} AS \"customers\""),
            ),
            (
                "select * from public.customers where exists (select 1 from o where o.id = public.customers.id)",
                format!(
                    "select * from {MASKED} AS \"customers\" where exists (select 1 from o where o.id = customers.id)"
                ),
            ),
            (
                "select archive.customers.id from archive.customers, public.customers c",
                format!("select archive.customers.id from archive.customers, {MASKED} c"),
            ),
            (
                "select * from public.customers where id in (select id from archive.customers)",
                format!("select * from {MASKED} AS \"customers\" where id in (select id from archive.customers)"),
            ),
        ];
        for (sql, expected) in table {
            assert_eq!(spliced(sql), Ok(Some(expected)), "{sql}");
        }
        // The bare name would mean another relation, or both.
        for sql in [
            "select * from public.customers where exists (select 1 from archive.customers where archive.customers.id = public.customers.id)",
            "select * from customers where exists (select 1 from o customers where customers.id = public.customers.id)",
            "select (select public.customers.id from customers() limit 1) from public.customers",
            "select (select public.customers.id from (select 1) as customers) from public.customers",
            "with customers as (select 1 id) select (select public.customers.id from customers) from public.customers",
            "select public.customers.email from public.customers join archive.customers on true",
            "select * from public.customers, archive.customers",
            "select * from public.customers, customers",
            "select (select public.customers.id from (a join b using (id) as customers) limit 1) from public.customers",
            "select (select public.customers.id from cast(null as public.customers)) from public.customers",
            "select * from public.customers, lateral (select public.customers.id from o as customers) x",
        ] {
            assert_eq!(spliced(sql), Err(SpliceError::Ambiguous("customers".into())), "{sql}");
        }
    }

    #[test]
    fn returning_shows_constants_for_masked_columns_of_the_target() {
        let all = "\"id\", null::text AS \"email\"";
        let qualified = "\"c\".\"id\", null::text AS \"email\"";
        let table = [
            ("delete from customers returning *", format!("delete from customers returning {all}")),
            (
                "insert into customers values (1) returning id, *",
                format!("insert into customers values (1) returning id, {all}"),
            ),
            (
                "update customers set id = 1 returning email",
                "update customers set id = 1 returning null::text AS \"email\"".into(),
            ),
            (
                "update customers set id = 1 returning email x",
                "update customers set id = 1 returning null::text x".into(),
            ),
            (
                "update customers c set id = 1 returning c.email as \"é\", id",
                "update customers c set id = 1 returning null::text as \"é\", id".into(),
            ),
            (
                "delete from customers c using o where true returning c.*, o.*",
                format!("delete from customers c using o where true returning {qualified}, o.*"),
            ),
            (
                "with d as (delete from public.customers returning *) select 1 from d",
                format!("with d as (delete from public.customers returning {all}) select 1 from d"),
            ),
        ];
        for (sql, expected) in table {
            assert_eq!(spliced(sql), Ok(Some(expected)), "{sql}");
        }
        // Left to PostgreSQL, which denies what is masked.
        for sql in [
            "delete from customers returning lower(email)",
            "delete from customers c using o returning *",
            "delete from customers c using o returning email",
            "delete from customers returning customers",
            "update customers set id = 1 returning old.email",
        ] {
            assert_eq!(spliced(sql), Ok(None), "{sql}");
        }
    }

    #[test]
    fn a_write_that_shows_a_part_of_a_column_goes_through_the_view_that_does() {
        for (sql, expected) in [
            ("delete from payers returning *", "delete from m.v AS \"payers\" returning *"),
            (
                "update public.payers p set id = 1 where p.id = 2 returning upper(p.card)",
                "update m.v p set id = 1 where p.id = 2 returning upper(p.card)",
            ),
            (
                "delete from public.payers where public.payers.id = 1 returning public.payers.card",
                "delete from m.v AS \"payers\" where payers.id = 1 returning payers.card",
            ),
            (
                "with d as (delete from payers returning card) select * from d",
                "with d as (delete from m.v AS \"payers\" returning card) select * from d",
            ),
            ("delete from payers returning email", "delete from payers returning null::text AS \"email\""),
            (
                "insert into payers values (1) returning card",
                "insert into m.r AS \"payers\" values (1) returning \"part\" AS \"card\"",
            ),
            (
                "insert into public.payers as p (card) values ('4') on conflict (id) do update set id = 2 where p.id = 1 returning p.*",
                "insert into m.r as p (card) values ('4') on conflict (id) do update set id = 2 where p.id = 1 \
                 returning \"p\".\"id\", null::text AS \"email\", \"p\".\"part\" AS \"card\"",
            ),
            (
                "insert into payers values (1) on conflict on constraint k do nothing returning card x",
                "insert into payers values (1) on conflict on constraint k do nothing returning null::text x",
            ),
            (
                "insert into payers values (1) returning email",
                "insert into payers values (1) returning null::text AS \"email\"",
            ),
            ("delete from only payers returning card", "delete from only payers returning null::text AS \"card\""),
        ] {
            assert_eq!(spliced(sql), Ok(Some(expected.to_owned())), "{sql}");
        }
        assert_eq!(spliced("delete from payers where card = '1' returning id"), Ok(None));
    }

    #[test]
    fn a_masked_relation_is_replaced_wherever_rows_are_taken_from_it() {
        let table = [
            ("select * from customers", "select * from M AS \"customers\""),
            ("select c.x from customers c", "select c.x from M c"),
            ("select * from customers AS c(a,b) where a=1", "select * from M AS c(a,b) where a=1"),
            ("TABLE customers", "SELECT * FROM M AS \"customers\""),
            ("select 1 where 1 in (table customers)", "select 1 where 1 in (SELECT * FROM M AS \"customers\")"),
            ("select * from public.customers", "select * from M AS \"customers\""),
            ("select public.customers.id from public.customers", "select customers.id from M AS \"customers\""),
            ("select public.customers.* from public.customers", "select customers.* from M AS \"customers\""),
            ("select * from a join \"customers\" using (id)", "select * from a join M AS \"customers\" using (id)"),
            ("copy customers to stdout", "copy (SELECT \"id\", \"email\" FROM O AS \"customers\") to stdout"),
            (
                "copy customers (id, email) to stdout",
                "copy (SELECT \"id\", \"email\" FROM O AS \"customers\") to stdout",
            ),
            ("insert into t select * from customers", "insert into t select * from M AS \"customers\""),
            ("delete from t using customers where true", "delete from t using M AS \"customers\" where true"),
            ("select * from customers *", "select * from M AS \"customers\""),
            (
                "select /* customers */ 'customers' from customers",
                "select /* customers */ 'customers' from M AS \"customers\"",
            ),
            (
                "with customers as (select * from customers) table customers",
                "with customers as (select * from M AS \"customers\") table customers",
            ),
            (
                "select * from customers for update of customers",
                "select * from M AS \"customers\" for update of customers",
            ),
            ("prepare p as select * from customers", "prepare p as select * from M AS \"customers\""),
            ("explain select * from customers", "explain select * from M AS \"customers\""),
        ];
        let only = MASKED.replace("FROM", "FROM ONLY");
        for (sql, expected) in table {
            assert_eq!(
                spliced(sql),
                Ok(Some(expected.replace(" M ", &format!(" {MASKED} ")).replace(" O ", &format!(" {only} ")))),
                "{sql}"
            );
        }
        let expected = format!("select * from {only} AS \"customers\"");
        assert_eq!(spliced("select * from only (customers)"), Ok(Some(expected.clone())));
        assert_eq!(spliced("select * from only customers"), Ok(Some(expected)));
    }

    #[test]
    fn other_names_and_targets_stay_as_they_are() {
        for sql in [
            "select 1",
            "select customers from orders",
            "with customers as (select 1) select * from customers",
            "delete from customers where id = 1",
            "update customers set id = 1",
            "insert into customers values (1)",
            "copy customers from stdin",
            "select * from other.customers",
        ] {
            assert_eq!(spliced(sql), Ok(None), "{sql}");
        }
    }

    #[test]
    fn the_target_of_a_write_keeps_the_name_it_went_by() {
        let replace =
            |_: Option<&str>, name: &str, _: Spot| Ok((name == "customers").then(|| "\"m\".\"c\"".to_owned()));
        let table = [
            ("insert into customers (id) values (1)", "insert into M AS \"customers\" (id) values (1)"),
            ("update customers c set id = 1 where c.id = 2", "update M c set id = 1 where c.id = 2"),
            (
                "delete from public.customers where public.customers.id = 1",
                "delete from M AS \"customers\" where customers.id = 1",
            ),
            (
                "insert into customers as n select * from customers returning n.id",
                "insert into M as n select * from M AS \"customers\" returning n.id",
            ),
            (
                "merge into customers using orders o on o.id = customers.id when matched then delete",
                "merge into M AS \"customers\" using orders o on o.id = customers.id when matched then delete",
            ),
        ];
        for (sql, expected) in table {
            let statement = grammar::parse(sql).expect(sql).remove(0);
            let expected = expected.replace(" M ", " \"m\".\"c\" ");
            let masks = Masks { source: &replace, copied: &|_, _| None, columns: &|_, _| None, groups: &|_, _| None };
            let spliced = splice(&statement, masks).expect(sql).expect("written to");
            assert_eq!(spliced.text, expected, "{sql}");
        }
        let only = grammar::parse("update only customers set id = 1").expect("one").remove(0);
        let masks = Masks { source: &replace, copied: &|_, _| None, columns: &|_, _| None, groups: &|_, _| None };
        assert_eq!(splice(&only, masks), Err(SpliceError::OnlyItself));
    }

    #[test]
    fn several_statements_and_copied_sub_selects_are_cut_once_each() {
        let sql = "select 'ä', 1; select * from customers a, customers b";
        let statement = grammar::parse(sql).expect(sql).remove(1);
        let replace = |_: Option<&str>, name: &str, _: Spot| Ok((name == "customers").then(|| "v".to_owned()));
        let masks = Masks { source: &replace, copied: &|_, _| None, columns: &|_, _| None, groups: &|_, _| None };
        let spliced = splice(&statement, masks).expect("verified").expect("rewritten");
        assert_eq!(spliced.text.trim(), "select * from v a, v b");
        let statement = grammar::parse("update t set (a,b) = (select id, id from customers)").expect("one").remove(0);
        let spliced = splice(&statement, masks).expect("verified").expect("rewritten");
        assert_eq!(spliced.text, "update t set (a,b) = (select id, id from v AS \"customers\")");
    }
}
