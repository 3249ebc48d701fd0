//! One end of a conversation: a stream, what was read from it, and what is to be written to it.
//!
//! What must stay true: reading and writing go on side by side, so that two peers that both want
//! to be heard first do not wait for each other for ever; buffers are as large as the traffic asks
//! for and small again when it rests.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// The room for a first read: most requests and answers fit.
const SMALL: usize = 2 * 1024;
/// Room that stays with a link at rest.
const KEPT: usize = 256;
/// The room for a read behind one that was full.
const MEDIUM: usize = 16 * 1024;
/// The room for a read once they come in bulk.
const LARGE: usize = 64 * 1024;
/// A peer that takes nothing for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(300);

/// How long a transport is waited for at its end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Anything that bytes go through.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream with its buffers.
pub struct Link {
    stream: Box<dyn Stream>,
    /// Read and not yet taken.
    pub input: BytesMut,
    /// Not yet written.
    pub out: BytesMut,
    /// How much is asked for in one read.
    block: usize,
    /// Written, but a layer below may still hold it.
    is_unflushed: bool,
}

impl Link {
    /// Over a stream of which `input` was read already.
    pub fn new(stream: Box<dyn Stream>, input: BytesMut) -> Self {
        Self { stream, input, out: BytesMut::new(), block: SMALL, is_unflushed: false }
    }

    /// Waits for more input. Cancel safe.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer has closed.
    pub async fn fill(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    /// Writes what is to be written, and reads meanwhile; returns as soon as there is more input.
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`Link::fill`], or when the peer takes nothing more.
    pub async fn exchange(&mut self) -> io::Result<()> {
        poll_fn(|context| {
            if let Poll::Ready(Err(error)) = self.poll_drain(context) {
                return Poll::Ready(Err(error));
            }
            self.poll_fill(context)
        })
        .await
    }

    /// Writes until nothing is left to be written, or until there is more input. Cancel safe.
    ///
    /// # Errors
    /// As [`Link::exchange`].
    pub async fn make_room(&mut self) -> io::Result<()> {
        poll_fn(|context| match self.poll_drain(context) {
            Poll::Pending => self.poll_fill(context),
            done @ Poll::Ready(_) => done,
        })
        .await
    }

    /// Writes everything, to a peer that takes something at least every few minutes. Cancel safe.
    ///
    /// # Errors
    /// When the peer takes nothing more.
    pub async fn flush(&mut self) -> io::Result<()> {
        // Most often everything goes at once, and no clock is needed.
        self.push().await?;
        while !self.is_written() {
            let left = self.out.len();
            let drained = poll_fn(|context| self.poll_drain(context));
            match tokio::time::timeout(WRITE_DEADLINE, drained).await {
                Ok(done) => return done,
                Err(_) if self.out.len() < left => {}
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
        Ok(())
    }

    /// Writes as much as goes without waiting.
    ///
    /// # Errors
    /// When the peer takes nothing more.
    pub async fn push(&mut self) -> io::Result<()> {
        poll_fn(|context| match self.poll_drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Whether nothing is left to be written.
    pub fn is_written(&self) -> bool {
        self.out.is_empty() && !self.is_unflushed
    }

    /// Whether a layer below may still hold what was written.
    pub fn is_stuck(&self) -> bool {
        self.is_unflushed
    }

    /// Bytes that its buffers have room for.
    pub fn room(&self) -> usize {
        self.input.capacity() + self.out.capacity()
    }

    /// Gives back what was needed for bulk; for a link on which nothing goes on.
    pub fn rest(&mut self) {
        self.block = SMALL;
        for buffer in [&mut self.input, &mut self.out] {
            if buffer.is_empty() && buffer.capacity() > KEPT {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Gives back all that is not in use, whatever its size.
    pub fn forget_room(&mut self) {
        for buffer in [&mut self.input, &mut self.out] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Says goodbye to the transport.
    pub async fn shut(&mut self) {
        // The peer may be gone already, or take nothing more.
        let shut = poll_fn(|context| Pin::new(&mut *self.stream).poll_shutdown(context));
        let _ = tokio::time::timeout(GOODBYE, shut).await;
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.block > SMALL {
            return self.poll_fill_much(context);
        }
        ready!(self.poll_fill_little(context))?;
        if self.block > SMALL {
            // The rest of it is most often there as well. An end, or an error, is met again by the next read.
            let _ = self.poll_fill_much(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill_much(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.reserve(self.block);
        let room = self.input.capacity() - self.input.len();
        let count = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(context))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if count == room {
            self.block = LARGE;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads by way of the stack: who only waits needs no room on the heap, and most sessions only wait.
    fn poll_fill_little(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [MaybeUninit::uninit(); SMALL];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut *self.stream).poll_read(context, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.input.extend_from_slice(read.filled());
        if read.remaining() == 0 {
            self.block = MEDIUM;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let count = ready!(Pin::new(&mut *self.stream).poll_write(context, &self.out))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
            self.is_unflushed = true;
        }
        if self.is_unflushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(context))?;
            self.is_unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn two_peers_that_both_write_first_do_not_wait_for_each_other() {
        const MUCH: usize = 1 << 20;
        let (ours, theirs) = tokio::io::duplex(4096);
        let both = [ours, theirs].map(|stream| {
            tokio::spawn(async move {
                let mut link = Link::new(Box::new(stream), BytesMut::new());
                link.out.put_bytes(7, MUCH);
                while link.input.len() < MUCH || !link.is_written() {
                    match link.input.len() < MUCH {
                        true => link.exchange().await?,
                        false => link.flush().await?,
                    }
                }
                io::Result::Ok(link.input.len())
            })
        });
        for one in both {
            assert_eq!(one.await.expect("no panic").expect("no error"), MUCH);
        }
    }

    #[tokio::test]
    async fn room_is_made_by_a_peer_that_reads_and_says_nothing() {
        const MUCH: usize = 1 << 20;
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let reads = tokio::spawn(async move {
            let mut all = vec![0; MUCH];
            tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut all).await.map(|_| theirs)
        });
        let mut link = Link::new(Box::new(ours), BytesMut::new());
        link.out.put_bytes(7, MUCH);
        link.make_room().await.expect("written");
        assert!(link.is_written());
        let mut theirs = reads.await.expect("no panic").expect("read");
        link.out.put_bytes(7, MUCH);
        theirs.write_all(b"no").await.expect("written");
        link.make_room().await.expect("told");
        assert_eq!((&link.input[..], link.is_written()), (&b"no"[..], false), "the peer is heard before it has read");
    }

    #[tokio::test]
    async fn room_grows_with_the_traffic_and_is_given_back() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut link = Link::new(Box::new(ours), BytesMut::new());
        theirs.write_all(&[1; 300_000]).await.expect("written");
        while link.input.len() < 300_000 {
            link.fill().await.expect("more");
        }
        assert!(link.input.capacity() >= 300_000);
        link.input.clear();
        link.rest();
        assert_eq!(link.input.capacity(), 0);
        drop(theirs);
        assert_eq!(link.fill().await.expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
    }
}
