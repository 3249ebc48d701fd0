//! A table of mistakes and the lines they are told with.

use super::*;

const GOOD: &str = r#"version = 1

[server]
public_url = "https://gate.example.com"
api_listen = "127.0.0.1:8480"
wire_listen = "127.0.0.1:6432"
data_dir = "data"

[[identity.oidc]]
issuer = "https://idp.example.com"
client_id = "dbgate-cli"

[[targets]]
name = "shop"
environment = "production"
dsn = "host=127.0.0.1 port=5432 dbname=shop sslmode=disable"
admin = { user = "dbgate_broker", password_file = "broker-password" }
pack = "production"

[audit]
durability = "writes"
"#;

fn parse(text: &str) -> Result<Config, Vec<(usize, String)>> {
    Config::parse(Path::new("/etc/dbgate/server.toml"), text)
        .map_err(|ConfigError(problems)| problems.into_iter().map(|problem| (problem.line, problem.message)).collect())
}

#[test]
fn a_good_file_is_read_and_paths_are_relative_to_it() {
    let config = parse(GOOD).expect("a good file");
    assert_eq!(config.server.data_dir, Path::new("/etc/dbgate/data"));
    assert_eq!(config.server.gateway_host, "gate.example.com");
    assert_eq!(config.log_origin(), "gate.example.com/log");
    assert_eq!(config.audit, Audit { durability: Durability::Writes, on_failure: OnFailure::Stop });
    let target = &config.targets.first().expect("a target").target;
    assert_eq!(target.admin.password_file.as_deref(), Some(Path::new("/etc/dbgate/broker-password")));
}

#[test]
fn each_mistake_is_told_with_its_line() {
    let cases = [
        ("version = 1", "version = 2", 1, "version 2 is not known"),
        ("data_dir = \"data\"", "data_dri = \"data\"", 7, "unknown key `data_dri`"),
        ("data_dir = \"data\"", "", 3, "`data_dir` is missing in `[server]`"),
        ("\"127.0.0.1:8480\"", "\"somewhere\"", 5, "invalid socket address"),
        ("\"127.0.0.1:8480\"", "\"0.0.0.0:8480\"", 5, "is not loopback"),
        ("\"127.0.0.1:6432\"", "\"[::]:6432\"", 6, "is not loopback"),
        ("https://gate.example.com", "http://gate.example.com", 4, "must be https"),
        ("https://gate.example.com", "gate.example.com", 4, "must begin with https://"),
        ("https://gate.example.com", "https://gate.example.com/path", 4, "https://HOST"),
        ("\"127.0.0.1:6432\"", "\"127.0.0.1:8480\"", 6, "`wire_listen` 127.0.0.1:8480 is taken by `api_listen`"),
        ("https://gate.example.com", "https://localhost:8480/", 4, "which speaks no TLS"),
        ("data_dir = \"data\"", "data_dir = \"data\"\ntls_cert_file = \"c.pem\"", 8, "needs `tls_key_file`"),
        ("pack = \"production\"", "", 13, "a target needs"),
        ("pack = ", "max_sessions = 0\npack = ", 18, "nonzero"),
        ("durability = \"writes\"", "durability = \"sometimes\"", 21, "unknown variant `sometimes`"),
        ("durability = \"writes\"", "on_failure = \"open\"", 21, "unknown variant `open`"),
        ("[audit]", "[adit]", 20, "unknown key `adit`"),
        ("dsn = \"", "dsn = 5 #", 16, "invalid type"),
        ("dsn = ", "dns = ", 16, "unknown field `dns`"),
        ("client_id = \"dbgate-cli\"", "cleint_id = \"x\"", 11, "unknown field `cleint_id`"),
        ("[[identity.oidc]]", "[identity.oidc]", 9, "`[[identity.oidc]]`"),
    ];
    for (from, to, line, message) in cases {
        let problems = parse(&GOOD.replace(from, to)).expect_err(to);
        let found = problems.iter().any(|(at, text)| *at == line && text.contains(message));
        assert!(found, "{to}: expected line {line} `{message}`, found {problems:?}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = GOOD.replace("version = 1", "version = 9").replace("data_dir", "dir").replace("[audit]", "[audits]");
    let problems = parse(&text).expect_err("three mistakes");
    let lines: Vec<_> = problems.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 7, 20], "{problems:?}");
}

