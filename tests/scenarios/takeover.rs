//! Nodes that leave, and nodes that die: the answers go on elsewhere, to the same byte.

use std::time::Duration;

use chatnode::ai::provider::demo;
use chatnode::backend::Progress;
use chatnode::config::Roles;
use chatnode::model::Status;
use chatnode::protocol::ServerFrame;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::client::{Socket, Tab};
use crate::harness::figure;
use crate::harness::node::{LEASE, Node, config, world};
use crate::harness::rest::Rest;

/// Long enough for somebody to die in the middle of it.
const LONG: &str = "/demo tokens=400 rate=200";

#[tokio::test]
async fn a_dead_worker_is_replaced_and_its_readers_get_the_exact_text() {
    let world = world();
    let mut gateway = config("gateway");
    gateway.roles = Roles::GATEWAY;
    let mut worker = config("first");
    worker.roles = Roles::AI;
    let first = Node::with(worker.clone(), &world).await;
    let gateway = Node::with(gateway, &world).await;
    let mut socket = Socket::open(gateway.address).await;
    let asked = Instant::now();
    let (_, answer) = socket.ask(json!({"content": LONG})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 100).await;
    let begun = asked.elapsed();
    first.kill();
    worker.node_id = "second".to_owned();
    let _second = Node::with(worker, &world).await;
    let recovering =
        |frame: &ServerFrame, _: &Tab| matches!(frame, ServerFrame::Status { status: Progress::Recovering, .. }).then_some(());
    socket.until("recovering", recovering).await;
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    assert!(socket.tab.copies[&generation].position.epoch > 1, "somebody else finished it");
    let finished = socket.finished(&generation).await;
    let timing = finished.message.timing.expect("a timing");
    assert!(u128::from(timing.first_token_ms) <= begun.as_millis() + 1, "{timing:?}: the first token was the first owner's");
    let metrics = Rest::of(&socket.tab, gateway.address).text("/metrics").await;
    assert!(figure(&metrics, "chatnode_token_gap_seconds_sum") >= 0.4, "the wait for the second owner is a gap");
}

/// Who dies while the model thinks leaves reasoning and no text: the next owner's thoughts replace it.
#[tokio::test]
async fn a_worker_that_dies_thinking_leaves_no_thought_twice() {
    let world = world();
    let mut gateway = config("gateway");
    gateway.roles = Roles::GATEWAY;
    let mut worker = config("first");
    worker.roles = Roles::AI;
    let first = Node::with(worker.clone(), &world).await;
    let gateway = Node::with(gateway, &world).await;
    let mut socket = Socket::open(gateway.address).await;
    let prompt = "/demo tokens=20 reason=300 rate=200";
    let (_, answer) = socket.ask(json!({"content": prompt})).await;
    let generation = answer.generation.expect("a generation");
    let thinking = |_: &ServerFrame, tab: &Tab| (tab.copies.get(&generation)?.reasoning.len() > 100).then_some(());
    socket.until("thoughts", thinking).await;
    assert_eq!(socket.tab.copies[&generation].text, "", "it only thinks so far");
    first.kill();
    worker.node_id = "second".to_owned();
    let _second = Node::with(worker, &world).await;
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    let copy = &socket.tab.copies[&generation];
    assert_eq!(copy.reasoning, demo::reasoning(&generation, prompt));
    assert_eq!(copy.text, socket.tab.expected(&generation));
    let metrics = Rest::of(&socket.tab, gateway.address).text("/metrics").await;
    assert!(figure(&metrics, "chatnode_rewinds_total") >= 1.0, "the thoughts were taken back");
}

/// One node that does everything, and is stopped: who stays until the end hears the end.
#[tokio::test]
async fn whoever_reads_to_the_end_on_a_node_that_leaves_is_told_that_it_was_the_end() {
    let node = Node::with(config("alone"), &world()).await;
    let mut socket = Socket::open(node.address).await;
    // Longer than people have to move.
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=200 rate=50"})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 20).await;
    let leaving = tokio::spawn(node.leave(Duration::from_secs(30)));
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    leaving.await.expect("it leaves");
}

/// As after an outage of the store, or of every node, that lasted longer than an answer may go without a token.
#[tokio::test]
async fn an_answer_that_nobody_tried_for_long_is_not_given_up() {
    let world = world();
    let mut gateway = config("gateway");
    gateway.roles = Roles::GATEWAY;
    let mut worker = config("first");
    worker.roles = Roles::AI;
    // Shorter than the lease that has to run out first.
    worker.ai.progress_timeout = LEASE / 5;
    let first = Node::with(worker.clone(), &world).await;
    let gateway = Node::with(gateway, &world).await;
    let mut generations = Vec::new();
    let mut socket = Socket::open(gateway.address).await;
    // One has begun, the other one has not.
    for prompt in [LONG, "/demo tokens=50 rate=0 delay=400"] {
        let (_, answer) = socket.ask(json!({"content": prompt})).await;
        generations.push(answer.generation.expect("a generation"));
    }
    socket.bytes(&generations[0], 100).await;
    first.kill();
    worker.node_id = "second".to_owned();
    let _second = Node::with(worker, &world).await;
    for generation in &generations {
        assert_eq!(socket.finished(generation).await.status, Status::Completed);
        assert_eq!(socket.tab.copies[generation].text, socket.tab.expected(generation));
    }
}

