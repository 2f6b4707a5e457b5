//! The way to an answer: a model's upstreams in their order, retries, fallback and rungs before the first token, and
//! the deadlines. Knows pieces and faults, not the wire of any upstream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::circuit::Permit;
use super::http::Http;
use super::reply::{Fault, Piece, Pieces, Then, code};
use super::seam::Seam;
use super::upstream::{Limits, Upstream};
use super::{Request, Step, Steps, provider_name};
use crate::config::{Deadlines, ModelConfig, RetryConfig};
use crate::log::Rung;
use crate::model::{Failure, Usage};
use crate::telemetry::Metrics;
use crate::telemetry::traces::Span;
use crate::tokens;

/// An upstream that wants to be left alone for longer than this is passed over.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(20);

/// The longest pause between two tries of one upstream.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// The upstreams of one model, and what is known of each.
#[derive(Debug)]
pub(super) struct Route {
    model: String,
    deadlines: Deadlines,
    limits: Limits,
    retry: RetryConfig,
    upstreams: Vec<Upstream>,
    metrics: Metrics,
}

impl Route {
    #[must_use]
    pub(super) fn new(config: &ModelConfig, retry: RetryConfig, http: &Http, metrics: &Metrics) -> Self {
        let limits =
            Limits { context_tokens: config.context_tokens, max_tokens: config.max_tokens, connect: config.deadlines.connect };
        let upstreams = config.upstreams.iter().map(|upstream| Upstream::new(upstream, retry, http)).collect();
        Self { model: config.id.clone(), deadlines: config.deadlines, limits, retry, upstreams, metrics: metrics.clone() }
    }

    /// True when this is what it was made from.
    #[must_use]
    pub(super) fn is_of(&self, config: &ModelConfig) -> bool {
        let upstreams = self.upstreams.iter().map(|upstream| &upstream.config);
        self.model == config.id
            && self.deadlines == config.deadlines
            && (self.limits.context_tokens, self.limits.max_tokens) == (config.context_tokens, config.max_tokens)
            && upstreams.eq(&config.upstreams)
    }

    #[must_use]
    pub(super) fn answer(self: Arc<Self>, request: Request) -> Steps {
        let end = Instant::now() + self.deadlines.total;
        let journey = Journey { way: Way { route: self, request, end }, phase: Phase::Opening };
        stream::unfold(Box::new(journey), |mut journey| async move { journey.next().await.map(|item| (item, journey)) }).boxed()
    }
}

struct Journey {
    way: Way,
    phase: Phase,
}

/// What doesn't change on the way.
struct Way {
    route: Arc<Route>,
    request: Request,
    /// Of the whole answer, retries included.
    end: Instant,
}

enum Phase {
    Opening,
    Running(Box<Running>),
    Done,
}

/// An upstream that answers.
struct Running {
    pieces: Pieces,
    permit: Permit,
    /// Ends when the answer does, however that comes.
    span: Span,
    seam: Seam,
    /// Came with the opening, or with what was held back.
    next: Option<Piece>,
    then: Option<Piece>,
    /// Tokens of the answer that were there before.
    kept_tokens: u64,
}

impl Journey {
    async fn next(&mut self) -> Option<Result<Step, Failure>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Done => None,
            Phase::Opening => match self.way.open().await {
                Ok((rung, keep, running)) => {
                    self.phase = Phase::Running(running);
                    Some(Ok(Step::Opened { rung, keep }))
                }
                Err(fault) => Some(Err(fault.into())),
            },
            Phase::Running(running) => self.run(running).await,
        }
    }

    /// The next step of an answer that has begun: from here on, nothing is asked for again.
    async fn run(&mut self, mut running: Box<Running>) -> Option<Result<Step, Failure>> {
        loop {
            let piece = match running.next.take().or_else(|| running.then.take()) {
                Some(piece) => piece,
                None => match running.wait(&self.way).await {
                    Ok(Some(piece)) => piece,
                    // The finish was the last.
                    Ok(None) => return None,
                    Err(fault) => {
                        tracing::warn!(
                            generation = %self.way.request.generation, model = self.way.route.model, code = fault.code,
                            "upstream failed in the middle of an answer"
                        );
                        running.permit.judged(&fault);
                        running.span.failed(fault.code);
                        return Some(Err(fault.into()));
                    }
                },
            };
            let step = match running.pass(piece) {
                None => continue,
                Some(Piece::Reasoning(text)) => Step::Reasoning(text),
                Some(Piece::Text(text)) => Step::Text(text),
                Some(Piece::Usage(usage)) => Step::Usage(usage),
                Some(Piece::Finish(word)) => {
                    running.permit.succeeded();
                    running.span.set("gen_ai.response.finish_reasons", word.clone());
                    return Some(Ok(Step::Finish(word)));
                }
            };
            self.phase = Phase::Running(running);
            return Some(Ok(step));
        }
    }
}

