//! The models that this node offers: as configured, or as found, kept fresh while the node runs.
//!
//! Nothing here holds up the start: what has to be asked for is asked in the background.

mod listing;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::listing::{Found, Place};
use super::Model;
use super::http::Http;
use crate::config::{AiConfig, Deadlines, Discovery, ModelSource, RetryConfig};
use crate::drain::Drain;
use crate::telemetry::Metrics;

/// Between two looks when all is well.
const REFRESH: Duration = Duration::from_secs(60);

/// After a server that was named didn't answer; doubles up to [`REFRESH`].
const RETRY_FIRST: Duration = Duration::from_millis(500);

/// How long [`Catalog::settled`] waits at most.
const SETTLE_MAX: Duration = Duration::from_secs(3);

/// What can be chosen; the first is the default. Empty while nothing is known yet.
pub type Models = Arc<Vec<Arc<Model>>>;

/// A cheap-clone handle on the models that are offered now.
#[derive(Clone, Debug)]
pub struct Catalog {
    current: watch::Receiver<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    models: Models,
    /// The first look is over.
    settled: bool,
}

impl Catalog {
    /// Answers at once: configured models are there, others appear as they are found.
    #[must_use]
    pub fn start(config: &AiConfig, metrics: &Metrics, drain: &Drain) -> Self {
        let AiConfig { retry, deadlines, .. } = *config;
        let http = Http::default();
        match &config.models {
            ModelSource::Configured(configs) => {
                let models = configs.iter().map(|config| Model::new(config, retry, &http, metrics)).collect();
                let state = State { models: first_is_default(models), settled: true };
                Self { current: watch::channel(state).1 }
            }
            ModelSource::Discovered(discovery) => {
                let (sender, current) = watch::channel(State::default());
                let search = Search::new(discovery, deadlines, retry, http, metrics.clone());
                let stopped = drain.stopped().clone();
                drain.spawn("model-catalog", async move {
                    stopped.run_until_cancelled(search.run(sender)).await;
                });
                Self { current }
            }
        }
    }

    #[must_use]
    pub fn current(&self) -> Models {
        self.current.borrow().models.clone()
    }

    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Model>> {
        self.current.borrow().models.iter().find(|model| model.info.id == id).cloned()
    }

    /// Waits until the first look around is over; not for long, whatever a server does.
    pub async fn settled(&self) {
        let mut current = self.current.clone();
        let _ = tokio::time::timeout(SETTLE_MAX, current.wait_for(|state| state.settled)).await;
    }

    /// Waits until other models are offered than when this handle waited last; for ever when they can't change.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

fn first_is_default(mut models: Vec<Model>) -> Models {
    if let Some(first) = models.first_mut() {
        first.info.default = true;
    }
    Arc::new(models.into_iter().map(Arc::new).collect())
}

/// Looks for models where the environment points to.
struct Search {
    places: Vec<Sought>,
    deadlines: Deadlines,
    retry: RetryConfig,
    http: Http,
    metrics: Metrics,
}

/// A place, and what it offered when it last answered.
struct Sought {
    place: Place,
    found: Vec<Found>,
    pause: Duration,
    next: Instant,
}

impl Search {
    fn new(discovery: &Discovery, deadlines: Deadlines, retry: RetryConfig, http: Http, metrics: Metrics) -> Self {
        let next = Instant::now();
        let places = listing::places(discovery, deadlines);
        let places = places.into_iter().map(|place| Sought { place, found: Vec::new(), pause: RETRY_FIRST, next }).collect();
        Self { places, deadlines, retry, http, metrics }
    }

    async fn run(mut self, sender: watch::Sender<State>) {
        loop {
            let due: Vec<&mut Sought> = self.places.iter_mut().filter(|sought| sought.next <= Instant::now()).collect();
            let looks = due.into_iter().map(|sought| sought.look(&self.http));
            futures_util::future::join_all(looks).await;
            let old = sender.borrow().clone();
            let models = self.offer(&old.models);
            if !old.settled || !same(&models, &old.models) {
                let ids: Vec<&str> = models.iter().map(|model| model.info.id.as_str()).collect();
                tracing::info!(?ids, "models offered");
                sender.send_replace(State { models, settled: true });
            }
            let Some(next) = self.places.iter().map(|sought| sought.next).min() else {
                return std::future::pending().await;
            };
            tokio::time::sleep_until(next).await;
        }
    }

    /// Everything found, in the order of the places; the demonstration where nothing was sought and nothing is there.
    /// A model that is offered already stays the same one, with what is known of its upstream.
    fn offer(&self, old: &Models) -> Models {
        let mut found: Vec<&Found> = self.places.iter().flat_map(|sought| &sought.found).collect();
        found.sort_by_key(|found| !found.answers_questions());
        let mut models: Vec<Arc<Model>> = Vec::new();
        for found in found {
            if models.iter().any(|model| model.info.id == found.config.id) {
                continue;
            }
            let default = models.is_empty();
            let known = old.iter().find(|model| model.info.default == default && found.is(model));
            models.push(known.cloned().unwrap_or_else(|| {
                let mut model = Model::new(&found.config, self.retry, &self.http, &self.metrics);
                model.info.default = default;
                Arc::new(model)
            }));
        }
        let named = self.places.iter().any(|sought| sought.place.named);
        if models.is_empty() && !named {
            let demo = old.iter().find(|model| model.info.demo).cloned();
            models.push(demo.unwrap_or_else(|| {
                let mut demo = Model::demo(self.deadlines, &self.metrics);
                demo.info.default = true;
                Arc::new(demo)
            }));
        }
        Arc::new(models)
    }
}

impl Sought {
    async fn look(&mut self, http: &Http) {
        match self.place.list(http).await {
            Ok(found) => {
                self.found = found;
                self.pause = RETRY_FIRST;
                self.next = Instant::now() + REFRESH;
            }
            Err(fault) => {
                if self.place.named {
                    tracing::warn!(upstream = self.place.label(), reason = fault.message, "models could not be listed");
                    self.next = Instant::now() + self.pause;
                    self.pause = (self.pause * 2).min(REFRESH);
                } else {
                    // Nobody said that it should be there.
                    self.found.clear();
                    self.next = Instant::now() + REFRESH;
                }
            }
        }
    }
}

fn same(one: &Models, two: &Models) -> bool {
    one.len() == two.len() && one.iter().zip(two.iter()).all(|(one, two)| Arc::ptr_eq(one, two))
}
