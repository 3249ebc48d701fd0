//! Accepting HTTP connections, with or without TLS.
//!
//! Handshakes happen beside the accept loop, so that a peer that never finishes one holds up
//! nobody; connections are counted, and one that says nothing for too long is closed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;

use crate::server::places::{Place, Places};
use crate::sys::dial::Stream;

/// Most connections at once; the next one waits in the kernel's queue.
const MOST_CONNECTIONS: usize = 1024;
/// And from one address; a proxy in front of the broker is one. More are closed at once.
const MOST_FROM_ONE: u32 = 512;
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time until a new connection says something.
const FIRST: Duration = Duration::from_secs(10);
/// Longest time in which nothing is answered: a request must have come, and its answer begun. Longer than any
/// request may take.
const SILENCE: Duration = Duration::from_secs(60);
/// How long to wait after the system could not accept, as when it is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where `axum::serve` takes its connections from.
pub struct Connections {
    ready: mpsc::Receiver<(Quiet, SocketAddr)>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Connections {
    /// Begins to accept on a bound socket.
    pub fn new(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(16);
        let accepting = tokio::spawn(accept(listener, tls.map(TlsAcceptor::from), sender));
        Ok(Self { ready, address, accepting })
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // Closes the socket: a stopped broker must not look as if it listened.
        self.accepting.abort();
    }
}

impl Listener for Connections {
    type Io = Quiet;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Quiet, SocketAddr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Only if the accepting task is gone, which happens when this is dropped.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, sender: mpsc::Sender<(Quiet, SocketAddr)>) {
    let (all, places) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), Places::new(MOST_FROM_ONE));
    loop {
        let Ok(place) = all.clone().acquire_owned().await else { return };
        let (tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(own) = places.take(peer.ip()) else {
            tracing::debug!(%peer, "too many connections from one address");
            continue;
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        // Bounded by the handshake's deadline and the number of places.
        tokio::spawn(async move {
            match handshake(tcp, tls).await {
                // The other side is gone only when the listener is: then nobody waits.
                Ok(stream) => drop(sender.send((Quiet::new(stream, SILENCE, (place, own)), peer)).await),
                Err(error) => tracing::debug!(%peer, %error, "no TLS"),
            }
        });
    }
}

async fn handshake(tcp: TcpStream, tls: Option<TlsAcceptor>) -> std::io::Result<Box<dyn Stream>> {
    tcp.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let stream = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await.map_err(std::io::Error::from)??;
    Ok(Box::new(stream))
}

/// A stream that ends when nothing has been answered for too long, be it that its peer says nothing or so little
/// at a time that no request comes of it.
pub struct Quiet {
    stream: Box<dyn Stream>,
    silence: Pin<Box<Sleep>>,
    longest: Duration,
    /// Something has come since the last answer.
    has_begun: bool,
    _place: (OwnedSemaphorePermit, Place),
}

impl Quiet {
    fn new(stream: Box<dyn Stream>, longest: Duration, place: (OwnedSemaphorePermit, Place)) -> Self {
        Self { stream, silence: Box::pin(sleep(longest.min(FIRST))), longest, has_begun: false, _place: place }
    }
}

impl Quiet {
    fn restart(&mut self) {
        let until = Instant::now() + self.longest;
        self.silence.as_mut().reset(until);
    }

    /// What is waited for has not come: it comes in time, or not at all.
    fn poll_silence<T>(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<T>> {
        self.silence.as_mut().poll(context).map(|()| Err(std::io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, into) {
            // A request has its time from its first byte on.
            if !std::mem::replace(&mut self.has_begun, true) {
                self.restart();
            }
            return Poll::Ready(result);
        }
        self.poll_silence(context)
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(result) => {
                self.has_begun = false;
                self.restart();
                Poll::Ready(result)
            }
            // A peer that does not read has no longer than one that says nothing.
            Poll::Pending => self.poll_silence(context),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.poll_silence(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// One end of a connection, and the peer's.
    fn quiet(longest: Duration) -> (Quiet, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        let own = Places::new(1).take([127, 0, 0, 1].into()).expect("a place");
        (Quiet::new(Box::new(ours), longest, (place, own)), theirs)
    }

    #[tokio::test]
    async fn a_request_that_comes_byte_by_byte_has_no_longer_than_one_that_does_not_come() {
        const LONGEST: Duration = Duration::from_secs(1);
        let (mut ours, mut theirs) = quiet(LONGEST);
        let mut byte = [0];
        // An answer gives time for the next request.
        for _ in 0..3 {
            sleep(LONGEST * 3 / 5).await;
            theirs.write_all(b"G").await.expect("open");
            ours.read_exact(&mut byte).await.expect("heard");
            // It takes its time, and the peer was idle before.
            let more = tokio::time::timeout(LONGEST * 3 / 5, ours.read_exact(&mut byte)).await;
            assert!(more.is_err(), "{more:?}");
            ours.write_all(b"A").await.expect("answered");
            theirs.read_exact(&mut byte).await.expect("told");
        }
        let answered = Instant::now();
        let dribbles = tokio::spawn(async move {
            while theirs.write_all(b"G").await.is_ok() {
                sleep(LONGEST / 10).await;
            }
        });
        let failed = loop {
            if let Err(error) = ours.read_exact(&mut byte).await {
                break error;
            }
        };
        assert_eq!(failed.kind(), std::io::ErrorKind::TimedOut);
        assert!(answered.elapsed() >= LONGEST);
        drop(ours);
        dribbles.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_closed_and_one_that_reads_slowly_is_not() {
        const LONGEST: Duration = Duration::from_millis(500);
        let (mut ours, mut theirs) = quiet(LONGEST);
        theirs.write_all(b"G").await.expect("open");
        ours.read_exact(&mut [0]).await.expect("heard");
        let reads = async {
            for _ in 0..8 {
                sleep(LONGEST / 10).await;
                theirs.read_exact(&mut [0; 16]).await.expect("told");
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 128]), reads);
        written.expect("taken, if slowly");
        let failed = tokio::time::timeout(LONGEST * 20, ours.write_all(&[0; 128])).await.expect("it ends");
        assert_eq!(failed.expect_err("nobody reads").kind(), std::io::ErrorKind::TimedOut);
    }
}
