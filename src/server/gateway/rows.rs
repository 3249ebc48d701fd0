//! The rows of a result on their way: counted, digested, held to their limits, and otherwise not
//! touched. And the data of a COPY in the other direction.

use std::sync::Arc;
use std::time::Instant;

use super::bound::{Behind, Used};
use super::net::LONGEST_ROW;
use super::relay::{Drained, LONGEST_HELD, Mode};
use super::session::{End, Session};
use crate::core::scope::{ColumnScope, RelationScope};
use crate::core::transcript::{RowsDigest, SessionKey};
use crate::core::wire::backend::Field;
use crate::core::wire::frame;
use crate::core::wire::frontend::{self, Frontend};
use crate::server::check::Planned;

/// A row longer than this goes on in pieces: memory does not grow with it.
const LONGEST_WHOLE: usize = 128 * 1024;
/// COPY data that may wait for the target before more is taken from the client.
const MOST_WAITING: usize = 256 * 1024;

/// A statement on its way: what is recorded of it when it ends.
pub struct Execution {
    pub number: u64,
    pub part: u32,
    pub planned: Arc<Planned>,
    /// Characters of the client's text before this statement.
    pub before: u32,
    /// The places of its Parse and its Bind among the client's requests.
    pub places: [u64; 2],
    /// Of the rows so far, if there are any.
    pub digest: Option<Box<RowsDigest>>,
    pub rows: u64,
    pub bytes: u64,
    pub started: Instant,
    /// How far it may go beside what it was judged for itself: as the cursor that it reads on from may.
    pub behind: Option<Box<Behind>>,
    /// When its time is up.
    pub deadline: Option<tokio::time::Instant>,
    /// Rows and lines of COPY.
    pub messages: u64,
    /// So many more of the same statement come behind it, with numbers and Binds that follow on from its own.
    pub again: u64,
    /// Bytes still to come of a row that goes on in pieces.
    rest: usize,
    /// And of one that is dropped.
    dropping: usize,
}

impl Execution {
    /// One that begins now.
    fn begin(number: u64, part: u32, planned: Arc<Planned>, started: Instant) -> Self {
        let deadline = deadline(&planned, started);
        let (before, places, again) = (0, [u64::MAX; 2], 0);
        let (digest, behind) = (None, None);
        let (rows, bytes, messages, rest, dropping) = (0, 0, 0, 0, 0);
        Self {
            number,
            part,
            planned,
            before,
            places,
            digest,
            rows,
            bytes,
            started,
            behind,
            deadline,
            messages,
            again,
            rest,
            dropping,
        }
    }

    /// Those behind the first of the same.
    fn behind_first(&self) -> Option<Self> {
        let again = self.again.checked_sub(1)?;
        let [parse, bind] = self.places;
        let next = Self::begin(self.number + 1, self.part, self.planned.clone(), Instant::now());
        Some(Self { before: self.before, places: [parse, bind.saturating_add(1)], again, ..next })
    }

    /// So many of the same have ended without a row, and the turn of the next one comes now.
    pub fn go_on(&mut self, times: usize, now: Instant) {
        let times = u64::try_from(times).unwrap_or(0);
        self.again = self.again.saturating_sub(times);
        self.number += times;
        self.places[1] = self.places[1].saturating_add(times);
        (self.started, self.deadline) = (now, deadline(&self.planned, now));
    }

    /// Takes in the rows as they go out.
    pub fn digest(&mut self, key: &SessionKey) -> &mut RowsDigest {
        self.digest.get_or_insert_with(|| Box::new(RowsDigest::new(key)))
    }
}

/// When a statement that begins now has used up its time.
fn deadline(planned: &Planned, now: Instant) -> Option<tokio::time::Instant> {
    planned.cleared.limits().time.and_then(|time| tokio::time::Instant::from_std(now).checked_add(time))
}

impl Session {
    /// Notes a statement that is about to be executed.
    pub(super) fn begin(&mut self, number: u64, part: u32, planned: &Arc<Planned>, before: u32) {
        self.doubt_what_follows(planned);
        self.note_idle(planned.cleared.limits());
        let mut execution = Execution { before, ..Execution::begin(number, part, planned.clone(), Instant::now()) };
        if let Some(behind) = self.limits_behind(planned) {
            execution.goes_on(behind);
        }
        self.executions.push_back(execution);
    }

    /// What runs has ended.
    pub(super) fn ended(&mut self) -> Option<Execution> {
        match self.executions.front().and_then(Execution::behind_first) {
            Some(rest) => self.executions.front_mut().map(|front| std::mem::replace(front, rest)),
            None => self.executions.pop_front(),
        }
    }

