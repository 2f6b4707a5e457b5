//! The REST routes: conversations, messages, events, search, export, and the document that describes them.

use std::collections::BTreeMap;
use std::time::Duration;

use chatnode::model::MessageId;
use chatnode::protocol::ServerFrame;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::harness::client::{PATIENCE, Socket, Tab};
use crate::harness::node::{Node, config, world};
use crate::harness::rest::{Rest, read};

/// The events of a stream that ends: name, id and frame of each.
fn events(text: &str) -> Vec<(String, Option<String>, ServerFrame)> {
    let blocks = text.split("\n\n").filter(|block| block.lines().any(|line| line.starts_with("data:")));
    let read = |block: &str| {
        let field = |name: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        let data = field("data").expect("data");
        (field("event").expect("a name"), field("id"), serde_json::from_str(&data).expect("a frame"))
    };
    blocks.map(read).collect()
}

#[tokio::test]
async fn a_question_by_rest_is_answered_by_events() {
    let world = world();
    let node = Node::start("a", &world).await;
    let rest = Rest::open(node.address).await;
    let id = rest.conversation().await;
    let path = format!("/api/conversations/{id}/messages");
    let ask = |key: &str| {
        let request = rest.request(Method::POST, &path).header("idempotency-key", key);
        request.json(&json!({"content": "/demo tokens=80 rate=400 reason=5"}))
    };
    let response = ask("key").header("accept", "text/event-stream").send().await.expect("an answer");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let all = events(&response.text().await.expect("a stream that ends"));
    assert_eq!(all[0].0, "accepted");
    assert_eq!(all.last().map(|last| last.0.as_str()), Some("finished"));
    let mut tab = Tab::default();
    all.iter().for_each(|(_, _, frame)| tab.apply(frame));
    let (generation, copy) = tab.copies.iter().next().expect("an answer");
    assert_eq!(copy.text, tab.expected(generation));

    // From any place in the middle, by either way to say it, the rest is exactly what comes.
    let places: Vec<usize> = (1..all.len()).filter(|at| all[*at].1.is_some()).step_by(7).collect();
    for (n, at) in places.into_iter().enumerate() {
        let mut half = Tab::default();
        all[..=at].iter().for_each(|(_, _, frame)| half.apply(frame));
        let position = all[at].1.as_deref().expect("a position");
        let events_path = format!("/api/generations/{generation}/events");
        let request = if n % 2 == 0 {
            rest.request(Method::GET, &events_path).header("last-event-id", position)
        } else {
            rest.request(Method::GET, &format!("{events_path}?after={position}"))
        };
        let rest_of_it = events(&request.send().await.expect("an answer").text().await.expect("a stream that ends"));
        rest_of_it.iter().for_each(|(_, _, frame)| half.apply(frame));
        assert!(half.copies[generation].finished.is_some(), "after {position}");
    }

    // The same key asks nothing new.
    let (status, body) = read(ask("key")).await;
    assert_eq!((status.as_u16(), &body["assistant_message"]["generation"]), (202, &json!(generation)));
    let (_, other) = read(ask("another key")).await;
    assert_ne!(other["assistant_message"]["generation"], json!(generation));
}

#[tokio::test]
async fn conversations_are_renamed_found_and_deleted_before_every_tabs_eyes() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let rest = Rest::open(a.address).await;
    let mut tab = rest.tab().connect(b.address).await;
    let (question, answer) = tab.ask(json!({"content": "Thời tiết Đà Nẵng\n/demo tokens=100000 rate=100"})).await;
    let id = question.conversation.to_string();
    let path = format!("/api/conversations/{id}");
    tab.bytes(answer.generation.as_ref().expect("a generation"), 10).await;
    let (status, body) = read(rest.request(Method::PATCH, &path).json(&json!({"title": "Nắng", "pinned": true}))).await;
    assert_eq!((status.as_u16(), &body["title"], &body["pinned"]), (200, &json!("Nắng"), &json!(true)));
    let renamed = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Conversation { conversation } => (conversation.conversation.title == "Nắng").then_some(()),
        _ => None,
    };
    tab.until("the new title", renamed).await;
    for (q, found) in [("da nang", 1), ("NANG", 1), ("thoi tiet", 1), ("mưa", 0)] {
        let q: String = url::form_urlencoded::byte_serialize(q.as_bytes()).collect();
        let list = rest.got(&format!("/api/conversations?q={q}")).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(found), "{q}: {list}");
    }
    assert_eq!(rest.request(Method::DELETE, &path).send().await.expect("an answer").status().as_u16() / 100, 2);
    let deleted = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Conversation { conversation } => conversation.deleted.then_some(()),
        _ => None,
    };
    tab.until("the end of the conversation", deleted).await;
    assert_eq!(rest.get(&path).await.0, 404);
    assert_eq!(rest.get(&format!("{path}/messages")).await.0, 404);
}

