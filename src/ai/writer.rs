//! The one writer of one log: appends in order, one write in flight, and brings the log up to date again when the store
//! lost its end. Stores first, publishes then.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::backend::{Backends, Error, Hint, Lease, Renewed, Subject};
use crate::log::{Entry, Outcome};
use crate::model::{Message, Position, Time};

/// Before a write whose outcome is unknown is repeated.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_millis(250);

/// Why writing ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Another owner has it, or it ended: not ours any more.
    Fenced,
    /// The log was removed.
    Gone,
    /// It is damaged, or a newer version wrote it. It must not be written on by whoever can't read it: the lease is left to run out, for
    /// an owner who can.
    Unreadable,
}

impl Lost {
    /// For traces.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::Gone => "gone",
            Self::Unreadable => "unreadable",
        }
    }

    /// What this answer of the store means for an owner; nothing when the same call may yet succeed.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::Fenced => Some(Self::Fenced),
            Error::Gone | Error::NotFound => Some(Self::Gone),
            Error::Corrupt(_) => Some(Self::Unreadable),
            Error::OutOfOrder { .. } | Error::Full(_) | Error::Unavailable(_) => None,
        }
    }

    /// Whether a cancel was asked. Unless the lease is lost, an error means that the store is away: what is said meanwhile waits here,
    /// within its limit.
    pub(super) fn renewed(renewed: Result<Renewed, Error>) -> Result<Option<Time>, Self> {
        match renewed {
            Ok(renewed) => Ok(renewed.cancel),
            Err(error) => Self::of(&error).map_or(Ok(None), Err),
        }
    }
}

type Write = BoxFuture<'static, Result<Option<Time>, Error>>;

pub(super) struct Writer {
    backends: Backends,
    pub(super) lease: Arc<Lease>,
    /// What this owner wrote, to be sent again should the store lose it.
    written: Vec<(Position, Entry)>,
    /// Entries of `written` that the store has acknowledged.
    stored: usize,
    /// Where the log ended before this owner.
    base: Position,
    inflight: Option<(usize, Write)>,
    backoff: Duration,
}

impl Writer {
    pub(super) fn new(backends: Backends, lease: Lease, tail: Position) -> Self {
        Self {
            backends,
            lease: Arc::new(lease),
            written: Vec::new(),
            stored: 0,
            base: tail,
            inflight: None,
            backoff: Duration::ZERO,
        }
    }

    /// The position behind which the next entry goes.
    pub(super) fn tail(&self) -> Position {
        self.written.last().map_or(self.base, |(position, _)| *position)
    }

    fn position(&self, count: usize) -> Position {
        count.checked_sub(1).and_then(|last| self.written.get(last)).map_or(self.base, |(position, _)| *position)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.inflight.is_some()
    }

    /// Queues entries; they are on their way once [`Writer::progress`] is polled. Only while not busy.
    pub(super) fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let position = self.tail().next(self.lease.epoch());
            self.written.push((position, entry));
        }
        self.start();
    }

    fn start(&mut self) {
        let count = self.written.len();
        if self.inflight.is_some() || self.stored == count {
            return;
        }
        let entries: Vec<Entry> = self.written[self.stored..].iter().map(|(_, entry)| entry.clone()).collect();
        let (generations, lease) = (Arc::clone(&self.backends.generations), Arc::clone(&self.lease));
        let (previous, pause) = (self.position(self.stored), self.backoff);
        let write = async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            generations.append(&lease, previous, &entries).await.map(|renewed| renewed.cancel)
        };
        self.inflight = Some((count, Box::pin(write)));
    }

    /// Waits for the write in flight, and publishes what it stored. Answers when a cancel was asked, if it was. Cancel-safe.
    pub(super) async fn progress(&mut self) -> Result<Option<Time>, Lost> {
        let Some((count, write)) = &mut self.inflight else { return std::future::pending().await };
        let count = *count;
        let outcome = write.await;
        self.inflight = None;
        match outcome {
            Ok(cancel) => {
                self.backoff = Duration::ZERO;
                self.publish(count).await;
                self.stored = count;
                Ok(cancel)
            }
            Err(Error::OutOfOrder { tail }) => {
                self.compare(tail)?;
                self.start();
                Ok(None)
            }
            Err(error) => {
                self.back_off(&error)?;
                self.start();
                Ok(None)
            }
        }
    }

    /// Makes the next try wait, if one may help.
    fn back_off(&mut self, error: &Error) -> Result<(), Lost> {
        if let Error::Unavailable(_) | Error::Full(_) = error {
            tracing::debug!(generation = %self.lease.generation(), %error, "a write is repeated");
            self.backoff = (self.backoff * 2).clamp(RETRY_FIRST, RETRY_MAX);
            return Ok(());
        }
        Err(Lost::of(error).unwrap_or(Lost::Fenced))
    }

    /// The store's log ends at `tail`. If that is a place in what we wrote, what is behind it goes again.
    fn compare(&mut self, tail: Position) -> Result<(), Lost> {
        if tail == self.base {
            self.stored = 0;
            return Ok(());
        }
        let found = self.written.binary_search_by_key(&tail, |(position, _)| *position).map_err(|_| Lost::Fenced)?;
        self.stored = found + 1;
        Ok(())
    }

    async fn publish(&mut self, count: usize) {
        let subject = Subject::Conversation(self.lease.generation().conversation());
        let mut previous = self.position(self.stored);
        let stored_us = Some(Time::now_us());
        for (position, entry) in self.written.get(self.stored..count).unwrap_or_default() {
            let generation = self.lease.generation().clone();
            let hint = Hint::Entry { generation, previous, position: *position, entry: entry.clone(), stored_us };
            self.backends.backplane.publish(&subject, hint).await;
            previous = *position;
        }
    }

    /// Tells readers where the log ends, so that they notice what they missed.
    pub(super) async fn heartbeat(&mut self) {
        let generation = self.lease.generation().clone();
        let subject = Subject::Conversation(generation.conversation());
        let position = self.position(self.stored);
        self.backends.backplane.publish(&subject, Hint::Tail { generation, position }).await;
    }

    /// Waits until everything queued is stored.
    pub(super) async fn settle(&mut self) -> Result<(), Lost> {
        while self.is_busy() {
            self.progress().await?;
        }
        Ok(())
    }

    /// Writes the end, and answers its position. Repeats while the store is away: whoever may end it does.
    pub(super) async fn finish(&mut self, outcome: &Outcome, message: &Message) -> Result<Position, Lost> {
        loop {
            self.settle().await?;
            let previous = self.tail();
            match self.backends.generations.finish(&self.lease, previous, outcome, message).await {
                Ok(()) => return Ok(previous.next(self.lease.epoch())),
                Err(Error::OutOfOrder { tail }) => {
                    self.compare(tail)?;
                    self.start();
                }
                Err(error) => {
                    self.back_off(&error)?;
                    tokio::time::sleep(self.backoff).await;
                }
            }
        }
    }
}
