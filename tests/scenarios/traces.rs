//! What leaves a cluster of processes beside answers: one trace over all of them, and nowhere what somebody wrote, what the model
//! said, or the key that it was asked with.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chatnode::model::{GenerationId, Status};
use futures_util::StreamExt;
use serde_json::json;

use crate::harness::client::Socket;
use crate::harness::collector::{Collected, Collector};
use crate::harness::process::Process;
use crate::harness::rest::Rest;
use crate::harness::servers::{nats_url, redis_url, shared};
use crate::harness::upstream::{Act, Asked, Upstream, head, send, sse};

/// Nobody but the user and the model may ever see these.
const ASKED: &str = "canary-asked-51c7";
const ANSWERED: &str = "canary-answered-9be2";
const SYSTEM: &str = "canary-system-77aa";
const KEY: &str = "sk-canary-key-d04f";

/// The first owner's upstream goes quiet in the middle; the second one's finishes.
fn scripts() -> [Vec<Act>; 2] {
    let said = format!(r#"data: {{"choices":[{{"delta":{{"content":"{ANSWERED} "}}}}]}}"#);
    let end = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    let begun = vec![head("text/event-stream"), send(format!("{said}\n\n")), Act::Stall];
    [begun, sse(format!("{said}\n\n{end}\n\ndata: [DONE]\n\n"))]
}

fn configure(file: &Path, prefix: &str, collector: &Collector, upstream: &Upstream) {
    let text = format!(
        "[log]\nlevel = \"debug\"\n[cluster]\nprefix = \"{prefix}\"\n[ai]\nlease_ms = 500\nrenewal_ms = 100\n\
         [traces]\nurl = \"http://{}\"\nauthorization = \"Bearer collect\"\n\
         [[models]]\nid = \"m\"\nprovider = \"openai\"\nbase_url = \"{}\"\napi_key = \"{KEY}\"\ncontinuation = \"restart\"\n",
        collector.address,
        upstream.base_url()
    );
    std::fs::write(file, text).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_from_the_question_over_two_owners_to_the_model_and_no_word_of_it_anywhere() {
    let Some(shared) = shared() else { return };
    let collector = Collector::start().await;
    let upstream = Upstream::start(scripts()).await;
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("my.toml");
    let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    configure(&file, &prefix, &collector, &upstream);
    let (redis, nats) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let mut events =
        async_nats::connect(&nats).await.expect("nats").subscribe(format!("{prefix}.events.>")).await.expect("events");
    let node = |role: &str, id: &str| {
        let file = file.to_str().expect("a name");
        let place = ["--redis-url", &redis, "--nats-url", &nats, "--config", file, "--listen", "127.0.0.1:0"];
        Process::start(&[&place[..], &["--role", role, "--node-id", id]].concat())
    };
    let (gateway, address) = node("gateway", "g");
    let (first, _) = node("ai", "ai-1");
    Rest::open(address).await.offered("m").await;
    let mut socket = Socket::open(address).await;
    let question = json!({"content": ASKED, "options": {"system": SYSTEM}});
    let (_, answer) = socket.ask(question).await;
    let generation = answer.generation.expect("a generation");
    socket.bytes(&generation, 1).await;
    let (second, second_address) = node("ai", "ai-2");
    let first_log = first.log();
    drop(first);
    assert_eq!(socket.finished(&generation).await.status, Status::Completed);

    follow(&collector, &generation, &upstream.asked_times(2).await).await;

    let mut said = String::new();
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), events.next()).await {
        said += &String::from_utf8_lossy(&event.payload);
    }
    assert!(said.contains(generation.as_str()), "events of this cluster: {said}");
    let metrics = [Rest::open(address).await.text("/metrics").await, metrics_of(second_address).await];
    let traces = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for (what, text) in [
        ("events", &said),
        ("metrics of the gateway", &metrics[0]),
        ("metrics of the worker", &metrics[1]),
        ("traces", &traces),
        ("log of the gateway", &gateway.log()),
        ("log of the first worker", &first_log),
        ("log of the second worker", &second.log()),
    ] {
        assert!(!text.is_empty(), "{what} say nothing");
        for secret in [ASKED, ANSWERED, SYSTEM, KEY] {
            assert!(!text.contains(secret), "{secret} in {what}:\n{text}");
        }
    }
}

/// Looks at the one trace that there has to be.
async fn follow(collector: &Collector, generation: &GenerationId, asked: &[Asked]) {
    // The owner that was killed took its spans with it.
    let told = |spans: &[Collected], name: &str, node: &str| spans.iter().any(|it| it.span.name == name && it.node == node);
    let spans = collector.until(|spans| told(spans, "claim", "ai-2") && told(spans, "send", "g")).await;
    let span = |name: &str| spans.iter().find(|it| it.span.name == name).unwrap_or_else(|| panic!("{name}: {spans:#?}"));
    let (send, submit, claim, chat) = (span("send"), span("submit"), span("claim"), span("chat m"));
    let under = |it: &Collected, parent: &Collected| {
        assert_eq!(it.span.trace_id, send.span.trace_id, "{it:?}");
        assert_eq!(it.span.parent_span_id, parent.span.span_id, "{it:?}");
        assert!(it.span.start_time_unix_nano <= it.span.end_time_unix_nano, "{it:?}");
    };
    under(submit, send);
    under(claim, submit);
    under(chat, claim);
    assert!(send.span.parent_span_id.is_empty(), "{send:?}");
    assert_eq!([&send.node, &submit.node, &claim.node, &chat.node], ["g", "g", "ai-2", "ai-2"]);
    assert_eq!(send.text("chatnode.generation.id"), Some(generation.to_string()));
    assert_eq!(
        (claim.text("chatnode.attempt"), claim.text("chatnode.outcome")),
        (Some("2".to_owned()), Some("completed".to_owned()))
    );
    assert_eq!(chat.text("gen_ai.usage.output_tokens"), Some("4".to_owned()));
    assert_eq!(chat.text("chatnode.rung"), Some("restart".to_owned()));
    // The model's server is told where it stands, the first one too.
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let header = format!("traceparent: 00-{}-{}-01", hex(&send.span.trace_id), hex(&chat.span.span_id));
    assert!(asked[1].headers.contains(&header), "{header} in {:?}", asked[1].headers);
    assert!(asked[0].headers.iter().any(|line| line.starts_with(&header[..48])), "{:?}", asked[0].headers);
    assert_eq!(collector.authorized_by().as_deref(), Some("Bearer collect"));
}

async fn metrics_of(worker: SocketAddr) -> String {
    let response = crate::harness::rest::client().get(format!("http://{worker}/metrics")).send().await.expect("an answer");
    response.text().await.expect("a text")
}
