//! What is made from the definitions in [`crate::cli::args`]: completions, man pages, tables.

use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::args::Cli;
use crate::cli::exit::{Exit, Failure};

/// Prints a completion script.
pub fn completions(shell: clap_complete::Shell) -> Result<Exit, Failure> {
    clap_complete::generate(shell, &mut Cli::command(), "dbgate", &mut std::io::stdout());
    Ok(Exit::Ok)
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

/// Prints a built-in policy.
#[cfg(feature = "server")]
pub fn policy(name: &str) -> Result<Exit, Failure> {
    let sources = crate::core::policy::pack::sources(name).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("no built-in policy `{name}`")).hint("There is: production")
    })?;
    for source in sources {
        println!("// {}\n{}", source.name, source.text);
    }
    Ok(Exit::Ok)
}
