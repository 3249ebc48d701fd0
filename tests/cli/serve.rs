//! `dbgate serve --check` says no less than `serve`: what the one accepts, the other starts with. What
//! neither can use is named with its file and with what to do, all of it at once and each thing once.

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dbgate::sys::files;

use crate::support::dbgate::{Program, feed};

/// A configuration whose files are all as they should be.
const GOOD: &str = r#"version = 1

[server]
public_url    = "https://gate.example.com"
api_listen    = "127.0.0.1:0"
wire_listen   = "127.0.0.1:0"
data_dir      = "data"
tls_cert_file = "cert.pem"
tls_key_file  = "key.pem"
tls_ca_file   = "ca.pem"

[[identity.oidc]]
issuer    = "https://idp.example.com"
client_id = "dbgate-cli"

[[targets]]
name        = "shop"
environment = "production"
dsn         = "host=127.0.0.1 port=1 dbname=shop sslmode=disable"
admin       = { user = "dbgate_broker", password_file = "password" }
pack        = "production"
"#;

/// The lines of it without which the certificate is one of the gate's own making.
const TLS: &str = "tls_cert_file = \"cert.pem\"\ntls_key_file  = \"key.pem\"\ntls_ca_file   = \"ca.pem\"\n";

/// What is done to a site to spoil it.
type Change<'a> = Box<dyn Fn(&mut Site) + 'a>;

/// A folder with a configuration and what it names.
struct Site {
    program: Program,
    text: String,
}

