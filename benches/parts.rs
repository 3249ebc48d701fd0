//! What the parts on a statement's way cost, each by itself: parse, judge, decide, scan, record, relay.
//!
//!     cargo bench --bench parts [-- NAME]
//!
//! Medians of batches, on one thread. Comparing two of them on a machine that does other things as
//! well says little; for whole statements see `benches/run`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dbgate::core::grant::GrantId;
use dbgate::core::identity::{Identity, Kind};
use dbgate::core::mask::net::{self, Look, Net};
use dbgate::core::mask::scan;
use dbgate::core::policy::file::Source;
use dbgate::core::policy::{Policy, Subject, pack};
use dbgate::core::scope::catalog::{Catalog, Column, Relation, RelationKind};
use dbgate::core::scope::{RelationName, Scope, compile};
use dbgate::core::statement::grammar;
use dbgate::core::statement::literals::Stripped;
use dbgate::core::time::Moment;
use dbgate::core::transcript::canonical::Members;
use dbgate::core::transcript::{Chain, Domain, Leaf, RowsDigest, SessionKey, content};
use dbgate::core::wire::frame;
use dbgate::server::audit::Wording;
use dbgate::server::check::Check;
use dbgate::server::decisions::{Decided, Decisions};

const BATCHES: usize = 15;
const BATCH: Duration = Duration::from_millis(20);

const POINT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711";
const REPORT: &str = "select c.name, count(*), sum(o.amount) from customers c join orders o on o.customer_id = c.id \
    left join lateral (select max(at) as at from visits v where v.customer_id = c.id) last on true \
    where c.status = 'active' and o.amount > 100 and last.at > now() - interval '30 days' \
    group by c.name having count(*) > 2 order by 3 desc limit 50";

/// Nanoseconds that one run takes: the median of some batches.
fn time<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut once = || {
        let (begun, mut runs) = (Instant::now(), 0u32);
        while begun.elapsed() < BATCH {
            for _ in 0..16 {
                black_box(run());
            }
            runs += 16;
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
    };
    let mut batches: Vec<f64> = (0..BATCHES).map(|_| once()).collect();
    batches.sort_by(f64::total_cmp);
    batches.get(BATCHES / 2).copied().unwrap_or(0.0)
}

fn say<T>(name: &str, bytes: usize, run: impl FnMut() -> T) {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    if wanted.is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let nanos = time(run);
    let speed = match u32::try_from(bytes) {
        Ok(bytes) if bytes > 10_000 => format!("{:>10.0} MB/s", f64::from(bytes) / nanos * 1e3),
        _ => String::new(),
    };
    println!("{name:48} {nanos:>12.0} ns{speed}");
}

fn main() {
    parse();
    judge();
    look();
    record();
    relay();
}

fn parse() {
    for (name, sql) in [("parse: one row by its key", POINT), ("parse: a report of four relations", REPORT)] {
        say(name, sql.len(), || grammar::parse(sql).expect("parsed"));
    }
    let mut stripped = Stripped::default();
    say("parse: the text without its literals", POINT.len(), || stripped.strip(POINT));
}

fn relation(name: &str, oid: u32, columns: &[&str]) -> Relation {
    let column = |(index, name): (usize, &&str)| Column {
        name: (*name).to_owned(),
        number: i16::try_from(index + 1).expect("few"),
        type_name: "text".into(),
        type_oid: 25,
        not_null: false,
        has_default: false,
        is_generated: false,
        is_computed: false,
        generated_from: Vec::new(),
    };
    Relation {
        name: RelationName::new("public", name),
        oid,
        kind: RelationKind::Table,
        columns: columns.iter().enumerate().map(column).collect(),
        estimated_rows: 1000,
        parents: Vec::new(),
        depends_on: Vec::new(),
        has_row_security: false,
        has_user_policies: false,
        definition: None,
        sequences: Vec::new(),
        unique_keys: Vec::new(),
        is_inert: false,
        constraints: Vec::new(),
    }
}

fn judge() {
    let mut sources = pack::rules("production").expect("pack");
    let classified = "[[column]]\nmatch = \"public.customers.email\"\ntags = [\"pii\"]\n";
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
        access: dbgate::core::grant::Access::Read,
        agent: None,
        reason: None,
        ticket: None,
    };
    let relations = [
        relation("pgbench_accounts", 1, &["aid", "bid", "abalance", "filler"]),
        relation("customers", 2, &["id", "name", "email", "status"]),
        relation("orders", 3, &["id", "customer_id", "amount"]),
        relation("visits", 4, &["customer_id", "at"]),
    ];
    let relations = relations.into_iter().map(|relation| (relation.name.clone(), relation)).collect();
    let catalog = Catalog { relations, ..Catalog::default() };
    let scope = compile::compile(&policy, &subject, &catalog);
    let path = ["public".to_owned()];
    for (name, sql) in [("judge: one row by its key", POINT), ("judge: a report of four relations", REPORT)] {
        let statements = grammar::parse(sql).expect("parsed");
        let facts = statements.first().expect("one").facts.clone();
        say(name, sql.len(), || policy.judge(&subject, facts.clone(), &scope, &catalog, &path));
    }
    decide(policy, subject, &scope, catalog, &path);
}

