//! The workstation: the seven steps of a session as the person or agent sees them.
//!
//! [`login`] signs in, [`credential`] asks the broker for a grant, [`connect`] opens the session,
//! [`check`] looks at a statement before it is sent, [`render`] shows what came back,
//! [`standing`] follows what of a script was committed, [`transcript`] keeps the client's own signed
//! record. The auditor's step is `cli::audit`.

pub mod broker;
pub mod check;
pub mod config;
pub mod connect;
pub mod credential;
pub mod issuer;
pub mod login;
pub mod render;
pub mod script;
pub mod shell;
pub mod standing;
pub mod transcript;
