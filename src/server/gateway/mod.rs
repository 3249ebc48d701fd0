//! Step 3, session: the gateway, where PostgreSQL clients connect.
//!
//! [`door`] lets a client in, [`upstream`] connects to the target as a just-in-time role,
//! [`session`] serves one client with [`simple`], [`extended`] and [`held`], which [`ask`] the
//! target and bring its answers back through [`relay`] and [`rows`]; [`refuse`] says no. Nothing reaches the target that was not judged and recorded.

mod account;
mod again;
mod aside;
mod ask;
mod asked;
mod before;
mod bound;
mod circumstances;
mod client;
mod counters;
mod deferred;
mod description;
pub mod door;
mod extended;
mod foresee;
mod habit;
mod held;
pub mod keeper;
mod lent;
mod locked;
mod moved;
mod named;
mod net;
mod open;
mod outcome;
mod patience;
mod people;
mod pointed;
mod refuse;
mod relay;
mod room;
mod rows;
mod session;
mod simple;
mod steady;
mod stop;
mod told;
mod trial;
mod undoable;
pub mod upstream;
mod values;
mod wait;
mod words;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::server::gateway::door::Entered;
use crate::server::sessions::SessionHandle;
use crate::server::state::State;

/// Something that seldom happens, kept in a place of its own. A session's future holds room for
/// whatever may be waited for, and is moved with every message: rare things must not make it large.
fn seldom<F: Future>(future: F) -> Pin<Box<F>> {
    Box::pin(future)
}

/// Connections served at once; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 2_000;

/// Serves PostgreSQL clients until told to stop, then waits for the sessions to end.
pub async fn serve(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                connections.spawn(connection(tcp, address, state.clone()));
            }
            Err(error) => tracing::warn!(%error, "a connection could not be accepted"),
        }
    }
    // Who comes now is told at once that nobody answers here.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection, from the door to its end.
async fn connection(tcp: TcpStream, address: SocketAddr, state: Arc<State>) {
    // Latency matters more than a few packets; a socket that refuses the option still works.
    let _ = tcp.set_nodelay(true);
    let entered = seldom(tokio::time::timeout(door::DEADLINE, door::enter(tcp, address, &state))).await;
    match entered {
        Ok(Ok(Entered::SignedIn(signed_in))) => open::session(signed_in, &state).await,
        Ok(Ok(Entered::Cancel { session, mut asking, place })) => {
            if let Some(session) = session {
                cancel(&session).await;
            }
            // Some clients wait for TLS's own goodbye.
            asking.shut().await;
            drop(place);
        }
        Ok(Ok(Entered::Nobody)) => {}
        Ok(Err(end)) => tracing::debug!(%address, reason = %end, "not let in"),
        Err(_) => tracing::debug!(%address, "took too long at the door"),
    }
}

/// Cancels what a session runs, and wakes who waits for people in it.
async fn cancel(session: &SessionHandle) {
    session.cancelled.send_modify(|count| *count = count.wrapping_add(1));
    if let Some(upstream) = session.upstream.get()
        && let Err(error) = upstream.cancel().await
    {
        tracing::warn!(%error, "a cancel request did not reach the target");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what an `async fn` returns.
    pub(super) fn size<T, F: Future>(_: impl FnOnce(T) -> F) -> usize {
        size_of::<F>()
    }

    /// Every session keeps one for as long as it lives: what happens once in it has a place of its own.
    #[test]
    fn what_a_session_keeps_while_it_waits_is_small() {
        let kept = size(|(tcp, address, state): (TcpStream, SocketAddr, Arc<State>)| connection(tcp, address, state));
        assert!(kept <= 4 * 1024, "{kept} bytes");
        assert!(size_of::<session::Session>() <= 2560);
    }
}
