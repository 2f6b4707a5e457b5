//! Figures of models, for those who compare them: named without our prefix, as everybody else names them. They must not hold content.

use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Histograms, Labels, timers};

/// Named as OpenTelemetry's conventions for generative models name them.
#[derive(Debug)]
pub(super) struct Models {
    pub(super) tokens: Family<Labels<2>, Histogram, Tokens>,
    pub(super) first_token: Histograms<1>,
    pub(super) token_time: Histograms<1>,
}

impl Models {
    pub(super) fn register(to: &mut Registry) -> Self {
        let tokens = Family::new_with_constructor(Tokens);
        to.register("gen_ai_client_token_usage", "Tokens that an answer took", tokens.clone());
        Self {
            tokens,
            first_token: timers(to, "gen_ai_server_time_to_first_token", "Seconds from the request to the model's first token"),
            token_time: timers(to, "gen_ai_server_time_per_output_token", "Seconds a token, after the first one"),
        }
    }
}

/// From one token to a million, as OpenTelemetry's conventions bound them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens;

impl MetricConstructor<Histogram> for Tokens {
    fn new_metric(&self) -> Histogram {
        Histogram::new((0..=10).map(|power| 4_f64.powi(power)))
    }
}
