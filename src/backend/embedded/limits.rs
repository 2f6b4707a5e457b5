//! `Limits` of one process. Buckets and people are kept in memory: after a restart every bucket is full, and nobody is in. Answers are
//! kept in the database, as they go on after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::time::Instant;

use super::database::Database;
use super::record::{self, signed, unsigned};
use super::tree;
use crate::backend::limits::{
    ANSWER_EXPIRY, Bucket, Budget, COUNT_MAX, Cost, HOLDER_EXPIRY, Limits, Opening, Party, Refused, Room, SPENT_EXPIRY, Spent,
    UNSTORED_MS, Used,
};
use crate::backend::{Error, Result};
use crate::model::{GenerationId, Time};

/// Buckets that are remembered at once. One that is full again is forgotten, so only a flood of new names comes here.
const BUCKETS_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) struct Local {
    database: Arc<Database>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// When each bucket is full again, in milliseconds.
    buckets: HashMap<String, u64>,
    /// Until when each holder lives.
    holders: HashMap<String, Instant>,
    /// How many each holder let into each room.
    crowds: HashMap<String, HashMap<String, u32>>,
}

impl Local {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Limits for Local {
    async fn take(&self, buckets: &[Bucket]) -> Result<Option<Refused>> {
        self.memory().take(buckets)
    }

    async fn begin(&self, opening: &Opening) -> Result<Option<Refused>> {
        if let Some(refused) = self.memory().take(&opening.buckets)? {
            return Ok(Some(refused));
        }
        if opening.rooms.is_empty() && opening.cost.is_none() {
            return Ok(None);
        }
        let opening = opening.clone();
        self.database.write(move |db| begin(db, &opening)).await
    }

    async fn end(&self, generation: &GenerationId, used: Used) -> Result<()> {
        let generation = generation.clone();
        self.database.write(move |db| end(db, generation.as_str(), used)).await
    }

    async fn spent(&self, budget: &Budget) -> Result<Spent> {
        let budget = budget.clone();
        self.database.read(move |db| spent(db, &budget)).await
    }

    async fn alive(&self, holder: &str, gone: bool) -> Result<bool> {
        let (now, memory) = (Instant::now(), &mut *self.memory());
        memory.bury(now);
        if gone {
            let known = memory.holders.remove(holder).is_some();
            memory.clear();
            return Ok(known);
        }
        Ok(memory.holders.insert(holder.to_owned(), now + HOLDER_EXPIRY).is_some())
    }

    async fn enter(&self, holder: &str, parties: &[Party]) -> Result<Vec<Option<usize>>> {
        let memory = &mut *self.memory();
        memory.bury(Instant::now());
        Ok(parties.iter().map(|party| memory.enter(holder, party)).collect())
    }

    async fn leave(&self, holder: &str, rooms: &[(String, u32)]) -> Result<()> {
        let memory = &mut *self.memory();
        for (room, people) in rooms {
            let Some(crowd) = memory.crowds.get_mut(room) else { continue };
            if let Some(held) = crowd.get_mut(holder) {
                *held = held.saturating_sub(*people);
            }
            crowd.retain(|_, held| *held > 0);
            if crowd.is_empty() {
                memory.crowds.remove(room);
            }
        }
        Ok(())
    }
}

impl Memory {
    fn take(&mut self, buckets: &[Bucket]) -> Result<Option<Refused>> {
        let now = Time::now().0;
        let mut taken = Vec::with_capacity(buckets.len());
        for (index, bucket) in buckets.iter().enumerate() {
            let full_at = self.buckets.get(&bucket.name).copied().unwrap_or_default();
            match bucket.rate.take(full_at, now) {
                Ok(full_at) => taken.push(full_at),
                Err(wait) => return Ok(Some(Refused::Empty { bucket: index, wait: Duration::from_millis(wait) })),
            }
        }
        if self.buckets.len() + buckets.len() > BUCKETS_MAX {
            self.buckets.retain(|_, full_at| *full_at > now);
            if self.buckets.len() + buckets.len() > BUCKETS_MAX {
                return Err(Error::Full("too many are limited at once".into()));
            }
        }
        self.buckets.extend(buckets.iter().map(|bucket| bucket.name.clone()).zip(taken));
        Ok(None)
    }

    fn bury(&mut self, now: Instant) {
        let before = self.holders.len();
        self.holders.retain(|_, until| *until > now);
        // Seldom: who comes in must not wait for a look at everybody.
        if self.holders.len() < before {
            self.clear();
        }
    }

    /// Lets out whom nobody holds who lives.
    fn clear(&mut self) {
        let Self { holders, crowds, .. } = self;
        crowds.retain(|_, crowd| {
            crowd.retain(|holder, _| holders.contains_key(holder));
            !crowd.is_empty()
        });
    }

    fn enter(&mut self, holder: &str, party: &Party) -> Option<usize> {
        let inside = |room: &Room| self.crowds.get(&room.name).map_or(0, |crowd| crowd.values().sum::<u32>());
        let full = party.rooms.iter().position(|room| inside(room).saturating_add(party.people) > room.most);
        if full.is_none() {
            for room in &party.rooms {
                let crowd = self.crowds.entry(room.name.clone()).or_default();
                *crowd.entry(holder.to_owned()).or_default() += party.people;
            }
        }
        full
    }
}

fn is_inside(db: &Connection, generation: &GenerationId) -> Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM rooms WHERE generation = ?1) OR EXISTS (SELECT 1 FROM reserved WHERE generation = ?1)";
    Ok(db.prepare_cached(sql)?.query_row([generation.as_str()], |row| row.get(0))?)
}

