//! What one user, and one address, may ask: over all gateways together, in one process and in a cluster.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::backend::limits::HOLDER_EXPIRY;
use chatnode::config::{Config, Network, Roles};
use chatnode::protocol::{ErrorCode, ServerFrame};
use futures_util::StreamExt;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Packet;

use crate::conformance::stage::eventually;
use crate::harness::client::upgrade;
use crate::harness::node::{LEASE, Node, config, world};
use crate::harness::rest::{Rest, read};
use crate::harness::servers::{Programs, World, nats_url, redis_url, shared};
use crate::harness::{figure, people};

const GATEWAYS: usize = 6;
/// Neither ends nor is in a hurry.
const LONG: &str = "/demo tokens=100000 rate=1";
/// What a machine that does other things too may add to a deadline.
const SLACK: Duration = Duration::from_secs(4);

/// Gateways, the first of which runs models as well. Each has its own link to the servers, if there are any.
pub(super) struct Stage {
    pub(super) nodes: Vec<Node>,
    pub(super) backends: Backends,
    worlds: Vec<World>,
}

impl Stage {
    pub(super) async fn embedded(gateways: usize, change: impl Fn(&mut Config)) -> Self {
        let backends = world();
        let mut nodes = Vec::new();
        for n in 0..gateways {
            nodes.push(Node::with(config_of(n, &change), &backends).await);
        }
        Self { nodes, backends, worlds: Vec::new() }
    }

    pub(super) async fn cluster(gateways: usize, change: impl Fn(&mut Config)) -> Option<Self> {
        let shared = shared()?;
        Some(Self::on(&redis_url(&shared.redis), &nats_url(&shared.nats), gateways, change).await)
    }

    async fn on(redis: &str, nats: &str, gateways: usize, change: impl Fn(&mut Config)) -> Self {
        let world = World::open(redis, nats, LEASE).await;
        let mut stage = Self { nodes: Vec::new(), backends: world.backends.clone(), worlds: vec![world] };
        for n in 0..gateways {
            if n > 0 {
                stage.worlds.push(World::join(redis, nats, LEASE, &stage.worlds[0].prefix).await);
                stage.worlds[n].ready().await;
            }
            stage.nodes.push(Node::with(config_of(n, &change), &stage.worlds[n].backends).await);
        }
        stage
    }

    pub(super) fn at(&self, n: usize) -> SocketAddr {
        self.nodes[n % self.nodes.len()].address
    }

    /// A browser that all gateways know, once they know who runs models.
    pub(super) async fn browser(&self) -> Rest {
        for node in &self.nodes {
            let rest = Rest::open(node.address).await;
            let offered = async || rest.got("/api/models").await["items"][0]["id"].is_string().then_some(());
            eventually("a model is offered", offered).await;
        }
        Rest::open(self.at(0)).await
    }

    pub(super) async fn limited(&self, scope: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.nodes {
            let text = Rest::open(node.address).await.text("/metrics").await;
            sum += figure(&text, &format!("chatnode_rate_limited_total{{scope=\"{scope}\"}}"));
        }
        sum
    }

    pub(super) async fn end(self) {
        self.nodes.into_iter().for_each(Node::kill);
        for world in self.worlds {
            world.end().await;
        }
    }
}

fn config_of(n: usize, change: &impl Fn(&mut Config)) -> Config {
    let mut config = config(&format!("node-{n}"));
    config.roles = if n == 0 { Roles::BOTH } else { Roles::GATEWAY };
    change(&mut config);
    config
}

fn most(count: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(count)
}

/// Both worlds, each with this case.
macro_rules! on_both {
    ($gateways:expr, $change:expr, $case:ident) => {{
        let stage = Stage::embedded($gateways, $change).await;
        $case(&stage).await;
        stage.end().await;
        if let Some(stage) = Stage::cluster($gateways, $change).await {
            $case(&stage).await;
            stage.end().await;
        }
    }};
}
pub(super) use on_both;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_gateways_count_requests_as_one() {
    on_both!(GATEWAYS, |config| config.gateway.limits.user.requests_per_minute = most(10), requests_pass_together);
}

