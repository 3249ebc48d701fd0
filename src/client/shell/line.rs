//! The line being typed: Tab completes keywords, relations and their columns.
//!
//! Names come from the grant's catalog: they are advice, and nothing that may not be read is in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::history::History as _;
use rustyline::validate::Validator;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Config, Context, Editor, Event, EventContext, EventHandler, Helper,
    KeyCode, Modifiers, Movement, RepeatCount,
};

use crate::client::shell::meta;
use crate::core::api::GrantAnswer;
use crate::core::text;
use crate::sys::files;

const KEYWORDS: [&str; 30] = [
    "select",
    "from",
    "where",
    "group by",
    "order by",
    "having",
    "limit",
    "offset",
    "join",
    "left join",
    "on",
    "using",
    "insert into",
    "values",
    "update",
    "set",
    "delete from",
    "returning",
    "with",
    "union",
    "distinct",
    "count(*)",
    "begin",
    "commit",
    "rollback",
    "explain",
    "and",
    "or",
    "not",
    "null",
];

/// What the person did at the prompt.
pub enum Line {
    Typed(String),
    /// Ctrl-C: what was typed is thrown away.
    Cleared,
    /// Ctrl-D.
    End,
}

/// The line editor with its history, one file a target, readable by its owner only.
pub struct Prompter {
    editor: Editor<Typing, FileHistory>,
    history: Option<PathBuf>,
    search: Search,
}

impl Prompter {
    /// With a history file, or none at all.
    pub fn new(answer: &GrantAnswer, history: Option<PathBuf>) -> io::Result<Self> {
        let config = Config::builder().auto_add_history(false).completion_type(CompletionType::List).build();
        let mut editor = Editor::with_config(config).map_err(io::Error::other)?;
        editor.set_helper(Some(Typing::new(answer)));
        let search = Search::default();
        editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(search.clone())));
        if let Some(path) = &history {
            // Made private before anything is written to it; the first session has nothing to load.
            drop(files::append_private(path).map_err(io::Error::other)?);
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history, search })
    }

    /// Waits for a line. Blocks the thread.
    pub fn ask(&mut self, prompt: &str) -> io::Result<Line> {
        self.search.begin(!self.editor.history().is_empty());
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Line::Typed(line)),
            Err(ReadlineError::Interrupted) => Ok(Line::Cleared),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Columns of the terminal, where that is known.
    pub fn width(&mut self) -> Option<usize> {
        self.editor.dimensions().map(|(columns, _)| usize::from(columns))
    }

    /// Keeps what was typed, as one entry; not what begins with a blank or names a password.
    pub fn remember(&mut self, typed: &str) {
        let entry = typed.trim_end();
        if entry.starts_with(' ') || entry.to_lowercase().contains("password") {
            return;
        }
        // A history that cannot be kept is no reason to stop.
        let _ = self.editor.add_history_entry(entry);
        if let Some(path) = &self.history {
            let _ = self.editor.save_history(path);
        }
    }
}

/// Ctrl-R looks for an earlier statement, which may be a write: Enter takes what was found into the line to be
/// edited, and only another Enter runs it. Every key comes by here before the editor acts on it.
#[derive(Clone, Default)]
struct Search {
    is_on: Arc<AtomicBool>,
    has_history: Arc<AtomicBool>,
}

impl Search {
    /// A new line is typed. Without a history there is nothing to look through.
    fn begin(&self, has_history: bool) {
        self.is_on.store(false, Ordering::Relaxed);
        self.has_history.store(has_history, Ordering::Relaxed);
    }

    /// What a key does where that is not its usual meaning.
    fn take(&self, key: KeyCode, with: Modifiers) -> Option<Cmd> {
        match (key, with) {
            (KeyCode::Char('R'), Modifiers::CTRL) => {
                self.is_on.store(self.has_history.load(Ordering::Relaxed), Ordering::Relaxed);
                None
            }
            (KeyCode::Enter, _) | (KeyCode::Char('J' | 'M'), Modifiers::CTRL) => {
                self.is_on.swap(false, Ordering::Relaxed).then_some(Cmd::Move(Movement::EndOfBuffer))
            }
            // Letters are looked for, Backspace takes one back, and Ctrl-S looks the other way.
            (KeyCode::Char(_), Modifiers::NONE | Modifiers::SHIFT)
            | (KeyCode::Backspace, Modifiers::NONE)
            | (KeyCode::Char('H' | 'S'), Modifiers::CTRL) => None,
            // Whatever else is pressed ends the search.
            _ => {
                self.is_on.store(false, Ordering::Relaxed);
                None
            }
        }
    }
}

impl ConditionalEventHandler for Search {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        let key = event.get(0)?;
        self.take(key.0, key.1)
    }
}

/// Completes what is being typed.
pub struct Typing {
    relations: Vec<(String, Vec<String>)>,
    masked: Vec<(String, String)>,
}

