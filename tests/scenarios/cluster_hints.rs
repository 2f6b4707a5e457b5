//! What gateways ask of the backplane, and what their readers get when it keeps things to itself.

use std::time::Duration;

use chatnode::backend::{Hint, Subject};
use chatnode::config::Roles;
use chatnode::model::{ConversationId, GenerationId, MessageId};
use chatnode::protocol::{ErrorCode, ServerFrame};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::cluster_nodes::{Part, cluster};
use crate::chaos::proxy::{Mode, Proxy};
use crate::conformance::stage::{eventually, following};
use crate::harness::client::{Socket, Tab};
use crate::harness::node::{Node, config, world};
use crate::harness::rest::{Rest, client};
use crate::harness::servers::{Programs, World, free_port, nats_url, redis_url};

const LEASE: Duration = Duration::from_secs(3);

/// Subscriptions at a NATS server with this port for its operators.
async fn subscriptions(monitor: u16) -> u64 {
    let url = format!("http://127.0.0.1:{monitor}/connz");
    let said: Value = client().get(url).send().await.expect("an answer").json().await.expect("JSON");
    let connections = said["connections"].as_array().expect("connections").iter();
    connections.map(|connection| connection["subscriptions"].as_u64().expect("a number")).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_that_are_not_there_leave_nothing_behind() {
    let Some(programs) = Programs::find() else { return };
    let monitor = free_port();
    let (redis, nats) = (programs.redis(&[]), programs.nats(&["-m", &monitor.to_string()]));
    let world = World::open(&redis_url(&redis), &nats_url(&nats), LEASE).await;
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    let node = Node::with(config, &world.backends).await;
    let mut socket = Socket::open(node.address).await;
    let rest = Rest::of(&socket.tab, node.address);
    let before = subscriptions(monitor).await;
    for _ in 0..200 {
        let conversation = ConversationId::generate();
        socket.tell(json!({"type": "subscribe", "conversation": conversation})).await;
        assert_eq!(socket.error().await.code, ErrorCode::NotFound);
        let generation = GenerationId::generate(&conversation);
        assert_eq!(rest.get(&format!("/api/generations/{generation}/events")).await.0, 404);
    }
    // Those that are there are followed for a while after their last reader left.
    let few = async || (subscriptions(monitor).await <= before + 5).then_some(());
    eventually("they are forgotten", few).await;
    node.kill();
    world.end().await;
}

/// Reads until a message of this id is told.
async fn told(reader: &mut Socket, id: &MessageId) -> String {
    let found = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Message { message, .. } if message.id == *id => Some(message.content.clone()),
        _ => None,
    };
    reader.until("the message", found).await
}

/// A conversation that somebody asks in at this gateway, and the same user reads on another one with these servers.
async fn read_elsewhere(gateway: &Part, redis: &str, nats: &str) -> (Part, Socket, Socket, String) {
    let world = World::join(redis, nats, LEASE, &gateway.world.prefix).await;
    world.ready().await;
    let other = Part::start("other", Roles::GATEWAY, world, |_| {}).await;
    let mut asker = Socket::open(gateway.node.address).await;
    let (question, answer) = asker.ask(json!({"content": "/demo tokens=3 rate=0"})).await;
    let conversation = question.conversation.to_string();
    asker.finished(&answer.generation.expect("a generation")).await;
    let mut reader = Tab { cookie: asker.tab.cookie.clone(), ..Tab::default() }.connect(other.node.address).await;
    reader.subscribe(&conversation).await;
    (other, asker, reader, conversation)
}

