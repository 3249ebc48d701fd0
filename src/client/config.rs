//! The workstation's `config.toml`: which broker, and where tokens rest. No secrets in here.
//!
//! An unknown key is an error with its line: a misspelt `ca_file` must not silently trust
//! something else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::sys::files::{self, FileError};
use crate::sys::http::{self, HttpError};
use crate::sys::paths::Paths;
use crate::sys::secrets::StoreChoice;

/// The file as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always 1.
    #[serde(default)]
    pub version: Version,
    pub current_context: Option<String>,
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
    #[serde(default)]
    pub credentials: Credentials,
}

/// The format's version. There is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Version;

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        if version == 1 {
            Ok(Self)
        } else {
            Err(format!("version {version} is not known; this dbgate reads version 1"))
        }
    }
}

/// One broker and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub server: String,
    pub ca_file: Option<PathBuf>,
    /// The target of commands that name none.
    pub target: Option<String>,
}

/// Where tokens rest.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    #[serde(default)]
    pub store: StoreChoice,
}

/// A broker's address, checked: https, or this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Without a slash at the end.
    pub url: String,
    pub ca_file: Option<PathBuf>,
    /// The context's default target.
    pub target: Option<String>,
}

impl Server {
    /// Checks an address.
    pub fn new(url: &str, ca_file: Option<PathBuf>) -> Result<Self, ConfigError> {
        http::checked(url)?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), ca_file, target: None })
    }

    /// Host and port as people say them: `gate.example.com`, `127.0.0.1:8480`.
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest.split('/').next().unwrap_or(rest))
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}:{line}: {why}", path.display())]
    Invalid { path: PathBuf, line: usize, why: String },
    #[error("no context `{name}`; there are: {known}")]
    UnknownContext { name: String, known: String },
    #[error("no broker is known yet\nRun: dbgate login --server https://YOUR-BROKER")]
    NoServer,
    #[error(transparent)]
    Address(#[from] HttpError),
    #[error("cannot add the context to {} without changing its meaning; add it by hand", path.display())]
    CannotEdit { path: PathBuf },
}

impl Config {
    /// Reads the file; without one, the defaults.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let path = paths.config_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(FileError::Failed { action: "read", path, source }.into()),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            let line = before.matches('\n').count() + 1;
            ConfigError::Invalid { path: path.to_owned(), line, why: error.message().to_owned() }
        })
    }

    /// The broker to speak to: the flag, else `DBGATE_SERVER`, else `DBGATE_CONTEXT` or the
    /// current context. An address that a context has takes its `ca_file` along.
    pub fn server(&self, flag: Option<&str>, ca_file: Option<&Path>) -> Result<Server, ConfigError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let address = flag.map(str::to_owned).or_else(|| variable("DBGATE_SERVER"));
        let mut server = self.choose(address.as_deref(), variable("DBGATE_CONTEXT").as_deref())?;
        if let Some(path) = ca_file {
            server.ca_file = Some(path.to_owned());
        }
        Ok(server)
    }

    fn choose(&self, address: Option<&str>, context: Option<&str>) -> Result<Server, ConfigError> {
        if let Some(address) = address {
            let server = Server::new(address, None)?;
            let known = self.contexts.values().find(|context| context.server.trim_end_matches('/') == server.url);
            return known.map_or(Ok(server), Context::resolve);
        }
        match context.or(self.current_context.as_deref()) {
            Some(name) => self.named(name),
            None => Err(ConfigError::NoServer),
        }
    }

    /// The broker of a context.
    pub fn named(&self, name: &str) -> Result<Server, ConfigError> {
        let unknown = || ConfigError::UnknownContext {
            name: name.to_owned(),
            known: self.contexts.keys().cloned().collect::<Vec<_>>().join(", "),
        };
        self.contexts.get(name).ok_or_else(unknown)?.resolve()
    }

    /// Makes `server` the current context in the file, adding it where it is new. What the
    /// person wrote, comments included, stays as it is.
    pub fn remember(paths: &Paths, server: &Server) -> Result<(), ConfigError> {
        let path = paths.config_file();
        let config = Self::load(paths)?;
        let known = config.contexts.iter().find(|(_, context)| context.server.trim_end_matches('/') == server.url);
        let name = known.map_or_else(|| free_name(&config, server.host()), |(name, _)| name.clone());
        let asked_for = Context { server: server.url.clone(), ca_file: server.ca_file.clone(), target: None };
        let is_current = config.current_context.as_deref() == Some(name.as_str());
        match known {
            Some((_, context)) if is_current && context.ca_file == server.ca_file => return Ok(()),
            Some((_, context)) if context.ca_file != server.ca_file => return Err(ConfigError::CannotEdit { path }),
            _ => {}
        }
        let text = std::fs::read_to_string(&path).unwrap_or_else(|_| "version = 1\n".to_owned());
        let edited = edit(&text, &name, known.is_none().then_some(&asked_for));
        // The edit is by lines; it counts only if it reads back as what was meant.
        let check = Self::parse(&edited, &path)?;
        let reads_back = check.current_context.as_deref() == Some(name.as_str())
            && check.contexts.get(&name).is_some_and(|context| context.server.trim_end_matches('/') == server.url);
        if !reads_back {
            return Err(ConfigError::CannotEdit { path });
        }
        files::write_private(&path, edited.as_bytes())?;
        Ok(())
    }
}

