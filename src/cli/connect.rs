//! `dbgate connect`: the interactive session; with piped input the same as `exec`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args::{Asking, ExecArgs, Global, Source};
use crate::cli::exec::{self, Reading};
use crate::cli::exit::{Exit, Failure};
use crate::cli::people::{Interrupt, People};
use crate::cli::typed::{self, Shell};
use crate::cli::workstation::Workstation;
use crate::cli::{repeat, session};
use crate::client::check::Advice;
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin};
use crate::client::script::{Item, Pending, Splitter, Statement};
use crate::client::shell::describe;
use crate::client::shell::line::{Line, Prompter};
use crate::client::shell::meta::{self, Expanded, Meta};
use crate::client::shell::variables::Variables;
use crate::core::text;

/// How long somebody at the prompt waits for people who must approve.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Runs `dbgate connect`.
pub async fn run(global: &Global, target: &str, ask: &Asking, no_history: bool) -> Result<Exit, Failure> {
    if !session::is_interactive(global.no_input) {
        return piped(global, target, ask).await;
    }
    let granted = session::grant(global.server.as_deref(), target, ask, true).await?;
    let history = (!no_history).then(|| granted.desk.paths.state().join("history").join(target));
    let (mut open, desk, token) = session::open(granted, "dbgate connect").await?;
    if !global.quiet {
        banner(&open);
    }
    let exit = interact(&mut open, history, &desk).await;
    let closed = session::close(open, &desk, &token).await;
    let exit = exit?;
    if let (Some(path), false) = (closed?, global.quiet) {
        eprintln!("Transcript: {path}\nVerify it: dbgate audit verify {path}");
    }
    Ok(exit)
}

/// Without a person at a prompt it is `exec` of what standard input holds.
async fn piped(global: &Global, target: &str, ask: &Asking) -> Result<Exit, Failure> {
    if std::io::stdin().is_terminal() {
        let why = "a prompt would open here, but nobody is there to type (--no-input, CI, or an agent's variable)";
        return Err(Failure::new(Exit::Usage, why).hint(format!("Run: dbgate exec {} -c SQL", text::escape(target))));
    }
    let source = Source { commands: Vec::new(), files: Vec::new(), stdin: Some("-".to_owned()) };
    exec::run(global, &ExecArgs::of(target, source, ask), Reading::WhenOpen).await
}

fn banner(open: &Session) {
    let answer = &open.credential().answer;
    // "15.18 (Debian 15.18-0+deb12u1)": what was packaged how is the server's own business.
    let version = open.parameters().get("server_version").and_then(|text| text.split(' ').next()).unwrap_or_default();
    println!(
        "{} · {} · {} · PostgreSQL {version} · {} · until {} · session {}",
        answer.target,
        answer.environment,
        answer.database,
        answer.access.word(),
        answer.expires_at,
        session::short(open.id())
    );
    let masked: Vec<_> = answer
        .masks
        .iter()
        .take(4)
        .map(|mask| format!("{}.{}", text::escape(&mask.relation), text::escape(&mask.column)))
        .collect();
    let more = if answer.masks.len() > 4 { ", …" } else { "" };
    let masked = if masked.is_empty() { "none".to_owned() } else { format!("{}{more}", masked.join(", ")) };
    println!("Recorded: statements and outcomes are logged under your name. Masked: {masked} (\\gate)");
    println!("Help: \\?   Quit: \\q");
}

/// What a person at the prompt has said so far.
struct Conversation<'a> {
    shell: Shell<'a>,
    splitter: Splitter,
    variables: Variables,
    /// The last statement, for commands that stand alone.
    last: String,
}

impl Conversation<'_> {
    /// What is typed, else what was run last: what `\g` and its like are about.
    fn statement(&mut self) -> Option<String> {
        if let Some(typed) = self.splitter.finish() {
            self.last = self.variables.fill(&typed.text);
        }
        if self.last.is_empty() {
            eprintln!("Nothing is typed, and nothing was run.");
        }
        (!self.last.is_empty()).then(|| self.last.clone())
    }
}