#[tokio::test]
async fn events_of_what_is_deleted_end() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let rest = Rest::open(a.address).await;
    let path = format!("/api/conversations/{}", rest.conversation().await);
    let (_, asked) = rest.post(&format!("{path}/messages"), &json!({"content": "/demo tokens=100000 rate=100"})).await;
    let generation = asked["assistant_message"]["generation"].as_str().expect("an id");
    let events = rest.at(b.address).request(Method::GET, &format!("/api/generations/{generation}/events"));
    let mut events = events.send().await.expect("events");
    events.chunk().await.expect("an event").expect("text");
    rest.request(Method::DELETE, &path).send().await.expect("an answer");
    tokio::time::timeout(PATIENCE, events.text()).await.expect("an end in time").expect("an end in good order");
}

#[tokio::test]
async fn a_conversation_goes_out_and_comes_back() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": "kept\n/demo tokens=20 rate=0"})).await;
    socket.finished(answer.generation.as_ref().expect("a generation")).await;
    let rest = Rest::of(&socket.tab, node.address);
    let path = format!("/api/conversations/{}/export", question.conversation);
    let export = rest.got(&format!("{path}?format=json")).await;
    let markdown = rest.request(Method::GET, &format!("{path}?format=markdown")).send().await.expect("an answer");
    let markdown = markdown.text().await.expect("text");
    let text = &socket.tab.copies.values().next().expect("an answer").text;
    assert!(markdown.contains("kept") && markdown.contains(text.as_str()), "{markdown}");
    let (status, imported) = rest.post("/api/import", &export).await;
    assert_eq!((status.as_u16(), &imported["messages"]), (201, &json!(2)), "{imported}");
    let copy = imported["conversation"]["id"].as_str().expect("an id");
    assert_ne!(copy, question.conversation.as_str());
    let history = rest.got(&format!("/api/conversations/{copy}/messages")).await;
    assert_eq!(history["items"][1]["content"], json!(text));
    let (status, body) = rest.post("/api/import", &json!({"format": "other", "messages": []})).await;
    assert_eq!(status, 400, "{body}");
}

