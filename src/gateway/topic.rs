//! The task behind one watched conversation: it takes hints from the backplane, reads the store where they leave gaps, and
//! keeps the replicas that readers draw from. All reads of a log on this node go through here, one at a time.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frames;
use super::hub::{Ask, Event, Shared, Topic};
use super::resume::{Offered, Replica};
use crate::backend::{ConversationState, Error, Hint, Hints, LogPage, PathEnd, PathQuery, Phase, Progress, Subject};
use crate::log::{Broken, Entry};
use crate::model::{GenerationId, Message, MessageId, Position, UserId};
use crate::protocol::ServerFrame;

/// Bytes of log that one read may bring.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// When a log is compared with the store after it came into view; then every [`CHECK_EVERY`] while it is open.
const CHECKS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// While hints can't come, or a read failed.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// How often a waiting answer's place in the queue is read.
const QUEUE_EVERY: Duration = Duration::from_secs(1);
/// How often an idle conversation is compared with the store, in case the hint of a new message was lost.
const CONVERSATION_EVERY: Duration = Duration::from_secs(30);

struct Task {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    /// Whose conversation it is: whoever was let in last, and only the owner is.
    user: Option<UserId>,
    version: u64,
    watches: HashMap<GenerationId, Watch>,
    announced: HashSet<MessageId>,
    conversation_check: Instant,
    idle_since: Option<Instant>,
}

/// When a log is compared with the store next.
struct Watch {
    next: Instant,
    checks: usize,
    /// When it ended: its replica is put away after the linger time.
    ended: Option<Instant>,
    /// When the last piece of text came.
    spoke: Option<Instant>,
}

impl Watch {
    fn first(next: Instant) -> Self {
        Self { next, checks: 0, ended: None, spoke: None }
    }
}

pub(super) async fn run(shared: Arc<Shared>, topic: Arc<Topic>, mut asks: mpsc::Receiver<Ask>) {
    // Subscribed before anything is read: what is stored after the read is told by a hint.
    let mut hints: Hints = shared.backends.backplane.subscribe(&Subject::Conversation(topic.conversation.clone())).await;
    let mut health = shared.backends.health.clone();
    let stopped = shared.drain.stopped().clone();
    let mut stopped = pin!(stopped.cancelled());
    let mut task = Task {
        shared,
        topic,
        user: None,
        version: 0,
        watches: HashMap::new(),
        announced: HashSet::new(),
        conversation_check: Instant::now() + CHECKS[1],
        idle_since: None,
    };
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            ask = asks.recv() => match ask {
                Some(ask) => task.ask(ask).await,
                None => return,
            },
            hint = hints.next() => match hint {
                Some(hint) => task.hint(&hint).await,
                // The backplane ends when the node does.
                None => return,
            },
            Ok(()) = health.changed() => task.check_all(),
            () = tokio::time::sleep_until(task.next_check()) => {
                if task.tick().await {
                    return;
                }
            }
        }
    }
}

