//! What people and agents type.

pub mod exit;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "server")]
pub mod target;

/// Runs the program with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    exit::Exit::Ok.into()
}
