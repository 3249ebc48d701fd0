//! A broker and gateway in this process, in front of a database of the test's own.
//!
//! One PostgreSQL cluster serves all tests of a run; every test has a database, a policy folder
//! and a data folder of its own.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use dbgate::cli::target::{InitArguments, TargetArguments, TargetCommand};
use dbgate::cli::whoami::Form;
use dbgate::core::api::{GrantAnswer, GrantRequest};
use dbgate::core::audit::verify::verify_bytes;
use dbgate::core::audit::{Outcome, VerifierKey};
use dbgate::core::encoding;
use dbgate::core::grant::{Access, SessionId};
use dbgate::core::identity::{Declared, Identity, Kind};
use dbgate::core::time::Moment;
use dbgate::demo::postgres::{Cluster, Installation, Settings};
use dbgate::server::config::Config;
use dbgate::server::grants::issue;
use dbgate::server::http::refusal::Refusal;
use dbgate::server::run::{self, Running};
use dbgate::sys::{files, random};
use serde_json::Value;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls};

/// A small shop with everything that the rules are about.
pub const SHOP: &str = "
create table customers (id int primary key, name text not null, email text, ssn text, status text not null default 'active');
create table orders (id int primary key, customer_id int not null references customers on delete cascade, amount numeric(10,2));
create table audit_trail (at timestamptz default now(), what text);
insert into customers select i, 'name '||i, 'user'||i||'@example.com', '123-45-'||lpad(i::text,4,'0'),
  case when i % 2 = 0 then 'idle' else 'active' end from generate_series(1,1000) i;
insert into orders select i, 1+(i-1)%1000, i from generate_series(1,3000) i;
create view active_names as select id, name from customers where status='active';
create function touch_all() returns int language sql volatile as 'update orders set amount = amount; select 1';
create function shout(text) returns text language sql immutable as 'select upper($1)';
analyze;
";

const CLASSIFICATION: &str = "
[[column]]
match = \"public.customers.email\"
tags = [\"pii\", \"email\"]

[[column]]
match = \"public.customers.ssn\"
tags = [\"pii\"]
";

/// A policy that lets everything through but for a limit that a small table goes beyond.
pub const AT_MOST_100: &str = r#"
@id("all")
permit (principal, action, resource);

@id("at-most-100")
forbid (principal, action in [Action::"insert", Action::"update", Action::"delete"], resource)
when { context has impact && context.impact.rows > 100 };
"#;

/// The policy folder of most tests.
pub const POLICY: [(&str, &str); 1] = [("classification.toml", CLASSIFICATION)];

/// The cluster of this run.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let installation = Installation::find().expect("PostgreSQL server programs");
        let parameters = [("wal_level", "logical"), ("max_prepared_transactions", "10"), ("max_connections", "200")];
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Cluster::start(&installation, "test", &Settings { parameters, ..Settings::default() }).expect("a cluster")
    })
}

/// Roles belong to the whole cluster: making and preparing them is one test at a time.
pub static PREPARING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The broker's password: one role for the cluster, and so one password for all tests.
pub const BROKER_PASSWORD: &str = "broker password of the test run";

/// A superuser's connection.
pub async fn superuser(database: &str) -> Client {
    let (client, connection) = cluster().superuser(database).connect(NoTls).await.expect("superuser connects");
    tokio::spawn(connection);
    client
}

/// What a gate stands in front of, where it is not a database of the shared cluster.
pub struct Place<'a> {
    pub cluster: &'a Cluster,
    /// Exists and is prepared already where there is no `sql`.
    pub database: String,
    pub sql: &'a str,
    pub target: &'a str,
    /// Files of the policy folder; the pack `production` adds its rules.
    pub policy: &'a [(&'a str, &'a str)],
}

/// A connection through the gate.
pub type Dialled = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <tokio_postgres_rustls::MakeRustlsConnect as MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// A gate with its database.
pub struct Gate {
    pub running: Running,
    pub database: String,
    pub target: String,
    pub folder: PathBuf,
}

