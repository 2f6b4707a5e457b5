//! Models and their upstreams: one question in, a stream of steps out. Knows nothing of logs, leases or readers.

use futures_util::stream::BoxStream;

use crate::log::Rung;
use crate::model::{Failure, GenerationId, ModelInfo, Options, Role, Usage};

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub generation: GenerationId,
    pub options: Options,
    /// The path from the root to the question, oldest first; the last one is the user's.
    pub turns: Vec<Turn>,
    /// Text that earlier owners of this generation wrote, to go on from; empty at the start.
    pub so_far: String,
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
}

impl Model {
    /// Asks. Retries and falls over to the next upstream before the first token only.
    pub fn answer(&self, request: Request) -> Steps {
        let _ = request;
        Box::pin(futures_util::stream::empty())
    }
}
