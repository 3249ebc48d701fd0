//! The client's side of a session: messages in, bytes out.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::session::End;
use crate::core::wire::backend::{self, ErrorFields};
use crate::core::wire::frame::{self, Message};
use crate::sys::dial::Stream;

/// How many bytes are asked for in one read.
const READ_BLOCK: usize = 16 * 1024;
/// Output is written once this much has gathered, or when nothing more is at hand.
const WRITE_BLOCK: usize = 32 * 1024;
/// A client that takes nothing for this long is gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(300);

/// A connected client.
pub struct Client {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    buffer: BytesMut,
    /// What is to be written.
    pub out: BytesMut,
    limit: usize,
}

impl Client {
    /// Over a stream that the startup packet has been read from; `buffer` is what came behind it.
    pub fn new(stream: Box<dyn Stream>, buffer: BytesMut) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader, writer, buffer, out: BytesMut::new(), limit: frame::LONGEST_BEFORE_LOGIN }
    }

    /// The client has signed in: longer messages are taken from now on.
    pub fn is_trusted(&mut self) {
        self.limit = frame::LONGEST_FROM_CLIENT;
    }

    /// The next message. Cancel safe.
    pub async fn receive(&mut self) -> Result<Message, End> {
        loop {
            if let Some(message) = frame::take(&mut self.buffer, self.limit)? {
                return Ok(message);
            }
            self.buffer.reserve(READ_BLOCK);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(End::ClientGone),
                Ok(_) => {}
            }
        }
    }

    /// Waits until the client has gone. What it sends meanwhile is kept for later. Cancel safe.
    pub async fn gone(&mut self) {
        // A client that sends this much ahead can wait until it is read.
        while self.buffer.len() < READ_BLOCK {
            self.buffer.reserve(READ_BLOCK);
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        std::future::pending().await
    }

    /// Writes what has gathered.
    pub async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let write = async {
            self.writer.write_all(&self.out).await?;
            self.writer.flush().await
        };
        let written = tokio::time::timeout(WRITE_DEADLINE, write).await;
        self.out.clear();
        match written {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::ClientGone),
        }
    }

    /// Writes only if much has gathered.
    pub async fn relieve(&mut self) -> Result<(), End> {
        if self.out.len() >= WRITE_BLOCK { self.flush().await } else { Ok(()) }
    }

    /// Queues an error.
    pub fn error(&mut self, fields: &ErrorFields) {
        backend::write_error(b'E', fields, &mut self.out);
    }

    /// Says goodbye to the transport.
    pub async fn shut(&mut self) {
        // The peer may be gone already.
        let _ = self.writer.shutdown().await;
    }
}
