//! Asking over a socket: one question, the same one often, branches, other tabs, and ending answers.

use chatnode::backend::Progress;
use chatnode::model::Status;
use chatnode::protocol::{ErrorCode, ServerFrame};
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message as Packet;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::conformance::stage::eventually;
use crate::harness::client::{Socket, Tab, upgrade};
use crate::harness::figure;
use crate::harness::node::{Node, config, model, world};
use crate::harness::rest::Rest;

/// A question whose answer has so many tokens and comes as fast as can be.
fn quick(tokens: usize) -> String {
    format!("a question\n/demo tokens={tokens} rate=0")
}

/// An answer that goes on for as long as any scenario lasts.
const ENDLESS: &str = "/demo tokens=100000 rate=200";

#[tokio::test]
async fn a_question_is_answered_to_the_last_byte() {
    let world = world();
    let node = Node::start("node-a", &world).await;
    let mut socket = Socket::open(node.address).await;
    let ServerFrame::Welcome { node: name, protocol, heartbeat_ms, connection, .. } = &socket.welcome else { panic!() };
    assert_eq!((name.as_str(), *protocol, *heartbeat_ms), ("node-a", 1, 100));
    assert!(connection.starts_with("con_"));
    assert!(socket.tab.cookie.is_some(), "the upgrade sets a cookie where none came");

    let (question, answer) = socket.ask(json!({"content": quick(300)})).await;
    assert_eq!((question.parent, question.status), (None, Status::Completed));
    assert_eq!((answer.parent, answer.status), (Some(question.id), Status::Queued));
    let generation = answer.generation.expect("a generation");
    let finished = socket.finished(&generation).await;
    assert_eq!(finished.status, Status::Completed);
    assert_eq!(socket.tab.copies[&generation].text, socket.tab.expected(&generation));
    assert_eq!(finished.finish_reason.as_deref(), Some("stop"));
    assert!(finished.usage.is_some() && finished.message.timing.is_some());

    // What is asked next is answered with the path before it, and stands behind it.
    let conversation = answer.conversation.to_string();
    let (second, _) = socket.ask(json!({"content": quick(3), "conversation": conversation})).await;
    assert_eq!(second.parent, Some(answer.id));
}

#[tokio::test]
async fn one_browser_is_one_user_on_every_node_and_in_every_life_of_it() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let user = |socket: &Socket| match &socket.welcome {
        ServerFrame::Welcome { user, .. } => user.clone(),
        other => panic!("{other:?}"),
    };
    let rest = Rest::open(a.address).await;
    let first = rest.tab().connect(a.address).await;
    let known = user(&first);
    let tab = first.lose();
    assert_eq!(tab.cookie.as_ref(), Some(&rest.cookie), "who is known gets no new cookie");
    assert_eq!(user(&tab.clone().connect(b.address).await), known);
    a.kill();
    let again = Node::start("a", &world).await;
    assert_eq!(user(&tab.connect(again.address).await), known);
    assert_ne!(user(&Socket::open(again.address).await), known);
    let forged = Tab { cookie: Some(rest.cookie.replace("usr_0", "usr_1") + "x"), ..Tab::default() };
    assert_ne!(user(&forged.connect(again.address).await), known, "a forged cookie is nobody's");
}

/// A browser has one set of cookies for all ports of a host.
#[tokio::test]
async fn another_instance_on_the_same_host_does_not_take_ones_name_away() {
    let (a, b) = (Node::start("a", &world()).await, Node::start("b", &world()).await);
    let user = |socket: &Socket| match &socket.welcome {
        ServerFrame::Welcome { user, .. } => user.clone(),
        other => panic!("{other:?}"),
    };
    let first = Socket::open(a.address).await;
    let (one, cookie) = (user(&first), first.tab.cookie.clone().expect("a cookie"));
    let there = first.lose().connect(b.address).await;
    let other = there.tab.cookie.clone().expect("a cookie");
    let name = |cookie: &str| cookie.split('=').next().map(str::to_owned);
    assert_ne!(name(&cookie), name(&other));
    let both = Tab { cookie: Some(format!("{other}; {cookie}")), ..Tab::default() };
    assert_eq!(user(&both.clone().connect(a.address).await), one);
    assert_eq!(user(&both.connect(b.address).await), user(&there));
    // As it was called once.
    let (_, value) = cookie.split_once('=').expect("a value");
    let old = Tab { cookie: Some(format!("chatnode_user={value}")), ..Tab::default() };
    assert_eq!(user(&old.connect(a.address).await), one);
}

