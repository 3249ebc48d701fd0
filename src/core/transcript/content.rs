//! What statement and result lines say of content, computed alike on both sides.
//!
//! Lines are bounded, content is not: names and texts are cut by rules that both sides share, so
//! that a cut never looks like a difference.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::transcript::canonical;
use crate::core::transcript::redact;
use crate::core::transcript::{Domain, SessionKey};

/// Most bytes that column names may take in a line.
const COLUMN_BYTES: usize = 3 * 1024;

/// The longest prefix of `text` whose JSON form has at most `most` bytes between its quotes.
pub fn clip(text: &str, most: usize) -> &str {
    // Shorter than a sixth: even if every byte became `\u00xx` it would fit.
    if text.len() * 6 <= most || canonical::quoted(text).len() <= most + 2 {
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
    key.commit(Domain::Statement, redact::redact(text).as_bytes())
}

/// The names that a line shows, as in [`columns`], and how many there are.
pub fn shown_columns(names: &[String]) -> (Value, u64) {
    let mut members = columns(names);
    (members.remove("cols").unwrap_or_default(), u64::try_from(names.len()).unwrap_or(u64::MAX))
}

/// Members `cols` (names, cut where they grow too long) and `ncols`.
pub fn columns(names: &[String]) -> BTreeMap<String, Value> {
    let mut used = 0;
    let shown: Vec<Value> = names
        .iter()
        .map_while(|name| {
            let name = clip(name, 256);
            used += canonical::quoted(name).len() + 1;
            (used <= COLUMN_BYTES).then(|| Value::from(name))
        })
        .collect();
    BTreeMap::from([("cols".to_owned(), shown.into()), ("ncols".to_owned(), names.len().into())])
}
