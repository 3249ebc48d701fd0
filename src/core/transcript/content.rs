//! What statement and result lines say of content, computed alike on both sides.
//!
//! Lines are bounded, content is not: names and texts are cut by rules that both sides share, so
//! that a cut never looks like a difference.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::encoding;
use crate::core::transcript::canonical;
use crate::core::transcript::redact;
use crate::core::transcript::{Domain, SessionKey};

/// Most bytes that column names may take in a line.
const COLUMN_BYTES: usize = 3 * 1024;

/// The longest prefix of `text` whose JSON form has at most `most` bytes between its quotes.
pub fn clip(text: &str, most: usize) -> &str {
    // Shorter than a sixth: even if every byte became `\u00xx` it would fit.
    if text.len() * 6 <= most || canonical::quoted_length(text) <= most + 2 {
        return text;
    }
    let mut used = 0;
    for (offset, letter) in text.char_indices() {
        used += canonical::quoted(letter.encode_utf8(&mut [0; 4])).len() - 2;
        if used > most {
            return text.get(..offset).unwrap_or_default();
        }
    }
    text
}

/// The commitment to a statement's text: taken over the redacted text, so that the line of a
/// `CREATE ROLE … PASSWORD` says nothing of the password even to a holder of the key.
pub fn statement_commitment(key: &SessionKey, text: &str) -> String {
    encoding::hex(&statement_digest(key, text))
}

/// The same in bytes.
pub fn statement_digest(key: &SessionKey, text: &str) -> [u8; 32] {
    key.commitment(Domain::Statement, redact::redact(text).as_bytes())
}

/// The names that a line shows: each cut, and none that would make the line too long.
pub fn shown_columns(names: &[String]) -> impl Iterator<Item = &str> {
    let mut used = 0;
    names.iter().map_while(move |name| {
        let name = clip(name, 256);
        used += canonical::quoted_length(name) + 1;
        (used <= COLUMN_BYTES).then_some(name)
    })
}

/// Members `cols` (names, cut where they grow too long) and `ncols`.
pub fn columns(names: &[String]) -> BTreeMap<String, Value> {
    let shown: Vec<Value> = shown_columns(names).map(Value::from).collect();
    BTreeMap::from([("cols".to_owned(), shown.into()), ("ncols".to_owned(), names.len().into())])
}
