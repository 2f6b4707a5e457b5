//! What chatnode needs from storage and from the wire between nodes, in small traits and no vendor's words.
//!
//! The store is the truth; the backplane is a hint that may drop, repeat or reorder anything. Whoever writes
//! stores first and publishes then. `embedded` keeps both promises inside one process, `cluster` between many (with `history` behind it);
//! one conformance suite (`tests/conformance`) holds both to the contracts below.

pub mod accounts;
pub mod cluster;
pub mod embedded;
mod fold;
mod health;
pub mod history;
pub mod limits;
mod measured;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::accounts::Accounts;
use self::limits::Limits;
pub use health::{Health, Link};
pub use measured::measured;

use crate::event::Happened;
use crate::log::{Entry, Outcome};
use crate::model::{
    Conversation, ConversationId, GenerationId, Message, MessageId, NodeInfo, Options, Position, Status, Time, UserId,
};

/// One variant per reaction of a caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another owner has the generation, or it has ended: stop, and write nothing more.
    #[error("the lease on this generation is lost")]
    Fenced,
    /// The log ends elsewhere than the writer thinks: compare, and send what is missing again.
    #[error("the log ends at {tail}")]
    OutOfOrder { tail: Position },
    /// The log was removed; what it said is in the message.
    #[error("the log is gone")]
    Gone,
    /// No such thing, or not this user's.
    #[error("not found")]
    NotFound,
    /// No room. Back off; nothing was written.
    #[error("the store is full: {0}")]
    Full(String),
    /// Not reachable or too slow. Back off; whether it was written is unknown, so repeat the same call.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored can't be understood (damage, or a newer version's entry). Stop reading, and say so.
    #[error("stored data can't be read: {0}")]
    Corrupt(String),
}

impl Error {
    /// For traces, which hold no sentences.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::OutOfOrder { .. } => "out_of_order",
            Self::Gone => "gone",
            Self::NotFound => "not_found",
            Self::Full(_) => "full",
            Self::Unavailable(_) => "unavailable",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Everything a role gets: cheap to clone, no globals, several in one process.
#[derive(Clone, Debug)]
pub struct Backends {
    pub store: Arc<dyn Store>,
    pub generations: Arc<dyn Generations>,
    pub backplane: Arc<dyn Backplane>,
    pub events: Arc<dyn Events>,
    pub accounts: Arc<dyn Accounts>,
    pub limits: Arc<dyn Limits>,
    /// How the links to both stand, for probes and for readers that must poll while hints don't come.
    pub health: watch::Receiver<Health>,
}

// ---------------------------------------------------------------------------------------------------------------
// Store

/// Conversations, messages and nodes. Durable when a call returns; every node reads what any node wrote.
///
/// Every call may be repeated after [`Error::Unavailable`]: repeating changes nothing more.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// The shared secret of that name; `proposal` becomes it where none was there. All nodes get the same.
    async fn secret(&self, name: &str, proposal: &[u8]) -> Result<Vec<u8>>;

    /// A conversation of this user with its open generations. `NotFound` for another user's.
    async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<ConversationState>;

