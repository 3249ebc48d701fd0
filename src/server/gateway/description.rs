//! What a result's columns are called: as the target describes them, as the client is told, and as the record
//! has it.

use std::sync::Arc;

use bytes::BytesMut;

use super::relay::Mode;
use super::rows::Execution;
use super::session::{End, Session};
use crate::core::scope::RelationName;
use crate::core::statement::facts::Effect;
use crate::core::wire::backend;
use crate::core::wire::frame::View;
use crate::server::check::Planned;

/// The columns of a result as the target described them. Kept when the statement has ended: most
/// often the same description comes again.
#[derive(Default)]
pub struct Description {
    /// As the target sent it.
    body: Box<[u8]>,
    /// Masked relations of the statement that it was of.
    relations: Arc<[RelationName]>,
    columns: Vec<String>,
    masked: Vec<usize>,
    /// The message as the client gets it.
    shown: BytesMut,
    /// Whether it is of the statement that runs.
    is_current: bool,
}

impl Description {
    /// Longer ones are not kept while nothing runs.
    const LONGEST_KEPT: usize = 4096;

    fn is_of(&self, body: &[u8], execution: Option<&Execution>) -> bool {
        let relations = execution.map(|execution| &*execution.planned.masked).unwrap_or_default();
        *self.body == *body && *self.relations == *relations
    }

    pub fn columns(&self, planned: &Planned) -> &[String] {
        if self.is_current && !planned.returns_nothing() { &self.columns } else { &[] }
    }

    pub fn masked(&self, planned: &Planned) -> &[usize] {
        if self.is_current && !planned.returns_nothing() { &self.masked } else { &[] }
    }

    /// Nothing goes on: gives back what is large.
    pub fn rest(&mut self) {
        if self.body.len() > Self::LONGEST_KEPT && !self.is_current {
            *self = Self::default();
        }
    }
}

impl Session {
    /// RowDescription: columns that a splice took from a masked relation are named as that relation's.
    pub(super) fn described(&mut self, message: View<'_>, mode: Mode) -> Result<(), End> {
        if message.tag != b'T' {
            return if mode == Mode::Extended { self.show(message) } else { Ok(()) };
        }
        if self.net.is_some() || !self.description.is_of(message.body, self.executions.front()) {
            self.describe_anew(message)?;
        }
        self.description.is_current = true;
        let planned = self.executions.front().map(|execution| execution.planned.clone());
        // Other statements than a plain SELECT run before the simple protocol describes their rows.
        let is_late = mode == Mode::Simple
            && !self.pipeline.is_query()
            && planned.is_some_and(|planned| {
                let facts = planned.cleared.facts();
                facts.verb != "SELECT" || facts.effect != Effect::Read
            });
        if is_late {
            self.late_description.extend_from_slice(&self.description.shown);
            return Ok(());
        }
        let shown = std::mem::take(&mut self.description.shown);
        let done = self.show(View { tag: b'T', body: shown.get(5..).unwrap_or_default() });
        self.description.shown = shown;
        done
    }

    /// Works out what a description means for this session.
    fn describe_anew(&mut self, message: View<'_>) -> Result<(), End> {
        let mut fields = backend::row_description(message.body)?;
        let columns = fields.iter().map(|field| field.name.clone()).collect();
        let mut shown = BytesMut::new();
        match self.map_back(&mut fields) {
            true => backend::write_row_description(&fields, &mut shown),
            false => message.write(&mut shown),
        }
        self.spread_net(&fields);
        self.description = Description {
            body: message.body.into(),
            relations: self.executions.front().map(|execution| execution.planned.masked.clone()).unwrap_or_default(),
            columns,
            masked: self.masked_positions(&fields),
            shown,
            is_current: true,
        };
        Ok(())
    }

    /// Of what runs next nothing is known.
    pub(super) fn forget_description(&mut self) {
        self.description.is_current = false;
    }
}
