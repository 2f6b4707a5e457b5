//! `Store` on the database: conversations, messages, the shared secret, and who lives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::time::Instant;

use super::database::Database;
use super::record::{self, CONVERSATION, MESSAGE, signed};
use super::{generations, limits, search, tree};
use crate::backend::limits::Used;
use crate::backend::{
    Cluster, ConversationState, Error, ListQuery, Listing, NODE_EXPIRY_MS, OpenGeneration, Patch, PathPage, PathQuery, Result,
    Store,
};
use crate::model::{Conversation, ConversationId, Message, MessageId, NodeInfo, Time, UserId};

/// Most messages of one page of an export, whatever was asked.
const EXPORT_PAGE_MAX: usize = 1_000;

/// Nodes that are remembered at once: one process has one, tests some.
const NODES_MAX: usize = 1_000;

#[derive(Debug)]
pub(super) struct SqliteStore {
    database: Arc<Database>,
    /// Only nodes of this process can share the database, so that it need not be told.
    nodes: Mutex<HashMap<String, (NodeInfo, Instant)>>,
}

impl SqliteStore {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, nodes: Mutex::default() }
    }

    fn living(&self, node: &NodeInfo, gone: bool) -> Vec<NodeInfo> {
        let now = Instant::now();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let expiry = Duration::from_millis(NODE_EXPIRY_MS);
        nodes.retain(|_, (_, seen)| now.duration_since(*seen) < expiry);
        if gone {
            nodes.remove(&node.id);
        } else if nodes.len() < NODES_MAX || nodes.contains_key(&node.id) {
            nodes.insert(node.id.clone(), (NodeInfo { seen_at: Time::now(), ..node.clone() }, now));
        }
        let mut living: Vec<NodeInfo> = nodes.values().map(|(node, _)| node.clone()).collect();
        living.sort_by(|a, b| a.id.cmp(&b.id));
        living
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn secret(&self, name: &str, proposal: &[u8]) -> Result<Vec<u8>> {
        let (name, proposal) = (name.to_owned(), proposal.to_owned());
        self.database.write(move |db| secret(db, &name, &proposal)).await
    }

    async fn conversation(&self, user: &UserId, id: &ConversationId) -> Result<ConversationState> {
        let (user, id) = (user.clone(), id.clone());
        self.database.read(move |db| state(db, &user, &id)).await
    }

    async fn conversations(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        let (user, query) = (user.clone(), query.clone());
        self.database.read(move |db| search::list(db, &user, &query)).await
    }

    async fn create(&self, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()> {
        let (user, conversation, messages) = (user.clone(), conversation.clone(), messages.to_vec());
        self.database.write(move |db| create(db, &user, &conversation, &messages)).await
    }

    async fn patch(&self, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation> {
        let (user, id, patch) = (user.clone(), id.clone(), patch.clone());
        self.database.write(move |db| apply(db, &user, &id, &patch)).await
    }

    async fn delete(&self, user: &UserId, id: &ConversationId) -> Result<()> {
        let (user, id) = (user.clone(), id.clone());
        self.database.write(move |db| delete(db, &user, &id)).await
    }

    async fn message(&self, id: &MessageId) -> Result<Message> {
        let id = id.clone();
        self.database.read(move |db| Ok(tree::find(db, &id)?.message)).await
    }

    async fn path(&self, query: &PathQuery) -> Result<PathPage> {
        let query = query.clone();
        self.database.read(move |db| tree::path(db, known(db, &query.conversation)?, &query)).await
    }

    async fn messages(&self, conversation: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>> {
        let (conversation, after) = (conversation.clone(), after.cloned());
        self.database.read(move |db| messages(db, &conversation, after.as_ref(), limit)).await
    }

    async fn heartbeat(&self, node: &NodeInfo, gone: bool) -> Result<Cluster> {
        let nodes = self.living(node, gone);
        let waiting = self.database.read(|db| generations::waiting(db, Time::now())).await?;
        Ok(Cluster { nodes, waiting })
    }
}

/// A conversation of this user.
pub(super) fn owned(db: &Connection, user: &UserId, id: &ConversationId) -> Result<(i64, Conversation)> {
    let sql = format!("SELECT {CONVERSATION} FROM conversations c WHERE c.id = ?1 AND c.user = ?2");
    let found = db.prepare_cached(&sql)?.query_row([id.as_str(), user.as_str()], record::conversation).optional()?;
    found.ok_or(Error::NotFound)
}

/// Stores a new conversation; the caller has looked that it isn't there.
pub(super) fn insert(db: &Connection, user: &UserId, conversation: &Conversation) -> Result<i64> {
    let sql = "INSERT INTO conversations (id, user, pinned, version, created_at, updated_at, title)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    db.prepare_cached(sql)?.execute(params![
        conversation.id.as_str(),
        user.as_str(),
        conversation.pinned,
        signed(conversation.version),
        signed(conversation.created_at.0),
        signed(conversation.updated_at.0),
        conversation.title,
    ])?;
    let n = db.last_insert_rowid();
    search::index(db, -n, n, &conversation.title)?;
    Ok(n)
}

/// Readers should look again: a turn was added, or an answer ended.
pub(super) fn touch(db: &Connection, conversation: i64, at: Time) -> Result<()> {
    let sql = "UPDATE conversations SET version = version + 1, updated_at = max(updated_at, ?2) WHERE n = ?1";
    db.prepare_cached(sql)?.execute([conversation, signed(at.0)])?;
    Ok(())
}

pub(super) fn exists(db: &Connection, id: &ConversationId) -> Result<bool> {
    match known(db, id) {
        Ok(_) => Ok(true),
        Err(Error::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn known(db: &Connection, id: &ConversationId) -> Result<i64> {
    let sql = "SELECT n FROM conversations WHERE id = ?1";
    let found = db.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
    found.ok_or(Error::NotFound)
}

fn secret(db: &Connection, name: &str, proposal: &[u8]) -> Result<Vec<u8>> {
    let insert = "INSERT INTO secrets (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    db.prepare_cached(insert)?.execute(params![name, proposal])?;
    let sql = "SELECT value FROM secrets WHERE name = ?1";
    Ok(db.prepare_cached(sql)?.query_row([name], |row| row.get(0))?)
}

fn state(db: &Connection, user: &UserId, id: &ConversationId) -> Result<ConversationState> {
    let (n, conversation) = owned(db, user, id)?;
    let sql = "SELECT g.id, m.id, g.status FROM generations g JOIN messages m ON m.n = g.message
        WHERE g.conversation = ?1 AND g.ended = 0 ORDER BY g.n";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([n])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let status = record::status_of(row.get(2)?)?;
        open.push(OpenGeneration { generation: record::parsed(row, 0)?, message: record::parsed(row, 1)?, status });
    }
    Ok(ConversationState { conversation, open })
}

fn create(db: &Connection, user: &UserId, conversation: &Conversation, messages: &[Message]) -> Result<()> {
    if exists(db, &conversation.id)? {
        return owned(db, user, &conversation.id).map(|_| ());
    }
    let n = insert(db, user, conversation)?;
    let mut numbers: HashMap<&MessageId, i64> = HashMap::with_capacity(messages.len());
    for message in messages {
        let parent = match &message.parent {
            Some(parent) => Some(*numbers.get(parent).ok_or(Error::NotFound)?),
            None => None,
        };
        if message.id.conversation() != conversation.id {
            return Err(Error::NotFound);
        }
        numbers.insert(&message.id, tree::plant(db, n, parent, message)?);
    }
    Ok(())
}

fn apply(db: &Connection, user: &UserId, id: &ConversationId, patch: &Patch) -> Result<Conversation> {
    let (n, _) = owned(db, user, id)?;
    let sql = "UPDATE conversations
        SET title = coalesce(?2, title), pinned = coalesce(?3, pinned), version = version + 1 WHERE n = ?1";
    db.prepare_cached(sql)?.execute(params![n, patch.title, patch.pinned])?;
    if let Some(title) = &patch.title {
        search::reindex(db, -n, n, title)?;
    }
    Ok(owned(db, user, id)?.1)
}

fn delete(db: &Connection, user: &UserId, id: &ConversationId) -> Result<()> {
    let (n, _) = owned(db, user, id)?;
    search::forget(db, n)?;
    let of_logs = "DELETE FROM entries WHERE generation IN (SELECT n FROM generations WHERE conversation = ?1)";
    db.prepare_cached(of_logs)?.execute([n])?;
    let open = "SELECT id FROM generations WHERE conversation = ?1 AND ended = 0";
    let open: Vec<String> = db.prepare_cached(open)?.query_map([n], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    open.iter().try_for_each(|generation| limits::end(db, generation, Used::Reserved))?;
    for table in ["generations", "leaves", "messages"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE conversation = ?1"))?.execute([n])?;
    }
    db.prepare_cached("DELETE FROM conversations WHERE n = ?1")?.execute([n])?;
    Ok(())
}

fn messages(db: &Connection, id: &ConversationId, after: Option<&MessageId>, limit: usize) -> Result<Vec<Message>> {
    let conversation = known(db, id)?;
    let after = after.map_or(Ok(0), |after| tree::number(db, conversation, after))?;
    let sql = format!(
        "SELECT {MESSAGE} FROM messages m LEFT JOIN messages p ON p.n = m.parent
        WHERE m.conversation = ?1 AND m.n > ?2 ORDER BY m.n LIMIT ?3"
    );
    let limit = i64::try_from(limit.min(EXPORT_PAGE_MAX)).unwrap_or_default();
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([conversation, after, limit], |row| Ok(record::message(row)?.message))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