impl Gate {
    /// Starts one over a database made by `sql`.
    pub async fn start(sql: &str) -> Self {
        Self::start_for(sql, "http://127.0.0.1:1").await
    }

    /// The same, for people who sign in at this issuer.
    pub async fn start_for(sql: &str, issuer: &str) -> Self {
        Self::make(sql, issuer, "", &POLICY).await
    }

    /// The same, with more lines at the end of `server.toml`.
    pub async fn start_with(sql: &str, more: &str) -> Self {
        Self::make(sql, "http://127.0.0.1:1", more, &POLICY).await
    }

    /// The same, with other files in the policy folder.
    pub async fn start_under(sql: &str, policy: &[(&str, &str)]) -> Self {
        Self::make(sql, "http://127.0.0.1:1", "", policy).await
    }

    /// The same, with a second target `recorded`, which grants are for: the same database, reached over another port.
    pub async fn start_recorded(sql: &str, port: u16) -> Self {
        let gate = Self::make(sql, "http://127.0.0.1:1", &format!("[recorded]{port}"), &POLICY).await;
        Self { target: "recorded".into(), ..gate }
    }

    /// The same, with more lines in the section `[server]`.
    pub async fn start_server(sql: &str, lines: &str) -> Self {
        Self::make(sql, "http://127.0.0.1:1", &format!("[server-lines]{lines}"), &POLICY).await
    }

