//! What operators see: log lines and metrics. Knows no role; whoever has a figure reports it by one call, and neither
//! logs nor labels may ever hold content, a user or a conversation.

mod history;
mod infrastructure;
mod models;
pub mod otlp;
mod process;
pub mod traces;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use tracing_subscriber::EnvFilter;

use self::history::History;
use self::infrastructure::Infrastructure;
use self::models::Models;
use self::traces::Traces;
use crate::config::LogConfig;

/// Starts writing log lines to standard error. Does nothing when something in this process logs already.
pub fn init(log: &LogConfig) {
    let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&log.level)).with_writer(std::io::stderr);
    let _ = match log.json {
        true => lines.json().flatten_event(true).with_span_list(false).try_init(),
        false => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    std::panic::set_hook(Box::new(|panic| {
        // A formatted message may quote what it stumbled over, which may be what somebody wrote; a literal can't.
        let message = panic.payload().downcast_ref::<&str>().copied().unwrap_or("(not shown)");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, location, "a task panicked");
    }));
}

/// All figures of one node, and where its spans go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Inner>, Traces);

/// How a connection came to what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It had everything.
    Current,
    /// It got the rest.
    Deltas,
    /// It got the whole text anew.
    Snapshot,
}

/// When an answer was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelPhase {
    Queued,
    /// Before its first token.
    Waiting,
    Streaming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    Closed = 0,
    /// One request tries it.
    HalfOpen = 1,
    Open = 2,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        // Writing into a string doesn't fail.
        let _ = text::encode_registry(&mut out, &self.0.registry);
        let _ = text::encode_registry(&mut out, &self.0.common);
        let _ = text::encode_eof(&mut out);
        out
    }
}

/// Gateway.
impl Metrics {
    pub fn ws_opened(&self) {
        self.0.gateway.connections.inc();
    }

    /// To be called once for each [`Self::ws_opened`]. Clients may say any code, and a series is kept for good.
    pub fn ws_closed(&self, code: u16) {
        let known = matches!(code, 1000 | 1001 | 1005 | 1006 | 1008 | 1009 | 1013 | 4400 | 4401 | 4403 | 4429);
        self.0.gateway.connections.dec();
        self.0.gateway.closed.get_or_create(&[("code", if known { code.to_string() } else { "other".to_owned() })]).inc();
    }

    /// An upgrade that was refused. `reason` is one of few words.
    pub fn ws_rejected(&self, reason: &'static str) {
        self.0.gateway.rejected.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    pub fn ws_resumed(&self, resume: Resume) {
        let result = ["current", "deltas", "snapshot"][resume as usize];
        self.0.gateway.resumes.get_or_create(&[("result", result.to_owned())]).inc();
    }

    /// A socket that took no more: its reader is slower than the answers it follows.
    pub fn ws_lagging(&self) {
        self.0.gateway.lagging.inc();
    }

    /// `route` is the pattern, never the path: a path holds ids. `method` is one of few words.
    pub fn http_request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let labels = [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        self.0.gateway.requests.get_or_create(&labels).inc();
        self.0.gateway.request_seconds.observe(took.as_secs_f64());
    }

    /// How many conversations are kept at hand.
    pub fn followed(&self, conversations: usize) {
        self.0.gateway.followed.set(i64::try_from(conversations).unwrap_or(i64::MAX));
    }

    pub fn rate_limited(&self, scope: &'static str) {
        self.0.gateway.rate_limited.get_or_create(&[("scope", scope.to_owned())]).inc();
    }

    pub fn authenticated(&self, method: &'static str, result: &'static str) {
        self.0.gateway.auth.get_or_create(&[("method", method.to_owned()), ("result", result.to_owned())]).inc();
    }

    /// From accepting a question to writing the first delta of its answer to a socket.
    pub fn first_token(&self, took: Duration) {
        self.0.answers.first_token.observe(took.as_secs_f64());
    }

    /// From appending a delta to writing it to a socket.
    pub fn delivered(&self, took: Duration) {
        self.0.answers.delivery.observe(took.as_secs_f64());
    }

    /// A hint was missing or out of order, so the log was read.
    pub fn gap_filled(&self) {
        self.0.answers.gap_fills.inc();
    }

    /// From one stored piece of an answer to the next, as it comes to this node.
    pub fn token_gap(&self, gap: Duration) {
        self.0.answers.token_gap.observe(gap.as_secs_f64());
    }

    /// What waits for slow sockets grew by so many bytes, or shrank.
    pub fn outbox_changed(&self, bytes: i64) {
        self.0.gateway.outbox.inc_by(bytes);
    }

    /// A reader was told to drop text.
    pub fn rewound(&self) {
        self.0.answers.rewinds.inc();
    }
}

/// Workers.
impl Metrics {
    /// To be followed by one [`Self::generation_ended`] or [`Self::generation_left`].
    pub fn generation_started(&self) {
        self.0.answers.active.inc();
    }

