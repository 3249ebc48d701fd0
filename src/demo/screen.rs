//! How the walk looks: numbered steps, a sentence or two of why, the command, and what it said.
//!
//! Colour only where a terminal reads it and `NO_COLOR` is not set; the words carry everything.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// No line of prose is longer, so that it stays readable on a wide screen.
const WIDEST: usize = 88;
const NARROWEST: usize = 40;

/// Standard output, set like a page.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    colour: bool,
    width: usize,
}

/// What a piece of text is; the colour follows from it.
#[derive(Clone, Copy)]
enum Tone {
    Title,
    Command,
    Quiet,
    Good,
}

impl Screen {
    /// Looks at standard output and the environment once.
    pub fn new() -> Self {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let colour =
            std::io::stdout().is_terminal() && said("NO_COLOR").is_none() && said("TERM").as_deref() != Some("dumb");
        let columns = said("COLUMNS").and_then(|columns| columns.parse().ok()).unwrap_or(WIDEST);
        Self { colour, width: columns.clamp(NARROWEST, WIDEST) }
    }

    /// Without colours, whatever reads it.
    pub fn plain() -> Self {
        Self { colour: false, ..Self::new() }
    }

    /// The first line of the whole.
    pub fn title(self, text: &str) {
        line(&format!("\n{}\n", self.tone(Tone::Title, text)));
    }

    /// A thing that was set up, and how long it took.
    pub fn ready(self, what: &str, took: Duration) {
        let seconds = format!("{:.1} s", took.as_secs_f64());
        let room = self.width.saturating_sub(what.chars().count() + seconds.len() + 4);
        line(&format!("  {what} {} {seconds}", self.tone(Tone::Quiet, &"·".repeat(room))));
    }

    /// Begins a step: its number and name, then why it is worth looking at.
    pub fn step(self, number: usize, name: &str, why: &str) {
        line(&format!("\n{}", self.tone(Tone::Title, &format!("{number}  {name}"))));
        self.say(why);
    }

    /// A paragraph.
    pub fn say(self, text: &str) {
        for row in wrap(text, self.width.saturating_sub(3)) {
            line(&format!("   {row}"));
        }
    }

    /// A command as the user would type it.
    pub fn command(self, text: &str) {
        line(&format!("\n   {} {}", self.tone(Tone::Quiet, "$"), self.tone(Tone::Command, text)));
    }

    /// What a program said. Its text has been made safe for terminals by the program itself. Rows
    /// that are too long for the page are broken at spaces; tables of the walk are not.
    pub fn output(self, text: &str) {
        let bar = self.tone(Tone::Quiet, "│");
        for row in text.trim_end().lines() {
            for part in fold(row, self.width.saturating_sub(5)) {
                line(format!("   {bar} {part}").trim_end());
            }
        }
    }

    /// An empty line.
    pub fn gap(self) {
        line("");
    }

    /// What was seen by looking from another side.
    pub fn seen(self, text: &str) {
        let rows = wrap(text, self.width.saturating_sub(5));
        for (index, row) in rows.iter().enumerate() {
            let mark = if index == 0 { self.tone(Tone::Good, "→") } else { " ".to_owned() };
            line(&format!("   {mark} {row}"));
        }
    }

    fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Title | Tone::Command => "1",
            Tone::Quiet => "2",
            Tone::Good => "32",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// A reader that has gone (`| head`) is no reason to leave the shop running.
fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Breaks at spaces; a word longer than the line stands alone.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.chars().count() + 1 + word.chars().count() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows
}

/// One row of output as rows that fit, broken at spaces and otherwise as it was; the further ones
/// are set in below the first.
fn fold(row: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(row.chars().take_while(|c| *c == ' ').count() + 2);
    let (mut rows, mut rest) = (Vec::new(), row.to_owned());
    while let Some((end, _)) = rest.char_indices().nth(width) {
        let (fits, _) = rest.split_at(end);
        // The indentation is no place to break; a word longer than the line stays whole.
        let text = fits.len() - fits.trim_start().len();
        let exact = rest.get(end..).is_some_and(|behind| behind.starts_with(' ')).then_some(end);
        let found = exact
            .or_else(|| fits.rfind(' ').filter(|at| *at > text))
            .or_else(|| rest.get(end..)?.find(' ').map(|at| at + end));
        let Some(at) = found else { break };
        let (head, tail) = rest.split_at(at);
        let next = format!("{indent}{}", tail.trim_start());
        rows.push(head.trim_end().to_owned());
        rest = next;
    }
    rows.push(rest);
    rows
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_breaks_at_spaces_and_no_word_is_lost() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable a", 4), ["unbreakable", "a"]);
        assert!(wrap("", 10).is_empty());
    }

    #[test]
    fn long_output_is_set_in_and_short_output_is_left_alone() {
        assert_eq!(fold("  a |   b", 9), ["  a |   b"]);
        assert_eq!(fold("  one  two three", 10), ["  one  two", "    three"]);
        assert_eq!(fold("http://a.long.address and more", 10), ["http://a.long.address", "  and more"]);
    }

    #[test]
    fn without_a_terminal_there_is_no_colour() {
        let screen = Screen { colour: false, width: 80 };
        assert_eq!(screen.tone(Tone::Good, "x"), "x");
        assert_eq!(Screen { colour: true, ..screen }.tone(Tone::Good, "x"), "\x1b[32mx\x1b[0m");
    }

    #[test]
    fn large_numbers_are_readable() {
        assert_eq!([thousands(7), thousands(1000), thousands(-1_234_567)], ["7", "1,000", "-1,234,567"]);
    }
}
