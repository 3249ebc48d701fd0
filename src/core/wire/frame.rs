//! Cutting a byte stream into messages: one type byte, a length that counts itself, a body.
//!
//! A message longer than the limit is an error before a byte of it is kept: a peer cannot make
//! us hold more than one message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest message taken from a server: PostgreSQL itself never sends more (1 GiB less one).
pub const LONGEST_FROM_SERVER: usize = 0x3fff_ffff;
/// The longest of what a server says beside rows and data of COPY, which nobody would read to its end: an error
/// quotes the value that it is about, whole.
pub const LONGEST_WORDS: usize = 16 * 1024 * 1024;
/// The longest message taken from a client that has signed in.
pub const LONGEST_FROM_CLIENT: usize = 64 * 1024 * 1024;
/// The longest message taken from a client that has not: a password exchange is short.
pub const LONGEST_BEFORE_LOGIN: usize = 10_000;

/// One message: its type byte and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Bytes,
}

impl Message {
    /// Appends the message as it travels.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, self.tag, |body| body.put_slice(&self.body));
    }

    /// How many bytes it takes on the wire.
    pub fn wire_length(&self) -> usize {
        self.body.len() + 5
    }
}

/// A message that still lies in the buffer it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    pub tag: u8,
    pub body: &'a [u8],
}

impl View<'_> {
    /// Appends the message as it travels.
    pub fn write(&self, out: &mut BytesMut) {
        write(out, self.tag, |body| body.put_slice(self.body));
    }

    /// How many bytes it takes on the wire.
    pub const fn wire_length(&self) -> usize {
        self.body.len() + 5
    }
}

/// What is wrong with a peer's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    TooLong { length: usize, limit: usize },
    #[error("invalid message length {0}")]
    BadLength(i32),
    #[error("message `{tag}` ends too early")]
    Short { tag: char },
    #[error("message `{tag}` has {extra} bytes too many")]
    Trailing { tag: char, extra: usize },
    #[error("text in message `{tag}` is not UTF-8")]
    NotText { tag: char },
    #[error("unexpected message `{tag}`")]
    Unexpected { tag: char },
}

/// Takes the next whole message off the front of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// When the length is impossible or over `limit`.
pub fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Message>, WireError> {
    let Some((tag, body)) = head(buffer, limit)? else { return Ok(None) };
    if buffer.len() < body + 5 {
        buffer.reserve(body + 5 - buffer.len());
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(Message { tag, body: buffer.split_to(body).freeze() }))
}

/// Type and body length of the message that `bytes` start with; `None` when more bytes are needed
/// to say. The body need not be there yet.
///
/// # Errors
/// When the length is impossible or over `limit`.
pub fn head(bytes: &[u8], limit: usize) -> Result<Option<(u8, usize)>, WireError> {
    let Some((header, _)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let [tag, a, b, c, d] = *header;
    let length = i32::from_be_bytes([a, b, c, d]);
    let body = usize::try_from(length).ok().and_then(|l| l.checked_sub(4)).ok_or(WireError::BadLength(length))?;
    if body > limit {
        return Err(WireError::TooLong { length: body, limit });
    }
    Ok(Some((tag, body)))
}

/// The message that `bytes` start with, where it lies; `None` while it is not whole.
///
/// # Errors
/// As [`head`].
pub fn view(bytes: &[u8], limit: usize) -> Result<Option<View<'_>>, WireError> {
    let Some((tag, length)) = head(bytes, limit)? else { return Ok(None) };
    Ok(bytes.get(5..5 + length).map(|body| View { tag, body }))
}

/// The same of what a server says.
///
/// # Errors
/// As [`head`], with [`LONGEST_FROM_SERVER`] for rows and data of COPY and [`LONGEST_WORDS`] for all else.
pub fn view_from_server(bytes: &[u8]) -> Result<Option<View<'_>>, WireError> {
    view(bytes, longest(bytes))
}

/// Takes the next message of a server off the front of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// As [`view_from_server`].
pub fn take_from_server(buffer: &mut BytesMut) -> Result<Option<Message>, WireError> {
    take(buffer, longest(buffer))
}

fn longest(bytes: &[u8]) -> usize {
    match bytes.first() {
        Some(b'D' | b'd') => LONGEST_FROM_SERVER,
        Some(_) | None => LONGEST_WORDS,
    }
}

/// Appends a message whose body `fill` writes.
pub fn write(out: &mut BytesMut, tag: u8, fill: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(tag);
    out.put_i32(0);
    fill(out);
    let length = i32::try_from(out.len() - start - 1).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start + 1..start + 5) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends text and the NUL that ends it. A NUL inside would end it early, so it is left out.
pub fn put_text(out: &mut BytesMut, text: &str) {
    text.split('\0').for_each(|part| out.put_slice(part.as_bytes()));
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_whole_and_only_when_whole() {
        let mut bytes = BytesMut::new();
        write(&mut bytes, b'Q', |body| put_text(body, "select 1"));
        let whole = bytes.clone();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(whole.get(..cut).expect("within"));
            assert_eq!(view(&part, 100), Ok(None), "cut at {cut}");
            assert_eq!(take(&mut part, 100), Ok(None), "cut at {cut}");
        }
        let seen = view(&whole, 100).expect("well formed").expect("whole");
        assert_eq!((seen.tag, seen.body, seen.wire_length()), (b'Q', b"select 1\0".as_ref(), whole.len()));
        let message = take(&mut bytes, 100).expect("well formed").expect("whole");
        assert_eq!((message.tag, message.body.as_ref()), (b'Q', b"select 1\0".as_ref()));
        assert!(bytes.is_empty());
    }

    #[test]
    fn impossible_and_oversized_lengths_are_refused_before_the_body_arrives() {
        let mut tiny = BytesMut::from(&[b'Q', 0, 0, 0, 3][..]);
        assert_eq!(take(&mut tiny, 100), Err(WireError::BadLength(3)));
        let mut huge = BytesMut::from(&[b'Q', 0x7f, 0xff, 0xff, 0xff][..]);
        assert!(matches!(take(&mut huge, 100), Err(WireError::TooLong { .. })));
        let mut negative = BytesMut::from(&[b'Q', 0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(take(&mut negative, 100), Err(WireError::BadLength(-1)));
    }
}