impl Way {
    async fn open(&self) -> Result<(Rung, usize, Box<Running>), Fault> {
        let mut last = Fault::new(code::UPSTREAM_ERROR, Then::Stop, "this model has no upstream");
        for (index, upstream) in self.route.upstreams.iter().enumerate() {
            if index > 0 {
                self.route.metrics.fell_back(self.route.upstreams[index - 1].label(), upstream.label());
            }
            let fault = match self.try_upstream(upstream).await {
                Ok(opened) => return Ok(opened),
                Err(Stopped::Resting(left)) => {
                    // What another upstream said tells more.
                    let message =
                        format!("the model's server failed again and again; it is tried again in {} s", left.as_secs() + 1);
                    if index > 0 { last } else { Fault::new(code::UPSTREAM_ERROR, Then::Next, message) }
                }
                Err(Stopped::Fault(fault)) => fault,
            };
            if fault.then == Then::Stop {
                return Err(fault);
            }
            last = fault;
        }
        Err(last)
    }

    /// All tries of one upstream, on the best rung that it takes.
    async fn try_upstream(&self, upstream: &Upstream) -> Result<(Rung, usize, Box<Running>), Stopped> {
        let RetryConfig { tries, backoff, .. } = self.route.retry;
        let mut ladder = upstream.ladder(&self.request.so_far).await;
        let (mut rung, mut keep) = ladder.pop_front().unwrap_or((Rung::Restart, 0));
        let mut tried = 0;
        loop {
            let permit = upstream.circuit.permit().map_err(Stopped::Resting)?;
            let opened = self.try_once(upstream, rung, keep, permit).await;
            self.count(upstream, opened.as_ref().map_or_else(|(fault, _)| fault.code, |_| "200"));
            let (fault, permit) = match opened {
                Ok(running) => return Ok((rung, keep, running)),
                Err(failed) => failed,
            };
            let lower = if fault.then == Then::Lower { ladder.pop_front() } else { None };
            tracing::warn!(
                generation = %self.request.generation, model = self.route.model, upstream = upstream.label(), code = fault.code,
                ?rung, tried, then = ?fault.then, "upstream gave no answer"
            );
            permit.judged(&fault);
            let after = match fault.then {
                Then::Lower => {
                    let Some(lower) = lower else { return Err(Stopped::Fault(Fault { then: Then::Stop, ..fault })) };
                    if rung == Rung::Prefill {
                        upstream.refuses_prefill();
                    }
                    (rung, keep) = lower;
                    continue;
                }
                Then::Stop => return Err(Stopped::Fault(fault)),
                Then::Next => {
                    self.route.metrics.circuit(upstream.label(), upstream.circuit.phase());
                    return Err(Stopped::Fault(fault));
                }
                Then::Retry { after } => after,
            };
            self.route.metrics.circuit(upstream.label(), upstream.circuit.phase());
            tried += 1;
            let pause = pause(backoff, tried, after);
            let Some(pause) = pause.filter(|pause| tried < tries && Instant::now() + *pause < self.end) else {
                return Err(Stopped::Fault(fault));
            };
            self.route.metrics.retried(fault.code);
            tokio::time::sleep(pause).await;
        }
    }

    fn count(&self, upstream: &Upstream, status: &str) {
        let Route { metrics, model, .. } = &*self.route;
        metrics.upstream_request(provider_name(upstream.config.provider), model, status);
        metrics.circuit(upstream.label(), upstream.circuit.phase());
    }

