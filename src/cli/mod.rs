//! What people and agents type.

pub mod exit;
pub mod failure;
pub mod login;
pub mod logout;
pub mod ls;
#[cfg(feature = "server")]
pub mod serve;
pub mod whoami;
pub mod workstation;
#[cfg(feature = "server")]
pub mod target;

/// Runs the program with the arguments of this process.
pub fn main() -> std::process::ExitCode {
    exit::Exit::Ok.into()
}