/// A pulled cable is noticed after seconds. Till then the store answers nothing, and the hints bring all that there is to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_is_not_held_up_by_a_store_that_says_nothing() {
    let Some((redis, nats, gateway, worker)) = cluster(&[]).await else { return };
    let (link, through) = Proxy::before(&redis_url(&redis), redis.port).await;
    let (other, mut asker, mut reader, conversation) = read_elsewhere(&gateway, &through, &nats_url(&nats)).await;
    let (_, answer) = asker.ask(json!({"content": "/demo tokens=150 rate=25", "conversation": conversation})).await;
    let generation = answer.generation.expect("a generation");
    reader.bytes(&generation, 1).await;
    link.set(Mode::Hole);
    let (pulled, mut longest) = (Instant::now(), Duration::ZERO);
    while pulled.elapsed() < SILENCE {
        let (had, since) = (reader.tab.copies[&generation].text.len(), Instant::now());
        reader.bytes(&generation, had + 1).await;
        longest = longest.max(since.elapsed());
    }
    assert!(longest < HELD_UP, "the reader waited for {longest:?}");
    link.set(Mode::Open);
    reader.finished(&generation).await;
    asker.finished(&generation).await;
    assert_eq!(reader.tab.copies[&generation].text, reader.tab.expected(&generation));
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// Whose conversation it is takes a moment to find out. Until then nobody hears anything of it, and then its owner hears everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_a_conversation_before_it_is_known_to_be_theirs() {
    let Some((redis, nats, gateway, worker)) = cluster(&[]).await else { return };
    let (link, through) = Proxy::before(&redis_url(&redis), redis.port).await;
    let (other, mut asker, mut reader, conversation) = read_elsewhere(&gateway, &through, &nats_url(&nats)).await;
    let mut stranger = Socket::open(other.node.address).await;
    let mut owner = Tab { cookie: asker.tab.cookie.clone(), ..Tab::default() }.connect(other.node.address).await;
    link.set(Mode::Slow(Duration::from_millis(150)));
    for socket in [&mut stranger, &mut owner] {
        socket.tell(json!({"type": "subscribe", "conversation": conversation, "known": []})).await;
    }
    let (question, answer) = asker.ask(json!({"content": "/demo tokens=3 rate=0", "conversation": conversation})).await;
    told(&mut reader, &question.id).await;
    let heard = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Error(error) => Some(Ok(error.code)),
        ServerFrame::Message { message, .. } => Some(Err(message.content.clone())),
        _ => None,
    };
    assert_eq!(stranger.until("a refusal", heard).await, Ok(ErrorCode::NotFound));
    told(&mut owner, &question.id).await;
    link.set(Mode::Open);
    let generation = answer.generation.expect("a generation");
    for socket in [&mut asker, &mut reader, &mut owner] {
        socket.finished(&generation).await;
    }
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// Several comparisons of an answer fall into it.
const SILENCE: Duration = Duration::from_secs(4);
/// Less than until one command to the store counts as failed.
const HELD_UP: Duration = Duration::from_millis(1_500);
/// Longer than until a conversation that was opened is compared for the first time.
const OPENED: Duration = Duration::from_secs(1);
/// Less than until the next planned comparison of a conversation, by far.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_a_second_question_is_answered_where_its_conversation_is_open_already() {
    let Some((redis, mut nats, gateway, worker)) = cluster(&[]).await else { return };
    let (other, mut asker, mut reader, conversation) = read_elsewhere(&gateway, &redis_url(&redis), &nats_url(&nats)).await;
    nats.kill();
    for part in [&gateway, &other, &worker] {
        let health = &part.world.backends.health;
        eventually("it knows", async || (!health.borrow().backplane.is_up()).then_some(())).await;
    }
    for content in ["/demo tokens=40 rate=20", "/demo tokens=3 rate=0"] {
        let begun = Instant::now();
        let (question, answer) = asker.ask(json!({"content": content, "conversation": conversation})).await;
        let generation = answer.generation.expect("a generation");
        asker.bytes(&generation, 1).await;
        assert!(begun.elapsed() < SOON, "the asker waited for {:?}", begun.elapsed());
        told(&mut reader, &question.id).await;
        reader.bytes(&generation, 1).await;
        assert!(begun.elapsed() < SOON, "the reader waited for {:?}", begun.elapsed());
        asker.finished(&generation).await;
        reader.finished(&generation).await;
    }
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// As JSON it is more than a message of the backplane may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_too_large_for_the_backplane_is_told_on_the_other_gateways() {
    let Some((redis, nats, gateway, worker)) = cluster(&[]).await else { return };
    let (other, mut asker, mut reader, conversation) = read_elsewhere(&gateway, &redis_url(&redis), &nats_url(&nats)).await;
    let begun = Instant::now();
    let content = format!("/demo tokens=3 rate=0\n{}", "\u{1}".repeat(100_000));
    let (question, answer) = asker.ask(json!({"content": content, "conversation": conversation})).await;
    assert_eq!(told(&mut reader, &question.id).await, content);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let generation = answer.generation.expect("a generation");
    asker.finished(&generation).await;
    reader.finished(&generation).await;
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// That a conversation changed says that there is something new, and not what it is.
#[tokio::test]
async fn a_message_whose_own_hint_was_lost_is_told_soon() {
    let world = world();
    let mut gateway = config("a");
    gateway.roles = Roles::GATEWAY;
    let (node, worker) = (Node::with(gateway, &world).await, Node::start("b", &world).await);
    let mut asker = Socket::open(worker.address).await;
    let ServerFrame::Welcome { user, .. } = asker.welcome.clone() else { panic!() };
    let (question, answer) = asker.ask(json!({"content": "/demo tokens=3 rate=0"})).await;
    asker.finished(&answer.generation.expect("a generation")).await;
    let mut socket = Tab { cookie: asker.tab.cookie.clone(), ..Tab::default() }.connect(node.address).await;
    socket.subscribe(question.conversation.as_str()).await;
    // Who answers tells of the question as well.
    worker.leave(Duration::ZERO).await;
    // And so does the comparison soon after a conversation was opened.
    tokio::time::sleep(OPENED).await;
    let begun = Instant::now();
    let submitted = world.generations.submit(&following(&user, &question.conversation, "by another node")).await.expect("stored");
    let subject = Subject::Conversation(question.conversation.clone());
    world.backplane.publish(&subject, Hint::Conversation { conversation: submitted.conversation }).await;
    assert_eq!(told(&mut socket, &submitted.user_message.id).await, "by another node");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Only who named it is told of an answer that had ended before its node looked at the conversation.
#[tokio::test]
async fn an_old_answer_that_one_tab_names_is_not_told_to_the_others() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let mut socket = Socket::open(a.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=30 rate=0"})).await;
    let generation = answer.generation.expect("a generation");
    socket.finished(&generation).await;
    let conversation = question.conversation.to_string();
    let tab = Tab { cookie: socket.tab.cookie.clone(), ..Tab::default() };
    let (mut first, mut second) = (tab.clone().connect(b.address).await, tab.connect(b.address).await);
    first.subscribe(&conversation).await;
    let known = json!([{"generation": generation, "position": "0-0", "offset": 0}]);
    second.subscribe_with(&conversation, known).await;
    second.finished(&generation).await;
    let (_, next) = second.ask(json!({"content": "/demo tokens=3 rate=0", "conversation": conversation})).await;
    first.finished(&next.generation.expect("a generation")).await;
    assert!(!first.tab.copies.contains_key(&generation), "it was told again to who did not ask");
}
