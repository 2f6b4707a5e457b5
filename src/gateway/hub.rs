//! Which conversations are watched on this node, and by whom. One topic a conversation, shared by all its readers;
//! it lingers a while after the last of them left, since readers tend to come back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::reader::{Event, Reader};
use super::resume::{Cursor, Replica, Step};
use super::topic::{self, Found};
use crate::backend::{Backends, ConversationState, Error};
use crate::drain::Drain;
use crate::log::Transcript;
use crate::model::{ConversationId, GenerationId, Position, Status, Time, UserId};
use crate::protocol::Generation;
use crate::telemetry::Metrics;

/// Asks of readers that wait for a topic's task.
const ASKS_MAX: usize = 64;
/// Conversations that nobody reads and that are kept at hand all the same, some 20 KB each beside their text. With more than these nobody
/// is quicker for it: they are what somebody made who asks and leaves, again and again.
const LINGERING_MAX: usize = 512;
/// Answers that a reader remembers to have asked for itself.
const OWN_MAX: usize = 64;

/// A cheap-clone handle on all topics of a node.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) backends: Backends,
    pub(super) drain: Drain,
    pub(super) metrics: Metrics,
    pub(super) linger: Duration,
    /// Places for topics that nobody reads.
    pub(super) lingering: Arc<Semaphore>,
    topics: Mutex<HashMap<ConversationId, Arc<Topic>>>,
}

/// One watched conversation.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) conversation: ConversationId,
    state: Mutex<State>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// The last reader went.
    pub(super) left: Notify,
    metrics: Metrics,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) replicas: HashMap<GenerationId, Replica>,
    /// Generations in the order in which they appeared; only grows.
    pub(super) order: Vec<GenerationId>,
    /// Those who were let in.
    readers: Vec<Arc<Reader>>,
    /// Those of whom it isn't known yet whether they may be.
    arriving: Vec<Arrival>,
    /// The conversation is no more.
    pub(super) deleted: bool,
    /// When these were asked on this node, until somebody gets their first token.
    asked: HashMap<GenerationId, Instant>,
}

/// A reader that is told nothing yet, and misses nothing.
#[derive(Debug)]
struct Arrival {
    reader: Arc<Reader>,
    /// What the others were told since.
    events: Vec<Event>,
}

/// What is wanted of the topic's task.
#[derive(Debug)]
pub(super) enum Ask {
    Attach(Newcomer),
    /// A replica was put away while this reader still needed it.
    Load(GenerationId),
    Found(Box<Found>),
}

/// A reader that wants to be let in, with the open generations and these loaded.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) reader: Arc<Reader>,
    pub(super) user: UserId,
    pub(super) known: Vec<GenerationId>,
    pub(super) reply: oneshot::Sender<Result<ConversationState, Error>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What stands behind these locks is valid after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Topic {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Wakes every reader.
    pub(super) fn wake(&self) {
        for reader in &self.state().readers {
            reader.wake();
        }
    }

    /// Tells every reader of something that is not part of an answer.
    pub(super) fn tell(&self, event: &Event) {
        let mut state = self.state();
        for reader in &state.readers {
            reader.push(event.clone());
        }
        for arrival in &mut state.arriving {
            arrival.events.push(event.clone());
        }
    }

    /// From now on it is told what the others are, beginning with what they were told since it came.
    pub(super) fn let_in(&self, reader: &Arc<Reader>) {
        let mut state = self.state();
        let Some(found) = state.arriving.iter().position(|arrival| Arc::ptr_eq(&arrival.reader, reader)) else { return };
        let Arrival { reader, events } = state.arriving.swap_remove(found);
        // Who follows it already was told.
        if !state.readers.iter().any(|other| Arc::ptr_eq(other, &reader)) {
            events.into_iter().for_each(|event| reader.push(event));
        }
        state.readers.push(reader);
    }

    /// `let_in`: its owner heard that it was. It may have been all the same.
    fn detach(&self, reader: &Arc<Reader>, let_in: bool) {
        let mut state = self.state();
        let arriving = state.arriving.iter().position(|arrival| Arc::ptr_eq(&arrival.reader, reader));
        match arriving.filter(|_| !let_in) {
            Some(found) => drop(state.arriving.swap_remove(found)),
            None => {
                if let Some(found) = state.readers.iter().position(|other| Arc::ptr_eq(other, reader)) {
                    state.readers.swap_remove(found);
                }
            }
        }
        if state.is_deserted() {
            self.left.notify_one();
        }
    }
}