async fn interact(open: &mut Session, history: Option<PathBuf>, desk: &Workstation) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("the terminal: {error}"));
    let mut prompter = Prompter::new(&open.credential().answer, history).map_err(failed)?;
    let people = People { desk, patience: PATIENCE, interrupt: Interrupt::Withdraws };
    let shell = Shell { people, expanded: Expanded::Off, is_timing: false, width: None };
    let (splitter, variables, last) = (Splitter::default(), Variables::default(), String::new());
    let mut conversation = Conversation { shell, splitter, variables, last };
    let mut typed = String::new();
    let mut is_leaving = false;
    loop {
        let prompt = prompt(open, &conversation.splitter);
        conversation.shell.width = prompter.width();
        match tokio::task::block_in_place(|| prompter.ask(&prompt)).map_err(failed)? {
            Line::Typed(line) => {
                let was_leaving = std::mem::take(&mut is_leaving);
                typed.push_str(&line);
                typed.push('\n');
                let items = conversation.splitter.push(&format!("{line}\n"));
                let word = line.trim();
                if items.is_empty() && matches!(word, "exit" | "quit") && conversation.splitter.text().trim() == word {
                    conversation.splitter.clear();
                    typed.clear();
                    if may_leave(open, was_leaving) {
                        return Ok(Exit::Ok);
                    }
                    is_leaving = true;
                    continue;
                }
                let (may_be_whole, mut goes_on) = (!items.is_empty(), Ok(true));
                let mut remember = |conversation: &Conversation<'_>| {
                    let is_whole = may_be_whole && matches!(conversation.splitter.pending(), Pending::Nothing);
                    if is_whole && !typed.is_empty() {
                        prompter.remember(&typed);
                        typed.clear();
                    }
                };
                remember(&conversation);
                for item in items {
                    goes_on = act(open, item, &mut conversation).await;
                    if !matches!(goes_on, Ok(true)) {
                        break;
                    }
                }
                // `\g` and its kin end a statement only when they run.
                remember(&conversation);
                if !goes_on? {
                    if may_leave(open, was_leaving) {
                        return Ok(Exit::Ok);
                    }
                    is_leaving = true;
                }
            }
            Line::Cleared => {
                is_leaving = false;
                conversation.splitter.clear();
                typed.clear();
            }
            Line::End if may_leave(open, is_leaving) => return Ok(Exit::Ok),
            Line::End => is_leaving = true,
        }
    }
}

/// Whether nothing is lost by leaving, or whoever leaves has been told: a slip of the finger should not throw work away.
fn may_leave(open: &Session, was_told: bool) -> bool {
    // What has failed has nothing left to lose.
    let may = open.status() != b'T' || was_told;
    if !may {
        eprintln!("A transaction is open and would be rolled back. COMMIT it, or leave again (Ctrl-D or \\q).");
    }
    may
}

/// `demo/shop ro=> `, with `*` in a transaction, `!` in a failed one.
fn prompt(open: &Session, splitter: &Splitter) -> String {
    let answer = &open.credential().answer;
    let transaction = match open.status() {
        b'T' => "*",
        b'E' => "!",
        _ => "",
    };
    let letter = splitter.pending().letter();
    format!("{}/{} {}{transaction}{letter}> ", answer.target, answer.database, answer.access.prompt())
}

/// Does what was typed; false to quit.
async fn act(open: &mut Session, item: Item, conversation: &mut Conversation<'_>) -> Result<bool, Failure> {
    let shell = conversation.shell;
    match item {
        Item::Statement(statement) => {
            conversation.last = conversation.variables.fill(&statement.text);
            typed::run(open, &conversation.last, shell).await?;
        }
        Item::Command { text, .. } => match meta::parse(&text) {
            Meta::Quit => return Ok(false),
            Meta::Help => print!("{}", meta::HELP),
            Meta::Expanded(setting) => {
                let other = if shell.expanded == Expanded::Off { Expanded::On } else { Expanded::Off };
                conversation.shell.expanded = setting.unwrap_or(other);
                println!("{}", expanded_is(conversation.shell.expanded));
            }
            Meta::Timing(setting) => {
                conversation.shell.is_timing = setting.unwrap_or(!shell.is_timing);
                println!("Timing is {}.", if conversation.shell.is_timing { "on" } else { "off" });
            }
            Meta::Go { expanded } => {
                if let Some(statement) = conversation.statement() {
                    let shell = if expanded { Shell { expanded: Expanded::On, ..shell } } else { shell };
                    typed::run(open, &statement, shell).await?;
                }
            }
            Meta::Keep(prefix) => {
                if let Some(statement) = conversation.statement()
                    && let Some(row) = typed::one_row(open, &statement, shell).await?
                {
                    repeat::keep(&mut conversation.variables, &prefix, row);
                }
            }
            Meta::Watch(said) => match conversation.variables.words(&said).and_then(|words| meta::watching(&words)) {
                Ok(watching) => {
                    if let Some(statement) = conversation.statement() {
                        repeat::watch(open, &statement, shell, watching).await?;
                    }
                }
                Err(message) => eprintln!("{}", text::escape(&message)),
            },
            Meta::Echo(said) => echo(&conversation.variables, &said),
            Meta::Set(said) => set(&mut conversation.variables, &said),
            Meta::Unset(name) => conversation.variables.unset(&name),
            Meta::Print => println!("{}", text::escape_keeping_lines(conversation.splitter.text().trim_end())),
            Meta::Reset => {
                conversation.splitter.clear();
                println!("Query buffer reset (cleared).");
            }
            Meta::Describe(name) => describe(open, &name).await?,
            Meta::List(sql) => typed::run(open, &sql, shell).await.map(drop)?,
            Meta::Conninfo => conninfo(open),
            Meta::Gate => {
                banner(open);
                for mask in &open.credential().answer.masks {
                    let name = format!("{}.{}.{}", mask.schema, mask.relation, mask.column);
                    println!("  masked  {}  ({})", text::escape(&name), mask.mask);
                }
            }
            Meta::Unknown(message) => eprintln!("{}", text::escape(&message)),
        },
    }
    Ok(true)
}

