//! Messages a server sends: reading them, and writing the ones the gateway makes itself.

use bytes::{BufMut, BytesMut};

use super::frame::{self, WireError, put_text};
use super::reader::Reader;

pub use super::frame::Message;

/// One column of a RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub table_oid: u32,
    pub attribute: i16,
    pub type_oid: u32,
    pub type_size: i16,
    pub type_modifier: i32,
    /// 0 text, 1 binary.
    pub format: i16,
}

/// Reads a RowDescription body.
pub fn row_description(body: &[u8]) -> Result<Vec<Field>, WireError> {
    let mut reader = Reader::new(b'T', body);
    let count = reader.count()?;
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        fields.push(Field {
            name: String::from_utf8_lossy(reader.until_nul()?).into_owned(),
            table_oid: reader.u32()?,
            attribute: reader.i16()?,
            type_oid: reader.u32()?,
            type_size: reader.i16()?,
            type_modifier: reader.i32()?,
            format: reader.i16()?,
        });
    }
    reader.end()?;
    Ok(fields)
}

/// Reads a ParameterDescription body.
pub fn parameter_types(body: &[u8]) -> Result<Vec<u32>, WireError> {
    let mut reader = Reader::new(b't', body);
    let count = reader.count()?;
    let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(types)
}

/// Writes a RowDescription message.
pub fn write_row_description(fields: &[Field], out: &mut BytesMut) {
    frame::write(out, b'T', |body| {
        body.put_u16(u16::try_from(fields.len()).unwrap_or(u16::MAX));
        for field in fields {
            put_text(body, &field.name);
            body.put_u32(field.table_oid);
            body.put_i16(field.attribute);
            body.put_u32(field.type_oid);
            body.put_i16(field.type_size);
            body.put_i32(field.type_modifier);
            body.put_i16(field.format);
        }
    });
}

/// Reads a DataRow body: one slice a column, `None` for NULL.
pub fn data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, WireError> {
    let mut reader = Reader::new(b'D', body);
    let count = reader.count()?;
    let values = (0..count).map(|_| reader.value()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(values)
}

/// Writes a DataRow message of text values.
pub fn write_data_row(values: &[Option<&str>], out: &mut BytesMut) {
    frame::write(out, b'D', |body| {
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
    });
}

/// Reads a CommandComplete body.
pub fn command_tag(body: &[u8]) -> Result<&str, WireError> {
    Reader::new(b'C', body).text()
}

/// Writes a CommandComplete message.
pub fn write_command_complete(tag: &str, out: &mut BytesMut) {
    frame::write(out, b'C', |body| put_text(body, tag));
}

/// Writes ReadyForQuery: `I` idle, `T` in a transaction, `E` in a failed one.
pub fn write_ready(status: u8, out: &mut BytesMut) {
    frame::write(out, b'Z', |body| body.put_u8(status));
}

/// Writes a ParameterStatus message.
pub fn write_parameter(name: &str, value: &str, out: &mut BytesMut) {
    frame::write(out, b'S', |body| {
        put_text(body, name);
        put_text(body, value);
    });
}

/// Reads a ParameterStatus body: name and value.
pub fn parameter(body: &[u8]) -> Result<(&str, &str), WireError> {
    let mut reader = Reader::new(b'S', body);
    Ok((reader.text()?, reader.text()?))
}

/// The fields of an ErrorResponse or NoticeResponse that people and programs use
/// (PostgreSQL manual, section 55.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// `ERROR`, `FATAL`, `NOTICE` and so on, never translated.
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    pub context: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
}

