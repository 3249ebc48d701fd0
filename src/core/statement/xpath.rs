//! Paths through XML. What works them out in the server listens to no cancel, time limit or shutdown,
//! so a path must be one that cannot take long: it is read before it runs.
//!
//! A simple path goes down step by step, skips levels once at most, and asks of what it passes only what
//! stands right there. Time then grows with the document, not with a power of it.

use super::effects::called;
use super::tree::Tree;

/// A longer path is none that somebody has written.
const LONGEST: usize = 4 * 1024;

/// Whether any part of a statement follows a path that is not simple, or that does not stand there.
pub(super) fn is_endless(statement: &Tree) -> bool {
    let mut found = false;
    statement.visit(&mut |node| found |= !are_simple(node));
    found
}

/// Whether the paths that a node follows are simple. Those of a table's columns are followed from one row at a
/// time, and between rows the server listens.
fn are_simple(node: &Tree) -> bool {
    let arguments = node.get("args").items();
    let is_argument = |at: usize| arguments.get(at).and_then(text).is_some_and(is_simple);
    match (node.kind(), called(node)) {
        ("FuncCall", "xpath" | "xpath_exists" | "xmlexists") => is_argument(0),
        ("FuncCall", "xpath_bool" | "xpath_list" | "xpath_nodeset" | "xpath_number" | "xpath_string") => is_argument(1),
        ("FuncCall", "xpath_table") => {
            arguments.get(3).and_then(text).is_some_and(|paths| paths.split('|').all(is_simple))
        }
        ("RangeTableFunc", _) => {
            let mut columns = node.get("columns").items().iter().map(|column| column.get("colexpr"));
            text(node.get("rowexpr")).is_some_and(is_simple)
                && columns.all(|path| path.is_nothing() || text(path).is_some_and(is_simple))
        }
        _ => true,
    }
}

/// A text that stands there. What another type makes of it, and gives back, is not it.
fn text(constant: &Tree) -> Option<&str> {
    let of = constant.get("type_name");
    let names: Vec<&str> = of.get("names").items().iter().map(|part| part.get("sval").text()).collect();
    match (constant.kind(), names.as_slice()) {
        ("AConst", _) if constant.get("val").kind() == "String" => Some(constant.get("val").get("sval").text()),
        ("TypeCast", ["text"] | ["pg_catalog", "text"]) => text(constant.get("arg")),
        _ => None,
    }
}

/// Axes that lead to what stands right there.
const NEAR: [&str; 3] = ["attribute", "child", "self"];

fn is_simple(path: &str) -> bool {
    let Some(path) = Some(path).filter(|path| path.len() <= LONGEST).and_then(without_literals) else { return false };
    let near = path.split("::").map(|before| NEAR.contains(&last_word(before)));
    let is_near = near.take(path.matches("::").count()).all(|is_near| is_near);
    let is_letter =
        |letter: char| letter.is_alphanumeric() || letter.is_whitespace() || "/@.:*[]()_-,'=!<>".contains(letter);
    // Sets of nodes are put together, and compared, each with each.
    let is_compared_with = path.split(['=', '<', '>']).skip(1).map(str::trim_start);
    let are_values = is_compared_with
        .filter(|right| !right.is_empty())
        .all(|right| right.starts_with(|first: char| first == '\'' || first.is_ascii_digit()));
    path.chars().all(is_letter)
        && is_near
        && are_values
        && path.matches("//").count() <= 1
        && !path.contains("..")
        && asks_nearby(&path)
}

/// The name that a text ends with.
fn last_word(text: &str) -> &str {
    let is_end = |letter: char| !letter.is_alphanumeric() && !matches!(letter, '-' | '_');
    text.trim_end().rsplit(is_end).next().unwrap_or_default()
}

/// A path in which the letters of its literals are left out.
fn without_literals(path: &str) -> Option<String> {
    let (mut kept, mut rest) = (String::new(), path);
    while let Some(at) = rest.find(['\'', '"']) {
        let (before, literal) = rest.split_at(at);
        let quote = literal.chars().next()?;
        let (_, behind) = literal.get(1..)?.split_once(quote)?;
        kept.push_str(before);
        kept.push_str("''");
        rest = behind;
    }
    kept.push_str(rest);
    Some(kept)
}

