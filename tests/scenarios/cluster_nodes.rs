//! Whole nodes on real servers: what readers notice when hints do not come, when the store forgot the end of a log, and how soon a
//! cancel gets through.

use std::time::Duration;

use chatnode::ai::provider::demo;
use chatnode::config::{Config, ProviderKind, Roles};
use chatnode::log::{Entry, Transcript};
use chatnode::model::{GenerationId, Position, Status};
use chatnode::protocol::{ErrorCode, ServerFrame};
use serde_json::json;
use tokio::time::Instant;

use crate::conformance::stage::eventually;
use crate::harness::client::{Socket, Tab};
use crate::harness::node::{Node, config, model};
use crate::harness::rest::Rest;
use crate::harness::servers::{Programs, Server, World, nats_url, redis_url, shared};
use crate::harness::upstream::{Act, Upstream, head, send};

const LEASE: Duration = Duration::from_secs(3);
const RENEWAL: Duration = Duration::from_secs(1);
const RATE: usize = 20;
/// Readers that are looked at.
const READERS: usize = 8;
const READ_FOR: Duration = Duration::from_secs(4);
const SOCKET_EMPTY: Duration = Duration::from_millis(300);
/// A machine that runs other tests may be late, but not as late as the next planned comparison with the store.
const MIDDLE_MAX: Duration = Duration::from_millis(500);
/// What most cancels take on a machine that does other things too; see docs/operations.md for a quiet one.
const CANCEL_MAX: Duration = Duration::from_millis(200);
const CANCELS: usize = 20;

/// One node of the cluster and its own view of the servers.
pub(super) struct Part {
    pub(super) node: Node,
    pub(super) world: World,
}

impl Part {
    pub(super) async fn start(name: &str, roles: Roles, world: World, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(name);
        config.roles = roles;
        (config.ai.lease, config.ai.renewal) = (LEASE, RENEWAL);
        change(&mut config);
        Self { node: Node::with(config, &world.backends).await, world }
    }

    /// Waits until this gateway knows that somebody runs models.
    pub(super) async fn knows_models(&self) {
        let rest = Rest::open(self.node.address).await;
        let some =
            async || rest.got("/api/models").await["items"].as_array().is_some_and(|items| !items.is_empty()).then_some(());
        eventually("a model is offered", some).await;
    }

    pub(super) async fn end(self) {
        self.node.kill();
        self.world.end().await;
    }
}

/// Servers of their own, and a gateway and a worker on them.
pub(super) async fn cluster(more: &[&str]) -> Option<(Server, Server, Part, Part)> {
    let programs = Programs::find()?;
    let (store, nats) = (programs.redis(more), programs.nats(&[]));
    let (redis, hints) = (redis_url(&store), nats_url(&nats));
    let world = World::open(&redis, &hints, LEASE).await;
    let other = World::join(&redis, &hints, LEASE, &world.prefix).await;
    other.ready().await;
    let gateway = Part::start("gateway", Roles::GATEWAY, world, |_| {}).await;
    let worker = Part::start("worker", Roles::AI, other, |_| {}).await;
    gateway.knows_models().await;
    Some((store, nats, gateway, worker))
}

