//! An issuer of tokens, as it describes itself: the keys that it publishes and the addresses where people log in. Asked when
//! first needed, again when a token names a key that is new, and believed on while it is away. The only place here that asks
//! anybody over HTTP. It must not know what a token says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use url::Url;

use super::jwt::KeySet;
use crate::config::is_safe_address;
use crate::drain::Drain;
use crate::outgoing::{self, Line, Unread};

/// After this, an issuer is asked again when its keys are used, so that a withdrawn one goes.
const FRESH: Duration = Duration::from_secs(600);
const ANSWER_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// How soon an issuer that has not said anything yet is asked again: while it is away nobody gets in by it.
const AGAIN: Duration = Duration::from_secs(5);
/// Requests that may wait for one answer of the issuer.
const WAITING_MAX: usize = 256;

/// Where an issuer says what it has to say.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The address of its keys.
    Keys(String),
    /// Its name, below which it describes itself (OpenID Connect Discovery 1.0).
    Described(String),
}

/// Where people log in, and codes become tokens.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    pub(super) authorization: Url,
    pub(super) token: Url,
    /// Whether a client may say its secret in a header.
    pub(super) takes_basic: bool,
    /// Where it tells more of whoever a token was given to.
    pub(super) userinfo: Option<Url>,
}

/// What came of a question.
#[derive(Debug)]
pub(super) enum Asked {
    Answered(Vec<u8>),
    /// With this status.
    Refused(u16),
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    held: watch::Receiver<Arc<Held>>,
    asks: mpsc::Sender<oneshot::Sender<()>>,
    line: Line,
}

#[derive(Debug, Default)]
struct Held {
    keys: Arc<KeySet>,
    endpoints: Option<Arc<Endpoints>>,
    since: Option<Instant>,
}

impl Issuer {
    /// Nothing is asked before the first token comes, and then at most once in `ask_every`: or whoever makes up names of keys
    /// makes us ask.
    pub(super) fn new(place: Place, ask_every: Duration, drain: &Drain) -> Self {
        let (hold, held) = watch::channel(Arc::default());
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let stopped = drain.stopped().clone();
        let line = Line::default();
        let asking = ask_on_demand(place, line.clone(), ask_every, hold, asked);
        drain.spawn("issuer keys", async move {
            tokio::select! {
                () = asking => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { held, asks, line }
    }

    /// The keys that are held now.
    pub(super) async fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.current().await.keys)
    }

    /// `None` when it never said them.
    pub(super) async fn endpoints(&self) -> Option<Arc<Endpoints>> {
        self.current().await.endpoints.clone()
    }

    /// The keys after the issuer was asked, unless it was a moment ago.
    pub(super) async fn newer(&self) -> Arc<KeySet> {
        Arc::clone(&self.asked().await.keys)
    }

    /// Sends a form, with a name and a secret in the header where given.
    pub(super) async fn post(
        &self,
        url: &Url,
        form: &BTreeMap<&str, &str>,
        basic: Option<(&str, &str)>,
    ) -> Result<Asked, &'static str> {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = client(&self.line).await?.post(url.clone()).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded").header("accept", "application/json");
        // Both are written as in a form first (RFC 6749, section 2.3.1).
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let request = match basic {
            Some((name, secret)) => request.basic_auth(encoded(name), Some(encoded(secret))),
            None => request,
        };
        timeout(ANSWER_TIME, answer(request)).await.unwrap_or(Err("no answer in time"))
    }

    /// Asks with a token that it gave.
    pub(super) async fn ask(&self, url: &Url, token: &str) -> Result<Asked, &'static str> {
        let request = client(&self.line).await?.get(url.clone()).bearer_auth(token).header("accept", "application/json");
        timeout(ANSWER_TIME, answer(request)).await.unwrap_or(Err("no answer in time"))
    }

    /// What is held now; in the background, or first of all if there is nothing, it is asked for when it is old.
    async fn current(&self) -> Arc<Held> {
        let held = self.held.borrow().clone();
        match held.since {
            None => self.asked().await,
            Some(since) => {
                if since.elapsed() > FRESH {
                    // Nobody waits for it. When the queue is full, somebody else has asked.
                    let _ = self.asks.try_send(oneshot::channel().0);
                }
                held
            }
        }
    }

    async fn asked(&self) -> Arc<Held> {
        let (reply, answered) = oneshot::channel();
        if self.asks.send(reply).await.is_ok() {
            let _ = answered.await;
        }
        self.held.borrow().clone()
    }
}

