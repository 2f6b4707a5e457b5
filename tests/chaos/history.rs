//! What was seen while things broke: every frame that every reader got, and what the store held afterwards.
//! It must not know what is right.

use std::collections::{BTreeMap, BTreeSet};

use chatnode::ai::provider::demo;
use chatnode::log::Entry;
use chatnode::model::{ConversationId, GenerationId, Message, MessageId, Position};
use chatnode::protocol::ServerFrame;

/// Milliseconds since the run began.
pub(crate) type Millis = u64;

/// One conversation with its questions, from the first word to what the store says in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// In the order in which they were asked.
    pub(crate) plan: Vec<Question>,
    pub(crate) histories: Vec<History>,
    pub(crate) logs: BTreeMap<GenerationId, Vec<(Position, Entry)>>,
    pub(crate) stored: BTreeMap<MessageId, Message>,
    /// Logs that a fault took away: their answers may end early, but not without a word.
    pub(crate) removed: BTreeSet<GenerationId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) request: String,
    pub(crate) prompt: String,
}

/// What one reader did and saw, over all of its connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) reader: String,
    pub(crate) seen: Vec<Seen>,
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Millis,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A connection through this gateway, counted from 0.
    Opened(usize),
    Lost,
    Sent(String),
    /// With what it has of each answer: how far, and how many bytes.
    Subscribed(BTreeMap<GenerationId, (Position, u64)>),
    Cancelled(GenerationId),
    Heard(Box<ServerFrame>),
    /// An answer that had ended before it came, as the conversation's history shows it.
    Read(Box<Message>),
    /// Waited as long as anybody should, and left.
    GaveUp,
}

/// An answer as it was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) conversation: ConversationId,
    pub(crate) generation: GenerationId,
    pub(crate) question: Message,
    pub(crate) answer: MessageId,
    /// The text that it has to become.
    pub(crate) text: String,
    pub(crate) reasoning: String,
}

impl Story {
    /// Every request with each `accepted` that it got.
    pub(crate) fn accepted(&self) -> Vec<(&str, Accepted)> {
        let frames = self.histories.iter().flat_map(|history| &history.seen);
        let of = |seen: &'_ Seen| -> Option<(String, Accepted)> {
            let What::Heard(frame) = &seen.what else { return None };
            let ServerFrame::Accepted { request_id, conversation, user_message, assistant_message } = &**frame else {
                return None;
            };
            let generation = assistant_message.generation.clone()?;
            let accepted = Accepted {
                conversation: conversation.clone(),
                text: demo::text(&generation, &user_message.content),
                reasoning: demo::reasoning(&generation, &user_message.content),
                question: user_message.clone(),
                answer: assistant_message.id.clone(),
                generation,
            };
            Some((request_id.clone(), accepted))
        };
        frames
            .filter_map(of)
            .filter_map(|(request, accepted)| {
                let asked = self.plan.iter().find(|question| question.request == request)?;
                Some((asked.request.as_str(), accepted))
            })
            .collect()
    }

    /// Every answer once.
    pub(crate) fn answers(&self) -> BTreeMap<GenerationId, Accepted> {
        self.accepted().into_iter().map(|(_, accepted)| (accepted.generation.clone(), accepted)).collect()
    }
}