impl ErrorFields {
    /// Whether the session ends with it.
    pub fn is_last(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// An error with severity, SQLSTATE and message.
    pub fn error(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { severity: "ERROR".into(), sqlstate: sqlstate.into(), message: message.into(), ..Self::default() }
    }

    /// The same, but the session ends with it.
    pub fn fatal(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { severity: "FATAL".into(), ..Self::error(sqlstate, message) }
    }
}

/// The channel of a NotificationResponse.
pub fn channel(body: &[u8]) -> Result<String, WireError> {
    let mut reader = Reader::new(b'A', body);
    reader.i32()?;
    Ok(String::from_utf8_lossy(reader.until_nul()?).into_owned())
}

/// Reads an ErrorResponse or NoticeResponse body. Unknown fields are passed over, as the protocol asks.
pub fn error_fields(body: &[u8]) -> Result<ErrorFields, WireError> {
    let mut reader = Reader::new(b'E', body);
    let mut fields = ErrorFields::default();
    let mut localised = String::new();
    loop {
        let code = reader.u8()?;
        if code == 0 {
            break;
        }
        let text = String::from_utf8_lossy(reader.until_nul()?).into_owned();
        match code {
            b'S' => localised = text,
            b'V' => fields.severity = text,
            b'C' => fields.sqlstate = text,
            b'M' => fields.message = text,
            b'D' => fields.detail = Some(text),
            b'H' => fields.hint = Some(text),
            b'P' => fields.position = text.parse().ok(),
            b'W' => fields.context = Some(text),
            b's' => fields.schema = Some(text),
            b't' => fields.table = Some(text),
            b'c' => fields.column = Some(text),
            b'n' => fields.constraint = Some(text),
            _ => {}
        }
    }
    if fields.severity.is_empty() {
        fields.severity = localised;
    }
    Ok(fields)
}

/// Writes an ErrorResponse (`E`) or NoticeResponse (`N`).
pub fn write_error(tag: u8, fields: &ErrorFields, out: &mut BytesMut) {
    frame::write(out, tag, |body| {
        let mut put = |code: u8, text: &str| {
            body.put_u8(code);
            put_text(body, text);
        };
        put(b'S', &fields.severity);
        put(b'V', &fields.severity);
        put(b'C', &fields.sqlstate);
        put(b'M', &fields.message);
        let optional = [
            (b'D', &fields.detail),
            (b'H', &fields.hint),
            (b'W', &fields.context),
            (b's', &fields.schema),
            (b't', &fields.table),
            (b'c', &fields.column),
            (b'n', &fields.constraint),
        ];
        for (code, text) in optional {
            if let Some(text) = text {
                put(code, text);
            }
        }
        if let Some(position) = fields.position {
            put(b'P', &position.to_string());
        }
        body.put_u8(0);
    });
}

/// What is changed in an error or notice on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorEdit {
    pub position: Position,
    pub hides: Hides,
}

/// What an error or notice does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hides {
    Nothing,
    /// DETAIL and CONTEXT, in which PostgreSQL quotes values of rows.
    Values,
    /// The MESSAGE and its HINT as well: a function has put them together, of whatever it likes.
    Words,
}

/// What stands for a MESSAGE that is not shown.
pub const WITHHELD: &str = "a function of the database said something that may show masked columns; \
                            the server's log has it";

/// What becomes of the place in the statement that an error points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// So many characters stand before the statement in the client's text.
    Behind(u32),
    /// It is this one.
    At(u32),
    /// It counts in a text that the client has never seen.
    Dropped,
}

/// The body of an ErrorResponse or NoticeResponse, field by field as it came, changed as `edit` says.
pub fn edit_error(body: &[u8], edit: ErrorEdit) -> Result<BytesMut, WireError> {
    let mut fields = Vec::new();
    let mut reader = Reader::new(b'E', body);
    loop {
        let code = reader.u8()?;
        if code == 0 {
            break;
        }
        fields.push((code, reader.until_nul()?));
    }
    let moved = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u32>().ok();
    let (hides_values, hides_words) = (edit.hides != Hides::Nothing, edit.hides == Hides::Words);
    let mut body = BytesMut::new();
    for (code, text) in fields {
        match (code, edit.position) {
            (b'D' | b'W' | b'q', _) if hides_values => {}
            (b'H', _) if hides_words => {}
            (b'M', _) if hides_words => {
                body.put_u8(code);
                put_text(&mut body, WITHHELD);
            }
            (b'P', Position::Dropped) => {}
            (b'P', Position::At(position)) => {
                body.put_u8(code);
                put_text(&mut body, &position.to_string());
            }
            (b'P', Position::Behind(before)) if before > 0 => {
                if let Some(position) = moved(text) {
                    body.put_u8(code);
                    put_text(&mut body, &position.saturating_add(before).to_string());
                }
            }
            _ => {
                body.put_u8(code);
                body.put_slice(text);
                body.put_u8(0);
            }
        }
    }
    body.put_u8(0);
    Ok(body)
}

