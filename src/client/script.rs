//! Cuts typed, piped or stored text into statements, as psql does.
//!
//! The rules are psql's own (psqlscan.l): quotes, `E''` escapes, dollar quotes, nested comments,
//! parentheses, and `BEGIN ATOMIC` bodies hide a `;`. Line numbers are kept, so that an error can
//! name the line of the file. What must stay true: a text is never changed, only cut, and each
//! statement keeps its own `;`.

use std::collections::VecDeque;

/// One complete statement and where it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub text: String,
    /// Line of its first character, from 1.
    pub line: usize,
    /// Column of its first character, from 1, in characters.
    pub column: usize,
}

/// What a line of input completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Statement(Statement),
    /// A backslash command: everything from the backslash to the end of the line.
    Command {
        text: String,
        line: usize,
    },
}

/// What the text so far is in the middle of: the shell's continuation prompt shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    Nothing,
    Statement,
    Quote,
    Name,
    Dollar,
    Comment,
    Parenthesis,
}

impl Pending {
    /// The letter of the prompt, as psql's `%R`.
    pub const fn letter(self) -> char {
        match self {
            Self::Nothing => '=',
            Self::Statement => '-',
            Self::Quote => '\'',
            Self::Name => '"',
            Self::Dollar => '$',
            Self::Comment => '*',
            Self::Parenthesis => '(',
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Plain,
    /// `'…'`; a backslash escapes only in the `E` form.
    Quote {
        escapes: bool,
    },
    Name,
    Dollar(String),
    LineComment,
    BlockComment(u32),
}

/// Takes text line by line and gives back what is complete.
#[derive(Debug)]
pub struct Splitter {
    buffer: String,
    state: State,
    parentheses: u32,
    /// Line of the next character.
    line: usize,
    column: usize,
    /// Where the statement in the buffer began.
    start: (usize, usize),
    /// A letter other than space and comment has been seen in this statement.
    has_content: bool,
    word: String,
    words: Words,
    /// After the end of an `E''` literal: a newline and a quote go on with it, escapes included.
    continues: Option<bool>,
    /// Where in the buffer a variable of the prompt could stand.
    colons: Vec<usize>,
}

/// What psql keeps of a statement's first words, to find `CREATE FUNCTION … BEGIN ATOMIC … END`.
#[derive(Debug, Default)]
struct Words {
    first: Vec<char>,
    count: usize,
    begin_depth: u32,
}

impl Words {
    fn push(&mut self, word: &str, parentheses: u32) {
        let word = word.to_ascii_lowercase();
        if self.count < 4 && matches!(word.as_str(), "create" | "function" | "procedure" | "or" | "replace") {
            self.first.extend(word.chars().next());
        }
        self.count += 1;
        let makes_routine = matches!(self.first.as_slice(), ['c', 'f' | 'p', ..] | ['c', 'o', 'r', 'f' | 'p', ..]);
        if !makes_routine || parentheses > 0 {
            return;
        }
        match word.as_str() {
            "begin" => self.begin_depth += 1,
            "case" if self.begin_depth > 0 => self.begin_depth += 1,
            "end" => self.begin_depth = self.begin_depth.saturating_sub(1),
            _ => {}
        }
    }
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            buffer: String::new(),
            state: State::Plain,
            parentheses: 0,
            line: 1,
            column: 1,
            start: (1, 1),
            has_content: false,
            word: String::new(),
            words: Words::default(),
            continues: None,
            colons: Vec::new(),
        }
    }
}

