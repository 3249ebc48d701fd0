//! Texts as long as they may be, in the shapes that cost most to look through: each is judged, or
//! refused with a reason, and what is kept of it stays in proportion.
//!
//! `DBGATE_LONG_TEXTS=262144` makes them as long as a text can be, and tells how long each step of each
//! shape takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use dbgate::core::grant::Access;
use dbgate::core::identity::{Identity, Kind};
use dbgate::core::policy::file::Source;
use dbgate::core::policy::{Policy, Subject, pack};
use dbgate::core::scope::catalog::{Catalog, Column, Relation, RelationKind};
use dbgate::core::scope::{RelationName, compile};
use dbgate::core::statement::grammar;
use dbgate::core::statement::joins::{Joins, Link, Side};
use dbgate::core::time::Moment;
use dbgate::server::audit::Wording;
use dbgate::server::check::Check;

use crate::support::gate::Gate;
use crate::support::requests::either_way;
use crate::support::wire::{Peer, error, rows};

/// Long enough to tell what grows with the square.
const LONG: usize = 32 * 1024;
/// Relations of the catalog, and columns of each.
const RELATIONS: u32 = 400;
const COLUMNS: i16 = 20;

fn length() -> usize {
    std::env::var("DBGATE_LONG_TEXTS").ok().and_then(|length| length.parse().ok()).unwrap_or(LONG)
}

/// `head`, then parts by number with something between them, then `tail`: no longer than a text may be.
fn text(head: &str, part: &dyn Fn(usize) -> String, between: &str, tail: &str) -> String {
    let mut text = head.to_owned();
    for number in 0.. {
        let part = part(number);
        if text.len() + part.len() + between.len() + tail.len() > length() {
            break;
        }
        if number > 0 {
            text.push_str(between);
        }
        text.push_str(&part);
    }
    text.push_str(tail);
    text
}

/// `inside` within so many levels.
fn nested(levels: usize, open: &str, inside: &str, close: &str) -> String {
    format!("{}{inside}{}", open.repeat(levels), close.repeat(levels))
}

/// Numbers of a text's parts as short names.
fn name(number: usize) -> String {
    format!("n0{}", radix(number))
}

fn radix(number: usize) -> String {
    let digit = |digit: usize| char::from_digit(u32::try_from(digit % 36).expect("small"), 36).expect("a digit");
    let mut rest = number;
    let mut digits = vec![digit(rest)];
    while rest >= 36 {
        rest /= 36;
        digits.push(digit(rest));
    }
    digits.iter().rev().collect()
}

fn table(number: usize) -> String {
    format!("t{}", number % usize::try_from(RELATIONS).expect("small"))
}

/// A list of texts that take long if anything does.
fn shapes() -> Vec<Shape> {
    [names(), sources(), queries(), deep(), masked(), several()].concat()
}

