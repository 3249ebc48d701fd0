//! `dbgate policy lint`: every mistake and every suspicion, with file and line.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::configured::{Configured, rejected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::policy::files::{self, Found, Which};
use crate::cli::whoami::Form;
use crate::core::policy::file::Problem;
use crate::core::policy::{Policy, lint, pack};
use crate::core::text::escape;
use crate::server::catalog;
use crate::server::http::refusal::chain;

#[derive(Clone, Debug, clap::Args)]
pub struct LintArguments {
    #[command(flatten)]
    pub which: Which,
    /// Target whose database the policy is held against; without a path, the target's own policy
    #[arg(long)]
    pub target: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/dbgate/server.toml")]
    pub config: PathBuf,
    /// File with `user=… password=…` of a superuser (mode 0600); without it, the broker asks
    #[arg(long, value_name = "FILE", requires = "target")]
    pub superuser_dsn_file: Option<PathBuf>,
    /// Exit 8 where there are warnings
    #[arg(long)]
    pub strict: bool,
}

/// Reads the policy, and holds it against a database where one is named.
pub async fn run(arguments: &LintArguments, form: Form) -> Result<Exit, Failure> {
    let target = arguments.target.as_deref().map(|name| Configured::find(&arguments.config, name)).transpose()?;
    let found = files::read(&arguments.which, target)?;
    let (errors, warnings) = match Policy::parse(&found.sources) {
        Err(problems) => (problems, Vec::new()),
        Ok(policy) => (Vec::new(), warnings(&policy, &found, arguments).await?),
    };
    let exit = match (errors.is_empty(), warnings.is_empty(), arguments.strict) {
        (false, _, _) => Exit::Config,
        (true, false, true) => Exit::Incomplete,
        (true, true, _) | (true, false, false) => Exit::Ok,
    };
    if form == Form::Json {
        let listed = |severity: &str, problems: &[Problem]| -> Vec<Value> {
            let one = |problem: &Problem| {
                json!({"severity": severity, "file": found.folder.join(&problem.file).display().to_string(),
                    "line": problem.line, "message": problem.message})
            };
            problems.iter().map(one).collect()
        };
        let problems = [listed("error", &errors), listed("warning", &warnings)].concat();
        println!("{:#}", json!({"schema": "dbgate.policy-lint/1", "exit_code": exit.code(), "problems": problems}));
        return Ok(exit);
    }
    errors.iter().for_each(|problem| println!("error    {}", escape(&files::told(&found.folder, problem))));
    warnings.iter().for_each(|problem| println!("warning  {}", escape(&files::told(&found.folder, problem))));
    if errors.is_empty() && warnings.is_empty() {
        println!("no problem found");
    }
    Ok(exit)
}

async fn warnings(policy: &Policy, found: &Found, arguments: &LintArguments) -> Result<Vec<Problem>, Failure> {
    let mut warnings = lint::files(policy, &found.sources);
    if let Some(place) = &found.target {
        let client = place.client(arguments.superuser_dsn_file.as_deref(), "dbgate policy lint").await?;
        client
            .batch_execute("set default_transaction_read_only = on")
            .await
            .map_err(|e| rejected(&place.target, &e))?;
        let catalog = catalog::read(&client, place.target.database()).await;
        let catalog = catalog.map_err(|error| Failure::new(Exit::Sql, chain(&error)))?;
        let config = place.target.config();
        warnings.extend(lint::database(policy, &found.sources, &config.name, &config.environment, &catalog));
    }
    let built_in = |problem: &Problem| found.sources.iter().any(|s| s.name == problem.file && pack::is_built_in(s));
    warnings.retain(|problem| !built_in(problem));
    Ok(warnings)
}
