//! `dbgate review`, `dbgate approve`, `dbgate reject`: deciding what others asked for.
//!
//! Each decision is made with a token that the issuer has just renewed: membership in the group
//! counts at the moment of deciding.

use std::io::{IsTerminal as _, Write as _};

use crate::cli::exit::{Exit, Failure};
use crate::cli::request::shown;
use crate::cli::whoami::Form;
use crate::cli::workstation::Workstation;
use crate::client::render::request;
use crate::core::api::request::{Approve, RequestView};

/// `dbgate approve`.
pub async fn approve(
    server: Option<&str>,
    form: Form,
    id: &str,
    comment: Option<String>,
    max_rows: Option<u64>,
) -> Result<Exit, Failure> {
    let desk = Workstation::open(server, None)?;
    let body = Approve { comment, max_rows, review: None };
    decided(&desk.broker.approve(&desk.fresh_token().await?, id, &body).await?, form)
}

/// `dbgate reject`.
pub async fn reject(server: Option<&str>, form: Form, id: &str, comment: &str) -> Result<Exit, Failure> {
    let desk = Workstation::open(server, None)?;
    decided(&desk.broker.say(&desk.fresh_token().await?, id, "reject", comment).await?, form)
}

fn decided(view: &RequestView, form: Form) -> Result<Exit, Failure> {
    if form == Form::Json {
        return shown(view, form);
    }
    match view.state.as_str() {
        "pending" => {
            let reviewers = &view.reviewers;
            println!("{}: {} of {} agree; it takes another.", view.request_id, reviewers.given, reviewers.needed);
        }
        _ => println!("{}", request::verdict(view)),
    }
    Ok(Exit::Ok)
}

/// `dbgate review`: the queue, one by one.
pub async fn run(server: Option<&str>) -> Result<Exit, Failure> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Failure::new(Exit::Usage, "`dbgate review` asks questions, but there is no terminal.")
            .hint("Use: dbgate request ls --reviewable, dbgate approve ID, dbgate reject ID -m TEXT"));
    }
    let desk = Workstation::open(server, None)?;
    let queue = desk.broker.requests(&desk.token().await?, "reviewable").await?.requests;
    if queue.is_empty() {
        println!("Nothing waits for your decision.");
        return Ok(Exit::Ok);
    }
    let count = queue.len();
    for (index, view) in queue.iter().enumerate() {
        println!("\n{} of {count}\n{}", index + 1, request::card(view));
        if !one(&desk, view).await? {
            break;
        }
    }
    Ok(Exit::Ok)
}

/// One request: until it is decided or skipped. False to stop.
async fn one(desk: &Workstation, view: &RequestView) -> Result<bool, Failure> {
    let id = view.request_id.as_str();
    // What was shown is what is decided.
    let seen = Approve { review: Some(view.awaits_review()), ..Approve::default() };
    loop {
        let Some(choice) = ask("[a]pprove  [c]ap rows  [x] reject  ask a [q]uestion  [s]kip  [e]nd: ")? else {
            return Ok(false);
        };
        let answered = match choice.as_str() {
            "a" => desk.broker.approve(&desk.fresh_token().await?, id, &seen).await,
            "c" => {
                let Some(rows) = ask("most rows: ")?.and_then(|text| text.replace(',', "").parse().ok()) else {
                    println!("That is no number.");
                    continue;
                };
                let body = Approve { max_rows: Some(rows), ..seen.clone() };
                desk.broker.approve(&desk.fresh_token().await?, id, &body).await
            }
            "x" | "q" => {
                let verb = if choice == "x" { "reject" } else { "question" };
                let Some(text) = ask("what to say: ")?.filter(|text| !text.is_empty()) else { continue };
                desk.broker.say(&desk.fresh_token().await?, id, verb, &text).await
            }
            "s" | "" => return Ok(true),
            "e" => return Ok(false),
            _ => continue,
        };
        match answered {
            Ok(view) if view.state == "pending" && choice == "q" => println!("Asked. It still waits."),
            Ok(view) => {
                println!("{}", request::verdict(&view));
                return Ok(true);
            }
            // One that somebody else decided in the meantime does not end the queue.
            Err(error) => println!("{}", Failure::from(error).message),
        }
    }
}

/// A line that was typed; nothing at the end of the input.
fn ask(question: &str) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("the terminal: {error}"));
    print!("{question}");
    std::io::stdout().flush().map_err(failed)?;
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line).map_err(failed)? {
        0 => Ok(None),
        _ => Ok(Some(line.trim().to_owned())),
    }
}
