//! Reading the policy of a target: its folder, a built-in pack, or both.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Config, ConfigError, PolicySource, Problem, TargetSection};
use crate::core::policy::file::{self, Source};
use crate::core::policy::{Policy, pack};

/// What the files of a policy look like from outside: names, lengths and times of change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyStamp(Vec<(String, u64, Option<SystemTime>)>);

impl PolicySource {
    /// How its files look now. A folder that cannot be read looks empty.
    pub fn stamp(&self) -> PolicyStamp {
        let entries = self.folder.iter().flat_map(std::fs::read_dir).flatten().filter_map(Result::ok);
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let about = entry.metadata().ok()?;
                Some((entry.file_name().to_string_lossy().into_owned(), about.len(), about.modified().ok()))
            })
            .collect();
        files.sort();
        PolicyStamp(files)
    }
}

impl Config {
    /// Reads and validates the policy of one target.
    pub fn load_policy(&self, target: &TargetSection) -> Result<Policy, ConfigError> {
        let sources = self.policy_files(target)?;
        Policy::parse(&sources).map_err(|problems| policy_problems(target.policy.folder.as_deref(), problems))
    }

    /// The files that the policy of a target is made of.
    pub fn policy_files(&self, target: &TargetSection) -> Result<Vec<Source>, ConfigError> {
        let PolicySource { pack, folder, line } = &target.policy;
        let problem = |file: &Path, line: usize, message: String| {
            ConfigError(vec![Problem { file: file.to_owned(), line, message }])
        };
        let mut sources = Vec::new();
        if let Some(name) = pack {
            let found = if folder.is_some() { pack::rules(name) } else { pack::sources(name) };
            sources = found.ok_or_else(|| {
                problem(&self.file, *line, format!("unknown pack `{name}`; known: {}", pack::NAMES.join(", ")))
            })?;
        }
        if let Some(folder) = folder {
            let own = policy_sources(folder).map_err(|error| problem(folder, 0, format!("cannot be read: {error}")))?;
            sources.extend(own);
        }
        if sources.is_empty() {
            let place = folder.as_deref().unwrap_or(&self.file);
            return Err(problem(place, 0, "holds no policy: put `*.cedar` files there".into()));
        }
        Ok(sources)
    }
}

/// The files of a policy folder that belong to a policy, by name, so that the order and with it
/// the digest do not depend on the file system.
pub fn policy_sources(folder: &Path) -> std::io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let belongs = name.ends_with(".cedar") || name.ends_with(".toml");
        if belongs && !name.starts_with('.') {
            sources.push(Source { name, text: std::fs::read_to_string(entry.path())? });
        }
    }
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(sources)
}

fn policy_problems(folder: Option<&Path>, problems: Vec<file::Problem>) -> ConfigError {
    let place = |file: &str| folder.map_or_else(|| PathBuf::from(file), |folder| folder.join(file));
    ConfigError(
        problems
            .into_iter()
            .map(|problem| Problem { file: place(&problem.file), line: problem.line, message: problem.message })
            .collect(),
    )
}
