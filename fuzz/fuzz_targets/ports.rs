//! Fuzzes `berth_fuzz::ports`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::ports(data));
