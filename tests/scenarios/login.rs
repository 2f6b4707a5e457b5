//! Logging in: on one gateway, known on all; out, and every socket on every node closes. On both worlds.

use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::backend::accounts::AccountChange;
use chatnode::config::{AuthConfig, LoginConfig, ModelSource, Network};
use chatnode::protocol::{ErrorCode, ServerFrame};
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Packet;

use crate::conformance::LEASE;
use crate::conformance::stage::eventually;
use crate::harness::client::{PATIENCE, Socket, Tab, upgrade};
use crate::harness::figure;
use crate::harness::node::{Node, model, world};
use crate::harness::people::{PASSWORD, add, config, disable, login};
use crate::harness::rest::{Rest, client, cookie_of, read};
use crate::harness::servers::{World, nats_url, redis_url, shared};

/// Each scenario on the embedded world, and on the cluster where its servers are.
macro_rules! on_both_worlds {
    ($($scenario:ident)*) => { $(
        mod $scenario {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                let world = super::world();
                super::$scenario(&world, &world).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cluster() {
                let Some((a, b)) = super::cluster().await else { return };
                super::$scenario(&a.backends, &b.backends).await;
                a.end().await;
                b.end().await;
            }
        }
    )* };
}

/// Two nodes' views of one cluster.
pub(super) async fn cluster() -> Option<(World, World)> {
    let shared = shared()?;
    let (redis, nats) = (redis_url(&shared.redis), nats_url(&shared.nats));
    let a = World::open(&redis, &nats, LEASE).await;
    let b = World::join(&redis, &nats, LEASE, &a.prefix).await;
    b.ready().await;
    Some((a, b))
}

on_both_worlds! {
    who_logs_in_on_one_gateway_is_known_on_all
    logging_out_closes_every_socket_everywhere
    who_is_disabled_is_out_everywhere_though_nobody_was_told
    wrong_unknown_and_disabled_are_one_answer
    guessing_is_slowed_down_on_all_gateways_together
}

async fn who_logs_in_on_one_gateway_is_known_on_all(one: &Backends, two: &Backends) {
    let (a, b) = (Node::with(config("a"), one).await, Node::with(config("b"), two).await);
    let mai = add(one, "mai", false).await;
    let rest = Rest::log_in(a.address, " MAI ", PASSWORD).await;
    let me = json!({"user": mai.id, "name": "mai", "admin": false});
    assert_eq!(rest.got("/api/me").await, me);
    assert_eq!(rest.at(b.address).got("/api/me").await, me);
    let conversation = rest.conversation().await;
    let mut socket = rest.tab().connect(b.address).await;
    let ServerFrame::Welcome { user, .. } = &socket.welcome else { panic!() };
    assert_eq!(*user, mai.id);
    socket.subscribe(&conversation).await;
    let (_, answer) = socket.ask(json!({"content": "/demo tokens=5 rate=0", "conversation": conversation})).await;
    socket.finished(&answer.generation.expect("a generation")).await;
}

async fn logging_out_closes_every_socket_everywhere(one: &Backends, two: &Backends) {
    let (a, b) = (Node::with(config("a"), one).await, Node::with(config("b"), two).await);
    add(one, "mai", false).await;
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    let elsewhere = Rest::log_in(b.address, "mai", PASSWORD).await;
    let mut sockets = Vec::new();
    for address in [a.address, b.address, b.address] {
        sockets.push(rest.tab().connect(address).await);
    }
    let mut stays = elsewhere.tab().connect(a.address).await;
    let (_, answer) = sockets[0].ask(json!({"content": "/demo tokens=100000 rate=20"})).await;
    let generation = answer.generation.expect("a generation");
    let events = rest.at(b.address).request(Method::GET, &format!("/api/generations/{generation}/events"));
    let events = events.send().await.expect("a stream");
    let begun = Instant::now();
    let response = rest.request(Method::POST, "/api/logout").send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(cookie_of(&response).as_deref(), Some("chatnode_session="));
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, Some(4401));
    }
    timeout(Duration::from_secs(5), events.bytes()).await.expect("the stream of events ends as well").expect("in good order");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for address in [a.address, b.address] {
        assert_eq!(rest.at(address).get("/api/me").await.0, StatusCode::UNAUTHORIZED);
    }
    // The other browser has a session of its own.
    stays.tell(json!({"type": "ping"})).await;
    stays.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
    elsewhere.got("/api/me").await;
}

