//! PostgreSQL's own grammar (libpg_query), the authority on what a text says.
//!
//! What it cannot parse is refused, never passed on. The walk over its tree is exhaustive
//! (see [`super::tree`]), and a statement kind that is not listed here is [`Effect::Unknown`].

use super::facts::{CopyDirection, Effect, Effects, Facts, RowAction, RowLocks, TransactionVerb, Upkeep};
use super::joins::Source;
use super::length::{LONGEST, LONGEST_WHOLE};
use super::tree::Tree;
use super::{blocks, details, effects, leans, length, locks, makes, predicate, shape, upkeep, walk, xpath};

/// The code of a refusal of what is longer, deeper or heavier than what is looked through.
pub const TOO_COMPLEX: &str = "too_complex";

/// The most that one text may weigh, see [`Tree::weight`]: the longest text of the plainest expressions
/// weighs a quarter, when it stands in a sub-select or two.
const HEAVIEST: u64 = 8_000_000;

/// The verb of a view that only this session sees.
pub const TEMP_VIEW: &str = "CREATE TEMP VIEW";

/// One statement of a text.
#[derive(Clone, Debug)]
pub struct Statement {
    /// The statement's own text, without the semicolon.
    pub text: String,
    /// Where it starts in the whole text, in bytes.
    pub start: usize,
    pub facts: Facts,
    pub(super) tree: Tree,
}

impl Statement {
    /// What its rows are, where it is a query: those of one relation, say.
    pub fn rows(&self) -> Source {
        blocks::rows_of(&self.tree)
    }

    /// Whether a query fills the table or materialized view that it makes.
    pub fn is_filled(&self) -> bool {
        let kinds = |tree: &Tree| tree.kind() == "CreateTableAsStmt" || !tree.get("into_clause").is_nothing();
        kinds(&self.tree) || (self.tree.kind() == "ExplainStmt" && kinds(self.tree.get("query")))
    }

    /// The relation that `COPY relation TO` names, with the schema as written.
    pub fn copied_out(&self) -> Option<(Option<&str>, &str)> {
        let relation = self.tree.get("relation");
        let is_out = self.tree.kind() == "CopyStmt" && !self.tree.get("is_from").flag() && !relation.is_nothing();
        is_out.then(|| relation.relation())
    }
}

/// Why a text has no statements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Also what the server would say, though it says it better: with a position.
    #[error("{0}")]
    Syntax(String),
    #[error("statement of {0} bytes exceeds the limit of {LONGEST}, or of {LONGEST_WHOLE} with what its literals hold")]
    TooLong(usize),
    #[error("statement is nested too deeply to be checked")]
    TooDeep,
    /// So much stands within so much that looking through all of it takes too long.
    #[error("statement holds too much in too many levels to be checked")]
    TooMuch,
    #[error("statement holds a NUL byte")]
    Nul,
}

impl GrammarError {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong(_) | Self::TooDeep | Self::TooMuch => TOO_COMPLEX,
            Self::Syntax(_) | Self::Nul => "unparseable",
        }
    }

    /// What whoever wrote the text can do.
    pub const fn way_out(&self) -> &'static str {
        match self {
            Self::TooDeep => {
                "put parts of a long chain (UNION, ||, +) into parentheses, so that it branches rather than nests"
            }
            Self::TooMuch => "run its parts by themselves, or keep what is inside in a temporary table",
            Self::Syntax(_) | Self::TooLong(_) | Self::Nul => "simplify it",
        }
    }
}

/// Whether a text is worth a look, by its length alone.
///
/// # Errors
/// It is longer than any that is parsed.
pub const fn has_length(sql: &str) -> Result<(), GrammarError> {
    if sql.len() > LONGEST_WHOLE { Err(GrammarError::TooLong(sql.len())) } else { Ok(()) }
}

/// Splits and parses a text. An empty text has no statements.
///
/// # Errors
/// When the grammar does not accept it whole.
pub fn parse(sql: &str) -> Result<Vec<Statement>, GrammarError> {
    parse_reading(sql, Reads::Texts)
}

/// Whether texts are read that functions run, or stay unread: a text in a text may hold one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    Texts,
    Nothing,
}

