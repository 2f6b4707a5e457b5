//! One WebSocket connection: what the client says. What it hears is in `outbox`; both run inside one task.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::{Message as Packet, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Gateway;
use super::allowance::Asker;
use super::auth::Caller;
use super::auth::origin::{self, Origin};
use super::auth::right::Right;
use super::desk::Asked;
use super::error::{About, Refusal};
use super::frames;
use super::hub::{Have, Reader};
use super::limits::Bucket;
use super::outbox::{self, Order, Outbox};
use super::seats::Seat;
use crate::backend::Submitted;
use crate::model::{ConversationId, GenerationId, MessageId, Position};
use crate::protocol::{CLIENT_FRAMES, ClientFrame, ErrorCode, Known, PROTOCOL_VERSION, SUBPROTOCOL, ServerFrame, close};

/// Bad frames before the connection is closed.
const BAD_FRAMES_MAX: u32 = 3;
/// Orders that may wait for the outbox; a client that asks faster than it reads is not read any faster.
const ORDERS_MAX: usize = 32;
/// Generations that one `subscribe` may say something about.
const KNOWN_MAX: usize = 200;
/// The library's default of 128 KiB a connection is far too much for frames of a few hundred bytes. A larger frame makes room for
/// itself once its length is known.
const READ_BUFFER_BYTES: usize = 1024;
/// So much is put together before it is written without being flushed.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// What JSON can make of a question's bytes (an escaped control character is six), and the frame around it.
const ESCAPED_BYTES_MAX: usize = 6;
const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// `GET /ws/chat`.
pub(super) async fn upgrade(
    State(gateway): State<Gateway>,
    caller: Option<Extension<Caller>>,
    asker: Option<Extension<Asker>>,
    headers: HeaderMap,
    socket: WebSocketUpgrade,
) -> Response {
    if gateway.drain.draining().is_cancelled() {
        gateway.metrics.ws_rejected("draining");
        return Refusal::new(ErrorCode::Unavailable, "this node is leaving; another one will serve you")
            .retry_after(500)
            .into_response();
    }
    let known = caller.zip(asker).map(|(Extension(caller), Extension(asker))| (caller, asker));
    let admitted = admit(&gateway, known, &headers);
    let locale = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).and_then(locale);
    let frame_bytes_max = gateway.config.prompt_bytes_max * ESCAPED_BYTES_MAX + ENVELOPE_BYTES_MAX;
    socket
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(frame_bytes_max)
        .max_frame_size(frame_bytes_max)
        .on_upgrade(async move |socket| {
            let drain = gateway.drain.clone();
            let seated = match admitted {
                Ok((caller, asker)) => seat(&gateway, &asker).await.map(|seat| (caller, asker, seat)),
                Err(refused) => Err(refused),
            };
            match seated {
                Ok((caller, asker, seat)) => {
                    drain.spawn("socket", serve(Arc::new(gateway), caller, asker, seat, locale, socket));
                }
                Err((why, code, sentence)) => {
                    gateway.metrics.ws_rejected(why);
                    drain.spawn("refusal", outbox::refuse(socket, code, sentence));
                }
            }
        })
}

/// Why a socket is closed as soon as it is open: for operators, and for its client as code and sentence.
type Refused = (&'static str, u16, &'static str);

async fn seat(gateway: &Gateway, asker: &Asker) -> Result<Seat, Refused> {
    gateway.seats.take(asker).await.map_err(|too_many| {
        gateway.metrics.rate_limited(too_many.scope);
        ("too_many", close::TOO_MANY, "too many connections; come back later")
    })
}

/// The caller, or what the client is told instead: browsers say nothing about a failed upgrade, but hand on a close code.
fn admit(gateway: &Gateway, known: Option<(Caller, Asker)>, headers: &HeaderMap) -> Result<(Caller, Asker), Refused> {
    let foreign = ("origin", close::POLICY, "this origin is not allowed");
    let origin = origin::of(headers, &gateway.config);
    if origin == Origin::Foreign {
        return Err(foreign);
    }
    let (caller, asker) = known.ok_or(("unauthorized", close::UNAUTHORIZED, "log in first"))?;
    // A browser always names the page. Where nobody logs in there is nothing to be stolen, and programs come without.
    if origin == Origin::Absent && caller.came_by_cookie() && !caller.is_anonymous() {
        return Err(foreign);
    }
    Ok((caller, asker))
}

