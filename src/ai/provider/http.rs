//! HTTP to upstreams: one connection per answer, which closes when its body is dropped. Knows dialects by name only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use serde_json::Value;

use super::reader::{Out, Reader};
use super::refusal;
use super::reply::{Fault, Pieces, Then, code};
use crate::config::Secret;

/// Bytes of an error's body that are read.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a list of models.
const LIST_BYTES_MAX: usize = 4 << 20;

/// How long an error may take to tell its reason.
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);

/// How long the figures about a whole answer are waited for.
const FIGURES_TIME: Duration = Duration::from_secs(2);

/// How long an idle connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// A `Retry-After` beyond this is as good as none.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// A cheap-clone handle on the connections to all upstreams; clients are built when they are first needed.
#[derive(Clone, Debug, Default)]
pub struct Http {
    clients: Arc<Mutex<BTreeMap<(Duration, bool), Client>>>,
}

/// Where a request goes, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub url: String,
    pub headers: Vec<(&'static str, Secret)>,
    /// Never shown, even if an upstream repeats them.
    pub secrets: Vec<String>,
}

impl Http {
    /// Asks, and reads what is answered: pieces come as their bytes do. Dropping them closes the connection.
    ///
    /// # Errors
    /// Everything that is no success from the upstream.
    pub(super) async fn post(&self, target: &Target, connect: Duration, body: &Value, reader: Reader) -> Result<Pieces, Fault> {
        let client = self.client(connect, &target.url).await?;
        let request = client.post(&target.url).headers(headers(target)?).json(body);
        let response = request.send().await.map_err(|error| unsent(&error))?;
        let response = accepted(response, target).await?;
        let body = Body { response, reader, out: VecDeque::new() };
        Ok(stream::unfold(body, |mut body| async move { body.next().await.map(|item| (item, body)) }).boxed())
    }

    /// Reads a JSON value.
    ///
    /// # Errors
    /// As [`Http::post`]; also when it takes longer than `within`.
    pub(super) async fn get(&self, target: &Target, within: Duration) -> Result<Value, Fault> {
        let reading = async {
            let client = self.client(within, &target.url).await?;
            let response = client.get(&target.url).headers(headers(target)?).send().await.map_err(|error| unsent(&error))?;
            let body = head(accepted(response, target).await?, LIST_BYTES_MAX).await?;
            serde_json::from_slice(&body)
                .map_err(|_| Fault::passing("the model's server answered with something that is not JSON"))
        };
        let late = || Fault::new(code::CONNECT_TIMEOUT, Then::Retry { after: None }, "the model's server does not answer");
        tokio::time::timeout(within, reading).await.unwrap_or_else(|_| Err(late()))
    }

    async fn client(&self, connect: Duration, url: &str) -> Result<Client, Fault> {
        let secure = url.starts_with("https:");
        let key = (connect, secure);
        if let Some(client) = self.clients().get(&key) {
            return Ok(client.clone());
        }
        // The system's certificates are hundreds of files: that is no work for a thread that streams tokens.
        let built =
            if secure { tokio::task::spawn_blocking(move || build(connect, true)).await } else { Ok(build(connect, false)) };
        let client = built
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(|error| Fault::new(code::UPSTREAM_ERROR, Then::Next, format!("no TLS to the model's server: {error}")))?;
        Ok(self.clients().entry(key).or_insert(client).clone())
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Duration, bool), Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One answer, one HTTP/1.1 connection: closing it is what cancels, with every server and proxy.
fn build(connect: Duration, secure: bool) -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = if secure {
        let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(|error| error.to_string())?;
        tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
    } else {
        tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
    };
    let builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .tcp_nodelay(true)
        .connect_timeout(connect)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(concat!("chatnode/", env!("CARGO_PKG_VERSION")));
    // Plain HTTP is for servers nearby, which no proxy can reach.
    let builder = if secure { builder } else { builder.no_proxy() };
    builder.build().map_err(|error| error.to_string())
}

fn headers(target: &Target) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in &target.headers {
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| {
            Fault::new(code::UPSTREAM_ERROR, Then::Next, "the key for the model's server has characters that no header can carry")
        })?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

/// A request that got no answer. Its address may hold credentials, so only the innermost cause is told.
fn unsent(error: &reqwest::Error) -> Fault {
    let cause = cause(error);
    if error.is_connect() && error.is_timeout() {
        let message = "the model's server could not be reached in time";
        return Fault::new(code::CONNECT_TIMEOUT, Then::Retry { after: None }, message);
    }
    if error.is_builder() {
        return Fault::new(code::UPSTREAM_ERROR, Then::Next, "the address of the model's server can't be used");
    }
    if error.is_connect() {
        return Fault::passing(format!("the model's server can't be reached: {cause}"));
    }
    let message = format!("the model's server closed the connection without an answer: {cause}");
    Fault::new(code::UPSTREAM_EOF, Then::Retry { after: None }, message)
}

fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    let mut depth = 0;
    while let Some(source) = innermost.source() {
        innermost = source;
        depth += 1;
    }
    if depth == 0 { "unknown cause".to_owned() } else { innermost.to_string() }
}

async fn accepted(response: Response, target: &Target) -> Result<Response, Fault> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = retry_after(response.headers());
    let body = tokio::time::timeout(ERROR_BODY_TIME, head(response, ERROR_BYTES_MAX)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    let secrets: Vec<&str> = target.secrets.iter().map(String::as_str).collect();
    Err(refusal::of_status(status.as_u16(), retry_after, &String::from_utf8_lossy(&body), &secrets))
}

/// Seconds, as every known upstream sends them; a date is not understood and counts as none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let after = text("retry-after-ms").map(|ms| ms / 1_000.0).or_else(|| text("retry-after"))?;
    Duration::try_from_secs_f64(after).ok().map(|after| after.min(RETRY_AFTER_MAX))
}

async fn head(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| cut(&error))? {
        let room = bytes_max - body.len();
        body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if body.len() == bytes_max {
            break;
        }
    }
    Ok(body)
}

fn cut(error: &reqwest::Error) -> Fault {
    let message = format!("the connection to the model's server was cut: {}", cause(error));
    Fault::new(code::UPSTREAM_EOF, Then::Retry { after: None }, message)
}

/// A body being read.
struct Body {
    response: Response,
    reader: Reader,
    out: Out,
}

impl Body {
    async fn next(&mut self) -> Option<Result<super::reply::Piece, Fault>> {
        loop {
            if let Some(item) = self.out.pop_front() {
                return Some(item);
            }
            if self.reader.is_over() {
                return None;
            }
            let chunk = if self.reader.is_whole() {
                // The answer is there: neither silence nor a cut can spoil it any more.
                let figures = tokio::time::timeout(FIGURES_TIME, self.response.chunk()).await;
                Ok(figures.ok().and_then(Result::ok).flatten())
            } else {
                self.response.chunk().await
            };
            match chunk {
                Ok(Some(bytes)) => self.reader.feed(&bytes, &mut self.out),
                Ok(None) => self.reader.end(&mut self.out),
                Err(error) => return self.lost(&error),
            }
        }
    }

    /// What was cut may have been whole without its last line.
    fn lost(&mut self, error: &reqwest::Error) -> Option<Result<super::reply::Piece, Fault>> {
        self.reader.end(&mut self.out);
        if let Some(Err(fault)) = self.out.back_mut()
            && fault.code == code::UPSTREAM_EOF
        {
            *fault = cut(error);
        }
        self.out.pop_front()
    }
}
