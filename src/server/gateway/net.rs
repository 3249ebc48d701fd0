//! The second net of a session: rows on their way to the client are looked through for values that
//! look sensitive, in columns that nobody has classified. Where the target does not ask for it there
//! is none, and rows pass untouched.

use bytes::BytesMut;

use super::rows::Execution;
use super::session::{End, Session};
use crate::core::mask::net::{self, Found, Look, Net};
use crate::core::policy::Policy;
use crate::core::scope::catalog::Catalog;
use crate::core::transcript::SessionKey;
use crate::core::wire::backend::{self, ErrorFields, Field};
use crate::core::wire::frame::{self, View};

/// A row that is longer is not let through: it would have to be kept to be looked at.
pub const LONGEST_ROW: usize = 16 * 1024 * 1024;

/// The net of one session.
pub struct Netting {
    net: Net,
    /// For the columns of the statement that runs.
    looks: Vec<Look>,
    found: Found,
}

impl Netting {
    /// Nothing where the target asks for nothing.
    pub fn new(net: Net) -> Option<Box<Self>> {
        (net != Net::Off).then(|| Box::new(Self { net, looks: Vec::new(), found: Found::new() }))
    }

    /// Looks through whole messages of rows, and takes what the client gets of them into the digest.
    pub fn look(&mut self, mut messages: &mut [u8], execution: &mut Execution, key: &SessionKey) -> Result<(), End> {
        while let Some((tag, length)) = frame::head(messages, frame::LONGEST_FROM_SERVER)? {
            let (message, rest) = messages.split_at_mut_checked(length + 5).ok_or(End::Protocol)?;
            let body = message.get_mut(5..).unwrap_or_default();
            match tag {
                b'D' => net::row(body, &self.looks, self.net, &mut self.found),
                _ => net::line(body, self.net, &mut self.found),
            }
            execution.digest(key).row(body);
            messages = rest;
        }
        Ok(())
    }

    /// What to tell of the statement that has ended.
    fn tell(&mut self) -> Option<ErrorFields> {
        let found = std::mem::take(&mut self.found);
        let count: u64 = found.values().sum();
        if count == 0 {
            return None;
        }
        let kinds: Vec<_> = found.iter().map(|(kind, count)| format!("{count} x {}", kind.word())).collect();
        let what = match self.net {
            Net::Redact => "were hidden",
            Net::Notice | Net::Off => "were shown",
        };
        let message = format!("dbgate: values that look sensitive {what}: {}", kinds.join(", "));
        Some(ErrorFields {
            severity: "NOTICE".into(),
            hint: Some("they are in columns that nobody has classified; this is a best-effort look at contents".into()),
            ..ErrorFields::error("01000", message)
        })
    }
}

impl Session {
    /// Takes in the columns of the statement that runs.
    pub(super) fn spread_net(&mut self, fields: &[Field]) {
        let (policy, catalog) = (&self.policy, &self.catalog);
        if let Some(net) = &mut self.net {
            net.looks = fields.iter().map(|field| look(field, policy, catalog)).collect();
        }
    }

    /// The same from a description that the gateway itself has asked for.
    pub(super) fn spread_own_net(&mut self, message: View<'_>) -> Result<(), End> {
        if self.net.is_some() {
            let mut fields = backend::row_description(message.body)?;
            self.map_back(&mut fields);
            self.spread_net(&fields);
        }
        Ok(())
    }

    /// Looks through an error or a notice on its way to the client: PostgreSQL quotes values in them.
    pub(super) fn look_at_error(&self, body: &mut [u8]) {
        if let Some(net) = &self.net {
            net::error(body, net.net, &mut Found::new());
        }
    }

    /// Tells the client what was found, ahead of the command tag.
    pub(super) fn tell_of_net(&mut self) -> Result<(), End> {
        let Some(told) = self.net.as_mut().and_then(|net| net.tell()) else { return Ok(()) };
        let mut out = BytesMut::new();
        backend::write_error(b'N', &told, &mut out);
        self.show(View { tag: b'N', body: out.get(5..).unwrap_or_default() })
    }
}

/// Columns that somebody has classified need no guess.
fn look(field: &Field, policy: &Policy, catalog: &Catalog) -> Look {
    let relation = catalog.by_oid(field.table_oid);
    let column = relation.and_then(|relation| {
        let column = relation.columns.iter().find(|column| column.number == field.attribute)?;
        Some((&relation.name, &column.name))
    });
    match column {
        Some((relation, column)) if policy.classification().names(relation, column) => Look::Not,
        Some(_) | None => Look::of(field.type_oid, field.format == 1),
    }
}
