//! `dbgate target`: what the owner of a database does to it for the gateway's sake.

pub mod diff;
pub mod init;
pub mod migrate;
pub mod remove;

pub use init::InitArguments;
pub use migrate::MigrateArguments;
pub use remove::RemoveArguments;

use crate::cli::configured::Place;
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
    /// Show what `target init` would change, and what is there that it did not make
    #[command(after_help = "Example:\n  dbgate target diff prod --format json\n\nExit: 0 no difference, 8 differences")]
    Diff(Place),
    /// Run the owner's migration with the masking views out of its way
    #[command(
        after_help = "Examples:\n  dbgate target migrate prod -- psql service=owner -f 0042.sql\n  dbgate target migrate prod -- bundle exec rails db:migrate\n\nThe views come back whatever the migration did. Exit: 0 it succeeded, 1 it failed"
    )]
    Migrate(MigrateArguments),
    /// Print the SQL that takes everything of dbgate out of a target; with --apply, run it
    #[command(
        after_help = "Examples:\n  dbgate target remove prod\n  dbgate target remove prod --apply --superuser-dsn-file /run/secrets/postgres\n\nStop the gate first. Afterwards a schema dump and the list of roles are as before `target init`."
    )]
    Remove(RemoveArguments),
}

/// Does what is asked.
pub async fn run(arguments: &TargetArguments, form: Form) -> Result<Exit, Failure> {
    match &arguments.command {
        TargetCommand::Init(arguments) => init::run(arguments, form).await,
        TargetCommand::Diff(arguments) => diff::run(arguments, form).await,
        TargetCommand::Migrate(arguments) => migrate::run(arguments, form).await,
        TargetCommand::Remove(arguments) => remove::run(arguments, form).await,
    }
}
