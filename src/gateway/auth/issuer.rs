//! The keys of an issuer, as it publishes them: fetched when first needed, again when a token names one that is new, and kept
//! while the issuer is away. It must not know what a token says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::jwt::KeySet;
use crate::drain::Drain;

/// After this, keys are asked for again when one is used, so that a withdrawn one goes.
const FRESH: Duration = Duration::from_secs(600);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Requests that may wait for one answer of the issuer.
const WAITING_MAX: usize = 256;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    keys: watch::Receiver<Arc<Held>>,
    asks: mpsc::Sender<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Arc<KeySet>,
    since: Option<Instant>,
}

impl Issuer {
    /// Nothing is asked before the first token comes, and then at most once in `ask_every`: or whoever makes up names of keys
    /// makes us ask.
    pub(super) fn new(url: &str, ask_every: Duration, drain: &Drain) -> Self {
        let (hold, keys) = watch::channel(Arc::default());
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let stopped = drain.stopped().clone();
        let asking = ask_on_demand(url.to_owned(), ask_every, hold, asked);
        drain.spawn("issuer keys", async move {
            tokio::select! {
                () = asking => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { keys, asks }
    }

    /// What is held now; in the background, or first of all if there is nothing, it is asked for when it is old.
    pub(super) async fn keys(&self) -> Arc<KeySet> {
        let held = self.keys.borrow().clone();
        if held.keys.is_empty() {
            return self.newer().await;
        }
        if held.since.is_none_or(|since| since.elapsed() > FRESH) {
            // Nobody waits for it. When the queue is full, somebody else has asked.
            let _ = self.asks.try_send(oneshot::channel().0);
        }
        Arc::clone(&held.keys)
    }

    /// After the issuer was asked, unless it was a moment ago.
    pub(super) async fn newer(&self) -> Arc<KeySet> {
        let (reply, answered) = oneshot::channel();
        if self.asks.send(reply).await.is_ok() {
            let _ = answered.await;
        }
        Arc::clone(&self.keys.borrow().keys)
    }
}

/// The one task that asks, so that many who wait cost one question.
async fn ask_on_demand(
    url: String,
    ask_every: Duration,
    hold: watch::Sender<Arc<Held>>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut client = None;
    let mut last: Option<Instant> = None;
    while let Some(reply) = asked.recv().await {
        if last.is_none_or(|last| last.elapsed() >= ask_every) {
            last = Some(Instant::now());
            match tokio::time::timeout(ANSWER_TIME, fetch(&url, &mut client)).await.unwrap_or(Err("no answer in time")) {
                Ok(keys) => drop(hold.send_replace(Arc::new(Held { keys: Arc::new(keys), since: last }))),
                Err(why) => tracing::warn!(why, "the keys of the issuer could not be fetched; those that are held stay"),
            }
        }
        // Whoever asked may have left.
        let _ = reply.send(());
    }
}

async fn fetch(url: &str, held: &mut Option<reqwest::Client>) -> Result<KeySet, &'static str> {
    if held.is_none() {
        // The system's certificates are hundreds of files: that is no work for a thread that streams tokens.
        let built = tokio::task::spawn_blocking(client).await;
        *held = Some(built.ok().and_then(Result::ok).ok_or("no TLS")?);
    }
    let Some(client) = held else { return Err("no TLS") };
    let mut response = client.get(url).send().await.map_err(|_| "not reachable")?;
    if !response.status().is_success() {
        return Err("it answers with an error");
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|_| "the answer broke off")? {
        body.extend_from_slice(&piece);
        if body.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too long");
        }
    }
    KeySet::from_jwks(&body).filter(|keys| !keys.is_empty()).ok_or("there is no key in it that can be used")
}

fn client() -> reqwest::Result<reqwest::Client> {
    // Whoever came first has decided; here nobody may have.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()
}
