//! Takes work while there is room for it. Nobody assigns: a fuller node simply takes less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream, SelectAll};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::provider::catalog::Catalog;
use super::run::{self, Bench};
use crate::backend::{Backends, Claim, Error, Hint, Subject};
use crate::config::AiConfig;
use crate::drain::Drain;
use crate::model::{GenerationId, ModelInfo};
use crate::telemetry::Metrics;

/// How often work is looked for without a hint: what a lost hint costs at most.
const POLL_EVERY: Duration = Duration::from_millis(500);

/// The AI role of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker {
    bench: Bench,
    running: Arc<AtomicUsize>,
    /// Rung when a run ends.
    freed: Arc<Notify>,
}

impl Worker {
    #[must_use]
    pub fn new(node_id: &str, config: AiConfig, backends: Backends, catalog: Catalog, drain: Drain, metrics: Metrics) -> Self {
        let bench = Bench { node_id: node_id.into(), config: Arc::new(config), backends, catalog, drain, metrics };
        Self { bench, running: Arc::default(), freed: Arc::default() }
    }

    /// Answers in the making.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bench.config.capacity
    }

    /// What this node offers; the first model is the default.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        let models = self.bench.catalog.current();
        models.iter().enumerate().map(|(index, model)| ModelInfo { default: index == 0, ..model.info.clone() }).collect()
    }

    /// A handle of one's own on what is offered: each tells a change once.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        self.bench.catalog.clone()
    }

    /// Returns when no answer is in the making.
    pub async fn idle(&self) {
        loop {
            let freed = self.freed.notified();
            if self.running() == 0 {
                return;
            }
            freed.await;
        }
    }

    /// Claims and runs until the node drains; runs that have begun go on.
    pub async fn run(self) {
        let draining = self.bench.drain.draining().clone();
        let mut catalog = self.bench.catalog.clone();
        let mut work = self.listen().await;
        // When the queues are looked at next. Until then they were empty but for what hints tell of, which is taken from there directly.
        let mut look = Instant::now();
        loop {
            let freed = self.freed.notified();
            let room = self.running() < self.capacity() && !draining.is_cancelled();
            if room && look <= Instant::now() {
                if self.claim().await {
                    continue;
                }
                look = Instant::now() + POLL_EVERY;
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = catalog.changed() => {
                    work = self.listen().await;
                    look = Instant::now();
                }
                // Without room it is left in the queues, which are looked at when there is.
                Some((model, generation)) = work.next() => match generation {
                    Some(generation) if room => self.claim_this(&model, &generation).await,
                    Some(_) => {}
                    None => look = Instant::now(),
                },
                () = freed => look = Instant::now(),
                () = tokio::time::sleep_until(look), if room => {}
            }
        }
    }

    async fn listen(&self) -> SelectAll<Told> {
        let mut all = Vec::new();
        for model in self.models() {
            let hints = self.bench.backends.backplane.subscribe(&Subject::Work(model.id.clone())).await;
            let told = hints.map(move |hint| match &*hint {
                Hint::Work { generation } => (model.id.clone(), generation.clone()),
                _ => (model.id.clone(), None),
            });
            all.push(told.boxed());
        }
        stream::select_all(all)
    }

    /// Takes one generation, if there is one.
    async fn claim(&self) -> bool {
        let models: Vec<String> = self.bench.catalog.current().iter().map(|model| model.info.id.clone()).collect();
        if models.is_empty() {
            return false;
        }
        self.begin(self.bench.backends.generations.claim(&self.bench.node_id, &models).await)
    }

    /// Takes this one, if nobody was quicker.
    async fn claim_this(&self, model: &str, generation: &GenerationId) {
        self.begin(self.bench.backends.generations.claim_this(&self.bench.node_id, model, generation).await);
    }

    fn begin(&self, claimed: Result<Option<Claim>, Error>) -> bool {
        let claim = match claimed {
            Ok(Some(claim)) => claim,
            Ok(None) => return false,
            Err(error) => {
                tracing::debug!(%error, "no work could be claimed");
                return false;
            }
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let place = Place(self.clone());
        let bench = self.bench.clone();
        self.bench.drain.spawn("generation", async move {
            let _place = place;
            run::run(bench, claim).await;
        });
        true
    }
}

/// What hints told of: a model, and the generation that waits for it.
type Told = BoxStream<'static, (String, Option<GenerationId>)>;

/// Gives the place back even when a run panics; its lease then runs out and another owner goes on.
struct Place(Worker);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_waiters();
    }
}
