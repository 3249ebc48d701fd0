//! Finds sensitive values in text and JSON by what they look like: one pass, a class table, a
//! checksum wherever there is one.
//!
//! A second, best-effort net and no wall: it proposes classifications and it raises alarms. What is
//! spelled out, split or encoded gets past it; an IPv6 address is left to columns' types.

mod escapes;
mod iban;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 13 to 19 digits of a known issuer range that pass Luhn's check.
    Card,
    /// Country, length and remainder of 97 are right.
    Iban,
    /// `123-45-6789` in a range that is given out.
    Ssn,
    /// With a country's prefix, or in the groups of North America.
    Phone,
    Email,
    /// Three parts of base64url, the first of them a JSON object.
    Jwt,
    /// A key of a known maker, by its prefix.
    ApiKey,
    PrivateKey,
    /// Four numbers below 256.
    Ip,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Card,
        Self::Iban,
        Self::Ssn,
        Self::Phone,
        Self::Email,
        Self::Jwt,
        Self::ApiKey,
        Self::PrivateKey,
        Self::Ip,
    ];

    /// For a person to read.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Card => "card number",
            Self::Iban => "IBAN",
            Self::Ssn => "social security number",
            Self::Phone => "telephone number",
            Self::Email => "e-mail address",
            Self::Jwt => "signed token",
            Self::ApiKey => "API key",
            Self::PrivateKey => "private key",
            Self::Ip => "IP address",
        }
    }

    /// Whether a single match can hardly be chance: a strong checksum or a long fixed form. Luhn's check
    /// passes one number in ten, and a number of the form of a telephone number may be anything.
    pub const fn is_certain(self) -> bool {
        match self {
            Self::Iban | Self::Jwt | Self::ApiKey | Self::PrivateKey => true,
            Self::Card | Self::Ssn | Self::Phone | Self::Email | Self::Ip => false,
        }
    }
}

/// One match, in bytes of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// What a byte can begin. Most begin nothing, and the loop steps over them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Nothing,
    Digit,
    /// Begins a country's prefix.
    Plus,
    /// Opens an area code.
    Open,
    At,
    /// Begins an armoured key.
    Dash,
    /// Begins a token, a key or an IBAN.
    Token,
    /// Any other letter of a word.
    Letter,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [Class::Nothing; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::as_conversions, reason = "below 256")]
        let letter = byte as u8;
        // The index is below the length of the table.
        #[expect(clippy::indexing_slicing, reason = "the loop ends at 256")]
        {
            table[byte] = match letter {
                b'0'..=b'9' => Class::Digit,
                b'+' => Class::Plus,
                b'(' => Class::Open,
                b'@' => Class::At,
                b'-' => Class::Dash,
                b'A'..=b'Z' | b'e' | b'g' | b'n' | b's' | b'x' | b'p' | b'r' => Class::Token,
                b'a'..=b'z' | b'_' => Class::Letter,
                _ => Class::Nothing,
            };
        }
        byte += 1;
    }
    table
}

/// Everything in a text.
pub fn scan(text: &[u8]) -> Vec<Hit> {
    let mut hits = Vec::new();
    each(text, |hit| {
        hits.push(hit);
        true
    });
    hits
}

/// The same where letters may stand there escaped, as in JSON, arrays, rows and COPY: they count as what they stand
/// for. What shows only as it is written is found as well. Places are those in the text as it is, and never within
/// an escape.
pub fn scan_escaped(text: &[u8]) -> Vec<Hit> {
    if !text.contains(&b'\\') {
        return scan(text);
    }
    let (plain, places) = escapes::read(text);
    let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
    let mut hits: Vec<Hit> =
        scan(&plain).into_iter().map(|hit| Hit { start: place(hit.start), end: place(hit.end), ..hit }).collect();
    hits.extend(scan(text).into_iter().map(|hit| {
        let start = places.partition_point(|place| *place <= hit.start).saturating_sub(1);
        Hit { start: place(start), end: place(places.partition_point(|place| *place < hit.end)), ..hit }
    }));
    hits.sort_by_key(|hit| hit.start);
    let mut joined: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match joined.last_mut().filter(|last| last.kind == hit.kind && hit.start < last.end) {
            Some(last) => last.end = last.end.max(hit.end),
            None => joined.push(hit),
        }
    }
    joined
}

