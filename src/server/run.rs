//! A broker and gateway in this process: started, running, stopped.
//!
//! What must stay true: nothing listens before every leftover of an earlier process is ended and
//! recorded, and nothing is left in the targets after an orderly stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::audit::LogError;
use crate::server::certificates::CertificateError;
use crate::server::config::{Config, ConfigError};
use crate::server::grants::{end, keep};
use crate::server::http::listen::Connections;
use crate::server::http::refusal::chain;
use crate::server::identity::VerifierError;
use crate::server::notify::NotifyError;
use crate::server::sessions::EndReason;
use crate::server::state::State;
use crate::server::store::StoreError;
use crate::server::targets::TargetError;
use crate::server::{gateway, http, prepare};
use crate::sys::files::FileError;

/// How long transactions that are open may go on when the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long open requests and connections may take to come to their end.
const GRACE: Duration = Duration::from_secs(5);

/// Why the process does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` is not a key: 64 hexadecimal digits are expected", .0.display())]
    Key(PathBuf),
    #[error("the store of the broker")]
    Store(#[from] StoreError),
    #[error("the audit log")]
    Log(#[from] LogError),
    #[error("target `{target}`: the broker's password")]
    Password { target: String, source: FileError },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Identity(#[from] VerifierError),
    #[error("`[[approvals.notify]]`")]
    Notify(#[from] NotifyError),
    #[error("`client_secret_file`")]
    ClientSecret(#[source] FileError),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("{}", .0.iter().map(|error| chain(error)).collect::<Vec<_>>().join("\n"))]
    Several(Vec<StartError>),
}

/// A broker and gateway that run until [`Running::stop`].
pub struct Running {
    api: SocketAddr,
    wire: SocketAddr,
    state: Arc<State>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts everything the configuration describes.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let (api, wire, doubts) = (config.server.api_listen, config.server.wire_listen, prepare::doubts(&config));
    let ready = prepare::ready(config)?;
    for doubt in doubts {
        tracing::warn!("{}", chain(&doubt).replace('\n', ". "));
    }
    let (api_listener, wire_listener) = (bind(api).await?, bind(wire).await?);
    let (api, wire) = (address(&api_listener)?, address(&wire_listener)?);
    let state = Arc::new(prepare::state(ready, wire.port()).await?);
    // The sockets are bound but nobody is served yet: a caller waits in the kernel's queue.
    end::clear_leftovers(&state).await;

    let stop = watch::Sender::new(false);
    let unusable = |source| StartError::Listen { address: api, source };
    let connections = Connections::new(api_listener, state.certificates.api.clone()).map_err(unusable)?;
    let tasks = vec![
        tokio::spawn(serve_api(connections, state.clone(), stop.subscribe())),
        tokio::spawn(gateway::serve(wire_listener, state.clone(), stop.subscribe())),
        tokio::spawn(end::reap(state.clone(), stop.subscribe())),
        tokio::spawn(keep::watch(state.clone(), stop.subscribe())),
        tokio::spawn(state.approvals.clone().expire(stop.subscribe())),
    ];
    tracing::info!(%api, %wire, targets = state.targets.len(), "serving");
    Ok(Running { api, wire, state, stop, tasks })
}

impl Running {
    /// Where the API listens.
    pub fn api_address(&self) -> SocketAddr {
        self.api
    }

    /// Where PostgreSQL clients connect.
    pub fn wire_address(&self) -> SocketAddr {
        self.wire
    }

    /// Has the policies read anew; what they take away is ended.
    pub fn reload(&self) {
        self.state.reload.notify_one();
    }

    /// What requests and connections share.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Stops: takes nothing new, lets transactions end for a while, then ends every session and
    /// grant, drops their roles, closes the log.
    pub async fn stop(self) {
        self.state.stopping.store(true, Ordering::Release);
        self.stop.send_replace(true);
        self.state.sessions.kill_all(EndReason::Draining);
        let emptied = tokio::time::timeout(DRAIN, self.state.sessions.until_empty());
        if emptied.await.is_err() {
            tracing::warn!(open = self.state.sessions.count(), "sessions did not end by themselves");
        }
        end::end_all(&self.state).await;
        for mut task in self.tasks {
            if tokio::time::timeout(GRACE, &mut task).await.is_err() {
                tracing::warn!("a task did not end in time");
                task.abort();
            }
        }
        // What requests that had begun have granted meanwhile.
        end::end_all(&self.state).await;
        self.state.log.stop().await;
        self.state.store.close().await;
        tracing::info!("stopped");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address: ([0, 0, 0, 0], 0).into(), source })
}

async fn serve_api(connections: Connections, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let stopped = async move {
        // An error means that the sender is gone, and with it the process's owner: stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(connections, http::router(state)).with_graceful_shutdown(stopped).await {
        tracing::error!(%error, "the API ended");
    }
}