pub(super) fn parse_reading(sql: &str, reads: Reads) -> Result<Vec<Statement>, GrammarError> {
    if length::is_too_long(sql) {
        return Err(GrammarError::TooLong(sql.len()));
    }
    let parsed = pg_query::parse(sql, pg_query::ParserOptions::default()).map_err(|error| match error {
        // The parser has limits of its own.
        pg_query::Error::Parse(message)
            if ["nested too deeply", "stack depth limit"].iter().any(|said| message.contains(said)) =>
        {
            GrammarError::TooDeep
        }
        pg_query::Error::Parse(message) => GrammarError::Syntax(message),
        pg_query::Error::Conversion(_) => GrammarError::Nul,
        // The decoder has a limit on depth that PostgreSQL does not have.
        _ => GrammarError::TooDeep,
    })?;
    let mut weight = 0;
    let statements = parsed.protobuf.stmts.iter().map(|raw| {
        // A statement that fell out here would run unseen.
        let (text, start, tree) = placed(sql, raw).ok_or(GrammarError::TooDeep)?;
        weight += tree.weight();
        if weight > HEAVIEST {
            return Err(GrammarError::TooMuch);
        }
        let mut facts = facts(&tree, start, reads);
        (facts.start, facts.end) = (start, start + text.len());
        Ok(Statement { text: text.to_owned(), start, facts, tree })
    });
    statements.collect()
}

/// The text of one statement, where it starts, and its tree.
fn placed<'s>(sql: &'s str, raw: &pg_query::protobuf::RawStmt) -> Option<(&'s str, usize, Tree)> {
    let start = usize::try_from(raw.stmt_location).ok()?;
    let length = usize::try_from(raw.stmt_len).ok()?;
    let rest = sql.get(start..)?;
    let text = if length == 0 { rest } else { rest.get(..length)? };
    Some((text, start, Tree::of(raw.stmt.as_ref()?)))
}

/// The tokens of a text as byte ranges, comments left out.
pub(super) fn tokens(sql: &str) -> Option<Vec<(usize, usize)>> {
    use pg_query::protobuf::Token;
    let scanned = pg_query::scan(sql).ok()?;
    let comments = [i32::from(Token::SqlComment), i32::from(Token::CComment)];
    let kept = scanned.tokens.iter().filter(|token| !comments.contains(&token.token));
    kept.map(|token| Some((usize::try_from(token.start).ok()?, usize::try_from(token.end).ok()?))).collect()
}

/// The ObjectType of a table in the parser's protobuf.
const TABLE: i64 = 42;

/// The facts of one statement's tree. Offsets count from the statement's own start.
fn facts(tree: &Tree, start: usize, reads: Reads) -> Facts {
    let mut facts = top_level(tree);
    facts.unbounded = shape::is_unbounded(tree);
    facts.endless_path = xpath::is_endless(tree);
    facts.joins = blocks::of(tree);
    facts.pinned = predicate::pinned(tree);
    facts.row_locks = locks::of(tree);
    facts.effects = effects::of(tree);
    facts.makes = makes::of(tree);
    facts.leans = leans::on_the_session(tree);
    facts.reads_details = details::are_read(tree);
    if upkeep::is_upkeep(tree) && facts.effect != Effect::Session {
        facts.upkeep = Some(if upkeep::is_concurrent(tree) { Upkeep::Concurrent } else { Upkeep::Blocking });
    }
    walk::gather(tree, start, reads, &mut facts);
    if facts.verb == "EXPLAIN" {
        // Planned, not run. But what EXECUTE is given is worked out first, and stands there with nothing else.
        if !facts.executes {
            (facts.row_locks, facts.effects, facts.locks) = (RowLocks::None, Effects::default(), false);
        }
        facts.executes = false;
        facts.touches.iter_mut().for_each(|touch| touch.action = RowAction::Read);
    }
    // Writes may hide in a CTE, below EXPLAIN ANALYZE, in PREPARE, or in what fills a temporary table.
    if facts.writes() && matches!(facts.effect, Effect::Read | Effect::Session) {
        facts.effect = Effect::Write;
    }
    facts
}