impl Splitter {
    /// Takes a line, with its line break if it has one.
    pub fn push(&mut self, line: &str) -> Vec<Item> {
        let mut items = Vec::new();
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            if self.state == State::Plain && letter == '\\' {
                self.end_word();
                let text = rest.trim_end_matches(['\n', '\r']).to_owned();
                items.push(Item::Command { text, line: self.line });
                if rest.ends_with('\n') {
                    self.advance('\n');
                }
                break;
            }
            let taken = self.step(letter, rest, &mut items);
            rest = rest.get(taken..).unwrap_or("");
        }
        items
    }

    /// What is left when the input ends: a last statement without `;`.
    pub fn finish(&mut self) -> Option<Statement> {
        self.end_word();
        self.take()
    }

    /// What the text so far is in the middle of.
    pub fn pending(&self) -> Pending {
        match &self.state {
            State::Quote { .. } => Pending::Quote,
            State::Name => Pending::Name,
            State::Dollar(_) => Pending::Dollar,
            State::BlockComment(_) => Pending::Comment,
            State::Plain | State::LineComment if self.parentheses > 0 => Pending::Parenthesis,
            State::Plain | State::LineComment if self.has_content => Pending::Statement,
            State::Plain | State::LineComment => Pending::Nothing,
        }
    }

    /// The text of the statement that is not complete yet.
    pub fn text(&self) -> &str {
        &self.buffer
    }

    /// Forgets the statement that is not complete yet.
    pub fn clear(&mut self) {
        let (line, column) = (self.line, self.column);
        *self = Self { line, column, start: (line, column), ..Self::default() };
    }

    /// Counts a line that was read past the splitter, such as COPY data.
    pub fn skip_line(&mut self) {
        self.line += 1;
        self.column = 1;
    }

    /// Handles what stands at the front of `rest`; answers how many bytes it took.
    fn step(&mut self, letter: char, rest: &str, items: &mut Vec<Item>) -> usize {
        match self.state.clone() {
            State::Plain => return self.plain(letter, rest, items),
            State::Quote { escapes } => {
                if letter == '\\' && escapes {
                    return self.keep_pair(rest);
                }
                if letter == '\'' {
                    if rest.starts_with("''") {
                        return self.keep_pair(rest);
                    }
                    self.state = State::Plain;
                    self.continues = escapes.then_some(false);
                }
            }
            State::Name if letter == '"' => {
                if rest.starts_with("\"\"") {
                    return self.keep_pair(rest);
                }
                self.state = State::Plain;
            }
            State::Name => {}
            State::Dollar(tag) => {
                if rest.starts_with(&tag) {
                    self.state = State::Plain;
                    return self.keep(&tag);
                }
            }
            State::LineComment if matches!(letter, '\n' | '\r') => {
                self.state = State::Plain;
                self.continues = self.continues.map(|_| true);
            }
            State::LineComment => {}
            State::BlockComment(depth) => {
                if rest.starts_with("/*") {
                    self.state = State::BlockComment(depth + 1);
                    return self.keep("/*");
                }
                if rest.starts_with("*/") {
                    self.state = if depth == 1 { State::Plain } else { State::BlockComment(depth - 1) };
                    return self.keep("*/");
                }
            }
        }
        self.keep_letter(letter)
    }

    fn plain(&mut self, letter: char, rest: &str, items: &mut Vec<Item>) -> usize {
        if is_name_part(letter) && !(letter == '$' && self.word.is_empty()) {
            self.has_content = true;
            self.word.push(letter);
            return self.keep_letter(letter);
        }
        let escape_prefix = self.word.eq_ignore_ascii_case("e");
        self.end_word();
        if letter.is_whitespace() {
            if letter == '\n' {
                self.continues = self.continues.map(|_| true);
            }
            return self.keep_letter(letter);
        }
        if rest.starts_with("--") {
            self.state = State::LineComment;
            return self.keep("--");
        }
        if rest.starts_with("/*") {
            self.state = State::BlockComment(1);
            return self.keep("/*");
        }
        let continued = self.continues.take() == Some(true);
        match letter {
            // A cast and PL/pgSQL's assignment name no variable.
            ':' if rest.starts_with("::") || rest.starts_with(":=") => {
                self.has_content = true;
                return self.keep_pair(rest);
            }
            ':' => self.colons.push(self.buffer.len()),
            '\'' => self.state = State::Quote { escapes: escape_prefix || continued },
            '"' => self.state = State::Name,
            '$' => {
                if let Some(tag) = dollar_tag(rest) {
                    self.has_content = true;
                    self.state = State::Dollar(tag.to_owned());
                    return self.keep(tag);
                }
            }
            '(' => self.parentheses += 1,
            ')' => self.parentheses = self.parentheses.saturating_sub(1),
            ';' if self.parentheses == 0 && self.words.begin_depth == 0 => {
                let taken = self.keep_letter(letter);
                items.extend(self.take().map(Item::Statement));
                return taken;
            }
            _ => {}
        }
        self.has_content = true;
        self.keep_letter(letter)
    }

    fn end_word(&mut self) {
        if !self.word.is_empty() {
            self.words.push(&self.word, self.parentheses);
            self.word.clear();
            self.continues = None;
        }
    }

    /// Takes the buffer as a statement; `None` where it holds only space, comments and `;`.
    fn take(&mut self) -> Option<Statement> {
        let (has_content, (line, column)) = (self.has_content, self.start);
        let text = std::mem::take(&mut self.buffer);
        self.clear();
        has_content.then(|| Statement { text: text.trim_end().to_owned(), line, column })
    }

    fn keep(&mut self, text: &str) -> usize {
        text.chars().map(|letter| self.keep_letter(letter)).sum()
    }

    /// Keeps two characters that belong together, such as a doubled quote.
    fn keep_pair(&mut self, rest: &str) -> usize {
        rest.chars().take(2).map(|letter| self.keep_letter(letter)).sum()
    }

    /// Keeps one character; space before a statement is dropped.
    fn keep_letter(&mut self, letter: char) -> usize {
        if self.buffer.is_empty() {
            self.start = (self.line, self.column);
        }
        if !(self.buffer.is_empty() && letter.is_whitespace()) {
            self.buffer.push(letter);
        }
        self.advance(letter);
        letter.len_utf8()
    }

    fn advance(&mut self, letter: char) {
        if letter == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
    }
}

