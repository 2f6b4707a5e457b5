//! What an upstream says, in one vocabulary for all kinds: pieces of an answer, or a fault and what may help. Pure.

use std::time::Duration;

use futures_util::stream::BoxStream;

use crate::model::{Failure, Usage};

/// The failure codes of an answer that come from asking an upstream; the words of the protocol.
pub(super) mod code {
    pub(in crate::ai::provider) const CONNECT_TIMEOUT: &str = "connect_timeout";
    pub(in crate::ai::provider) const FIRST_TOKEN_TIMEOUT: &str = "first_token_timeout";
    pub(in crate::ai::provider) const IDLE_TIMEOUT: &str = "idle_timeout";
    pub(in crate::ai::provider) const TOTAL_TIMEOUT: &str = "total_timeout";
    pub(in crate::ai::provider) const UPSTREAM_ERROR: &str = "upstream_error";
    pub(in crate::ai::provider) const UPSTREAM_EOF: &str = "upstream_eof";
    pub(in crate::ai::provider) const CONTENT_FILTER: &str = "content_filter";
    pub(in crate::ai::provider) const TOO_LONG: &str = "too_long";
}

/// A part of an answer. Texts are never empty; `Finish` comes once and last, a `Usage` right before it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Reasoning(String),
    Text(String),
    Usage(Usage),
    /// In OpenAI's words; see [`finish_reason`].
    Finish(String),
}

/// One upstream's answer to one request. Ends with a `Finish` or a fault.
pub(super) type Pieces = BoxStream<'static, Result<Piece, Fault>>;

/// Why an upstream gave no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub code: &'static str,
    /// For people: no header, key or address with credentials in it.
    pub message: String,
    pub then: Then,
}

/// What may help before the first token. After it nothing does: an answer is never asked for twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The same upstream, a little later; not before `after` where it said so itself.
    Retry { after: Option<Duration> },
    /// Another upstream: this one will not do better soon.
    Next,
    /// A lower rung, if the answer was to be continued; else nothing, since the question itself is refused.
    Lower,
    /// Nothing.
    Stop,
}

impl Fault {
    #[must_use]
    pub(super) fn new(code: &'static str, then: Then, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), then }
    }

    /// An `upstream_error` that may pass.
    #[must_use]
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self::new(code::UPSTREAM_ERROR, Then::Retry { after: None }, message)
    }

    /// The stream ended without saying that the answer did.
    #[must_use]
    pub(super) fn eof() -> Self {
        let message = "the model's server closed the stream before the answer was finished";
        Self::new(code::UPSTREAM_EOF, Then::Retry { after: None }, message)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code.to_owned(), message: fault.message }
    }
}

/// The upstream's word for the end in OpenAI's words. A word that nobody knows stays as it is.
#[must_use]
pub(super) fn finish_reason(word: &str) -> String {
    let known = match word.to_ascii_lowercase().as_str() {
        "stop" | "end_turn" | "stop_sequence" | "eos" | "eos_token" | "complete" | "completed" => "stop",
        "length" | "max_tokens" | "model_length" | "model_context_window_exceeded" => "length",
        "content_filter" | "refusal" | "safety" | "recitation" | "sensitive" => "content_filter",
        "tool_calls" | "tool_use" | "function_call" => "tool_calls",
        _ => return word.to_owned(),
    };
    known.to_owned()
}
