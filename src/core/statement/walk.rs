//! The walk over a statement's tree that gathers what it names: relations, functions, operators,
//! settings. It follows which names are common table expressions where.

use std::collections::HashMap;

use super::facts::{Facts, Name, RowAction, Touch, distinct};
use super::grammar::{Reads, constant, text_constant};
use super::locks;
use super::predicate;
use super::texts::{self, RUNS_TEXT};
use super::tree::Tree;

/// Relations, as ObjectType of the parser's protobuf: index, sequence, table, view.
const RELATIONS: [i64; 4] = [INDEX, 38, 42, 52];
const INDEX: i64 = 21;
/// The ObjectType of a column, and of a constraint of a table.
const COLUMN: i64 = 7;
const CONSTRAINT: i64 = 41;

/// Adds to `facts` what the tree names. Offsets count from `start`.
pub(super) fn gather(tree: &Tree, start: usize, reads: Reads, facts: &mut Facts) {
    let mut walk = Walk { facts, start, reads, scope: Scope::default(), is_bounded: true, named: None };
    walk.node(tree);
    distinct(&mut facts.touches);
    distinct(&mut facts.functions);
    distinct(&mut facts.operators);
    distinct(&mut facts.fields);
    distinct(&mut facts.casts);
    distinct(&mut facts.settings);
    distinct(&mut facts.effects.beside);
}

/// The common table expressions that are in scope, the innermost last.
#[derive(Default)]
pub(super) struct Scope {
    names: Vec<String>,
    /// How often each is among them.
    held: HashMap<String, usize>,
}

impl Scope {
    pub(super) fn push(&mut self, name: &str) {
        self.names.push(name.to_owned());
        *self.held.entry(name.to_owned()).or_default() += 1;
    }

    pub(super) const fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn truncate(&mut self, length: usize) {
        for name in self.names.drain(length.min(self.names.len())..) {
            if let Some(held) = self.held.get_mut(&name) {
                *held -= 1;
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| *held > 0)
    }
}

/// The walk that gathers touches and functions, following which names are CTEs where.
struct Walk<'f> {
    facts: &'f mut Facts,
    start: usize,
    reads: Reads,
    scope: Scope,
    /// False in the FROM clause of a locking SELECT that leaves no row out.
    is_bounded: bool,
    /// What the column `name` is in the rows of the SELECT that is being walked, where its WHERE
    /// says `name = 'constant'`: pg_dump names settings like this.
    named: Option<String>,
}

