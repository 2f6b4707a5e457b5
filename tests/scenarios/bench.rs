//! `chatnode bench` measures a real node, checks what it is told, and says so when it is told something wrong.

use std::net::{SocketAddr, TcpListener as Port};
use std::process::{Command, Output};

use chatnode::config::ProviderKind;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::node::{self, Node};
use crate::harness::servers;

/// Runs the program while this runtime goes on.
async fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatnode"));
    command.env_clear().arg("bench").args(args);
    tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("it ends")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_measures_a_node_and_finds_its_answers_right() {
    let upstream = Port::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string();
    let mut config = node::config("bench");
    let mut asked = node::model("bench");
    asked.upstreams[0].provider = ProviderKind::OpenAi;
    asked.upstreams[0].base_url = format!("http://{upstream}/v1");
    config.ai.models = chatnode::config::ModelSource::Configured(vec![node::model("demo"), asked]);
    let node = Node::with(config, &node::world()).await;

    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let (json, page, url) = (file("figures.json"), file("page.html"), format!("http://{}", node.address));
    let scenarios = ["connect", "send", "delivery", "first-token", "history", "cancel", "resume", "idle", "mixed", "fanout"];
    let small = ["--seconds", "1", "--rate", "10", "--users", "3", "--answers", "3", "--connections", "20", "--readers", "3"];
    let places = ["--url", &url, "--url", &url, "--upstream", &upstream, "--json", &json, "--report", &page, "--goals"];
    let output = bench(&[&scenarios[..], &small, &places].concat()).await;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("first-token, added: p99"), "{}", said(&output));

    let figures: Value = serde_json::from_str(&std::fs::read_to_string(json).expect("a file")).expect("JSON");
    let outcomes = figures["outcomes"].as_array().expect("outcomes");
    let counted =
        |name: &str| outcomes.iter().find(|outcome| outcome["name"] == name).map(|outcome| &outcome["latency"]["count"]);
    for name in ["connect", "send", "first-token", "history of 100", "history of 10000", "cancel", "resume"] {
        assert_eq!(counted(name).and_then(Value::as_u64), Some(10), "{name}");
    }
    let bare = outcomes.iter().find(|outcome| outcome["name"] == "bare fanout 10/s").expect("a fan-out without a store");
    assert_eq!(bare["latency"]["count"], 30);
    // Three answers, fifty tokens each: every token was timed.
    assert_eq!(counted("delivery").and_then(Value::as_u64), Some(150));
    assert!(outcomes.iter().all(|outcome| !outcome["what"].as_str().expect("text").contains("not measured")), "{outcomes:?}");
    assert!(std::fs::read_to_string(page).expect("a file").contains("<svg"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_for_each_chunk_is_tried_on_the_same_redis() {
    let Some(servers) = servers::shared() else { return };
    let node = Node::start("bench", &node::world()).await;
    let (url, redis) = (format!("http://{}", node.address), servers::redis_url(&servers.redis));
    let output = bench(&["tokens", "--seconds", "1", "--answers", "2", "--url", &url, "--redis-url", &redis]).await;
    let said = said(&output);
    assert!(output.status.success() && said.contains("locked 2000/s") && said.contains("lock for each chunk"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_answer_fails_the_bench_however_fast_it_was() {
    let node = Node::start("honest", &node::world()).await;
    // One token says that it is the next one: no frame changes its length.
    let liar = tampering(node.address, b"000007 ", b"000008 ").await;
    let args = ["delivery", "--seconds", "1", "--answers", "1", "--token-rate", "20", "--url"];
    let url = format!("http://{liar}");
    let output = bench(&[&args[..], &[&url]].concat()).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("token 8 where 7 was due"), "{}", said(&output));

    let nobody = Port::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let output = bench(&["connect", "--url", &format!("http://{nobody}")]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let output = bench(&["connect", "--rate", "0"]).await;
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
}

/// A link to a node that changes what it says.
async fn tampering(to: SocketAddr, from: &'static [u8], into: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(to).await else { continue };
            let ((mut said, mut heard), (mut told, mut asked)) = (server.into_split(), client.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut told, &mut heard).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = said.read(&mut bytes).await {
                    let mut at = 0;
                    while let Some(found) = bytes[at..count].windows(from.len()).position(|part| part == from) {
                        bytes[at + found..at + found + into.len()].copy_from_slice(into);
                        at += found + into.len();
                    }
                    if asked.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}