    /// The user's conversations: pinned ones first, then by `updated_at`, newest first.
    async fn conversations(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>>;

    /// Stores a conversation with messages that are not being generated (a new one, or an import). Parents precede
    /// children. An id that is already this user's changes nothing; another user's is `NotFound`.
    async fn create(&self, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()>;

    /// Changes the fields given, raises `version`, and answers the conversation as it is then.
    async fn patch(&self, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation>;

    /// Removes the conversation with messages and logs; open generations are fenced by it (`Gone` for their writers).
    async fn delete(&self, user: &UserId, id: &ConversationId) -> Result<()>;

    /// One message. The caller has checked the owner of `id.conversation()`.
    async fn message(&self, id: &MessageId) -> Result<Message>;

    /// A page of the path from the root to a leaf. Costs as much as the page, however long the conversation is.
    async fn path(&self, query: &PathQuery) -> Result<PathPage>;

    /// All messages of the tree in the order of their creation, after `after`, at most `limit`.
    async fn messages(&self, conversation: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>>;

    /// Tells the others that this node lives, and learns who else does: nodes that were heard of within the last
    /// [`NODE_EXPIRY_MS`], this one included. A node that leaves sends its last one with `gone`.
    async fn heartbeat(&self, node: &NodeInfo, gone: bool) -> Result<Cluster>;
}

/// A node that was silent for so long is not listed any more.
pub const NODE_EXPIRY_MS: u64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationState {
    pub conversation: Conversation,
    pub open: Vec<OpenGeneration>,
}

/// A generation that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGeneration {
    pub generation: GenerationId,
    pub message: MessageId,
    pub status: Status,
}

#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// 1 to 100.
    pub limit: usize,
    /// As [`Listing::next`] gave it; one that can't be read starts from the beginning.
    pub cursor: Option<String>,
    /// Words that must all occur in the title or in one message; case and Vietnamese diacritics don't count (đ = d).
    pub search: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    pub title: Option<String>,
    pub pinned: Option<bool>,
}

#[derive(Clone, Debug)]
pub struct PathQuery {
    pub conversation: ConversationId,
    pub end: PathEnd,
    /// 1 to 200: the newest of the path.
    pub limit: usize,
}

/// Where a path ends.
#[derive(Clone, Debug)]
pub enum PathEnd {
    /// The message created last, which is a leaf.
    NewestLeaf,
    /// Just this message.
    At(MessageId),
    /// The newest leaf below this message.
    Through(MessageId),
    /// The message before this one: the next older page.
    Before(MessageId),
}

#[derive(Clone, Debug, PartialEq)]
pub struct PathPage {
    /// Root side first.
    pub items: Vec<PathItem>,
    /// True when the path goes on towards the root.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PathItem {
    pub message: Message,
    /// All children of the same parent in the order of their creation, this one included; empty when it is alone.
    pub siblings: Vec<MessageId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub nodes: Vec<NodeInfo>,
    /// How many generations wait for a worker, for each model that has any.
    pub waiting: Vec<(String, u64)>,
}

// ---------------------------------------------------------------------------------------------------------------
// Generations

/// Answers as append-only logs with one writer each. A job is a generation whose lease is free.
#[async_trait]
pub trait Generations: Send + Sync + std::fmt::Debug {
    /// Stores the question and the empty answer, opens its log and queues it: all, or nothing visible. The same
    /// `(user, request)` always answers what the first one did, with `repeated` set, however its other fields differ.
    /// `NotFound` when the conversation or the parent isn't there or isn't this user's, and for a request that is new where
    /// [`Submission::only_repeat`] is set.
    async fn submit(&self, submission: &Submission) -> Result<Submitted>;

    /// The oldest generation of these models whose lease is free becomes this worker's. Its log stands still from then
    /// on until the lease is used, since older owners are fenced.
    async fn claim(&self, worker: &str, models: &[String]) -> Result<Option<Claim>>;

    /// This generation of this model becomes this worker's, if its lease is free, whoever waits longer: for a worker that found nothing
    /// to do just before it was told of it. Otherwise as [`Self::claim`]; nothing when it is another's, has ended or was removed.
    async fn claim_this(&self, worker: &str, model: &str, generation: &GenerationId) -> Result<Option<Claim>>;

    /// Extends the lease by its full length from now. `Fenced` when it is another's; answers whether a cancel was asked.
    async fn renew(&self, lease: &Lease) -> Result<Renewed>;

    /// Writes entries directly behind `previous`; the first of an epoch is an [`Entry::Own`]. `OutOfOrder` when the log
    /// ends elsewhere. Repeating a call whose outcome is unknown writes nothing twice. Never brings back a removed log
    /// (`Gone`). Also extends the lease.
    async fn append(&self, lease: &Lease, previous: Position, entries: &[Entry]) -> Result<Renewed>;

    /// Writes the one terminal entry behind `previous` and, with it, the final message (whose `content`, `reasoning`
    /// and outcome fields replace what was stored). The lease is used up. Repeatable like `append`. Where the log was removed
    /// but the lease can still be checked, only the message is written.
    async fn finish(&self, lease: &Lease, previous: Position, outcome: &Outcome, message: &Message) -> Result<()>;

    /// Asks for the end. Durable before it returns: whoever owns the generation, now or later, is told by every renewal and append.
    /// One that nobody ever began is ended right here. `NotFound` when it never was, or its conversation was removed.
    async fn cancel(&self, generation: &GenerationId) -> Result<Cancel>;

    /// Gives the lease back early, so that another worker can claim at once; does not count as a failed attempt.
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Exactly the entries behind `after`, up to about `weight_max` bytes and at least one. `Gone` when the log was removed.
    async fn read(&self, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage>;
}

/// The right to write one log. Made by [`Generations::claim`] alone; no lease, no write.
#[derive(Debug)]
pub struct Lease {
    generation: GenerationId,
    epoch: u64,
    nonce: String,
}

impl Lease {
    pub(in crate::backend) fn new(generation: GenerationId, epoch: u64, nonce: String) -> Self {
        Self { generation, epoch, nonce }
    }

    #[must_use]
    pub fn generation(&self) -> &GenerationId {
        &self.generation
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(in crate::backend) fn nonce(&self) -> &str {
        &self.nonce
    }
}

/// One question, or one more answer to an old question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    pub user: UserId,
    /// The client's idempotency key, at most [`REQUEST_ID_BYTES_MAX`].
    pub request: String,
    pub conversation: ConversationId,
    /// Where the conversation isn't there: the title to create it with. Without it, that is `NotFound`.
    pub create: Option<String>,
    pub parent: Parent,
    /// Absent for one more answer to `parent`.
    pub question: Option<Question>,
    pub answer: MessageId,
    pub generation: GenerationId,
    pub model: String,
    pub options: Options,
    pub at: Time,
    /// Nothing new is stored: whoever may not ask again is still told what it asked before.
    #[serde(skip)]
    pub only_repeat: bool,
}

pub const REQUEST_ID_BYTES_MAX: usize = 128;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub id: MessageId,
    pub content: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    /// The message created last; nothing in an empty conversation.
    NewestLeaf,
    Root,
    Of(MessageId),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Submitted {
    pub conversation: Conversation,
    /// For one more answer: the old question.
    pub user_message: Message,
    pub assistant_message: Message,
    /// True when this request was known already.
    pub repeated: bool,
}

impl Submitted {
    /// As it was when it was taken in, whatever came of it since: who repeats a request is told the same.
    #[must_use]
    pub fn at_first(self) -> Self {
        let assistant_message = Message {
            status: Status::Queued,
            content: String::new(),
            reasoning: None,
            finish_reason: None,
            usage: None,
            timing: None,
            error: None,
            ..self.assistant_message
        };
        Self { assistant_message, ..self }
    }
}

/// A generation that became this worker's.
#[derive(Debug)]
pub struct Claim {
    pub lease: Lease,
    pub user: UserId,
    /// The answer to write: its parent, model and options say what to do.
    pub message: Message,
    /// Where the log ends; [`Position::START`] for a first owner.
    pub tail: Position,
    /// 1 for the first owner; every claim that followed a lost lease counts.
    pub attempt: u32,
    /// Claims in a row, this one included, between which no delta was written; the first claim counts.
    pub attempts_without_progress: u32,
    /// Milliseconds since the last delta, or since the submission.
    pub stalled_ms: u64,
    /// When somebody asked to cancel, if anybody did.
    pub cancel: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When somebody asked to cancel, if anybody did.
    pub cancel: Option<Time>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cancel {
    /// Its owner is told; the end follows.
    Requested,
    /// It had not begun, and ended just now, as cancelled.
    Ended,
    /// It had ended before, as this.
    AlreadyEnded(Status),
}

/// What stands behind a position.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPage {
    pub entries: Vec<(Position, Entry)>,
    /// Where the log ends; behind the last of `entries` when there is more.
    pub tail: Position,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody has begun; so many wait before it for the same model.
    Queued {
        ahead: u32,
    },
    Running,
    /// It has no owner at the moment, and had one.
    Orphaned,
    Ended,
}

// ---------------------------------------------------------------------------------------------------------------
// Backplane

/// Fan-out between nodes: at most once, in any order, never the truth. Losing every hint must cost only time.
#[async_trait]
pub trait Backplane: Send + Sync + std::fmt::Debug {
    /// Gives the hint to whoever listens now. Does not wait for anybody and never fails: what can't be sent is dropped.
    async fn publish(&self, subject: &Subject, hint: Hint);

    /// What is published from now on. Drops hints when they aren't taken fast enough; ends when the node ends.
    async fn subscribe(&self, subject: &Subject) -> Hints;
}

pub type Hints = BoxStream<'static, Arc<Hint>>;

/// Built from ids that a server made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Conversation(ConversationId),
    /// Work for this model is there.
    Work(String),
    Cancel(GenerationId),
    /// The user's list changed, or the user's right to be here.
    User(UserId),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hint", rename_all = "snake_case")]
pub enum Hint {
    /// An entry that was stored.
    Entry {
        generation: GenerationId,
        previous: Position,
        position: Position,
        entry: Entry,
        /// When it was stored: microseconds since 1970, to measure what delivery takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stored_us: Option<u64>,
    },
    /// Where a log ends: a heartbeat, and a nudge to read.
    Tail {
        generation: GenerationId,
        position: Position,
    },
    /// Queued, running, or recovering from a lost owner.
    Progress {
        generation: GenerationId,
        progress: Progress,
    },
    /// A message that was created or changed.
    Message {
        message: Box<Message>,
    },
    /// A conversation that was created or changed.
    Conversation {
        conversation: Conversation,
    },
    ConversationDeleted {
        conversation: Conversation,
    },
    /// A generation can be claimed.
    Work {
        /// Which one; it may be another's already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<GenerationId>,
    },
    Cancel {
        /// When it was asked.
        #[serde(default = "Time::now")]
        at: Time,
    },
    /// A right of the user was taken away: look again whether it holds.
    Access,
}

/// For programs outside: what happened, never what was said.
pub trait Events: Send + Sync + std::fmt::Debug {
    /// Gives it to whoever collects events. Never waits and never fails: where nobody collects it is dropped, and so it is when
    /// too many wait. May arrive more than once, and then with the same id.
    fn tell(&self, user: &UserId, conversation: &ConversationId, what: Happened);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    Queued,
    Running,
    Recovering,
}
