//! One endpoint of a provider: how it is asked, how it can go on from a text, and how it has fared. Knows the three
//! dialects and the demonstration model; nothing of retries, deadlines or other upstreams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::ask::{self, Ask};
use super::circuit::Circuit;
use super::http::{Http, Target};
use super::reader::{Dialect, Reader};
use super::reply::{Fault, Pieces, Then, code};
use super::seam::Seam;
use super::{Request, anthropic, demo, ollama, openai, provider_name};
use crate::config::{ContinuationConfig, ProviderKind, RetryConfig, Secret, UpstreamConfig};
use crate::log::Rung;
use crate::telemetry::traces::Parent;

/// How long a server may take to tell what it is, before an answer is gone on from.
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Servers (as `owned_by` names them) that go on from an assistant's last message when they are told to.
const TAKE_PREFILL: [&str; 3] = ["llamacpp", "vllm", "sglang"];

/// Limits of a model that its upstreams share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub context_tokens: Option<u64>,
    pub max_tokens: Option<u32>,
    /// Until a connection stands.
    pub connect: Duration,
}

#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) config: UpstreamConfig,
    label: String,
    http: Http,
    pub(super) circuit: Arc<Circuit>,
    refused_prefill: AtomicBool,
    known_prefill: OnceCell<bool>,
}

impl Upstream {
    #[must_use]
    pub(super) fn new(config: &UpstreamConfig, retry: RetryConfig, http: &Http) -> Self {
        Self {
            config: config.clone(),
            label: label(config.provider, &config.base_url),
            http: http.clone(),
            circuit: Arc::new(Circuit::new(retry.circuit_failures, retry.circuit_open)),
            refused_prefill: AtomicBool::new(false),
            known_prefill: OnceCell::new(),
        }
    }

    /// Kind and host, for logs: no credentials.
    #[must_use]
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The rungs that are worth trying for this text, best first, with the bytes of it that would stand. Never empty.
    pub(super) async fn ladder(&self, so_far: &str) -> VecDeque<(Rung, usize)> {
        if so_far.is_empty() {
            return VecDeque::from([(Rung::Start, 0)]);
        }
        if self.config.provider == ProviderKind::Demo {
            return VecDeque::from([(Rung::Prefill, so_far.len()), (Rung::Restart, 0)]);
        }
        let rungs: &[Rung] = match self.continuation().await {
            ContinuationConfig::Prefill => &[Rung::Prefill, Rung::Continue, Rung::Restart],
            ContinuationConfig::Continue => &[Rung::Continue, Rung::Restart],
            ContinuationConfig::Restart => &[Rung::Restart],
        };
        rungs.iter().filter_map(|rung| Some((*rung, ask::keep(*rung, so_far)?))).collect()
    }

    /// This upstream won't go on from a text of its own; later answers needn't try.
    pub(super) fn refuses_prefill(&self) {
        self.refused_prefill.store(true, Ordering::Relaxed);
    }

    /// Asks once.
    ///
    /// # Errors
    /// What the upstream, or the way to it, said instead of an answer.
    pub(super) async fn ask(
        &self,
        request: &Request,
        rung: Rung,
        keep: usize,
        limits: Limits,
        trace: Parent,
    ) -> Result<(Pieces, Seam), Fault> {
        if self.config.provider == ProviderKind::Demo {
            return self.ask_demo(request, keep, limits);
        }
        let ask = Ask::new(request, rung, keep, limits.context_tokens, limits.max_tokens);
        let base = self.config.base_url.as_str();
        let (dialect, url, body) = match self.config.provider {
            ProviderKind::Anthropic => {
                (Dialect::Anthropic, anthropic::url(base, "messages"), anthropic::body(&self.config.model, &ask))
            }
            ProviderKind::Ollama => (Dialect::Ollama, format!("{base}/api/chat"), ollama::body(&self.config.model, &ask)),
            ProviderKind::OpenAi | ProviderKind::Demo => {
                (Dialect::OpenAi, openai::url(base, "chat/completions"), openai::body(base, &self.config.model, &ask))
            }
        };
        let mut target = target(self.config.provider, url, self.config.api_key.as_ref());
        target.headers.extend(trace.header().map(|trace| ("traceparent", Secret::new(trace))));
        let reader = Reader::new(dialect, ask.input_tokens(), target.secrets.clone());
        let pieces = self.http.post(&target, limits.connect, &body, reader).await?;
        Ok((pieces, Ask::seam(request, rung, keep)))
    }

