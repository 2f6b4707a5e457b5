//! The task behind one watched conversation: it takes hints from the backplane, reads the store where they leave gaps, and
//! keeps the replicas that readers draw from. All reads of a log on this node go through here.
//!
//! Comparisons, and who may come in, are read beside the hints ([`Found`]), by tasks of their own: while a store says nothing, hints are
//! all that readers have. What fills a gap is waited for.

mod logs;
mod news;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use super::frames;
use super::hub::{Ask, Newcomer, Shared, Topic};
use super::reader::Event;
use super::resume::{Offered, Replica};
use super::watches::{POLL_EVERY, Watches};
use crate::backend::{ConversationState, Error, Hint, Hints, LogPage, PathPage, Progress, Subject};
use crate::log::Entry;
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
    /// Since when nobody reads here, and a place to wait for somebody who does.
    idle: Option<(Instant, OwnedSemaphorePermit)>,
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
        idle: None,
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
            () = topic.left.notified() => {
                if task.left() {
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

    async fn found(&mut self, found: Found) {
        match found {
            Found::Log { generation, before, page } => self.compared(&generation, before, page).await,
            Found::Conversation(state) => {
                self.comparing = false;
                self.conversation_was_read(state).await;
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

    /// Nothing more comes of this conversation: who waits for something of it need not.
    fn deleted(&mut self) {
        self.watches.forget_all();
        let mut state = self.topic.state();
        state.replicas.clear();
        state.deleted = true;
        drop(state);
        self.topic.wake();
    }

    async fn hint(&mut self, hint: &Hint) {
        match hint {
            Hint::Entry { generation, previous, position, entry, stored_us } => {
                self.watches.heard(generation);
                self.entry(generation, *previous, *position, entry, *stored_us).await;
            }
            Hint::Tail { generation, position } => {
                self.watches.heard(generation);
                let held = self.topic.state().replicas.get(generation).map(|replica| (replica.position(), replica.has_ended()));
                match held {
                    Some((known, ended)) if known >= *position && (!ended || self.is_finished(generation)) => {}
                    Some(_) => self.load(generation).await,
                    None => self.compare(),
                }
            }
            Hint::Progress { generation, progress } => {
                self.watches.heard(generation);
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
        let idle = self.idle.as_ref().map_or_else(Instant::now, |(since, _)| *since) + linger;
        self.watches.next(linger).into_iter().chain([self.conversation_check, idle]).min().unwrap_or(idle)
    }

    /// Nobody reads here now; `true` when the topic does not wait for somebody who comes back.
    fn left(&mut self) -> bool {
        if !self.topic.state().is_deserted() {
            return false;
        }
        let place = match self.idle.take() {
            Some((_, place)) => Some(place),
            // Nobody was ever let in, so nobody comes back: anybody can name conversations that are not there.
            None if self.user.is_none() => None,
            None => Arc::clone(&self.shared.lingering).try_acquire_owned().ok(),
        };
        self.idle = place.map(|place| (Instant::now(), place));
        self.idle.is_none() && self.shared.forget(&self.topic)
    }

    /// Does what is due; `true` when nobody needs this topic any more.
    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        let readers = !self.topic.state().is_deserted();
        match &self.idle {
            Some(_) if readers => self.idle = None,
            Some((since, _)) if now >= *since + self.shared.linger => return self.shared.forget(&self.topic),
            _ => {}
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

    /// Forgets ended answers that were watched long enough; who still needs one asks for it.
    fn put_away(&mut self, now: Instant) {
        let ids = self.watches.take_old(now, self.shared.linger);
        let mut state = self.topic.state();
        for generation in ids {
            state.replicas.remove(&generation);
        }
    }
}
