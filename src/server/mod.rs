//! Broker and gateway: the seven steps of a session as the server carries them out.
//!
//! [`identity`] verifies tokens, [`grants`] judges and makes credentials, [`scopes`] and [`roles`]
//! make what PostgreSQL enforces, [`gateway`] speaks the PostgreSQL protocol, [`check`] judges
//! statements, [`transcript`] takes in the client's record, [`audit`] keeps the log.

pub mod admins;
pub mod approvals;
pub mod audit;
pub mod catalog;
pub mod certificates;
pub mod check;
pub mod classify;
pub mod config;
pub mod decisions;
pub mod doctor;
pub mod gateway;
pub mod grants;
pub mod http;
pub mod identity;
pub mod images;
pub mod migrate;
pub mod notify;
pub mod places;
pub mod prepare;
pub mod removal;
pub mod roles;
pub mod run;
pub mod scopes;
pub mod seats;
pub mod sessions;
pub mod state;
pub mod store;
pub mod targets;
pub mod transcript;
pub mod web;
