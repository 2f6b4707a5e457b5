//! What a history needs of Redis, which then holds no more than a window: conversations that somebody touched lately, and what waits to
//! be archived. It must not know where the history is.
//!
//! A conversation that is here is the truth, whatever the history holds. Two sorted sets say when to look at one: `ToArchive` holds what
//! may have changed, `ToEvict` what the history has. They are hints like all queues here: what may be done is decided by a script in the
//! conversation's own slot, and an audit finds what stands in neither.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use fred::interfaces::{ClientLike, HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::{Expiration, Value};
use futures_util::{StreamExt, TryStreamExt};

use super::Redis;
use super::keys::{self, Key};
use super::record;
use super::steps::{Answer, Step};
use super::store::described;
use super::submit::conversation_of_record;
use crate::backend::{Error, Result, Store};
use crate::model::{Conversation, ConversationId, Message, MessageId, UserId};

/// How many sets of each kind there are, so that a Redis Cluster shares their load.
const LISTS: u16 = 8;
/// Messages of one page on their way to or from the history, and about how many bytes.
pub(in crate::backend) const PAGE_MESSAGES_MAX: usize = 256;
pub(in crate::backend) const PAGE_BYTES_MAX: usize = 1 << 20;
/// How long a hydration may stand still before it has to begin again.
const TICKET_KEPT: Duration = Duration::from_secs(60);
/// How long something that was handed out is hidden from others.
const TAKEN: Duration = Duration::from_secs(60);
/// How long an audit may stand still before another node begins one, and how long one that was completed counts.
const AUDIT_LEASE: Duration = Duration::from_secs(60);
const AUDIT_KEPT: Duration = Duration::from_secs(6 * 60 * 60);
/// Keys that one step of an audit asks for.
const AUDIT_COUNT: u32 = 500;
/// Conversations that an audit looks at at once.
const AUDIT_AT_ONCE: usize = 16;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Window {
    redis: Redis,
}

impl Window {
    /// Whom to ask about messages that are not here any more.
    pub(in crate::backend) fn behind_it(&self, store: Weak<dyn Store>) {
        // There is one history.
        let _ = self.redis.older.set(store);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Due {
    ToArchive,
    ToEvict,
}

/// Handed out to one node for a while.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Taken {
    pub(in crate::backend) conversation: ConversationId,
    due: Due,
    place: String,
}

/// What the archiver finds.
#[derive(Debug)]
pub(in crate::backend) enum Look {
    /// Deleted here; the history may still have it.
    Buried,
    /// Not here.
    Away,
    /// One of its answers is being written.
    Open,
    /// The history has it as it is.
    Clean,
    Changed(Box<Changed>),
}

/// A page of what the history does not have yet. Messages that ended never change.
#[derive(Debug)]
pub(in crate::backend) struct Changed {
    pub(in crate::backend) user: UserId,
    pub(in crate::backend) conversation: Conversation,
    /// Place of the first of `messages` in the order of creation; the history had those before it.
    pub(in crate::backend) from: u64,
    pub(in crate::backend) messages: Vec<Message>,
    /// How many there are in all.
    pub(in crate::backend) total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Evicted {
    Now,
    Away,
    /// The history does not have it as it is.
    Changed,
    /// Somebody touched it; not before so long from now.
    Young(Duration),
}

/// Whether a conversation has to be brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend) enum Place {
    /// With the name of the hydration that brought it.
    Here(String),
    /// Deleted, whatever the history says.
    Buried,
    Away,
}

/// A message on its way back, with the request that asked for it.
#[derive(Clone, Debug)]
pub(in crate::backend) struct Kept {
    pub(in crate::backend) message: Message,
    pub(in crate::backend) request: Option<String>,
}

/// The right to bring one conversation: what is read from the history after it was given out is not older than what left Redis last.
#[derive(Debug)]
pub(in crate::backend) struct Ticket {
    conversation: ConversationId,
    nonce: String,
    staged: String,
    messages: usize,
}

impl Window {
    pub(super) fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Has a conversation looked at in so long, and not earlier.
    pub(in crate::backend) async fn put(&self, due: Due, id: &ConversationId, after: Duration) -> Result<()> {
        self.put_as(due, id, after, "", "").await
    }

    /// Makes what was handed out due again then, unless a change has made it due meanwhile.
    pub(in crate::backend) async fn again(&self, taken: &Taken, after: Duration) -> Result<()> {
        self.put_as(taken.due, &taken.conversation, after, "", &taken.place).await
    }

