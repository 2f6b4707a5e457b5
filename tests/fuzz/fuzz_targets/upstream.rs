//! See `chatnode::fuzz::upstream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chatnode::fuzz::upstream(bytes));
