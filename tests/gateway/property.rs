//! Random schemas, random classification, random queries: whatever is asked, through the gate or
//! straight on the session's role, no classified value is in any answer; and what is not classified
//! comes back as a plain role sees it.
//!
//! `DBGATE_SEED` repeats a run, `DBGATE_ROUNDS` makes it longer.

use std::collections::BTreeSet;

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::bench::connect;
use crate::support::gate::{Gate, cluster, superuser};

/// Small, and the same for the same seed everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(most.max(1)).expect("fits")).expect("below a usize")
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let at = self.below(of.len());
        of.get(at).expect("not empty")
    }

    fn is_lucky(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const TYPES: [&str; 11] =
    ["text", "varchar(60)", "word", "bigint", "numeric(14,2)", "jsonb", "text[]", "uuid", "marked", "pair", "pair[]"];

struct Table {
    name: String,
    /// Name and type.
    columns: Vec<(String, &'static str)>,
}

/// A world: its SQL, its relations with their columns, and what nobody may see.
struct World {
    sql: String,
    classification: String,
    tables: Vec<Table>,
    views: Vec<(String, Vec<String>)>,
    /// Values of classified columns.
    secrets: Vec<String>,
}

/// A value that is its column's own in every row. Long enough that none occurs by chance.
fn value(kind: &str, table: usize, column: usize, row: usize) -> (String, String) {
    let word = format!("QX{table}W{column}Z{row}KEEP");
    let number = format!("7{table}{column}04{row}5093");
    match kind {
        "bigint" => (number.clone(), number),
        "numeric(14,2)" => (format!("{number}.25"), number),
        "jsonb" => (format!("'{{\"k\": \"{word}\", \"n\": 1}}'"), word),
        "pair" => (format!("row('{word}', 1)"), word),
        "pair[]" => (format!("array[row('{word}', 1), null]::pair[]"), word),
        "text[]" => (format!("'{{{word},x}}'"), word),
        "uuid" => {
            let text = format!("{table:0>4}{column:0>4}-7a7b-4c4d-8e8f-{row:0>12}");
            (format!("'{text}'"), text)
        }
        _ => (format!("'{word}'"), word),
    }
}

fn world(dice: &mut Dice) -> World {
    let mut sql = "create domain word as text; create domain marked as text not null check (value ~ '^QX.*KEEP$');\n\
        create type pair as (word marked, number int);\n"
        .to_owned();
    let (mut classification, mut tables, mut secrets) = (String::new(), Vec::new(), Vec::new());
    for table in 0..3 {
        let name = format!("t{table}");
        let mut columns: Vec<(String, &'static str)> =
            (0..4).map(|column| (format!("c{column}"), *dice.one(&TYPES))).collect();
        let list: Vec<String> = columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let (mut more, mut by) = (String::new(), "");
        let is_parted = dice.is_lucky(30);
        let source = columns.iter().position(|(_, kind)| matches!(*kind, "text" | "varchar(60)"));
        if let (Some(at), false) = (source, is_parted) {
            more = format!(", g text generated always as (c{at}::text || '-made') stored");
        }
        if is_parted {
            by = " partition by list (id)";
        }
        let key = if is_parted { "id int" } else { "id int primary key" };
        sql += &format!("create table {name} ({key}, {}{more}){by};\n", list.join(", "));
        if is_parted {
            sql += &format!("create table {name}_p partition of {name} default;\n");
        } else if dice.is_lucky(30) {
            sql += &format!("create table {name}_child (extra text) inherits ({name});\n");
        }
        let marked: BTreeSet<usize> = (0..4).filter(|_| dice.is_lucky(45)).collect();
        for column in &marked {
            // Classified on the partition alone, it is classified in the whole.
            let place = if is_parted && dice.is_lucky(50) { format!("{name}_p") } else { name.clone() };
            let tag = dice.one(&["secret", "pii", "hidden"]);
            classification += &format!("[[column]]\nmatch = \"public.{place}.c{column}\"\ntags = [\"{tag}\"]\n");
        }
        for row in 1..=4 {
            let cells: Vec<(String, String)> =
                columns.iter().enumerate().map(|(at, (_, kind))| value(kind, table, at, row)).collect();
            secrets.extend(marked.iter().filter_map(|at| cells.get(*at).map(|(_, plain)| plain.clone())));
            let cells: Vec<String> = cells.into_iter().map(|(cell, _)| cell).collect();
            sql += &format!("insert into {name} values ({row}, {});\n", cells.join(", "));
        }
        if dice.is_lucky(20) {
            sql += &format!(
                "alter table {name} enable row level security; create policy all_of on {name} using (id > 0);\n"
            );
        }
        if !more.is_empty() {
            columns.push(("g".to_owned(), "text"));
        }
        tables.push(Table { name, columns });
    }
    let mut views: Vec<(String, Vec<String>)> = Vec::new();
    for number in 0..5 {
        let (query, columns) = view(dice, &tables, &views);
        let kind = if dice.is_lucky(12) { "materialized view" } else { "view" };
        sql += &format!("create {kind} v{number} as {query};\n");
        views.push((format!("v{number}"), columns));
    }
    World { sql, classification, tables, views, secrets }
}

/// A relation to read from and its columns.
fn any(dice: &mut Dice, tables: &[Table], views: &[(String, Vec<String>)]) -> (String, Vec<String>) {
    let at = dice.below(tables.len() + views.len());
    match tables.get(at) {
        Some(table) => {
            let columns = std::iter::once("id".to_owned()).chain(table.columns.iter().map(|(name, _)| name.clone()));
            (table.name.clone(), columns.collect())
        }
        None => views.get(at - tables.len()).expect("one of the views").clone(),
    }
}

fn view(dice: &mut Dice, tables: &[Table], views: &[(String, Vec<String>)]) -> (String, Vec<String>) {
    let (from, columns) = any(dice, tables, views);
    let (other, others) = any(dice, tables, views);
    let (one, two) = (dice.one(&columns).clone(), dice.one(&columns).clone());
    let third = dice.one(&others).clone();
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match dice.below(7) {
        0 => (format!("select {one} as a, {two} as b from {from}"), named(&["a", "b"])),
        1 => (format!("select x.{one} as a, y.{third} as b from {from} x cross join {other} y"), named(&["a", "b"])),
        2 => (format!("select to_jsonb(x) as j from {from} x"), named(&["j"])),
        3 => (format!("with q as (select * from {from}) select {one}::text || '' as a from q"), named(&["a"])),
        4 => (format!("select {one}::text as a, count(*) as n from {from} group by 1"), named(&["a", "n"])),
        5 => {
            (format!("select {one}::text as a from {from} union all select {third}::text from {other}"), named(&["a"]))
        }
        _ => (
            format!(
                "select x.{one} as a, (select max(y.{third}::text) from {other} y) as b from {from} x where x.{two} is not null"
            ),
            named(&["a", "b"]),
        ),
    }
}

fn query(dice: &mut Dice, world: &World) -> String {
    let (from, columns) = any(dice, &world.tables, &world.views);
    let (other, others) = any(dice, &world.tables, &world.views);
    let (one, two) = (dice.one(&columns).clone(), dice.one(&columns).clone());
    let third = dice.one(&others).clone();
    match dice.below(21) {
        0 => format!("select * from {from}"),
        1 => format!("select {one}, {two} from {from} order by {two}::text"),
        2 => format!("select x from {from} x"),
        3 => format!("select row_to_json(x), x.{one} from public.{from} x"),
        4 => format!("select {one}::text, count(*) from {from} group by 1 having count(*) > 0"),
        5 => format!("select x.{one}, y.{third} from {from} x join {other} y on x.{two}::text <> y.{third}::text"),
        6 => format!("with q as (select * from {from}), r as (table q) select * from r"),
        7 => format!("select (select string_agg({third}::text, ',') from {other}) from {from}"),
        8 => format!("select {one} from {from} union select {one} from {from}"),
        9 => format!("select max({one}::text) over (order by {two}::text) from {from}"),
        10 => format!("select y.* from {from} x, lateral (select x.{one}::text as a, x.* ) y"),
        11 => format!("copy {from} to stdout"),
        12 => format!("copy (select {one} from {from}) to stdout"),
        13 => format!("select query_to_xml('select {one} from {from}', true, false, '')"),
        14 => format!("update {from} set {two} = {two} where {one} is not null returning *"),
        15 => format!("select {one}::text::bigint + ascii({two}::text) from {from}"),
        16 => format!("select 1 / (case when {one}::text like 'QX%' then 0 else 1 end) from {from}"),
        17 => format!("do $$ begin raise exception '%', (select {one} from {from} limit 1); end $$"),
        18 => format!("table {from}"),
        19 => format!(
            "insert into {from} (id, {one}) select id + 500, {one} from {from} where id < 3 on conflict do nothing returning *"
        ),
        _ => format!("select array_agg(x.{one}), json_agg(x) from {from} as x where {two}::text > ''"),
    }
}

/// Everything that is answered: rows and copied data, or every field of the error.
async fn answer(client: &Client, sql: &str) -> String {
    if sql.starts_with("copy") {
        use futures_util::StreamExt as _;
        let mut text = String::new();
        match client.copy_out(sql).await {
            Ok(stream) => {
                let mut stream = std::pin::pin!(stream);
                while let Some(part) = stream.next().await {
                    match part {
                        Ok(part) => text.push_str(&String::from_utf8_lossy(&part)),
                        Err(error) => text.push_str(&format!("{error:?}")),
                    }
                }
            }
            Err(error) => text.push_str(&format!("{error:?}")),
        }
        return text;
    }
    match client.simple_query(sql).await {
        Ok(messages) => messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
                }
                _ => None,
            })
            .collect::<Vec<_>>()
            .join("\n"),
        Err(error) => format!("error {error:?}"),
    }
}

