//! `Store` on Redis: conversations, their messages, nodes, and shared secrets.
//! It must not know how logs are written.

use std::collections::HashSet;

use async_trait::async_trait;
use fred::interfaces::{HashesInterface, KeysInterface, SortedSetsInterface};
use fred::types::{Expiration, SetOptions, Value};

use super::Redis;
use super::keys::{self, Key};
use super::record;
use super::steps::Answer;
use super::sweep::Intent;
use crate::backend::limits::{Limits, Used};
use crate::backend::{
    Cluster, ConversationState, Error, ListQuery, Listing, NODE_EXPIRY_MS, OpenGeneration, Patch, PathEnd, PathItem, PathPage,
    PathQuery, Result, Store,
};
use crate::model::{Conversation, ConversationId, Message, MessageId, NodeInfo, Time, UserId};

/// Models whose waiting work is counted at most.
const MODELS_MAX: i64 = 256;

#[async_trait]
impl Store for Redis {
    async fn secret(&self, name: &str, proposal: &[u8]) -> Result<Vec<u8>> {
        let key = self.link.keys.key(&Key::Secret(name));
        let redis = self.link.redis()?;
        let proposal = Value::Bytes(proposal.to_vec().into());
        redis
            .set::<(), _, _>(&key, proposal, None::<Expiration>, Some(SetOptions::NX), false)
            .await
            .map_err(|error| self.link.fail(&error))?;
        let held: Value = redis.get(&key).await.map_err(|error| self.link.fail(&error))?;
        held.as_bytes().map(<[u8]>::to_vec).ok_or_else(|| Error::Corrupt(format!("the secret {name} is not there")))
    }

    async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<ConversationState> {
        let mut answer = self.open_generations(id).await?;
        let (owner, conversation) = described(id, answer.list())?.ok_or(Error::NotFound)?;
        if owner != keys::short_user(user) {
            return Err(Error::NotFound);
        }
        let mut open = Vec::new();
        for mut item in answer.list().lists() {
            let generation = keys::long_generation(id, &item.word());
            let message = keys::long_message(id, &item.word());
            let status = record::status_of(&item.word())?;
            let (Some(generation), Some(message)) = (generation, message) else {
                return Err(Error::Corrupt(format!("the open generations of {id}")));
            };
            open.push(OpenGeneration { generation, message, status });
        }
        Ok(ConversationState { conversation, open })
    }

    async fn conversations(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        self.list(user, query).await
    }

