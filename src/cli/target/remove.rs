//! `dbgate target remove`: takes everything of ours out of a database again.

use crate::cli::configured::{Configured, Place, rejected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::target::init;
use crate::cli::whoami::Form;
use crate::core::role_sql;
use crate::core::role_sql::remove::remove_target;
use crate::server::http::refusal::chain;
use crate::server::removal::{self, RemovalError};
use crate::server::roles;

#[derive(Clone, Debug, clap::Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    pub place: Place,
    /// Run the SQL instead of printing it
    #[arg(long, requires = "superuser_dsn_file")]
    pub apply: bool,
}

/// Prints or applies what leaves the database as it was before `target init`.
pub async fn run(arguments: &RemoveArguments, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.place.config, &arguments.place.name)?;
    let target = &place.target;
    let broker = &target.config().admin.user;
    let client = place.client(arguments.place.superuser_dsn_file.as_deref(), "dbgate target remove").await?;
    let mut removal = removal::plan(&client, broker).await.map_err(|error| refused(&error))?;
    if !arguments.apply {
        init::print(&remove_target(&removal), form, target, false);
        eprintln!("Nothing was changed. Run this as a superuser in database {}, or add:", target.database());
        eprintln!("  --apply --superuser-dsn-file FILE");
        return Ok(Exit::Ok);
    }
    if !removal.session_roles.is_empty() {
        // Proven gone, not merely told to go: a session outlives even DROP ROLE. As the broker, since
        // only who gave a right can take it back.
        let become_broker = format!("set session authorization {}", role_sql::identifier(broker));
        client.batch_execute(&become_broker).await.map_err(|error| rejected(target, &error))?;
        roles::sweep(&client, &[]).await.map_err(|error| Failure::new(Exit::Sql, chain(&error)))?;
        client.batch_execute("reset session authorization").await.map_err(|error| rejected(target, &error))?;
        removal = removal::plan(&client, broker).await.map_err(|error| refused(&error))?;
    }
    let statements = remove_target(&removal);
    init::apply(&client, &statements).await.map_err(|error| rejected(target, &error))?;
    if form == Form::Json {
        init::print(&statements, form, target, true);
    }
    let kept: Vec<&str> =
        removal.roles.iter().filter(|role| !removal.droppable.contains(role)).map(String::as_str).collect();
    if !kept.is_empty() {
        eprintln!("Kept, because other databases need them or dbgate did not make them: {}.", kept.join(", "));
    }
    eprintln!("Target {} holds nothing of dbgate any more.", target.config().name);
    eprintln!("Next: take it out of {}, and its lines out of pg_hba.conf", arguments.place.config.display());
    if let Some(file) = &target.config().admin.password_file {
        eprintln!("      and remove {}", file.display());
    }
    Ok(Exit::Ok)
}

fn refused(error: &RemovalError) -> Failure {
    match error {
        RemovalError::Query(_) => Failure::new(Exit::Sql, chain(error)),
        RemovalError::InUse(_) => Failure::new(Exit::Failed, chain(error))
            .hint("Stop `dbgate serve`, or take the target out of its configuration, then run this again."),
        RemovalError::Owns(_) => Failure::new(Exit::Failed, chain(error))
            .hint("Give them to another role (REASSIGN OWNED, ALTER … OWNER TO), then run this again."),
    }
}
