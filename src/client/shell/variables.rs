//! Variables of the prompt: `\set` and `\gset` keep them, `:name`, `:'name'` and `:"name"` put them in.
//!
//! The rules are psql's: inside quotes and comments nothing is put in, and what is not set stays as
//! it was typed. What must stay true: a value is never looked through for variables again.

use std::collections::BTreeMap;

use crate::client::script;

/// Names and their values.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, String>);

/// How a value is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    AsIs,
    Literal,
    Name,
}

impl Variables {
    /// Keeps a value; an error where the name is none.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(format!("invalid variable name: \"{name}\""));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Forgets it, if it is there.
    pub fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A statement with its variables put in.
    pub fn fill(&self, statement: &str) -> String {
        let mut out = String::with_capacity(statement.len());
        let mut done = 0;
        for colon in script::colons(statement) {
            let Some(rest) = statement.get(colon..).filter(|_| colon >= done) else { continue };
            if let Some((taken, value)) = self.at(rest) {
                out.push_str(statement.get(done..colon).unwrap_or_default());
                out.push_str(&value);
                done = colon + taken;
            }
        }
        out.push_str(statement.get(done..).unwrap_or_default());
        out
    }

    /// What a variable at the front of `text`, with its colon, stands for, and how long it is there.
    fn at(&self, text: &str) -> Option<(usize, String)> {
        let rest = text.strip_prefix(':')?;
        let (form, mark) = match rest.chars().next()? {
            '\'' => (Form::Literal, 1),
            '"' => (Form::Name, 1),
            _ => (Form::AsIs, 0),
        };
        let inner = rest.get(mark..)?;
        let name = inner.get(..inner.find(|letter| !is_part(letter)).unwrap_or(inner.len()))?;
        if mark == 1 && inner.get(name.len()..)?.chars().next() != rest.chars().next() {
            return None;
        }
        let value = self.0.get(name)?;
        Some((1 + 2 * mark + name.len(), form.of(value)))
    }

    /// The words of a backslash command, as psql reads them: `'…'` holds blanks and C's escapes,
    /// `"…"` is kept with its quotes, and variables are put in outside of both.
    pub fn words(&self, text: &str) -> Result<Vec<String>, String> {
        let (mut words, mut word) = (Vec::new(), None::<String>);
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            let mut taken = letter.len_utf8();
            match letter {
                _ if letter.is_whitespace() => words.extend(word.take()),
                '\'' => {
                    let (length, value) = quoted(rest)?;
                    taken = length;
                    word.get_or_insert_default().push_str(&value);
                }
                '"' => {
                    let end = rest.get(1..).and_then(|inner| inner.find('"')).ok_or(UNTERMINATED)?;
                    taken = end + 2;
                    word.get_or_insert_default().push_str(rest.get(..taken).unwrap_or_default());
                }
                ':' if let Some((length, value)) = self.at(rest) => {
                    taken = length;
                    word.get_or_insert_default().push_str(&value);
                }
                '`' => return Err("programs are not run from here".to_owned()),
                _ => word.get_or_insert_default().push(letter),
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        words.extend(word);
        Ok(words)
    }
}

const UNTERMINATED: &str = "unterminated quoted string";

impl Form {
    fn of(self, value: &str) -> String {
        match self {
            Self::AsIs => value.to_owned(),
            // As libpq does: a backslash would mean something else where the server reads escapes.
            Self::Literal if value.contains('\\') => {
                format!(" E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
            }
            Self::Literal => format!("'{}'", value.replace('\'', "''")),
            Self::Name => format!("\"{}\"", value.replace('"', "\"\"")),
        }
    }
}

/// Letters, digits, `_` and everything beyond ASCII.
fn is_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || !letter.is_ascii()
}

/// Reads `'…'`: how long it is, and what it says.
fn quoted(text: &str) -> Result<(usize, String), String> {
    let mut value = String::new();
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\'' if letters.next_if(|(_, next)| *next == '\'').is_some() => value.push('\''),
            '\'' => return Ok((at + 1, value)),
            '\\' => match letters.next().ok_or(UNTERMINATED)?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'b' => value.push('\u{8}'),
                'f' => value.push('\u{c}'),
                other => value.push(other),
            },
            _ => value.push(letter),
        }
    }
    Err(UNTERMINATED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Variables {
        let mut variables = Variables::default();
        for (name, value) in [("n", "42"), ("who", "O'Neil"), ("path", "a\\b"), ("t", "my \"t\""), ("self", ":n")] {
            variables.set(name, value).expect("a name");
        }
        variables
    }

    #[test]
    fn variables_are_put_in_where_psql_puts_them() {
        for (typed, expected) in [
            ("select :n;", "select 42;"),
            ("select :n+:n;", "select 42+42;"),
            ("select :'who', :\"t\"", "select 'O''Neil', \"my \"\"t\"\"\""),
            ("select :'path'", "select  E'a\\\\b'"),
            ("select ':n', \":n\", $$:n$$ -- :n\n/* :n */, :n", "select ':n', \":n\", $$:n$$ -- :n\n/* :n */, 42"),
            ("select 1::text, x[1:n], a := 2, :none, :'none, x'", "select 1::text, x[142], a := 2, :none, :'none, x'"),
            ("select :self", "select :n"),
            ("select :n::text", "select 42::text"),
            ("select 'a' ':n', E'\\':n'", "select 'a' ':n', E'\\':n'"),
            ("  select (:n);", "  select (42);"),
        ] {
            assert_eq!(some().fill(typed), expected, "{typed}");
        }
    }

    #[test]
    fn words_of_a_command_are_psqls() {
        let words = |text: &str| some().words(text);
        assert_eq!(words(" a  b "), Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(words("'a  b'c :n \"x :n\""), Ok(vec!["a  bc".to_owned(), "42".to_owned(), "\"x :n\"".to_owned()]));
        assert_eq!(words("'it''s\\n' :'who' ::n"), Ok(vec!["it's\n".into(), "'O''Neil'".into(), ":42".into()]));
        assert_eq!(words("''"), Ok(vec![String::new()]));
        assert_eq!(words("'open"), Err(UNTERMINATED.to_owned()));
        assert_eq!(words("`date`"), Err("programs are not run from here".to_owned()));
    }

    #[test]
    fn a_name_is_letters_and_digits() {
        let mut variables = Variables::default();
        assert_eq!(variables.set("a b", "1"), Err("invalid variable name: \"a b\"".to_owned()));
        assert_eq!(variables.set("?column?", "1"), Err("invalid variable name: \"?column?\"".to_owned()));
        assert_eq!(variables.set("größe_1", "1"), Ok(()));
        variables.unset("größe_1");
        assert_eq!(variables.iter().count(), 0);
    }
}
