//! What operators see: each figure is provoked, and read back where Prometheus would read it. Takeovers, rewinds and dropped hints
//! are read where they are provoked anyway (`takeover`, `cluster_nats`), names and labels in `src/telemetry/tests.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use chatnode::backend::Error;
use chatnode::config::{Discovery, ModelSource};
use chatnode::model::{ConversationId, Status, UserId};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::conformance::stage::eventually;
use crate::harness::client::{PATIENCE, Socket};
use crate::harness::figure;
use crate::harness::node::{Node, config, world};
use crate::harness::rest::Rest;
use crate::harness::servers::{Programs, World, nats_url, redis_url};
use crate::harness::upstream::{Upstream, status};

async fn metrics(address: SocketAddr) -> String {
    Rest::open(address).await.text("/metrics").await
}

/// Reads until the series has reached that value.
async fn reaches(address: SocketAddr, series: &str, least: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = metrics(address).await;
        if figure(&text, series) >= least {
            return;
        }
        assert!(Instant::now() < deadline, "{series} stays below {least} in\n{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_answer_leaves_its_figures() {
    let node = Node::start("a", &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=60 rate=400"})).await;
    let finished = socket.finished(&answer.generation.expect("a generation")).await;
    assert_eq!(finished.status, Status::Completed);
    reaches(node.address, "gen_ai_server_time_per_output_token_count", 1.0).await;
    let text = metrics(node.address).await;
    for (series, least, most) in [
        ("chatnode_first_token_seconds_count", 1.0, 1.0),
        ("chatnode_first_token_seconds_sum", 1e-5, 10.0),
        ("chatnode_delivery_seconds_count", 2.0, 60.0),
        ("chatnode_delivery_seconds_sum", 1e-5, 60.0),
        ("chatnode_token_gap_seconds_count", 2.0, 60.0),
        ("chatnode_work_wait_seconds_count", 1.0, 1.0),
        ("chatnode_generations_total{outcome=\"completed\"}", 1.0, 1.0),
        ("chatnode_generations_active", 0.0, 0.0),
        ("chatnode_store_seconds_count{op=\"submit\"}", 1.0, 1.0),
        ("chatnode_store_seconds_count{op=\"append\"}", 2.0, 61.0),
        ("chatnode_store_errors_total", 0.0, 0.0),
        ("chatnode_outbox_bytes", 0.0, 0.0),
        ("chatnode_upstream_requests_total", 1.0, 1.0),
        ("gen_ai_server_time_to_first_token_count{gen_ai_request_model=\"demo\"}", 1.0, 1.0),
    ] {
        let value = figure(&text, series);
        assert!((least..=most).contains(&value), "{series} is {value}, not {least} to {most}\n{text}");
    }
    let usage = finished.message.usage.expect("usage");
    let output = "gen_ai_client_token_usage_sum{gen_ai_request_model=\"demo\",gen_ai_token_type=\"output\"}";
    assert!((figure(&text, output) - f64::from(u32::try_from(usage.output_tokens).unwrap())).abs() < 0.5, "{text}");
}

/// Whoever may knock must not be able to make series, which are kept for good.
#[tokio::test]
async fn methods_that_nobody_speaks_are_one_series() {
    let node = Node::start("a", &world()).await;
    let rest = Rest::open(node.address).await;
    for n in 0..20 {
        let method = Method::from_bytes(format!("BREW{n}").as_bytes()).expect("a token is a method");
        for path in ["/", "/api/models", "/api/conversations"] {
            let status = rest.request(method.clone(), path).send().await.expect("an answer").status();
            assert!(status.is_client_error(), "{method} {path}: {status}");
        }
    }
    let text = rest.text("/metrics").await;
    assert!(!text.contains("BREW"), "{text}");
    let others = text.lines().filter(|line| line.starts_with("chatnode_http_requests_total{") && line.contains("\"other\""));
    assert!(others.count() <= 6, "{text}");
    assert!(figure(&text, "chatnode_http_requests_total") >= 60.0);
}

#[tokio::test]
async fn a_cancel_is_timed_in_every_phase() {
    let mut config = config("a");
    config.ai.capacity = 1;
    let node = Node::with(config, &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (_, streaming) = socket.ask(json!({"content": "/demo tokens=100000 rate=50"})).await;
    let streaming = streaming.generation.expect("a generation");
    socket.bytes(&streaming, 1).await;
    let (_, queued) = socket.ask(json!({"content": "/demo tokens=100000 rate=50"})).await;
    for (generation, phase) in [(queued.generation.expect("a generation"), "queued"), (streaming, "streaming")] {
        socket.tell(json!({"type": "cancel", "generation": generation})).await;
        assert_eq!(socket.finished(&generation).await.status, Status::Cancelled);
        reaches(node.address, &format!("chatnode_cancel_seconds_count{{phase=\"{phase}\"}}"), 1.0).await;
    }
    let (_, waiting) = socket.ask(json!({"content": "/demo tokens=10 delay=60000"})).await;
    let waiting = waiting.generation.expect("a generation");
    reaches(node.address, "chatnode_worker_running", 1.0).await;
    socket.tell(json!({"type": "cancel", "generation": waiting})).await;
    assert_eq!(socket.finished(&waiting).await.status, Status::Cancelled);
    reaches(node.address, "chatnode_cancel_seconds_count{phase=\"waiting\"}", 1.0).await;
    let text = metrics(node.address).await;
    assert!(figure(&text, "chatnode_cancel_seconds_count") <= 3.0, "each once\n{text}");
    assert!(figure(&text, "chatnode_cancel_seconds_sum") < 20.0, "measured from the request\n{text}");
    let ended = figure(&text, "chatnode_generations_total{outcome=\"cancelled\"}");
    assert!((ended - 3.0).abs() < 0.5, "each once, that which nobody began too\n{text}");
    assert!(figure(&text, "chatnode_store_seconds_count{op=\"limits_begin\"}") >= 3.0, "{text}");
    assert!(figure(&text, "chatnode_ws_resumes_total") < 0.5, "nobody came back\n{text}");
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_counted() {
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    let node = Node::with(config, &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=100000 rate=0"})).await;
    socket.finished(&answer.generation.clone().expect("a generation")).await;
    let known = json!([{"generation": answer.generation, "position": "0-0", "offset": 0}]);
    // Each of these is answered by the whole text, and none of them is read.
    for _ in 0..60 {
        socket.tell(json!({"type": "subscribe", "conversation": question.conversation, "known": known})).await;
    }
    reaches(node.address, "chatnode_ws_lagging_total", 1.0).await;
}

/// Each conversation that was looked at costs memory for a minute, since readers come back. Who looks at one after the other must not have all
/// of it.
#[tokio::test]
async fn what_nobody_reads_any_more_is_kept_at_hand_only_so_often() {
    const LOOKED_AT: usize = 600;
    const KEPT: f64 = 512.0;
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    config.gateway.limits.user.requests_per_minute = None;
    let node = Node::with(config, &world()).await;
    let rest = Rest::open(node.address).await;
    let followed = async || figure(&rest.text("/metrics").await, "chatnode_conversations_followed");
    let mut sockets = Vec::new();
    let mut conversations = Vec::new();
    for n in 0..LOOKED_AT {
        if n % 50 == 0 {
            sockets.push(rest.tab().connect(node.address).await);
        }
        let conversation = rest.conversation().await;
        sockets.last_mut().expect("a socket").subscribe(&conversation).await;
        conversations.push(conversation);
    }
    assert!(followed().await >= 600.0, "{} are followed", followed().await);
    drop(sockets);
    eventually("the rest is let go of", async || (followed().await <= KEPT).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(followed().await >= KEPT, "{} are left of those that readers may come back to", followed().await);
    // Kept or not, whoever comes back is served, and makes room when he leaves.
    for conversation in [&conversations[0], &conversations[LOOKED_AT - 1]] {
        let mut socket = rest.tab().connect(node.address).await;
        socket.subscribe(conversation).await;
        let (_, answer) = socket.ask(json!({"content": "/demo tokens=5 rate=0", "conversation": conversation})).await;
        socket.finished(&answer.generation.expect("a generation")).await;
    }
    eventually("no more than before", async || (followed().await <= KEPT).then_some(())).await;
}

/// Watches that report the same change for ever once burned a processor on every node.
#[tokio::test]
async fn a_node_at_rest_hardly_asks_the_store() {
    let models = status(200, "content-type: application/json\r\n", &json!({"data": [{"id": "m"}]}).to_string());
    let upstream = Upstream::start([models]).await;
    let mut config = config("a");
    let discovery = Discovery { openai_base_url: Some(upstream.base_url()), ..Discovery::default() };
    config.ai.models = ModelSource::Discovered(discovery);
    let node = Node::with(config, &world()).await;
    let rest = Rest::open(node.address).await;
    rest.offered("m").await;
    let calls = async || figure(&rest.text("/metrics").await, "chatnode_store_seconds_count");
    let (before, began) = (calls().await, Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each_second = (calls().await - before) / began.elapsed().as_secs_f64();
    assert!(each_second < 30.0, "{each_second} calls a second by a node that has nothing to do");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_counted() {
    let Some(programs) = Programs::find() else { return };
    let (mut redis, nats) = (programs.redis(&[]), programs.nats(&[]));
    let world = World::open(&redis_url(&redis), &nats_url(&nats), Duration::from_secs(10)).await;
    let (user, nobody) = (UserId::generate(), ConversationId::generate());
    assert_eq!(world.backends.store.conversation(&user, &nobody).await, Err(Error::NotFound));
    assert!(figure(&world.metrics.encode(), "chatnode_store_errors_total") < 1.0, "not found is an answer");
    redis.kill();
    let outcome = world.backends.store.conversation(&user, &nobody).await;
    assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
    assert!(figure(&world.metrics.encode(), "chatnode_store_errors_total") >= 1.0);
    assert!(figure(&world.metrics.encode(), "chatnode_store_seconds_count{op=\"conversation\"}") >= 2.0);
    world.end().await;
}
