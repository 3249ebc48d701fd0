//! `dbgate serve` as a process of its own: it can be killed, and its disk can be full.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use dbgate::demo::issuer::{CLIENT_ID, Issuer};

use super::dbgate::Program;
use super::desk;
use super::gate::{PREPARING, Place, cluster, prepared, superuser};

/// A serving process with a database of its own, and ana's token.
pub struct Served {
    child: Child,
    pub folder: PathBuf,
    pub database: String,
    pub server: String,
    pub issuer: Issuer,
    pub token: String,
    pub program: Program,
    log: Arc<Mutex<String>>,
}

impl Served {
    /// Serves the database `name`, made by `sql`.
    pub async fn start(name: &str, sql: &str) -> Self {
        let issuer = desk::issuer().await;
        let guard = PREPARING.lock().await;
        superuser("postgres").await.batch_execute(&format!("create database {name}")).await.expect("database");
        let policy = [("classification.toml", "")];
        let place = Place { cluster: cluster(), database: name.into(), sql, target: "demo", policy: &policy };
        let folder = prepared(&place, "http://127.0.0.1:1", &desk::trust(&issuer, CLIENT_ID)).await;
        drop(guard);
        let program = Program::new();
        let (child, server, log) = tokio::task::block_in_place(|| spawn(&program, &folder));
        let token = desk::token(&issuer).await;
        Self { child, folder, database: name.into(), server, issuer, token, program, log }
    }

    /// The program as a client of it, signed in.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command(arguments);
        command.env("DBGATE_SERVER", &self.server).env("DBGATE_ID_TOKEN", &self.token);
        command
    }

    /// From here on no file of it can grow beyond `bytes`: what a full disk does to a writer.
    pub fn limit_files(&self, bytes: u64) {
        let pid = self.child.id().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(status.expect("prlimit runs").success());
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("reaped");
    }

    /// Asks it to stop, as an init system does; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
        self.child.wait().expect("reaped").code()
    }

    /// The process's own log so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// One number from the database itself, past the gate.
    pub async fn count(&self, sql: &str) -> i64 {
        superuser(&self.database).await.query_one(sql, &[]).await.expect(sql).get(0)
    }

    pub async fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
        let Self { issuer, .. } = self;
        issuer.stop().await;
    }
}

/// Starts it and waits until it serves. Its standard error is kept.
fn spawn(program: &Program, folder: &Path) -> (Child, String, Arc<Mutex<String>>) {
    let mut inner = program.command(&["serve", "--config", &folder.join("server.toml").display().to_string()]);
    inner.env("DBGATE_LOG", "info");
    // A file that may not grow is an error to be handled, not a signal that ends the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("serve starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let log = Arc::new(Mutex::new(String::new()));
    let address = lines.by_ref().find_map(|line| {
        let line = line.expect("text");
        let found = line.split("api=").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        keep(&log, &line);
        found
    });
    let address = address.unwrap_or_else(|| panic!("it does not serve: {}", log.lock().expect("no panic")));
    let rest = log.clone();
    // Ends with the process.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| keep(&rest, &line)));
    (child, format!("http://{address}"), log)
}

fn keep(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().expect("no panic");
    log.push_str(line);
    log.push('\n');
}
