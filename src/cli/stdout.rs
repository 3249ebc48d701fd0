//! Standard output of what runs statements: what cannot be written stops nothing, and is told at the end.

use std::io::Write as _;
use std::sync::OnceLock;

use crate::cli::exit::{Exit, Failure};

/// The first thing that could not be written. What runs goes on: its evidence is to be whole.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// A line of its own.
pub fn print(text: &str) {
    write(&format!("{text}\n"));
}

/// Text as it is.
pub fn write(text: &str) {
    write_bytes(text.as_bytes());
}

/// Bytes as they are.
pub fn write_bytes(bytes: &[u8]) {
    if LOST.get().is_none()
        && let Err(error) = std::io::stdout().write_all(bytes)
    {
        let _ = LOST.set(error);
    }
}

/// Whether all of the answer has been written: `Ok` with what the program ends with, where its reader has gone.
///
/// # Errors
/// When the system could not write.
pub fn written() -> Result<Option<Exit>, Failure> {
    if let Err(error) = std::io::stdout().flush() {
        let _ = LOST.set(error);
    }
    match LOST.get() {
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Exit::ClosedPipe)),
        Some(error) => Err(Failure::new(Exit::Failed, format!("cannot write the answer: {error}"))),
        None => Ok(None),
    }
}
