//! The way to an answer: a model's upstreams in their order, retries, fallback and rungs before the first token, and
//! the four deadlines. Knows pieces and faults, not the wire of any upstream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::http::Http;
use super::reply::{Fault, Piece, Pieces, Then, code};
use super::{Request, Step, Steps, demo};
use crate::config::{Deadlines, ModelConfig, ProviderKind, RetryConfig, UpstreamConfig};
use crate::log::Rung;
use crate::model::Failure;

/// The upstreams of one model, and what is known of each.
#[derive(Debug)]
pub struct Route {
    deadlines: Deadlines,
    max_tokens: Option<u32>,
    upstreams: Vec<UpstreamConfig>,
}

impl Route {
    #[must_use]
    pub fn new(config: &ModelConfig, _retry: RetryConfig, _http: &Http) -> Self {
        Self { deadlines: config.deadlines, max_tokens: config.max_tokens, upstreams: config.upstreams.clone() }
    }

    #[must_use]
    pub fn answer(self: Arc<Self>, request: Request) -> Steps {
        let end = Instant::now() + self.deadlines.total;
        let journey = Journey { route: self, request, end, phase: Phase::Opening };
        stream::unfold(journey, |mut journey| async move { journey.next().await.map(|item| (item, journey)) }).boxed()
    }
}

struct Journey {
    route: Arc<Route>,
    request: Request,
    end: Instant,
    phase: Phase,
}

enum Phase {
    Opening,
    Opened(Piece, Pieces),
    Streaming(Pieces),
    Done,
}

impl Journey {
    async fn next(&mut self) -> Option<Result<Step, Failure>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Opening => Some(self.open().await.map_err(Failure::from)),
            Phase::Opened(piece, pieces) => {
                self.phase = Phase::Streaming(pieces);
                Some(Ok(step(piece)))
            }
            Phase::Streaming(mut pieces) => {
                let idle = Instant::now() + self.route.deadlines.idle;
                let late = (code::IDLE_TIMEOUT, self.route.deadlines.idle);
                match within(pieces.next(), idle, self.end, late).await {
                    Ok(None) => None,
                    Ok(Some(Ok(piece))) => {
                        self.phase = Phase::Streaming(pieces);
                        Some(Ok(step(piece)))
                    }
                    Ok(Some(Err(fault))) | Err(fault) => Some(Err(fault.into())),
                }
            }
            Phase::Done => None,
        }
    }

    async fn open(&mut self) -> Result<Step, Fault> {
        let max_tokens = self.request.options.max_tokens.or(self.route.max_tokens);
        let Some(ProviderKind::Demo) = self.route.upstreams.first().map(|upstream| upstream.provider) else {
            return Err(Fault::new(code::UPSTREAM_ERROR, Then::Stop, "not built yet"));
        };
        let start = if self.request.so_far.is_empty() { Rung::Start } else { Rung::Prefill };
        let (rung, keep, mut pieces) = match demo::answer(&self.request, max_tokens) {
            Some(pieces) => (start, self.request.so_far.len(), pieces),
            None => {
                let fresh = Request { so_far: String::new(), ..self.request.clone() };
                (Rung::Restart, 0, demo::answer(&fresh, max_tokens).expect("any script goes on from nothing"))
            }
        };
        let first = Instant::now() + self.route.deadlines.first_token;
        let late = (code::FIRST_TOKEN_TIMEOUT, self.route.deadlines.first_token);
        let piece = within(pieces.next(), first, self.end, late).await?.unwrap_or_else(|| Err(Fault::eof()))?;
        self.phase = Phase::Opened(piece, pieces);
        Ok(Step::Opened { rung, keep })
    }
}

fn step(piece: Piece) -> Step {
    match piece {
        Piece::Reasoning(text) => Step::Reasoning(text),
        Piece::Text(text) => Step::Text(text),
        Piece::Usage(usage) => Step::Usage(usage),
        Piece::Finish(word) => Step::Finish(word),
    }
}

/// Ends with a fault at `soon` (whose code and length are `late`), or at the end of all time for this answer.
async fn within<T>(
    work: impl Future<Output = T>,
    soon: Instant,
    end: Instant,
    late: (&'static str, Duration),
) -> Result<T, Fault> {
    let (until, fault) = if end <= soon { (end, None) } else { (soon, Some(late)) };
    tokio::time::timeout_at(until, work).await.map_err(|_| match fault {
        None => Fault::new(code::TOTAL_TIMEOUT, Then::Stop, "the answer took longer than it may"),
        Some((code, after)) => Fault::new(code, Then::Next, format!("the model said nothing for {after:?}")),
    })
}