    /// `outcome` is the wire word of the final status.
    pub fn generation_ended(&self, outcome: &str) {
        self.0.answers.active.dec();
        self.0.answers.ended.get_or_create(&[("outcome", outcome.to_owned())]).inc();
    }

    /// Cancelled before any worker took it.
    pub fn generation_ended_unbegun(&self) {
        self.0.answers.ended.get_or_create(&[("outcome", "cancelled".to_owned())]).inc();
    }

    /// Released, or lost to another owner: not the end of it.
    pub fn generation_left(&self) {
        self.0.answers.active.dec();
    }

    /// From the request to the end of the upstream's connection (or of the queued answer).
    pub fn cancelled(&self, phase: CancelPhase, took: Duration) {
        let phase = match phase {
            CancelPhase::Queued => "queued",
            CancelPhase::Waiting => "waiting",
            CancelPhase::Streaming => "streaming",
        };
        self.0.answers.cancel.get_or_create(&[("phase", phase.to_owned())]).observe(took.as_secs_f64());
    }

    /// `rung` says how the new owner goes on: prefill, continue, restart.
    pub fn takeover(&self, rung: &'static str) {
        self.0.answers.takeovers.get_or_create(&[("rung", rung.to_owned())]).inc();
    }

    /// How many generations wait, for each model that has any.
    pub fn work_waiting(&self, waiting: &[(String, u64)]) {
        let gauge = &self.0.workers.waiting;
        gauge.clear();
        for (model, count) in waiting {
            gauge.get_or_create(&[("model", model.clone())]).set(int(*count));
        }
    }

    /// From submission to the first claim.
    pub fn work_waited(&self, took: Duration) {
        self.0.workers.wait.observe(took.as_secs_f64());
    }

    pub fn worker_load(&self, running: usize, capacity: usize) {
        self.0.workers.running.set(int(running));
        self.0.workers.capacity.set(int(capacity));
    }

