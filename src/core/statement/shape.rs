//! Whether a statement may run without end in sight, by its shape alone.
//!
//! Recursion, rows, pauses and large values out of functions, groupings by the dozen, and patterns
//! that backtrack grow far beyond the tables they look at; products of relations do so too, and are
//! for [`super::joins`], which knows keys. The shape refuses nothing: policies give such statements
//! a shorter leash.

use super::effects::called;
use super::grammar::constant as constant_text;
use super::often::is_recursive;
use super::tree::Tree;

/// Functions that make rows, text, work or pauses of any size out of nothing.
const MAKERS: [&str; 23] = [
    "array_fill",
    "bit",
    "bpchar",
    "crypt",
    "exp",
    "factorial",
    "gen_salt",
    "generate_series",
    "lpad",
    "normal_rand",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "repeat",
    "rpad",
    "xmlexists",
    "xmlparse",
    "xpath",
    "xslt_process",
];

/// Aggregates whose value grows with every row.
const ACCUMULATING: [&str; 7] =
    ["array_agg", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "string_agg", "xmlagg"];
/// Factors of `^` above this make numbers of many digits.
const MOST_EXPONENT: f64 = 64.0;
/// A GROUP BY asks for each of its relation's rows so many times at most.
const MOST_GROUPINGS: u64 = 16;
/// Values of `format` that are wider than this are made wide on purpose.
const WIDEST: u64 = 1_000;
/// So are values that a type fills up to more, and numbers of more digits.
const MOST_DIGITS: f64 = 1_000.0;

/// Whether any part of the statement has such a shape.
pub fn is_unbounded(statement: &Tree) -> bool {
    let mut found = false;
    let mut growing = 0;
    statement.visit(&mut |node| {
        found |= is_unbounded_node(node);
        growing += usize::from(is_growing(node));
    });
    found || growing > 1
}

fn is_unbounded_node(node: &Tree) -> bool {
    match node.kind() {
        "SelectStmt" => groupings(node.get("group_clause").items()) > MOST_GROUPINGS,
        "WithClause" => node.get("recursive").flag() && node.get("ctes").items().iter().any(is_recursive),
        "FuncCall" => {
            let name = called(node);
            let arguments = node.get("args").items();
            makes(name)
                || (name, arguments.len()) == ("polygon", 2)
                || accumulates(node)
                || matches!((name, arguments), ("round" | "trunc", [_, digits]) if number(digits).is_some_and(is_many))
                || is_power(name) && !matches!(arguments, [base, exponent] if is_small_power(base, exponent))
                || name == "format" && !arguments.first().is_some_and(is_narrow)
                || name.starts_with("regexp_") && arguments.iter().any(backtracks)
        }
        "TypeName" => is_wide(node),
        "AConst" => has_many_digits(node.get("val").get("fval").text()),
        "TypeCast" => is_named(node.get("type_name"), &["numeric"]) && has_many_digits(&constant_text(node.get("arg"))),
        // A pause or a number of any size, spelled as a field. `exp` may well be a column.
        "AIndirection" => makes(called(node)) || is_power(called(node)),
        "ColumnRef" => called(node).starts_with("pg_") && makes(called(node)),
        "AExpr" => {
            let operator = node.get("name").items().last().map_or("", |part| part.get("sval").text());
            match operator {
                "~" | "~*" | "!~" | "!~*" => backtracks(node.get("rexpr")),
                "^" => !is_small_power(node.get("lexpr"), node.get("rexpr")),
                _ => false,
            }
        }
        _ => false,
    }
}

/// A type whose values are filled up to a length.
fn is_wide(name: &Tree) -> bool {
    let mut lengths = name.get("typmods").items().iter();
    is_named(name, &["bpchar", "bit"]) && lengths.any(|length| number(length).is_none_or(is_many))
}

fn is_named(name: &Tree, names: &[&str]) -> bool {
    name.get("names").items().last().is_some_and(|last| names.contains(&last.get("sval").text()))
}

fn is_many(number: f64) -> bool {
    number > MOST_DIGITS
}

