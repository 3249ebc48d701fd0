//! Step 3, session: the PostgreSQL wire protocol as values (PostgreSQL manual, chapter 55).
//!
//! [`frame`] cuts bytes into messages, [`reader`] is the only place that counts offsets,
//! [`startup`] reads what a client says first, [`frontend`] and [`backend`] know the messages of
//! either side, [`scram`] is both halves of the password exchange, [`proxy`] says who is behind a load balancer.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod proxy;
pub mod reader;
pub mod scram;
pub mod startup;
