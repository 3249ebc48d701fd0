//! Where in the client's text an error points.
//!
//! The target counts characters of the text that it was sent. That is a part of the client's, may have other text in
//! place of what is masked, and stands behind an EXPLAIN where the planner was asked about it.

use bytes::Bytes;

use super::aside;
use super::foresee::{Planner, planner_offset};
use super::named::has_length;
use super::outcome::Fault;
use super::relay::Mode;
use super::seldom;
use super::session::{End, Session};
use crate::core::session::Owner;
use crate::core::statement::grammar;
use crate::core::wire::backend::{ErrorFields, Position};
use crate::core::wire::frame::Message;
use crate::server::check::Planned;

impl Session {
    /// Serves a Query, and keeps its text for as long as errors may point into it.
    pub(super) async fn query(&mut self, message: &Message, sql: &str) -> Result<(), End> {
        if let Err(denial) = has_length(sql) {
            return match seldom(self.answered_before()).await? {
                true => seldom(self.refuse(&denial, sql)).await,
                false => Ok(()),
            };
        }
        self.ahead.query = message.body.clone();
        let served = self.simple(sql).await;
        self.ahead.query = Bytes::new();
        served
    }

    /// What becomes of the place that an error points at. Asked before the names are undone.
    pub(super) fn position(&self, fields: &ErrorFields, fault: Fault, owner: Owner, mode: Mode) -> Position {
        let front = self.executions.front();
        let before = front.map_or(0, |front| front.before);
        // The planner was asked about the statement: its answer is the one that the statement would get.
        let is_planners = owner == Owner::Gateway && self.people.planner == Planner::Asked && front.is_some();
        let at = match fields.position {
            None => return Position::Behind(before),
            Some(at) if is_planners => at.checked_sub(planner_offset()),
            Some(at) => Some(at),
        };
        let front = front.filter(|front| match fault {
            Fault::Running => true,
            Fault::Named(place) => front.places.contains(&place),
            Fault::Nobodys => false,
        });
        let read = match (mode, fault) {
            (Mode::Simple, _) | (Mode::Extended, Fault::Nobodys) => None,
            (Mode::Extended, Fault::Running) => front.and_then(|front| self.parsed_at(front.places[0])),
            (Mode::Extended, Fault::Named(place)) => self.parsed_at(front.map_or(place, |front| front.places[0])),
        };
        let planned = front.map(|front| &front.planned).or_else(|| read.and_then(|read| read.judged.planned()));
        let query = || std::str::from_utf8(&self.ahead.query).ok()?.strip_suffix('\0');
        let moved = match planned.filter(|planned| planned.is_spliced) {
            None => at.map(|at| at.saturating_add(before)),
            Some(planned) => at
                .zip(if mode == Mode::Simple { query() } else { read.map(|read| &*read.text) })
                .and_then(|(at, text)| aside::judge(text.len(), || self.unspliced(planned, text, before, at))),
        };
        moved.map_or(Position::Dropped, Position::At)
    }

    /// Where in the client's text a character of a spliced statement stands: the one that begins behind so many
    /// characters in the simple protocol, the only one in the extended one.
    fn unspliced(&self, planned: &Planned, text: &str, before: u32, at: u32) -> Option<u32> {
        let characters = |text: Option<&str>| u32::try_from(text?.chars().count()).ok();
        let statements = grammar::parse(text).ok()?;
        let begins_there = |start: usize| characters(text.get(..start)).is_some_and(|start| start == before);
        let statement = match statements.as_slice() {
            [only] => only,
            several => several.iter().find(|one| begins_there(one.start))?,
        };
        // What it was forwarded as, of all that it could have been.
        let known = self.known_statements();
        let spliced = self.check(&known, None).splice(statement).ok()??;
        let mut places = spliced.text.char_indices().map(|(place, _)| place).chain([spliced.text.len()]);
        let place = places.nth(usize::try_from(at.checked_sub(1)?).ok()?)?;
        let origin = spliced.origin(place).filter(|_| spliced.text == planned.forward)?;
        characters(text.get(..statement.start + origin))?.checked_add(1)
    }
}