/// How late each token comes, by the clockwork of the demonstration model.
async fn lateness(mut socket: Socket, generation: GenerationId, prompt: String, until: Instant) -> Vec<Duration> {
    let mut starts = vec![0];
    for token in demo::tokens(&generation, &prompt) {
        starts.push(starts.last().expect("one is there") + token.len());
    }
    let mut came: Vec<(Instant, Duration)> = Vec::new();
    // What waited in the socket while nobody read is not late.
    let from = Instant::now() + SOCKET_EMPTY;
    let last = |frame: &ServerFrame, _: &Tab| {
        if let ServerFrame::Delta { offset, .. } = frame
            && Instant::now() > from
        {
            let token = starts.partition_point(|start| (*start as u64) < *offset);
            came.push((Instant::now(), Duration::from_secs_f64(token as f64 / RATE as f64)));
        }
        (Instant::now() > until || matches!(frame, ServerFrame::Finished(_))).then_some(())
    };
    socket.until("enough tokens", last).await;
    let began = came.iter().map(|(at, due)| *at - *due).min().expect("tokens came");
    came.into_iter().map(|(at, due)| at - due - began).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_readers_get_every_token_from_the_store_in_time() {
    let Some((redis, mut nats, gateway, worker)) = cluster(&[]).await else { return };
    let readers =
        std::env::vars().find(|(name, _)| name == "CHATNODE_POLLED").map_or(READERS, |(_, n)| n.parse().expect("a number"));
    let prompt = format!("/demo tokens=400 rate={RATE}");
    let mut reading = Vec::new();
    for _ in 0..readers {
        let mut socket = Socket::open(gateway.node.address).await;
        let (_, answer) = socket.ask(json!({"content": prompt})).await;
        let generation = answer.generation.expect("a generation");
        socket.bytes(&generation, 20).await;
        reading.push((socket, generation));
    }
    nats.kill();
    let health = &gateway.world.backends.health;
    eventually("the gateway knows", async || (!health.borrow().backplane.is_up()).then_some(())).await;
    let commands = || {
        let info = redis.redis(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).expect("a figure");
        line.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number")
    };
    let (before, until) = (commands(), Instant::now() + READ_FOR);
    let tasks = reading.into_iter().map(|(socket, generation)| tokio::spawn(lateness(socket, generation, prompt.clone(), until)));
    let mut late: Vec<Duration> = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        late.extend(task.await.expect("it reads"));
    }
    late.sort_unstable();
    let (middle, most) = (late[late.len() / 2], late[late.len() * 99 / 100]);
    let each = (commands() - before) / READ_FOR.as_secs();
    println!(
        "without nats, {readers} answers: tokens are late by {middle:?} in the middle, {most:?} at p99; {each} calls of Redis a second"
    );
    assert!(middle < MIDDLE_MAX, "{middle:?}");
    gateway.end().await;
    worker.end().await;
}

/// The worker's link to NATS is broken and the gateway's is not: nothing tells the gateway that it misses something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_that_nobody_sends_are_missed_by_comparing_with_the_store() {
    let Some(shared) = shared() else { return };
    let (redis, hints) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let world = World::open(&redis, &hints, LEASE).await;
    // Nobody listens there.
    let mute = World::join(&redis, "nats://127.0.0.1:9", LEASE, &world.prefix).await;
    eventually("its store is there", async || mute.backends.health.borrow().store.is_up().then_some(())).await;
    let gateway = Part::start("gateway", Roles::GATEWAY, world, |_| {}).await;
    let worker = Part::start("worker", Roles::AI, mute, |_| {}).await;
    gateway.knows_models().await;
    let mut socket = Socket::open(gateway.node.address).await;
    let (_, answer) = socket.ask(json!({"content": format!("/demo tokens=60 rate={RATE}")})).await;
    let generation = answer.generation.expect("a generation");
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    gateway.end().await;
    worker.end().await;
}

