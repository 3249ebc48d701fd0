//! Connections of the broker's own role, kept a short while for the next who needs one.
//!
//! Signing in anew takes longer than what is then done. Kept connections are few and close soon:
//! an idle one would keep an owner from dropping the database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::server::targets::{Target, TargetError};

/// How long one is kept: PostgreSQL waits five seconds for others to leave a database before it
/// refuses to drop or to copy it, and looks ten times a second.
const KEPT: Duration = Duration::from_secs(3);
/// How many of one target.
const MOST: usize = 4;

/// How many sessions of one target are opened at a time: each takes a connection of the broker's while
/// it is, and hundreds that come at once would leave the target no room for themselves.
const MOST_OPENING: usize = 16;

/// How many are closed at a time, by the same reasoning. Closing has turns of its own, so that who
/// comes in does not stand behind hundreds that leave.
const MOST_CLOSING: usize = 8;

/// The idle connections of one target.
pub struct Admins {
    idle: Mutex<Vec<Idle>>,
    opening: Semaphore,
    closing: Semaphore,
}

impl Default for Admins {
    fn default() -> Self {
        Self { idle: Mutex::default(), opening: Semaphore::new(MOST_OPENING), closing: Semaphore::new(MOST_CLOSING) }
    }
}

struct Idle {
    database: String,
    client: Client,
    since: Instant,
}

impl Admins {
    /// A connection to a database, kept or new. Dropping it closes it; [`Admins::keep`] keeps it.
    pub async fn borrow(&self, target: &Target, database: &str) -> Result<Client, TargetError> {
        match self.take(database) {
            Some(client) => Ok(client),
            None => target.admin(database).await,
        }
    }

    /// A turn to open a session, given back on drop; none once the target is not served any more.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.opening.acquire().await.ok()
    }

    /// A turn to clear up behind a session, given back on drop.
    pub async fn closing_turn(&self) -> Option<SemaphorePermit<'_>> {
        self.closing.acquire().await.ok()
    }

    fn take(&self, database: &str) -> Option<Client> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !one.client.is_closed());
        let place = idle.iter().rposition(|one| one.database == database)?;
        Some(idle.swap_remove(place).client)
    }

    /// Takes back a connection that is outside of any transaction.
    pub fn keep(&self, client: Client, database: &str) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !client.is_closed() && idle.len() < MOST {
            idle.push(Idle { database: database.to_owned(), client, since: Instant::now() });
        }
    }

    /// Closes what has been idle for long.
    pub fn trim(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.since.elapsed() < KEPT && !one.client.is_closed());
    }
}
