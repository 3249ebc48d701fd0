//! demo
pub mod issuer;
