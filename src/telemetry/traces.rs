//! One trace for each answer: `send` → `submit` → `claim` (one for each owner) → `chat MODEL` (one for each try of an upstream).
//! Spans hold ids, sizes and outcomes, never content. It must not know where they go.
//!
//! Trace and span ids are hashes of the generation's id, which is on every message between nodes and in the store already: so an
//! owner that takes over hours later, on a node that nobody has spoken to, still writes into the same trace, and nothing more is
//! carried. Names and attributes follow OpenTelemetry's semantic conventions for generative AI.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::Metrics;
use crate::model::GenerationId;

/// Where spans begin. Cheap to clone; without a receiver every call is a cheap nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Queue>);

#[derive(Clone, Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
    /// Of all traces, how many are kept: 0 to 1, the same ones on every node.
    share: f64,
}

/// What a span can be put under. Without tracing it is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parent(Option<(TraceId, SpanId)>);

/// Something that takes time. It ends when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    queue: Queue,
    data: SpanData,
}

impl Metrics {
    /// The same figures; spans go there from now on.
    #[must_use]
    pub fn tracing(self, traces: Traces) -> Self {
        Self(self.0, traces)
    }

    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.1
    }
}

impl Traces {
    pub(super) fn to(spans: mpsc::Sender<SpanData>, share: f64) -> Self {
        Self(Some(Queue { spans, share }))
    }

    /// A question that is taken in.
    pub fn send(&self, generation: &GenerationId, model: &str) -> Span {
        self.span("send", SpanKind::Server, trace(generation), root(generation), SpanId::INVALID)
            .with("chatnode.generation.id", generation.to_string())
            .with("gen_ai.request.model", model.to_owned())
    }

    /// The question being stored.
    pub fn submit(&self, generation: &GenerationId) -> Span {
        self.span("submit", SpanKind::Producer, trace(generation), submitted(generation), root(generation))
    }

    /// An owner's time with a generation, from its claim on; another node may have taken the question.
    pub fn claim(&self, generation: &GenerationId, epoch: u64, attempt: u32) -> Span {
        let id = span_id(generation, &format!("claim {epoch}"));
        let mut span = self.span("claim", SpanKind::Consumer, trace(generation), id, submitted(generation));
        if let Some(open) = span.0.as_mut() {
            open.data.parent_span_is_remote = true;
        }
        span.with("chatnode.generation.id", generation.to_string()).with("chatnode.attempt", i64::from(attempt))
    }

    /// One try of an upstream.
    pub fn chat(&self, parent: Parent, provider: &'static str, model: &str) -> Span {
        let Some((trace, parent)) = parent.0 else { return Span::default() };
        let id = SpanId::from_bytes(rand::random::<u64>().max(1).to_be_bytes());
        self.span(format!("chat {model}"), SpanKind::Client, trace, id, parent)
            .with("gen_ai.operation.name", "chat")
            .with("gen_ai.provider.name", provider)
            .with("gen_ai.request.model", model.to_owned())
    }

    fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, trace: TraceId, id: SpanId, parent: SpanId) -> Span {
        let Some(queue) = self.0.as_ref().filter(|queue| queue.keeps(trace)) else { return Span::default() };
        let now = SystemTime::now();
        let data = SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: kind,
            name: name.into(),
            start_time: now,
            end_time: now,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("chatnode").with_version(env!("CARGO_PKG_VERSION")).build(),
        };
        Span(Some(Box::new(Open { queue: queue.clone(), data })))
    }
}

impl Queue {
    /// By the trace's own id, so that all nodes keep the same ones, as OpenTelemetry's `TraceIdRatioBased` sampler does.
    fn keeps(&self, trace: TraceId) -> bool {
        let bytes = trace.to_bytes();
        let low = u64::from_be_bytes(std::array::from_fn(|index| bytes[index + 8])) >> 11;
        // 53 bits fit a double exactly.
        (low as f64) < self.share * (1_u64 << 53) as f64
    }
}