/// People are known by what the store's key signed. A store that lost everything gets it back from those who know it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_known_stays_so_when_the_store_loses_everything() {
    let Some((mut redis, nats, gateway, worker)) = cluster(&[]).await else { return };
    let known = |socket: &Socket| match &socket.welcome {
        ServerFrame::Welcome { user, .. } => user.clone(),
        other => panic!("{other:?}"),
    };
    let socket = Socket::open(gateway.node.address).await;
    let (user, tab) = (known(&socket), socket.lose());
    redis.kill();
    let is_up = async |up: bool| {
        let health = &gateway.world.backends.health;
        eventually("it knows", async || (health.borrow().store.is_up() == up).then_some(())).await;
    };
    is_up(false).await;
    redis.start();
    assert_eq!(redis.redis(&["EXISTS", "unlikely"]), "0", "it is back");
    is_up(true).await;
    let secret = format!("{}:secret:cookie", gateway.world.prefix);
    eventually("the key is back", async || (redis.redis(&["EXISTS", &secret]) == "1").then_some(())).await;
    let world = World::join(&redis_url(&redis), &nats_url(&nats), LEASE, &gateway.world.prefix).await;
    world.ready().await;
    let other = Part::start("other", Roles::GATEWAY, world, |_| {}).await;
    assert_eq!(known(&tab.connect(other.node.address).await), user);
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// The conversation can be read and its log can't: who comes back with half an answer must not be shown an empty one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_while_logs_cannot_be_read_keeps_what_it_has() {
    let Some((redis, nats, gateway, worker)) = cluster(&[]).await else { return };
    let world = World::join(&redis_url(&redis), &nats_url(&nats), LEASE, &gateway.world.prefix).await;
    world.ready().await;
    let other = Part::start("other", Roles::GATEWAY, world, |_| {}).await;
    let mut socket = Socket::open(gateway.node.address).await;
    let (question, answer) = socket.ask(json!({"content": format!("/demo tokens=100 rate={RATE}")})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 100).await;
    // The one command that only the reading of a log needs.
    assert_eq!(redis.redis(&["ACL", "SETUSER", "default", "-xrange"]), "OK");
    let before = socket.tab.copies[&generation].text.clone();
    let (known, tab) = (socket.tab.known(), socket.lose());
    let mut back = tab.connect(other.node.address).await;
    back.tell(json!({"type": "subscribe", "conversation": question.conversation, "known": known})).await;
    let error = back.error().await;
    assert_eq!((error.code, error.conversation), (ErrorCode::Unavailable, Some(question.conversation.to_string())));
    assert_eq!(back.tab.copies[&generation].text, before);
    let rest = Rest::of(&back.tab, other.node.address);
    assert_eq!(
        rest.got(&format!("/api/conversations/{}/messages", question.conversation)).await["items"][1]["status"],
        "running"
    );
    assert_eq!(redis.redis(&["ACL", "SETUSER", "default", "+xrange"]), "OK");
    back.subscribe(question.conversation.as_str()).await;
    assert_eq!(back.finished(&generation).await.status, Status::Completed);
    assert_eq!(back.tab.copies[&generation].text, back.tab.expected(&generation));
    for part in [gateway, other, worker] {
        part.end().await;
    }
}

/// As a replica that is promoted before it had everything: the worker writes the rest again, and no reader sees a hole or a repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_store_forgot_the_end_writes_it_again() {
    let Some((mut redis, _nats, gateway, worker)) = cluster(&["--appendonly", "no"]).await else { return };
    let mut socket = Socket::open(gateway.node.address).await;
    let (_, answer) = socket.ask(json!({"content": format!("/demo tokens=80 rate={RATE}")})).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 50).await;
    assert_eq!(redis.redis(&["SAVE"]), "OK");
    socket.bytes(&generation, 150).await;
    redis.kill();
    redis.start();
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    let log = gateway.world.backends.generations.read(&generation, Position::START, 1 << 20).await.expect("the log");
    let mut transcript = Transcript::default();
    for (position, entry) in &log.entries {
        transcript.apply(*position, entry).expect("no hole");
    }
    assert_eq!(transcript.text, socket.tab.expected(&generation));
    assert_eq!(log.entries.iter().filter(|(_, entry)| matches!(entry, Entry::Own(_))).count(), 1, "nobody else took over");
    gateway.end().await;
    worker.end().await;
}

/// An upstream that says one word and then nothing, for as long as somebody listens.
async fn endless() -> Upstream {
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n";
    Upstream::start([vec![head("text/event-stream"), send(token), Act::Stall]]).await
}

fn asks(config: &mut Config, upstream: &Upstream) {
    let mut model = model("demo");
    model.upstreams[0].provider = ProviderKind::OpenAi;
    model.upstreams[0].base_url = upstream.base_url();
    config.ai.models = chatnode::config::ModelSource::Configured(vec![model]);
}

