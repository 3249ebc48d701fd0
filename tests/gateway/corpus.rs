//! Statements and attacks collected outside this repository, run through the gate when they lie
//! beside it (`../shared/corpus`, or where `DBGATE_CORPUS` says). Without them there is nothing
//! to run, and the tests of this folder stand for themselves.
//!
//! `DBGATE_CORPUS_ONLY` narrows the run to entries whose id matches, `DBGATE_CORPUS_KINDS` to some
//! of the kinds; details stay in the folder that is printed. The kind `keep` holds the gate open for
//! statements of one's own until the file that it names is removed.

use std::path::{Path, PathBuf};
use std::process::Command;

use dbgate::core::grant::Access;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use serde_json::Value;

use crate::support::gate::{Gate, Place};

const RULES: &str = r#"
@id("mask-listed")
@mask("null")
forbid (principal, action == Action::"reveal", resource)
when { resource.tags.contains("listed") };
"#;

/// So many of a thousand honest statements must be answered as without the gate: as another role with
/// the same rights is answered, or, where they ask who the session is, as the session's own role is.
const LEAST_HONEST: usize = 995;

/// What a statement names that asks who the session is, what was granted to it, and what it ran.
const WHO: [&str; 5] = ["current_user", "session_user", "enabled_roles", "role_table_grants", "pg_stat_statements"];

fn asks_who(entry: &Value) -> bool {
    let steps = entry.get("steps").map(ToString::to_string).unwrap_or_default();
    WHO.iter().any(|word| steps.contains(word))
}

/// Where the corpora are; none on a machine that has only this repository.
fn source() -> Option<PathBuf> {
    let told = std::env::var_os("DBGATE_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    told.or(Some(beside)).filter(|folder| folder.join("run_corpus.py").is_file())
}

/// A copy in which the port that some statements name is the one of this run.
fn copy(source: &Path, port: u16) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("dbgate-corpus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    for entry in std::fs::read_dir(source).expect("corpora") {
        let path = entry.expect("entry").path();
        let to = folder.join(path.file_name().expect("name"));
        if path.extension().is_some_and(|kind| kind == "jsonl") {
            let text = std::fs::read_to_string(&path).expect("text").replace("54915", &port.to_string());
            // Some entries are scripts of a Python driver, kept in a module of its own.
            let has_scripts = source.join("legit_py.py").is_file();
            let kept = text.lines().filter(|line| has_scripts || !line.contains("\"driver\": \"psycopg"));
            std::fs::write(to, kept.collect::<Vec<_>>().join("\n")).expect("copied");
        } else if path.is_file() {
            std::fs::copy(&path, to).expect("copied");
        }
    }
    folder
}

/// The same attacks in another protocol: `extended` or `binary` in place of `simple`.
fn in_protocol(folder: &Path, attacks: &str, protocol: &str) -> PathBuf {
    let text = std::fs::read_to_string(folder.join(format!("{attacks}_attacks.jsonl"))).expect("text");
    let is_one = |line: &&str| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let steps = entry.get("steps").and_then(Value::as_array).expect("steps");
        let is_single = |step: &Value| step.get("sql").and_then(Value::as_str).is_some_and(|sql| !sql.contains(';'));
        steps.iter().all(is_single) && line.contains("\"proto\": \"simple\"")
    };
    let changed = text
        .lines()
        .filter(is_one)
        .map(|line| line.replace("\"proto\": \"simple\"", &format!("\"proto\": \"{protocol}\"")));
    let file = folder.join(format!("{attacks}_{protocol}.jsonl"));
    std::fs::write(&file, changed.collect::<Vec<_>>().join("\n")).expect("written");
    file
}

/// The columns that are to be masked, as `classification.toml`.
fn classification(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("masking_policy.json")).expect("policy");
    let policy: Value = serde_json::from_str(&text).expect("JSON");
    let listed = policy.get("listed").and_then(Value::as_array).expect("a list");
    let entry = |name: &Value| format!("[[column]]\nmatch = {name}\ntags = [\"listed\"]\n\n");
    listed.iter().map(entry).collect()
}

struct Rig {
    cluster: Cluster,
    folder: PathBuf,
    gate: Gate,
    through: String,
    /// A session's role, straight at the target: what PostgreSQL alone holds.
    past: String,
    /// Holds the grants in the template, from which the target is made again and again.
    template: Gate,
}

