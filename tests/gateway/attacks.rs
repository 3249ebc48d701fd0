//! Tables of attacks and of honest statements under `tests/corpus`, run through the gate in the
//! simple and the extended protocol (which tokio-postgres reads in binary).

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use dbgate::core::api::GrantAnswer;
use dbgate::core::grant::Access;
use futures_util::TryStreamExt as _;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use crate::support::gate::{Gate, PREPARING, Place, cluster, superuser};

const RULES: &str = r#"
@id("mask-hidden") @mask("null")
forbid (principal, action == Action::"reveal", resource) when { resource.tags.contains("hidden") };
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// A gate before the shop of `tests/corpus`.
async fn gate(name: &str) -> Gate {
    let database = format!("attacks_{name}");
    let guard = PREPARING.lock().await;
    superuser("postgres").await.batch_execute(&format!("create database {database}")).await.expect("database");
    let policy = [("classification.toml", include_str!("../corpus/classification.toml")), ("masks.cedar", RULES)];
    let sql = include_str!("../corpus/shop.sql");
    let place = Place { cluster: cluster(), database, sql, target: "shop", policy: &policy };
    let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
    drop(guard);
    gate
}

/// The lines of a table with the class they stand under.
fn cases(table: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut class = "";
    let mut cases = Vec::new();
    for line in table.lines() {
        match line.strip_prefix("## ") {
            Some(name) => class = name,
            None if line.starts_with('#') || line.is_empty() => {}
            None => cases.push((class, line)),
        }
    }
    cases
}

/// Everything a session was told: values as they came, notices, errors.
struct Told {
    client: Client,
    aside: Arc<Mutex<Vec<u8>>>,
}

impl Told {
    async fn connect(gate: &Gate, grant: &GrantAnswer) -> Self {
        let (client, mut connection) = gate.open(grant).await;
        let aside = Arc::new(Mutex::new(Vec::new()));
        let heard = aside.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                let text = match message {
                    AsyncMessage::Notice(notice) => format!("{notice:?}"),
                    other => format!("{other:?}"),
                };
                heard.lock().expect("heard").extend(text.bytes());
            }
        });
        Self { client, aside }
    }

    /// Runs one message and answers with what came back, and whether it was refused.
    async fn run(&self, sql: &str, protocol: Protocol) -> (Vec<u8>, Result<(), String>) {
        let mut told = Vec::new();
        let copies = sql.trim_start().to_ascii_lowercase().starts_with("copy") && sql.contains("stdout");
        let ran = if copies {
            self.copy(sql, &mut told).await
        } else if protocol == Protocol::Simple {
            self.simple(sql, &mut told).await
        } else {
            self.extended(sql, &mut told).await
        };
        if let Err(error) = &ran {
            told.extend(format!("{error:?}").bytes());
        }
        told.append(&mut self.aside.lock().expect("heard"));
        (told, ran.map_err(|error| error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)))
    }

    async fn simple(&self, sql: &str, told: &mut Vec<u8>) -> Result<(), tokio_postgres::Error> {
        for message in self.client.simple_query(sql).await? {
            if let SimpleQueryMessage::Row(row) = message {
                (0..row.len()).for_each(|index| told.extend(row.get(index).unwrap_or_default().bytes().chain([0])));
            }
        }
        Ok(())
    }

    async fn extended(&self, sql: &str, told: &mut Vec<u8>) -> Result<(), tokio_postgres::Error> {
        for row in self.client.query(sql, &[]).await? {
            for index in 0..row.len() {
                told.extend(row.get::<_, Option<Bytes>>(index).map(|value| value.0).unwrap_or_default());
                told.push(0);
            }
        }
        Ok(())
    }

    async fn copy(&self, sql: &str, told: &mut Vec<u8>) -> Result<(), tokio_postgres::Error> {
        let parts: Vec<_> = self.client.copy_out(sql).await?.try_collect().await?;
        parts.iter().for_each(|part| told.extend(part));
        Ok(())
    }
}

/// A value of any type as the bytes that came.
struct Bytes(Vec<u8>);

impl FromSql<'_> for Bytes {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What a canary looks like, however it is turned: letters in any case, backwards, base64, hex,
/// its number and date in text and binary.
fn canary_in(told: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(told).to_lowercase();
    let texts = [
        "kanarienvogel",
        "legovneiranak",
        "a2fuyxjpzw52b2dl",
        "thbmfyawvudm9nz",
        "rym5hcmllbnzvz",
        "6b616e617269656e766f67656c",
        "7351948",
        "7351949",
        "1961-07-13",
        "13/07/1961",
        "07-13-1961",
    ];
    // The digits of a numeric in base 10,000, and days before 2000-01-01.
    let binary: [(&[u8], &str); 2] =
        [(&[0x02, 0xdf, 0x07, 0x9c], "the number in binary"), (&(-14_051i32).to_be_bytes(), "the date in binary")];
    let found = texts.into_iter().find(|canary| text.contains(canary));
    found.or_else(|| {
        let holds = |bytes: &[u8]| told.windows(bytes.len()).any(|window| window == bytes);
        binary.into_iter().find(|(bytes, _)| holds(bytes)).map(|(_, name)| name)
    })
}

