//! Coming back: with what is current, behind, ahead, a lie, or of another conversation.

use std::time::Duration;

use chatnode::model::{GenerationId, Position};
use chatnode::protocol::ServerFrame;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message as Packet;

use crate::harness::client::{Socket, Tab, upgrade};
use crate::harness::node::{Node, config, world};
use crate::harness::rest::Rest;

fn one(generation: &GenerationId, position: impl ToString, offset: usize) -> Value {
    json!([{"generation": generation, "position": position.to_string(), "offset": offset}])
}

#[tokio::test]
async fn whoever_comes_back_to_an_ended_answer_gets_what_is_missing_and_its_end() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let mut first = Socket::open(a.address).await;
    let (question, answer) = first.ask(json!({"content": "/demo tokens=60 rate=200"})).await;
    let (conversation, generation) = (question.conversation.to_string(), answer.generation.expect("a generation"));
    let mut half: Option<(Position, usize)> = None;
    first
        .until("the end", |frame, tab| {
            let copy = tab.copies.get(&generation)?;
            if copy.text.len() > 40 && half.is_none() {
                half = Some((copy.position, copy.text.len()));
            }
            matches!(frame, ServerFrame::Finished(_)).then_some(())
        })
        .await;
    let whole = first.tab.copies[&generation].clone();
    let (position, offset) = half.expect("a half");
    let behind = Tab { cookie: first.tab.cookie.clone(), ..Tab::default() };
    for node in [&a, &b] {
        // Behind: the rest, as a replay.
        let mut tab = first.tab.clone();
        let copy = tab.copies.get_mut(&generation).expect("a copy");
        (copy.position, copy.finished) = (position, None);
        copy.text.truncate(offset);
        let mut socket = tab.connect(node.address).await;
        let frames = socket.subscribe(&conversation).await;
        assert_eq!(socket.tab.copies[&generation].text, whole.text);
        let replayed = |frame: &ServerFrame| matches!(frame, ServerFrame::Delta { replay: true, .. });
        assert!(frames.iter().any(replayed), "{frames:?}");
        let length: usize =
            frames.iter().map(|frame| if let ServerFrame::Delta { text, .. } = frame { text.len() } else { 0 }).sum();
        assert_eq!(length, whole.text.len() - offset, "no byte twice");
        assert!(socket.tab.copies[&generation].finished.is_some(), "the end comes before caught_up");

        // Current: only its end.
        let mut socket = first.tab.clone().connect(node.address).await;
        let frames = socket.subscribe(&conversation).await;
        assert!(!frames.iter().any(|frame| matches!(frame, ServerFrame::Delta { .. } | ServerFrame::Snapshot { .. })));
        assert!(frames.iter().any(|frame| matches!(frame, ServerFrame::Finished(_))), "{frames:?}");

        // Ahead of the log, or with bytes that never were: the truth replaces it.
        for lie in [one(&generation, "9-9", 10), one(&generation, position, 1_000_000), one(&generation, "1-99999999", 3)] {
            let mut socket = behind.clone().connect(node.address).await;
            let frames = socket.subscribe_with(&conversation, lie.clone()).await;
            assert!(frames.iter().any(|frame| matches!(frame, ServerFrame::Snapshot { .. })), "{lie}: {frames:?}");
            assert_eq!(socket.tab.copies[&generation].text, whole.text);
        }
        // Of another conversation, or none: said nothing about.
        for other in ["gen_00000000000000000000000000aaaaaaaaaaaaaaaa", "nonsense"] {
            let mut socket = behind.clone().connect(node.address).await;
            let known = json!([{"generation": other, "position": "1-1", "offset": 1}]);
            let frames = socket.subscribe_with(&conversation, known).await;
            assert!(matches!(&frames[0], ServerFrame::Subscribed { generations, .. } if generations.is_empty()), "{frames:?}");
        }
    }
}

#[tokio::test]
async fn a_history_tells_how_to_go_on_at_the_exact_byte() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut first = Socket::open(node.address).await;
    let (question, answer) = first.ask(json!({"content": "/demo tokens=100 rate=100 reason=10"})).await;
    let generation = answer.generation.expect("a generation");
    first.bytes(&generation, 60).await;
    let rest = Rest::of(&first.tab, node.address);
    let history = rest.got(&format!("/api/conversations/{}/messages", question.conversation)).await;
    let item = &history["items"][1];
    assert_eq!(item["status"], json!("running"));
    let mut tab = first.tab.clone();
    let copy = tab.copies.get_mut(&generation).expect("a copy");
    copy.text = item["content"].as_str().expect("text").to_owned();
    copy.reasoning = item["reasoning"].as_str().unwrap_or_default().to_owned();
    copy.position = item["position"].as_str().expect("a position").parse().expect("a position");
    assert_eq!(item["offset"], json!(copy.text.len()));
    assert!(copy.text.len() >= 60, "a history is not behind its readers");
    let mut second = tab.connect(node.address).await;
    let frames = second.subscribe(question.conversation.as_str()).await;
    assert!(!frames.iter().any(|frame| matches!(frame, ServerFrame::Snapshot { .. })), "{frames:?}");
    second.finished(&generation).await;
    assert_eq!(second.tab.copies[&generation].text, second.tab.expected(&generation));
}