#[test]
fn broken_syntax_is_told_with_its_line() {
    let problems = parse(&GOOD.replace("[audit]", "[audit")).expect_err("broken");
    assert!(problems.iter().any(|(line, _)| *line == 20), "{problems:?}");
}

#[test]
fn a_target_is_named_once() {
    let target = GOOD.split_once("[[targets]]").and_then(|(_, rest)| rest.split_once("[audit]")).expect("a target").0;
    let problems = parse(&GOOD.replace("[audit]", &format!("[[targets]]{target}[audit]"))).expect_err("twice");
    assert!(problems.iter().any(|(_, text)| text.contains("`shop` is there twice")), "{problems:?}");
}

#[test]
fn a_non_loopback_listener_is_fine_with_a_certificate() {
    let text = GOOD
        .replace("127.0.0.1:8480", "0.0.0.0:8480")
        .replace("data_dir", "tls_cert_file = \"cert.pem\"\ntls_key_file = \"key.pem\"\ndata_dir");
    assert!(parse(&text).expect("a good file").server.tls.is_some());
}

#[test]
fn the_host_of_a_url_is_found() {
    for (url, expected) in [
        ("https://gate.example.com:8443/", Some("gate.example.com")),
        ("http://127.0.0.1:8480", Some("127.0.0.1")),
        ("http://[::1]:8480", Some("::1")),
        ("http://localhost:8480", Some("localhost")),
        ("http://localhost.example.com", None),
        ("https://user@gate.example.com", None),
        ("ftp://gate.example.com", None),
        ("https://", None),
    ] {
        assert_eq!(host_of(url).ok(), expected, "{url}");
    }
}

#[test]
fn two_listeners_need_two_ports_where_one_takes_the_others() {
    for (one, other, expected) in [
        ("127.0.0.1:80", "127.0.0.1:80", true),
        ("127.0.0.1:80", "127.0.0.1:81", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("127.0.0.1:80", "127.0.0.2:80", false),
        ("0.0.0.0:80", "127.0.0.1:80", true),
        ("0.0.0.0:80", "[::1]:80", false),
        ("127.0.0.1:80", "[::]:80", true),
    ] {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(is_one_socket(address(one), address(other)), expected, "{one} {other}");
        assert_eq!(is_one_socket(address(other), address(one)), expected, "{other} {one}");
    }
}

#[test]
fn the_examples_are_valid() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/server.toml"));
    let config = Config::load(file).expect("examples/server.toml");
    for target in &config.targets {
        assert!(crate::server::targets::Target::new(target.target.clone()).is_ok());
        assert_eq!(config.load_policy(target).err().map(|error| error.to_string()), None);
    }
}

#[test]
fn mistakes_of_a_policy_are_told_with_file_and_line() {
    let scratch = crate::sys::scratch::Scratch::new();
    let policy = scratch.path().join("policy");
    std::fs::create_dir(&policy).expect("a folder");
    std::fs::write(policy.join("own.cedar"), "@id(\"a\")\npermit (principal, action == Action::\"raed\", resource);\n")
        .expect("a file");
    let load = |from: &str, to: &str| {
        let text = GOOD.replace(from, to);
        let config = Config::parse(&scratch.path().join("server.toml"), &text).expect("a good file");
        config.load_policy(config.targets.first().expect("a target")).err().map(|error| error.to_string())
    };
    let own = load("pack = \"production\"", "policy = \"policy\"").expect("an unknown action");
    assert!(own.contains("policy/own.cedar:2: "), "{own}");
    let unknown = load("pack = \"production\"", "pack = \"prodcution\"").expect("an unknown pack");
    assert!(unknown.contains("server.toml:18: unknown pack `prodcution`"), "{unknown}");
    let missing = load("pack = \"production\"", "policy = \"elsewhere\"").expect("no folder");
    assert!(missing.contains("elsewhere: cannot be read"), "{missing}");
}