impl Site {
    fn new() -> Self {
        let site = Self { program: Program::new(), text: GOOD.to_owned() };
        site.certify("gate.example.com", |_| {});
        site.write("password", "secret");
        site.write("webhook", "https://hooks.example.com/x");
        site.write("webhook-key", "0123456789abcdef");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.home().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        files::write_private(&self.path(name), text.as_bytes()).expect("written");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn chmod(&self, name: &str, mode: u32) {
        std::fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("a mode");
    }

    /// Certificate and key for this name, which are their own authority.
    fn certify(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("made").pem();
        self.write("cert.pem", &certificate);
        self.write("ca.pem", &certificate);
        self.write("key.pem", &key.serialize_pem());
    }

    fn edit(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
    }

    /// Exit code and standard error of `serve` with these further arguments.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        self.write("server.toml", &self.text);
        let file = self.path("server.toml").display().to_string();
        let output = feed(self.program.command(&[&["serve", "--config", &file], arguments].concat()), "").await;
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A process that serves, and what it has said by then.
    fn start(&self) -> (Child, String) {
        self.write("server.toml", &self.text);
        let file = self.path("server.toml").display().to_string();
        let mut command = self.program.command(&["serve", "--config", &file]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("serve starts");
        let (mut log, mut said) = (BufReader::new(child.stderr.take().expect("piped")), String::new());
        while !said.contains("serving") {
            assert_ne!(log.read_line(&mut said).expect("text"), 0, "it does not serve: {said}");
        }
        (child, said)
    }

    async fn check(&self) -> (Option<i32>, String) {
        let before = files_in(self.program.home());
        let outcome = self.run(&["--check"]).await;
        let written: Vec<_> = files_in(self.program.home()).into_iter().filter(|file| !before.contains(file)).collect();
        assert!(written.iter().all(|file| file == "server.toml"), "a check writes nothing: {written:?}");
        outcome
    }

    /// Both `serve --check` and `serve` say all of this.
    async fn is_refused(&self, said: &[&str]) {
        for arguments in [&["--check"][..], &[]] {
            let (code, shown) = self.run(arguments).await;
            assert_eq!(code, Some(78), "{arguments:?}: {shown}");
            for words in said {
                assert_eq!(shown.matches(words).count(), 1, "{arguments:?}: `{words}` once in: {shown}");
            }
        }
    }
}

fn stop(child: &mut Child) {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs");
    child.wait().expect("it ends");
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_configuration_without_mistakes_is_said_to_have_none() {
    let site = Site::new();
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.ends_with("server.toml: no problem found\n"), "{shown}");
}

#[tokio::test]
async fn what_is_handed_to_every_client_holds_certificates_and_nothing_else() {
    let site = Site::new();
    let (certificate, key) = (site.read("cert.pem"), site.read("key.pem"));
    for (text, said) in [
        (format!("{certificate}{key}"), "PRIVATE KEY"),
        (key.clone(), "PRIVATE KEY"),
        (key.replace(" PRIVATE", " ENCRYPTED PRIVATE") + &certificate, "ENCRYPTED PRIVATE KEY"),
        (
            format!("{certificate}-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
            "EC PARAMETERS",
        ),
        (String::new(), "no certificate"),
        ("not a certificate".to_owned(), "no certificate"),
        (key.replace("PRIVATE KEY", "CERTIFICATE"), "ca.pem"),
    ] {
        site.write("ca.pem", &text);
        site.is_refused(&["`tls_ca_file`", said]).await;
    }
}

#[tokio::test]
async fn what_serve_would_refuse_a_check_names_with_its_file() {
    let other = Site::new();
    let changes: Vec<(Change<'_>, &str)> = vec![
        (Box::new(|site: &mut Site| files::remove(&site.path("cert.pem")).map(drop).expect("removed")), "cert.pem"),
        (Box::new(|site| site.chmod("key.pem", 0o644)), "chmod 600"),
        (Box::new(|site| site.write("key.pem", &other.read("key.pem"))), "is not the key of the certificate in"),
        (Box::new(|site| site.write("key.pem", "rubbish")), "key.pem"),
        (Box::new(|site| files::remove(&site.path("ca.pem")).map(drop).expect("removed")), "ca.pem"),
        (Box::new(|site| site.edit("https://idp.", "http://idp.")), "`http://idp.example.com` is plain http"),
        (Box::new(|site| site.edit("\nclient_id", "\nca_file = \"none.pem\"\nclient_id")), "none.pem"),
        (Box::new(|site| site.edit("127.0.0.1:0", "127.0.0.1:8480")), "server.toml:6: `wire_listen`"),
        (
            Box::new(|site| site.edit("https://gate.example.com", "http://localhost:8480")),
            "server.toml:4: `public_url`",
        ),
        (Box::new(|site| site.text += "[[approvals.notify]]\nkind = \"slack\"\nurl_file = \"nowhere\"\n"), "no file `"),
        (
            Box::new(|site| {
                site.text +=
                    "[[approvals.notify]]\nkind = \"webhook\"\nurl_file = \"webhook\"\nhmac_key_file = \"password\"\n";
            }),
            "fewer than 16 bytes",
        ),
        (Box::new(|site| site.edit("sslmode=disable", "sslrootcert=none.pem")), "none.pem"),
        (Box::new(|site| site.write("data/log-signing-key", "x")), "log-signing-key"),
        (
            Box::new(|site| {
                site.edit(TLS, "");
                site.write("data/wire-ca.pem", &site.read("ca.pem"));
                site.write("data/wire-ca-key.pem", "rubbish");
            }),
            "wire-ca-key.pem",
        ),
        (
            Box::new(|site| {
                site.edit(TLS, "gateway_host = \"gäte.example.com\"\n");
            }),
            "`gäte.example.com`",
        ),
    ];
    for (change, said) in changes {
        let mut site = Site::new();
        change(&mut site);
        site.is_refused(&[said]).await;
    }
}

#[tokio::test]
async fn a_relative_path_in_a_dsn_starts_at_the_file_as_others_do() {
    let mut site = Site::new();
    site.edit("host=127.0.0.1 port=1 dbname=shop sslmode=disable", "host=localhost dbname=shop sslrootcert=ca.pem");
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(0), "{shown}");
}

#[tokio::test]
async fn without_tls_a_check_knows_an_address_that_nobody_answers_with_https() {
    let mut site = Site::new();
    site.edit(TLS, "");
    // Something in front of it may speak TLS for it.
    assert_eq!(site.check().await.0, Some(0));
    site.edit("https://gate.example.com", "https://localhost:8480");
    site.edit("api_listen    = \"127.0.0.1:0\"", "api_listen = \"127.0.0.1:8480\"");
    site.is_refused(&["server.toml:4: `public_url`"]).await;
}

#[tokio::test]
async fn all_problems_are_told_at_once_and_each_of_them_once() {
    let mut site = Site::new();
    let target = site.text.split_once("[[targets]]").expect("a target").1.to_owned();
    let policy = "pack        = \"production\"";
    let second = target.replace("\"shop\"", "\"other\"").replace("\"password\"", "\"other-password\"");
    site.text = site.text.replace(policy, "policy = \"policy\"");
    site.text += &format!("[[targets]]{}", second.replace(policy, "policy = \"policy\""));
    site.chmod("password", 0o644);
    std::fs::create_dir(site.path("policy")).expect("a folder");
    site.write("policy/own.cedar", "@id(\"a\")\npermit (principal, action == Action::\"raed\", resource);\n");
    site.edit("version = 1", "version = 9");
    site.edit("https://idp.", "http://idp.");
    site.write("key.pem", "rubbish");
    site.write("ca.pem", "rubbish");
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(78), "{shown}");
    for said in [
        "server.toml:1: version 9",
        "target `shop`",
        "target `other`",
        "other-password",
        "policy/own.cedar:2: ",
        "plain http",
        "key.pem",
        "ca.pem",
        "dbgate serve --check --config",
    ] {
        assert_eq!(shown.matches(said).count(), 1, "`{said}` once in: {shown}");
    }
}

#[tokio::test]
async fn a_certificate_that_clients_refuse_is_an_error_of_the_check() {
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(seconds).expect("a date");
    let mut site = Site::new();
    site.certify("gate.example.com", |params| {
        (params.not_before, params.not_after) = (at(1_700_000_000), at(1_700_000_060));
    });
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("cert.pem") && shown.contains("2023-11-14T22:14:20Z"), "{shown}");
    let (mut child, said) = site.start();
    stop(&mut child);
    let warning = said.lines().find(|line| line.contains("WARN") && line.contains("cert.pem")).expect("a warning");
    assert!(warning.contains("2023-11-14T22:14:20Z"), "{warning}");