    /// For people of this issuer, with more lines at the end of `server.toml`.
    pub async fn make(sql: &str, issuer: &str, more: &str, policy: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("shop_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let guard = PREPARING.lock().await;
        superuser("postgres").await.batch_execute(&format!("create database {database}")).await.expect("database");
        let place = Place { cluster: cluster(), database, sql, target: "demo", policy };
        let gate = Self::before(&place, issuer, more).await;
        drop(guard);
        gate
    }

    /// A gate in front of a database that exists: fills it, prepares it, and starts.
    pub async fn before(place: &Place<'_>, issuer: &str, more: &str) -> Self {
        Self::of(prepared(place, issuer, more).await, place).await
    }

    /// A gate without a built-in pack: the policy folder is the whole policy.
    pub async fn without_pack(database: &str, sql: &str, policy: &[(&str, &str)]) -> Self {
        let guard = PREPARING.lock().await;
        superuser("postgres").await.batch_execute(&format!("create database {database}")).await.expect("database");
        let place = Place { cluster: cluster(), database: database.into(), sql, target: "demo", policy };
        let folder = prepared(&place, "http://127.0.0.1:1", "").await;
        drop(guard);
        drop_pack(&folder);
        Self::of(folder, &place).await
    }

    /// A gate over what [`prepared`] made.
    pub async fn of(folder: PathBuf, place: &Place<'_>) -> Self {
        let running = run::start(Config::load(&folder.join("server.toml")).expect("configuration")).await;
        let running = running.expect("gate starts");
        Self { running, database: place.database.clone(), target: place.target.into(), folder }
    }

    /// A grant for a person of the engineers.
    pub async fn grant(&self, access: Access) -> GrantAnswer {
        self.grant_as("ana@example.com", access, 600).await
    }

    /// A grant for a named person, for so many seconds.
    pub async fn grant_as(&self, who: &str, access: Access, seconds: u64) -> GrantAnswer {
        self.ask(who, access, seconds).await.expect("a grant")
    }

    /// The same, where it may be refused.
    pub async fn ask(&self, who: &str, access: Access, seconds: u64) -> Result<GrantAnswer, Refusal> {
        let identity = Identity {
            kind: Kind::Human,
            subject: who.into(),
            sub: who.into(),
            issuer: "http://127.0.0.1:1".into(),
            groups: vec!["engineers".into()],
            expires: Moment::from_seconds(4_000_000_000),
        };
        let request = GrantRequest {
            target: self.target.clone(),
            database: None,
            access,
            seconds: Some(seconds),
            reason: Some("a test".into()),
            ticket: None,
            declared: Declared::default(),
            proof: None,
        };
        issue::issue(self.running.state(), identity, request).await
    }

    /// A `tokio_postgres` client through the gate.
    pub async fn connect(&self, grant: &GrantAnswer) -> Client {
        self.try_connect(grant, grant.password.expose(), &grant.wire_database).await.expect("connects")
    }

    /// The same, with another password or database.
    pub async fn try_connect(
        &self,
        grant: &GrantAnswer,
        password: &str,
        database: &str,
    ) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.dial(grant, password, database).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A client whose connection is still to be driven, for who wants to hear notices.
    pub async fn open(&self, grant: &GrantAnswer) -> (Client, Dialled) {
        self.dial(grant, grant.password.expose(), &grant.wire_database).await.expect("connects")
    }

    async fn dial(
        &self,
        grant: &GrantAnswer,
        password: &str,
        database: &str,
    ) -> Result<(Client, Dialled), tokio_postgres::Error> {
        let tls = dbgate::sys::tls::client(grant.gateway.ca_pem.as_deref()).expect("TLS");
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new((*tls).clone());
        let mut config = tokio_postgres::Config::new();
        config.host(&grant.gateway.host).port(grant.gateway.port).dbname(database);
        config.user(&grant.user).password(password);
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        config.channel_binding(tokio_postgres::config::ChannelBinding::Require);
        config.connect(tls).await
    }

    /// Roles of sessions in the target right now.
    pub async fn login_roles(&self) -> Vec<String> {
        let sql = "select rolname::text from pg_roles where rolname like 'dbgate_u_%' \
                   and shobj_description(oid, 'pg_authid') like '% in ' || current_database() order by 1";
        let rows = superuser(&self.database).await.query(sql, &[]).await.expect("roles");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The gateway's lines of a session's evidence, which must verify without a finding.
    pub async fn record(&self, grant: &GrantAnswer) -> Vec<Value> {
        let state = self.running.state();
        let session = SessionId::parse(&grant.session_id).expect("an id");
        let (stored, _) = state.store.grant_of_session(&session).await.expect("read").expect("a grant");
        let evidence = state.transcripts.evidence(&stored).await.expect("evidence");
        let key = VerifierKey::parse(&state.log.verifier_key()).expect("a key");
        let report = verify_bytes(evidence.as_bytes(), &[key]);
        assert_eq!((report.outcome(), report.findings.len()), (Outcome::Good, 0), "{:#?}\n{evidence}", report.findings);
        let lines = evidence.lines().filter_map(|line| line.strip_prefix("g "));
        lines.map(|line| serde_json::from_str(line).expect("a line")).collect()
    }

    /// Asks the gate to cancel what a client's session does.
    pub async fn cancel(&self, client: &Client) {
        let tls = dbgate::sys::tls::client(self.running.state().certificates.ca_pem.as_deref()).expect("TLS");
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new((*tls).clone());
        client.cancel_token().cancel_query(tls).await.expect("asked");
    }

    /// One number from the database itself, past the gate.
    pub async fn count(&self, sql: &str) -> i64 {
        superuser(&self.database).await.query_one(sql, &[]).await.expect(sql).get(0)
    }

    /// Stops it and starts it again in the same place, with `server.toml` and policy folder as `edit` leaves them.
    pub async fn restart(self, edit: impl FnOnce(&Path)) -> Self {
        let Self { running, database, target, folder } = self;
        running.stop().await;
        edit(&folder);
        let config = Config::load(&folder.join("server.toml")).expect("configuration");
        let running = run::start(config).await.expect("gate starts again");
        Self { running, database, target, folder }
    }

    /// The same gate, started again with durability `writes`.
    pub async fn hurried(self) -> Self {
        let lines = "\n[audit]\ndurability = \"writes\"\n";
        self.restart(|folder| reconfigure(folder, |text| text + lines)).await
    }

    /// Stops and removes everything.
    pub async fn stop(self) {
        self.running.stop().await;
        std::fs::remove_dir_all(&self.folder).expect("folder");
    }
}

/// Fills the database, writes `server.toml` and prepares the target; answers the folder of it all.
pub async fn prepared(place: &Place<'_>, issuer: &str, more: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("dbgate-gate-{}", encoding::hex(&random::bytes::<8>())));
    write_configuration(&folder, place, issuer, more);
    let (client, connection) =
        place.cluster.superuser(&place.database).connect(NoTls).await.expect("superuser connects");
    tokio::spawn(connection);
    client.batch_execute(place.sql).await.expect("schema");
    let dsn = format!("user=postgres password={}", place.cluster.password().expose());
    files::write_private(&folder.join("superuser"), dsn.as_bytes()).expect("dsn file");
    files::write_private(&folder.join("broker-password"), BROKER_PASSWORD.as_bytes()).expect("password");
    init(place.target, &folder).await;
    folder
}

/// Runs `target init` once more, for the target `demo` of a folder made by [`prepare`].
pub async fn prepare_again(folder: &Path) {
    init("demo", folder).await;
}

async fn init(target: &str, folder: &Path) {
    let init = InitArguments {
        name: target.into(),
        apply: true,
        config: folder.join("server.toml"),
        superuser_dsn_file: Some(folder.join("superuser")),
    };
    let arguments = TargetArguments { command: TargetCommand::Init(init) };
    dbgate::cli::target::run(&arguments, Form::Text).await.expect("target init");
}

/// The first column of every row of a simple query, NULL as `-`.
pub async fn column(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("-").to_owned()),
        _ => None,
    });
    Ok(rows.collect())
}

