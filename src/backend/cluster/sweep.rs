//! What a crash between two slots leaves behind, and the task that completes it.
//! It must not know what a caller wanted beyond what an intent says.
//!
//! A change that spans slots begins with an intent and ends with its removal. Every step is idempotent, so an intent may be carried out
//! by several nodes at once, or while its own call still runs.

use std::time::Duration;

use fred::interfaces::{HashesInterface, SortedSetsInterface};
use fred::types::Value;

use super::Redis;
use super::keys::{self, Key, PENDING_LISTS};
use super::record;
use crate::backend::{Error, Result};
use crate::model::{Conversation, ConversationId, GenerationId, Time, UserId};

/// How long a call may take before it counts as crashed, in milliseconds.
const CRASHED_MS: u64 = 5_000;
/// How long an intent is kept whose turn can't be seen: its call may have been stopped before it stored anything, and go on.
const GIVEN_UP_MS: u64 = 60_000;
/// Intents that one look at one list takes.
const LOOK_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_secs(1);
/// Rounds after which a list that keeps changing is left to whoever keeps changing it.
const PLACE_ROUNDS_MAX: u32 = 5;
/// Names of models that are remembered for counting their waiting work.
const MODELS_KEPT: i64 = 1_000;

/// "This conversation's place in its user's list, and that generation's in its queue, may be out of date."
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Intent {
    /// Tells intents of the same thing apart: the end of one call must not take another's away.
    nonce: String,
    user: UserId,
    conversation: ConversationId,
    generation: Option<GenerationId>,
}

impl Intent {
    pub(super) fn list(user: &UserId, conversation: &ConversationId) -> Self {
        let nonce = format!("{:08x}", rand::random::<u32>());
        Self { nonce, user: user.clone(), conversation: conversation.clone(), generation: None }
    }

    pub(super) fn work(user: &UserId, generation: &GenerationId) -> Self {
        Self { generation: Some(generation.clone()), ..Self::list(user, &generation.conversation()) }
    }

    fn encode(&self) -> String {
        let user = keys::short_user(&self.user);
        let conversation = keys::short_conversation(&self.conversation);
        let generation = self.generation.as_ref().map_or("-", keys::short_generation);
        format!("{} {user} {conversation} {generation}", self.nonce)
    }

    fn decode(member: &str) -> Option<Self> {
        let mut parts = member.split(' ');
        let nonce = parts.next()?.to_owned();
        let user = keys::long_user(parts.next()?)?;
        let conversation = keys::long_conversation(parts.next()?)?;
        let generation = match parts.next()? {
            "-" => None,
            short => Some(keys::long_generation(&conversation, short)?),
        };
        Some(Self { nonce, user, conversation, generation })
    }
}

impl Redis {
    /// Writes an intent down; answers what [`Self::forget`] needs.
    pub(super) async fn intend(&self, intent: &Intent) -> Result<String> {
        let member = intent.encode();
        let key = self.link.keys.pending(&intent.conversation);
        self.link.run(&self.link.steps.intend, vec![key], vec![member.as_str().into()]).await.map(|_| member)
    }

    /// The change is complete. When this fails the sweeper finds nothing to do, and forgets it.
    pub(super) async fn forget(&self, conversation: &ConversationId, member: &str) {
        let key = self.link.keys.pending(conversation);
        let removed = async {
            let removed: std::result::Result<Value, _> = self.link.redis()?.zrem(key, member).await;
            removed.map_err(|error| self.link.fail(&error))
        };
        if let Err(error) = removed.await {
            tracing::debug!(%error, "an intent stays for the sweeper");
        }
    }

    /// Puts a conversation into its user's list. Looks again afterwards, since another change may have come in between, and the one
    /// that looks last has to see it.
    pub(super) async fn place(&self, user: &UserId, conversation: &Conversation) -> Result<()> {
        let score = record::list_score(conversation.pinned, conversation.updated_at);
        self.place_at(user, &conversation.id, score).await
    }

    async fn place_at(&self, user: &UserId, id: &ConversationId, mut score: f64) -> Result<()> {
        for _ in 0..PLACE_ROUNDS_MAX {
            let key = self.link.keys.key(&Key::List(user));
            let member = keys::short_conversation(id);
            let added: std::result::Result<Value, _> =
                self.link.redis()?.zadd(key, None, None, false, false, (score, member)).await;
            added.map_err(|error| self.link.fail(&error))?;
            match self.score(user, id).await? {
                None => return self.unlist(user, id).await,
                Some(now) if now == score => return Ok(()),
                Some(now) => score = now,
            }
        }
        Ok(())
    }

