//! `Generations` on the database: who owns which log, and until when. The logs themselves are `entries`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::database::Database;
use super::record::{self, signed, status_code, status_of, unsigned};
use super::{entries, limits, store, submit, tree};
use crate::backend::limits::Used;
use crate::backend::{Cancel, Claim, Error, Generations, Lease, LogPage, Renewed, Result, Submission, Submitted};
use crate::log::{Entry, Outcome};
use crate::model::{GenerationId, Message, Position, Status, Time};

#[derive(Debug)]
pub(super) struct SqliteGenerations {
    database: Arc<Database>,
    lease: Duration,
    /// No lease ends before this time (milliseconds since 1970), so that most claims need not look at running ones.
    /// Leases only get longer, so it stays true until the next look; every new lease lowers it to its own end.
    no_end_before: Arc<AtomicU64>,
}

impl SqliteGenerations {
    pub(super) fn new(database: Arc<Database>, lease: Duration) -> Self {
        Self { database, lease, no_end_before: Arc::default() }
    }

    fn lease_end(&self) -> Time {
        lease_end(self.lease)
    }
}

#[async_trait]
impl Generations for SqliteGenerations {
    async fn submit(&self, submission: &Submission) -> Result<Submitted> {
        let submission = submission.clone();
        self.database.write(move |db| submit::submit(db, &submission)).await
    }

    async fn claim(&self, worker: &str, models: &[String]) -> Result<Option<Claim>> {
        let (worker, models, lease, bound) = (worker.to_owned(), models.to_vec(), self.lease, self.no_end_before.clone());
        self.database.write(move |db| claim(db, &worker, &models, lease, &bound)).await
    }