/// Whether a number has many digits by its exponent.
fn has_many_digits(text: &str) -> bool {
    text.split(['e', 'E']).skip(1).any(|exponent| {
        let digits = exponent.trim_start_matches(['+', '-']);
        let length = digits.bytes().take_while(u8::is_ascii_digit).count();
        length > 3
            && digits.get(..length).is_some_and(|digits| !digits.parse::<f64>().is_ok_and(|many| many <= MOST_DIGITS))
    })
}

/// `pgp_` functions count rounds of hashing as they are told; XPath goes through documents of any size.
fn makes(name: &str) -> bool {
    MAKERS.contains(&name) || name.starts_with("pgp_") || name.starts_with("xpath_")
}

/// An aggregate that keeps all it has seen, and answers with it row by row.
fn accumulates(call: &Tree) -> bool {
    let over = call.get("over");
    let is_ordered = !over.get("order_clause").items().is_empty();
    let is_named = ["name", "refname"].iter().any(|name| !over.get(name).text().is_empty());
    (is_ordered || is_named) && ACCUMULATING.contains(&called(call))
}

/// A power with a small exponent of what is no power itself.
fn is_small_power(base: &Tree, exponent: &Tree) -> bool {
    let mut is_nested = false;
    base.visit(&mut |inner| {
        is_nested |= inner.get("name").items().iter().any(|part| part.get("sval").text() == "^");
        is_nested |= is_power(called(inner));
    });
    is_small(exponent) && !is_nested
}

fn is_power(function: &str) -> bool {
    matches!(function, "pow" | "power")
}

/// A small number that stands there, or one of those through another that makes it no larger.
fn is_small(exponent: &Tree) -> bool {
    match exponent.kind() {
        "AConst" => number(exponent).is_some_and(|number| number.abs() <= MOST_EXPONENT),
        "AExpr" if exponent.get("name").items().last().is_some_and(|name| name.get("sval").text() == "/") => {
            let by = exponent.get("rexpr");
            is_small(exponent.get("lexpr"))
                && by.kind() == "AConst"
                && number(by).is_some_and(|number| number.abs() >= 1.0)
        }
        "TypeCast" => is_small(exponent.get("arg")),
        _ => false,
    }
}

fn number(constant: &Tree) -> Option<f64> {
    match constant.get("val").kind() {
        "Integer" | "Float" => constant_text(constant).parse().ok(),
        _ => None,
    }
}

/// A call of `replace` that may put more in place of something: two of them may square a text.
fn is_growing(node: &Tree) -> bool {
    let length = |argument: &Tree| match argument.kind() {
        "AConst" => Some(argument.get("val").get("sval").text().len()),
        _ => None,
    };
    match (called(node), node.get("args").items()) {
        ("replace", [_, from, to]) => length(to).is_none_or(|to| length(from).is_none_or(|from| to > from.max(1))),
        _ => false,
    }
}

/// Whether a template of `format` stands there and makes nothing wide.
fn is_narrow(template: &Tree) -> bool {
    if template.kind() != "AConst" {
        return false;
    }
    let text = template.get("val").get("sval").text();
    text.split('%').skip(1).all(|part| {
        let rest = match part.split_once('$') {
            Some((place, rest)) if place.bytes().all(|byte| byte.is_ascii_digit()) => rest,
            Some(_) | None => part,
        };
        let rest = rest.trim_start_matches('-');
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let width = rest.get(..digits).unwrap_or_default();
        !rest.starts_with('*') && (width.is_empty() || width.parse::<u64>().is_ok_and(|width| width <= WIDEST))
    })
}

/// How many groupings a GROUP BY asks for.
fn groupings(items: &[Tree]) -> u64 {
    items.iter().map(grouping).fold(1, u64::saturating_mul)
}

fn grouping(item: &Tree) -> u64 {
    if item.kind() != "GroupingSet" {
        return 1;
    }
    let content = item.get("content").items();
    let count = u32::try_from(content.len()).unwrap_or(u32::MAX);
    // GroupingSetKind: 3 ROLLUP, 4 CUBE, 5 SETS.
    match item.get("kind").int() {
        3 => u64::from(count) + 1,
        4 => 2_u64.saturating_pow(count),
        5 => content.iter().map(grouping).fold(0, u64::saturating_add),
        _ => 1,
    }
}

