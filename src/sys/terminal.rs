//! What the machine says of the terminal that standard error goes to.

use std::io::IsTerminal as _;

/// Whether somebody may read there as it comes.
pub fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Its columns, where that is known.
pub fn width() -> Option<usize> {
    let (columns, _) = terminal_size::terminal_size_of(std::io::stderr())?;
    (columns.0 > 0).then(|| usize::from(columns.0))
}