#[tokio::test]
async fn a_reader_that_never_reads_hurts_nobody() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut reader = Socket::open(node.address).await;
    let (question, answer) = reader.ask(json!({"content": "/demo tokens=60000 rate=0"})).await;
    let generation = answer.generation.expect("a generation");
    let mut silent = Vec::new();
    for _ in 0..5 {
        let mut socket = reader.tab.clone().connect(node.address).await;
        socket
            .tell(json!({"type": "subscribe", "conversation": question.conversation, "known": one(&generation, "0-0", 0)}))
            .await;
        silent.push(socket);
    }
    reader.finished(&generation).await;
    assert_eq!(reader.tab.copies[&generation].text, reader.tab.expected(&generation));
    // Those who begin to read at last have missed nothing.
    let mut late = silent.pop().expect("a socket");
    late.finished(&generation).await;
}

/// Subscribing again replaces what the socket followed. An answer that ends in between is in neither list; its end must still come.
#[tokio::test]
async fn subscribing_again_while_an_answer_ends_loses_no_end() {
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    let node = Node::with(config, &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (question, _) = socket.ask(json!({"content": "/demo tokens=2 rate=0"})).await;
    let conversation = question.conversation.to_string();
    let (mut stream, _) = upgrade(node.address, socket.tab.cookie.as_deref(), None).await.expect("a second tab");
    for round in 0..150_u64 {
        let send = json!({"type": "send", "request_id": format!("r{round}"), "conversation": conversation, "content": "/demo tokens=12 rate=0"});
        stream.send(Packet::text(send.to_string())).await.expect("sent");
        // Everywhere in the few milliseconds that such an answer takes.
        tokio::time::sleep(Duration::from_micros(round % 30 * 250)).await;
        let subscribe = json!({"type": "subscribe", "conversation": conversation});
        stream.send(Packet::text(subscribe.to_string())).await.expect("sent");
        let mut asked: Option<GenerationId> = None;
        let mut ended: Vec<GenerationId> = Vec::new();
        while asked.as_ref().is_none_or(|generation| !ended.contains(generation)) {
            let packet = tokio::time::timeout(Duration::from_secs(5), stream.next()).await;
            let packet = packet.unwrap_or_else(|_| panic!("round {round}: the end of {asked:?} never came"));
            let Some(Ok(Packet::Text(text))) = packet else { continue };
            match serde_json::from_str(&text).expect("a frame") {
                ServerFrame::Accepted { request_id, assistant_message, .. } if request_id == format!("r{round}") => {
                    asked = assistant_message.generation;
                }
                ServerFrame::Finished(finished) => ended.push(finished.generation),
                ServerFrame::Error(error) => panic!("round {round}: {error:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn who_comes_while_somebody_asks_hears_the_end_of_every_answer_it_hears_of() {
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    let node = Node::with(config, &world()).await;
    let mut asker = Socket::open(node.address).await;
    for round in 0..40_u64 {
        let (question, _) = asker.ask(json!({"content": "/demo tokens=2 rate=0"})).await;
        let conversation = question.conversation.to_string();
        let mut tab = Tab { cookie: asker.tab.cookie.clone(), ..Tab::default() }.connect(node.address).await;
        let comes = async {
            tokio::time::sleep(Duration::from_micros(round % 10 * 50)).await;
            tab.subscribe(&conversation).await
        };
        let asks = asker.ask(json!({"content": "/demo tokens=2 rate=0", "conversation": conversation}));
        let (mut frames, (_, answer)) = tokio::join!(comes, asks);
        let generation = answer.generation.expect("a generation");
        asker.finished(&generation).await;
        while let Ok(Ok(frame)) = tokio::time::timeout(Duration::from_millis(30), tab.next()).await {
            frames.push(frame);
        }
        let heard_of = frames.iter().any(|frame| match frame {
            ServerFrame::Message { message, .. } => message.id == answer.id && message.status.is_open(),
            ServerFrame::Subscribed { generations, .. } => generations.iter().any(|named| named.generation == generation),
            _ => false,
        });
        if heard_of {
            let end = tokio::time::timeout(Duration::from_secs(5), tab.finished(&generation)).await;
            end.unwrap_or_else(|_| panic!("round {round}: it never ends"));
        }
    }
}