/// Whether no condition has another one in it, or begins at the top of the document.
fn asks_nearby(path: &str) -> bool {
    let mut parts = path.split('[').map(|part| part.split(']').collect::<Vec<_>>());
    let is_plain = parts.next().is_some_and(|first| first.len() == 1);
    is_plain
        && parts.all(|part| match part.as_slice() {
            [condition, _] => {
                !condition.contains("//") && condition.match_indices('/').all(|(at, _)| is_step(condition, at))
            }
            _ => false,
        })
}

/// Whether the slash there leads on from a step: a name, `.`, `*` or what is called stands right before it, and no
/// operator.
fn is_step(condition: &str, slash: usize) -> bool {
    let before = condition.get(..slash).unwrap_or_default();
    let is_operator = ["and", "or", "div", "mod"].contains(&last_word(before));
    let is_star = before.strip_suffix('*').is_some_and(|before| before.is_empty() || before.ends_with(['/', ':']));
    let is_name = before.ends_with(|last: char| last.is_alphanumeric() || "_.)".contains(last));
    (is_name && !is_operator) || is_star
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    fn endless(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.endless_path)
    }

    #[test]
    fn paths_that_may_take_long_are_seen() {
        for path in [
            "//a//a",
            "//a//a//a//a//a//a",
            "/a/descendant::b//c",
            "/a/descendant :: b",
            "//a/following::a",
            "//a/ancestor-or-self::a",
            "/r/a[../a/b]",
            "/r/a[/r/a]",
            "/r/a[count( /r/a) > 1]",
            "/r/a[b and /r/a]",
            "/r/a[1 or/r/a]",
            "/r/a[5 - /r/a]",
            "/r/a[. * /r/a]",
            "/r/a[. */r/a]",
            "/r/a[b -/r/a]",
            "/r/a[b[c]]",
            "/r/a[.//b]",
            "/r/a = /r/b",
            "/r/a[b = c]",
            "/r/a[b >= c]",
            "/r/a | /r/b",
            "//a[@x = concat(.., '')]",
            "/r/a[b = ''",
            "/r/a[b = $x]",
            "id('x')//a//b",
        ] {
            let quoted = path.replace('\'', "''");
            assert!(endless(&format!("select xpath('{quoted}', x) from t")), "{path}");
        }
        for sql in [
            "select xpath(p, x) from t",
            "select xpath($1, x) from t",
            "select xpath('//a' || '//a', x) from t",
            "select xpath('(\"//a//a\")'::information_schema.enabled_roles::text, x) from t",
            "select xpath('//a//a'::varchar(3), x) from t",
            "select pg_catalog.xpath_exists('//a//a', x) from t",
            "select 1 from t where xmlexists('//a//a' passing x)",
            "select * from t, xmltable('//a//a' passing x columns b text)",
            "select * from t, xmltable(p passing x columns b text)",
            "select xpath_nodeset(x, '//a//a') from t",
            "select * from xpath_table('id', 'x', 't', '/a|//b//c', 'true') as r (id int, a text, b text)",
            "select query_to_xml('select xpath(''//a//a'', x) from t', true, true, '')",
            "prepare p (text) as select xpath($1, x) from t",
        ] {
            assert!(endless(sql), "{sql}");
        }
    }

    #[test]
    fn simple_paths_are_not() {
        for path in [
            "/a/b/text()",
            "//b",
            "//a/b/@id",
            "/a/*[1]/c[last()]",
            "//item[@sku=\"a//b|..[x]\"]/price/text()",
            "/ns:a/ns:b[c/d = 'x' and @n > 5]/e",
            "count(/a/b)",
            "string(/a/b)",
            "/a/child::b/attribute::id",
            "/a/b[contains(c, 'd')][position() <= 3]",
            "local-name(/*)",
            ".",
        ] {
            let quoted = path.replace('\'', "''");
            assert!(!endless(&format!("select xpath('{quoted}', x) from t")), "{path}");
        }
        for sql in [
            "select * from t, xmltable('//a' passing x columns b text path './/b')",
            "select xpath('/a/b', x, array[array['n', 'urn:n']]), (xpath('/a/b/text()'::text, x))[1]::text from t",
            "select t.xpath from t",
            "select x.* from t, xmltable('//row' passing x columns id int path '@id', n for ordinality, name text) x",
            "select 1 from t where xmlexists('//a[@b = \"c\"]' passing by value x)",
        ] {
            assert!(!endless(sql), "{sql}");
        }
    }
}
