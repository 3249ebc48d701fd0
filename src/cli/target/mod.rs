//! `dbgate target`: what the owner of a database does to it for the gateway's sake.

pub mod init;

pub use init::InitArguments;

use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;

/// Prepare the databases behind the gateway
#[derive(Clone, Debug, clap::Args)]
pub struct TargetArguments {
    #[command(subcommand)]
    pub command: TargetCommand,
}

/// What can be done with a target.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TargetCommand {
    /// Print the SQL that prepares a target; with --apply, run it
    #[command(
        after_help = "Examples:\n  dbgate target init prod\n  dbgate target init prod --apply --superuser-dsn-file /run/secrets/postgres"
    )]
    Init(InitArguments),
}

/// Does what is asked.
pub async fn run(arguments: &TargetArguments, form: Form) -> Result<Exit, Failure> {
    match &arguments.command {
        TargetCommand::Init(arguments) => init::run(arguments, form).await,
    }
}
