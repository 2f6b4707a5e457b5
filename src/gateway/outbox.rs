//! What a WebSocket client hears. Answers are drawn from the replicas when the socket has room, so a client that reads
//! slowly gets larger deltas, and one that never reads costs no memory.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Packet, Utf8Bytes, WebSocket};
use futures_channel::mpsc;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::Gateway;
use super::auth::right::{Right, Standing};
use super::frames;
use super::hub::Subscription;
use super::reader::Reader;
use super::resume::Step;
use crate::backend::{Hint, Subject};
use crate::model::{ConversationId, GenerationId, MessageId, UserId};
use crate::protocol::{ConversationChange, ServerFrame, Tail, close};
use crate::telemetry::{Metrics, Resume};

/// How long a closing handshake may take.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Clients of a leaving node come back within this, spread evenly.
const RECONNECT_SPREAD_MS: u64 = 2_000;
/// Messages that a connection remembers as its own.
const OWN_MAX: usize = 64;

type Sink = SplitSink<WebSocket, Packet>;
type Poll = fn(&mut Sink, &mut std::task::Context<'_>) -> std::task::Poll<Result<(), axum::Error>>;

/// What the reading half wants said or done.
#[derive(Debug)]
pub(super) enum Order {
    Frame(Utf8Bytes),
    /// What became of a `send`. Until it is told, nothing that it brings about is.
    Answer(Box<Answer>),
    /// Follow, after telling what is missed.
    Subscribe(Box<Subscription>),
    /// Follow, without a word about it.
    Follow(Box<Subscription>),
    Leave(ConversationId),
    Close(u16, &'static str),
    /// The client said goodbye.
    Left,
}

/// What is told of a `send` or `regenerate`.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) frame: Utf8Bytes,
    /// Not news to this connection.
    pub(super) own: Vec<MessageId>,
    /// To be told from its beginning, if its conversation is followed. No hint has to come for it.
    pub(super) follow: Option<GenerationId>,
}

/// What both halves of a connection know.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Sends that were not answered yet.
    pub(super) sending: AtomicUsize,
    followed: Mutex<HashSet<ConversationId>>,
    /// The code of the client's own goodbye; 0 before there was one.
    pub(super) left: AtomicU16,
}

impl Shared {
    pub(super) fn followed(&self) -> MutexGuard<'_, HashSet<ConversationId>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the connection ends.
enum End {
    Close(u16, &'static str),
    /// The socket is broken, or its client said goodbye.
    Over,
    /// The node stops, and the client takes nothing.
    Stuck,
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Over
    }
}

pub(super) struct Outbox {
    gateway: Arc<Gateway>,
    user: UserId,
    /// The user's rights changed.
    doubt: Arc<Notify>,
    reader: Arc<Reader>,
    shared: Arc<Shared>,
    subscriptions: HashMap<ConversationId, Subscription>,
    own: VecDeque<MessageId>,
}

/// Returns when the right that let a client in is gone: no socket outlives it. Whoever has a lesser one comes back with that.
async fn ended(mut right: Box<Right>, doubt: Arc<Notify>) -> End {
    loop {
        tokio::select! {
            () = right.in_doubt() => {}
            () = doubt.notified() => {}
        }
        match Box::pin(right.look()).await {
            Standing::Same => {}
            Standing::Less => return End::Close(close::GOING_AWAY, "your rights have changed; come back"),
            Standing::Gone => return End::Close(close::UNAUTHORIZED, "logged out"),
        }
    }
}

/// Tells a client why it is not let in.
pub(super) async fn refuse(mut socket: WebSocket, code: u16, reason: &'static str) {
    let packet = Packet::Close(Some(CloseFrame { code, reason: reason.into() }));
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.send(packet)).await;
}

/// Puts a packet behind the others.
async fn put(metrics: &Metrics, sink: &mut Sink, packet: Packet) -> Result<(), End> {
    in_time(metrics, sink, Sink::poll_ready_unpin).await?;
    Ok(sink.feed(packet).await?)
}

/// Waits for the socket. One that has to be waited for belongs to a reader that lags.
async fn in_time(metrics: &Metrics, sink: &mut Sink, poll: Poll) -> Result<(), End> {
    let mut waited = false;
    let outcome = std::future::poll_fn(|context| {
        let outcome = poll(sink, context);
        if outcome.is_pending() && !std::mem::replace(&mut waited, true) {
            metrics.ws_lagging();
        }
        outcome
    });
    Ok(outcome.await?)
}

