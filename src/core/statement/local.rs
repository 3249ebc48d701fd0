//! The workstation's quick look at a statement, with `sqlparser`. Advice, never an authority.
//!
//! A text that does not parse here is "ask the server", never a refusal: sqlparser reads about
//! 92 % of what PostgreSQL reads. A text that does parse authorises nothing. What must stay true:
//! sqlparser's `Display` is never used, because it prints some literals so that PostgreSQL reads
//! them with another meaning; only names, shapes and positions are taken from its tree.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, CopySource, CopyTarget, Expr, FromTable, Ident, LockTableMode, MergeAction, ObjectName, Query,
    Reset, Set, SetExpr, Statement, TableFactor, TableObject, TableWithJoins, UnaryOperator, Value, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::core::statement::facts::{CopyDirection, Effect, Facts, Name, RowAction, Touch, TransactionVerb};

/// Longer texts are not looked at: their trees can be deep enough to exhaust a thread's stack.
pub const LONGEST: usize = 64 * 1024;
/// More operators in a row than this make a left-deep tree; the same reason.
const MOST_TOKENS: usize = 4096;
/// PostgreSQL cuts identifiers at NAMEDATALEN - 1 bytes.
const LONGEST_NAME: usize = 63;

/// What the quick look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Look {
    /// One entry for each statement of the text.
    Facts(Vec<Facts>),
    /// Not understood here: the server must be asked. Line and column count from 1, in characters.
    Unknown { why: String, at: Option<(usize, usize)> },
}

/// Looks at a text of one or more statements.
pub fn look(sql: &str) -> Look {
    if sql.len() > LONGEST {
        return Look::Unknown { why: "longer than the local check reads".into(), at: None };
    }
    let dialect = PostgreSqlDialect {};
    // Escapes stay as written: nothing here needs the value of a literal.
    let tokens = match Tokenizer::new(&dialect, sql).with_unescape(false).tokenize_with_location() {
        Ok(tokens) => tokens,
        Err(error) => {
            let at = (to_usize(error.location.line), to_usize(error.location.column));
            return Look::Unknown { why: error.message, at: Some(at) };
        }
    };
    if tokens.len() > MOST_TOKENS {
        return Look::Unknown { why: "longer than the local check reads".into(), at: None };
    }
    if has_unicode_identifier(&tokens) {
        // sqlparser reads U&"…" as an expression, PostgreSQL as a name.
        return Look::Unknown { why: "a Unicode identifier".into(), at: None };
    }
    let places = Places::new(sql);
    let mut all = Vec::new();
    for part in split(&tokens) {
        match statement_facts(&dialect, part, sql, &places) {
            Ok(facts) => all.push(facts),
            Err(unknown) => return unknown,
        }
    }
    Look::Facts(all)
}

/// Parses one statement's tokens and gathers its facts.
fn statement_facts(
    dialect: &PostgreSqlDialect,
    tokens: &[TokenWithSpan],
    sql: &str,
    places: &Places<'_>,
) -> Result<Facts, Look> {
    let mut parser = Parser::new(dialect).with_tokens_with_locations(tokens.to_vec());
    let statement = parser.parse_statement().map_err(|error| unknown(&error))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let at = Some((to_usize(next.span.start.line), to_usize(next.span.start.column)));
        return Err(Look::Unknown { why: "more than one statement without `;`".into(), at });
    }
    let start = tokens.iter().find(|t| !matches!(t.token, Token::Whitespace(_))).map(|t| t.span.start);
    let end = tokens.iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_))).map(|t| t.span.end);
    let mut facts = Facts::plain(&verb(tokens), effect(&statement));
    facts.start = start.and_then(|at| places.offset(at)).unwrap_or(0);
    facts.end = end.and_then(|at| places.offset(at)).unwrap_or(sql.len());
    let mut gather = Gather { facts, places, ctes: HashSet::new(), not_read: HashSet::new() };
    let _ = statement.visit(&mut gather);
    let mut facts = gather.facts;
    if matches!(statement, Statement::Explain { .. }) {
        explain(&statement, &mut facts);
    }
    if matches!(facts.effect, Effect::Read | Effect::Session) && facts.writes() {
        facts.effect = Effect::Write;
    }
    Ok(facts)
}

/// EXPLAIN runs its statement only with ANALYZE; else nothing in it happens.
fn explain(statement: &Statement, facts: &mut Facts) {
    let Statement::Explain { analyze, options, .. } = statement else { return };
    let asked = options.iter().flatten().any(|option| option.name.value.eq_ignore_ascii_case("analyze"));
    if !*analyze && !asked {
        facts.touches.retain(|touch| touch.action == RowAction::Read);
        facts.effect = Effect::Read;
    }
}

