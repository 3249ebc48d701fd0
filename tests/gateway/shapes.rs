//! Texts that differ in their literals only share a decision. What depends on the rows does not: each is counted,
//! held and recorded by itself.

use dbgate::core::grant::Access;
use serde_json::Value;

use crate::gateway::again::is_of;
use crate::support::gate::{Gate, SHOP, refusal};

const OWN: &str = "create table parts (id int primary key, kind text, seen date);
    insert into parts select i, case when i <= 3 then 'k' || i else 'many' end from generate_series(1, 500) i; analyze;";

async fn gate() -> Gate {
    Gate::start(&format!("{SHOP}{OWN}")).await
}

#[tokio::test]
async fn what_a_write_changes_is_counted_whatever_was_known_of_its_shape() {
    let gate = gate().await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    let delete = |kind: &str| format!("delete from parts where kind = '{kind}'");
    for kind in ["k1", "k2", "k3", "none"] {
        client.simple_query(&delete(kind)).await.expect("one row at the most");
    }
    assert_eq!(refusal(&client, &delete("many")).await.0, "42501");
    assert_eq!(gate.count("select count(*) from parts").await, 497);

    let insert = |from: u32, rows: u32| {
        let rows: Vec<_> = (from..from + rows).map(|id| format!("({id}, 'new', '2026-01-01'::date)")).collect();
        format!("insert into parts (id, kind, seen) values {}", rows.join(", "))
    };
    for from in [1000, 1100, 1200] {
        client.simple_query(&insert(from, 60)).await.expect("60 rows");
    }
    client.simple_query("begin").await.expect("begin");
    client.simple_query(&insert(2000, 60)).await.expect("60 rows");
    assert_eq!(refusal(&client, &insert(2100, 60)).await.0, "42501", "120 in all");
    client.simple_query("rollback").await.expect("rollback");
    assert_eq!(gate.count("select count(*) from parts where kind = 'new'").await, 180);
    // What the target refuses it says of this text.
    let twice = client.simple_query(&insert(1000, 60)).await.expect_err("they are there");
    assert_eq!(twice.code().map(|code| code.code()), Some("23505"));
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn a_condition_that_leaves_nothing_out_is_found_whatever_was_known_of_its_shape() {
    let gate = gate().await;
    let client = gate.connect(&gate.grant(Access::Write).await).await;
    for word in ["no", "nothing", "neither"] {
        client.simple_query(&format!("delete from parts where id = 1 and kind like '{word}'")).await.expect("none");
    }
    for all in ["'t'", "'on'::bool", "'1'", "kind like '%'", "kind ~ '.*'", "1 = 1"] {
        let (state, message) = refusal(&client, &format!("delete from parts where {all}")).await;
        assert_eq!(state, "42501", "{all}: {message}");
    }
    assert_eq!(gate.count("select count(*) from parts").await, 500);
    drop(client);
    gate.stop().await;
}

#[tokio::test]
async fn each_is_recorded_with_its_own_words() {
    let gate = gate().await;
    let grant = gate.grant(Access::Write).await;
    let client = gate.connect(&grant).await;
    let texts = [
        "insert into parts values (1001, 'a', null)",
        "insert into parts values (1002, 'bb', null)",
        "insert into parts values (1003, 'ccc', '2026-02-03')",
        "insert into parts values (1004, 'dddd', '2026-02-03'), (1005, null, null)",
        "update parts set kind = 'eeeee' where id = 1001",
        "update parts set kind = 'ffffff' where id = 1002",
        "update parts set kind = 'ggggggg' where id = 1003",
    ];
    for text in texts {
        client.simple_query(text).await.expect(text);
    }
    drop(client);
    let record = gate.record(&grant).await;
    for text in texts {
        let line = record.iter().find(|line| is_of(line, text)).unwrap_or_else(|| panic!("no line of {text}"));
        let norm = line.get("norm").and_then(Value::as_str).expect("a text without literals");
        assert_eq!(norm.matches("null").count(), text.matches("null").count(), "{text} / {norm}");
        assert!(!norm.contains("100") && !norm.contains("'ggg"), "{norm}");
    }
    gate.stop().await;
}
