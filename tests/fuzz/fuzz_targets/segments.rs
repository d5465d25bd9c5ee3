//! libFuzzer's way into `entry::segments`.
#![no_main]

#[path = "../entry.rs"]
#[allow(dead_code, reason = "each target uses one entry")]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::segments(data));
