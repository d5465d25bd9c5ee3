//! The kernel side of spantap: programs and maps. Built for the bpf target by agent/build.rs; on
//! any other target it is an empty program, so that the whole workspace builds with stock tools.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(not(target_arch = "bpf"))]
fn main() {}