    site.certify("gate.example.com", |params| {
        (params.not_before, params.not_after) = (at(4_000_000_000), at(4_000_000_060));
    });
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("2096-10-02T07:06:40Z"), "{shown}");

    site.certify("*.example.com", |_| {});
    assert_eq!(site.check().await.0, Some(0));
    site.edit("[server]", "[server]\ngateway_host = \"db.example.org\"");
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("`db.example.org`") && shown.contains("`*.example.com`"), "{shown}");
}

#[tokio::test]
async fn a_folder_that_others_can_write_to_is_not_served_from() {
    let site = Site::new();
    std::fs::create_dir(site.path("data")).expect("a folder");
    for mode in [0o775, 0o707, 0o777] {
        site.chmod("data", mode);
        site.is_refused(&["can be written to by others", "Run: chmod 700 "]).await;
    }
    site.chmod("data", 0o755);
    let (code, shown) = site.check().await;
    assert_eq!(code, Some(78), "{shown}");
    assert!(shown.contains("can be looked into by others") && shown.contains("Run: chmod 700 "), "{shown}");
    site.chmod("data", 0o700);
    assert_eq!(site.check().await.0, Some(0));
}

#[tokio::test]
async fn a_start_that_fails_says_what_helps_in_its_own_case() {
    let mut site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    site.edit("api_listen    = \"127.0.0.1:0\"", &format!("api_listen = \"{address}\""));
    let (code, shown) = site.run(&[]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("ss -ltnp") && shown.matches("in use").count() == 1, "{shown}");
    // An address of no machine (RFC 5737).
    site.edit(&address, "192.0.2.1:8480");
    let (_, shown) = site.run(&[]).await;
    assert!(shown.contains("192.0.2.1:8480") && !shown.contains("ss -ltnp"), "{shown}");

    let mut site = Site::new();
    site.edit("data_dir      = \"data\"", "data_dir = \"/proc/none\"");
    let (_, shown) = site.run(&[]).await;
    assert!(shown.contains("cannot make `/proc/none`") && !shown.contains("0600"), "{shown}");
    assert_eq!(shown.matches("os error").count(), 1, "{shown}");
}

#[tokio::test]
async fn another_signing_key_is_named_and_the_log_is_not_blamed() {
    let mut site = Site::new();
    // Started and stopped, so that there is a log.
    let (mut child, _) = site.start();
    // A second one finds the log taken.
    let (code, shown) = site.run(&[]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("Another `dbgate serve`"), "{shown}");
    stop(&mut child);

    let key = site.read("data/log-signing-key");
    site.write("data/log-signing-key", &"5".repeat(64));
    let (code, shown) = site.run(&[]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("`log-signing-key`") && !shown.contains("was changed"), "{shown}");
    assert!(!shown.contains("disk full"), "{shown}");

    site.write("data/log-signing-key", &key);
    site.certify("door.example.com", |_| {});
    site.edit("gate.example.com", "door.example.com");
    let (code, shown) = site.run(&[]).await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("gate.example.com/log") && shown.contains("`public_url`"), "{shown}");
}
