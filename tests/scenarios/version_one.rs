//! I21: what version 1 stored and sent, recorded once and never changed, is read and continued by today's code.
//!
//! The record is a node that was killed with one answer ended, one in the middle and one waiting. A new layout gets a new name, and this
//! record stays. No release was without blocks of entries (decision 19), so they need no second version.

use std::time::Duration;

use chatnode::ai::provider::demo;
use chatnode::backend::{Error, Hint};
use chatnode::log::{Entry, Transcript};
use chatnode::model::{GenerationId, MessageId, Position, Status};
use serde_json::{Value, json};

use crate::conformance::stage::eventually;
use crate::harness::client::{Copy, Tab};
use crate::harness::node::{LEASE, Node, config};
use crate::harness::rest::Rest;
use crate::harness::servers::{Server, World, nats_url, redis_url, shared};

const REDIS: &str = include_str!("../golden/version_1/redis.json");
const BUS: &str = include_str!("../golden/version_1/bus.json");
const STORY: &str = include_str!("../golden/version_1/story.json");
/// What all keys of the record begin with.
const PREFIX: &str = "version1:";

fn story() -> Value {
    serde_json::from_str(STORY).expect("JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn generation(value: &Value) -> GenerationId {
    GenerationId::parse(text(value)).expect("a generation")
}

/// A world that begins with what version 1 left behind.
async fn left_behind() -> Option<(&'static Server, World)> {
    let shared = shared()?;
    let world = World::open(&redis_url(&shared.redis), &nats_url(&shared.nats), LEASE).await;
    let commands: Vec<Vec<String>> = serde_json::from_str(REDIS).expect("a list of commands");
    for mut command in commands {
        command[1] = command[1].replacen(PREFIX, &format!("{}:", world.prefix), 1);
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let said = shared.redis.redis(&words);
        assert!(!said.starts_with("ERR") && !said.starts_with("WRONG"), "{words:?}: {said}");
    }
    let story = story();
    let secret = text(&story["secret"]);
    let byte = |at: usize| u8::from_str_radix(&secret[at..at + 2], 16).expect("hex");
    let secret: Vec<u8> = (0..secret.len()).step_by(2).map(byte).collect();
    let kept = world.backends.store.secret("cookie", &secret).await.expect("secret");
    assert_eq!(kept, secret, "it was not there before");
    Some((&shared.redis, world))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_left_behind_is_read_continued_and_finished() {
    let Some((_, world)) = left_behind().await else { return };
    let story = story();
    let (running, waiting) = (generation(&story["running"]), generation(&story["waiting"]));
    let page = world.backends.generations.read(&running, Position::START, 1 << 20).await.expect("the log");
    let mut transcript = Transcript::default();
    for (position, entry) in &page.entries {
        transcript.apply(*position, entry).expect("it follows");
    }
    assert!(matches!(page.entries[0].1, Entry::Own(_)));
    assert!(transcript.text.starts_with(text(&story["text"])) && !transcript.reasoning.is_empty());

    let mut today = config("today");
    // The record is older than anybody would wait.
    today.ai.progress_timeout = Duration::MAX;
    let node = Node::with(today, &world.backends).await;
    let ended = MessageId::parse(text(&story["ended"])).expect("a message");
    let ended = world.backends.store.message(&ended).await.expect("an ended answer");
    assert_eq!((ended.status, ended.content.as_str()), (Status::Completed, text(&story["ended_text"])));
    // The browser that was reading comes back with its old cookie and what it has.
    let known = Copy {
        text: text(&story["text"]).to_owned(),
        reasoning: transcript.reasoning.clone(),
        position: text(&story["known"]["position"]).parse().expect("a position"),
        finished: None,
    };
    let mut tab = Tab { cookie: Some(text(&story["cookie"]).to_owned()), ..Tab::default() };
    tab.copies.insert(running.clone(), known);
    let mut socket = tab.connect(node.address).await;
    socket.subscribe(text(&story["conversation"])).await;
    assert_eq!(socket.finished(&running).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&running].text, demo::text(&running, text(&story["prompt"])));
    let expected = demo::text(&waiting, text(&story["waiting_prompt"]));
    let answered = async || {
        let message = world.backends.store.message(&waiting.message()).await.expect("the waiting answer");
        (message.status == Status::Completed).then_some(message.content)
    };
    assert_eq!(eventually("the one that waited is answered", answered).await, expected);
    let rest = Rest::of(&socket.tab, node.address);
    let history = rest.got(&format!("/api/conversations/{}/messages", text(&story["conversation"]))).await;
    assert_eq!(history["items"].as_array().map(Vec::len), Some(4));
    node.leave(Duration::ZERO).await;
    world.end().await;
}

#[test]
fn its_messages_on_the_bus_are_read_and_written_as_they_were() {
    let messages: Vec<(String, String)> = serde_json::from_str(BUS).expect("a list of messages");
    assert!(messages.len() >= 8);
    for (subject, payload) in messages {
        let hint: Hint = serde_json::from_str(&payload).unwrap_or_else(|error| panic!("{subject}: {error}: {payload}"));
        let (written, sent): (Value, Value) =
            (serde_json::to_value(hint).expect("JSON"), serde_json::from_str(&payload).expect("JSON"));
        // A version may add fields, and neither rename nor drop one.
        assert!(contains(&written, &sent), "{payload}");
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|held| contains(held, value)))
        }
        (whole, part) => whole == part,
    }
}

