//! Programs that say who they are with each request: API keys, and tokens of an issuer with real keys.

use std::net::SocketAddr;
use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::config::{AuthConfig, Config, JwtConfig, JwtKeys};
use chatnode::model::{Time, UserId};
use chatnode::protocol::ServerFrame;
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message as Packet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::issuer::{Issuer, SigningKey};
use crate::harness::node::{Node, world};
use crate::harness::people::{PASSWORD, add, config, disable};
use crate::harness::rest::{Rest, client, read};

const ISSUER: &str = "https://issuer.example";

/// The issuer's keys are asked for at most so often here; a minute outside of tests.
const ASK_EVERY: Duration = Duration::from_millis(300);

fn trusting(name: &str, keys: JwtKeys) -> Config {
    let mut config = config(name);
    let AuthConfig::Login(login) = &mut config.gateway.auth else { panic!() };
    login.jwt = Some(JwtConfig {
        issuer: ISSUER.to_owned(),
        audience: "chatnode".to_owned(),
        keys,
        admin_role: Some("boss".to_owned()),
        ask_every: ASK_EVERY,
    });
    config
}

fn claims(subject: &str, seconds: i64) -> Value {
    let now = i64::try_from(Time::now().0 / 1_000).expect("a time");
    json!({"iss": ISSUER, "aud": "chatnode", "sub": subject, "exp": now + seconds})
}

async fn me(address: SocketAddr, token: &str) -> (StatusCode, Value) {
    read(client().get(format!("http://{address}/api/me")).bearer_auth(token)).await
}

/// A program's socket: no cookie, no origin, a token among the subprotocols.
async fn socket(address: SocketAddr, token: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}/ws/chat").into_client_request().expect("a request");
    let offered = format!("chatnode.v1, bearer.{token}").parse().expect("a header");
    request.headers_mut().insert("sec-websocket-protocol", offered);
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let (stream, response) = client_async(request, tcp).await.expect("an upgrade");
    let chosen = response.headers()["sec-websocket-protocol"].to_str().expect("text");
    assert_eq!(chosen, "chatnode.v1", "the token is not said back");
    stream
}

