//! See `chatnode::fuzz::client_frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| chatnode::fuzz::client_frame(bytes));
