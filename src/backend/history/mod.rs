//! A long-term history in PostgreSQL behind the cluster: Redis keeps a window of what somebody touched lately, and all older conversations
//! are here alone. Everybody else sees one store.
//!
//! A conversation that is in Redis is the truth, whatever is here; one that is not is brought back whole at the first touch. So everything
//! that happens to a conversation happens in Redis, by the code that is there anyway, and only four things know this place:
//! - `archiver` copies what ended, evicts what rests, and forgets what was deleted;
//! - `hydrate` (below) brings a conversation back;
//! - `list` merges what is here with what is there;
//! - `store` asks for these around the calls of the traits.
//!
//! `postgres` is the link (`address`, `tls`), `schema` makes the tables, `rows` has the statements.

mod address;
mod archiver;
mod list;
mod postgres;
mod rows;
mod schema;
mod store;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::postgres::Postgres;
use super::cluster::{self, Due, Place, Window};
use super::{Backends, Error, Generations, Health, Link, Result, Store};
use crate::config::Secret;
use crate::model::{ConversationId, UserId};
use crate::telemetry::Metrics;

/// How often a hydration begins again because somebody took its ticket away, and a call because the conversation left again.
const TRIES_MAX: usize = 16;

/// How long the making of a conversation waits to hear whether it is here already.
const KNOWN_MAX: Duration = Duration::from_secs(1);

/// How the history is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// `postgres://user:password@host:port/database`, with `?sslmode=require` for TLS and `&ca=FILE` to trust an authority of one's own.
    pub url: Secret,
    /// How long a conversation that nobody touches stays in Redis. Zero: until it is archived.
    pub keep: Duration,
    /// Between a change and its being archived, so that several at once are one. Longer than a call of the store may take.
    pub settle: Duration,
    /// Between two looks for something to do.
    pub pause: Duration,
    pub metrics: Metrics,
}

impl Options {
    #[must_use]
    pub fn new(url: Secret, keep: Duration, metrics: Metrics) -> Self {
        Self { url, keep, settle: Duration::from_secs(3), pause: Duration::from_secs(1), metrics }
    }
}

/// The options can't be meant. Servers that are away are none of these: they are waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Cluster(#[from] cluster::OpenError),
    #[error("the address of the history can't be used: {0}")]
    Address(String),
}

/// As [`cluster::open`], with a history behind it.
///
/// # Errors
/// What can't be meant.
pub async fn open(cluster: cluster::Options, options: Options) -> std::result::Result<Backends, OpenError> {
    let drain = cluster.drain.clone();
    let prefix = cluster.prefix.clone();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (config, tls) = address::read(options.url.reveal()).map_err(OpenError::Address)?;
    let (inner, window) = cluster::open_with_window(cluster).await?;
    let postgres = Postgres::start(config, tls, prefix, &drain);
    let health = with_history(&inner.health.borrow(), &postgres.state().borrow());
    let (told, watched) = watch::channel(health);
    drain.spawn_ground("history health", tell_until(drain.deserted().clone(), inner.health.clone(), postgres.state(), told));
    let history = History {
        store: inner.store.clone(),
        generations: inner.generations.clone(),
        window,
        postgres,
        keep: options.keep,
        settle: options.settle,
        metrics: options.metrics,
    };
    archiver::start(&history, options.pause, &drain);
    let history = Arc::new(history);
    let weak: std::sync::Weak<History> = Arc::downgrade(&history);
    history.window.behind_it(weak);
    Ok(Backends { store: history.clone(), generations: history, health: watched, ..inner })
}

/// Both traits around those of the cluster.
#[derive(Clone, Debug)]
struct History {
    store: Arc<dyn Store>,
    generations: Arc<dyn Generations>,
    window: Window,
    postgres: Postgres,
    keep: Duration,
    settle: Duration,
    metrics: Metrics,
}

impl History {
    /// Brings a conversation back if it is here alone. Answers by which hydration it is in Redis, `None` when it is nowhere or not that
    /// user's. While PostgreSQL is away, what is not in Redis is `Unavailable`: it may be here.
    async fn hydrate(&self, id: &ConversationId, user: Option<&UserId>) -> Result<Option<String>> {
        match self.window.place(id).await? {
            Place::Here(since) => return Ok(Some(since)),
            Place::Buried => return Ok(None),
            Place::Away => {}
        }
        let found = rows::archived(&mut self.postgres.session().await?, id).await?;
        if found.is_none_or(|found| user.is_some_and(|user| found.owner != *user)) {
            return Ok(None);
        }
        for _ in 0..TRIES_MAX {
            match self.bring(id).await? {
                Some(Place::Here(since)) => return Ok(Some(since)),
                Some(_) => return Ok(None),
                None => {}
            }
        }
        Err(Error::Unavailable("the conversation keeps moving".to_owned()))
    }

