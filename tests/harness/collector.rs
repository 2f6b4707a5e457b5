//! A collector of traces that decodes what it is sent, as OTLP over HTTP with protobuf. It must not know what is tested.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::PATIENCE;

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    spans: Vec<Collected>,
    bytes: Vec<u8>,
    authorized_by: Option<String>,
}

/// A span and the node that sent it.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub(crate) node: String,
    pub(crate) span: Span,
}

impl Collected {
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }
}

impl Collector {
    /// For as long as the runtime of its test lasts.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let collector = Self { address: listener.local_addr().expect("an address"), heard: Arc::default() };
        let router = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        collector
    }

    /// Waits until these spans are here.
    pub(crate) async fn until(&self, found: impl Fn(&[Collected]) -> bool) -> Vec<Collected> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.heard.lock().expect("a lock").spans.clone();
            if found(&spans) {
                return spans;
            }
            assert!(Instant::now() < deadline, "the spans do not come: {spans:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// All that was sent, as it came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.heard.lock().expect("a lock").bytes.clone()
    }

    pub(crate) fn authorized_by(&self) -> Option<String> {
        self.heard.lock().expect("a lock").authorized_by.clone()
    }
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else { return StatusCode::BAD_REQUEST };
    let mut heard = collector.heard.lock().expect("a lock");
    heard.bytes.extend_from_slice(&body);
    heard.authorized_by = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let node = text(&attributes, "service.instance.id").unwrap_or_default();
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        heard.spans.extend(spans.map(|span| Collected { node: node.clone(), span }));
    }
    StatusCode::OK
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()?;
    match found {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(flag) => Some(flag.to_string()),
        _ => None,
    }
}
