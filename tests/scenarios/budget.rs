//! What one user's answers may use in a day, over all gateways together, in one process and in a cluster; and models that are not for all.

use std::time::Duration;

use chatnode::backend::limits::{Budget, Spent};
use chatnode::config::{Config, ModelSource, Roles, TokenLimit};
use chatnode::model::{Message, Status, Time, Usage};
use chatnode::protocol::{ErrorCode, ErrorFrame, ServerFrame};
use chatnode::tokens;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::limits::{Stage, on_both};
use crate::conformance::stage::eventually;
use crate::harness::client::Socket;
use crate::harness::node::{Node, config, model, world};
use crate::harness::people;
use crate::harness::rest::{Rest, read};

const GATEWAYS: usize = 3;
/// Neither ends nor is in a hurry.
const LONG: &str = "/demo tokens=100000 rate=1";
/// The longest answer that is asked for.
const ANSWER: u64 = 300;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn per_day(tokens: u64) -> impl Fn(&mut Config) {
    move |config| config.gateway.limits.tokens = Some(TokenLimit { per_day: tokens, answer: ANSWER })
}

/// What is set aside for a first question.
fn cost(content: &str) -> u64 {
    tokens::estimate(content) + tokens::TURN + ANSWER
}

/// No case may begin on one day and end on the next.
async fn quiet() {
    let left = Time::now().ms_left_of_day();
    if left < 120_000 {
        tokio::time::sleep(Duration::from_millis(left)).await;
    }
}

async fn spent(stage: &Stage, socket: &Socket) -> (u64, u64) {
    let ServerFrame::Welcome { user, .. } = &socket.welcome else { panic!("{:?}", socket.welcome) };
    let budget = Budget { name: format!("tokens-of-{user}"), period: Time::now().day() };
    let Spent { used, reserved } = stage.backends.limits.spent(&budget).await.expect("spent");
    (used, reserved)
}

/// Waits until nothing is set aside any more, and answers what was used.
async fn settled(stage: &Stage, socket: &Socket) -> u64 {
    let look = async || {
        let (used, reserved) = spent(stage, socket).await;
        (reserved == 0).then_some(used)
    };
    eventually("all is settled", look).await
}

fn sum(usage: Option<Usage>) -> u64 {
    usage.map_or(0, |usage| usage.input_tokens + usage.output_tokens)
}

