//! Functions that run SQL given as text, and what that text says.
//!
//! A call in such a text is a call like any other: what can be read of it is judged with the
//! statement around it. Names and literals that PostgreSQL quotes while it runs have a place of
//! their own in the text and can be anything; a text that is put together in another way is unread.

use super::facts::{Facts, RowLocks};
use super::grammar::{self, Reads};
use super::tree::Tree;

/// Functions that run SQL given as text. The role's privileges hold there too, except that the
/// text may call a SECURITY DEFINER function which nobody sees here.
pub const RUNS_TEXT: [&str; 12] = [
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "crosstab_hash",
    "connectby",
    "xpath_table",
];

/// Stands where a quoted name or literal comes in.
const NAME: &str = "dbgate_any_name";
const LITERAL: &str = "'dbgate any literal'";

/// What the texts that a call of such a function runs say; nothing where one of them is not known.
pub(super) fn read(function: &str, call: &Tree) -> Option<Vec<Facts>> {
    let arguments = call.get("args").items();
    let is_named = arguments.iter().any(|argument| argument.kind() == "NamedArgExpr");
    let are_texts = |at: usize| match function {
        _ if is_named => true,
        "connectby" => is_pasted_by_connectby(arguments, at),
        "xpath_table" => true,
        // With three arguments nothing of it is a text.
        "ts_rewrite" => arguments.len() == 2 && at == 1,
        name if name.starts_with("crosstab") => at < 2,
        _ => at == 0,
    };
    let mut found = Vec::new();
    for (_, argument) in arguments.iter().enumerate().filter(|(at, _)| are_texts(*at)) {
        let argument = if argument.kind() == "NamedArgExpr" { argument.get("arg") } else { argument };
        found.extend(said(&text(argument)?)?);
    }
    Some(found)
}

/// Of `connectby(relation, key, parent[, order], start, depth[, between])` the value that it starts with
/// is quoted, and what comes behind it is no part of a query.
fn is_pasted_by_connectby(arguments: &[Tree], at: usize) -> bool {
    let is_number = |at: usize| arguments.get(at).is_some_and(|one| one.get("val").kind() == "Integer");
    let has_order = match arguments.len() {
        5 => Some(false),
        // The depth is a number, and stands behind the start.
        6 if is_number(4) => Some(false),
        6 if is_number(5) => Some(true),
        7 => Some(true),
        _ => None,
    };
    at < has_order.map_or(arguments.len(), |has_order| if has_order { 4 } else { 3 })
}

/// The facts of a text; none of one that calls nothing.
fn said(text: &str) -> Option<Vec<Facts>> {
    if !stands_alone(text, NAME) || !stands_alone(text, LITERAL) {
        return None;
    }
    let parse = |text: &str| grammar::parse_reading(text, Reads::Nothing);
    let Ok(statements) = parse(text).or_else(|_| parse(&format!("select {text}"))) else {
        // A word that is a mark between others, or a keyword: it calls nothing.
        return text.chars().all(|letter| letter != '(' && !letter.is_whitespace()).then(Vec::new);
    };
    let facts: Vec<Facts> = statements.into_iter().map(|statement| statement.facts).collect();
    let is_anything = |facts: &Facts| {
        facts.unread_text
            || facts.calls().any(|call| call.name == NAME || call.schema.as_deref() == Some(NAME))
            || facts
                .settings
                .iter()
                .any(|setting| setting.contains(NAME) || setting.contains(LITERAL.trim_matches('\'')))
    };
    (!facts.iter().any(is_anything)).then_some(facts)
}

/// Whether no letter or quote touches the place, so that what comes in there is a word by itself.
fn stands_alone(text: &str, place: &str) -> bool {
    let joins = |letter: Option<char>| {
        letter
            .is_some_and(|one| one.is_alphanumeric() || matches!(one, '_' | '$' | '\'' | '"' | '&') || !one.is_ascii())
    };
    text.match_indices(place).all(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + place.len()..).unwrap_or_default());
        !joins(before.chars().next_back()) && !joins(after.chars().next())
    })
}

/// The text that an expression comes to, as far as it is written there.
fn text(expression: &Tree) -> Option<String> {
    let arguments = expression.get("args").items();
    match expression.kind() {
        "AConst" => Some(grammar::constant(expression)),
        "TypeCast" => {
            let of = expression.get("type_name").get("names").items().last().map_or("", |part| part.get("sval").text());
            // A length would cut it off.
            let is_whole = expression.get("type_name").get("typmods").items().is_empty();
            match of {
                "text" | "varchar" | "bpchar" | "bool" if is_whole => text(expression.get("arg")),
                "regclass" => Some(NAME.to_owned()),
                _ => None,
            }
        }
        "AExpr" if named(expression.get("name")) == "||" => {
            Some(text(expression.get("lexpr"))? + &text(expression.get("rexpr"))?)
        }
        "FuncCall" => match (named(expression.get("funcname")), arguments) {
            ("quote_ident", _) => Some(NAME.to_owned()),
            ("quote_literal" | "quote_nullable", _) => Some(LITERAL.to_owned()),
            ("format", [template, ..]) => formatted(&text(template)?),
            _ => None,
        },
        _ => None,
    }
}

