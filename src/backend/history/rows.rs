//! What is stored in PostgreSQL: statements, and rows as the nouns of the domain. It must not know when any of it happens.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::postgres::{Parameter, Session, meaning};
use crate::backend::cluster::{Cursor, Kept, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX};
use crate::backend::fold::fold;
use crate::backend::{Error, Result};
use crate::model::{Conversation, ConversationId, Message, MessageId, UserId};

/// A conversation as it is archived.
#[derive(Debug)]
pub(super) struct Archived {
    pub(super) owner: UserId,
    pub(super) conversation: Conversation,
    pub(super) messages: u64,
}

/// A message's row as JSON.
#[derive(Deserialize)]
struct Record {
    message: Message,
    #[serde(default)]
    request: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    message: &'a Message,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a str>,
}

/// A message on its way to its place in the order of creation.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) place: u64,
    pub(super) message: &'a Message,
    pub(super) request: Option<&'a str>,
}

/// Keeps every other writer of this conversation out until the transaction ends.
pub(super) async fn lock(session: &mut Session<'_>, id: &ConversationId) -> Result<()> {
    session.rows("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[(&id.as_str(), Type::TEXT)]).await.map(|_| ())
}

pub(super) async fn archived(session: &mut Session<'_>, id: &ConversationId) -> Result<Option<Archived>> {
    let row =
        session.row("SELECT owner, record, messages FROM conversations WHERE id = $1", &[(&id.as_str(), Type::TEXT)]).await?;
    row.map(|row| read_archived(&row)).transpose()
}

/// The ids of the messages from a place on, with their places.
pub(super) async fn places(session: &mut Session<'_>, id: &ConversationId, from: u64) -> Result<Vec<(MessageId, u64)>> {
    let sql = "SELECT id, idx FROM messages WHERE conversation = $1 AND idx >= $2";
    let rows = session.rows(sql, &[(&id.as_str(), Type::TEXT), (&signed(from), Type::INT8)]).await?;
    let place = |row: &Row| Ok((parsed(MessageId::parse(&text(row, 0)?))?, number(row, 1)?));
    rows.iter().map(place).collect()
}

/// The next messages in the order of their creation, about as many as one page may hold.
pub(super) async fn messages(session: &mut Session<'_>, id: &ConversationId, from: u64, to: u64) -> Result<Vec<Kept>> {
    let sql = "SELECT record FROM (
            SELECT record, idx, sum(octet_length(record)) OVER (ORDER BY idx) - octet_length(record) AS before
            FROM messages WHERE conversation = $1 AND idx >= $2 AND idx < $3 ORDER BY idx LIMIT $4) AS page
        WHERE before < $5 ORDER BY idx";
    let (count, bytes) = (PAGE_MESSAGES_MAX as i64, PAGE_BYTES_MAX as i64);
    let parameters: &[Parameter<'_>] = &[
        (&id.as_str(), Type::TEXT),
        (&signed(from), Type::INT8),
        (&signed(to), Type::INT8),
        (&count, Type::INT8),
        (&bytes, Type::INT8),
    ];
    let rows = session.rows(sql, parameters).await?;
    let kept = |row: &Row| {
        let record: Record = parsed(serde_json::from_str(&text(row, 0)?))?;
        Ok(Kept { message: record.message, request: record.request })
    };
    rows.iter().map(kept).collect()
}

pub(super) async fn put_conversation(session: &mut Session<'_>, it: &Archived) -> Result<()> {
    let sql = "INSERT INTO conversations (id, owner, pinned, updated_at, version, messages, record, folded)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET pinned = excluded.pinned,
        updated_at = excluded.updated_at, version = excluded.version, messages = excluded.messages, record = excluded.record,
        folded = excluded.folded";
    let conversation = &it.conversation;
    let parameters: &[Parameter<'_>] = &[
        (&conversation.id.as_str(), Type::TEXT),
        (&it.owner.as_str(), Type::TEXT),
        (&conversation.pinned, Type::BOOL),
        (&signed(conversation.updated_at.0), Type::INT8),
        (&signed(conversation.version), Type::INT8),
        (&signed(it.messages), Type::INT8),
        (&json(conversation), Type::TEXT),
        (&fold(&conversation.title), Type::TEXT),
    ];
    session.execute(sql, parameters).await.map(|_| ())
}