/// A statement that changes rows.
fn change(verb: &str, tree: &Tree) -> Facts {
    Facts { returns_nothing: tree.get("returning_clause").is_nothing(), ..Facts::plain(verb, Effect::Write) }
}

/// What the kind of the statement alone says.
fn top_level(tree: &Tree) -> Facts {
    let text = |name| tree.get(name).text();
    match tree.kind() {
        "SelectStmt" => select(tree),
        "InsertStmt" => change("INSERT", tree),
        "UpdateStmt" => change("UPDATE", tree),
        "DeleteStmt" => change("DELETE", tree),
        "MergeStmt" => change("MERGE", tree),
        "CopyStmt" => copy(tree),
        "ExplainStmt" => explain(tree),
        "TransactionStmt" => transaction(tree),
        "VariableSetStmt" => variable(tree),
        "VariableShowStmt" => Facts::plain("SHOW", Effect::Read),
        "PrepareStmt" => named("PREPARE", top_level(tree.get("query")).effect, text("name")),
        "ExecuteStmt" => named("EXECUTE", Effect::Unknown, text("name")),
        "DeallocateStmt" => named("DEALLOCATE", Effect::Session, text("name")),
        "DeclareCursorStmt" => cursor(tree),
        "FetchStmt" => Facts { is_move: tree.get("ismove").flag(), ..named("FETCH", Effect::Read, text("portalname")) },
        "ClosePortalStmt" => named("CLOSE", Effect::Session, text("portalname")),
        // DiscardMode: 1 is DISCARD_ALL, which also forgets what was prepared.
        "DiscardStmt" if tree.get("target").int() == 1 => Facts::plain("DISCARD ALL", Effect::Session),
        "DiscardStmt" => Facts::plain("DISCARD", Effect::Session),
        "ListenStmt" => {
            Facts { channel: Some(text("conditionname").to_owned()), ..Facts::plain("LISTEN", Effect::Session) }
        }
        "UnlistenStmt" => Facts::plain("UNLISTEN", Effect::Session),
        "NotifyStmt" => Facts::plain("NOTIFY", Effect::Session),
        "ConstraintsSetStmt" => Facts::plain("SET CONSTRAINTS", Effect::Session),
        // ACCESS SHARE (1) is what every SELECT takes; pg_dump asks for it by name.
        "LockStmt" if tree.get("mode").int() == 1 => Facts::plain("LOCK", Effect::Read),
        "LockStmt" => Facts { locks: true, ..Facts::plain("LOCK", Effect::Utility) },
        "DoStmt" => Facts::plain("DO", Effect::Utility),
        "CallStmt" => Facts::plain("CALL", Effect::Utility),
        "VacuumStmt" => Facts::plain(vacuum_verb(tree), Effect::Utility),
        "CheckPointStmt" => Facts::plain("CHECKPOINT", Effect::Utility),
        "LoadStmt" => Facts::plain("LOAD", Effect::Utility),
        "TruncateStmt" => Facts::plain("TRUNCATE", Effect::Ddl),
        "CreateStmt" | "CreateTableAsStmt" if is_temporary(tree) => Facts::plain("CREATE TEMP TABLE", Effect::Session),
        "ViewStmt" if is_own(tree.get("view")) => Facts::plain(TEMP_VIEW, Effect::Session),
        "CreateSeqStmt" if is_own(tree.get("sequence")) => Facts::plain("CREATE TEMP SEQUENCE", Effect::Session),
        kind => definition(kind, tree),
    }
}

fn select(tree: &Tree) -> Facts {
    let into = tree.get("into_clause");
    if into.is_nothing() {
        return Facts::plain("SELECT", Effect::Read);
    }
    match is_own(into.get("rel")) {
        true => Facts::plain("SELECT INTO TEMP", Effect::Session),
        false => Facts::plain("SELECT INTO", Effect::Ddl),
    }
}

fn is_temporary(tree: &Tree) -> bool {
    match tree.kind() {
        "CreateStmt" => is_own(tree.get("relation")),
        _ => tree.get("objtype").int() == TABLE && is_own(tree.get("into").get("rel")),
    }
}