impl Span {
    /// What goes under it.
    #[must_use]
    pub fn parent(&self) -> Parent {
        Parent(self.0.as_ref().map(|open| (open.data.span_context.trace_id(), open.data.span_context.span_id())))
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = self.0.as_mut() {
            open.data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// It went wrong, in one of the protocol's words.
    pub fn failed(&mut self, code: &str) {
        self.set("error.type", code.to_owned());
        if let Some(open) = self.0.as_mut() {
            open.data.status = Status::error(code.to_owned());
        }
    }

    fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take() {
            open.data.end_time = SystemTime::now();
            // A receiver that is away costs spans, never answers.
            let _ = open.queue.spans.try_send(open.data);
        }
    }
}

impl Parent {
    /// As W3C's `traceparent` header says it to whoever is asked next.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        self.0.map(|(trace, span)| format!("00-{trace}-{span}-01"))
    }
}

fn trace(generation: &GenerationId) -> TraceId {
    TraceId::from_bytes(hash(generation, "trace"))
}

fn root(generation: &GenerationId) -> SpanId {
    span_id(generation, "send")
}

fn submitted(generation: &GenerationId) -> SpanId {
    span_id(generation, "submit")
}

fn span_id(generation: &GenerationId, what: &str) -> SpanId {
    let hash = hash(generation, what);
    SpanId::from_bytes(std::array::from_fn(|index| hash[index]))
}

fn hash(generation: &GenerationId, what: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(generation.as_str()).chain_update(b"\0").chain_update(what).finalize();
    std::array::from_fn(|index| digest[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConversationId, MessageId};

    fn generation() -> GenerationId {
        GenerationId::of(&MessageId::generate(&ConversationId::generate()))
    }

    #[test]
    fn two_nodes_that_never_spoke_write_into_one_trace() {
        let (gateway, mut taken) = mpsc::channel(8);
        let (worker, mut claimed) = mpsc::channel(8);
        let id = generation();
        drop(Traces::to(gateway.clone(), 1.0).send(&id, "m"));
        drop(Traces::to(gateway, 1.0).submit(&id));
        let claim = Traces::to(worker.clone(), 1.0).claim(&id, 7, 1);
        let mut chat = Traces::to(worker, 1.0).chat(claim.parent(), "openai", "m");
        chat.failed("idle_timeout");
        let header = chat.parent().header().expect("tracing is on");
        drop(chat);
        drop(claim);
        let [send, submit] = std::array::from_fn(|_| taken.try_recv().expect("a span"));
        let [chat, claim] = std::array::from_fn(|_| claimed.try_recv().expect("a span"));
        let trace = |span: &SpanData| span.span_context.trace_id();
        assert!([&submit, &chat, &claim].iter().all(|span| trace(span) == trace(&send)));
        assert_eq!(send.parent_span_id, SpanId::INVALID);
        assert_eq!(submit.parent_span_id, send.span_context.span_id());
        assert_eq!(claim.parent_span_id, submit.span_context.span_id());
        assert_eq!(chat.parent_span_id, claim.span_context.span_id());
        assert_eq!(chat.status, Status::error("idle_timeout"));
        assert_eq!(header, format!("00-{}-{}-01", trace(&send), chat.span_context.span_id()));
    }

    #[test]
    fn a_share_is_the_same_everywhere_and_nothing_is_nothing() {
        let (queue, _kept) = mpsc::channel(8);
        let all: Vec<GenerationId> = (0..2_000).map(|_| generation()).collect();
        let kept = |share: f64| {
            let traces = Traces::to(queue.clone(), share);
            all.iter().filter(|id| traces.claim(id, 1, 1).0.is_some()).count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (0, all.len()));
        let quarter = kept(0.25);
        assert!((350..650).contains(&quarter), "{quarter}");
        assert_eq!(kept(0.25), quarter);
        assert_eq!(Traces::default().claim(&all[0], 1, 1).parent().header(), None);
    }
}
