//! `server.toml`: everything the broker and gateway are told at start.
//!
//! Unknown keys are refused, every mistake is told at once with file and line, and a secret is
//! never a value: it is the name of a file (`*_file`) that only its owner can read. Relative
//! paths are relative to the file they stand in.

mod approvals;
pub mod policy;
pub mod section;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::core::claims::IssuerRule;
use crate::core::identity::Kind;
use crate::server::targets::{TargetConfig, usual_lending};

pub use approvals::{Approvals, Notify};
pub use policy::PolicyStamp;
pub use section::Problem;
use section::{Findings, Section};

/// The form of the file that this program reads.
const VERSION: u32 = 1;

/// What people ask for at sign-in where the file does not say.
const SCOPES: [&str; 5] = ["openid", "profile", "email", "groups", "offline_access"];

/// The whole of `server.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it was read from, for messages.
    pub file: PathBuf,
    pub server: Server,
    /// In order; the first for people is the one that `dbgate login` uses.
    pub identity: Vec<IssuerSection>,
    pub targets: Vec<TargetSection>,
    pub approvals: Approvals,
    pub audit: Audit,
}

/// `[server]`.
#[derive(Clone, Debug)]
pub struct Server {
    /// How clients reach the API, without a path.
    pub public_url: String,
    pub api_listen: SocketAddr,
    pub wire_listen: SocketAddr,
    /// The host name PostgreSQL clients use; the one of `public_url` where it is not given.
    pub gateway_host: String,
    pub data_dir: PathBuf,
    pub tls: Option<TlsFiles>,
    /// PostgreSQL clients on this machine may do without TLS.
    pub wire_plain: bool,
    /// Load balancers: what they say of the client's address is believed, and must be said.
    pub proxies: Vec<IpAddr>,
}

/// Certificate and key of both listeners.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// The authority to hand to clients of the gateway, where it is not a public one.
    pub authority: Option<PathBuf>,
}

/// One of `[[identity.oidc]]`: whose tokens are accepted, and what people ask for at sign-in.
#[derive(Clone, Debug)]
pub struct IssuerSection {
    pub rule: IssuerRule,
    /// Scopes of the sign-in. Issuers differ in what they know: some refuse `groups`.
    pub scopes: Vec<String>,
    /// The secret of the client, where the issuer wants one of the pages that people sign in at.
    pub client_secret_file: Option<PathBuf>,
}

/// One of `[[targets]]`: what the database is, and what may be done in it.
#[derive(Clone, Debug)]
pub struct TargetSection {
    pub target: TargetConfig,
    pub policy: PolicySource,
}

/// Where a target's policy comes from: a pack, a folder, or a pack's rules with a folder that says
/// what is sensitive and adds rules of its own. At least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// A policy that is built into the program, by its name.
    pub pack: Option<String>,
    /// A folder of `*.cedar` files with `classification.toml`.
    pub folder: Option<PathBuf>,
    /// The line of `server.toml` that it stands at.
    pub line: usize,
}

/// `[audit]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    pub durability: Durability,
    pub on_failure: OnFailure,
}

/// What must be on disk before a statement is forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Every record.
    #[default]
    Strict,
    /// Records of anything that is not provably read-only; others follow within 50 ms.
    Writes,
}

/// What happens when the log takes no more records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing is granted and nothing runs.
    #[default]
    Stop,
}

/// Every mistake in the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

impl Config {
    /// Reads and checks the file.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &read(file)?)
    }

    /// The same, of a text that has been read already. `file` is where relative paths start.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        match Self::legible(file, text) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError(problems)),
        }
    }

    /// What can be read of a file beside everything that is wrong with it: for looking further, never
    /// for serving.
    pub fn examine(file: &Path) -> (Option<Self>, Vec<Problem>) {
        match read(file) {
            Ok(text) => Self::legible(file, &text),
            Err(ConfigError(problems)) => (None, problems),
        }
    }

    fn legible(file: &Path, text: &str) -> (Option<Self>, Vec<Problem>) {
        let mut findings = Findings::new(file, text);
        let config = document(file, &mut findings);
        (config, findings.into_problems())
    }

    /// The issuer that people sign in with: the first rule for people.
    pub fn sign_in(&self) -> Option<&IssuerSection> {
        self.identity.iter().find(|section| section.rule.kind == Kind::Human)
    }

    /// The origin of this broker's log: where it is, without a scheme.
    pub fn log_origin(&self) -> String {
        format!("{}/log", self.server.public_host())
    }
}

impl Server {
    /// The host of `public_url`, without the brackets of an IPv6 address.
    pub fn public_host(&self) -> &str {
        host_of(&self.public_url).unwrap_or_default()
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|error| {
        let message = format!("cannot be read: {error}");
        ConfigError(vec![Problem { file: file.to_owned(), line: 0, message }])
    })
}

