//! Lists of conversations: all of a user's, or those where every word of a search occurs.
//!
//! `texts` keeps a folded copy of each title (numbered from -1 down, by conversation) and message (by its own number).
//! Words of three letters and more are looked up by their trigrams; shorter ones are looked for in the user's
//! conversations, newest first, which ends early because short words are common.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::record::{self, CONVERSATION, signed};
use crate::backend::fold::{fold, words};
use crate::backend::{ListQuery, Listing, Result};
use crate::model::{Conversation, UserId};

/// Most conversations of one page, whatever was asked.
const PAGE_MAX: usize = 100;

/// Makes the text of a message findable, or of a title by the negative number of its conversation.
pub(super) fn index(db: &Connection, n: i64, conversation: i64, text: &str) -> Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let folded = fold(text);
    let insert = "INSERT INTO texts (n, conversation, folded) VALUES (?1, ?2, ?3)";
    db.prepare_cached(insert)?.execute(params![n, conversation, folded])?;
    db.prepare_cached("INSERT INTO trigrams (rowid, folded) VALUES (?1, ?2)")?.execute(params![n, folded])?;
    Ok(())
}

/// As [`index`], in place of what was there.
pub(super) fn reindex(db: &Connection, n: i64, conversation: i64, text: &str) -> Result<()> {
    if db.prepare_cached("DELETE FROM texts WHERE n = ?1")?.execute([n])? > 0 {
        db.prepare_cached("DELETE FROM trigrams WHERE rowid = ?1")?.execute([n])?;
    }
    index(db, n, conversation, text)
}

/// Forgets all texts of a conversation.
pub(super) fn forget(db: &Connection, conversation: i64) -> Result<()> {
    let trigrams = "DELETE FROM trigrams WHERE rowid IN (SELECT n FROM texts WHERE conversation = ?1)";
    db.prepare_cached(trigrams)?.execute([conversation])?;
    db.prepare_cached("DELETE FROM texts WHERE conversation = ?1")?.execute([conversation])?;
    Ok(())
}

pub(super) fn list(db: &Connection, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
    let words = query.search.as_deref().map(words).unwrap_or_default();
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut after = query.cursor.as_deref().and_then(Cursor::parse).unwrap_or(Cursor::START);
    let candidates = candidates(db, user, &words)?;
    let mut items: Vec<Conversation> = Vec::new();
    let mut next = None;
    let sql = format!(
        "SELECT {CONVERSATION} FROM conversations c
        WHERE c.user = ?1 AND (c.pinned, c.updated_at, c.n) < (?2, ?3, ?4)
        ORDER BY c.pinned DESC, c.updated_at DESC, c.n DESC"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![user.as_str(), after.pinned, after.updated_at, after.n])?;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let matches = match &candidates {
            Some(candidates) => candidates.contains(&n),
            None => words.is_empty() || occur(db, n, &words)?,
        };
        if !matches {
            continue;
        }
        if items.len() == limit {
            next = Some(after.to_string());
            break;
        }
        let (n, conversation) = record::conversation(row)?;
        after = Cursor { pinned: i64::from(conversation.pinned), updated_at: signed(conversation.updated_at.0), n };
        items.push(conversation);
    }
    Ok(Listing { items, next })
}

/// The place of a conversation in its user's list: opaque to whoever carries it.
struct Cursor {
    pinned: i64,
    updated_at: i64,
    n: i64,
}

impl Cursor {
    /// Before everything.
    const START: Self = Self { pinned: i64::MAX, updated_at: i64::MAX, n: i64::MAX };

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| part.parse::<i64>().ok());
        let cursor = Self { pinned: numbers.next()??, updated_at: numbers.next()??, n: numbers.next()?? };
        let sound = (0..=1).contains(&cursor.pinned) && cursor.updated_at >= 0 && cursor.n > 0 && numbers.next().is_none();
        sound.then_some(cursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.pinned, self.updated_at, self.n)
    }
}

/// The conversations where the words occur, when one of the words is long enough for the index.
fn candidates(db: &Connection, user: &UserId, words: &[String]) -> Result<Option<HashSet<i64>>> {
    let trigrams: Vec<String> = words.iter().flat_map(|word| trigrams(word)).collect();
    if trigrams.is_empty() {
        return Ok(None);
    }
    let all = trigrams.join(" AND ");
    // The index knows which trigrams occur, not in which order, and short words not at all: the text decides.
    let mut sql = "SELECT t.conversation FROM trigrams JOIN texts t ON t.n = trigrams.rowid
        JOIN conversations c ON c.n = t.conversation WHERE trigrams MATCH ?1 AND c.user = ?2"
        .to_owned();
    sql.push_str(&" AND instr(t.folded, ?) > 0".repeat(words.len()));
    let parameters = [all, user.as_str().to_owned()].into_iter().chain(words.iter().cloned()).map(Value::Text);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| row.get(0))?;
    Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
}

/// Each three letters in a row, quoted for a query of the index.
fn trigrams(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.windows(3).map(|three| format!("\"{}\"", String::from_iter(three).replace('"', "\"\""))).collect()
}

/// True when all words occur in the title or in one message of the conversation.
fn occur(db: &Connection, conversation: i64, words: &[String]) -> Result<bool> {
    let mut sql = "SELECT EXISTS (SELECT 1 FROM texts WHERE conversation = ?".to_owned();
    sql.push_str(&" AND instr(folded, ?) > 0".repeat(words.len()));
    sql.push(')');
    let parameters = std::iter::once(Value::Integer(conversation)).chain(words.iter().cloned().map(Value::Text));
    Ok(db.prepare_cached(&sql)?.query_row(params_from_iter(parameters), |row| row.get(0))?)
}
