//! Whole processes: killed in the middle of answers and started again on the same data.

use std::net::SocketAddr;
use std::path::Path;

use chatnode::model::Status;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::client::{PATIENCE, Socket, Tab};
use crate::harness::process::Process;

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
