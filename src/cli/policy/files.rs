//! Which files a command about a policy means: a folder, a single file, a pack, or what
//! `server.toml` names for a target.

use std::path::{Path, PathBuf};

use crate::cli::configured::Configured;
use crate::cli::exit::{Exit, Failure};
use crate::core::policy::file::{Problem, Source};
use crate::core::policy::pack;
use crate::server::config::policy::policy_sources;

/// Where the files are.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// Policy folder, or one file of it (then judged beside the rules of a pack)
    pub path: Option<PathBuf>,
    /// Built-in pack whose rules count too
    #[arg(long)]
    pub pack: Option<String>,
}

/// The files, and the target they were found by.
pub struct Found {
    pub sources: Vec<Source>,
    /// Where the folder is, for messages.
    pub folder: PathBuf,
    pub target: Option<Configured>,
}

/// Reads them.
pub fn read(which: &Which, target: Option<Configured>) -> Result<Found, Failure> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("{} cannot be read: {error}", path.display()))
    };
    let rules = |name: &str| pack::rules(name).ok_or_else(|| no_pack(name));
    let Some(path) = &which.path else {
        let (sources, folder) = match (&target, &which.pack) {
            (Some(place), None) => {
                let sources = place.config.policy_files(&place.section);
                let sources = sources.map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
                (sources, place.section.policy.folder.clone().unwrap_or_default())
            }
            (_, Some(name)) => (pack::sources(name).ok_or_else(|| no_pack(name))?, PathBuf::new()),
            (None, None) => {
                return Err(Failure::new(Exit::Usage, "no policy is named").hint("Name a folder, --pack or --target"));
            }
        };
        return Ok(Found { sources, folder, target });
    };
    let mut sources = which.pack.as_deref().map(rules).transpose()?.unwrap_or_default();
    if path.is_dir() {
        sources.extend(policy_sources(path).map_err(|error| wrong(path, &error))?);
        return Ok(Found { sources, folder: path.clone(), target });
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|error| wrong(path, &error))?;
    // A file of another kind than rules means nothing without rules.
    if !name.ends_with(".cedar") && which.pack.is_none() {
        sources.extend(rules("production")?);
    }
    sources.push(Source { name, text });
    Ok(Found { sources, folder: path.parent().unwrap_or(Path::new("")).to_owned(), target })
}

/// A pack that does not exist, and those that do.
pub fn no_pack(name: &str) -> Failure {
    Failure::new(Exit::Usage, format!("no built-in policy `{name}`"))
        .hint(format!("There are: {}", pack::NAMES.join(", ")))
}

/// `folder/file:line: message`.
pub fn told(folder: &Path, problem: &Problem) -> String {
    format!("{}:{}: {}", folder.join(&problem.file).display(), problem.line, problem.message)
}
