//! The logs: compare, append, end, read. Every write checks its lease and its place before it changes anything.

use rusqlite::{Connection, OptionalExtension, params};

use super::generations::{self, Key, State};
use super::record::{self, Extra, decode, encode, signed, unsigned};
use super::{search, tree};
use crate::backend::{Error, Lease, LogPage, Phase, Renewed, Result};
use crate::log::{Entry, Outcome, Transcript};
use crate::model::{GenerationId, Message, Position, Time};

/// Entries that somebody wants behind `previous`, ready to be stored.
pub(super) struct Addition {
    previous: Position,
    bodies: Vec<(Position, Vec<u8>)>,
    /// An owner introduces itself with the first entry of its epoch.
    introduced: bool,
    /// More than an introduction: a token came.
    progress: bool,
}

impl Addition {
    /// Encodes on the caller's side, since the writer is everybody's.
    pub(super) fn new(lease: &Lease, previous: Position, entries: &[Entry]) -> Self {
        let mut position = previous;
        let mut bodies = Vec::with_capacity(entries.len());
        for entry in entries {
            position = position.next(lease.epoch());
            bodies.push((position, encode(entry)));
        }
        let introduced = matches!(entries.first(), Some(Entry::Own(_)));
        let progress = entries.iter().any(|entry| matches!(entry, Entry::Delta(_)));
        Self { previous, bodies, introduced, progress }
    }

    fn last(&self) -> Position {
        self.bodies.last().map_or(self.previous, |(position, _)| *position)
    }
}

pub(super) fn append(db: &Connection, key: &Key, addition: &Addition, until: Time) -> Result<Renewed> {
    let state = generations::owned(db, key)?;
    let renewed = Renewed { cancel: state.cancel };
    if state.tail != addition.previous {
        return if repeats(db, &state, key, addition)? {
            extend(db, &state, until)?;
            Ok(renewed)
        } else {
            Err(Error::OutOfOrder { tail: state.tail })
        };
    }
    let begins = state.tail.epoch != key.epoch;
    if begins != addition.introduced && !addition.bodies.is_empty() {
        // To the reader of this log it would be a hole, so the writer has to look again.
        return Err(Error::OutOfOrder { tail: state.tail });
    }
    for (position, body) in &addition.bodies {
        insert(db, state.n, *position, body)?;
    }
    let (tail, now) = (addition.last(), Time::now());
    let sql = "UPDATE generations SET tail_epoch = ?2, tail_seq = ?3, lease_until = ?4, written_at = ?5,
        progress_at = iif(?6, ?5, progress_at), dry_attempts = iif(?6, 0, dry_attempts) WHERE n = ?1";
    db.prepare_cached(sql)?.execute(params![
        state.n,
        signed(tail.epoch),
        signed(tail.seq),
        signed(until.0),
        signed(now.0),
        addition.progress
    ])?;
    Ok(renewed)
}

pub(super) fn insert(db: &Connection, generation: i64, position: Position, body: &[u8]) -> Result<()> {
    let sql = "INSERT INTO entries (generation, epoch, seq, body) VALUES (?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?.execute(params![generation, signed(position.epoch), signed(position.seq), body])?;
    Ok(())
}

