//! A user's list of conversations, and search in it.
//! It must not know how a conversation changes.
//!
//! The list only says in which order to look; what a conversation is called, and whether it is still there, is read from itself.
//! Search reads the texts of the user's own conversations, newest first, and stops at a budget: a page may then hold fewer than were
//! asked for, or none, and `next` goes on from there. It keeps no second copy of the texts in memory, which an index would.

use fred::interfaces::{HashesInterface, ListInterface, SortedSetsInterface};

use super::Redis;
use super::keys::{self, Key};
use super::record;
use crate::backend::fold;
use crate::backend::{Error, ListQuery, Listing, Result};
use crate::model::{Conversation, ConversationId, UserId};

/// Conversations that are read at once.
const BATCH: usize = 32;
/// Bytes of text that one search reads, about; of one conversation with more only the newest messages are looked at.
const SEARCH_BYTES_MAX: usize = 32 << 20;
/// Messages of a conversation that are fetched at once: Redis does nothing else meanwhile, and they may be long.
const MESSAGES_AT_ONCE: usize = 32;

/// Behind which place of the list to go on.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::backend) struct Cursor {
    score: f64,
    member: String,
}

impl Cursor {
    /// The place of a conversation in its user's list.
    pub(in crate::backend) fn of(conversation: &Conversation) -> Self {
        let score = record::list_score(conversation.pinned, conversation.updated_at);
        Self { score, member: keys::short_conversation(&conversation.id).to_owned() }
    }

    /// Pinned, updated and the conversation's id: by these three, each from the greatest down, the list is ordered.
    pub(in crate::backend) fn parts(&self) -> (bool, u64, String) {
        let (pinned, updated) = record::of_list_score(self.score);
        (pinned, updated.0, format!("cnv_{}", self.member))
    }

    pub(in crate::backend) fn encode(&self) -> String {
        format!("{:.0}.{}", self.score, self.member)
    }

    /// What can't be read starts from the beginning.
    pub(in crate::backend) fn decode(text: &str) -> Option<Self> {
        let (score, member) = text.split_once('.')?;
        let score: u64 = score.parse().ok()?;
        keys::long_conversation(member)?;
        Some(Self { score: score as f64, member: member.to_owned() })
    }

    /// Whether an item comes behind this place.
    fn is_before(&self, score: f64, member: &str) -> bool {
        score < self.score || (score == self.score && member < self.member.as_str())
    }
}

impl Redis {
    pub(super) async fn list(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        let words = fold::words(query.search.as_deref().unwrap_or_default());
        let mut cursor = query.cursor.as_deref().and_then(Cursor::decode);
        let mut items = Vec::new();
        let mut budget = SEARCH_BYTES_MAX;
        loop {
            let batch = self.behind(user, cursor.as_ref()).await?;
            let whole = batch.len() < BATCH;
            let found = batch.iter().map(|place| self.listed(user, place));
            let found = futures_util::future::try_join_all(found).await?;
            for (place, conversation) in batch.into_iter().zip(found) {
                if items.len() == query.limit || budget == 0 {
                    let next = cursor.map(|cursor| cursor.encode());
                    return Ok(Listing { items, next });
                }
                cursor = Some(place);
                let Some(conversation) = conversation else { continue };
                if words.is_empty() || self.matches(&conversation, &words, &mut budget).await? {
                    items.push(conversation);
                }
            }
            if whole {
                return Ok(Listing { items, next: None });
            }
        }
    }

