//! The rules: values in, values out.
//!
//! Nothing here has a clock, randomness, a socket, a thread or global state: time and random
//! bytes come in as arguments. `tests/core_alone.rs` compiles this folder by itself.
//! Steps look backwards only: a later step may use an earlier one, never the other way round.

pub mod api;
#[cfg(feature = "server")]
pub mod approval;
pub mod audit;
pub mod claims;
pub mod encoding;
pub mod grant;
pub mod identity;
#[cfg(feature = "server")]
pub mod impact;
pub mod mask;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub mod role_sql;
#[cfg(feature = "server")]
pub mod scope;
pub mod secret;
pub mod session;
pub mod statement;
pub mod text;
#[cfg(feature = "server")]
pub mod throttle;
pub mod time;
pub mod transcript;
#[cfg(feature = "server")]
pub mod undo;
pub mod wire;
