//! Messages a client sends: reading them at the gateway, writing them towards a server.

use bytes::{BufMut, BytesMut};

use super::frame::{self, Message, WireError, put_text};
use super::reader::Reader;

/// A client message after sign-in, as far as the gateway looks into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend<'a> {
    Query(&'a str),
    /// `types` are the parameter types as they came: four bytes each, 0 where left open.
    Parse {
        name: &'a str,
        sql: &'a str,
        types: &'a [u8],
    },
    Bind {
        portal: &'a str,
        statement: &'a str,
        parameters: &'a [u8],
    },
    Describe {
        what: Named,
        name: &'a str,
    },
    Execute {
        portal: &'a str,
        rows: i32,
    },
    Close {
        what: Named,
        name: &'a str,
    },
    Flush,
    Sync,
    CopyData,
    CopyDone,
    CopyFail,
    Terminate,
    FunctionCall,
}

/// What Describe and Close name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Statement,
    Portal,
}

/// Reads a client message. An unknown type is an error: what cannot be read is not forwarded.
pub fn parse(message: &Message) -> Result<Frontend<'_>, WireError> {
    let mut body = Reader::new(message.tag, &message.body);
    let parsed = match message.tag {
        b'Q' => Frontend::Query(body.text()?),
        b'P' => {
            let (name, sql) = (body.text()?, body.text()?);
            let count = body.count()?;
            Frontend::Parse { name, sql, types: body.bytes(count * 4)? }
        }
        b'B' => {
            let (portal, statement) = (body.text()?, body.text()?);
            let parameters = body.rest();
            skip_bind(&mut body)?;
            Frontend::Bind { portal, statement, parameters }
        }
        b'D' => Frontend::Describe { what: named(&mut body, message.tag)?, name: body.text()? },
        b'E' => Frontend::Execute { portal: body.text()?, rows: body.i32()? },
        b'C' => Frontend::Close { what: named(&mut body, message.tag)?, name: body.text()? },
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'd' => return Ok(Frontend::CopyData),
        b'c' => Frontend::CopyDone,
        b'f' => return Ok(Frontend::CopyFail),
        b'X' => Frontend::Terminate,
        b'F' => return Ok(Frontend::FunctionCall),
        other => return Err(WireError::Unexpected { tag: other.into() }),
    };
    body.end()?;
    Ok(parsed)
}

/// Whether these are the formats, values and result formats of a Bind, and nothing else.
pub fn are_bound(parameters: &[u8]) -> bool {
    let mut body = Reader::new(b'B', parameters);
    skip_bind(&mut body).and_then(|()| body.end()).is_ok()
}

/// Whether these parameters of a Bind hold a value, or cannot be read.
pub fn has_values(parameters: &[u8]) -> bool {
    skip_values(&mut Reader::new(b'B', parameters)).ok() != Some(0)
}

/// Walks formats, values and result formats of a Bind, so that a malformed one is refused here.
fn skip_bind(body: &mut Reader<'_>) -> Result<(), WireError> {
    skip_values(body)?;
    let results = body.count()?;
    body.bytes(results * 2)?;
    Ok(())
}

/// Walks formats and values; how many values there are.
fn skip_values(body: &mut Reader<'_>) -> Result<usize, WireError> {
    let formats = body.count()?;
    body.bytes(formats * 2)?;
    let count = body.count()?;
    (0..count).try_for_each(|_| body.value().map(|_| ()))?;
    Ok(count)
}

/// Types of a Parse, formats and values of a Bind, in one piece: all of them that changes what a
/// statement does. Result formats do not. Nothing where no value is bound, or nothing at all.
pub fn bound(types: &[u8], parameters: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
    if parameters.is_empty() {
        return Ok(None);
    }
    let mut body = Reader::new(b'B', parameters);
    if skip_values(&mut body)? == 0 {
        return Ok(None);
    }
    let values = parameters.get(..parameters.len() - body.rest().len()).unwrap_or_default();
    let count = u16::try_from(types.len() / 4).unwrap_or(u16::MAX);
    Ok(Some([&count.to_be_bytes(), types, values].concat()))
}

/// The types and the rest of a Bind out of what [`bound`] made; results come back as text.
pub fn unbound(bound: &[u8]) -> Result<(Vec<u32>, Vec<u8>), WireError> {
    let mut body = Reader::new(b'B', bound);
    let count = body.count()?;
    let types = types(body.bytes(count * 4)?)?;
    let values = body.rest();
    skip_values(&mut body)?;
    body.end()?;
    Ok((types, [values, &[0, 0]].concat()))
}

/// The same for values that are given as text, of types that are left open.
pub fn bound_texts(values: &[String]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_i16(0);
    put_texts(values.iter().map(|value| Some(value.as_str())), &mut body);
    body.to_vec()
}

/// No formats, which is text for all, and the values.
fn put_texts<'v>(values: impl ExactSizeIterator<Item = Option<&'v str>>, body: &mut BytesMut) {
    body.put_i16(0);
    body.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
    for value in values {
        match value {
            None => body.put_i32(-1),
            Some(text) => {
                body.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
                body.put_slice(text.as_bytes());
            }
        }
    }
}

/// OIDs as they lie in a Parse.
pub fn types(bytes: &[u8]) -> Result<Vec<u32>, WireError> {
    let mut body = Reader::new(b'P', bytes);
    (0..bytes.len() / 4).map(|_| body.u32()).collect()
}

fn named(body: &mut Reader<'_>, tag: u8) -> Result<Named, WireError> {
    match body.u8()? {
        b'S' => Ok(Named::Statement),
        b'P' => Ok(Named::Portal),
        _ => Err(WireError::Unexpected { tag: tag.into() }),
    }
}

