//! Where models may be found, and what the lists of each kind say. Knows addresses and lists; not when to look.

use std::time::Duration;

use serde_json::Value;

use crate::ai::provider::http::Http;
use crate::ai::provider::reply::Fault;
use crate::ai::provider::upstream::{label, target};
use crate::ai::provider::{Model, anthropic, ollama, openai};
use crate::config::{ContinuationConfig, Deadlines, Discovery, ModelConfig, ProviderKind, Secret, UpstreamConfig};

/// How long a server that was named may take to list its models.
const LIST_TIME: Duration = Duration::from_secs(10);

/// How long an Ollama that nobody named may take: it is on this machine, or isn't there.
const GUESS_TIME: Duration = Duration::from_millis(300);

/// Models that one place may offer.
const MODELS_MAX: usize = 500;

const OPENAI: &str = "https://api.openai.com/v1";
const ANTHROPIC: &str = "https://api.anthropic.com";

/// Where Anthropic won't list its models (a key may lack the right), these are offered.
const ANTHROPIC_MODELS: [(&str, &str); 3] = [
    ("claude-sonnet-4-5", "Claude Sonnet 4.5"),
    ("claude-opus-4-5", "Claude Opus 4.5"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
];

/// A server that may have models.
pub(super) struct Place {
    kind: ProviderKind,
    base_url: String,
    key: Option<Secret>,
    deadlines: Deadlines,
    /// The environment names it; else it is a guess.
    pub named: bool,
}

/// A model that a place offers.
pub(super) struct Found {
    pub config: ModelConfig,
}

/// Where to look, the default's place first.
pub(super) fn places(discovery: &Discovery, deadlines: Deadlines) -> Vec<Place> {
    let mut places = Vec::new();
    let filled = |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let base = filled(&discovery.openai_base_url);
    if base.is_some() || discovery.openai_api_key.is_some() {
        let base_url = base.unwrap_or_else(|| OPENAI.to_owned()).trim_end_matches('/').to_owned();
        places.push(Place {
            kind: ProviderKind::OpenAi,
            base_url,
            key: discovery.openai_api_key.clone(),
            deadlines,
            named: true,
        });
    }
    if let Some(key) = &discovery.anthropic_api_key {
        places.push(Place {
            kind: ProviderKind::Anthropic,
            base_url: ANTHROPIC.to_owned(),
            key: Some(key.clone()),
            deadlines,
            named: true,
        });
    }
    let host = filled(&discovery.ollama_host);
    if host.is_some() || places.is_empty() {
        let named = host.is_some();
        let base_url = host.unwrap_or_else(|| ollama::HOME.to_owned()).trim_end_matches('/').to_owned();
        places.push(Place { kind: ProviderKind::Ollama, base_url, key: None, deadlines, named });
    }
    places
}

impl Place {
    /// What it offers now.
    pub(super) async fn list(&self, http: &Http) -> Result<Vec<Found>, Fault> {
        let url = match self.kind {
            ProviderKind::Anthropic => anthropic::url(&self.base_url, "models?limit=1000"),
            ProviderKind::Ollama => format!("{}/api/tags", self.base_url),
            ProviderKind::OpenAi | ProviderKind::Demo => openai::url(&self.base_url, "models"),
        };
        let target = target(self.kind, url, self.key.as_ref());
        let list = http.get(&target, if self.named { LIST_TIME } else { GUESS_TIME }).await;
        match (list, self.kind) {
            (Ok(list), _) => Ok(self.read(&list)),
            (Err(fault), ProviderKind::Anthropic) => {
                tracing::warn!(
                    upstream = self.label(),
                    reason = fault.message,
                    "models could not be listed, offering the usual ones"
                );
                Ok(ANTHROPIC_MODELS.iter().map(|(id, name)| self.found(id, name, None, None)).collect())
            }
            (Err(fault), _) => Err(fault),
        }
    }

    /// Kind and host, for logs.
    pub(super) fn label(&self) -> String {
        label(self.kind, &self.base_url)
    }

    /// A list of any make: what isn't understood is left out.
    fn read(&self, list: &Value) -> Vec<Found> {
        let items = list.as_array().or_else(|| ["data", "models"].iter().find_map(|key| list.get(key)?.as_array()));
        let text =
            |item: &Value, key: &str| item.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let found = items.into_iter().flatten().filter_map(|item| {
            let id = ["id", "model", "name"].iter().find_map(|key| text(item, key))?;
            let name = text(item, "display_name").unwrap_or_else(|| id.clone());
            let takes_prefill = text(item, "owned_by").is_some_and(|owner| crate::ai::provider::upstream::takes_prefill(&owner));
            Some(self.found(&id, &name, context_tokens(item), takes_prefill.then_some(ContinuationConfig::Prefill)))
        });
        found.take(MODELS_MAX).collect()
    }

    fn found(&self, id: &str, name: &str, context_tokens: Option<u64>, continuation: Option<ContinuationConfig>) -> Found {
        let upstream = UpstreamConfig {
            provider: self.kind,
            base_url: self.base_url.clone(),
            api_key: self.key.clone(),
            model: id.to_owned(),
            continuation,
        };
        let config = ModelConfig {
            id: id.to_owned(),
            name: name.to_owned(),
            context_tokens,
            max_tokens: None,
            max_tokens_cap: None,
            admin_only: false,
            deadlines: self.deadlines,
            upstreams: vec![upstream],
        };
        Found { config }
    }
}

impl Found {
    /// True when this is what the model was made from.
    pub(super) fn is(&self, model: &Model) -> bool {
        model.is_of(&self.config)
    }

    /// False for what a list of models also has: ears, painters and measurers. All are offered, none is the default.
    pub(super) fn answers_questions(&self) -> bool {
        let other = [
            "embed",
            "whisper",
            "tts",
            "dall-e",
            "moderation",
            "rerank",
            "image",
            "audio",
            "realtime",
            "transcribe",
            "babbage",
            "davinci",
            "sora",
            "instruct-0914",
        ];
        !other.iter().any(|part| self.config.id.to_ascii_lowercase().contains(part))
    }
}

/// vLLM, llama.cpp and OpenRouter tell how much fits, each in its own way.
fn context_tokens(item: &Value) -> Option<u64> {
    let paths = ["/max_model_len", "/meta/n_ctx", "/context_length", "/max_context_length", "/meta/n_ctx_train"];
    paths.iter().find_map(|path| item.pointer(path)?.as_u64()).filter(|tokens| *tokens >= 256)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEADLINES: Deadlines =
        Deadlines { connect: Duration::ZERO, first_token: Duration::ZERO, idle: Duration::ZERO, total: Duration::ZERO };

    fn place(kind: ProviderKind) -> Place {
        Place { kind, base_url: "http://x".to_owned(), key: None, deadlines: DEADLINES, named: true }
    }

    fn ids(list: &Value) -> Vec<String> {
        place(ProviderKind::OpenAi).read(list).into_iter().map(|found| found.config.id).collect()
    }

    #[test]
    fn every_make_of_list_is_read() {
        assert_eq!(ids(&json!({"object": "list", "data": [{"id": "a"}, {"id": ""}, {"x": 1}, 7, {"id": "b"}]})), ["a", "b"]);
        assert_eq!(ids(&json!({"models": [{"name": "llama3:latest", "model": "llama3:latest"}]})), ["llama3:latest"]);
        assert_eq!(ids(&json!([{"id": "bare"}])), ["bare"]);
        assert_eq!(ids(&json!({"data": null})), [""; 0]);
        assert_eq!(ids(&json!("nonsense")), [""; 0]);
        let many: Vec<Value> = (0..1_000).map(|id| json!({"id": format!("m{id}")})).collect();
        assert_eq!(ids(&json!({"data": many})).len(), MODELS_MAX);
    }

    #[test]
    fn a_server_that_says_what_it_is_is_continued_as_it_can_be() {
        let list = json!({"data": [{"id": "a", "owned_by": "llamacpp", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}, {"id": "b", "owned_by": "you", "max_model_len": 4096}]});
        let found = place(ProviderKind::OpenAi).read(&list);
        assert_eq!(
            (found[0].config.context_tokens, found[0].config.upstreams[0].continuation),
            (Some(2_048), Some(ContinuationConfig::Prefill))
        );
        assert_eq!((found[1].config.context_tokens, found[1].config.upstreams[0].continuation), (Some(4_096), None));
    }

    #[test]
    fn the_environment_says_where_to_look() {
        let look = |discovery: &Discovery| -> Vec<(ProviderKind, String, bool)> {
            places(discovery, DEADLINES).into_iter().map(|place| (place.kind, place.base_url, place.named)).collect()
        };
        let key = Some(Secret::new("k"));
        assert_eq!(look(&Discovery::default()), [(ProviderKind::Ollama, "http://127.0.0.1:11434".to_owned(), false)]);
        let openai = Discovery { openai_api_key: key.clone(), openai_base_url: Some(" ".to_owned()), ..Discovery::default() };
        assert_eq!(look(&openai), [(ProviderKind::OpenAi, OPENAI.to_owned(), true)]);
        let all = Discovery {
            openai_base_url: Some("http://gpu:8000/v1/".to_owned()),
            anthropic_api_key: key,
            ollama_host: Some("http://gpu:11434".to_owned()),
            ..Discovery::default()
        };
        let expected = [
            (ProviderKind::OpenAi, "http://gpu:8000/v1".to_owned(), true),
            (ProviderKind::Anthropic, ANTHROPIC.to_owned(), true),
            (ProviderKind::Ollama, "http://gpu:11434".to_owned(), true),
        ];
        assert_eq!(look(&all), expected);
    }
}