impl State {
    /// Nobody reads here, or wants to.
    pub(super) fn is_deserted(&self) -> bool {
        self.readers.is_empty() && self.arriving.is_empty()
    }
}

impl Hub {
    #[must_use]
    pub fn new(backends: Backends, drain: Drain, metrics: Metrics, linger: Duration) -> Self {
        let lingering = Arc::new(Semaphore::new(LINGERING_MAX));
        Self { shared: Arc::new(Shared { backends, drain, metrics, linger, lingering, topics: Mutex::default() }) }
    }

    /// Follows a conversation of this user from what the reader has of it.
    ///
    /// # Errors
    /// `NotFound` when it isn't there or isn't the user's; `Unavailable` while the store is away.
    pub async fn attach(
        &self,
        user: &UserId,
        conversation: &ConversationId,
        reader: &Arc<Reader>,
        known: &[Have],
    ) -> Result<Subscription, Error> {
        // The reader is registered before anything is read, so nothing falls between the two.
        let (topic, seen) = self.topic(conversation, reader);
        let mut subscription = Subscription {
            topic,
            reader: Arc::clone(reader),
            seen,
            cursors: Vec::new(),
            own: Vec::new(),
            state: None,
            only: None,
            resumes: !known.is_empty(),
        };
        let (reply, answer) = oneshot::channel();
        let known_here = known.iter().map(|have| have.generation.clone()).collect();
        let ask = Ask::Attach(Newcomer { reader: Arc::clone(reader), user: user.clone(), known: known_here, reply });
        let gone = || Error::Unavailable("the node is stopping".to_owned());
        subscription.topic.asks.send(ask).await.map_err(|_| gone())?;
        subscription.state = Some(answer.await.map_err(|_| gone())??);
        subscription.place(known);
        Ok(subscription)
    }

    /// The text so far of an open generation, for those who only look.
    pub async fn transcript(&self, user: &UserId, generation: &GenerationId) -> Result<Option<Transcript>, Error> {
        let reader = Reader::new(0, self.shared.metrics.clone());
        // By its name, since it may have ended meanwhile.
        let have = Have { generation: generation.clone(), position: Position::START, offset: Some(0) };
        let subscription = self.attach(user, &generation.conversation(), &reader, &[have]).await?;
        let state = subscription.topic.state();
        Ok(state.replicas.get(generation).map(|replica| replica.transcript().clone()))
    }

    /// A question was taken in at `at`: whoever of this node gets the first token of its answer first, measures what that took.
    pub fn asked(&self, generation: &GenerationId, at: Instant) {
        if let Some(topic) = lock(&self.shared.topics).get(&generation.conversation()) {
            topic.state().asked.insert(generation.clone(), at);
        }
    }

    /// The topic, which this reader belongs to from now on, and how many generations had appeared there before.
    fn topic(&self, conversation: &ConversationId, reader: &Arc<Reader>) -> (Arc<Topic>, usize) {
        let mut topics = lock(&self.shared.topics);
        if let Some(topic) = topics.get(conversation) {
            let mut state = topic.state();
            state.arriving.push(Arrival { reader: Arc::clone(reader), events: Vec::new() });
            return (Arc::clone(topic), state.order.len());
        }
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let topic = Arc::new(Topic {
            conversation: conversation.clone(),
            state: Mutex::default(),
            asks,
            left: Notify::new(),
            metrics: self.shared.metrics.clone(),
        });
        topic.state().arriving.push(Arrival { reader: Arc::clone(reader), events: Vec::new() });
        topics.insert(conversation.clone(), Arc::clone(&topic));
        self.shared.metrics.followed(topics.len());
        self.shared.drain.spawn("topic", topic::run(Arc::clone(&self.shared), Arc::clone(&topic), asked));
        (topic, 0)
    }
}