fn document(file: &Path, findings: &mut Findings<'_>) -> Option<Config> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let mut root = Section::document(findings);
    if let Some((line, version)) = root.require::<u32>("version", findings)
        && version != VERSION
    {
        findings.add(line, format!("version {version} is not known; this program reads version {VERSION}"));
    }
    let server = match root.section("server", findings) {
        Some(section) => server(section, folder, findings),
        None => {
            findings.add(0, "`[server]` is missing");
            None
        }
    };
    let section = root.section("identity", findings);
    let has_identity = section.is_some();
    let identity = section.map(|section| issuers(section, folder, findings)).unwrap_or_default();
    let sections = root.sections("targets", findings);
    let has_targets = !sections.is_empty();
    let targets = targets(sections, folder, findings);
    let section = root.section("approvals", findings);
    let approvals = section.map(|section| approvals::read(section, folder, findings)).unwrap_or_default();
    let audit = root.section("audit", findings).map(|section| audit(section, findings)).unwrap_or_default();
    if !has_identity {
        findings.add(0, "nobody can sign in: `[[identity.oidc]]` is missing");
    }
    if !has_targets {
        findings.add(0, "there is nothing to connect to: `[[targets]]` is missing");
    }
    root.finish(findings);
    Some(Config { file: file.to_owned(), server: server?, identity, targets, approvals, audit })
}

fn server(mut section: Section<'_>, folder: &Path, findings: &mut Findings<'_>) -> Option<Server> {
    let line = section.line(findings);
    let public_url = section.require::<String>("public_url", findings);
    let api_listen = section.require::<SocketAddr>("api_listen", findings);
    let wire_listen = section.require::<SocketAddr>("wire_listen", findings);
    let data_dir = section.require::<PathBuf>("data_dir", findings);
    let gateway_host = section.take::<String>("gateway_host", findings);
    let certificate = section.take::<PathBuf>("tls_cert_file", findings);
    let key = section.take::<PathBuf>("tls_key_file", findings);
    let authority = section.take::<PathBuf>("tls_ca_file", findings).map(|(_, path)| folder.join(path));
    let wire_plain = section.take::<bool>("wire_plain", findings);
    let proxies = section.take::<Vec<IpAddr>>("proxy_protocol_from", findings);
    section.finish(findings);
    if let (Some((line, true)), Some((_, address))) = (&wire_plain, &wire_listen)
        && !address.ip().is_loopback()
    {
        findings.add(*line, format!("`wire_plain` is for loopback only, and `wire_listen` is {address}"));
    }

    let tls = match (certificate, key) {
        (Some((_, certificate)), Some((_, key))) => {
            Some(TlsFiles { certificate: folder.join(certificate), key: folder.join(key), authority })
        }
        (None, None) => None,
        (Some((line, _)), None) => {
            findings.add(line, "`tls_cert_file` needs `tls_key_file` beside it");
            None
        }
        (None, Some((line, _))) => {
            findings.add(line, "`tls_key_file` needs `tls_cert_file` beside it");
            None
        }
    };
    // Tokens and credentials travel over both: in the clear they may only do so inside one machine.
    for (name, listen) in [("api_listen", &api_listen), ("wire_listen", &wire_listen)] {
        if let Some((line, address)) = listen
            && tls.is_none()
            && !address.ip().is_loopback()
        {
            findings.add(
                *line,
                format!("`{name}` {address} is not loopback, so `tls_cert_file` and `tls_key_file` are needed"),
            );
        }
    }
    let (url_line, public_url) = public_url?;
    let url_host = match host_of(&public_url) {
        Ok(host) => host,
        Err(message) => {
            findings.add(url_line, message);
            return None;
        }
    };
    let gateway_host = gateway_host.map_or_else(|| url_host.to_owned(), |(_, host)| host);
    if gateway_host.is_empty() {
        findings.add(line, "`gateway_host` is empty");
    }
    if let (Some((_, api)), Some((line, wire))) = (&api_listen, &wire_listen)
        && is_one_socket(*api, *wire)
    {
        findings
            .add(*line, format!("`wire_listen` {wire} is taken by `api_listen` {api}: two listeners need two ports"));
    }
    if let Some((_, api)) = &api_listen
        && let Some(message) = wrong_scheme(&public_url, *api, tls.is_some())
    {
        findings.add(url_line, message);
    }
    Some(Server {
        public_url: public_url.trim_end_matches('/').to_owned(),
        api_listen: api_listen?.1,
        wire_listen: wire_listen?.1,
        gateway_host,
        data_dir: folder.join(data_dir?.1),
        tls,
        wire_plain: wire_plain.is_some_and(|(_, value)| value),
        proxies: proxies.map(|(_, value)| value).unwrap_or_default(),
    })
}

