//! One machine, everything: a PostgreSQL of its own with believable data, a loopback-only issuer,
//! broker and gateway, and a walk through the main job.
//!
//! Nothing is pretended: the walk types the commands that a user would type, at the real program.
//! All of it lives in temporary folders and ends with the process, however that ends.

pub mod data;
pub mod guardian;
pub mod issuer;
pub mod postgres;
pub mod screen;
pub mod stage;
pub mod walk;
