//! What people who write policies run: lint, their own tests, and the reasons, held against the
//! roles that a gate really makes.

use std::path::Path;
use std::process::Output;

use dbgate::core::encoding;
use dbgate::core::grant::Access;
use dbgate::sys::random;
use serde_json::Value;
use sha2::Digest as _;

use crate::support::dbgate::{Program, said};
use crate::support::gate::{self, Gate, SHOP};

async fn policy(arguments: &[&str]) -> Output {
    let program = Program::new();
    let mut command = program.command(&["policy"]);
    command.args(arguments);
    tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

fn folder(files: &[(&str, &str)]) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("dbgate-policy-{}", encoding::hex(&random::bytes::<6>())));
    std::fs::create_dir(&folder).expect("a folder");
    files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("written"));
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

const RULE: &str = "@id(\"a\")\npermit (principal, action, resource);\n";

#[tokio::test(flavor = "multi_thread")]
async fn lint_tells_file_and_line_of_every_mistake_and_suspicion() {
    let wrong = folder(&[
        ("a.cedar", "@id(\"a\")\npermit (principal, action == Action::\"reed\", resource);"),
        ("classification.toml", "[[column]]\nmatch = \"customers\"\ntags = []"),
    ]);
    let output = policy(&["lint", text(&wrong)]).await;
    let lines = String::from_utf8(output.stdout.clone()).expect("text");
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    for place in ["a.cedar:2: ", "classification.toml:2: `customers` has 1 parts, not 3"] {
        assert!(lines.contains(&format!("error    {}/{place}", wrong.display())), "{place}\n{lines}");
    }
    let suspicious =
        folder(&[("a.cedar", RULE), ("classification.toml", "[[column]]\nmatch = \"public.a.b\"\ntags = [\"odd\"]")]);
    let output = policy(&["lint", text(&suspicious), "--format", "json"]).await;
    let answer = json(&output);
    assert_eq!((output.status.code(), answer["schema"].as_str()), (Some(0), Some("dbgate.policy-lint/1")));
    assert_eq!(
        (answer["problems"][0]["severity"].as_str(), answer["problems"][0]["line"].as_u64()),
        (Some("warning"), Some(2))
    );
    assert_eq!(policy(&["lint", text(&suspicious), "--strict"]).await.status.code(), Some(8));
    // One file, beside the rules of the built-in pack.
    let alone = suspicious.join("classification.toml");
    let output = policy(&["lint", text(&alone)]).await;
    assert!(said(&output).contains("classification.toml:2: no rule knows the tag `odd`"), "{}", said(&output));
    [wrong, suspicious].iter().for_each(|folder| std::fs::remove_dir_all(folder).expect("removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folders_own_tests_decide_whether_it_loads() {
    let case =
        |expect: &str| format!("[[case]]\nname = \"anybody reads\"\nsql = \"select 1\"\nexpect = \"{expect}\"\n");
    let good = folder(&[("a.cedar", RULE), ("a.test.toml", &case("allow"))]);
    let bad = folder(&[("a.cedar", RULE), ("a.test.toml", &case("deny"))]);
    let passed = policy(&["test", text(&good)]).await;
    assert_eq!(
        (passed.status.code(), String::from_utf8_lossy(&passed.stdout).as_ref()),
        (Some(0), "pass  a.test.toml:2  anybody reads\n1 cases, 0 failed\n")
    );
    let report = bad.join("report.xml");
    let failed = policy(&["test", text(&bad), "--format", "json", "--junit", text(&report)]).await;
    let answer = json(&failed);
    assert_eq!((failed.status.code(), answer["cases"][0]["passed"].as_bool()), (Some(8), Some(false)));
    assert_eq!(answer["cases"][0]["failure"], "expected deny, got allow");
    assert!(std::fs::read_to_string(&report).expect("a report").contains("failures=\"1\""));
    let refused = policy(&["lint", text(&bad)]).await;
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    assert!(said(&refused).contains("a.test.toml:2: the case `anybody reads` fails"), "{}", said(&refused));
    let pack = policy(&["test", "--pack", "production"]).await;
    assert_eq!(pack.status.code(), Some(0), "{}", said(&pack));
    let written = bad.join("started");
    let started = policy(&["production", "-o", text(&written)]).await;
    assert_eq!(started.status.code(), Some(0), "{}", said(&started));
    assert_eq!(policy(&["test", text(&written)]).await.status.code(), Some(0), "what is written is a whole policy");
    assert_eq!(policy(&["production", "-o", text(&written)]).await.status.code(), Some(1), "nothing is written over");
    [good, bad].iter().for_each(|folder| std::fs::remove_dir_all(folder).expect("removed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_the_role_in_the_target_may_do() {
    let gate = Gate::start(SHOP).await;
    let grant = gate.grant(Access::Write).await;
    let session = gate.connect(&grant).await;
    let config = gate.folder.join("server.toml").display().to_string();
    let whom = ["--target", "demo", "--as", "ana@example.com,engineers", "--access", "write", "--config", &config];
    let shown = policy(&[&["show-scope", "--format", "json"], whom.as_slice()].concat()).await;
    let scope = json(&shown);
    let role = scope["role"].as_str().expect("a role").to_owned();
    let superuser = gate::superuser(&gate.database).await;
    let is_there = "select count(*) from pg_roles where rolname = $1";
    assert_eq!(
        superuser.query_one(is_there, &[&role]).await.expect("asks").get::<_, i64>(0),
        1,
        "{role} is the session's"
    );
    let canonical = policy(&[&["show-scope", "--canonical"], whom.as_slice()].concat()).await;
    assert_eq!(encoding::hex(&sha2::Sha256::digest(&canonical.stdout)), scope["digest"].as_str().expect("a digest"));

    let explained = json(&policy(&[&["explain", "--format", "json"], whom.as_slice()].concat()).await);
    let relations = explained["relations"].as_array().expect("relations");
    // The list comes from PostgreSQL, not from what is to be checked.
    let columns = "select n.nspname || '.' || c.relname, a.attname::text, has_column_privilege($1::name, c.oid, a.attnum, 'SELECT'), \
        has_any_column_privilege($1::name, c.oid, 'INSERT'), has_table_privilege($1::name, c.oid, 'DELETE') \
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'public' and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'p', 'm', 'f')";
    let rows = superuser.query(columns, &[&role]).await.expect("privileges");
    assert!(rows.len() > 8, "{}", rows.len());
    for row in rows {
        let (relation, column): (String, String) = (row.get(0), row.get(1));
        let told = relations.iter().find(|one| one["relation"] == *relation).unwrap_or_else(|| panic!("{relation}"));
        let seen = told["columns"].as_array().expect("columns").iter().find(|one| one["name"] == *column);
        let seen = seen.unwrap_or_else(|| panic!("{relation}.{column}"));
        assert_eq!(row.get::<_, bool>(2), seen["seen"] == "clear", "{relation}.{column}: {seen}");
        let granted = |action: &str| {
            told["actions"]
                .as_array()
                .expect("actions")
                .iter()
                .any(|one| one["action"] == action && one["granted"] == true)
        };
        assert_eq!(
            (row.get::<_, bool>(3), row.get::<_, bool>(4)),
            (granted("insert"), granted("delete")),
            "{relation}"
        );
    }
    let email = policy(&[&["explain", "public.customers.email"], whom.as_slice()].concat()).await;
    let lines = said(&email);
    assert!(
        lines.contains(".email") && lines.contains("masked as email") && lines.contains("mask-email  tags email, pii"),
        "{lines}"
    );
    let judged =
        policy(&[&["explain", "-c", "select email from customers; delete from orders"], whom.as_slice()].concat())
            .await;
    let lines = said(&judged);
    assert!(
        lines.contains("allow     select email from customers\n  runs as: select email from \"dbgate_m_"),
        "{lines}"
    );
    assert!(lines.contains("(rule no-unbounded-write)"), "{lines}");
    let nobody = ["--target", "demo", "--as", "guest@example.com,sales", "--config", &config];
    let lines = said(&policy(&[&["explain", "public.orders"], nobody.as_slice()].concat()).await);
    assert!(lines.contains("no session: ") && lines.contains("read     not granted  no rule permits it"), "{lines}");
    let missing = policy(&[&["explain", "public.nothing"], nobody.as_slice()].concat()).await;
    assert_eq!(missing.status.code(), Some(64), "{}", said(&missing));
    let linted = policy(&["lint", "--target", "demo", "--config", &config]).await;
    assert_eq!(linted.status.code(), Some(0), "{}", said(&linted));
    drop(session);
    gate.stop().await;
}

const TYPES: &str = "
    create type mood as enum ('low', 'high');
    create type place as (street text, at time);
    create table people (id int primary key, mood mood, home place, born date, feed xml);
    analyze";

const MASKS: &str = r#"
@id("moods") @mask("hash")
forbid (principal, action == Action::"reveal", resource) when { ["mood", "feed"].contains(resource.name) };
@id("homes") @mask("partial")
forbid (principal, action == Action::"reveal", resource) when { resource.name == "home" };
@id("days") @mask("redact")
forbid (principal, action == Action::"reveal", resource) when { resource.name == "born" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mask_cannot_show_is_said_by_explain_and_lint() {
    let gate = Gate::start_under(TYPES, &[("masks.cedar", MASKS)]).await;
    let config = gate.folder.join("server.toml").display().to_string();
    let whom = ["--target", "demo", "--as", "ana@example.com,engineers", "--config", &config];
    let lines = said(&policy(&[&["explain", "public.people"], whom.as_slice()].concat()).await);
    let takes = "it takes what has room for a hash: text of 16 letters or more, `bigint`, `numeric` with 19 digits \
                 before the point, `uuid`, `bytea`, JSON and network addresses";
    for line in [
        format!("NULL: the mask `hash` cannot give a value of type `public.mood`: {takes}"),
        format!("NULL: the mask `hash` cannot give a value of type `xml`: {takes}"),
        "field `at`: NULL, since the mask does not fit: it takes text, network addresses and hardware addresses".into(),
        "NULL: only text that takes `***`, or what can stand for it, has room".into(),
    ] {
        assert!(lines.contains(&format!("    {line}\n")), "{line}\n{lines}");
    }
    let explained = json(&policy(&[&["explain", "--format", "json"], whom.as_slice()].concat()).await);
    let columns = explained["relations"][0]["columns"].as_array().expect("columns").clone();
    let lost: Vec<usize> = columns.iter().map(|one| one["lost"].as_array().expect("a list").len()).collect();
    assert_eq!(lost, [0, 1, 1, 1, 1]);
    let linted = policy(&["lint", "--target", "demo", "--config", &config]).await;
    let found =
        format!("the mask `hash` cannot give a value of type `public.mood`: {takes}: public.people.mood comes back");
    assert!(said(&linted).contains(&found), "{}", said(&linted));
    assert!(!said(&linted).contains("public.people.home"), "{}", said(&linted));
    gate.stop().await;
}
