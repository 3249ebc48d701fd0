//! What a statement was bound with: kept as the client sent it, a part of what is approved, and
//! shown to people as the target itself writes it out.

use bytes::Bytes;

use super::people::bound;
use super::relay::{Drained, Mode};
use super::session::{End, Session};
use crate::core::approval::Binding;
use crate::core::session::Owner;
use crate::core::transcript::content;
use crate::core::wire::frame::WireError;
use crate::core::wire::frontend::{self, Named};

/// Names of the gateway's own, as the others are.
const TYPES: &str = "dbgate_types";
const VALUES: &str = "dbgate_values";
/// The longest value that people are shown, in bytes.
const LONGEST: usize = 2_000;

/// Types of a Parse, and what came with its Bind.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// As in Parse: those that the client left open are 0.
    pub types: Bytes,
    /// Formats, values and result formats.
    pub parameters: Bytes,
    /// The era of the session that gave its text a meaning: see `steady`.
    pub era: u64,
}

impl Values {
    /// What an approval is bound to. Nothing where no value was bound: then it is the same
    /// statement as one that was sent as a text.
    pub fn bound(&self) -> Result<Option<Vec<u8>>, WireError> {
        frontend::bound(&self.types, &self.parameters)
    }
}

/// A value as people see it. What is cut off is said to be, with what tells it from any other.
fn shown(text: &str) -> String {
    let start = content::clip(text, LONGEST);
    match start.len() == text.len() {
        true => text.to_owned(),
        false => format!(
            "{start}… [the first {} of {} bytes; SHA-256 of all: {}]",
            start.len(),
            text.len(),
            Binding::digest_of(text)
        ),
    }
}

impl Session {
    /// The values as the target writes them out: it knows the types that were left open, and every
    /// binary form. None: the target refused even that, and the client has its error.
    pub(super) async fn written_out(
        &mut self,
        text: &str,
        values: &Values,
        mode: Mode,
    ) -> Result<Option<Vec<Option<String>>>, End> {
        if values.bound()?.is_none() {
            return Ok(Some(Vec::new()));
        }
        let types = frontend::types(&values.types)?;
        self.ask_again(TYPES, bound(text), &types);
        self.ask_describe(Owner::Gateway, Named::Statement, TYPES);
        let Drained { failed, types, .. } = self.asked_aside(mode).await?;
        if failed {
            return Ok(None);
        }
        // A row each: of columns PostgreSQL takes 1,664 at most.
        let rows: Vec<_> = (1..=types.len()).map(|number| format!("({number}, ${number}::pg_catalog.text)")).collect();
        let sql = format!("select v.value from (values {}) v (at, value) order by v.at", rows.join(", "));
        self.ask_again(VALUES, &sql, &types);
        self.run_bound(VALUES, values)?;
        let drained = self.asked_aside(mode).await?;
        let shown = |row: Vec<Option<String>>| row.into_iter().next().flatten().map(|text| shown(&text));
        Ok((!drained.failed).then(|| drained.rows.into_iter().map(shown).collect()))
    }

    /// Gets questions of the gateway's own answered, in the middle of something or by themselves.
    pub(super) async fn asked_aside(&mut self, mode: Mode) -> Result<Drained, End> {
        match mode {
            Mode::Simple => self.ask_sync(Owner::Gateway),
            // What is held must not be committed, nor a portal closed.
            Mode::Extended => frontend::flush(&mut self.up),
        }
        self.round(Mode::Extended).await
    }
}
