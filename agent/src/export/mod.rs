//! Where spans leave.

pub mod json;
pub mod stdout;
pub mod text;
