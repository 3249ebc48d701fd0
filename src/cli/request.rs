//! `dbgate request`: what waits for people; and `dbgate exec --resume`: running what they approved.

use std::time::Duration;

use serde_json::json;

use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{Asking, ExecArgs, Global, RequestCommand};
use crate::cli::exec::{Limits, Run, deadline};
use crate::cli::exit::{Exit, Failure};
use crate::cli::ls;
use crate::cli::people::{self, Interrupt, People};
use crate::cli::session;
use crate::cli::stop::Watch;
use crate::cli::whoami::{Form, print_json};
use crate::cli::workstation::Workstation;
use crate::client::broker::BrokerError;
use crate::client::render::request;
use crate::core::api::request::{OutcomeView, RequestView};
use crate::core::api::{ErrorCode, GrantRequest};
use crate::core::encoding;
use crate::core::identity::Declared;
use crate::core::text::{escape, grouped};

/// Settings that are bound whether the client has set them or not, and that are not made again for a
/// statement that was approved under them: few sessions have a value of their own.
const STANDING: [&str; 9] = [
    "timezone_abbreviations",
    "transform_null_equals",
    "array_nulls",
    "session_replication_role",
    "row_security",
    "default_text_search_config",
    "xmloption",
    "lc_numeric",
    "lc_monetary",
];

/// Runs `dbgate request`.
pub async fn run(server: Option<&str>, form: Form, command: &RequestCommand) -> Result<Exit, Failure> {
    let desk = Workstation::open(server, None)?;
    let token = desk.token().await?;
    match command {
        RequestCommand::Ls { mine, reviewable } => {
            let which = match (mine, reviewable) {
                (true, _) => "mine",
                (false, true) => "reviewable",
                (false, false) => "",
            };
            let found = desk.broker.requests(&token, which).await?.requests;
            match form {
                Form::Json => print_json(&json!({"schema": "dbgate.requests/1", "requests": found}))?,
                Form::Text if found.is_empty() => eprintln!("No request to show."),
                Form::Text => print!("{}", list(&found)),
            }
            Ok(Exit::Ok)
        }
        RequestCommand::Create { target, ask } => {
            let declared = Declared { agent: ask.agent.clone(), model: ask.model.clone(), task: ask.task.clone() };
            let wanted = GrantRequest {
                target: target.clone(),
                database: ask.database.clone(),
                access: ask.access,
                seconds: ask.seconds,
                reason: ask.reason.clone(),
                ticket: ask.ticket.clone(),
                declared,
                proof: None,
            };
            match desk.broker.create_request(&token, &wanted).await {
                Err(BrokerError::Api(error)) if error.code == ErrorCode::Conflict => {
                    eprintln!("{}.", escape(&error.message));
                    if form == Form::Json {
                        print_json(&json!({"state": "not_needed", "message": error.message}))?;
                    }
                    Ok(Exit::Ok)
                }
                asked => shown(&asked?, form).map(|_| Exit::Pending),
            }
        }
        RequestCommand::Show { request } => shown(&desk.broker.request(&token, request, 0).await?, form),
        RequestCommand::Wait { request, timeout } => {
            let (patience, interrupt) = (Duration::from_secs(*timeout), Interrupt::StopsWaiting);
            waited(&People { desk: &desk, patience, interrupt }.look_on(request).await?, form)
        }
        RequestCommand::Withdraw { request } => shown(&desk.broker.withdraw(&token, request).await?, form),
        RequestCommand::Say { request, message } => {
            let token = desk.fresh_token().await?;
            shown(&desk.broker.say(&token, request, "question", message).await?, form)
        }
    }
}

/// How a wait ended. The request is the answer, whatever became of it.
fn waited(view: &RequestView, form: Form) -> Result<Exit, Failure> {
    let is_approved = matches!(view.state.as_str(), "approved" | "executed");
    match form {
        Form::Json => {
            shown(view, form)?;
            let ended = people::not_approved(view);
            if !is_approved {
                eprintln!("{}", escape(&ended.message));
            }
            Ok(if is_approved { Exit::Ok } else { ended.exit })
        }
        Form::Text if is_approved => {
            println!("{}", request::verdict(view));
            Ok(Exit::Ok)
        }
        Form::Text => Err(people::not_approved(view)),
    }
}

/// Prints a request.
pub fn shown(view: &RequestView, form: Form) -> Result<Exit, Failure> {
    match form {
        Form::Json => print_json(&json!(view))?,
        Form::Text => print!("{}", request::card(view)),
    }
    Ok(Exit::Ok)
}

fn list(requests: &[RequestView]) -> String {
    let mut rows = vec![["REQUEST", "STATE", "WHO", "TARGET", "ROWS", "STATEMENT"].map(str::to_owned)];
    for view in requests {
        let trial = view.impact.trial.as_ref().filter(|trial| trial.skipped.is_none());
        let rows_changed = trial.map_or_else(|| "?".to_owned(), |trial| grouped(trial.rows));
        let statement: String = view.statement.split_whitespace().collect::<Vec<_>>().join(" ");
        let statement: String = statement.chars().take(60).collect();
        rows.push(
            [&view.request_id, &view.state, &request::actor(view), &view.target, &rows_changed, &statement]
                .map(|cell| escape(cell).into_owned()),
        );
    }
    ls::columns(&rows)
}