/// A simple query.
pub fn query(sql: &str, out: &mut BytesMut) {
    frame::write(out, b'Q', |body| put_text(body, sql));
}

/// Parse without parameter types.
pub fn parse_statement(name: &str, sql: &str, out: &mut BytesMut) {
    parse_typed(name, sql, &[], out);
}

/// Parse with the parameter types of the client's own Parse: the bytes after its text.
pub fn parse_typed(name: &str, sql: &str, types: &[u32], out: &mut BytesMut) {
    frame::write(out, b'P', |body| {
        put_text(body, name);
        put_text(body, sql);
        body.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        types.iter().for_each(|oid| body.put_u32(*oid));
    });
}

/// Bind of text parameters; results come back as text.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>], out: &mut BytesMut) {
    frame::write(out, b'B', |body| {
        put_text(body, portal);
        put_text(body, statement);
        put_texts(parameters.iter().copied(), body);
        body.put_i16(0);
    });
}

/// Bind with formats, values and result formats as they came from elsewhere.
pub fn bind_raw(portal: &str, statement: &str, parameters: &[u8], out: &mut BytesMut) {
    frame::write(out, b'B', |body| {
        put_text(body, portal);
        put_text(body, statement);
        body.put_slice(parameters);
    });
}

/// Describe of a statement or portal.
pub fn describe(what: Named, name: &str, out: &mut BytesMut) {
    frame::write(out, b'D', |body| {
        body.put_u8(letter(what));
        put_text(body, name);
    });
}

/// Execute; 0 rows means all.
pub fn execute(portal: &str, rows: i32, out: &mut BytesMut) {
    frame::write(out, b'E', |body| {
        put_text(body, portal);
        body.put_i32(rows);
    });
}

/// Close of a statement or portal.
pub fn close(what: Named, name: &str, out: &mut BytesMut) {
    frame::write(out, b'C', |body| {
        body.put_u8(letter(what));
        put_text(body, name);
    });
}

const fn letter(what: Named) -> u8 {
    match what {
        Named::Statement => b'S',
        Named::Portal => b'P',
    }
}

pub fn flush(out: &mut BytesMut) {
    frame::write(out, b'H', |_| ());
}

pub fn sync(out: &mut BytesMut) {
    frame::write(out, b'S', |_| ());
}

pub fn terminate(out: &mut BytesMut) {
    frame::write(out, b'X', |_| ());
}

pub fn copy_data(bytes: &[u8], out: &mut BytesMut) {
    frame::write(out, b'd', |body| body.put_slice(bytes));
}

pub fn copy_done(out: &mut BytesMut) {
    frame::write(out, b'c', |_| ());
}

pub fn copy_fail(why: &str, out: &mut BytesMut) {
    frame::write(out, b'f', |body| put_text(body, why));
}

/// SASLInitialResponse: the mechanism and the first message.
pub fn sasl_initial(mechanism: &str, first: &str, out: &mut BytesMut) {
    frame::write(out, b'p', |body| {
        put_text(body, mechanism);
        body.put_i32(i32::try_from(first.len()).unwrap_or(i32::MAX));
        body.put_slice(first.as_bytes());
    });
}

/// SASLResponse.
pub fn sasl_response(text: &str, out: &mut BytesMut) {
    frame::write(out, b'p', |body| body.put_slice(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(write: impl FnOnce(&mut BytesMut)) -> Message {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        frame::take(&mut bytes, 1000).expect("well formed").expect("whole")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let message = read_back(|out| parse_typed("s1", "select $1", &[23], out));
        let types = [0, 0, 0, 23];
        assert_eq!(parse(&message), Ok(Frontend::Parse { name: "s1", sql: "select $1", types: &types }));
        let message = read_back(|out| bind("p", "s1", &[Some("1"), None], out));
        assert!(matches!(parse(&message), Ok(Frontend::Bind { portal: "p", statement: "s1", .. })));
        let message = read_back(|out| execute("p", 5, out));
        assert_eq!(parse(&message), Ok(Frontend::Execute { portal: "p", rows: 5 }));
    }

    #[test]
    fn what_is_bound_holds_types_formats_and_values_and_no_result_formats() {
        let message = read_back(|out| bind("", "", &[Some("1"), None], out));
        let Ok(Frontend::Bind { parameters, .. }) = parse(&message) else { panic!("a Bind") };
        let whole = bound(&[0, 0, 0, 23], parameters).expect("well formed").expect("values");
        assert_eq!(unbound(&whole), Ok((vec![23], parameters.to_vec())));
        let with_formats = [&parameters[..parameters.len() - 2], &[0, 1, 0, 1]].concat();
        assert_eq!(bound(&[0, 0, 0, 23], &with_formats), Ok(Some(whole.clone())), "binary results are the same");
        assert_ne!(bound(&[], parameters), Ok(Some(whole)));
        let nothing = read_back(|out| bind("", "", &[], out));
        let Ok(Frontend::Bind { parameters, .. }) = parse(&nothing) else { panic!("a Bind") };
        assert_eq!(bound(&[], parameters), Ok(None));
        let given = bound_texts(&["1".into(), "".into()]);
        let (types, parameters) = unbound(&given).expect("well formed");
        assert_eq!(bound(&[], &parameters), Ok(Some(given)));
        assert!(types.is_empty());
        assert!(unbound(&[0, 1, 0]).is_err());
    }

    #[test]
    fn unknown_short_and_trailing_messages_are_refused() {
        let message = |tag, body: &'static [u8]| Message { tag, body: body.into() };
        assert!(parse(&message(b'z', b"")).is_err());
        assert!(parse(&message(b'Q', b"select 1")).is_err());
        assert!(parse(&message(b'S', b"x")).is_err());
        assert!(parse(&message(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0")).is_err());
    }
}