/// True when exactly these entries stand there already: the same call, whose answer was lost.
fn repeats(db: &Connection, state: &State, key: &Key, addition: &Addition) -> Result<bool> {
    let before = addition.previous < state.tail && addition.last() <= state.tail && state.tail.epoch == key.epoch;
    if !before || addition.bodies.is_empty() {
        return Ok(false);
    }
    for (position, body) in &addition.bodies {
        if stored(db, state.n, *position)?.as_ref() != Some(body) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn stored(db: &Connection, generation: i64, position: Position) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT body FROM entries WHERE generation = ?1 AND epoch = ?2 AND seq = ?3";
    let key = [generation, signed(position.epoch), signed(position.seq)];
    Ok(db.prepare_cached(sql)?.query_row(key, |row| row.get(0)).optional()?)
}

fn extend(db: &Connection, state: &State, until: Time) -> Result<()> {
    db.prepare_cached("UPDATE generations SET lease_until = ?2 WHERE n = ?1")?.execute([state.n, signed(until.0)])?;
    Ok(())
}

pub(super) fn finish(db: &Connection, key: &Key, previous: Position, outcome: &Outcome, message: &Message) -> Result<()> {
    let (state, logged) = generations::find(db, &key.generation)?.ok_or(Error::Gone)?;
    if !key.opens(&state) {
        return Err(Error::Fenced);
    }
    let position = previous.next(key.epoch);
    if state.ended {
        // The lease stays on record, so that its owner's own repeat is told from anybody else's attempt, also when the
        // log has been removed since.
        let body = encode(&Entry::Fin(outcome.clone()));
        let mine = state.tail == position && (!logged || stored(db, state.n, position)? == Some(body));
        return if mine { Ok(()) } else { Err(Error::Fenced) };
    }
    if state.tail != previous {
        return Err(Error::OutOfOrder { tail: state.tail });
    }
    settle(db, &state, message)?;
    generations::end(db, &state, position, outcome)
}

/// The answer as it ended, in place of what was stored.
pub(super) fn settle(db: &Connection, state: &State, message: &Message) -> Result<()> {
    // The options were the user's and stay, whatever the writer hands in.
    let options = tree::get(db, state.message)?.message.options;
    let message = Message { options, ..message.clone() };
    let sql = "UPDATE messages SET content = ?2, reasoning = ?3, extra = ?4 WHERE n = ?1";
    let extra = Extra::of(&message);
    db.prepare_cached(sql)?.execute(params![state.message, message.content, message.reasoning, extra])?;
    search::reindex(db, state.message, state.conversation, &message.content)
}

/// What the whole log amounts to.
pub(super) fn transcript(db: &Connection, generation: &GenerationId) -> Result<Transcript> {
    let mut transcript = Transcript::default();
    for (position, entry) in read(db, generation, Position::START, usize::MAX)?.entries {
        transcript.apply(position, &entry).map_err(|broken| Error::Corrupt(broken.to_string()))?;
    }
    Ok(transcript)
}

pub(super) fn read(db: &Connection, generation: &GenerationId, after: Position, weight_max: usize) -> Result<LogPage> {
    let state = generations::state(db, generation)?;
    let sql = "SELECT epoch, seq, body FROM entries WHERE generation = ?1 AND (epoch, seq) > (?2, ?3) ORDER BY epoch, seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([state.n, signed(after.epoch), signed(after.seq)])?;
    let (mut entries, mut weight) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let body = row.get_ref(2)?.as_blob().map_err(|_| Error::Corrupt("an entry is no blob".into()))?;
        let entry = decode(body)?;
        weight = weight.saturating_add(entry.weight());
        if weight > weight_max && !entries.is_empty() {
            break;
        }
        entries.push((Position { epoch: unsigned(row.get(0)?), seq: unsigned(row.get(1)?) }, entry));
    }
    Ok(LogPage { entries, tail: state.tail, phase: phase(db, &state)? })
}

fn phase(db: &Connection, state: &State) -> Result<Phase> {
    let now = Time::now();
    Ok(if state.ended {
        Phase::Ended
    } else if generations::leased_until(db, state.n)?.is_some_and(|until| until > now) {
        Phase::Running
    } else if state.epoch == 0 {
        Phase::Queued { ahead: generations::ahead(db, state.n, now)? }
    } else {
        Phase::Orphaned
    })
}

/// Removes up to `most` entries of a log; true when none are left.
pub(super) fn remove(db: &Connection, generation: i64, most: i64) -> Result<bool> {
    let sql = "DELETE FROM entries WHERE (generation, epoch, seq) IN
        (SELECT generation, epoch, seq FROM entries WHERE generation = ?1 LIMIT ?2)";
    let removed = db.prepare_cached(sql)?.execute([generation, most])?;
    Ok(record::unsigned(most) > removed as u64)
}