/// A file is written a few messages at a time.
#[tokio::test]
async fn a_conversation_of_any_length_goes_out_whole() {
    let node = Node::start("a", &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=3 rate=0"})).await;
    socket.finished(answer.generation.as_ref().expect("a generation")).await;
    let rest = Rest::of(&socket.tab, node.address);
    let mut file = rest.got(&format!("/api/conversations/{}/export", question.conversation)).await;
    let two = file["messages"].as_array().expect("messages").clone();
    for count in [0, 1, 16, 33] {
        let mut messages: Vec<Value> = Vec::new();
        for n in 0..count {
            let mut message = two[n % 2].clone();
            message["content"] = format!("line {n}\n\"quoted\" đường").into();
            message["parent"] = messages.last().map_or(Value::Null, |before| before["id"].clone());
            message["id"] = MessageId::generate(&question.conversation).as_str().into();
            messages.push(message);
        }
        let texts = |messages: &[Value]| messages.iter().map(|message| message["content"].clone()).collect::<Vec<_>>();
        let expected = texts(&messages);
        file["messages"] = messages.into();
        let (status, imported) = rest.post("/api/import", &file).await;
        assert_eq!(status, StatusCode::CREATED, "{imported}");
        let id = imported["conversation"]["id"].as_str().expect("an id");
        let again = rest.got(&format!("/api/conversations/{id}/export")).await;
        assert_eq!(texts(again["messages"].as_array().expect("messages")), expected);
        let page = rest.request(Method::GET, &format!("/api/conversations/{id}/export?format=markdown"));
        let page = page.send().await.expect("an answer").text().await.expect("a whole text");
        let lines: Vec<String> = (0..count).map(|n| format!("line {n}")).collect();
        assert_eq!(page.lines().filter(|line| line.starts_with("line ")).collect::<Vec<_>>(), lines);
    }
}

#[tokio::test]
async fn every_documented_route_is_there_and_never_breaks() {
    let world = world();
    let node = Node::start("a", &world).await;
    let rest = Rest::open(node.address).await;
    let document = rest.got("/api/openapi.json").await;
    let paths: BTreeMap<String, Value> = serde_json::from_value(document["paths"].clone()).expect("paths");
    let expected = [
        "/api/cluster",
        "/api/conversations",
        "/api/conversations/{id}",
        "/api/conversations/{id}/export",
        "/api/conversations/{id}/messages",
        "/api/generations/{id}/cancel",
        "/api/generations/{id}/events",
        "/api/import",
        "/api/keys",
        "/api/keys/{id}",
        "/api/login",
        "/api/login/oidc",
        "/api/login/oidc/callback",
        "/api/logout",
        "/api/me",
        "/api/models",
    ];
    assert_eq!(paths.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    let operations = paths.values().flat_map(|methods| methods.as_object().expect("methods").values());
    for response in operations.filter_map(|operation| operation["responses"].as_object()).flat_map(|responses| responses.values())
    {
        assert_ne!(response["description"].as_str().unwrap_or_default(), "", "OpenAPI wants words: {response}");
    }
    let first = reqwest::get(format!("http://{}/api/login", node.address)).await.expect("an answer");
    assert!(first.headers().contains_key("set-cookie"), "where nobody logs in, any route says who one is");
    for (path, methods) in &paths {
        for method in methods.as_object().expect("methods").keys() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            for id in ["cnv_00000000000000000000000000", "x", "%00"] {
                let (status, body) = read(rest.request(method.clone(), &path.replace("{id}", id))).await;
                assert!(status.as_u16() < 500 && status != 405, "{method} {path} with {id}: {status} {body}");
            }
        }
    }
    let models = rest.got("/api/models").await;
    assert_eq!((&models["items"][0]["id"], &models["items"][0]["demo"]), (&json!("demo"), &json!(true)));
    assert_eq!(rest.got("/api/cluster").await["nodes"][0]["id"], json!("a"));
    assert_eq!(rest.got("/health").await["status"], json!("ok"));
}

/// A program that asks for what is not there must not take a page for an answer.
#[tokio::test]
async fn what_programs_ask_for_is_no_page() {
    let node = Node::start("a", &world()).await;
    let rest = Rest::open(node.address).await;
    for path in ["/v1/models", "/v1", "/v1/chat/completions", "/api/nothing", "/api", "/api/"] {
        let (status, body) = rest.get(path).await;
        assert_eq!((status.as_u16(), body["error"]["code"].as_str()), (404, Some("not_found")), "{path}");
    }
}

/// Each is held several times over: what is under way together is no more than one may be.
#[tokio::test]
async fn large_imports_wait_for_each_other() {
    const MOST: usize = 64 * 1024;
    let mut config = config("a");
    config.gateway.import_bytes_max = MOST;
    let node = Node::with(config, &world()).await;
    let rest = Rest::open(node.address).await;
    let mut file = rest.got(&format!("/api/conversations/{}/export", rest.conversation().await)).await;
    let mut first = tokio::net::TcpStream::connect(node.address).await.expect("a connection");
    let head = format!(
        "POST /api/import HTTP/1.1\r\nhost: a\r\ncookie: {}\r\ncontent-type: application/json\r\ncontent-length: {MOST}\r\n\r\n{{",
        rest.cookie
    );
    first.write_all(head.as_bytes()).await.expect("sent");
    // Once it is in, nothing else is.
    file["conversation"]["title"] = "x".repeat(MOST / 2).into();
    let mut second = Box::pin(rest.post("/api/import", &file));
    let begun = Instant::now();
    loop {
        if timeout(Duration::from_millis(300), &mut second).await.is_err() {
            break;
        }
        second = Box::pin(rest.post("/api/import", &file));
        assert!(begun.elapsed() < PATIENCE, "the second never waits");
    }
    drop(first);
    let (status, body) = second.await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
}
