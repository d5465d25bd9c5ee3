//! libFuzzer's door to `drive::parser`.
#![no_main]

#[path = "../drive.rs"]
#[allow(dead_code, reason = "each target drives one way")]
mod drive;

libfuzzer_sys::fuzz_target!(|data: &[u8]| drive::parser(data));
