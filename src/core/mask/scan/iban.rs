//! Account numbers: a country, its length, and the remainder of 97.

/// The length in bytes of the IBAN that the text begins with, spaces between groups included.
pub(super) fn length(rest: &[u8]) -> Option<usize> {
    let country = rest.get(..2)?;
    if !rest.get(2..4)?.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (_, wanted) = COUNTRIES.iter().find(|(name, _)| name.as_slice() == country)?;
    let mut letters = Vec::with_capacity(*wanted);
    let mut end = 0;
    while letters.len() < *wanted {
        match rest.get(end)? {
            b' ' if !letters.is_empty() => {}
            letter if letter.is_ascii_digit() || letter.is_ascii_uppercase() => letters.push(*letter),
            _ => return None,
        }
        end += 1;
    }
    if rest.get(end).is_some_and(|byte| super::is_word(*byte)) {
        return None;
    }
    // The first four go last; letters count from 10; the remainder of 97 must be 1.
    let turned = letters.iter().skip(4).chain(letters.iter().take(4));
    let remainder = turned.fold(0u32, |remainder, letter| match letter {
        b'0'..=b'9' => (remainder * 10 + u32::from(letter - b'0')) % 97,
        letter => (remainder * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(end)
}

/// How long an IBAN of the country is.
const COUNTRIES: [(&[u8; 2], usize); 36] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AT", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BR", 29),
    (b"CH", 21),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"EE", 20),
    (b"ES", 24),
    (b"FI", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GR", 27),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"MC", 27),
    (b"MT", 31),
    (b"NL", 18),
    (b"NO", 15),
    (b"PL", 28),
    (b"PT", 25),
    (b"RO", 24),
    (b"SE", 24),
    (b"SK", 24),
];
