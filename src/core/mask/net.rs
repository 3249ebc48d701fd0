//! The second net: values that look sensitive in columns that nobody has classified.
//!
//! Best effort and no wall, see [`scan`]: what is found is hidden letter by letter, so that no value
//! changes its length and no message its frame. Columns that cannot hold a text are not looked at.

use std::collections::BTreeMap;

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
    /// An array of texts: in the binary format each element lies behind its length.
    Texts,
}

impl Look {
    /// By the column's type (`pg_type.oid`).
    pub const fn of(type_oid: u32) -> Self {
        match type_oid {
            // json, jsonb: the binary form of the latter has one byte before the text.
            114 | 3802 => Self::Json,
            // "char", name, text, unknown, bpchar, varchar, xml, cstring
            18 | 19 | 25 | 705 | 1042 | 1043 | 142 | 2275 => Self::Text,
            // Arrays of json, jsonb, xml, name, text, bpchar, varchar.
            199 | 3807 | 143 | 1003 | 1009 | 1014 | 1015 => Self::Texts,
            // Types of the database's own: citext and its likes. The built-in rest holds no text.
            16_384.. => Self::Text,
            _ => Self::Not,
        }
    }
}

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
    // Shorter than anything that is looked for.
    if value.len() < 6 {
        return;
    }
    match look {
        Look::Not => {}
        Look::Text => text(value, net, found),
        Look::Json => json(value, net, found),
        // As text it begins with a brace; the binary form with the number of dimensions.
        Look::Texts if value.first() == Some(&0) => elements(value, net, found),
        Look::Texts => array(value, net, found),
    }
}

/// Looks through text, such as a line of a COPY.
pub fn text(text: &mut [u8], net: Net, found: &mut Found) {
    for hit in note(scan::scan(text), found) {
        hide(text, hit, net, b"");
    }
}

/// The same in an array as text; what delimits its elements stays.
fn array(text: &mut [u8], net: Net, found: &mut Found) {
    for hit in note(scan::scan(text), found) {
        hide(text, hit, net, b"{}\",\\");
    }
}

/// The elements of an array in the binary format: dimensions, a flag, the type, a length and a lower
/// bound for each dimension, then every element behind its length.
fn elements(array: &mut [u8], net: Net, found: &mut Found) {
    let dimensions =
        array.first_chunk::<4>().map_or(0, |bytes| usize::try_from(i32::from_be_bytes(*bytes)).unwrap_or(0));
    let start = dimensions.saturating_mul(8).saturating_add(12);
    let mut rest = array.get_mut(start..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk_mut::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(behind.len());
        let (element, next) = behind.split_at_mut(length);
        text(element, net, found);
        rest = next;
    }
}

fn note(hits: Vec<Hit>, found: &mut Found) -> Vec<Hit> {
    for hit in &hits {
        *found.entry(hit.kind).or_default() += 1;
    }
    hits
}

fn hide(text: &mut [u8], hit: Hit, net: Net, keeps: &[u8]) {
    if net == Net::Redact {
        let found = text.get_mut(hit.start..hit.end).unwrap_or_default();
        found.iter_mut().filter(|byte| !keeps.contains(byte)).for_each(|byte| *byte = b'*');
    }
}

/// JSON stays JSON: what is hidden in a string becomes asterisks; outside of one there are numbers
/// only, and a number becomes nines. What shows only once escapes are read has no place of its own
/// in the text: then all of it is hidden.
fn json(text: &mut [u8], net: Net, found: &mut Found) {
    let hits = scan::scan(text);
    let read = if text.contains(&b'\\') { scan::scan_json(text) } else { Vec::new() };
    let is_all = read.len() > hits.len();
    let hits = note(if is_all { read } else { hits }, found);
    if net != Net::Redact || hits.is_empty() {
        return;
    }
    let is_hit = |at: usize| is_all || hits.iter().any(|hit| (hit.start..hit.end).contains(&at));
    let (mut at, mut in_string) = (0, false);
    while let Some(byte) = text.get(at).copied() {
        let length = match byte {
            b'\\' if text.get(at + 1) == Some(&b'u') => 6,
            b'\\' => 2,
            _ => 1,
        };
        if byte == b'"' {
            in_string = !in_string;
        } else if is_hit(at) {
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
            (r#"{"a":"ana\u0040acme.io"}"#, Look::Json, r#"{"*":"****************"}"#, 1),
            (r#"{"a":"x\"y ana@acme.io"}"#, Look::Json, r#"{"a":"x\"y ***********"}"#, 1),
            (r#"{ana@acme.io,"b c@d.io"}"#, Look::Texts, r#"{***********,"b ******"}"#, 2),
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

    #[test]
    fn binary_arrays_are_looked_at_element_by_element() {
        let mut array = Vec::new();
        [1, 0, 25, 2, 1].into_iter().for_each(|number: i32| array.extend(number.to_be_bytes()));
        // A length of 0x30 is the digit zero, and part of no finding.
        for element in [format!("{}ana@acme.io", " ".repeat(0x30 - 11)), "b@c.io".to_owned()] {
            array.extend(i32::try_from(element.len()).expect("short").to_be_bytes());
            array.extend(element.as_bytes());
        }
        let (mut hidden, mut found) = (array.clone(), Found::new());
        value(&mut hidden, Look::Texts, Net::Redact, &mut found);
        assert_eq!(found, Found::from([(Kind::Email, 2)]));
        assert_eq!(hidden[..24], array[..24]);
        assert_eq!(hidden.iter().filter(|byte| **byte == b'*').count(), 17);
        assert_eq!(hidden[hidden.len() - 10..], *b"\0\0\0\x06******");
    }

    #[test]
    fn foreign_bytes_are_no_trouble() {
        for length in 0..40 {
            let mut bytes = vec![0xff; length];
            row(&mut bytes, &[], Net::Redact, &mut Found::new());
            elements(&mut vec![0x7f; length], Net::Redact, &mut Found::new());
        }
    }
}