/// SQLSTATE and message of what must fail.
pub async fn refusal(client: &Client, sql: &str) -> (String, String) {
    let error = client.simple_query(sql).await.expect_err(sql);
    let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// Takes the built-in pack out of what [`prepared`] made.
pub fn drop_pack(folder: &Path) {
    reconfigure(folder, |text| text.replace("pack = \"production\"\n", ""));
}

/// Writes `server.toml` anew.
pub fn reconfigure(folder: &Path, edit: impl FnOnce(String) -> String) {
    let file = folder.join("server.toml");
    let text = std::fs::read_to_string(&file).expect("server.toml");
    std::fs::write(&file, edit(text)).expect("server.toml");
}

fn write_configuration(folder: &Path, place: &Place<'_>, issuer: &str, more: &str) -> PathBuf {
    // A client that nobody answers would be held; tests of approvals say that they are.
    let says_so = more.contains("[approvals") || more.starts_with("[server-lines]") || more.starts_with("[recorded]");
    let more = &if says_so { more.to_owned() } else { format!("{more}\n[approvals]\nenabled = false\n") };
    let policy = folder.join("policy");
    files::make_private_folder(&policy).expect("policy folder");
    for (name, text) in place.policy {
        std::fs::write(policy.join(name), text).expect("policy file");
    }
    let (target, database) = (place.target, &place.database);
    let recorded = more.strip_prefix("[recorded]").map(|port| {
        format!(
            r#"
[[targets]]
name = "recorded"
environment = "production"
dsn = "host=127.0.0.1 port={port} dbname={database} sslmode=disable"
admin = {{ user = "dbgate_broker", password_file = "broker-password" }}
pack = "production"
policy = "policy"
"#
        )
    });
    let more = recorded.as_deref().unwrap_or(more);
    let (server, more) = match more.strip_prefix("[server-lines]") {
        Some(lines) => lines.split_once("[target-lines]").unwrap_or((lines, "")),
        None => ("", more),
    };
    let text = format!(
        r#"version = 1

[server]
public_url = "http://127.0.0.1:8480"
api_listen = "127.0.0.1:0"
wire_listen = "127.0.0.1:0"
data_dir = "data"
{server}

[[identity.oidc]]
issuer = "{issuer}"
client_id = "dbgate-cli"

[[targets]]
name = "{target}"
environment = "production"
dsn = "host=127.0.0.1 port={} dbname={database} sslmode=disable"
admin = {{ user = "dbgate_broker", password_file = "broker-password" }}
pack = "production"
policy = "policy"
{more}"#,
        place.cluster.port()
    );
    let file = folder.join("server.toml");
    std::fs::write(&file, text).expect("server.toml");
    file
}