impl Shared {
    /// Forgets a topic that nobody reads; `false` when somebody came in the meantime.
    pub(super) fn forget(&self, topic: &Topic) -> bool {
        let mut topics = lock(&self.topics);
        let idle = topic.state().is_deserted();
        if idle {
            topics.remove(&topic.conversation);
            self.metrics.followed(topics.len());
        }
        idle
    }
}

/// What a reader says it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Have {
    pub generation: GenerationId,
    pub position: Position,
    /// UTF-8 bytes of text; unknown where only a position came.
    pub offset: Option<u64>,
}

/// One reader's place in one conversation. Dropping it leaves.
#[derive(Debug)]
pub struct Subscription {
    topic: Arc<Topic>,
    reader: Arc<Reader>,
    seen: usize,
    cursors: Vec<(GenerationId, Cursor)>,
    /// Followed since they were asked for. They may appear only later, when this reader has had them to their end.
    own: Vec<GenerationId>,
    state: Option<ConversationState>,
    only: Option<GenerationId>,
    /// The reader said what it has.
    resumes: bool,
}

impl Subscription {
    #[must_use]
    pub fn conversation(&self) -> &ConversationId {
        &self.topic.conversation
    }

    /// The conversation as it was when the reader came.
    #[must_use]
    pub fn state(&self) -> Option<&ConversationState> {
        self.state.as_ref()
    }

    /// Whether the reader came back with something.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// Goes on with what the same reader's earlier place here had not told to the end. An answer that ended between the two is not
    /// open any more, and nothing that the reader could have named: without this nobody would tell its end.
    pub fn take_over(&mut self, mut before: Self) {
        if !Arc::ptr_eq(&self.topic, &before.topic) {
            return;
        }
        for (generation, cursor) in std::mem::take(&mut before.cursors) {
            if !self.follows(&generation) {
                self.cursors.push((generation, cursor));
            }
        }
        self.own = std::mem::take(&mut before.own);
        // What appeared meanwhile, and was not told at all.
        for generation in self.topic.state().order.get(before.seen..self.seen).unwrap_or_default() {
            if !self.own.contains(generation) {
                Self::join(&mut self.cursors, generation);
            }
        }
    }

    /// Follows a generation of this conversation from its first byte, unless it does so already; whether or not anything but its
    /// `accepted` tells of it.
    pub fn follow(&mut self, generation: &GenerationId) {
        Self::join(&mut self.cursors, generation);
        if !self.own.contains(generation) {
            self.own.truncate(OWN_MAX - 1);
            self.own.insert(0, generation.clone());
        }
    }

    fn follows(&self, generation: &GenerationId) -> bool {
        self.cursors.iter().any(|(placed, _)| placed == generation)
    }

    /// As news. Of the cursors alone, so that the topic may stay locked.
    fn join(cursors: &mut Vec<(GenerationId, Cursor)>, generation: &GenerationId) {
        if !cursors.iter().any(|(placed, _)| placed == generation) {
            let mut cursor = Cursor::start();
            cursor.caught_up();
            cursors.push((generation.clone(), cursor));
        }
    }

    /// Leaves out every other generation.
    pub fn only(&mut self, generation: GenerationId) {
        self.cursors.retain(|(other, _)| *other == generation);
        self.only = Some(generation);
    }

