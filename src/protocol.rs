//! The wire contract, version 1: frames, codes and REST bodies. The single definition: the TypeScript of the web UI is
//! generated from here, and `tests/golden` holds one example of every frame.
//!
//! Ids that come from a client are plain strings here: one that can't be ours is answered like one that isn't there.

mod account;

use serde::{Deserialize, Serialize};

pub use self::account::{ApiKey, CreateApiKey, Login, LoginMethod, LoginMethods, Me, NewApiKey};
use crate::backend::Progress;
use crate::log::Channel;
use crate::model::{
    Conversation, ConversationId, Failure, GenerationId, Message, MessageId, NodeInfo, Options, Position, Status, Time, Usage,
};

pub const PROTOCOL_VERSION: u32 = 1;

/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "chatnode.v1";

/// Before a token among the subprotocols that a client offers; it is never the one that is chosen.
pub const BEARER_PREFIX: &str = "bearer.";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    Send(Send),
    Regenerate {
        request_id: String,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    Subscribe {
        conversation: String,
        #[serde(default, deserialize_with = "nothing_is_empty", skip_serializing_if = "Vec::is_empty")]
        #[cfg_attr(test, ts(as = "Option<Vec<Known>>", optional))]
        known: Vec<Known>,
    },
    Unsubscribe {
        conversation: String,
    },
    Cancel {
        generation: String,
    },
    Ping,
}

/// The wire words of [`ClientFrame`]: what else stands in `type` is answered by an `error`.
pub const CLIENT_FRAMES: [&str; 6] = ["send", "regenerate", "subscribe", "unsubscribe", "cancel", "ping"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct Send {
    /// Idempotency key, made by the client.
    pub request_id: String,
    pub content: String,
    /// Absent: a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Absent: behind the newest message. `null`: a new first question. Else the message to branch from.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(as = "Option<Option<String>>", optional))]
    pub parent: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
}

/// Keeps an explicit `null` apart from an absent field.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(d).map(Some)
}

/// Optional fields may be `null`, lists too.
fn nothing_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Known>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a client has of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Known {
    pub generation: String,
    #[cfg_attr(test, ts(type = "string"))]
    pub position: Position,
    /// UTF-8 bytes of text.
    pub offset: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "a frame lives as long as it takes to write it down; boxes would only hide its shape"
)]
pub enum ServerFrame {
    Welcome {
        connection: String,
        node: String,
        #[cfg_attr(test, ts(type = "string"))]
        user: crate::model::UserId,
        protocol: u32,
        heartbeat_ms: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        locale: Option<String>,
    },
    Accepted {
        request_id: String,
        #[cfg_attr(test, ts(type = "string"))]
        conversation: ConversationId,
        user_message: Message,
        assistant_message: Message,
    },
    Subscribed {
        #[cfg_attr(test, ts(type = "string"))]
        conversation: ConversationId,
        version: u64,
        generations: Vec<Generation>,
    },
    Message {
        #[cfg_attr(test, ts(type = "string"))]
        conversation: ConversationId,
        message: Message,
    },
    Conversation {
        conversation: ConversationChange,
    },
    Status {
        #[cfg_attr(test, ts(type = "string"))]
        generation: GenerationId,
        status: Progress,
        /// How many wait before it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ahead: Option<u32>,
    },
    Delta {
        #[cfg_attr(test, ts(type = "string"))]
        generation: GenerationId,
        #[cfg_attr(test, ts(type = "string"))]
        position: Position,
        offset: u64,
        text: String,
        #[serde(default, skip_serializing_if = "is_text")]
        #[cfg_attr(test, ts(as = "Option<Channel>", optional))]
        channel: Channel,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        #[cfg_attr(test, ts(as = "Option<bool>", optional))]
        replay: bool,
    },
    Snapshot {
        #[cfg_attr(test, ts(type = "string"))]
        generation: GenerationId,
        #[cfg_attr(test, ts(type = "string"))]
        position: Position,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<String>,
    },
    Rewind {
        #[cfg_attr(test, ts(type = "string"))]
        generation: GenerationId,
        #[cfg_attr(test, ts(type = "string"))]
        position: Position,
        offset: u64,
        #[serde(default, skip_serializing_if = "is_text")]
        #[cfg_attr(test, ts(as = "Option<Channel>", optional))]
        channel: Channel,
    },
    CaughtUp {
        #[cfg_attr(test, ts(type = "string"))]
        conversation: ConversationId,
    },
    CancelAccepted {
        #[cfg_attr(test, ts(type = "string"))]
        generation: GenerationId,
    },
    Finished(Box<Finished>),
    Heartbeat {
        tails: Vec<Tail>,
    },
    Reconnect {
        after_ms: u64,
        reason: String,
    },
    Error(ErrorFrame),
    Pong,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_text(channel: &Channel) -> bool {
    *channel == Channel::Text
}

/// The end of a generation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct Finished {
    #[cfg_attr(test, ts(type = "string"))]
    pub generation: GenerationId,
    pub message: Message,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// UTF-8 bytes of the text channel.
    pub length: u64,
    /// CRC-32 (IEEE 802.3) of the text channel.
    pub crc32: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Generation {
    #[cfg_attr(test, ts(type = "string"))]
    pub generation: GenerationId,
    #[cfg_attr(test, ts(type = "string"))]
    pub message: MessageId,
    pub status: Status,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Tail {
    #[cfg_attr(test, ts(type = "string"))]
    pub generation: GenerationId,
    #[cfg_attr(test, ts(type = "string"))]
    pub position: Position,
}

/// A conversation that was created, renamed, pinned, or deleted (then only `id` and `deleted` count).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ConversationChange {
    #[serde(flatten)]
    pub conversation: Conversation,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(as = "Option<bool>", optional))]
    pub deleted: bool,
}