/// Whether what is made is the session's own and gone with it: by TEMP, or by the schema's name.
fn is_own(made: &Tree) -> bool {
    made.get("relpersistence").text() == "t" || made.get("schemaname").text() == "pg_temp"
}

fn named(verb: &str, effect: Effect, name: &str) -> Facts {
    Facts { prepared: Some(name.to_owned()), ..Facts::plain(verb, effect) }
}

/// 0x0001 is CURSOR_OPT_BINARY, 0x0020 CURSOR_OPT_HOLD: such a cursor is filled at COMMIT, after the
/// last count.
fn cursor(tree: &Tree) -> Facts {
    let is = |option: i64| tree.get("options").int() & option != 0;
    let verb = if is(0x20) { "DECLARE WITH HOLD" } else { "DECLARE" };
    Facts { is_binary: is(0x01), ..named(verb, Effect::Read, tree.get("portalname").text()) }
}

fn copy(tree: &Tree) -> Facts {
    let direction = match (tree.get("is_program").flag(), tree.get("filename").text(), tree.get("is_from").flag()) {
        (false, "", true) => CopyDirection::FromClient,
        (false, "", false) => CopyDirection::ToClient,
        _ => CopyDirection::Server,
    };
    let effect = match direction {
        CopyDirection::FromClient => Effect::Write,
        CopyDirection::ToClient => Effect::Read,
        CopyDirection::Server => Effect::Utility,
    };
    Facts { copy: Some(direction), ..Facts::plain("COPY", effect) }
}

/// EXPLAIN runs the statement only with ANALYZE. Any spelling but a plain "off" counts as on.
fn explain(tree: &Tree) -> Facts {
    let options = tree.get("options").items();
    let has = |name: &str| options.iter().any(|one| one.get("defname").text() == name && !is_off(one.get("arg")));
    let analyze = has("analyze");
    let inner = top_level(tree.get("query"));
    let effect = if analyze { inner.effect } else { Effect::Read };
    let shows_wal = analyze && has("wal");
    Facts {
        prepared: inner.prepared,
        shows_wal,
        ..Facts::plain(if analyze { "EXPLAIN ANALYZE" } else { "EXPLAIN" }, effect)
    }
}

fn is_off(argument: &Tree) -> bool {
    let word = argument.get("sval").text().to_ascii_lowercase();
    matches!(word.as_str(), "off" | "false") || (argument.kind() == "Integer" && argument.get("ival").int() == 0)
}

fn transaction(tree: &Tree) -> Facts {
    // The numbers are TransactionStmtKind of the parser's protobuf.
    let (verb, kind) = match tree.get("kind").int() {
        1 | 2 => ("BEGIN", TransactionVerb::Begin),
        3 => ("COMMIT", TransactionVerb::Commit),
        4 => ("ROLLBACK", TransactionVerb::Rollback),
        5 => ("SAVEPOINT", TransactionVerb::Savepoint),
        6 => ("RELEASE", TransactionVerb::Release),
        7 => ("ROLLBACK TO", TransactionVerb::RollbackTo),
        8..=10 => ("PREPARE TRANSACTION", TransactionVerb::TwoPhase),
        _ => return Facts::plain("TRANSACTION", Effect::Unknown),
    };
    Facts { transaction: Some(kind), chains: tree.get("chain").flag(), ..Facts::plain(verb, Effect::Transaction) }
}

/// SET and RESET. `settings` names what changes as `name` or `name=value`, in lower case.
fn variable(tree: &Tree) -> Facts {
    let name = tree.get("name").text().to_ascii_lowercase();
    let arguments = tree.get("args").items();
    let value = arguments.first().map(|value| constant(value).to_ascii_lowercase());
    // VariableSetKind: 1 value, 2 default, 3 current, 4 several (SET TRANSACTION), 5 reset, 6 reset all.
    let settings = match tree.get("kind").int() {
        1 => vec![format!("{name}={}", value.unwrap_or_default())],
        // Which data it sees is no setting.
        _ if name == "transaction snapshot" => Vec::new(),
        4 => arguments
            .iter()
            .map(|item| format!("{}={}", item.get("defname").text(), constant(item.get("arg"))))
            .collect(),
        6 => vec!["all".to_owned()],
        _ => vec![name],
    };
    let verb = if matches!(tree.get("kind").int(), 5 | 6) { "RESET" } else { "SET" };
    Facts { settings, ..Facts::plain(verb, Effect::Session) }
}

