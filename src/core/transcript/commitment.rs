//! Commitments: keyed hashes that let both sides show they saw the same content.
//!
//! A plain hash of `select * from t where ssn = '…'` could be guessed by trying all numbers; with a
//! random key per session nobody without the key can try. The key reaches the client under TLS.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::core::encoding;

/// What a commitment is about; two domains never give equal commitments for equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The text of a statement, redacted.
    Statement,
    /// Bound parameters.
    Parameters,
    /// Rows as delivered, after masking.
    Rows,
    /// Data of a COPY.
    Copy,
    /// Text of an error.
    Error,
    /// The session's name: shows that both sides hold the same key.
    Key,
}

impl Domain {
    /// The prefix of the hashed bytes.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Statement => "dbgate/stmt/v1",
            Self::Parameters => "dbgate/par/v1",
            Self::Rows => "dbgate/rows/v1",
            Self::Copy => "dbgate/copy/v1",
            Self::Error => "dbgate/err/v1",
            Self::Key => "dbgate/key/v1",
        }
    }
}

/// The key of one session's commitments, as the state of a MAC that has taken it in: a commitment
/// begins with a copy. Zeroed on drop (the features `zeroize` of hmac and sha2), never printed.
#[derive(Clone)]
pub struct SessionKey {
    mac: Hmac<Sha256>,
    /// The commitment to no rows: most writes return none.
    no_rows: [u8; 32],
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[session key]")
    }
}

impl SessionKey {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        let mac = Hmac::new_from_slice(bytes.as_slice()).expect("HMAC takes keys of any length");
        let mut key = Self { mac, no_rows: [0; 32] };
        key.no_rows = RowsDigest::new(&key).commitment();
        key
    }

    /// The commitment to a result without rows.
    pub const fn no_rows(&self) -> [u8; 32] {
        self.no_rows
    }

    /// HMAC-SHA256 over the domain, a zero byte and `bytes`, in hex.
    pub fn commit(&self, domain: Domain, bytes: &[u8]) -> String {
        encoding::hex(&self.commitment(domain, bytes))
    }

    /// The same in bytes.
    pub fn commitment(&self, domain: Domain, bytes: &[u8]) -> [u8; 32] {
        let mut mac = self.begin(domain);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// Commits to the session's own name: equal on both sides if and only if the keys are.
    pub fn check_value(&self, session: &str) -> String {
        self.commit(Domain::Key, session.as_bytes())
    }

    fn begin(&self, domain: Domain) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(domain.word().as_bytes());
        mac.update(&[0]);
        mac
    }
}

/// A commitment to the rows of one result, fed row by row so that memory stays flat.
///
/// Hashed are the bodies of the DataRow messages as delivered (they delimit themselves: a count,
/// then a length before every value), then the number of rows as eight bytes, big-endian.
#[derive(Clone)]
pub struct RowsDigest {
    mac: Hmac<Sha256>,
    rows: u64,
    bytes: u64,
}

impl RowsDigest {
    pub fn new(key: &SessionKey) -> Self {
        Self::in_domain(key, Domain::Rows)
    }

    /// The same for the CopyData bodies of a COPY.
    pub fn for_copy(key: &SessionKey) -> Self {
        Self::in_domain(key, Domain::Copy)
    }

    fn in_domain(key: &SessionKey, domain: Domain) -> Self {
        Self { mac: key.begin(domain), rows: 0, bytes: 0 }
    }

    /// Takes in the body of one DataRow message (or CopyData message).
    pub fn row(&mut self, data_row_body: &[u8]) {
        self.rows = self.rows.saturating_add(1);
        self.piece(data_row_body);
    }

    /// Takes in what more there is of the body of a row that has begun.
    pub fn piece(&mut self, bytes: &[u8]) {
        self.mac.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// Takes in one row by its values, for a client whose driver hides the message: the body is
    /// put together again as the protocol defines it.
    pub fn values<'a>(&mut self, values: impl ExactSizeIterator<Item = Option<&'a [u8]>>) {
        let mut body = Vec::with_capacity(64);
        body.extend_from_slice(&u16::try_from(values.len()).unwrap_or(u16::MAX).to_be_bytes());
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(bytes) => {
                    body.extend_from_slice(&i32::try_from(bytes.len()).unwrap_or(i32::MAX).to_be_bytes());
                    body.extend_from_slice(bytes);
                }
            }
        }
        self.row(&body);
    }

    /// Rows taken in so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of their bodies.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The commitment in hex.
    pub fn finish(self) -> String {
        encoding::hex(&self.commitment())
    }

    /// The same in bytes.
    pub fn commitment(mut self) -> [u8; 32] {
        self.mac.update(&self.rows.to_be_bytes());
        self.mac.finalize().into_bytes().into()
    }
}