    fn place(&mut self, known: &[Have]) {
        let state = self.topic.state();
        let open = self.state.iter().flat_map(|state| &state.open).map(|open| &open.generation);
        let mut wanted: Vec<&GenerationId> = open.collect();
        wanted.extend(known.iter().map(|have| &have.generation).filter(|id| state.replicas.contains_key(*id)));
        for generation in wanted {
            if self.follows(generation) {
                continue;
            }
            let have = known.iter().find(|have| have.generation == *generation);
            let cursor = match (state.replicas.get(generation), have) {
                (Some(replica), Some(have)) => replica.resume(have.position, have.offset),
                _ => Cursor::start(),
            };
            self.cursors.push((generation.clone(), cursor));
        }
        // What appeared since the reader was registered it may have heard of by its message, open as it was then; by the time the
        // conversation was read it may have ended.
        for generation in state.order.get(self.seen..).unwrap_or_default() {
            Self::join(&mut self.cursors, generation);
        }
        self.seen = state.order.len();
    }

    /// The generations that this reader follows, as `subscribed` lists them.
    #[must_use]
    pub fn generations(&self) -> Vec<Generation> {
        let open = self.state.iter().flat_map(|state| &state.open);
        let replicas = self.topic.state();
        let status = |generation: &GenerationId| {
            let ended = replicas.replicas.get(generation).and_then(Replica::status);
            ended.or_else(|| open.clone().find(|open| open.generation == *generation).map(|open| open.status))
        };
        let listed = |(generation, _): &(GenerationId, Cursor)| Generation {
            message: generation.message(),
            status: status(generation).unwrap_or(Status::Running),
            generation: generation.clone(),
        };
        self.cursors.iter().map(listed).collect()
    }

    /// What to send next. New generations join only if `admit`, so that a sender hears `accepted` before the answer.
    pub fn next(&mut self, admit: bool) -> Option<(GenerationId, Step)> {
        let mut state = self.topic.state();
        if state.deleted {
            self.cursors.clear();
            return None;
        }
        if admit {
            for generation in state.order.get(self.seen..).unwrap_or_default() {
                if self.only.as_ref().is_none_or(|only| only == generation) && !self.own.contains(generation) {
                    Self::join(&mut self.cursors, generation);
                }
            }
            self.seen = state.order.len();
        }
        let (mut found, mut looked_at) = (None, 0);
        for (generation, cursor) in &mut self.cursors {
            looked_at += 1;
            match state.replicas.get(generation) {
                Some(replica) => found = replica.next(cursor).map(|step| (generation.clone(), step)),
                // Should the queue of asks be full, the next wake-up asks again.
                None => drop(self.topic.asks.try_send(Ask::Load(generation.clone()))),
            }
            if found.is_some() {
                break;
            }
        }
        // The others come first next time, so that a long answer doesn't hold them up.
        self.cursors.rotate_left(looked_at);
        if let Some((generation, step)) = &found {
            measure(&self.topic.metrics, &mut state.asked, generation, step);
        }
        drop(state);
        self.cursors.retain(|(_, cursor)| !cursor.is_finished());
        found
    }

    /// From now on everything is news.
    pub fn caught_up(&mut self) {
        self.cursors.iter_mut().for_each(|(_, cursor)| cursor.caught_up());
    }

    /// How far this reader is in the generations that it follows, for the heartbeat.
    pub fn tails(&self) -> impl Iterator<Item = (GenerationId, Position)> {
        self.cursors.iter().map(|(generation, cursor)| (generation.clone(), cursor.position()))
    }

    /// True when nothing more can come of the generations it follows.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cursors.is_empty()
    }
}

/// A step is drawn when the socket has room, so this is when it is written.
fn measure(metrics: &Metrics, asked: &mut HashMap<GenerationId, Instant>, generation: &GenerationId, step: &Step) {
    match step {
        Step::Shared { stored_us: Some(stored), .. } => {
            metrics.delivered(Duration::from_micros(Time::now_us().saturating_sub(*stored)));
        }
        Step::Rewind { .. } => metrics.rewound(),
        Step::Finished { .. } => drop(asked.remove(generation)),
        _ => {}
    }
    let has_text = matches!(step, Step::Shared { .. } | Step::Delta { .. } | Step::Snapshot { .. });
    if let Some(at) = Some(()).filter(|()| has_text).and_then(|()| asked.remove(generation)) {
        metrics.first_token(at.elapsed());
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.topic.detach(&self.reader, self.state.is_some());
    }
}