    fn ask_demo(&self, request: &Request, keep: usize, limits: Limits) -> Result<(Pieces, Seam), Fault> {
        let kept = Request { so_far: request.so_far[..keep].to_owned(), ..request.clone() };
        let max_tokens = request.options.max_tokens.or(limits.max_tokens);
        let pieces = demo::answer(&kept, max_tokens);
        let pieces =
            pieces.ok_or_else(|| Fault::new(code::UPSTREAM_ERROR, Then::Lower, "the text so far is not the demonstration's"));
        Ok((pieces?, Seam::none()))
    }

    /// Without a word in the configuration, what is safe for the kind:
    /// - Anthropic's prefill is exact or refused, so it is tried;
    /// - Ollama's own templates leave the last message open;
    /// - an OpenAI-compatible server may take an assistant's last message for a finished turn without saying so, so
    ///   prefill is tried only with servers that say they are of a kind that is known to go on.
    async fn continuation(&self) -> ContinuationConfig {
        let wanted = match (self.config.continuation, self.config.provider) {
            (Some(continuation), _) => continuation,
            (None, ProviderKind::OpenAi) if self.is_known_to_prefill().await => ContinuationConfig::Prefill,
            (None, ProviderKind::OpenAi) => ContinuationConfig::Continue,
            (None, _) => ContinuationConfig::Prefill,
        };
        let refused = self.refused_prefill.load(Ordering::Relaxed);
        if refused && wanted == ContinuationConfig::Prefill { ContinuationConfig::Continue } else { wanted }
    }

    async fn is_known_to_prefill(&self) -> bool {
        let probe = async || {
            let url = openai::url(&self.config.base_url, "models");
            let target = target(self.config.provider, url, self.config.api_key.as_ref());
            let list = self.http.get(&target, PROBE_TIME).await?;
            Ok::<bool, Fault>(owners(&list).any(takes_prefill))
        };
        self.known_prefill.get_or_try_init(probe).await.copied().unwrap_or(false)
    }
}

/// Who may be asked, and with what key. Credentials in the address go along as they are, and are kept from messages.
#[must_use]
pub(super) fn target(provider: ProviderKind, url: String, key: Option<&Secret>) -> Target {
    let mut headers = Vec::new();
    if provider == ProviderKind::Anthropic {
        headers.push(("anthropic-version", Secret::new(anthropic::VERSION)));
        headers.extend(key.map(|key| ("x-api-key", key.clone())));
    } else {
        headers.extend(key.map(|key| ("authorization", Secret::new(format!("Bearer {}", key.reveal())))));
    }
    let mut secrets: Vec<String> = key.map(|key| key.reveal().to_owned()).into_iter().collect();
    if let Some((userinfo, _)) = authority(&url).rsplit_once('@') {
        secrets.push(userinfo.to_owned());
        secrets.extend(userinfo.split_once(':').map(|(_, password)| password.to_owned()));
    }
    Target { url, headers, secrets }
}

/// True for servers (by `owned_by` of their models) that are known to go on from an assistant's last message.
#[must_use]
pub(super) fn takes_prefill(owner: &str) -> bool {
    TAKE_PREFILL.contains(&owner)
}

fn owners(list: &Value) -> impl Iterator<Item = &str> {
    let data = list.get("data").and_then(Value::as_array);
    data.into_iter().flatten().filter_map(|model| model.get("owned_by")?.as_str())
}

/// Kind and host, without credentials.
#[must_use]
pub(super) fn label(provider: ProviderKind, base_url: &str) -> String {
    let kind = provider_name(provider);
    let authority = authority(base_url);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() { kind.to_owned() } else { format!("{kind}@{host}") }
}

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_an_address_are_kept_out_of_labels_and_messages() {
        let config = UpstreamConfig {
            provider: ProviderKind::OpenAi,
            base_url: "https://user:pass@host:8443/v1".to_owned(),
            api_key: Some(Secret::new("key")),
            model: "m".to_owned(),
            continuation: None,
        };
        assert_eq!(label(config.provider, &config.base_url), "openai@host:8443");
        let target = target(config.provider, config.base_url.clone(), config.api_key.as_ref());
        assert_eq!(target.secrets, ["key", "user:pass", "pass"]);
        assert!(!format!("{:?}", target.headers).contains("key\""));
    }
}
