//! Bytes that are almost right: real ones, cut, doubled, spliced and bitten. A short round with every `cargo test`, which `proptest` makes
//! small when it finds something; `scripts/fuzz` goes on for minutes. What was found worth keeping by the engine is fed as it is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::Instant;

use super::{bus_message, client_frame, config_file, upstream};

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

const STREAMS: [&[u8]; 6] = [
    b"data: {\"choices\":[{\"delta\":{\"content\":\"Xin ch\xc3\xa0o \xf0\x9f\x91\x8b\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
    b": OPENROUTER PROCESSING\r\n\r\nid: 7\r\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null},\"finish_reason\":null}]}\r\n\r\ndata: {\"error\":{\"message\":\"overloaded\",\"code\":503}}\r\n\r\n",
    b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    b"{\"message\":{\"role\":\"assistant\",\"content\":\"a\",\"thinking\":\"b\"},\"done\":false}\n{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":5,\"eval_count\":2}\n",
    b"{\"choices\":[{\"message\":{\"content\":\"whole\"},\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}",
    b"<html><body><h1>502 Bad Gateway</h1></body></html>",
];

const FILES: [&[u8]; 3] = [
    include_bytes!("../../config/chatnode.toml"),
    b"[[models]]\nid = \"a\"\nprovider = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\napi_key = \"k\"\n[[models.fallbacks]]\nprovider = \"ollama\"\n",
    b"[cluster]\nredis_url = \"redis://user:pass@host:1\"\nnats_url = \"nats://t@host\"\nprefix = \"p\"\n[traces]\nurl = \"http://c\"\nshare_percent = 7\n",
];

#[test]
fn no_bytes_of_a_client_break_a_gateway() {
    let golden = include_str!("../../tests/golden/client.json");
    let samples: Vec<&[u8]> =
        golden.lines().map(|line| line.trim().trim_end_matches(',').as_bytes()).filter(|line| line.len() > 2).collect();
    assert!(samples.len() > 8, "real frames");
    feed("client_frame", &samples, client_frame);
}

#[test]
fn no_bytes_of_the_bus_break_a_node() {
    let recorded: Vec<(String, String)> =
        serde_json::from_str(include_str!("../../tests/golden/version_1/bus.json")).expect("subjects and payloads");
    let mut samples: Vec<&[u8]> = recorded.iter().map(|(_, payload)| payload.as_bytes()).collect();
    samples.push(b"!gen_01jq8z5x9k3m7n2p4r6s8t0v1w0000000000000002 1-6 1-7 t 42 1795453415323000\nXin ch\xc3\xa0o");
    feed("bus_message", &samples, bus_message);
}

#[test]
fn no_bytes_of_an_upstream_break_the_reader() {
    feed("upstream", &STREAMS, upstream);
}

#[test]
fn no_bytes_of_a_file_break_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("my.toml");
    feed("config_file", &FILES, |bytes| config_file(&file, bytes));
}

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

/// Feeds `check` with what is kept in `tests/fuzz/corpus`, then with mutations of these samples. It fails by panicking.
#[expect(clippy::disallowed_methods, reason = "scripts/fuzz tells a test how long to go on")]
fn feed(target: &str, samples: &[&[u8]], check: impl Fn(&[u8])) {
    kept(target).iter().for_each(|bytes| check(bytes));
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

fn kept(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(corpus).expect("each target has a corpus");
    files.map(|file| fs::read(file.expect("a file").path()).expect("its bytes")).collect()
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
