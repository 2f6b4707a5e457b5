//! Events for programs outside, read back from a real JetStream as such a program would read them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use chatnode::event::{Event, Happened};
use chatnode::model::Status;
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::Instant;

use crate::conformance::stage::eventually;
use crate::harness::client::{PATIENCE, Socket};
use crate::harness::node::{LEASE, Node, config};
use crate::harness::rest::Rest;
use crate::harness::servers::{Programs, World, nats_url, redis_url};

/// Nobody but the user and the model may ever see this.
const CANARY: &str = "canary-7f3a";

/// Everything in the stream until an event of that name about that conversation is there.
async fn collect(world: &World, url: &str, name: &str, conversation: &str) -> Vec<(String, Event)> {
    let client = async_nats::connect(url).await.expect("nats");
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream(format!("{}-events", world.prefix)).await.expect("the stream");
    let plan = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(plan).await.expect("a consumer");
    let mut messages = consumer.messages().await.expect("messages");
    let mut events = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let message = tokio::time::timeout_at(deadline, messages.next()).await.expect("the event comes").expect("a message");
        let message = message.expect("a message");
        let text = String::from_utf8(message.payload.to_vec()).expect("text");
        assert!(!text.contains(CANARY), "{text}");
        let event: Event = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(message.subject.as_str(), format!("{}.events.{}", world.prefix, event.what.name()));
        let last = event.what.name() == name && event.conversation.as_str() == conversation;
        events.push((event.what.name().to_owned(), event));
        if last {
            return events;
        }
    }
}

fn names(events: &[(String, Event)], conversation: &str) -> Vec<String> {
    events.iter().filter(|(_, event)| event.conversation.as_str() == conversation).map(|(name, _)| name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_gets_everything_that_happens_once_and_never_content() {
    let Some(programs) = Programs::find() else { return };
    let kept = tempfile::tempdir().expect("a directory");
    let (redis, mut nats) = (programs.redis(&[]), programs.nats(&["-js", "-sd", &kept.path().to_string_lossy()]));
    let world = World::with_events(&redis_url(&redis), &nats_url(&nats), LEASE).await;
    let node = Node::with(config("a"), &world.backends).await;
    let mut socket = Socket::open(node.address).await;

    let (question, answer) = socket.ask(json!({"content": format!("/demo tokens=30\n{CANARY}")})).await;
    let finished = socket.finished(&answer.generation.clone().expect("a generation")).await;
    let first = question.conversation.to_string();
    let events = collect(&world, &nats_url(&nats), "generation.ended", &first).await;
    let told = ["conversation.created", "generation.queued", "generation.started", "generation.ended"];
    assert_eq!(names(&events, &first), told);
    let Some((_, Event { what: Happened::Ended { answer: about, end }, .. })) = events.last() else { panic!("{events:?}") };
    assert_eq!((Some(&about.generation), &about.message), (answer.generation.as_ref(), &answer.id));
    assert_eq!((end.status, end.usage, end.length), (Status::Completed, finished.message.usage, finished.length));

    // While NATS is away events wait, and all of them arrive, once, when it is back.
    nats.kill();
    let mut health = world.backends.health.clone();
    health.wait_for(|health| !health.backplane.is_up()).await.expect("health");
    let (question, answer) = socket.ask(json!({"content": format!("/demo tokens=100000 rate=20\n{CANARY}")})).await;
    let second = question.conversation.to_string();
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 1).await;
    socket.tell(json!({"type": "cancel", "generation": generation})).await;
    assert_eq!(socket.finished(&generation).await.status, Status::Cancelled);
    let rest = Rest::of(&socket.tab, node.address);
    let removed = rest.request(reqwest::Method::DELETE, &format!("/api/conversations/{second}")).send().await.expect("an answer");
    assert_eq!(removed.status(), 204);
    nats.start();
    let events = collect(&world, &nats_url(&nats), "conversation.deleted", &second).await;
    let told = ["conversation.created", "generation.queued", "generation.started", "generation.ended", "conversation.deleted"];
    assert_eq!(names(&events, &second), told);
    let ids: BTreeSet<&str> = events.iter().map(|(_, event)| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "each once");
    assert_eq!(world.dropped.events(), 0);
    drop(node);
    world.end().await;
}

/// Who listens without a stream hears what happens meanwhile; a taken over answer says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_is_told_with_its_attempt() {
    let Some(programs) = Programs::find() else { return };
    let (redis, nats) = (programs.redis(&[]), programs.nats(&[]));
    let world = World::open(&redis_url(&redis), &nats_url(&nats), LEASE).await;
    let listener = async_nats::connect(nats_url(&nats)).await.expect("nats");
    let mut heard = listener.subscribe(format!("{}.events.>", world.prefix)).await.expect("a subscription");
    listener.flush().await.expect("subscribed");
    let first = Node::with(config("first"), &world.backends).await;
    let mut socket = Socket::open(first.address).await;
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=200 rate=200"})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 50).await;
    first.kill();
    let second = Node::with(config("second"), &world.backends).await;
    let mut told: BTreeMap<String, Event> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while !told.contains_key("generation.taken_over") {
        let message = tokio::time::timeout_at(deadline, heard.next()).await.expect("it is told").expect("a message");
        let event: Event = serde_json::from_slice(&message.payload).expect("an event");
        told.insert(event.what.name().to_owned(), event);
    }
    let Happened::TakenOver { attempt, answer } = &told["generation.taken_over"].what else { panic!("{told:?}") };
    assert_eq!((*attempt, &answer.generation), (2, &generation));
    eventually("it ends", async || {
        let state = world.backends.store.message(&generation.message()).await.ok()?;
        (!state.status.is_open()).then_some(())
    })
    .await;
    drop(second);
    tokio::time::timeout(Duration::from_secs(10), world.end()).await.expect("the world ends");
}