/// The text of a constant; empty for anything that is not one.
pub(super) fn constant(tree: &Tree) -> String {
    match tree.kind() {
        "AConst" => {
            let value = tree.get("val");
            match value.kind() {
                "Integer" => value.get("ival").int().to_string(),
                "Float" => value.get("fval").text().to_owned(),
                "Boolean" => value.get("boolval").flag().to_string(),
                _ => value.get("sval").text().to_owned(),
            }
        }
        "String" => tree.get("sval").text().to_owned(),
        "TypeCast" => constant(tree.get("arg")),
        _ => String::new(),
    }
}

/// The text of a constant, whose cast takes nothing away and adds nothing.
pub(super) fn text_constant(tree: &Tree) -> String {
    match tree.kind() {
        "TypeCast" if is_text(tree.get("type_name")) => text_constant(tree.get("arg")),
        "TypeCast" => String::new(),
        _ => constant(tree),
    }
}

fn is_text(name: &Tree) -> bool {
    let parts: Vec<_> = name.get("names").items().iter().map(|part| part.get("sval").text()).collect();
    matches!(parts.as_slice(), ["text"] | ["pg_catalog", "text"])
        && ["typmods", "array_bounds"].iter().all(|field| name.get(field).items().is_empty())
}

fn vacuum_verb(tree: &Tree) -> &'static str {
    if !tree.get("is_vacuumcmd").flag() {
        return "ANALYZE";
    }
    let is_full = tree.get("options").items().iter().any(|option| option.get("defname").text() == "full");
    if is_full { "VACUUM FULL" } else { "VACUUM" }
}

/// Statements that change definitions or privileges. The verb is the kind spelled as words.
fn definition(kind: &'static str, tree: &Tree) -> Facts {
    const STARTS: [&str; 13] = [
        "Alter", "Create", "Drop", "Grant", "Define", "Comment", "Rename", "Reassign", "Reindex", "Refresh", "Import",
        "Cluster", "SecLabel",
    ];
    let is_definition = STARTS.iter().any(|start| kind.starts_with(start))
        || matches!(kind, "IndexStmt" | "ViewStmt" | "RuleStmt" | "CompositeTypeStmt");
    let is_create = matches!(kind, "IndexStmt" | "ViewStmt" | "RuleStmt" | "CompositeTypeStmt" | "DefineStmt");
    let is_revoke = matches!(kind, "GrantStmt" | "GrantRoleStmt") && !tree.get("is_grant").flag();
    let mut verb = if is_create { "CREATE ".to_owned() } else { String::new() };
    let words = kind.strip_suffix("Stmt").unwrap_or(kind);
    if let Some(name) = called(kind) {
        verb = name.to_owned();
    } else if is_revoke {
        verb.push_str("REVOKE");
    } else if kind == "AlterSeqStmt" {
        verb.push_str("ALTER SEQUENCE");
    } else if kind == "DefineStmt" {
        verb.push_str(defined(tree.get("kind").int()));
    } else {
        words.chars().enumerate().for_each(|(index, letter)| {
            if letter.is_ascii_uppercase() && index > 0 {
                verb.push(' ');
            }
            verb.push(letter.to_ascii_uppercase());
        });
    }
    Facts::plain(&verb, if is_definition { Effect::Ddl } else { Effect::Unknown })
}