    async fn put_as(&self, due: Due, id: &ConversationId, after: Duration, unless: &str, place: &str) -> Result<()> {
        let key = self.due_key(due, keys::part(id, LISTS));
        let args: Vec<Value> = vec![keys::short_conversation(id).into(), ms(after).into(), unless.into(), place.into()];
        self.redis.link.run(&self.redis.link.steps.due_put, vec![key], args).await.map(|_| ())
    }

    /// What is due now, hidden from other nodes for a while.
    pub(in crate::backend) async fn take(&self, due: Due, most: usize) -> Result<Vec<Taken>> {
        let mut taken = Vec::new();
        for n in 0..LISTS {
            let args: Vec<Value> = vec![most.to_string().into(), ms(TAKEN).into()];
            let answer = self.redis.link.run(&self.redis.link.steps.due_take, vec![self.due_key(due, n)], args).await?;
            for mut one in answer.lists() {
                let (member, place) = (one.word(), one.word());
                if let Some(conversation) = keys::long_conversation(&member) {
                    taken.push(Taken { conversation, due, place });
                }
            }
        }
        Ok(taken)
    }

    /// There is nothing more to do, unless it became due again meanwhile.
    pub(in crate::backend) async fn done(&self, taken: &Taken) -> Result<()> {
        let key = self.due_key(taken.due, keys::part(&taken.conversation, LISTS));
        let args: Vec<Value> = vec![keys::short_conversation(&taken.conversation).into(), taken.place.as_str().into()];
        self.redis.link.run(&self.redis.link.steps.due_drop, vec![key], args).await.map(|_| ())
    }

    /// How many conversations wait to be archived.
    pub(in crate::backend) async fn waiting(&self) -> Result<u64> {
        let mut waiting = 0;
        for n in 0..LISTS {
            let key = self.due_key(Due::ToArchive, n);
            let count: u64 = self.redis.link.redis()?.zcard(key).await.map_err(|error| self.redis.link.fail(&error))?;
            waiting += count;
        }
        Ok(waiting)
    }

    /// What the history has to take over, from that message on, or from the first that it does not have.
    pub(in crate::backend) async fn look(&self, id: &ConversationId, from: Option<u64>) -> Result<Look> {
        let args: Vec<Value> = vec![
            self.redis.link.keys.key(&Key::Tombstone(id)).into(),
            from.map(|from| from.to_string()).unwrap_or_default().into(),
            PAGE_MESSAGES_MAX.to_string().into(),
            PAGE_BYTES_MAX.to_string().into(),
        ];
        let mut answer = self.redis.on_conversation(&self.redis.link.steps.archive_read, id, args).await?;
        Ok(match answer.word().as_str() {
            "BURIED" => Look::Buried,
            "OPEN" => Look::Open,
            "CLEAN" => Look::Clean,
            "PAGE" => Look::Changed(Box::new(changed(id, answer)?)),
            _ => Look::Away,
        })
    }

    /// Which request asked for which answer, over the whole conversation.
    pub(in crate::backend) async fn requests(&self, id: &ConversationId) -> Result<HashMap<MessageId, String>> {
        let key = self.redis.link.keys.key(&Key::Requests(id));
        let requests: HashMap<String, String> =
            self.redis.link.redis()?.hgetall(key).await.map_err(|error| self.redis.link.fail(&error))?;
        let answer = |held: &str| keys::long_message(id, held.split(' ').next()?);
        Ok(requests.into_iter().filter_map(|(request, held)| Some((answer(&held)?, request))).collect())
    }

    /// The history may have something of a conversation, whatever was marked: deleting it leaves a tombstone from now on.
    pub(in crate::backend) async fn note(&self, id: &ConversationId) -> Result<()> {
        self.redis.on_conversation(&self.redis.link.steps.archive_note, id, Vec::new()).await.map(|_| ())
    }

    /// The history has the conversation as of that version, with so many messages.
    pub(in crate::backend) async fn mark(&self, id: &ConversationId, version: u64, messages: u64) -> Result<()> {
        let args: Vec<Value> = vec![version.to_string().into(), messages.to_string().into()];
        self.redis.on_conversation(&self.redis.link.steps.archive_mark, id, args).await.map(|_| ())
    }

    /// Leaves a conversation to the history, if that has all of it and nobody touched it for so long. The history was just seen to have
    /// that version with so many messages: what it said once may have been lost since.
    pub(in crate::backend) async fn evict(&self, id: &ConversationId, idle: Duration, seen: (u64, u64)) -> Result<Evicted> {
        let args: Vec<Value> = vec![
            self.redis.link.keys.key(&Key::Ticket(id)).into(),
            ms(idle).into(),
            seen.0.to_string().into(),
            seen.1.to_string().into(),
        ];
        let mut answer = self.redis.on_conversation(&self.redis.link.steps.evict, id, args).await?;
        Ok(match answer.word().as_str() {
            "EVICTED" => {
                if let Some(user) = keys::long_user(&answer.word()) {
                    self.redis.replace_in_list(&user, id).await?;
                }
                Evicted::Now
            }
            "DIRTY" => Evicted::Changed,
            "YOUNG" => Evicted::Young(Duration::from_millis(answer.number().unwrap_or(1))),
            _ => Evicted::Away,
        })
    }

