//! `dbgate target diff`: what `target init` would change, and what is there that it did not make.

use serde_json::json;

use crate::cli::configured::{Configured, Place, rejected};
use crate::cli::exit::{Exit, Failure};
use crate::cli::whoami::Form;
use crate::core::text::escape;
use crate::server::doctor::{self, Finding};

/// Compares. Differences are an exit code of their own: 8, expectation not met.
pub async fn run(arguments: &Place, form: Form) -> Result<Exit, Failure> {
    let place = Configured::find(&arguments.config, &arguments.name)?;
    let client = place.client(arguments.superuser_dsn_file.as_deref(), "dbgate target diff").await?;
    let found = doctor::preparation(&place.target, &client).await;
    let preparation = found.map_err(|error| rejected(&place.target, &error))?;
    let is_same = preparation.missing.is_empty() && preparation.extra.is_empty();
    let exit = if is_same { Exit::Ok } else { Exit::Incomplete };
    if form == Form::Json {
        let answer = json!({
            "schema": "dbgate.target-diff/1",
            "exit_code": exit.code(),
            "target": arguments.name,
            "database": place.target.database(),
            "missing": preparation.missing,
            "extra": preparation.extra,
        });
        println!("{answer:#}");
        return Ok(exit);
    }
    preparation.missing.iter().for_each(|finding| tell("missing", finding));
    preparation.extra.iter().for_each(|finding| tell("extra", finding));
    match (preparation.missing.is_empty(), is_same) {
        (_, true) => println!("{}: as `target init` leaves it", arguments.name),
        (false, _) => eprintln!("Run: dbgate target init {} --apply --superuser-dsn-file FILE", arguments.name),
        (true, false) => {}
    }
    Ok(exit)
}

fn tell(word: &str, finding: &Finding) {
    let detail = if finding.detail.is_empty() { String::new() } else { format!(" ({})", escape(&finding.detail)) };
    println!("{word}  {}  {}{detail}", finding.code, escape(&finding.object));
    finding.sql.iter().for_each(|sql| println!("    {};", escape(sql)));
}
