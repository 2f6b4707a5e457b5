//! The tasks that move conversations: what ended is copied to PostgreSQL, what rests leaves Redis, what was deleted is forgotten here too.
//! It must not know how a conversation changes.
//!
//! Any node does any of it, and doing it twice changes nothing: whoever writes holds the conversation's lock in PostgreSQL and looks at
//! Redis only then, so that what is written last was read last. Nothing is ever taken out of PostgreSQL but what was deleted: where both
//! went separate ways (a Redis that lost its last second, a backup that was restored) both are kept, as branches of one tree.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use super::postgres::Session;
use super::rows::{self, Archived, Placed};
use super::{History, Place};
use crate::backend::cluster::{Changed, Due, Evicted, Look, Taken};
use crate::backend::{Error, Result};
use crate::drain::Drain;
use crate::model::{Conversation, ConversationId, MessageId, UserId};

/// Conversations of one list that are handed to one node at a time, and how many of them it works on at once.
const TAKEN_MAX: usize = 16;
const AT_ONCE: usize = 4;
/// Between two looks at a conversation whose answer is still being written; its end is told, so this is for ends that nobody told.
const OPEN_AGAIN: Duration = Duration::from_secs(30);
/// After something went wrong with one.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Between two tries to begin an audit; the sets themselves say whether one is due.
const AUDIT_AGAIN: Duration = Duration::from_secs(60);
const AUDIT_AFTER_ERROR: Duration = Duration::from_secs(1);

pub(super) fn start(history: &History, pause: Duration, drain: &Drain) {
    drain.spawn("archiver", history.clone().archive_until(pause, drain.stopped().clone()));
    drain.spawn("archive audit", history.clone().audit_until(drain.stopped().clone()));
}

/// A conversation on its way.
struct Copy {
    owner: UserId,
    conversation: Conversation,
    /// How many messages both had before.
    common: u64,
    /// How many there are in Redis, and in PostgreSQL.
    here: u64,
    there: u64,
    /// Places of messages that PostgreSQL has behind the common ones.
    known: HashMap<MessageId, u64>,
    written: u64,
    /// A message has another place there than here, so the two are not the same.
    diverged: bool,
}

