//! `dbgate policy`: what people who write policies need: packs to start from, lint, tests, reasons.

mod explain;
mod files;
mod lint;
mod test;

use std::path::PathBuf;

use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::policy::pack;

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PolicyArguments {
    /// Built-in policy whose rules are printed
    #[arg(default_value = "production")]
    pub pack: String,
    /// Write all its files, classification and tests too, to this folder
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<PolicyCommand>,
}

/// What can be done with a policy.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum PolicyCommand {
    /// Show what is wrong or suspicious in a policy, with file and line
    #[command(
        after_help = "Examples:\n  dbgate policy lint policy/\n  dbgate policy lint policy/ --pack production\n  dbgate policy lint --target prod\n\nExit: 0 nothing wrong, 78 it does not load, 8 warnings with --strict"
    )]
    Lint(lint::LintArguments),
    /// Run a policy's own tests (*.test.toml)
    #[command(
        after_help = "Examples:\n  dbgate policy test policy/ --pack production\n  dbgate policy test --pack production\n  dbgate policy test policy/ --junit report.xml\n\nExit: 0 all pass, 8 one fails, 78 it cannot be read"
    )]
    Test(test::TestArguments),
    /// Show what somebody may do in a target, and the rules that decide
    #[command(
        after_help = "Examples:\n  dbgate policy explain public.customers --target prod --as ana@example.com,engineers\n  dbgate policy explain public.customers.email --target prod --as ana@example.com,engineers\n  dbgate policy explain -c 'delete from orders' --target prod --as ana@example.com,engineers --access write"
    )]
    Explain(explain::ExplainArguments),
    /// Show the scope that a session gets, its digest, and the SQL it compiles to
    #[command(
        after_help = "Examples:\n  dbgate policy show-scope --target prod --as ana@example.com,engineers\n  dbgate policy show-scope --target prod --as ana@example.com,engineers --canonical | sha256sum"
    )]
    ShowScope(explain::ShowScopeArguments),
}

/// Does what is asked.
pub async fn run(arguments: &PolicyArguments, form: Form) -> Result<Exit, Failure> {
    match &arguments.command {
        None => show(&arguments.pack, arguments.output.as_deref()),
        Some(PolicyCommand::Lint(arguments)) => lint::run(arguments, form).await,
        Some(PolicyCommand::Test(arguments)) => test::run(arguments, form),
        Some(PolicyCommand::Explain(arguments)) => explain::run(arguments, form).await,
        Some(PolicyCommand::ShowScope(arguments)) => explain::show_scope(arguments, form).await,
    }
}

fn show(name: &str, folder: Option<&std::path::Path>) -> Result<Exit, Failure> {
    let sources = pack::sources(name).ok_or_else(|| files::no_pack(name))?;
    let Some(folder) = folder else {
        sources.iter().filter(|source| source.name.ends_with(".cedar")).for_each(|source| print!("{}", source.text));
        return Ok(Exit::Ok);
    };
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    for source in sources {
        let file = folder.join(&source.name);
        // Somebody's own work is not written over.
        if file.exists() {
            return Err(Failure::new(Exit::Failed, format!("{} exists already", file.display())));
        }
        std::fs::write(&file, source.text).map_err(failed)?;
        println!("{}", file.display());
    }
    Ok(Exit::Ok)
}
