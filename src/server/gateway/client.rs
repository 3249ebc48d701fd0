//! The client's side of a session: messages in, bytes out.

use std::time::Duration;

use bytes::BytesMut;

use super::session::End;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::frame::{self, Message};
use crate::sys::link::{Link, Stream};

/// Output is written once this much has gathered, or when nothing more is at hand.
const WRITE_BLOCK: usize = 32 * 1024;

/// A connected client.
pub struct Client {
    link: Link,
    limit: usize,
    /// So much of what is to be written, from its front, nobody waits for by itself.
    idle: usize,
}

impl Client {
    /// Over a stream that the startup packet has been read from; `buffer` is what came behind it.
    pub fn new(stream: Box<dyn Stream>, buffer: BytesMut) -> Self {
        Self { link: Link::new(stream, buffer), limit: frame::LONGEST_BEFORE_LOGIN, idle: 0 }
    }

    /// The client has signed in: longer messages are taken from now on.
    pub fn is_trusted(&mut self) {
        self.limit = frame::LONGEST_FROM_CLIENT;
    }

    /// What is to be written.
    pub fn out(&mut self) -> &mut BytesMut {
        &mut self.link.out
    }

    /// The last of what has gathered, so many bytes, may go out with what comes behind it.
    pub fn can_wait(&mut self, length: usize) {
        // Not where something stands before it that may not.
        if self.idle + length == self.link.out.len() {
            self.idle += length;
        }
    }

    /// The client waits for whatever has gathered.
    pub fn awaits_all(&mut self) {
        self.idle = 0;
    }

    /// Whether something has gathered that the client may wait for.
    pub fn is_awaited(&self) -> bool {
        self.link.out.len() > self.idle || self.link.is_stuck()
    }

    /// What was read and not yet taken.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.link.input
    }

    /// The next message if it is here already.
    pub fn at_hand(&mut self) -> Result<Option<Message>, End> {
        Ok(frame::take(&mut self.link.input, self.limit)?)
    }

    /// The next message. Cancel safe.
    pub async fn receive(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = self.at_hand()? {
                return Ok(message);
            }
            self.link.fill().await.map_err(|_| End::ClientGone)?;
        }
    }

    /// The next message, what has gathered being written meanwhile; nothing where that has to be read first and
    /// has been. Cancel safe.
    pub async fn converse(&mut self, must_read: bool) -> Result<Option<Message>, End> {
        if must_read {
            return self.flush().await.map(|()| None);
        }
        loop {
            if let Some(message) = self.at_hand()? {
                return Ok(Some(message));
            }
            self.link.exchange().await.map_err(|_| End::ClientGone)?;
        }
    }

    /// Waits until the client has gone. What it sends meanwhile is kept for later. Cancel safe.
    pub async fn gone(&mut self) {
        // A client that sends this much ahead can wait until it is read.
        while self.link.input.len() < WRITE_BLOCK {
            if self.link.fill().await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Writes what has gathered.
    pub async fn flush(&mut self) -> Result<(), End> {
        self.idle = 0;
        self.link.flush().await.map_err(|_| End::ClientGone)
    }

    /// Whether so much has gathered that it should be written.
    pub fn is_full(&self) -> bool {
        self.link.out.len() >= WRITE_BLOCK
    }

    /// Bytes that its buffers have room for.
    pub fn room(&self) -> usize {
        self.link.room()
    }

    /// Whether it has taken all there was.
    pub fn is_written(&self) -> bool {
        self.link.is_written()
    }

    /// Writes as much as goes without waiting.
    pub async fn push(&mut self) -> Result<(), End> {
        self.idle = 0;
        self.link.push().await.map_err(|_| End::ClientGone)
    }

    /// Nothing goes on: memory for bulk is given back.
    pub fn rest(&mut self) {
        self.link.rest();
    }

    /// Queues an error.
    pub fn error(&mut self, fields: &ErrorFields) {
        backend::write_error(b'E', fields, &mut self.link.out);
    }

    /// Says goodbye to one that has not taken everything yet, and has so long for it.
    pub async fn part(&mut self, longest: Duration) {
        if !self.is_written() {
            let _ = tokio::time::timeout(longest, self.flush()).await;
            self.shut().await;
        }
    }

    /// Says goodbye to the transport.
    pub async fn shut(&mut self) {
        self.link.shut().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    #[tokio::test]
    async fn what_tells_nothing_by_itself_goes_out_with_what_does() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut client = Client::new(Box::new(ours), BytesMut::new());
        let say = |client: &mut Client, can_wait: bool| {
            client.out().extend_from_slice(b"bound");
            if can_wait {
                client.can_wait(5);
            }
            client.is_awaited()
        };
        assert!(!client.is_awaited());
        assert_eq!([true, true, false, true].map(|can_wait| say(&mut client, can_wait)), [false, false, true, true]);
        client.flush().await.expect("room");
        assert!(!client.is_awaited());
        assert!(!say(&mut client, true));
        // The client has asked for it.
        client.awaits_all();
        assert!(client.is_awaited());
    }

    /// Takes everything, and keeps it.
    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn what_a_layer_below_still_holds_is_awaited() {
        let mut client = Client::new(Box::new(Stuck), BytesMut::new());
        client.out().extend_from_slice(b"ready");
        client.push().await.expect("taken");
        assert!(client.out().is_empty() && client.is_awaited());
    }
}
