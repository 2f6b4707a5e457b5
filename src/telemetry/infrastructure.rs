//! Figures of what a node stands on: its store, its backplane, its connections.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Buckets, Counters, Gauges, Metrics, add, timers};

#[derive(Debug)]
pub(super) struct Infrastructure {
    store: Family<[(&'static str, &'static str); 1], Histogram, Buckets>,
    store_errors: Counter,
    backplane_connected: Gauge,
    backplane_dropped: Counter,
    events_dropped: Counter,
    draining: Gauge,
    cut: Counters<1>,
}

impl Infrastructure {
    pub(super) fn register(to: &mut Registry) -> Self {
        let build: Gauges<1> = add(to, "build_info", "The version, as a label");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        Self {
            store: timers(to, "store_seconds", "Calls of the store"),
            store_errors: add(to, "store_errors", "Calls of the store that failed"),
            backplane_connected: add(to, "backplane_connected", "1 while hints can come from other nodes"),
            backplane_dropped: add(to, "backplane_dropped", "Hints that were not taken fast enough"),
            events_dropped: add(to, "events_dropped", "Events for other programs that nobody took"),
            draining: add(to, "draining", "1 while this node takes nothing new"),
            cut: add(to, "connections_cut", "Connections that were ended before they had what they wanted"),
        }
    }
}

impl Metrics {
    pub fn store_call(&self, op: &'static str, took: Duration) {
        self.0.infrastructure.store.get_or_create(&[("op", op)]).observe(took.as_secs_f64());
    }

    pub fn store_failed(&self) {
        self.0.infrastructure.store_errors.inc();
    }

    pub fn backplane_connected(&self, connected: bool) {
        self.0.infrastructure.backplane_connected.set(i64::from(connected));
    }

    pub fn event_dropped(&self) {
        self.0.infrastructure.events_dropped.inc();
    }

    pub fn backplane_dropped(&self, hints: u64) {
        self.0.infrastructure.backplane_dropped.inc_by(hints);
    }

    pub fn draining(&self) {
        self.0.infrastructure.draining.set(1);
    }

    /// A connection that was ended by us, before or in the middle of what it wanted. `reason` is one of few words.
    pub fn connection_cut(&self, reason: &'static str) {
        self.0.infrastructure.cut.get_or_create(&[("reason", reason.to_owned())]).inc();
    }
}