    async fn create(&self, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()> {
        let mut known = HashSet::new();
        for message in messages {
            let parent_is_known = message.parent.as_ref().is_none_or(|parent| known.contains(parent));
            if message.id.conversation() != conversation.id || !parent_is_known || !known.insert(&message.id) {
                return Err(Error::NotFound);
            }
        }
        let id = &conversation.id;
        let mut args: Vec<Value> = vec![
            keys::short_user(user).into(),
            conversation.title.as_str().into(),
            if conversation.pinned { "1" } else { "0" }.into(),
            conversation.version.to_string().into(),
            conversation.created_at.0.to_string().into(),
            conversation.updated_at.0.to_string().into(),
        ];
        for message in messages {
            args.push(keys::short_message(&message.id).into());
            args.push(message.parent.as_ref().map_or("-", keys::short_message).into());
            args.push(record::status_letter(message.status).into());
            args.push(record::fixed(message).into());
            args.push(record::written(message).into());
        }
        let intent = self.intend(&Intent::list(user, id)).await?;
        let mut answer = self.on_conversation(&self.link.steps.create, id, args).await?;
        if answer.word() == "NONE" {
            self.forget(id, &intent).await;
            return Err(Error::NotFound);
        }
        let (_, stored) = described(id, answer.list())?.ok_or(Error::NotFound)?;
        self.place(user, &stored).await?;
        self.forget(id, &intent).await;
        Ok(())
    }

    async fn patch(&self, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation> {
        let args: Vec<Value> = vec![
            keys::short_user(user).into(),
            if patch.title.is_some() { "1" } else { "0" }.into(),
            patch.title.as_deref().unwrap_or_default().into(),
            match patch.pinned {
                Some(true) => "1",
                Some(false) => "0",
                None => "",
            }
            .into(),
        ];
        let intent = self.intend(&Intent::list(user, id)).await?;
        let mut answer = self.on_conversation(&self.link.steps.patch, id, args).await?;
        if answer.word() != "OK" {
            self.forget(id, &intent).await;
            return Err(Error::NotFound);
        }
        let (_, conversation) = described(id, answer.list())?.ok_or(Error::NotFound)?;
        self.place(user, &conversation).await?;
        self.forget(id, &intent).await;
        Ok(conversation)
    }

    async fn delete(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        let args: Vec<Value> = vec![
            keys::short_user(user).into(),
            self.link.keys.log_stem(id).into(),
            self.link.keys.state_stem(id).into(),
            self.link.keys.key(&Key::Tombstone(id)).into(),
            self.link.keys.key(&Key::Ticket(id)).into(),
        ];
        let intent = self.intend(&Intent::list(user, id)).await?;
        let mut answer = self.on_conversation(&self.link.steps.delete, id, args).await?;
        let found = answer.word() == "OK";
        for mut queued in answer.list().lists() {
            let (generation, model) = (keys::long_generation(id, &queued.word()), queued.word());
            // One that stays is dropped when it comes up.
            if let Some(generation) = generation {
                let ended = self.end(&generation, Used::Reserved);
                tokio::try_join!(self.drop_work(&model, keys::work_member(&generation)), ended)?;
            }
        }
        // Also when nothing was there: the first try may have been cut between the two steps.
        self.unlist(user, id).await?;
        self.forget(id, &intent).await;
        if found { Ok(()) } else { Err(Error::NotFound) }
    }

    async fn message(&self, id: &MessageId) -> Result<Message> {
        let conversation = id.conversation();
        let key = self.link.keys.key(&Key::Messages(&conversation));
        let short = keys::short_message(id);
        let found: Option<String> = self.link.redis()?.hget(key, short).await.map_err(|error| self.link.fail(&error))?;
        record::message(&conversation, short, &found.ok_or(Error::NotFound)?)
    }

    async fn path(&self, query: &PathQuery) -> Result<PathPage> {
        let (end, id) = match &query.end {
            PathEnd::NewestLeaf => ("N", None),
            PathEnd::At(id) => ("A", Some(id)),
            PathEnd::Through(id) => ("T", Some(id)),
            PathEnd::Before(id) => ("B", Some(id)),
        };
        let conversation = &query.conversation;
        if id.is_some_and(|id| id.conversation() != *conversation) {
            return Err(Error::NotFound);
        }
        let args: Vec<Value> = vec![end.into(), id.map_or("", keys::short_message).into(), query.limit.to_string().into()];
        let mut answer = self.on_conversation(&self.link.steps.path, conversation, args).await?;
        if answer.word() != "OK" {
            return Err(Error::NotFound);
        }
        let more = answer.word() == "1";
        let mut items = Vec::new();
        for mut item in answer.list().lists() {
            let (short, text, children) = (item.word(), item.word(), item.word());
            let siblings = record::split_ids(conversation, &children)?;
            let siblings = if siblings.len() > 1 { siblings } else { Vec::new() };
            items.push(PathItem { message: record::message(conversation, &short, &text)?, siblings });
        }
        items.reverse();
        Ok(PathPage { items, more })
    }

    async fn messages(&self, conversation: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>> {
        if after.is_some_and(|id| id.conversation() != *conversation) {
            return Err(Error::NotFound);
        }
        let args: Vec<Value> = vec![after.map_or("", keys::short_message).into(), limit.to_string().into()];
        let mut answer = self.on_conversation(&self.link.steps.messages, conversation, args).await?;
        if answer.word() != "OK" {
            return Err(Error::NotFound);
        }
        let items = answer.list().lists();
        items.map(|mut item| record::message(conversation, &item.word(), &item.word())).collect()
    }

    async fn heartbeat(&self, node: &NodeInfo, gone: bool) -> Result<Cluster> {
        let keys = vec![self.link.keys.key(&Key::Nodes), self.link.keys.key(&Key::NodeInfos)];
        let said = serde_json::to_string(node).expect("plain fields become JSON");
        let args: Vec<Value> =
            vec![node.id.as_str().into(), said.into(), if gone { "1" } else { "0" }.into(), NODE_EXPIRY_MS.to_string().into()];
        let beat = self.link.run(&self.link.steps.heartbeat, keys, args);
        let (answer, waiting) = tokio::try_join!(beat, self.waiting())?;
        // A newer version's node may say what this one can't read; it lives all the same, but can't be shown.
        let now = Time::now();
        let heard = answer.lists().filter_map(|mut one| {
            let node: NodeInfo = serde_json::from_str(&one.word()).ok()?;
            // By this clock, whatever the node's own says.
            Some(NodeInfo { seen_at: Time(now.0.saturating_sub(one.number()?)), ..node })
        });
        let mut nodes: Vec<NodeInfo> = heard.collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(Cluster { nodes, waiting })
    }
}

impl Redis {
    /// The conversation and its open generations. One whose log is gone is ended by this, since nobody else can.
    pub(super) async fn open_generations(&self, id: &ConversationId) -> Result<Answer> {
        let keys = &self.link.keys;
        let args: Vec<Value> =
            vec![keys.log_stem(id).into(), keys.state_stem(id).into(), record::lost().into(), self.lease_ms().into()];
        let mut answer = self.on_conversation(&self.link.steps.open, id, args).await?;
        let _ok = answer.word();
        Ok(answer)
    }

    /// How many generations could be claimed now, of each model that has any.
    async fn waiting(&self) -> Result<Vec<(String, u64)>> {
        let key = self.link.keys.key(&Key::Models);
        let models: Vec<String> = self
            .link
            .redis()?
            .zrange(key, 0, MODELS_MAX - 1, None, true, None, false)
            .await
            .map_err(|error| self.link.fail(&error))?;
        let counts = models.into_iter().map(|model| async move {
            let mut answer = self.link.run(&self.link.steps.waiting, self.queue_keys(&model), Vec::new()).await?;
            Ok::<_, Error>((answer.number::<u64>().unwrap_or_default(), model))
        });
        let counts = futures_util::future::try_join_all(counts).await?;
        let mut waiting: Vec<_> = counts.into_iter().filter(|(n, _)| *n > 0).map(|(n, model)| (model, n)).collect();
        waiting.sort();
        Ok(waiting)
    }
}

/// What `describe` in `lua/conversation.lua` answers.
pub(super) fn described(id: &ConversationId, mut answer: Answer) -> Result<Option<(String, Conversation)>> {
    let fields = answer.list().texts();
    let open = answer.number().unwrap_or_default();
    record::conversation(id, &fields, open)
}