/// No hint is sent: this is what holds when they are lost.
async fn who_is_disabled_is_out_everywhere_though_nobody_was_told(one: &Backends, two: &Backends) {
    let (a, b) = (Node::with(config("a"), one).await, Node::with(config("b"), two).await);
    let (mai, an) = (add(one, "mai", false).await, add(one, "an", false).await);
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    let other = Rest::log_in(a.address, "an", PASSWORD).await;
    let (mut first, mut second) = (rest.tab().connect(a.address).await, rest.tab().connect(b.address).await);
    let mut stays = other.tab().connect(b.address).await;
    let begun = Instant::now();
    disable(one, &mai).await;
    assert_eq!(first.closed().await, Some(4401));
    assert_eq!(second.closed().await, Some(4401));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(rest.get("/api/conversations").await.0, StatusCode::UNAUTHORIZED);
    stays.tell(json!({"type": "ping"})).await;
    stays.until("pong", |frame, _| matches!(frame, ServerFrame::Pong).then_some(())).await;
    assert_eq!(other.got("/api/me").await["user"], json!(an.id));
}

/// Whoever takes nothing is not asked whether he may stay only when there is room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_disabled_is_out_even_if_he_reads_nothing() {
    let world = world();
    let mut config = config("a");
    config.gateway.frames_per_second_max = 10_000;
    let node = Node::with(config, &world).await;
    let mai = add(&world, "mai", false).await;
    let rest = Rest::log_in(node.address, "mai", PASSWORD).await;
    let mut socket = rest.tab().connect(node.address).await;
    let (question, answer) = socket.ask(json!({"content": "/demo tokens=100000 rate=0"})).await;
    let generation = answer.generation.expect("a generation");
    socket.finished(&generation).await;
    let known = json!([{"generation": generation, "position": "0-0", "offset": 0}]);
    for _ in 0..60 {
        socket.tell(json!({"type": "subscribe", "conversation": question.conversation, "known": known})).await;
    }
    let open = client();
    let metrics = async || {
        let asked = open.get(format!("http://{}/metrics", node.address)).send().await.expect("an answer");
        asked.text().await.expect("a text")
    };
    let lags = async || (figure(&metrics().await, "chatnode_ws_lagging_total") >= 1.0).then_some(());
    eventually("its socket takes no more", lags).await;
    disable(&world, &mai).await;
    let out = async || (figure(&metrics().await, "chatnode_ws_closed_total{code=\"4401\"}") >= 1.0).then_some(());
    let begun = Instant::now();
    while out().await.is_none() {
        assert!(begun.elapsed() < PATIENCE, "{}", metrics().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(socket);
}

/// Also on the sockets that he has open: he comes back with the same session, as what he is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_admin_any_more_gets_no_models_of_admins() {
    let world = world();
    let mut config = config("a");
    let mut theirs = model("theirs");
    theirs.admin_only = true;
    config.ai.models = ModelSource::Configured(vec![model("demo"), theirs]);
    let node = Node::with(config, &world).await;
    let mai = add(&world, "mai", true).await;
    let rest = Rest::log_in(node.address, "mai", PASSWORD).await;
    let question = json!({"content": "/demo tokens=3 rate=0", "model": "theirs"});
    let mut socket = rest.tab().connect(node.address).await;
    socket.ask(question.clone()).await;
    let demoted = AccountChange { admin: Some(false), ..AccountChange::default() };
    world.accounts.change(&mai.id, &demoted).await.expect("a change");
    assert_eq!(socket.closed().await, Some(1001));
    let mut socket = rest.tab().connect(node.address).await;
    let mut again = question;
    (again["type"], again["request_id"]) = ("send".into(), "r".into());
    socket.tell(again).await;
    assert_eq!(socket.error().await.code, ErrorCode::ModelNotFound);
}

