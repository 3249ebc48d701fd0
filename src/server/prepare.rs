//! From configuration to shared state: keys, store, log, targets with their policies.
//!
//! First everything is read and judged, and every mistake is found; only then is anything written,
//! so that a check without a start finds what a start finds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::core::api::GatewayAddress;
use crate::core::encoding;
use crate::core::secret::Secret;
use crate::server::approvals::Approvals;
use crate::server::audit::Log;
use crate::server::certificates::{self, Certificates};
use crate::server::config::{Config, ConfigError};
use crate::server::gateway::keeper::Keeper;
use crate::server::grants::Grants;
use crate::server::identity::Verifier;
use crate::server::images::Images;
use crate::server::notify::{Channel, Notifier};
use crate::server::run::StartError;
use crate::server::sessions::Sessions;
use crate::server::state::{ServedTarget, State};
use crate::server::store::Store;
use crate::server::targets::Target;
use crate::server::transcript::Transcripts;
use crate::server::web::sign_in::Desk;
use crate::sys::{clock, files, random, tls};

/// The log's signing key in the data folder.
const SIGNING_KEY: &str = "log-signing-key";
/// What seals the rows that are kept for undo.
const IMAGE_KEY: &str = "image-key";
/// Folders in the data folder.
const LOG: &str = "log";
const TRANSCRIPTS: &str = "transcripts";

/// All that is read before anything is written, bound or asked: what `serve` goes on with, and what
/// `serve --check` stops at. Only [`ready`] makes one.
pub struct Ready {
    config: Config,
    targets: BTreeMap<String, ServedTarget>,
    /// None: one of our own making, which is written.
    certificates: Option<Certificates>,
    verifier: Verifier,
    channels: Vec<Channel>,
}

/// Reads every file that the configuration names, or tells everything that is wrong with any of them.
pub fn ready(config: Config) -> Result<Ready, StartError> {
    tls::install_provider();
    let mut problems = Problems::default();
    let data = &config.server.data_dir;
    for folder in [data.clone(), data.join(LOG), data.join(TRANSCRIPTS)] {
        problems.take(files::refuse_if_others_write(&folder));
    }
    for file in [SIGNING_KEY, IMAGE_KEY].map(|name| data.join(name)).iter().filter(|file| file.exists()) {
        problems.take(kept_key(file));
    }
    let targets = targets(&config, &mut problems);
    let certificates = config.server.tls.as_ref().map(|files| problems.take_all(certificates::configured(files)));
    if config.server.tls.is_none() {
        problems.0.extend(certificates::unmakeable(&config.server).into_iter().map(StartError::from));
    }
    let rules = config.identity.iter().map(|section| section.rule.clone()).collect();
    let verifier = problems.take_all(Verifier::new(rules));
    let channels = config.approvals.notify.iter().filter_map(|channel| problems.take(Channel::open(channel))).collect();
    match (verifier, problems.0.is_empty()) {
        (Some(verifier), true) => {
            Ok(Ready { targets, certificates: certificates.flatten(), verifier, channels, config })
        }
        _ => Err(StartError::Several(problems.0)),
    }
}

/// What a start gets by without and goes on, though somebody will miss it.
pub fn doubts(config: &Config) -> Vec<StartError> {
    let mut doubts: Vec<StartError> = Vec::new();
    let unfit = certificates::unfit(&config.server, clock::now());
    doubts.extend(unfit.into_iter().map(StartError::from));
    doubts.extend(files::folder_doubts(&config.server.data_dir).into_iter().map(StartError::from));
    // Read at each sign-in at the pages.
    let secrets = config.identity.iter().filter_map(|section| section.client_secret_file.as_ref());
    doubts.extend(secrets.filter_map(|file| files::read_private(file).err()).map(StartError::ClientSecret));
    doubts
}

/// Everything that is wrong with a configuration: what a start refuses, and what it doubts.
pub fn examine(config: Config) -> Vec<StartError> {
    let doubts = doubts(&config);
    let mut problems = match ready(config) {
        Ok(_) => Vec::new(),
        Err(StartError::Several(problems)) => problems,
        Err(problem) => vec![problem],
    };
    problems.extend(doubts);
    problems
}