    /// One try; `None` when it has to begin again. What is read here is read after the ticket was made, so it is not older than what
    /// left Redis last.
    async fn bring(&self, id: &ConversationId) -> Result<Option<Place>> {
        let mut ticket = match self.window.begin(id).await? {
            Ok(ticket) => ticket,
            Err(place) => return Ok(Some(place)),
        };
        let mut session = self.postgres.session().await?;
        let Some(archived) = rows::archived(&mut session, id).await? else { return Ok(Some(Place::Away)) };
        let mut next = 0;
        while next < archived.messages {
            let page = rows::messages(&mut session, id, next, archived.messages).await?;
            if page.is_empty() {
                return Err(Error::Corrupt(format!("the history has not all messages of {id}")));
            }
            next += page.len() as u64;
            if !self.window.stage(&mut ticket, &page).await? {
                return Ok(None);
            }
        }
        drop(session);
        // Before it is there: one that nobody evicts would stay for ever.
        self.window.put(Due::ToEvict, id, self.keep).await?;
        let since = self.window.finish(ticket, &archived.owner, &archived.conversation).await?;
        if since.is_some() {
            self.metrics.history_hydrated();
        }
        Ok(since.map(Place::Here))
    }

    /// A call on a conversation that may be here alone. That it finds nothing counts when the conversation was in Redis all the while.
    async fn reach<'a, T>(
        &self,
        id: &ConversationId,
        user: Option<&UserId>,
        call: impl Fn() -> BoxFuture<'a, Result<T>> + Send,
    ) -> Result<T> {
        let mut before = None;
        for _ in 0..TRIES_MAX {
            match call().await {
                Err(Error::NotFound) => {}
                outcome => return outcome,
            }
            match self.hydrate(id, user).await? {
                None => return Err(Error::NotFound),
                Some(since) if before.as_ref() == Some(&since) => return Err(Error::NotFound),
                Some(since) => before = Some(since),
            }
        }
        Err(Error::Unavailable("the conversation keeps moving".to_owned()))
    }

    /// A call that changes a conversation, which is archived a little later. Told at the same time as it is changed: what is looked at
    /// too early, or is not told because of a crash, is found when it is to be evicted, or by the audit.
    async fn changing<T>(&self, id: &ConversationId, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let (outcome, told) = tokio::join!(call, self.window.put(Due::ToArchive, id, self.settle));
        if let Err(error) = told {
            tracing::debug!(%error, "the archiver was not told of a change");
        }
        outcome
    }

    /// Before something is made under an id: whether this user has it here already. `NotFound` when it is another's. With PostgreSQL away
    /// that can't be known, and nobody should wait for it: then the archiver joins the two.
    async fn has(&self, user: &UserId, id: &ConversationId) -> Result<bool> {
        let found = async { rows::archived(&mut self.postgres.session().await?, id).await };
        match tokio::time::timeout(KNOWN_MAX, found).await.unwrap_or(Ok(None)) {
            // Made again before the history forgot what was deleted.
            Ok(Some(_)) if self.window.place(id).await? == Place::Buried => Ok(false),
            Ok(Some(found)) if found.owner == *user => Ok(true),
            Ok(Some(_)) => Err(Error::NotFound),
            Ok(None) | Err(Error::Unavailable(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn with_history(cluster: &Health, link: &Link) -> Health {
    Health { history: Some(link.clone()), ..cluster.clone() }
}

/// The task: until `stopped`, tells how all three links stand.
async fn tell_until(
    stopped: CancellationToken,
    mut inner: watch::Receiver<Health>,
    mut link: watch::Receiver<Link>,
    told: watch::Sender<Health>,
) {
    loop {
        let now = with_history(&inner.borrow_and_update(), &link.borrow_and_update());
        told.send_if_modified(|held| {
            let changed = *held != now;
            *held = now;
            changed
        });
        tokio::select! {
            () = stopped.cancelled() => return,
            Ok(()) = inner.changed() => {}
            Ok(()) = link.changed() => {}
            else => return,
        }
    }
}