async fn wrong_unknown_and_disabled_are_one_answer(one: &Backends, _: &Backends) {
    let a = Node::with(config("a"), one).await;
    add(one, "mai", false).await;
    let gone = add(one, "gone", false).await;
    disable(one, &gone).await;
    let mut took = Vec::new();
    let mut answers = Vec::new();
    for (name, password) in [("mai", "not her password"), ("nobody", PASSWORD), ("gone", PASSWORD), ("a b\0c", PASSWORD)] {
        let begun = Instant::now();
        answers.push(try_log_in(a.address, name, password).await);
        took.push(begun.elapsed());
    }
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    assert_eq!(answers[0].1["error"]["code"], "unauthorized");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    // The hash is most of the time; whoever isn't there costs one as well. Generous, as other tests run beside this one.
    let (least, most) = (took.iter().min().expect("times"), took.iter().max().expect("times"));
    assert!(*most < *least * 8, "{took:?}");
}

async fn guessing_is_slowed_down_on_all_gateways_together(one: &Backends, two: &Backends) {
    let (a, b) = (Node::with(config("a"), one).await, Node::with(config("b"), two).await);
    add(one, "mai", false).await;
    let mut refused = 0;
    for n in 0..24 {
        let address = if n % 2 == 0 { a.address } else { b.address };
        let (status, body) = try_log_in(address, "mai", "a guess").await;
        match status {
            StatusCode::UNAUTHORIZED => refused += 1,
            _ => {
                assert_eq!((status, &body["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
                assert!(body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 30_000), "{body}");
            }
        }
    }
    assert!((10..=12).contains(&refused), "{refused} guesses of ten");
    // Even with the right password, and for names that nobody has it is the same.
    assert_eq!(try_log_in(a.address, "mai", PASSWORD).await.0, StatusCode::TOO_MANY_REQUESTS);
}

async fn try_log_in(address: std::net::SocketAddr, name: &str, password: &str) -> (StatusCode, Value) {
    read(client().post(format!("http://{address}/api/login")).json(&json!({"name": name, "password": password}))).await
}

#[tokio::test]
async fn a_socket_does_not_outlive_its_session() {
    let world = world();
    let mut short = config("a");
    short.gateway.auth = AuthConfig::Login(LoginConfig { session: Duration::from_millis(1_500), ..login() });
    let a = Node::with(short, &world).await;
    add(&world, "mai", false).await;
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    let begun = Instant::now();
    let mut socket = rest.tab().connect(a.address).await;
    assert_eq!(socket.closed().await, Some(4401));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(rest.get("/api/me").await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn nobody_gets_nothing_but_the_page_and_the_way_in() {
    let world = world();
    let a = Node::with(config("a"), &world).await;
    let nobody = client();
    let url = |path: &str| format!("http://{}{path}", a.address);
    let document: Value = nobody.get(url("/api/openapi.json")).send().await.expect("an answer").json().await.expect("JSON");
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{id}", "cnv_00000000000000000000000000");
            let method: Method = method.to_uppercase().parse().expect("a method");
            let (status, body) = read(nobody.request(method.clone(), url(&path))).await;
            let expected = match (path.as_str(), method.as_str()) {
                ("/api/login", "GET") => StatusCode::OK,
                ("/api/login", _) => StatusCode::BAD_REQUEST,
                // There is no provider here.
                ("/api/login/oidc" | "/api/login/oidc/callback", _) => StatusCode::NOT_FOUND,
                _ => StatusCode::UNAUTHORIZED,
            };
            assert_eq!(status, expected, "{method} {path}: {body}");
            tried += 1;
        }
    }
    assert!(tried >= 16, "{tried} routes");
    assert_eq!(read(nobody.get(url("/api/nothing"))).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(read(nobody.get(url("/api/login"))).await.1, json!({"methods": ["local"]}));
    let page = nobody.get(url("/")).send().await.expect("a page");
    assert_eq!((page.status(), cookie_of(&page)), (StatusCode::OK, None));
    assert_eq!(closing(a.address, None, Some(&url(""))).await, Some(4401));
    assert_eq!(closing(a.address, None, None).await, Some(4401));
    let forged = format!("chatnode_session={}", "0".repeat(69));
    assert_eq!(closing(a.address, Some(&forged), Some(&url(""))).await, Some(4401));
}

#[tokio::test]
async fn a_cookie_counts_only_from_our_own_page() {
    let world = world();
    let a = Node::with(config("a"), &world).await;
    add(&world, "mai", false).await;
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    let own = format!("http://{}", a.address);
    assert_eq!(closing(a.address, Some(&rest.cookie), Some("https://evil.example")).await, Some(1008));
    assert_eq!(closing(a.address, Some(&rest.cookie), Some("null")).await, Some(1008));
    assert_eq!(closing(a.address, Some(&rest.cookie), None).await, Some(1008), "no origin only with a bearer token");
    assert_eq!(closing(a.address, Some(&rest.cookie), Some(&own)).await, None);
    let post = |origin: &str| rest.request(Method::POST, "/api/conversations").header("origin", origin).json(&json!({}));
    assert_eq!(read(post("https://evil.example")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(read(post(&own)).await.0, StatusCode::CREATED);
    let body = json!({"name": "mai", "password": PASSWORD});
    let foreign = client().post(format!("{own}/api/login")).header("origin", "https://evil.example").json(&body);
    assert_eq!(read(foreign).await.0, StatusCode::FORBIDDEN);
    let response = client().post(format!("{own}/api/login")).json(&body).send().await.expect("an answer");
    let set = response.headers()["set-cookie"].to_str().expect("text");
    assert!(set.contains("; HttpOnly") && set.contains("; SameSite=Lax") && set.contains("; Path=/"), "{set}");
    assert!(set.contains("Max-Age=3600") && !set.contains("Secure"), "{set}");
    let mut behind_tls = config("b");
    behind_tls.gateway.public_url = Some("https://chat.example".to_owned());
    let b = Node::with(behind_tls, &world).await;
    let response = client().post(format!("http://{}/api/login", b.address)).json(&body).send().await.expect("an answer");
    assert!(response.headers()["set-cookie"].to_str().expect("text").contains("; Secure"));
}

/// How a socket is closed that should not be opened; `None` when it is welcomed.
async fn closing(address: std::net::SocketAddr, cookie: Option<&str>, origin: Option<&str>) -> Option<u16> {
    let (mut stream, _) = upgrade(address, cookie, origin).await.expect("an upgrade");
    match stream.next().await {
        Some(Ok(Packet::Close(Some(close)))) => Some(close.code.into()),
        Some(Ok(Packet::Text(_))) => None,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_a_login_nobody_needs_one() {
    let world = world();
    let node = Node::start("a", &world).await;
    let rest = Rest::open(node.address).await;
    assert_eq!(rest.got("/api/login").await, json!({"methods": []}));
    let me = rest.got("/api/me").await;
    assert!(me["user"].as_str().is_some_and(|user| user.starts_with("usr_")) && me.get("name").is_none(), "{me}");
    rest.got("/api/cluster").await;
    assert_eq!(rest.post("/api/login", &json!({"name": "a", "password": "b"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(rest.post("/api/logout", &json!({})).await.0, StatusCode::NOT_FOUND);
    // Programs that name no page are as welcome as ever.
    Socket::open(node.address).await;
    Tab::default().connect(node.address).await;
}

/// Each check takes memory and a processor, wherever it comes from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_when_too_many_log_in_is_told_to_come_again() {
    let world = world();
    let mut config = config("a");
    config.gateway.trusted_proxies = vec![Network::parse("127.0.0.1").expect("an address")];
    let node = Node::with(config, &world).await;
    let url = format!("http://{}/api/login", node.address);
    let tries = (0..80).map(|n| {
        let body = json!({"name": format!("nobody{n}"), "password": "wrong"});
        read(client().post(&url).header("x-forwarded-for", format!("10.0.{n}.1")).json(&body))
    });
    let answers = futures_util::future::join_all(tries).await;
    let of = |status: u16| answers.iter().filter(|(answer, _)| answer.as_u16() == status).count();
    assert_eq!(of(401) + of(503), 80, "{answers:?}");
    assert!(of(401) >= 32 && of(503) >= 1, "{} checked, {} told to come again", of(401), of(503));
    let (_, busy) = answers.iter().find(|(status, _)| status.as_u16() == 503).expect("one");
    assert_eq!(busy["error"]["code"], "overloaded");
}