    /// The history has forgotten it too.
    pub(in crate::backend) async fn forget(&self, id: &ConversationId) -> Result<()> {
        let keys = [Key::Tombstone(id), Key::Ticket(id)].map(|key| self.redis.link.keys.key(&key)).to_vec();
        let removed: std::result::Result<u64, _> = self.redis.link.redis()?.unlink(keys).await;
        removed.map(|_| ()).map_err(|error| self.redis.link.fail(&error))
    }

    pub(in crate::backend) async fn place(&self, id: &ConversationId) -> Result<Place> {
        let mut answer = self.begin_as(id, "").await?;
        Ok(match answer.word().as_str() {
            "HERE" => Place::Here(answer.word()),
            "BURIED" => Place::Buried,
            _ => Place::Away,
        })
    }

    /// Begins to bring a conversation; or says where it is, when it need not or must not be brought.
    pub(in crate::backend) async fn begin(&self, id: &ConversationId) -> Result<std::result::Result<Ticket, Place>> {
        let mut answer = self.begin_as(id, &nonce()).await?;
        Ok(match answer.word().as_str() {
            "HERE" => Err(Place::Here(answer.word())),
            "TICKET" => Ok(Ticket { conversation: id.clone(), nonce: answer.word(), staged: nonce(), messages: 0 }),
            _ => Err(Place::Buried),
        })
    }

    async fn begin_as(&self, id: &ConversationId, nonce: &str) -> Result<Answer> {
        let args: Vec<Value> = vec![
            self.redis.link.keys.key(&Key::Tombstone(id)).into(),
            self.redis.link.keys.key(&Key::Ticket(id)).into(),
            nonce.into(),
            ms(TICKET_KEPT).into(),
        ];
        self.redis.on_conversation(&self.redis.link.steps.hydrate_begin, id, args).await
    }

    /// Brings the next messages in the order of their creation; false when it has to begin again.
    pub(in crate::backend) async fn stage(&self, ticket: &mut Ticket, messages: &[Kept]) -> Result<bool> {
        let mut args: Vec<Value> = vec![ticket.messages.to_string().into(), ms(TICKET_KEPT).into()];
        for Kept { message, request } in messages {
            args.push(keys::short_message(&message.id).into());
            args.push(message.parent.as_ref().map_or("-", keys::short_message).into());
            args.push(record::status_letter(message.status).into());
            args.push(record::fixed(message).into());
            args.push(record::written(message).into());
            args.push(message.generation.as_ref().map_or("", keys::short_generation).into());
            args.push(request.as_deref().unwrap_or_default().into());
        }
        let keys = self.staged_keys(ticket);
        let answer = self.redis.link.run(&self.redis.link.steps.hydrate_stage, keys, args).await?.word();
        ticket.messages += messages.len();
        Ok(answer == "OK")
    }

    /// What was staged becomes the conversation. Answers where it is then; `None` when it has to begin again.
    pub(in crate::backend) async fn finish(&self, ticket: Ticket, user: &UserId, it: &Conversation) -> Result<Option<String>> {
        let id = &ticket.conversation;
        let mut keys = self.redis.conversation_keys(id);
        keys.extend(self.staged_keys(&ticket));
        let args: Vec<Value> = vec![
            self.redis.link.keys.key(&Key::Tombstone(id)).into(),
            self.redis.link.keys.key(&Key::Ticket(id)).into(),
            ticket.nonce.as_str().into(),
            ticket.messages.to_string().into(),
            ticket.staged.as_str().into(),
            keys::short_user(user).into(),
            it.title.as_str().into(),
            if it.pinned { "1" } else { "0" }.into(),
            it.version.to_string().into(),
            it.created_at.0.to_string().into(),
            it.updated_at.0.to_string().into(),
        ];
        let step: &Step = &self.redis.link.steps.hydrate_end;
        let mut answer = self.redis.link.run(step, keys, args).await?;
        if answer.word() != "HERE" {
            return Ok(None);
        }
        self.redis.place(user, it).await?;
        Ok(Some(answer.word()))
    }

