//! A strict client of the wire contract: it follows the rules for clients to the letter, and looks at every state that a
//! reader could have seen. It must not know what is tested, nor anything of the server but its frames.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chatnode::ai::provider::demo;
use chatnode::log::Channel;
use chatnode::model::{GenerationId, Message, Position, Role};
use chatnode::protocol::{ErrorFrame, Finished, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message as Packet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a client has of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Copy {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) position: Position,
    pub(crate) finished: Option<Finished>,
}

/// What survives the loss of a socket: the cookie, the answers so far, and the texts that they must become.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tab {
    pub(crate) cookie: Option<String>,
    /// True for a browser: it names the page that it shows.
    pub(crate) page: bool,
    pub(crate) copies: BTreeMap<GenerationId, Copy>,
    pub(crate) prompts: BTreeMap<String, String>,
    pub(crate) expected: BTreeMap<GenerationId, String>,
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) Option<u16>);

#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    pub(crate) tab: Tab,
    pub(crate) welcome: ServerFrame,
}

impl Tab {
    /// Opens a socket; the first frame has to be `welcome`.
    pub(crate) async fn connect(self, address: SocketAddr) -> Socket {
        self.try_connect(address).await.expect("a socket and its welcome")
    }

    /// `None` when nobody is there, or nobody who wants us.
    pub(crate) async fn try_connect(mut self, address: SocketAddr) -> Option<Socket> {
        let (mut stream, cookie) =
            upgrade(address, self.cookie.as_deref(), self.page.then(|| format!("http://{address}")).as_deref()).await?;
        self.cookie = cookie.or(self.cookie);
        let packet = timeout(PATIENCE, stream.next()).await.expect("a frame in time")?.ok()?;
        let Packet::Text(text) = packet else { return None };
        let welcome = serde_json::from_str(&text).expect("a frame");
        assert!(matches!(welcome, ServerFrame::Welcome { .. }), "{welcome:?}");
        Some(Socket { stream, tab: self, welcome })
    }

    /// What it says of itself when it subscribes.
    pub(crate) fn known(&self) -> Value {
        let known = self
            .copies
            .iter()
            .map(|(generation, copy)| json!({"generation": generation, "position": copy.position, "offset": copy.text.len()}));
        known.collect()
    }

    /// Messages name the question that an answer is for, and so the text that it has to become if the demonstration writes it.
    pub(crate) fn learn(&mut self, message: &Message) {
        match (message.role, &message.generation, &message.parent) {
            (Role::User, ..) => {
                self.prompts.insert(message.id.to_string(), message.content.clone());
            }
            (Role::Assistant, Some(generation), Some(parent))
                if message.model.as_deref() == Some(chatnode::ai::provider::DEMO_ID) =>
            {
                if let Some(prompt) = self.prompts.get(parent.as_str()) {
                    self.expected.entry(generation.clone()).or_insert_with(|| demo::text(generation, prompt));
                }
            }
            _ => {}
        }
    }

    /// The text that an answer has to become.
    pub(crate) fn expected(&self, generation: &GenerationId) -> &str {
        &self.expected[generation]
    }

    /// Takes a frame as protocol.md tells; panics when the server broke a promise.
    pub(crate) fn apply(&mut self, frame: &ServerFrame) {
        match frame {
            ServerFrame::Accepted { user_message, assistant_message, .. } => {
                self.learn(user_message);
                self.learn(assistant_message);
            }
            ServerFrame::Message { message, .. } => self.learn(message),
            ServerFrame::Delta { generation, position, offset, text, channel, .. } => {
                let copy = self.copies.entry(generation.clone()).or_default();
                let held = if *channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning };
                let at = usize::try_from(*offset).expect("an offset");
                if at == held.len() {
                    held.push_str(text);
                } else {
                    assert!(at < held.len(), "a gap in {generation}: {at} after {}", held.len());
                    assert_eq!(held.get(at..at + text.len()), Some(text.as_str()), "what repeats says the same");
                }
                copy.position = copy.position.max(*position);
            }
            ServerFrame::Snapshot { generation, position, text, reasoning } => {
                let copy = self.copies.entry(generation.clone()).or_default();
                copy.text.clone_from(text);
                copy.reasoning = reasoning.clone().unwrap_or_default();
                copy.position = *position;
            }
            ServerFrame::Rewind { generation, position, offset, channel } => {
                let copy = self.copies.entry(generation.clone()).or_default();
                let held = if *channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning };
                held.truncate(usize::try_from(*offset).expect("an offset"));
                copy.position = *position;
            }
            ServerFrame::Finished(finished) => self.finish(finished),
            _ => {}
        }
        self.look();
    }

    fn finish(&mut self, finished: &Finished) {
        let copy = self.copies.entry(finished.generation.clone()).or_default();
        assert_eq!(copy.text.len() as u64, finished.length, "length of {}", finished.generation);
        assert_eq!(crc32fast::hash(copy.text.as_bytes()), finished.crc32, "crc32 of {}", finished.generation);
        assert_eq!(copy.text, finished.message.content, "the message holds the text");
        assert_eq!(copy.reasoning, finished.message.reasoning.clone().unwrap_or_default());
        assert_eq!(finished.message.status, finished.status);
        copy.finished = Some(finished.clone());
    }

    /// Every sample is a beginning of the text to come.
    fn look(&self) {
        for (generation, copy) in &self.copies {
            if let Some(expected) = self.expected.get(generation) {
                assert!(expected.starts_with(&copy.text), "{generation}: {:?} is no beginning of {expected:?}", copy.text);
            }
        }
    }
}

