//! One line on a terminal that says how far a scenario is. Nothing where nobody looks.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const EVERY: Duration = Duration::from_millis(200);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    shown: bool,
    name: Arc<str>,
    began: Instant,
    steps: Arc<AtomicU64>,
    /// Milliseconds after `began`.
    told: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn new(name: &str) -> Self {
        let progress = Self { shown: std::io::stderr().is_terminal(), name: name.into(), ..Self::none() };
        progress.tell(0);
        progress
    }

    pub(super) fn none() -> Self {
        Self { shown: false, name: "".into(), began: Instant::now(), steps: Arc::default(), told: Arc::default() }
    }

    pub(super) fn step(&self) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed) + 1;
        if self.shown {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let told = self.told.load(Ordering::Relaxed);
            let due = now >= told + u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
            // Of many that come at once, one tells.
            if due && self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.tell(steps);
            }
        }
    }

    fn tell(&self, steps: u64) {
        if self.shown {
            let line = format!("\r\x1b[2K{}: {steps} in {:.0} s", self.name, self.began.elapsed().as_secs_f64());
            // A terminal that went away is no failure.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// Leaves the line empty for what comes next.
    pub(super) fn end(&self) {
        if self.shown {
            let _ = std::io::stderr().write_all(b"\r\x1b[2K");
        }
    }
}