/// Asks on one gateway and cancels on another; answers how long the upstream was still listened to.
async fn cancel(here: &Part, there: &Part, upstream: &Upstream, index: usize) -> Duration {
    let mut socket = Socket::open(here.node.address).await;
    let (_, answer) = socket.ask(json!({"content": "go on for ever"})).await;
    let generation = answer.generation.expect("a generation");
    upstream.asked_times(index + 1).await;
    let rest = Rest::of(&socket.tab, there.node.address);
    let began = Instant::now();
    let (status, body) = rest.post(&format!("/api/generations/{generation}/cancel"), &json!({})).await;
    assert_eq!(status.as_u16(), 202, "{body}");
    upstream.left(index).await.duration_since(began)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_on_another_gateway_closes_the_upstream_at_once_and_without_nats_by_the_next_renewal() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let mut nats = programs.nats(&[]);
    let (redis, hints) = (redis_url(&shared.redis), nats_url(&nats));
    let upstream = endless().await;
    let world = World::open(&redis, &hints, LEASE).await;
    let prefix = world.prefix.clone();
    let mut parts = vec![Part::start("a", Roles::GATEWAY, world, |_| {}).await];
    for (name, roles) in [("b", Roles::GATEWAY), ("worker", Roles::AI)] {
        let world = World::join(&redis, &hints, LEASE, &prefix).await;
        world.ready().await;
        parts.push(Part::start(name, roles, world, |config| asks(config, &upstream)).await);
    }
    parts[0].knows_models().await;
    let mut took = Vec::new();
    for index in 0..CANCELS {
        took.push(cancel(&parts[0], &parts[1], &upstream, index).await);
    }
    took.sort_unstable();
    let (middle, last) = (took[took.len() / 2], took[took.len() - 1]);
    println!("cancel on another gateway: the upstream is left after {middle:?} in the middle, {last:?} at most");
    assert!(middle < CANCEL_MAX, "{took:?}");
    nats.kill();
    let health = &parts[2].world.backends.health;
    eventually("the worker knows", async || (!health.borrow().backplane.is_up()).then_some(())).await;
    let deaf = cancel(&parts[0], &parts[1], &upstream, CANCELS).await;
    println!("without nats: after {deaf:?}");
    assert!(deaf < RENEWAL + Duration::from_millis(500), "{deaf:?}");
    for part in parts {
        part.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_survives_the_death_of_every_node_and_nobody_asks_the_upstream_again() {
    let Some(shared) = shared() else { return };
    let (redis, hints) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let upstream = endless().await;
    let world = World::open(&redis, &hints, LEASE).await;
    let prefix = world.prefix.clone();
    let joined = async || {
        let world = World::join(&redis, &hints, LEASE, &prefix).await;
        world.ready().await;
        world
    };
    let gateway = Part::start("gateway", Roles::GATEWAY, world, |config| asks(config, &upstream)).await;
    let worker = Part::start("worker", Roles::AI, joined().await, |config| {
        asks(config, &upstream);
        // Told by nothing but its next renewal, which it does not live to see.
        config.ai.renewal = LEASE / 2;
    })
    .await;
    gateway.knows_models().await;
    let mut socket = Socket::open(gateway.node.address).await;
    let (_, answer) = socket.ask(json!({"content": "go on for ever"})).await;
    let generation = answer.generation.expect("a generation");
    upstream.asked_times(1).await;
    // Its worker is gone already when the cancel is accepted, and then so is everybody who heard of it.
    worker.end().await;
    // What this upstream says is not known beforehand.
    (socket.tab.prompts, socket.tab.expected) = Default::default();
    socket.tell(json!({"type": "cancel", "generation": generation})).await;
    let accepted = |frame: &ServerFrame, _: &Tab| matches!(frame, ServerFrame::CancelAccepted { .. }).then_some(());
    socket.until("cancel_accepted", accepted).await;
    gateway.end().await;
    let tab = socket.lose();
    let gateway = Part::start("gateway-2", Roles::GATEWAY, joined().await, |config| asks(config, &upstream)).await;
    let worker = Part::start("worker-2", Roles::AI, joined().await, |config| asks(config, &upstream)).await;
    let mut again = tab.connect(gateway.node.address).await;
    again.subscribe(generation.conversation().as_str()).await;
    assert_eq!(again.finished(&generation).await.status, Status::Cancelled);
    assert_eq!(upstream.asked().len(), 1, "nobody asked again");
    gateway.end().await;
    worker.end().await;
}
