//! Errors, denials and notices as people read them: what failed, where (with a caret), what to do.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::client::script::{self, Statement};
use crate::core::text;
use crate::core::wire::backend::ErrorFields;

/// SQLSTATE of a refusal by policy; the target's own "permission denied" has it too.
const REFUSED: &str = "42501";
/// Lines wider than this are cut around the caret.
const WIDEST: usize = 100;

/// What the gateway says of a refusal in the DETAIL of its error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Refusal {
    pub rule: String,
    pub decision: String,
    pub code: String,
    pub retryable: bool,
    pub approvers: Option<String>,
    pub objects: Vec<String>,
    pub policy: Option<String>,
}

impl Refusal {
    /// Reads it; `None` where the error is not a refusal by the gateway.
    pub fn of(error: &ErrorFields) -> Option<Self> {
        if error.sqlstate != REFUSED {
            return None;
        }
        serde_json::from_str::<Self>(error.detail.as_deref()?).ok().filter(|refusal| !refusal.rule.is_empty())
    }
}

/// Where a statement came from, for the first words of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The file's name, or `<stdin>`; none for what was typed or given as an argument.
    pub file: Option<&'a str>,
    pub statement: &'a Statement,
}

impl Origin<'_> {
    /// Line and column in the file: the error's own position, or where the statement begins.
    pub fn place(&self, error: &ErrorFields) -> (usize, usize) {
        match error.position {
            Some(position) => self.in_file(script::locate(&self.statement.text, position)),
            None => (self.statement.line, self.statement.column),
        }
    }

    fn in_file(&self, (line, column): (usize, usize)) -> (usize, usize) {
        let column = if line == 1 { column + self.statement.column - 1 } else { column };
        (line + self.statement.line - 1, column)
    }
}

/// An error of PostgreSQL or a refusal of the gateway, over several lines.
pub fn error(fields: &ErrorFields, origin: &Origin<'_>) -> String {
    let mut out = String::new();
    if let Some(file) = origin.file {
        let _ = write!(out, "{}:{}: ", text::escape(file), origin.place(fields).0);
    }
    match Refusal::of(fields) {
        Some(refusal) => denied(&mut out, fields, &refusal, origin),
        None => plain(&mut out, fields, origin),
    }
    out
}

/// As psql prints it.
fn plain(out: &mut String, fields: &ErrorFields, origin: &Origin<'_>) {
    let _ = writeln!(out, "{}:  {}", text::escape(&fields.severity), text::escape_keeping_lines(&fields.message));
    if let Some(position) = fields.position {
        let (line, _) = origin.in_file(script::locate(&origin.statement.text, position));
        out.push_str(&caret(&origin.statement.text, position, &format!("LINE {line}: "), 1));
    }
    for (label, value) in [("DETAIL", &fields.detail), ("HINT", &fields.hint), ("CONTEXT", &fields.context)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{label}:  {}", text::escape_keeping_lines(value));
        }
    }
}

fn denied(out: &mut String, fields: &ErrorFields, refusal: &Refusal, origin: &Origin<'_>) {
    let approval = refusal.approvers.is_some();
    let word = if approval { "NEEDS APPROVAL" } else { "DENIED" };
    let _ =
        write!(out, "{word}  {}  rule {}", text::escape_keeping_lines(&fields.message), text::escape(&refusal.rule));
    if !refusal.decision.is_empty() {
        let _ = write!(out, " · {}", text::escape(&refusal.decision));
    }
    out.push('\n');
    let position = fields.position.unwrap_or(1);
    out.push_str(&caret(&origin.statement.text, position, "  ", word_length(&origin.statement.text, position)));
    if let Some(group) = &refusal.approvers {
        let _ = writeln!(out, "  The group {} may lift it.", text::escape(group));
    }
    if let Some(hint) = &fields.hint {
        let _ = writeln!(out, "  {}", text::escape_keeping_lines(hint).replace('\n', "\n  "));
    }
}

/// A notice, on one line or more.
pub fn notice(fields: &ErrorFields) -> String {
    let mut out = format!("{}:  {}\n", text::escape(&fields.severity), text::escape_keeping_lines(&fields.message));
    for (label, value) in [("DETAIL", &fields.detail), ("HINT", &fields.hint)] {
        if let Some(value) = value {
            let _ = writeln!(out, "{label}:  {}", text::escape_keeping_lines(value));
        }
    }
    out
}

