//! Bad clients of every kind at once: the node's memory stays within a bound, and somebody else's answers come whole.

use std::net::SocketAddr;
use std::time::Duration;

use chatnode::model::Status;
use chatnode::protocol::ServerFrame;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message as Packet;
use tokio_util::sync::CancellationToken;

use crate::harness::client::{Socket, upgrade};
use crate::harness::figure;
use crate::harness::process::Process;
use crate::harness::rest::client;

/// Bad clients at once; `CHATNODE_HOSTILE` says another number.
const CLIENTS: usize = 200;
/// What one of them may cost the node while it lasts, its outbox of 256 KiB included, and what all of them may.
const CLIENT_BYTES_MAX: f64 = 512.0 * 1024.0;
const NODE_BYTES_MAX: f64 = 96.0 * 1024.0 * 1024.0;
/// Whole answers that the good one reads among them, and how many when a number of bad ones is told: long enough to see memory stand still.
const ANSWERS: usize = 3;
const ANSWERS_LONG: usize = 5;
const ANSWER: &str = "/demo tokens=300 rate=100";
/// How long a bad one holds on to a connection.
const HOLD: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// Nobody who reads waits longer for a token, on a machine that does other things too.
const GAP_MAX: Duration = Duration::from_secs(5);

const CONFIG: &str = "[http]\nhead_timeout_ms = 1_000\nbody_timeout_ms = 1_000\n[gateway]\nping_ms = 1_000\npong_timeout_ms = 1_000\n\
    [limits.address]\nrequests_per_minute_max = 0\nconnections_max = 0\nrunning_max = 0\n[[models]]\nid = \"demo\"\nprovider = \"demo\"\n";

/// The bad ones are elsewhere, with processors of their own: here their work gives way to the node's, and only what they make the node
/// do stands before others.
struct Elsewhere(Option<tokio::runtime::Runtime>);

impl Elsewhere {
    fn new() -> Self {
        let give_way = || {
            let thread = std::fs::read_link("/proc/thread-self").expect("a thread has a name there");
            let id = thread.file_name().and_then(|name| name.to_str()).expect("a number").to_owned();
            let renice = std::process::Command::new("renice").args(["-n", "19", "-p", &id]).output().expect("renice runs");
            assert!(renice.status.success(), "{renice:?}");
        };
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(give_way).build();
        Self(Some(threads.expect("a runtime")))
    }

    fn begin(&self, address: SocketAddr, n: usize, over: &CancellationToken) -> tokio::task::JoinHandle<usize> {
        self.0.as_ref().expect("it runs").spawn(misbehave(address, n, over.clone()))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.take().expect("it runs").shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_clients_of_every_kind_at_once_hurt_nobody_else() {
    let told = std::env::vars().find(|(key, _)| key == "CHATNODE_HOSTILE").map(|(_, value)| value);
    let answers = if told.is_some() { ANSWERS_LONG } else { ANSWERS };
    let clients: usize = told.map_or(CLIENTS, |value| value.parse().expect("a number"));
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("chatnode.toml");
    std::fs::write(&file, CONFIG).expect("a file");
    let data = directory.path().join("data");
    let name = |path: &std::path::Path| path.to_str().expect("a name").to_owned();
    let args = ["--listen", "127.0.0.1:0", "--data-dir", &name(&data), "--config", &name(&file)];
    let (_process, address) = Process::start(&args);
    let before = gaps(address, 1).await;
    let rest = resident(address).await;

    let over = CancellationToken::new();
    let elsewhere = Elsewhere::new();
    let bad: Vec<_> = (0..clients).map(|n| elsewhere.begin(address, n, &over)).collect();
    let watching = tokio::spawn(residents(address, over.clone()));
    let among = gaps(address, answers).await;
    over.cancel();
    let quarters = watching.await.expect("it watches");
    let most = quarters.iter().copied().fold(0.0, f64::max);
    let mut tries = 0;
    for one in bad {
        tries += one.await.expect("it misbehaves");
    }
    println!(
        "{clients} bad clients, {tries} connections: memory {:.1} MB before, at most {:.0?} MB in each quarter; a token's gap at p99 {:?} \
         without them, {:?} among them, {:?} at most",
        rest / 1e6,
        quarters.map(|bytes| bytes / 1e6),
        p99(&before),
        p99(&among),
        among.last().expect("gaps")
    );
    assert!(tries > clients, "{tries} connections of {clients}: they came again");
    let bound = rest + NODE_BYTES_MAX + f64::from(u32::try_from(clients).expect("not so many")) * CLIENT_BYTES_MAX;
    assert!(most < bound, "{most} bytes, {rest} before");
    assert!(*among.last().expect("gaps") < GAP_MAX, "{:?}", among.last());
    gaps(address, 1).await;
}

async fn resident(address: SocketAddr) -> f64 {
    let asked = client().get(format!("http://{address}/metrics")).send().await.expect("metrics");
    figure(&asked.text().await.expect("a text"), "process_resident_memory_bytes")
}

/// The most in each quarter of the time until it is over.
async fn residents(address: SocketAddr, over: CancellationToken) -> [f64; 4] {
    let mut seen = vec![resident(address).await];
    while over.run_until_cancelled(sleep(Duration::from_millis(250))).await.is_some() {
        seen.push(resident(address).await);
    }
    let quarter = |n: usize| &seen[seen.len() * n / 4..=(seen.len() - 1).min(seen.len() * (n + 1) / 4)];
    [0, 1, 2, 3].map(|n| quarter(n).iter().copied().fold(0.0, f64::max))
}

/// On a thread of its own: within this runtime the good one would wait behind a thousand bad ones, and that is not the node's doing.
async fn gaps(address: SocketAddr, answers: usize) -> Vec<Duration> {
    let reader = move || {
        let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        alone.block_on(gaps_here(address, answers))
    };
    tokio::task::spawn_blocking(reader).await.expect("it reads")
}

/// Asks, reads to the end, and answers the times between two frames with text, sorted. The client checks every byte.
async fn gaps_here(address: SocketAddr, answers: usize) -> Vec<Duration> {
    let mut socket = Socket::open(address).await;
    let mut gaps = Vec::new();
    for _ in 0..answers {
        let (_, answer) = socket.ask(json!({"content": ANSWER})).await;
        let generation = answer.generation.expect("a generation");
        let mut last: Option<Instant> = None;
        let finished = loop {
            match socket.next().await.expect("it goes on") {
                ServerFrame::Delta { .. } => {
                    gaps.extend(last.map(|last| last.elapsed()));
                    last = Some(Instant::now());
                }
                ServerFrame::Finished(finished) if finished.generation == generation => break finished,
                _ => {}
            }
        };
        assert_eq!(finished.status, Status::Completed);
        assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    }
    gaps.sort_unstable();
    gaps
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100).min(sorted.len()) - 1]
}

