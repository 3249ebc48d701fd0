//! The canonical JSON of a line: one value, one spelling.
//!
//! A narrow profile of RFC 8785: keys of `[a-z0-9_]`, sorted by bytes and unique; no white space;
//! integers of at most 2^53 and nothing else as a number; no null; minimal escapes. Hashes are
//! taken over stored bytes; a reader also refuses any line that is not its own canonical form,
//! so that no two spellings of one event exist.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The largest integer that every JSON reader keeps exactly.
pub const LARGEST_INTEGER: u64 = 1 << 53;

/// Why a value has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    #[error("key `{0}` has characters other than a-z, 0-9 and _")]
    Key(String),
    #[error("a number that is not an integer of at most 2^53")]
    Number,
    #[error("null; what is absent is left out")]
    Null,
}

/// The canonical text of an object.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Result<String, CanonicalError> {
    let mut text = String::with_capacity(512);
    write_object(&mut text, members)?;
    Ok(text)
}

/// Members of an object that is written once: each is canonical text already.
#[derive(Debug, Default)]
pub struct Members {
    members: Vec<(Cow<'static, str>, Cow<'static, str>)>,
}

impl Members {
    /// With room for a line's worth.
    pub fn new() -> Self {
        Self { members: Vec::with_capacity(24) }
    }

    /// Adds a text.
    pub fn text(&mut self, key: &'static str, text: &str) -> &mut Self {
        self.members.push((key.into(), quoted(text).into()));
        self
    }

    /// Adds a number; one that not every reader keeps exactly is cut to the largest that is.
    pub fn number(&mut self, key: &'static str, number: u64) -> &mut Self {
        self.members.push((key.into(), number.min(LARGEST_INTEGER).to_string().into()));
        self
    }

    /// Adds a flag.
    pub fn flag(&mut self, key: &'static str, flag: bool) -> &mut Self {
        self.members.push((key.into(), if flag { "true" } else { "false" }.into()));
        self
    }

    /// Adds any value.
    ///
    /// # Errors
    /// When it has no canonical form.
    pub fn value(&mut self, key: &'static str, value: &Value) -> Result<&mut Self, CanonicalError> {
        let mut text = String::new();
        write_value(&mut text, value)?;
        self.members.push((key.into(), text.into()));
        Ok(self)
    }

    /// All members of an object, each in its canonical form.
    ///
    /// # Errors
    /// When one has none.
    pub fn all(object: Map<String, Value>) -> Result<Self, CanonicalError> {
        let mut members = Self::new();
        for (key, value) in object {
            if !is_key(&key) {
                return Err(CanonicalError::Key(key));
            }
            let mut text = String::new();
            write_value(&mut text, &value)?;
            members.members.push((key.into(), text.into()));
        }
        Ok(members)
    }

    /// Whether there is a member of this name.
    pub fn has(&self, key: &str) -> bool {
        self.members.iter().any(|(known, _)| *known == key)
    }

    /// The object.
    pub fn object(mut self) -> String {
        self.members.sort_unstable_by(|(left, _), (right, _)| left.as_bytes().cmp(right.as_bytes()));
        let length = self.members.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
        let mut text = String::with_capacity(length + 2);
        text.push('{');
        for (index, (key, value)) in self.members.iter().enumerate() {
            text.push_str(if index == 0 { "\"" } else { ",\"" });
            text.push_str(key);
            text.push_str("\":");
            text.push_str(value);
        }
        text.push('}');
        text
    }
}

/// Reads an object and refuses every text that is not the canonical form of what it says.
pub fn read(text: &str) -> Option<Map<String, Value>> {
    let members: Map<String, Value> = serde_json::from_str(text).ok()?;
    // Writing it again catches white space, key order, duplicate keys, other escapes and number forms.
    (object(&members).ok()? == text).then_some(members)
}

/// Members are sorted here: the order of a `Map` depends on how serde_json was built.
fn write_object<'a>(
    text: &mut String,
    members: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Result<(), CanonicalError> {
    let mut sorted: Vec<(&String, &Value)> = members.into_iter().collect();
    sorted.sort_unstable_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
    text.push('{');
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if !is_key(key) {
            return Err(CanonicalError::Key(key.clone()));
        }
        text.push_str(if index == 0 { "\"" } else { ",\"" });
        text.push_str(key);
        text.push_str("\":");
        write_value(text, value)?;
    }
    text.push('}');
    Ok(())
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn write_value(text: &mut String, value: &Value) -> Result<(), CanonicalError> {
    match value {
        Value::Null => return Err(CanonicalError::Null),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let integer = number.as_i64().ok_or(CanonicalError::Number)?;
            if integer.unsigned_abs() > LARGEST_INTEGER {
                return Err(CanonicalError::Number);
            }
            text.push_str(&integer.to_string());
        }
        Value::String(string) => text.push_str(&quoted(string)),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, value)?;
            }
            text.push(']');
        }
        Value::Object(members) => write_object(text, members)?,
    }
    Ok(())
}

/// A JSON string with the escapes of RFC 8785 section 3.2.2.2, which are the ones serde_json writes.
pub fn quoted(string: &str) -> String {
    serde_json::to_string(string).expect("text is always a JSON string")
}
