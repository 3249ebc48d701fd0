//! Reading the fields of one message body. Nothing else in dbgate counts offsets.

use super::frame::WireError;

/// A cursor over one body. Every read checks that the bytes are there.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    tag: u8,
}

impl<'a> Reader<'a> {
    /// Over the body of a message of this type; the type only names it in errors.
    pub const fn new(tag: u8, body: &'a [u8]) -> Self {
        Self { rest: body, tag }
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.short())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(self.short())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A count: 16 bits without a sign, as PostgreSQL reads it, whatever its documentation calls them.
    pub fn count(&mut self) -> Result<usize, WireError> {
        self.array().map(|bytes| usize::from(u16::from_be_bytes(bytes)))
    }

    /// A value as in DataRow and Bind: a length, or -1 for NULL.
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            length => self.bytes(usize::try_from(length).map_err(|_| self.short())?).map(Some),
        }
    }

    /// Bytes up to a NUL, which is dropped.
    pub fn until_nul(&mut self) -> Result<&'a [u8], WireError> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(self.short())?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }

    /// UTF-8 text up to a NUL.
    pub fn text(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.until_nul()?).map_err(|_| WireError::NotText { tag: self.tag.into() })
    }

    /// Everything that is left.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(WireError::Trailing { tag: self.tag.into(), extra }),
        }
    }

    fn short(&self) -> WireError {
        WireError::Short { tag: self.tag.into() }
    }
}
