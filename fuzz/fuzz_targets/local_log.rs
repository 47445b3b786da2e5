//! Fuzzes `berth_fuzz::local_log`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::local_log(data));
