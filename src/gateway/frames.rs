//! From steps and entries to frames on the wire.

use axum::extract::ws::Utf8Bytes;

use super::resume::Step;
use crate::log::Entry;
use crate::model::{GenerationId, Message, Position};
use crate::protocol::{Finished, ServerFrame};

/// A frame as text.
#[must_use]
pub fn encode(frame: &ServerFrame) -> Utf8Bytes {
    serde_json::to_string(frame).expect("frames have string keys and no failing serializers").into()
}

/// The frame of a delta entry, the same for every reader that is up to date.
#[must_use]
pub fn delta(generation: &GenerationId, position: Position, entry: &Entry) -> Option<Utf8Bytes> {
    let Entry::Delta(delta) = entry else { return None };
    Some(encode(&ServerFrame::Delta {
        generation: generation.clone(),
        position,
        offset: delta.offset,
        text: delta.text.clone(),
        channel: delta.channel,
        replay: false,
    }))
}

/// A step as text.
#[must_use]
pub fn of_step(generation: GenerationId, step: Step) -> Utf8Bytes {
    encode(&match step {
        Step::Shared { frame, .. } => return frame,
        Step::Delta { position, channel, offset, text, replay } => {
            ServerFrame::Delta { generation, position, offset, text, channel, replay }
        }
        Step::Snapshot { position, text, reasoning } => ServerFrame::Snapshot { generation, position, text, reasoning },
        Step::Rewind { position, channel, offset } => ServerFrame::Rewind { generation, position, offset, channel },
        Step::Status { progress, ahead } => ServerFrame::Status { generation, status: progress, ahead },
        Step::Finished { message } => ServerFrame::Finished(Box::new(finished(generation, &message))),
    })
}

/// The end of a generation, from its final message.
#[must_use]
pub fn finished(generation: GenerationId, message: &Message) -> Finished {
    Finished {
        generation,
        status: message.status,
        finish_reason: message.finish_reason.clone(),
        length: message.content.len() as u64,
        crc32: crc32fast::hash(message.content.as_bytes()),
        usage: message.usage,
        error: message.error.clone(),
        message: message.clone(),
    }
}