#[tokio::test]
async fn the_same_request_is_one_turn_on_whichever_node_and_however_often() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let rest = Rest::open(a.address).await;
    let sent = (0..20).map(|n| {
        let (tab, address) = (rest.tab(), if n % 2 == 0 { a.address } else { b.address });
        async move {
            let mut socket = tab.connect(address).await;
            let (question, answer) = socket.ask(json!({"content": quick(50), "request_id": "the same"})).await;
            let generation = answer.generation.clone().expect("a generation");
            let finished = socket.finished(&generation).await;
            assert_eq!(finished.status, Status::Completed);
            (question, answer)
        }
    });
    let accepted = join_all(sent).await;
    assert!(accepted.windows(2).all(|two| two[0] == two[1]), "{accepted:?}");
    let list = rest.got("/api/conversations").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    let id = list["items"][0]["id"].as_str().expect("an id");
    let history = rest.got(&format!("/api/conversations/{id}/messages")).await;
    assert_eq!(history["items"].as_array().map(Vec::len), Some(2), "{history}");
    // Long after its end, too; the answer is shown to its end again.
    let mut late = rest.tab().connect(b.address).await;
    let asked = late.ask(json!({"content": quick(50), "request_id": "the same"})).await;
    assert_eq!(asked, accepted[0], "to the last field");
    late.finished(&asked.1.generation.expect("a generation")).await;
}

/// The second try of a client may meet other limits, or models, than the first.
#[tokio::test]
async fn what_was_accepted_is_accepted_again_even_if_it_could_not_be_asked_now() {
    let world = world();
    let node = Node::start("node", &world).await;
    let mut socket = Socket::open(node.address).await;
    let (_, first) = socket.ask(json!({"content": quick(5), "request_id": "the same"})).await;
    let (_, other) = socket.ask(json!({"content": quick(5), "conversation": first.conversation})).await;
    for generation in [&first, &other].map(|answer| answer.generation.clone().expect("a generation")) {
        socket.finished(&generation).await;
    }
    socket.tell(json!({"type": "regenerate", "request_id": "one more", "message": other.id})).await;
    let (_, second) = socket.accepted().await;
    for (change, code) in [
        (json!({"model": "none"}), ErrorCode::ModelNotFound),
        (json!({"content": " "}), ErrorCode::BadFrame),
        (json!({"options": {"temperature": 9.0}}), ErrorCode::BadFrame),
        (json!({"content": "x".repeat(300_000)}), ErrorCode::TooLarge),
    ] {
        let mut question = json!({"content": quick(5), "request_id": "the same"});
        for (field, value) in change.as_object().expect("fields") {
            question[field] = value.clone();
        }
        let (_, answer) = socket.ask(question.clone()).await;
        assert_eq!(answer.id, first.id, "{change}");
        question["type"] = "send".into();
        question["request_id"] = "another".into();
        socket.tell(question).await;
        assert_eq!(socket.error().await.code, code);
    }
    socket.tell(json!({"type": "regenerate", "request_id": "one more", "message": other.id, "model": "none"})).await;
    assert_eq!(socket.accepted().await.1.id, second.id);
    let list = Rest::of(&socket.tab, node.address).got("/api/conversations").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test]
