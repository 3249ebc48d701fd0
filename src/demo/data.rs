//! The shop: data a reader believes.
