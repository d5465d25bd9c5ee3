//! The kernel side, loaded and attached. The only stage that names `aya`, and the only one with
//! unsafe code.

pub mod btf;
pub mod object;
