//! Whole processes: killed in the middle of answers and started again on the same data.

use std::net::SocketAddr;
use std::path::Path;

use chatnode::model::Status;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::client::{PATIENCE, Socket, Tab};
use crate::harness::process::Process;
use crate::harness::servers::{Programs, free_port, nats_url, redis_url};

const CONFIG: &str = "[ai]\nlease_ms = 500\nrenewal_ms = 100\n[[models]]\nid = \"demo\"\nprovider = \"demo\"\n";

/// A node with its data there.
pub(super) fn start(data: &Path, listen: &str) -> (Process, SocketAddr) {
    let config = data.join("chatnode.toml");
    std::fs::write(&config, CONFIG).expect("a file");
    let [config, data] = [config, data.join("data")].map(|path| path.to_str().expect("a name").to_owned());
    Process::start(&["--listen", listen, "--config", &config, "--data-dir", &data])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut process, mut address) = start(directory.path(), "127.0.0.1:0");
    let mut tabs = Vec::new();
    for _ in 0..4 {
        let mut socket = Socket::open(address).await;
        let (question, answer) = socket.ask(json!({"content": "/demo tokens=300 rate=150"})).await;
        tabs.push((socket, question.conversation.to_string(), answer.generation.expect("a generation")));
    }
    for life in 1..3 {
        for (socket, _, generation) in &mut tabs {
            socket.bytes(generation, life * 150).await;
        }
        drop(process);
        (process, address) = start(directory.path(), "127.0.0.1:0");
        let mut back = Vec::new();
        for (socket, conversation, generation) in tabs {
            let mut socket = again(socket.lose(), address).await;
            socket.subscribe(&conversation).await;
            back.push((socket, conversation, generation));
        }
        tabs = back;
    }
    for (socket, _, generation) in &mut tabs {
        assert_eq!(socket.finished(generation).await.status, Status::Completed);
        assert_eq!(socket.tab.copies[generation].text, socket.tab.expected(generation));
    }
}

/// Who comes to a gateway while it starts waits for it, and is not told that the store or the models are away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_a_node_starts_is_served() {
    let Some(programs) = Programs::find() else { return };
    let (redis, nats) = (programs.redis(&[]), programs.nats(&[]));
    let (redis_at, nats_at) = (redis_url(&redis), nats_url(&nats));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("my.toml");
    std::fs::write(&file, "[[models]]\nid = \"demo\"\nprovider = \"demo\"\n").expect("a file");
    let place = ["--redis-url", &redis_at, "--nats-url", &nats_at, "--config", file.to_str().expect("a name")];
    let (_worker, _) = Process::start(&[&place[..], &["--role", "ai", "--node-id", "w", "--listen", "127.0.0.1:0"]].concat());
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let listen = address.to_string();
    let args = [&place[..], &["--role", "gateway", "--node-id", "g", "--listen", &listen]].concat();
    redis.freeze();
    let coming = tokio::spawn(async move {
        let mut socket = again(Tab { page: true, ..Tab::default() }, address).await;
        let (_, answer) = socket.ask(json!({"content": "/demo tokens=3 rate=0"})).await;
        socket.finished(&answer.generation.expect("a generation")).await.status
    });
    let thawing = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        redis.thaw();
        redis
    });
    let (_gateway, _) = tokio::task::block_in_place(|| Process::start(&args));
    let _redis = thawing.await.expect("it goes on");
    assert_eq!(coming.await.expect("no error"), Status::Completed);
}

/// The same tab, once somebody listens.
pub(super) async fn again(tab: Tab, address: SocketAddr) -> Socket {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(socket) = tab.clone().try_connect(address).await {
            return socket;
        }
        assert!(Instant::now() < deadline, "nobody listens");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
