//! People who ask and people who decide: a gate, an issuer with both, and the program.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use dbgate::client::issuer::Issuer as Client;
use dbgate::demo::issuer::{CLIENT_ID, DemoUser, Issuer, SCOPES};
use serde_json::Value;

use crate::support::dbgate::{Program, said};
use crate::support::gate::{Gate, POLICY, SHOP, reconfigure};

/// Half of all orders: above the limit of the pack `production`.
pub const UPDATE: &str = "update orders set amount = amount + 10000 where amount < 1501";

/// A gate, an issuer with people of several groups, and the program.
pub struct Scene {
    pub issuer: Issuer,
    pub gate: Gate,
    program: Program,
    pub server: String,
}

impl Scene {
    /// In front of the shop. `approvals` ends the configuration.
    pub async fn start(approvals: &str) -> Self {
        Self::start_over(SHOP, approvals).await
    }

    /// The same, in front of a database made by `sql`.
    pub async fn start_over(sql: &str, approvals: &str) -> Self {
        let approvals = if approvals.is_empty() { "[approvals]\nenabled = true\n" } else { approvals };
        let users = [
            DemoUser::new("ana", "Ana", "ana@example.com", &["engineers"]),
            DemoUser::new("bob", "Bob", "bob@example.com", &["engineers"]),
            DemoUser::new("raj", "Raj", "raj@example.com", &["dba"]),
            DemoUser::new("kim", "Kim", "kim@example.com", &["dba"]),
        ];
        let issuer = Issuer::start(&users, Duration::ZERO).await.expect("issuer");
        let gate = Gate::make(sql, issuer.url(), approvals, &POLICY).await;
        let server = format!("http://{}", gate.running.api_address());
        Self { issuer, gate, program: Program::new(), server }
    }

    /// A token of a person, made just now.
    pub async fn token(&self, login: &str) -> String {
        let client = Client::discover(self.issuer.url(), CLIENT_ID, None).await.expect("discovered");
        let invitation = client.begin(&SCOPES.map(str::to_owned)).await.expect("a code");
        self.issuer.approve(&invitation.code, login).expect("approved");
        let tokens = client.wait(&invitation, |_| tokio::task::yield_now()).await.expect("tokens");
        tokens.id_token.expose().to_owned()
    }

    /// The program as a person.
    pub async fn command(&self, login: &str, arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command.env("DBGATE_SERVER", &self.server).env("DBGATE_TOKEN", self.token(login).await);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The program as a person at a terminal.
    pub async fn at_a_terminal(&self, login: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(login, arguments).await;
        command.env("TERM", "dumb").stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
        command
    }

    pub async fn run(&self, login: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(login, arguments).await;
        tokio::task::spawn_blocking(move || command.output().expect("it runs")).await.expect("joined")
    }

    /// Ana's agent runs something with write access; the document of its answer.
    pub async fn exec(&self, sql: &str) -> (Option<i32>, Value) {
        let arguments = ["exec", "demo", "--access", "write", "--agent", "refund-bot", "--reason", "void test orders"];
        let output = self.run("ana", &[&arguments[..], &["-c", sql, "--format", "json"]].concat()).await;
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output.status.code(), document)
    }

    /// The same, which must end as a request; its id.
    pub async fn ask(&self, sql: &str) -> String {
        let (code, document) = self.exec(sql).await;
        assert_eq!(code, Some(6), "{document:#}");
        document.pointer("/approval/request_id").and_then(Value::as_str).expect("an id").to_owned()
    }

    pub async fn resume(&self, login: &str, id: &str) -> (Option<i32>, Value) {
        let output = self.run(login, &["exec", "--resume", id, "--format", "json"]).await;
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output.status.code(), document)
    }

    pub async fn changed(&self) -> i64 {
        self.gate.count("select count(*) from orders where amount > 10000").await
    }

    /// Lines of the audit log of one kind about one request.
    pub fn logged(&self, kind: &str, id: &str) -> usize {
        let log = std::fs::read_to_string(self.gate.folder.join("data/log/log.ndjson")).expect("the log");
        let is_it = |line: &&str| line.contains(&format!("\"k\":\"{kind}\"")) && line.contains(id);
        log.lines().filter(is_it).count()
    }

    /// What a client of Ana's with write access connects with.
    pub async fn conninfo(&self) -> String {
        let output = self.run("ana", &["conninfo", "demo", "--access", "write"]).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    /// psql with write access as Ana, through `conninfo`.
    pub async fn psql(&self, sql: &str) -> Command {
        Self::psql_to(&self.conninfo().await, sql)
    }

    /// The same through a grant that is there.
    pub fn psql_to(conninfo: &str, sql: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-v", "VERBOSITY=verbose", conninfo, "-c", sql]).env_clear().env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The gate stops and starts again, on another port, with its files as `edit` leaves them.
    pub async fn restart(self, edit: impl FnOnce(&Path)) -> Self {
        let Self { issuer, gate, program, server: _ } = self;
        let gate = gate.restart(edit).await;
        let server = format!("http://{}", gate.running.api_address());
        Self { issuer, gate, program, server }
    }

    pub async fn end(self) {
        self.gate.stop().await;
        self.issuer.stop().await;
    }
}

/// psycopg with a write that people must approve; nothing, and a note, where it is not installed.
pub struct Psycopg {
    python: PathBuf,
    script: PathBuf,
}

impl Psycopg {
    pub fn find() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/drivers");
        let (python, script) = (folder.join("venv/bin/python"), folder.join("psycopg_approval.py"));
        if !python.exists() {
            eprintln!("skipped: {} is not installed (tests/run installs it)", python.display());
            return None;
        }
        Some(Self { python, script })
    }

    /// What it says of one run.
    pub async fn run(&self, conninfo: &str, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(&self.python);
        command.arg(&self.script).arg(conninfo).args(arguments).env_clear();
        let output = command.output().await.expect("python runs");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

/// Reads until a request is named.
pub fn id_in(reader: &mut impl std::io::BufRead) -> String {
    let mut said = String::new();
    for line in std::io::BufRead::lines(reader) {
        let line = line.expect("text");
        if let Some(id) = line.find("apr_").and_then(|at| line.get(at..at + 20)) {
            return id.to_owned();
        }
        said += &line;
    }
    panic!("a request is named: {said}")
}

/// The gate under the address that its configuration names: pages send people back to it.
pub async fn at_its_address(scene: Scene) -> Scene {
    let port =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|one| one.local_addr()).expect("a free port").port();
    let edit = |text: String| {
        let text = text.replace("127.0.0.1:8480", &format!("127.0.0.1:{port}"));
        text.replacen("api_listen = \"127.0.0.1:0\"", &format!("api_listen = \"127.0.0.1:{port}\""), 1)
    };
    scene.restart(|folder| reconfigure(folder, edit)).await
}
