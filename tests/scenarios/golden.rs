//! One example of every frame, the same that the web's tests read: what is read is written back unchanged.

use std::collections::BTreeSet;

use chatnode::protocol::{CLIENT_FRAMES, ClientFrame, ServerFrame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const CLIENT: &str = include_str!("../golden/client.json");
const SERVER: &str = include_str!("../golden/server.json");
const SERVER_FRAMES: [&str; 15] = [
    "welcome",
    "accepted",
    "subscribed",
    "message",
    "conversation",
    "status",
    "delta",
    "snapshot",
    "rewind",
    "caught_up",
    "cancel_accepted",
    "finished",
    "heartbeat",
    "reconnect",
    "error",
];

/// Answers which types are there.
fn there_and_back<T: Serialize + DeserializeOwned>(examples: &str) -> BTreeSet<String> {
    let examples: Vec<Value> = serde_json::from_str(examples).expect("an array of frames");
    let kinds = examples.iter().map(|example| {
        let frame: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}: {example}"));
        assert_eq!(serde_json::to_value(frame).expect("JSON"), *example);
        example["type"].as_str().expect("a type").to_owned()
    });
    kinds.collect()
}

#[test]
fn every_client_frame_is_read_and_written_back() {
    assert_eq!(there_and_back::<ClientFrame>(CLIENT), CLIENT_FRAMES.map(str::to_owned).into());
}

#[test]
fn every_server_frame_is_read_and_written_back() {
    let mut expected: BTreeSet<String> = SERVER_FRAMES.map(str::to_owned).into();
    expected.insert("pong".to_owned());
    assert_eq!(there_and_back::<ServerFrame>(SERVER), expected);
}