/// The first language that the browser prefers, if the UI speaks it.
fn locale(accepted: &str) -> Option<String> {
    let mut languages = accepted.split(',').map(|language| language.trim().get(..2).unwrap_or_default().to_ascii_lowercase());
    languages.find(|language| matches!(language.as_str(), "vi" | "en"))
}

/// Both halves of a connection. Puts them together before it is a future, each in a box: what a future is given, and what it
/// awaits, it holds twice, and there may be ten thousands.
fn serve(
    gateway: Arc<Gateway>,
    caller: Caller,
    asker: Asker,
    seat: Seat,
    locale: Option<String>,
    socket: WebSocket,
) -> impl Future<Output = ()> + std::marker::Send {
    let user = caller.user.clone();
    let right = Right::of(&gateway.auth, &caller);
    gateway.metrics.ws_opened();
    gateway.open.fetch_add(1, Ordering::Relaxed);
    let (sink, stream) = socket.split();
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let reader = Reader::new(gateway.config.outbox_bytes_max, gateway.metrics.clone());
    let sending = Arc::new(AtomicUsize::new(0));
    let welcome = ServerFrame::Welcome {
        connection: format!("con_{}", uuid::Uuid::now_v7().simple()),
        node: gateway.node_id.to_string(),
        user: user.clone(),
        protocol: PROTOCOL_VERSION,
        heartbeat_ms: u32::try_from(gateway.config.heartbeat.as_millis()).unwrap_or(u32::MAX),
        locale,
    };
    let outbox = Outbox::new(Arc::clone(&gateway), user.clone(), right, Arc::clone(&reader), Arc::clone(&sending));
    let connection = Connection {
        limit: Bucket::new(gateway.config.frames_per_second_max, Instant::now()),
        gateway: Arc::clone(&gateway),
        asker,
        orders,
        reader,
        sending,
        followed: HashSet::new(),
        bad_frames: 0,
    };
    let said = Box::pin(outbox.run(sink, ordered, frames::encode(&welcome)));
    let heard = Box::pin(connection.run(stream));
    async move {
        // One task for both halves. The outbox ends last: it says why.
        let code = tokio::select! {
            code = said => code,
            () = heard => close::GOING_AWAY,
        };
        drop(seat);
        gateway.open.fetch_sub(1, Ordering::Relaxed);
        gateway.metrics.ws_closed(code);
    }
}

struct Connection {
    gateway: Arc<Gateway>,
    asker: Asker,
    orders: mpsc::Sender<Order>,
    reader: Arc<Reader>,
    /// Sends whose `accepted` is not queued yet: no new answer may be shown before it.
    sending: Arc<AtomicUsize>,
    followed: HashSet<ConversationId>,
    limit: Bucket,
    bad_frames: u32,
}