/// Also the `error` of a REST answer, there without the fields that only frames have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct ErrorFrame {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub retry_after_ms: Option<u64>,
    /// How an answer ended that can't be cancelled any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadFrame,
    TooLarge,
    NotFound,
    Unauthorized,
    RateLimited,
    QuotaExceeded,
    ModelNotFound,
    Overloaded,
    Unavailable,
    Conflict,
}

/// WebSocket close codes.
pub mod close {
    pub const GOING_AWAY: u16 = 1001;
    /// Never sent: a goodbye came without a code.
    pub const NO_CODE: u16 = 1005;
    /// Never sent: no goodbye came.
    pub const LOST: u16 = 1006;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// After the third bad frame.
    pub const BAD_FRAME: u16 = 4400;
    pub const UNAUTHORIZED: u16 = 4401;
    pub const FORBIDDEN: u16 = 4403;
    pub const TOO_MANY: u16 = 4429;
}

// ---------------------------------------------------------------------------------------------------------------
// REST

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ErrorBody {
    pub error: ErrorFrame,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct List<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
#[serde(deny_unknown_fields)]
pub struct CreateConversation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
#[serde(deny_unknown_fields)]
pub struct PatchConversation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct PostMessage {
    pub content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// As in the `send` frame.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(as = "Option<Option<String>>", optional))]
    #[schema(value_type = Option<String>)]
    pub parent: Option<Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Posted {
    pub user_message: Message,
    pub assistant_message: Message,
}

/// A message in a history. A running answer carries the text so far and how to go on from there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct HistoryItem {
    #[serde(flatten)]
    pub message: Message,
    /// All alternatives in the order of their creation, this one included; empty when it is alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    #[cfg_attr(test, ts(type = "Array<string>", optional))]
    pub siblings: Vec<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[cfg_attr(test, ts(type = "string", optional))]
    pub position: Option<Position>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub offset: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct CancelAnswer {
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub generation: GenerationId,
    pub status: Status,
}

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ClusterView {
    /// The node that answered.
    pub node: String,
    /// What its clock says: `seen_at` is by the same.
    #[serde(default = "Time::now")]
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub now: Time,
    pub nodes: Vec<NodeInfo>,
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Waiting {
    pub model: String,
    pub count: u64,
}

/// A whole conversation, to take elsewhere and back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Export {
    /// Always `chatnode.v1`.
    pub format: String,
    pub conversation: Conversation,
    /// Parents before children.
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Imported {
    pub conversation: Conversation,
    pub messages: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HealthView {
    /// `ok`, `degraded` or `draining`.
    pub status: String,
    pub node: String,
    pub roles: Vec<String>,
    pub version: String,
    pub checks: std::collections::BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
