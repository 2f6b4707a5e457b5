//! Whole processes: killed in the middle of answers and started again on the same data.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chatnode::model::Status;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::client::{PATIENCE, Socket, Tab};

pub(super) struct Process(Child);

const CONFIG: &str = "[ai]\nlease_ms = 500\nrenewal_ms = 100\n[[models]]\nid = \"demo\"\nprovider = \"demo\"\n";

impl Process {
    pub(super) fn start(data: &Path, listen: &str) -> (Self, SocketAddr) {
        let config = data.join("chatnode.toml");
        std::fs::write(&config, CONFIG).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_chatnode"))
            .env_clear()
            .args(["--listen", listen, "--log-format", "json", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(data.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let errors = child.stderr.take().expect("its log");
        let (told, address) = std::sync::mpsc::channel();
        // Reads on, so that the program never waits for its log.
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let found = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
                if let Some(address) = found {
                    let _ = told.send(address);
                }
            }
        });
        let process = Self(child);
        let address = address.recv_timeout(PATIENCE).expect("the program says where it listens");
        (process, address)
    }
}

impl Drop for Process {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_goes_on_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut process, mut address) = Process::start(directory.path(), "127.0.0.1:0");
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
        (process, address) = Process::start(directory.path(), "127.0.0.1:0");
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