    /// The next places of the list.
    async fn behind(&self, user: &UserId, cursor: Option<&Cursor>) -> Result<Vec<Cursor>> {
        let key = self.link.keys.key(&Key::List(user));
        let from = cursor.map_or(f64::INFINITY, |cursor| cursor.score);
        let (mut places, mut offset) = (Vec::new(), 0);
        loop {
            let page: Vec<(String, f64)> = self
                .link
                .redis()?
                .zrevrangebyscore(&key, from, f64::NEG_INFINITY, true, Some((offset, BATCH as i64)))
                .await
                .map_err(|error| self.link.fail(&error))?;
            offset += page.len() as i64;
            let last = page.len() < BATCH;
            for (member, score) in page {
                if cursor.is_none_or(|cursor| cursor.is_before(score, &member)) {
                    places.push(Cursor { score, member });
                }
            }
            if last || places.len() >= BATCH {
                places.truncate(BATCH);
                return Ok(places);
            }
        }
    }

    /// The conversation at a place; one that is no more leaves the list.
    async fn listed(&self, user: &UserId, place: &Cursor) -> Result<Option<Conversation>> {
        let Some(id) = keys::long_conversation(&place.member) else { return Ok(None) };
        let redis = self.link.redis()?;
        let fields = redis.hmget(self.link.keys.key(&Key::Conversation(&id)), record::CONVERSATION_FIELDS.to_vec());
        let open = redis.hlen(self.link.keys.key(&Key::Open(&id)));
        let (fields, open): (Vec<Option<String>>, u64) =
            tokio::try_join!(fields, open).map_err(|error| self.link.fail(&error))?;
        match record::conversation(&id, &fields, open)? {
            Some((owner, conversation)) if owner == keys::short_user(user) => {
                // The place may be older than the conversation when a call was cut between the two.
                if record::list_score(conversation.pinned, conversation.updated_at) != place.score {
                    self.place(user, &conversation).await?;
                }
                Ok(Some(conversation))
            }
            _ => {
                self.unlist(user, &id).await?;
                Ok(None)
            }
        }
    }

    /// Whether all words occur in the title, or all in one message.
    async fn matches(&self, conversation: &Conversation, words: &[String], budget: &mut usize) -> Result<bool> {
        if holds(&conversation.title, words) {
            return Ok(true);
        }
        let id = &conversation.id;
        let key = self.link.keys.key(&Key::Messages(id));
        let redis = self.link.redis()?;
        let order = self.link.keys.key(&Key::Order(id));
        let mut newest_first: Vec<String> = redis.lrange(order, 0, -1).await.map_err(|error| self.link.fail(&error))?;
        newest_first.reverse();
        let mut room = SEARCH_BYTES_MAX;
        for shorts in newest_first.chunks(MESSAGES_AT_ONCE) {
            if room == 0 {
                break;
            }
            let records: Vec<Option<String>> =
                redis.hmget(&key, shorts.to_vec()).await.map_err(|error| self.link.fail(&error))?;
            for (short, text) in shorts.iter().zip(records) {
                let Some(text) = text else { continue };
                *budget = budget.saturating_sub(text.len());
                room = room.saturating_sub(text.len());
                if holds(&content(id, short, &text)?, words) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

fn holds(text: &str, words: &[String]) -> bool {
    let folded = fold::fold(text);
    words.iter().all(|word| folded.contains(word))
}

fn content(id: &ConversationId, short: &str, text: &str) -> Result<String> {
    match record::message(id, short, text) {
        Ok(message) => Ok(message.content),
        Err(Error::Corrupt(reason)) => {
            // One damaged message must not hide all others from a search.
            tracing::error!(%reason, "a message can't be read");
            Ok(String::new())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_bad_ones_do_not() {
        let id = ConversationId::generate();
        let member = keys::short_conversation(&id).to_owned();
        let cursor = Cursor { score: record::list_score(true, crate::model::Time(1_763_889_600_123)), member };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for bad in ["", "x", "1.2", "-1.x", "1", ".", "9.\u{0}", "ở"] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn ties_are_ordered_by_member() {
        let cursor = Cursor { score: 5.0, member: "m".to_owned() };
        assert!(cursor.is_before(4.0, "z") && cursor.is_before(5.0, "a"));
        assert!(!cursor.is_before(5.0, "m") && !cursor.is_before(5.0, "n") && !cursor.is_before(6.0, "a"));
    }
}