/// The first, where one is enough.
pub fn first(text: &[u8]) -> Option<Hit> {
    let mut found = None;
    each(text, |hit| {
        found = Some(hit);
        false
    });
    found
}

/// Calls `take` for every match until it says no.
fn each(text: &[u8], mut take: impl FnMut(Hit) -> bool) {
    let (mut at, mut word) = (0, Word::default());
    while let Some(byte) = text.get(at) {
        #[expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]
        let class = CLASSES[usize::from(*byte)];
        let (hit, next) = match class {
            Class::Nothing => (None, at + 1),
            Class::At => email(text, at),
            Class::Digit if !follows_word(text, at) => digits(text, at),
            Class::Plus | Class::Open if !follows_word(text, at) => phone(text, at),
            Class::Plus | Class::Open => (None, at + 1),
            Class::Dash => armour(text, at),
            Class::Token if !follows_word(text, at) => token(text, at, &mut word),
            // In the middle of a word: only an `@` behind it matters, and that comes by itself.
            Class::Digit | Class::Token | Class::Letter => (None, after_word(text, at)),
        };
        if let Some(hit) = hit
            && !take(hit)
        {
            return;
        }
        at = next.max(at + 1);
    }
}

type Found = (Option<Hit>, usize);

fn hit(kind: Kind, start: usize, end: usize) -> Found {
    (Some(Hit { kind, start, end }), end)
}

fn is_word(byte: u8) -> bool {
    #[expect(clippy::indexing_slicing, reason = "the table has an entry for every byte")]
    let class = CLASSES[usize::from(byte)];
    matches!(class, Class::Digit | Class::Token | Class::Letter)
}

fn follows_word(text: &[u8], at: usize) -> bool {
    at.checked_sub(1).and_then(|before| text.get(before)).is_some_and(|byte| is_word(*byte))
}

/// The end of the run of bytes that `fits`, from `at`.
fn run(text: &[u8], at: usize, fits: impl Fn(u8) -> bool) -> usize {
    let rest = text.get(at..).unwrap_or(&[]);
    at + rest.iter().position(|byte| !fits(*byte)).unwrap_or(rest.len())
}

fn after_word(text: &[u8], at: usize) -> usize {
    run(text, at, is_word)
}

/// Local part to the left, a name with a dot and letters at its end to the right.
fn email(text: &[u8], at: usize) -> Found {
    let before = text.get(..at).unwrap_or(&[]);
    let is_local = |byte: u8| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte);
    let start = before.iter().rposition(|byte| !is_local(*byte)).map_or(0, |last| last + 1);
    let end = run(text, at + 1, |byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-');
    let domain = text.get(at + 1..end).unwrap_or(&[]);
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let Some(dot) = domain.iter().rposition(|byte| *byte == b'.') else { return (None, at + 1) };
    let ending = domain.get(dot + 1..).unwrap_or(&[]);
    let is_address = start < at
        && dot > 0
        && ending.len() >= 2
        && ending.iter().all(u8::is_ascii_alphabetic)
        && !domain.starts_with(b".")
        && !domain.starts_with(b"-");
    if is_address { hit(Kind::Email, start, at + 1 + domain.len()) } else { (None, at + 1) }
}

/// A run of digits in groups: a card, a social security number, a telephone number, an address of a machine.
fn digits(text: &[u8], start: usize) -> Found {
    let end = grouped_end(text, start);
    let shape = text.get(start..end).unwrap_or(&[]);
    let next = if text.get(end).is_some_and(|byte| is_word(*byte)) { after_word(text, end) } else { end };
    if next != end {
        // Digits that go on as a word are part of an identifier.
        return (None, next);
    }
    // Most numbers and dates are none of these by their mere length.
    let count = only_digits(shape).count();
    let kind = match (count, shape.len() - count) {
        (4..=12, 3) if is_ip(shape, text.get(end)) => Kind::Ip,
        (13..=19, _) if is_card(shape) => Kind::Card,
        (9, 2) if is_ssn(shape) => Kind::Ssn,
        (10, 2) if is_american(shape) => Kind::Phone,
        _ => return (None, end),
    };
    hit(kind, start, end)
}