async fn the_end_of_a_repeated_request_is_told_where_its_conversation_is_followed_already() {
    let world = world();
    let node = Node::start("node", &world).await;
    let mut first = Socket::open(node.address).await;
    let (_, answer) = first.ask(json!({"content": quick(50), "request_id": "the same"})).await;
    let generation = answer.generation.expect("a generation");
    let conversation = answer.conversation.to_string();
    first.finished(&generation).await;
    // What else is written in this conversation goes on undisturbed.
    let (_, other) = first.ask(json!({"content": ENDLESS, "conversation": conversation})).await;
    let other = other.generation.expect("a generation");
    first.bytes(&other, 100).await;
    // A page whose link broke before it heard `accepted` comes back to the conversation first, and asks again then.
    let tab = Tab { cookie: first.tab.cookie.clone(), ..Tab::default() };
    drop(first);
    let mut again = tab.connect(node.address).await;
    again.subscribe(&conversation).await;
    for _ in 0..2 {
        let (_, answer) = again.ask(json!({"content": quick(50), "request_id": "the same"})).await;
        assert_eq!(answer.generation.as_ref(), Some(&generation));
        again
            .until("finished", |frame, _| {
                matches!(frame, ServerFrame::Finished(finished) if finished.generation == generation).then_some(())
            })
            .await;
    }
    assert_eq!(again.tab.copies[&generation].text, again.tab.expected(&generation));
    let had = again.tab.copies[&other].text.len();
    again.bytes(&other, had + 100).await;
}

