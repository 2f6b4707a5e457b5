//! Who works on what: the queues of waiting and handed out generations, and taking one over on its own slot.
//! It must not know what is written into a log.
//!
//! The queues only say who may be worth asking; `take` alone decides. So a queue entry may be missing, stale or double: stale ones are
//! dropped when they come up, missing ones are put back by the sweeper and by whoever reads the log.

use fred::interfaces::SortedSetsInterface;
use fred::types::Value;

use super::Redis;
use super::keys::{self, Key};
use super::record;
use super::steps::Answer;
use crate::backend::{Claim, Error, Lease, Result};
use crate::model::{GenerationId, Time};

/// Entries that one claim looks at. Each one that can't be taken moves away, so the next claim sees others.
const LOOKS_MAX: usize = 4_096;

enum Taken {
    Yes(Box<Claim>),
    /// Another's, for so many milliseconds at least.
    Busy(u64),
    /// Not to be worked on any more.
    Over,
}

impl Redis {
    pub(super) async fn claim_oldest(&self, models: &[String]) -> Result<Option<Claim>> {
        for _ in 0..LOOKS_MAX {
            let Some(model) = self.oldest(models).await? else { return Ok(None) };
            let Some(member) = self.pop(model).await? else {
                // One model: nothing is there. Several: somebody was quicker, and another may have some.
                if models.len() == 1 {
                    return Ok(None);
                }
                continue;
            };
            let Some(generation) = keys::from_work_member(&member) else {
                tracing::warn!("dropped something that is no generation from the work queue");
                self.drop_work(model, &member).await?;
                continue;
            };
            match self.take(&generation).await? {
                Taken::Yes(claim) => return Ok(Some(*claim)),
                Taken::Busy(ms) => self.settle(model, &generation, ms).await?,
                Taken::Over => self.drop_work(model, &member).await?,
            }
        }
        Ok(None)
    }

    pub(super) async fn claim_named(&self, model: &str, generation: &GenerationId) -> Result<Option<Claim>> {
        let member = keys::work_member(generation);
        let handed: Vec<Value> = vec![member.into(), self.lease_ms().into()];
        let handed = self.link.run(&self.link.steps.hand, self.queue_keys(model), handed);
        // One way there for both. As after a pop, whoever handed it out and did not get it leaves it for a lease at most.
        let (handed, taken) = tokio::join!(handed, self.take(generation));
        if let Err(error) = handed {
            tracing::debug!(%error, "the queue was not told of a claim");
        }
        match taken? {
            Taken::Yes(claim) => Ok(Some(*claim)),
            Taken::Busy(_) => Ok(None),
            Taken::Over => self.drop_work(model, member).await.map(|()| None),
        }
    }