impl Typing {
    /// From what the grant may read.
    pub fn new(answer: &GrantAnswer) -> Self {
        // Nobody types a name that a terminal would obey.
        let is_plain = |name: &String| text::escape(name) == name.as_str();
        let relations = answer.catalog.iter().filter(|one| is_plain(&one.name));
        let columns = |all: &[String]| all.iter().filter(|name| is_plain(name)).cloned().collect();
        let relations = relations.map(|one| (one.name.clone(), columns(&one.columns))).collect();
        let masked = answer.masks.iter().map(|mask| (mask.relation.clone(), mask.column.clone())).collect();
        Self { relations, masked }
    }

    /// What could stand at the end of `line`: where the word begins, and the words.
    pub fn candidates(&self, line: &str) -> (usize, Vec<Pair>) {
        if let Some((before, typed)) = line.rsplit_once('\\')
            && !typed.contains(char::is_whitespace)
        {
            let begins = meta::COMMANDS.iter().filter(|command| command.starts_with(typed));
            return (before.len() + 1, begins.map(|command| pair(&format!("\\{command}"), command)).collect());
        }
        let start = line.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let word = line.get(start..).unwrap_or("").to_lowercase();
        let before = line.get(..start).unwrap_or("");
        let mut found = Vec::new();
        if let Some(owner) = before.strip_suffix('.') {
            let alias = owner.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            let relation = self.behind(line, alias);
            for (name, columns) in self.relations.iter().filter(|(name, _)| *name == relation) {
                found.extend(columns.iter().map(|column| self.column(name, column)));
            }
        } else {
            found.extend(self.relations.iter().map(|(name, _)| pair(name, name)));
            for (name, columns) in self.relations.iter().filter(|(name, _)| mentions(line, name)) {
                found.extend(columns.iter().map(|column| self.column(name, column)));
            }
            found.extend(KEYWORDS.iter().map(|keyword| pair(keyword, keyword)));
        }
        found.retain(|candidate| candidate.replacement.starts_with(&word));
        found.dedup_by(|left, right| left.replacement == right.replacement);
        (start, found)
    }

    /// The relation an alias stands for: `from customers c` or `from customers as c`.
    fn behind(&self, line: &str, alias: &str) -> String {
        let words: Vec<_> =
            line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
        let known = |word: &str| self.relations.iter().any(|(name, _)| name == word);
        let named = words.windows(3).find_map(|window| match window {
            [relation, second, _] if known(relation) && *second == alias => Some(*relation),
            [relation, keyword, third] if known(relation) && keyword.eq_ignore_ascii_case("as") && *third == alias => {
                Some(*relation)
            }
            _ => None,
        });
        named.unwrap_or(alias).to_owned()
    }

    fn column(&self, relation: &str, column: &str) -> Pair {
        let is_masked = self.masked.iter().any(|(r, c)| r == relation && c == column);
        pair(&if is_masked { format!("{column} ▒") } else { column.to_owned() }, column)
    }
}

fn pair(display: &str, replacement: &str) -> Pair {
    Pair { display: display.to_owned(), replacement: replacement.to_owned() }
}

fn mentions(line: &str, name: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

impl Completer for Typing {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(self.candidates(line.get(..position).unwrap_or(line)))
    }
}

impl Hinter for Typing {
    type Hint = String;
}

impl Highlighter for Typing {}
impl Validator for Typing {}
impl Helper for Typing {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let typing = Typing {
            relations: vec![
                ("customers".into(), vec!["id".into(), "email".into()]),
                ("orders".into(), vec!["total".into()]),
            ],
            masked: vec![("customers".into(), "email".into())],
        };
        typing.candidates(line).1.into_iter().map(|pair| pair.display).collect()
    }

    #[test]
    fn what_was_found_is_edited_before_it_is_run() {
        let taken = |keys: &[(KeyCode, Modifiers)], has_history: bool| {
            let search = Search::default();
            search.begin(has_history);
            keys.iter().fold(false, |_, (key, with)| search.take(*key, *with).is_some())
        };
        let find = (KeyCode::Char('R'), Modifiers::CTRL);
        let letter = (KeyCode::Char('u'), Modifiers::NONE);
        let enter = (KeyCode::Enter, Modifiers::NONE);
        assert!(taken(&[find, letter, enter], true));
        assert!(taken(&[find, letter, find, (KeyCode::Backspace, Modifiers::NONE), enter], true));
        assert!(!taken(&[find, letter, enter, enter], true));
        assert!(!taken(&[letter, enter], true));
        // The arrow has taken it into the line already, Ctrl-G has given it up, and here was nothing to find.
        assert!(!taken(&[find, letter, (KeyCode::Left, Modifiers::NONE), enter], true));
        assert!(!taken(&[find, letter, (KeyCode::Char('G'), Modifiers::CTRL), letter, enter], true));
        assert!(!taken(&[find, letter, enter], false));
    }

    #[test]
    fn columns_follow_their_relation_through_an_alias() {
        assert_eq!(words("select * from customers c where c."), ["id", "email ▒"]);
        assert_eq!(words("select * from customers as c where c.e"), ["email ▒"]);
        assert_eq!(words("select * from cust"), ["customers"]);
        assert_eq!(words("select * from orders where tot"), ["total"]);
        assert_eq!(words("\\gs"), ["\\gset"]);
        assert_eq!(words("select 1 \\wa"), ["\\watch"]);
        assert_eq!(words("\\d cust"), ["customers"]);
    }
}