    async fn try_once(
        &self,
        upstream: &Upstream,
        rung: Rung,
        keep: usize,
        mut permit: Permit,
    ) -> Result<Box<Running>, (Fault, Permit)> {
        let Route { metrics, model, .. } = &*self.route;
        let mut span = metrics.traces().chat(self.request.trace, provider_name(upstream.config.provider), model);
        span.set("chatnode.rung", rung.as_str());
        span.set("server.address", upstream.label().to_owned());
        let opening = async {
            let (mut pieces, seam) = upstream.ask(&self.request, rung, keep, self.route.limits, span.parent()).await?;
            let first = pieces.next().await.unwrap_or_else(|| Err(Fault::eof()))?;
            Ok((pieces, seam, first))
        };
        let first_token = self.route.deadlines.first_token;
        match within(opening, first_token, code::FIRST_TOKEN_TIMEOUT, self.end).await.flatten() {
            Ok((pieces, seam, first)) => {
                permit.answers();
                let kept_tokens = tokens::estimate(&self.request.so_far[..keep]);
                Ok(Box::new(Running { pieces, permit, span, seam, next: Some(first), then: None, kept_tokens }))
            }
            Err(fault) => {
                span.failed(fault.code);
                Err((fault, permit))
            }
        }
    }
}

impl Running {
    async fn wait(&mut self, way: &Way) -> Result<Option<Piece>, Fault> {
        within(self.pieces.next(), way.route.deadlines.idle, code::IDLE_TIMEOUT, way.end).await?.transpose()
    }

    /// The piece as readers get it: without what repeats the old text, and with what came before counted.
    fn pass(&mut self, piece: Piece) -> Option<Piece> {
        match piece {
            Piece::Text(text) => self.seam.feed(text).map(Piece::Text),
            Piece::Reasoning(text) => Some(Piece::Reasoning(text)),
            last => match self.seam.flush() {
                // It comes by here once more.
                Some(text) => {
                    self.then = Some(last);
                    Some(Piece::Text(text))
                }
                None => Some(self.whole(last)),
            },
        }
    }

    fn whole(&mut self, last: Piece) -> Piece {
        let Piece::Usage(usage) = last else { return last };
        self.span.set("gen_ai.usage.input_tokens", i64::try_from(usage.input_tokens).unwrap_or(i64::MAX));
        self.span.set("gen_ai.usage.output_tokens", i64::try_from(usage.output_tokens).unwrap_or(i64::MAX));
        let output_tokens = usage.output_tokens.saturating_add(self.kept_tokens);
        Piece::Usage(Usage { output_tokens, estimated: usage.estimated || self.kept_tokens > 0, ..usage })
    }
}

/// Why an upstream is given up.
enum Stopped {
    Fault(Fault),
    /// Its circuit is open.
    Resting(Duration),
}

/// How long to wait before the next try: doubling, half of it by chance, or as the upstream wants. `None`: too long.
fn pause(backoff: Duration, tried: u32, after: Option<Duration>) -> Option<Duration> {
    let most = backoff.saturating_mul(1 << (tried - 1).min(16)).min(BACKOFF_MAX);
    let pause = most.mul_f64(0.5 + rand::random::<f64>() / 2.0);
    match after {
        Some(after) if after > RETRY_AFTER_MAX => None,
        Some(after) => Some(after.max(pause)),
        None => Some(pause),
    }
}

/// Gives up with `code` after `patience`, or when the time for the whole answer is over.
async fn within<T>(work: impl Future<Output = T>, patience: Duration, code: &'static str, end: Instant) -> Result<T, Fault> {
    let soon = Instant::now() + patience;
    tokio::time::timeout_at(soon.min(end), work).await.map_err(|_| {
        if end <= soon {
            Fault::new(code::TOTAL_TIMEOUT, Then::Stop, "the answer took longer than it may")
        } else {
            Fault::new(code, Then::Next, format!("the model said nothing for {} s", patience.as_secs_f32()))
        }
    })
}
