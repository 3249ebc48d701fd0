//! The second net: values that look sensitive in columns that nobody has classified.
//!
//! Best effort and no wall, see [`scan`]: what is found is hidden letter by letter, so that no value
//! changes its length and no message its frame. Columns that cannot hold a text are not looked at.

use std::collections::BTreeMap;
use std::ops::Range;

use super::scan::{self, Hit, Kind};

/// What the net does with what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Net {
    /// Nothing is looked at.
    #[default]
    Off,
    /// Findings are counted and told, and left as they are.
    Notice,
    /// Findings are replaced by as many asterisks, counted and told.
    Redact,
}

/// How the values of a column are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Not,
    Text,
    Json,
    /// What holds others, as text: arrays, rows, and types of the database's own, which may be anything.
    Nested,
    /// The same in the binary format.
    Binary,
    /// `tsvector`: words with their places.
    Lexemes,
}

impl Look {
    /// By the column's type (`pg_type.oid`) and format.
    pub const fn of(type_oid: u32, is_binary: bool) -> Self {
        match type_oid {
            // json, jsonb: the binary form of the latter has one byte before the text.
            114 | 3802 => Self::Json,
            // "char", name, text, unknown, bpchar, varchar, xml, refcursor, cstring, tsquery, jsonpath
            18 | 19 | 25 | 705 | 1042 | 1043 | 142 | 1790 | 2275 | 3615 | 4072 => Self::Text,
            3614 => Self::Lexemes,
            // Arrays of these, rows and arrays of any kind, and types of the database's own.
            143
            | 199
            | 1002
            | 1003
            | 1009
            | 1014
            | 1015
            | 1263
            | 2201
            | 2249
            | 2277
            | 2287
            | 3643
            | 3645
            | 3807
            | 4073
            | 16_384.. => {
                if is_binary {
                    Self::Binary
                } else {
                    Self::Nested
                }
            }
            // Numbers, times, bits, addresses of machines: no text.
            _ => Self::Not,
        }
    }
}

/// Rows may hold rows: so many levels are looked at part by part.
const DEEPEST: u8 = 16;

/// What was found, by kind.
pub type Found = BTreeMap<Kind, u64>;

/// Looks through the body of one DataRow message. Values beyond `looks` are looked at as text.
pub fn row(body: &mut [u8], looks: &[Look], net: Net, found: &mut Found) {
    let mut rest = body.get_mut(2..).unwrap_or_default();
    let mut looks = looks.iter().copied();
    while let Some((length, behind)) = rest.split_first_chunk_mut::<4>() {
        let look = looks.next().unwrap_or(Look::Text);
        // -1 stands for NULL.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(behind.len());
        let (value, next) = behind.split_at_mut(length);
        self::value(value, look, net, found);
        rest = next;
    }
}

/// Looks through one value.
pub fn value(value: &mut [u8], look: Look, net: Net, found: &mut Found) {
    within(value, look, net, found, DEEPEST);
}

fn within(value: &mut [u8], look: Look, net: Net, found: &mut Found, depth: u8) {
    // Shorter than anything that is looked for.
    if value.len() < 6 {
        return;
    }
    match look {
        Look::Not => {}
        Look::Text => text(value, net, found),
        Look::Json => json(value, net, found),
        Look::Binary => binary(value, net, found, depth),
        // As text it begins with a quote; in the binary format with the first byte of a count.
        Look::Lexemes if value.first() == Some(&0) => lexemes(value, net, found),
        Look::Nested | Look::Lexemes => nested(value, net, found),
    }
}

/// Looks through text.
pub fn text(text: &mut [u8], net: Net, found: &mut Found) {
    for hit in find(text, found) {
        hide(text, hit, net, |_| false);
    }
}

/// Looks through a line of a COPY: what may delimit its columns stays, and most of what may stand in an address could.
pub fn line(line: &mut [u8], net: Net, found: &mut Found) {
    for mut hit in find(line, found) {
        if hit.kind == Kind::Email {
            let local = line.get(hit.start..hit.end).unwrap_or_default();
            let local = local.iter().position(|byte| *byte == b'@').and_then(|at| local.get(..at)).unwrap_or_default();
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-\\".contains(&byte);
            hit.start += local.iter().rposition(|byte| !is_plain(*byte)).map_or(0, |last| last + 1);
        }
        hide(line, hit, net, |byte| b"\t\r\n\",;|".contains(&byte));
    }
}

