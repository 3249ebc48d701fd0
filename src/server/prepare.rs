//! From configuration to shared state: keys, store, log, targets with their policies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::core::api::GatewayAddress;
use crate::core::encoding;
use crate::core::secret::Secret;
use crate::server::approvals::Approvals;
use crate::server::audit::Log;
use crate::server::certificates;
use crate::server::config::{Config, ConfigError};
use crate::server::gateway::keeper::Keeper;
use crate::server::grants::Grants;
use crate::server::identity::Verifier;
use crate::server::images::Images;
use crate::server::notify::Notifier;
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

/// Makes everything that is shared; `wire_port` is where the gateway listens.
pub async fn state(config: Config, wire_port: u16) -> Result<State, StartError> {
    tls::install_provider();
    let data = config.server.data_dir.clone();
    files::make_private_folder(&data)?;
    let targets = targets(&config)?;
    let certificates = certificates::load(&config.server, clock::now())?;
    let store = Store::open(&data).await?;
    let log = Log::open(&data.join("log"), &config.log_origin(), &key(&data.join(SIGNING_KEY))?).await?;
    let transcripts = Transcripts::open(&data.join("transcripts"), log.clone())?;
    let tell = Box::new(Notifier::start(&config.approvals.notify)?);
    let (told, url) = (config.approvals.clone(), &config.server.public_url);
    let approvals = Arc::new(Approvals::open(store.clone(), log.clone(), told, url, tell).await?);
    let images = Images::new(store.clone(), &key(&data.join(IMAGE_KEY))?);
    images.forget_old().await?;
    Ok(State {
        approvals,
        images,
        desk: Desk::default(),
        verifier: Verifier::new(config.identity.iter().map(|section| section.rule.clone()).collect())?,
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

/// Every target with its policy, or everything that is wrong with any of them.
pub fn targets(config: &Config) -> Result<BTreeMap<String, ServedTarget>, StartError> {
    let mut problems = Vec::new();
    let mut targets = BTreeMap::new();
    for section in &config.targets {
        let name = section.target.name.clone();
        let stamp = section.policy.stamp();
        match config.load_policy(section) {
            Ok(policy) => {
                let target = Target::new(section.target.clone())?;
                if let Some(file) = &section.target.admin.password_file {
                    // Read again at each connection; here only to refuse a file that others can read.
                    let unreadable = |source| StartError::Password { target: name.clone(), source };
                    files::read_private(file).map_err(unreadable)?;
                }
                targets.insert(name, ServedTarget::new(target, policy, stamp));
            }
            Err(ConfigError(found)) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(targets) } else { Err(ConfigError(problems).into()) }
}

/// Reads a key, or makes one at the first start. It is never replaced: with another key there would
/// be another log, and what was sealed could not be read.
fn key(file: &Path) -> Result<[u8; 32], StartError> {
    if !file.exists() {
        let text = Secret::new(encoding::hex(&random::bytes::<32>()));
        files::write_private(file, text.expose().as_bytes())?;
    }
    let text = String::from_utf8(files::read_private(file)?).map(Secret::new).ok();
    text.and_then(|text| encoding::unhex(text.expose().trim())).ok_or_else(|| StartError::Key(file.to_owned()))
}