    /// Takes the rows that `input` starts with: all that are whole, and pieces of long ones.
    /// How many bytes they were; 0 when it does not start with a row.
    pub(super) fn rows(&mut self, input: &[u8]) -> Result<usize, End> {
        if !self.pipeline.is_executing() {
            return Ok(0);
        }
        let Some(execution) = self.executions.front_mut().filter(|execution| execution.dropping == 0) else {
            return Ok(0);
        };
        let limits = execution.limits();
        let (messages_before, bytes_before) = execution.used().map_or((0, 0), Used::so_far);
        let is_going = self.stop.is_going();
        let longest = if self.net.is_some() { LONGEST_ROW } else { LONGEST_WHOLE };
        let room = (!self.held_out.is_empty()).then(|| LONGEST_HELD.saturating_sub(self.held_out.len()));
        let (mut taken, mut exceeded, mut is_unreadable, mut is_full) = (0, None, false, false);
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            if execution.rest > 0 {
                let piece = rest.get(..execution.rest.min(rest.len())).unwrap_or_default();
                execution.digest(self.record.key()).piece(piece);
                execution.rest -= piece.len();
                taken += piece.len();
                if execution.rest > 0 || piece.is_empty() {
                    break;
                }
                continue;
            }
            let Some((tag @ (b'D' | b'd'), length)) = frame::head(rest, frame::LONGEST_FROM_SERVER)? else { break };
            if is_going || (rest.len() < length + 5 && length < longest) {
                break;
            }
            is_unreadable = self.net.is_some() && length >= longest;
            // A row that has begun is kept to its end.
            is_full = room.is_some_and(|room| taken + 5 + length > room);
            if is_unreadable || is_full {
                break;
            }
            let bytes = execution.bytes + u64::try_from(length).unwrap_or(u64::MAX);
            exceeded = limits.exceeded(messages_before + execution.messages + 1, bytes_before + bytes);
            if exceeded.is_some() {
                break;
            }
            execution.messages += 1;
            execution.rows += u64::from(tag == b'D');
            execution.bytes = bytes;
            let here = rest.get(5..).unwrap_or_default();
            let here = here.get(..length.min(here.len())).unwrap_or_default();
            // What is looked through may change, and is digested as it then is.
            if self.net.is_none() {
                execution.digest(self.record.key()).row(here);
            }
            execution.rest = length - here.len();
            taken += 5 + here.len();
        }
        if taken > 0 {
            self.release_description();
            let out = if self.held_out.is_empty() { self.client.out() } else { &mut self.held_out };
            let start = out.len();
            out.extend_from_slice(input.get(..taken).unwrap_or_default());
            if let (Some(net), Some(execution)) = (&mut self.net, self.executions.front_mut()) {
                net.look(out.get_mut(start..).unwrap_or_default(), execution, self.record.key())?;
            }
        }
        if let Some(limit) = exceeded {
            self.limit_is_reached(&limit);
        } else if is_unreadable {
            self.row_is_too_long();
        } else if is_full {
            self.too_much_is_held();
        }
        Ok(taken)
    }

    /// Passes over the rows that `input` starts with while their statement is stopped: of a long one nothing is
    /// kept. How many bytes they were.
    pub(super) fn dropped(&mut self, input: &[u8]) -> Result<usize, End> {
        let is_going = self.stop.is_going() && self.pipeline.is_executing();
        let Some(execution) = self.executions.front_mut() else { return Ok(0) };
        let mut taken = 0;
        loop {
            let rest = input.get(taken..).unwrap_or_default();
            let piece = execution.dropping.min(rest.len());
            execution.dropping -= piece;
            taken += piece;
            let next = rest.get(piece..).unwrap_or_default();
            match frame::head(next, frame::LONGEST_FROM_SERVER)? {
                Some((b'D' | b'd', length)) if is_going && execution.rest == 0 => {
                    execution.dropping = length;
                    taken += 5;
                }
                _ => return Ok(taken),
            }
        }
    }

    /// Whether a row has gone out in part only: nothing else can be said to this client.
    pub(super) fn is_torn(&self) -> bool {
        self.executions.front().is_some_and(|execution| execution.rest > 0)
    }

    /// COPY FROM STDIN: the client's data goes on until it says done, fails, or the target objects.
    /// Says whether it failed.
    pub(super) async fn copy_in(&mut self) -> Result<bool, End> {
        self.write_client().await?;
        loop {
            if self.stop.is_asked() {
                // A target that waits for the next line sees no cancel until it has come.
                frontend::copy_fail("stopped", &mut self.up);
                frontend::flush(&mut self.up);
                self.send().await?;
                return Ok(true);
            }
            // Who does not read what the target says hears no more of it.
            let is_full = self.client.is_full();
            let takes_more = !is_full && self.target.out.len() < MOST_WAITING;
            let deadline = self.running_until();
            let target = async {
                match takes_more {
                    true => self.target.exchange().await,
                    false => self.target.make_room().await,
                }
            };
            tokio::select! {
                biased;
                reason = self.registered.handle().kill.told(false) => return Err(End::Killed(reason)),
                more = target, if !is_full => {
                    more.map_err(|_| End::TargetLost)?;
                    if self.target_objects().await? {
                        return Ok(true);
                    }
                }
                () = self.alarm.at(deadline), if deadline.is_some() => self.time_is_up(),
                message = self.client.converse(is_full), if is_full || takes_more => {
                    let Some(message) = message? else { continue };
                    match frontend::parse(&message)? {
                        Frontend::CopyData => {
                            if let Some(execution) = self.executions.front_mut() {
                                execution.bytes += u64::try_from(message.body.len()).unwrap_or(0);
                                execution.digest(self.record.key()).row(&message.body);
                            }
                            message.write(&mut self.up);
                            self.send().await?;
                        }
                        Frontend::CopyDone | Frontend::CopyFail => {
                            message.write(&mut self.up);
                            frontend::flush(&mut self.up);
                            self.send().await?;
                            return Ok(false);
                        }
                        // PostgreSQL ignores these while it copies.
                        Frontend::Flush | Frontend::Sync => {}
                        Frontend::Terminate => return Err(End::ClientGone),
                        _ => return Err(End::Protocol),
                    }
                }
            }
        }
    }

    /// The target speaks before the client is done: its error ends the copy.
    async fn target_objects(&mut self) -> Result<bool, End> {
        let mut drained = Drained::default();
        while let Some(message) = frame::take_from_server(&mut self.target.input)? {
            let view = frame::View { tag: message.tag, body: &message.body };
            Box::pin(self.answer(view, Mode::Simple, &mut drained)).await?;
            if drained.failed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives columns that a splice took from a masked relation the numbers of the column they stand
    /// for, so that drivers see the table they asked for. Cosmetic: nothing is decided by it.
    /// Says whether anything was changed.
    pub(super) fn map_back(&self, fields: &mut [Field]) -> bool {
        let Some(execution) = self.executions.front() else { return false };
        let named = execution.planned.masked.iter();
        let masked: Vec<_> = named.filter_map(|name| self.scope().relations.get(name)).collect();
        let mut is_changed = false;
        for field in fields.iter_mut().take_while(|_| !masked.is_empty()) {
            let found = match field.table_oid {
                0 => masked.iter().find_map(|relation| constant_of(relation, field)),
                oid if self.scope().relations.values().any(|relation| relation.oid == oid) => None,
                _ => of_view(&masked, field),
            };
            if let Some((oid, number)) = found {
                (field.table_oid, field.attribute) = (oid, number);
                is_changed = true;
            }
        }
        is_changed
    }

    /// Which columns of a result are masked.
    pub(super) fn masked_positions(&self, fields: &[Field]) -> Vec<usize> {
        if !self.has_masks {
            return Vec::new();
        }
        let is_masked = |field: &Field| {
            field.table_oid != 0
                && self.scope().relations.values().any(|relation| {
                    relation.oid == field.table_oid
                        && relation.columns.iter().any(|c| c.number == field.attribute && c.mask.is_some())
                })
        };
        fields.iter().enumerate().filter(|(_, field)| is_masked(field)).map(|(index, _)| index).collect()
    }
}

/// The masked column that a constant of this name and type stands for.
fn constant_of(relation: &RelationScope, field: &Field) -> Option<(u32, i16)> {
    let is_it = |c: &&ColumnScope| c.mask.is_some() && c.name == field.name && c.type_oid == field.type_oid;
    relation.columns.iter().find(is_it).map(|column| (relation.oid, column.number))
}

/// The column behind one of a masking view: the view has the relation's columns in their order, and
/// the one that takes new rows after them those that show a part. Where several relations have views,
/// the name decides.
fn of_view(masked: &[&RelationScope], field: &Field) -> Option<(u32, i16)> {
    let with_view: Vec<_> = masked.iter().filter(|relation| relation.view.is_some()).collect();
    let place = usize::try_from(field.attribute).ok()?.checked_sub(1)?;
    let at = |relation: &RelationScope| {
        let (own, beyond) = (relation.columns.get(place), place.checked_sub(relation.columns.len()));
        let part = || relation.columns.iter().filter(|column| column.shown_by().is_some()).nth(beyond?);
        own.or_else(part).map(|column| (column.name.clone(), (relation.oid, column.number)))
    };
    let column = |relation: &RelationScope| at(relation).map(|(_, found)| found);
    match with_view.as_slice() {
        [only] => column(only),
        several => several
            .iter()
            .find(|relation| at(relation).is_some_and(|(name, _)| name == field.name))
            .and_then(|relation| column(relation)),
    }
}