    /// The conversation as it is here, with its user.
    pub(in crate::backend) async fn conversation(&self, id: &ConversationId) -> Result<Option<(UserId, Conversation)>> {
        let mut answer = self.redis.open_generations(id).await?;
        let found = described(id, answer.list())?;
        Ok(found.and_then(|(user, conversation)| Some((keys::long_user(&user)?, conversation))))
    }

    /// The conversation that a request of the user was about, as long as that is known beside the conversation.
    pub(in crate::backend) async fn conversation_of(&self, user: &UserId, request: &str) -> Result<Option<ConversationId>> {
        let key = self.redis.link.keys.key(&Key::Request(user, request));
        let held: Option<String> = self.redis.link.redis()?.get(key).await.map_err(|error| self.redis.link.fail(&error))?;
        Ok(held.and_then(|held| conversation_of_record(&held)))
    }

    /// Puts every conversation that is here into one of the sets, if it stands in none: those from before there was a history, and those
    /// that a crash left out. Only one node does so at a time, and not again for a while; answers how many it looked at.
    pub(in crate::backend) async fn audit(&self, keep: Duration) -> Result<Option<usize>> {
        let (redis, audit) = (self.redis.link.redis()?, self.redis.link.keys.key(&Key::Audit));
        let failed = |error: fred::error::Error| self.redis.link.fail(&error);
        let lease = || Some(Expiration::PX(AUDIT_LEASE.as_millis() as i64));
        let first: Option<String> =
            redis.set(&audit, "begun", lease(), Some(fred::types::SetOptions::NX), false).await.map_err(failed)?;
        if first.is_none() {
            return Ok(None);
        }
        let stem = self.redis.link.keys.conversation_stem();
        let found = match redis.is_clustered() {
            true => redis.scan_cluster_buffered(format!("{stem}*"), Some(AUDIT_COUNT), None).left_stream(),
            false => redis.scan_buffered(format!("{stem}*"), Some(AUDIT_COUNT), None).right_stream(),
        };
        let mut pages = found.map_err(failed).chunks(AUDIT_AT_ONCE);
        let mut looked = 0;
        while let Some(page) = pages.next().await {
            let ids = page.into_iter().collect::<Result<Vec<_>>>()?;
            let short = |key: fred::types::Key| Some(key.as_str()?.strip_prefix(&stem)?.trim_matches(['{', '}']).to_owned());
            let ids: Vec<_> = ids.into_iter().filter_map(short).filter_map(|short| keys::long_conversation(&short)).collect();
            looked += ids.len();
            futures_util::future::try_join_all(ids.iter().map(|id| self.account_for(id, keep))).await?;
            let extended: std::result::Result<Value, _> = redis.set(&audit, "begun", lease(), None, false).await;
            extended.map_err(failed)?;
        }
        let kept = Some(Expiration::PX(AUDIT_KEPT.as_millis() as i64));
        let completed: std::result::Result<Value, _> = redis.set(&audit, "done", kept, None, false).await;
        completed.map_err(failed)?;
        Ok(Some(looked))
    }

    async fn account_for(&self, id: &ConversationId, keep: Duration) -> Result<()> {
        let key = self.redis.link.keys.key(&Key::Conversation(id));
        let versions: Vec<Option<String>> =
            self.redis.link.redis()?.hmget(key, vec!["v", "h"]).await.map_err(|error| self.redis.link.fail(&error))?;
        match versions.as_slice() {
            [Some(now), Some(archived)] if now == archived => self.put_as(Due::ToEvict, id, keep, "LT", "").await,
            [Some(_), _] => self.put_as(Due::ToArchive, id, Duration::ZERO, "NX", "").await,
            _ => Ok(()),
        }
    }

    fn staged_keys(&self, ticket: &Ticket) -> Vec<String> {
        let keys = self.redis.conversation_keys(&ticket.conversation);
        keys.into_iter().map(|key| format!("{key}:{}", ticket.staged)).collect()
    }

    fn due_key(&self, due: Due, n: u16) -> String {
        self.redis.link.keys.key(&match due {
            Due::ToArchive => Key::ToArchive(n),
            Due::ToEvict => Key::ToEvict(n),
        })
    }
}

fn changed(id: &ConversationId, mut answer: Answer) -> Result<Changed> {
    let broken = || Error::Corrupt(format!("what is to be archived of {id}"));
    let (user, conversation) = described(id, answer.list())?.ok_or_else(broken)?;
    let user = keys::long_user(&user).ok_or_else(broken)?;
    let (from, total) = (answer.number().ok_or_else(broken)?, answer.number().ok_or_else(broken)?);
    let items = answer.list().lists();
    let messages = items.map(|mut item| record::message(id, &item.word(), &item.word())).collect::<Result<_>>()?;
    Ok(Changed { user, conversation, from, messages, total })
}

fn nonce() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}
