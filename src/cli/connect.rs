//! `dbgate connect`: the interactive session; with piped input the same as `exec`.

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::args::{Asking, Format, Global, OnError};
use crate::cli::exec::{self, Limits};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Answer;
use crate::cli::session;
use crate::client::check::{self, Advice};
use crate::client::connect::{Event, Reply, Session};
use crate::client::render::report::{self, Origin};
use crate::client::render::table::{self, Held};
use crate::client::render::{self};
use crate::client::script::{Item, Pending, Splitter, Statement};
use crate::client::shell::line::{Line, Prompter};
use crate::client::shell::meta::{self, Meta};
use crate::core::text;

/// Runs `dbgate connect`.
pub async fn run(global: &Global, target: &str, ask: &Asking, no_history: bool) -> Result<Exit, Failure> {
    let granted = session::grant(global.server.as_deref(), target, ask, true).await?;
    let history = (!no_history).then(|| granted.desk.paths.state().join("history").join(target));
    let (mut open, desk, token) = session::open(granted, "dbgate connect").await?;
    let exit = match session::is_interactive() {
        true => {
            banner(&open);
            interact(&mut open, history).await
        }
        false => piped(&mut open, global.format).await,
    };
    let closed = session::close(open, &desk, &token).await;
    let exit = exit?;
    if let (Some(path), true) = (closed?, session::is_interactive()) {
        eprintln!("Transcript: {path}\nVerify it: dbgate audit verify {path}");
    }
    Ok(exit)
}

async fn piped(open: &mut Session, format: Format) -> Result<Exit, Failure> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read standard input: {error}")))?;
    let limits = Limits { max_rows: None, is_agent: false };
    let target = open.credential().answer.target.clone();
    let mut answer = Answer::new(&target);
    let exit = exec::run_text(open, Some("<stdin>"), &text, format, limits, OnError::Stop, &mut answer).await?;
    Ok(exit)
}

fn banner(open: &Session) {
    let answer = &open.credential().answer;
    let version = open.parameters().get("server_version").map_or("", String::as_str);
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
struct Shell {
    is_expanded: bool,
    is_timing: bool,
}

async fn interact(open: &mut Session, history: Option<PathBuf>) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("the terminal: {error}"));
    let mut prompter = Prompter::new(&open.credential().answer, history).map_err(failed)?;
    let mut shell = Shell { is_expanded: false, is_timing: false };
    let mut splitter = Splitter::default();
    let mut typed = String::new();
    loop {
        let prompt = prompt(open, &splitter);
        match tokio::task::block_in_place(|| prompter.ask(&prompt)).map_err(failed)? {
            Line::Typed(line) => {
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
                    if !act(open, item, &mut shell).await? {
                        return Ok(Exit::Ok);
                    }
                }
            }
            Line::Cleared => {
                splitter.clear();
                typed.clear();
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

/// Does what was typed; false to quit.
async fn act(open: &mut Session, item: Item, shell: &mut Shell) -> Result<bool, Failure> {
    match item {
        Item::Statement(statement) => statement_typed(open, &statement, shell).await?,
        Item::Command { text, .. } => match meta::parse(&text) {
            Meta::Quit => return Ok(false),
            Meta::Help => print!("{}", meta::HELP),
            Meta::Expanded(setting) => {
                shell.is_expanded = setting.unwrap_or(!shell.is_expanded);
                println!("Expanded display is {}.", if shell.is_expanded { "on" } else { "off" });
            }
            Meta::Timing(setting) => {
                shell.is_timing = setting.unwrap_or(!shell.is_timing);
                println!("Timing is {}.", if shell.is_timing { "on" } else { "off" });
            }
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
            Meta::Queries(queries) => {
                for sql in queries {
                    let statement = Statement { text: sql, line: 1, column: 1 };
                    statement_typed(open, &statement, shell).await?;
                }
            }
            Meta::Unknown(message) => eprintln!("{}", text::escape(&message)),
        },
    }
    Ok(true)
}

/// Checks, sends and shows one statement; Ctrl-C cancels it.
async fn statement_typed(open: &mut Session, statement: &Statement, shell: &Shell) -> Result<(), Failure> {
    let sql = statement.text.trim_end().trim_end_matches(';');
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
    let mut shown = Shown { held: None, failed: None, is_expanded: shell.is_expanded };
    let outcome = open.run(sql, advice.word(), &mut |event| shown.see(event)).await;
    watching.abort();
    outcome?;
    if let Some(fields) = &shown.failed {
        let origin = Origin { file: None, statement };
        eprint!("{}", report::error(fields, &origin));
    }
    if shell.is_timing {
        println!("{}", render::timing(started.elapsed()));
    }
    Ok(())
}

/// What of an answer is on the screen.
struct Shown {
    held: Option<(Held, Vec<render::Column>)>,
    failed: Option<crate::core::wire::backend::ErrorFields>,
    is_expanded: bool,
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
                Some((held, columns)) => {
                    let rows = u64::try_from(held.rows.len()).unwrap_or(u64::MAX);
                    let body = if self.is_expanded { table::expanded(&held, "") } else { table::aligned(&held, "") };
                    print!("{body}");
                    println!("{}\n", render::footer(rows, &columns));
                }
                None => println!("{}", text::escape(tag)),
            },
            Event::Notice(fields) => eprint!("{}", report::notice(fields)),
            Event::Error(fields) => self.failed = Some(fields.clone()),
            Event::CopyOut(bytes) => print!("{}", text::escape_keeping_lines(&String::from_utf8_lossy(bytes))),
            Event::CopyIn => {
                eprintln!("COPY FROM STDIN is for `dbgate exec`; nothing was copied.");
                return Reply::Data(Vec::new());
            }
            Event::Empty => {}
        }
        Reply::GoOn
    }
}
