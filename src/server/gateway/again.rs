//! The same statement again, with other values: what a driver sends for the rows of a batch.
//!
//! What must stay true: what goes this way would go the long way with the same outcome, for nothing but the
//! same was asked, and nothing answered, since the last one; each is recorded with its values before it is
//! sent, counted among what is held, and named in the record when it ends.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::relay::Mode;
use super::session::{End, Judged, Session};
use crate::core::policy::Policy;
use crate::core::session::tag_matches;
use crate::core::wire::backend;
use crate::core::wire::frame::{self, View};
use crate::core::wire::frontend;
use crate::server::audit::ResultRecord;
use crate::server::check::{Hold, Planned};
use crate::sys::clock;

/// Longer values go the long way: it keeps account of them.
const LONGEST: usize = 4096;

/// A statement that ran in the unnamed portal.
pub struct Again {
    planned: Arc<Planned>,
    text: Arc<str>,
    policy: Arc<Policy>,
    /// How many rows its Execute asked for.
    rows: i32,
}

/// A Bind to the unnamed portal and the Execute of it; some drivers ask for its description in between.
struct Run<'a> {
    statement: &'a [u8],
    parameters: &'a [u8],
    is_described: bool,
    length: usize,
}

impl<'a> Run<'a> {
    /// The one that `input` starts with, if it does.
    fn at(input: &'a [u8], rows: i32) -> Option<Self> {
        const DESCRIBE: &[u8] = b"D\0\0\0\x06P\0";
        let bind = frame::view(input, LONGEST).ok()?.filter(|message| message.tag == b'B')?;
        let names = bind.body.strip_prefix(b"\0")?;
        let end = names.iter().position(|byte| *byte == 0)?;
        let (statement, parameters) = (names.get(..end)?, names.get(end + 1..)?);
        if !frontend::are_bound(parameters) {
            return None;
        }
        let behind = input.get(bind.wire_length()..)?;
        let (is_described, behind) = behind.strip_prefix(DESCRIBE).map_or((false, behind), |behind| (true, behind));
        let execute = frame::view(behind, LONGEST).ok()?.filter(|message| message.tag == b'E')?;
        let is_same = execute.body.strip_prefix(b"\0")? == rows.to_be_bytes();
        let length = input.len() - behind.len() + execute.wire_length();
        is_same.then_some(Self { statement, parameters, is_described, length })
    }
}

impl Session {
    /// Notes that what was just passed on may come again, where all that it does is known from its text.
    pub(super) fn may_come_again(&mut self, planned: &Arc<Planned>, text: &Arc<str>, portal: &str, rows: i32) {
        let facts = planned.cleared.facts();
        let is_plain = planned.hold == Hold::Counted && planned.returns_nothing() && !planned.is_spliced;
        let is_known = is_plain && !self.may_hide_names(planned) && !self.runs_code(facts) && self.takes(facts) == 0;
        let is_alike = facts.settings.is_empty() && facts.prepared.is_none() && !facts.locks && !facts.unread_text;
        let is_steady = !self.has_moved_names && !self.facts_stale && !self.changes.must_settle();
        // What people are asked about stands alone.
        let is_let = self.people.lift.is_none() && self.people.trying.is_none() && !self.people.is_alone();
        let may = portal.is_empty() && is_known && is_alike && is_steady && is_let && self.net.is_none();
        self.ahead.again = may.then(|| {
            let (planned, text, policy) = (planned.clone(), text.clone(), self.policy.clone());
            Again { planned, text, policy, rows }
        });
    }

    /// Takes in what is at hand as far as it is the same again. False where it is something else.
    pub(super) fn comes_again(&mut self) -> bool {
        let Some(again) = self.ahead.again.take() else { return false };
        let input = std::mem::take(self.client.input());
        let taken = self.take_again(&again, &input);
        *self.client.input() = input;
        let Some(taken) = taken else { return false };
        let passed = self.client.input().split_to(taken);
        self.up.extend_from_slice(&passed);
        self.ahead.again = Some(again);
        true
    }

