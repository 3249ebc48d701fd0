//! `dbgate connect`: the interactive session; with piped input the same as `exec`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::args::{Asking, ExecArgs, Global, Source};
use crate::cli::exec::{self, Reading};
use crate::cli::exit::{Exit, Failure};
use crate::cli::people::{self, People};
use crate::cli::session;
use crate::cli::workstation::Workstation;
use crate::client::check::{self, Advice};
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin};
use crate::client::render::request;
use crate::client::render::table::{self, Held};
use crate::client::render::{self};
use crate::client::script::{Item, Pending, Splitter, Statement};
use crate::client::shell::describe;
use crate::client::shell::line::{Line, Prompter};
use crate::client::shell::meta::{self, Expanded, Meta};
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
    let masked: Vec<_> = answer.masks.iter().take(4).map(|mask| format!("{}.{}", mask.relation, mask.column)).collect();
    let more = if answer.masks.len() > 4 { ", …" } else { "" };
    let masked = if masked.is_empty() { "none".to_owned() } else { format!("{}{more}", masked.join(", ")) };
    println!("Recorded: statements and outcomes are logged under your name. Masked: {masked} (\\gate)");
    println!("Help: \\?   Quit: \\q");
}

/// What the person has switched.
#[derive(Clone, Copy)]
struct Shell<'a> {
    people: People<'a>,
    expanded: Expanded,
    is_timing: bool,
    /// Columns of the terminal, where that is known.
    width: Option<usize>,
}

async fn interact(open: &mut Session, history: Option<PathBuf>, desk: &Workstation) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("the terminal: {error}"));
    let mut prompter = Prompter::new(&open.credential().answer, history).map_err(failed)?;
    let people = People { desk, patience: PATIENCE };
    let mut shell = Shell { people, expanded: Expanded::Off, is_timing: false, width: None };
    let mut splitter = Splitter::default();
    let mut typed = String::new();
    let mut is_leaving = false;
    loop {
        let prompt = prompt(open, &splitter);
        shell.width = prompter.width();
        match tokio::task::block_in_place(|| prompter.ask(&prompt)).map_err(failed)? {
            Line::Typed(line) => {
                is_leaving = false;
                typed.push_str(&line);
                typed.push('\n');
                let items = splitter.push(&format!("{line}\n"));
                if !items.is_empty() && matches!(splitter.pending(), Pending::Nothing) {
                    prompter.remember(&typed);
                    typed.clear();
                }
                let word = line.trim();
                if items.is_empty() && matches!(word, "exit" | "quit") && splitter.text().trim() == word {
                    return Ok(Exit::Ok);
                }
                for item in items {
                    if !act(open, item, &mut shell, &mut splitter).await? {
                        return Ok(Exit::Ok);
                    }
                }
            }
            Line::Cleared => {
                splitter.clear();
                typed.clear();
            }
            // Leaving throws work away here; a slip of the finger should not.
            Line::End if open.status() != b'I' && !is_leaving => {
                is_leaving = true;
                eprintln!("A transaction is open and would be rolled back. COMMIT it, or press Ctrl-D again.");
            }
            Line::End => return Ok(Exit::Ok),
        }
    }
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

