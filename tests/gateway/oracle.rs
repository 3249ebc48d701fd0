//! Every count that the gate judges by, held against what a superuser sees before and after.
//!
//! The counts are read from the record; the truth is the difference of all rows by their keys.

use std::collections::BTreeMap;

use dbgate::core::grant::Access;
use serde_json::Value;
use tokio_postgres::Client;

use crate::support::gate::{Gate, superuser};

const SCHEMA: &str = "
-- Rows of `parent` are told apart by `uid`, since one script changes keys.
create table parent (id int primary key, note text, uid serial);
create table child (id int primary key, parent_id int references parent on delete cascade on update cascade, note text);
create table leaf (id int primary key, child_id int references child on delete cascade);
create table journal (id serial primary key, what text);
create table later (id int primary key, note text);
create table measures (id int, at date not null, value int, primary key (id, at)) partition by range (at);
create table measures_1 partition of measures for values from ('2025-01-01') to ('2025-07-01');
create table measures_2 partition of measures for values from ('2025-07-01') to ('2026-01-01');
create function write_down() returns trigger language plpgsql as
  'begin insert into journal (what) values (tg_op); return null; end';
create trigger write_down after update on child for each row execute function write_down();
create function put_off() returns trigger language plpgsql as
  'begin update later set note = new.note where id <= new.id; return null; end';
create constraint trigger put_off after insert on parent deferrable initially deferred
  for each row execute function put_off();
create function careful(n int) returns int language plpgsql volatile as '
  begin
    begin
      update later set note = ''lost'' where id <= n;
      raise exception ''no'';
    exception when others then
      update later set note = ''kept'' where id <= n;
    end;
    return n;
  end';
create procedure commits(n int) language plpgsql as
  'begin update later set note = ''p'' where id <= n; commit; update later set note = ''q'' where id <= n; end';
create rule also as on insert to journal where new.what = 'rule' do also update later set note = 'r' where id <= 4;
insert into parent select i, 'p' from generate_series(1, 500) i;
insert into child select i, 1 + i % 500, 'c' from generate_series(1, 2000) i;
insert into leaf select i, 1 + i % 2000 from generate_series(1, 4000) i;
insert into later select i, 'l' from generate_series(1, 500) i;
insert into measures select i, date '2025-01-01' + i % 360, i from generate_series(1, 1000) i;
analyze;
";

/// Lets everything happen, so that it can be counted.
const RULES: &str = r#"
@id("all")
permit (principal in Group::"engineers", action, resource);
"#;

/// Whether the count must be the truth, or may be more: rows that a rolled-back part touched, or
/// that were touched twice, still stand in the server's counters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Exact,
    AtLeast,
}

use Count::{AtLeast, Exact};

const SCRIPTS: [(&[&str], Count); 24] = [
    (&["delete from parent where id <= 3"], Exact),
    (&["update parent set id = id + 1000 where id between 10 and 12"], Exact),
    (&["update child set note = 'x' where id between 900 and 909"], Exact),
    (&["insert into parent values (2001, 'new'), (2007, 'new')"], AtLeast),
    (&["insert into parent values (3005, 'new')"], Exact),
    (&["begin", "delete from leaf where id <= 5", "delete from leaf where id between 6 and 9", "commit"], Exact),
    (&["begin", "delete from leaf where id between 100 and 104", "rollback"], Exact),
    (
        &["begin; delete from leaf where id between 110 and 113; update later set note = 'x' where id = 400; commit"],
        Exact,
    ),
    (
        &[
            "begin",
            "savepoint a",
            "delete from leaf where id between 200 and 209",
            "rollback to a",
            "delete from leaf where id between 210 and 211",
            "commit",
        ],
        AtLeast,
    ),
    (&["begin", "savepoint a", "delete from leaf where id between 220 and 224", "release a", "commit"], Exact),
    (&["select careful(7)"], AtLeast),
    (
        &[
            "do $$ begin update later set note = 'd' where id between 20 and 29; delete from leaf where id = 300; end $$",
        ],
        Exact,
    ),
    (
        &[
            "do $$ begin update later set note = 'd' where id = 30; commit; update later set note = 'e' where id = 31; end $$",
        ],
        Exact,
    ),
    (&["call commits(5)"], Exact),
    (&["update measures set value = 0 where id between 1 and 20"], Exact),
    (&["update measures set at = at + 181 where id between 31 and 35"], AtLeast),
    (&["delete from measures_1 where id between 40 and 60"], Exact),
    (
        &[
            "merge into later l using (select i from generate_series(450, 510) i) s on l.id = s.i when matched and s.i < 460 then delete when matched then update set note = 'm' when not matched then insert values (s.i, 'n')",
        ],
        Exact,
    ),
    (
        &[
            "insert into later select i, 'c' from generate_series(40, 44) i on conflict (id) do update set note = excluded.note",
        ],
        Exact,
    ),
    (&["insert into later select i, 'c' from generate_series(50, 54) i on conflict (id) do nothing"], Exact),
    (
        &[
            "with d as (delete from leaf where id between 400 and 404 returning *), u as (update later set note = 'w' where id in (60, 61) returning 1) insert into journal (what) select 'cte' from d",
        ],
        Exact,
    ),
    (&["insert into journal (what) values ('rule')"], Exact),
    (
        &[
            "begin",
            "declare c cursor with hold for select id from leaf where id < 600 order by id",
            "fetch 2 from c",
            "delete from leaf where id = 500",
            "commit",
            "close c",
        ],
        Exact,
    ),
    (&["prepare p(int) as delete from leaf where id = $1", "execute p(601)"], Exact),
];

