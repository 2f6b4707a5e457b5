//! What reads bytes from outside, each as a function that takes any and panics where a promise does not hold. `cargo test` feeds them
//! with real samples that were bitten, `tests/fuzz` with what an engine finds that watches the code's branches. In no program of ours.

use std::path::Path;

use crate::ai::provider::ends_once;
use crate::backend::cluster::is_hint_or_none;
use crate::config::{self, Command};
use crate::protocol::ClientFrame;

#[cfg(test)]
mod tests;

/// Whatever a client says, it is a frame or none; a frame can be said again and means the same.
///
/// # Panics
/// When that does not hold.
pub fn client_frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(frame) = serde_json::from_str::<ClientFrame>(text) {
        let again = serde_json::to_string(&frame).expect("JSON");
        assert_eq!(serde_json::from_str::<ClientFrame>(&again).expect("our own words"), frame);
    }
}

/// Whatever an upstream says, its answer ends once.
///
/// # Panics
/// When that does not hold.
pub fn upstream(bytes: &[u8]) {
    ends_once(bytes);
}

/// Whatever another node says, it is a hint or none; a hint can be said again and means the same.
///
/// # Panics
/// When that does not hold.
pub fn bus_message(bytes: &[u8]) {
    is_hint_or_none(bytes);
}

/// Whatever stands in this file: it is a configuration, or one sentence without a secret.
///
/// # Panics
/// When that does not hold, or the file can't be written.
pub fn config_file(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file that can be written");
    let path = path.to_str().expect("a name in UTF-8");
    match config::load(["chatnode", "--config", path], []) {
        Ok(Command::Run(_)) => {}
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            let text = error.to_string();
            let longest = 1_000 + path.len();
            assert!(!text.is_empty() && !text.contains('\n') && text.len() < longest, "{text:?}");
            assert!(!text.contains("pass@"), "{text}");
        }
    }
}
