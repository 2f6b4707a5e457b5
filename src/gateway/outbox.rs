//! What a WebSocket client hears. Answers are drawn from the replicas when the socket has room, so a client that reads
//! slowly gets larger deltas, and one that never reads costs no memory.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as Packet, Utf8Bytes, WebSocket};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::Gateway;
use super::auth::right::Right;
use super::frames;
use super::hub::{Reader, Subscription};
use super::resume::Step;
use crate::backend::{Hint, Subject};
use crate::model::{ConversationId, GenerationId, MessageId, UserId};
use crate::protocol::{ConversationChange, ServerFrame, Tail, close};
use crate::telemetry::{Metrics, Resume};

/// How long a closing handshake may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Clients of a leaving node come back within this, spread evenly.
const RECONNECT_SPREAD_MS: u64 = 2_000;
/// Messages that a connection remembers as its own.
const OWN_MAX: usize = 64;

type Sink = SplitSink<WebSocket, Packet>;
type Poll = fn(&mut Sink, &mut std::task::Context<'_>) -> std::task::Poll<Result<(), axum::Error>>;

/// What the reading half wants said or done. Small: each connection has room for 32 of them from its first moment.
#[derive(Debug)]
pub(super) enum Order {
    Frame(Utf8Bytes),
    /// An `accepted` with the messages that are not news to this connection.
    Accepted(Utf8Bytes, Box<[MessageId]>),
    /// Follow, after telling what is missed.
    Subscribe(Box<Subscription>),
    /// Follow, without a word about it.
    Follow(Box<Subscription>),
    /// Tell this answer from its beginning, unless it is being told.
    Again(GenerationId),
    Leave(ConversationId),
    Close(u16, &'static str),
}

/// Why the connection ends.
enum End {
    Close(u16, &'static str),
    /// The socket is broken.
    Lost,
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Lost
    }
}

pub(super) struct Outbox {
    gateway: Arc<Gateway>,
    user: UserId,
    right: Right,
    reader: Arc<Reader>,
    sending: Arc<AtomicUsize>,
    subscriptions: HashMap<ConversationId, Subscription>,
    own: VecDeque<MessageId>,
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
    pub(super) fn new(gateway: Arc<Gateway>, user: UserId, right: Right, reader: Arc<Reader>, sending: Arc<AtomicUsize>) -> Self {
        Self { gateway, user, right, reader, sending, subscriptions: HashMap::new(), own: VecDeque::new() }
    }

    /// Runs until the connection ends; answers the close code.
    pub(super) async fn run(mut self, mut sink: Sink, orders: mpsc::Receiver<Order>, welcome: Utf8Bytes) -> u16 {
        let stopped = self.gateway.drain.stopped().clone();
        let end = tokio::select! {
            Err(end) = self.serve(&mut sink, orders, welcome) => end,
            // A client that doesn't read must not keep the node from stopping.
            () = async { stopped.cancelled().await; tokio::time::sleep(CLOSE_TIMEOUT).await } => End::Lost,
        };
        match end {
            End::Lost => close::GOING_AWAY,
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
        let mut heartbeat = interval(self.gateway.config.heartbeat);
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
                order = orders.recv() => match order {
                    Some(order) => Box::pin(self.order(sink, order)).await?,
                    None => return Err(End::Close(close::GOING_AWAY, "")),
                },
                () = self.right.in_doubt() => self.look_again().await?,
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
            let admit = self.sending.load(Ordering::SeqCst) == 0;
            while let Some(event) = self.reader.event(admit).map_err(|_| End::Close(close::TRY_AGAIN_LATER, "too far behind"))? {
                if !self.own.contains(&event.message) {
                    put(&self.gateway.metrics, sink, Packet::Text(event.frame)).await?;
                }
            }
            let mut busy = false;
            // Each answer gets one frame a round, so that a long one doesn't hold up the others.
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
            Order::Accepted(frame, own) => {
                self.own.extend(own);
                let surplus = self.own.len().saturating_sub(OWN_MAX);
                self.own.drain(..surplus);
                put(&self.gateway.metrics, sink, Packet::Text(frame)).await?;
            }
            Order::Follow(subscription) => {
                self.subscriptions.insert(subscription.conversation().clone(), *subscription);
            }
            Order::Subscribe(subscription) => self.subscribe(sink, *subscription).await?,
            Order::Again(generation) => {
                if let Some(subscription) = self.subscriptions.get_mut(&generation.conversation()) {
                    subscription.again(&generation);
                }
            }
            Order::Leave(conversation) => {
                self.subscriptions.remove(&conversation);
            }
            Order::Close(code, reason) => return Err(End::Close(code, reason)),
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
        self.gateway.metrics.ws_resumed(resume);
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

    /// A socket must not outlive the right that let it in.
    async fn look_again(&mut self) -> Result<(), End> {
        match self.right.holds().await {
            true => Ok(()),
            false => Err(End::Close(close::UNAUTHORIZED, "logged out")),
        }
    }

    async fn list_changed(&mut self, sink: &mut Sink, hint: &Hint) -> Result<(), End> {
        let change = match hint {
            Hint::Conversation { conversation } => ConversationChange { conversation: conversation.clone(), deleted: false },
            Hint::ConversationDeleted { conversation } => {
                self.subscriptions.remove(&conversation.id);
                ConversationChange { conversation: conversation.clone(), deleted: true }
            }
            Hint::Access => return self.look_again().await,
            _ => return Ok(()),
        };
        self.say(sink, &ServerFrame::Conversation { conversation: change }).await
    }
}
