//! Foreign text before it reaches a terminal or a log line.

use std::borrow::Cow;

/// Escapes control characters (ESC, CSI, newlines, bidirectional overrides) as `\u{..}` or `\n`,
/// so that text from a database or peer cannot move the cursor or forge a line.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|letter| is_unsafe(letter) || is_joiner(letter)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for letter in text.chars() {
        match letter {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            // Between Latin letters nothing is joined: there it only makes a word another.
            other if is_unsafe(other) || (is_joiner(other) && before.is_ascii()) => safe.extend(other.escape_unicode()),
            other => safe.push(other),
        }
        before = letter;
    }
    Cow::Owned(safe)
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long ago something was, in its largest unit.
pub fn age_in_words(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", grouped(seconds / 86_400)),
    }
}

/// As [`escape`], but line breaks and tabs stay: for messages of several lines.
pub fn escape_keeping_lines(text: &str) -> String {
    let lines: Vec<_> =
        text.split('\n').map(|line| line.split('\t').map(escape).collect::<Vec<_>>().join("\t")).collect();
    lines.join("\n")
}

/// Control characters, the Unicode marks that reorder the text around them, and letters that nobody
/// sees (Unicode's `Default_Ignorable_Code_Point`, but for what shapes letters and emoji).
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Joins or parts letters, in scripts that need it and in emoji.
fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!([0, 999, 1000, 21_998, 1_234_567].map(grouped), ["0", "999", "1,000", "21,998", "1,234,567"]);
    }

    #[test]
    fn letters_that_nobody_sees_are_shown() {
        for hidden in ['\u{200b}', '\u{200d}', '\u{200f}', '\u{61c}', '\u{ad}', '\u{2060}', '\u{feff}', '\u{e0041}'] {
            assert_eq!(escape(&format!("deli{hidden}vered")), format!("deli{}vered", hidden.escape_unicode()));
        }
        for seen in ["\u{1f468}\u{200d}\u{1f469}", "\u{645}\u{6cc}\u{200c}\u{62e}", "\u{2764}\u{fe0f}"] {
            assert_eq!(escape(seen), seen);
        }
    }

    #[test]
    fn escape_sequences_and_newlines_are_defused() {
        assert_eq!(escape("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(escape("plain äöü"), "plain äöü");
    }

    #[test]
    fn lines_can_be_kept() {
        assert_eq!(escape_keeping_lines("a\tb\nc\u{7}"), "a\tb\nc\\u{7}");
    }
}