pub(super) async fn put_messages(session: &mut Session<'_>, id: &ConversationId, messages: &[Placed<'_>]) -> Result<()> {
    let sql = "INSERT INTO messages (conversation, idx, id, record, folded)
        SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[])
        ON CONFLICT (conversation, idx) DO UPDATE SET id = excluded.id, record = excluded.record, folded = excluded.folded";
    let places: Vec<i64> = messages.iter().map(|placed| signed(placed.place)).collect();
    let ids: Vec<&str> = messages.iter().map(|placed| placed.message.id.as_str()).collect();
    let records: Vec<String> =
        messages.iter().map(|placed| json(&Written { message: placed.message, request: placed.request })).collect();
    let folded: Vec<String> = messages.iter().map(|placed| fold(&placed.message.content)).collect();
    let parameters: &[Parameter<'_>] = &[
        (&id.as_str(), Type::TEXT),
        (&places, Type::INT8_ARRAY),
        (&ids, Type::TEXT_ARRAY),
        (&records, Type::TEXT_ARRAY),
        (&folded, Type::TEXT_ARRAY),
    ];
    session.execute(sql, parameters).await.map(|_| ())
}

pub(super) async fn delete(session: &mut Session<'_>, id: &ConversationId) -> Result<()> {
    session.execute("DELETE FROM conversations WHERE id = $1", &[(&id.as_str(), Type::TEXT)]).await.map(|_| ())
}

/// The user's conversations behind a place of the list: those where all words occur, in the title or in one message.
pub(super) async fn list(
    session: &mut Session<'_>,
    owner: &UserId,
    behind: Option<&Cursor>,
    words: &[String],
    limit: usize,
) -> Result<Vec<Conversation>> {
    // Behind the first place of all: no id has such a letter.
    let (pinned, updated, id) = behind.map_or((true, i64::MAX.unsigned_abs(), "~".to_owned()), Cursor::parts);
    let all = |column: &str| (6..6 + words.len()).map(|n| format!("{column} LIKE ${n}")).collect::<Vec<_>>().join(" AND ");
    let matching = match words.is_empty() {
        true => String::new(),
        false => format!(
            "AND ({} OR EXISTS (SELECT 1 FROM messages m WHERE m.conversation = c.id AND {}))",
            all("c.folded"),
            all("m.folded")
        ),
    };
    let sql = format!(
        "SELECT c.owner, c.record, c.messages FROM conversations c
        WHERE c.owner = $1 AND (c.pinned, c.updated_at, c.id) < ($2, $3, $4) {matching}
        ORDER BY c.pinned DESC, c.updated_at DESC, c.id DESC LIMIT $5"
    );
    let patterns: Vec<String> = words.iter().map(|word| pattern(word)).collect();
    let (owner, updated, limit) = (owner.as_str(), signed(updated), limit as i64);
    let mut parameters: Vec<Parameter<'_>> =
        vec![(&owner, Type::TEXT), (&pinned, Type::BOOL), (&updated, Type::INT8), (&id, Type::TEXT), (&limit, Type::INT8)];
    for pattern in &patterns {
        parameters.push((pattern, Type::TEXT));
    }
    let rows = session.rows(&sql, &parameters).await?;
    rows.iter().map(|row| read_archived(row).map(|archived| archived.conversation)).collect()
}

fn read_archived(row: &Row) -> Result<Archived> {
    let owner = parsed(UserId::parse(&text(row, 0)?))?;
    let conversation: Conversation = parsed(serde_json::from_str(&text(row, 1)?))?;
    Ok(Archived { owner, conversation, messages: number(row, 2)? })
}

/// The word anywhere, whatever letters it has.
fn pattern(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 2);
    pattern.push('%');
    for letter in word.chars() {
        if ['%', '_', '\\'].contains(&letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern
}

fn text(row: &Row, column: usize) -> Result<String> {
    row.try_get(column).map_err(|error| meaning(&error))
}

fn number(row: &Row, column: usize) -> Result<u64> {
    let number: i64 = row.try_get(column).map_err(|error| meaning(&error))?;
    Ok(u64::try_from(number).unwrap_or_default())
}

fn parsed<T, E>(found: std::result::Result<T, E>) -> Result<T> {
    found.map_err(|_| Error::Corrupt("a row of the history".to_owned()))
}

/// PostgreSQL's integers are signed; nothing of ours comes near the end of them.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain fields become JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_itself() {
        assert_eq!(pattern("duong"), "%duong%");
        assert_eq!(pattern(r"100%_\d"), r"%100\%\_\\d%");
    }
}