/// The parser's complaint with its position taken out of the text.
fn unknown(error: &ParserError) -> Look {
    let message = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "nested too deeply for the local check",
    };
    let Some((why, place)) = message.rsplit_once(" at Line: ") else {
        return Look::Unknown { why: message.to_owned(), at: None };
    };
    let at = place.split_once(", Column: ").and_then(|(line, column)| Some((line.parse().ok()?, column.parse().ok()?)));
    Look::Unknown { why: why.to_owned(), at }
}

fn has_unicode_identifier(tokens: &[TokenWithSpan]) -> bool {
    tokens.windows(3).any(|three| match three {
        [word, and, quoted] => {
            matches!(&word.token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("u"))
                && matches!(and.token, Token::Ampersand)
                && matches!(&quoted.token, Token::Word(w) if w.quote_style == Some('"'))
        }
        _ => false,
    })
}

/// Cuts at every `;` outside parentheses. Empty parts are dropped.
fn split(tokens: &[TokenWithSpan]) -> Vec<&[TokenWithSpan]> {
    let mut depth = 0u32;
    tokens
        .split(|token| {
            match token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && token.token == Token::SemiColon
        })
        .filter(|part| part.iter().any(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)))
        .collect()
}

/// The leading words of the command: one, or for CREATE, ALTER and DROP what is made or changed too.
fn verb(tokens: &[TokenWithSpan]) -> String {
    const PASSED_OVER: [&str; 8] = ["OR", "REPLACE", "TEMP", "TEMPORARY", "UNLOGGED", "UNIQUE", "GLOBAL", "LOCAL"];
    let mut words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(word) => Some(word.value.to_ascii_uppercase()),
        _ => None,
    });
    let Some(first) = words.next() else { return String::new() };
    if !matches!(first.as_str(), "CREATE" | "ALTER" | "DROP") {
        return first;
    }
    match words.find(|word| !PASSED_OVER.contains(&word.as_str())) {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}

/// What the outermost statement does. A kind that is not named here is unknown, never read.
fn effect(statement: &Statement) -> Effect {
    match statement {
        Statement::Query(query) if creates_table(query) => Effect::Ddl,
        Statement::Query(_) | Statement::ShowVariable { .. } | Statement::Explain { .. } => Effect::Read,
        Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Merge(_) => Effect::Write,
        Statement::Copy { to: true, .. } => Effect::Read,
        Statement::Copy { to: false, .. } => Effect::Write,
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. } => Effect::Transaction,
        Statement::Set(_)
        | Statement::Reset(_)
        | Statement::Prepare { .. }
        | Statement::Deallocate { .. }
        | Statement::Declare { .. }
        | Statement::Fetch { .. }
        | Statement::Close { .. }
        | Statement::Discard { .. }
        | Statement::LISTEN { .. }
        | Statement::UNLISTEN { .. }
        | Statement::NOTIFY { .. } => Effect::Session,
        Statement::Truncate(_)
        | Statement::CreateView(_)
        | Statement::CreateTable(_)
        | Statement::CreateIndex(_)
        | Statement::CreateRole(_)
        | Statement::CreatePolicy(_)
        | Statement::CreateSchema { .. }
        | Statement::CreateDatabase { .. }
        | Statement::CreateFunction(_)
        | Statement::CreateProcedure { .. }
        | Statement::CreateTrigger(_)
        | Statement::CreateSequence { .. }
        | Statement::CreateDomain(_)
        | Statement::CreateType { .. }
        | Statement::CreateExtension(_)
        | Statement::AlterTable(_)
        | Statement::AlterSchema(_)
        | Statement::AlterIndex { .. }
        | Statement::AlterView { .. }
        | Statement::AlterType(_)
        | Statement::AlterRole { .. }
        | Statement::AlterPolicy(_)
        | Statement::Drop { .. }
        | Statement::DropFunction(_)
        | Statement::DropProcedure { .. }
        | Statement::DropDomain(_)
        | Statement::DropPolicy(_)
        | Statement::DropTrigger(_)
        | Statement::DropExtension(_)
        | Statement::Comment { .. }
        | Statement::Grant(_)
        | Statement::Revoke(_) => Effect::Ddl,
        Statement::Lock(lock) if lock.lock_mode == Some(LockTableMode::AccessShare) => Effect::Read,
        Statement::Call(_) | Statement::Vacuum(_) | Statement::Analyze(_) | Statement::Lock(_) => Effect::Utility,
        // Other dialects' statements, and ones added later: the server decides.
        _ => Effect::Unknown,
    }
}

