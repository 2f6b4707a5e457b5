//! Figures of the long-term history. Those of a node without one stay at zero.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Metrics, add, int};

#[derive(Debug)]
pub(super) struct History {
    archived: Counter,
    evicted: Counter,
    hydrated: Counter,
    errors: Counter,
    waiting: Gauge,
    connected: Gauge,
}

impl History {
    pub(super) fn register(to: &mut Registry) -> Self {
        Self {
            archived: add(to, "history_archived_messages", "Messages that this node copied to the history"),
            evicted: add(to, "history_evicted", "Conversations that this node left to the history alone"),
            hydrated: add(to, "history_hydrated", "Conversations that this node brought back from the history"),
            errors: add(to, "history_errors", "Conversations that could not be archived at a try"),
            waiting: add(to, "history_waiting", "Conversations of the cluster that wait to be archived"),
            connected: add(to, "history_connected", "1 while the history can be reached"),
        }
    }
}

impl Metrics {
    pub fn history_archived(&self, messages: u64) {
        self.0.history.archived.inc_by(messages);
    }

    pub fn history_evicted(&self) {
        self.0.history.evicted.inc();
    }

    pub fn history_hydrated(&self) {
        self.0.history.hydrated.inc();
    }

    pub fn history_failed(&self) {
        self.0.history.errors.inc();
    }

    pub fn history_waiting(&self, conversations: u64) {
        self.0.history.waiting.set(int(conversations));
    }

    pub fn history_connected(&self, connected: bool) {
        self.0.history.connected.set(i64::from(connected));
    }
}