/// Does what was typed; false to quit. `splitter` holds what is typed so far.
async fn act(open: &mut Session, item: Item, shell: &mut Shell<'_>, splitter: &mut Splitter) -> Result<bool, Failure> {
    match item {
        Item::Statement(statement) => statement_typed(open, &statement.text, *shell).await?,
        Item::Command { text, .. } => match meta::parse(&text) {
            Meta::Quit => return Ok(false),
            Meta::Help => print!("{}", meta::HELP),
            Meta::Expanded(setting) => {
                let other = if shell.expanded == Expanded::Off { Expanded::On } else { Expanded::Off };
                shell.expanded = setting.unwrap_or(other);
                println!("{}", expanded_is(shell.expanded));
            }
            Meta::Timing(setting) => {
                shell.is_timing = setting.unwrap_or(!shell.is_timing);
                println!("Timing is {}.", if shell.is_timing { "on" } else { "off" });
            }
            Meta::Go { expanded } => {
                if let Some(statement) = splitter.finish() {
                    let shell = if expanded { Shell { expanded: Expanded::On, ..*shell } } else { *shell };
                    statement_typed(open, &statement.text, shell).await?;
                }
            }
            Meta::Print => println!("{}", text::escape_keeping_lines(splitter.text().trim_end())),
            Meta::Reset => {
                splitter.clear();
                println!("Query buffer reset (cleared).");
            }
            Meta::Describe(name) => describe(open, &name).await?,
            Meta::List(sql) => statement_typed(open, &sql, *shell).await?,
            Meta::Conninfo => {
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
            Meta::Gate => {
                banner(open);
                for mask in &open.credential().answer.masks {
                    println!("  masked  {}.{}.{}  ({})", mask.schema, mask.relation, mask.column, mask.mask);
                }
            }
            Meta::Unknown(message) => eprintln!("{}", text::escape(&message)),
        },
    }
    Ok(true)
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
    let text = |value: &Option<&[u8]>| value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut see = |event: Event<'_>| {
        match event {
            Event::Row(values) => rows.push(values.iter().map(text).collect()),
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

/// Checks, sends and shows one statement; Ctrl-C cancels it.
async fn statement_typed(open: &mut Session, typed: &str, shell: Shell<'_>) -> Result<(), Failure> {
    let sql = typed.trim_end().trim_end_matches(';');
    if sql.trim().is_empty() {
        return Ok(());
    }
    let advice = check::look(sql);
    if let Advice::Doubtful { why, offset } = &advice {
        let position = offset.and_then(|at| sql.get(..at)).map_or(1, |before| before.chars().count() + 1);
        eprint!("{}", report::caret(sql, u32::try_from(position).unwrap_or(1), "local check: ", 1));
        eprintln!("{}", text::escape(why));
    }
    let cancel = open.cancel_handle();
    let watching = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("Cancel request sent");
            // The statement may have ended by itself.
            let _ = cancel.cancel().await;
        }
    });
    let started = Instant::now();
    let mut shown = Shown { held: None, failed: None, expanded: shell.expanded, width: shell.width };
    let outcome = open.run(sql, advice.word(), &mut |event| shown.see(event)).await;
    watching.abort();
    outcome?;
    if let Some(id) = shown.failed.as_ref().and_then(people::request_of) {
        return wait(open, typed, shell, &id).await;
    }
    if let Some(fields) = &shown.failed {
        // Lines count within the statement: nobody counts the lines of a conversation.
        let statement = Statement { text: typed.to_owned(), line: 1, column: 1 };
        eprint!("{}", report::error(fields, &Origin { file: None, statement: &statement }));
    }
    if shell.is_timing {
        println!("{}", render::timing(started.elapsed()));
    }
    Ok(())
}

/// People were asked about a statement: waits for them, and runs it once they agree. Ctrl-C withdraws it.
async fn wait(open: &mut Session, typed: &str, shell: Shell<'_>, id: &str) -> Result<(), Failure> {
    let view = tokio::select! {
        view = shell.people.wait(id) => view?,
        _ = tokio::signal::ctrl_c() => return shell.people.withdraw(id).await,
    };
    match view.state.as_str() {
        "approved" => {
            eprintln!("{}", request::verdict(&view));
            return Box::pin(statement_typed(open, typed, shell)).await;
        }
        "pending" => eprint!("{}", request::waiting(&view)),
        _ => eprintln!("{}", request::verdict(&view)),
    }
    Ok(())
}

/// What of an answer is on the screen.
struct Shown {
    held: Option<(Held, Vec<render::Column>)>,
    failed: Option<crate::core::wire::backend::ErrorFields>,
    expanded: Expanded,
    width: Option<usize>,
}

impl Shown {
    fn see(&mut self, event: Event<'_>) -> Reply {
        match event {
            Event::Columns(columns) => self.held = Some((Held::new(&columns), columns)),
            Event::Row(values) => {
                if let Some((held, _)) = &mut self.held {
                    held.push(values);
                }
            }
            Event::Done(tag) => match self.held.take() {
                Some((held, columns)) => self.show(&held, &columns),
                None => println!("{}", text::escape(tag)),
            },
            Event::Notice(fields) => eprint!("{}", report::notice(fields)),
            Event::Error(fields) => self.failed = Some(fields.clone()),
            Event::CopyOut(bytes) => print!("{}", text::escape_keeping_lines(&String::from_utf8_lossy(bytes))),
            Event::CopyIn => {
                return Reply::NoData("COPY FROM STDIN takes its data from a script: dbgate exec TARGET -f FILE");
            }
            Event::Empty | Event::Cut => {}
        }
        Reply::GoOn
    }
    fn show(&self, held: &Held, columns: &[render::Column]) {
        let rows = u64::try_from(held.rows.len()).unwrap_or(u64::MAX);
        let is_expanded = match self.expanded {
            Expanded::Off => false,
            Expanded::On => true,
            Expanded::Auto => self.width.is_some_and(|width| held.width() > width),
        };
        // As in psql, records are numbered and need no count; what is masked is said all the same.
        let is_counted = !is_expanded || rows == 0 || columns.iter().any(|column| column.mask.is_some());
        print!("{}", if is_expanded { table::expanded(held, "") } else { table::aligned(held, "") });
        if is_counted {
            println!("{}", render::footer(rows, columns));
        }
        println!();
    }
}