impl Outbox {
    pub(super) fn new(gateway: Arc<Gateway>, user: UserId, reader: Arc<Reader>, shared: Arc<Shared>) -> Self {
        Self { gateway, user, doubt: Arc::default(), reader, shared, subscriptions: HashMap::new(), own: VecDeque::new() }
    }

    /// Runs until the connection ends; answers the close code.
    pub(super) async fn run(
        mut self,
        mut sink: Sink,
        right: Box<Right>,
        orders: mpsc::Receiver<Order>,
        welcome: Utf8Bytes,
    ) -> u16 {
        let stopped = self.gateway.drain.stopped().clone();
        let doubt = Arc::clone(&self.doubt);
        let end = tokio::select! {
            Err(end) = self.serve(&mut sink, orders, welcome) => end,
            // Beside it, since it may be waiting for a socket that takes nothing.
            end = ended(right, doubt) => end,
            // A client that doesn't read must not keep the node from stopping.
            () = async { stopped.cancelled().await; tokio::time::sleep(CLOSE_TIMEOUT).await } => End::Stuck,
        };
        match end {
            End::Stuck => close::LOST,
            End::Over => {
                // The answer to a goodbye is written by whoever writes next.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, sink.close()).await;
                close::LOST
            }
            End::Close(code, reason) => {
                let frame = Packet::Close(Some(CloseFrame { code, reason: reason.into() }));
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, sink.send(frame)).await;
                code
            }
        }
    }

    async fn serve(
        &mut self,
        sink: &mut Sink,
        mut orders: mpsc::Receiver<Order>,
        welcome: Utf8Bytes,
    ) -> Result<std::convert::Infallible, End> {
        // Subscribed before the client is welcomed: what it sees afterwards, it is told of.
        let mut list = self.gateway.backends.backplane.subscribe(&Subject::User(self.user.clone())).await;
        sink.send(Packet::Text(welcome)).await?;
        // A little more often than promised: a timer is never early, and a busy node late.
        let mut heartbeat = interval(self.gateway.config.heartbeat.mul_f64(0.9));
        let mut ping = interval(self.gateway.config.ping);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.tick().await;
        let (draining, stopped) = (self.gateway.drain.draining().clone(), self.gateway.drain.stopped().clone());
        // Made once: each would take the lock of a list that all connections share.
        let (mut draining, mut stopped) = (pin!(draining.cancelled()), pin!(stopped.cancelled()));
        let mut told = false;
        loop {
            self.news(sink).await?;
            in_time(&self.gateway.metrics, sink, Sink::poll_flush_unpin).await?;
            tokio::select! {
                biased;
                () = &mut stopped => return Err(End::Close(close::GOING_AWAY, "the node is stopping")),
                () = &mut draining, if !told => {
                    told = true;
                    let after_ms = rand::random_range(0..RECONNECT_SPREAD_MS);
                    let frame = ServerFrame::Reconnect { after_ms, reason: "draining".to_owned() };
                    Box::pin(self.say(sink, &frame)).await?;
                }
                order = orders.next() => match order {
                    Some(order) => Box::pin(self.order(sink, order)).await?,
                    None => return Err(End::Over),
                },
                () = self.reader.woken() => {}
                hint = list.next() => match hint {
                    Some(hint) => Box::pin(self.list_changed(sink, &hint)).await?,
                    None => return Err(End::Close(close::GOING_AWAY, "the node is stopping")),
                },
                // Who follows nothing sleeps on.
                _ = heartbeat.tick(), if !self.subscriptions.is_empty() => Box::pin(self.heartbeat(sink)).await?,
                _ = ping.tick() => put(&self.gateway.metrics, sink, Packet::Ping(axum::body::Bytes::new())).await?,
            }
        }
    }

    async fn say(&mut self, sink: &mut Sink, frame: &ServerFrame) -> Result<(), End> {
        put(&self.gateway.metrics, sink, Packet::Text(frames::encode(frame))).await
    }

    /// Everything that is new, a frame at a time, until nothing is.
    async fn news(&mut self, sink: &mut Sink) -> Result<(), End> {
        loop {
            // What a `send` brings about comes after its `accepted`.
            let admit = self.shared.sending.load(Ordering::SeqCst) == 0;
            while let Some(event) = self.reader.event(admit).map_err(|_| End::Close(close::TRY_AGAIN_LATER, "too far behind"))? {
                if !self.own.contains(&event.message) {
                    put(&self.gateway.metrics, sink, Packet::Text(event.frame)).await?;
                }
            }
            let mut busy = false;
            // Each conversation gets one frame a round, so that a long answer doesn't hold up the others.
            for subscription in self.subscriptions.values_mut() {
                if let Some((generation, step)) = subscription.next(admit) {
                    busy = true;
                    put(&self.gateway.metrics, sink, Packet::Text(frames::of_step(generation, step))).await?;
                }
            }
            if !busy {
                return Ok(());
            }
        }
    }

    async fn order(&mut self, sink: &mut Sink, order: Order) -> Result<(), End> {
        match order {
            Order::Frame(frame) => put(&self.gateway.metrics, sink, Packet::Text(frame)).await?,
            Order::Answer(answer) => self.answer(sink, *answer).await?,
            Order::Follow(subscription) => {
                self.subscriptions.insert(subscription.conversation().clone(), *subscription);
            }
            Order::Subscribe(subscription) => self.subscribe(sink, *subscription).await?,
            Order::Leave(conversation) => {
                self.subscriptions.remove(&conversation);
            }
            Order::Close(code, reason) => return Err(End::Close(code, reason)),
            Order::Left => return Err(End::Over),
        }
        Ok(())
    }

    async fn answer(&mut self, sink: &mut Sink, answer: Answer) -> Result<(), End> {
        self.own.extend(answer.own);
        let surplus = self.own.len().saturating_sub(OWN_MAX);
        self.own.drain(..surplus);
        put(&self.gateway.metrics, sink, Packet::Text(answer.frame)).await?;
        self.shared.sending.fetch_sub(1, Ordering::SeqCst);
        if let Some(generation) = answer.follow
            && let Some(subscription) = self.subscriptions.get_mut(&generation.conversation())
        {
            subscription.follow(&generation);
        }
        Ok(())
    }

    async fn subscribe(&mut self, sink: &mut Sink, mut subscription: Subscription) -> Result<(), End> {
        let conversation = subscription.conversation().clone();
        if let Some(before) = self.subscriptions.remove(&conversation) {
            subscription.take_over(before);
        }
        let version = subscription.state().map_or(0, |state| state.conversation.version);
        let generations = subscription.generations();
        self.say(sink, &ServerFrame::Subscribed { conversation: conversation.clone(), version, generations }).await?;
        let mut resume = Resume::Current;
        while let Some((generation, step)) = subscription.next(false) {
            resume = match step {
                Step::Snapshot { .. } => Resume::Snapshot,
                _ if resume == Resume::Snapshot => resume,
                _ => Resume::Deltas,
            };
            put(&self.gateway.metrics, sink, Packet::Text(frames::of_step(generation, step))).await?;
        }
        if subscription.resumes() {
            self.gateway.metrics.ws_resumed(resume);
        }
        subscription.caught_up();
        self.say(sink, &ServerFrame::CaughtUp { conversation: conversation.clone() }).await?;
        self.subscriptions.insert(conversation, subscription);
        Ok(())
    }

    async fn heartbeat(&mut self, sink: &mut Sink) -> Result<(), End> {
        let tails: Vec<Tail> = self
            .subscriptions
            .values()
            .flat_map(Subscription::tails)
            .map(|(generation, position)| Tail { generation, position })
            .collect();
        if tails.is_empty() { Ok(()) } else { self.say(sink, &ServerFrame::Heartbeat { tails }).await }
    }

    async fn list_changed(&mut self, sink: &mut Sink, hint: &Hint) -> Result<(), End> {
        let change = match hint {
            Hint::Conversation { conversation } => ConversationChange { conversation: conversation.clone(), deleted: false },
            Hint::ConversationDeleted { conversation } => {
                self.subscriptions.remove(&conversation.id);
                self.shared.followed().remove(&conversation.id);
                ConversationChange { conversation: conversation.clone(), deleted: true }
            }
            Hint::Access => {
                self.doubt.notify_one();
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.say(sink, &ServerFrame::Conversation { conversation: change }).await
    }
}