/// One kind each, again and again; answers how often.
async fn misbehave(address: SocketAddr, n: usize, over: CancellationToken) -> usize {
    let mut tries = 0;
    let again = async {
        loop {
            tries += 1;
            match n % 6 {
                0 => slow_loris(address).await,
                1 => half_open(address).await,
                2 => never_reading(address).await,
                3 => oversized(address).await,
                4 => flooding(address).await,
                _ => drop(upgrade(address, None, None).await),
            }
            sleep(PAUSE).await;
        }
    };
    over.run_until_cancelled(again).await;
    tries
}

/// A head that never ends, byte by byte.
async fn slow_loris(address: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let begun = Instant::now();
    while begun.elapsed() < HOLD && stream.write_all(b"G").await.is_ok() {
        sleep(PAUSE * 5).await;
    }
}

/// A socket whose machine is gone: no ping is answered.
async fn half_open(address: SocketAddr) {
    if let Some((_socket, _)) = upgrade(address, None, None).await {
        sleep(HOLD).await;
    }
}

/// Asks for more than the system's buffers hold, and reads nothing.
async fn never_reading(address: SocketAddr) {
    let Some((mut socket, _)) = upgrade(address, None, None).await else { return };
    let ask = json!({"type": "send", "request_id": "r", "content": "/demo tokens=500 rate=500"}).to_string();
    for _ in 0..4 {
        let _ = timeout(HOLD, socket.send(Packet::text(ask.clone()))).await;
    }
    sleep(HOLD).await;
}

async fn oversized(address: SocketAddr) {
    if let Some((mut socket, _)) = upgrade(address, None, None).await {
        let _ = timeout(HOLD, socket.send(Packet::text("x".repeat(4 * 1024 * 1024)))).await;
    }
    let large = client().post(format!("http://{address}/api/conversations")).body(vec![b' '; 4 * 1024 * 1024]);
    let _ = timeout(HOLD, large.send()).await;
}

/// Far more frames than are allowed, half of them nonsense.
async fn flooding(address: SocketAddr) {
    let Some((mut socket, _)) = upgrade(address, None, None).await else { return };
    for n in 0..500 {
        let frame = if n % 2 == 0 { "{\"type\":\"ping\"}" } else { "{\"type\":\"nonsense\"}" };
        if !matches!(timeout(HOLD, socket.send(Packet::text(frame))).await, Ok(Ok(()))) {
            return;
        }
    }
    while let Ok(Some(Ok(_))) = timeout(PAUSE, socket.next()).await {}
}
