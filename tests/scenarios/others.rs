//! Two users and an admin: whatever is named by its id, on whichever node and by whichever route or frame, is its owner's alone.

use chatnode::protocol::{ErrorCode, ServerFrame};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::client::{Socket, Tab};
use crate::harness::node::{Node, world};
use crate::harness::people::{PASSWORD, add, config};
use crate::harness::rest::{Rest, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_yours_is_not_there() {
    let world = world();
    let (a, b) = (Node::with(config("a"), &world).await, Node::with(config("b"), &world).await);
    add(&world, "mai", false).await;
    add(&world, "binh", false).await;
    add(&world, "admin", true).await;
    let mai = Rest::log_in(a.address, "mai", PASSWORD).await;
    let mut socket = mai.tab().connect(a.address).await;
    let (question, answer) = socket.ask(json!({"content": "bí mật /demo tokens=100000 rate=50"})).await;
    let (conversation, generation) = (question.conversation.to_string(), answer.generation.expect("a generation").to_string());
    let (asked, answered) = (question.id.to_string(), answer.id.to_string());
    for name in ["binh", "admin"] {
        for address in [a.address, b.address] {
            let other = Rest::log_in(address, name, PASSWORD).await;
            every_route(&other, &conversation, &generation, &asked, &answered).await;
            let mut frames = other.tab().connect(address).await;
            every_frame(&mut frames, &conversation, &generation, &asked, &answered).await;
        }
    }
    // Nothing of it was touched.
    let state = mai.got(&format!("/api/conversations/{conversation}")).await;
    assert_eq!(
        (&state["title"], &state["pinned"], &state["generating"]),
        (&json!(question_title()), &json!(false), &json!(true))
    );
    let cancelled = mai.post(&format!("/api/generations/{generation}/cancel"), &json!({})).await;
    assert_eq!(cancelled.0, StatusCode::ACCEPTED);
}

fn question_title() -> &'static str {
    "bí mật /demo tokens=100000 rate=50"
}

async fn every_route(other: &Rest, conversation: &str, generation: &str, asked: &str, answered: &str) {
    let own = other.conversation().await;
    let of = |method: Method, path: String, body: Option<Value>| {
        let request = other.request(method, &path);
        let request = body.iter().fold(request, |request, body| request.json(body));
        (path, request)
    };
    let routes = [
        of(Method::GET, format!("/api/conversations/{conversation}"), None),
        of(Method::PATCH, format!("/api/conversations/{conversation}"), Some(json!({"title": "mine"}))),
        of(Method::DELETE, format!("/api/conversations/{conversation}"), None),
        of(Method::GET, format!("/api/conversations/{conversation}/messages"), None),
        of(Method::GET, format!("/api/conversations/{own}/messages?leaf={answered}"), None),
        of(Method::GET, format!("/api/conversations/{own}/messages?before={answered}"), None),
        of(Method::GET, format!("/api/conversations/{own}/messages?through={asked}"), None),
        of(Method::POST, format!("/api/conversations/{conversation}/messages"), Some(json!({"content": "x"}))),
        of(Method::POST, format!("/api/conversations/{own}/messages"), Some(json!({"content": "x", "parent": answered}))),
        of(Method::GET, format!("/api/generations/{generation}/events"), None),
        of(Method::POST, format!("/api/generations/{generation}/cancel"), None),
        of(Method::GET, format!("/api/conversations/{conversation}/export?format=json"), None),
        of(Method::GET, format!("/api/conversations/{conversation}/export?format=markdown"), None),
    ];
    for (path, request) in routes {
        let (status, body) = read(request).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{path}: {body}");
        assert!(!body.to_string().contains("bí mật"), "{path}: {body}");
    }
    for path in ["/api/conversations", "/api/conversations?q=mật", "/api/conversations?limit=100"] {
        let list = other.got(path).await;
        let ids: Vec<&Value> = list["items"].as_array().expect("items").iter().map(|item| &item["id"]).collect();
        assert!(!ids.contains(&&json!(conversation)), "{path}: {list}");
    }
}

async fn every_frame(socket: &mut Socket, conversation: &str, generation: &str, asked: &str, answered: &str) {
    let known = json!([{"generation": generation, "position": "1-1", "offset": 3}]);
    let frames = [
        json!({"type": "subscribe", "conversation": conversation}),
        json!({"type": "subscribe", "conversation": conversation, "known": known}),
        json!({"type": "send", "request_id": "r1", "content": "x", "conversation": conversation}),
        json!({"type": "send", "request_id": "r2", "content": "x", "parent": asked}),
        json!({"type": "send", "request_id": "r3", "content": "x", "conversation": conversation, "parent": answered}),
        json!({"type": "regenerate", "request_id": "r4", "message": answered}),
        json!({"type": "cancel", "generation": generation}),
    ];
    for frame in frames {
        socket.tell(frame.clone()).await;
        assert_eq!(socket.error().await.code, ErrorCode::NotFound, "{frame}");
    }
    // Not subscribed, whatever was said: a pong is all there is to hear.
    socket.tell(json!({"type": "unsubscribe", "conversation": conversation})).await;
    socket.tell(json!({"type": "ping"})).await;
    let frame = socket.next().await.expect("a frame");
    assert!(matches!(frame, ServerFrame::Pong), "{frame:?}");
    assert!(socket.tab.copies.is_empty());
}

#[tokio::test]
async fn only_admins_see_the_cluster() {
    let world = world();
    let a = Node::with(config("a"), &world).await;
    add(&world, "mai", false).await;
    add(&world, "admin", true).await;
    let (status, body) = Rest::log_in(a.address, "mai", PASSWORD).await.get("/api/cluster").await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &json!("unauthorized")));
    let seen = Rest::log_in(a.address, "admin", PASSWORD).await.got("/api/cluster").await;
    assert_eq!(seen["nodes"][0]["id"], "a");
    assert!(Tab::default().try_connect(a.address).await.is_none());
}