/// From a text to what may be forwarded: for the first time, and once it is known.
fn decide(policy: Policy, subject: Subject<'_>, scope: &Scope, catalog: Catalog, path: &[String]) {
    let (policy, catalog) = (Arc::new(policy), Arc::new(catalog));
    let prepared = BTreeMap::new();
    let check = Check {
        policy: &policy,
        subject,
        scope,
        catalog: &catalog,
        search_path: path,
        temporary: &[],
        has_own_views: false,
        prepared: &prepared,
        lift: None,
    };
    let decided = |sql: &str| {
        let statements = grammar::parse(sql).expect("parsed");
        let planned = check.plan(statements.first().expect("one")).expect("allowed");
        Arc::new(Decided { statements: vec![(Arc::new(planned), 0)], wording: Arc::new(Wording::of(sql)) })
    };
    let context = Decisions::default().context(&GrantId::from_random([1; 10]), &policy, &catalog, path, &[], false);
    let whole = "SELECT count(*) FROM pgbench_accounts";
    // A shape that comes for the second time is remembered.
    for sql in [POINT, POINT, whole] {
        context.remember(sql, &decided(sql));
    }
    say("decide: for the first time, one row by its key", 0, || decided(POINT));
    say("decide: for the first time, a report", 0, || decided(REPORT));
    let other = POINT.replace("4711", "12");
    say("decide: the same shape, other literals", 0, || context.find(&other).expect("known"));
    say("decide: the same text", 0, || context.find(whole).expect("known"));
}

/// A megabyte of rows with two texts and numbers, an e-mail address in each.
fn rows() -> (BytesMut, usize) {
    let (mut out, mut count) = (BytesMut::new(), 0);
    while out.len() < 1_000_000 {
        count += 1;
        let id = count.to_string();
        let body = format!("{}{} words of no interest whatsoever", "abcdef0123456789".repeat(2), count * 7);
        let mail = format!("user{count}@example.com");
        dbgate::core::wire::backend::write_data_row(
            &[Some(&id), Some(&body), Some(&mail), Some("2026-01-01 10:00:00+00")],
            &mut out,
        );
    }
    (out, count)
}

fn look() {
    let (rows, _) = rows();
    say("scan: a megabyte of rows, every value", rows.len(), || scan::scan(&rows));
    for (name, looks) in [
        ("net: a megabyte of rows, every value", [Look::Text; 4]),
        ("net: a megabyte of rows, two texts of four", [Look::Not, Look::Text, Look::Text, Look::Not]),
    ] {
        let (mut rows, mut found) = (rows.clone(), net::Found::new());
        say(name, rows.len(), || {
            let mut rest = rows.as_mut();
            while let Ok(Some((_, length))) = frame::head(rest, frame::LONGEST_FROM_SERVER) {
                let (message, behind) = rest.split_at_mut(length + 5);
                net::row(message.get_mut(5..).unwrap_or_default(), &looks, Net::Notice, &mut found);
                rest = behind;
            }
        });
    }
}

fn record() {
    let key = SessionKey::from_bytes([7; 32]);
    let session = dbgate::core::grant::SessionId::new(Moment::from_seconds(1), [1; 10]);
    let chain = Chain::new(session, Leaf::NONE);
    let mut members = Members::new();
    say("record: commitment to a text", POINT.len(), || content::statement_digest(&key, POINT));
    say("record: commitment to parameters", 8, || key.commitment(Domain::Parameters, &[0; 30]));
    say("record: a line, its hash included", 0, || {
        members.number("no", 7).number("part", 0).text("proto", "simple").text("who", "ana@example.com");
        members.text("verb", "SELECT").text("effect", "read").number("nobjs", 1);
        members.texts("objs", ["read pgbench_accounts"].into_iter()).text("dec", "allow").hex("stmt_c", &[7; 32]);
        members.number("len", 54).text("norm", "SELECT abalance FROM pgbench_accounts WHERE aid = $1");
        members.text("fp", "0123456789abcdef");
        chain.next_of("stmt", Moment::from_seconds(9), Duration::from_secs(1), &mut members).expect("a line")
    });
}

fn relay() {
    let (rows, _) = rows();
    let key = SessionKey::from_bytes([7; 32]);
    say("relay: walk the frames of a megabyte", rows.len(), || {
        let (mut rest, mut count) = (rows.as_ref(), 0u32);
        while let Ok(Some((_, length))) = frame::head(rest, frame::LONGEST_FROM_SERVER) {
            count += 1;
            rest = rest.get(length + 5..).unwrap_or_default();
        }
        count
    });
    let mut out = BytesMut::with_capacity(rows.len());
    say("relay: copy a megabyte", rows.len(), || {
        out.clear();
        out.extend_from_slice(&rows);
    });
    say("relay: digest a megabyte", rows.len(), || {
        let mut digest = RowsDigest::new(&key);
        digest.row(&rows);
        digest.commitment()
    });
}
