//! What clients should not send, and what they get for it: a clear error, and nothing lost.

use chatnode::protocol::{ErrorCode, ServerFrame};
use futures_util::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Packet;

use crate::harness::client::{Socket, upgrade};
use crate::harness::node::{Node, config, world};
use crate::harness::rest::{Rest, read};

#[tokio::test]
async fn the_third_bad_frame_closes() {
    let world = world();
    let node = Node::start("a", &world).await;
    let bad = [
        Packet::text(r#"{"type":"sing"}"#),
        Packet::text("{not json"),
        Packet::binary(vec![1, 2, 3]),
        Packet::text(r#"{"type":"send","request_id":"r"}"#),
        Packet::text("[]"),
        Packet::text("null"),
        Packet::text(r#"{"type":7}"#),
        Packet::text("[".repeat(50_000)),
        Packet::text(format!(r#"{{"type":"ping","x":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000))),
    ];
    for three in bad.chunks(3) {
        let mut socket = Socket::open(node.address).await;
        for packet in three {
            socket.raw(packet.clone()).await;
            assert_eq!(socket.error().await.code, ErrorCode::BadFrame, "{packet:?}");
        }
        assert_eq!(socket.closed().await, Some(4400));
    }
    let mut socket = Socket::open(node.address).await;
    socket.tell(json!({"type": "send", "request_id": "mine", "content": 7})).await;
    assert_eq!(socket.error().await.request_id.as_deref(), Some("mine"));
    socket.tell(json!({"type": "ping", "unknown": "fields are ignored"})).await;
    socket.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let world = world();
    let mut small = config("a");
    small.gateway.prompt_bytes_max = 1_000;
    small.gateway.frame_bytes_max = 2_000;
    small.gateway.import_bytes_max = 300_000;
    let node = Node::with(small, &world).await;
    let mut socket = Socket::open(node.address).await;
    socket.tell(json!({"type": "send", "request_id": "r", "content": "x".repeat(1_001)})).await;
    let error = socket.error().await;
    assert_eq!((error.code, error.request_id.as_deref()), (ErrorCode::TooLarge, Some("r")));
    socket.ask(json!({"content": "x".repeat(1_000)})).await;
    socket.tell(json!({"type": "subscribe", "conversation": "x".repeat(2_000)})).await;
    assert_eq!(socket.closed().await, Some(1009));
    let mut socket = Socket::open(node.address).await;
    socket.raw(Packet::text("x".repeat(1_000_000))).await;
    // Also while most of it is still under way.
    assert_eq!(socket.closed().await, Some(1009));
    let rest = Rest::open(node.address).await;
    let path = format!("/api/conversations/{}/messages", rest.conversation().await);
    let (status, body) = rest.post(&path, &json!({"content": "x".repeat(1_001)})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("too_large")));
    let (status, body) = rest.post(&path, &json!({"content": "x".repeat(200_000)})).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("too_large")));
    // An import may be larger than a question, up to its own limit.
    let mut export = rest.got(&path.replace("/messages", "/export?format=json")).await;
    export["conversation"]["title"] = "x".repeat(250_000).into();
    let (status, body) = rest.post("/api/import", &export).await;
    assert_eq!(status.as_u16(), 201, "{body}");
    export["conversation"]["title"] = "x".repeat(300_000).into();
    let (status, body) = rest.post("/api/import", &export).await;
    assert_eq!((status.as_u16(), &body["error"]["code"]), (413, &json!("too_large")));
}

#[tokio::test]
async fn a_refusal_reaches_who_still_sends_and_tells_whether_the_connection_lives() {
    let world = world();
    let node = Node::start("a", &world).await;
    let path = "POST /api/conversations HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    let mut wire = TcpStream::connect(node.address).await.expect("a connection");
    let head = |bytes: usize| format!("{path}content-length: {bytes}\r\n\r\n");
    // More than the node and both sockets hold while nobody reads, and far more than the route takes.
    let body = vec![b'x'; 12_000_000];
    wire.write_all(head(body.len()).as_bytes()).await.expect("sent");
    wire.write_all(&body).await.expect("the node takes it all");
    let refusal = answer(&mut wire).await;
    assert!(refusal.starts_with("HTTP/1.1 413 ") && !refusal.contains("connection: close"), "{refusal}");
    wire.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    assert!(answer(&mut wire).await.starts_with("HTTP/1.1 200 "));
    wire.write_all(head(20_000_000).as_bytes()).await.expect("sent");
    wire.write_all(&body[..4_000_000]).await.expect("sent");
    let refusal = answer(&mut wire).await;
    assert!(refusal.starts_with("HTTP/1.1 413 ") && refusal.contains("connection: close"), "{refusal}");
}

/// One whole response.
async fn answer(wire: &mut TcpStream) -> String {
    let mut read = String::new();
    loop {
        let head = read.split_once("\r\n\r\n");
        let length = head.and_then(|(head, _)| head.split("content-length: ").nth(1)?.lines().next()?.parse().ok());
        if head.is_some_and(|(_, body)| body.len() >= length.unwrap_or(0)) {
            return read;
        }
        let mut some = [0; 1_024];
        let count = wire.read(&mut some).await.expect("an answer");
        assert!(count > 0, "closed after {read:?}");
        read.push_str(std::str::from_utf8(&some[..count]).expect("text"));
    }
}

#[tokio::test]
async fn another_sites_page_gets_no_welcome() {
    let world = world();
    let node = Node::start("a", &world).await;
    let (mut stream, _) = upgrade(node.address, None, Some("https://evil.example")).await.expect("an upgrade");
    match stream.next().await {
        Some(Ok(Packet::Close(Some(close)))) => assert_eq!(u16::from(close.code), 1008),
        other => panic!("{other:?}"),
    }
    let own = format!("http://{}", node.address);
    let (mut stream, _) = upgrade(node.address, None, Some(&own)).await.expect("an upgrade");
    assert!(matches!(stream.next().await, Some(Ok(Packet::Text(_)))));
}

#[tokio::test]
async fn who_asks_too_fast_is_told_when_to_come_back() {
    let world = world();
    let mut strict = config("a");
    strict.gateway.frames_per_second_max = 5;
    let node = Node::with(strict, &world).await;
    let mut socket = Socket::open(node.address).await;
    for _ in 0..12 {
        socket.tell(json!({"type": "ping"})).await;
    }
    let error = socket.error().await;
    assert_eq!(error.code, ErrorCode::RateLimited);
    assert!(error.retry_after_ms.is_some_and(|ms| ms > 0));
}

#[tokio::test]
async fn rest_answers_nonsense_with_an_error_of_its_own_shape() {
    let world = world();
    let node = Node::start("a", &world).await;
    let rest = Rest::open(node.address).await;
    let id = rest.conversation().await;
    let post = |path: &str| rest.request(reqwest::Method::POST, path);
    let messages = format!("/api/conversations/{id}/messages");
    let json_of = |body: &str| post(&messages).header("content-type", "application/json").body(body.to_owned());
    let cases = [
        (post(&messages).header("content-type", "text/plain").body(r#"{"content":"hi"}"#), 400),
        (post(&messages).body(r#"{"content":"hi"}"#), 400),
        (json_of("{"), 400),
        (json_of("{}"), 400),
        (json_of(r#"{"content":7}"#), 400),
        (json_of(r#"{"content":"  "}"#), 400),
        (json_of(&"[".repeat(100_000)), 400),
        (json_of(r#"{"content":"hi","options":{"temperature":9}}"#), 400),
        (json_of(r#"{"content":"hi","model":"nobody"}"#), 422),
        (json_of(r#"{"content":"hi","parent":"msg_none"}"#), 404),
        (post("/api/conversations").header("content-type", "application/json").body(r#"{"titel":"x"}"#), 400),
        (rest.request(reqwest::Method::PUT, "/api/conversations"), 405),
        (rest.request(reqwest::Method::DELETE, "/api/models"), 405),
        (rest.request(reqwest::Method::GET, "/api/nothing/here"), 404),
        (rest.request(reqwest::Method::GET, "/api/conversations?limit=many"), 400),
        (rest.request(reqwest::Method::GET, "/api/generations/gen_x/events"), 404),
        (rest.request(reqwest::Method::GET, &format!("{messages}?leaf=msg_x")), 404),
    ];
    for (number, (request, expected)) in cases.into_iter().enumerate() {
        let (status, body) = read(request).await;
        assert_eq!(status.as_u16(), expected, "case {number}: {body}");
        assert!(body["error"]["code"].is_string() && body["error"]["message"].is_string(), "case {number}: {body}");
    }
}
