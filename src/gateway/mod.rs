//! The gateway role: browsers, REST, WebSocket and the UI. Knows the backend traits, never a worker.

pub mod allowance;
pub mod auth;
mod cost;
pub mod desk;
pub mod error;
pub mod frames;
pub mod hub;
pub mod limits;
mod outbox;
pub mod reader;
mod rest;
pub mod resume;
mod seats;
mod socket;
pub mod sse;
mod topic;
mod ui;
mod unread;
mod watches;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::backend::{Backends, Cluster};
use crate::config::{AuthConfig, GatewayConfig};
use crate::drain::Drain;
use crate::telemetry::Metrics;
use allowance::Allowance;
use auth::Auth;
use desk::Desk;
use hub::Hub;
use limits::Bucket;
use seats::Seats;

pub(crate) const SOCKET_PATH: &str = "/ws/chat";

/// What every handler gets. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gateway {
    pub(crate) node_id: Arc<str>,
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) backends: Backends,
    pub(crate) cluster: watch::Receiver<Arc<Cluster>>,
    pub(crate) desk: Desk,
    pub(crate) hub: Hub,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
    pub(crate) auth: Auth,
    allowance: Allowance,
    seats: Seats,
    handshakes: Arc<Mutex<Bucket>>,
    /// Bytes of imports that may be held at once, in KiB.
    imports: Arc<Semaphore>,
    /// Pages of exports that are read at once.
    exports: Arc<Semaphore>,
    open: Arc<AtomicU32>,
}

/// The page's own scripts and styles and nothing else's. Remote images load when the reader asks for them.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data: blob: https: http:; connect-src 'self'; object-src 'none'; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// What JSON can make of one byte: an escaped control character is six.
const ESCAPED_BYTES_MAX: usize = 6;
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;
/// Exports that read from the store at once: there may be thousands of them, and others read too.
const EXPORTS_MAX: usize = 2;
/// Between two looks at whether the last connection has gone.
const DESERTED_LOOK: Duration = Duration::from_millis(50);

impl Gateway {
    #[must_use]
    pub fn new(
        node_id: &str,
        config: GatewayConfig,
        backends: Backends,
        cluster: watch::Receiver<Arc<Cluster>>,
        drain: Drain,
        metrics: Metrics,
    ) -> Self {
        let allowance = Allowance::new(Arc::clone(&backends.limits), config.limits, metrics.clone());
        let seats = Seats::new(node_id, Arc::clone(&backends.limits), config.limits, &drain);
        let desk = Desk::new(
            backends.clone(),
            allowance.clone(),
            drain.clone(),
            cluster.clone(),
            metrics.clone(),
            config.prompt_bytes_max,
        );
        let hub = Hub::new(backends.clone(), drain.clone(), metrics.clone(), config.linger);
        let config = Arc::new(config);
        let auth = Auth::new(backends.clone(), Arc::clone(&config), &drain, metrics.clone());
        let handshakes = Arc::new(Mutex::new(Bucket::new(config.handshakes_per_second_max, Instant::now())));
        let imports = Arc::new(Semaphore::new(config.import_bytes_max.div_ceil(1024)));
        let exports = Arc::new(Semaphore::new(EXPORTS_MAX));
        Self {
            node_id: node_id.into(),
            config,
            backends,
            cluster,
            desk,
            hub,
            drain,
            metrics,
            auth,
            allowance,
            seats,
            handshakes,
            imports,
            exports,
            open: Arc::default(),
        }
    }

    /// Bytes of a question as JSON: of its own may be escaped, and there is a frame, or a body, around them.
    fn question_bytes_max(&self) -> usize {
        self.config.prompt_bytes_max * ESCAPED_BYTES_MAX + ENVELOPE_BYTES_MAX
    }

    /// WebSocket connections that are open.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns when nobody is connected.
    pub async fn deserted(&self) {
        while self.connections() > 0 {
            tokio::time::sleep(DESERTED_LOOK).await;
        }
    }

    /// What operators ask on a listener of their own. Whoever reaches that may know it where nobody logs in.
    pub fn admin_router(&self) -> Router {
        let gateway = Self { auth: self.auth.of_operators(), ..self.clone() };
        rest::admin(&gateway)
            .layer(from_fn(security_headers))
            .layer(from_fn_with_state(gateway.metrics.clone(), measure))
            .with_state(gateway)
    }

    /// Everything that people and programs talk to.
    pub fn router(self) -> Router {
        let identified = from_fn_with_state(self.auth.clone(), auth::identify);
        let socket = Router::new().route(SOCKET_PATH, get(socket::upgrade)).route_layer(identified.clone());
        // Around it: to find out who comes is most of the work.
        let socket = socket.route_layer(from_fn_with_state(self.clone(), socket::in_turn));
        let mut page = Router::new().route("/", get(ui::serve));
        if self.config.auth == AuthConfig::Anonymous {
            page = page.route_layer(identified);
        }
        let known = socket.merge(rest::router(&self));
        let known = known.merge(page).fallback(ui::serve);
        let known = if self.config.encrypted() { known.layer(from_fn(encrypted_only)) } else { known };
        known
            .layer(from_fn(security_headers))
            .layer(from_fn(unread::discard))
            .layer(from_fn_with_state(self.metrics.clone(), measure))
            .with_state(self)
    }
}

async fn security_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(&str, &str); 4] = [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// From now on this browser comes here over https alone. For this host and no other: what is beside it is not ours.
async fn encrypted_only(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    response
}

async fn measure(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = word(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("page".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    metrics.http_request(&route, method, response.status().as_u16(), begun.elapsed());
    response
}

/// Any word may stand in the place of a method, and a series is kept for good: those that nobody speaks here are one.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