    /// How many bytes of `input` that are; nothing where it starts with something else.
    fn take_again(&mut self, again: &Again, input: &[u8]) -> Option<usize> {
        let first = Run::at(input, again.rows)?;
        if !self.is_unchanged(again, first.statement) {
            return None;
        }
        let (facts, now, enough) = (again.planned.cleared.shared_facts(), clock::now(), self.enough());
        let (mut taken, mut times, mut last) = (0, 0, None);
        while let Some(run) = input.get(taken..).and_then(|rest| Run::at(rest, again.rows)) {
            if run.statement != first.statement || taken > enough {
                break;
            }
            let Some(recorded) = self.record.again(&again.text, &facts, run.parameters, now) else { break };
            last = Some((recorded, run.parameters));
            self.pipeline.expect_run(run.is_described);
            taken += run.length;
            times += 1;
        }
        let (recorded, parameters) = last?;
        self.changes.asked_again(times);
        self.hold_again(recorded.number(), times);
        if let Some(running) = self.executions.back_mut() {
            running.again += u64::try_from(times).unwrap_or(0);
        }
        if let Some(bound) = self.portals.get_mut("") {
            bound.values.parameters = Bytes::copy_from_slice(parameters);
            bound.places[1] = self.changes.place() - 1;
        }
        Some(taken)
    }

    /// Whether the name still stands for what ran, judged by what is so now.
    fn is_unchanged(&self, again: &Again, statement: &[u8]) -> bool {
        let Ok(statement) = std::str::from_utf8(statement) else { return false };
        let is_same = |planned: &Arc<Planned>| Arc::ptr_eq(planned, &again.planned);
        let parsed = self.prepared.get(statement).filter(|parsed| match &parsed.judged {
            Judged::Planned(planned) => is_same(planned),
            Judged::Empty | Judged::Unread | Judged::Unlifted | Judged::Outdated(_) => false,
        });
        let is_prepared = parsed.is_some_and(|parsed| Arc::ptr_eq(&parsed.context, &self.context));
        let runs = self.executions.back().is_some_and(|last| is_same(&last.planned) && last.behind.is_none());
        is_prepared && runs && Arc::ptr_eq(&again.policy, &self.grant.policy())
    }

    /// Takes in answers to the same again, as far as they are alike: how many bytes they are.
    pub(super) fn ended_again(&mut self, input: &[u8], mode: Mode) -> Result<usize, End> {
        let Some(front) = self.executions.front().filter(|front| front.again > 0 && front.messages == 0) else {
            return Ok(0);
        };
        let is_plain = mode == Mode::Extended && self.stop.is_no() && self.late_description.is_empty();
        let Some(is_described) = self.pipeline.is_run_next().filter(|_| is_plain) else { return Ok(0) };
        let Some(answers) = Answers::at(input, is_described) else { return Ok(0) };
        let tag = backend::command_tag(answers.done.body)?;
        if !tag_matches(front.planned.cleared.facts(), tag) {
            return Ok(0);
        }
        let alike = input.chunks_exact(answers.length).take_while(|next| input.starts_with(next));
        let most = usize::try_from(front.again).unwrap_or(usize::MAX).min(alike.count());
        let times = self.end_alike(tag, most);
        if !(0..times).all(|_| self.pipeline.receive_run(is_described)) {
            return Err(End::Protocol);
        }
        self.changes.answered_again(times);
        let taken = times * answers.length;
        self.show_all(input.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    /// Notes that the statement whose turn it is has ended like the one before it, and so have those behind it:
    /// how many of them that is said of.
    fn end_alike(&mut self, tag: &str, most: usize) -> usize {
        let Some(front) = self.executions.front_mut() else { return 0 };
        let (now, ended) = (clock::now(), Instant::now());
        let result = ResultRecord {
            tag,
            columns: &[],
            masked: &[],
            rows: 0,
            bytes: 0,
            micros: u64::try_from(ended.saturating_duration_since(front.started).as_micros()).unwrap_or(u64::MAX),
            rows_digest: self.record.key().no_rows(),
            transaction: char::from(self.status),
        };
        let times = self.record.go_on(front.number, front.part, &result, most, now);
        if times == 0 {
            return 0;
        }
        self.held.told.note(&front.planned, tag, times);
        front.go_on(times, ended);
        // The number is that of the next one now.
        self.held.ended(&front.planned, front.number.saturating_sub(1), front.part);
        times
    }
}

/// The answers to one of them that has returned nothing.
struct Answers<'a> {
    done: View<'a>,
    /// Of all of them.
    length: usize,
}

impl<'a> Answers<'a> {
    /// Those that `input` starts with, if all of them are there.
    fn at(input: &'a [u8], is_described: bool) -> Option<Self> {
        let mut rest = input;
        let mut next = |tag| {
            let message = frame::view(rest, LONGEST).ok()?.filter(|message| message.tag == tag)?;
            rest = rest.get(message.wire_length()..)?;
            Some(message)
        };
        next(b'2')?;
        if is_described {
            next(b'n')?;
        }
        let done = next(b'C')?;
        Some(Self { done, length: input.len() - rest.len() })
    }
}
