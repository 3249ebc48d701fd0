//! What befalls a server: it crashes and comes back, it has a standby that takes its place.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use dbgate::demo::postgres::Cluster;
use tokio_postgres::{Client, NoTls};

/// Server programs run beside a cluster, as its own account. What they started goes with this.
pub struct Fate<'c> {
    cluster: &'c Cluster,
    /// Folders of data whose servers are ours to stop.
    ours: Vec<PathBuf>,
}

impl<'c> Fate<'c> {
    pub fn of(cluster: &'c Cluster) -> Self {
        Self { cluster, ours: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.cluster.folder().join("data")
    }

    /// A program from where the running server's is.
    fn program(&self, name: &str) -> Command {
        let options = std::fs::read_to_string(self.data().join("postmaster.opts")).expect("options");
        let server = options.split_whitespace().next().expect("a program").trim_matches('"');
        let mut command = Command::new(Path::new(server).with_file_name(name));
        let owner = std::fs::metadata(self.data()).expect("data");
        if std::fs::metadata("/proc/self").expect("proc").uid() == 0 {
            command.uid(owner.uid()).gid(owner.gid());
        }
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(self.cluster.folder());
        command.env("PGPASSWORD", self.cluster.password().expose());
        command
    }

    fn run(mut command: Command) {
        // Never a pipe: the server would keep it open.
        let status = command.stdout(std::process::Stdio::null()).status().expect("runs");
        assert!(status.success(), "{command:?}");
    }

    fn control(&self, data: &Path, arguments: &[&str]) {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(data).args(["-w", "-t", "60"]).args(arguments);
        Self::run(command);
    }

    /// `pg_ctl restart -m immediate`: every backend goes at once, and the log is replayed.
    pub fn crash(&mut self) {
        let data = self.data();
        self.control(&data, &["-m", "immediate", "-l", "restarted.log", "restart"]);
        self.ours.push(data);
    }

    /// Makes a standby that follows the cluster; answers with its port.
    pub fn standby(&mut self) -> u16 {
        let data = self.cluster.folder().join("standby");
        let mut command = self.program("pg_basebackup");
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        command.arg("-p").arg(self.cluster.port().to_string()).arg("-D").arg(&data);
        Self::run(command);
        // Free now, and taken at once.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        let options = format!(
            "-p {free} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off",
            self.cluster.folder().display()
        );
        self.control(&data, &["-o", &options, "-l", "standby.log", "start"]);
        self.ours.push(data);
        free
    }

    /// The cluster itself becomes a standby, of nobody.
    pub fn demote(&mut self) {
        let data = self.data();
        let owner = std::fs::metadata(&data).expect("data");
        let signal = data.join("standby.signal");
        std::fs::write(&signal, "").expect("written");
        std::os::unix::fs::chown(&signal, Some(owner.uid()), Some(owner.gid())).expect("its owner's");
        self.control(&data, &["-m", "fast", "-l", "restarted.log", "restart"]);
        self.ours.push(data);
    }

    /// Takes [`Fate::demote`] back.
    pub fn restore(&self) {
        self.control(&self.data(), &["promote"]);
    }

    /// The standby becomes a primary of its own.
    pub fn promote(&self) {
        self.control(&self.cluster.folder().join("standby"), &["promote"]);
    }

    /// The superuser's connection to the server at a port.
    pub async fn superuser(&self, port: u16, database: &str) -> Client {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(port).user("postgres").password(self.cluster.password().expose());
        let (client, connection) = config.dbname(database).connect(NoTls).await.expect("superuser");
        tokio::spawn(connection);
        client
    }
}

impl Drop for Fate<'_> {
    fn drop(&mut self) {
        for data in std::mem::take(&mut self.ours) {
            let mut command = self.program("pg_ctl");
            command.arg("-D").arg(data).args(["-w", "-m", "immediate", "stop"]).stdout(std::process::Stdio::null());
            // It may be gone already; its folder goes next.
            let _ = command.status();
        }
    }
}
