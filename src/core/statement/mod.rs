//! Step 4, check: what a statement is, before anyone decides about it.
//!
//! [`grammar`] (PostgreSQL's own parser) is the authority and lives at the gateway;
//! [`local`] is the workstation's quick, advisory look. Both say what they saw in the same
//! [`facts::Facts`]. [`literals`] tells which texts differ in their literals only,
//! [`constants`] which in rows of them. [`splice`] puts
//! what may be seen in place of a masked relation; [`lineage`] tells what a stored query's result holds.
//! [`plain`] tells where that is not needed. [`texts`] reads SQL that functions are given as text.
//! [`reading`] has the settings by which PostgreSQL must read a text.

#[cfg(feature = "server")]
mod answers;
#[cfg(feature = "server")]
mod blocks;
#[cfg(feature = "server")]
pub mod constants;
#[cfg(feature = "server")]
mod details;
#[cfg(feature = "server")]
mod effects;
pub mod facts;
#[cfg(feature = "server")]
pub mod grammar;
pub mod joins;
#[cfg(feature = "server")]
mod leans;
#[cfg(feature = "server")]
pub mod length;
#[cfg(feature = "server")]
pub mod lineage;
#[cfg(feature = "server")]
pub mod literals;
pub mod local;
#[cfg(feature = "server")]
pub mod lock_table;
#[cfg(feature = "server")]
mod locks;
#[cfg(feature = "server")]
mod makes;
#[cfg(feature = "server")]
pub mod newer;
#[cfg(feature = "server")]
mod often;
#[cfg(feature = "server")]
pub mod plain;
#[cfg(feature = "server")]
mod predicate;
#[cfg(feature = "server")]
pub mod reading;
#[cfg(feature = "server")]
mod shape;
#[cfg(feature = "server")]
pub mod splice;
#[cfg(feature = "server")]
pub mod texts;
#[cfg(feature = "server")]
mod tree;
#[cfg(feature = "server")]
mod upkeep;
#[cfg(feature = "server")]
mod walk;
#[cfg(feature = "server")]
mod xpath;
