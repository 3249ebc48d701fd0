//! `[approvals]`: how long requests wait for people, and who is told of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::section::{Findings, Section};

/// `[approvals]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// Whether people are asked at all; else what needs approval is denied.
    pub is_enabled: bool,
    /// How long a request can be decided and used.
    pub ttl: Duration,
    /// How long the statement of a native client waits on the wire.
    pub hold_native: Duration,
    pub notify: Vec<Notify>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            is_enabled: true,
            ttl: Duration::from_secs(60 * 60),
            hold_native: Duration::from_secs(5 * 60),
            notify: Vec::new(),
        }
    }
}

/// One of `[[approvals.notify]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// JSON with a signature.
    Webhook { url_file: PathBuf, key_file: PathBuf },
    /// An incoming webhook of Slack.
    Slack { url_file: PathBuf },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Webhook,
    Slack,
}

/// Reads the section.
pub fn read(mut section: Section<'_>, folder: &Path, findings: &mut Findings<'_>) -> Approvals {
    let usual = Approvals::default();
    let ttl = section.time("ttl", usual.ttl, findings);
    let hold_native = section.time("hold_native", usual.hold_native, findings);
    let is_enabled = section.take::<bool>("enabled", findings).is_none_or(|(_, is_enabled)| is_enabled);
    let notify = section.sections("notify", findings);
    let notify = notify.into_iter().filter_map(|one| channel(one, folder, findings)).collect();
    section.finish(findings);
    Approvals { is_enabled, ttl, hold_native, notify }
}

fn channel(mut section: Section<'_>, folder: &Path, findings: &mut Findings<'_>) -> Option<Notify> {
    let kind = section.require::<Kind>("kind", findings);
    let url = section.require::<PathBuf>("url_file", findings);
    let key = match kind {
        Some((_, Kind::Webhook)) => section.require::<PathBuf>("hmac_key_file", findings),
        Some((_, Kind::Slack)) | None => None,
    };
    section.finish(findings);
    let url_file = folder.join(url?.1);
    match kind?.1 {
        Kind::Webhook => Some(Notify::Webhook { url_file, key_file: folder.join(key?.1) }),
        Kind::Slack => Some(Notify::Slack { url_file }),
    }
}
