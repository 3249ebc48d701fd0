//! Just-in-time access and an audited SQL shell for PostgreSQL.
//!
//! A session is seven steps, and a step keeps its word in every layer:
//!
//! 1. **login**: a person signs in with OIDC
//! 2. **credential**: the broker judges, makes a just-in-time role, hands out a short-lived credential
//! 3. **session**: a PostgreSQL connection through the gateway
//! 4. **check**: every statement is judged, locally for comfort and at the gateway for real
//! 5. **mask**: sensitive columns are not readable by the role at all; what comes back is spliced in
//! 6. **transcript**: client and gateway each keep a signed, linked record
//! 7. **audit**: anyone with the public keys can check both records offline
//!
//! Five layers, imports point one way: [`cli`], `demo` -> [`client`] | `server` -> [`sys`] -> [`core`].
//! `docs/architecture.md` tells the rest.

pub mod cli;
pub mod client;
pub mod core;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod server;
pub mod sys;