impl Socket {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Tab::default().connect(address).await
    }

    pub(crate) async fn tell(&mut self, frame: Value) {
        self.raw(Packet::text(frame.to_string())).await;
    }

    /// A frame that needs not be one. That the other side is gone is found by reading.
    pub(crate) async fn raw(&mut self, packet: Packet) {
        let _ = self.stream.send(packet).await;
    }

    /// The next frame, taken in; or how the socket ended.
    pub(crate) async fn next(&mut self) -> Result<ServerFrame, Closed> {
        loop {
            let packet = timeout(PATIENCE, self.stream.next()).await.expect("a frame in time");
            match packet {
                Some(Ok(Packet::Text(text))) => {
                    let frame = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                    self.tab.apply(&frame);
                    return Ok(frame);
                }
                Some(Ok(Packet::Close(close))) => return Err(Closed(close.map(|close| close.code.into()))),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed(None)),
            }
        }
    }

    /// Reads until a frame gives what is looked for.
    pub(crate) async fn until<T>(&mut self, what: &str, mut found: impl FnMut(&ServerFrame, &Tab) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let frame = self.next().await.unwrap_or_else(|closed| panic!("{closed:?} while waiting for {what}"));
            if let Some(found) = found(&frame, &self.tab) {
                return found;
            }
            assert!(Instant::now() < deadline, "did not come: {what}");
        }
    }

    /// Asks, and answers question and answer as they were accepted.
    pub(crate) async fn ask(&mut self, mut fields: Value) -> (Message, Message) {
        fields["type"] = "send".into();
        if fields.get("request_id").is_none() {
            fields["request_id"] = uuid::Uuid::new_v4().to_string().into();
        }
        self.tell(fields).await;
        self.accepted().await
    }

    pub(crate) async fn accepted(&mut self) -> (Message, Message) {
        self.until("accepted", |frame, _| match frame {
            ServerFrame::Accepted { user_message, assistant_message, .. } => {
                Some((user_message.clone(), assistant_message.clone()))
            }
            ServerFrame::Error(error) => panic!("{error:?}"),
            _ => None,
        })
        .await
    }

    pub(crate) async fn error(&mut self) -> ErrorFrame {
        self.until("error", |frame, _| match frame {
            ServerFrame::Error(error) => Some(error.clone()),
            _ => None,
        })
        .await
    }

    /// Reads until the answer has ended (also when it had before).
    pub(crate) async fn finished(&mut self, generation: &GenerationId) -> Finished {
        if let Some(finished) = self.tab.copies.get(generation).and_then(|copy| copy.finished.clone()) {
            return finished;
        }
        self.until("finished", |frame, _| match frame {
            ServerFrame::Finished(finished) if finished.generation == *generation => Some((**finished).clone()),
            _ => None,
        })
        .await
    }

    /// Reads until at least so many bytes of the answer are there.
    pub(crate) async fn bytes(&mut self, generation: &GenerationId, least: usize) {
        let enough = |tab: &Tab| tab.copies.get(generation).is_some_and(|copy| copy.text.len() >= least).then_some(());
        if enough(&self.tab).is_none() {
            self.until("text", |_, tab| enough(tab)).await;
        }
    }

    /// Subscribes with what the tab knows and reads until it has caught up; answers the frames on the way.
    pub(crate) async fn subscribe(&mut self, conversation: &str) -> Vec<ServerFrame> {
        let known = self.tab.known();
        self.subscribe_with(conversation, known).await
    }

    pub(crate) async fn subscribe_with(&mut self, conversation: &str, known: Value) -> Vec<ServerFrame> {
        self.tell(json!({"type": "subscribe", "conversation": conversation, "known": known})).await;
        let mut frames = Vec::new();
        self.until("caught_up", |frame, _| {
            frames.push(frame.clone());
            assert!(!matches!(frame, ServerFrame::Error(_)), "{frame:?}");
            matches!(frame, ServerFrame::CaughtUp { .. }).then_some(())
        })
        .await;
        frames
    }

    /// The close code, whatever comes before it.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(Closed(code)) = self.next().await {
                return code;
            }
        }
    }

    /// Loses the socket without a goodbye.
    pub(crate) fn lose(self) -> Tab {
        self.tab
    }
}

/// Opens a socket as a page of this origin would; answers it and the cookie that came with it.
pub(crate) async fn upgrade(
    address: SocketAddr,
    cookie: Option<&str>,
    origin: Option<&str>,
) -> Option<(WebSocketStream<TcpStream>, Option<String>)> {
    let mut request = format!("ws://{address}/ws/chat").into_client_request().expect("a request");
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "chatnode.v1".parse().expect("a header"));
    if let Some(cookie) = cookie {
        headers.insert("cookie", cookie.parse().expect("a header"));
    }
    if let Some(origin) = origin {
        headers.insert("origin", origin.parse().expect("a header"));
    }
    let tcp = TcpStream::connect(address).await.ok()?;
    let (stream, response) = client_async(request, tcp).await.ok()?;
    let cookie = response.headers().get("set-cookie").map(|value| {
        let value = value.to_str().expect("a cookie is text");
        value.split(';').next().expect("a cookie has a value").to_owned()
    });
    Some((stream, cookie))
}
