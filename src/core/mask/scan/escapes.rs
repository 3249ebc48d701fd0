//! Backslashes: what the letters behind them stand for, and where they stand.

/// A text without its escapes, and for each of its bytes, and for its end, the place in `text` that it comes from.
///
/// An escape within an escaped text has more than one backslash: all that follow one another are one.
pub(super) fn read(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut plain, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        places.push(at);
        let rest = text.get(at..).unwrap_or_default();
        let (letter, length) = if *byte == b'\\' { escape(rest) } else { (*byte, 1) };
        plain.push(letter);
        at += length;
    }
    places.push(text.len());
    (plain, places)
}

/// The letter that an escape stands for, and its length. One that is not ASCII stands for no part of a finding.
fn escape(rest: &[u8]) -> (u8, usize) {
    let behind = rest.iter().position(|byte| *byte != b'\\').unwrap_or(rest.len());
    match rest.get(behind) {
        Some(b'u') => {
            let digits = rest.get(behind + 1..behind + 5).and_then(|digits| std::str::from_utf8(digits).ok());
            let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let value = digits.and_then(|digits| u8::from_str_radix(digits.strip_prefix("00")?, 16).ok());
            (value.filter(u8::is_ascii).unwrap_or(b' '), if digits.is_some() { behind + 5 } else { behind + 1 })
        }
        Some(b'b' | b'f' | b'n' | b'r' | b't' | b'v') => (b' ', behind + 1),
        Some(letter) if letter.is_ascii() => (*letter, behind + 1),
        Some(_) | None => (b' ', behind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_behind_backslashes_are_what_they_stand_for() {
        for (text, plain) in [
            (r"a\u0040b", "a@b"),
            (r"x\n41", "x 41"),
            (r"x\\n41", "x 41"),
            (r#"\"a\""#, "\"a\""),
            (r"\u00e9", " "),
            (r"\u004", " 004"),
            (r"\", " "),
            ("\\\u{e9}", " \u{e9}"),
            ("plain", "plain"),
        ] {
            let (read, places) = read(text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&read), plain, "{text}");
            assert_eq!(places.len(), read.len() + 1);
            assert!(places.is_sorted() && places.last() == Some(&text.len()));
        }
    }
}
