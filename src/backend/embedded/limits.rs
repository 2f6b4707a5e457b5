//! `Limits` of one process. Buckets and people are kept in memory: after a restart every bucket is full, and nobody is in. Answers are
//! kept in the database, as they go on after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, params};
use tokio::time::Instant;

use super::database::Database;
use super::record::signed;
use crate::backend::limits::{ANSWER_EXPIRY, Bucket, HOLDER_EXPIRY, Limits, Opening, Party, Refused, Room};
use crate::backend::{Error, Result};
use crate::model::{GenerationId, Time};

/// Buckets that are remembered at once. One that is full again is forgotten, so only a flood of new names comes here.
const BUCKETS_MAX: usize = 100_000;
/// How long an answer may be in a room before it is stored, in milliseconds.
const UNSTORED_MS: u64 = 5_000;

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
        if opening.rooms.is_empty() {
            return Ok(None);
        }
        let (generation, rooms) = (opening.generation.clone(), opening.rooms.clone());
        self.database.write(move |db| begin(db, &generation, &rooms)).await
    }

    async fn end(&self, generation: &GenerationId) -> Result<()> {
        let generation = generation.clone();
        self.database.write(move |db| end(db, generation.as_str())).await
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
    let sql = "SELECT EXISTS (SELECT 1 FROM rooms WHERE generation = ?1)";
    Ok(db.prepare_cached(sql)?.query_row([generation.as_str()], |row| row.get(0))?)
}

fn begin(db: &Connection, generation: &GenerationId, rooms: &[Room]) -> Result<Option<Refused>> {
    if is_inside(db, generation)? {
        return Ok(None);
    }
    let now = Time::now().0;
    for (index, room) in rooms.iter().enumerate() {
        if inside(db, room)? >= room.most {
            look_around(db, room, now)?;
            if inside(db, room)? >= room.most {
                return Ok(Some(Refused::Full { room: index }));
            }
        }
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

/// Lets those answers out that never were: their submission failed, or their process died before it.
fn look_around(db: &Connection, room: &Room, now: u64) -> Result<()> {
    let sql = "DELETE FROM rooms WHERE generation IN (SELECT r.generation FROM rooms r WHERE r.room = ?1
        AND (r.at < ?3 OR r.at < ?2 AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.id = r.generation AND g.ended = 0)))";
    let expired = u64::try_from(ANSWER_EXPIRY.as_millis()).unwrap_or(u64::MAX);
    let (unstored, expired) = (now.saturating_sub(UNSTORED_MS), now.saturating_sub(expired));
    db.prepare_cached(sql)?.execute(params![room.name, signed(unstored), signed(expired)])?;
    Ok(())
}

/// Part of every end of a generation.
pub(super) fn end(db: &Connection, generation: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM rooms WHERE generation = ?1")?.execute([generation])?;
    Ok(())
}
