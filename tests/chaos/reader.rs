//! One reader that does what protocol.md tells clients to do, through whatever happens to its sockets, and writes down
//! what it sees. It must not know what is right, nor what breaks.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chatnode::log::Channel;
use chatnode::model::{ConversationId, GenerationId, Position};
use chatnode::protocol::{HistoryItem, List, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Packet;

use super::history::{History, Millis, Question, Seen, What};
use crate::harness::client::upgrade;

const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// To connect, and to be welcomed.
const WELCOME_MAX: Duration = Duration::from_secs(2);
/// Before something that was refused is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a reader waits for all of its answers.
const PATIENCE: Duration = Duration::from_secs(150);

/// Where readers meet the cluster.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) began: Instant,
    pub(crate) gateways: Vec<SocketAddr>,
    /// Silence while an answer is open after which a reader takes its link for dead.
    pub(crate) stall: Duration,
    /// Answers that were accepted and have not ended.
    pub(crate) open: AtomicUsize,
    pub(crate) http: reqwest::Client,
    /// Times that somebody had caught up.
    pub(crate) caught_up: AtomicUsize,
}

impl Field {
    pub(crate) fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).expect("a run is short")
    }
}

/// Which conversation it is, once somebody knows, and who may read it.
pub(crate) type Place = watch::Sender<Option<(String, ConversationId)>>;

/// What a reader does beside reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// Asked one after the other; empty for who only reads along.
    pub(crate) questions: VecDeque<Question>,
    /// Answers after which it is done.
    pub(crate) answers: usize,
    /// Asks the same again once it was accepted.
    pub(crate) repeats: bool,
    /// Loses its socket after so many bytes of text.
    pub(crate) hops: Option<usize>,
    /// Cancels the first answer after so many bytes.
    pub(crate) cancels: Option<usize>,
}

pub(crate) struct Reader {
    field: Arc<Field>,
    place: Arc<Place>,
    part: Part,
    history: History,
    cookie: Option<String>,
    conversation: Option<ConversationId>,
    copies: BTreeMap<GenerationId, Copy>,
    /// The gateway that it was connected to last.
    last: Option<usize>,
    deadline: Instant,
}

#[derive(Clone, Debug, Default)]
struct Copy {
    position: Position,
    text: u64,
    reasoning: u64,
    ended: bool,
}

struct Link {
    stream: WebSocketStream<TcpStream>,
    heard: Instant,
    pinged: bool,
    leave: Option<Instant>,
    /// To be said again then.
    again: Option<(Instant, Value)>,
}

impl Reader {
    pub(crate) fn new(name: &str, field: Arc<Field>, place: Arc<Place>, part: Part) -> Self {
        let history = History { reader: name.to_owned(), seen: Vec::new() };
        let deadline = Instant::now() + PATIENCE;
        Self { field, place, part, history, cookie: None, conversation: None, copies: BTreeMap::new(), last: None, deadline }
    }

    /// Begins anywhere but there.
    pub(crate) fn avoiding(self, gateway: usize) -> Self {
        Self { last: Some(gateway), ..self }
    }

    /// Reads until everything has ended, or nobody could have waited any longer.
    pub(crate) async fn follow(mut self) -> History {
        if self.part.questions.is_empty() {
            let mut known = self.place.subscribe();
            let Ok(Ok(place)) = timeout(PATIENCE, known.wait_for(Option::is_some)).await.map(|place| place.map(|p| p.clone()))
            else {
                return self.history;
            };
            (self.cookie, self.conversation) =
                place.map(|(cookie, conversation)| (Some(cookie), Some(conversation))).unwrap_or_default();
        }
        let mut wait = BACKOFF_FIRST;
        while !self.is_done() {
            if Instant::now() >= self.deadline {
                self.note(What::GaveUp);
                break;
            }
            match self.connect().await {
                Some(mut link) => {
                    wait = BACKOFF_FIRST;
                    self.live(&mut link).await;
                    self.note(What::Lost);
                }
                None => {
                    tokio::time::sleep(wait.mul_f64(rand::random())).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                }
            }
        }
        self.history
    }

    fn note(&mut self, what: What) {
        self.history.seen.push(Seen { at: self.field.now(), what });
    }

    fn is_done(&self) -> bool {
        self.part.questions.is_empty() && self.copies.values().filter(|copy| copy.ended).count() >= self.part.answers
    }