/// Counts and digests of everything that lasts. Other tests make roles of their own in this cluster.
async fn state(gate: &Gate) -> BTreeMap<String, String> {
    let client = superuser(&gate.database).await;
    let sql = "select c.oid::regclass::text, c.relkind::text from pg_class c join pg_namespace n on n.oid = relnamespace \
               where relkind in ('r', 'p', 'v', 'm', 'i', 'S') and relpersistence <> 't' \
               and n.nspname in ('public', 'hr')";
    let mut state = BTreeMap::new();
    let mut digests = Vec::new();
    for row in client.query(sql, &[]).await.expect("relations") {
        let (name, kind): (String, String) = (row.get(0), row.get(1));
        if matches!(kind.as_str(), "r" | "m") {
            let digest = "count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0)::text";
            digests.push(format!("select '{name}', {digest} from {name} t"));
        } else if kind == "S" && name != "scratch_id_seq" {
            digests.push(format!("select '{name}', last_value::text from {name}"));
        }
        state.insert(format!("{kind} {name}"), String::new());
    }
    digests.push("select 'functions', string_agg(md5(prosrc), '' order by oid) from pg_proc where pronamespace = 'public'::regnamespace".into());
    digests.push("select 'rights', string_agg(coalesce(relacl::text, ''), '' order by oid) from pg_class where relnamespace = 'public'::regnamespace".into());
    digests.push("select 'roles', string_agg(rolname || rolsuper || coalesce(rolconfig::text, ''), '' order by oid) from pg_roles where oid < 16384 or rolname = 'evil'".into());
    digests.push("select 'large objects', count(*)::text from pg_largeobject_metadata".into());
    digests.push("select 'prepared', count(*)::text from pg_prepared_xacts".into());
    for row in client.query(&digests.join(" union all "), &[]).await.expect("digests") {
        state.insert(row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default());
    }
    state
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Simple, Protocol::Extended];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_masked_value_comes_back_or_lands_anywhere() {
    let gate = gate("masks").await;
    let grant = gate.grant(Access::Write).await;
    // The net catches what it is for: straight from the target every plain attack shows canaries.
    let straight = Told { client: superuser(&gate.database).await, aside: Arc::default() };
    for (_, sql) in cases(include_str!("../corpus/masks.txt")).into_iter().filter(|(class, _)| *class == "plain") {
        for protocol in PROTOCOLS {
            assert!(canary_in(&straight.run(sql, protocol).await.0).is_some(), "{sql}");
        }
    }
    let mut leaks = Vec::new();
    for protocol in PROTOCOLS {
        for (class, case) in cases(include_str!("../corpus/masks.txt")) {
            let session = Told::connect(&gate, &grant).await;
            for sql in case.split(" ;; ") {
                let (told, _) = session.run(sql, protocol).await;
                // A canary that the statement itself spells may be quoted back.
                if let Some(canary) = canary_in(&told).filter(|_| !sql.contains("kanarienv")) {
                    leaks.push(format!(
                        "{class}, {protocol:?}: {sql}\n    {canary} in {}",
                        String::from_utf8_lossy(&told)
                    ));
                }
            }
        }
    }
    let landed = "select coalesce(string_agg(t, ' '), '') from (select t::text from scratch t union all \
                  select t::text from settings t union all select t::text from orders t union all \
                  select name from customers) x (t)";
    let landed: String = superuser(&gate.database).await.query_one(landed, &[]).await.expect("read").get(0);
    assert_eq!(canary_in(landed.as_bytes()), None, "landed: {landed}");
    gate.stop().await;
    assert!(leaks.is_empty(), "{} leaks\n{}", leaks.len(), leaks.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_dangerous_changes_the_database() {
    let gate = gate("guards").await;
    let grant = gate.grant(Access::Write).await;
    let mut before = state(&gate).await;
    let mut breaches = Vec::new();
    for protocol in PROTOCOLS {
        for (class, case) in cases(include_str!("../corpus/guards.txt")) {
            let session = Told::connect(&gate, &grant).await;
            let mut answers = Vec::new();
            for sql in case.split(" ;; ") {
                answers.push(session.run(sql, protocol).await.1);
            }
            drop(session);
            let after = state(&gate).await;
            if after != before {
                let changed: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
                breaches.push(format!("{class}, {protocol:?}: {case}\n    {changed:?} {answers:?}"));
                before = after;
            } else if answers.iter().all(Result::is_ok) && class != "indirect" {
                breaches.push(format!("{class}, {protocol:?}: {case}\n    nothing was refused"));
            }
        }
    }
    gate.stop().await;
    assert!(breaches.is_empty(), "{} breaches\n{}", breaches.len(), breaches.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_statements_run_under_the_same_policy() {
    let gate = gate("honest").await;
    let grant = gate.grant(Access::Write).await;
    let mut wrong = Vec::new();
    let session = Told::connect(&gate, &grant).await;
    for (_, case) in cases(include_str!("../corpus/honest.txt")) {
        let (sql, expected) = case.split_once(" => ").expect("an expected answer");
        let shown = crate::support::gate::column(&session.client, sql).await;
        match shown {
            Ok(rows) if rows.join(",") == expected => {}
            other => wrong.push(format!("{sql}: {other:?} instead of {expected}")),
        }
        if let Err(error) = session.run(sql, Protocol::Extended).await.1 {
            wrong.push(format!("{sql}, extended: {error}"));
        }
    }
    drop(session);
    gate.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
