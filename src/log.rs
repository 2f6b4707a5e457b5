//! The log of one generation: its entries, and the fold that turns them into text. Pure.
//!
//! Readers and writers share this fold, so that live, replay and takeover can't disagree about what a log says.

use serde::{Deserialize, Serialize};

use crate::model::{Failure, Position, Status, Timing, Usage};

/// The version that every stored entry carries; a reader stops at one that it does not know.
pub const ENTRY_VERSION: u8 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    #[default]
    Text,
    Reasoning,
}

/// How a new owner goes on from what its predecessors wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// The first owner: nothing was there.
    Start,
    /// The upstream continues the text so far as its own.
    Prefill,
    /// The upstream is asked to continue, and what it repeats is removed.
    Continue,
    /// From the beginning: everything before is void.
    Restart,
}

impl Rung {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Prefill => "prefill",
            Self::Continue => "continue",
            Self::Restart => "restart",
        }
    }
}

/// The first entry of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    pub worker: String,
    pub rung: Rung,
    /// What older epochs wrote beyond it is void.
    pub base: Position,
    /// UTF-8 bytes of text that stand; at most what stood at `base`.
    pub offset: u64,
    /// UTF-8 bytes of reasoning that stand.
    pub reasoning_offset: u64,
    /// 1 for the first owner.
    pub attempt: u32,
    /// Milliseconds from the question to the first token of all owners.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
}

/// A batch of tokens of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    #[serde(default)]
    pub channel: Channel,
    /// UTF-8 bytes of this channel before it.
    pub offset: u64,
    pub text: String,
}

/// The terminal entry. `status` is one that is not open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Timing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// UTF-8 bytes of the text channel.
    pub length: u64,
    /// CRC-32 (IEEE 802.3) of the text channel.
    pub crc32: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    Own(Own),
    Delta(Delta),
    Fin(Outcome),
}

impl Entry {
    /// Bytes it weighs in memory and on the wire, about: for page and buffer limits.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Delta(delta) => delta.text.len() + 32,
            Self::Own(_) | Self::Fin(_) => 256,
        }
    }
}

/// An entry that cannot follow what was folded before it: a hole, or a log that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("entry {position} starts at byte {offset}, but {length} are there")]
    Hole { position: Position, offset: u64, length: u64 },
    #[error("entry {position} follows the end")]
    AfterEnd { position: Position },
}

/// What an entry did to a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was at or before the position reached; nothing changed.
    Known,
    Extended,
    /// A new owner that keeps `offset` and `reasoning_offset` bytes; less than there was when `cut`.
    Owned {
        cut: bool,
    },
    Ended,
}

/// The text that a log amounts to, up to a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    pub position: Position,
    pub text: String,
    pub reasoning: String,
    pub outcome: Option<Outcome>,
}

impl Transcript {
    #[must_use]
    pub fn channel(&self, channel: Channel) -> &str {
        match channel {
            Channel::Text => &self.text,
            Channel::Reasoning => &self.reasoning,
        }
    }

    /// Bytes of one channel.
    #[must_use]
    pub fn length(&self, channel: Channel) -> u64 {
        self.channel(channel).len() as u64
    }

    /// CRC-32 (IEEE 802.3) of the text channel.
    #[must_use]
    pub fn crc32(&self) -> u32 {
        crc32fast::hash(self.text.as_bytes())
    }

    /// Folds the next entry in. Entries come in the order of their positions; repeats are harmless.
    ///
    /// # Errors
    /// [`Broken`] when the entry can't follow; the transcript is then unchanged.
    pub fn apply(&mut self, position: Position, entry: &Entry) -> Result<Applied, Broken> {
        if position <= self.position {
            return Ok(Applied::Known);
        }
        if self.outcome.is_some() {
            return Err(Broken::AfterEnd { position });
        }
        let applied = match entry {
            Entry::Own(own) => self.own(position, own)?,
            Entry::Delta(delta) => self.extend(position, delta)?,
            Entry::Fin(outcome) => {
                self.outcome = Some(outcome.clone());
                Applied::Ended
            }
        };
        self.position = position;
        Ok(applied)
    }

    fn own(&mut self, position: Position, own: &Own) -> Result<Applied, Broken> {
        let keep = usize::try_from(own.offset).unwrap_or(usize::MAX);
        let keep_reasoning = usize::try_from(own.reasoning_offset).unwrap_or(usize::MAX);
        if !self.text.is_char_boundary(keep) {
            return Err(Broken::Hole { position, offset: own.offset, length: self.text.len() as u64 });
        }
        if !self.reasoning.is_char_boundary(keep_reasoning) {
            let length = self.reasoning.len() as u64;
            return Err(Broken::Hole { position, offset: own.reasoning_offset, length });
        }
        let cut = keep < self.text.len() || keep_reasoning < self.reasoning.len();
        self.text.truncate(keep);
        self.reasoning.truncate(keep_reasoning);
        Ok(Applied::Owned { cut })
    }

    fn extend(&mut self, position: Position, delta: &Delta) -> Result<Applied, Broken> {
        let held = match delta.channel {
            Channel::Text => &mut self.text,
            Channel::Reasoning => &mut self.reasoning,
        };
        if delta.offset != held.len() as u64 {
            return Err(Broken::Hole { position, offset: delta.offset, length: held.len() as u64 });
        }
        held.push_str(&delta.text);
        Ok(Applied::Extended)
    }
}
