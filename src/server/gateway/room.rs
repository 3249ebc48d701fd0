//! Room for locks: all sessions of a server share it, and when it is used up nobody's statement runs.
//!
//! What must stay true: what sessions hold through here leaves room for everybody else. One statement is
//! bounded by its text; whatever adds up over statements, and survives COMMIT as often as not, is asked of
//! the target before more of it runs.

use super::foresee::Foreseen;
use super::relay::Mode;
use super::session::{End, Session};
use crate::core::policy::Denial;
use crate::core::statement::facts::{Effect, Facts, TransactionVerb};
use crate::core::wire::frontend;
use crate::server::check::{Planned, refused};

/// Temporary relations that one transaction may make, indexes among them.
const MOST_MADE: u64 = 200;
/// Temporary relations that a session may have: a transaction that reads all of them locks all of them.
const MOST_OWN: usize = 1_000;
/// Locks that a relation takes: its own, and those of the table and the index for its long values.
const OF_A_RELATION: u64 = 4;
/// What nobody can tell from the text.
const UNTOLD: u64 = 1_000;
/// Locks that a session may have taken before the target is asked how many there are.
const UNASKED: u64 = 100;
/// Locks that a session may hold and still take more.
const MOST_HELD: u64 = 2_000;

/// How many locks this session holds, how many all sessions of the gateway's hold, and how many the server
/// has room for at least. Locks that need no room are left out.
pub const LOCKS: &str = "select 'locks', pg_catalog.count(*) filter (where l.pid = pg_catalog.pg_backend_pid()), \
    pg_catalog.count(*), pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8 \
     * (pg_catalog.current_setting('max_connections')::pg_catalog.int8 \
      + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8) \
    from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid \
    where not l.fastpath and l.mode <> 'SIReadLock' \
     and pg_catalog.starts_with(a.usename::pg_catalog.text, 'dbgate_u_')";

impl Session {
    /// Counts what a statement makes for its session. A denial where that is too much.
    pub(super) fn makes_too_much(&mut self, facts: &Facts) -> Option<Box<Denial>> {
        if !matches!(facts.effect, Effect::Session | Effect::Write) || facts.makes.relations == 0 {
            return None;
        }
        self.held.made = self.held.made.saturating_add(facts.makes.relations);
        let (what, hint) = match self.held.made > MOST_MADE {
            true => (format!("a transaction makes {MOST_MADE} temporary relations at most"), "commit first"),
            false if self.temporary.len() >= MOST_OWN => {
                (format!("a session has {MOST_OWN} temporary relations at most"), "drop some first")
            }
            false => return None,
        };
        Some(refused("too_many_temporary", &format!("{what}: the target has few locks"), hint))
    }

    /// Whether the target has room for the locks that a statement takes, where they may have added up.
    pub(super) async fn has_room(&mut self, planned: &Planned, mode: Mode) -> Result<Foreseen, End> {
        let takes = self.takes(planned.cleared.facts());
        // In a transaction that has failed nothing is taken, and nothing can be asked.
        if takes == 0 || self.status == b'E' {
            return Ok(Foreseen::GoOn);
        }
        self.held.taken = self.held.taken.saturating_add(takes);
        if self.held.taken <= UNASKED {
            return Ok(Foreseen::GoOn);
        }
        super::seldom(self.asks_for_room(takes, mode)).await
    }

    async fn asks_for_room(&mut self, takes: u64, mode: Mode) -> Result<Foreseen, End> {
        self.ask_own("dbgate_locks", &[]);
        frontend::flush(&mut self.up);
        let mut drained = self.round(mode).await?;
        if drained.failed {
            return Ok(Foreseen::Failed);
        }
        if let Some((number, part, tag)) = drained.wrong_tag.take() {
            self.wrong_tag(number, part, &tag, mode).await?;
            return Ok(Foreseen::Failed);
        }
        self.note_plan(&mut drained.rows);
        let Some((own, all, room)) = drained.rows.iter().find_map(|row| held(row)) else { return Err(End::Protocol) };
        self.held.taken = takes;
        if own < MOST_HELD && all < room / 2 {
            return Ok(Foreseen::GoOn);
        }
        let whose = if own < MOST_HELD { "sessions through here hold" } else { "this session holds" };
        let count = if own < MOST_HELD { all } else { own };
        let denial = refused(
            "too_many_locks",
            &format!("{whose} {count} locks already, and the target has room for about {room}"),
            "release locks first: COMMIT, pg_advisory_unlock_all()",
        );
        Ok(Foreseen::Refused(denial))
    }

    /// Locks that stay until the transaction or the session ends, beside those of the relations that a statement
    /// names.
    pub(super) fn takes(&self, facts: &Facts) -> u64 {
        let verb = facts.verb.as_str();
        if verb == "FETCH" {
            let cursor = facts.prepared.as_ref().and_then(|name| self.cursors.get(name));
            return cursor.map_or(0, |cursor| cursor.takes);
        }
        // What they name runs later.
        if verb == "PREPARE" || verb.starts_with("DECLARE") {
            return 0;
        }
        let made = match matches!(facts.effect, Effect::Session | Effect::Write) {
            true if facts.makes.takes_over => UNTOLD,
            true => facts.makes.relations.saturating_mul(OF_A_RELATION),
            false => 0,
        };
        // What is written behind a savepoint has a transaction of its own, and a lock for that.
        let savepoint = u64::from(facts.transaction == Some(TransactionVerb::Savepoint));
        facts.effects.locks.saturating_add(made).saturating_add(savepoint)
    }
}

fn held(row: &[Option<String>]) -> Option<(u64, u64, u64)> {
    let [Some(mark), Some(own), Some(all), Some(room)] = row else { return None };
    (mark == "locks").then_some((own.parse().ok()?, all.parse().ok()?, room.parse().ok()?))
}
