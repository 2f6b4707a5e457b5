//! What an answer used, in tokens: as its upstream told it, or else by our own count. It must not know who pays.

use super::prompt;
use super::provider::{Request, Turn};
use crate::backend::Backends;
use crate::log::Transcript;
use crate::model::{Message, Status, Usage};
use crate::tokens;

/// One owner's knowledge.
#[derive(Debug, Default)]
pub(super) struct Count {
    told: Option<Usage>,
    /// What the model has been given to read.
    asked: Option<u64>,
}

impl Count {
    /// The request goes out now, to a model with this window.
    pub(super) fn asks(&mut self, request: &Request, window: Option<u64>) {
        self.asked = Some(read(&request.turns, request.options.system.as_deref(), window));
    }

    pub(super) fn told(&mut self, usage: Usage) {
        self.told = Some(usage);
    }

    /// Nothing, where nothing was said. Who cancels before the first word has had the question read, all the same.
    pub(super) async fn total(
        &self,
        backends: &Backends,
        message: &Message,
        transcript: &Transcript,
        status: Status,
    ) -> Option<Usage> {
        let spoken = !transcript.text.is_empty() || !transcript.reasoning.is_empty();
        let read_in_vain = status == Status::Cancelled && self.asked.is_some();
        if self.told.is_some() || !spoken && !read_in_vain {
            return self.told;
        }
        let input_tokens = match self.asked {
            Some(asked) => asked,
            // An earlier owner asked.
            None => {
                let turns = prompt::turns(backends, message).await.unwrap_or_default();
                read(&turns, message.options.as_ref().and_then(|options| options.system.as_deref()), None)
            }
        };
        let output_tokens = tokens::estimate(&transcript.text) + tokens::estimate(&transcript.reasoning);
        Some(Usage { input_tokens, output_tokens, estimated: true })
    }
}

fn read(turns: &[Turn], system: Option<&str>, window: Option<u64>) -> u64 {
    let texts = turns.iter().map(|turn| turn.content.as_str()).chain(system);
    texts.map(tokens::estimate).sum::<u64>().min(window.unwrap_or(u64::MAX))
}
