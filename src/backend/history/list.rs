//! A user's list over both places: what is in Redis as it is there, and the rest from PostgreSQL. It must not know how either orders its own.
//!
//! Both are read from the top down, page by page. An answer holds what lies above the point to which both were read.

use std::cmp::Reverse;
use std::collections::HashSet;

use super::{History, rows};
use crate::backend::cluster::{Cursor, Place};
use crate::backend::fold;
use crate::backend::{ListQuery, Listing, Result};
use crate::model::{Conversation, UserId};

/// How often more is read because what was found in PostgreSQL had moved to Redis meanwhile.
const ROUNDS_MAX: usize = 8;

/// What one place has behind a cursor, down to another.
struct Page {
    items: Vec<Conversation>,
    /// To where it was read; `None` when that was all.
    down_to: Option<Cursor>,
}

impl History {
    pub(super) async fn list(&self, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
        let words = fold::words(query.search.as_deref().unwrap_or_default());
        let mut behind = query.cursor.as_deref().and_then(Cursor::decode);
        let (mut items, mut known) = (Vec::new(), HashSet::new());
        for _ in 0..ROUNDS_MAX {
            let here = self.in_redis(user, query, behind.as_ref()).await?;
            // Afterwards, so that what is evicted meanwhile is found in one of the two.
            let there = self.in_postgres(user, behind.as_ref(), &words, query.limit).await?;
            // A search in Redis stops at a budget, and its caller decides whether to go on.
            let tired = here.down_to.is_some() && here.items.len() < query.limit;
            let mut found: Vec<_> = here.items.into_iter().chain(there.items).map(|it| (Cursor::of(&it), it)).collect();
            found.sort_by_key(|(place, _)| Reverse(place.parts()));
            let down_to = highest(here.down_to, there.down_to);
            for (place, conversation) in found {
                if down_to.as_ref().is_some_and(|down_to| place.parts() < down_to.parts()) {
                    break;
                }
                if known.contains(&conversation.id) {
                    continue;
                }
                if items.len() == query.limit {
                    return Ok(Listing { items, next: behind.map(|last: Cursor| last.encode()) });
                }
                known.insert(conversation.id.clone());
                items.push(conversation);
                behind = Some(place);
            }
            match down_to {
                None => return Ok(Listing { items, next: None }),
                Some(_) if items.len() == query.limit => return Ok(Listing { items, next: behind.map(|last| last.encode()) }),
                Some(down_to) => behind = Some(down_to),
            }
            if tired {
                break;
            }
        }
        Ok(Listing { items, next: behind.map(|behind| behind.encode()) })
    }

    async fn in_redis(&self, user: &UserId, query: &ListQuery, behind: Option<&Cursor>) -> Result<Page> {
        let query = ListQuery { cursor: behind.map(Cursor::encode), ..query.clone() };
        let listing = self.store.conversations(user, &query).await?;
        Ok(Page { items: listing.items, down_to: listing.next.as_deref().and_then(Cursor::decode) })
    }

    /// Without those that are in Redis, which may have changed, and those that were deleted there.
    async fn in_postgres(&self, user: &UserId, behind: Option<&Cursor>, words: &[String], limit: usize) -> Result<Page> {
        let mut session = self.postgres.session().await?;
        let rows = rows::list(&mut session, user, behind, words, limit).await?;
        drop(session);
        let down_to = if rows.len() < limit { None } else { rows.last().map(Cursor::of) };
        let items = futures_util::future::try_join_all(rows.into_iter().map(|row| self.current(row, !words.is_empty()))).await?;
        Ok(Page { items: items.into_iter().flatten().collect(), down_to })
    }

    /// A conversation of PostgreSQL as it is now; `None` when it has another place in the list, which Redis tells, or was deleted. Of a
    /// search also when it was changed since it was archived: what it says now, Redis was asked about.
    async fn current(&self, row: Conversation, searched: bool) -> Result<Option<Conversation>> {
        if let Some((_, now)) = self.window.conversation(&row.id).await? {
            let stands = Cursor::of(&now) == Cursor::of(&row) && !(searched && now.version != row.version);
            return Ok(stands.then_some(now));
        }
        Ok((self.window.place(&row.id).await? != Place::Buried).then_some(row))
    }
}

fn highest(one: Option<Cursor>, other: Option<Cursor>) -> Option<Cursor> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.parts() > other.parts() { one } else { other }),
        (one, other) => one.or(other),
    }
}