/// SELECT … INTO makes a table.
fn creates_table(query: &Query) -> bool {
    matches!(query.body.as_ref(), SetExpr::Select(select) if select.into.is_some())
}

/// Gathers names while the tree is walked.
struct Gather<'a> {
    facts: Facts,
    places: &'a Places<'a>,
    /// Names of common table expressions: they hide relations of the same name.
    ctes: HashSet<String>,
    /// Where names stand that the walk meets as relations but that are write targets or functions.
    not_read: HashSet<Location>,
}

impl Gather<'_> {
    fn touch(&mut self, name: &ObjectName, action: RowAction, has_predicate: bool) {
        let Some(relation) = folded(name) else { return };
        let offset = place(name).and_then(|at| self.places.offset(at));
        self.facts.touches.push(Touch { relation, action, offset, has_predicate });
    }

    /// A relation that is written: it is not counted as read when the walk meets its name.
    fn write(&mut self, name: &ObjectName, action: RowAction, has_predicate: bool) {
        self.not_read.extend(place(name));
        self.touch(name, action, has_predicate);
    }

    fn write_table(&mut self, table: &TableFactor, action: RowAction, has_predicate: bool) {
        if let TableFactor::Table { name, .. } = table {
            self.write(name, action, has_predicate);
        }
    }

    fn calls(&mut self, name: &ObjectName) {
        self.not_read.extend(place(name));
        self.facts.functions.extend(folded(name));
    }

    fn copy(&mut self, source: &CopySource, to: bool, target: &CopyTarget) {
        self.facts.copy = Some(match target {
            CopyTarget::Stdin => CopyDirection::FromClient,
            CopyTarget::Stdout => CopyDirection::ToClient,
            CopyTarget::File { .. } | CopyTarget::Program { .. } => CopyDirection::Server,
        });
        if let CopySource::Table { table_name, .. } = source {
            // The walk does not meet this name as a relation.
            let action = if to { RowAction::Read } else { RowAction::Insert };
            self.write(table_name, action, false);
        }
    }

    fn set(&mut self, set: &Set) {
        let name = match set {
            Set::SingleAssignment { variable, .. } => folded(variable).map(|name| name.to_string()),
            Set::SetRole { .. } => Some("role".into()),
            Set::SetTimeZone { .. } => Some("timezone".into()),
            Set::SetNames { .. } | Set::SetNamesDefault {} => Some("client_encoding".into()),
            Set::SetSessionAuthorization(_) => Some("session_authorization".into()),
            _ => None,
        };
        self.facts.settings.extend(name.map(|name| name.to_ascii_lowercase()));
    }

    fn merge(&mut self, merge: &sqlparser::ast::Merge) {
        for clause in &merge.clauses {
            let action = match clause.action {
                MergeAction::Insert(_) => RowAction::Insert,
                MergeAction::Update(_) => RowAction::Update,
                MergeAction::Delete { .. } => RowAction::Delete,
                MergeAction::DoNothing { .. } => continue,
            };
            // The join with the source is the predicate.
            self.write_table(&merge.table, action, true);
        }
    }

    /// `TABLE name`, also below UNION and kin: bare text without a position, which the walk does not meet.
    fn bare_tables(&mut self, body: &SetExpr) {
        let mut open = vec![body];
        while let Some(body) = open.pop() {
            match body {
                SetExpr::SetOperation { left, right, .. } => open.extend([right.as_ref(), left.as_ref()]),
                SetExpr::Table(table) => {
                    let Some(name) = &table.table_name else { continue };
                    let relation = Name::new(table.schema_name.as_deref(), &name.to_ascii_lowercase());
                    let action = RowAction::Read;
                    self.facts.touches.push(Touch { relation, action, offset: None, has_predicate: false });
                }
                _ => {}
            }
        }
    }

    fn transaction(&mut self, statement: &Statement) {
        self.facts.transaction = match statement {
            Statement::StartTransaction { .. } => Some(TransactionVerb::Begin),
            Statement::Commit { .. } => Some(TransactionVerb::Commit),
            Statement::Rollback { savepoint: None, .. } => Some(TransactionVerb::Rollback),
            Statement::Rollback { savepoint: Some(_), .. } => Some(TransactionVerb::RollbackTo),
            Statement::Savepoint { .. } => Some(TransactionVerb::Savepoint),
            Statement::ReleaseSavepoint { .. } => Some(TransactionVerb::Release),
            _ => self.facts.transaction,
        };
    }
}