/// The one task that asks, so that many who wait cost one question.
async fn ask_on_demand(
    place: Place,
    line: Line,
    ask_every: Duration,
    hold: watch::Sender<Arc<Held>>,
    mut asked: mpsc::Receiver<oneshot::Sender<()>>,
) {
    let mut last: Option<Instant> = None;
    while let Some(reply) = asked.recv().await {
        let wait = if hold.borrow().since.is_some() { ask_every } else { ask_every.min(AGAIN) };
        if last.is_none_or(|last| last.elapsed() >= wait) {
            let said = timeout(ANSWER_TIME, look(&line, &place)).await.unwrap_or(Err("no answer in time"));
            // Those who waited meanwhile have their answer in this one.
            last = Some(Instant::now());
            match said {
                Ok((keys, endpoints)) => {
                    hold.send_replace(Arc::new(Held { keys: Arc::new(keys), endpoints: endpoints.map(Arc::new), since: last }));
                }
                Err(why) => tracing::warn!(why, "the issuer could not be asked; what is known of it stays"),
            }
        }
        // Whoever asked may have left.
        let _ = reply.send(());
    }
}

/// What an issuer says of itself.
#[derive(Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    userinfo_endpoint: Option<String>,
}

async fn look(line: &Line, place: &Place) -> Result<(KeySet, Option<Endpoints>), &'static str> {
    let (jwks, endpoints) = match place {
        Place::Keys(url) => (url.clone(), None),
        Place::Described(issuer) => {
            let (jwks, endpoints) = description(line, issuer).await?;
            (jwks, Some(endpoints))
        }
    };
    let keys = KeySet::from_jwks(&get(line, &jwks).await?).filter(|keys| !keys.is_empty());
    Ok((keys.ok_or("there is no key in it that can be used")?, endpoints))
}

async fn description(line: &Line, issuer: &str) -> Result<(String, Endpoints), &'static str> {
    let body = get(line, &format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await?;
    let said: Description = serde_json::from_slice(&body).map_err(|_| "it does not describe itself as a provider does")?;
    if said.issuer != issuer {
        return Err("it calls itself by another name than auth.oidc.issuer");
    }
    let safe =
        |text: &str| Url::parse(text).ok().filter(|_| is_safe_address(text)).ok_or("it names an address that is not https");
    let (authorization, token) = (safe(&said.authorization_endpoint)?, safe(&said.token_endpoint)?);
    safe(&said.jwks_uri)?;
    let userinfo = said.userinfo_endpoint.as_deref().map(safe).transpose()?;
    // Where nothing is said, the standard says this.
    let methods = said.token_endpoint_auth_methods_supported;
    let takes_basic = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
    let endpoints = Endpoints { authorization, token, takes_basic, userinfo };
    Ok((said.jwks_uri, endpoints))
}

async fn get(line: &Line, url: &str) -> Result<Vec<u8>, &'static str> {
    match answer(client(line).await?.get(url)).await? {
        Asked::Answered(body) => Ok(body),
        Asked::Refused(_) => Err("it answers with an error"),
    }
}

async fn client(line: &Line) -> Result<&reqwest::Client, &'static str> {
    line.client().await.map_err(|_| "no TLS")
}

async fn answer(request: reqwest::RequestBuilder) -> Result<Asked, &'static str> {
    let response = request.send().await.map_err(|_| "not reachable")?;
    let status = response.status();
    if !status.is_success() {
        // What fails on the other side may be well in a moment; what is refused stays refused.
        return if status.is_server_error() { Err("it answers with an error") } else { Ok(Asked::Refused(status.as_u16())) };
    }
    match outgoing::body(response, ANSWER_BYTES_MAX).await {
        Ok(body) => Ok(Asked::Answered(body)),
        Err(Unread::BrokeOff(_)) => Err("the answer broke off"),
        Err(Unread::TooLong) => Err("the answer is too long"),
    }
}
