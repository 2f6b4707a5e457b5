//! Events on NATS, for programs outside: `<prefix>.events.<event>`, one JSON document each.
//!
//! With a stream, each is repeated until JetStream has it, so none is lost while NATS is away; a message id lets the server drop
//! repeats. Without one they go to whoever listens at the moment. It must not know what an event means.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, HeaderMap};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::backplane::Dropped;
use crate::backend::Events;
use crate::event::{Event, Happened};
use crate::model::{ConversationId, UserId};

/// Events that wait for NATS; what comes on top is dropped, and counted.
const WAITING_MAX: usize = 4_096;
/// How long a stream that chatnode makes keeps events. One that is there already stays as it is.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Within which the server recognises a repeat.
const REPEATS_KNOWN: Duration = Duration::from_secs(2 * 60);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long what waits may take when the node leaves.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Outlet {
    node_id: String,
    waiting: mpsc::Sender<Event>,
    dropped: Dropped,
}

impl Events for Outlet {
    fn tell(&self, user: &UserId, conversation: &ConversationId, what: Happened) {
        let event = Event::now(&self.node_id, user.clone(), conversation.clone(), what);
        if self.waiting.try_send(event).is_err() {
            self.dropped.count_event();
        }
    }
}

/// Carries events to NATS until the node ends.
#[derive(Debug)]
pub(super) struct Carrier {
    waiting: mpsc::Receiver<Event>,
    client: Client,
    prefix: Arc<str>,
    stream: Option<String>,
    dropped: Dropped,
}

/// The end that takes events and the end that carries them.
pub(super) fn open(client: Client, options: &Options) -> (Outlet, Carrier) {
    let (sender, waiting) = mpsc::channel(WAITING_MAX);
    let dropped = options.dropped.clone();
    let (prefix, stream) = (options.prefix.as_str().into(), options.events_stream.clone());
    let outlet = Outlet { node_id: options.node_id.clone(), waiting: sender, dropped: dropped.clone() };
    (outlet, Carrier { waiting, client, prefix, stream, dropped })
}

impl Carrier {
    pub(super) async fn run_until(mut self, stopped: CancellationToken) {
        let _ = stopped.run_until_cancelled(self.carry()).await;
        stopped.cancelled().await;
        self.waiting.close();
        let _ = tokio::time::timeout(FAREWELL, self.carry()).await;
        for _ in 0..self.waiting.len() {
            self.dropped.count_event();
        }
    }

    /// Cancel-safe but for the event in hand, which a stream may then have or not have.
    async fn carry(&mut self) {
        while let Some(event) = self.waiting.recv().await {
            let Ok(payload) = serde_json::to_vec(&event) else { continue };
            let subject = format!("{}.events.{}", self.prefix, event.what.name());
            match self.stream.clone() {
                Some(stream) => self.store(&stream, subject, &event.id, payload).await,
                None => self.say(subject, payload).await,
            }
        }
    }

    async fn say(&self, subject: String, payload: Vec<u8>) {
        let told =
            self.client.connection_state() == State::Connected && self.client.publish(subject, payload.into()).await.is_ok();
        if !told {
            self.dropped.count_event();
        }
    }

    /// Repeats until the stream has it.
    async fn store(&self, stream: &str, subject: String, id: &str, payload: Vec<u8>) {
        let mut pause = RETRY_FIRST;
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        let context = jetstream::new(self.client.clone());
        loop {
            let sent = context.publish_with_headers(subject.clone(), headers.clone(), payload.clone().into()).await;
            let problem = match sent {
                Ok(acknowledged) => match acknowledged.await {
                    Ok(_) => return,
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            // Nobody may have made the stream yet, or somebody removed it.
            match context.get_or_create_stream(self.plan(stream)).await {
                Ok(_) => tracing::debug!(stream, problem, "an event goes to its stream again"),
                Err(error) if pause == RETRY_FIRST => {
                    tracing::warn!(stream, problem, %error, "events wait for their stream: NATS has to have JetStream for it");
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn plan(&self, stream: &str) -> stream::Config {
        stream::Config {
            name: stream.to_owned(),
            subjects: vec![format!("{}.events.>", self.prefix)],
            max_age: KEPT,
            duplicate_window: REPEATS_KNOWN,
            ..stream::Config::default()
        }
    }
}
