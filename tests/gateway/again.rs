//! The rows of a batch: one statement run many times with other values in one pipeline. It is answered as the
//! target answers it, and the record has every row, with its own outcome.

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use dbgate::core::wire::frame::Message;
use serde_json::Value;

use crate::gateway::outcomes::outcomes;
use crate::support::gate::{AT_MOST_100, Gate, SHOP};
use crate::support::requests::{Requests, ask};
use crate::support::wire::{Peer, error, rows, tags};

const ROWS: usize = 300;
const INSERT: &str = "insert into pg_temp.own (id, v) values ($1::int, $2)";

async fn gate(database: &str) -> Gate {
    let policy = [("classification.toml", ""), ("open.cedar", AT_MOST_100)];
    let sql = format!(
        "{SHOP} create table noted (id int); create function note() returns trigger language plpgsql as
        'begin insert into noted values (new.id); return new; end';"
    );
    Gate::without_pack(&format!("again_{database}"), &sql, &policy).await
}

/// A Bind and an Execute of `s` for each pair of values, with a Describe in between where drivers send one.
fn batch(first: Requests, is_described: bool, values: impl Iterator<Item = (usize, String)>) -> Requests {
    values.fold(first, |all, (id, text)| {
        let bound = all.bind_values("s", &[&id.to_string(), &text]);
        let described = if is_described { bound.describe("") } else { bound };
        // Drivers ask for one row at the most of what returns none.
        described.execute_part("", 1)
    })
}

fn plain(number: usize) -> (usize, String) {
    (number, format!("value {number}"))
}

async fn prepared(grant: &GrantAnswer, sql: &str) -> Peer {
    let mut peer = Peer::through(grant).await;
    assert_eq!(error(&peer.query("create temp table own (id int unique, v text)").await), None);
    let told = ask().parse("s", sql).sync(&mut peer).await;
    assert_eq!(error(&told), None);
    peer
}

/// Whether a line of the record is of this statement, as far as they can be told apart.
pub fn is_of(line: &Value, sql: &str) -> bool {
    let length = line.get("len").and_then(Value::as_u64);
    line.get("k").and_then(Value::as_str) == Some("stmt") && length == u64::try_from(sql.len()).ok()
}

/// Numbers and values of all statements in a session's record, as far as they can be told apart.
async fn recorded(gate: &Gate, grant: &GrantAnswer, sql: &str) -> usize {
    let mut values = Vec::new();
    for line in gate.record(grant).await {
        let is_it = is_of(&line, sql);
        match line.get("par_c") {
            Some(Value::String(one)) if is_it => values.push(one.clone()),
            Some(Value::Array(all)) if is_it => {
                assert_eq!(line.get("times").and_then(Value::as_u64), u64::try_from(all.len()).ok());
                values.extend(all.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            _ => {}
        }
    }
    let count = values.len();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), count, "no two rows are alike");
    count
}

#[tokio::test]
async fn every_row_is_answered_recorded_and_counted() {
    let mut gate = gate("rows").await;
    for is_described in [false, true] {
        // Once with durability `strict`, once with `writes`.
        if is_described {
            gate = gate.hurried().await;
        }
        let grant = gate.grant(Access::Write).await;
        let mut peer = prepared(&grant, INSERT).await;
        peer.query("begin").await;
        let told = batch(ask(), is_described, (0..ROWS).map(plain)).sync(&mut peer).await;
        let one = if is_described { "2nC" } else { "2C" };
        assert_eq!((tags(&told), error(&told)), (format!("{}Z", one.repeat(ROWS)), None));
        assert!(completed(&told).iter().all(|tag| tag == "INSERT 0 1"));
        peer.query("commit").await;
        let sum = "select count(*), count(distinct v), max(v) from pg_temp.own";
        assert_eq!(rows(&peer.query(sum).await), [["300", "300", "value 99"]]);
        drop(peer);
        let told = outcomes(&gate, &grant).await;
        assert_eq!(told.iter().filter(|one| one.ends_with("INSERT 0 1")).count(), ROWS);
        assert_eq!(recorded(&gate, &grant, INSERT).await, ROWS);
    }
    // The limit is of all rows of the transaction.
    let grant = gate.grant(Access::Write).await;
    let mut peer =
        prepared(&grant, "update orders set amount = amount + length($2::text) * 0 where id = $1::int").await;
    let told = batch(ask(), true, (1..=101).map(plain)).sync(&mut peer).await;
    let told = error(&told).expect("refused");
    assert!(told.sqlstate == "42501" && told.message.contains("101 of"), "{told:?}");
    let told = batch(ask(), true, (1..=100).map(plain)).sync(&mut peer).await;
    assert_eq!(error(&told), None);
    drop(peer);
    gate.stop().await;
}