/// Beside what today's code knows: a newer event on the bus is skipped, and a newer entry in a log stops its reader with a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_version_writes_is_skipped_or_stops_the_reader_and_is_never_guessed() {
    let Some((redis, world)) = left_behind().await else { return };
    let story = story();
    let running = generation(&story["running"]);
    assert!(
        serde_json::from_value::<Hint>(json!({"hint": "something_new", "x": 1})).is_err(),
        "the backplane drops and counts it"
    );
    let added = json!({"hint": "tail", "generation": running, "position": "1-1", "later": true});
    assert!(serde_json::from_value::<Hint>(added).is_ok(), "an added field is not in the way");
    add_what_is_newer(redis, &world, &running);
    match world.backends.generations.read(&running, Position::START, 1 << 20).await {
        Err(Error::Corrupt(reason)) => assert!(reason.contains("not of a version that this node knows"), "{reason}"),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

/// An entry of a later version, at the end of a log.
fn add_what_is_newer(redis: &Server, world: &World, generation: &GenerationId) {
    let id = generation.as_str();
    let log = format!("{}:g:{{{}}}:{}", world.prefix, &id[4..30], &id[30..]);
    assert_ne!(redis.redis(&["XLEN", &log]), "0");
    redis.redis(&["XADD", &log, "*", "2", "0", "t", "x"]);
}

/// A node that can't read a log holds on to nothing: the lease runs out for one who can, and when nobody comes the answer ends, also
/// one that somebody wants to be stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_no_node_can_read_ends_after_its_owners() {
    for cancelled in [false, true] {
        let Some((redis, world)) = left_behind().await else { return };
        let running = generation(&story()["running"]);
        add_what_is_newer(redis, &world, &running);
        if cancelled {
            world.backends.generations.cancel(&running).await.expect("a cancel");
        }
        let mut today = config("today");
        (today.ai.attempts_max, today.ai.progress_timeout) = (2, Duration::MAX);
        let node = Node::with(today, &world.backends).await;
        let ended = async || {
            let message = world.backends.store.message(&running.message()).await.expect("the answer");
            (message.status == Status::Failed).then_some(message.error)
        };
        let error = eventually("it is given up", ended).await.expect("a reason");
        assert_eq!(error.code, "attempts_exhausted");
        node.leave(Duration::ZERO).await;
        world.end().await;
    }
}
