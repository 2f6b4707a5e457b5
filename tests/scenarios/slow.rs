//! Clients that hold a connection without using it: each is cut in time, and costs nobody else anything.

use std::net::SocketAddr;
use std::time::Duration;

use chatnode::config::Config;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::client::{PATIENCE, Socket, Tab, upgrade};
use crate::harness::figure;
use crate::harness::node::{Node, config, world};
use crate::harness::rest::client;
use crate::harness::tls::Certificate;

/// What is a minute or so outside of tests.
const SHORT: Duration = Duration::from_millis(300);

fn impatient() -> Config {
    let mut config = config("a");
    config.http.admin_listen = Some("127.0.0.1:0".parse().expect("an address"));
    config.http.head_timeout = SHORT;
    config.http.body_timeout = SHORT;
    config
}

async fn cut(node: &Node, reason: &str) -> f64 {
    let url = format!("http://{}/metrics", node.admin.expect("an address"));
    let text = client().get(url).send().await.expect("metrics").text().await.expect("a text");
    figure(&text, &format!("chatnode_connections_cut_total{{reason=\"{reason}\"}}"))
}

/// How long after `begun` the other side ends the connection, to which a byte goes every now and then. It began before there was one:
/// the node may see a connection before whoever opened it.
async fn drip(begun: Instant, stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), bytes: &[u8]) -> (Duration, String) {
    let mut said = Vec::new();
    let mut bytes = bytes.iter();
    loop {
        let mut some = [0; 1024];
        match timeout(Duration::from_millis(50), stream.read(&mut some)).await {
            Ok(Ok(0) | Err(_)) => return (begun.elapsed(), String::from_utf8_lossy(&said).into_owned()),
            Ok(Ok(count)) => said.extend_from_slice(&some[..count]),
            Err(_) => {}
        }
        if let Some(byte) = bytes.next() {
            let _ = stream.write_all(&[*byte]).await;
        }
        assert!(begun.elapsed() < PATIENCE, "it is never cut");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_comes_byte_by_byte_is_cut_and_so_is_silence() {
    let world = world();
    let node = Node::with(impatient(), &world).await;
    let long = "x".repeat(10_000);
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {long}");
    for bytes in [head.as_bytes(), b"".as_slice(), b"PRI * HTTP/2.0\r\n"] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(node.address).await.expect("a connection");
        let (took, said) = drip(begun, &mut stream, bytes).await;
        assert!(took >= SHORT && took < SHORT * 10, "{took:?} for {} bytes", bytes.len());
        assert_eq!(said, "");
    }
    assert!((cut(&node, "slow").await - 3.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_agrees_on_encryption_is_cut() {
    let (world, dir, certificate) = (world(), tempfile::tempdir().expect("a directory"), Certificate::generate());
    let mut config = impatient();
    config.http.tls = Some(certificate.write(dir.path()));
    let node = Node::with(config, &world).await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(node.address).await.expect("a connection");
    // The beginning of a ClientHello of 512 bytes.
    let (took, _) = drip(begun, &mut stream, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
    assert!(took >= SHORT && took < SHORT * 10, "{took:?}");
    // And whoever agrees, and then asks nothing.
    let begun = Instant::now();
    let mut stream = certificate.connect(node.address, &[]).await.expect("an agreement");
    let (took, _) = drip(begun, &mut stream, b"GET / HT").await;
    assert!(took >= SHORT && took < SHORT * 10, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_byte_by_byte_is_refused_and_so_is_one_that_never_comes() {
    let world = world();
    let node = Node::with(impatient(), &world).await;
    for body in [" ".repeat(1_000), String::new()] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(node.address).await.expect("a connection");
        let head =
            "POST /api/conversations HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("sent");
        let (took, said) = drip(begun, &mut stream, body.as_bytes()).await;
        assert!(took >= SHORT && took < SHORT * 10, "{took:?}");
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("connection: close"), "{said}");
        assert!(said.contains("the body could not be read"), "{said}");
    }
    // One that nobody reads: it is answered at once, and not waited for.
    let begun = Instant::now();
    let mut stream = TcpStream::connect(node.address).await.expect("a connection");
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n").await.expect("sent");
    let (_, said) = drip(begun, &mut stream, " ".repeat(1_000).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_between_two_requests_has_more_time_but_not_forever() {
    let world = world();
    let mut config = impatient();
    config.http.idle_timeout = SHORT * 4;
    let node = Node::with(config, &world).await;
    let mut stream = TcpStream::connect(node.address).await.expect("a connection");
    for _ in 0..2 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let mut said = [0; 16];
        stream.read_exact(&mut said).await.expect("an answer");
        sleep(SHORT * 2).await;
    }
    let (_, said) = drip(Instant::now(), &mut stream, b"").await;
    assert!(said.ends_with("ok\n"), "{said}");
    assert!((cut(&node, "idle").await - 1.0).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_the_others_go_on() {
    let world = world();
    let mut config = impatient();
    config.http.connections_max = 3;
    config.http.head_timeout = Duration::from_secs(60);
    let node = Node::with(config, &world).await;
    // One of them has become a socket, and counts as before.
    let mut socket = Socket::open(node.address).await;
    let silent = [TcpStream::connect(node.address).await.expect("one"), TcpStream::connect(node.address).await.expect("another")];
    let begun = Instant::now();
    while cut(&node, "full").await < 1.0 {
        let (took, said) = drip(Instant::now(), &mut TcpStream::connect(node.address).await.expect("a connection"), b"").await;
        assert!(took < SHORT * 10 && said.is_empty(), "{took:?} {said}");
        assert!(begun.elapsed() < PATIENCE);
    }
    socket.tell(serde_json::json!({"type": "ping"})).await;
    socket.until("pong", |frame, _| matches!(frame, chatnode::protocol::ServerFrame::Pong).then_some(())).await;
    // Operators have room of their own.
    assert!(cut(&node, "full").await >= 1.0);
    drop(silent);
    let begun = Instant::now();
    while Tab::default().try_connect(node.address).await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "a place that was left is never given away");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_and_never_reads_is_cut() {
    let world = world();
    let mut config = impatient();
    config.http.write_timeout = SHORT;
    let node = Node::with(config, &world).await;
    let mut stream = TcpStream::connect(node.address).await.expect("a connection");
    let requests = "GET /api/openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20);
    let begun = Instant::now();
    // As many answers as fit into the buffers of the system, and then some.
    while cut(&node, "unread").await < 1.0 {
        let _ = timeout(Duration::from_millis(50), stream.write_all(requests.as_bytes())).await;
        assert!(begun.elapsed() < PATIENCE, "it is never cut");
    }
}

/// Open sockets, as the node counts them.
async fn open(node: &Node) -> f64 {
    let url = format!("http://{}/metrics", node.admin.expect("an address"));
    let text = client().get(url).send().await.expect("metrics").text().await.expect("a text");
    figure(&text, "chatnode_ws_connections")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_answers_no_ping_is_cut_and_one_that_does_stays() {
    let world = world();
    let mut config = impatient();
    (config.gateway.ping, config.gateway.pong_timeout) = (SHORT, SHORT);
    let node = Node::with(config, &world).await;
    // The library answers pings while it is read from: this one isn't, as if its machine were gone.
    let (mut gone, _) = upgrade(node.address, None, None).await.expect("a socket");
    // This one is read from, and hears nothing: no answer is open.
    let mut there = Socket::open(node.address).await;
    let reading = tokio::spawn(async move { there.next().await });
    let begun = Instant::now();
    while open(&node).await > 1.5 || begun.elapsed() < SHORT * 8 {
        assert!(begun.elapsed() < PATIENCE, "it is never cut");
        sleep(Duration::from_millis(50)).await;
    }
    assert!((open(&node).await - 1.0).abs() < 0.5 && !reading.is_finished(), "who answers stays");
    reading.abort();
    // Past the library, which would answer the pings, be reset for it, and never come to the goodbye.
    let mut told = Vec::new();
    timeout(PATIENCE, gone.get_mut().read_to_end(&mut told)).await.expect("an end").expect("no reset");
    let goodbye = told.windows(4).find(|frame| frame[0] == 0x88).expect("a close frame");
    assert_eq!(u16::from_be_bytes([goodbye[2], goodbye[3]]), 1001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_slow_ones_hold_up_nobody() {
    let world = world();
    let mut config = impatient();
    config.http.head_timeout = SHORT * 3;
    let node = Node::with(config, &world).await;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..100 {
        slow.push(TcpStream::connect(node.address).await.expect("a connection"));
    }
    let get =
        async |address: SocketAddr| client().get(format!("http://{address}/livez")).send().await.expect("an answer").status();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    }
    assert_eq!(get(node.address).await, StatusCode::OK);
    let begun = Instant::now();
    while cut(&node, "slow").await < 99.5 {
        assert_eq!(get(node.address).await, StatusCode::OK);
        assert!(begun.elapsed() < PATIENCE, "{} of 100 were cut", cut(&node, "slow").await);
    }
}