    /// Where a conversation belongs in its user's list; `None` when it isn't the user's (any more).
    async fn score(&self, user: &UserId, id: &ConversationId) -> Result<Option<f64>> {
        let key = self.link.keys.key(&Key::Conversation(id));
        let fields: Vec<Option<String>> =
            self.link.redis()?.hmget(key, vec!["u", "p", "b"]).await.map_err(|error| self.link.fail(&error))?;
        let [owner, pinned, updated] = fields.as_slice() else {
            return Err(Error::Corrupt(format!("the fields of {id}")));
        };
        if owner.as_deref() != Some(keys::short_user(user)) {
            return Ok(None);
        }
        let updated = updated.as_ref().and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(Some(record::list_score(pinned.as_deref() == Some("1"), Time(updated))))
    }

    /// After a conversation left Redis or came to it: its place in the list follows it, whichever way it went last.
    pub(super) async fn replace_in_list(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        self.unlist(user, id).await?;
        match self.score(user, id).await? {
            None => Ok(()),
            Some(score) => self.place_at(user, id, score).await,
        }
    }

    pub(super) async fn unlist(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        let key = self.link.keys.key(&Key::List(user));
        let removed: std::result::Result<Value, _> = self.link.redis()?.zrem(key, keys::short_conversation(id)).await;
        removed.map(|_| ()).map_err(|error| self.link.fail(&error))
    }

    /// The task: until `stopped`, look for intents whose call must have crashed, and carry them out.
    pub(super) async fn sweep_until(self, stopped: tokio_util::sync::CancellationToken) {
        loop {
            // Nodes that started together must not all look at once.
            let pause = PAUSE.mul_f64(0.5 + rand::random::<f64>());
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.sweep().await {
                tracing::debug!(%error, "could not look for what a crash left behind");
            }
        }
    }

    /// Carries out every intent that is old enough; answers how many.
    pub(super) async fn sweep(&self) -> Result<usize> {
        let mut done = 0;
        for n in 0..PENDING_LISTS {
            let key = self.link.keys.key(&Key::Pending(n));
            for (member, age_ms) in self.older_than(key.clone(), CRASHED_MS, LOOK_MAX).await? {
                let carried_out = match Intent::decode(&member) {
                    Some(intent) => self.carry_out(&intent).await?,
                    None => true,
                };
                if carried_out || age_ms > GIVEN_UP_MS {
                    let removed: std::result::Result<Value, _> = self.link.redis()?.zrem(&key, member).await;
                    removed.map_err(|error| self.link.fail(&error))?;
                    done += 1;
                }
            }
        }
        let key = self.link.keys.key(&Key::Models);
        let trimmed: std::result::Result<Value, _> = self.link.redis()?.zremrangebyrank(key, 0, -MODELS_KEPT - 1).await;
        trimmed.map_err(|error| self.link.fail(&error))?;
        Ok(done)
    }

    /// What has been in a set by moments for at least so long, the oldest first, with its age in milliseconds. The server's clock counts:
    /// those of nodes may be apart.
    pub(super) async fn older_than(&self, key: String, age_ms: u64, most: u32) -> Result<Vec<(String, u64)>> {
        let args: Vec<Value> = vec![age_ms.to_string().into(), most.to_string().into()];
        let found = self.link.run(&self.link.steps.older, vec![key], args).await?;
        Ok(found.lists().filter_map(|mut one| one.text().zip(one.number())).collect())
    }

    /// False when there is nothing to see yet.
    async fn carry_out(&self, intent: &Intent) -> Result<bool> {
        let mut seen = true;
        if let Some(generation) = &intent.generation {
            let redis = self.link.redis()?;
            let state = redis.hmget(self.link.keys.key(&Key::State(generation)), vec!["s", "q", "o"]);
            let state: Vec<Option<String>> = state.await.map_err(|error| self.link.fail(&error))?;
            match state.as_slice() {
                [Some(stage), Some(place), Some(model)] if stage != "f" => {
                    self.enqueue(model, generation, place, false).await?;
                }
                [None, ..] => seen = false,
                _ => {}
            }
        }
        match self.score(&intent.user, &intent.conversation).await? {
            None => self.unlist(&intent.user, &intent.conversation).await?,
            Some(_) => {
                let key = self.link.keys.key(&Key::Conversation(&intent.conversation));
                let fields: Vec<Option<String>> = self
                    .link
                    .redis()?
                    .hmget(key, record::CONVERSATION_FIELDS.to_vec())
                    .await
                    .map_err(|error| self.link.fail(&error))?;
                if let Some((_, conversation)) = record::conversation(&intent.conversation, &fields, 0)? {
                    self.place(&intent.user, &conversation).await?;
                }
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_reads_back() {
        let (user, c) = (UserId::generate(), ConversationId::generate());
        for intent in [Intent::list(&user, &c), Intent::work(&user, &GenerationId::generate(&c))] {
            assert_eq!(Intent::decode(&intent.encode()), Some(intent));
        }
        for bad in ["", "a b c d", "x usr cnv -", "a"] {
            assert_eq!(Intent::decode(bad), None);
        }
    }
}