impl Visitor for Gather<'_> {
    type Break = ();

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<()> {
        self.transaction(statement);
        match statement {
            Statement::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.write(name, RowAction::Insert, false);
                }
            }
            Statement::Update(update) => {
                self.write_table(&update.table.relation, RowAction::Update, can_exclude(update.selection.as_ref()));
            }
            Statement::Delete(delete) => {
                let has_predicate = can_exclude(delete.selection.as_ref());
                for TableWithJoins { relation, .. } in from_tables(&delete.from) {
                    self.write_table(relation, RowAction::Delete, has_predicate);
                }
            }
            Statement::Merge(merge) => self.merge(merge),
            Statement::Copy { source, to, target, .. } => self.copy(source, *to, target),
            Statement::Truncate(truncate) => {
                truncate.table_names.iter().for_each(|table| self.write(&table.name, RowAction::Delete, false));
            }
            Statement::Set(set) => self.set(set),
            Statement::Reset(reset) => match &reset.reset {
                Reset::ConfigurationParameter(name) => {
                    self.facts.settings.extend(folded(name).map(|name| name.to_string().to_ascii_lowercase()));
                }
                Reset::SessionAuthorization => self.facts.settings.push("session_authorization".into()),
                Reset::ALL => {}
            },
            Statement::Prepare { name, .. } | Statement::Deallocate { name, .. } => {
                self.facts.prepared = Some(fold(name));
            }
            Statement::Call(call) => self.calls(&call.name),
            Statement::LISTEN { channel } => self.facts.channel = Some(fold(channel)),
            Statement::Lock(lock) => self.facts.locks = lock.lock_mode != Some(LockTableMode::AccessShare),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.ctes.extend(with.cte_tables.iter().map(|cte| fold(&cte.alias.name)));
        }
        self.facts.locks |= !query.locks.is_empty();
        self.bare_tables(&query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => self.calls(name),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let is_cte = name.0.len() == 1 && folded(name).is_some_and(|name| self.ctes.contains(&name.name));
        let is_read = place(name).is_none_or(|at| !self.not_read.contains(&at));
        if is_read && !is_cte && self.facts.effect != Effect::Ddl {
            self.touch(name, RowAction::Read, false);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(call) = expr {
            self.facts.functions.extend(folded(&call.name));
        }
        ControlFlow::Continue(())
    }
}

fn from_tables(from: &FromTable) -> &[TableWithJoins] {
    match from {
        FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => tables,
    }
}

/// Whether a WHERE can leave rows out. None, or one that is true for every row, cannot.
fn can_exclude(selection: Option<&Expr>) -> bool {
    selection.is_some_and(|condition| !is_always_true(condition))
}

/// Conditions that are true for every row, as far as their form alone shows it.
fn is_always_true(condition: &Expr) -> bool {
    match condition {
        Expr::Nested(inner) => is_always_true(inner),
        Expr::Value(value) => matches!(value.value, Value::Boolean(true)),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            matches!(expr.as_ref(), Expr::Value(value) if value.value == Value::Boolean(false))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => is_always_true(left) || is_always_true(right),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => is_always_true(left) && is_always_true(right),
        Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::GtEq | BinaryOperator::LtEq, right } => {
            left == right
        }
        _ => false,
    }
}

/// Where a name begins; `None` where sqlparser kept no place.
fn place(name: &ObjectName) -> Option<Location> {
    let at = name.0.first()?.as_ident()?.span.start;
    (at.line > 0).then_some(at)
}

/// The last two parts of a name, folded as PostgreSQL folds them.
fn folded(name: &ObjectName) -> Option<Name> {
    let parts: Vec<String> = name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
    match parts.as_slice() {
        [.., schema, name] => Some(Name::new(Some(schema), name)),
        [name] => Some(Name::new(None, name)),
        [] => None,
    }
}

/// Unquoted: ASCII letters to lower case. Always: cut at 63 bytes, between characters.
fn fold(ident: &Ident) -> String {
    let mut name = match ident.quote_style {
        Some(_) => ident.value.replace("\"\"", "\""),
        None => ident.value.to_ascii_lowercase(),
    };
    let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    name.truncate(end);
    name
}

/// Turns sqlparser's line and column (in characters, from 1) into byte offsets.
struct Places<'a> {
    sql: &'a str,
    lines: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(sql: &'a str) -> Self {
        let lines = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { sql, lines }
    }

    fn offset(&self, at: Location) -> Option<usize> {
        let start = *self.lines.get(to_usize(at.line).checked_sub(1)?)?;
        let rest = self.sql.get(start..)?;
        let column = to_usize(at.column).checked_sub(1)?;
        Some(rest.char_indices().nth(column).map_or(self.sql.len(), |(within, _)| start + within))
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