const RULES: &str = "@id(\"hashed\") @mask(\"hash\")\nforbid (principal, action == Action::\"reveal\", resource)\n\
                     when { resource.tags.contains(\"hidden\") };";

#[tokio::test]
async fn no_classified_value_is_in_any_answer_and_the_rest_is_as_it_is() {
    let told = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = told("DBGATE_SEED").unwrap_or_else(|| u64::from_le_bytes(dbgate::sys::random::bytes()) | 1);
    let mut dice = Dice(seed);
    let (mut answered, mut compared, mut viewed) = (0_usize, 0_usize, 0_usize);
    for round in 0..told("DBGATE_ROUNDS").unwrap_or(4) {
        let world = world(&mut dice);
        let policy = [("classification.toml", world.classification.as_str()), ("rules.cedar", RULES)];
        let gate = Gate::start_under(&world.sql, &policy).await;
        let grant = gate.grant(Access::Write).await;
        let through = gate.connect(&grant).await;
        let past = straight(&gate).await;
        for _ in 0..60 {
            let sql = query(&mut dice, &world);
            for (way, client) in [("through the gate", &through), ("past the gate", &past)] {
                let seen = answer(client, &sql).await;
                let leak = world.secrets.iter().find(|secret| seen.contains(secret.as_str()));
                assert_eq!(leak, None, "{way}, seed {seed}, round {round}: {sql}\n{seen}\n{}", world.sql);
                answered += usize::from(!seen.starts_with("error") && !seen.is_empty());
            }
        }
        compared += compare(&gate, &grant, &through, seed).await;
        viewed += compare_views(&gate, &grant, &through, &world, seed).await;
        gate.stop().await;
    }
    assert!(answered > 100 && compared > 8, "too little was answered or compared: {answered}, {compared}, seed {seed}");
    assert!(viewed > 0, "no view was compared, seed {seed}");
}