impl Task {
    async fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Load(generation) => self.missing(&generation).await,
            Ask::Attach { user, known, reply } => {
                let found = self.attach(user, known).await;
                // A reader that has left meanwhile needs no answer.
                let _ = reply.send(found);
            }
        }
    }

    async fn attach(&mut self, user: UserId, known: Vec<GenerationId>) -> Result<ConversationState, Error> {
        let state = self.shared.backends.store.conversation(&user, &self.topic.conversation).await?;
        self.user = Some(user);
        self.version = self.version.max(state.conversation.version);
        for open in &state.open {
            self.appear(&open.generation);
        }
        let open = state.open.iter().map(|open| &open.generation);
        for generation in open.chain(&known) {
            // A reader with a place in a log that could not be read would be shown less than it has.
            self.try_load(generation).await.or_else(|error| if error == Error::Gone { Ok(()) } else { Err(error) })?;
        }
        Ok(state)
    }

    /// A generation came into view.
    fn appear(&mut self, generation: &GenerationId) {
        let mut state = self.topic.state();
        if !state.replicas.contains_key(generation) {
            state.replicas.insert(generation.clone(), Replica::new(generation.clone()));
            if !state.order.contains(generation) {
                state.order.push(generation.clone());
            }
        }
        drop(state);
        self.watches.entry(generation.clone()).or_insert(Watch::first(Instant::now() + CHECKS[0]));
    }

    /// Reads what is missing of a log, and the final message once it has ended; or soon again.
    async fn load(&mut self, generation: &GenerationId) {
        let _ = self.try_load(generation).await;
    }

    /// A reader needs it. Where it is nowhere, nor is its conversation, the hint of its end was lost.
    async fn missing(&mut self, generation: &GenerationId) {
        let loaded = self.try_load(generation).await.is_ok();
        if !loaded || self.topic.state().replicas.contains_key(generation) {
            return;
        }
        let Some(user) = &self.user else { return };
        if self.shared.backends.store.conversation(user, &self.topic.conversation).await == Err(Error::NotFound) {
            self.deleted();
        }
    }

    /// Nothing more comes of this conversation: who waits for something of it need not.
    fn deleted(&mut self) {
        self.watches.clear();
        let mut state = self.topic.state();
        state.replicas.clear();
        state.deleted = true;
        drop(state);
        self.topic.wake();
    }

    async fn try_load(&mut self, generation: &GenerationId) -> Result<(), Error> {
        let held = self.topic.state().replicas.get(generation).map(|replica| (replica.position(), replica.is_finished()));
        if let Some((_, true)) = held {
            return Ok(());
        }
        let after = held.map_or(Position::START, |(position, _)| position);
        let result = self.read(generation, after).await;
        if let Err(error) = &result {
            tracing::debug!(%generation, %error, "log could not be read");
            self.soon(generation);
        }
        // A reader that still has nothing to draw from would only ask again, as fast as the store can refuse.
        if result.is_ok() || held.is_some() {
            self.topic.wake();
        }
        result
    }

    async fn read(&mut self, generation: &GenerationId, mut after: Position) -> Result<(), Error> {
        let mut rebuilt = false;
        loop {
            let page = match self.shared.backends.generations.read(generation, after, PAGE_BYTES_MAX).await {
                Ok(page) => page,
                Err(Error::Gone) => return self.finish(generation).await,
                Err(error) => return Err(error),
            };
            match self.absorb(generation, &page) {
                Ok((_, true)) => return self.finish(generation).await,
                Ok((position, false)) if page.entries.is_empty() || position >= page.tail => return Ok(()),
                Ok((position, false)) => after = position,
                Err(broken) if rebuilt => return Err(Error::Corrupt(broken.to_string())),
                // The log isn't the one that was read before: start again, and let every reader do so.
                Err(_) => {
                    rebuilt = true;
                    after = Position::START;
                }
            }
        }
    }

    /// Folds a page in; answers how far the replica is, and whether the log has ended.
    fn absorb(&mut self, generation: &GenerationId, page: &LogPage) -> Result<(Position, bool), Broken> {
        self.appear(generation);
        let mut state = self.topic.state();
        let Some(replica) = state.replicas.get_mut(generation) else { return Ok((page.tail, false)) };
        for (position, entry) in &page.entries {
            replica.absorb(*position, entry).inspect_err(|_| replica.rebuild())?;
        }
        let (progress, ahead) = match page.phase {
            Phase::Queued { ahead } => (Progress::Queued, Some(ahead)),
            Phase::Orphaned => (Progress::Recovering, None),
            Phase::Running | Phase::Ended => (Progress::Running, None),
        };
        let ended = replica.has_ended();
        if !ended {
            replica.set_progress(progress, ahead);
        }
        let position = replica.position();
        drop(state);
        if let Some((_, entry)) = page.entries.last() {
            self.spoke(generation, entry);
        }
        Ok((position, ended))
    }

    /// Fetches the final message. Where the log is gone and the message still open, its owner or the sweep will end it.
    async fn finish(&mut self, generation: &GenerationId) -> Result<(), Error> {
        let message = match self.shared.backends.store.message(&generation.message()).await {
            Ok(message) if message.status.is_open() => return Err(Error::Gone),
            Ok(message) => message,
            Err(Error::NotFound) => {
                self.topic.state().replicas.remove(generation);
                self.watches.remove(generation);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.appear(generation);
        if let Some(replica) = self.topic.state().replicas.get_mut(generation) {
            replica.finish(message);
        }
        if let Some(watch) = self.watches.get_mut(generation) {
            watch.ended = Some(Instant::now());
        }
        Ok(())
    }

    async fn hint(&mut self, hint: &Hint) {
        match hint {
            Hint::Entry { generation, previous, position, entry, stored_us } => {
                self.entry(generation, *previous, *position, entry, *stored_us).await;
            }
            Hint::Tail { generation, position } => {
                let held = self.topic.state().replicas.get(generation).map(|replica| (replica.position(), replica.has_ended()));
                match held {
                    Some((known, ended)) if known >= *position && (!ended || self.is_finished(generation)) => {}
                    Some(_) => self.load(generation).await,
                    None => self.refresh().await,
                }
            }
            Hint::Progress { generation, progress } => {
                let mut state = self.topic.state();
                if let Some(replica) = state.replicas.get_mut(generation) {
                    replica.set_progress(*progress, None);
                }
                drop(state);
                self.topic.wake();
            }
            Hint::Message { message } => self.message(message).await,
            Hint::ConversationDeleted { .. } => self.deleted(),
            Hint::Conversation { conversation } => self.version = self.version.max(conversation.version),
            Hint::Work { .. } | Hint::Cancel { .. } | Hint::Access => {}
        }
    }

    fn is_finished(&self, generation: &GenerationId) -> bool {
        self.topic.state().replicas.get(generation).is_some_and(Replica::is_finished)
    }

    async fn entry(
        &mut self,
        generation: &GenerationId,
        previous: Position,
        position: Position,
        entry: &Entry,
        stored_us: Option<u64>,
    ) {
        let offered = {
            let mut state = self.topic.state();
            let frame = |id: &GenerationId| frames::delta(id, position, entry);
            state.replicas.get_mut(generation).map(|replica| {
                let offered = replica.offer(previous, position, entry, stored_us, frame);
                (offered, replica.has_ended())
            })
        };
        match offered {
            None => self.refresh().await,
            Some((Ok(Offered::Known), _)) => {}
            Some((Ok(Offered::Applied), false)) => {
                self.spoke(generation, entry);
                self.topic.wake();
            }
            // The end needs its message; a gap or a hint that can't be true needs the store.
            Some((offered, _)) => {
                if matches!(offered, Ok(Offered::Gap)) {
                    self.shared.metrics.gap_filled();
                }
                self.load(generation).await;
            }
        }
    }

    /// Measures the silence before a piece of text.
    fn spoke(&mut self, generation: &GenerationId, entry: &Entry) {
        if let (Entry::Delta(_), Some(watch)) = (entry, self.watches.get_mut(generation))
            && let Some(before) = watch.spoke.replace(Instant::now())
        {
            self.shared.metrics.token_gap(before.elapsed());
        }
    }

    /// Tells the readers of a message, and follows it if it is being written.
    async fn message(&mut self, message: &Message) {
        if message.conversation != self.topic.conversation {
            return;
        }
        if let Some(generation) = &message.generation {
            self.appear(generation);
            if message.status.is_open() {
                self.topic.wake();
            } else {
                self.load(generation).await;
            }
        }
        self.announced.insert(message.id.clone());
        let frame = ServerFrame::Message { conversation: message.conversation.clone(), message: message.clone() };
        let event = Event { message: message.id.clone(), frame: frames::encode(&frame) };
        for reader in &self.topic.state().readers {
            reader.push(event.clone());
        }
    }

    /// Compares the conversation with the store: a hint of something new may have been lost.
    async fn refresh(&mut self) {
        self.conversation_check = Instant::now() + CONVERSATION_EVERY;
        let Some(user) = self.user.clone() else { return };
        let store = Arc::clone(&self.shared.backends.store);
        let Ok(state) = store.conversation(&user, &self.topic.conversation).await else {
            self.conversation_check = Instant::now() + CHECKS[2];
            return;
        };
        if state.conversation.version <= self.version {
            return;
        }
        self.version = state.conversation.version;
        let query = PathQuery { conversation: self.topic.conversation.clone(), end: PathEnd::NewestLeaf, limit: 2 };
        let mut news: Vec<Message> =
            store.path(&query).await.map(|page| page.items.into_iter().map(|item| item.message).collect()).unwrap_or_default();
        for open in &state.open {
            if !news.iter().any(|message| message.id == open.message) {
                news.extend(store.message(&open.message).await);
            }
        }
        for message in news {
            if !self.announced.contains(&message.id) {
                self.message(&message).await;
            }
        }
        for open in state.open {
            self.appear(&open.generation);
            self.load(&open.generation).await;
        }
    }

    /// Brings the next comparison with the store forward.
    fn soon(&mut self, generation: &GenerationId) {
        let soon = Instant::now() + POLL_EVERY;
        let watch = self.watches.entry(generation.clone()).or_insert(Watch::first(soon));
        watch.next = watch.next.min(soon);
    }

    /// A link came or went: compare everything soon.
    fn check_all(&mut self) {
        let soon = Instant::now() + POLL_EVERY;
        self.watches.values_mut().for_each(|watch| watch.next = watch.next.min(soon));
        self.conversation_check = self.conversation_check.min(soon);
    }

    fn next_check(&self) -> Instant {
        let linger = self.shared.linger;
        let watches = self.watches.values().map(|watch| watch.ended.map_or(watch.next, |ended| ended + linger));
        let idle = self.idle_since.map_or_else(|| Instant::now() + linger, |since| since + linger);
        watches.chain([self.conversation_check, idle]).min().unwrap_or(idle)
    }

    /// Does what is due; `true` when nobody needs this topic any more.
    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        let readers = !self.topic.state().readers.is_empty();
        match (readers, self.idle_since) {
            (true, _) => self.idle_since = None,
            (false, None) => self.idle_since = Some(now),
            (false, Some(since)) if now >= since + self.shared.linger => return self.shared.forget(&self.topic),
            (false, Some(_)) => {}
        }
        if now >= self.conversation_check {
            if readers {
                self.refresh().await;
            } else {
                self.conversation_check = now + CONVERSATION_EVERY;
            }
        }
        let due: Vec<GenerationId> = self
            .watches
            .iter()
            .filter(|(_, watch)| watch.ended.is_none() && now >= watch.next)
            .map(|(id, _)| id.clone())
            .collect();
        for generation in due {
            self.check(&generation).await;
        }
        self.put_away(now);
        false
    }

    async fn check(&mut self, generation: &GenerationId) {
        let hints_come = self.shared.backends.health.borrow().backplane.is_up();
        let queued = self.topic.state().replicas.get(generation).is_some_and(|replica| replica.position() == Position::START);
        if let Some(watch) = self.watches.get_mut(generation) {
            watch.checks += 1;
            let planned = CHECKS.get(watch.checks).map_or(CHECK_EVERY, |at| *at - CHECKS[watch.checks - 1]);
            let pause = if !hints_come {
                POLL_EVERY
            } else if queued {
                planned.min(QUEUE_EVERY)
            } else {
                planned
            };
            watch.next = Instant::now() + pause;
        }
        self.load(generation).await;
    }

    /// Forgets ended answers that were watched long enough; who still needs one asks for it.
    fn put_away(&mut self, now: Instant) {
        let linger = self.shared.linger;
        let old = |watch: &Watch| watch.ended.is_some_and(|ended| now >= ended + linger);
        let ids: Vec<GenerationId> = self.watches.iter().filter(|(_, watch)| old(watch)).map(|(id, _)| id.clone()).collect();
        let mut state = self.topic.state();
        for generation in ids {
            state.replicas.remove(&generation);
            self.watches.remove(&generation);
        }
    }
}
