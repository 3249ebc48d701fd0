//! The canonical JSON of a line: one value, one spelling.
//!
//! A narrow profile of RFC 8785: keys of `[a-z0-9_]`, sorted by bytes and unique; no white space;
//! integers of at most 2^53 and nothing else as a number; no null; minimal escapes. Hashes are
//! taken over stored bytes; a reader also refuses any line that is not its own canonical form,
//! so that no two spellings of one event exist.

use serde_json::{Map, Value};

use crate::core::encoding;

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
    #[error("two members `{0}`")]
    Twice(String),
}

/// The canonical text of an object.
pub fn object<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Result<String, CanonicalError> {
    let mut text = String::with_capacity(512);
    write_object(&mut text, members)?;
    Ok(text)
}

/// Members of an object that is written straight to text, for lines that are many. Their buffers
/// are kept from object to object.
#[derive(Debug, Default)]
pub struct Members {
    /// `"key":value` of each, as they came.
    text: String,
    places: Vec<Place>,
}

/// One of them in the text.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first letters of its key: most often they tell which of two comes first.
    prefix: u64,
    start: usize,
    end: usize,
    /// Where its key ends, quotes included.
    key_end: usize,
}

impl Members {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a member whose canonical value `write` appends.
    fn add(&mut self, key: &str, write: impl FnOnce(&mut String)) -> &mut Self {
        let start = self.text.len();
        self.text.push('"');
        self.text.push_str(key);
        self.text.push('"');
        let key_end = self.text.len();
        self.text.push(':');
        write(&mut self.text);
        self.places.push(Place { prefix: prefix(key), start, end: self.text.len(), key_end });
        self
    }

    /// How many bytes they are by now.
    pub const fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds a text.
    pub fn text(&mut self, key: &'static str, text: &str) -> &mut Self {
        self.add(key, |to| push_quoted(to, text))
    }

    /// Adds bytes in hex.
    pub fn hex(&mut self, key: &'static str, bytes: &[u8]) -> &mut Self {
        self.add(key, |to| {
            to.push('"');
            encoding::push_hex(bytes, to);
            to.push('"');
        })
    }

    /// Adds a list of bytes in hex.
    pub fn hexes(&mut self, key: &'static str, all: &[[u8; 32]]) -> &mut Self {
        self.add(key, |to| {
            push_list(to, all.iter(), |to, bytes| {
                to.push('"');
                encoding::push_hex(bytes, to);
                to.push('"');
            });
        })
    }

    /// Adds a number; one that not every reader keeps exactly is cut to the largest that is.
    pub fn number(&mut self, key: &'static str, number: u64) -> &mut Self {
        self.add(key, |to| push_number(to, number.min(LARGEST_INTEGER)))
    }

    /// Adds a flag.
    pub fn flag(&mut self, key: &'static str, flag: bool) -> &mut Self {
        self.add(key, |to| to.push_str(if flag { "true" } else { "false" }))
    }

    /// Adds a list of texts.
    pub fn texts(&mut self, key: &'static str, texts: impl Iterator<Item = impl AsRef<str>>) -> &mut Self {
        self.add(key, |to| push_list(to, texts, |to, text| push_quoted(to, text.as_ref())))
    }

    /// Adds a list of numbers.
    pub fn numbers(&mut self, key: &'static str, numbers: impl Iterator<Item = u64>) -> &mut Self {
        self.add(key, |to| push_list(to, numbers, |to, number| push_number(to, number.min(LARGEST_INTEGER))))
    }

    /// Adds any value.
    ///
    /// # Errors
    /// When it has no canonical form.
    pub fn value(&mut self, key: &'static str, value: &Value) -> Result<&mut Self, CanonicalError> {
        let mut text = String::new();
        write_value(&mut text, value)?;
        Ok(self.add(key, |to| to.push_str(&text)))
    }

    /// Adds all members of an object, each in its canonical form.
    ///
    /// # Errors
    /// When one has none.
    pub fn all(&mut self, object: Map<String, Value>) -> Result<&mut Self, CanonicalError> {
        for (key, value) in object {
            if !is_key(&key) {
                return Err(CanonicalError::Key(key));
            }
            let mut text = String::new();
            write_value(&mut text, &value)?;
            self.add(&key, |to| to.push_str(&text));
        }
        Ok(self)
    }

    /// The object. What was added is gone then, for the next one.
    ///
    /// # Errors
    /// When two members have one name.
    pub fn object(&mut self) -> Result<String, CanonicalError> {
        let Self { text, places } = self;
        let key = |place: &Place| text.get(place.start..place.key_end).unwrap_or_default();
        // A key ends with a quote, which sorts before everything that a key may have.
        places.sort_unstable_by(|left, right| left.prefix.cmp(&right.prefix).then_with(|| key(left).cmp(key(right))));
        let mut object = String::with_capacity(text.len() + places.len() + 2);
        let mut before: Option<&Place> = None;
        for place in &*places {
            let is_twice = |before: &Place| before.prefix == place.prefix && key(before) == key(place);
            if before.is_some_and(is_twice) {
                let twice = CanonicalError::Twice(key(place).trim_matches('"').to_owned());
                self.clear();
                return Err(twice);
            }
            object.push(if before.is_none() { '{' } else { ',' });
            object.push_str(text.get(place.start..place.end).unwrap_or_default());
            before = Some(place);
        }
        object.push_str(if before.is_none() { "{}" } else { "}" });
        self.clear();
        Ok(object)
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }
}

/// Orders keys by their first letters; a shorter key comes first, as it does by its quote.
fn prefix(key: &str) -> u64 {
    let mut first = [0; 8];
    key.bytes().zip(&mut first).for_each(|(letter, place)| *place = letter);
    u64::from_be_bytes(first)
}

fn push_list<T>(to: &mut String, items: impl Iterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
    to.push('[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            to.push(',');
        }
        push(to, item);
    }
    to.push(']');
}

fn push_number(to: &mut String, number: u64) {
    let (mut digits, mut at, mut rest) = ([b'0'; 20], 20_usize, number);
    while let Some(place) = at.checked_sub(1) {
        at = place;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    to.push_str(digits.get(at..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default());
}

/// Appends a JSON string; most have nothing to escape.
fn push_quoted(to: &mut String, text: &str) {
    if is_plain(text) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        to.push_str(&quoted(text));
    }
}

/// Whether a JSON string says it letter by letter.
fn is_plain(text: &str) -> bool {
    // All are looked at, so that many can be at once.
    !text.bytes().fold(false, |found, byte| found | (byte < b' ') | (byte == b'"') | (byte == b'\\'))
}

/// How long [`quoted`] is.
pub fn quoted_length(text: &str) -> usize {
    if is_plain(text) { text.len() + 2 } else { quoted(text).len() }
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