/// A role like that of a session, with a password that the test knows.
async fn straight(gate: &Gate) -> Client {
    let owner = superuser(&gate.database).await;
    let sql = "select rolname::text from pg_roles where rolname ~ '^dbgate_s_' \
               and shobj_description(oid, 'pg_authid') like '% in ' || current_database()";
    let scope: String = owner.query_one(sql, &[]).await.expect("one scope").get(0);
    let name = format!("past_{}", gate.database);
    let make = format!(
        "drop role if exists {name}; create role {name} login password 'pw' in role {scope}; alter role {name} set role = '{scope}'"
    );
    owner.batch_execute(&make).await.expect("a role");
    connect(cluster(), &name, "pw", &gate.database).await.expect("signed in")
}

/// Columns of tables that are not masked hold what they hold.
async fn compare(gate: &Gate, grant: &GrantAnswer, through: &Client, seed: u64) -> usize {
    let plain = superuser(&gate.database).await;
    let mut compared = 0;
    for relation in grant.catalog.iter().filter(|relation| relation.name.starts_with('t')) {
        let is_masked =
            |column: &str| grant.masks.iter().any(|mask| mask.relation == relation.name && mask.column == column);
        let clear: Vec<&str> = relation.columns.iter().map(String::as_str).filter(|name| !is_masked(name)).collect();
        let sql = format!("select {} from {} order by 1", clear.join(", "), relation.name);
        assert_eq!(answer(through, &sql).await, answer(&plain, &sql).await, "seed {seed}: {sql}");
        compared += 1;
    }
    compared
}

