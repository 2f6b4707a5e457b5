//! `Limits` on Redis, by the server's clock, so that all nodes count as one. Everything is in one slot: a key for each bucket that
//! isn't full, a set of the answers in each room, what each budget has cost, and for each room of people how many each holder let in.
//!
//! An answer leaves its rooms after its end has been written. Who dies between the two leaves it behind, and so does who dies before
//! he stored what he had counted. So where a room is full, those who have been there for a while are looked at.

use std::sync::Weak;
use std::time::Duration;

use async_trait::async_trait;
use fred::interfaces::HashesInterface;
use fred::types::Value;

use super::Redis;
use super::keys::{self, Key};
use super::steps::Answer;
use crate::backend::limits::{
    ANSWER_EXPIRY, Bucket, Budget, COUNT_MAX, HOLDER_EXPIRY, Limits, Opening, Party, ROOM_EXPIRY, Refused, Room, SPENT_EXPIRY,
    Spent, UNSTORED_MS, Used,
};
use crate::backend::{Error, Result, Store};
use crate::model::GenerationId;

/// Answers of a full room that are looked at, the oldest first.
const LOOKS_MAX: u32 = 32;

#[async_trait]
impl Limits for Redis {
    async fn take(&self, buckets: &[Bucket]) -> Result<Option<Refused>> {
        let keys = buckets.iter().map(|bucket| self.link.keys.key(&Key::Bucket(&bucket.name))).collect();
        refused(self.link.run(&self.link.steps.bucket, keys, rates(buckets).collect()).await?)
    }

    async fn begin(&self, opening: &Opening) -> Result<Option<Refused>> {
        // Those for whom something of a budget is reserved are in a room as well: one that is never full.
        let mut rooms = opening.rooms.clone();
        rooms.extend(opening.cost.iter().map(|cost| payers(&cost.budget)));
        let refused = self.begin_once(opening, &opening.buckets, &rooms).await?;
        let narrow = match refused {
            Some(Refused::Full { room }) => rooms.get(room),
            Some(Refused::Spent { .. }) => rooms.last(),
            _ => None,
        };
        match narrow {
            // The buckets have given already.
            Some(room) if self.look_around(room).await? > 0 => self.begin_once(opening, &[], &rooms).await,
            _ => Ok(refused),
        }
    }

    async fn end(&self, generation: &GenerationId, used: Used) -> Result<()> {
        let key = self.link.keys.key(&Key::Counted(generation));
        let used = match used {
            Used::So(used) => used.min(COUNT_MAX).to_string(),
            Used::Reserved => String::new(),
        };
        let args: Vec<Value> = vec![keys::work_member(generation).into(), used.into()];
        self.link.run(&self.link.steps.end, vec![key], args).await.map(|_| ())
    }

    async fn spent(&self, budget: &Budget) -> Result<Spent> {
        let key = self.link.keys.key(&Key::Spent(&budget.name, budget.period));
        let counts: Vec<Option<u64>> =
            self.link.redis()?.hmget(key, vec!["u", "r"]).await.map_err(|error| self.link.fail(&error))?;
        let count = |index: usize| counts.get(index).copied().flatten().unwrap_or_default();
        Ok(Spent { used: count(0), reserved: count(1) })
    }

    async fn alive(&self, holder: &str, gone: bool) -> Result<bool> {
        let args: Vec<Value> = vec![holder.into(), ms(HOLDER_EXPIRY).into(), if gone { "1" } else { "0" }.into()];
        let mut answer = self.link.run(&self.link.steps.alive, vec![self.link.keys.key(&Key::Holders)], args).await?;
        Ok(answer.word() == "1")
    }

    async fn enter(&self, holder: &str, parties: &[Party]) -> Result<Vec<Option<usize>>> {
        let mut keys = vec![self.link.keys.key(&Key::Holders)];
        let mut args: Vec<Value> = vec![holder.into(), ms(ROOM_EXPIRY).into()];
        for party in parties {
            args.push(party.people.to_string().into());
            args.push(party.rooms.len().to_string().into());
            for room in &party.rooms {
                let key = self.link.keys.key(&Key::Crowd(&room.name));
                // The first key is that of the holders.
                let place = keys.iter().skip(1).position(|known| *known == key).unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 2
                });
                args.push(place.to_string().into());
                args.push(room.most.to_string().into());
            }
        }
        let answers = self.link.run(&self.link.steps.enter, keys, args).await?.texts();
        if answers.len() != parties.len() {
            return Err(unreadable());
        }
        Ok(answers.into_iter().map(|full| full.and_then(|full| full.parse().ok())).collect())
    }

    async fn leave(&self, holder: &str, rooms: &[(String, u32)]) -> Result<()> {
        let keys = rooms.iter().map(|(room, _)| self.link.keys.key(&Key::Crowd(room))).collect();
        let mut args: Vec<Value> = vec![holder.into(), ms(ROOM_EXPIRY).into()];
        args.extend(rooms.iter().map(|(_, people)| Value::from(people.to_string())));
        self.link.run(&self.link.steps.leave, keys, args).await.map(|_| ())
    }
}

