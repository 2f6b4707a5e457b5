//! Takes spans to a collector by OTLP over HTTP: in batches, in the background, and never at the cost of an answer. Knows no role.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::traces::Traces;
use crate::config::TracesConfig;
use crate::drain::Drain;
use crate::outgoing::{self, Line};

/// Spans that may wait while the collector is away; later ones are dropped.
const WAITING_MAX: usize = 4_096;
/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// How long a collector may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long the last ones may take when the node stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Begins to trace, if a collector is configured.
pub fn start(config: Option<&TracesConfig>, node_id: &str, drain: &Drain) -> Traces {
    let Some(config) = config else { return Traces::default() };
    let exporter = match exporter(config, node_id) {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::error!(%error, "traces can't be sent; going on without");
            return Traces::default();
        }
    };
    let (spans, waiting) = mpsc::channel(WAITING_MAX);
    let stopped = drain.stopped().clone();
    drain.spawn("traces", async move {
        let mut outgoing = Outgoing { exporter, waiting, failing: false };
        tokio::select! {
            () = outgoing.run() => {}
            () = stopped.cancelled() => {}
        }
        outgoing.farewell().await;
    });
    Traces::to(spans, config.share)
}

fn exporter(config: &TracesConfig, node_id: &str) -> Result<SpanExporter, ExporterBuildError> {
    let authorization = config.authorization.iter().map(|value| ("authorization".to_owned(), value.reveal().to_owned()));
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::default())
        .with_endpoint(&config.url)
        .with_headers(authorization.collect())
        .with_timeout(ANSWER_TIME)
        .build()?;
    let resource = Resource::builder_empty().with_service_name("chatnode").with_attributes([
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node_id.to_owned()),
    ]);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

struct Outgoing {
    exporter: SpanExporter,
    waiting: mpsc::Receiver<SpanData>,
    failing: bool,
}

impl Outgoing {
    async fn run(&mut self) {
        loop {
            let mut batch = Vec::new();
            if self.waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
                return;
            }
            let until = Instant::now() + GATHER;
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                match timeout_at(until, self.waiting.recv_many(&mut batch, room)).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => break,
                }
            }
            self.export(batch).await;
        }
    }

    /// What the last answers said of themselves.
    async fn farewell(mut self) {
        let mut batch = Vec::new();
        while let Ok(span) = self.waiting.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() {
            // A collector that doesn't answer must not keep the node from leaving.
            let _ = timeout(FAREWELL, self.export(batch)).await;
        }
    }

    /// Says once that it fails and once that it works again.
    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        match (&sent, self.failing) {
            (Err(error), false) => tracing::warn!(%error, spans, "traces could not be sent; they are dropped until that works"),
            (Ok(()), true) => tracing::info!("traces are sent again"),
            _ => {}
        }
        self.failing = sent.is_err();
    }
}

/// The HTTP client of the rest of the program, as the exporter wants it.
#[derive(Debug, Default)]
struct Client(Line);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.0.client().await?;
        let asking = async {
            let response = client.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
            let status = response.status();
            Ok(Response::builder().status(status).body(outgoing::body(response, ANSWER_BYTES_MAX).await?.into())?)
        };
        timeout(ANSWER_TIME, asking).await.map_err(|_| HttpError::from("no answer in time"))?
    }
}
