//! What is made from the definitions in [`crate::cli::args`]: completions, man pages, tables.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::args::Cli;
use crate::cli::exit::{Exit, Failure};

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    print!("{}", completion_script(shell));
    Ok(Exit::Ok)
}

/// Written to memory first: clap_complete itself panics where stdout is closed.
fn completion_script(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dbgate", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Writes `dbgate.1` and a page for every command.
pub fn man(folder: &Path) -> Result<Exit, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(Exit::Failed, format!("cannot write {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    Ok(Exit::Ok)
}

/// Prints the table of exit codes.
pub fn exit_codes() -> Result<Exit, Failure> {
    for (exit, word, meaning) in Exit::TABLE {
        println!("{:>3}  {word:<16} {meaning}", exit.code());
    }
    Ok(Exit::Ok)
}

// Without the server feature there are fewer commands; what is committed is the whole.
#[cfg(all(test, feature = "server"))]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use clap_complete::Shell;

    use super::*;
    use crate::sys::scratch::Scratch;

    /// Set to write the files instead of comparing them.
    const REGENERATE: &str = "DBGATE_REGENERATE";

    /// Every file under `completions/` and `man/`, as it should be.
    fn wanted() -> BTreeMap<PathBuf, String> {
        let scripts = [(Shell::Bash, "dbgate.bash"), (Shell::Zsh, "_dbgate"), (Shell::Fish, "dbgate.fish")];
        let mut files: BTreeMap<PathBuf, String> = scripts
            .into_iter()
            .map(|(shell, name)| (Path::new("completions").join(name), completion_script(shell)))
            .collect();
        let scratch = Scratch::new();
        man(scratch.path()).expect("pages are written");
        for entry in std::fs::read_dir(scratch.path()).expect("folder") {
            let path = entry.expect("entry").path();
            let name = Path::new("man").join(path.file_name().expect("a name"));
            files.insert(name, std::fs::read_to_string(path).expect("text"));
        }
        files
    }

    #[test]
    fn completions_and_man_pages_are_those_of_this_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let regenerate = std::env::var_os(REGENERATE).is_some();
        let wanted = wanted();
        for (name, text) in &wanted {
            let path = root.join(name);
            if regenerate {
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
                std::fs::write(&path, text).expect("written");
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            let how = format!("{} is stale. Run: {REGENERATE}=1 cargo test --lib cli::generate", name.display());
            assert!(there == *text, "{how}");
        }
        for folder in ["completions", "man"] {
            for entry in std::fs::read_dir(root.join(folder)).expect("folder") {
                let name = Path::new(folder).join(entry.expect("entry").file_name());
                assert!(wanted.contains_key(&name), "{} belongs to no command", name.display());
            }
        }
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &clap::Command, without: &mut Vec<String>) {
            let has_example = command.get_after_help().is_some_and(|text| text.to_string().contains("Example"));
            if !has_example {
                without.push(command.get_name().to_owned());
            }
            command.get_subcommands().for_each(|sub| walk(sub, without));
        }
        let mut without = Vec::new();
        Cli::command().get_subcommands().for_each(|command| walk(command, &mut without));
        assert!(without.is_empty(), "no example in the help of: {}", without.join(", "));
    }
}
