//! `Generations` on Redis: what may be done with a log, each as one script on the log's own slot.
//! It must not know how work is found or requests are told apart; see `claim` and `submit`.

use async_trait::async_trait;
use fred::types::Value;

use super::Redis;
use super::entry;
use super::keys;
use super::record;
use super::steps::{Answer, Step};
use super::store::described;
use crate::backend::limits::{Limits, Used};
use crate::backend::{Cancel, Claim, Error, Generations, Lease, LogPage, Phase, Renewed, Result, Submission, Submitted};
use crate::log::{Entry, Outcome};
use crate::model::{GenerationId, Message, Position, Status, Time};

/// What an entry weighs beside its text, as [`Entry::weight`] counts a delta.
const ENTRY_WEIGHT: usize = 32;

#[async_trait]
impl Generations for Redis {
    async fn submit(&self, submission: &Submission) -> Result<Submitted> {
        Box::pin(self.submit_once(submission)).await
    }

    async fn claim(&self, _worker: &str, models: &[String]) -> Result<Option<Claim>> {
        self.claim_oldest(models).await
    }

    async fn claim_this(&self, _worker: &str, model: &str, generation: &GenerationId) -> Result<Option<Claim>> {
        self.claim_named(model, generation).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed> {
        let args: Vec<Value> =
            vec![lease.nonce().into(), lease.epoch().to_string().into(), self.retention.running.as_millis().to_string().into()];
        let mut answer = self.on_log(&self.link.steps.renew, lease.generation(), args).await?;
        let renewed = written(&mut answer)?;
        let model = answer.word();
        // Only spares claimers a look: an entry that comes up too early is found busy.
        if let Err(error) = self.settle(&model, lease.generation(), self.lease_millis()).await {
            tracing::debug!(%error, "the queue was not told of a renewal");
        }
        Ok(renewed)
    }

    async fn append(&self, lease: &Lease, previous: Position, entries: &[Entry]) -> Result<Renewed> {
        let progress = entries.iter().any(|entry| matches!(entry, Entry::Delta(_)));
        let mut args: Vec<Value> = Vec::with_capacity(4 + 2 * entries.len());
        args.push(lease.nonce().into());
        args.push(lease.epoch().to_string().into());
        args.push(previous.to_string().into());
        args.push(if progress { "1" } else { "0" }.into());
        for one in entries {
            let (head, body) = entry::encode(one);
            args.push(head.to_string().into());
            args.push(body.into());
        }
        written(&mut self.on_log(&self.link.steps.append, lease.generation(), args).await?)
    }

    async fn finish(&self, lease: &Lease, previous: Position, outcome: &Outcome, message: &Message) -> Result<()> {
        let generation = lease.generation();
        let (head, body) = entry::encode(&Entry::Fin(outcome.clone()));
        let args: Vec<Value> = vec![
            keys::short_generation(generation).into(),
            lease.nonce().into(),
            lease.epoch().to_string().into(),
            previous.to_string().into(),
            head.to_string().into(),
            body.into(),
            record::status_letter(outcome.status).into(),
            record::written(message).into(),
            self.retention.ended.as_millis().to_string().into(),
        ];
        let mut answer = self.on_generation(&self.link.steps.finish, generation, args).await?;
        written(&mut answer)?;
        Box::pin(self.clear_up(&mut answer, generation, Used::of(outcome.usage, outcome.status))).await;
        Ok(())
    }

    async fn cancel(&self, generation: &GenerationId) -> Result<Cancel> {
        let outcome = never_begun();
        let (head, body) = entry::encode(&Entry::Fin(outcome));
        let args: Vec<Value> = vec![
            keys::short_generation(generation).into(),
            head.to_string().into(),
            body.into(),
            self.retention.ended.as_millis().to_string().into(),
            self.lease_ms().into(),
        ];
        let mut answer = self.on_generation(&self.link.steps.cancel, generation, args).await?;
        match answer.word().as_str() {
            "ASKED" => Ok(Cancel::Requested),
            "NOW" => {
                Box::pin(self.clear_up(&mut answer, generation, Used::NOTHING)).await;
                Ok(Cancel::Ended)
            }
            "ENDED" => Ok(Cancel::AlreadyEnded(record::status_of(&answer.word())?)),
            _ => Err(Error::NotFound),
        }
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let args: Vec<Value> = vec![lease.nonce().into(), lease.epoch().to_string().into()];
        let mut answer = self.on_log(&self.link.steps.release, lease.generation(), args).await?;
        let word = answer.word();
        told(&word, &mut answer)?;
        let (model, place) = (answer.word(), answer.word());
        self.enqueue(&model, lease.generation(), &place, true).await
    }

    async fn read(&self, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage> {
        let args: Vec<Value> = vec![
            after.to_string().into(),
            weight_max.to_string().into(),
            ENTRY_WEIGHT.to_string().into(),
            self.lease_ms().into(),
        ];
        let mut answer = self.on_log(&self.link.steps.read, generation, args).await?;
        if answer.word() != "OK" {
            // Whoever reads what the message says instead must not find it open for ever.
            self.open_generations(&generation.conversation()).await?;
            return Err(Error::Gone);
        }
        let stage = answer.word();
        let tail: Position = answer.number().ok_or_else(|| Error::Corrupt(format!("the state of {generation}")))?;
        let (model, place) = (answer.word(), answer.word());
        let entries = page_of(answer.list(), after, weight_max)?;
        let phase = match stage.as_str() {
            "q" => Phase::Queued { ahead: self.ahead(&model, generation, &place).await? },
            "r" => Phase::Running,
            "f" => Phase::Ended,
            _ => {
                self.enqueue(&model, generation, &place, false).await?;
                Phase::Orphaned
            }
        };
        Ok(LogPage { entries, tail, phase })
    }
}

impl Redis {
    async fn on_log(&self, step: &Step, generation: &GenerationId, args: Vec<Value>) -> Result<Answer> {
        let keys = self.log_keys(generation).to_vec();
        self.link.run(step, keys, args).await
    }

    /// After an end: out of the queue and of the rooms that it was counted in, and up in the user's list. What is left in a queue is
    /// dropped when it comes up, what is left in a room when that is full, and a place in the list is mended when it is looked at,
    /// so an error changes nothing.
    async fn clear_up(&self, answer: &mut Answer, generation: &GenerationId, used: Used) {
        let model = answer.word();
        let id = generation.conversation();
        let listed = async {
            match described(&id, answer.list())? {
                Some((user, conversation)) => match keys::long_user(&user) {
                    Some(user) => self.place(&user, &conversation).await,
                    None => Ok(()),
                },
                None => Ok(()),
            }
        };
        let queued = self.drop_work(&model, keys::work_member(generation));
        if let Err(error) = tokio::try_join!(queued, listed, self.end(generation, used)) {
            tracing::debug!(%error, %generation, "queue, list and limits were not told of an end");
        }
    }

    fn lease_millis(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The end of what nobody ever began.
fn never_begun() -> Outcome {
    Outcome {
        status: Status::Cancelled,
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        length: 0,
        crc32: crc32fast::hash(b""),
    }
}

/// Whether a script wrote, and whether a cancel was asked.
fn written(answer: &mut Answer) -> Result<Renewed> {
    let word = answer.word();
    told(&word, answer)?;
    if word == "DONE" {
        return Ok(Renewed { cancel: None });
    }
    Ok(Renewed { cancel: answer.number().map(Time) })
}

fn told(word: &str, answer: &mut Answer) -> Result<()> {
    match word {
        "OK" | "DUP" | "DONE" => Ok(()),
        "TAIL" => match answer.number() {
            Some(tail) => Err(Error::OutOfOrder { tail }),
            None => Err(Error::Corrupt("a log's tail".to_owned())),
        },
        "FENCED" | "FINAL" => Err(Error::Fenced),
        "GONE" => Err(Error::Gone),
        _ => Err(Error::Corrupt("a script answered something unknown".to_owned())),
    }
}

/// The entries after a position: of a block those alone, and of one that is heavier than a page as many as fit.
fn page_of(list: Answer, after: Position, weight_max: usize) -> Result<Vec<(Position, Entry)>> {
    let (mut entries, mut weight) = (Vec::new(), 0_usize);
    for mut item in list.lists() {
        let position: Position = item.number().ok_or_else(|| Error::Corrupt("an entry's position".to_owned()))?;
        let fields: Option<Vec<String>> = item.list().texts().into_iter().collect();
        let fields = fields.ok_or_else(|| Error::Corrupt(format!("log entry {position} is not text")))?;
        for (position, entry) in entry::decode(position, &fields)? {
            if position <= after {
                continue;
            }
            weight = weight.saturating_add(entry.weight());
            if !entries.is_empty() && weight > weight_max {
                return Ok(entries);
            }
            entries.push((position, entry));
        }
    }
    Ok(entries)
}