/// Adds a hint to the body of an error that has none.
pub fn add_hint(body: &mut BytesMut, hint: &str) {
    body.truncate(body.len().saturating_sub(1));
    body.put_u8(b'H');
    put_text(body, hint);
    body.put_u8(0);
}

/// AuthenticationOk.
pub fn write_authentication_ok(out: &mut BytesMut) {
    frame::write(out, b'R', |body| body.put_i32(0));
}

/// AuthenticationSASL with the mechanisms offered.
pub fn write_sasl(mechanisms: &[&str], out: &mut BytesMut) {
    frame::write(out, b'R', |body| {
        body.put_i32(10);
        mechanisms.iter().for_each(|name| put_text(body, name));
        body.put_u8(0);
    });
}

/// AuthenticationSASLContinue (11) or AuthenticationSASLFinal (12).
pub fn write_sasl_step(step: i32, text: &str, out: &mut BytesMut) {
    frame::write(out, b'R', |body| {
        body.put_i32(step);
        body.put_slice(text.as_bytes());
    });
}

/// BackendKeyData: a secret of 4 bytes in protocol 3.0, of up to 256 from 3.2 on.
pub fn write_key(process: i32, secret: &[u8], out: &mut BytesMut) {
    frame::write(out, b'K', |body| {
        body.put_i32(process);
        body.put_slice(secret);
    });
}

/// NegotiateProtocolVersion: the newest minor version spoken and the options not understood.
pub fn write_negotiate(minor: i32, unknown: &[String], out: &mut BytesMut) {
    frame::write(out, b'v', |body| {
        body.put_i32(0x0003_0000 | minor);
        body.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
        unknown.iter().for_each(|name| put_text(body, name));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(write: impl FnOnce(&mut BytesMut)) -> Message {
        let mut bytes = BytesMut::new();
        write(&mut bytes);
        frame::take(&mut bytes, 10_000).expect("well formed").expect("whole")
    }

    #[test]
    fn errors_and_rows_are_read_back_as_written() {
        let mut fields = ErrorFields::error("42501", "no");
        fields.detail = Some("why".into());
        fields.position = Some(7);
        assert_eq!(error_fields(&body(|out| write_error(b'E', &fields, out)).body), Ok(fields));
        let row = body(|out| write_data_row(&[Some("a"), None], out));
        assert_eq!(data_row(&row.body), Ok(vec![Some(b"a".as_ref()), None]));
        let field = Field {
            name: "id".into(),
            table_oid: 1,
            attribute: 2,
            type_oid: 23,
            type_size: 4,
            type_modifier: -1,
            format: 0,
        };
        let row = body(|out| write_row_description(std::slice::from_ref(&field), out));
        assert_eq!(row_description(&row.body), Ok(vec![field]));
    }

    #[test]
    fn an_error_is_passed_on_field_by_field() {
        let raw = b"SERROR\0VERROR\0C23505\0Mno\0Dvalue\0Wwhere\0P7\0Fx.c\0L1\0\0";
        let edited = |position, hides| edit_error(raw, ErrorEdit { position, hides }).expect("well formed");
        assert_eq!(edited(Position::Behind(0), Hides::Nothing).as_ref(), raw);
        let withheld = error_fields(&edited(Position::Behind(0), Hides::Words)).expect("an error");
        assert_eq!((withheld.message.as_str(), withheld.sqlstate.as_str()), (WITHHELD, "23505"));
        let moved = error_fields(&edited(Position::Behind(10), Hides::Values)).expect("an error");
        assert_eq!((moved.position, moved.detail, moved.context), (Some(17), None, None));
        assert_eq!(error_fields(&edited(Position::Dropped, Hides::Nothing)).expect("an error").position, None);
        assert_eq!(error_fields(&edited(Position::At(3), Hides::Nothing)).expect("an error").position, Some(3));
        assert!(edited(Position::Dropped, Hides::Values).ends_with(b"Fx.c\0L1\0\0"));
    }

    #[test]
    fn truncated_bodies_are_errors_not_panics() {
        let row = body(|out| write_data_row(&[Some("abc"), Some("d")], out));
        for cut in 0..row.body.len() {
            assert!(data_row(row.body.get(..cut).expect("within")).is_err(), "cut at {cut}");
        }
    }
}
