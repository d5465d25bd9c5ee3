//! What the Kubernetes API says of the pods on this node, and of the Services that they call.
//!
//! ```text
//! kube-apiserver ─ watch ─▶ api (as sent) ─▶ pod, peers (what is kept) ─▶ Cluster ─▶ target (selection)
//!                                                                              └──▶ resource, span
//! ```
//!
//! [`Cluster`] is what others ask: it does no I/O, never waits, and keeps the last known state while the
//! API is away. Only [`watch`] and [`once()`] speak to the API, by kube-rs, which is named nowhere else.

#![forbid(unsafe_code)]

mod api;
mod cluster;
mod once;
mod peers;
mod pod;
pub mod watch;

pub use cluster::{Cluster, Node};
pub use once::once;
pub use peers::{Addresses, Kind, Peer};
pub use pod::{Container, Owner, Pod, RESOURCE, TRACE};
