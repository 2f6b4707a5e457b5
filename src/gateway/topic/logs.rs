//! The logs of a watched conversation, as the store has them: reading what is missing, and comparing. It must not know who reads.

use std::sync::Arc;

use super::{Found, PAGE_BYTES_MAX, Seen, Task};
use crate::backend::{Error, LogPage, Phase, Progress};
use crate::gateway::resume::Replica;
use crate::log::{Broken, Entry};
use crate::model::{GenerationId, Position};

impl Task {
    /// Reads what is missing of a log, and the final message once it has ended; or soon again.
    pub(super) async fn load(&mut self, generation: &GenerationId) {
        let _ = self.try_load(generation).await;
    }

    /// A reader needs it. Where it is nowhere, nor is its conversation, the hint of its end was lost.
    pub(super) async fn missing(&mut self, generation: &GenerationId) {
        let loaded = self.try_load(generation).await.is_ok();
        if !loaded || self.topic.state().replicas.contains_key(generation) {
            return;
        }
        let Some(user) = &self.user else { return };
        if self.shared.backends.store.conversation(user, &self.topic.conversation).await == Err(Error::NotFound) {
            self.deleted();
        }
    }

    pub(super) async fn try_load(&mut self, generation: &GenerationId) -> Result<(), Error> {
        let after = self.held(generation).unwrap_or(Position::START);
        if self.is_finished(generation) {
            return Ok(());
        }
        let page = self.shared.backends.generations.read(generation, after, PAGE_BYTES_MAX).await;
        self.take_in(generation, page).await
    }

    /// How far its replica is, if it has one.
    pub(super) fn held(&self, generation: &GenerationId) -> Option<Position> {
        self.topic.state().replicas.get(generation).map(Replica::position)
    }

    /// Folds in what was read of a log, and reads on to its end.
    pub(super) async fn take_in(&mut self, generation: &GenerationId, page: Result<LogPage, Error>) -> Result<(), Error> {
        let held = self.held(generation);
        let result = self.read(generation, page).await;
        if let Err(error) = &result {
            tracing::debug!(%generation, %error, "log could not be read");
            self.watches.soon(generation);
        }
        // A reader that still has nothing to draw from would only ask again, as fast as the store can refuse.
        if result.is_ok() || held.is_some() {
            self.topic.wake();
        }
        result
    }

    pub(super) async fn read(&mut self, generation: &GenerationId, mut next: Result<LogPage, Error>) -> Result<(), Error> {
        let mut rebuilt = false;
        loop {
            let page = match next {
                Ok(page) => page,
                Err(Error::Gone) => return self.finish(generation).await,
                Err(error) => return Err(error),
            };
            let after = match self.absorb(generation, &page) {
                Ok((_, true)) => return self.finish(generation).await,
                Ok((position, false)) if page.entries.is_empty() || position >= page.tail => return Ok(()),
                Ok((position, false)) => position,
                Err(broken) if rebuilt => return Err(Error::Corrupt(broken.to_string())),
                // The log isn't the one that was read before: start again, and let every reader do so.
                Err(_) => {
                    rebuilt = true;
                    Position::START
                }
            };
            next = self.shared.backends.generations.read(generation, after, PAGE_BYTES_MAX).await;
        }
    }

    /// Folds a page in; answers how far the replica is, and whether the log has ended.
    pub(super) fn absorb(&mut self, generation: &GenerationId, page: &LogPage) -> Result<(Position, bool), Broken> {
        self.hold(generation);
        let mut state = self.topic.state();
        let Some(replica) = state.replicas.get_mut(generation) else { return Ok((page.tail, false)) };
        for (position, entry) in &page.entries {
            replica.absorb(*position, entry).inspect_err(|_| replica.rebuild())?;
        }
        let (progress, ahead) = match page.phase {
            Phase::Queued { ahead } => (Progress::Queued, Some(ahead)),
            Phase::Orphaned => (Progress::Recovering, None),
            Phase::Running | Phase::Ended => (Progress::Running, None),
        };
        let ended = replica.has_ended();
        if !ended {
            replica.set_progress(progress, ahead);
        }
        let position = replica.position();
        drop(state);
        if let Some((_, entry)) = page.entries.last() {
            self.spoke(generation, entry);
        }
        Ok((position, ended))
    }

    /// Fetches the final message. Where the log is gone and the message still open, its owner or the sweep will end it.
    pub(super) async fn finish(&mut self, generation: &GenerationId) -> Result<(), Error> {
        let message = match self.shared.backends.store.message(&generation.message()).await {
            Ok(message) if message.generation.as_ref() == Some(generation) => match message.status.is_open() {
                true => return Err(Error::Gone),
                false => message,
            },
            // Nothing was ever generated under this name, which may be made of a question's.
            Ok(_) | Err(Error::NotFound) => {
                self.topic.state().replicas.remove(generation);
                self.watches.forget(generation);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.hold(generation);
        if let Some(replica) = self.topic.state().replicas.get_mut(generation) {
            replica.finish(message);
        }
        self.watches.ended(generation);
        Ok(())
    }

    /// Measures the silence before a piece of text.
    pub(super) fn spoke(&mut self, generation: &GenerationId, entry: &Entry) {
        if let Entry::Delta(_) = entry
            && let Some(silence) = self.watches.spoke(generation)
        {
            self.shared.metrics.token_gap(silence);
        }
    }

    pub(super) fn is_finished(&self, generation: &GenerationId) -> bool {
        self.topic.state().replicas.get(generation).is_some_and(Replica::is_finished)
    }

    /// Compares a log with the store, beside the hints.
    pub(super) fn check(&mut self, generation: &GenerationId) {
        if !self.reading.insert(generation.clone()) {
            // That one may have been asked before there was anything new.
            return self.watches.again(generation);
        }
        let before = self.seen(generation);
        self.watches.checked(generation, self.hints_come(), before.0 == Position::START);
        let (generations, generation) = (Arc::clone(&self.shared.backends.generations), generation.clone());
        self.beside(async move {
            let page = generations.read(&generation, before.0, PAGE_BYTES_MAX).await;
            Found::Log { generation, before, page }
        });
    }

    pub(super) fn seen(&self, generation: &GenerationId) -> Seen {
        let state = self.topic.state();
        state.replicas.get(generation).map_or((Position::START, None), |replica| (replica.position(), replica.progress()))
    }

    pub(super) async fn compared(&mut self, generation: &GenerationId, before: Seen, page: Result<LogPage, Error>) {
        self.reading.remove(generation);
        // Deleted or put away meanwhile.
        if !self.watches.has(generation) {
            return;
        }
        let now = self.seen(generation);
        let ended = self.topic.state().replicas.get(generation).is_some_and(Replica::has_ended);
        // What came meanwhile the page doesn't know of, not even whether it is the same log. What fails is compared again.
        let _ = match &page {
            Ok(page) if now != before && page.tail <= now.0 && !ended => Ok(()),
            Ok(_) if now != before => self.try_load(generation).await,
            _ => self.take_in(generation, page).await,
        };
    }
}
