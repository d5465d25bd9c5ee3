//! What the kernel side and the agent share: the records that cross the ring buffers, the map
//! values, the globals and the counters, each written once, here; and what of the kernel side can be
//! tested without a kernel.
//!
//! The library is `no_std` for the bpf target and holds no program; those are in `main.rs`.
#![cfg_attr(target_arch = "bpf", no_std, feature(asm_experimental_arch))]

pub mod abi;
pub mod budget;
pub mod header;
pub mod key;
pub mod option;