/// What `format` makes of a template in which every place is a name or a literal.
fn formatted(template: &str) -> Option<String> {
    let mut parts = template.split('%');
    let mut text = parts.next()?.to_owned();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            text.push('%');
            text.push_str(parts.next()?);
            continue;
        }
        let part = match part.split_once('$') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            Some(_) | None => part,
        };
        let (kind, rest) = part.split_at_checked(1)?;
        text.push_str(match kind {
            "I" => NAME,
            "L" => LITERAL,
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

fn named(parts: &Tree) -> &str {
    parts.items().last().map_or("", |part| part.get("sval").text())
}

impl Facts {
    /// Takes up what a text says that the statement runs. Its relations are the role's to read or not.
    pub(super) fn say(&mut self, inner: Self) {
        self.functions.extend(inner.functions);
        self.operators.extend(inner.operators);
        self.fields.extend(inner.fields);
        self.casts.extend(inner.casts);
        self.settings.extend(inner.settings);
        self.unbounded |= inner.unbounded;
        self.endless_path |= inner.endless_path;
        self.effects.add(inner.effects);
        self.joins.add(inner.joins);
        if inner.locks {
            (self.locks, self.row_locks) = (true, RowLocks::Uncounted);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::statement::facts::Facts;
    use crate::core::statement::grammar;

    fn facts(sql: &str) -> Facts {
        grammar::parse(sql).expect(sql).remove(0).facts
    }

    fn calls(sql: &str, function: &str) -> bool {
        facts(sql).calls().any(|call| call.name == function)
    }

    #[test]
    fn what_a_text_calls_is_called() {
        for sql in [
            "select query_to_xml('select lo_create(0)', true, false, '')",
            "select query_to_xml('select lo' || '_create(0)', true, false, '')",
            "select query_to_xml(query => 'select lo_create(0)', nulls => true, tableforest => false, targetns => '')",
            "select * from crosstab('select 1, 2, 3', 'select (0::oid).lo_create') as t (a int, b int)",
            "select ts_rewrite('a'::tsquery, 'select lo_create(1)')",
            "select * from connectby('t', 'lo_create(0)', 'b', 'c', 3) as t (a int)",
            "select query_to_xml(format('select lo_create(0) from %I', relname), true, true, '') from pg_class",
        ] {
            assert!(calls(sql, "lo_create") && !facts(sql).unread_text, "{sql}");
        }
        let settings =
            facts("select query_to_xml('select set_config(''role'', ''x'', false)', true, true, '')").settings;
        assert_eq!(settings, ["role=x"]);
        let inner = "select query_to_xml('select nextval(''s'') from t', true, true, '')";
        assert!(facts(inner).effects.are_per_row);
        assert!(facts("select query_to_xml('select 1 from t for update of t nowait (', true, true, '')").unread_text);
        assert!(facts("select query_to_xml('select (1) from t for update', true, true, '')").locks);
    }

    #[test]
    fn a_text_that_is_put_together_is_unread() {
        for sql in [
            "select query_to_xml(x, true, false, '') from t",
            "select query_to_xml($1, true, false, '')",
            "select query_to_xml('select ' || x, true, false, '') from t",
            "select query_to_xml(format('select %s', x), true, false, '') from t",
            "select query_to_xml(format('select %I(0)', x), true, false, '') from t",
            "select query_to_xml(format('select (0::oid).%I from (select 1) x', x), true, false, '') from t",
            "select query_to_xml('select lo_' || quote_ident(x) || '(0)', true, false, '') from t",
            "select query_to_xml('select set_config(' || quote_literal(x) || quote_ident(y) || ')', true, false, '') from t",
            "select * from ts_stat($$select query_to_xml('select 1', true, true, '')$$)",
            "select ('select lo_create(0)'::text).ts_stat",
            "select (x.y).crosstab2 from t x",
            "select * from connectby('t', x, 'b', 'c', 3) as t (a int)",
            "select * from connectby('t', 'a', 'b', x, 'c', 3) as t (a int)",
            "select * from connectby('t', 'a', 'b', x, y, '~') as t (a int)",
        ] {
            assert!(facts(sql).unread_text, "{sql}");
        }
    }

    #[test]
    fn counting_the_rows_of_every_table_is_read() {
        for sql in [
            "select query_to_xml(format('select count(*) as c from %I.%I', table_schema, table_name), false, true, '') \
             from information_schema.tables",
            "select query_to_xml('select count(*) from ' || c.oid::regclass, false, true, '') from pg_class c",
            "select * from connectby('t', 'a', 'b', $1, 3) as t (a int)",
            "select * from s, connectby('t', 'a', 'b', s.x, 3, '~') as t (a int)",
            "select * from connectby('t', 'a', 'b', 'c', x || y, 0) as t (a int)",
            "select * from connectby('t', 'a', 'b', 'c', $1, 0, '~') as t (a int)",
            "select * from crosstab('select a, b, c from t order by 1', $$values ('x'), ('y')$$) as t (a text)",
            "select ts_rewrite('a & b'::tsquery, 'a'::tsquery, 'c'::tsquery)",
        ] {
            assert!(!facts(sql).unread_text, "{sql}");
        }
    }
}