/// Every row of every table, by its key.
async fn rows(client: &Client) -> BTreeMap<(String, String), String> {
    let tables = [("parent", "uid"), ("child", "id"), ("leaf", "id"), ("journal", "id"), ("later", "id")];
    let partitions = [("measures_1", "(id, at)"), ("measures_2", "(id, at)")];
    let select =
        |(table, key): &(&str, &str)| format!("select '{table}', ({key})::text, t::text || xmin::text from {table} t");
    let all: Vec<String> = tables.iter().chain(&partitions).map(select).collect();
    let rows = client.query(&all.join(" union all "), &[]).await.expect("rows");
    rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect()
}

/// Rows that came, changed and went, by relation and action.
fn truth(
    before: &BTreeMap<(String, String), String>,
    after: &BTreeMap<(String, String), String>,
) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    let mut count =
        |table: &str, action: &str| *counts.entry((format!("public.{table}"), action.to_owned())).or_insert(0) += 1;
    for ((table, key), row) in before {
        match after.get(&(table.clone(), key.clone())) {
            None => count(table, "delete"),
            Some(other) if other != row => count(table, "update"),
            Some(_) => {}
        }
    }
    after.keys().filter(|key| !before.contains_key(*key)).for_each(|(table, _)| count(table, "insert"));
    counts
}

/// What the record says each session changed: the last count of each of its transactions, added up.
fn reported(log: &str) -> Vec<BTreeMap<(String, String), u64>> {
    let mut sessions: Vec<(String, BTreeMap<(String, String), u64>)> = Vec::new();
    for line in log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line")) {
        let text = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("k") == "session.open" {
            sessions.push((text("sid"), BTreeMap::new()));
        } else if text("k") == "impact" {
            let Some((_, counts)) = sessions.iter_mut().find(|(session, _)| *session == text("sid")) else { continue };
            // Counts of one transaction grow: the last one is the whole.
            for change in line.get("changes").and_then(Value::as_array).into_iter().flatten() {
                let text = |name: &str| change.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let rows = change.get("rows").and_then(Value::as_u64).unwrap_or(0);
                let most = counts.entry((text("rel"), text("act"))).or_insert(0);
                *most = rows.max(*most);
            }
        }
    }
    sessions.into_iter().map(|(_, counts)| counts).collect()
}

async fn gate() -> Gate {
    Gate::without_pack("oracle", SCHEMA, &[("classification.toml", ""), ("all.cedar", RULES)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_count_is_what_a_superuser_sees_or_more_where_parts_were_taken_back() {
    let gate = gate().await;
    let grant = gate.grant(Access::Write).await;
    let owner = superuser(&gate.database).await;
    let mut truths = Vec::new();
    let mut before = rows(&owner).await;
    for (messages, _) in SCRIPTS {
        let client = gate.connect(&grant).await;
        for message in messages {
            // What is refused counts as what it did: nothing.
            let _ = client.simple_query(message).await;
        }
        drop(client);
        let after = rows(&owner).await;
        truths.push(truth(&before, &after));
        before = after;
    }
    let log = gate.folder.join("data/log/log.ndjson");
    gate.running.stop().await;
    let reported = reported(&std::fs::read_to_string(log).expect("the log"));
    std::fs::remove_dir_all(&gate.folder).expect("folder");
    assert_eq!(reported.len(), SCRIPTS.len(), "a session each");
    let mut wrong = Vec::new();
    for (((messages, count), truth), reported) in SCRIPTS.iter().zip(&truths).zip(&reported) {
        let is_less = truth.iter().any(|(what, rows)| reported.get(what).unwrap_or(&0) < rows);
        // A transaction that the client rolled back was counted, and changed nothing.
        let is_more = !messages.contains(&"rollback") && reported != truth;
        if is_less || (*count == Exact && is_more) {
            wrong.push(format!("{messages:?}\n    reported {reported:?}\n    truth    {truth:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