async fn requests_pass_together(stage: &Stage) {
    let (browser, other, begun) = (stage.browser().await, Rest::open(stage.at(1)).await, Instant::now());
    let posts = (0..60).map(|n| browser.at(stage.at(n)).request(Method::POST, "/api/conversations").json(&json!({})).send());
    let (mut passed, mut refused) = (0, 0);
    for answer in join_all(posts).await {
        let answer = answer.expect("an answer");
        match answer.status() {
            StatusCode::CREATED => passed += 1,
            StatusCode::TOO_MANY_REQUESTS => {
                refused += 1;
                let seconds: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
                let error = answer.json::<Value>().await.expect("a body")["error"].clone();
                let wait = error["retry_after_ms"].as_u64().expect("when to come back");
                assert_eq!((error["code"].as_str(), seconds), (Some("rate_limited"), wait.div_ceil(1_000)), "{error}");
                assert!((1..=6_000).contains(&wait), "{error}");
            }
            other => panic!("{other}"),
        }
    }
    // One more each six seconds.
    let filled = begun.elapsed().as_secs() / 6;
    assert!((10..=10 + filled).contains(&passed) && passed + refused == 60, "{passed} of 60 passed, {refused} were refused");
    assert!(stage.limited("user").await >= 40.0);
    assert_eq!(other.post("/api/conversations", &json!({})).await.0, StatusCode::CREATED, "somebody else is not held up");
    assert_eq!(browser.get("/api/conversations").await.0, StatusCode::OK, "who only reads is not counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_questions_at_once_begin_no_more_answers_than_allowed() {
    on_both!(GATEWAYS, |config| config.gateway.limits.user.running = most(10), answers_run_together);
}

async fn answers_run_together(stage: &Stage) {
    let browser = stage.browser().await;
    let mut sockets = Vec::new();
    for n in 0..GATEWAYS {
        sockets.push(browser.tab().connect(stage.at(n)).await);
    }
    for n in 0..50 {
        let ask = json!({"type": "send", "request_id": format!("r{n}"), "content": LONG});
        sockets[n % GATEWAYS].tell(ask).await;
    }
    let (mut begun, mut refused) = (Vec::new(), Vec::new());
    for n in 0..50 {
        let socket = &mut sockets[n % GATEWAYS];
        let outcome = socket.until("accepted or an error", |frame, _| match frame {
            ServerFrame::Accepted { assistant_message, .. } => Some(Ok(assistant_message.generation.clone())),
            ServerFrame::Error(error) => Some(Err(error.clone())),
            _ => None,
        });
        match outcome.await {
            Ok(generation) => begun.push((n % GATEWAYS, generation.expect("a generation"))),
            Err(error) => refused.push((n % GATEWAYS, error)),
        }
    }
    assert_eq!(begun.len(), 10);
    for (_, error) in &refused {
        assert_eq!(error.code, ErrorCode::RateLimited);
        assert!(error.retry_after_ms.is_some_and(|ms| ms > 0) && error.request_id.is_some(), "{error:?}");
    }
    assert!((stage.limited("user_running").await - 40.0).abs() < 0.5);
    let (at, generation) = begun.remove(0);
    sockets[at].tell(json!({"type": "cancel", "generation": generation})).await;
    sockets[at].finished(&generation).await;
    // What was refused may be asked again, and one of them has room now.
    let rest = browser.at(stage.at(3));
    let path = format!("/api/conversations/{}/messages", rest.conversation().await);
    let room = async || (rest.post(&path, &json!({"content": LONG})).await.0 == StatusCode::ACCEPTED).then_some(());
    eventually("there is room", room).await;
    assert_eq!(rest.post(&path, &json!({"content": LONG})).await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_request_is_answered_whatever_the_limits_say() {
    let strict = |config: &mut Config| {
        config.gateway.limits.user.requests_per_minute = most(2);
        config.gateway.limits.user.running = most(1);
    };
    on_both!(2, strict, repeats_are_answered);
}

async fn repeats_are_answered(stage: &Stage) {
    let browser = stage.browser().await;
    let conversation = browser.conversation().await;
    let path = format!("/api/conversations/{conversation}/messages");
    let post = async |n: usize, key: &str| {
        let request = browser.at(stage.at(n)).request(Method::POST, &path).header("idempotency-key", key);
        read(request.json(&json!({"content": LONG}))).await
    };
    let (status, first) = post(0, "one").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{first}");
    for n in 0..6 {
        let (status, again) = post(n, "one").await;
        assert_eq!((status, &again["assistant_message"]["id"]), (StatusCode::ACCEPTED, &first["assistant_message"]["id"]));
        let (status, refused) = post(n, "another").await;
        assert_eq!((status, &refused["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    }
    let mut socket = browser.tab().connect(stage.at(1)).await;
    let (_, answer) = socket.ask(json!({"request_id": "one", "content": LONG})).await;
    assert_eq!(json!(answer.id), first["assistant_message"]["id"]);
    let history = browser.got(&path).await;
    assert_eq!(history["items"].as_array().expect("items").len(), 2, "one question, one answer: {history}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_take_no_place_among_running_answers() {
    on_both!(2, |config| config.gateway.limits.user.running = most(2), repeats_take_no_place);
}

async fn repeats_take_no_place(stage: &Stage) {
    let browser = stage.browser().await;
    let mut socket = browser.tab().connect(stage.at(1)).await;
    for _ in 0..5 {
        socket.ask(json!({"request_id": "one", "content": LONG})).await;
    }
    socket.ask(json!({"request_id": "two", "content": LONG})).await;
    socket.tell(json!({"type": "send", "request_id": "three", "content": LONG})).await;
    assert_eq!(socket.error().await.code, ErrorCode::RateLimited);
}

/// A connection that was welcomed, or the close code.
async fn knock(browser: &Rest, address: SocketAddr) -> Result<WebSocketStream<TcpStream>, Option<u16>> {
    let origin = format!("http://{address}");
    let (mut stream, _) = upgrade(address, Some(&browser.cookie), Some(&origin)).await.expect("an upgrade");
    match stream.next().await {
        Some(Ok(Packet::Close(close))) => Err(close.map(|close| close.code.into())),
        Some(Ok(Packet::Text(_))) => Ok(stream),
        other => panic!("{other:?}"),
    }
}

const TOO_MANY: Option<u16> = Some(4429);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_count_connections_together_and_give_those_of_a_dead_one_back() {
    let few = |config: &mut Config| {
        config.gateway.limits.user.connections = most(4);
        config.gateway.limits.address.connections = most(7);
    };
    let stage = Stage::embedded(3, few).await;
    connections_are_counted(stage).await;
    if let Some(stage) = Stage::cluster(3, few).await {
        connections_are_counted(stage).await;
    }
}

async fn connections_are_counted(mut stage: Stage) {
    let (one, two) = (stage.browser().await, Rest::open(stage.at(1)).await);
    let mut open = Vec::new();
    for n in 0..4 {
        open.push(knock(&one, stage.at(n % 3)).await.expect("room"));
    }
    for n in 0..3 {
        assert_eq!(knock(&one, stage.at(n)).await.expect_err("the user has four"), TOO_MANY);
    }
    for n in 0..3 {
        open.push(knock(&two, stage.at(n)).await.expect("room for somebody else"));
    }
    assert_eq!(knock(&two, stage.at(0)).await.expect_err("the address has seven"), TOO_MANY);
    assert!((stage.limited("user_connections").await, stage.limited("address_connections").await) == (3.0, 1.0));
    // A stream of events is a connection as well.
    let path = format!("/api/conversations/{}/messages", one.conversation().await);
    let (_, posted) = one.post(&path, &json!({"content": LONG})).await;
    let events = format!("/api/generations/{}/events", posted["assistant_message"]["generation"].as_str().expect("an id"));
    let (status, body) = one.get(&events).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    // Whoever leaves makes room.
    drop(open.remove(0));
    let stream = async || one.at(stage.at(1)).request(Method::GET, &events).send().await.ok().filter(|got| got.status() == 200);
    let streaming = eventually("there is room", stream).await;
    assert_eq!(knock(&one, stage.at(0)).await.expect_err("it is taken"), TOO_MANY);
    drop(streaming);
    let room = async || knock(&one, stage.at(0)).await.ok();
    open.push(eventually("there is room", room).await);

    // The last gateway has one of each, and dies as by `kill -9`.
    stage.nodes.pop().expect("the last one").kill();
    let died = Instant::now();
    let back = eventually("what was the dead one's is free", async || knock(&one, stage.at(0)).await.ok()).await;
    let took = died.elapsed();
    println!("a dead gateway's connections were given back after {took:?}");
    assert!(took < HOLDER_EXPIRY + SLACK, "{took:?}");
    assert_eq!(knock(&one, stage.at(1)).await.expect_err("four again"), TOO_MANY);
    let also = knock(&two, stage.at(1)).await.expect("the address got two back");
    assert_eq!(knock(&two, stage.at(1)).await.expect_err("seven again"), TOO_MANY);
    drop((back, also, open));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_peers_or_what_a_trusted_proxy_says() {
    let limited = |trusted: &str| {
        let trusted: Vec<Network> = Network::parse(trusted).into_iter().collect();
        move |config: &mut Config| {
            config.gateway.limits.address.requests_per_minute = most(2);
            config.gateway.trusted_proxies = trusted.clone();
        }
    };
    let ask = async |stage: &Stage, from: &str| {
        let rest = Rest::open(stage.at(0)).await;
        let post = rest.request(Method::POST, "/api/conversations").header("x-forwarded-for", from).json(&json!({}));
        read(post).await.0 == StatusCode::CREATED
    };
    // Each of these is another user, as nobody logs in.
    let stage = Stage::embedded(1, limited("127.0.0.1")).await;
    for from in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "6.6.6.6, 192.0.2.3"] {
        assert!(ask(&stage, from).await && ask(&stage, from).await, "{from}");
        assert!(!ask(&stage, from).await, "{from}");
    }
    assert!(!ask(&stage, "2001:db8::2").await, "of the same network as one before");
    assert!(!ask(&stage, "7.7.7.7, 192.0.2.3").await, "what stands further left is the client's own word");
    stage.end().await;
    let stage = Stage::embedded(1, limited("10.0.0.0/8")).await;
    assert!(ask(&stage, "192.0.2.1").await && ask(&stage, "192.0.2.2").await);
    assert!(!ask(&stage, "192.0.2.3").await, "who is not trusted has one address, whatever it says");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_nobody_is_refused_and_afterwards_all_are_counted() {
    let Some(programs) = Programs::find() else { return };
    let (mut redis, nats) = (programs.redis(&["--appendonly", "yes"]), programs.nats(&[]));
    let few = |config: &mut Config| config.gateway.limits.user.connections = most(3);
    let stage = Stage::on(&redis_url(&redis), &nats_url(&nats), 2, few).await;
    let browser = stage.browser().await;
    let mut open = vec![knock(&browser, stage.at(0)).await.expect("room")];
    open.push(knock(&browser, stage.at(1)).await.expect("room"));
    redis.kill();
    let asked = Instant::now();
    for n in 0..2 {
        open.push(knock(&browser, stage.at(n)).await.expect("four are too many, but nobody can know"));
    }
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    redis.start();
    eventually("they are counted again", async || knock(&browser, stage.at(0)).await.err().filter(|code| *code == TOO_MANY))
        .await;
    // Those who came in meanwhile may stay; two have to leave before another one fits.
    drop(open.pop());
    let refused = async || knock(&browser, stage.at(1)).await.err().filter(|code| *code == TOO_MANY);
    eventually("three are still enough", refused).await;
    drop(open.pop());
    eventually("there is room", async || knock(&browser, stage.at(1)).await.ok()).await;
    stage.end().await;
}

#[tokio::test]
async fn who_says_who_one_is_is_counted() {
    let backends = world();
    let node = Node::with(people::config("a"), &backends).await;
    people::add(&backends, "mai", false).await;
    let rest = Rest::log_in(node.address, "mai", people::PASSWORD).await;
    let (status, key) = rest.post("/api/keys", &json!({"label": "a program"})).await;
    assert_eq!(status, StatusCode::CREATED, "{key}");
    let client = crate::harness::rest::client();
    let me = async |token: &str| {
        let request = client.get(format!("http://{}/api/me", node.address)).header("authorization", format!("Bearer {token}"));
        request.send().await.expect("an answer").status()
    };
    assert_eq!(me(key["key"].as_str().expect("a key")).await, StatusCode::OK);
    assert_eq!(me("cnk_wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(me("a.b.c").await, StatusCode::UNAUTHORIZED);
    let text = rest.text("/metrics").await;
    for (method, result, least) in [
        ("local", "accepted", 1.0),
        ("session", "accepted", 1.0),
        ("key", "accepted", 1.0),
        ("key", "refused", 1.0),
        ("jwt", "refused", 1.0),
    ] {
        let series = format!("chatnode_auth_total{{method=\"{method}\",result=\"{result}\"}}");
        assert!(figure(&text, &series) >= least, "{series}\n{text}");
    }
    let node = Node::start("b", &world()).await;
    let text = Rest::open(node.address).await.text("/metrics").await;
    assert!(figure(&text, "chatnode_auth_total{method=\"anonymous\",result=\"new\"}") >= 1.0, "{text}");
}

/// What is answered by "too many" was not asked.
#[tokio::test]
async fn a_question_whose_answer_can_not_be_followed_is_not_asked() {
    let stage = Stage::embedded(1, |config| config.gateway.limits.user.connections = most(1)).await;
    let rest = Rest::open(stage.nodes[0].address).await;
    let conversation = rest.conversation().await;
    let path = format!("/api/conversations/{conversation}/messages");
    let open = rest.tab().connect(stage.nodes[0].address).await;
    let ask = async || {
        let request = rest.request(Method::POST, &path).header("accept", "text/event-stream").header("idempotency-key", "one");
        request.json(&json!({"content": "/demo tokens=3 rate=0"})).send().await.expect("an answer")
    };
    assert_eq!(ask().await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(rest.got(&path).await["items"], json!([]));
    drop(open);
    let served = async || {
        let response = ask().await;
        (response.status() == StatusCode::OK).then_some(())
    };
    eventually("there is room again", served).await;
    assert_eq!(rest.got(&path).await["items"].as_array().map(Vec::len), Some(2));
    stage.end().await;
}