/// What it is, and the text.
type Shape = (&'static str, String);

/// Columns by number.
fn columns(count: usize) -> String {
    (0..count).map(|at| format!("c{at}")).collect::<Vec<_>>().join(",")
}

/// As many sources as one FROM may have.
fn many() -> String {
    (0..120).map(|at| format!("t{at}")).collect::<Vec<_>>().join(",")
}

/// Names, literals and conditions by the thousand.
fn names() -> Vec<Shape> {
    let sources = many();
    vec![
        ("fields", text("select ", &|n| format!("a.{}", name(n)), ",", " from t1 a")),
        (
            "fields beside relations",
            text(
                "select 1 from t1 a where exists(select 1 from ",
                &|n| format!("{} x where x.{}=1)", table(n), name(n)),
                " and exists(select 1 from ",
                "",
            ),
        ),
        ("calls", text("select ", &|n| format!("{}()", name(n)), ",", "")),
        ("calls in sub-selects", text("select nextval('s')", &|n| format!(",(select {}())", name(n)), "", "")),
        ("casts", text("select ", &|n| format!("1::{}", name(n)), ",", "")),
        ("operators", text("select ", &|n| format!("a operator({}.+) b", name(n)), ",", " from t1")),
        ("columns", text("select ", &|_| "a".to_owned(), ",", " from t1")),
        ("columns of many sources", text("select ", &|_| "(select c1)".to_owned(), ",", &format!(" from {sources}"))),
        (
            "columns in a condition",
            text(&format!("select 1 from {sources} where c1=coalesce("), &|_| "c2".to_owned(), ",", ")"),
        ),
        ("conditions", text(&format!("select 1 from {sources} where "), &|_| "c1=c2".to_owned(), " and ", "")),
        ("conditions of a row", text("select 1 from t1 where ", &|n| format!("c1<>{n}"), " and ", "")),
        ("alternatives", text("select 1 from t1 where ", &|n| format!("c1={n}"), " or ", "")),
        ("deletes by alternatives", text("delete from t1 where ", &|n| format!("c1=c2 and c3={n}"), " or ", "")),
        ("a list", text("select 1 from t1 where c1 in (", &|n| n.to_string(), ",", ")")),
        ("a list of rows", text("select 1 from t1 where (c1,c2) in (", &|n| format!("({n},{n})"), ",", ")")),
        ("values", text("insert into t1 (c1,c2) values ", &|n| format!("({n},'{n}')"), ",", "")),
        ("parameters", text("select 1 from t1 where c1 in (", &|n| format!("${}", n + 1), ",", ")")),
        ("locks", text("select 1 from t1 where ", &|n| format!("c{n}=1"), " and ", " for update")),
        ("cases", text("select case ", &|n| format!("when c1={n} then c2"), " ", " end from t1")),
        ("updates", text("update t1 set ", &|n| format!("{}=c1", name(n)), ",", " where c1=1")),
    ]
}

/// Relations by the thousand.
fn sources() -> Vec<Shape> {
    vec![
        ("sources", text("select 1 from ", &|n| format!("{} {}", table(n), name(n)), ",", "")),
        ("sources of unknown names", text("select 1 from ", &|n| name(n), ",", "")),
        ("sources with their schema", text("select public.t1.c1 from ", &|n| format!("public.{}", table(n)), ",", "")),
        (
            "columns with their schema",
            text("select ", &|n| format!("public.{}.c1", table(n)), ",", " from public.t1, public.t3"),
        ),
    ]
}

/// Queries within a query.
fn queries() -> Vec<Shape> {
    let sources = many();
    let common = (0..100).map(|at| format!("w{at} as (select {} from t1)", columns(100))).collect::<Vec<_>>().join(",");
    vec![
        ("sub-selects", text("select ", &|_| "(select 1)".to_owned(), ",", "")),
        ("sub-selects from relations", text("select ", &|n| format!("(select c1 from {})", table(n)), ",", "")),
        (
            "sub-selects that look around",
            text("select ", &|n| format!("(select c1 from {} x where x.c1=a.c2)", table(n)), ",", " from t1 a"),
        ),
        (
            "sub-selects amid many",
            text("select ", &|_| "(select 1 from t1 where c1=c2)".to_owned(), ",", &format!(" from {sources}")),
        ),
        (
            "sub-selects below many names",
            text(&format!("with {common} select "), &|_| "(select 1)".to_owned(), ",", ""),
        ),
        (
            "rows of wide names",
            text(
                &format!("with w as (select {} from t1) select ", columns(2000)),
                &|_| "(select 1 from w)".to_owned(),
                ",",
                "",
            ),
        ),
        ("common tables", text("with ", &|n| format!("{} as (select 1)", name(n)), ",", " select 1")),
        (
            "common tables of each other",
            text("with a as (select 1),", &|n| format!("{} as (table a)", name(n)), ",", " select 1"),
        ),
        (
            "common tables with recursion",
            text("with recursive ", &|n| format!("{} as (select 1)", name(n)), ",", " select 1"),
        ),
        (
            "common tables that lock",
            text("with ", &|n| format!("{} as (select 1 from t1 limit 1 for update)", name(n)), ",", " select 1"),
        ),
        (
            "common tables that write",
            text("with ", &|n| format!("{} as (insert into {} values (1))", name(n), table(n)), ",", " select 1"),
        ),
        ("groups", text("select ", &|n| format!("c{n}+1"), ",", " from t1 group by 1")),
        ("groups of themselves", {
            let half = length() / 2 - 100;
            let mut list = String::new();
            for at in 0.. {
                if list.len() > half {
                    break;
                }
                write!(list, "{}c{at}", if at == 0 { "" } else { "," }).expect("written");
            }
            format!("select {list} from t1 group by {list}").chars().take(length()).collect()
        }),
        ("groups of masked relations", text("select * from t3 a group by ", &|_| "a.c1".to_owned(), ",", "")),
        ("joins", text("select 1 from t1 a", &|n| format!(" join {} {} using (c1)", table(n), name(n)), "", "")),
        ("joins of sixty", {
            let one = text("", &|n| format!(" join {} x{n} using (c{})", table(n), n % 20), "", "");
            let joins: Vec<&str> = one.split(" join").take(40).collect();
            text("select ", &|_| format!("(select 1 from t1{})", joins.join(" join")), ",", "")
        }),
        ("unions", text("", &|_| "select 1".to_owned(), " union all ", "")),
        (
            "unions in parentheses",
            text(
                "select * from (",
                &|_| format!("({})", ["select c1 from t1"; 12].join(" union all ")),
                ") x,(",
                ") y",
            ),
        ),
    ]
}

/// What nests.
fn deep() -> Vec<Shape> {
    vec![
        ("chains", text("select ", &|_| "1".to_owned(), "||", "")),
        ("sums", text("select ", &|_| "a".to_owned(), "+", " from t1")),
        ("casts of casts", text("select 1", &|_| "::int".to_owned(), "", "")),
        ("subscripts", text("select a", &|_| "[1]".to_owned(), "", " from t1")),
        ("paths", text("select (a)", &|_| ".b".to_owned(), "", " from t1")),
        ("qualified names", text("select a", &|_| ".b".to_owned(), "", " from t1")),
        (
            "arrays in arrays",
            nested(length() / 2 - 10, "[", "1", "]").replacen('[', "select array[", 1).chars().take(length()).collect(),
        ),
        ("tests of tests", text("select 1", &|_| " is null".to_owned(), "", "")),
        ("nots", text("select ", &|_| "not".to_owned(), " ", " true")),
        ("signs", text("select ", &|_| "-".to_owned(), " ", "1")),
        ("parentheses", nested(length() / 2 - 10, "(", "select 1", ")")),
        ("deep sub-selects around much", {
            let (open, close, levels) = ("select (", ")", 20);
            let inside = text("select ", &|_| "c1+c2".to_owned(), ",", " from t1");
            nested(
                levels,
                open,
                inside
                    .get(..inside.len().min(length() - 400))
                    .and_then(|text| text.rsplit_once(','))
                    .map_or("select 1", |(text, _)| text),
                close,
            )
        }),
        ("deep calls around much", {
            let inside = text("", &|_| "c1".to_owned(), ",", "").split_off(400);
            format!("select {} from t1", nested(40, "lower(", &inside, ")"))
        }),
        ("deep calls around more", {
            let inside = text("c", &|_| ",c".to_owned(), "", "").split_off(400);
            format!("select {} from t1", nested(40, "lower(c", &inside, ")"))
        }),
    ]
}

/// Masked relations, in whose place something else is put.
fn masked() -> Vec<Shape> {
    vec![
        ("masked sources", text("select ", &|_| "(select c2 from t3 limit 1)".to_owned(), ",", "")),
        (
            "masked sources with their schema",
            text("select ", &|_| "(select public.t3.c2 from public.t3)".to_owned(), ",", ""),
        ),
        ("returning", text("delete from t3 where c1=1 returning ", &|_| "c2".to_owned(), ",", "")),
        ("returning stars", text("delete from t3 where c1=1 returning ", &|_| "*".to_owned(), ",", "")),
    ]
}

/// Many statements, and texts in a text.
fn several() -> Vec<Shape> {
    vec![
        ("texts in texts", text("select ", &|n| format!("query_to_xml('select {}()',true,true,'')", name(n)), ",", "")),
        ("settings", text("select ", &|n| format!("set_config('a.{}','',true)", name(n)), ",", "")),
        ("statements", text("", &|_| "select 1".to_owned(), ";", "")),
        ("statements with nothing", text("", &|_| "select".to_owned(), ";", "")),
        ("statements that insert", text("", &|n| format!("insert into t1 (c1,c2) values ({n},'a')"), ";\n", "")),
        ("statements that set", text("", &|n| format!("set a.{}=1", name(n)), ";", "")),
        ("begin and commit", text("", &|_| "begin".to_owned(), ";", "")),
        ("a large literal", text("select '", &|_| "x''".to_owned(), "", "'")),
        ("a large name", text("select \"", &|_| "x".to_owned(), "", "\"")),
        ("comments", text("select 1 ", &|_| "/*x*/--y\n".to_owned(), "", "")),
    ]
}

fn catalog() -> Catalog {
    let relation = |at: u32| {
        let column = |number: i16| Column {
            name: format!("c{number}"),
            number,
            type_name: "text".into(),
            type_oid: 25,
            not_null: true,
            has_default: false,
            is_generated: false,
            is_computed: false,
            generated_from: Vec::new(),
        };
        Relation {
            oid: at + 1,
            name: RelationName::new("public", &format!("t{at}")),
            kind: RelationKind::Table,
            columns: (1..=COLUMNS).map(column).collect(),
            parents: Vec::new(),
            depends_on: Vec::new(),
            has_row_security: false,
            has_user_policies: false,
            definition: None,
            estimated_rows: 10_000_000,
            sequences: Vec::new(),
            unique_keys: vec![vec![1], vec![2, 3]],
            constraints: Vec::new(),
            is_inert: false,
        }
    };
    let relations = (0..RELATIONS).map(relation).map(|one| (one.name.clone(), one)).collect();
    let known = ["lower", "coalesce", "nextval", "set_config", "query_to_xml"].map(str::to_owned);
    let functions: BTreeSet<String> = (0..3000).map(name).chain(known).collect();
    Catalog { relations, known_functions: functions, ..Catalog::default() }
}

/// Everything that is kept of the joins of a statement.
fn kept(joins: &Joins) -> usize {
    let side = |side: &Side| side.uses.iter().chain(&side.column).map(|one| 1 + one.sources.len()).sum::<usize>();
    let link = |link: &Link| match link {
        Link::Equal(left, right) => side(left) + side(right),
        Link::Natural(left, right) => left.len() + right.len(),
    };
    let links: usize = joins.links.iter().map(link).sum();
    let blocks = joins.blocks.iter().map(|block| block.sources.len() + block.links.len());
    let levels = joins
        .levels
        .iter()
        .map(|level| level.around.len() + level.names.iter().map(|name| 1 + name.sources.len()).sum::<usize>());
    joins.sources.len() + links + blocks.sum::<usize>() + levels.sum::<usize>()
}

/// What programs send at such a length.
const HONEST: [&str; 14] = [
    "a large literal",
    "a list",
    "a list of rows",
    "alternatives",
    "begin and commit",
    "cases",
    "columns",
    "comments",
    "conditions of a row",
    "parameters",
    "statements",
    "statements that insert",
    "statements that set",
    "values",
];

/// What becomes of a text, what is kept of it, and how long the steps took.
struct Looked {
    answer: String,
    kept: usize,
    parsed: Duration,
    planned: Duration,
    worded: Duration,
}

fn look(sql: &str, check: &Check<'_>) -> Looked {
    let begun = Instant::now();
    let parsed = grammar::parse(sql);
    let after_parsing = begun.elapsed();
    let statements = parsed.as_deref().unwrap_or_default();
    let kept = statements.iter().map(|statement| kept(&statement.facts.joins)).sum();
    let answer = match &parsed {
        Err(error) => error.to_string(),
        Ok(statements) => {
            let planned: Result<Vec<_>, _> = statements.iter().map(|statement| check.plan(statement)).collect();
            planned.map_or_else(|denial| denial.code, |_| "allowed".to_owned())
        }
    };
    let after_planning = begun.elapsed();
    drop(Wording::of(sql));
    let worded = begun.elapsed();
    Looked {
        answer,
        kept,
        parsed: after_parsing,
        planned: after_planning - after_parsing,
        worded: worded - after_planning,
    }
}

#[test]
fn no_text_takes_more_than_it_is_worth() {
    let mut sources = pack::rules("production").expect("pack");
    let classified = "[[column]]\nmatch = \"public.t3.c2\"\ntags = [\"pii\"]\n";
    sources.push(Source::new("classification.toml", classified));
    let policy = Policy::parse(&sources).expect("a policy");
    let identity = Identity {
        kind: Kind::Human,
        subject: "ana@example.com".into(),
        sub: "1".into(),
        issuer: "https://id.example.com".into(),
        groups: vec!["engineers".into()],
        expires: Moment::from_seconds(4_000_000_000),
    };
    let subject = Subject {
        identity: &identity,
        target: "shop",
        environment: "production",
        database: "shop",
        access: Access::Write,
        agent: None,
        reason: None,
        ticket: None,
    };
    let catalog = catalog();
    let scope = compile::compile(&policy, &subject, &catalog);
    let (path, prepared) = (["public".to_owned()], BTreeMap::new());
    let check = Check {
        policy: &policy,
        subject,
        scope: &scope,
        catalog: &catalog,
        search_path: &path,
        temporary: &[],
        has_own_views: false,
        prepared: &prepared,
        lift: None,
    };
    let only = std::env::var("DBGATE_LONG_ONLY").unwrap_or_default();
    for (shape, sql) in shapes().into_iter().filter(|(shape, _)| shape.contains(&only)) {
        let looked = look(&sql, &check);
        let whole = looked.parsed + looked.planned + looked.worded;
        println!(
            "{whole:>8.2?} = parse {:>8.2?} plan {:>8.2?} word {:>8.2?}, {:>8} kept of {:>7} bytes: {shape}: {}",
            looked.parsed,
            looked.planned,
            looked.worded,
            looked.kept,
            sql.len(),
            looked.answer
        );
        assert!(looked.kept <= 1_000_000 + 4 * sql.len(), "{shape}: {}", looked.kept);
        let is_reason = ["allowed", "masked_form", "text_refused", "lock_uncounted", "effect_per_row"];
        let is_too_much =
            |answer: &str| ["statement ", "memory exhausted"].iter().any(|start| answer.starts_with(start));
        assert!(
            is_reason.contains(&looked.answer.as_str()) || is_too_much(&looked.answer),
            "{shape}: {}",
            looked.answer
        );
        assert!(!HONEST.contains(&shape) || looked.answer == "allowed", "{shape}: {}", looked.answer);
    }
}

#[tokio::test]
async fn a_long_literal_goes_through_as_it_is() {
    let gate =
        Gate::start("create table people (id int, email text); create table outbox (topic text, msg text)").await;
    let mut peer = Peer::through(&gate.grant(Access::Write).await).await;
    for length in [300_000, 2_000_000] {
        // As programs put bytes and JSON into a text.
        let sql = format!(
            "insert into outbox (topic, msg) values ('it''s big', '\\x{}{{\"a\": \"$1\"}}')",
            "a0".repeat(length / 2)
        );
        for way in [false, true] {
            let answered = tokio::time::timeout(Duration::from_secs(60), either_way(&mut peer, &sql, way)).await;
            assert_eq!(error(&answered.expect("in time")), None, "{length} {way}");
        }
        let sql = format!("select length(msg), length('{}') from outbox order by 1 desc limit 1", "b".repeat(length));
        assert_eq!(rows(&peer.query(&sql).await), [[(length + 13).to_string(), length.to_string()]]);
    }
    let longest = format!("select '{}'", "x".repeat(16 * 1024 * 1024));
    let names = format!("select 'a', {}1", "a, ".repeat(100_000));
    for sql in [longest, names] {
        for way in [false, true] {
            let refused = error(&either_way(&mut peer, &sql, way).await).expect("refused");
            assert_eq!(
                (refused.sqlstate.as_str(), refused.message.contains("exceeds the limit")),
                ("54001", true),
                "{refused:?}"
            );
        }
    }
    assert_eq!(rows(&peer.query("select count(*) from outbox").await), [["4"]]);
    drop(peer);
    gate.stop().await;
}
