//! Real parts to test against: a PostgreSQL of our own, and `dbgate` as a process.

pub mod dbgate;
pub mod postgres;
