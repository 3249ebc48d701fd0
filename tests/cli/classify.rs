//! What `dbgate classify` proposes for a database, why, and that it shows no value.

use std::process::Output;

use serde_json::Value;

use crate::support::dbgate::{Program, said};
use crate::support::gate::Gate;

const SHOP: &str = "
create table customers (id int primary key, name text, email text, contact text, iban_hint text, note text, born_on date,
  settings jsonb, ip inet, active boolean);
insert into customers select i, 'name '||i, 'user'||i||'@example.com', 'c'||i||'@example.org',
  case when i = 7 then 'DE89370400440532013000' end,
  case when i % 20 = 0 then 'call +49 30 901820' || i else 'fine' end, '1980-01-01',
  jsonb_build_object('card', '4111 1111 1111 1111'), '10.0.0.1', true from generate_series(1, 100) i;
create table parts (id int, email text) partition by range (id);
create table parts_1 partition of parts for values from (0) to (100);
create view v as select email from customers;
analyze;
";

async fn classify(gate: &Gate, more: &[&str]) -> Output {
    let program = Program::new();
    let config = gate.folder.join("server.toml").display().to_string();
    let mut command = program.command(&["classify", "demo", "--config", &config]);
    command.args(more);
    tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn names_types_and_values_tell_and_nothing_is_written_over() {
    // The gate's own classification names public.customers.email and .ssn.
    let gate = Gate::start(SHOP).await;
    let output = classify(&gate, &["--format", "json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!((output.status.code(), answer["schema"].as_str()), (Some(0), Some("dbgate.classify/1")));
    let listed = |member: &str| -> Vec<(String, Vec<String>)> {
        let list = answer[member].as_array().expect("a list").iter();
        let tags = |one: &Value| {
            one["tags"].as_array().expect("tags").iter().map(|tag| tag.as_str().expect("text").into()).collect()
        };
        list.map(|one| (one["column"].as_str().expect("text").to_owned(), tags(one))).collect()
    };
    let pii = |column: &str| (column.to_owned(), vec!["pii".to_owned()]);
    let email = |column: &str| (column.to_owned(), vec!["pii".to_owned(), "email".to_owned()]);
    assert_eq!(
        listed("proposals"),
        [
            email("public.customers.contact"),
            pii("public.customers.iban_hint"),
            pii("public.customers.born_on"),
            pii("public.customers.settings"),
            pii("public.customers.ip"),
            email("public.parts.email"),
        ]
    );
    assert_eq!(listed("traces"), [("public.customers.note".to_owned(), vec![])]);
    let contact = &answer["proposals"][0];
    assert_eq!((contact["samples"].as_u64(), contact["seen"]["email"].as_u64()), (Some(100), Some(100)));

    let text = String::from_utf8(classify(&gate, &[]).await.stdout).expect("text");
    assert!(
        text.contains("# e-mail address in 100 of 100 values\n[[column]]\nmatch = \"public.customers.contact\"\n"),
        "{text}"
    );
    assert!(text.contains("#   public.customers.note: telephone number in 5 of 100 values"), "{text}");
    for value in ["example.org", "4111", "DE8937", "901820"] {
        assert!(!text.contains(value), "{value} is shown\n{text}");
    }

    assert_eq!(classify(&gate, &["--drift"]).await.status.code(), Some(8));
    let file = gate.folder.join("policy/classification.toml");
    let before = std::fs::read_to_string(&file).expect("readable");
    let path = file.to_str().expect("text");
    let refused = classify(&gate, &["-o", path]).await;
    assert_eq!(refused.status.code(), Some(64), "{}", said(&refused));
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), before);
    let written = classify(&gate, &["-o", path, "--append"]).await;
    assert_eq!(written.status.code(), Some(0), "{}", said(&written));
    assert!(std::fs::read_to_string(&file).expect("readable").starts_with(&before));
    // The file loads, and what was proposed is looked at now.
    let drift = classify(&gate, &["--drift"]).await;
    assert_eq!((drift.status.code(), drift.stdout.len()), (Some(0), 0), "{}", said(&drift));
    gate.stop().await;
}
