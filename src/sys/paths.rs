//! Where dbgate keeps its files. Looked up once, from the environment, never from the
//! current folder: a cloned repository must not be able to redirect credentials.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The folders for configuration, state (tokens, history, transcripts) and caches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    config: PathBuf,
    state: PathBuf,
    cache: PathBuf,
    runtime: PathBuf,
    /// The configuration file, where `DBGATE_CONFIG` names another than `config.toml`.
    config_file: Option<PathBuf>,
}

impl Paths {
    /// From `DBGATE_HOME`, else the `XDG_*` variables, else the usual places under the home folder.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name), dirs::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        // The XDG specification says to ignore relative paths.
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config_file = variable("DBGATE_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(home) = absolute("DBGATE_HOME") {
            let (state, cache, runtime) = (home.join("state"), home.join("cache"), home.join("run"));
            return Self { config: home, state, cache, runtime, config_file };
        }
        // Without a home, reads find nothing and writes fail with this path in the message.
        let home = home.unwrap_or_else(|| PathBuf::from("/nonexistent"));
        let folder = |name: &str, usual: &str| absolute(name).unwrap_or_else(|| home.join(usual)).join("dbgate");
        let state = folder("XDG_STATE_HOME", ".local/state");
        Self {
            config: folder("XDG_CONFIG_HOME", ".config"),
            runtime: absolute("XDG_RUNTIME_DIR").map_or_else(|| state.join("run"), |run| run.join("dbgate")),
            cache: folder("XDG_CACHE_HOME", ".cache"),
            state,
            config_file,
        }
    }

    /// Everything under one folder, as `DBGATE_HOME` does.
    pub fn under(home: &Path) -> Self {
        Self::from_variables(|name| (name == "DBGATE_HOME").then(|| home.as_os_str().to_owned()), None)
    }

    /// `config.toml` and `dbgaterc`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The client's configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.config_file.clone().unwrap_or_else(|| self.config.join("config.toml"))
    }

    /// Tokens, history, transcripts that wait for upload.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What can be made again.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Files that live as long as a grant: passfiles and service files.
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Paths {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        Paths::from_variables(find, Some("/home/ana".into()))
    }

    #[test]
    fn the_usual_places_are_under_the_home_folder() {
        let usual = paths(&[]);
        assert_eq!(usual.config_file(), Path::new("/home/ana/.config/dbgate/config.toml"));
        assert_eq!(usual.state(), Path::new("/home/ana/.local/state/dbgate"));
        assert_eq!(usual.cache(), Path::new("/home/ana/.cache/dbgate"));
    }

    #[test]
    fn one_variable_moves_everything_and_wins() {
        let moved = paths(&[("DBGATE_HOME", "/x"), ("XDG_STATE_HOME", "/y")]);
        assert_eq!(moved, Paths::under(Path::new("/x")));
        assert_eq!(moved.state(), Path::new("/x/state"));
    }

    #[test]
    fn relative_paths_are_ignored() {
        assert_eq!(paths(&[("DBGATE_HOME", "here"), ("XDG_CONFIG_HOME", "./conf")]), paths(&[]));
    }
}