/// Whether the second of two listeners would find its port taken by the first.
fn is_one_socket(one: SocketAddr, other: SocketAddr) -> bool {
    // Port 0 takes a free one each time.
    let is_one_port = one.port() == other.port() && one.port() != 0;
    // `[::]` takes the port of IPv4 as well.
    let takes = |all: SocketAddr, one: SocketAddr| all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    is_one_port && (one.ip() == other.ip() || takes(one, other) || takes(other, one))
}

/// Why clients that go by `public_url` would not be understood. Where it is https and the listener
/// is not, something in front of it speaks TLS, unless the two are one address.
fn wrong_scheme(url: &str, listen: SocketAddr, has_tls: bool) -> Option<String> {
    let (scheme, rest) = url.trim_end_matches('/').split_once("://")?;
    let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(443);
    let is_listener = host_of(url).is_ok_and(is_loopback) && port == listen.port();
    match (scheme, has_tls) {
        ("http", true) => Some(format!("`public_url` `{url}` must be https: `api_listen` speaks TLS")),
        ("https", false) if is_listener => Some(format!(
            "`public_url` `{url}` is `api_listen`, which speaks no TLS: write http, or name `tls_cert_file` and `tls_key_file`"
        )),
        _ => None,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The host of `public_url`; plain http is for loopback only.
fn host_of(url: &str) -> Result<&str, String> {
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| format!("`public_url` `{url}` must begin with https://"))?;
    let authority = rest.trim_end_matches('/');
    if authority.contains(['/', '?', '#', '@']) || authority.is_empty() {
        return Err(format!("`public_url` `{url}` must be https://HOST or https://HOST:PORT"));
    }
    let host = match authority.strip_prefix('[').and_then(|bracketed| bracketed.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    };
    match scheme {
        "https" => Ok(host),
        "http" if is_loopback(host) => Ok(host),
        "http" => Err(format!("`public_url` `{url}` must be https: plain http is for loopback only")),
        other => Err(format!("`public_url` begins with `{other}://`; it must be https://")),
    }
}

fn issuers(mut section: Section<'_>, folder: &Path, findings: &mut Findings<'_>) -> Vec<IssuerSection> {
    let mut issuers = Vec::new();
    for mut one in section.sections("oidc", findings) {
        let scopes = match one.take::<Vec<String>>("scopes", findings) {
            Some((_, scopes)) => scopes,
            None => SCOPES.map(str::to_owned).to_vec(),
        };
        let secret = one.take::<PathBuf>("client_secret_file", findings).map(|(_, file)| folder.join(file));
        if let Some(mut rule) = one.rest::<IssuerRule>(findings) {
            rule.ca_file = rule.ca_file.map(|file| folder.join(file).display().to_string());
            issuers.push(IssuerSection { rule, scopes, client_secret_file: secret });
        }
    }
    section.finish(findings);
    issuers
}

fn targets(sections: Vec<Section<'_>>, folder: &Path, findings: &mut Findings<'_>) -> Vec<TargetSection> {
    let mut targets: Vec<TargetSection> = Vec::new();
    for mut section in sections {
        let line = section.line(findings);
        let own = section.take::<PathBuf>("policy", findings);
        let pack = section.take::<String>("pack", findings);
        let lend_for = section.time("lend_for", usual_lending(), findings);
        if own.is_none() && pack.is_none() {
            findings.add(line, "a target needs `policy = \"FOLDER\"` or `pack = \"production\"`");
            continue;
        }
        let policy_line = own.as_ref().map(|(line, _)| *line).or(pack.as_ref().map(|(line, _)| *line)).unwrap_or(line);
        let policy = PolicySource {
            pack: pack.map(|(_, name)| name),
            folder: own.map(|(_, path)| folder.join(path)),
            line: policy_line,
        };
        let Some(mut target) = section.rest::<TargetConfig>(findings) else { continue };
        target.lend_for = lend_for;
        target.folder = folder.to_owned();
        target.admin.password_file = target.admin.password_file.map(|file| folder.join(file));
        if targets.iter().any(|known| known.target.name == target.name) {
            findings.add(line, format!("target `{}` is there twice", target.name));
        }
        targets.push(TargetSection { target, policy });
    }
    targets
}

fn audit(mut section: Section<'_>, findings: &mut Findings<'_>) -> Audit {
    let audit = Audit {
        durability: section.take("durability", findings).map(|(_, value)| value).unwrap_or_default(),
        on_failure: section.take("on_failure", findings).map(|(_, value)| value).unwrap_or_default(),
    };
    section.finish(findings);
    audit
}

#[cfg(test)]
mod tests;
