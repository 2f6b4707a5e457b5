//! What time removes: logs that nobody can still want, and answers that nobody will ever give.

use std::sync::Weak;
use std::time::Duration;

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::record::signed;
use super::{Retention, entries, generations, search, tree};
use crate::backend::{Error, Result};
use crate::log::{Outcome, Transcript};
use crate::model::{Failure, GenerationId, Message, Status, Time};

/// Between two syncs of the log: what a power cut may take.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The same while much is written, so that the log has no time to grow long.
const BUSY_SYNC_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks whether something was written that is not indexed yet.
const INDEX_INTERVAL: Duration = Duration::from_secs(1);

/// Entries removed in one transaction, so that writers wait a few milliseconds at most.
const ENTRIES_PER_STEP: i64 = 2_000;

/// Generations looked at in one transaction.
const GENERATIONS_PER_STEP: i64 = 100;

/// Runs until the node stops or nobody uses the database any more.
pub(super) async fn run(database: Weak<Database>, retention: Retention, stopped: CancellationToken) {
    let mut swept = tokio::time::Instant::now();
    let mut pause = Duration::ZERO;
    loop {
        let stop = tokio::select! {
            () = tokio::time::sleep(pause) => false,
            () = stopped.cancelled() => true,
        };
        let Some(database) = database.upgrade() else { return };
        let busy = report("sync", database.sync().await).unwrap_or(false);
        pause = if busy { BUSY_SYNC_INTERVAL } else { SYNC_INTERVAL }.min(retention.interval);
        if stop {
            return;
        }
        probe(&database).await;
        if swept.elapsed() >= retention.interval {
            swept = tokio::time::Instant::now();
            report("sweep", sweep(&database, retention).await);
        }
    }
}

/// Brings the search index up to date behind the writes, until the node stops or nobody uses the database any more.
pub(super) async fn keep_indexed(database: Weak<Database>, stopped: CancellationToken) {
    let mut pause = INDEX_INTERVAL;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped.cancelled() => return,
        }
        let Some(database) = database.upgrade() else { return };
        pause = INDEX_INTERVAL;
        if report("index", database.read(search::is_behind).await) == Some(true) {
            let began = tokio::time::Instant::now();
            if report("index", database.write(search::catch_up).await) == Some(true) {
                // The writer is everybody's: half of the time is left to others.
                pause = began.elapsed().min(INDEX_INTERVAL);
            }
        }
    }
}

/// Removes everything that is due, in small steps.
pub(super) async fn sweep(database: &Database, retention: Retention) -> Result<()> {
    while !database.write(move |db| step(db, retention, Time::now())).await? {}
    Ok(())
}

/// The link is up again when something could be written; where nobody writes, somebody has to try.
async fn probe(database: &Database) {
    let down = !database.health().borrow().store.is_up();
    if down {
        let sql = "INSERT INTO secrets (name, value) VALUES ('probe', x'00') ON CONFLICT DO UPDATE SET value = x'00'";
        let tried = database.write(|db| Ok(db.execute(sql, []).map(|_| ())?)).await;
        report("probe", tried);
    }
}

fn report<T>(what: &'static str, result: Result<T>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(what, %error, "upkeep of the database failed")).ok()
}

/// One transaction's worth; true when nothing is left to do.
fn step(db: &Connection, retention: Retention, now: Time) -> Result<bool> {
    give_up(db, now.0.saturating_sub(milliseconds(retention.idle)), now)?;
    let sql = "SELECT n FROM generations WHERE ended = 1 AND logged = 1 AND ended_at <= ?1 ORDER BY ended_at LIMIT 1";
    let before = signed(now.0.saturating_sub(milliseconds(retention.ended)));
    let due: Option<i64> = rusqlite::OptionalExtension::optional(db.prepare_cached(sql)?.query_row([before], |row| row.get(0)))?;
    let Some(n) = due else { return Ok(true) };
    if entries::remove(db, n, ENTRIES_PER_STEP)? {
        db.prepare_cached("UPDATE generations SET logged = 0 WHERE n = ?1")?.execute([n])?;
    }
    Ok(false)
}

/// Ends what has no owner and was not written for so long: every accepted message has an end.
fn give_up(db: &Connection, written_before: u64, now: Time) -> Result<()> {
    let sql = "SELECT id FROM generations WHERE ended = 0 AND (leased = 0 OR lease_until <= ?1) AND written_at <= ?2 LIMIT ?3";
    let mut statement = db.prepare_cached(sql)?;
    let parameters = [signed(now.0), signed(written_before), GENERATIONS_PER_STEP];
    let due: Vec<GenerationId> =
        statement.query_map(parameters, |row| super::record::parsed(row, 0))?.collect::<rusqlite::Result<_>>()?;
    for generation in due {
        match interrupt(db, &generation) {
            // One that is damaged must not keep all others from being swept.
            Err(Error::Corrupt(reason)) => tracing::error!(%generation, %reason, "an answer without an owner can't be ended"),
            ended => ended?,
        }
    }
    Ok(())
}

/// Nobody goes on with it: what its owners wrote is the answer, as readers saw it.
fn interrupt(db: &Connection, generation: &GenerationId) -> Result<()> {
    let state = generations::state(db, generation)?;
    let said = match entries::transcript(db, generation) {
        Err(Error::Corrupt(reason)) => {
            tracing::error!(%generation, %reason, "a log can't be read; its answer ends without a text");
            Transcript::default()
        }
        said => said?,
    };
    let error = Failure { code: "unavailable".into(), message: "no AI node went on with this answer".into() };
    let outcome = Outcome {
        status: Status::Interrupted,
        finish_reason: None,
        usage: None,
        timing: None,
        error: Some(error.clone()),
        length: said.text.len() as u64,
        crc32: said.crc32(),
    };
    let reasoning = (!said.reasoning.is_empty()).then_some(said.reasoning);
    let message = Message { content: said.text, reasoning, error: Some(error), ..tree::get(db, state.message)?.message };
    entries::settle(db, &state, &message)?;
    generations::end_unowned(db, &state, &outcome)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