    /// A socket to any gateway but the one that was lost last, as a proxy in front of them would choose.
    async fn connect(&mut self) -> Option<Link> {
        let others: Vec<usize> = (0..self.field.gateways.len()).filter(|gateway| Some(*gateway) != self.last).collect();
        let gateway = if others.is_empty() { 0 } else { others[rand::random_range(0..others.len())] };
        let address = self.field.gateways[gateway];
        let opened = timeout(WELCOME_MAX, async {
            let (mut stream, cookie) = upgrade(address, self.cookie.as_deref(), None).await?;
            let Packet::Text(text) = stream.next().await?.ok()? else { return None };
            Some((stream, cookie, serde_json::from_str::<ServerFrame>(&text).ok()?))
        });
        let (stream, cookie, welcome) = opened.await.ok()??;
        self.cookie = cookie.or(self.cookie.take());
        self.last = Some(gateway);
        self.note(What::Opened(gateway));
        self.note(What::Heard(Box::new(welcome)));
        Some(Link { stream, heard: Instant::now(), pinged: false, leave: None, again: None })
    }

    /// One connection, until it is lost or no longer needed.
    async fn live(&mut self, link: &mut Link) {
        if self.conversation.is_some() {
            self.subscribe(link).await;
        }
        self.ask(link).await;
        while !self.is_done() && Instant::now() < self.deadline {
            let stall = self.field.stall;
            let patience = link.heard + if link.pinged { stall } else { stall / 2 };
            let wakes = [Some(patience), link.leave, link.again.as_ref().map(|again| again.0)].into_iter().flatten().min();
            tokio::select! {
                packet = link.stream.next() => match packet {
                    Some(Ok(Packet::Text(text))) => {
                        (link.heard, link.pinged) = (Instant::now(), false);
                        let frame: ServerFrame = serde_json::from_str(&text).expect("a frame of the protocol");
                        if !self.take(link, frame).await {
                            return;
                        }
                    }
                    Some(Ok(Packet::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                () = sleep_until(wakes.expect("patience is one of them")) => {
                    if !self.wake(link).await {
                        return;
                    }
                }
            }
        }
    }

    /// Something is due. False: the connection is given up.
    async fn wake(&mut self, link: &mut Link) -> bool {
        let now = Instant::now();
        if link.leave.is_some_and(|leave| now >= leave) || now >= link.heard + self.field.stall {
            return false;
        }
        if let Some((_, frame)) = link.again.take_if(|(at, _)| now >= *at) {
            self.tell(link, frame).await;
        }
        if now >= link.heard + self.field.stall / 2 && !link.pinged {
            link.pinged = true;
            self.tell(link, json!({"type": "ping"})).await;
        }
        true
    }

    async fn tell(&mut self, link: &mut Link, frame: Value) {
        // That nobody listens is found by reading; that nobody takes it, by silence.
        let _ = timeout(self.field.stall, link.stream.send(Packet::text(frame.to_string()))).await;
    }

    async fn subscribe(&mut self, link: &mut Link) {
        // What was read as a whole has no position, and nothing of it is missing.
        let followed = self.copies.iter().filter(|(_, copy)| !copy.ended || copy.position > Position::START);
        let known: BTreeMap<_, _> = followed.map(|(id, copy)| (id.clone(), (copy.position, copy.text))).collect();
        let told: Vec<Value> = known
            .iter()
            .map(|(generation, (position, offset))| json!({"generation": generation, "position": position, "offset": offset}))
            .collect();
        self.note(What::Subscribed(known));
        let frame = json!({"type": "subscribe", "conversation": self.conversation, "known": told});
        self.tell(link, frame).await;
    }

    /// Asks what comes next, if the answer before it has ended.
    async fn ask(&mut self, link: &mut Link) {
        let Some(question) = self.part.questions.front().filter(|_| self.copies.values().all(|copy| copy.ended)).cloned() else {
            return;
        };
        let mut frame = json!({"type": "send", "request_id": question.request, "content": question.prompt});
        if let Some(conversation) = &self.conversation {
            frame["conversation"] = conversation.to_string().into();
        }
        self.note(What::Sent(question.request));
        self.tell(link, frame).await;
    }

    /// Takes a frame as protocol.md tells. False: the connection is given up.
    async fn take(&mut self, link: &mut Link, frame: ServerFrame) -> bool {
        self.note(What::Heard(Box::new(frame.clone())));
        if matches!(frame, ServerFrame::CaughtUp { .. }) {
            self.field.caught_up.fetch_add(1, Ordering::SeqCst);
        }
        match frame {
            ServerFrame::Accepted { request_id, conversation, assistant_message, .. } => {
                // Known from now on, so that its end is told even if nothing else ever was.
                self.copies.extend(
                    assistant_message.generation.filter(|id| !self.copies.contains_key(id)).map(|id| (id, Copy::default())),
                );
                self.accepted(link, &request_id, conversation).await;
            }
            // A cancel that came too late, or could not be stored, is not asked for again.
            ServerFrame::Error(error) if error.generation.is_some() => {}
            ServerFrame::Error(error) => {
                let wait = error.retry_after_ms.map_or(AGAIN, Duration::from_millis).min(BACKOFF_MAX);
                self.refused(link, error.request_id.is_some(), error.conversation.is_some(), wait);
            }
            ServerFrame::Reconnect { after_ms, .. } => {
                link.leave.get_or_insert(Instant::now() + Duration::from_millis(after_ms));
            }
            ServerFrame::Delta { generation, position, offset, text, channel, .. } => {
                return self.delta(link, generation, position, (channel, offset, text.len() as u64)).await;
            }
            ServerFrame::Snapshot { generation, position, text, reasoning } => {
                let copy = self.copies.entry(generation).or_default();
                let thoughts = reasoning.map_or(0, |reasoning| reasoning.len() as u64);
                (copy.text, copy.reasoning, copy.position) = (text.len() as u64, thoughts, position);
            }
            ServerFrame::Rewind { generation, position, offset, channel } => {
                let copy = self.copies.entry(generation).or_default();
                *if channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning } = offset;
                copy.position = position;
            }
            ServerFrame::CaughtUp { .. } if !self.is_author() && self.copies.values().all(|copy| copy.ended) => {
                return self.look_back(link).await;
            }
            ServerFrame::Finished(finished) => {
                let copy = self.copies.entry(finished.generation.clone()).or_default();
                if !std::mem::replace(&mut copy.ended, true) && self.part.answers > 0 && self.is_author() {
                    self.field.open.fetch_sub(1, Ordering::SeqCst);
                }
                if !self.is_author() && !self.is_done() && self.copies.values().all(|copy| copy.ended) {
                    return self.look_back(link).await;
                }
                // The next question waits for the answer before it, as people do.
                if self.copies.values().all(|copy| copy.ended) && !self.part.questions.is_empty() {
                    self.ask(link).await;
                }
            }
            _ => {}
        }
        true
    }

    /// What ended before it came is told by the conversation's history, as a page that opens it would read it.
    async fn look_back(&mut self, link: &mut Link) -> bool {
        let (Some(gateway), Some(conversation)) = (self.last, &self.conversation) else { return false };
        let url = format!("http://{}/api/conversations/{conversation}/messages?limit=50", self.field.gateways[gateway]);
        let asked = self.field.http.get(url).header("cookie", self.cookie.clone().unwrap_or_default()).timeout(WELCOME_MAX);
        let read = async { asked.send().await?.error_for_status()?.json::<List<HistoryItem>>().await };
        let Ok(history) = read.await else {
            link.leave.get_or_insert(Instant::now() + AGAIN);
            return true;
        };
        for message in history.items.into_iter().map(|item| item.message).filter(|message| !message.status.is_open()) {
            let Some(generation) = message.generation.clone() else { continue };
            let copy = self.copies.entry(generation).or_default();
            if !std::mem::replace(&mut copy.ended, true) {
                self.note(What::Read(Box::new(message)));
            }
        }
        true
    }

    fn is_author(&self) -> bool {
        self.history.reader == "author"
    }

    async fn accepted(&mut self, link: &mut Link, request: &str, conversation: ConversationId) {
        if self.part.questions.front().is_none_or(|question| question.request != request) {
            return;
        }
        let Some(question) = self.part.questions.pop_front() else { return };
        self.field.open.fetch_add(1, Ordering::SeqCst);
        self.conversation = Some(conversation.clone());
        let cookie = self.cookie.clone().unwrap_or_default();
        self.place.send_replace(Some((cookie, conversation)));
        if std::mem::take(&mut self.part.repeats) {
            let frame = json!({"type": "send", "request_id": question.request, "content": question.prompt});
            self.note(What::Sent(question.request));
            self.tell(link, frame).await;
        }
    }

    fn refused(&mut self, link: &mut Link, request: bool, conversation: bool, wait: Duration) {
        let at = Instant::now() + wait;
        if request && let Some(question) = self.part.questions.front() {
            let mut frame = json!({"type": "send", "request_id": question.request, "content": question.prompt});
            if let Some(conversation) = &self.conversation {
                frame["conversation"] = conversation.to_string().into();
            }
            link.again = Some((at, frame));
        } else if conversation || !request {
            // What it asked for can't be told apart any more; coming back says it all again.
            link.leave.get_or_insert(at);
        }
    }

    async fn delta(&mut self, link: &mut Link, generation: GenerationId, position: Position, said: (Channel, u64, u64)) -> bool {
        let (channel, offset, bytes) = said;
        let copy = self.copies.entry(generation.clone()).or_default();
        let held = if channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning };
        if offset > *held {
            self.subscribe(link).await;
            return true;
        }
        *held = (*held).max(offset + bytes);
        copy.position = copy.position.max(position);
        let text = usize::try_from(copy.text).expect("an answer fits");
        if self.part.cancels.take_if(|at| text >= *at).is_some() {
            self.note(What::Cancelled(generation.clone()));
            self.tell(link, json!({"type": "cancel", "generation": generation})).await;
        }
        self.part.hops.take_if(|at| text >= *at).is_none()
    }
}