impl Context {
    fn resolve(&self) -> Result<Server, ConfigError> {
        let server = Server::new(&self.server, self.ca_file.clone())?;
        Ok(Server { target: self.target.clone(), ..server })
    }
}

/// The host's name, numbered where another broker already has it.
fn free_name(config: &Config, host: &str) -> String {
    let numbered = (2..).map(|number: u32| format!("{host}-{number}"));
    std::iter::once(host.to_owned())
        .chain(numbered)
        .find(|name| !config.contexts.contains_key(name))
        .expect("there are more numbers than contexts")
}

/// Sets `current_context` among the keys before the first table and adds `context` at the end.
fn edit(text: &str, name: &str, context: Option<&Context>) -> String {
    let current = format!("current_context = {}\n", quoted(name));
    let (mut edited, mut is_set, mut in_table) = (String::new(), false, false);
    for line in text.split_inclusive('\n') {
        in_table |= line.trim_start().starts_with('[');
        if in_table && !is_set {
            edited.push_str(&current);
            is_set = true;
        }
        if !in_table && line.split('=').next().is_some_and(|key| key.trim() == "current_context") {
            edited.push_str(&current);
            is_set = true;
            continue;
        }
        edited.push_str(line);
    }
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push('\n');
    }
    if !is_set {
        edited.push_str(&current);
    }
    if let Some(context) = context {
        edited.push_str(&format!("\n[contexts.{}]\nserver = {}\n", quoted(name), quoted(&context.server)));
        if let Some(ca_file) = &context.ca_file {
            edited.push_str(&format!("ca_file = {}\n", quoted(&ca_file.to_string_lossy())));
        }
    }
    edited
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::Scratch;

    const FILE: &str = "version = 1\ncurrent_context = \"acme\" # ours\n\n[contexts.acme]\n# production\n\
                        server = \"https://gate.example.com/\"\nca_file = \"/etc/ca.pem\"\ntarget = \"prod\"\n";

    fn parsed(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("config.toml"))
    }

    #[test]
    fn the_current_context_names_the_broker() {
        let server = parsed(FILE).expect("valid").choose(None, None).expect("current");
        assert_eq!(server.url, "https://gate.example.com");
        assert_eq!(server.host(), "gate.example.com");
        assert_eq!((server.ca_file, server.target), (Some("/etc/ca.pem".into()), Some("prod".into())));
    }

    #[test]
    fn an_address_wins_and_takes_its_contexts_authority_along() {
        let config = parsed(FILE).expect("valid");
        let other = config.choose(Some("https://other.example.com"), None).expect("address");
        assert_eq!((other.url.as_str(), other.ca_file), ("https://other.example.com", None));
        let known = config.choose(Some("https://gate.example.com"), None).expect("address");
        assert_eq!(known.ca_file, Some("/etc/ca.pem".into()));
    }

    #[test]
    fn mistakes_are_named_with_file_and_line() {
        for (text, line) in [
            ("version = 1\n\n[contexts.a]\nserver = \"https://a\"\ncafile = \"x\"\n", 5),
            ("version = 2\n", 1),
            ("version = 1\nshel = 1\n", 2),
            ("[credentials]\nstore = \"vault\"\n", 2),
            ("version = \n", 1),
        ] {
            let error = parsed(text).expect_err(text).to_string();
            assert!(error.starts_with(&format!("config.toml:{line}: ")), "{error}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_refused() {
        assert!(matches!(Server::new("http://gate.example.com", None), Err(ConfigError::Address(_))));
        assert!(Server::new("http://127.0.0.1:8480/", None).is_ok());
    }

    #[test]
    fn without_a_broker_the_next_command_is_named() {
        let error = Config::default().choose(None, None).expect_err("none known");
        assert!(error.to_string().contains("dbgate login --server"));
        assert!(parsed(FILE).expect("valid").choose(None, Some("nope")).is_err());
    }

    #[test]
    fn remembering_a_broker_keeps_what_the_person_wrote() {
        let scratch = Scratch::new();
        let paths = Paths::under(scratch.path());
        let first = Server::new("http://127.0.0.1:8480", None).expect("loopback");
        Config::remember(&paths, &first).expect("a new file");
        assert_eq!(Config::load(&paths).expect("valid").choose(None, None).expect("current"), first);
        std::fs::write(paths.config_file(), FILE).expect("written");
        Config::remember(&paths, &first).expect("added");
        let text = std::fs::read_to_string(paths.config_file()).expect("read");
        assert!(text.contains("# production\nserver = \"https://gate.example.com/\""));
        assert_eq!(Config::load(&paths).expect("valid").choose(None, None).expect("current"), first);
        let back = Server::new("https://gate.example.com", Some("/etc/ca.pem".into())).expect("https");
        Config::remember(&paths, &back).expect("known already");
        let config = Config::load(&paths).expect("valid");
        assert_eq!((config.current_context.as_deref(), config.contexts.len()), (Some("acme"), 2));
    }
}