impl Connection {
    /// Reads until the client leaves or has to; then waits to be ended by the outbox.
    async fn run(mut self, mut stream: impl Stream<Item = Result<Packet, axum::Error>> + Unpin) {
        let silence = self.gateway.config.ping + self.gateway.config.pong_timeout;
        loop {
            let packet = match tokio::time::timeout(silence, stream.next()).await {
                Ok(Some(Ok(packet))) => packet,
                Ok(Some(Err(error))) if is_too_big(&error) => return self.close(close::TOO_BIG, "the frame is too big").await,
                Ok(Some(Err(_)) | None) => return,
                Err(_) => return self.close(close::GOING_AWAY, "no sign of life").await,
            };
            let goes_on = match packet {
                // What a frame brings about takes kilobytes while it lasts; most connections are silent most of the time.
                Packet::Text(text) => Box::pin(self.text(text.as_str())).await,
                Packet::Binary(_) => self.bad(None, "frames are text").await,
                Packet::Ping(_) | Packet::Pong(_) => true,
                Packet::Close(_) => return,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn order(&self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }

    async fn frame(&self, frame: ServerFrame) -> bool {
        self.order(Order::Frame(frames::encode(&frame))).await
    }

    async fn close(&self, code: u16, reason: &'static str) {
        self.order(Order::Close(code, reason)).await;
        // The outbox ends the connection once it has said so, or once its own deadline is over.
        self.orders.closed().await;
    }

    async fn refuse(&self, refusal: Refusal, about: About) -> bool {
        self.frame(refusal.frame(about)).await
    }

    async fn bad(&mut self, request_id: Option<String>, message: impl Into<String>) -> bool {
        self.bad_frames += 1;
        let answered = self.refuse(Refusal::bad(message), About { request_id, ..About::default() }).await;
        if self.bad_frames >= BAD_FRAMES_MAX {
            self.close(close::BAD_FRAME, "too many bad frames").await;
            return false;
        }
        answered
    }

    /// `false` when the connection is over.
    async fn text(&mut self, text: &str) -> bool {
        if let Err(wait) = self.limit.take(Instant::now()) {
            self.gateway.metrics.rate_limited("connection");
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
            let refusal = Refusal::new(ErrorCode::RateLimited, "too many frames; slow down").retry_after(wait_ms);
            let answered = self.refuse(refusal, About { request_id: request_id_of(text), ..About::default() }).await;
            // Whoever goes on pressing is not read until there is room again.
            tokio::time::sleep(wait.min(Duration::from_secs(1))).await;
            return answered;
        }
        let frame = match serde_json::from_str::<ClientFrame>(text) {
            Ok(frame) => frame,
            Err(error) => {
                let message = explain(text, &error);
                return self.bad(request_id_of(text), message).await;
            }
        };
        let is_question = matches!(frame, ClientFrame::Send(_));
        if !is_question && text.len() > self.gateway.config.frame_bytes_max {
            self.close(close::TOO_BIG, "the frame is too big").await;
            return false;
        }
        self.carry_out(frame).await
    }

    async fn carry_out(&mut self, frame: ClientFrame) -> bool {
        match frame {
            ClientFrame::Ping => self.frame(ServerFrame::Pong).await,
            ClientFrame::Send(send) => {
                let asked = Asked {
                    request_id: send.request_id,
                    content: send.content,
                    conversation: send.conversation,
                    model: send.model,
                    parent: send.parent,
                    options: send.options,
                };
                let request_id = asked.request_id.clone();
                // With a parent it may be the parent that is missing.
                let named = asked.conversation.clone().filter(|_| asked.parent.is_none());
                let gateway = Arc::clone(&self.gateway);
                let asker = self.asker.clone();
                self.submit(request_id, named, async move { gateway.desk.send(&asker, asked).await }).await
            }
            ClientFrame::Regenerate { request_id, message, model } => {
                let gateway = Arc::clone(&self.gateway);
                let (asker, request) = (self.asker.clone(), request_id.clone());
                self.submit(request_id, None, async move {
                    gateway.desk.regenerate(&asker, request, &message, model.as_deref()).await
                })
                .await
            }
            ClientFrame::Subscribe { conversation, known } => self.subscribe(conversation, known).await,
            ClientFrame::Unsubscribe { conversation } => match ConversationId::parse(&conversation) {
                Ok(id) => {
                    self.followed.remove(&id);
                    self.order(Order::Leave(id)).await
                }
                Err(_) => true,
            },
            ClientFrame::Cancel { generation } => match self.gateway.desk.cancel(&self.asker.user, &generation).await {
                Ok(generation) => self.frame(ServerFrame::CancelAccepted { generation }).await,
                Err(refusal) => self.refuse(refusal, About { generation: Some(generation), ..About::default() }).await,
            },
        }
    }

    /// `conversation` is what is not there, should something not be.
    async fn submit(
        &mut self,
        request_id: String,
        conversation: Option<String>,
        submit: impl Future<Output = Result<Submitted, Refusal>>,
    ) -> bool {
        self.sending.fetch_add(1, Ordering::SeqCst);
        let asked = Instant::now();
        let outcome = submit.await;
        let goes_on = match &outcome {
            Ok(submitted) => self.accepted(request_id, submitted, asked).await,
            Err(refusal) => {
                let conversation = conversation.filter(|_| refusal.code == ErrorCode::NotFound);
                self.refuse(refusal.clone(), About { request_id: Some(request_id), conversation, ..About::default() }).await
            }
        };
        self.sending.fetch_sub(1, Ordering::SeqCst);
        self.reader.wake();
        goes_on
    }

    async fn accepted(&mut self, request_id: String, submitted: &Submitted, asked: Instant) -> bool {
        let conversation = submitted.conversation.id.clone();
        let frame = ServerFrame::Accepted {
            request_id,
            conversation: conversation.clone(),
            user_message: submitted.user_message.clone(),
            assistant_message: submitted.assistant_message.clone(),
        };
        let ids: Vec<MessageId> = vec![submitted.user_message.id.clone(), submitted.assistant_message.id.clone()];
        if !self.order(Order::Accepted(frames::encode(&frame), ids.into())).await {
            return false;
        }
        if self.followed.contains(&conversation) {
            self.asked(submitted, asked);
            return self.again(submitted).await;
        }
        // A repeated request may be for an answer that has ended: its end is shown like any other's.
        let have = submitted.assistant_message.generation.iter().map(|generation| Have {
            generation: generation.clone(),
            position: Position::START,
            offset: Some(0),
        });
        let known: Vec<Have> = have.collect();
        match self.gateway.hub.attach(&self.asker.user, &conversation, &self.reader, &known).await {
            Ok(mut subscription) => {
                subscription.caught_up();
                self.asked(submitted, asked);
                self.followed.insert(conversation);
                self.order(Order::Follow(Box::new(subscription))).await
            }
            Err(error) => {
                let about = About { conversation: Some(conversation.to_string()), ..About::default() };
                self.refuse(error.into(), about).await
            }
        }
    }

    /// A repeated request may be for an answer that had ended before this connection followed its conversation: nothing else would
    /// tell of it.
    async fn again(&self, submitted: &Submitted) -> bool {
        match submitted.assistant_message.generation.clone().filter(|_| submitted.repeated) {
            Some(generation) => self.order(Order::Again(generation)).await,
            None => true,
        }
    }

    /// To measure how long the first token takes: a repeated question began earlier, so nobody knows.
    fn asked(&self, submitted: &Submitted, at: Instant) {
        if let Some(generation) = submitted.assistant_message.generation.as_ref().filter(|_| !submitted.repeated) {
            self.gateway.hub.asked(generation, at);
        }
    }

    async fn subscribe(&mut self, conversation: String, known: Vec<Known>) -> bool {
        let about = || About { conversation: Some(conversation.clone()), ..About::default() };
        let Ok(id) = ConversationId::parse(&conversation) else { return self.refuse(Refusal::not_found(), about()).await };
        let room = self.followed.len() < self.gateway.config.subscriptions_max || self.followed.contains(&id);
        if !room || known.len() > KNOWN_MAX {
            let message = format!(
                "a connection follows at most {} conversations and knows {KNOWN_MAX} answers of one",
                self.gateway.config.subscriptions_max
            );
            return self.refuse(Refusal::new(ErrorCode::Overloaded, message), about()).await;
        }
        match self.gateway.hub.attach(&self.asker.user, &id, &self.reader, &haves(&id, known)).await {
            Ok(subscription) => {
                self.followed.insert(id);
                self.order(Order::Subscribe(Box::new(subscription))).await
            }
            Err(error) => self.refuse(error.into(), about()).await,
        }
    }
}

/// What a client says it has, without what can't be of this conversation.
fn haves(conversation: &ConversationId, known: Vec<Known>) -> Vec<Have> {
    let of_it = |known: Known| {
        let generation = GenerationId::parse(&known.generation).ok().filter(|id| id.conversation() == *conversation)?;
        Some(Have { generation, position: known.position, offset: Some(known.offset) })
    };
    known.into_iter().filter_map(of_it).collect()
}

fn request_id_of(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    value.get("request_id")?.as_str().map(|id| id.chars().take(crate::backend::REQUEST_ID_BYTES_MAX).collect())
}

/// Why a frame can't be read, without repeating what it says.
fn explain(text: &str, error: &serde_json::Error) -> String {
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return format!("this is not JSON (line {}, column {})", error.line(), error.column()),
    };
    match value.get("type").and_then(|kind| kind.as_str()) {
        None => "a frame is an object with a `type`".to_owned(),
        Some(kind) if !CLIENT_FRAMES.contains(&kind) => format!("no frame has this type; known are {}", CLIENT_FRAMES.join(", ")),
        Some(kind) => {
            let reason = error.to_string();
            let reason = if reason.starts_with("missing field") { reason } else { "a field has the wrong type".to_owned() };
            format!("`{kind}`: {reason}")
        }
    }
}

fn is_too_big(error: &axum::Error) -> bool {
    // The library hides its error type behind a box; its text is the only thing that tells a size limit from a lost link.
    let text = error.to_string();
    text.contains("Space limit exceeded") || text.contains("too long")
}