fn begin(db: &Connection, opening: &Opening) -> Result<Option<Refused>> {
    let (generation, rooms) = (&opening.generation, &opening.rooms);
    if is_inside(db, generation)? {
        return Ok(None);
    }
    let now = Time::now().0;
    for (index, room) in rooms.iter().enumerate() {
        if inside(db, room)? >= room.most {
            look_around(db, "rooms", "room", &room.name, now)?;
            if inside(db, room)? >= room.most {
                return Ok(Some(Refused::Full { room: index }));
            }
        }
    }
    if let Some(cost) = &opening.cost {
        if left(db, cost)? < cost.amount {
            look_around(db, "reserved", "budget", &cost.budget.name, now)?;
        }
        let left = left(db, cost)?;
        if left < cost.amount {
            return Ok(Some(Refused::Spent { left }));
        }
        reserve(db, generation, cost, now)?;
    }
    for room in rooms {
        let sql = "INSERT INTO rooms (room, generation, at) VALUES (?1, ?2, ?3)";
        db.prepare_cached(sql)?.execute(params![room.name, generation.as_str(), signed(now)])?;
    }
    Ok(None)
}

fn inside(db: &Connection, room: &Room) -> Result<u32> {
    Ok(db.prepare_cached("SELECT count(*) FROM rooms WHERE room = ?1")?.query_row([&room.name], |row| row.get(0))?)
}

fn left(db: &Connection, cost: &Cost) -> Result<u64> {
    let Spent { used, reserved } = spent(db, &cost.budget)?;
    Ok(cost.most.saturating_sub(used).saturating_sub(reserved))
}

fn spent(db: &Connection, budget: &Budget) -> Result<Spent> {
    let (name, period) = (&budget.name, signed(budget.period));
    let used = "SELECT used FROM spent WHERE budget = ?1 AND period = ?2";
    let used: Option<i64> = db.prepare_cached(used)?.query_row(params![name, period], |row| row.get(0)).optional()?;
    let reserved = "SELECT coalesce(sum(amount), 0) FROM reserved WHERE budget = ?1 AND period = ?2";
    let reserved: i64 = db.prepare_cached(reserved)?.query_row(params![name, period], |row| row.get(0))?;
    Ok(Spent { used: unsigned(used.unwrap_or_default()), reserved: unsigned(reserved) })
}

fn reserve(db: &Connection, generation: &GenerationId, cost: &Cost, now: u64) -> Result<()> {
    let until = now.saturating_add(milliseconds(SPENT_EXPIRY));
    db.prepare_cached("DELETE FROM spent WHERE kept_until < ?1")?.execute([signed(now)])?;
    let sql = "INSERT INTO spent (budget, period, used, kept_until) VALUES (?1, ?2, 0, ?3)
        ON CONFLICT DO UPDATE SET kept_until = excluded.kept_until";
    db.prepare_cached(sql)?.execute(params![cost.budget.name, signed(cost.budget.period), signed(until)])?;
    let sql = "INSERT INTO reserved (generation, budget, period, amount, at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Budget { name, period } = &cost.budget;
    db.prepare_cached(sql)?.execute(params![
        generation.as_str(),
        name,
        signed(*period),
        signed(cost.amount.min(COUNT_MAX)),
        signed(now)
    ])?;
    Ok(())
}

/// Lets those answers out that are over: they came in after their end, or never were, as their submission failed or their process died
/// before it.
fn look_around(db: &Connection, table: &str, column: &str, name: &str, now: u64) -> Result<()> {
    let sql = format!(
        "SELECT r.generation FROM {table} r WHERE r.{column} = ?1
        AND (r.at < ?3 OR r.at < ?2 AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.id = r.generation AND g.ended = 0))"
    );
    let (unstored, expired) = (now.saturating_sub(UNSTORED_MS), now.saturating_sub(milliseconds(ANSWER_EXPIRY)));
    let mut statement = db.prepare_cached(&sql)?;
    let over = statement.query_map(params![name, signed(unstored), signed(expired)], |row| record::parsed(row, 0))?;
    let over: Vec<GenerationId> = over.collect::<rusqlite::Result<_>>()?;
    for generation in over {
        let used = match tree::find(db, &generation.message()) {
            Ok(found) => Used::of(found.message.usage, found.message.status),
            Err(Error::NotFound) => Used::NOTHING,
            Err(error) => return Err(error),
        };
        end(db, generation.as_str(), used)?;
    }
    Ok(())
}

/// Part of every end of a generation.
pub(super) fn end(db: &Connection, generation: &str, used: Used) -> Result<()> {
    db.prepare_cached("DELETE FROM rooms WHERE generation = ?1")?.execute([generation])?;
    let sql = "DELETE FROM reserved WHERE generation = ?1 RETURNING budget, period, amount";
    let reserved: Option<(String, i64, i64)> =
        db.prepare_cached(sql)?.query_row([generation], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((budget, period, amount)) = reserved else { return Ok(()) };
    let used = match used {
        Used::So(used) => signed(used.min(COUNT_MAX)),
        Used::Reserved => amount,
    };
    let sql = "UPDATE spent SET used = used + ?3 WHERE budget = ?1 AND period = ?2";
    db.prepare_cached(sql)?.execute(params![budget, period, used])?;
    Ok(())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
