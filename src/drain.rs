//! Leaving in good order: named tasks with an owner, one token that says "take nothing new", one that says "stop now".

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A cheap-clone handle on the end of one node.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: CancellationToken,
    stopped: CancellationToken,
    tasks: TaskTracker,
    names: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Drain {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the node takes nothing new: readiness is off, running answers go on.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when every task has to end now.
    #[must_use]
    pub fn stopped(&self) -> &CancellationToken {
        &self.stopped
    }

    /// Runs a task that this node waits for when it ends. The task ends by `draining` or `stopped`, never by abort.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.count(name, |running| *running += 1);
        let drain = self.clone();
        #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned")]
        self.tasks.spawn(async move {
            let _left = Left(drain, name);
            task.await;
        });
    }

    /// Ends every task: at once, but waits up to `grace` for them to notice. Answers the names of those that didn't.
    pub async fn stop(&self, grace: Duration) -> Vec<&'static str> {
        self.draining.cancel();
        self.stopped.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(grace, self.tasks.wait()).await;
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.iter().filter(|(_, running)| **running > 0).map(|(name, _)| *name).collect()
    }

    fn count(&self, name: &'static str, change: impl FnOnce(&mut usize)) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        change(names.entry(name).or_default());
    }
}

/// Takes a task off the list even when it panicked.
struct Left(Drain, &'static str);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.count(self.1, |running| *running = running.saturating_sub(1));
    }
}