    /// `reason` is an error code of the protocol.
    pub fn retried(&self, reason: &str) {
        self.0.workers.retries.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// The names of two upstreams, as in [`Self::circuit`].
    pub fn fell_back(&self, from: &str, to: &str) {
        self.0.workers.fallbacks.get_or_create(&[("from", from.to_owned()), ("to", to.to_owned())]).inc();
    }

    /// `upstream` is a name without credentials, such as its host.
    pub fn circuit(&self, upstream: &str, circuit: Circuit) {
        self.0.workers.circuits.get_or_create(&[("upstream", upstream.to_owned())]).set(circuit as i64);
    }

    /// From the request to the first token that the model said.
    pub fn model_began(&self, model: &str, took: Duration) {
        self.0.models.first_token.get_or_create(&of_model(model)).observe(took.as_secs_f64());
    }

    /// What an answer took of the model: tokens in and out, and the time from its first token to its last one.
    pub fn model_ended(&self, model: &str, input: u64, output: u64, spoke: Duration) {
        for (kind, tokens) in [("input", input), ("output", output)] {
            let [(name, model)] = of_model(model);
            let labels = [(name, model), ("gen_ai_token_type", kind.to_owned())];
            self.0.models.tokens.get_or_create(&labels).observe(float(tokens));
        }
        if output > 1 {
            let each = spoke.as_secs_f64() / float(output - 1);
            self.0.models.token_time.get_or_create(&of_model(model)).observe(each);
        }
    }

    /// `status` is that of HTTP, or an error code where none came.
    pub fn upstream_request(&self, provider: &str, model: &str, status: &str) {
        let labels = [("provider", provider.to_owned()), ("model", model.to_owned()), ("status", status.to_owned())];
        self.0.workers.upstream_requests.get_or_create(&labels).inc();
    }
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    /// Figures whose usual names carry no prefix of ours.
    common: Registry,
    gateway: Gateway,
    answers: Answers,
    workers: Workers,
    infrastructure: Infrastructure,
    history: History,
    models: Models,
}

impl Default for Inner {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("chatnode");
        let mut common = Registry::default();
        common.register_collector(Box::new(process::Process::started_now()));
        Self {
            gateway: Gateway::register(&mut registry),
            answers: Answers::register(&mut registry),
            workers: Workers::register(&mut registry),
            infrastructure: Infrastructure::register(&mut registry),
            history: History::register(&mut registry),
            models: Models::register(&mut common),
            registry,
            common,
        }
    }
}

type Labels<const N: usize> = [(&'static str, String); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, Buckets>;

#[derive(Debug)]
struct Gateway {
    connections: Gauge,
    closed: Counters<1>,
    rejected: Counters<1>,
    resumes: Counters<1>,
    lagging: Counter,
    outbox: Gauge,
    followed: Gauge,
    requests: Counters<3>,
    request_seconds: Histogram,
    rate_limited: Counters<1>,
    auth: Counters<2>,
}

impl Gateway {
    fn register(to: &mut Registry) -> Self {
        Self {
            connections: add(to, "ws_connections", "Open WebSockets"),
            closed: add(to, "ws_closed", "WebSockets that ended, by close code"),
            rejected: add(to, "ws_rejected", "Upgrades that were refused"),
            resumes: add(to, "ws_resumes", "Subscribers that said what they know of an answer, by what they missed"),
            lagging: add(to, "ws_lagging", "Times a socket took no more"),
            outbox: add(to, "outbox_bytes", "What waits for sockets, beside the answers themselves"),
            followed: add(to, "conversations_followed", "Conversations kept at hand for readers, and for a while after them"),
            requests: add(to, "http_requests", "Answered requests"),
            request_seconds: timer(to, "http_request_duration_seconds", "From request to answer, streams up to their start"),
            rate_limited: add(to, "rate_limited", "Frames and requests over a limit"),
            auth: add(to, "auth", "Tries to say who one is"),
        }
    }
}

#[derive(Debug)]
struct Answers {
    active: Gauge,
    ended: Counters<1>,
    first_token: Histogram,
    delivery: Histogram,
    token_gap: Histogram,
    cancel: Histograms<1>,
    takeovers: Counters<1>,
    gap_fills: Counter,
    rewinds: Counter,
}

impl Answers {
    fn register(to: &mut Registry) -> Self {
        let ended: Counters<1> = add(to, "generations", "Answers that ended on this node");
        let takeovers: Counters<1> = add(to, "takeovers", "Answers that this node went on with after another owner");
        // A counter that comes with its first event looks as if it had always been there, and no alert sees it grow.
        for outcome in ["completed", "cancelled", "interrupted", "failed"] {
            drop(ended.get_or_create(&[("outcome", outcome.to_owned())]));
        }
        for rung in ["prefill", "continue", "restart"] {
            drop(takeovers.get_or_create(&[("rung", rung.to_owned())]));
        }
        Self {
            active: add(to, "generations_active", "Answers that this node writes"),
            ended,
            first_token: timer(to, "first_token_seconds", "From the question to the first delta on a socket"),
            delivery: timer(to, "delivery_seconds", "From append to socket"),
            token_gap: timer(to, "token_gap_seconds", "Between two pieces of an answer, as they come to this node"),
            cancel: timers(to, "cancel_seconds", "From the request to the end of the upstream's connection"),
            takeovers,
            gap_fills: add(to, "gap_fills", "Reads of a log because a hint was missing"),
            rewinds: add(to, "rewinds", "Times readers had to drop text"),
        }
    }
}

#[derive(Debug)]
struct Workers {
    waiting: Gauges<1>,
    wait: Histogram,
    running: Gauge,
    capacity: Gauge,
    retries: Counters<1>,
    fallbacks: Counters<2>,
    circuits: Gauges<1>,
    upstream_requests: Counters<3>,
}

impl Workers {
    fn register(to: &mut Registry) -> Self {
        Self {
            waiting: add(to, "work_waiting", "Answers that wait for a worker"),
            wait: timer(to, "work_wait_seconds", "From the question to the first claim"),
            running: add(to, "worker_running", "Answers that this worker runs"),
            capacity: add(to, "worker_capacity", "Answers that this worker runs at most"),
            retries: add(to, "retries", "Upstream requests that were repeated"),
            fallbacks: add(to, "fallbacks", "Times the next upstream was asked"),
            circuits: add(to, "circuit_state", "0 closed, 1 trying, 2 open"),
            upstream_requests: add(to, "upstream_requests", "Requests to model providers"),
        }
    }
}

/// Registers a metric. The format adds `_total` to the name of a counter.
fn add<M: Metric + Clone + Default>(to: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    to.register(name, help, metric.clone());
    metric
}

fn timer(to: &mut Registry, name: &str, help: &str) -> Histogram {
    let timer = Buckets.new_metric();
    to.register(name, help, timer.clone());
    timer
}

fn timers<Labels>(to: &mut Registry, name: &str, help: &str) -> Family<Labels, Histogram, Buckets>
where
    Labels: EncodeLabelSet + std::fmt::Debug + Clone + std::hash::Hash + Eq + Send + Sync + 'static,
{
    let timers = Family::new_with_constructor(Buckets);
    to.register(name, help, timers.clone());
    timers
}

fn of_model(model: &str) -> Labels<1> {
    [("gen_ai_request_model", model.to_owned())]
}

/// Seconds, from a tenth of a millisecond (an append in memory) to a minute (a slow first token).
#[derive(Clone, Copy, Debug)]
struct Buckets;

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        let mut bounds = Vec::new();
        for decade in [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0] {
            bounds.extend([decade, decade * 2.5, decade * 5.0]);
        }
        Histogram::new(bounds)
    }
}

fn float(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

fn int(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
