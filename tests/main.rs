//! All integration tests in one binary: one link, and servers that are started once.
#![expect(clippy::disallowed_methods, reason = "a test spawns its actors itself and waits for them")]
#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod chaos;
mod conformance;
mod harness;
mod scenarios;
mod supply;
mod tidy;