/// Asks at once on all sockets in turn; answers which began where, and how the others were refused.
async fn ask_at_once(sockets: &mut [Socket], count: usize) -> (Vec<(usize, Message)>, Vec<ErrorFrame>) {
    let at = |n: usize| n % GATEWAYS;
    for n in 0..count {
        let ask = json!({"type": "send", "request_id": format!("r{n}"), "content": LONG});
        sockets[at(n)].tell(ask).await;
    }
    let (mut begun, mut refused) = (Vec::new(), Vec::new());
    for n in 0..count {
        let outcome = sockets[at(n)].until("accepted or an error", |frame, _| match frame {
            ServerFrame::Accepted { assistant_message, .. } => Some(Ok(assistant_message.clone())),
            ServerFrame::Error(error) => Some(Err(error.clone())),
            _ => None,
        });
        match outcome.await {
            Ok(answer) => begun.push((at(n), answer)),
            Err(error) => refused.push(error),
        }
    }
    (begun, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_questions_at_once_pass_no_budget_for_ten() {
    quiet().await;
    on_both!(GATEWAYS, per_day(cost(LONG) * 10 + cost(LONG) / 2), ten_pass);
}

async fn ten_pass(stage: &Stage) {
    let browser = stage.browser().await;
    let mut sockets = Vec::new();
    for n in 0..GATEWAYS {
        sockets.push(browser.tab().connect(stage.at(n)).await);
    }
    let (mut begun, refused) = ask_at_once(&mut sockets, 50).await;
    assert_eq!((begun.len(), refused.len()), (10, 40));
    for error in &refused {
        assert_eq!(error.code, ErrorCode::QuotaExceeded);
        let wait = error.retry_after_ms.expect("when to come back");
        assert!((1..=DAY_MS).contains(&wait) && error.request_id.is_some(), "{error:?}");
    }
    assert_eq!(spent(stage, &sockets[0]).await, (0, 10 * cost(LONG)));
    assert!((stage.limited("user_tokens").await - 40.0).abs() < 0.5);
    let rest = browser.at(stage.at(1));
    let path = format!("/api/conversations/{}/messages", rest.conversation().await);
    let (status, body) = rest.post(&path, &json!({"content": LONG})).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("quota_exceeded")), "{body}");
    assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|wait| wait <= DAY_MS), "{body}");
    // Whoever asks again what was accepted is told so, and it costs nothing more.
    let again = ask_at_once(&mut sockets, 3).await.0;
    assert!(again.iter().all(|(_, answer)| begun.iter().any(|(_, known)| known.id == answer.id)));
    assert_eq!(spent(stage, &sockets[0]).await, (0, 10 * cost(LONG)));

    // One ends: what it really used counts, and what it did not use is there for the next.
    let (at, answer) = begun.remove(0);
    let generation = answer.generation.expect("a generation");
    sockets[at].bytes(&generation, 1).await;
    sockets[at].tell(json!({"type": "cancel", "generation": generation})).await;
    let finished = sockets[at].finished(&generation).await;
    let used = sum(finished.usage);
    assert!(finished.status == Status::Cancelled && used > 0 && used < cost(LONG), "{finished:?}");
    let counted = async || (spent(stage, &sockets[0]).await == (used, 9 * cost(LONG))).then_some(());
    eventually("what was used is counted", counted).await;
    let room = async || (rest.post(&path, &json!({"content": LONG})).await.0 == StatusCode::ACCEPTED).then_some(());
    eventually("there is something left", room).await;
    assert_eq!(rest.post(&path, &json!({"content": LONG})).await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_an_answer_ends_what_it_used_is_counted() {
    quiet().await;
    on_both!(2, per_day(1_000_000), all_ends_are_counted);
}

async fn all_ends_are_counted(stage: &Stage) {
    let browser = stage.browser().await;
    let mut socket = browser.tab().connect(stage.at(1)).await;
    let mut used = 0;
    for (content, status) in [
        ("/demo tokens=20 rate=0", Status::Completed),
        ("/demo tokens=20 rate=0 fail=after:5", Status::Failed),
        ("fail", Status::Failed),
        ("/demo tokens=5000 rate=100", Status::Cancelled),
        ("/demo tokens=5000 silent=60s", Status::Cancelled),
    ] {
        let (_, answer) = socket.ask(json!({"content": content})).await;
        let generation = answer.generation.expect("a generation");
        if status == Status::Cancelled {
            if !content.contains("silent") {
                socket.bytes(&generation, 30).await;
            }
            socket.tell(json!({"type": "cancel", "generation": generation})).await;
        }
        let finished = socket.finished(&generation).await;
        assert_eq!((finished.status, finished.usage), (status, finished.message.usage), "{content}");
        let said = tokens::estimate(&finished.message.content);
        if said > 0 {
            let usage = finished.usage.expect("it said something");
            assert!(usage.output_tokens >= said / 5 && usage.input_tokens > 0, "{content}: {usage:?} for about {said}");
        }
        used += sum(finished.usage);
        assert_eq!(settled(stage, &socket).await, used, "{content}");
    }
    assert!(used > 0);
    // A second question of a conversation is reckoned with what came before it.
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=2000 rate=0"})).await;
    let first = socket.finished(&answer.generation.expect("a generation")).await;
    let used = settled(stage, &socket).await;
    socket.ask(json!({"content": LONG, "conversation": question.conversation})).await;
    let reserved = spent(stage, &socket).await.1;
    assert!(reserved >= sum(first.usage) + cost(LONG), "{reserved} for {:?}", first.usage);
    let path = format!("/api/conversations/{}", question.conversation);
    let (status, _) = read(browser.request(Method::DELETE, &path)).await;
    assert!(status.is_success());
    assert_eq!(settled(stage, &socket).await, used + reserved, "who deletes what runs has had all of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_taken_over_is_counted_once() {
    quiet().await;
    let stage = Stage::embedded(2, per_day(1_000_000)).await;
    taken_over(stage).await;
    if let Some(stage) = Stage::cluster(2, per_day(1_000_000)).await {
        taken_over(stage).await;
    }
}

async fn taken_over(mut stage: Stage) {
    let browser = stage.browser().await;
    let mut socket = browser.tab().connect(stage.at(1)).await;
    let mut ends = Vec::new();
    for content in ["/demo tokens=300 rate=200", "/demo tokens=5000 rate=200"] {
        let (_, answer) = socket.ask(json!({"content": content})).await;
        let generation = answer.generation.expect("a generation");
        socket.bytes(&generation, 100).await;
        ends.push(generation);
    }
    stage.nodes.remove(0).kill();
    let mut worker = config("second");
    worker.roles = Roles::AI;
    stage.nodes.push(Node::with(worker, &stage.backends).await);
    let first = socket.finished(&ends[0]).await;
    assert_eq!(first.status, Status::Completed);
    socket.tell(json!({"type": "cancel", "generation": ends[1]})).await;
    let second = socket.finished(&ends[1]).await;
    assert_eq!(second.status, Status::Cancelled);
    for finished in [&first, &second] {
        let said = tokens::estimate(&finished.message.content);
        let usage = finished.usage.expect("it said something");
        assert!(usage.output_tokens >= said / 5, "what the first owner brought is in it: {usage:?} for about {said}");
    }
    assert_eq!(settled(&stage, &socket).await, sum(first.usage) + sum(second.usage));
    stage.end().await;
}

fn ids(models: &Value) -> Vec<&str> {
    models["items"].as_array().expect("items").iter().filter_map(|model| model["id"].as_str()).collect()
}

#[tokio::test]
async fn models_for_admins_are_not_there_for_others() {
    let backends = world();
    let mut config = people::config("a");
    let mut dear = model("dear");
    dear.admin_only = true;
    config.ai.models = ModelSource::Configured(vec![dear, model("plain")]);
    let node = Node::with(config, &backends).await;
    people::add(&backends, "boss", true).await;
    people::add(&backends, "mai", false).await;
    let boss = Rest::log_in(node.address, "boss", people::PASSWORD).await;
    let mai = Rest::log_in(node.address, "mai", people::PASSWORD).await;
    assert_eq!(ids(&boss.got("/api/models").await), ["dear", "plain"]);
    assert_eq!(ids(&mai.got("/api/models").await), ["plain"]);
    let ask = json!({"content": "/demo tokens=3 rate=0", "model": "dear"});
    let path = format!("/api/conversations/{}/messages", mai.conversation().await);
    let (status, body) = mai.post(&path, &ask).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("model_not_found")));
    let unknown = mai.post(&path, &json!({"content": "x", "model": "none"})).await.1;
    let said = |body: &Value| body["error"]["message"].as_str().expect("a sentence").replace("none", "dear");
    assert_eq!(said(&body), said(&unknown), "as if it were not there");
    let (_, body) = mai.post(&path, &json!({"content": "/demo tokens=3 rate=0"})).await;
    assert_eq!(body["assistant_message"]["model"], "plain", "the default is one that is there");
    let path = format!("/api/conversations/{}/messages", boss.conversation().await);
    let (status, body) = boss.post(&path, &ask).await;
    assert_eq!((status, &body["assistant_message"]["model"]), (StatusCode::ACCEPTED, &json!("dear")));
}

#[tokio::test]
async fn no_answer_is_longer_than_its_model_may_be() {
    let mut config = config("a");
    let mut short = model("demo");
    short.max_tokens = Some(7);
    short.max_tokens_cap = Some(12);
    config.ai.models = ModelSource::Configured(vec![short]);
    let node = Node::with(config, &world()).await;
    let mut socket = Socket::open(node.address).await;
    let mut said = Vec::new();
    for options in [json!({}), json!({"max_tokens": 3}), json!({"max_tokens": 5_000})] {
        let content = "/demo tokens=200 rate=0";
        let (_, answer) = socket.ask(json!({"content": content, "options": options})).await;
        let finished = socket.finished(&answer.generation.expect("a generation")).await;
        assert_eq!(finished.message.finish_reason.as_deref(), Some("length"));
        assert_eq!(json!(finished.message.options.unwrap_or_default()), options, "what was asked stays on record");
        said.push(finished.usage.expect("it said something").output_tokens);
    }
    assert_eq!(said, [7, 3, 12]);
    let models = Rest::of(&socket.tab, node.address).got("/api/models").await;
    assert_eq!((&models["items"][0]["max_tokens"], &models["items"][0]["max_tokens_cap"]), (&json!(7), &json!(12)));
}
