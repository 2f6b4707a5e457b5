//! `Backplane` on NATS: small messages on subjects that are made of ids alone.
//! It must not know what a hint is for. Whatever comes in is checked like input from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, connection::State};
use async_trait::async_trait;
use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use tokio_util::sync::CancellationToken;

use super::keys::{self, model_token};
use super::wire;
use crate::backend::{Backplane, Hint, Hints, Subject};
use crate::model::{GenerationId, Position};
use crate::telemetry::Metrics;

/// Bytes of one message, both ways; NATS itself refuses more than 1 MiB unless told otherwise.
pub(super) const MESSAGE_BYTES_MAX: usize = 512 * 1024;

/// Hints that did not travel, for whoever counts.
#[derive(Clone, Debug, Default)]
pub struct Dropped {
    counts: Arc<Counts>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Counts {
    unsent: AtomicU64,
    too_large: AtomicU64,
    garbage: AtomicU64,
    slow: AtomicU64,
    events: AtomicU64,
}

impl Dropped {
    /// Counts for operators too.
    #[must_use]
    pub fn told_to(metrics: Metrics) -> Self {
        Self { counts: Arc::default(), metrics }
    }

    /// Not sent: the link was down, or too much was waiting for it.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.counts.unsent.load(Ordering::Relaxed)
    }

    /// Not sent: more than half a MiB.
    #[must_use]
    pub fn too_large(&self) -> u64 {
        self.counts.too_large.load(Ordering::Relaxed)
    }

    /// Came in and could not be read.
    #[must_use]
    pub fn garbage(&self) -> u64 {
        self.counts.garbage.load(Ordering::Relaxed)
    }

    /// Times that a subscription was not taken from fast enough.
    #[must_use]
    pub fn slow(&self) -> u64 {
        self.counts.slow.load(Ordering::Relaxed)
    }

    /// Events that nobody got, or that too many waited before.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.counts.events.load(Ordering::Relaxed)
    }

    pub(super) fn count_event(&self) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        self.metrics.event_dropped();
    }

    pub(super) fn count_slow(&self) {
        self.count(|counts| &counts.slow);
    }

    fn count(&self, which: impl FnOnce(&Counts) -> &AtomicU64) {
        which(&self.counts).fetch_add(1, Ordering::Relaxed);
        self.metrics.backplane_dropped(1);
    }
}

#[derive(Debug)]
pub(super) struct Nats {
    client: Client,
    prefix: Arc<str>,
    dropped: Dropped,
    stopped: CancellationToken,
}

impl Nats {
    pub(super) fn new(client: Client, prefix: &str, dropped: Dropped, stopped: CancellationToken) -> Self {
        Self { client, prefix: prefix.into(), dropped, stopped }
    }

    fn name(&self, subject: &Subject) -> String {
        let p = &self.prefix;
        match subject {
            Subject::Conversation(id) => format!("{p}.c.{}", keys::short_conversation(id)),
            Subject::Work(model) => format!("{p}.work.{}", model_token(model)),
            Subject::Cancel(id) => format!("{p}.cancel.{}", keys::work_member(id)),
            Subject::User(id) => format!("{p}.user.{}", keys::short_user(id)),
        }
    }
}

#[async_trait]
impl Backplane for Nats {
    async fn publish(&self, subject: &Subject, hint: Hint) {
        if self.client.connection_state() != State::Connected {
            // What waited would come late, and keep newer hints from coming in time.
            self.dropped.count(|counts| &counts.unsent);
            return;
        }
        let Some(payload) = encode(&hint, MESSAGE_BYTES_MAX.min(self.client.max_payload())) else {
            self.dropped.count(|counts| &counts.too_large);
            return;
        };
        // Ready at once unless the queue to the socket is full; then this hint is dropped rather than waited for.
        let sent = tokio::task::coop::unconstrained(self.client.publish(self.name(subject), payload.into()));
        if !matches!(sent.now_or_never(), Some(Ok(()))) {
            self.dropped.count(|counts| &counts.unsent);
        }
    }

    async fn subscribe(&self, subject: &Subject) -> Hints {
        let name = self.name(subject);
        let (client, dropped) = (self.client.clone(), self.dropped.clone());
        // Registered before this returns while the link is up. While it is down the registration may have to wait; the stream does
        // that, not the caller.
        let first = tokio::task::coop::unconstrained(client.subscribe(name.clone())).now_or_never();
        let messages = async move {
            match first {
                Some(subscribed) => subscribed,
                None => client.subscribe(name).await,
            }
        };
        let messages = messages.map(|subscribed| match subscribed {
            Ok(subscriber) => subscriber.boxed(),
            Err(error) => {
                tracing::error!(%error, "could not subscribe to the backplane");
                futures_util::stream::pending().boxed()
            }
        });
        messages
            .flatten_stream()
            .filter_map(move |message| {
                let hint = decode(&message.payload);
                if hint.is_none() {
                    dropped.count(|counts| &counts.garbage);
                    tracing::warn!(bytes = message.payload.len(), "dropped a backplane message that is none of ours");
                }
                std::future::ready(hint.map(Arc::new))
            })
            .take_until(self.stopped.clone().cancelled_owned())
            .boxed()
    }
}

/// `None` when it is too large, even as the nudge that an entry or a message can shrink to.
fn encode(hint: &Hint, bytes_max: usize) -> Option<Vec<u8>> {
    let payload = wire::encode(hint)?;
    if payload.len() <= bytes_max {
        return Some(payload);
    }
    match hint {
        Hint::Entry { generation, position, .. } => {
            wire::encode(&Hint::Tail { generation: generation.clone(), position: *position })
        }
        // Of a question nothing is generated, so whoever hears of it compares the conversation.
        Hint::Message { message } => {
            wire::encode(&Hint::Tail { generation: GenerationId::of(&message.id), position: Position::START })
        }
        _ => None,
    }
}

fn decode(payload: &[u8]) -> Option<Hint> {
    if payload.len() > MESSAGE_BYTES_MAX {
        return None;
    }
    wire::decode(payload)
}

/// For [`crate::fuzz`].
#[cfg(any(test, fuzzing))]
pub(crate) fn is_hint_or_none(payload: &[u8]) {
    if let Some(hint) = decode(payload) {
        let again = wire::encode(&hint).and_then(|payload| wire::decode(&payload));
        assert_eq!(again, Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::{Channel, Delta, Entry};
    use crate::model::ConversationId;

    #[test]
    fn an_entry_that_is_too_large_becomes_a_nudge() {
        let generation = GenerationId::generate(&ConversationId::generate());
        let position = Position { epoch: 7, seq: 3 };
        let text = "x".repeat(MESSAGE_BYTES_MAX);
        let entry = Entry::Delta(Delta { channel: Channel::Text, offset: 0, text });
        let hint = Hint::Entry { generation: generation.clone(), previous: Position::START, position, entry, stored_us: None };
        let payload = encode(&hint, MESSAGE_BYTES_MAX).unwrap();
        assert_eq!(decode(&payload), Some(Hint::Tail { generation, position }));
    }

    #[test]
    fn what_is_too_large_for_any_hint_is_dropped() {
        let hint = Hint::Work { generation: None };
        assert_eq!(encode(&hint, 10), None);
        assert_eq!(decode(&vec![b' '; MESSAGE_BYTES_MAX + 1]), None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_hint_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn almost_hints_do_not_panic(text in r#"\{"hint":"(entry|tail|work|x)","generation":".{0,50}","position":"[0-9-]{0,30}"\}"#) {
            let _ = decode(text.as_bytes());
        }
    }
}
