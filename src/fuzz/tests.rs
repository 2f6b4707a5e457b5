//! Bytes that are almost right: real ones, cut, doubled, spliced and bitten. What reads bytes from outside has a test that is fed
//! with them, and finds whatever panics. A short round with every `cargo test`; `scripts/fuzz` goes on for minutes.
//!
//! No fuzzing engine that watches the code's branches is needed for parsers of this size: `proptest` shrinks what it finds, and keeps it.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::Instant;

/// How long each target goes on, in seconds.
const SECONDS: &str = "CHATNODE_FUZZ_SECONDS";
const ROUND: u32 = 400;

/// What parsers stumble over.
const SHARDS: [&[u8]; 28] = [
    b"",
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x91",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[[[[[[[[[[[[[[[[",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"data: ",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b": ",
    b"id: \0\n",
    b"[[models]]\n",
    b"=",
    b"!",
];

#[derive(Clone, Debug)]
enum Bite {
    Cut(usize),
    Drop(usize, usize),
    Double(usize, usize),
    Set(usize, u8),
    Insert(usize, &'static [u8]),
    /// Goes on as another sample does from there.
    Splice(usize, usize, usize),
}

/// Feeds `check` with mutations of these samples. It fails by panicking.
#[expect(clippy::disallowed_methods, reason = "scripts/fuzz tells a test how long to go on")]
pub(crate) fn feed(samples: &[&[u8]], check: impl Fn(&[u8])) {
    let seconds = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    let until = Instant::now() + Duration::from_secs(seconds);
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
    let mut fed = 0;
    loop {
        let mut runner = TestRunner::new(Config { cases: ROUND, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&mutations(samples.clone()), |bytes| {
            check(&bytes);
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
        fed += ROUND;
        if Instant::now() >= until {
            println!("{fed} inputs");
            return;
        }
    }
}

fn mutations(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let whole = samples.clone();
    (select(samples), prop::collection::vec(bite(), 0..8)).prop_map(move |(mut bytes, bites)| {
        for one in bites {
            apply(&mut bytes, &one, &whole);
        }
        bytes
    })
}

fn bite() -> impl Strategy<Value = Bite> {
    prop_oneof![
        1 => any::<usize>().prop_map(Bite::Cut),
        2 => (any::<usize>(), 1..40_usize).prop_map(|(at, count)| Bite::Drop(at, count)),
        2 => (any::<usize>(), 1..40_usize).prop_map(|(at, count)| Bite::Double(at, count)),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Bite::Set(at, byte)),
        3 => (any::<usize>(), select(&SHARDS[..])).prop_map(|(at, shard)| Bite::Insert(at, shard)),
        1 => (any::<usize>(), any::<usize>(), any::<usize>()).prop_map(|(at, other, from)| Bite::Splice(at, other, from)),
    ]
}

fn apply(bytes: &mut Vec<u8>, bite: &Bite, samples: &[Vec<u8>]) {
    let place = |at: usize| at % (bytes.len() + 1);
    match *bite {
        Bite::Cut(at) => bytes.truncate(place(at)),
        Bite::Drop(at, count) => {
            let from = place(at);
            bytes.drain(from..(from + count).min(bytes.len()));
        }
        Bite::Double(at, count) => {
            let from = place(at);
            let piece = bytes[from..(from + count).min(bytes.len())].to_vec();
            bytes.splice(from..from, piece);
        }
        Bite::Set(at, byte) => {
            let at = place(at);
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        Bite::Insert(at, shard) => {
            let at = place(at);
            bytes.splice(at..at, shard.iter().copied());
        }
        Bite::Splice(at, other, from) => {
            let other = &samples[other % samples.len()];
            bytes.truncate(place(at));
            bytes.extend_from_slice(&other[from % (other.len() + 1)..]);
        }
    }
}
