//! The machine: clock, random bytes, files, secrets, terminal, TLS, sockets.
//!
//! Nothing here decides; it carries out for `client` and `server`.

pub mod clock;
pub mod dial;
pub mod files;
pub mod http;
pub mod link;
pub mod paths;
pub mod random;
#[cfg(test)]
pub mod scratch;
pub mod secrets;
pub mod terminal;
pub mod tls;