impl Redis {
    async fn begin_once(&self, opening: &Opening, buckets: &[Bucket], rooms: &[Room]) -> Result<Option<Refused>> {
        let mut keys = vec![self.link.keys.key(&Key::Counted(&opening.generation))];
        keys.extend(buckets.iter().map(|bucket| self.link.keys.key(&Key::Bucket(&bucket.name))));
        keys.extend(rooms.iter().map(|room| self.link.keys.key(&Key::Room(&room.name))));
        let (mut amount, mut most) = (String::new(), String::new());
        if let Some(cost) = &opening.cost {
            (amount, most) = (cost.amount.min(COUNT_MAX).to_string(), cost.most.min(COUNT_MAX).to_string());
            keys.push(self.link.keys.key(&Key::Spent(&cost.budget.name, cost.budget.period)));
        }
        let mut args: Vec<Value> =
            vec![keys::work_member(&opening.generation).into(), buckets.len().to_string().into(), ms(ANSWER_EXPIRY).into()];
        args.extend([amount, most, ms(SPENT_EXPIRY)].map(Value::from));
        args.extend(rates(buckets));
        args.extend(rooms.iter().map(|room| Value::from(room.most.to_string())));
        refused(self.link.run(&self.link.steps.begin, keys, args).await?)
    }

    /// Lets those answers out of a room that ended, or never were; tells how many.
    async fn look_around(&self, room: &Room) -> Result<usize> {
        let inside = self.older_than(self.link.keys.key(&Key::Room(&room.name)), UNSTORED_MS, LOOKS_MAX).await?;
        let looks = inside.iter().filter_map(|(member, _)| keys::from_work_member(member)).map(|generation| async move {
            let stage = self.link.redis()?.hget(self.link.keys.key(&Key::State(&generation)), "s").await;
            let stage: Option<String> = stage.map_err(|error| self.link.fail(&error))?;
            let is_over = stage.is_none_or(|stage| stage == "f");
            if is_over {
                let id = generation.message();
                let message = match (self.message(&id).await, self.older.get().and_then(Weak::upgrade)) {
                    (Err(Error::NotFound), Some(older)) => older.message(&id).await,
                    (found, _) => found,
                };
                let used = match message {
                    Ok(message) => Used::of(message.usage, message.status),
                    Err(Error::NotFound) => Used::NOTHING,
                    Err(error) => return Err(error),
                };
                self.end(&generation, used).await?;
            }
            Ok::<_, Error>(usize::from(is_over))
        });
        Ok(futures_util::future::try_join_all(looks).await?.into_iter().sum())
    }
}

/// Where answers are looked for for which something of this budget is reserved.
fn payers(budget: &Budget) -> Room {
    Room { name: format!("{}@{}", budget.name, budget.period), most: u32::MAX }
}

fn rates(buckets: &[Bucket]) -> impl Iterator<Item = Value> + '_ {
    let numbers = |bucket: &Bucket| [bucket.rate.every_ms().to_string(), bucket.rate.burst.max(1).to_string()];
    buckets.iter().flat_map(numbers).map(Value::from)
}

fn refused(mut answer: Answer) -> Result<Option<Refused>> {
    match answer.word().as_str() {
        "OK" => Ok(None),
        "EMPTY" => {
            let (bucket, wait) = (answer.number(), answer.number());
            let (bucket, wait) = bucket.zip(wait).ok_or_else(unreadable)?;
            Ok(Some(Refused::Empty { bucket, wait: Duration::from_millis(wait) }))
        }
        "SPENT" => Ok(Some(Refused::Spent { left: answer.number().ok_or_else(unreadable)? })),
        "FULL" => Ok(Some(Refused::Full { room: answer.number().ok_or_else(unreadable)? })),
        _ => Err(unreadable()),
    }
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn unreadable() -> Error {
    Error::Corrupt("what a limit answered".to_owned())
}
