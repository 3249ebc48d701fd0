//! One statement at the prompt: looked at here, sent, shown, and waited for where people must agree.

use std::time::Instant;

use crate::cli::exit::Failure;
use crate::cli::interrupt::{Interrupts, cancelling};
use crate::cli::people::{self, People};
use crate::client::check::{self, Advice};
use crate::client::connect::{Event, Reply, Session};
use crate::client::render;
use crate::client::render::report::{self, Origin};
use crate::client::render::request;
use crate::client::render::table::{self, Held};
use crate::client::script::Statement;
use crate::client::shell::describe;
use crate::client::shell::meta::Expanded;
use crate::core::text;
use crate::core::wire::backend::ErrorFields;

/// What the person has switched.
#[derive(Clone, Copy)]
pub struct Shell<'a> {
    pub people: People<'a>,
    pub expanded: Expanded,
    pub is_timing: bool,
    /// Columns of the terminal, where that is known.
    pub width: Option<usize>,
}

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    Well,
    /// It failed, was refused or cancelled, or people did not agree.
    Badly,
}

/// A row as names and values.
pub type Row = Vec<(String, Option<String>)>;

/// Checks, sends and shows one statement; Ctrl-C cancels it.
pub async fn run(open: &mut Session, typed: &str, shell: Shell<'_>) -> Result<Ran, Failure> {
    send(open, typed, &mut Shown::new(shell, None)).await
}

/// The same, but its one row is not shown. Nothing, and why is said, where there is not exactly one.
pub async fn one_row(open: &mut Session, typed: &str, shell: Shell<'_>) -> Result<Option<Row>, Failure> {
    let mut shown = Shown::new(shell, Some(Kept::default()));
    let ran = send(open, typed, &mut shown).await?;
    // What answers no rows has shown its tag.
    let (Ran::Well, Some(Kept { columns: Some(columns), mut rows })) = (ran, shown.kept) else { return Ok(None) };
    match (rows.pop(), rows.is_empty()) {
        (Some(values), true) => Ok(Some(columns.into_iter().zip(values).collect())),
        (Some(_), false) => {
            eprintln!("more than one row returned for \\gset");
            Ok(None)
        }
        (None, _) => {
            eprintln!("no rows returned for \\gset");
            Ok(None)
        }
    }
}

async fn send(open: &mut Session, typed: &str, shown: &mut Shown<'_>) -> Result<Ran, Failure> {
    let sql = typed.trim_end().trim_end_matches(';');
    if sql.trim().is_empty() {
        return Ok(Ran::Well);
    }
    let advice = check::look(sql);
    if let Advice::Doubtful { why, offset } = &advice {
        let position = offset.and_then(|at| sql.get(..at)).map_or(1, |before| before.chars().count() + 1);
        eprint!("{}", report::caret(sql, u32::try_from(position).unwrap_or(1), "local check: ", 1));
        eprintln!("{}", text::escape(why));
    }
    let cancel = open.cancel_handle();
    let started = Instant::now();
    let running = async {
        open.run(sql, advice.word(), &mut |event| shown.see(event)).await?;
        Ok::<_, Failure>(started.elapsed())
    };
    let took = cancelling(&cancel, running).await??;
    let failed = shown.failed.take();
    if let Some(id) = failed.as_ref().and_then(people::request_of) {
        return wait(open, typed, shown, &id).await;
    }
    if let Some(fields) = &failed {
        // Lines count within the statement: nobody counts the lines of a conversation.
        let statement = Statement { text: typed.to_owned(), line: 1, column: 1 };
        eprint!("{}", report::error(fields, &Origin { file: None, statement: &statement }));
    }
    if shown.shell.is_timing {
        println!("{}", render::timing(took));
    }
    Ok(if failed.is_none() { Ran::Well } else { Ran::Badly })
}

/// People were asked about a statement: waits for them, and runs it once they agree. Ctrl-C withdraws it.
async fn wait(open: &mut Session, typed: &str, shown: &mut Shown<'_>, id: &str) -> Result<Ran, Failure> {
    let people = shown.shell.people;
    let mut interrupts = Interrupts::listen()?;
    let view = tokio::select! {
        view = people.wait(id) => view?,
        () = interrupts.pressed() => return people.withdraw(id).await.map(|()| Ran::Badly),
    };
    match view.state.as_str() {
        "approved" => {
            eprintln!("{}", request::verdict(&view));
            return Box::pin(send(open, typed, shown)).await;
        }
        "pending" => eprint!("{}", request::waiting(&view)),
        _ => eprintln!("{}", request::verdict(&view)),
    }
    Ok(Ran::Badly)
}

/// Rows that are wanted as they are rather than on the screen.
#[derive(Default)]
struct Kept {
    columns: Option<Vec<String>>,
    rows: describe::Rows,
}

/// What of an answer is on the screen.
struct Shown<'a> {
    shell: Shell<'a>,
    held: Option<(Held, Vec<render::Column>)>,
    kept: Option<Kept>,
    failed: Option<ErrorFields>,
}

impl<'a> Shown<'a> {
    const fn new(shell: Shell<'a>, kept: Option<Kept>) -> Self {
        Self { shell, held: None, kept, failed: None }
    }

    fn see(&mut self, event: Event<'_>) -> Reply {
        match (event, &mut self.kept) {
            (Event::Columns(columns), Some(kept)) => {
                kept.columns = Some(columns.into_iter().map(|column| column.name).collect());
            }
            (Event::Columns(columns), None) => self.held = Some((Held::new(&columns), columns)),
            // Two tell as much as all of them: that it is not one.
            (Event::Row(values), Some(kept)) if kept.rows.len() < 2 => kept.rows.push(describe::as_text(values)),
            (Event::Row(_), Some(_)) => {}
            (Event::Row(values), None) => {
                if let Some((held, _)) = &mut self.held {
                    held.push(values);
                }
            }
            (Event::Done(_), Some(kept)) if kept.columns.is_some() => {}
            (Event::Done(tag), _) => match self.held.take() {
                Some((held, columns)) => {
                    self.show(&held, &columns);
                    if render::is_told(tag) {
                        println!("{}", text::escape(tag));
                    }
                }
                None => println!("{}", text::escape(tag)),
            },
            (Event::Notice(fields), _) => eprint!("{}", report::notice(fields)),
            (Event::Error(fields), _) => self.failed = Some(fields.clone()),
            (Event::CopyOut(bytes), _) => print!("{}", text::escape_keeping_lines(&String::from_utf8_lossy(bytes))),
            (Event::CopyIn, _) => {
                return Reply::NoData("COPY FROM STDIN takes its data from a script: dbgate exec TARGET -f FILE");
            }
            (Event::Empty | Event::Cut, _) => {}
        }
        Reply::GoOn
    }

    fn show(&self, held: &Held, columns: &[render::Column]) {
        let rows = u64::try_from(held.rows.len()).unwrap_or(u64::MAX);
        let is_expanded = match self.shell.expanded {
            Expanded::Off => false,
            Expanded::On => true,
            Expanded::Auto => self.shell.width.is_some_and(|width| held.width() > width),
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
