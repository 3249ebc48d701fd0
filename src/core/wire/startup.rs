//! What a client says first: a request for TLS, a cancel request, or the startup message.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, BytesMut};

use super::frame::{WireError, put_text};
use super::reader::Reader;

/// The longest startup packet PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
pub const LONGEST: usize = 10_000;

/// The newest minor version of protocol 3 that the gateway speaks.
pub const NEWEST_MINOR: i32 = 2;
/// From this minor version on a cancel key may be long.
pub const LONG_KEYS: i32 = 2;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    TlsRequest,
    GssRequest,
    Cancel { process: i32, secret: Vec<u8> },
    Startup(Startup),
}

/// A startup message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Minor protocol version asked for; the major version is 3.
    pub minor: i32,
    /// `user`, `database`, settings, in order of name.
    pub parameters: BTreeMap<String, String>,
}

/// Takes the first packet off `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// When it is too long, of an unknown protocol, or not well formed.
pub fn take(buffer: &mut BytesMut) -> Result<Option<First>, WireError> {
    let Some((header, _)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*header);
    let whole = usize::try_from(length).ok().filter(|l| *l >= 8).ok_or(WireError::BadLength(length))?;
    if whole > LONGEST {
        return Err(WireError::TooLong { length: whole, limit: LONGEST });
    }
    if buffer.len() < whole {
        return Ok(None);
    }
    let mut packet = buffer.split_to(whole);
    packet.advance(4);
    let mut body = Reader::new(b'0', &packet);
    match body.i32()? {
        80_877_103 => Ok(Some(First::TlsRequest)),
        80_877_104 => Ok(Some(First::GssRequest)),
        80_877_102 => Ok(Some(First::Cancel { process: body.i32()?, secret: body.rest().to_vec() })),
        version if version >> 16 == 3 => Ok(Some(First::Startup(startup(version & 0xffff, body)?))),
        _ => Err(WireError::Unexpected { tag: '0' }),
    }
}

fn startup(minor: i32, mut body: Reader<'_>) -> Result<Startup, WireError> {
    let mut parameters = BTreeMap::new();
    loop {
        let name = body.text()?;
        if name.is_empty() {
            break;
        }
        // A name given twice could be read one way here and another way upstream.
        if parameters.insert(name.to_owned(), body.text()?.to_owned()).is_some() {
            return Err(WireError::Unexpected { tag: '0' });
        }
    }
    body.end()?;
    Ok(Startup { minor, parameters })
}

/// Writes a startup message for protocol 3.0.
pub fn write(parameters: &[(&str, &str)], out: &mut BytesMut) {
    write_version(0, parameters, out);
}

/// Writes a startup message for a minor version of protocol 3.
pub fn write_version(minor: i32, parameters: &[(&str, &str)], out: &mut BytesMut) {
    let start = out.len();
    out.put_i32(0);
    out.put_i32(0x0003_0000 | minor);
    for (name, value) in parameters {
        put_text(out, name);
        put_text(out, value);
    }
    out.put_u8(0);
    let length = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Writes the request for TLS.
pub fn write_tls_request(out: &mut BytesMut) {
    out.put_i32(8);
    out.put_i32(80_877_103);
}

/// Writes a cancel request.
pub fn write_cancel(process: i32, secret: &[u8], out: &mut BytesMut) {
    out.put_i32(i32::try_from(secret.len() + 12).unwrap_or(i32::MAX));
    out.put_i32(80_877_102);
    out.put_i32(process);
    out.put_slice(secret);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_message_is_read_back_as_written() {
        let mut bytes = BytesMut::new();
        write(&[("user", "ana"), ("database", "demo")], &mut bytes);
        let Ok(Some(First::Startup(startup))) = take(&mut bytes) else { panic!("no startup") };
        assert_eq!(startup.minor, 0);
        assert_eq!(startup.parameters.get("user").map(String::as_str), Some("ana"));
    }

    #[test]
    fn a_parameter_given_twice_and_other_protocols_are_refused() {
        let mut bytes = BytesMut::new();
        write(&[("user", "ana"), ("user", "root")], &mut bytes);
        assert!(take(&mut bytes).is_err());
        let mut old = BytesMut::from(&[0, 0, 0, 8, 0, 2, 0, 0][..]);
        assert!(take(&mut old).is_err());
    }
}
