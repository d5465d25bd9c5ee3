//! Which processes are traced, and what each of them is: everything here is read from procfs, is
//! bounded, and takes a process that goes away half-way for the normal case it is.
//!
//! ```text
//! exec, exit, first record ─▶ Processes (one Snapshot per process) ─▶ Targets (Verdict)
//!                                              └─▶ resource (who a span belongs to)
//! ```
//!
//! Every reader takes the path procfs is mounted at, so that an agent in a container can be given
//! the host's, and tests a tree of their own.

#![forbid(unsafe_code)]

pub mod cache;

pub mod code;

pub mod container;

pub mod elf;

pub mod files;

pub mod glob;

pub mod go;

pub mod goroutine;

pub mod image;
pub mod jvm;
pub mod mapped;
pub mod node;

pub mod own;

pub mod pclntab;

pub mod pods;

pub mod ports;

pub mod process;

pub mod python;

pub mod runtime;

pub mod scan;

pub mod selection;

pub mod targets;

pub mod tls;

pub mod users;

pub mod uvloop;

pub use own::Own;
pub use process::Snapshot;
pub use scan::Processes;
pub use selection::{Reason, Selector, Verdict};
pub use targets::Targets;

/// Where procfs is mounted unless told otherwise.
pub const PROC: &str = "/proc";

#[cfg(test)]
pub mod fixture;

#[cfg(test)]
mod tests;
