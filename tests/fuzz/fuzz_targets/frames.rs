//! libFuzzer's door to `drive::frames`.
#![no_main]

#[path = "../drive.rs"]
#[allow(dead_code, reason = "each target drives one way")]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::frames(data));
