//! Every known hole, made on purpose: the doctor names it, what it prints closes it, and then it
//! is silent.

use std::path::PathBuf;

use dbgate::demo::postgres::{Cluster, Installation, Settings};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use crate::support::dbgate::{Program, feed, said};
use crate::support::gate::{self, Place};

/// A hole: how it is made, what is said of it, and what closes it where no printed statement does.
struct Hole {
    code: &'static str,
    object: &'static str,
    make: &'static str,
    close: Option<&'static str>,
    /// Takes away what the hole was made with.
    clear: &'static str,
}

const fn hole(code: &'static str, object: &'static str, make: &'static str, clear: &'static str) -> Hole {
    Hole { code, object, make, close: None, clear }
}

const SHOP: &str = "
    create table customers (id int primary key, name text, email text, ssn text);
    create table trail (at timestamptz default now(), what text);
    create table secret_kept (id int);
    create schema app;
    insert into customers values (1, 'Ana', 'ana@example.com', '123-45-6789')";

const CLASSIFICATION: &str = "
    [[column]]
    match = \"public.customers.email\"
    tags = [\"pii\", \"email\"]
    [[column]]
    match = \"public.customers.ssn\"
    tags = [\"pii\"]
    [[column]]
    match = \"public.looked_at.*\"
    tags = []
";

/// Makes the role of a scope.
macro_rules! scope {
    () => {
        "create role dbgate_s_0123456789abcdef; comment on role dbgate_s_0123456789abcdef is \
         'dbgate scope 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef in doctored'; "
    };
}

const HOLES: [Hole; 47] = [
    hole(
        "definer_function",
        "public.by_definer(i integer)",
        "create function by_definer(i int) returns text language sql security definer as 'select email from customers where id = i'",
        "drop function by_definer",
    ),
    hole(
        "definer_function",
        "public.do_it()",
        "create procedure do_it() language sql security definer as 'delete from trail'",
        "drop procedure do_it",
    ),
    hole(
        "detail_function",
        "public.careful()",
        "create function careful() returns text language plpgsql as 'declare d text; begin return 1 / 0; \
         exception when others then get stacked diagnostics d = pg_exception_detail; return d; end'",
        "drop function careful",
    ),
    Hole {
        code: "policy_tells",
        object: "public.customers",
        make: "alter table customers enable row level security; \
               create policy few on customers using (ssn < current_setting('app.max', true))",
        close: Some("drop policy few on customers; alter table customers disable row level security"),
        clear: "",
    },
    hole("public_relation", "public.trail", "grant select on trail to public", ""),
    hole(
        "public_relation",
        "public.numbers",
        "create sequence numbers; grant usage on sequence numbers to public",
        "drop sequence numbers",
    ),
    hole("public_column", "public.customers.ssn", "grant select (ssn) on customers to public", ""),
    hole("public_schema", "app", "grant create on schema app to public", ""),
    hole("public_database", "doctored", "grant create on database doctored to public", ""),
    hole(
        "public_default",
        "TABLES of postgres in public",
        "alter default privileges in schema public grant select on tables to public",
        "",
    ),
    hole("public_default", "TABLES of postgres", "alter default privileges grant select on tables to public", ""),
    hole("database_link", "dblink", "create extension dblink", "drop extension dblink"),
    hole(
        "foreign_server",
        "elsewhere",
        "create extension postgres_fdw; create server elsewhere foreign data wrapper postgres_fdw; grant usage on foreign server elsewhere to public",
        "drop extension postgres_fdw cascade",
    ),
    hole(
        "foreign_wrapper",
        "postgres_fdw",
        "create extension postgres_fdw; grant usage on foreign data wrapper postgres_fdw to public",
        "drop extension postgres_fdw cascade",
    ),
    hole(
        "user_mapping",
        "PUBLIC on elsewhere",
        "create extension postgres_fdw; create server elsewhere foreign data wrapper postgres_fdw; create user mapping for public server elsewhere",
        "drop extension postgres_fdw cascade",
    ),
    hole("server_files", "pg_catalog.pg_read_file(text)", "grant execute on function pg_read_file(text) to public", ""),
    hole("large_object", "large objects", "grant execute on function lo_from_bytea(oid, bytea) to public", ""),
    hole(
        "open_large_object",
        "large object 424242",
        "select lo_create(424242); grant select on large object 424242 to public",
        "select lo_unlink(424242)",
    ),
    hole(
        "untrusted_function",
        "public.anything()",
        "create language wild handler plpgsql_call_handler; \
         create function anything() returns int language wild as 'begin return 1; end'",
        "drop language wild cascade",
    ),
    Hole {
        code: "trigger_unread",
        object: "told on public.customers",
        make: "create function tell() returns trigger language plpgsql as 'begin execute ''select 1''; return new; end'; \
               create trigger told before update on customers for each row execute function tell()",
        close: Some("drop trigger told on customers"),
        clear: "drop function tell",
    },
    hole("procedural_language", "plpgsql", "grant usage on language plpgsql to public", ""),
    hole("runs_text", "functions that run text", "create extension tablefunc", "drop extension tablefunc"),
    hole("broker_superuser", "dbgate_broker", "alter role dbgate_broker superuser", ""),
    hole("broker_attributes", "dbgate_broker", "alter role dbgate_broker bypassrls", ""),
    hole("broker_membership", "dbgate_broker", "grant pg_execute_server_program to dbgate_broker", ""),
    hole("broker_rights", "dbgate_broker", "revoke pg_signal_backend from dbgate_broker", ""),
    hole(
        "broker_grants",
        "schema app",
        "create table app.t (id int); revoke all on app.t from dbgate_broker",
        "drop table app.t",
    ),
    hole(
        "default_grants",
        "owner in schema app",
        "create role owner; grant create on schema app to owner; set role owner; create table app.t (id int); reset role; \
         grant select on app.t to dbgate_masker; grant select on app.t to dbgate_broker with grant option; \
         alter default privileges for role owner in schema app grant all on tables to dbgate_broker with grant option; \
         alter default privileges for role owner in schema app grant all on sequences to dbgate_broker with grant option",
        "drop owned by owner; drop role owner",
    ),
    Hole {
        code: "not_ours",
        object: "dbgate_s_mine",
        make: "create role dbgate_s_mine",
        close: Some("drop role dbgate_s_mine"),
        clear: "",
    },
    hole("masker_grants", "schema public", "revoke select on trail from dbgate_masker", ""),
    hole("masker_schema", "dbgate_m_views", "drop schema dbgate_m_views cascade", ""),
    hole("masker_attributes", "dbgate_masker", "alter role dbgate_masker bypassrls", ""),
    hole("masker_membership", "dbgate_masker", "grant pg_read_all_data to dbgate_masker", ""),
    hole(
        "masker_owns",
        "public.trail",
        "alter table trail owner to dbgate_masker",
        "grant select, insert, update, delete on trail to dbgate_broker with grant option; grant select on trail to dbgate_masker",
    ),
    hole("sessions_membership", "dbgate_sessions", "grant pg_read_all_data to dbgate_sessions", ""),
    hole("sessions_grant", "public.trail", "grant select on trail to dbgate_sessions", ""),
    hole("sessions_grant", "public.trail.what", "grant select (what) on trail to dbgate_sessions", ""),
    Hole {
        code: "scope_grant",
        object: "public.trail",
        make: concat!(scope!(), "grant insert (what) on trail to dbgate_s_0123456789abcdef"),
        close: None,
        clear: "drop owned by dbgate_s_0123456789abcdef; drop role dbgate_s_0123456789abcdef",
    },
    Hole {
        code: "scope_grant",
        object: "schema public",
        make: concat!(scope!(), "grant create on schema public to dbgate_s_0123456789abcdef"),
        close: None,
        clear: "drop owned by dbgate_s_0123456789abcdef; drop role dbgate_s_0123456789abcdef",
    },
    Hole {
        code: "scope_membership",
        object: "dbgate_s_0123456789abcdef",
        make: concat!(scope!(), "grant pg_monitor to dbgate_s_0123456789abcdef"),
        close: None,
        clear: "drop owned by dbgate_s_0123456789abcdef; drop role dbgate_s_0123456789abcdef",
    },
    Hole {
        code: "row_security",
        object: "public.trail",
        make: "alter table trail enable row level security; create policy own on trail using (what = current_user)",
        close: Some("drop policy own on trail"),
        clear: "alter table trail disable row level security",
    },
    hole("track_counts", "database doctored", "alter database doctored set track_counts = off", ""),
    hole("large_object_rights", "lo_compat_privileges", "alter database doctored set lo_compat_privileges = on", ""),
    hole(
        "event_trigger",
        "app.noted()",
        "create function app.noted() returns event_trigger language plpgsql as 'begin end'; \
         create event trigger noting on ddl_command_end execute function app.noted()",
        "drop event trigger noting; drop function app.noted()",
    ),
    hole("password_encryption", "password_encryption", "alter database doctored set password_encryption = md5", ""),
    Hole {
        code: "trigger_says",
        object: "told on public.customers",
        make: "create function tell() returns trigger language plpgsql as 'begin raise notice ''%'', new.email; return new; end'; \
               create trigger told before update on customers for each row execute function tell()",
        close: Some("create or replace function tell() returns trigger language plpgsql as 'begin return new; end'"),
        clear: "drop trigger told on customers; drop function tell",
    },
    Hole {
        code: "trigger_notifies",
        object: "told on public.customers",
        make: "create function tell() returns trigger language plpgsql as 'begin perform pg_notify(''c'', new.email); return new; end'; \
               create trigger told before update on customers for each row execute function tell()",
        close: Some("drop trigger told on customers"),
        clear: "drop function tell",
    },
];

/// Holes that a line of `classification.toml` closes.
const IN_CLASSIFICATION: [Hole; 4] = [
    hole(
        "trigger_writes",
        "kept on public.customers",
        "create function keep() returns trigger language plpgsql as 'begin insert into trail (what) values (new.email); return new; end'; \
         create trigger kept before update on customers for each row execute function keep()",
        "drop trigger kept on customers; drop function keep",
    ),
    hole(
        "materialized_view",
        "public.copies",
        "create materialized view copies as select id, email as e from customers",
        "drop materialized view copies",
    ),
    hole(
        "foreign_table",
        "public.afar",
        "create extension file_fdw; create server files foreign data wrapper file_fdw; \
         create foreign table afar (line text) server files options (filename '/dev/null')",
        "drop extension file_fdw cascade",
    ),
    hole(
        "unclassified",
        "public.customers.phone",
        "alter table customers add phone text",
        "alter table customers drop phone",
    ),
];

struct Bench {
    cluster: Cluster,
    folder: PathBuf,
    program: Program,
    superuser: Client,
}

impl Bench {
    async fn make() -> Self {
        let installation = Installation::find().expect("PostgreSQL server programs");
        let cluster = Cluster::start(&installation, "doctor", &Settings::default()).expect("a cluster");
        let connect = async |database: &str| {
            let (client, connection) = cluster.superuser(database).connect(NoTls).await.expect("superuser connects");
            tokio::spawn(connection);
            client
        };
        connect("postgres").await.batch_execute("create database doctored").await.expect("a database");
        let policy = [("classification.toml", CLASSIFICATION)];
        let place =
            Place { cluster: &cluster, database: "doctored".into(), sql: SHOP, target: "demo", policy: &policy };
        let folder = gate::prepared(&place, "http://127.0.0.1:1", "").await;
        let superuser = connect("doctored").await;
        Self { cluster, folder, program: Program::new(), superuser }
    }

    /// Every finding but the one that PostgreSQL before 16 cannot be cured of.
    async fn findings(&self) -> (i32, Vec<Value>) {
        let config = self.folder.join("server.toml").display().to_string();
        let dsn = self.folder.join("superuser").display().to_string();
        let arguments = ["doctor", "demo", "--format", "json", "--accept", "createrole_before_16", "--config", &config];
        let mut command = self.program.command(&arguments);
        command.args(["--superuser-dsn-file", &dsn]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let member = |name: &str| answer.get(name).unwrap_or_else(|| panic!("{name}: {answer}"));
        assert_eq!(member("unseen"), &serde_json::json!([]), "{answer}");
        assert_eq!(member("schema"), "dbgate.doctor/1");
        (output.status.code().expect("ended"), member("findings").as_array().expect("a list").clone())
    }

    async fn run(&self, sql: &str) {
        // One statement at a time: ALTER SYSTEM takes no company.
        for statement in split(sql) {
            self.superuser.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        }
    }

    async fn is_silent(&self, after: &str) {
        assert_eq!(self.findings().await, (0, vec![]), "after {after}");
    }
}

/// At semicolons that are not inside a function's body.
fn split(sql: &str) -> Vec<&str> {
    let mut quoted = false;
    let statements = sql.split(|letter| {
        quoted ^= letter == '\'';
        letter == ';' && !quoted
    });
    statements.map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

fn fixes(finding: &Value, member: &str) -> Vec<String> {
    let list = finding.get(member).and_then(Value::as_array).expect("a list");
    list.iter().map(|line| line.as_str().expect("text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_known_hole_is_named_and_closed_by_what_is_printed() {
    let bench = Bench::make().await;
    let (exit, found) = bench.findings().await;
    assert_eq!(exit, 8);
    let codes: Vec<&str> = found.iter().map(|finding| finding["code"].as_str().expect("text")).collect();
    assert_eq!(codes, ["large_object", "procedural_language", "runs_text"], "a fresh database: {found:#?}");
    for finding in &found {
        bench.run(&fixes(finding, "sql").join(";")).await;
    }
    bench.is_silent("what a fresh database has").await;
    for hole in &HOLES {
        bench.run(hole.make).await;
        let (exit, found) = bench.findings().await;
        let [finding] = found.as_slice() else { panic!("{}: {found:#?}", hole.make) };
        assert_eq!(
            (exit, finding["code"].as_str(), finding["object"].as_str()),
            (8, Some(hole.code), Some(hole.object))
        );
        match hole.close {
            Some(sql) => bench.run(sql).await,
            None => bench.run(&fixes(finding, "sql").join(";")).await,
        }
        bench.is_silent(hole.make).await;
        bench.run(hole.clear).await;
    }
    bench.is_silent("everything").await;
    std::fs::remove_dir_all(&bench.folder).expect("folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_statements_cannot_close_lines_of_a_file_do() {
    let bench = Bench::make().await;
    for finding in &bench.findings().await.1 {
        bench.run(&fixes(finding, "sql").join(";")).await;
    }
    let file = bench.folder.join("policy/classification.toml");
    for hole in &IN_CLASSIFICATION {
        bench.run(hole.make).await;
        let (_, found) = bench.findings().await;
        let [finding] = found.as_slice() else { panic!("{}: {found:#?}", hole.make) };
        assert_eq!((finding["code"].as_str(), finding["object"].as_str()), (Some(hole.code), Some(hole.object)));
        std::fs::write(&file, format!("{CLASSIFICATION}\n{}", fixes(finding, "lines").join("\n"))).expect("written");
        bench.is_silent(hole.make).await;
        std::fs::write(&file, CLASSIFICATION).expect("written");
        bench.run(hole.clear).await;
    }
    // A rule closes what nothing in the database can.
    for (make, through, clear) in [
        (
            "create unique index guessed on customers (lower(email))",
            "INSERT INTO public.customers",
            "drop index guessed",
        ),
        (
            "alter table customers add constraint told unique (ssn); \
             create table claims (id int, ssn_of text references customers (ssn))",
            "INSERT INTO public.claims",
            "drop table claims; alter table customers drop constraint told",
        ),
        (
            "alter table customers add constraint compared check (length(ssn) < 100 or name <> email)",
            "UPDATE public.customers",
            "alter table customers drop constraint compared",
        ),
    ] {
        bench.run(make).await;
        let (_, found) = bench.findings().await;
        let own = found.iter().filter(|one| one["code"] == "unique_guess");
        let (ways, rules): (Vec<String>, Vec<String>) =
            own.map(|one| (one["detail"].to_string(), fixes(one, "lines").join("\n"))).unzip();
        assert!(ways.iter().any(|way| way.contains(through)), "{make}: {found:#?}");
        let rest: Vec<&Value> = found.iter().filter(|one| one["code"] != "unique_guess").collect();
        let rule = bench.folder.join("policy/guess.cedar");
        std::fs::write(&rule, rules.join("\n")).expect("written");
        assert_eq!(bench.findings().await.1.iter().collect::<Vec<_>>(), rest, "{make}");
        std::fs::remove_file(rule).expect("gone");
        bench.run(clear).await;
    }
    let hba = bench.cluster.folder().join("data/pg_hba.conf");
    let usual = std::fs::read_to_string(&hba).expect("pg_hba.conf");
    let open = "host all all 0.0.0.0/0 scram-sha-256";
    let named = "host all app 0.0.0.0/0 scram-sha-256";
    let closed = "host all dbgate_broker,+dbgate_sessions 127.0.0.1/32 scram-sha-256\n\
                  host all dbgate_broker,+dbgate_sessions all reject";
    for (lines, codes) in [
        (open.to_owned(), vec!["hba_direct", "hba_open"]),
        (format!("{closed}\n{named}"), vec![]),
        ("local all nobody trust".to_owned(), vec!["hba_trust"]),
        ("host all all nonsense/99 scram-sha-256".to_owned(), vec!["hba_error"]),
    ] {
        std::fs::write(&hba, format!("{lines}\n{usual}")).expect("written");
        let (_, found) = bench.findings().await;
        assert_eq!(found.iter().map(|one| one["code"].as_str().expect("text")).collect::<Vec<_>>(), codes, "{lines}");
    }
    std::fs::remove_dir_all(&bench.folder).expect("folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_itself_can_ask_and_is_told_what_it_may_not_see() {
    let bench = Bench::make().await;
    bench.run("create function by_definer() returns int language sql security definer as 'select 1'").await;
    let config = bench.folder.join("server.toml").display().to_string();
    let run = async |more: &[&str]| {
        let mut command = bench.program.command(&["doctor", "demo", "--config", &config]);
        command.args(more);
        tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("runs")
    };
    let output = run(&[]).await;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(8), "{text}");
    for expected in [
        "HOLE  definer_function  public.by_definer() (owner postgres)\n",
        "    REVOKE EXECUTE ON ROUTINE public.by_definer() FROM PUBLIC;\n",
        "not looked at  pg_hba.conf: permission denied",
        "demo (doctored): holes 1, weaknesses ",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let output = run(&["--accept", "definer_function=public.by_definer()", "--format", "json"]).await;
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["accepted"][0]["code"], "definer_function");
    let output = run(&["--sql"]).await;
    let sql = String::from_utf8(output.stdout).expect("text");
    assert!(sql.lines().all(|line| line.ends_with(';')) && sql.contains("by_definer"), "{sql}");
    bench.run(&sql).await;
    let output = run(&["--accept", "createrole_before_16"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    std::fs::remove_dir_all(&bench.folder).expect("folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_get_in_is_told_what_helps_in_that_case() {
    let program = Program::new();
    let home = program.home();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(home.join("ca.pem"), made.cert.pem()).expect("written");
    let (open, superuser) = (gate::cluster().port(), gate::cluster().password().expose());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let nobody = ("nobody_made_it", "x");
    for (address, (user, password), told) in [
        (format!("127.0.0.1 port={closed} dbname=x sslmode=disable"), nobody, "Is PostgreSQL running there?"),
        ("nowhere.invalid dbname=x sslmode=disable".to_owned(), nobody, "Check `host`"),
        (format!("127.0.0.1 port={open} dbname=nowhere sslmode=disable"), ("postgres", superuser), "Correct `dbname`"),
        (format!("127.0.0.1 port={open} dbname=postgres sslrootcert=ca.pem"), nobody, "`sslrootcert` in `dsn`"),
        (
            format!("127.0.0.1 port={open} dbname=postgres sslmode=disable"),
            nobody,
            "Prepare it with: dbgate target init shop --apply --superuser-dsn-file FILE",
        ),
    ] {
        let text = format!(
            "version = 1\n[server]\npublic_url = \"http://127.0.0.1:8480\"\napi_listen = \"127.0.0.1:0\"\n\
             wire_listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n\
             [[identity.oidc]]\nissuer = \"http://127.0.0.1:1\"\nclient_id = \"c\"\n\
             [[targets]]\nname = \"shop\"\nenvironment = \"production\"\ndsn = \"host={address}\"\ninsecure = true\n\
             admin = {{ user = \"{user}\", password_file = \"password\" }}\npack = \"production\"\n",
        );
        let file = home.join("server.toml").display().to_string();
        std::fs::write(&file, text).expect("written");
        std::fs::write(home.join("password"), password).expect("written");
        let output = feed(program.command(&["doctor", "shop", "--config", &file]), "").await;
        let shown = said(&output);
        assert_eq!(output.status.code(), Some(2), "{address}: {shown}");
        assert!(shown.lines().last().is_some_and(|hint| hint.contains(told)), "{address}: {shown}");
        assert!(!shown.contains("NAME") && (shown.contains("init") == (told.contains("init"))), "{address}: {shown}");
    }
}
