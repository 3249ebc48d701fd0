//! `dbgate whoami`: whom the broker takes you for, and where that token rests.

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::workstation::Workstation;
use crate::core::text::escape;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs: one object with a `schema` member.
    Json,
}

/// Asks the broker, so that the answer is what counts and not what the token says of itself.
pub async fn run(server: Option<&str>, form: Form) -> Result<(), Failure> {
    let desk = Workstation::open(server, None)?;
    let signed_in = desk.signed_in()?;
    let who = desk.broker.whoami(&signed_in.token().await?).await?;
    let place = signed_in.where_it_is();
    match form {
        Form::Json => print_json(&json!({
            "schema": "dbgate.whoami/1",
            "server": desk.server.url,
            "subject": who.subject,
            "issuer": who.issuer,
            "kind": who.kind,
            "groups": who.groups,
            "expires_at": who.expires_at,
            "token_in": place,
        })),
        Form::Text => {
            let groups = if who.groups.is_empty() { "none".to_owned() } else { who.groups.join(", ") };
            for (label, value) in [
                ("Subject", who.subject.as_str()),
                ("Kind", &who.kind),
                ("Groups", &groups),
                ("Issuer", &who.issuer),
                ("Broker", &desk.server.url),
                ("Token", &format!("{place}, ends {}", who.expires_at)),
            ] {
                println!("{label:<8} {}", escape(value));
            }
            Ok(())
        }
    }
}

/// One JSON document on standard output.
pub fn print_json(answer: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(answer).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    println!("{text}");
    Ok(())
}
