//! Hex, Crockford base 32 and URL-safe base 64: the three spellings of bytes in dbgate.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut text);
    text
}

/// The same, behind what `text` holds.
pub fn push_hex(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().expect("four bits are one digit");
    text.reserve(bytes.len() * 2);
    // Piece by piece: letter by letter takes longer than the hash.
    for bytes in bytes.chunks(32) {
        let mut digits = [[0; 2]; 32];
        for (pair, byte) in digits.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        let digits = digits.as_flattened().get(..bytes.len() * 2).unwrap_or_default();
        text.push_str(std::str::from_utf8(digits).expect("digits are text"));
    }
}

/// Reads lower-case hexadecimal of exactly `N` bytes; anything else is `None`.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0u8; N];
    if digits.len() != N * 2 || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Crockford base 32 without padding, upper case: five bits a letter, no I, L, O or U.
pub fn crockford(bytes: &[u8]) -> String {
    const LETTERS: [char; 32] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'J', 'K', 'M', 'N',
        'P', 'Q', 'R', 'S', 'T', 'V', 'W', 'X', 'Y', 'Z',
    ];
    let (mut text, mut held, mut bits) = (String::new(), 0u32, 0u32);
    let mut push = |index: u32| text.extend(usize::try_from(index & 31).ok().and_then(|i| LETTERS.get(i)));
    for byte in bytes {
        held = (held << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(held >> bits);
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        push(held << (5 - bits));
    }
    text
}

/// Standard base 64 with padding (RFC 4648 section 4).
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads standard base 64; non-zero trailing bits are refused, so an encoding is unique.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// URL-safe base 64 without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads URL-safe base 64 without padding.
pub fn unbase64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_reads_back_what_it_wrote_and_nothing_else() {
        assert_eq!(unhex::<3>(&hex(&[0, 171, 255])), Some([0, 171, 255]));
        assert_eq!(unhex::<1>("AB"), None);
        assert_eq!(unhex::<1>("abc"), None);
    }

    #[test]
    fn crockford_of_ten_bytes_is_sixteen_letters() {
        assert_eq!(crockford(&[255; 10]), "ZZZZZZZZZZZZZZZZ");
        assert_eq!(crockford(&[0, 1]), "000G", "the last letter is filled up with zeros");
    }
}
