//! What watches a node asks: is it alive, is it ready, how does it stand. The same on every role's listener.
//!
//! Liveness never depends on the backends: a restart of ours repairs no outage of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::watch;

use crate::backend::{Health, Link};
use crate::config::Roles;
use crate::drain::Drain;
use crate::protocol::HealthView;
use crate::telemetry::Metrics;

/// What the probes look at.
#[derive(Clone, Debug)]
pub struct Probes {
    pub node_id: String,
    pub roles: Roles,
    pub health: watch::Receiver<Health>,
    pub drain: Drain,
    pub ready: Ready,
    pub metrics: Metrics,
}

/// Set once, when a node has begun to serve. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// `/health`, `/livez`, `/readyz`, and `/metrics` unless that is somewhere else.
pub fn router(probes: Probes, with_metrics: bool) -> Router {
    let metrics = if with_metrics { get(metrics) } else { get(async || StatusCode::NOT_FOUND) };
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", metrics)
        .with_state(probes)
}

/// For load balancers: 503 only while it leaves. With the store away it still serves what needs no store, and so would
/// every other node.
async fn health(State(probes): State<Probes>) -> impl IntoResponse {
    let health = probes.health.borrow().clone();
    let draining = probes.drain.draining().is_cancelled();
    let history_is_up = health.history.as_ref().is_none_or(Link::is_up);
    let status = match (draining, health.store.is_up() && health.backplane.is_up() && history_is_up) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    let links = [("store", Some(&health.store)), ("backplane", Some(&health.backplane)), ("history", health.history.as_ref())];
    let checks = links.into_iter().filter_map(|(name, link)| Some((name.to_owned(), word(link?))));
    let view = HealthView {
        status: status.to_owned(),
        node: probes.node_id,
        roles: probes.roles.names(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checks: BTreeMap::from_iter(checks),
    };
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, uncached(), Json(view))
}

async fn livez() -> impl IntoResponse {
    (uncached(), "ok\n")
}

/// For orchestrators: every reason why no new work should come here, one a line. A history that is away is named, and no reason.
async fn readyz(State(probes): State<Probes>) -> impl IntoResponse {
    let health = probes.health.borrow().clone();
    let mut reasons = Vec::new();
    if !probes.ready.is_set() {
        reasons.push("starting".to_owned());
    }
    if let Link::Down(why) = &health.store {
        reasons.push(format!("store: {why}"));
    }
    if probes.drain.draining().is_cancelled() {
        reasons.push("draining".to_owned());
    }
    match reasons.is_empty() {
        true => (StatusCode::OK, uncached(), format!("ok\n{}", degraded(&health))),
        false => (StatusCode::SERVICE_UNAVAILABLE, uncached(), reasons.join("\n") + "\n"),
    }
}

/// What does not work though new work may come: people chat on, and can't open what is old.
fn degraded(health: &Health) -> String {
    match &health.history {
        Some(Link::Down(why)) => format!("degraded: history: {why}\n"),
        _ => String::new(),
    }
}

async fn metrics(State(probes): State<Probes>) -> impl IntoResponse {
    let content_type = (header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([content_type, (header::CACHE_CONTROL, "no-store")], probes.metrics.encode())
}

/// No reasons here: a proxy shows this page to everybody. `/readyz` names them.
fn word(link: &Link) -> String {
    match link {
        Link::Up => "up".to_owned(),
        Link::Down(_) => "down".to_owned(),
    }
}

fn uncached() -> [(header::HeaderName, &'static str); 1] {
    [(header::CACHE_CONTROL, "no-store")]
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Node {
        probes: Probes,
        health: watch::Sender<Health>,
        listen: std::net::SocketAddr,
    }

    impl Node {
        async fn start() -> Self {
            let (health, seen) = watch::channel(Health { store: Link::Up, backplane: Link::Up, history: None });
            let probes = Probes {
                node_id: "n".to_owned(),
                roles: Roles::AI,
                health: seen,
                drain: Drain::new(),
                ready: Ready::default(),
                metrics: Metrics::new(),
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let listen = listener.local_addr().unwrap();
            let (router, drain) = (router(probes.clone(), true), probes.drain.clone());
            probes.drain.spawn("probes", async move {
                let ended = async move { drain.stopped().cancelled().await };
                axum::serve(listener, router).with_graceful_shutdown(ended).await.unwrap();
            });
            Self { probes, health, listen }
        }

        /// Status and body.
        async fn get(&self, path: &str) -> (u16, String) {
            let mut socket = tokio::net::TcpStream::connect(self.listen).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn ready_only_between_start_and_drain_and_with_a_store() {
        let node = Node::start().await;
        assert_eq!(node.get("/readyz").await, (503, "starting\n".to_owned()));
        node.probes.ready.set();
        assert_eq!(node.get("/readyz").await, (200, "ok\n".to_owned()));
        node.health.send_modify(|health| health.backplane = Link::Down("no route".to_owned()));
        assert_eq!(node.get("/readyz").await.0, 200);
        node.health.send_modify(|health| health.history = Some(Link::Down("gone".to_owned())));
        assert_eq!(node.get("/readyz").await, (200, "ok\ndegraded: history: gone\n".to_owned()));
        node.health.send_modify(|health| health.store = Link::Down("gone".to_owned()));
        assert_eq!(node.get("/readyz").await, (503, "store: gone\n".to_owned()));
        node.probes.drain.draining().cancel();
        assert_eq!(node.get("/readyz").await, (503, "store: gone\ndraining\n".to_owned()));
        assert_eq!(node.get("/livez").await, (200, "ok\n".to_owned()));
    }

    #[tokio::test]
    async fn health_says_how_it_stands_and_fails_only_while_draining() {
        let node = Node::start().await;
        let (code, body) = node.get("/health").await;
        let version = env!("CARGO_PKG_VERSION");
        let ok = format!(
            r#"{{"status":"ok","node":"n","roles":["ai"],"version":"{version}","checks":{{"backplane":"up","store":"up"}}}}"#
        );
        assert_eq!((code, body), (200, ok));
        node.health.send_modify(|health| health.store = Link::Down("gone".to_owned()));
        let (code, body) = node.get("/health").await;
        assert!(code == 200 && body.contains(r#""status":"degraded""#) && body.contains(r#""store":"down""#), "{body}");
        node.health.send_modify(|health| {
            *health = Health { store: Link::Up, backplane: Link::Up, history: Some(Link::Down("gone".to_owned())) };
        });
        let (code, body) = node.get("/health").await;
        assert!(code == 200 && body.contains(r#""status":"degraded""#) && body.contains(r#""history":"down""#), "{body}");
        node.probes.drain.draining().cancel();
        let (code, body) = node.get("/health").await;
        assert!(code == 503 && body.contains(r#""status":"draining""#), "{body}");
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let node = Node::start().await;
        node.probes.metrics.ws_opened();
        let (code, body) = node.get("/metrics").await;
        assert!(code == 200 && body.contains("chatnode_ws_connections 1\n") && body.contains("tokio_alive_tasks "), "{body}");
    }
}
