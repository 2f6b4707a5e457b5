//! The traits, around those of the cluster: a conversation that is not in Redis is brought there first, and what changes is archived later.
//! It must not know how either is done.

use std::time::Duration;

use async_trait::async_trait;

use super::History;
use crate::backend::cluster::Due;
use crate::backend::{
    Cancel, Claim, Cluster, ConversationState, Error, Generations, Lease, ListQuery, Listing, LogPage, Patch, PathPage,
    PathQuery, Renewed, Result, Store, Submission, Submitted,
};
use crate::log::{Entry, Outcome};
use crate::model::{Conversation, ConversationId, GenerationId, Message, MessageId, NodeInfo, Position, UserId};

#[async_trait]
impl Store for History {
    async fn secret(&self, name: &str, proposal: &[u8]) -> Result<Vec<u8>> {
        self.store.secret(name, proposal).await
    }

    async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<ConversationState> {
        self.reach(id, Some(user), || self.store.conversation(user, id)).await
    }

    async fn conversations(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        self.list(user, query).await
    }

    async fn create(&self, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()> {
        if self.has(user, &conversation.id).await? {
            return Ok(());
        }
        self.changing(&conversation.id, self.store.create(user, conversation, messages)).await
    }

    async fn patch(&self, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation> {
        self.reach(id, Some(user), || Box::pin(self.changing(id, self.store.patch(user, id, patch)))).await
    }

    async fn delete(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        let outcome = self.reach(id, Some(user), || {
            Box::pin(async move {
                // Told first: a deletion that nobody carries on would leave everything in the history, though nobody sees it. Not for
                // now: an archiver that looked before it is deleted would find nothing to do, and nobody would look again.
                self.window.put(Due::ToArchive, id, self.settle).await?;
                self.window.note(id).await?;
                self.store.delete(user, id).await?;
                if let Err(error) = self.window.put(Due::ToArchive, id, Duration::ZERO).await {
                    tracing::debug!(%error, "the archiver hears of a deletion later");
                }
                Ok(())
            })
        });
        outcome.await
    }

    async fn message(&self, id: &MessageId) -> Result<Message> {
        self.reach(&id.conversation(), None, || self.store.message(id)).await
    }

    async fn path(&self, query: &PathQuery) -> Result<PathPage> {
        self.reach(&query.conversation, None, || self.store.path(query)).await
    }

    async fn messages(&self, conversation: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>> {
        self.reach(conversation, None, || self.store.messages(conversation, after, limit)).await
    }

    async fn heartbeat(&self, node: &NodeInfo, gone: bool) -> Result<Cluster> {
        self.store.heartbeat(node, gone).await
    }
}

#[async_trait]
impl Generations for History {
    async fn submit(&self, submission: &Submission) -> Result<Submitted> {
        // What was there before is brought back, and never made a second time.
        let there = submission.create.is_some() && self.has(&submission.user, &submission.conversation).await?;
        let following = there.then(|| Submission { create: None, ..submission.clone() });
        let submission = following.as_ref().unwrap_or(submission);
        let first = self.changing(&submission.conversation, self.generations.submit(submission)).await;
        if !matches!(first, Err(Error::NotFound)) {
            return first;
        }
        // A request that is known is about the conversation that it named at first.
        let known = self.window.conversation_of(&submission.user, &submission.request).await?;
        let id = known.as_ref().unwrap_or(&submission.conversation);
        self.reach(id, Some(&submission.user), || Box::pin(self.changing(id, self.generations.submit(submission)))).await
    }

    async fn claim(&self, worker: &str, models: &[String]) -> Result<Option<Claim>> {
        self.generations.claim(worker, models).await
    }

    async fn claim_this(&self, worker: &str, model: &str, generation: &GenerationId) -> Result<Option<Claim>> {
        self.generations.claim_this(worker, model, generation).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed> {
        self.generations.renew(lease).await
    }

    async fn append(&self, lease: &Lease, previous: Position, entries: &[Entry]) -> Result<Renewed> {
        self.generations.append(lease, previous, entries).await
    }

    async fn finish(&self, lease: &Lease, previous: Position, outcome: &Outcome, message: &Message) -> Result<()> {
        let id = lease.generation().conversation();
        self.changing(&id, self.generations.finish(lease, previous, outcome, message)).await
    }

    async fn cancel(&self, generation: &GenerationId) -> Result<Cancel> {
        let id = generation.conversation();
        self.reach(&id, None, || Box::pin(self.changing(&id, self.generations.cancel(generation)))).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.generations.release(lease).await
    }

    async fn read(&self, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage> {
        self.generations.read(generation, after, weight_max).await
    }
}
