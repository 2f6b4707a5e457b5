//! The task behind one watched conversation: it takes hints from the backplane, reads the store where they leave gaps, and
//! keeps the replicas that readers draw from. All reads of a log on this node go through here.
//!
//! Comparisons, and who may come in, are read beside the hints ([`Found`]), by tasks of their own: while a store says nothing, hints are
//! all that readers have. What fills a gap is waited for.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::frames;
use super::hub::{Ask, Event, Newcomer, Shared, Topic};
use super::resume::{Offered, Replica};
use super::watches::{CHECKS, POLL_EVERY, Watches};
use crate::backend::{ConversationState, Error, Hint, Hints, LogPage, PathEnd, PathPage, PathQuery, Phase, Progress, Subject};
use crate::log::{Broken, Entry};
use crate::model::{GenerationId, Message, MessageId, Position, Time, UserId};
use crate::protocol::ServerFrame;

/// Bytes of log that one read may bring.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// How often an idle conversation is compared with the store, in case the hint of a new message was lost.
const CONVERSATION_EVERY: Duration = Duration::from_secs(30);
/// The same while no hints come at all.
const CONVERSATION_POLL: Duration = Duration::from_secs(1);
/// The same after a hint that it changed: by then what is new was told, or its hint was lost.
const CHANGED_AFTER: Duration = Duration::from_secs(2);
/// What was written so long before anybody was let in is no news here, even if its node's clock is behind.
const CLOCKS_APART_MS: u64 = 10_000;

struct Task {
    shared: Arc<Shared>,
    topic: Arc<Topic>,
    /// Whose conversation it is: whoever was let in last, and only the owner is.
    user: Option<UserId>,
    /// When the first reader was let in.
    since: Time,
    /// The readers were told of everything up to here.
    version: u64,
    watches: Watches,
    announced: HashSet<MessageId>,
    conversation_check: Instant,
    idle_since: Option<Instant>,
    /// Whose logs are read beside the hints.
    reading: HashSet<GenerationId>,
    /// Whether the conversation is.
    comparing: bool,
}

/// What was read beside the hints.
#[derive(Debug)]
pub(super) enum Found {
    Log {
        generation: GenerationId,
        /// How its replica was when it was asked for: what is behind that was read.
        before: Seen,
        page: Result<LogPage, Error>,
    },
    Conversation(Result<ConversationState, Error>),
    Reader {
        newcomer: Newcomer,
        state: Result<ConversationState, Error>,
        /// What is newest there, for the first one.
        newest: Option<PathPage>,
        /// Not the first look.
        again: bool,
    },
}

/// How far a replica is, and what its readers were told of it.
type Seen = (Position, Option<(Progress, Option<u32>)>);