impl Rig {
    async fn start(source: &Path) -> Self {
        let parameters = [
            ("wal_level", "logical"),
            ("max_prepared_transactions", "10"),
            ("max_connections", "200"),
            ("shared_preload_libraries", "pg_stat_statements"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ];
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let installation = Installation::find().expect("PostgreSQL server programs");
        let cluster =
            Cluster::start(&installation, "corpus", &Settings { parameters, ..Settings::default() }).expect("cluster");
        let folder = copy(source, cluster.port());
        let rig = |sql: &str| psql(&cluster, sql);
        rig("create role rt_super superuser login password 'rt_super_pw'");
        let mut load = Command::new("bash");
        load.arg(folder.join("load.sh")).arg("rt_tpl").envs(environment(&cluster));
        assert!(load.status().expect("load.sh").success());
        let classification = classification(&folder);
        let policy = [("classification.toml", classification.as_str()), ("masks.cedar", RULES)];
        // The target is re-created from the template, so the template is what is prepared.
        let template =
            Place { cluster: &cluster, database: "rt_tpl".into(), sql: "", target: "rt_tpl", policy: &policy };
        let template_gate = Gate::before(&template, "http://127.0.0.1:1", "").await;
        template_gate.grant_as("engineer@example.com", Access::Write, 8 * 3600).await;
        let scope = scope_role(&cluster).await;
        rig(&format!("create role jit_past login password 'jit_past_pw' in role {scope}"));
        rig(&format!("alter role jit_past set role = '{scope}'"));
        rig("create database rt_target template rt_tpl");
        let place = Place { database: "rt_target".into(), target: "rt_target", ..template };
        let gate = Gate::before(&place, "http://127.0.0.1:1", "").await;
        let grant = gate.grant_as("engineer@example.com", Access::Write, 8 * 3600).await;
        let through = format!(
            "postgres://{}:{}@{}:{}/{}",
            grant.user,
            grant.password.expose(),
            grant.gateway.host,
            grant.gateway.port,
            grant.wire_database
        );
        let past = format!("postgres://jit_past:jit_past_pw@127.0.0.1:{}/rt_target", cluster.port());
        Self { cluster, folder, gate, through, past, template: template_gate }
    }

    /// Runs one corpus and answers with its summary.
    async fn run(&self, corpus: &str, through: &str, name: &str, more: &[&str]) -> Value {
        let details = self.folder.join(format!("{name}.out"));
        let admin = format!("postgres://rt_super:rt_super_pw@127.0.0.1:{}/rt_target", self.cluster.port());
        let mut command = tokio::process::Command::new("python3");
        command.arg(self.folder.join("run_corpus.py")).args(["--corpus", corpus, "--dsn", through]);
        command.args(["--admin-dsn", &admin, "--details"]).arg(&details);
        if let Ok(only) = std::env::var("DBGATE_CORPUS_ONLY") {
            command.args(["--only", &only]);
        }
        command.args(more);
        let output = command.output().await.expect("python3");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        println!("{name}: {text}\ndetails: {}", details.display());
        serde_json::from_str(&text).expect("a summary")
    }

    /// Holds everything open until the file with the addresses is removed.
    async fn keep(&self) {
        let file = self.folder.join("addresses");
        let admin = format!("postgres://rt_super:rt_super_pw@127.0.0.1:{}/rt_target", self.cluster.port());
        std::fs::write(&file, format!("{}\n{}\n{admin}\n", self.through, self.past)).expect("written");
        println!("addresses through and past the gate, and of the superuser: {}", file.display());
        while file.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }

    /// The honest statements that ask who the session is, each beside what the session's own role is
    /// told straight at the target: another role is somebody else.
    async fn run_own(&self) {
        let text = std::fs::read_to_string(self.folder.join("legit.jsonl")).expect("text");
        let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let mut all = String::new();
        for entry in entries.filter(asks_who) {
            let only = format!("^{}$", entry.get("id").and_then(Value::as_str).expect("an id"));
            // It waits for its next session, which is the one that is run, and could not sign in by itself.
            let role = ask(&self.through, "select session_user");
            psql(&self.cluster, &format!("alter role {role} login password 'own_pw'"));
            let own = format!("postgres://{role}:own_pw@127.0.0.1:{}/rt_target", self.cluster.port());
            self.run("legit", &self.through, "own", &["--direct-dsn", &own, "--only", &only, "--no-restore"]).await;
            all += &std::fs::read_to_string(self.folder.join("own.out")).expect("details");
        }
        std::fs::write(self.folder.join("own.out"), all).expect("written");
    }

    /// What went wrong in a run, an entry each. Past the gate, functions with their owner's rights
    /// are what the threat model names as held by the gate alone. An entry may find what an earlier one
    /// was allowed to change: the runner restores only after what was not.
    fn wrong(&self, kind: &str) -> Vec<String> {
        let lines = |file: &str| -> Vec<Value> {
            let text = std::fs::read_to_string(self.folder.join(file)).expect("details");
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
        };
        let text = |entry: &Value, name: &str| entry.get(name).map(ToString::to_string).unwrap_or_default();
        let list = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let attacks = lines("guard_attacks.jsonl");
        let allowed: Vec<Value> = attacks.iter().flat_map(|attack| list(attack, "allow_changed")).collect();
        let is_fine = |entry: &Value| match entry.get("outcome").and_then(Value::as_str).unwrap_or_default() {
            "breach" => {
                list(entry, "bad").is_empty() && list(entry, "changed").iter().all(|name| allowed.contains(name))
            }
            "leak" | "inferred" | "landed" => {
                kind == "past" && text(entry, "sql").contains("secdef") | text(entry, "sql").contains("lookup_email")
            }
            _ => true,
        };
        let details = lines(&format!("{kind}.out"));
        let bad = details.iter().filter(|entry| !is_fine(entry));
        bad.map(|entry| format!("{kind} {} {} {}", text(entry, "id"), text(entry, "outcome"), text(entry, "sql")))
            .collect()
    }

    /// What honest statements are answered. Refusing wholesale is not a pass.
    fn honest(&self) -> Option<String> {
        let lines = |file: &str| -> Option<Vec<Value>> {
            let text = std::fs::read_to_string(self.folder.join(file)).ok()?;
            Some(text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect())
        };
        let id = |entry: &Value| entry.get("id").map(ToString::to_string).unwrap_or_default();
        let (mut all, own) = (lines("legit.out")?, lines("own.out").unwrap_or_default());
        all.retain(|entry| own.iter().all(|other| id(other) != id(entry)));
        all.extend(own);
        let differing: Vec<_> =
            all.iter().filter(|entry| entry.get("outcome").and_then(Value::as_str) != Some("pass")).map(id).collect();
        let alike = all.len() - differing.len();
        let told =
            format!("{alike} of {} honest statements are answered as without the gate, not {differing:?}", all.len());
        println!("{told}");
        (alike * 1000 < all.len() * LEAST_HONEST).then_some(told)
    }

    async fn stop(self) {
        self.gate.stop().await;
        self.template.stop().await;
    }
}

fn environment(cluster: &Cluster) -> Vec<(String, String)> {
    let pairs = [
        ("PGHOST", "127.0.0.1".to_owned()),
        ("PGPORT", cluster.port().to_string()),
        ("PGUSER", "postgres".to_owned()),
        ("PGPASSWORD", cluster.password().expose().to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The one scope role there is.
async fn scope_role(cluster: &Cluster) -> String {
    let (client, connection) = cluster.superuser("rt_tpl").connect(tokio_postgres::NoTls).await.expect("superuser");
    tokio::spawn(connection);
    let sql = "select rolname::text from pg_roles where rolname like 'dbgate_s\\_%' and rolname <> 'dbgate_sessions'";
    client.query_one(sql, &[]).await.expect("one scope role").get(0)
}

/// One value, by an address.
fn ask(address: &str, sql: &str) -> String {
    let output = Command::new("psql").args(["-XAtq", address, "-c", sql]).output().expect("psql");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn psql(cluster: &Cluster, sql: &str) {
    psql_in(cluster, "postgres", sql);
}

fn psql_in(cluster: &Cluster, database: &str, sql: &str) {
    let mut command = Command::new("psql");
    command.args(["-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", database, "-c", sql]);
    command.envs(environment(cluster));
    assert!(command.status().expect("psql").success(), "{sql}");
}

/// A leak is there the second time too. What is not: digits that by chance are somebody's, in the times that
/// `pg_stat_statements` has measured; those it measures anew are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_masked_leaks_nothing_dangerous_passes_and_honest_statements_work() {
    let Some(source) = source() else {
        println!("no corpora beside this repository: nothing to run");
        return;
    };
    let rig = Rig::start(&source).await;
    let kinds = std::env::var("DBGATE_CORPUS_KINDS")
        .unwrap_or_else(|_| "mask extended binary past guard guard-extended legit own".into());
    let mut wrong = Vec::new();
    for kind in kinds.split(' ') {
        if kind == "keep" {
            rig.keep().await;
            continue;
        }
        let direct = format!("postgres://engineer:engineer_pw@127.0.0.1:{}/rt_target", rig.cluster.port());
        let more: Vec<&str> = match kind {
            "guard" | "guard-extended" => vec!["--wait", "6"],
            "legit" => vec!["--direct-dsn", &direct],
            _ => Vec::new(),
        };
        let (corpus, through) = match kind {
            "extended" | "binary" => {
                (in_protocol(&rig.folder, "mask", kind).to_string_lossy().into_owned(), &rig.through)
            }
            "guard-extended" => {
                (in_protocol(&rig.folder, "guard", "extended").to_string_lossy().into_owned(), &rig.through)
            }
            "past" => ("mask".to_owned(), &rig.past),
            _ => (kind.to_owned(), &rig.through),
        };
        match kind {
            "own" => rig.run_own().await,
            _ => drop(rig.run(&corpus, through, kind, &more).await),
        }
        let mut found = rig.wrong(kind);
        if !found.is_empty() && matches!(kind, "mask" | "extended" | "binary" | "past") {
            println!("once more: {found:?}");
            psql_in(&rig.cluster, "rt_target", "select pg_stat_statements_reset()");
            let only = found.iter().filter_map(|entry| entry.split('"').nth(1)).collect::<Vec<_>>().join("|");
            rig.run(&corpus, through, kind, &["--only", &format!("^({only})$")]).await;
            found = rig.wrong(kind);
        }
        wrong.extend(found);
    }
    wrong.extend(rig.honest());
    rig.stop().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
