//! Leaving in good order: named tasks with an owner, one token that says "take nothing new", one that says "stop now", and one for
//! what the others stand on until they have stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long what the others stood on may take to end, after them.
const GROUND_GRACE: Duration = Duration::from_secs(3);

/// A cheap-clone handle on the end of one node.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    draining: CancellationToken,
    stopped: CancellationToken,
    deserted: CancellationToken,
    tasks: TaskTracker,
    ground: TaskTracker,
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

    /// Cancelled when every other task has ended: links to servers are closed now, and not while somebody gives back what he holds.
    #[must_use]
    pub fn deserted(&self) -> &CancellationToken {
        &self.deserted
    }

    /// Runs a task that this node waits for when it ends. The task ends by `draining` or `stopped`, never by abort.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&self.tasks, name, task);
    }

    /// Runs a task that others stand on. It ends by `deserted`, never by abort.
    pub fn spawn_ground<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&self.ground, name, task);
    }

    fn spawn_on<F>(&self, tracker: &TaskTracker, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.count(name, |running| *running += 1);
        let drain = self.clone();
        // In a box, because a future that another one takes in and then awaits is held twice.
        let task = Box::pin(task);
        #[expect(clippy::disallowed_methods, reason = "the one place where tasks are spawned")]
        tracker.spawn(async move {
            let _left = Left(drain, name);
            task.await;
        });
    }

    /// Ends every task: at once, but waits up to `grace` for them to notice, and then a little for what they stood on. Answers the
    /// names of those that didn't.
    pub async fn stop(&self, grace: Duration) -> Vec<&'static str> {
        self.draining.cancel();
        self.stopped.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(grace, self.tasks.wait()).await;
        self.deserted.cancel();
        self.ground.close();
        let _ = tokio::time::timeout(GROUND_GRACE, self.ground.wait()).await;
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