/// Makes everything that is shared; `wire_port` is where the gateway listens.
pub async fn state(ready: Ready, wire_port: u16) -> Result<State, StartError> {
    let Ready { config, targets, certificates, verifier, channels } = ready;
    let data = config.server.data_dir.clone();
    files::make_private_folder(&data)?;
    let certificates = match certificates {
        Some(certificates) => certificates,
        None => certificates::own(&config.server, clock::now())?,
    };
    let store = Store::open(&data).await?;
    let log = Log::open(&data.join(LOG), &config.log_origin(), &key(&data.join(SIGNING_KEY))?).await?;
    let transcripts = Transcripts::open(&data.join(TRANSCRIPTS), log.clone())?;
    let tell = Box::new(Notifier::start(channels));
    let (told, url) = (config.approvals.clone(), &config.server.public_url);
    let approvals = Arc::new(Approvals::open(store.clone(), log.clone(), told, url, tell).await?);
    let images = Images::new(store.clone(), &key(&data.join(IMAGE_KEY))?);
    images.forget_old().await?;
    Ok(State {
        approvals,
        images,
        desk: Desk::default(),
        verifier,
        gateway: GatewayAddress {
            host: config.server.gateway_host.clone(),
            port: wire_port,
            ca_pem: certificates.ca_pem.clone(),
        },
        targets,
        store,
        log,
        transcripts,
        grants: Grants::default(),
        sessions: Sessions::default(),
        certificates,
        keeper: Keeper::default(),
        decisions: Arc::default(),
        stopping: AtomicBool::new(false),
        reload: tokio::sync::Notify::new(),
        config,
    })
}

/// What has been found so far.
#[derive(Default)]
struct Problems(Vec<StartError>);

impl Problems {
    fn take<T, E: Into<StartError>>(&mut self, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|error| self.0.push(error.into())).ok()
    }

    fn take_all<T, E: Into<StartError>>(&mut self, outcome: Result<T, Vec<E>>) -> Option<T> {
        outcome.map_err(|errors| self.0.extend(errors.into_iter().map(Into::into))).ok()
    }
}

/// Every target with its policy.
fn targets(config: &Config, problems: &mut Problems) -> BTreeMap<String, ServedTarget> {
    let (mut targets, mut broken) = (BTreeMap::new(), Vec::new());
    for section in &config.targets {
        let name = section.target.name.clone();
        let stamp = section.policy.stamp();
        let policy = config.load_policy(section).map_err(|ConfigError(mut found)| {
            let source = (&section.policy.pack, &section.policy.folder);
            // Targets share policies: what is wrong in those files is told once, in the words of the first.
            found.retain(|problem| problem.file == config.file || !broken.contains(&source));
            broken.push(source);
            ConfigError(found)
        });
        let policy = match policy {
            Err(ConfigError(found)) if found.is_empty() => None,
            read => problems.take(read),
        };
        let target = problems.take(Target::new(section.target.clone()));
        if let Some(file) = &section.target.admin.password_file {
            // Read again at each connection; here only to refuse a file that others can read.
            let unreadable = |source| StartError::Password { target: name.clone(), source };
            problems.take(files::read_private(file).map_err(unreadable));
        }
        if let (Some(policy), Some(target)) = (policy, target) {
            targets.insert(name, ServedTarget::new(target, policy, stamp));
        }
    }
    targets
}

/// Reads a key, or makes one at the first start. It is never replaced: with another key there would
/// be another log, and what was sealed could not be read.
fn key(file: &Path) -> Result<[u8; 32], StartError> {
    if !file.exists() {
        let text = Secret::new(encoding::hex(&random::bytes::<32>()));
        files::write_private(file, text.expose().as_bytes())?;
    }
    kept_key(file)
}

fn kept_key(file: &Path) -> Result<[u8; 32], StartError> {
    let text = String::from_utf8(files::read_private(file)?).map(Secret::new).ok();
    text.and_then(|text| encoding::unhex(text.expose().trim())).ok_or_else(|| StartError::Key(file.to_owned()))
}