    /// The model whose next claimable generation waits longest.
    async fn oldest<'a>(&self, models: &'a [String]) -> Result<Option<&'a str>> {
        if let [only] = models {
            return Ok(Some(only));
        }
        let looks = models.iter().map(|model| async move {
            let mut answer = self.link.run(&self.link.steps.peek, self.queue_keys(model), Vec::new()).await?;
            let age = answer.number::<u8>().zip(answer.number::<f64>());
            Ok::<_, Error>(age.map(|age| (age, model.as_str())))
        });
        let found = futures_util::future::try_join_all(looks).await?;
        let oldest = found.into_iter().flatten().min_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        Ok(oldest.map(|(_, model)| model))
    }

    async fn pop(&self, model: &str) -> Result<Option<String>> {
        let args: Vec<Value> = vec![self.lease_ms().into()];
        Ok(self.link.run(&self.link.steps.pop, self.queue_keys(model), args).await?.text())
    }

    async fn take(&self, generation: &GenerationId) -> Result<Taken> {
        let nonce = format!("{:016x}", rand::random::<u64>());
        let args: Vec<Value> = vec![
            keys::short_generation(generation).into(),
            nonce.as_str().into(),
            self.lease_ms().into(),
            self.retention.running.as_millis().to_string().into(),
            record::lost().into(),
        ];
        let mut answer = self.on_generation(&self.link.steps.take, generation, args).await?;
        match answer.word().as_str() {
            "OK" => taken(generation, nonce, answer).map(|claim| Taken::Yes(Box::new(claim))),
            "BUSY" => Ok(Taken::Busy(answer.number().unwrap_or(1))),
            "LOST" => {
                tracing::warn!(%generation, "the log of an open generation was removed, ended it as interrupted");
                Ok(Taken::Over)
            }
            _ => Ok(Taken::Over),
        }
    }

    /// Makes a generation claimable; `place` is the microsecond of its submission. `returned`: its lease was given back.
    pub(super) async fn enqueue(&self, model: &str, generation: &GenerationId, place: &str, returned: bool) -> Result<()> {
        let args: Vec<Value> = vec![keys::work_member(generation).into(), place.into(), if returned { "1" } else { "0" }.into()];
        let models = self.link.keys.key(&Key::Models);
        let redis = self.link.redis()?;
        let name = async {
            let named: std::result::Result<Value, _> =
                redis.zadd(models, None, None, false, false, (Time::now().0 as f64, model)).await;
            named.map(|_| ()).map_err(|error| self.link.fail(&error))
        };
        let queue = self.link.run(&self.link.steps.enqueue, self.queue_keys(model), args);
        tokio::try_join!(queue, name).map(|_| ())
    }

    /// Tells the queue how long the lease goes on.
    pub(super) async fn settle(&self, model: &str, generation: &GenerationId, ms: u64) -> Result<()> {
        let key = self.link.keys.key(&Key::Leased(model));
        let args: Vec<Value> = vec![keys::work_member(generation).into(), ms.to_string().into()];
        self.link.run(&self.link.steps.settle, vec![key], args).await.map(|_| ())
    }

    /// Takes what has ended out of the queues.
    pub(super) async fn drop_work(&self, model: &str, member: &str) -> Result<()> {
        let redis = self.link.redis()?;
        let [waiting, leased] = [Key::Waiting(model), Key::Leased(model)].map(|key| self.link.keys.key(&key));
        let both =
            async { tokio::try_join!(redis.zrem::<Value, _, _>(waiting, member), redis.zrem::<Value, _, _>(leased, member)) };
        both.await.map(|_| ()).map_err(|error| self.link.fail(&error))
    }

    /// How many wait before it; puts it back when the queue lost it.
    pub(super) async fn ahead(&self, model: &str, generation: &GenerationId, place: &str) -> Result<u32> {
        let member: Vec<Value> = vec![keys::work_member(generation).into()];
        let ahead = self.link.run(&self.link.steps.ahead, self.queue_keys(model), member).await?.number();
        match ahead {
            Some(ahead) => Ok(ahead),
            None => self.enqueue(model, generation, place, false).await.map(|()| 0),
        }
    }

    pub(super) fn queue_keys(&self, model: &str) -> Vec<String> {
        vec![self.link.keys.key(&Key::Waiting(model)), self.link.keys.key(&Key::Leased(model))]
    }

    pub(super) fn lease_ms(&self) -> String {
        self.lease.as_millis().to_string()
    }
}

fn taken(generation: &GenerationId, nonce: String, mut answer: Answer) -> Result<Claim> {
    let broken = || Error::Corrupt(format!("the state of {generation}"));
    let epoch = answer.number().ok_or_else(broken)?;
    let tail = answer.number().ok_or_else(broken)?;
    let attempt = answer.number().ok_or_else(broken)?;
    let attempts_without_progress = answer.number().ok_or_else(broken)?;
    let stalled_ms = answer.number().ok_or_else(broken)?;
    let cancel = answer.number().map(Time);
    let user = keys::long_user(&answer.word()).ok_or_else(broken)?;
    let message = record::message(&generation.conversation(), &answer.word(), &answer.word())?;
    let lease = Lease::new(generation.clone(), epoch, nonce);
    Ok(Claim { lease, user, message, tail, attempt, attempts_without_progress, stalled_ms, cancel })
}
