//! Fuzzes `berth_fuzz::resolv_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::resolv_conf(data));