/// Looks through the fields of an error or a notice: each a letter and a text.
pub fn error(body: &mut [u8], net: Net, found: &mut Found) {
    for field in body.split_mut(|byte| *byte == 0) {
        text(field.get_mut(1..).unwrap_or_default(), net, found);
    }
}

/// Arrays, rows and the like as text: what delimits their parts stays, and the backslashes in front of it.
fn nested(text: &mut [u8], net: Net, found: &mut Found) {
    for hit in find(text, found) {
        if net != Net::Redact {
            continue;
        }
        let mut delimits = false;
        for byte in text.get_mut(hit.start..hit.end).unwrap_or_default().iter_mut().rev() {
            delimits = (*byte == b'\\' && delimits) || b"{}(),'\"".contains(byte);
            if !delimits {
                *byte = b'*';
            }
        }
    }
}

/// The binary format of what holds others, and of what nobody here knows.
fn binary(value: &mut [u8], net: Net, found: &mut Found, depth: u8) {
    let holders = [Holder::array(value), Holder::row(value)];
    let Some(mut holder) = holders.into_iter().flatten().find(|one| depth > 0 && one.fits(value)) else {
        return unknown(value, net, found);
    };
    while let Some((type_oid, place)) = holder.next(value) {
        within(value.get_mut(place).unwrap_or_default(), Look::of(type_oid, true), net, found, depth - 1);
    }
}

/// What holds parts, each behind its length, in the binary format; and how far it was read.
#[derive(Clone)]
struct Holder {
    at: usize,
    /// Of all elements of an array; each field of a row says its own.
    type_oid: Option<u32>,
    /// How many fields of a row are left.
    left: u32,
}

impl Holder {
    /// Dimensions, a flag, the type, and a length and a lower bound for each dimension.
    fn array(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let dimensions = usize::try_from(number(bytes, &mut at)?).ok().filter(|count| (1..=6).contains(count))?;
        let has_nulls = number(bytes, &mut at)?;
        let type_oid = number(bytes, &mut at)?;
        (has_nulls <= 1).then_some(Self { at: at + dimensions * 8, type_oid: Some(type_oid), left: 0 })
    }

    /// How many fields.
    fn row(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let left = number(bytes, &mut at)?;
        Some(Self { at, type_oid: None, left })
    }

    /// Whether its parts fill it.
    fn fits(&self, bytes: &[u8]) -> bool {
        let mut whole = self.clone();
        while whole.next(bytes).is_some() {}
        whole.left == 0 && whole.at == bytes.len()
    }

    /// The next part: its type, and where it stands.
    fn next(&mut self, bytes: &[u8]) -> Option<(u32, Range<usize>)> {
        let mut at = self.at;
        let type_oid = match self.type_oid {
            Some(type_oid) => type_oid,
            None if self.left == 0 => return None,
            None => number(bytes, &mut at)?,
        };
        // -1 stands for NULL.
        let length = match number(bytes, &mut at)? {
            u32::MAX => 0,
            length => usize::try_from(length).ok()?,
        };
        let end = at.checked_add(length).filter(|end| *end <= bytes.len())?;
        (self.at, self.left) = (end, self.left.saturating_sub(1));
        Some((type_oid, at..end))
    }
}

fn number(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let number = bytes.get(*at..)?.first_chunk::<4>()?;
    *at += 4;
    Some(u32::from_be_bytes(*number))
}

/// A binary value of a type that nobody here knows. A length may stand in front of any text in it, and stays: up to
/// three bytes behind a zero.
fn unknown(value: &mut [u8], net: Net, found: &mut Found) {
    for hit in find(value, found).iter().filter(|_| net == Net::Redact) {
        for at in hit.start..hit.end {
            let is_length = value.get(at.saturating_sub(3)..=at).unwrap_or_default().contains(&0);
            if let Some(byte) = value.get_mut(at).filter(|_| !is_length) {
                *byte = b'*';
            }
        }
    }
}

/// `tsvector` in the binary format: how many, and each with a zero behind it, a count of places and the places.
fn lexemes(vector: &mut [u8], net: Net, found: &mut Found) {
    let mut rest = vector.get_mut(4..).unwrap_or_default();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let (lexeme, behind) = rest.split_at_mut(end);
        text(lexeme, net, found);
        let places =
            behind.get(1..3).map_or(0, |count| count.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte)));
        rest = behind.get_mut(3 + 2 * places..).unwrap_or_default();
    }
}

