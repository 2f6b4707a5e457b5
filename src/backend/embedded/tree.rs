//! The tree of messages that a conversation is: planting, and the way from the root to a leaf.
//!
//! Each message knows its depth, its parent, and one ancestor further up (`jump`), chosen as in a skew-binary number:
//! that way the ancestor at any depth is found in O(log depth) steps, and "is this leaf below that message" too.

use rusqlite::{Connection, OptionalExtension, params};

use super::record::{self, Extra, MESSAGE, Stored, role_code, signed, status_code};
use super::search;
use crate::backend::{Error, PathEnd, PathItem, PathPage, PathQuery, Result};
use crate::model::{Message, MessageId};

/// Most messages of one page, whatever was asked.
const PAGE_MAX: usize = 200;

/// Stores a message below `parent`; its text can be searched for.
pub(super) fn plant(db: &Connection, conversation: i64, parent: Option<i64>, message: &Message) -> Result<i64> {
    let (depth, jump) = match parent {
        Some(parent) => below(db, parent)?,
        None => (0, None),
    };
    let sql = "INSERT INTO messages
        (id, conversation, parent, depth, jump, role, status, created_at, generation, model, extra, content, reasoning)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    db.prepare_cached(sql)?.execute(params![
        message.id.as_str(),
        conversation,
        parent,
        depth,
        jump,
        role_code(message.role),
        status_code(message.status),
        signed(message.created_at.0),
        message.generation.as_ref().map(|generation| generation.as_str()),
        message.model,
        Extra::of(message),
        message.content,
        message.reasoning,
    ])?;
    let n = db.last_insert_rowid();
    if let Some(parent) = parent {
        db.prepare_cached("DELETE FROM leaves WHERE conversation = ?1 AND message = ?2")?.execute([conversation, parent])?;
    }
    db.prepare_cached("INSERT INTO leaves (conversation, message) VALUES (?1, ?2)")?.execute([conversation, n])?;
    search::index(db, n, conversation, &message.content)?;
    Ok(n)
}

/// One message by its id, with its number.
pub(super) fn find(db: &Connection, id: &MessageId) -> Result<Stored> {
    let sql = format!("SELECT {MESSAGE} FROM messages m LEFT JOIN messages p ON p.n = m.parent WHERE m.id = ?1");
    let found = db.prepare_cached(&sql)?.query_row([id.as_str()], record::message).optional()?;
    found.ok_or(Error::NotFound)
}

pub(super) fn get(db: &Connection, n: i64) -> Result<Stored> {
    let sql = format!("SELECT {MESSAGE} FROM messages m LEFT JOIN messages p ON p.n = m.parent WHERE m.n = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([n], record::message)?)
}

/// The number of a message of this conversation; `NotFound` for another's.
pub(super) fn number(db: &Connection, conversation: i64, id: &MessageId) -> Result<i64> {
    let sql = "SELECT n FROM messages WHERE id = ?1 AND conversation = ?2";
    let found = db.prepare_cached(sql)?.query_row(params![id.as_str(), conversation], |row| row.get(0)).optional()?;
    found.ok_or(Error::NotFound)
}

/// The message created last, which is a leaf: nothing is below it yet.
pub(super) fn newest(db: &Connection, conversation: i64) -> Result<Option<i64>> {
    let sql = "SELECT max(message) FROM leaves WHERE conversation = ?1";
    Ok(db.prepare_cached(sql)?.query_row([conversation], |row| row.get(0))?)
}

pub(super) fn path(db: &Connection, conversation: i64, query: &PathQuery) -> Result<PathPage> {
    let end = match &query.end {
        PathEnd::NewestLeaf => newest(db, conversation)?,
        PathEnd::At(id) => Some(number(db, conversation, id)?),
        PathEnd::Through(id) => Some(newest_below(db, conversation, number(db, conversation, id)?)?),
        PathEnd::Before(id) => knot(db, number(db, conversation, id)?)?.parent,
    };
    let Some(end) = end else { return Ok(PathPage { items: Vec::new(), more: false }) };
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut upwards = climb(db, end, limit + 1)?;
    let more = upwards.len() > limit;
    upwards.truncate(limit);
    let mut items = Vec::with_capacity(upwards.len());
    for stored in upwards.into_iter().rev() {
        let siblings = siblings(db, conversation, stored.parent)?;
        items.push(PathItem { message: stored.message, siblings });
    }
    Ok(PathPage { items, more })
}

/// From a message towards the root, at most `count`.
fn climb(db: &Connection, from: i64, count: usize) -> Result<Vec<Stored>> {
    let sql = format!(
        "WITH RECURSIVE up (n, step) AS (
            SELECT ?1, 1
            UNION ALL
            SELECT m.parent, step + 1 FROM up JOIN messages m ON m.n = up.n WHERE step < ?2 AND m.parent IS NOT NULL
        )
        SELECT {MESSAGE} FROM up JOIN messages m ON m.n = up.n LEFT JOIN messages p ON p.n = m.parent ORDER BY step"
    );
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([from, count], record::message)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn siblings(db: &Connection, conversation: i64, parent: Option<i64>) -> Result<Vec<MessageId>> {
    let sql = "SELECT id FROM messages WHERE conversation = ?1 AND parent IS ?2 ORDER BY n";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![conversation, parent], |row| record::parsed(row, 0))?;
    let all: Vec<MessageId> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(if all.len() > 1 { all } else { Vec::new() })
}

/// The newest leaf whose way to the root leads through `top`: leaves from the newest on, so most often the first.
fn newest_below(db: &Connection, conversation: i64, top: i64) -> Result<i64> {
    let top = knot(db, top)?;
    let sql = "SELECT message FROM leaves WHERE conversation = ?1 AND message >= ?2 ORDER BY message DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([conversation, top.n])?;
    while let Some(row) = rows.next()? {
        let leaf = knot(db, row.get(0)?)?;
        if ancestor(db, leaf, top.depth)?.n == top.n {
            return Ok(leaf.n);
        }
    }
    Err(Error::Corrupt("a message has no leaf below it".into()))
}

#[derive(Clone, Copy)]
struct Knot {
    n: i64,
    parent: Option<i64>,
    depth: i64,
    /// Itself for a root.
    jump: i64,
}

fn knot(db: &Connection, n: i64) -> Result<Knot> {
    let sql = "SELECT parent, depth, jump FROM messages WHERE n = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        let jump: Option<i64> = row.get(2)?;
        Ok(Knot { n, parent: row.get(0)?, depth: row.get(1)?, jump: jump.unwrap_or(n) })
    };
    Ok(db.prepare_cached(sql)?.query_row([n], read)?)
}

/// Depth and jump of a new child.
fn below(db: &Connection, parent: i64) -> Result<(i64, Option<i64>)> {
    let parent = knot(db, parent)?;
    let once = knot(db, parent.jump)?;
    let twice = knot(db, once.jump)?;
    let jump = if parent.depth - once.depth == once.depth - twice.depth { twice.n } else { parent.n };
    Ok((parent.depth + 1, Some(jump)))
}

/// The ancestor at this depth; the message itself when it isn't deeper.
fn ancestor(db: &Connection, mut from: Knot, depth: i64) -> Result<Knot> {
    while from.depth > depth {
        let jump = knot(db, from.jump)?;
        from = match from.parent {
            Some(parent) if jump.depth < depth => knot(db, parent)?,
            _ => jump,
        };
    }
    Ok(from)
}
