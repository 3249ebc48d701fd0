//! Real parts to test against: a PostgreSQL of our own, a gate in front of it, a certified issuer.

pub mod bench;
pub mod browser;
pub mod cluster;
pub mod dbgate;
pub mod desk;
pub mod gate;
pub mod oidc;
pub mod recorder;
pub mod requests;
pub mod scene;
pub mod served;
pub mod until;
pub mod wire;