/// Whose socket it is, or how it was closed.
async fn greeting(stream: &mut WebSocketStream<TcpStream>) -> Result<UserId, u16> {
    loop {
        match stream.next().await {
            Some(Ok(Packet::Text(text))) => {
                let ServerFrame::Welcome { user, .. } = serde_json::from_str(&text).expect("a frame") else { continue };
                return Ok(user);
            }
            Some(Ok(Packet::Close(Some(close)))) => return Err(close.code.into()),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_opens_until_it_is_taken_back() {
    let world = world();
    let (a, b) = (Node::with(config("a"), &world).await, Node::with(config("b"), &world).await);
    let mai = add(&world, "mai", false).await;
    add(&world, "binh", false).await;
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    assert_eq!(rest.got("/api/keys").await, json!({"items": [], "next": null}));
    let (status, made) = rest.post("/api/keys", &json!({"label": " của  tôi "})).await;
    assert_eq!((status, &made["label"]), (StatusCode::CREATED, &json!("của tôi")));
    let key = made["key"].as_str().expect("a key").to_owned();
    let id = made["id"].as_str().expect("an id").to_owned();
    let listed = rest.got("/api/keys").await;
    assert_eq!((&listed["items"][0]["id"], listed["items"].as_array().map(Vec::len)), (&json!(id), Some(1)));
    assert!(!listed.to_string().contains(&key) && listed["items"][0].get("key").is_none(), "{listed}");

    for address in [a.address, b.address] {
        assert_eq!(me(address, &key).await, (StatusCode::OK, json!({"user": mai.id, "name": "mai", "admin": false})));
    }
    let conversation = client().post(format!("http://{}/api/conversations", b.address)).bearer_auth(&key).json(&json!({}));
    assert_eq!(read(conversation).await.0, StatusCode::CREATED);
    let mut open = socket(b.address, &key).await;
    assert_eq!(greeting(&mut open).await, Ok(mai.id.clone()));

    // A key in wrong hands makes no others; another's key is not there to be taken back.
    for method in [Method::GET, Method::POST] {
        let request = client().request(method, format!("http://{}/api/keys", a.address)).bearer_auth(&key);
        assert_eq!(read(request.json(&json!({"label": "x"}))).await.0, StatusCode::FORBIDDEN);
    }
    let other = Rest::log_in(a.address, "binh", PASSWORD).await;
    let path = format!("/api/keys/{id}");
    assert_eq!(read(other.request(Method::DELETE, &path)).await.0, StatusCode::NOT_FOUND);
    let (status, _) = rest.post("/api/keys", &json!({"label": "  "})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    let begun = Instant::now();
    assert_eq!(read(rest.request(Method::DELETE, &path)).await.0, StatusCode::NO_CONTENT);
    assert_eq!(greeting(&mut open).await, Err(4401));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(me(b.address, &key).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(read(rest.request(Method::DELETE, &path)).await.0, StatusCode::NOT_FOUND);
    rest.got("/api/me").await;
}

#[tokio::test]
async fn what_is_no_key_opens_nothing_even_beside_a_cookie() {
    let world = world();
    let a = Node::with(config("a"), &world).await;
    add(&world, "mai", false).await;
    let rest = Rest::log_in(a.address, "mai", PASSWORD).await;
    let session = rest.cookie.trim_start_matches("chatnode_session=").to_owned();
    for token in ["", "x", "cnk_", &format!("cnk_{session}"), &session, &format!("cnk_{}", "0".repeat(69)), "a.b.c"] {
        assert_eq!(me(a.address, token).await.0, StatusCode::UNAUTHORIZED, "{token}");
        let both = rest.request(Method::GET, "/api/me").bearer_auth(token);
        assert_eq!(read(both).await.0, StatusCode::UNAUTHORIZED, "a cookie stands in for nothing");
    }
    assert_eq!(greeting(&mut socket(a.address, "a.b.c").await).await, Err(4401));
    for _ in 0..20 {
        assert_eq!(rest.post("/api/keys", &json!({"label": "one of many"})).await.0, StatusCode::CREATED);
    }
    assert_eq!(rest.post("/api/keys", &json!({"label": "too many"})).await.0, StatusCode::CONFLICT);
}

async fn keyed(backends: &Backends) -> (SigningKey, Issuer, Node) {
    let key = SigningKey::generate("one");
    let issuer = Issuer::start(&[&key]).await;
    let node = Node::with(trusting("a", JwtKeys::Published(issuer.jwks_url())), backends).await;
    (key, issuer, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_of_the_issuer_is_one_user_who_can_be_disabled() {
    let world = world();
    let (key, _issuer, a) = keyed(&world).await;
    let (status, mai) = me(a.address, &key.token(&claims("Mai", 60))).await;
    assert_eq!((status, &mai["name"], &mai["admin"]), (StatusCode::OK, &json!("mai@issuer.example"), &json!(false)));
    assert_eq!(me(a.address, &key.token(&claims("Mai", 600))).await.1, mai, "another token of the same");
    let (_, other) = me(a.address, &key.token(&claims("mai", 60))).await;
    assert_ne!(other["user"], mai["user"], "subjects differ by case, whatever names do");
    let mut boss = claims("boss", 60);
    boss["roles"] = json!(["boss"]);
    assert_eq!(me(a.address, &key.token(&boss)).await.1["admin"], true);

    let mut open = socket(a.address, &key.token(&claims("Mai", 60))).await;
    let user = greeting(&mut open).await.expect("a welcome");
    assert_eq!(json!(user), mai["user"]);
    disable(&world, &world.accounts.account(&user).await.expect("an account")).await;
    assert_eq!(greeting(&mut open).await, Err(4401));
    assert_eq!(me(a.address, &key.token(&claims("Mai", 60))).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_ends_with_its_token() {
    let world = world();
    let (key, _issuer, a) = keyed(&world).await;
    // Clocks may differ by 30 seconds: this one has a second or two left of them.
    let mut open = socket(a.address, &key.token(&claims("mai", -28))).await;
    let begun = Instant::now();
    greeting(&mut open).await.expect("a welcome");
    assert_eq!(greeting(&mut open).await, Err(4401));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(me(a.address, &key.token(&claims("mai", -31))).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_tokens_open_nothing_and_cost_the_issuer_little() {
    let world = world();
    let (key, issuer, a) = keyed(&world).await;
    assert_eq!(me(a.address, &key.token(&claims("mai", 60))).await.0, StatusCode::OK);
    let begun = Instant::now();
    let thief = SigningKey::generate("one");
    let mut wrong = vec![thief.token(&claims("mai", 60)), SigningKey::generate("two").token(&claims("mai", 60))];
    for header in [json!({"alg": "none"}), json!({"alg": "HS256", "kid": "one"}), json!({"alg": "RS256", "kid": "one"})] {
        wrong.push(key.token_as(&header, &claims("mai", 60)));
    }
    for (claim, value) in [("iss", "https://other"), ("aud", "other"), ("exp", "tomorrow")] {
        let mut claims = claims("mai", 60);
        claims[claim] = json!(value);
        wrong.push(key.token(&claims));
    }
    for n in 0..20 {
        wrong.push(SigningKey::generate(&format!("made-up-{n}")).token(&claims("mai", 60)));
    }
    for token in &wrong {
        assert_eq!(me(a.address, token).await.0, StatusCode::UNAUTHORIZED, "{token}");
    }
    let most = 2 + usize::try_from(begun.elapsed().as_millis() / ASK_EVERY.as_millis()).expect("a count");
    assert!(issuer.asked() <= most, "asked {} times, {most} are allowed", issuer.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_and_old_ones_serve_while_the_issuer_is_away() {
    let world = world();
    let (one, issuer, a) = keyed(&world).await;
    assert_eq!(me(a.address, &one.token(&claims("mai", 60))).await.0, StatusCode::OK);
    let two = SigningKey::generate("two");
    issuer.publish(&[&one, &two]);
    sleep(ASK_EVERY).await;
    assert_eq!(me(a.address, &two.token(&claims("mai", 60))).await.0, StatusCode::OK, "a new key is found");
    assert_eq!(me(a.address, &one.token(&claims("mai", 60))).await.0, StatusCode::OK);
    issuer.fail();
    sleep(ASK_EVERY).await;
    let three = SigningKey::generate("three");
    assert_eq!(me(a.address, &three.token(&claims("mai", 60))).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(me(a.address, &two.token(&claims("mai", 60))).await.0, StatusCode::OK, "what is held stays");
    // A node that has never heard of the issuer can't say who anybody is, and says that.
    let b = Node::with(trusting("b", JwtKeys::Published(issuer.jwks_url())), &world).await;
    assert_eq!(me(b.address, &two.token(&claims("mai", 60))).await.0, StatusCode::SERVICE_UNAVAILABLE);
    issuer.publish(&[&two, &three]);
    sleep(ASK_EVERY).await;
    for node in [&a, &b] {
        assert_eq!(me(node.address, &three.token(&claims("mai", 60))).await.0, StatusCode::OK);
    }
    assert_eq!(me(a.address, &one.token(&claims("mai", 60))).await.0, StatusCode::UNAUTHORIZED, "it was withdrawn");
}
