//! The one place that knows what things are called in Redis and how ids are shortened there.
//! It must not know what is stored under a key, nor talk to anybody.
//!
//! Every key of a conversation carries `{conversation}` as hash tag, so that a script touches one slot. Ids lose what the key
//! says already: a message or generation is its last 16 characters inside its conversation.

use std::sync::Arc;

use sha2::Digest;

use crate::config::is_prefix;
use crate::model::{ConversationId, GenerationId, MessageId, UserId};

/// How many lists of intents there are, so that a Redis Cluster shares their load.
pub(super) const PENDING_LISTS: u16 = 8;
/// Longest readable form of a model's name in a key or subject, in bytes; a longer one becomes a digest.
const MODEL_TOKEN_BYTES_MAX: usize = 96;

#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    /// Hash: u user, t title, p pinned, v version, a created, b updated; where there is a history: h the version that it has, n how many
    /// messages, y by which hydration it came back.
    Conversation(&'a ConversationId),
    /// Hash: message → record.
    Messages(&'a ConversationId),
    /// Hash: parent, or `-` → its children's ids, one behind the other.
    Children(&'a ConversationId),
    /// List: message ids in the order of their creation.
    Order(&'a ConversationId),
    /// Hash: branch → `<parent branch> <index it forks behind> <index of its newest message>`.
    Branches(&'a ConversationId),
    /// Hash: request id → answer and generation.
    Requests(&'a ConversationId),
    /// Hash: generation → message, for as long as the conversation lives.
    Generations(&'a ConversationId),
    /// Hash: open generation → its message.
    Open(&'a ConversationId),
    /// Stream: the log.
    Log(&'a GenerationId),
    /// Hash: who owns the log, and where it ends. Field names in `lua/take.lua`.
    State(&'a GenerationId),
    /// Sorted set: the user's conversations by their place in the list.
    List(&'a UserId),
    /// String: what became of the user's request.
    Request(&'a UserId, &'a str),
    /// Sorted set: generations that wait, by the microsecond of their submission.
    Waiting(&'a str),
    /// Sorted set: generations that were handed out, by the millisecond their lease ends.
    Leased(&'a str),
    /// Sorted set: intents by the millisecond of their making.
    Pending(u16),
    /// Sorted set: names of models by the millisecond of the last submission.
    Models,
    /// Sorted set: nodes by the millisecond they were heard of.
    Nodes,
    /// Hash: node → what it said.
    NodeInfos,
    Secret(&'a str),
    /// Hash: user → account.
    Accounts,
    /// Hash: name → user.
    AccountNames,
    /// Hash: digest → pass.
    Passes(&'a UserId),
    /// Stream: users whose right was taken away.
    AccessChanges,
    /// String: the user of a deleted conversation that the history may still hold.
    Tombstone(&'a ConversationId),
    /// String: the right to bring the conversation back from the history.
    Ticket(&'a ConversationId),
    /// Sorted set: conversations that the history has to look at, by the millisecond of the next look.
    ToArchive(u16),
    /// Sorted set: archived conversations that are still here, by the millisecond of the next look.
    ToEvict(u16),
    /// String: somebody looks, or has looked, for conversations that stand in neither.
    Audit,
    /// String: the millisecond when the bucket of this name is full again.
    Bucket(&'a str),
    /// String: the rooms that the answer is in, and what is reserved for it.
    Counted(&'a GenerationId),
    /// Hash: what this period of the budget has cost, `u` used and `r` reserved.
    Spent(&'a str, u64),
    /// Sorted set: answers that are in the room of this name, by the millisecond they came in.
    Room(&'a str),
    /// Hash: holder → how many it let into the room of this name.
    Crowd(&'a str),
    /// Sorted set: holders by the millisecond until which they count as alive.
    Holders,
}

impl Keys {
    /// `None` when the prefix has other characters than `a-z 0-9 _ -`, or is empty or too long.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        is_prefix(prefix).then(|| Self { prefix: prefix.into() })
    }

    pub(super) fn key(&self, key: &Key<'_>) -> String {
        let p = &self.prefix;
        let of = |letter: char, c: &ConversationId| format!("{p}:{letter}:{{{}}}", short_conversation(c));
        match key {
            Key::Conversation(c) => of('c', c),
            Key::Messages(c) => of('m', c),
            Key::Children(c) => of('k', c),
            Key::Order(c) => of('o', c),
            Key::Branches(c) => of('b', c),
            Key::Requests(c) => of('d', c),
            Key::Generations(c) => of('i', c),
            Key::Open(c) => of('x', c),
            Key::Log(g) => self.log_stem(&g.conversation()) + short_generation(g),
            Key::State(g) => self.state_stem(&g.conversation()) + short_generation(g),
            Key::List(u) => format!("{p}:l:{{{}}}", short_user(u)),
            Key::Request(u, request) => format!("{p}:r:{{{}}}:{request}", short_user(u)),
            Key::Waiting(model) => format!("{p}:w:{{{}}}", model_token(model)),
            Key::Leased(model) => format!("{p}:h:{{{}}}", model_token(model)),
            Key::Pending(n) => format!("{p}:p:{n}"),
            Key::Models => format!("{p}:models"),
            Key::Nodes => format!("{p}:{{nodes}}:seen"),
            Key::NodeInfos => format!("{p}:{{nodes}}:info"),
            Key::Secret(name) => format!("{p}:secret:{name}"),
            Key::Accounts => format!("{p}:{{accounts}}:all"),
            Key::AccountNames => format!("{p}:{{accounts}}:names"),
            Key::Passes(u) => format!("{p}:{{accounts}}:passes:{}", short_user(u)),
            Key::AccessChanges => format!("{p}:{{accounts}}:changes"),
            // One slot for all that is counted: a question is counted for its user and for its address in one step, or for neither.
            Key::Bucket(name) => format!("{p}:{{limits}}:bucket:{}", model_token(name)),
            Key::Counted(g) => format!("{p}:{{limits}}:answer:{}", work_member(g)),
            Key::Spent(name, period) => format!("{p}:{{limits}}:spent:{}:{period}", model_token(name)),
            Key::Room(name) => format!("{p}:{{limits}}:room:{}", model_token(name)),
            Key::Crowd(name) => format!("{p}:{{limits}}:crowd:{}", model_token(name)),
            Key::Holders => format!("{p}:{{limits}}:holders"),
            Key::Tombstone(c) => of('z', c),
            Key::Ticket(c) => of('t', c),
            Key::ToArchive(n) => format!("{p}:a:{n}"),
            Key::ToEvict(n) => format!("{p}:e:{n}"),
            Key::Audit => format!("{p}:audit"),
        }
    }

    /// What the keys of all logs of a conversation begin with; the short generation follows.
    pub(super) fn log_stem(&self, c: &ConversationId) -> String {
        format!("{}:g:{{{}}}:", self.prefix, short_conversation(c))
    }

    /// As [`Self::log_stem`], for the states.
    pub(super) fn state_stem(&self, c: &ConversationId) -> String {
        format!("{}:s:{{{}}}:", self.prefix, short_conversation(c))
    }

    /// The list that holds the intents of a conversation.
    pub(super) fn pending(&self, c: &ConversationId) -> String {
        self.key(&Key::Pending(part(c, PENDING_LISTS)))
    }

    /// What the keys of all conversations begin with.
    pub(super) fn conversation_stem(&self) -> String {
        format!("{}:c:", self.prefix)
    }
}

/// In which of so many lists a conversation stands.
pub(super) fn part(c: &ConversationId, lists: u16) -> u16 {
    (crc32fast::hash(c.as_str().as_bytes()) % u32::from(lists)) as u16
}

pub(super) fn short_user(id: &UserId) -> &str {
    &id.as_str()[4..]
}

pub(super) fn long_user(short: &str) -> Option<UserId> {
    UserId::parse(&format!("usr_{short}")).ok()
}

pub(super) fn short_conversation(id: &ConversationId) -> &str {
    &id.as_str()[4..]
}

pub(super) fn long_conversation(short: &str) -> Option<ConversationId> {
    ConversationId::parse(&format!("cnv_{short}")).ok()
}

pub(super) fn short_message(id: &MessageId) -> &str {
    &id.as_str()[30..]
}

pub(super) fn long_message(conversation: &ConversationId, short: &str) -> Option<MessageId> {
    MessageId::parse(&format!("msg_{}{short}", short_conversation(conversation))).ok()
}

pub(super) fn short_generation(id: &GenerationId) -> &str {
    &id.as_str()[30..]
}

pub(super) fn long_generation(conversation: &ConversationId, short: &str) -> Option<GenerationId> {
    GenerationId::parse(&format!("gen_{}{short}", short_conversation(conversation))).ok()
}

/// A generation outside its conversation's keys, as the work queues hold it.
pub(super) fn work_member(id: &GenerationId) -> &str {
    &id.as_str()[4..]
}

pub(super) fn from_work_member(member: &str) -> Option<GenerationId> {
    GenerationId::parse(&format!("gen_{member}")).ok()
}

/// A model's name with only letters that mean nothing to Redis or NATS. Different names never get the same token.
pub(super) fn model_token(model: &str) -> String {
    let mut token = String::with_capacity(model.len());
    for byte in model.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => token.push(char::from(byte)),
            _ => token.push_str(&format!("={byte:02x}")),
        }
    }
    match token.len() {
        0 => "=".to_owned(),
        1..=MODEL_TOKEN_BYTES_MAX => token,
        _ => sha2::Sha256::digest(model).iter().fold("=x".to_owned(), |token, byte| format!("{token}{byte:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_ids_read_back() {
        let (user, c) = (UserId::generate(), ConversationId::generate());
        let (m, g) = (MessageId::generate(&c), GenerationId::generate(&c));
        assert_eq!(long_user(short_user(&user)), Some(user));
        assert_eq!(long_conversation(short_conversation(&c)).as_ref(), Some(&c));
        assert_eq!(long_message(&c, short_message(&m)), Some(m));
        assert_eq!(long_generation(&c, short_generation(&g)).as_ref(), Some(&g));
        assert_eq!(from_work_member(work_member(&g)), Some(g));
    }

    #[test]
    fn no_two_things_share_a_key_and_a_conversation_is_one_slot() {
        let keys = Keys::new("chatnode").unwrap();
        let (user, c) = (UserId::generate(), ConversationId::generate());
        let g = GenerationId::generate(&c);
        let of_conversation = [
            Key::Conversation(&c),
            Key::Messages(&c),
            Key::Children(&c),
            Key::Order(&c),
            Key::Branches(&c),
            Key::Requests(&c),
            Key::Generations(&c),
            Key::Open(&c),
            Key::Log(&g),
            Key::State(&g),
            Key::Tombstone(&c),
            Key::Ticket(&c),
        ];
        let tag = |key: &str| key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag.to_owned());
        for key in &of_conversation {
            assert_eq!(tag(&keys.key(key)).as_deref(), Some(short_conversation(&c)));
        }
        assert_eq!(tag(&keys.key(&Key::Waiting("a{b}"))), tag(&keys.key(&Key::Leased("a{b}"))));
        let others = [
            Key::List(&user),
            Key::Request(&user, "r"),
            Key::Request(&user, "{r}"),
            Key::Waiting("m"),
            Key::Leased("m"),
            Key::Pending(1),
            Key::Models,
            Key::Nodes,
            Key::NodeInfos,
            Key::Secret("cookie"),
            Key::Accounts,
            Key::AccountNames,
            Key::Passes(&user),
            Key::AccessChanges,
            Key::Bucket("{b}"),
            Key::Counted(&g),
            Key::Spent("{b}", 1),
            Key::Room("{b}"),
            Key::Crowd("{b}"),
            Key::Holders,
            Key::ToArchive(1),
            Key::ToEvict(1),
            Key::Audit,
        ];
        for key in [Key::Counted(&g), Key::Spent("{b}", 1), Key::Room("{b}"), Key::Crowd("{b}"), Key::Holders] {
            assert_eq!(tag(&keys.key(&key)), tag(&keys.key(&Key::Bucket("{b}"))));
        }
        let all: std::collections::BTreeSet<_> = of_conversation.iter().chain(&others).map(|key| keys.key(key)).collect();
        assert_eq!(all.len(), of_conversation.len() + others.len());
        assert_eq!(keys.key(&Key::Log(&g)), keys.log_stem(&c) + short_generation(&g));
    }

    #[test]
    fn prefixes_with_meaning_are_refused() {
        for bad in ["", "a.b", "a{b}", "a b", "a*", "Ä", &"a".repeat(33)] {
            assert!(Keys::new(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn model_tokens_are_safe_and_differ(a in ".{0,200}", b in ".{0,200}") {
            let token = model_token(&a);
            prop_assert!(!token.is_empty() && token.len() <= MODEL_TOKEN_BYTES_MAX);
            prop_assert!(token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-' || c == b'='));
            prop_assert_eq!(a == b, token == model_token(&b));
        }
    }
}
