//! One WebSocket connection: what the client says. What it hears is in `outbox`; both run inside one task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Extension;
use axum::extract::ws::{Message as Packet, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_channel::mpsc;
use futures_util::{SinkExt, Stream, StreamExt};
use tokio::time::Instant;

use super::Gateway;
use super::allowance::Asker;
use super::auth::Caller;
use super::auth::origin::{self, Origin};
use super::auth::right::Right;
use super::desk::Asked;
use super::error::{About, Refusal};
use super::frames;
use super::hub::{Have, lock};
use super::limits::Bucket;
use super::outbox::{self, Answer, CLOSE_TIMEOUT, Order, Outbox, Shared};
use super::reader::Reader;
use super::seats::Seat;
use crate::backend::{Error, Submitted};
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

/// Lets so many a second through to [`upgrade`]; the others hear as soon as they are connected that it is too early.
pub(super) async fn in_turn(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    if lock(&gateway.handshakes).take(Instant::now()).is_ok() {
        return next.run(request).await;
    }
    let (mut parts, _) = request.into_parts();
    let socket = match WebSocketUpgrade::from_request_parts(&mut parts, &gateway).await {
        Ok(socket) => socket.protocols([SUBPROTOCOL]),
        Err(rejection) => return rejection.into_response(),
    };
    gateway.metrics.ws_rejected("storm");
    socket.on_upgrade(async move |socket| {
        let refusal = outbox::refuse(socket, close::TRY_AGAIN_LATER, "too many come at once; try again in a moment");
        gateway.drain.spawn("refusal", refusal);
    })
}

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
    let frame_bytes_max = gateway.question_bytes_max();
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
    let right = Box::new(Right::of(&gateway.auth, &caller));
    gateway.metrics.ws_opened();
    gateway.open.fetch_add(1, Ordering::Relaxed);
    let (sink, stream) = socket.split();
    let (orders, ordered) = mpsc::channel(ORDERS_MAX);
    let reader = Reader::new(gateway.config.outbox_bytes_max, gateway.metrics.clone());
    let shared = Arc::<Shared>::default();
    let welcome = ServerFrame::Welcome {
        connection: format!("con_{}", uuid::Uuid::now_v7().simple()),
        node: gateway.node_id.to_string(),
        user: user.clone(),
        protocol: PROTOCOL_VERSION,
        heartbeat_ms: u32::try_from(gateway.config.heartbeat.as_millis()).unwrap_or(u32::MAX),
        locale,
    };
    let outbox = Outbox::new(Arc::clone(&gateway), user.clone(), Arc::clone(&reader), Arc::clone(&shared));
    let connection = Connection {
        limit: Bucket::new(gateway.config.frames_per_second_max, Instant::now()),
        gateway: Arc::clone(&gateway),
        asker,
        orders,
        shared: Arc::clone(&shared),
        reader,
        bad_frames: 0,
    };
    let mut said = Box::pin(outbox.run(sink, right, ordered, frames::encode(&welcome)));
    let heard = Box::pin(connection.run(stream));
    async move {
        // One task for both halves. The outbox ends last: it says why.
        let code = tokio::select! {
            code = &mut said => code,
            // It may be saying goodbye just now, and if not, it finds that nobody asks any more.
            () = heard => tokio::time::timeout(CLOSE_TIMEOUT * 2, said).await.unwrap_or(close::LOST),
        };
        let code = match shared.left.load(Ordering::Relaxed) {
            0 => code,
            left => left,
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
    shared: Arc<Shared>,
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
                Packet::Binary(_) => Box::pin(self.bad(None, "frames are text")).await,
                Packet::Ping(_) | Packet::Pong(_) => true,
                Packet::Close(goodbye) => return self.left(goodbye.map_or(close::NO_CODE, |goodbye| goodbye.code)).await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn order(&mut self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }

    async fn frame(&mut self, frame: ServerFrame) -> bool {
        self.order(Order::Frame(frames::encode(&frame))).await
    }

    /// To be followed by the end of this half: the outbox ends the connection once it has said so, or once its own deadline is over.
    async fn close(&mut self, code: u16, reason: &'static str) {
        self.order(Order::Close(code, reason)).await;
    }

    /// The client waits for the answer to its goodbye, and the outbox is who writes.
    async fn left(&mut self, code: u16) {
        self.shared.left.store(code, Ordering::Relaxed);
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.order(Order::Left)).await;
    }

    async fn refuse(&mut self, refusal: Refusal, about: About) -> bool {
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
                let named = asked.conversation.clone();
                let gateway = Arc::clone(&self.gateway);
                let asker = self.asker.clone();
                self.submit(request_id, named, async move { gateway.desk.send(&asker, asked).await }).await
            }
            ClientFrame::Regenerate { request_id, message, model } => {
                let gateway = Arc::clone(&self.gateway);
                let (asker, request) = (self.asker.clone(), request_id.clone());
                let named = MessageId::parse(&message).ok().map(|id| id.conversation().to_string());
                self.submit(request_id, named, async move {
                    gateway.desk.regenerate(&asker, request, &message, model.as_deref()).await
                })
                .await
            }
            ClientFrame::Subscribe { conversation, known } => self.subscribe(conversation, known).await,
            ClientFrame::Unsubscribe { conversation } => match ConversationId::parse(&conversation) {
                Ok(id) => {
                    self.shared.followed().remove(&id);
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

    /// `conversation` is what may not be there, should something not be.
    async fn submit(
        &mut self,
        request_id: String,
        conversation: Option<String>,
        submit: impl Future<Output = Result<Submitted, Refusal>>,
    ) -> bool {
        self.shared.sending.fetch_add(1, Ordering::SeqCst);
        let asked = Instant::now();
        match submit.await {
            Ok(submitted) => self.accepted(request_id, &submitted, asked).await,
            Err(refusal) => {
                let conversation = match conversation {
                    Some(named) if refusal.code == ErrorCode::NotFound && self.is_missing(&named).await => Some(named),
                    _ => None,
                };
                let frame = refusal.frame(About { request_id: Some(request_id), conversation, ..About::default() });
                self.answer(Answer { frame: frames::encode(&frame), own: Vec::new(), follow: None }).await
            }
        }
    }

    /// Whether it is the conversation that is not there, and not something in it.
    async fn is_missing(&self, conversation: &str) -> bool {
        let Ok(id) = ConversationId::parse(conversation) else { return true };
        self.gateway.backends.store.conversation(&self.asker.user, &id).await == Err(Error::NotFound)
    }

    async fn answer(&mut self, answer: Answer) -> bool {
        self.order(Order::Answer(Box::new(answer))).await
    }

    async fn accepted(&mut self, request_id: String, submitted: &Submitted, asked: Instant) -> bool {
        let conversation = submitted.conversation.id.clone();
        let frame = ServerFrame::Accepted {
            request_id,
            conversation: conversation.clone(),
            user_message: submitted.user_message.clone(),
            assistant_message: submitted.assistant_message.clone(),
        };
        let own = vec![submitted.user_message.id.clone(), submitted.assistant_message.id.clone()];
        let generation = submitted.assistant_message.generation.clone();
        let (follows, full) = {
            let followed = self.shared.followed();
            (followed.contains(&conversation), followed.len() >= self.gateway.config.subscriptions_max)
        };
        // Where it is followed already, nothing else may tell of it: the hint may be lost, or a repeated request's answer have ended.
        let follow = generation.clone().filter(|_| follows);
        if !self.answer(Answer { frame: frames::encode(&frame), own, follow }).await {
            return false;
        }
        if follows {
            self.asked(submitted, asked);
            return true;
        }
        let about = || About { conversation: Some(conversation.to_string()), ..About::default() };
        if full {
            return self.refuse(self.follows_too_much(), about()).await;
        }
        // A repeated request may be for an answer that has ended: its end is shown like any other's.
        let have = |generation| Have { generation, position: Position::START, offset: Some(0) };
        let known: Vec<Have> = generation.map(have).into_iter().collect();
        match self.gateway.hub.attach(&self.asker.user, &conversation, &self.reader, &known).await {
            Ok(mut subscription) => {
                subscription.caught_up();
                self.asked(submitted, asked);
                self.shared.followed().insert(conversation);
                self.order(Order::Follow(Box::new(subscription))).await
            }
            Err(error) => self.refuse(error.into(), about()).await,
        }
    }

    fn follows_too_much(&self) -> Refusal {
        let message = format!(
            "a connection follows at most {} conversations and knows {KNOWN_MAX} answers of one",
            self.gateway.config.subscriptions_max
        );
        Refusal::new(ErrorCode::Overloaded, message)
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
        let room = {
            let followed = self.shared.followed();
            followed.len() < self.gateway.config.subscriptions_max || followed.contains(&id)
        };
        if !room || known.len() > KNOWN_MAX {
            return self.refuse(self.follows_too_much(), about()).await;
        }
        match self.gateway.hub.attach(&self.asker.user, &id, &self.reader, &haves(&id, known)).await {
            Ok(subscription) => {
                self.shared.followed().insert(id);
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