/// The line of `sql` that holds a position (in characters, from 1), and marks under it.
pub fn caret(sql: &str, position: u32, label: &str, marks: usize) -> String {
    let (line, column) = script::locate(sql, position);
    let whole: Vec<char> = sql.split('\n').nth(line - 1).unwrap_or("").chars().collect();
    // A long line is cut so that the caret stays in view.
    let from = if whole.len() <= WIDEST { 0 } else { (column - 1).saturating_sub(WIDEST / 2) };
    let before: String = whole.iter().skip(from).take(column - 1 - from).collect();
    let shown: String = whole.iter().skip(from).take(WIDEST).collect();
    let lead = if from > 0 { "..." } else { "" };
    let tail = if from + WIDEST < whole.len() { "..." } else { "" };
    let tabs_as_spaces = |text: &str| text::escape(&text.replace('\t', " ").replace('\r', "")).into_owned();
    let indent = label.chars().count() + lead.len() + tabs_as_spaces(&before).chars().count();
    format!("{label}{lead}{}{tail}\n{}{}\n", tabs_as_spaces(&shown), " ".repeat(indent), "^".repeat(marks.max(1)))
}

/// How many letters the word at a position has.
fn word_length(sql: &str, position: u32) -> usize {
    let before = usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1);
    sql.chars().skip(before).take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(text: &str, line: usize, column: usize) -> Statement {
        Statement { text: text.into(), line, column }
    }

    #[test]
    fn an_error_looks_as_in_psql_and_names_the_line_of_the_file() {
        let mut fields = ErrorFields::error("42601", "syntax error at or near \"selec\"");
        fields.position = Some(1);
        let statement = statement("selec;", 2, 1);
        let expected = "<stdin>:2: ERROR:  syntax error at or near \"selec\"\nLINE 2: selec;\n        ^\n";
        assert_eq!(error(&fields, &Origin { file: Some("<stdin>"), statement: &statement }), expected);
    }

    #[test]
    fn the_caret_counts_characters_and_lines() {
        let mut fields = ErrorFields::error("42703", "column \"x\" does not exist");
        fields.position = Some(13);
        fields.hint = Some("look\nhere".into());
        let statement = statement("select 'ä',\n x from t;", 5, 3);
        let shown = error(&fields, &Origin { file: None, statement: &statement });
        assert_eq!(shown, "ERROR:  column \"x\" does not exist\nLINE 6:  x from t;\n        ^\nHINT:  look\nhere\n");
        assert_eq!(Origin { file: None, statement: &statement }.place(&fields), (6, 1));
    }

    #[test]
    fn a_refusal_points_at_the_word_and_says_what_helps() {
        let mut fields = ErrorFields::error("42501", "read session cannot write");
        fields.detail =
            Some(r#"{"rule":"access-level","decision":"dec_1","code":"read_only","retryable":false}"#.into());
        fields.hint = Some("Run: dbgate connect demo --access write".into());
        let statement = statement("delete from orders;", 1, 1);
        let expected = "DENIED  read session cannot write  rule access-level · dec_1\n  delete from orders;\n  ^^^^^^\n  Run: dbgate connect demo --access write\n";
        assert_eq!(error(&fields, &Origin { file: None, statement: &statement }), expected);
    }

    #[test]
    fn the_targets_own_permission_denied_is_no_refusal() {
        let mut fields = ErrorFields::error("42501", "permission denied for table t");
        assert_eq!(Refusal::of(&fields), None);
        fields.detail = Some("{}".into());
        assert_eq!(Refusal::of(&fields), None);
    }

    #[test]
    fn long_lines_are_cut_around_the_caret() {
        let sql = format!("select {} oops {}", "a,".repeat(200), "b,".repeat(200));
        let position = u32::try_from(sql.find("oops").expect("in") + 1).expect("small");
        let picture = caret(&sql, position, "LINE 1: ", 4);
        let mut lines = picture.lines();
        let (text, marks) = (lines.next().expect("text"), lines.next().expect("marks"));
        assert_eq!(text.find("oops"), marks.find('^'));
        assert!(text.len() < 120);
    }

    #[test]
    fn foreign_text_is_defused() {
        let fields = ErrorFields::error("42601", "bad \u{1b}]0;x\u{7}");
        let statement = statement("select '\u{1b}[2J'", 1, 1);
        assert!(!error(&fields, &Origin { file: None, statement: &statement }).contains('\u{1b}'));
    }
}
