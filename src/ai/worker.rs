//! Takes work while there is room for it. Nobody assigns: a fuller node simply takes less.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, SelectAll};
use tokio::sync::Notify;

use super::provider::catalog::Catalog;
use super::run::{self, Bench};
use crate::backend::{Backends, Hints, Subject};
use crate::config::AiConfig;
use crate::drain::Drain;
use crate::model::ModelInfo;
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
        let mut hints = self.listen().await;
        loop {
            let freed = self.freed.notified();
            if self.running() < self.capacity() && !draining.is_cancelled() && self.claim().await {
                continue;
            }
            tokio::select! {
                () = draining.cancelled() => return,
                () = catalog.changed() => hints = self.listen().await,
                Some(_) = hints.next() => {}
                () = freed => {}
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
        }
    }

    async fn listen(&self) -> SelectAll<Hints> {
        let mut all = Vec::new();
        for model in self.models() {
            all.push(self.bench.backends.backplane.subscribe(&Subject::Work(model.id)).await);
        }
        stream::select_all(all)
    }

    /// Takes one generation, if there is one.
    async fn claim(&self) -> bool {
        let models: Vec<String> = self.bench.catalog.current().iter().map(|model| model.info.id.clone()).collect();
        if models.is_empty() {
            return false;
        }
        let claim = match self.bench.backends.generations.claim(&self.bench.node_id, &models).await {
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

/// Gives the place back even when a run panics; its lease then runs out and another owner goes on.
struct Place(Worker);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.freed.notify_waiters();
    }
}