/// What people call definitions that the parser has another name for.
fn called(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "CreateStmt" => "CREATE TABLE",
        "CreateSeqStmt" => "CREATE SEQUENCE",
        "AlterSeqStmt" => "ALTER SEQUENCE",
        "CreateTrigStmt" => "CREATE TRIGGER",
        "CreateEventTrigStmt" => "CREATE EVENT TRIGGER",
        "AlterEventTrigStmt" => "ALTER EVENT TRIGGER",
        "CreateEnumStmt" | "CreateRangeStmt" | "CompositeTypeStmt" => "CREATE TYPE",
        "AlterEnumStmt" => "ALTER TYPE",
        "CreateStatsStmt" => "CREATE STATISTICS",
        "CreatePLangStmt" => "CREATE LANGUAGE",
        "CreateFdwStmt" => "CREATE FOREIGN DATA WRAPPER",
        "CreateAmStmt" => "CREATE ACCESS METHOD",
        "CreatedbStmt" => "CREATE DATABASE",
        "DropdbStmt" => "DROP DATABASE",
        _ => return None,
    })
}

/// What a CREATE of several kinds makes, by ObjectType of the parser's protobuf.
const fn defined(kind: i64) -> &'static str {
    match kind {
        2 => "AGGREGATE",
        8 => "COLLATION",
        26 => "OPERATOR",
        46 => "TEXT SEARCH CONFIGURATION",
        47 => "TEXT SEARCH DICTIONARY",
        48 => "TEXT SEARCH PARSER",
        49 => "TEXT SEARCH TEMPLATE",
        50 => "TYPE",
        _ => "OBJECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Effect, then what is touched, as `action relation` in order.
    fn seen(sql: &str) -> (Effect, Vec<String>) {
        let statements = parse(sql).expect(sql);
        let facts = &statements.first().expect("one statement").facts;
        let touches = facts.touches.iter().map(|touch| format!("{} {}", touch.action.word(), touch.relation));
        (facts.effect, touches.collect())
    }

    #[test]
    fn every_relation_is_seen_wherever_it_hides() {
        let table: [(&str, Effect, &[&str]); 14] = [
            ("select 1", Effect::Read, &[]),
            ("table s.a", Effect::Read, &["read s.a"]),
            ("select case when (select true from a) then 1 end collate \"C\"", Effect::Read, &["read a"]),
            ("select * from b where x in (table a)", Effect::Read, &["read b", "read a"]),
            ("with d as (delete from a returning 1) select * from d", Effect::Write, &["delete a"]),
            ("update a set (x,y) = (select 1,2 from b)", Effect::Write, &["update a", "read b"]),
            ("insert into a values ((select 1 from b))", Effect::Write, &["insert a", "read b"]),
            ("insert into a values (1) on conflict (id) do update set x = 1", Effect::Write, &["insert a", "update a"]),
            ("explain delete from a", Effect::Read, &["read a"]),
            ("explain analyze delete from a", Effect::Write, &["delete a"]),
            ("explain (analyze off) delete from a", Effect::Read, &["read a"]),
            ("prepare p as delete from a", Effect::Write, &["delete a"]),
            ("copy a from stdin", Effect::Write, &["insert a"]),
            ("copy (delete from a returning *) to stdout", Effect::Write, &["delete a"]),
        ];
        for (sql, effect, touches) in table {
            assert_eq!(seen(sql), (effect, touches.iter().map(|t| (*t).to_owned()).collect()), "{sql}");
        }
    }

    #[test]
    fn definitions_are_called_what_they_are() {
        let verb = |sql: &str| parse(sql).expect(sql).remove(0).facts.verb;
        assert_eq!(verb("create aggregate a (int) (sfunc = f, stype = int)"), "CREATE AGGREGATE");
        assert_eq!(verb("create operator ### (leftarg = int, function = f)"), "CREATE OPERATOR");
        assert_eq!(verb("create text search dictionary d (template = simple)"), "CREATE TEXT SEARCH DICTIONARY");
        assert_eq!(verb("create type t"), "CREATE TYPE");
        assert_eq!(verb("create collation c (locale = 'C')"), "CREATE COLLATION");
        assert_eq!(verb("revoke select on t from x"), "REVOKE");
        for definition in [
            "create table t (a int)",
            "create sequence s",
            "alter sequence s restart",
            "create trigger t after insert on a for each row execute function f()",
            "create event trigger t on ddl_command_start execute function f()",
            "create type t as enum ('a')",
            "create type t as range (subtype = int)",
            "create type t as (a int)",
            "alter type t add value 'b'",
            "create statistics s on a, b from t",
            "create language l handler h",
            "create foreign data wrapper w",
            "create access method m type table handler h",
            "create database d",
            "drop database d",
            "create index i on t (a)",
            "create function f() returns int language sql as 'select 1'",
            "alter table t add column b int",
        ] {
            let verb = verb(definition);
            assert!(definition.to_uppercase().starts_with(&format!("{verb} ")), "{verb}: {definition}");
        }
    }

    #[test]
    fn what_writes_while_it_fills_a_temporary_table_is_a_write() {
        for sql in [
            "create temp table x as with d as (delete from o where id > 0 returning id) select count(*) from d",
            "with d as (update o set a = 1 where id > 0 returning id) select count(*) into temp x from d",
            "explain analyze create temp table x as with d as (insert into o values (1) returning id) select * from d",
            "create table pg_temp.x as with d as (delete from o where id > 0 returning id) select * from d",
        ] {
            assert_eq!(seen(sql).0, Effect::Write, "{sql}");
        }
        assert_eq!(seen("create temp table x as select * from o").0, Effect::Session);
    }

    #[test]
    fn what_is_made_in_pg_temp_is_the_sessions_own() {
        for sql in [
            "create table pg_temp.a (x int)",
            "create table pg_temp.a as select 1",
            "select 1 into pg_temp.a",
            "create view pg_temp.a as select 1",
            "create sequence pg_temp.a",
        ] {
            assert_eq!(seen(sql).0, Effect::Session, "{sql}");
        }
        for sql in
            ["create function pg_temp.f() returns int language sql as 'select 1'", "create type pg_temp.t as (a int)"]
        {
            assert_eq!(seen(sql).0, Effect::Ddl, "{sql}");
        }
        assert_eq!(seen("create materialized view pg_temp.a as select 1").0, Effect::Ddl);
        assert_eq!(seen("create table pg_temp_3.a (x int)").0, Effect::Ddl);
    }

    #[test]
    fn what_comment_names_is_seen() {
        let objects =
            |sql: &str| parse(sql).expect(sql).remove(0).facts.objects.iter().map(ToString::to_string).collect();
        let cases: [(&str, Vec<String>); 7] = [
            ("comment on table a is 'x'", vec!["a".into()]),
            ("comment on view pg_temp.a is null", vec!["pg_temp.a".into()]),
            ("comment on column s.a.c is 'x'", vec!["s.a".into()]),
            ("comment on constraint c on s.a is 'x'", vec!["s.a".into()]),
            ("comment on constraint c on domain a is 'x'", vec![]),
            ("comment on function a() is 'x'", vec![]),
            ("comment on schema a is 'x'", vec![]),
        ];
        for (sql, expected) in cases {
            let seen: Vec<String> = objects(sql);
            assert_eq!(seen, expected, "{sql}");
        }
    }

    #[test]
    fn what_drop_names_is_seen() {
        let drops = |sql: &str| {
            let facts = parse(sql).expect(sql).remove(0).facts;
            (facts.objects.iter().map(ToString::to_string).collect::<Vec<_>>(), facts.may_be_absent)
        };
        assert_eq!(drops("drop table if exists a, s.b cascade"), (vec!["a".into(), "s.b".into()], true));
        // No catalog of ours lists indexes.
        for (kind, may_be_absent) in [("table", true), ("view", true), ("sequence", true), ("index", false)] {
            assert_eq!(drops(&format!("drop {kind} pg_temp.a")), (vec!["pg_temp.a".into()], may_be_absent), "{kind}");
        }
        for other in ["drop schema a", "drop materialized view a", "drop function a()", "drop role a", "drop type a"] {
            assert_eq!(drops(other).0, Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn a_common_table_is_no_relation_where_it_is_in_scope() {
        assert_eq!(seen("with a as (select 1) select * from a").1, Vec::<String>::new());
        assert_eq!(seen("with a as (select * from a) select * from a").1, ["read a"]);
        assert_eq!(seen("with recursive a as (select * from a) select * from a").1, Vec::<String>::new());
        assert_eq!(seen("select * from (with a as (select 1) select * from a) x, a").1, ["read a"]);
        assert_eq!(seen("with a as (select 1) select * from s.a").1, ["read s.a"]);
    }

    #[test]
    fn what_is_not_understood_is_unknown_or_refused() {
        assert_eq!(seen("execute p").0, Effect::Unknown);
        assert_eq!(seen("do $$ begin end $$").0, Effect::Utility);
        assert_eq!(seen("drop table a").0, Effect::Ddl);
        assert_eq!(seen("alter system set x = 1").0, Effect::Ddl);
        assert!(matches!(parse("selec 1"), Err(GrammarError::Syntax(_))));
        assert!(matches!(parse("select 'a\0b'"), Err(GrammarError::Nul)));
        let deep = format!("select {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(parse(&deep).is_ok() || parse(&deep).is_err());
        let chain = format!("select {}1", "1||".repeat(5000));
        assert_eq!(parse(&chain).err(), Some(GrammarError::TooDeep), "deeper than the decoder goes");
        let branches =
            |part: &str, by: &str| [const { String::new() }; 12].map(|_| format!("({})", [part; 12].join(by))).join(by);
        assert!(parse(&format!("select {}", branches("1", "||"))).is_ok(), "the way out");
        assert!(parse(&branches("select 1", " union all ")).is_ok(), "the way out");
    }

    #[test]
    fn what_takes_too_long_to_look_through_is_refused() {
        let much = |levels: usize| {
            let (open, close) = ("lower(".repeat(levels), ")".repeat(levels));
            parse(&format!("select {open}{}{close} from t", ["a"; 130_000].join(","))).map(|all| all.len())
        };
        assert_eq!(much(2), Ok(1));
        assert_eq!(much(40), Err(GrammarError::TooMuch));
        let half = format!("select {}{}{}", "lower(".repeat(40), ["a"; 60_000].join(","), ")".repeat(40));
        assert_eq!(parse(&half).map(|all| all.len()), Ok(1));
        assert_eq!(parse(&format!("{half};{half}")).err(), Some(GrammarError::TooMuch), "together");
        assert!([GrammarError::TooMuch, GrammarError::TooDeep].iter().all(|error| error.code() == TOO_COMPLEX));
    }

    #[test]
    fn a_text_is_split_where_postgresql_splits_it() {
        let statements = parse("select ';' ; /* ; */ select $a$;$a$;; select 3").expect("three statements");
        let texts: Vec<_> = statements.iter().map(|s| s.text.trim()).collect();
        assert_eq!(texts, ["select ';'", "select $a$;$a$", "select 3"]);
        assert_eq!(parse(" -- nothing\n").expect("empty").len(), 0);
    }

    #[test]
    fn settings_are_named_however_they_are_changed() {
        let settings = |sql: &str| parse(sql).expect(sql).remove(0).facts.settings;
        assert_eq!(settings("set Role to 'x'"), ["role=x"]);
        assert_eq!(settings("reset role"), ["role"]);
        assert_eq!(settings("set session authorization default"), ["session_authorization"]);
        assert_eq!(settings("select pg_catalog.set_config('role', 'x', false)"), ["role=x"]);
        assert_eq!(settings("select set_config('ro' || 'le', 'x', false)"), ["=x"]);
        let named = "select set_config(name, 'x', false) from pg_settings where ";
        assert_eq!(settings(&format!("{named} name = 'role'")), ["role=x"]);
        for other in ["name <> 'a'", "name = 'a' or true", "name like 'a'", "name = other", "x = 'a'"] {
            assert_eq!(settings(&format!("{named} {other}")), ["=x"], "{other}");
        }
        assert_eq!(settings("select (select set_config(name, 'x', false) from t) from s where name = 'a'"), ["=x"]);
        assert_eq!(settings("reset all"), ["all"]);
        assert!(settings("set transaction snapshot '00000004-000005C5-1'").is_empty());
        assert_eq!(settings("set transaction read write"), ["transaction_read_only=0"]);
        assert_eq!(settings("set names 'SJIS'"), ["client_encoding=sjis"]);
    }
}