pub(super) async fn run(shared: Arc<Shared>, topic: Arc<Topic>, mut asks: mpsc::Receiver<Ask>) {
    // Subscribed before anything is read: what is stored after the read is told by a hint.
    let mut hints: Hints = shared.backends.backplane.subscribe(&Subject::Conversation(topic.conversation.clone())).await;
    let mut health = shared.backends.health.clone();
    let stopped = shared.drain.stopped().clone();
    let mut stopped = pin!(stopped.cancelled());
    let mut task = Task {
        shared,
        topic: Arc::clone(&topic),
        user: None,
        since: Time::now(),
        version: 0,
        watches: Watches::default(),
        announced: HashSet::new(),
        conversation_check: Instant::now() + CONVERSATION_EVERY,
        idle_since: None,
        reading: HashSet::new(),
        comparing: false,
    };
    loop {
        let next_check = task.next_check();
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
            // Nobody was ever let in, so nobody comes back: anybody can name conversations that are not there.
            () = topic.left.notified(), if task.user.is_none() => {
                if task.shared.forget(&topic) {
                    return;
                }
            }
            () = tokio::time::sleep_until(next_check) => {
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
            Ask::Attach(newcomer) => self.look_up(newcomer, false),
            Ask::Found(found) => self.found(*found).await,
        }
    }

    /// Reads without being waited for: what was found comes as an [`Ask`].
    fn beside(&self, read: impl Future<Output = Found> + Send + 'static) {
        let (topic, stopped) = (Arc::clone(&self.topic), self.shared.drain.stopped().clone());
        self.shared.drain.spawn("look", async move {
            tokio::select! {
                // Where the topic is gone nobody is left who would want it.
                found = read => drop(topic.asks.send(Ask::Found(Box::new(found))).await),
                () = stopped.cancelled() => {}
            }
        });
    }

    fn look_up(&self, newcomer: Newcomer, again: bool) {
        let store = Arc::clone(&self.shared.backends.store);
        let conversation = self.topic.conversation.clone();
        let newest = self.user.is_none().then(|| self.newest());
        self.beside(async move {
            let newest = OptionFuture::from(newest.as_ref().map(|newest| store.path(newest)));
            let (state, newest) = tokio::join!(store.conversation(&newcomer.user, &conversation), newest);
            Found::Reader { newcomer, state, newest: newest.and_then(Result::ok), again }
        });
    }

    async fn found(&mut self, found: Found) {
        match found {
            Found::Log { generation, before, page } => self.compared(&generation, before, page).await,
            Found::Conversation(state) => {
                self.comparing = false;
                let told = match state {
                    Ok(state) => self.tell_news(state).await,
                    Err(error) => Err(error),
                };
                self.conversation_was_compared(told);
            }
            // Another one was quicker, and the others were told since of what this one did not see.
            Found::Reader { newcomer, state: Ok(state), again: false, .. } if state.conversation.version < self.version => {
                self.look_up(newcomer, true);
            }
            Found::Reader { newcomer, state, newest, .. } => {
                let attached = match state {
                    Ok(state) => self.attach(&newcomer, state, newest).await,
                    Err(error) => Err(error),
                };
                // A reader that has left meanwhile needs no answer.
                let _ = newcomer.reply.send(attached);
            }
        }
    }

    async fn attach(
        &mut self,
        newcomer: &Newcomer,
        state: ConversationState,
        newest: Option<PathPage>,
    ) -> Result<ConversationState, Error> {
        if self.topic.state().deleted {
            return Err(Error::NotFound);
        }
        if self.user.is_none() {
            // What is there already is no news.
            self.announced.extend(newest.into_iter().flat_map(|page| page.items).map(|item| item.message.id));
        }
        if self.user.replace(newcomer.user.clone()).is_none() {
            (self.since, self.version) = (Time::now(), state.conversation.version);
            self.compare_within(CHECKS[1]);
        } else if state.conversation.version > self.version {
            self.compare_within(CHANGED_AFTER);
        }
        self.compare_within(self.pace());
        for open in &state.open {
            self.appear(&open.generation);
        }
        let open = state.open.iter().map(|open| &open.generation);
        for generation in open.chain(&newcomer.known) {
            // A reader with a place in a log that could not be read would be shown less than it has.
            self.try_load(generation).await.or_else(|error| if error == Error::Gone { Ok(()) } else { Err(error) })?;
        }
        self.topic.let_in(&newcomer.reader);
        Ok(state)
    }

    /// A generation came into view of every reader.
    fn appear(&mut self, generation: &GenerationId) {
        self.hold(generation);
        let mut state = self.topic.state();
        if !state.order.contains(generation) {
            state.order.push(generation.clone());
        }
    }

    /// A generation is looked at by whoever named it.
    fn hold(&mut self, generation: &GenerationId) {
        let mut state = self.topic.state();
        if !state.replicas.contains_key(generation) {
            state.replicas.insert(generation.clone(), Replica::new(generation.clone()));
        }
        drop(state);
        self.watches.begin(generation);
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
        self.watches.forget_all();
        let mut state = self.topic.state();
        state.replicas.clear();
        state.deleted = true;
        drop(state);
        self.topic.wake();
    }

    async fn try_load(&mut self, generation: &GenerationId) -> Result<(), Error> {
        let after = self.held(generation).unwrap_or(Position::START);
        if self.is_finished(generation) {
            return Ok(());
        }
        let page = self.shared.backends.generations.read(generation, after, PAGE_BYTES_MAX).await;
        self.take_in(generation, page).await
    }

    /// How far its replica is, if it has one.
    fn held(&self, generation: &GenerationId) -> Option<Position> {
        self.topic.state().replicas.get(generation).map(Replica::position)
    }

    /// Folds in what was read of a log, and reads on to its end.
    async fn take_in(&mut self, generation: &GenerationId, page: Result<LogPage, Error>) -> Result<(), Error> {
        let held = self.held(generation);
        let result = self.read(generation, page).await;
        if let Err(error) = &result {
            tracing::debug!(%generation, %error, "log could not be read");
            self.watches.soon(generation);
        }
        // A reader that still has nothing to draw from would only ask again, as fast as the store can refuse.
        if result.is_ok() || held.is_some() {
            self.topic.wake();
        }
        result
    }

    async fn read(&mut self, generation: &GenerationId, mut next: Result<LogPage, Error>) -> Result<(), Error> {
        let mut rebuilt = false;
        loop {
            let page = match next {
                Ok(page) => page,
                Err(Error::Gone) => return self.finish(generation).await,
                Err(error) => return Err(error),
            };
            let after = match self.absorb(generation, &page) {
                Ok((_, true)) => return self.finish(generation).await,
                Ok((position, false)) if page.entries.is_empty() || position >= page.tail => return Ok(()),
                Ok((position, false)) => position,
                Err(broken) if rebuilt => return Err(Error::Corrupt(broken.to_string())),
                // The log isn't the one that was read before: start again, and let every reader do so.
                Err(_) => {
                    rebuilt = true;
                    Position::START
                }
            };
            next = self.shared.backends.generations.read(generation, after, PAGE_BYTES_MAX).await;
        }
    }

    /// Folds a page in; answers how far the replica is, and whether the log has ended.
    fn absorb(&mut self, generation: &GenerationId, page: &LogPage) -> Result<(Position, bool), Broken> {
        self.hold(generation);
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
            Ok(message) if message.generation.as_ref() == Some(generation) => match message.status.is_open() {
                true => return Err(Error::Gone),
                false => message,
            },
            // Nothing was ever generated under this name, which may be made of a question's.
            Ok(_) | Err(Error::NotFound) => {
                self.topic.state().replicas.remove(generation);
                self.watches.forget(generation);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.hold(generation);
        if let Some(replica) = self.topic.state().replicas.get_mut(generation) {
            replica.finish(message);
        }
        self.watches.ended(generation);
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
                    None => self.compare(),
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
            // It says that something is new, and not what.
            Hint::Conversation { conversation } if conversation.version > self.version => self.compare_within(CHANGED_AFTER),
            Hint::Conversation { .. } | Hint::Work { .. } | Hint::Cancel { .. } | Hint::Access => {}
        }
    }

    /// The hint of its message was lost: with the message if that can be had, and else without.
    async fn unknown(&mut self, generation: &GenerationId) {
        self.refresh().await;
        if generation.conversation() != self.topic.conversation || self.topic.state().replicas.contains_key(generation) {
            return;
        }
        self.load(generation).await;
        if !self.is_finished(generation) {
            self.appear(generation);
            self.topic.wake();
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
            None => self.unknown(generation).await,
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
        if let Entry::Delta(_) = entry
            && let Some(silence) = self.watches.spoke(generation)
        {
            self.shared.metrics.token_gap(silence);
        }
    }

    /// Tells the readers of a message, and follows it if it is being written.
    async fn message(&mut self, message: &Message) {
        if message.conversation != self.topic.conversation {
            return;
        }
        self.announced.insert(message.id.clone());
        let frame = ServerFrame::Message { conversation: message.conversation.clone(), message: message.clone() };
        let event = Event { message: message.id.clone(), frame: frames::encode(&frame) };
        self.topic.tell(&event);
        if let Some(generation) = &message.generation {
            self.appear(generation);
            if message.status.is_open() {
                self.topic.wake();
            } else {
                self.load(generation).await;
            }
        }
    }

    /// Compares the conversation with the store: a hint of something new may have been lost.
    async fn refresh(&mut self) {
        let Some(user) = self.to_be_compared() else { return };
        let state = self.shared.backends.store.conversation(&user, &self.topic.conversation).await;
        let told = match state {
            Ok(state) => self.tell_news(state).await,
            Err(error) => Err(error),
        };
        self.conversation_was_compared(told);
    }

    /// As [`Self::refresh`], beside the hints.
    fn compare(&mut self) {
        if self.comparing {
            // That one may have been asked before there was anything new.
            self.conversation_check = Instant::now() + POLL_EVERY;
            return;
        }
        let Some(user) = self.to_be_compared() else { return };
        self.comparing = true;
        let (store, conversation) = (Arc::clone(&self.shared.backends.store), self.topic.conversation.clone());
        self.beside(async move { Found::Conversation(store.conversation(&user, &conversation).await) });
    }

    /// Plans the comparison after this one; answers for whom, if anybody was let in yet.
    fn to_be_compared(&mut self) -> Option<UserId> {
        let pause = if self.user.is_some() { self.pace() } else { POLL_EVERY };
        self.conversation_check = Instant::now() + pause;
        self.user.clone()
    }

    fn conversation_was_compared(&mut self, told: Result<(), Error>) {
        match told {
            Ok(()) => {}
            // The hint of its end was lost.
            Err(Error::NotFound) => self.deleted(),
            Err(error) => {
                tracing::debug!(conversation = %self.topic.conversation, %error, "conversation could not be compared");
                self.compare_within(CHANGED_AFTER);
            }
        }
    }

    async fn tell_news(&mut self, state: ConversationState) -> Result<(), Error> {
        if state.conversation.version <= self.version {
            return Ok(());
        }
        let store = Arc::clone(&self.shared.backends.store);
        let mut news: Vec<Message> = match store.path(&self.newest()).await {
            Ok(page) => page.items.into_iter().map(|item| item.message).collect(),
            Err(Error::NotFound) => Vec::new(),
            Err(error) => return Err(error),
        };
        for open in &state.open {
            if !news.iter().any(|message| message.id == open.message) {
                news.push(store.message(&open.message).await?);
            }
        }
        for message in news {
            let is_news = message.created_at.0.saturating_add(CLOCKS_APART_MS) >= self.since.0;
            if is_news && !self.announced.contains(&message.id) {
                self.message(&message).await;
            }
        }
        for open in state.open {
            self.appear(&open.generation);
            self.load(&open.generation).await;
        }
        // Not before: what failed is tried again.
        self.version = state.conversation.version;
        Ok(())
    }

    /// The last question and its answer.
    fn newest(&self) -> PathQuery {
        PathQuery { conversation: self.topic.conversation.clone(), end: PathEnd::NewestLeaf, limit: 2 }
    }

    fn hints_come(&self) -> bool {
        self.shared.backends.health.borrow().backplane.is_up()
    }

    fn pace(&self) -> Duration {
        if self.hints_come() { CONVERSATION_EVERY } else { CONVERSATION_POLL }
    }

    fn compare_within(&mut self, time: Duration) {
        self.conversation_check = self.conversation_check.min(Instant::now() + time);
    }

    /// A link came or went: compare everything soon.
    fn check_all(&mut self) {
        self.watches.all_soon();
        self.compare_within(POLL_EVERY);
    }

    fn next_check(&self) -> Instant {
        let linger = self.shared.linger;
        let idle = self.idle_since.map_or_else(|| Instant::now() + linger, |since| since + linger);
        self.watches.next(linger).into_iter().chain([self.conversation_check, idle]).min().unwrap_or(idle)
    }

    /// Does what is due; `true` when nobody needs this topic any more.
    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        let readers = !self.topic.state().is_deserted();
        match (readers, self.idle_since) {
            (true, _) => self.idle_since = None,
            (false, None) => self.idle_since = Some(now),
            (false, Some(since)) if now >= since + self.shared.linger => return self.shared.forget(&self.topic),
            (false, Some(_)) => {}
        }
        if now >= self.conversation_check {
            if readers {
                self.compare();
            } else {
                self.conversation_check = now + CONVERSATION_EVERY;
            }
        }
        for generation in self.watches.due(now) {
            self.check(&generation);
        }
        self.put_away(now);
        false
    }

    /// Compares a log with the store, beside the hints.
    fn check(&mut self, generation: &GenerationId) {
        if !self.reading.insert(generation.clone()) {
            // That one may have been asked before there was anything new.
            return self.watches.again(generation);
        }
        let before = self.seen(generation);
        self.watches.checked(generation, self.hints_come(), before.0 == Position::START);
        let (generations, generation) = (Arc::clone(&self.shared.backends.generations), generation.clone());
        self.beside(async move {
            let page = generations.read(&generation, before.0, PAGE_BYTES_MAX).await;
            Found::Log { generation, before, page }
        });
    }

    fn seen(&self, generation: &GenerationId) -> Seen {
        let state = self.topic.state();
        state.replicas.get(generation).map_or((Position::START, None), |replica| (replica.position(), replica.progress()))
    }

    async fn compared(&mut self, generation: &GenerationId, before: Seen, page: Result<LogPage, Error>) {
        self.reading.remove(generation);
        // Deleted or put away meanwhile.
        if !self.watches.has(generation) {
            return;
        }
        let now = self.seen(generation);
        let ended = self.topic.state().replicas.get(generation).is_some_and(Replica::has_ended);
        // What came meanwhile the page doesn't know of, not even whether it is the same log. What fails is compared again.
        let _ = match &page {
            Ok(page) if now != before && page.tail <= now.0 && !ended => Ok(()),
            Ok(_) if now != before => self.try_load(generation).await,
            _ => self.take_in(generation, page).await,
        };
    }

    /// Forgets ended answers that were watched long enough; who still needs one asks for it.
    fn put_away(&mut self, now: Instant) {
        let ids = self.watches.take_old(now, self.shared.linger);
        let mut state = self.topic.state();
        for generation in ids {
            state.replicas.remove(&generation);
        }
    }
}