/// Letters, digits, `_`, `$` and everything beyond ASCII, as in PostgreSQL's identifiers.
fn is_name_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$') || !letter.is_ascii()
}

/// The `$tag$` that opens a dollar quote, if that is what stands here.
fn dollar_tag(rest: &str) -> Option<&str> {
    let inner = rest.strip_prefix('$')?;
    let end = inner.find('$')?;
    let tag = inner.get(..end)?;
    let is_tag = tag.chars().all(|letter| is_name_part(letter) && letter != '$')
        && !tag.starts_with(|letter: char| letter.is_ascii_digit());
    is_tag.then(|| rest.get(..end + 2)).flatten()
}

/// A whole text, item by item. Data of `COPY … FROM STDIN` stands in the lines after its
/// statement, as in psql and in dumps: only the server's answer tells that a statement wants it,
/// so the text is cut no further ahead than the line of the statement that is asked for.
#[derive(Debug)]
pub struct Script<'a> {
    lines: std::str::SplitInclusive<'a, char>,
    splitter: Splitter,
    ready: VecDeque<Item>,
}

impl<'a> Script<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { lines: text.split_inclusive('\n'), splitter: Splitter::default(), ready: VecDeque::new() }
    }

    /// The lines from here up to `\.` or the end, as they are. Never cut into statements.
    pub fn copy_data(&mut self) -> Vec<u8> {
        let mut data = Vec::new();
        for line in self.lines.by_ref() {
            self.splitter.skip_line();
            if line.trim_end_matches(['\n', '\r']) == "\\." {
                break;
            }
            data.extend_from_slice(line.as_bytes());
        }
        data
    }
}

impl Iterator for Script<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.ready.is_empty() {
            let Some(line) = self.lines.next() else {
                return self.splitter.finish().map(Item::Statement);
            };
            self.ready.extend(self.splitter.push(line));
        }
        self.ready.pop_front()
    }
}

/// Cuts a whole text without COPY data; backslash commands come back in their place.
pub fn split(text: &str) -> Vec<Item> {
    Script::new(text).collect()
}

/// Where in one statement a colon stands that is in no quotes and no comment, in bytes.
pub fn colons(statement: &str) -> Vec<usize> {
    let mut splitter = Splitter::default();
    let text = statement.trim_start();
    // The `;` would end it, and what is known of it.
    splitter.push(text.trim_end().trim_end_matches(';'));
    let dropped = statement.len() - text.len();
    splitter.colons.into_iter().map(|at| at + dropped).collect()
}

