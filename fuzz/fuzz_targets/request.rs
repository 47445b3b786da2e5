//! Fuzzes `berth_fuzz::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::request(data));