#[tokio::test]
async fn what_is_not_the_users_is_not_there() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut owner = Socket::open(node.address).await;
    let (question, answer) = owner.ask(json!({"content": ENDLESS})).await;
    let theirs = question.conversation.to_string();
    let mut other = Socket::open(node.address).await;
    for conversation in [theirs.as_str(), "cnv_00000000000000000000000000", "nonsense", "", "../../etc", "cnv_\u{1f4a9}"] {
        other.tell(json!({"type": "subscribe", "conversation": conversation})).await;
        let error = other.error().await;
        assert_eq!((error.code, error.conversation.as_deref()), (ErrorCode::NotFound, Some(conversation)));
        other.tell(json!({"type": "send", "request_id": "r", "content": "hi", "conversation": conversation})).await;
        let error = other.error().await;
        assert_eq!((error.code, error.request_id.as_deref()), (ErrorCode::NotFound, Some("r")));
        assert_eq!(error.conversation.as_deref(), Some(conversation));
    }
    let generation = answer.generation.expect("a generation").to_string();
    other.tell(json!({"type": "cancel", "generation": generation})).await;
    assert_eq!(other.error().await.code, ErrorCode::NotFound);
    for (frame, missing) in [
        (json!({"type": "regenerate", "request_id": "s", "message": answer.id}), Some(theirs.as_str())),
        (json!({"type": "send", "request_id": "s", "content": "hi", "conversation": theirs, "parent": answer.id}), Some(&theirs)),
    ] {
        other.tell(frame).await;
        let error = other.error().await;
        assert_eq!((error.code, error.conversation.as_deref()), (ErrorCode::NotFound, missing));
    }
    // Where the conversation is there, it is something else that isn't.
    let (own, _) = other.ask(json!({"content": quick(3)})).await;
    let parent =
        json!({"type": "send", "request_id": "t", "content": "hi", "conversation": own.conversation, "parent": answer.id});
    other.tell(parent).await;
    let error = other.error().await;
    assert_eq!((error.code, error.conversation), (ErrorCode::NotFound, None));
    let rest = Rest::of(&other.tab, node.address);
    for path in [
        format!("/api/conversations/{theirs}"),
        format!("/api/conversations/{theirs}/messages"),
        format!("/api/conversations/{theirs}/export"),
        format!("/api/generations/{generation}/events"),
    ] {
        assert_eq!(rest.get(&path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn answers_and_questions_have_alternatives() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut socket = Socket::open(node.address).await;
    let (question, answer) = socket.ask(json!({"content": quick(5)})).await;
    let conversation = question.conversation.to_string();
    socket.tell(json!({"type": "regenerate", "request_id": "again", "message": answer.id})).await;
    let (same, second) = socket.accepted().await;
    assert_eq!((same.id.clone(), second.parent.clone()), (question.id.clone(), Some(question.id.clone())));
    let branch = json!({"content": quick(6), "conversation": conversation, "parent": answer.id});
    let (third, _) = socket.ask(branch).await;
    assert_eq!(third.parent.as_ref(), Some(&answer.id));
    let (root, last) = socket.ask(json!({"content": quick(7), "conversation": conversation, "parent": null})).await;
    assert_eq!(root.parent, None);
    socket.finished(last.generation.as_ref().expect("a generation")).await;

    let rest = Rest::of(&socket.tab, node.address);
    let path = format!("/api/conversations/{conversation}/messages");
    let ids = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().expect("items").iter();
        items.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    let newest = rest.got(&path).await;
    assert_eq!(ids(&newest), [root.id.to_string(), last.id.to_string()]);
    assert_eq!(newest["items"][0]["siblings"], json!([question.id, root.id]));
    let at = rest.got(&format!("{path}?leaf={}", second.id)).await;
    assert_eq!(ids(&at), [question.id.to_string(), second.id.to_string()]);
    assert_eq!(at["items"][1]["siblings"], json!([answer.id, second.id]));
    let through = rest.got(&format!("{path}?through={}", answer.id)).await;
    assert_eq!(ids(&through)[..3], [question.id.to_string(), answer.id.to_string(), third.id.to_string()]);
    let page = rest.got(&format!("{path}?through={}&limit=2", answer.id)).await;
    assert_eq!(ids(&page), ids(&through)[2..]);
    let before = page["next"].as_str().expect("there is more");
    assert_eq!(ids(&rest.got(&format!("{path}?before={before}")).await), ids(&through)[..2]);
    socket.tell(json!({"type": "regenerate", "request_id": "no", "message": question.id})).await;
    assert_eq!(socket.error().await.code, ErrorCode::BadFrame);
}

#[tokio::test]
async fn another_tab_sees_questions_and_answers_as_they_come() {
    let world = world();
    let (a, b) = (Node::start("a", &world).await, Node::start("b", &world).await);
    let mut first = Socket::open(a.address).await;
    let (question, answer) = first.ask(json!({"content": quick(5)})).await;
    let conversation = question.conversation.to_string();
    first.finished(answer.generation.as_ref().expect("a generation")).await;
    let tab = Tab { cookie: first.tab.cookie.clone(), ..Tab::default() };
    let mut second = tab.connect(b.address).await;
    second.subscribe(&conversation).await;
    let (question, answer) = first.ask(json!({"content": "slowly\n/demo tokens=60 rate=60", "conversation": conversation})).await;
    let mut seen = Vec::new();
    let is_there = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Message { message, .. } => {
            seen.push(message.id.clone());
            seen.contains(&answer.id).then_some(())
        }
        _ => None,
    };
    second.until("the answer's message", is_there).await;
    assert!(seen.contains(&question.id), "the question comes before its answer");
    let generation = answer.generation.expect("a generation");
    second.finished(&generation).await;
    first.finished(&generation).await;
    assert_eq!(first.tab.copies[&generation].text, second.tab.copies[&generation].text);

    // Unsubscribed, it hears no more of it, but still answers.
    second.tell(json!({"type": "unsubscribe", "conversation": conversation})).await;
    second.tell(json!({"type": "ping"})).await;
    second.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
    let (_, answer) = first.ask(json!({"content": quick(5), "conversation": conversation})).await;
    let generation = answer.generation.expect("a generation");
    first.finished(&generation).await;
    second.tell(json!({"type": "ping"})).await;
    second.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
    assert!(!second.tab.copies.contains_key(&generation));
}

/// Both frames of one turn wait at once, and the question's alone is more than may wait.
#[tokio::test]
async fn a_question_larger_than_what_may_wait_reaches_every_tab() {
    let mut config = config("a");
    config.gateway.outbox_bytes_max = 4 * 1024;
    let node = Node::with(config, &world()).await;
    let mut first = Socket::open(node.address).await;
    let (question, answer) = first.ask(json!({"content": quick(5)})).await;
    let conversation = question.conversation.to_string();
    first.finished(answer.generation.as_ref().expect("a generation")).await;
    let mut second = Tab { cookie: first.tab.cookie.clone(), ..Tab::default() }.connect(node.address).await;
    second.subscribe(&conversation).await;
    for bytes in [20_000, 40_000] {
        let content = format!("{}\n{}", "x".repeat(bytes), quick(5));
        let (question, answer) = first.ask(json!({"content": content, "conversation": conversation})).await;
        let generation = answer.generation.expect("a generation");
        let whole = |frame: &ServerFrame, _: &Tab| match frame {
            ServerFrame::Message { message, .. } if message.id == question.id => Some(message.content.clone()),
            _ => None,
        };
        assert_eq!(second.until("the question", whole).await, content);
        first.finished(&generation).await;
        second.finished(&generation).await;
    }
}

#[tokio::test]
async fn heartbeats_tell_where_the_log_ends() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut socket = Socket::open(node.address).await;
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=3 silent"})).await;
    let generation = answer.generation.expect("a generation");
    let tails = socket.until("heartbeat", |frame, _| match frame {
        ServerFrame::Heartbeat { tails } if !tails.is_empty() => Some(tails.clone()),
        _ => None,
    });
    assert_eq!(tails.await[0].generation, generation);
}

