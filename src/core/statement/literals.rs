//! Where a text has literals that can be told apart by their value only, and what it is without them.
//!
//! Two texts with the same [`Stripped::key`] differ in whole numbers and plain strings alone: every
//! other byte is the same, and so is which literals are equal to each other. What is not plainly
//! such a text (comments, dollar quotes, escapes, other kinds of strings) has no key.

use std::ops::Range;

/// The longest text that is looked at.
pub const LONGEST: usize = 4 * 1024;
/// Whole numbers of more digits may be of another type.
const MOST_DIGITS: usize = 9;
/// Stand in the key in place of a number and of a string.
const NUMBER: u8 = 1;
const STRING: u8 = 2;

/// A text without its literals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stripped {
    /// The text with a mark in place of every literal.
    pub key: Vec<u8>,
    /// Where the literals stand, in order.
    pub places: Vec<Range<usize>>,
}

impl Stripped {
    /// Strips a text; false where it is not plainly one that can be. Keeps its buffers.
    pub fn strip(&mut self, text: &str) -> bool {
        self.key.clear();
        self.places.clear();
        text.len() <= LONGEST && self.scan(text.as_bytes()).is_some()
    }

    fn scan(&mut self, text: &[u8]) -> Option<()> {
        let mut at = 0;
        let mut before = b' ';
        while let Some(&byte) = text.get(at) {
            let end = match byte {
                b'0'..=b'9' if !is_word(before) && before != b'.' => self.number(text, at)?,
                b'\'' if is_word(before) || before == b'&' => return None,
                b'\'' => {
                    let end = quoted(text, at, b'\'')?;
                    match is_telling(text.get(at + 1..end - 1)?) {
                        true => self.key.extend_from_slice(text.get(at..end)?),
                        false => self.literal(text, at..end, STRING)?,
                    }
                    end
                }
                b'"' => {
                    let end = quoted(text, at, b'"')?;
                    self.key.extend_from_slice(text.get(at..end)?);
                    end
                }
                b'$' if !text.get(at + 1).is_some_and(u8::is_ascii_digit) => return None,
                b'-' | b'/' if text.get(at + 1) == Some(if byte == b'-' { &b'-' } else { &b'*' }) => return None,
                0..=8 => return None,
                other => {
                    self.key.push(other);
                    at + 1
                }
            };
            before = *text.get(end.checked_sub(1)?)?;
            at = end;
        }
        Some(())
    }

    /// A whole number is a literal; other numbers stay as they are.
    fn number(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let rest = text.get(at..)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let end = at + digits;
        let goes_on = text.get(end).is_some_and(|byte| is_word(*byte) || *byte == b'.');
        if goes_on || digits > MOST_DIGITS {
            let length = rest.iter().take_while(|byte| is_word(**byte) || **byte == b'.').count();
            self.key.extend_from_slice(rest.get(..length)?);
            return Some(at + length);
        }
        self.literal(text, at..end, NUMBER)?;
        Some(end)
    }

    /// None where there are more than a mark can number.
    fn literal(&mut self, text: &[u8], place: Range<usize>, mark: u8) -> Option<()> {
        // Which of the earlier ones it equals belongs to the shape: `1 = 1` is not `1 = 2`.
        let this = text.get(place.clone());
        let same = self.places.iter().position(|earlier| text.get(earlier.clone()) == this);
        let number = u8::try_from(same.unwrap_or(self.places.len())).ok()?;
        self.key.extend_from_slice(&[mark, number, mark]);
        self.places.push(place);
        Some(())
    }

    /// The same text with other literals, to see whether they matter: once with plain ones, once
    /// with strings that are dangerous as patterns and numbers that are far from each other, in either
    /// direction. Different literals stay different.
    pub fn probes(&self, text: &str) -> Option<[String; 3]> {
        let (near, up, down) =
            (|at| 4_000_000 + at, |at| 4_000_000 + 1_000_000 * at, |at| 900_000_000 - 1_000_000 * at);
        Some([
            self.probe(text, "plain", near)?,
            self.probe(text, "(a+)+ \\1 %9999s 1e9999", up)?,
            self.probe(text, "%9999s", down)?,
        ])
    }

    fn probe(&self, text: &str, string: &str, numbered: fn(usize) -> usize) -> Option<String> {
        let mut probe = String::with_capacity(text.len() + 16);
        let mut kept = 0;
        for (index, place) in self.places.iter().enumerate() {
            let literal = text.get(place.clone())?;
            let first = self.places.iter().position(|earlier| text.get(earlier.clone()) == Some(literal));
            probe.push_str(text.get(kept..place.start)?);
            let number = first.unwrap_or(index);
            match literal.starts_with('\'') {
                true => probe.push_str(&format!("'{string} {number}'")),
                false => probe.push_str(&numbered(number).to_string()),
            }
            kept = place.end;
        }
        probe.push_str(text.get(kept..)?);
        Some(probe)
    }
}

/// What a splice does to a text, between literals: the same for every text of the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// In the text that it was made for.
    start: usize,
    end: usize,
    replacement: String,
    /// How many literals stand before, and how long they are together.
    literals: usize,
    length: usize,
}