/// Runs what a request was approved for; the second time it says what came of the first.
pub async fn resume(global: &Global, arguments: &ExecArgs, id: &str, answer: &mut Answer) -> Result<Exit, Failure> {
    let desk = Workstation::open(global.server.as_deref(), None)?;
    let token = desk.token().await?;
    let patience = Duration::from_secs(arguments.wait.unwrap_or(0));
    let people = People { desk: &desk, patience, interrupt: Interrupt::StopsWaiting };
    let not_yours = || {
        Failure::new(Exit::Denied, format!("`{}` is not your request: only whoever asked can run it.", escape(id)))
            .hint("Your own: dbgate request ls --mine")
    };
    let view = match desk.broker.request(&token, id, 0).await {
        Err(BrokerError::Api(error)) if error.code == ErrorCode::NotFound => return Err(not_yours()),
        answered => answered?,
    };
    let me = desk.broker.whoami(&token).await?;
    if (&view.principal.subject, &view.principal.issuer) != (&me.subject, &me.issuer) {
        return Err(not_yours());
    }
    if view.kind != "statement" {
        return Err(Failure::new(Exit::Usage, format!("{} is for a session, not for a statement.", view.request_id))
            .hint(format!("Once it is approved: {}", view.resume_argv.join(" "))));
    }
    answer.about(&view);
    let view = people.look_on(id).await?;
    match view.state.as_str() {
        "approved" => {}
        "pending" => {
            eprint!("{}", request::waiting(&view));
            answer.waits(Outcome::new(&view.statement, Limits::NONE), &view);
            return Ok(Exit::Pending);
        }
        "executed" => return replay(&view, answer),
        _ => {
            eprintln!("{}", request::verdict(&view));
            answer.waits(Outcome::new(&view.statement, Limits::NONE), &view);
            return Ok(Exit::Rejected);
        }
    }
    execute(global, arguments, &view, answer).await
}

/// The stored text, in a session like the one it was asked in.
async fn execute(
    global: &Global,
    arguments: &ExecArgs,
    view: &RequestView,
    answer: &mut Answer,
) -> Result<Exit, Failure> {
    let unreadable = || Failure::new(Exit::Connection, "The broker's answer cannot be used: values of the request");
    let bound = view.binds.values.as_deref().map(|text| encoding::unbase64(text).ok_or_else(unreadable)).transpose()?;
    let asking = Asking {
        database: Some(view.database.clone()),
        access: view.access,
        seconds: None,
        reason: view.reason.clone(),
        ticket: view.ticket.clone(),
        agent: view.agent.clone(),
        model: None,
        task: None,
    };
    let granted = session::grant(global.server.as_deref(), &view.target, &asking, true).await?;
    answer.granted(&granted.credential.answer);
    let settings: Vec<_> = view.binds.settings.iter().filter(|(name, _)| !STANDING.contains(&name.as_str())).collect();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (mut open, desk, token) = session::open_with(granted, "dbgate exec", "1", &settings).await?;
    answer.opened(&open);
    let watch = Watch::begin(open.cancel_handle(), deadline(arguments))?;
    let mut run = Run {
        people: People { desk: &desk, patience: Duration::ZERO, interrupt: Interrupt::StopsWaiting },
        open: &mut open,
        bound,
        format: global.format,
        limits: Limits::of(arguments),
        on_error: arguments.on_error,
        watch: &watch,
        answer,
    };
    let ran = run.texts(&[(None, view.statement.clone())]).await;
    let closed = session::close(open, &desk, &token).await;
    let exit = ran?;
    answer.evidence = closed?;
    Ok(exit)
}

/// What came of the one use. Nothing is run.
fn replay(view: &RequestView, answer: &mut Answer) -> Result<Exit, Failure> {
    let Some(OutcomeView { how, command_tag, sqlstate, message, .. }) = &view.outcome else {
        return Err(people::not_approved(view));
    };
    let mut outcome = Outcome::new(&view.statement, Limits::NONE);
    answer.is_replayed = true;
    match (how.as_str(), command_tag) {
        ("committed", Some(tag)) => {
            outcome.done(tag);
            answer.push(outcome);
            if answer.is_for_people {
                println!("{}", escape(tag));
            }
            eprintln!("{} was used already; this is what came of it.", view.request_id);
            Ok(Exit::Ok)
        }
        ("unknown", _) => {
            answer.lost(outcome);
            let message = format!("{} was used, and what came of it is not known.", view.request_id);
            Err(Failure::new(Exit::OutcomeUnknown, message).hint("Look at the data before you ask again"))
        }
        _ => {
            let fields = crate::core::wire::backend::ErrorFields::error(
                sqlstate.as_deref().unwrap_or("XX000"),
                message.clone().unwrap_or_default(),
            );
            let exit = crate::cli::exec::exit_of(&fields);
            let statement = crate::client::script::Statement { text: view.statement.clone(), line: 1, column: 1 };
            let origin = crate::client::render::report::Origin { file: None, statement: &statement };
            eprint!("{}", crate::client::render::report::error(&fields, &origin));
            answer.failed(outcome, &fields, &origin, exit);
            Ok(exit)
        }
    }
}
