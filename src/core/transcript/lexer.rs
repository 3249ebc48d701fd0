//! Splits SQL into tokens as PostgreSQL's scanner does, without understanding it.
//!
//! Redaction must find every literal even in text that no parser accepts, so this knows what can
//! hide a quote: nested comments, dollar quotes, escapes in `E''`, doubled quotes. It assumes
//! `standard_conforming_strings = on`, which the gateway pins.

/// What a piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Space,
    Comment,
    /// An unquoted word: keyword or name.
    Word,
    /// `"…"` or `U&"…"`.
    QuotedName,
    /// `'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`.
    Text,
    /// `$tag$…$tag$`.
    DollarText,
    Number,
    /// `$1`.
    Parameter,
    /// Any other character.
    Symbol,
}

/// One piece, by its bytes in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
    /// The text ended before the closing quote or comment mark.
    pub is_open: bool,
}

impl Token {
    /// The token's own text.
    pub fn of<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether it is a string constant of any form.
    pub const fn is_literal(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::DollarText)
    }

    /// Whether it separates and says nothing.
    pub const fn is_blank(&self) -> bool {
        matches!(self.kind, Kind::Space | Kind::Comment)
    }
}

/// All tokens of the text, without gaps.
pub fn tokens(sql: &str) -> Vec<Token> {
    let mut found = Vec::with_capacity(sql.len() / 4 + 1);
    let mut start = 0;
    while start < sql.len() {
        let (kind, length, is_open) = Scan { rest: sql.get(start..).unwrap_or_default() }.token();
        // Progress of at least one byte is what ends the loop; every scanner returns one.
        let end = (start + length.max(1)).min(sql.len());
        found.push(Token { kind, start, end, is_open });
        start = end;
    }
    found
}

/// The scanner at one place of the text.
struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.rest.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn token(&self) -> (Kind, usize, bool) {
        let first = self.byte(0);
        match first {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => (Kind::Space, self.run(is_space), false),
            b'-' if self.byte(1) == b'-' => {
                (Kind::Comment, self.rest.find(['\n', '\r']).unwrap_or(self.rest.len()), false)
            }
            b'/' if self.byte(1) == b'*' => self.block_comment(),
            b'\'' => self.quoted(0, b'\'', false, Kind::Text),
            b'"' => self.quoted(0, b'"', false, Kind::QuotedName),
            b'e' | b'E' if self.byte(1) == b'\'' => self.quoted(1, b'\'', true, Kind::Text),
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if self.byte(1) == b'\'' => {
                self.quoted(1, b'\'', false, Kind::Text)
            }
            b'u' | b'U' if self.byte(1) == b'&' && self.byte(2) == b'\'' => self.quoted(2, b'\'', false, Kind::Text),
            b'u' | b'U' if self.byte(1) == b'&' && self.byte(2) == b'"' => {
                self.quoted(2, b'"', false, Kind::QuotedName)
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => (Kind::Number, self.number(), false),
            // `1..2` is a range; its second dot does not begin `.2`.
            b'.' if self.byte(1) == b'.' => (Kind::Symbol, 2, false),
            b'.' if self.byte(1).is_ascii_digit() => (Kind::Number, self.number(), false),
            _ if is_name_start(first) => (Kind::Word, self.run(is_name_part), false),
            _ => (Kind::Symbol, self.rest.chars().next().map_or(1, char::len_utf8), false),
        }
    }

    /// How many bytes from here on satisfy `belongs`.
    fn run(&self, belongs: fn(u8) -> bool) -> usize {
        self.rest.bytes().position(|byte| !belongs(byte)).unwrap_or(self.rest.len())
    }

    /// Block comments nest, unlike in C.
    fn block_comment(&self) -> (Kind, usize, bool) {
        let (mut depth, mut at) = (0u32, 0);
        while at < self.rest.len() {
            match (self.byte(at), self.byte(at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return (Kind::Comment, at, false);
                    }
                }
                _ => at += 1,
            }
        }
        (Kind::Comment, self.rest.len(), true)
    }

    /// From the quote at `open` to its end; a doubled quote stands for itself.
    fn quoted(&self, open: usize, quote: u8, backslash: bool, kind: Kind) -> (Kind, usize, bool) {
        let mut at = open + 1;
        while at < self.rest.len() {
            let byte = self.byte(at);
            let is_escape = backslash && byte == b'\\';
            if is_escape || (byte == quote && self.byte(at + 1) == quote) {
                at += 2;
            } else if byte == quote {
                // What goes on in another line keeps its escapes.
                match backslash.then(|| self.goes_on(at + 1)).flatten() {
                    Some(next) => at = next + 1,
                    None => return (kind, at + 1, false),
                }
            } else {
                at += 1;
            }
        }
        (kind, self.rest.len(), true)
    }

    /// The quote with which a literal that has ended goes on (PostgreSQL, chapter 4.1.2.1): behind white space with
    /// a line break in it, and comments that a line break ends.
    fn goes_on(&self, from: usize) -> Option<usize> {
        let (mut at, mut is_below) = (from, false);
        loop {
            match self.byte(at) {
                b'\n' | b'\r' => is_below = true,
                b' ' | b'\t' | 0x0b | 0x0c => {}
                b'-' if self.byte(at + 1) == b'-' => at += self.rest.get(at..)?.find(['\n', '\r'])? - 1,
                b'\'' if is_below => return Some(at),
                _ => return None,
            }
            at += 1;
        }
    }

    /// A parameter, a dollar quote, or a lone dollar sign.
    fn dollar(&self) -> (Kind, usize, bool) {
        let after = self.rest.get(1..).unwrap_or_default();
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            return (Kind::Parameter, 1 + digits, false);
        }
        let tag = after.bytes().take_while(|byte| is_name_start(*byte) || byte.is_ascii_digit()).count();
        if after.as_bytes().get(tag) != Some(&b'$') {
            return (Kind::Symbol, 1, false);
        }
        let mark = self.rest.get(..tag + 2).unwrap_or("$");
        match self.rest.get(mark.len()..).and_then(|body| body.find(mark)) {
            Some(body) => (Kind::DollarText, mark.len() * 2 + body, false),
            None => (Kind::DollarText, self.rest.len(), true),
        }
    }

    /// A number with its fraction and exponent. Two dots are a range, not a fraction.
    fn number(&self) -> usize {
        let mut at = 0;
        if self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X' | b'o' | b'O' | b'b' | b'B') {
            at = 2;
            while self.byte(at).is_ascii_hexdigit() || self.byte(at) == b'_' {
                at += 1;
            }
            return at;
        }
        let digits = |mut at: usize| {
            while self.byte(at).is_ascii_digit() || self.byte(at) == b'_' {
                at += 1;
            }
            at
        };
        at = digits(at);
        if self.byte(at) == b'.' && self.byte(at + 1) != b'.' {
            at = digits(at + 1);
        }
        if matches!(self.byte(at), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            if self.byte(at + 1 + sign).is_ascii_digit() {
                at = digits(at + 1 + sign);
            }
        }
        at
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Bytes of 0x80 and up are letters to PostgreSQL.
const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

const fn is_name_part(byte: u8) -> bool {
    is_name_start(byte) || byte.is_ascii_digit() || byte == b'$'
}
