//! The nouns of the domain: ids, messages, and the append-only log of a generation.
//! No IO, and it imports nothing of ours.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Milliseconds since the Unix epoch; on the wire an RFC 3339 UTC time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The wall clock. Used for what people see and for leases between processes, never to measure a duration.
    #[must_use]
    pub fn now() -> Self {
        Self(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default())
    }

    /// Microseconds since 1970, for what takes less than a millisecond between two processes.
    #[must_use]
    pub fn now_us() -> u64 {
        u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
    }

    /// Which day of UTC it is, counted since 1970.
    #[must_use]
    pub fn day(self) -> u64 {
        self.0 / DAY_MS
    }

    /// Until the next day of UTC begins.
    #[must_use]
    pub fn ms_left_of_day(self) -> u64 {
        DAY_MS - self.0 % DAY_MS
    }

    /// How many milliseconds lie between `earlier` and this; 0 when the clock went backwards.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => f.write_str("9999-12-31T23:59:59.999Z"),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let at: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(u64::try_from(at.as_millisecond()).unwrap_or_default()))
    }
}

/// 128 time-ordered bits as 26 characters of Crockford's base 32 in lower case (the alphabet of ULID).
fn unique() -> String {
    base32(uuid::Uuid::now_v7().as_u128(), 26)
}

/// 80 bits, 48 of time and 32 of chance, as 16 characters: unique within one conversation.
fn unique_local() -> String {
    let ms = u128::from(Time::now().0 & 0xffff_ffff_ffff);
    let chance = uuid::Uuid::new_v4().as_u128() & 0xffff_ffff;
    base32((ms << 32) | chance, 16)
}

fn base32(bits: u128, digits: u32) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    (0..digits).rev().map(|digit| char::from(ALPHABET[((bits >> (5 * digit)) & 31) as usize])).collect()
}

fn is_token(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// Text that is not an id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct NotAnId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads an id that came from outside; what is not one of ours can't name anything of ours.
            pub fn parse(text: &str) -> Result<Self, NotAnId> {
                let rest = text.strip_prefix($prefix).ok_or(NotAnId)?;
                if rest.len() == $digits && is_token(rest) { Ok(Self(text.into())) } else { Err(NotAnId) }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAnId;
            fn try_from(text: String) -> Result<Self, NotAnId> {
                Self::parse(&text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// One browser without a login, or one account.
    UserId, "usr_", 26
);
id!(ConversationId, "cnv_", 26);
id!(
    /// Names its conversation, so that a message can be found from its id alone.
    MessageId, "msg_", 42
);
id!(
    /// Names its conversation, so that a log can be found from its id alone. Never reused.
    GenerationId, "gen_", 42
);

impl UserId {
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("usr_{}", unique()).into())
    }
}

impl UserId {
    /// The user that an issuer of tokens knows by this subject: the same on every node, without asking anybody.
    #[must_use]
    pub fn for_subject(issuer: &str, subject: &str) -> Self {
        Self(format!("usr_{}", base32(digest(&[issuer, subject]), 26)).into())
    }
}

/// 128 bits of a digest of texts, none of which can be taken for part of another.
fn digest(texts: &[&str]) -> u128 {
    use sha2::Digest;
    let digest = texts.iter().fold(sha2::Sha256::new(), |digest, text| digest.chain_update(text).chain_update(b"\0"));
    digest.finalize().iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte))
}

impl ConversationId {
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("cnv_{}", unique()).into())
    }

    /// The conversation that a user's request creates: the same for every retry, on whichever node it arrives.
    #[must_use]
    pub fn for_request(user: &UserId, request: &str) -> Self {
        use sha2::Digest;
        let digest = sha2::Sha256::new().chain_update(user.as_str()).chain_update(b"\0").chain_update(request).finalize();
        let bits = digest.iter().take(16).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
        Self(format!("cnv_{}", base32(bits, 26)).into())
    }
}

impl MessageId {
    #[must_use]
    pub fn generate(conversation: &ConversationId) -> Self {
        Self(format!("msg_{}{}", &conversation.0[4..], unique_local()).into())
    }

    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        ConversationId(format!("cnv_{}", &self.0[4..30]).into())
    }
}

impl GenerationId {
    /// The one generation that writes this message: the ids differ in their prefix only, so neither needs a lookup.
    #[must_use]
    pub fn of(message: &MessageId) -> Self {
        Self(format!("gen_{}", &message.0[4..]).into())
    }

    /// The message that this generation writes.
    #[must_use]
    pub fn message(&self) -> MessageId {
        MessageId(format!("msg_{}", &self.0[4..]).into())
    }

    #[must_use]
    pub fn generate(conversation: &ConversationId) -> Self {
        Self(format!("gen_{}{}", &conversation.0[4..], unique_local()).into())
    }