#[tokio::test]
async fn a_gateway_that_dies_costs_its_readers_a_reconnect() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let mut socket = Socket::open(a.address).await;
    let (question, answer) = socket.ask(json!({"content": LONG})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 100).await;
    a.kill();
    assert_eq!(socket.closed().await, None);
    let mut again = socket.lose().connect(b.address).await;
    again.subscribe(question.conversation.as_str()).await;
    assert_eq!(again.finished(&generation).await.status, Status::Completed);
    assert_eq!(again.tab.copies[&generation].text, again.tab.expected(&generation));
}

#[tokio::test]
async fn a_draining_node_sends_its_readers_on_and_finishes_what_it_began() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let rest = Rest::open(a.address).await;
    let mut socket = rest.tab().connect(a.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=150 rate=100"})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 20).await;
    a.drain();
    let reason = socket.until("reconnect", |frame, _| match frame {
        ServerFrame::Reconnect { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.await, "draining");
    let (status, health) = rest.get("/health").await;
    assert_eq!((status.as_u16(), &health["status"]), (503, &json!("draining")));
    let mut again = socket.lose().connect(b.address).await;
    again.subscribe(question.conversation.as_str()).await;
    assert_eq!(again.finished(&generation).await.status, Status::Completed);
    assert_eq!(again.tab.copies[&generation].text, again.tab.expected(&generation));
    a.leave(Duration::from_secs(5)).await;
}

/// Everybody is told another moment to move at; whoever keeps to it is not cut off before.
#[tokio::test]
async fn a_leaving_node_waits_for_its_readers_to_move() {
    let world = world();
    let a = Node::start("a", &world).await;
    let mut socket = Socket::open(a.address).await;
    let leaving = tokio::spawn(a.leave(Duration::from_secs(10)));
    let after_ms = socket.until("reconnect", |frame, _| match frame {
        ServerFrame::Reconnect { after_ms, .. } => Some(*after_ms),
        _ => None,
    });
    let after = Duration::from_millis(after_ms.await);
    let cut = tokio::time::timeout(after, socket.closed()).await;
    assert!(cut.is_err(), "cut off before {after:?}: {cut:?}");
    drop(socket);
    tokio::time::timeout(Duration::from_secs(2), leaving).await.expect("nobody is left to wait for").expect("it leaves");
}

#[tokio::test]
async fn what_a_leaving_node_cannot_finish_is_taken_over_without_waiting_for_the_lease() {
    let world = world();
    let mut patient = config("a");
    patient.ai.lease = LEASE;
    let (a, b) = (Node::with(patient, &world).await, Node::start("b", &world).await);
    let mut socket = Socket::open(b.address).await;
    let mut generations = Vec::new();
    for _ in 0..4 {
        let (_, answer) = socket.ask(json!({"content": LONG})).await;
        generations.push(answer.generation.expect("a generation"));
    }
    for generation in &generations {
        socket.bytes(generation, 50).await;
    }
    a.leave(Duration::ZERO).await;
    for generation in &generations {
        assert_eq!(socket.finished(generation).await.status, Status::Completed);
        assert_eq!(socket.tab.copies[generation].text, socket.tab.expected(generation));
    }
}

#[tokio::test]
async fn sockets_and_nodes_die_at_random_and_every_answer_is_exact() {
    let seeds: u64 = std::env::vars().find(|(name, _)| name == "CHATNODE_SEEDS").map_or(6, |(_, n)| n.parse().expect("a number"));
    for seed in 0..seeds {
        chaos(seed).await;
    }
}

/// Four answers at once, each read by a tab of its own, while sockets and one of two nodes die.
async fn chaos(seed: u64) {
    let world = world();
    let mut nodes = vec![Node::start("n0", &world).await, Node::start("n1", &world).await];
    let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut roll = move |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    let mut tabs = Vec::new();
    for _ in 0..4 {
        let at = usize::try_from(roll(2)).expect("0 or 1");
        let mut socket = Socket::open(nodes[at].address).await;
        let (question, answer) = socket.ask(json!({"content": "/demo tokens=150 rate=150"})).await;
        tabs.push((Some(socket), question.conversation.to_string(), answer.generation.expect("a generation")));
    }
    for step in 2..6 {
        for (socket, conversation, generation) in &mut tabs {
            let mut reader = socket.take().expect("it is put back");
            let upto =
                usize::try_from(roll(120)).expect("small") + reader.tab.copies.get(generation).map_or(0, |copy| copy.text.len());
            // It may end, or lose its node, before it gets so far.
            while reader.tab.copies.get(generation).is_none_or(|copy| copy.text.len() < upto && copy.finished.is_none()) {
                if reader.next().await.is_err() {
                    break;
                }
            }
            let address = nodes[usize::try_from(roll(2)).expect("0 or 1")].address;
            let mut back = reader.lose().connect(address).await;
            back.subscribe(conversation).await;
            *socket = Some(back);
        }
        if roll(2) == 0 {
            nodes.remove(usize::try_from(roll(2)).expect("0 or 1")).kill();
            nodes.push(Node::start(&format!("n{step}"), &world).await);
        }
    }
    for (socket, conversation, generation) in &mut tabs {
        let reader = socket.take().expect("it is put back");
        let mut last = reader.lose().connect(nodes[0].address).await;
        last.subscribe(conversation).await;
        assert_eq!(last.finished(generation).await.status, Status::Completed, "seed {seed}");
        assert_eq!(last.tab.copies[generation].text, last.tab.expected(generation), "seed {seed}");
    }
}