impl History {
    async fn audit_until(self, stopped: CancellationToken) {
        loop {
            let audit = tokio::select! {
                () = stopped.cancelled() => return,
                audit = self.window.audit(self.keep) => audit,
            };
            let pause = match audit {
                Ok(looked) => {
                    if let Some(looked) = looked {
                        tracing::info!(conversations = looked, "looked for conversations that were not archived");
                    }
                    AUDIT_AGAIN
                }
                Err(error) => {
                    tracing::debug!(%error, "could not look for conversations that were not archived");
                    AUDIT_AFTER_ERROR
                }
            };
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn archive_until(self, pause: Duration, stopped: CancellationToken) {
        loop {
            // Nodes that started together must not all look at once.
            let pause = pause.mul_f64(0.5 + rand::random::<f64>());
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            self.metrics.history_connected(self.postgres.is_up());
            match self.window.waiting().await {
                Ok(waiting) => self.metrics.history_waiting(waiting),
                Err(_) => continue,
            }
            // While it is away, what is in Redis should stay there.
            while self.postgres.is_up() && !stopped.is_cancelled() {
                match self.round().await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "could not look for something to archive");
                        break;
                    }
                }
            }
        }
    }

    /// Whatever is due now, as much as is handed out at a time; answers how many.
    async fn round(&self) -> Result<usize> {
        let mut due = self.window.take(Due::ToArchive, TAKEN_MAX).await?;
        let to_archive = due.len();
        due.extend(self.window.take(Due::ToEvict, TAKEN_MAX).await?);
        let all = due.len();
        let work = due
            .into_iter()
            .enumerate()
            .map(|(n, taken)| self.handle(taken, if n < to_archive { Due::ToArchive } else { Due::ToEvict }));
        let work: Vec<_> = work.collect();
        futures_util::stream::iter(work).buffer_unordered(AT_ONCE).collect::<()>().await;
        Ok(all)
    }

    async fn handle(&self, taken: Taken, due: Due) {
        let outcome = match due {
            Due::ToArchive => self.archive(&taken).await,
            Due::ToEvict => self.evict(&taken).await,
        };
        if let Err(error) = outcome {
            self.metrics.history_failed();
            tracing::warn!(%error, conversation = %taken.conversation, "could not be archived yet");
            // Without this it comes up again when its being taken ends.
            let _ = self.window.again(&taken, TRY_AGAIN).await;
        }
    }

    async fn archive(&self, taken: &Taken) -> Result<()> {
        let id = &taken.conversation;
        // Without PostgreSQL first: most looks end here.
        match self.window.look(id, None).await? {
            Look::Open => return self.window.again(taken, OPEN_AGAIN).await,
            Look::Away => return self.window.done(taken).await,
            Look::Clean => {}
            Look::Buried => self.bury(id).await?,
            Look::Changed(_) => self.copy(id).await?,
        }
        // Before it leaves the other set, so that it stands in one of them at any time.
        if let Place::Here(_) = self.window.place(id).await? {
            self.window.put(Due::ToEvict, id, self.keep).await?;
        }
        self.window.done(taken).await
    }

    async fn evict(&self, taken: &Taken) -> Result<()> {
        let id = &taken.conversation;
        let stored = rows::archived(&mut self.postgres.session().await?, id).await?;
        let seen = stored.map_or((0, 0), |stored| (stored.conversation.version, stored.messages));
        match self.window.evict(id, self.keep, seen).await? {
            Evicted::Now => {
                self.metrics.history_evicted();
                self.window.done(taken).await
            }
            Evicted::Away => self.window.done(taken).await,
            // It comes back here when it is archived.
            Evicted::Changed => {
                self.window.put(Due::ToArchive, id, Duration::ZERO).await?;
                self.window.done(taken).await
            }
            Evicted::Young(after) => self.window.again(taken, after).await,
        }
    }

    /// The deletion is carried on here. The tombstone goes last: while it stands, nobody sees or brings back what is here.
    async fn bury(&self, id: &ConversationId) -> Result<()> {
        let mut session = self.postgres.session().await?;
        session.begin().await?;
        rows::lock(&mut session, id).await?;
        rows::delete(&mut session, id).await?;
        session.commit().await?;
        self.window.forget(id).await
    }

    async fn copy(&self, id: &ConversationId) -> Result<()> {
        let mut session = self.postgres.session().await?;
        session.begin().await?;
        rows::lock(&mut session, id).await?;
        let stored = rows::archived(&mut session, id).await?;
        let mut look = self.window.look(id, None).await?;
        let behind = stored.as_ref().map_or(0, |stored| stored.messages);
        if matches!(&look, Look::Changed(page) if page.from > behind) {
            // PostgreSQL has lost what it had: it was restored from a backup.
            look = self.window.look(id, Some(0)).await?;
        }
        // Whatever else became of it is told again when it does.
        let Look::Changed(first) = look else { return Ok(()) };
        let mut copy = begin(&mut session, &first, stored.as_ref()).await?;
        let (mut page, mut requests) = (first, HashMap::new());
        loop {
            // All of them are read at once, and again only for an answer that is newer.
            let mut asked = page.messages.iter().filter(|message| message.generation.is_some());
            if asked.any(|message| !requests.contains_key(&message.id)) {
                requests = self.window.requests(id).await?;
            }
            copy.write(&mut session, &requests, &page).await?;
            let next = page.from + page.messages.len() as u64;
            if next >= page.total {
                copy.here = page.total;
                copy.conversation = page.conversation;
                break;
            }
            match self.window.look(id, Some(next)).await? {
                Look::Changed(more) if !more.messages.is_empty() => page = more,
                _ => return Ok(()),
            }
        }
        copy.diverged |= copy.there != copy.here;
        let version = copy.conversation.version;
        if copy.diverged {
            let newest = stored.map_or(0, |stored| stored.conversation.version);
            copy.conversation.version = version.max(newest) + 1;
        }
        let archived = Archived { owner: copy.owner, conversation: copy.conversation, messages: copy.there };
        rows::put_conversation(&mut session, &archived).await?;
        session.commit().await?;
        self.metrics.history_archived(copy.written);
        if copy.diverged {
            tracing::warn!(conversation = %id, "redis and the history had different messages, kept both");
            self.window.mark(id, version, copy.common).await?;
            // What is here is not all: whoever touches it next gets both.
            let seen = (archived.conversation.version, archived.messages);
            self.window.evict(id, Duration::ZERO, seen).await.map(|_| ())
        } else {
            self.window.mark(id, version, copy.there).await
        }
    }
}

async fn begin(session: &mut Session<'_>, first: &Changed, stored: Option<&Archived>) -> Result<Copy> {
    let there = match stored {
        Some(stored) if stored.owner != first.user => return Err(Error::Corrupt("its history is another user's".to_owned())),
        Some(stored) => stored.messages,
        None => {
            let conversation = first.conversation.clone();
            rows::put_conversation(session, &Archived { owner: first.user.clone(), conversation, messages: 0 }).await?;
            0
        }
    };
    let id = &first.conversation.id;
    let known = if there > first.from { rows::places(session, id, first.from).await? } else { Vec::new() };
    Ok(Copy {
        owner: first.user.clone(),
        conversation: first.conversation.clone(),
        common: first.from,
        here: first.total,
        there,
        known: known.into_iter().collect(),
        written: 0,
        diverged: false,
    })
}

impl Copy {
    /// Each message to the place that it has, or behind all others.
    async fn write(&mut self, session: &mut Session<'_>, requests: &HashMap<MessageId, String>, page: &Changed) -> Result<()> {
        let mut placed = Vec::with_capacity(page.messages.len());
        for (here, message) in (page.from..).zip(&page.messages) {
            let place = self.known.get(&message.id).copied().unwrap_or_else(|| {
                self.there += 1;
                self.there - 1
            });
            self.diverged |= place != here;
            placed.push(Placed { place, message, request: requests.get(&message.id).map(String::as_str) });
        }
        self.written += placed.len() as u64;
        if placed.is_empty() { Ok(()) } else { rows::put_messages(session, &page.conversation.id, &placed).await }
    }
}
