//! Trees and notes against independent implementations; evidence files against tampering.

mod evidence;
mod formats;