#[tokio::test]
async fn rows_that_end_in_other_ways_have_their_own_outcome() {
    let gate = gate("others").await.hurried().await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = prepared(&grant, "update pg_temp.own set v = $2 where id = $1::int").await;
    peer.query("insert into own select g, '' from generate_series(1, 300, 2) g").await;
    let told = batch(ask(), false, (0..ROWS).map(plain)).sync(&mut peer).await;
    let expected: Vec<_> = (0..ROWS).map(|number| format!("UPDATE {}", number % 2)).collect();
    assert_eq!(completed(&told), expected);
    drop(peer);
    let told = outcomes(&gate, &grant).await;
    // In front of them: the table, and its rows.
    let expected: Vec<_> = expected.iter().enumerate().map(|(at, tag)| format!("{}.0 {tag}", at + 3)).collect();
    assert_eq!(told.get(2..), Some(&expected[..]));
    gate.stop().await;
}

#[tokio::test]
async fn an_error_is_of_its_own_row_and_what_is_behind_it_skipped() {
    let gate = gate("errors").await;
    // At the Execute, and at the Bind; behind a few rows, and behind many.
    for (bad, at, state) in [("7", 150, "23505"), ("7", 9, "23505"), ("x", 150, "22P02"), ("x", 1, "22P02")] {
        let grant = gate.grant(Access::Write).await;
        let mut peer = prepared(&grant, INSERT).await;
        let all = (0..ROWS).fold(ask(), |all, number| {
            let id = if number == at { bad.to_owned() } else { number.to_string() };
            all.bind_values("s", &[&id, "v"]).execute("")
        });
        let told = all.sync(&mut peer).await;
        assert_eq!(completed(&told).len(), at, "{bad} {at}");
        assert_eq!(error(&told).map(|error| error.sqlstate).as_deref(), Some(state), "{bad} {at}");
        // Nothing of it is left, and the session goes on.
        assert_eq!(rows(&ask().run("select count(*) from pg_temp.own").sync(&mut peer).await), [["0"]]);
        drop(peer);
        let mut told = outcomes(&gate, &grant).await;
        let rows = (0..ROWS).map(|row| match row.cmp(&at) {
            std::cmp::Ordering::Less => format!("{}.0 INSERT 0 1", row + 2),
            std::cmp::Ordering::Equal => format!("{}.0 error {state}", row + 2),
            std::cmp::Ordering::Greater => format!("{}.0 skipped {state}", row + 2),
        });
        let mut expected: Vec<_> = rows.collect();
        expected.push(format!("2.0 undone {state}"));
        told.drain(..1);
        told.truncate(expected.len());
        assert_eq!(told, expected, "{bad} {at}");
    }
    gate.stop().await;
}

#[tokio::test]
async fn a_name_that_means_something_else_is_judged_anew() {
    let gate = gate("names").await.hurried().await;
    let grant = gate.grant(Access::Write).await;
    let mut peer = prepared(&grant, INSERT).await;
    // Another statement under the same name, in the middle of a pipeline.
    let first = batch(ask(), false, (0..50).map(plain)).close(dbgate::core::wire::frontend::Named::Statement, "s");
    let second = first.parse("s", "delete from orders where id > $1::int and $2::text is not null");
    let told = batch(second, false, (0..50).map(plain)).sync(&mut peer).await;
    let told = error(&told).expect("refused");
    assert!(told.message.contains("orders"), "{told:?}");
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    // By SQL.
    ask().parse("s", INSERT).sync(&mut peer).await;
    let first = batch(ask(), false, (0..50).map(plain)).run("deallocate s");
    let second = first.run("prepare s (int, text) as delete from orders where id > $1 and $2 is not null");
    let told = batch(second, false, (0..50).map(plain)).sync(&mut peer).await;
    assert!(error(&told).is_some());
    assert_eq!(gate.count("select count(*) from orders").await, 3000);
    drop(peer);
    gate.stop().await;
}

fn completed(messages: &[Message]) -> Vec<String> {
    let tag = |message: &Message| String::from_utf8_lossy(&message.body).trim_end_matches('\0').to_owned();
    messages.iter().filter(|message| message.tag == b'C').map(tag).collect()
}