impl Walk<'_> {
    fn node(&mut self, tree: &Tree) {
        match tree {
            Tree::List(items) => items.iter().for_each(|item| self.node(item)),
            Tree::Node(kind, fields) => {
                self.note(tree);
                let before = self.scope.len();
                self.common_tables(tree.get("with_clause"));
                let outer = self.named.clone();
                if *kind == "SelectStmt" {
                    self.named = setting_named(tree);
                }
                let excluding = predicate::can_exclude(tree.get("where_clause"), tree.get("relation"));
                for (name, field) in fields {
                    match (*kind, *name) {
                        (_, "with_clause") => {}
                        ("InsertStmt", "relation") => self.target(field, insert_actions(tree), true),
                        ("UpdateStmt", "relation") => self.target(field, &[RowAction::Update], excluding),
                        ("DeleteStmt", "relation") => self.target(field, &[RowAction::Delete], excluding),
                        ("MergeStmt", "relation") => {
                            self.target(field, &merge_actions(tree), predicate::merge_excludes(tree));
                        }
                        ("CopyStmt", "relation") if tree.get("is_from").flag() => {
                            self.target(field, &[RowAction::Insert], true);
                        }
                        ("TruncateStmt", "relations") => {
                            field.items().iter().for_each(|item| self.target(item, &[RowAction::Delete], false));
                        }
                        // What a statement makes or locks is not something it reads.
                        ("IntoClause", "rel") | ("CreateStmt" | "ViewStmt", "relation" | "view") => {}
                        ("LockingClause", "locked_rels") => {}
                        ("SelectStmt", "from_clause") if !tree.get("locking_clause").items().is_empty() => {
                            let outside = self.is_bounded;
                            self.is_bounded = excluding || locks::has_limit(tree) || locks::are_met(tree);
                            self.node(field);
                            self.is_bounded = outside;
                        }
                        _ => self.node(field),
                    }
                }
                self.scope.truncate(before);
                self.named = outer;
            }
            Tree::Text(_) | Tree::Int(_) | Tree::Bool(_) | Tree::Nothing => {}
        }
    }

    /// Facts that a node shows by itself.
    fn note(&mut self, tree: &Tree) {
        match tree.kind() {
            "RangeVar" => self.target(tree, &[RowAction::Read], self.is_bounded),
            "LockingClause" => self.facts.locks = true,
            "InsertStmt" => self.facts.locks |= locks::conflicting(tree).is_some(),
            "DropStmt" if RELATIONS.contains(&tree.get("remove_type").int()) => {
                let names = tree.get("objects").items().iter();
                self.facts.objects.extend(names.filter_map(|name| qualified(name.get("items").items())));
                self.facts.may_be_absent = tree.get("missing_ok").flag() || tree.get("remove_type").int() != INDEX;
            }
            "CommentStmt" => {
                let name = tree.get("object").get("items").items();
                let relation = match tree.get("objtype").int() {
                    COLUMN | CONSTRAINT => name.split_last().and_then(|(_, relation)| qualified(relation)),
                    kind => RELATIONS.contains(&kind).then(|| qualified(name)).flatten(),
                };
                self.facts.objects.extend(relation);
            }
            // Also below CREATE TABLE AS and EXPLAIN ANALYZE.
            "ExecuteStmt" => {
                self.facts.prepared = Some(tree.get("name").text().to_owned());
                self.facts.executes = true;
            }
            "FuncCall" => self.call(tree),
            // A_Expr_Kind: from 11 on the kinds of BETWEEN, whose name is that word.
            "AExpr" if tree.get("kind").int() >= 11 => self.implied(&["<", "<=", ">", ">="]),
            "AExpr" => self.operator(tree.get("name")),
            "JoinExpr" if tree.get("is_natural").flag() || !tree.get("using_clause").items().is_empty() => {
                self.implied(&["="]);
            }
            "CaseExpr" if !tree.get("arg").is_nothing() => self.implied(&["="]),
            // IN (SELECT …)
            "SubLink" if !tree.get("testexpr").is_nothing() && tree.get("oper_name").items().is_empty() => {
                self.implied(&["="]);
            }
            "TypeName" => self.cast(tree.get("names").items()),
            "SubLink" => self.operator(tree.get("oper_name")),
            "SortBy" => self.operator(tree.get("use_op")),
            "ColumnRef" => {
                if let [_, .., field] = tree.get("fields").items() {
                    self.field(field);
                }
            }
            "AIndirection" => tree.get("indirection").items().iter().for_each(|field| self.field(field)),
            _ => {}
        }
    }

    fn call(&mut self, tree: &Tree) {
        let Some(name) = qualified(tree.get("funcname").items()) else { return };
        if name.name == "set_config" {
            let arguments = tree.get("args").items();
            let mut texts = arguments.iter().map(text_constant);
            let (mut setting, value) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
            if arguments.first().is_some_and(is_name_column) {
                setting = self.named.clone().unwrap_or_default();
            }
            // An empty name means it was no constant: the policy refuses that.
            let setting = format!("{}={}", setting.to_ascii_lowercase(), value.to_ascii_lowercase());
            self.facts.settings.push(setting);
        }
        if RUNS_TEXT.contains(&name.name.as_str()) {
            let said = if self.reads == Reads::Texts { texts::read(&name.name, tree) } else { None };
            match said {
                Some(said) => said.into_iter().for_each(|inner| self.facts.say(inner)),
                None => self.facts.unread_text = true,
            }
        }
        self.facts.functions.push(name);
    }

    fn cast(&mut self, name: &[Tree]) {
        self.facts.casts.extend(qualified(name).filter(|name| !name.name.is_empty()));
    }

    fn operator(&mut self, name: &Tree) {
        self.facts.operators.extend(qualified(name.items()));
    }

    /// Operators that SQL's own words stand for; they are looked for on the search path like any.
    fn implied(&mut self, names: &[&str]) {
        self.facts.operators.extend(names.iter().map(|name| Name::new(None, name)));
    }

    /// A subscript has no name, and a star calls nothing.
    fn field(&mut self, field: &Tree) {
        let name = field.get("sval").text();
        self.facts.unread_text |= RUNS_TEXT.contains(&name);
        if !name.is_empty() {
            self.facts.fields.push(name.to_owned());
        }
    }

    /// A relation that rows are read from or changed in, unless the name is a CTE here.
    fn target(&mut self, range: &Tree, actions: &[RowAction], has_predicate: bool) {
        let (schema, name) = range.relation();
        let is_common = schema.is_none() && self.scope.has(name);
        if name.is_empty() || (is_common && actions == [RowAction::Read]) {
            return;
        }
        for action in actions {
            let touch = Touch {
                relation: Name::new(schema, name),
                action: *action,
                offset: range.location().and_then(|place| place.checked_sub(self.start)),
                has_predicate,
            };
            self.facts.touches.push(touch);
        }
    }

    /// Brings the names of a WITH clause into scope, in the order PostgreSQL does.
    fn common_tables(&mut self, with: &Tree) {
        let expressions = with.get("ctes").items();
        let is_recursive = with.get("recursive").flag();
        if is_recursive {
            expressions.iter().for_each(|cte| self.scope.push(cte.get("ctename").text()));
        }
        for expression in expressions {
            self.node(expression);
            if !is_recursive {
                self.scope.push(expression.get("ctename").text());
            }
        }
    }
}

