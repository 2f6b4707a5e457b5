//! Both worlds' promises between many processes: Redis is the store, NATS the backplane.
//!
//! [`open`] gives the traits. The rest of the house knows nothing of Redis or NATS, and nothing here knows what an answer is for.
//! - `keys` names things, `record` and `entry` say what they look like, `steps` holds the scripts (`lua/`).
//! - `accounts` keeps who may log in, `limits` counts; `store`, `list` keep conversations; `submit`, `claim`, `generations` keep logs; `sweep` completes what a crash cut in two.
//! - `window` gives conversations to a history and takes them back.
//! - `link` and `nats` are the connections (`address` reads theirs), `backplane` the hints, `events` what others hear, `health` tells how they stand.

mod accounts;
mod address;
mod backplane;
mod claim;
mod entry;
mod events;
mod generations;
mod health;
mod keys;
mod limits;
mod link;
mod list;
mod nats;
mod record;
mod steps;
mod store;
mod submit;
mod sweep;
mod window;
mod wire;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use fred::types::Value;
use tokio::sync::watch;

pub(in crate::backend) use address::{parameter, trusting};
pub use backplane::Dropped;
#[cfg(any(test, fuzzing))]
pub(crate) use backplane::is_hint_or_none;
pub(in crate::backend) use list::Cursor;
pub(in crate::backend) use window::{Changed, Due, Evicted, Kept, Look, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX, Place, Taken, Window};

use self::keys::{Key, Keys};
use self::steps::{Answer, Step};
use super::{Backends, Result, Store};
use crate::config::Secret;
use crate::drain::Drain;
use crate::model::{ConversationId, GenerationId};

/// How long a request is known on its own; in its conversation it is known for as long as that lives.
const REQUEST_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a node says about the servers it shares with others.
#[derive(Clone, Debug)]
pub struct Options {
    /// `redis://`, `rediss://` (TLS), `redis-sentinel://`, `redis-cluster://`, and the same with `valkey`; with user, password,
    /// and `?ca=FILE` where TLS is to trust an authority of one's own instead of the system's.
    pub redis_url: Secret,
    /// `nats://user:password@a:4222,tls://b:4222`, `nats://token@host`, `?credentials=FILE`, `?ca=FILE`.
    pub nats_url: Secret,
    /// Begins every key and subject, so that several systems may share servers: `a-z 0-9 _ -`, at most 32.
    pub prefix: String,
    /// The JetStream stream that keeps events, made where it isn't there; without one they go to whoever listens.
    pub events_stream: Option<String>,
    pub lease: Duration,
    pub node_id: String,
    pub retention: Retention,
    pub drain: Drain,
    /// Counts the hints that did not travel.
    pub dropped: Dropped,
}

/// How long a log is kept. What it says is in the message once it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// From the last sign of life of an owner.
    pub running: Duration,
    pub ended: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { running: Duration::from_secs(24 * 60 * 60), ended: Duration::from_secs(60 * 60) }
    }
}

/// The options can't be meant. Servers that are away are none of these: they are waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the redis address can't be used: {0}")]
    Redis(String),
    #[error("the nats address can't be used: {0}")]
    Nats(String),
    #[error("the prefix `{0}` can't be used: a-z, 0-9, _ and -, at most 32 of them")]
    Prefix(String),
}

/// Starts both links and answers at once, whether or not anybody is there: [`Backends::health`] says how they stand, and calls answer
/// `Unavailable` until they do. Subscriptions end with the drain's `stopped`; calls go on until it is `deserted`, so that who leaves can
/// give back what he holds.
pub async fn open(options: Options) -> std::result::Result<Backends, OpenError> {
    open_with_window(options).await.map(|(backends, _)| backends)
}

/// As [`open`], for a history behind them.
pub(in crate::backend) async fn open_with_window(options: Options) -> std::result::Result<(Backends, Window), OpenError> {
    let keys = Keys::new(&options.prefix).ok_or_else(|| OpenError::Prefix(options.prefix.clone()))?;
    // Whoever came first has decided; this is for a process (or a test) in which nobody has.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let drain = options.drain.clone();
    let (stopped, deserted) = (drain.stopped().clone(), drain.deserted().clone());
    // Before the other link begins to look for its server.
    let addresses = nats::Addresses::parse(options.nats_url.reveal()).map_err(OpenError::Nats)?;
    let link = link::Link::open(options.redis_url.reveal(), keys).map_err(OpenError::Redis)?;
    let (nats_state, nats_link) = watch::channel(health::unknown().backplane);
    let nats = nats::open(addresses, &options.node_id, nats_state, options.dropped.clone()).await;
    let nats = match nats {
        Ok(nats) => nats,
        Err(problem) => {
            link.close().await;
            return Err(OpenError::Nats(problem));
        }
    };
    let (health, watched) = watch::channel(health::unknown());
    drain.spawn_ground("link health", health::watch_until(deserted.clone(), link.clone(), nats_link, health));
    let redis = Redis {
        link: link.clone(),
        lease: options.lease,
        retention: options.retention,
        drain: drain.clone(),
        older: Arc::default(),
    };
    drain.spawn("store sweeper", redis.clone().sweep_until(stopped.clone()));
    let (events, carrier) = events::open(nats.clone(), &options);
    let backplane = backplane::Nats::new(nats.clone(), &options.prefix, options.dropped, stopped.clone());
    drain.spawn_ground("links", async move {
        carrier.run_until(deserted).await;
        let farewell = async { nats.drain().await.is_ok() };
        let (_, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), farewell), link.close());
    });
    let window = Window::new(redis.clone());
    let redis = Arc::new(redis);
    let backends = Backends {
        store: redis.clone(),
        generations: redis.clone(),
        accounts: redis.clone(),
        limits: redis,
        backplane: Arc::new(backplane),
        events: Arc::new(events),
        health: watched,
    };
    Ok((backends, window))
}

/// All traits but the backplane.
#[derive(Clone, Debug)]
struct Redis {
    link: link::Link,
    lease: Duration,
    retention: Retention,
    /// For what no caller waits for.
    drain: Drain,
    /// Where messages are that are not in Redis any more, if anywhere.
    older: Arc<OnceLock<Weak<dyn Store>>>,
}

impl Redis {
    /// The keys that every script on a conversation gets, in the order of `lua/conversation.lua`.
    fn conversation_keys(&self, id: &ConversationId) -> Vec<String> {
        let keys = [
            Key::Conversation(id),
            Key::Messages(id),
            Key::Children(id),
            Key::Order(id),
            Key::Branches(id),
            Key::Requests(id),
            Key::Generations(id),
            Key::Open(id),
        ];
        keys.iter().map(|key| self.link.keys.key(key)).collect()
    }

    fn log_keys(&self, id: &GenerationId) -> [String; 2] {
        [Key::Log(id), Key::State(id)].map(|key| self.link.keys.key(&key))
    }

    async fn on_conversation(&self, step: &Step, id: &ConversationId, args: Vec<Value>) -> Result<Answer> {
        self.link.run(step, self.conversation_keys(id), args).await
    }

    async fn on_generation(&self, step: &Step, id: &GenerationId, args: Vec<Value>) -> Result<Answer> {
        let mut keys = self.conversation_keys(&id.conversation());
        keys.extend(self.log_keys(id));
        self.link.run(step, keys, args).await
    }
}
