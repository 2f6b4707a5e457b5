//! The whole cluster as `scripts/cluster` starts it, met through nginx: what dies underneath, readers do not notice for long.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};

use chatnode::model::Status;
use chatnode::protocol::ServerFrame;
use serde_json::json;
use tempfile::TempDir;

use crate::conformance::stage::eventually;
use crate::harness::client::{Socket, Tab};
use crate::harness::rest::Rest;
use crate::harness::servers::Programs;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/cluster");

/// Every port that the script may use with an offset of 0.
const PORTS: [u16; 12] = [3000, 8080, 8081, 8082, 8083, 8091, 8092, 8093, 8094, 14222, 16379, 16380];

/// Below the ports that the system gives away.
const OFFSET_MAX: u16 = 16_000;

/// Everything that the script started is stopped when this is dropped, or when this process ends, however it ends.
struct Topology {
    run: TempDir,
    offset: u16,
    guard: Child,
}

impl Topology {
    /// `None` where the servers are not installed, and need not be.
    fn up() -> Option<Self> {
        Programs::find()?;
        let nginx = Command::new("sh").args(["-c", "PATH=$PATH:/usr/sbin command -v nginx"]).output().expect("a shell");
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(nginx.status.success() || !required, "nginx is required, and not here");
        if !nginx.status.success() {
            eprintln!("left out: nginx is not on this machine");
            return None;
        }
        let run = tempfile::tempdir().expect("a directory");
        let offset = free_offset();
        let mut guard = Command::new("sh");
        guard.args(["-c", "read -r _; exec \"$0\" down", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null());
        let guard = environment(&mut guard, &run, offset).spawn().expect("a shell");
        let topology = Self { run, offset, guard };
        topology.told(&["up"]);
        Some(topology)
    }

    fn script(&self, args: &[&str]) -> Output {
        // Not through pipes, which what it starts could hold open.
        environment(&mut Command::new(SCRIPT), &self.run, self.offset).args(args).output().expect("the script")
    }

    /// What it prints; it has to go well.
    #[track_caller]
    fn told(&self, args: &[&str]) -> String {
        let output = self.script(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn address(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port + self.offset).into()
    }

    fn nginx(&self) -> SocketAddr {
        self.address(8080)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Nothing of our own environment but the path: a model that somebody has configured is none of this test's.
fn environment<'a>(command: &'a mut Command, run: &TempDir, offset: u16) -> &'a mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("CHATNODE_BIN", env!("CARGO_BIN_EXE_chatnode"))
        .env("CHATNODE_RUN", run.path())
        .env("CHATNODE_PORT_OFFSET", offset.to_string())
}

fn free_offset() -> u16 {
    let free = |offset: &u16| PORTS.iter().all(|port| is_free(port + offset));
    std::iter::repeat_with(|| rand::random_range(1..=OFFSET_MAX)).take(100).find(free).expect("free ports")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_behind_nginx_end_with_the_whole_text_when_gateway_and_worker_are_killed() {
    let Some(topology) = Topology::up() else { return };
    let front = topology.nginx();
    let mut first = Socket::open(front).await;
    let rest = Rest::of(&first.tab, front);
    assert_eq!(rest.text("/livez").await.trim(), "ok", "the page asks it before it connects again");
    assert!(!rest.text("/metrics").await.contains("chatnode_"), "that is the operator's");
    let serving = rest.got("/health").await["node"].as_str().expect("a name").to_owned();
    let elsewhere = if serving == "gateway-2" { topology.address(8083) } else { topology.address(8082) };

    let (question, answer) = first.ask(json!({"content": "/demo tokens=500 rate=60"})).await;
    let conversation = question.conversation.to_string();
    let generation = answer.generation.expect("a generation");
    let mut second = Tab { copies: Default::default(), ..first.tab.clone() }.connect(elsewhere).await;
    second.subscribe(&conversation).await;
    first.bytes(&generation, 100).await;
    second.bytes(&generation, 100).await;

    let asked = Rest::of(&second.tab, elsewhere);
    let worker = eventually("somebody writes the answer", async || {
        let nodes = asked.got("/api/cluster").await["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().find(|node| node["running"] == 1).and_then(|node| Some(node["id"].as_str()?.to_owned()))
    })
    .await;
    topology.told(&["kill", &worker]);
    topology.told(&["kill", &serving]);
    assert!(!topology.script(&["status"]).status.success(), "two are gone");

    first.closed().await;
    let tab = first.lose();
    // The same address as before: nginx finds who is there.
    let mut first = eventually("nginx asks another gateway", async || tab.clone().try_connect(front).await).await;
    first.subscribe(&conversation).await;
    for reader in [&mut first, &mut second] {
        let finished = reader.finished(&generation).await;
        assert_eq!(finished.status, Status::Completed);
        assert_eq!(reader.tab.copies[&generation].text, reader.tab.expected(&generation));
    }
}

/// nginx takes the same address to the same gateway, which lets nobody new in while it leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_while_its_gateway_leaves_is_let_in_by_another_one_at_once() {
    let Some(topology) = Topology::up() else { return };
    let node = |socket: &Socket| match &socket.welcome {
        ServerFrame::Welcome { node, .. } => node.clone(),
        other => panic!("{other:?}"),
    };
    let mut stays = Socket::open(topology.nginx()).await;
    let leaves = node(&stays);
    let pid = std::fs::read_to_string(topology.run.path().join("pids").join(&leaves)).expect("its pid");
    let pid = pid.split_whitespace().next().expect("a number");
    assert!(Command::new("kill").args(["-TERM", pid]).status().expect("kill").success());
    stays.until("reconnect", |frame, _| matches!(frame, ServerFrame::Reconnect { .. }).then_some(())).await;
    for _ in 0..3 {
        let comes = Tab::default().try_connect(topology.nginx()).await.expect("somebody lets it in");
        assert_ne!(node(&comes), leaves);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_grows_heals_and_leaves_nothing_behind() {
    let Some(topology) = Topology::up() else { return };
    // Each node tells of itself once a second.
    eventually("all know each other", async || {
        let whole = topology.told(&["status"]);
        let serves = |node: &&str| whole.lines().any(|line| line.starts_with(*node) && line.contains("serves"));
        ["gateway-1", "gateway-2", "gateway-3", "ai-1", "ai-2", "ai-3"].iter().all(serves).then_some(())
    })
    .await;
    assert!(topology.told(&["up"]).contains("everything runs already"));
    // One more, that nobody else was told about.
    topology.told(&["up", "ai-4"]);
    eventually("the new node is known", async || topology.told(&["status"]).contains("7 nodes (0 draining)").then_some(())).await;
    // Whatever is killed comes back; nginx with all its workers, which would keep its ports.
    for name in ["nginx", "gateway-1", "ai-4", "nats"] {
        topology.told(&["kill", name]);
    }
    let sentence = String::from_utf8(topology.script(&["status"]).stderr).expect("text");
    assert!(sentence.starts_with("chatnode: nobody answers at http://127.0.0.1:") && sentence.lines().count() == 1, "{sentence}");
    topology.told(&["up"]);
    topology.told(&["logs", "gateway-1"]);
    topology.told(&["kill", "nginx"]);
    topology.told(&["kill", "ai-1"]);
    topology.told(&["down"]);
    let taken: Vec<u16> = PORTS.iter().map(|port| port + topology.offset).filter(|port| !is_free(*port)).collect();
    assert_eq!(taken, Vec::<u16>::new());
}
