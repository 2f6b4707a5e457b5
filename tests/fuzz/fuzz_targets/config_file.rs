//! See `chatnode::fuzz::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Each of the processes that run side by side has its own.
    let file = std::env::temp_dir().join(format!("chatnode-fuzz-{}.toml", std::process::id()));
    chatnode::fuzz::config_file(&file, bytes);
});