/// Digits, with single separators between them.
fn grouped_end(text: &[u8], start: usize) -> usize {
    let mut end = start;
    loop {
        end = run(text, end, |byte| byte.is_ascii_digit());
        let separated = text.get(end).is_some_and(|byte| b" -.".contains(byte))
            && text.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !separated || end - start > 40 {
            return end;
        }
        end += 1;
    }
}

fn only_digits(shape: &[u8]) -> impl Iterator<Item = u32> + Clone + '_ {
    shape.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'))
}

/// Lengths of the groups of digits, and the separators between them.
fn groups(shape: &[u8]) -> (Vec<usize>, Vec<u8>) {
    let lengths = shape.split(|byte| !byte.is_ascii_digit()).map(<[u8]>::len).collect();
    (lengths, shape.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect())
}

fn is_card(shape: &[u8]) -> bool {
    let count = only_digits(shape).count();
    let (lengths, separators) = groups(shape);
    let known = matches!(only_digits(shape).next(), Some(2..=6));
    let same = separators.windows(2).all(|pair| pair.first() == pair.last()) && !separators.contains(&b'.');
    let fits = separators.is_empty() || lengths.iter().all(|length| (2..=7).contains(length));
    let varied = only_digits(shape).collect::<std::collections::BTreeSet<_>>().len() > 1;
    (13..=19).contains(&count) && known && same && fits && varied && luhn(shape, count)
}