/// Line and column, both from 1 and in characters, of a position that counts characters from 1.
pub fn locate(text: &str, position: u32) -> (usize, usize) {
    let before = usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1);
    text.chars().take(before).fold((1, 1), |(line, column), letter| match letter {
        '\n' => (line + 1, 1),
        _ => (line, column + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<String> {
        split(input)
            .into_iter()
            .map(|item| match item {
                Item::Statement(statement) => statement.text,
                Item::Command { text, .. } => format!("<{text}>"),
            })
            .collect()
    }

    #[test]
    fn statements_end_where_psql_ends_them() {
        let table: [(&str, &[&str]); 31] = [
            ("select 1; select 2", &["select 1;", "select 2"]),
            ("select ';'; select 2;", &["select ';';", "select 2;"]),
            ("select 'it''s; ok';", &["select 'it''s; ok';"]),
            (r"select 'a\'; select 2;", &[r"select 'a\';", "select 2;"]),
            (r"select E'a\'; b'; select 2;", &[r"select E'a\'; b';", "select 2;"]),
            (r"select e'\\'; select 2;", &[r"select e'\\';", "select 2;"]),
            ("select E'a'\n'b\\'; c'; select 2;", &["select E'a'\n'b\\'; c';", "select 2;"]),
            ("select E'a' 'b\\'; select 2;", &["select E'a' 'b\\';", "select 2;"]),
            ("select name'x\\'; select 2;", &["select name'x\\';", "select 2;"]),
            ("select \"a;b\"\"c\"; select 2", &["select \"a;b\"\"c\";", "select 2"]),
            ("select $$a;b$$; select 2", &["select $$a;b$$;", "select 2"]),
            ("select $x$a;$$;$y$;$x$; select 2", &["select $x$a;$$;$y$;$x$;", "select 2"]),
            ("select a$b$; select 2", &["select a$b$;", "select 2"]),
            ("select $1; select 2", &["select $1;", "select 2"]),
            ("select $1$; select 2", &["select $1$;", "select 2"]),
            ("select 1 -- a;b\n; select 2", &["select 1 -- a;b\n;", "select 2"]),
            ("select /* a; /* b; */ c; */ 1; select 2", &["select /* a; /* b; */ c; */ 1;", "select 2"]),
            ("select 2*/* x */3;", &["select 2*/* x */3;"]),
            (
                "create rule r as on insert to t do (select 1; select 2); x",
                &["create rule r as on insert to t do (select 1; select 2);", "x"],
            ),
            (
                "create function f() returns int begin atomic select 1; select case when true then 1 end; end; x",
                &["create function f() returns int begin atomic select 1; select case when true then 1 end; end;", "x"],
            ),
            (
                "create or replace procedure p() begin atomic select 1; end; x",
                &["create or replace procedure p() begin atomic select 1; end;", "x"],
            ),
            ("begin; end; x", &["begin;", "end;", "x"]),
            (";;  ; select 1;", &["select 1;"]),
            ("-- only a comment", &[]),
            ("/* note */ select 1;", &["/* note */ select 1;"]),
            ("", &[]),
            ("select 'ä;ö'; select 'ü'", &["select 'ä;ö';", "select 'ü'"]),
            ("select 'open; x", &["select 'open; x"]),
            ("\\dt\nselect 1;", &["<\\dt>", "select 1;"]),
            ("select 1 \\g\nselect 2;", &["<\\g>", "select 1 select 2;"]),
            ("select '\\d';", &["select '\\d';"]),
        ];
        for (input, expected) in table {
            assert_eq!(texts(input), expected, "{input}");
        }
    }

    #[test]
    fn lines_and_columns_are_those_of_the_first_character() {
        let places: Vec<(usize, usize)> = split("select 1;\n\n  selec;\n-- x\nselect\n3; ä; z")
            .into_iter()
            .filter_map(|item| match item {
                Item::Statement(statement) => Some((statement.line, statement.column)),
                Item::Command { .. } => None,
            })
            .collect();
        assert_eq!(places, [(1, 1), (3, 3), (4, 1), (6, 4), (6, 7)]);
    }

    #[test]
    fn the_prompt_knows_what_is_open() {
        let table = [
            ("select", Pending::Statement),
            ("select '", Pending::Quote),
            ("select \"", Pending::Name),
            ("select $$", Pending::Dollar),
            ("select (", Pending::Parenthesis),
            ("/* ", Pending::Comment),
            ("-- x\n", Pending::Nothing),
            ("select 1;", Pending::Nothing),
        ];
        for (text, expected) in table {
            let mut splitter = Splitter::default();
            splitter.push(text);
            assert_eq!(splitter.pending(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_lost_or_added_whatever_the_cut() {
        let input = "select 'a;b', $q$;$q$ /* ; */ from t; update t set x = E'\\'';\n";
        let whole = texts(input);
        for cut in (0..input.len()).filter(|cut| input.is_char_boundary(*cut)) {
            // A cut inside a two-letter token can only come from a caller that splits lines itself.
            let (one, two) = input.split_at(cut);
            let mut splitter = Splitter::default();
            let mut items = splitter.push(one);
            items.extend(splitter.push(two));
            items.extend(splitter.finish().map(Item::Statement));
            let joined: String = items
                .iter()
                .map(|item| match item {
                    Item::Statement(statement) => statement.text.as_str(),
                    Item::Command { text, .. } => text,
                })
                .collect();
            assert_eq!(joined.replace(' ', ""), whole.concat().replace(' ', ""), "cut at {cut}");
        }
    }

    #[test]
    fn copy_data_is_taken_as_it_is_and_the_lines_go_on_behind_it() {
        let mut script = Script::new("copy t from stdin; select 1;\n1\tdrop table t;\n\\N\n\\.\nselec;\n");
        let statement = |item: Option<Item>| match item {
            Some(Item::Statement(statement)) => (statement.text, statement.line),
            other => panic!("{other:?}"),
        };
        assert_eq!(statement(script.next()), ("copy t from stdin;".into(), 1));
        assert_eq!(script.copy_data(), b"1\tdrop table t;\n\\N\n");
        assert_eq!(statement(script.next()), ("select 1;".into(), 1));
        assert_eq!(statement(script.next()), ("selec;".into(), 5));
        assert_eq!(script.next(), None);
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(locate("select 'ä'\n, x", 14), (2, 3));
        assert_eq!(locate("selec;", 1), (1, 1));
    }
}
