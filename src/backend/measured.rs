//! Calls of the store, timed: how an operator sees it, whichever world it is. It must not know what a call is for.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::accounts::{Account, AccountChange, Accounts, Changes, Pass};
use super::limits::{Bucket, Budget, Limits, Opening, Party, Refused, Spent, Used};
use super::{
    Backends, Cancel, Claim, Cluster, ConversationState, Error, Generations, Lease, ListQuery, Listing, LogPage, Patch, PathPage,
    PathQuery, Renewed, Result, Store, Submission, Submitted,
};
use crate::log::{Entry, Outcome};
use crate::model::{Conversation, ConversationId, GenerationId, Message, MessageId, NodeInfo, Position, Time, UserId};
use crate::telemetry::Metrics;

/// The same backends, each call of the store reported. What callers are meant to run into (not found, fenced, out of order, gone)
/// is no failure of the store.
#[must_use]
pub fn measured(backends: Backends, metrics: &Metrics) -> Backends {
    Backends {
        store: Arc::new(Measured { inner: backends.store, metrics: metrics.clone() }),
        generations: Arc::new(Measured { inner: backends.generations, metrics: metrics.clone() }),
        accounts: Arc::new(Measured { inner: backends.accounts, metrics: metrics.clone() }),
        limits: Arc::new(Measured { inner: backends.limits, metrics: metrics.clone() }),
        ..backends
    }
}

#[derive(Debug)]
struct Measured<T: ?Sized> {
    inner: Arc<T>,
    metrics: Metrics,
}

impl<T: ?Sized> Measured<T> {
    async fn time<R>(&self, op: &'static str, call: impl Future<Output = Result<R>>) -> Result<R> {
        let begun = Instant::now();
        let outcome = call.await;
        self.metrics.store_call(op, begun.elapsed());
        if let Err(Error::Full(_) | Error::Unavailable(_) | Error::Corrupt(_)) = &outcome {
            self.metrics.store_failed();
        }
        outcome
    }
}

#[async_trait]
impl Store for Measured<dyn Store> {
    async fn secret(&self, name: &str, proposal: &[u8]) -> Result<Vec<u8>> {
        self.time("secret", self.inner.secret(name, proposal)).await
    }

    async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<ConversationState> {
        self.time("conversation", self.inner.conversation(user, id)).await
    }

    async fn conversations(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        self.time("conversations", self.inner.conversations(user, query)).await
    }

    async fn create(&self, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()> {
        self.time("create", self.inner.create(user, conversation, messages)).await
    }

    async fn patch(&self, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation> {
        self.time("patch", self.inner.patch(user, id, patch)).await
    }

    async fn delete(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        self.time("delete", self.inner.delete(user, id)).await
    }

    async fn message(&self, id: &MessageId) -> Result<Message> {
        self.time("message", self.inner.message(id)).await
    }

    async fn path(&self, query: &PathQuery) -> Result<PathPage> {
        self.time("path", self.inner.path(query)).await
    }

    async fn messages(&self, conversation: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>> {
        self.time("messages", self.inner.messages(conversation, after, limit)).await
    }

    async fn heartbeat(&self, node: &NodeInfo, gone: bool) -> Result<Cluster> {
        self.time("heartbeat", self.inner.heartbeat(node, gone)).await
    }
}

#[async_trait]
impl Generations for Measured<dyn Generations> {
    async fn submit(&self, submission: &Submission) -> Result<Submitted> {
        self.time("submit", self.inner.submit(submission)).await
    }

    async fn claim(&self, worker: &str, models: &[String]) -> Result<Option<Claim>> {
        self.time("claim", self.inner.claim(worker, models)).await
    }

    async fn claim_this(&self, worker: &str, model: &str, generation: &GenerationId) -> Result<Option<Claim>> {
        self.time("claim_this", self.inner.claim_this(worker, model, generation)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed> {
        self.time("renew", self.inner.renew(lease)).await
    }

    async fn append(&self, lease: &Lease, previous: Position, entries: &[Entry]) -> Result<Renewed> {
        self.time("append", self.inner.append(lease, previous, entries)).await
    }

    async fn finish(&self, lease: &Lease, previous: Position, outcome: &Outcome, message: &Message) -> Result<()> {
        self.time("finish", self.inner.finish(lease, previous, outcome, message)).await
    }

    async fn cancel(&self, generation: &GenerationId) -> Result<Cancel> {
        self.time("cancel", self.inner.cancel(generation)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.time("release", self.inner.release(lease)).await
    }

    async fn read(&self, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage> {
        self.time("read", self.inner.read(generation, after, weight_max)).await
    }
}

#[async_trait]
impl Accounts for Measured<dyn Accounts> {
    async fn add(&self, account: &Account) -> Result<bool> {
        self.time("account_add", self.inner.add(account)).await
    }

    async fn account(&self, id: &UserId) -> Result<Account> {
        self.time("account", self.inner.account(id)).await
    }

    async fn named(&self, name: &str) -> Result<Account> {
        self.time("account_named", self.inner.named(name)).await
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        self.time("accounts", self.inner.list(after, limit)).await
    }

    async fn change(&self, id: &UserId, change: &AccountChange) -> Result<Account> {
        self.time("account_change", self.inner.change(id, change)).await
    }

    async fn issue(&self, pass: &Pass) -> Result<()> {
        self.time("pass_issue", self.inner.issue(pass)).await
    }

    async fn admit(&self, user: &UserId, digest: &str, at: Time) -> Result<(Account, Pass)> {
        self.time("admit", self.inner.admit(user, digest, at)).await
    }

    async fn passes(&self, user: &UserId, at: Time) -> Result<Vec<Pass>> {
        self.time("passes", self.inner.passes(user, at)).await
    }

    async fn revoke(&self, user: &UserId, digest: &str) -> Result<()> {
        self.time("pass_revoke", self.inner.revoke(user, digest)).await
    }

    async fn changes(&self, after: Option<&str>) -> Result<Changes> {
        self.time("access_changes", self.inner.changes(after)).await
    }
}

#[async_trait]
impl Limits for Measured<dyn Limits> {
    async fn take(&self, buckets: &[Bucket]) -> Result<Option<Refused>> {
        self.time("limits_take", self.inner.take(buckets)).await
    }

    async fn begin(&self, opening: &Opening) -> Result<Option<Refused>> {
        self.time("limits_begin", self.inner.begin(opening)).await
    }

    async fn end(&self, generation: &GenerationId, used: Used) -> Result<()> {
        self.time("limits_end", self.inner.end(generation, used)).await
    }

    async fn spent(&self, budget: &Budget) -> Result<Spent> {
        self.time("limits_spent", self.inner.spent(budget)).await
    }

    async fn alive(&self, holder: &str, gone: bool) -> Result<bool> {
        self.time("limits_alive", self.inner.alive(holder, gone)).await
    }

    async fn enter(&self, holder: &str, parties: &[Party]) -> Result<Vec<Option<usize>>> {
        self.time("limits_enter", self.inner.enter(holder, parties)).await
    }

    async fn leave(&self, holder: &str, rooms: &[(String, u32)]) -> Result<()> {
        self.time("limits_leave", self.inner.leave(holder, rooms)).await
    }
}