impl Patch {
    /// The difference of two texts as one replacement; none where it covers a literal.
    pub fn between(text: &str, spliced: &str, places: &[Range<usize>]) -> Option<Self> {
        let (old, new) = (text.as_bytes(), spliced.as_bytes());
        let mut start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
        let longest = old.len().min(new.len()) - start;
        let mut tail = old.iter().rev().zip(new.iter().rev()).take(longest).take_while(|(a, b)| a == b).count();
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        while !text.is_char_boundary(old.len() - tail) {
            tail -= 1;
        }
        let end = old.len() - tail;
        let covers = |place: &Range<usize>| place.start < end && place.end > start;
        if places.iter().any(covers) {
            return None;
        }
        let before = places.iter().filter(|place| place.end <= start);
        let (literals, length) = before.fold((0, 0), |(count, length), place| (count + 1, length + place.len()));
        let replacement = spliced.get(start..spliced.len() - tail)?.to_owned();
        Some(Self { start, end, replacement, literals, length })
    }

    /// The splice of another text of the same shape.
    pub fn apply(&self, text: &str, places: &[Range<usize>]) -> Option<String> {
        let length: usize = places.get(..self.literals)?.iter().map(ExactSizeIterator::len).sum();
        let moved = |at: usize| (at + length).checked_sub(self.length);
        let (head, tail) = (text.get(..moved(self.start)?)?, text.get(moved(self.end)?..)?);
        Some([head, &self.replacement, tail].concat())
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Strings that say something by themselves, which belongs to the shape: a truth value, and patterns that match
/// everything.
fn is_telling(string: &[u8]) -> bool {
    const TRUTHS: [&str; 6] = ["true", "false", "yes", "no", "on", "off"];
    let is_begun =
        |truth: &&str| truth.as_bytes().get(..string.len()).is_some_and(|begun| begun.eq_ignore_ascii_case(string));
    TRUTHS.iter().any(is_begun) || matches!(string, b"0" | b"1") || string.iter().all(|byte| b"%^$.*".contains(byte))
}

/// The end of a quoted token; a doubled quote stands for itself.
pub(super) fn quoted(text: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += text.get(at..)?.iter().position(|byte| *byte == quote)? + 1;
        if text.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> Option<Stripped> {
        let mut stripped = Stripped::default();
        stripped.strip(text).then_some(stripped)
    }

    fn alike(one: &str, other: &str) -> bool {
        stripped(one).expect(one).key == stripped(other).expect(other).key
    }

    #[test]
    fn texts_that_differ_in_literals_only_are_alike() {
        assert!(alike("select a from t where id = 1", "select a from t where id = 4711"));
        assert!(alike("select 'a', 1 from t", "select 'it''s longer', 22 from t"));
        assert!(alike("select $1, 5", "select $1, 6"));
    }

    #[test]
    fn everything_else_is_a_difference() {
        for (one, other) in [
            ("select 1", "select 'a'"),
            ("select 1", "select 1.5"),
            ("select 1", "select 1234567890"),
            ("select 1", "select  1"),
            ("select a1", "select a2"),
            ("select \"1\"", "select \"2\""),
            ("select $1", "select $2"),
            ("select 1 = 1", "select 1 = 2"),
            ("select 'a' = 'a'", "select 'a' = 'b'"),
            ("select a like 'x%'", "select a like '%%'"),
            ("select a ~ 'x'", "select a ~ '.*'"),
            ("select a where 'x'", "select a where 'T'"),
            ("select a = 'x'", "select a = ''"),
            ("select 1e5", "select 1e6"),
            ("select 0x10", "select 0x11"),
            ("select t.1", "select t.2"),
        ] {
            assert!(!alike(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn what_is_not_plain_has_no_key() {
        for text in [
            "select 1 -- more",
            "select /* 1 */ 2",
            "select $$a$$",
            "select $x$a$x$",
            "select E'a'",
            "select U&'a'",
            "select b'1'",
            "select 'open",
            "select \"open",
            "select \u{1}",
        ] {
            assert_eq!(stripped(text), None, "{text}");
        }
        // Behind so many that marks cannot number them, `1 = 1` and `1 = 2` would be alike.
        let list = |end: &str| (0..256).map(|n| format!("{n}, ")).collect::<String>() + end;
        assert!(!alike(&format!("select {}", list("7 = 7")), &format!("select {}", list("7 = 8"))));
        assert_eq!(stripped(&format!("select {}", list("300 = 300"))), None);
    }

    #[test]
    fn a_probe_has_the_same_key_and_other_values() {
        let text = "select 'a', 'b', 'a' from t where id in (7, 8, 7)";
        let found = stripped(text).expect("plain");
        let [plain, odd, down] = found.probes(text).expect("probes");
        for probe in [&plain, &odd, &down] {
            assert_eq!(stripped(probe).expect("plain").key, found.key);
        }
        assert!(odd.contains("(7000000, 8000000, 7000000)") && down.contains("897000000"), "{odd} {down}");
        assert_eq!(plain, "select 'plain 0', 'plain 1', 'plain 0' from t where id in (4000003, 4000004, 4000003)");
    }

    #[test]
    fn a_patch_moves_with_the_literals_before_it() {
        let (text, spliced) = ("select 1, 'x' from t where id = 5", "select 1, 'x' from (select a) t where id = 5");
        let found = stripped(text).expect("plain");
        let patch = Patch::between(text, spliced, &found.places).expect("a patch");
        assert_eq!(patch.apply(text, &found.places).as_deref(), Some(spliced));
        let other = "select 1000, 'longer' from t where id = 77";
        let places = stripped(other).expect("plain").places;
        let expected = "select 1000, 'longer' from (select a) t where id = 77";
        assert_eq!(patch.apply(other, &places).as_deref(), Some(expected));
        // Between two places that are replaced stands a literal: no single patch.
        let (text, spliced) = ("select 1 from t, 5 u", "select 1 from (x) t, 5 (y) u");
        assert_eq!(Patch::between(text, spliced, &stripped(text).expect("plain").places), None);
    }
}