fn conninfo(open: &Session) {
    let answer = &open.credential().answer;
    println!(
        "You are connected to database \"{}\" of target \"{}\" as {} through {}:{} (TLS). Session {}, {} access until {}.",
        answer.database,
        answer.target,
        answer.principal.subject,
        answer.gateway.host,
        answer.gateway.port,
        open.id().as_str(),
        answer.access.word(),
        answer.expires_at
    );
}

/// `\echo`: the words with a blank between them.
fn echo(variables: &Variables, said: &str) {
    match variables.words(said) {
        Ok(words) => println!("{}", text::escape_keeping_lines(&words.join(" "))),
        Err(message) => eprintln!("\\echo: {message}"),
    }
}

/// `\set`: all variables, or a new value for one of them.
fn set(variables: &mut Variables, said: &str) {
    let outcome = variables.words(said).and_then(|words| match words.as_slice() {
        [] => {
            for (name, value) in variables.iter() {
                println!("{name} = '{}'", text::escape(value));
            }
            Ok(())
        }
        // As in psql, the values are put together as they are.
        [name, values @ ..] => variables.set(name, &values.concat()),
    });
    if let Err(message) = outcome {
        eprintln!("\\set: {}", text::escape(&message));
    }
}

/// As psql says it.
fn expanded_is(setting: Expanded) -> &'static str {
    match setting {
        Expanded::Off => "Expanded display is off.",
        Expanded::On => "Expanded display is on.",
        Expanded::Auto => "Expanded display is used automatically.",
    }
}

/// `\d NAME`: three queries, one picture.
async fn describe(open: &mut Session, name: &str) -> Result<(), Failure> {
    let Some(found) = rows(open, &describe::find(name)).await? else { return Ok(()) };
    let oid = found.first().and_then(|row| row.get(3)?.as_deref()?.parse::<u32>().ok());
    let (Some(relation), Some(oid)) = (found.first(), oid) else {
        eprintln!("Did not find any relation named \"{}\".", text::escape(name));
        return Ok(());
    };
    let Some(columns) = rows(open, &describe::columns(oid)).await? else { return Ok(()) };
    let Some(footers) = rows(open, &describe::footers(oid)).await? else { return Ok(()) };
    println!("{}", describe::show(relation, &columns, &footers, &open.credential().answer.masks));
    Ok(())
}

/// The rows of a query of our own; none, and the error is shown, where it failed.
async fn rows(open: &mut Session, sql: &str) -> Result<Option<describe::Rows>, Failure> {
    let (mut rows, mut failed) = (describe::Rows::new(), None);
    let mut see = |event: Event<'_>| {
        match event {
            Event::Row(values) => rows.push(describe::as_text(values)),
            Event::Error(fields) => failed = Some(fields.clone()),
            _ => {}
        }
        Reply::GoOn
    };
    open.run(sql, Advice::Fine.word(), &mut see).await?;
    match failed {
        Some(fields) => {
            let statement = Statement { text: sql.to_owned(), line: 1, column: 1 };
            eprint!("{}", report::error(&fields, &Origin { file: None, statement: &statement }));
            Ok(None)
        }
        None => Ok(Some(rows)),
    }
}
