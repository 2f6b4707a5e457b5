//! Models and their upstreams: one question in, a stream of steps out. Knows nothing of logs, leases or readers.

mod anthropic;
mod ask;
pub mod catalog;
mod circuit;
pub mod demo;
pub mod http;
mod ndjson;
mod ollama;
mod openai;
mod reader;
mod refusal;
mod reply;
mod route;
mod seam;
mod sse;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;

use self::http::Http;
#[cfg(any(test, fuzzing))]
pub(crate) use self::reader::ends_once;
use self::route::Route;
use crate::config::{Deadlines, ModelConfig, ProviderKind, RetryConfig, UpstreamConfig};
use crate::log::Rung;
use crate::model::{Failure, GenerationId, ModelInfo, Options, Role, Usage};
use crate::telemetry::{Metrics, traces};

/// The id of the built-in demonstration model.
pub const DEMO_ID: &str = "demo";

/// It has nothing that a second try could mend.
const DEMO_RETRY: RetryConfig =
    RetryConfig { tries: 1, backoff: Duration::ZERO, circuit_failures: u32::MAX, circuit_open: Duration::ZERO };

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub generation: GenerationId,
    pub options: Options,
    /// The path from the root to the question, oldest first; the last one is the user's.
    pub turns: Vec<Turn>,
    /// Text that earlier owners of this generation wrote, to go on from; empty at the start.
    pub so_far: String,
    /// Whom the spans of its tries go under.
    pub trace: traces::Parent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub content: String,
}

/// In order: one `Opened`, any number of `Reasoning` and `Text`, at most one `Usage`, one `Finish`; or a [`Failure`]
/// (always last, its code one of the protocol's for generations) at any point.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The first token is there (it follows). `keep` bytes of `so_far` stand; 0 for `Start` and `Restart`.
    Opened {
        rung: Rung,
        keep: usize,
    },
    Reasoning(String),
    Text(String),
    Usage(Usage),
    /// The upstream's reason in the words of OpenAI: `stop`, `length`, `content_filter`, `tool_calls`.
    Finish(String),
}

/// Dropping it closes the upstream connection: that is how an answer is cancelled.
pub type Steps = BoxStream<'static, Result<Step, Failure>>;

/// A model that can be chosen, with its upstreams in the order in which they are tried.
#[derive(Debug)]
pub struct Model {
    pub info: ModelInfo,
    route: Arc<Route>,
}

impl Model {
    #[must_use]
    pub fn new(config: &ModelConfig, retry: RetryConfig, http: &Http, metrics: &Metrics) -> Self {
        let demo = config.upstreams.iter().all(|upstream| upstream.provider == ProviderKind::Demo);
        let provider = config.upstreams.first().map_or("none", |upstream| provider_name(upstream.provider));
        let info = ModelInfo {
            id: config.id.clone(),
            name: config.name.clone(),
            provider: provider.to_owned(),
            demo,
            default: false,
            context_tokens: config.context_tokens,
            max_tokens: config.max_tokens,
            max_tokens_cap: config.max_tokens_cap,
            admin_only: config.admin_only,
        };
        Self { info, route: Arc::new(Route::new(config, retry, http, metrics)) }
    }

    /// The built-in demonstration model.
    #[must_use]
    pub fn demo(deadlines: Deadlines, metrics: &Metrics) -> Self {
        let upstream = UpstreamConfig {
            provider: ProviderKind::Demo,
            base_url: String::new(),
            api_key: None,
            model: DEMO_ID.to_owned(),
            continuation: None,
        };
        let config = ModelConfig {
            id: DEMO_ID.to_owned(),
            name: "Demonstration (no real model)".to_owned(),
            context_tokens: None,
            max_tokens: None,
            max_tokens_cap: None,
            admin_only: false,
            deadlines,
            upstreams: vec![upstream],
        };
        Self::new(&config, DEMO_RETRY, &Http::default(), metrics)
    }

    /// True when this is what it was made from, so that it need not be made again.
    #[must_use]
    pub fn is_of(&self, config: &ModelConfig) -> bool {
        let info = (self.info.max_tokens_cap, self.info.admin_only) == (config.max_tokens_cap, config.admin_only);
        info && self.info.name == config.name && self.route.is_of(config)
    }

    /// Asks. Retries and falls over to the next upstream before the first token only.
    #[must_use]
    pub fn answer(&self, mut request: Request) -> Steps {
        // Whatever the user set, and whenever: the operator's word is the last.
        request.options.max_tokens = self.info.longest_answer(request.options.max_tokens);
        self.route.clone().answer(request)
    }
}

/// The word for it in lists of models, metrics and logs.
#[must_use]
pub fn provider_name(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::OpenAi => "openai",
        ProviderKind::Anthropic => "anthropic",
        ProviderKind::Ollama => "ollama",
        ProviderKind::Demo => "demo",
    }
}