#[tokio::test]
async fn an_answer_is_cancelled_in_every_phase_and_from_every_node() {
    let world = world();
    let mut one = config("a");
    one.ai.capacity = 1;
    let mut gateway = config("b");
    gateway.roles = chatnode::config::Roles::GATEWAY;
    let (a, b) = (Node::with(one, &world).await, Node::with(gateway, &world).await);
    let mut socket = Socket::open(a.address).await;
    let (_, streaming) = socket.ask(json!({"content": ENDLESS})).await;
    let streaming = streaming.generation.expect("a generation");
    socket.bytes(&streaming, 20).await;
    let (_, queued) = socket.ask(json!({"content": "/demo tokens=3 silent"})).await;
    let queued = queued.generation.expect("a generation");
    let (_, silent) = socket.ask(json!({"content": "/demo tokens=3 silent"})).await;
    let silent = silent.generation.expect("a generation");

    // Queued: it ends at once.
    socket.tell(json!({"type": "cancel", "generation": queued})).await;
    let end = socket.finished(&queued).await;
    assert_eq!((end.status, end.length), (Status::Cancelled, 0));
    // Streaming, from another node that runs no models.
    let rest = Rest::of(&socket.tab, b.address);
    let cancel = |generation: &chatnode::model::GenerationId| format!("/api/generations/{generation}/cancel");
    assert_eq!(rest.post(&cancel(&streaming), &json!({})).await.0, 202);
    // The place that gets free is taken at once: which of the two is told first is open.
    let (mut end, mut runs) = (None, false);
    let both = |frame: &ServerFrame, _: &Tab| {
        match frame {
            ServerFrame::Finished(finished) if finished.generation == streaming => end = Some((**finished).clone()),
            ServerFrame::Status { generation, status: Progress::Running, .. } => runs |= *generation == silent,
            _ => {}
        }
        if runs { end.clone() } else { None }
    };
    let end = socket.until("the end of one and the beginning of the next", both).await;
    assert_eq!(end.status, Status::Cancelled);
    assert!(end.length >= 20, "what was said stays");
    // Before its first token.
    socket.tell(json!({"type": "cancel", "generation": silent})).await;
    let accepted = |frame: &ServerFrame, _: &Tab| matches!(frame, ServerFrame::CancelAccepted { .. }).then_some(());
    socket.until("cancel_accepted", accepted).await;
    assert_eq!(socket.finished(&silent).await.status, Status::Cancelled);
    // After the end.
    socket.tell(json!({"type": "cancel", "generation": silent})).await;
    let error = socket.error().await;
    assert_eq!((error.code, error.status), (ErrorCode::Conflict, Some(Status::Cancelled)));
    let (status, body) = rest.post(&cancel(&silent), &json!({})).await;
    assert_eq!((status.as_u16(), &body["error"]["status"]), (409, &json!("cancelled")));
}

#[tokio::test]
async fn only_models_that_are_offered_can_be_asked() {
    let world = world();
    let mut two = config("a");
    two.ai.models = chatnode::config::ModelSource::Configured(vec![model("one"), model("two")]);
    let node = Node::with(two, &world).await;
    let mut socket = Socket::open(node.address).await;
    let (_, answer) = socket.ask(json!({"content": quick(3), "model": "two"})).await;
    assert_eq!(answer.model.as_deref(), Some("two"));
    socket.tell(json!({"type": "send", "request_id": "r", "content": "hi", "model": "three"})).await;
    assert_eq!(socket.error().await.code, ErrorCode::ModelNotFound);
}

