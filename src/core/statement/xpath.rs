//! Paths through XML. What works them out in the server listens to no cancel, time limit or shutdown,
//! so a path must be one that cannot take long: it is read before it runs.
//!
//! A simple path goes down step by step, skips levels once at most, and asks of what it passes only what
//! stands right there. Time then grows with the document, not with a power of it.

use super::effects::called;
use super::tree::Tree;

/// Whether any part of a statement follows a path that is not simple, or that does not stand there.
pub(super) fn is_endless(statement: &Tree) -> bool {
    let mut found = false;
    statement.visit(&mut |node| found |= !paths(node).into_iter().all(|path| path.is_some_and(is_simple)));
    found
}

/// The paths that a node follows; nothing for one that is no constant. Those of a table's columns begin in its
/// rows, which counts as one path.
fn paths(node: &Tree) -> Vec<Option<String>> {
    let arguments = node.get("args").items();
    let argument = |at: usize| vec![arguments.get(at).and_then(text)];
    match (node.kind(), called(node)) {
        ("FuncCall", "xpath" | "xpath_exists" | "xmlexists") => argument(0),
        ("FuncCall", "xpath_bool" | "xpath_list" | "xpath_nodeset" | "xpath_number" | "xpath_string") => argument(1),
        ("FuncCall", "xpath_table") => {
            let columns = arguments.get(3).and_then(text);
            columns.map_or_else(|| vec![None], |paths| paths.split('|').map(|path| Some(path.to_owned())).collect())
        }
        ("RangeTableFunc", _) => {
            let row = text(node.get("rowexpr"));
            let columns = node.get("columns").items().iter().map(|column| column.get("colexpr"));
            let below =
                columns.filter(|path| !path.is_nothing()).map(|path| Some(format!("{}/{}", row.clone()?, text(path)?)));
            std::iter::once(row.clone()).chain(below).collect()
        }
        _ => Vec::new(),
    }
}

fn text(constant: &Tree) -> Option<String> {
    match constant.kind() {
        "AConst" if constant.get("val").kind() == "String" => Some(constant.get("val").get("sval").text().to_owned()),
        "TypeCast" => text(constant.get("arg")),
        _ => None,
    }
}

/// Axes that lead to what stands right there.
const NEAR: [&str; 3] = ["attribute", "child", "self"];

fn is_simple(path: String) -> bool {
    let Some(path) = without_literals(&path) else { return false };
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
                let mut before = '[';
                let mut is_nearby = !condition.contains("//");
                for letter in condition.chars().filter(|letter| !letter.is_whitespace()) {
                    is_nearby &= letter != '/' || before.is_alphanumeric() || "*._-)".contains(before);
                    before = letter;
                }
                is_nearby
            }
            _ => false,
        })
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
            "select pg_catalog.xpath_exists('//a//a', x) from t",
            "select 1 from t where xmlexists('//a//a' passing x)",
            "select * from t, xmltable('//a//a' passing x columns b text)",
            "select * from t, xmltable('//a' passing x columns b text path './/b')",
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
            "select xpath('/a/b', x, array[array['n', 'urn:n']]), (xpath('/a/b/text()'::text, x))[1]::text from t",
            "select t.xpath from t",
            "select x.* from t, xmltable('//row' passing x columns id int path '@id', n for ordinality, name text) x",
            "select 1 from t where xmlexists('//a[@b = \"c\"]' passing by value x)",
        ] {
            assert!(!endless(sql), "{sql}");
        }
    }
}