fn find(text: &[u8], found: &mut Found) -> Vec<Hit> {
    let hits = scan::scan_escaped(text);
    for hit in &hits {
        *found.entry(hit.kind).or_default() += 1;
    }
    hits
}

/// Puts asterisks over what was found, but for what `stays`.
fn hide(text: &mut [u8], hit: Hit, net: Net, stays: impl Fn(u8) -> bool) {
    if net == Net::Redact {
        let found = text.get_mut(hit.start..hit.end).unwrap_or_default();
        found.iter_mut().filter(|byte| !stays(**byte)).for_each(|byte| *byte = b'*');
    }
}

/// JSON stays JSON: what is hidden in a string becomes asterisks; outside of one there are numbers
/// only, and a number becomes nines.
fn json(text: &mut [u8], net: Net, found: &mut Found) {
    let hits = find(text, found);
    if net != Net::Redact || hits.is_empty() {
        return;
    }
    let (mut at, mut in_string, mut hits) = (0, false, hits.iter().peekable());
    while let Some(byte) = text.get(at).copied() {
        let length = match byte {
            b'\\' if text.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            _ => 1,
        };
        while hits.next_if(|hit| hit.end <= at).is_some() {}
        if byte == b'"' {
            in_string = !in_string;
        } else if hits.peek().is_some_and(|hit| hit.start < at + length) {
            let end = text.len().min(at + length);
            let letters = text.get_mut(at..end).unwrap_or_default();
            match in_string {
                true => letters.fill(b'*'),
                false => letters.iter_mut().filter(|byte| byte.is_ascii_digit()).for_each(|byte| *byte = b'9'),
            }
        }
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str, look: Look) -> (String, u64) {
        let (mut bytes, mut found) = (text.as_bytes().to_vec(), Found::new());
        value(&mut bytes, look, Net::Redact, &mut found);
        (String::from_utf8(bytes).expect("text"), found.values().sum())
    }

    #[test]
    fn what_is_found_becomes_asterisks_and_nothing_else_changes() {
        for (text, look, hidden, count) in [
            ("write to ana@acme.io, now", Look::Text, "write to ***********, now", 1),
            ("4111 1111 1111 1111 and +49 30 901820", Look::Text, "******************* and *************", 2),
            ("nothing here", Look::Text, "nothing here", 0),
            ("ana@acme.io", Look::Not, "ana@acme.io", 0),
            ("grüße an ana@acme.io", Look::Text, "grüße an ***********", 1),
            (r#"{"a":"ana@acme.io","b":[1]}"#, Look::Json, r#"{"a":"***********","b":[1]}"#, 1),
            (r#"{"card":4111111111111111}"#, Look::Json, r#"{"card":9999999999999999}"#, 1),
            (r#"{"a":"ana\u0040acme.io"}"#, Look::Json, r#"{"a":"****************"}"#, 1),
            (r#"{"a":"x\n4111111111111111"}"#, Look::Json, r#"{"a":"x\n****************"}"#, 1),
            (r#"{"a":"x\n4111111111111111"}"#, Look::Text, r#"{"a":"x\n****************"}"#, 1),
            (r#"{"a":"x\"y ana@acme.io"}"#, Look::Json, r#"{"a":"x\"y ***********"}"#, 1),
            (r#"{ana@acme.io,"b c@d.io"}"#, Look::Nested, r#"{***********,"b ******"}"#, 2),
            (r#"{"{\"n\": \"x\\n4111111111111111\"}"}"#, Look::Nested, r#"{"{\"n\": \"x\\n****************\"}"}"#, 1),
            (r#"{"{\"n\": \"ana\\u0040acme.io\"}"}"#, Look::Nested, r#"{"{\"n\": \"*****************\"}"}"#, 1),
            (r#"(1,ana@acme.io,"x y@acme.io")"#, Look::Nested, r#"(1,***********,"x *********")"#, 2),
            (r#"{a{b@acme.io}"#, Look::Nested, r#"{*{*********}"#, 1),
            (
                r#"{"-----BEGIN PRIVATE KEY-----\\n \"","x"}"#,
                Look::Nested,
                r#"{"*******************************\"","*"}"#,
                1,
            ),
            (r"DOMAIN\bob@acme.io", Look::Text, "DOMAIN************", 1),
            (r"C:\new.person@acme.io", Look::Text, "C:*******************", 1),
            (r#"{"{\"a\": \"jos\\u00e9@acme.io\"}"}"#, Look::Nested, r#"{"{\"a\": \"jos***************\"}"}"#, 1),
            ("'ana@acme.io':2 'x':1", Look::Lexemes, "'***********':2 'x':1", 1),
        ] {
            assert_eq!(redacted(text, look), (hidden.to_owned(), count), "{text}");
        }
    }

    #[test]
    fn json_stays_json() {
        for text in [
            r#"{"a":"ana@acme.io","n":4111111111111111,"d":-1.5e3,"t":true,"x":null}"#,
            r#"["ana\u0040acme.io","\\","\"","b@c.io"]"#,
            r#"{"k@x.io":{"k":["+49 30 901820"]}}"#,
        ] {
            let (hidden, count) = redacted(text, Look::Json);
            assert!(count > 0);
            serde_json::from_str::<serde_json::Value>(&hidden).expect(&hidden);
            assert!(!hidden.contains('@'), "{hidden}");
        }
    }

    #[test]
    fn a_row_keeps_its_frame() {
        let mut body = vec![0, 3];
        for value in [Some(&b"ana@acme.io"[..]), None, Some(b"4111111111111111")] {
            body.extend(value.map_or(-1, |value| i32::try_from(value.len()).expect("short")).to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
        let (mut hidden, mut found) = (body.clone(), Found::new());
        row(&mut hidden, &[Look::Text, Look::Text, Look::Not], Net::Redact, &mut found);
        assert_eq!(found, Found::from([(Kind::Email, 1)]));
        assert_eq!(hidden.len(), body.len());
        assert_eq!(hidden[2..6], body[2..6]);
        assert_eq!(&hidden[6..17], b"***********");
        assert_eq!(hidden[17..], body[17..]);
        // A notice changes nothing.
        let mut kept = body.clone();
        row(&mut kept, &[Look::Text; 3], Net::Notice, &mut found);
        assert_eq!((kept, found), (body, Found::from([(Kind::Email, 2), (Kind::Card, 1)])));
    }

    /// Lengths and texts, one behind the other.
    fn framed(head: &[u32], parts: &[(&[u32], &str)]) -> Vec<u8> {
        let put = |bytes: &mut Vec<u8>, number: u32| bytes.extend(number.to_be_bytes());
        let mut bytes = Vec::new();
        head.iter().for_each(|number| put(&mut bytes, *number));
        for (before, text) in parts {
            before.iter().for_each(|number| put(&mut bytes, *number));
            put(&mut bytes, u32::try_from(text.len()).expect("short"));
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    #[test]
    fn what_is_binary_keeps_its_frame() {
        // Lengths of 0x30 and 0x32 are the digits zero and two, and part of no finding.
        let spaced = format!("{}ana@acme.io", " ".repeat(0x30 - 11));
        let long = format!("{}@acme.io", "a".repeat(0x32 - 8));
        let hidden = format!("{}***********", " ".repeat(0x30 - 11));
        let stars = "*".repeat(0x32);
        let json = "\u{1}{\"n\": \"x\\n4111111111111111\"}";
        let json_hidden = "\u{1}{\"n\": \"x\\n****************\"}";
        let row = |text: &str| String::from_utf8(framed(&[1], &[(&[25], text)])).expect("text");
        for (value, expected, count) in [
            // text[], citext[], jsonb[]
            (
                framed(&[1, 0, 25, 2, 1], &[(&[], &spaced), (&[], "b@c.io")]),
                framed(&[1, 0, 25, 2, 1], &[(&[], &hidden), (&[], "******")]),
                2,
            ),
            (
                framed(&[1, 0, 16_500, 2, 1], &[(&[], &long), (&[], "next")]),
                framed(&[1, 0, 16_500, 2, 1], &[(&[], &stars), (&[], "next")]),
                1,
            ),
            (framed(&[1, 0, 3802, 1, 1], &[(&[], json)]), framed(&[1, 0, 3802, 1, 1], &[(&[], json_hidden)]), 1),
            // A row, and rows in an array; a number is none of these.
            (
                framed(&[2], &[(&[25], &long), (&[20], "12345678")]),
                framed(&[2], &[(&[25], &stars), (&[20], "12345678")]),
                1,
            ),
            (
                framed(&[1, 0, 2249, 1, 1], &[(&[], &row("ana@acme.io"))]),
                framed(&[1, 0, 2249, 1, 1], &[(&[], &row("***********"))]),
                1,
            ),
            // Lengths and texts of a type that nobody knows: up to three letters behind a length stay.
            (framed(&[7, 9], &[(&[], &long)]), framed(&[7, 9], &[(&[], &format!("aa{}", "*".repeat(0x30)))]), 1),
        ] {
            let (mut hidden, mut found) = (value.clone(), Found::new());
            super::value(&mut hidden, Look::Binary, Net::Redact, &mut found);
            assert_eq!(String::from_utf8_lossy(&hidden), String::from_utf8_lossy(&expected));
            assert_eq!((hidden, found.values().sum::<u64>()), (expected, count));
        }
        // A range of texts: flags, and each end behind its length.
        let mut range = vec![2];
        range.extend(framed(&[], &[(&[], &long), (&[], "b")]));
        let mut hidden = range.clone();
        value(&mut hidden, Look::Binary, Net::Redact, &mut Found::new());
        assert_eq!((&hidden[..7], hidden.len()), (&range[..7], range.len()));
        assert!(!String::from_utf8_lossy(&hidden).contains('@'));
        let vector = b"\0\0\0\x02ana@acme.io\0\0\x02ABABb@c.io\0\0\0";
        let (mut hidden, mut found) = (vector.to_vec(), Found::new());
        value(&mut hidden, Look::Lexemes, Net::Redact, &mut found);
        assert_eq!(hidden, b"\0\0\0\x02***********\0\0\x02ABAB******\0\0\0");
    }

    #[test]
    fn lines_keep_their_columns_and_errors_their_fields() {
        for (text, hidden) in [
            ("3\tfirst line\\n4111 1111 1111 1111 card", "3\tfirst line\\n******************* card"),
            ("5|boss@acme.io|x", "5|************|x"),
            (
                "1\t-----BEGIN PRIVATE KEY-----\\nMIIEvQAASC\tana@acme.io\n",
                "1\t***************************************\t***********\n",
            ),
            ("1\t{\"n\": \"x\\\\n4111111111111111\"}", "1\t{\"n\": \"x\\\\n****************\"}"),
            ("5,\"a, b\",boss@acme.io", "5,\"a, b\",************"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            line(&mut bytes, Net::Redact, &mut Found::new());
            assert_eq!(String::from_utf8_lossy(&bytes), hidden);
        }
        let mut body = b"SERROR\0Mboss@acme.io\0Dvalue ana@acme.io\0\0".to_vec();
        error(&mut body, Net::Redact, &mut Found::new());
        assert_eq!(body, b"SERROR\0M************\0Dvalue ***********\0\0");
    }

    #[test]
    fn nothing_is_gone_through_again_and_again() {
        for text in [
            "(".repeat(100_000),
            "-----BEGIN ".repeat(50_000),
            "eyJ-".repeat(50_000),
            "A-1.".repeat(50_000),
            format!(r#"{{"a{}c@acme.io"}}"#, r"\".repeat(100_000)),
            format!("-----BEGIN PRIVATE KEY{}", r"\".repeat(100_000)),
            "a@b.io ".repeat(20_000),
        ] {
            for look in [Look::Text, Look::Json, Look::Nested, Look::Binary, Look::Lexemes] {
                let mut bytes = text.as_bytes().to_vec();
                value(&mut bytes, look, Net::Redact, &mut Found::new());
                assert_eq!(bytes.len(), text.len());
            }
            line(&mut text.into_bytes(), Net::Redact, &mut Found::new());
        }
    }

    #[test]
    fn foreign_bytes_are_no_trouble() {
        for length in 0..40 {
            for byte in [0x00, 0x01, 0x7f, 0xff] {
                let mut bytes = vec![byte; length];
                row(&mut bytes, &[], Net::Redact, &mut Found::new());
                for look in [Look::Text, Look::Json, Look::Nested, Look::Binary, Look::Lexemes] {
                    value(&mut bytes, look, Net::Redact, &mut Found::new());
                }
                error(&mut bytes, Net::Redact, &mut Found::new());
            }
        }
    }
}