#[tokio::test]
async fn a_failing_answer_keeps_its_text_and_says_why() {
    let world = world();
    let node = Node::start("a", &world).await;
    let mut socket = Socket::open(node.address).await;
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=50 rate=0 fail=after:20 reason=10"})).await;
    let end = socket.finished(answer.generation.as_ref().expect("a generation")).await;
    assert_eq!(end.status, Status::Failed);
    assert!(end.length > 0 && end.error.is_some() && end.message.reasoning.is_some(), "{end:?}");
}

/// A browser that is not answered takes the connection for lost.
#[tokio::test]
async fn a_goodbye_is_answered_and_counted_under_its_code() {
    let node = Node::start("a", &world()).await;
    for code in [1000, 1001, 4999] {
        let mut socket = Socket::open(node.address).await;
        // In the middle of an answer, too.
        let (_, answer) = socket.ask(json!({"content": ENDLESS})).await;
        socket.bytes(&answer.generation.expect("a generation"), 20).await;
        socket.raw(Packet::Close(Some(CloseFrame { code: code.into(), reason: "".into() }))).await;
        assert_eq!(socket.closed().await, Some(code));
    }
    let mut lost = Socket::open(node.address).await;
    lost.tell(json!({"type": "ping"})).await;
    lost.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
    drop(lost);
    let rest = Rest::open(node.address).await;
    for code in ["1000", "1001", "other", "1006"] {
        let series = format!("chatnode_ws_closed_total{{code=\"{code}\"}}");
        let counted = async || (figure(&rest.text("/metrics").await, &series) >= 1.0).then_some(());
        eventually(&series, counted).await;
    }
}

/// When thousands come back at once, a gateway takes as many as it can welcome, and the others come in a moment.
#[tokio::test]
async fn more_sockets_than_a_node_opens_in_a_second_are_told_to_come_again() {
    let mut config = config("a");
    config.gateway.handshakes_per_second_max = 1;
    let node = Node::with(config, &world()).await;
    let _open = [Socket::open(node.address).await, Socket::open(node.address).await];
    let (mut third, _) = upgrade(node.address, None, None).await.expect("a socket");
    let goodbye = third.next().await.expect("a frame").expect("a frame");
    assert!(matches!(&goodbye, Packet::Close(Some(close)) if u16::from(close.code) == 1013), "{goodbye:?}");
    let rest = Rest::open(node.address).await;
    assert!(figure(&rest.text("/metrics").await, "chatnode_ws_rejected_total{reason=\"storm\"}") >= 1.0);
    eventually("its turn comes", async || Tab::default().try_connect(node.address).await.map(drop)).await;
}

/// `send` follows a conversation too.
#[tokio::test]
async fn a_connection_that_follows_as_much_as_it_may_asks_and_follows_no_more() {
    let mut config = config("a");
    config.gateway.subscriptions_max = 2;
    let node = Node::with(config, &world()).await;
    let mut socket = Socket::open(node.address).await;
    let (first, _) = socket.ask(json!({"content": quick(3)})).await;
    socket.ask(json!({"content": quick(3)})).await;
    let (third, _) = socket.ask(json!({"content": quick(3)})).await;
    let error = socket.error().await;
    assert_eq!((error.code, error.conversation), (ErrorCode::Overloaded, Some(third.conversation.to_string())));
    // One that is gone is not followed any more.
    let rest = Rest::of(&socket.tab, node.address);
    let gone = rest.request(Method::DELETE, &format!("/api/conversations/{}", first.conversation)).send().await;
    assert!(gone.expect("an answer").status().is_success());
    let deleted = |frame: &ServerFrame, _: &Tab| match frame {
        ServerFrame::Conversation { conversation } if conversation.deleted => Some(()),
        _ => None,
    };
    socket.until("the end of the first", deleted).await;
    socket.subscribe(&third.conversation.to_string()).await;
}
