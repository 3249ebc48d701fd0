//! Compiles `src/core` by itself: an import of any other layer is refused by the compiler, before
//! any test runs. There is nothing to execute.

#![expect(unused, reason = "the rules are compiled here, not used")]

#[path = "../src/core/mod.rs"]
pub mod core;

fn main() {}
