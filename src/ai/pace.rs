//! When a model was asked and when it spoke, in the words of those who compare models. It must not know what was said.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Usage;
use crate::telemetry::Metrics;

/// One owner's time with a model.
#[derive(Debug)]
pub(super) struct Pace {
    asked: Instant,
    /// When the first and the last token came.
    spoke: Option<(Instant, Instant)>,
}

impl Pace {
    /// The request goes out now.
    pub(super) fn asked() -> Self {
        Self { asked: Instant::now(), spoke: None }
    }

    /// A token came. Answers, for the first one, how long it took.
    pub(super) fn token(&mut self) -> Option<Duration> {
        let now = Instant::now();
        match &mut self.spoke {
            Some((_, last)) => {
                *last = now;
                None
            }
            None => {
                self.spoke = Some((now, now));
                Some(now - self.asked)
            }
        }
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.spoke.is_some()
    }

    /// Reports what the answer took, where anything was said and counted.
    pub(super) fn report(&self, metrics: &Metrics, model: &str, usage: Option<Usage>) {
        if let (Some(usage), Some((first, last))) = (usage, self.spoke) {
            metrics.model_ended(model, usage.input_tokens, usage.output_tokens, last - first);
        }
    }
}
