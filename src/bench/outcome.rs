//! What a scenario brought: figures, latencies, and what was wrong. Must not know how they are shown.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Why a scenario could not be measured, or what a server did wrong; one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(String);

impl Failure {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    pub(super) fn of_http(error: reqwest::Error) -> Self {
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        Self(innermost.to_string())
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn of_socket(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self(error.to_string())
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: String,
    /// What was measured, for people.
    pub(super) what: String,
    pub(super) latency: Option<Latency>,
    pub(super) figures: Vec<Figure>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
}

/// Milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
    /// Percentile and milliseconds, for the plot.
    pub(super) curve: Vec<(f64, f64)>,
}

impl Latency {
    /// Of microseconds; `None` where nothing was measured.
    pub(super) fn of(micros: &Histogram<u64>) -> Option<Self> {
        let at = |percentile: f64| ms(micros.value_at_percentile(percentile));
        let curve = micros.iter_quantiles(4).map(|step| (step.percentile(), ms(step.value_iterated_to()))).collect();
        (!micros.is_empty()).then(|| Self {
            count: micros.len(),
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: ms(micros.max()),
            mean: micros.mean() / 1_000.0,
            curve,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most ten minutes in microseconds")]
fn ms(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

impl Outcome {
    pub(super) fn new(name: impl Into<String>, what: impl Into<String>, micros: &Histogram<u64>) -> Self {
        Self { name: name.into(), what: what.into(), latency: Latency::of(micros), figures: Vec::new() }
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: f64, unit: &'static str) -> Self {
        self.figures.push(Figure { name, value, unit });
        self
    }

    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }
}