/// A second world, in which the tables hold what the gate shows of them and nothing is masked any more:
/// a view through the gate shows what the same view shows there.
async fn compare_views(gate: &Gate, grant: &GrantAnswer, through: &Client, world: &World, seed: u64) -> usize {
    let reference = format!("{}_seen", gate.database);
    superuser("postgres").await.batch_execute(&format!("create database {reference}")).await.expect("a database");
    let plain = superuser(&reference).await;
    // What stands for a value that the domain takes may be NULL.
    let types =
        "create domain word as text; create domain marked as text; create type pair as (word marked, number int)";
    plain.batch_execute(types).await.expect("types");
    for table in &world.tables {
        let columns: Vec<String> = table.columns.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let make = format!("create table {} (id int, {})", table.name, columns.join(", "));
        plain.batch_execute(&make).await.expect("a table");
        if !grant.catalog.iter().any(|relation| relation.name == table.name) {
            continue;
        }
        let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        let sql = format!("select id, {} from {}", names.join(", "), table.name);
        for message in through.simple_query(&sql).await.expect("granted") {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let cell =
                |at| row.get(at).map_or("null".to_owned(), |text: &str| format!("'{}'", text.replace('\'', "''")));
            let cells: Vec<String> = (0..row.len()).map(cell).collect();
            plain
                .batch_execute(&format!("insert into {} values ({})", table.name, cells.join(", ")))
                .await
                .expect("a row");
        }
    }
    let owner = superuser(&gate.database).await;
    for line in
        world.sql.lines().filter(|line| line.starts_with("create view") || line.starts_with("create materialized"))
    {
        plain.batch_execute(line).await.expect(line);
        // What is stored is from before the statements of this round.
        let stored = line.strip_prefix("create materialized view ").and_then(|rest| rest.split(' ').next());
        if let Some(view) = stored {
            owner.batch_execute(&format!("refresh materialized view {view}")).await.expect(view);
        }
    }
    let mut compared = 0;
    for (view, columns) in &world.views {
        if !grant.catalog.iter().any(|relation| relation.name == *view) {
            continue;
        }
        // What is stored cannot be masked but by NULL.
        let is_masked =
            |column: &&String| grant.masks.iter().any(|mask| mask.relation == *view && mask.column == **column);
        let clear: Vec<&str> = columns.iter().filter(|column| !is_masked(column)).map(String::as_str).collect();
        let sql = format!("select {} from {view}", clear.join(", "));
        let (seen, expected) = (answer(through, &sql).await, answer(&plain, &sql).await);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert!(!seen.starts_with("error"), "seed {seed}: {sql}: {seen}\n{}", world.sql);
        assert_eq!(sorted(&seen), sorted(&expected), "seed {seed}: {sql}\n{}\n{}", world.sql, world.classification);
        compared += 1;
    }
    drop(plain);
    let drop_it = format!("drop database {reference} with (force)");
    superuser("postgres").await.batch_execute(&drop_it).await.expect("dropped");
    compared
}