/// Every second digit from the right counts twice, its own digits added up.
fn luhn(shape: &[u8], count: usize) -> bool {
    let sum: u32 = only_digits(shape)
        .enumerate()
        .map(|(index, digit)| {
            let doubled = (count - index).is_multiple_of(2);
            let value = if doubled { digit * 2 } else { digit };
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// No number of these ranges was ever given out: area 000, 666, 9xx; group 00; serial 0000.
fn is_ssn(shape: &[u8]) -> bool {
    let (lengths, separators) = groups(shape);
    let parts: Vec<&[u8]> = shape.split(|byte| !byte.is_ascii_digit()).collect();
    let [area, group, serial] = parts.as_slice() else { return false };
    lengths == [3, 2, 4]
        && separators == b"--"
        && ![b"000", b"666"].contains(&<&[u8; 3]>::try_from(*area).unwrap_or(b"000"))
        && !area.starts_with(b"9")
        && *group != b"00"
        && *serial != b"0000"
}

/// `555-010-4477` and its likes; area and exchange begin with 2 to 9.
fn is_american(shape: &[u8]) -> bool {
    let (lengths, separators) = groups(shape);
    let parts: Vec<&[u8]> = shape.split(|byte| !byte.is_ascii_digit()).collect();
    let begins = |part: &&[u8]| part.first().is_some_and(|digit| (b'2'..=b'9').contains(digit));
    lengths == [3, 3, 4] && separators.first() == separators.last() && parts.iter().take(1).all(begins)
}

/// Four numbers below 256 with dots, and nothing that makes it a longer one.
fn is_ip(shape: &[u8], next: Option<&u8>) -> bool {
    if shape.iter().any(|byte| !byte.is_ascii_digit() && *byte != b'.') {
        return false;
    }
    let parts: Vec<&[u8]> = shape.split(|byte| *byte == b'.').collect();
    let fits = |part: &&[u8]| {
        let value = part
            .iter()
            .try_fold(0u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')));
        (1..=3).contains(&part.len())
            && value.is_some_and(|value| value < 256)
            && (part.len() == 1 || !part.starts_with(b"0"))
    };
    let is_address = parts.len() == 4 && parts.iter().all(fits) && next != Some(&b'.');
    // A version number such as 1.2.3.4 looks the same; one that begins with 0 is no address.
    is_address && parts.first() != Some(&b"0".as_slice())
}

/// A telephone number with all that stands between its digits.
const LONGEST_PHONE: usize = 48;

/// `+49 30 901820`, or `(555) 010-4477`.
fn phone(text: &[u8], start: usize) -> Found {
    let is_international = text.get(start) == Some(&b'+');
    let is_part = |byte: u8| byte.is_ascii_digit() || b" -.()/".contains(&byte);
    let longest = text.get(..text.len().min(start + LONGEST_PHONE)).unwrap_or(text);
    let mut end = run(longest, start + 1, is_part);
    while text.get(end - 1).is_some_and(|byte| !byte.is_ascii_digit()) && end > start + 1 {
        end -= 1;
    }
    let shape = text.get(start + 1..end).unwrap_or(&[]);
    let count = only_digits(shape).count();
    let goes_on = text.get(end).is_some_and(|byte| is_word(*byte));
    let area = shape.get(..5).is_some_and(|part| part.ends_with(b") ") && part.iter().take(3).all(u8::is_ascii_digit));
    let fits = match is_international {
        true => (8..=15).contains(&count) && matches!(shape.first(), Some(b'1'..=b'9')),
        false => count == 10 && area,
    };
    if fits && !goes_on { hit(Kind::Phone, start, end) } else { (None, start + 1) }
}

/// `-----BEGIN … PRIVATE KEY-----`, to its end or that of the text.
fn armour(text: &[u8], start: usize) -> Found {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let rest = text.get(start..).unwrap_or(&[]);
    if !rest.starts_with(BEGIN) {
        return (None, start + 1);
    }
    let line = rest.get(..80.min(rest.len())).unwrap_or(rest);
    let is_private = line.windows(11).any(|window| window == b"PRIVATE KEY");
    if !is_private {
        return (None, start + BEGIN.len());
    }
    let close = rest.windows(9).position(|window| window == b"-----END ");
    hit(Kind::PrivateKey, start, close.map_or(text.len(), |at| start + at + 9))
}

/// Prefixes that makers put before their keys, and how many letters follow at least.
const PREFIXES: [(&[u8], usize); 17] = [
    (b"AKIA", 16),
    (b"ASIA", 16),
    (b"AIza", 35),
    (b"ghp_", 36),
    (b"gho_", 36),
    (b"ghu_", 36),
    (b"ghs_", 36),
    (b"github_pat_", 22),
    (b"glpat-", 20),
    (b"sk_live_", 16),
    (b"rk_live_", 16),
    (b"sk-", 32),
    (b"xoxb-", 20),
    (b"xoxp-", 20),
    (b"npm_", 36),
    (b"SG.", 40),
    (b"pk_live_", 16),
];

/// No key is shorter, its prefix included.
const SHORTEST_KEY: usize = 20;

/// The run of words, dashes and dots that was looked at last: many tokens may begin in one.
#[derive(Default)]
struct Word {
    end: usize,
    dots: Vec<usize>,
}

impl Word {
    /// Goes on to the run that `start` stands in.
    fn reach(&mut self, text: &[u8], start: usize) {
        if self.end > start {
            return;
        }
        self.end = run(text, start, |byte| is_word(byte) || byte == b'-' || byte == b'.');
        let word = text.get(start..self.end).unwrap_or_default().iter();
        self.dots = word.enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| start + at).collect();
    }

    /// Whether three parts are left of it, as long as those of a token.
    fn is_jwt(&self, start: usize) -> bool {
        let behind = self.dots.partition_point(|dot| *dot < start);
        match self.dots.get(behind..) {
            Some([first, second]) => first - start >= 10 && second - first > 4 && self.end - second > 10,
            Some(_) | None => false,
        }
    }
}

/// A word that may be a token, a key or an IBAN.
fn token(text: &[u8], start: usize, run: &mut Word) -> Found {
    run.reach(text, start);
    let word = text.get(start..run.end).unwrap_or(&[]);
    if word.starts_with(b"eyJ") && run.is_jwt(start) {
        return hit(Kind::Jwt, start, run.end);
    }
    let is_key = |(prefix, least): &(&[u8], usize)| word.starts_with(prefix) && word.len() >= prefix.len() + least;
    if word.len() >= SHORTEST_KEY && PREFIXES.iter().any(is_key) {
        return hit(Kind::ApiKey, start, run.end);
    }
    if let Some(length) = iban::length(text.get(start..).unwrap_or(&[])) {
        return hit(Kind::Iban, start, start + length);
    }
    (None, after_word(text, start))
}

#[cfg(test)]
mod tests;
