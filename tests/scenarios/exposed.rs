//! What a node shows to whoever can reach it.

use std::net::SocketAddr;

use reqwest::StatusCode;

use crate::harness::node::{self, Node, world};
use crate::harness::people::{self, PASSWORD};
use crate::harness::rest::{Rest, client};

#[tokio::test]
async fn every_answer_says_what_a_page_may_do() {
    let world = world();
    let node = Node::start("a", &world).await;
    for path in ["/", "/c/anything", "/api/models", "/api/nothing", "/assets/nothing.js"] {
        let answer = client().get(format!("http://{}{path}", node.address)).send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let policy = header("content-security-policy").expect("a policy");
        for rule in
            ["default-src 'self';", "object-src 'none';", "base-uri 'none';", "frame-ancestors 'none';", "form-action 'self'"]
        {
            assert!(policy.contains(rule), "{path}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy").as_deref(), Some("no-referrer"), "{path}");
        assert_eq!(header("cross-origin-opener-policy").as_deref(), Some("same-origin"), "{path}");
        assert_eq!(header("server"), None, "{path}");
        assert_eq!(header("strict-transport-security"), None, "{path}: nothing is encrypted here");
    }
}

#[tokio::test]
async fn a_gateway_behind_https_says_so() {
    let world = world();
    let mut config = node::config("a");
    config.gateway.public_url = Some("https://chat.example.org".to_owned());
    let node = Node::with(config, &world).await;
    let answer = client().get(format!("http://{}/", node.address)).send().await.expect("an answer");
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
}

fn apart(mut config: chatnode::config::Config) -> chatnode::config::Config {
    config.http.admin_listen = Some("127.0.0.1:0".parse().expect("an address"));
    config.gateway.admin_apart = true;
    config
}

async fn status(address: SocketAddr, path: &str) -> StatusCode {
    client().get(format!("http://{address}{path}")).send().await.expect("an answer").status()
}

#[tokio::test]
async fn metrics_and_the_state_of_the_cluster_are_on_the_operators_listener_alone() {
    let world = world();
    let node = Node::with(apart(node::config("a")), &world).await;
    let admin = node.admin.expect("an address");
    for path in ["/livez", "/readyz", "/health"] {
        assert_eq!(status(node.address, path).await, StatusCode::OK, "{path}");
        assert_eq!(status(admin, path).await, StatusCode::OK, "{path}");
    }
    assert_eq!(status(node.address, "/metrics").await, StatusCode::NOT_FOUND);
    assert_eq!(status(admin, "/metrics").await, StatusCode::OK);
    // Nobody logs in here: who reaches the operators' listener is one.
    assert_eq!(status(node.address, "/api/cluster").await, StatusCode::FORBIDDEN);
    assert_eq!(status(admin, "/api/cluster").await, StatusCode::OK);
    let someone = Rest::open(node.address).await;
    assert_eq!(someone.got("/api/me").await["admin"], false);
    for path in ["/", "/api/models", "/api/conversations", "/api/login", "/ws/chat"] {
        assert_eq!(status(admin, path).await, StatusCode::NOT_FOUND, "{path} is not for operators");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_listener_asks_for_an_admin_where_people_log_in() {
    let world = world();
    let node = Node::with(apart(people::config("a")), &world).await;
    people::add(&world, "mai", false).await;
    people::add(&world, "boss", true).await;
    let admin = node.admin.expect("an address");
    assert_eq!(status(admin, "/api/cluster").await, StatusCode::UNAUTHORIZED);
    for (name, expected) in [("mai", StatusCode::FORBIDDEN), ("boss", StatusCode::OK)] {
        let rest = Rest::log_in(node.address, name, PASSWORD).await;
        for address in [admin, node.address] {
            assert_eq!(rest.at(address).get("/api/cluster").await.0, expected, "{name}");
        }
    }
    assert_eq!(status(admin, "/metrics").await, StatusCode::OK, "whoever reaches it may see figures");
}
