//! How a line of the record words a statement: without its literals.

use crate::core::transcript::{content, redact};

/// What lines say of a text whose literals are left out: the same for all texts of one shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording {
    norm: String,
    fingerprint: String,
    is_cut: bool,
}

impl Wording {
    /// Of a whole text.
    pub fn of(text: &str) -> Self {
        let shape = redact::shape(text);
        let norm = content::clip(&shape, redact::LONGEST_NORMALISED).to_owned();
        Self { is_cut: norm.len() < shape.len(), fingerprint: redact::fingerprint(&shape), norm }
    }

    /// The text without its literals, at most so long that a line holds it.
    pub fn norm(&self) -> &str {
        &self.norm
    }

    /// Names the shape.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether the text was longer.
    pub const fn is_cut(&self) -> bool {
        self.is_cut
    }
}
