//! One connection, as topics see it: something to wake, and what is told to it beside answers. It must not know who writes it out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::extract::ws::Utf8Bytes;
use tokio::sync::Notify;

use super::hub::lock;
use crate::model::MessageId;
use crate::telemetry::Metrics;

/// One connection, as the topics see it: something to wake, and a bounded queue of events that are not part of an answer.
#[derive(Debug)]
pub struct Reader {
    notify: Notify,
    events: Mutex<Events>,
    bytes_max: usize,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Events {
    queue: VecDeque<Event>,
    bytes: usize,
    overflow: bool,
}

/// A `message` frame.
#[derive(Clone, Debug)]
pub struct Event {
    pub message: MessageId,
    pub frame: Utf8Bytes,
}

impl Reader {
    #[must_use]
    pub fn new(bytes_max: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { notify: Notify::new(), events: Mutex::default(), bytes_max, metrics })
    }

    /// Returns when there may be something to take.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// Queues an event. Beyond its limit the reader has lost track, and hears so from then on. The largest event is not counted: one
    /// question may be larger than the limit, and is held once for all who wait for it.
    pub fn push(&self, event: Event) {
        let mut events = lock(&self.events);
        let largest = events.queue.iter().chain([&event]).map(|waiting| waiting.frame.len()).max().unwrap_or_default();
        if events.bytes + event.frame.len() - largest > self.bytes_max {
            events.overflow = true;
            self.metrics.outbox_changed(-signed(std::mem::take(&mut events.bytes)));
            events.queue.clear();
        } else if !events.overflow {
            events.bytes += event.frame.len();
            self.metrics.outbox_changed(signed(event.frame.len()));
            events.queue.push_back(event);
        }
        drop(events);
        self.wake();
    }

    /// The next event, if it may be taken now.
    ///
    /// # Errors
    /// [`Overflow`] when some were dropped.
    pub fn event(&self, take: bool) -> Result<Option<Event>, Overflow> {
        let mut events = lock(&self.events);
        if events.overflow {
            return Err(Overflow);
        }
        let event = if take { events.queue.pop_front() } else { None };
        let bytes = event.as_ref().map_or(0, |event| event.frame.len());
        events.bytes -= bytes;
        self.metrics.outbox_changed(-signed(bytes));
        Ok(event)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let waiting = lock(&self.events).bytes;
        self.metrics.outbox_changed(-signed(waiting));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// More events than a reader may have waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;