/// A pattern in which a repeated group or a back reference stands: time may grow with 2^length.
fn backtracks(pattern: &Tree) -> bool {
    let mut found = false;
    pattern.visit(&mut |node| {
        let text = node.get("val").get("sval").text();
        let repeats = [")+", ")*", "){"].iter().any(|end| text.contains(end));
        found |= node.kind() == "AConst" && (repeats || text.contains("\\1"));
    });
    found
}

#[cfg(test)]
mod tests {
    use crate::core::statement::grammar;

    fn unbounded(sql: &str) -> bool {
        grammar::parse(sql).expect(sql).iter().any(|statement| statement.facts.unbounded)
    }

    #[test]
    fn what_grows_beyond_its_tables_is_seen() {
        for sql in [
            "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r",
            "select * from generate_series(1, 3000000)",
            "select pg_catalog.pg_sleep(10)",
            "select (5::float8).pg_sleep",
            "select x.pg_sleep from (select 5::float8 as x) y",
            "select repeat('x', 1000000000)",
            "select x ~ '^(a+)+$' from a",
            "select regexp_replace(x, '(a|aa)*b', '') from a",
            "select crypt('x', gen_salt('bf', 31))",
            "select pg_advisory_lock(1)",
            "select length(pgp_sym_encrypt('x', 'k', 's2k-mode=3,s2k-count=65011712')) from orders",
            "select format('%900000000s', 'x')",
            "select format('%1$*2$s', 'x', 900000000)",
            "select format('%9' || '00000000s', 'x')",
            "select (9.123::numeric ^ (90000 + id)) / (7.7::numeric ^ 60000) from orders",
            "select ((x ^ 60) ^ 60) ^ 60 from orders",
            "select x ^ y, power(x, y) from orders",
            "select power(power(x, 60), 60) from orders",
            "select x ^ (100000 / 1) from orders",
            "select x ^ (2 / 0.00001), x ^ 65.5 from orders",
            "select power(9.1, 90000)",
            "select (x).power from orders",
            "select replace(replace('aaaa', 'a', x), 'a', x) from orders",
            "select a, count(*) from t group by cube (a, b, c, d, e)",
            "select a, count(*) from t group by grouping sets ((a), (b), cube (a, b, c, d)), rollup (a, b)",
            "select query_to_xml('select pg_sleep(10)', true, true, '')",
            "select id::text::char(10485760) from orders",
            "select bpchar(x, 10485764, true) from orders",
            "select id::bit(83886080) from orders",
            "create temp table t (a char(10485760))",
            "select (1e65000::numeric + id) * (1e65000::numeric + id) from orders",
            "select '1E-16000'::numeric * id from orders",
            "select round(id::numeric, 16000) from orders",
            "select polygon(100000000, '<(0,0),1>'::circle)",
            "select string_agg(name, ',') over (order by id) from orders",
            "select array_agg(name) over w from orders window w as (order by id)",
            "select jsonb_agg(name) over (w rows between 9 preceding and current row) from orders window w as (order by id)",
            "select xpath_exists('/a', x), xpath_string(x, '/a') from orders",
        ] {
            assert!(unbounded(sql), "{sql}");
        }
    }

    #[test]
    fn what_does_not_is_not() {
        for sql in [
            "select 1",
            "select * from a where id = 1",
            "with recursive t as (select 1) select * from t",
            "select x ~ '^[a-z]+$' from a",
            "select id::char(10), x::varchar(5000), id::bit(8), 1.5e3, 1e-9, '1e5'::numeric, round(x, 2) from a",
            "select x ^ 0.5, x ^ -1.5, x ^ (1.0 / 12), power(x, 2), pow(1 + x, 1.0 / 3) from a",
            "select x ^ 2, format('%s %1$s %-10s %I %%', x) from a",
            "select replace(replace(replace(x, '-', ''), ' ', ''), ',', '.') from a",
            "select a, b, count(*) from t group by rollup (a, b, c)",
            "select polygon(b), string_agg(a, ',' order by b), array_agg(a) over (partition by b) from t",
            "select a, b, count(*) from t group by grouping sets ((a, b), (a), ())",
        ] {
            assert!(!unbounded(sql), "{sql}");
        }
    }
}