    #[must_use]
    pub fn conversation(&self) -> ConversationId {
        ConversationId(format!("cnv_{}", &self.0[4..30]).into())
    }
}

/// A place in the log of a generation, written `<epoch>-<seq>`. The same epoch only extends; a higher epoch is a new owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub epoch: u64,
    pub seq: u64,
}

impl Position {
    /// Before the first entry of any log.
    pub const START: Self = Self { epoch: 0, seq: 0 };

    /// The position of the entry that the owner of `epoch` writes directly behind this one.
    #[must_use]
    pub fn next(self, epoch: u64) -> Self {
        let seq = if self.epoch == epoch { self.seq + 1 } else { 0 };
        Self { epoch, seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl std::str::FromStr for Position {
    type Err = NotAnId;
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (epoch, seq) = text.split_once('-').ok_or(NotAnId)?;
        let number = |part: &str| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse().map_err(|_| NotAnId),
            false => Err(NotAnId),
        };
        Ok(Self { epoch: number(epoch)?, seq: number(seq)? })
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
}

/// Where a message, and the generation that writes it, stands. A user's message is always `completed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Completed,
    Cancelled,
    Interrupted,
    Failed,
}

impl Status {
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// The wire word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// True when the upstream told nothing and we counted for ourselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(as = "Option<bool>", optional))]
    pub estimated: bool,
}

/// Milliseconds from the moment the question was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Timing {
    pub first_token_ms: u64,
    pub total_ms: u64,
}

/// Why a generation failed: a code of the protocol and a sentence for people, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Failure {
    pub code: String,
    pub message: String,
}

/// What a user may set for one answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(optional_fields))]
pub struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// The longest answer, in tokens of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// One message of the tree that a conversation is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Message {
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub id: MessageId,
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub conversation: ConversationId,
    #[schema(value_type = Option<String>)]
    #[cfg_attr(test, ts(type = "string | null"))]
    pub parent: Option<MessageId>,
    pub role: Role,
    pub content: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub reasoning: Option<String>,
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[cfg_attr(test, ts(type = "string", optional))]
    pub generation: Option<GenerationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub options: Option<Options>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub finish_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub timing: Option<Timing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub error: Option<Failure>,
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub created_at: Time,
}

/// A conversation as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Conversation {
    #[schema(value_type = String)]
    #[cfg_attr(test, ts(type = "string"))]
    pub id: ConversationId,
    pub title: String,
    #[serde(default)]
    pub pinned: bool,
    /// Grows with every change that its readers should notice.
    pub version: u64,
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub updated_at: Time,
    /// True while one of its answers is queued or running.
    #[serde(default)]
    pub generating: bool,
}

/// A model that can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct ModelInfo {
    pub id: String,
    pub name: String,
    pub provider: String,
    /// The built-in demonstration model, to be labelled as such wherever it shows.
    pub demo: bool,
    pub default: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub context_tokens: Option<u64>,
    /// The longest answer, in tokens, where the user sets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub max_tokens: Option<u32>,
    /// The longest answer that anybody gets, whatever the user sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub max_tokens_cap: Option<u32>,
    /// Others don't see it, and can't ask it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, ts(as = "Option<bool>", optional))]
    pub admin_only: bool,
}

impl ModelInfo {
    /// How long an answer gets at most for a user who set this; `None` where nobody set anything.
    #[must_use]
    pub fn longest_answer(&self, wanted: Option<u32>) -> Option<u32> {
        [wanted.or(self.max_tokens), self.max_tokens_cap].into_iter().flatten().min()
    }
}

/// Models that workers offer, over all nodes: the same id once, the default of the first node that names one. What one node keeps for
/// admins, all do.
#[must_use]
pub fn models_of(nodes: &[NodeInfo]) -> Vec<ModelInfo> {
    let mut models: Vec<ModelInfo> = Vec::new();
    for model in nodes.iter().flat_map(|node| &node.models) {
        let has_default = models.iter().any(|known| known.default);
        match models.iter_mut().find(|known| known.id == model.id) {
            Some(known) => known.admin_only |= model.admin_only,
            None => models.push(ModelInfo { default: model.default && !has_default, ..model.clone() }),
        }
    }
    models
}

/// What a node tells the others about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct NodeInfo {
    pub id: String,
    pub roles: Vec<String>,
    pub version: String,
    pub draining: bool,
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub started_at: Time,
    #[schema(value_type = String, format = DateTime)]
    #[cfg_attr(test, ts(type = "string"))]
    pub seen_at: Time,
    pub connections: u32,
    pub running: u32,
    pub capacity: u32,
    pub models: Vec<ModelInfo>,
}