    async fn claim_this(&self, worker: &str, model: &str, generation: &GenerationId) -> Result<Option<Claim>> {
        let (worker, model, generation) = (worker.to_owned(), model.to_owned(), generation.clone());
        let (lease, bound) = (self.lease, self.no_end_before.clone());
        self.database.write(move |db| claim_this(db, &worker, &model, &generation, lease, &bound)).await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed> {
        let (key, until) = (Key::of(lease), self.lease_end());
        self.database.write(move |db| renew(db, &key, until)).await
    }

    async fn append(&self, lease: &Lease, previous: Position, entries: &[Entry]) -> Result<Renewed> {
        let (key, until) = (Key::of(lease), self.lease_end());
        let addition = entries::Addition::new(lease, previous, entries);
        self.database.write(move |db| entries::append(db, &key, &addition, until)).await
    }

    async fn finish(&self, lease: &Lease, previous: Position, outcome: &Outcome, message: &Message) -> Result<()> {
        let (key, outcome, message) = (Key::of(lease), outcome.clone(), message.clone());
        self.database.write(move |db| entries::finish(db, &key, previous, &outcome, &message)).await
    }

    async fn cancel(&self, generation: &GenerationId) -> Result<Cancel> {
        let generation = generation.clone();
        self.database.write(move |db| cancel(db, &generation)).await
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let key = Key::of(lease);
        self.database.write(move |db| release(db, &key)).await
    }

    async fn read(&self, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage> {
        let generation = generation.clone();
        self.database.read(move |db| entries::read(db, &generation, after, weight_max)).await
    }
}

/// What a lease says, to be taken to the writer.
pub(super) struct Key {
    pub(super) generation: GenerationId,
    pub(super) epoch: u64,
    nonce: String,
}

impl Key {
    fn of(lease: &Lease) -> Self {
        Self { generation: lease.generation().clone(), epoch: lease.epoch(), nonce: lease.nonce().to_owned() }
    }

    /// Whoever claims later has a higher epoch, and whoever gave the lease back has no nonce.
    pub(super) fn opens(&self, state: &State) -> bool {
        self.epoch == state.epoch && self.nonce == state.nonce
    }
}

/// One row of `generations`: everything that decides about a write.
pub(super) struct State {
    pub(super) n: i64,
    pub(super) conversation: i64,
    pub(super) message: i64,
    pub(super) ended: bool,
    pub(super) status: Status,
    pub(super) cancel: Option<Time>,
    pub(super) epoch: u64,
    pub(super) tail: Position,
    leased: bool,
    nonce: String,
}

/// `Gone` when there is no such log (any more).
pub(super) fn state(db: &Connection, generation: &GenerationId) -> Result<State> {
    find(db, generation)?.filter(|(_, logged)| *logged).map(|(state, _)| state).ok_or(Error::Gone)
}

/// The state, and whether its log is kept.
pub(super) fn find(db: &Connection, generation: &GenerationId) -> Result<Option<(State, bool)>> {
    let sql = "SELECT n, conversation, message, ended, status, cancel, epoch, tail_epoch, tail_seq, leased, nonce, logged
        FROM generations WHERE id = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([generation.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let state = State {
        n: row.get(0)?,
        conversation: row.get(1)?,
        message: row.get(2)?,
        ended: row.get(3)?,
        status: status_of(row.get(4)?)?,
        cancel: asked(row.get(5)?),
        epoch: unsigned(row.get(6)?),
        tail: Position { epoch: unsigned(row.get(7)?), seq: unsigned(row.get(8)?) },
        leased: row.get(9)?,
        nonce: row.get(10)?,
    };
    Ok(Some((state, row.get(11)?)))
}

/// The state of a generation that this lease owns.
pub(super) fn owned(db: &Connection, key: &Key) -> Result<State> {
    let state = state(db, &key.generation)?;
    if state.ended || !key.opens(&state) { Err(Error::Fenced) } else { Ok(state) }
}

/// How many generations have no owner at this time, for each model that has any.
pub(super) fn waiting(db: &Connection, now: Time) -> Result<Vec<(String, u64)>> {
    let sql = "SELECT model, count(*) FROM generations
        WHERE ended = 0 AND (leased = 0 OR lease_until <= ?1) GROUP BY model ORDER BY model";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([signed(now.0)], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The one way to end a generation, for owners and for everybody else: the terminal entry at `position`, the message,
/// and no lease for anybody.
pub(super) fn end(db: &Connection, state: &State, position: Position, outcome: &Outcome) -> Result<()> {
    entries::insert(db, state.n, position, &record::encode(&Entry::Fin(outcome.clone())))?;
    let sql = "UPDATE generations SET ended = 1, ended_at = ?2, leased = 0, status = ?3, tail_epoch = ?4, tail_seq = ?5
        WHERE n = ?1";
    let now = Time::now();
    db.prepare_cached(sql)?.execute(params![
        state.n,
        signed(now.0),
        status_code(outcome.status),
        signed(position.epoch),
        signed(position.seq)
    ])?;
    db.prepare_cached("UPDATE messages SET status = ?2 WHERE n = ?1")?.execute([state.message, status_code(outcome.status)])?;
    let id: String = db.prepare_cached("SELECT id FROM generations WHERE n = ?1")?.query_row([state.n], |row| row.get(0))?;
    // What nobody ever began cost nothing.
    let used = if state.epoch == 0 { Used::NOTHING } else { Used::of(outcome.usage, outcome.status) };
    limits::end(db, &id, used)?;
    store::touch(db, state.conversation, now)
}

/// The end of an answer that nobody owns: a new epoch, which fences whoever owned it.
pub(super) fn end_unowned(db: &Connection, state: &State, outcome: &Outcome) -> Result<()> {
    let position = Position { epoch: next_epoch(state.epoch), seq: 0 };
    let sql = "UPDATE generations SET epoch = ?2, nonce = '' WHERE n = ?1";
    db.prepare_cached(sql)?.execute([state.n, signed(position.epoch)])?;
    end(db, state, position, outcome)
}

fn next_epoch(epoch: u64) -> u64 {
    Time::now().0.max(epoch + 1)
}

fn lease_end(lease: Duration) -> Time {
    let length = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
    Time(Time::now().0.saturating_add(length))
}

fn claim(db: &Connection, worker: &str, models: &[String], lease: Duration, bound: &AtomicU64) -> Result<Option<Claim>> {
    let now = Time::now();
    let mut oldest: Option<i64> = None;
    for model in models {
        let sql = "SELECT min(n) FROM generations WHERE ended = 0 AND leased = 0 AND model = ?1";
        let n: Option<i64> = db.prepare_cached(sql)?.query_row([model], |row| row.get(0))?;
        oldest = [oldest, n].into_iter().flatten().min();
    }
    if bound.load(Ordering::Relaxed) <= now.0 {
        let lost = lost(db, models, now, bound)?;
        oldest = [oldest, lost].into_iter().flatten().min();
    }
    oldest.map(|n| take(db, n, worker, now, lease, bound)).transpose()
}

fn claim_this(
    db: &Connection,
    worker: &str,
    model: &str,
    generation: &GenerationId,
    lease: Duration,
    bound: &AtomicU64,
) -> Result<Option<Claim>> {
    let now = Time::now();
    let sql = "SELECT n FROM generations WHERE id = ?1 AND model = ?2 AND ended = 0 AND (leased = 0 OR lease_until <= ?3)";
    let mut statement = db.prepare_cached(sql)?;
    let free: Option<i64> =
        statement.query_row(params![generation.to_string(), model, signed(now.0)], |row| row.get(0)).optional()?;
    free.map(|n| take(db, n, worker, now, lease, bound)).transpose()
}

/// The oldest generation whose owner let its lease run out. Learns until when none of the others can.
fn lost(db: &Connection, models: &[String], now: Time, bound: &AtomicU64) -> Result<Option<i64>> {
    let sql = "SELECT n, model, lease_until FROM generations WHERE ended = 0 AND leased = 1 ORDER BY n";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let (mut oldest, mut first_end) = (None, u64::MAX);
    while let Some(row) = rows.next()? {
        let until = unsigned(row.get(2)?);
        first_end = first_end.min(until);
        let model = row.get_ref(1)?.as_str().map_err(|_| Error::Corrupt("a model's name is not text".into()))?;
        if until <= now.0 && oldest.is_none() && models.iter().any(|wanted| wanted == model) {
            oldest = Some(row.get(0)?);
        }
    }
    bound.store(first_end, Ordering::Relaxed);
    Ok(oldest)
}

fn take(db: &Connection, n: i64, worker: &str, now: Time, lease: Duration, bound: &AtomicU64) -> Result<Claim> {
    let until = lease_end(lease);
    bound.fetch_min(until.0, Ordering::Relaxed);
    let sql = "SELECT g.id, c.user, g.message, g.tail_epoch, g.tail_seq, g.epoch, g.leased, g.attempts, g.dry_attempts,
            g.progress_at, g.cancel
        FROM generations g JOIN conversations c ON c.n = g.conversation WHERE g.n = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([n])?;
    let row = rows.next()?.ok_or_else(|| Error::Corrupt("a generation has no conversation".into()))?;
    let (attempts, dry_attempts): (u32, u32) = (row.get(7)?, row.get(8)?);
    let before = unsigned(row.get(5)?);
    // A first owner and one after a lost lease count; a lease that was given back is nobody's failure.
    let counts = before == 0 || row.get(6)?;
    let (attempt, dry) = if counts { (attempts + 1, dry_attempts + 1) } else { (attempts, dry_attempts.max(1)) };
    let epoch = next_epoch(before);
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let message: i64 = row.get(2)?;
    if before == 0 {
        let sql = "UPDATE messages SET status = ?2 WHERE n = ?1";
        db.prepare_cached(sql)?.execute([message, status_code(Status::Running)])?;
    }
    let sql = "UPDATE generations SET leased = 1, lease_until = ?2, epoch = ?3, nonce = ?4, worker = ?5, status = ?6,
        attempts = ?7, dry_attempts = ?8 WHERE n = ?1";
    let status = status_code(Status::Running);
    db.prepare_cached(sql)?.execute(params![n, signed(until.0), signed(epoch), nonce, worker, status, attempt, dry])?;
    Ok(Claim {
        lease: Lease::new(record::parsed(row, 0)?, epoch, nonce),
        user: record::parsed(row, 1)?,
        message: tree::get(db, message)?.message,
        tail: Position { epoch: unsigned(row.get(3)?), seq: unsigned(row.get(4)?) },
        attempt,
        attempts_without_progress: dry,
        stalled_ms: now.since_ms(Time(unsigned(row.get(9)?))),
        cancel: asked(row.get(10)?),
    })
}

fn renew(db: &Connection, key: &Key, until: Time) -> Result<Renewed> {
    let state = owned(db, key)?;
    db.prepare_cached("UPDATE generations SET lease_until = ?2 WHERE n = ?1")?.execute([state.n, signed(until.0)])?;
    Ok(Renewed { cancel: state.cancel })
}

/// Without a nonce nobody owns it, the one who gave it back included.
fn release(db: &Connection, key: &Key) -> Result<()> {
    let state = owned(db, key)?;
    let sql = "UPDATE generations SET leased = 0, lease_until = 0, nonce = '' WHERE n = ?1";
    db.prepare_cached(sql)?.execute([state.n])?;
    Ok(())
}

fn cancel(db: &Connection, generation: &GenerationId) -> Result<Cancel> {
    let (state, _) = find(db, generation)?.ok_or(Error::NotFound)?;
    if state.ended {
        return Ok(Cancel::AlreadyEnded(state.status));
    }
    if state.epoch == 0 && !state.leased {
        let outcome = Outcome {
            status: Status::Cancelled,
            finish_reason: None,
            usage: None,
            timing: None,
            error: None,
            length: 0,
            crc32: 0,
        };
        end_unowned(db, &state, &outcome)?;
        return Ok(Cancel::Ended);
    }
    let sql = "UPDATE generations SET cancel = ?2 WHERE n = ?1 AND cancel = 0";
    db.prepare_cached(sql)?.execute([state.n, signed(Time::now().0)])?;
    Ok(Cancel::Requested)
}

/// When a cancel was asked, as it is stored: 0 when it was not.
fn asked(at: i64) -> Option<Time> {
    (at != 0).then(|| Time(unsigned(at)))
}

/// The number of a generation's place in the queue of its model: how many wait before it.
pub(super) fn ahead(db: &Connection, n: i64, now: Time) -> Result<u32> {
    let sql = "SELECT count(*) FROM generations WHERE ended = 0 AND (leased = 0 OR lease_until <= ?2) AND n < ?1
        AND model = (SELECT model FROM generations WHERE n = ?1)";
    let ahead: i64 = db.prepare_cached(sql)?.query_row([n, signed(now.0)], |row| row.get(0))?;
    Ok(u32::try_from(ahead).unwrap_or(u32::MAX))
}

/// Until when it is owned: `None` when it waits for an owner.
pub(super) fn leased_until(db: &Connection, n: i64) -> Result<Option<Time>> {
    let sql = "SELECT lease_until FROM generations WHERE n = ?1 AND leased = 1";
    let until: Option<i64> = db.prepare_cached(sql)?.query_row([n], |row| row.get(0)).optional()?;
    Ok(until.map(|until| Time(unsigned(until))))
}