/// The setting of which a query over pg_settings reads the row: its WHERE is `name = 'constant'` and
/// nothing else. Of any other relation the column might be equal to more than one text.
fn setting_named(select: &Tree) -> Option<String> {
    let [from] = select.get("from_clause").items() else { return None };
    let is_settings = from.get("relname").text() == "pg_settings"
        && matches!(from.get("schemaname").text(), "" | "pg_catalog")
        && from.kind() == "RangeVar";
    let condition = select.get("where_clause");
    let is_equal = matches!(condition.get("name").items(), [operator] if operator.get("sval").text() == "=");
    let is_plain = condition.kind() == "AExpr" && is_equal && is_name_column(condition.get("lexpr"));
    let right = condition.get("rexpr");
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.');
    let is_name = |text: &String| !text.is_empty() && text.bytes().all(is_letter);
    (is_settings && is_plain && right.kind() == "AConst").then(|| constant(right)).filter(is_name)
}

fn is_name_column(tree: &Tree) -> bool {
    tree.kind() == "ColumnRef" && matches!(tree.get("fields").items(), [field] if field.get("sval").text() == "name")
}

/// INSERT … ON CONFLICT DO UPDATE also updates.
fn insert_actions(tree: &Tree) -> &'static [RowAction] {
    // OnConflictAction: 3 is ONCONFLICT_UPDATE in the parser's protobuf.
    match tree.get("on_conflict_clause").get("action").int() {
        3 => &[RowAction::Insert, RowAction::Update],
        _ => &[RowAction::Insert],
    }
}

/// What the WHEN clauses of a MERGE do. CmdType: 3 update, 4 insert, 5 delete.
fn merge_actions(tree: &Tree) -> Vec<RowAction> {
    let clauses = tree.get("merge_when_clauses").items().iter();
    clauses
        .filter_map(|clause| match clause.get("command_type").int() {
            3 => Some(RowAction::Update),
            4 => Some(RowAction::Insert),
            5 => Some(RowAction::Delete),
            _ => None,
        })
        .collect()
}

/// A name of one or two parts; the last two of more.
fn qualified(parts: &[Tree]) -> Option<Name> {
    let mut parts = parts.iter().rev().map(|part| part.get("sval").text());
    let name = parts.next()?;
    Some(Name::new(parts.next(), name))
}
