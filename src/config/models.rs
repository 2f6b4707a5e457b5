//! Models and their upstreams: `[[models]]` of the file, or the variables that other tools use for the same thing.

use std::net::IpAddr;

use url::Url;

use super::cli::{Environment, variable};
use super::layers::{Layers, Section, quote, redact};
use super::read::{DAY_MS, secret_from_file};
use super::{
    ConfigError, ContinuationConfig, Deadlines, Discovery, ModelConfig, ModelSource, ProviderKind, Secret, UpstreamConfig,
};

const MODELS_MAX: usize = 1_000;
const FALLBACKS_MAX: usize = 16;
const ID_BYTES_MAX: usize = 200;

const PROVIDERS: [(&str, ProviderKind); 4] = [
    ("openai", ProviderKind::OpenAi),
    ("anthropic", ProviderKind::Anthropic),
    ("ollama", ProviderKind::Ollama),
    ("demo", ProviderKind::Demo),
];

const CONTINUATIONS: [(&str, ContinuationConfig); 3] = [
    ("prefill", ContinuationConfig::Prefill),
    ("continue", ContinuationConfig::Continue),
    ("restart", ContinuationConfig::Restart),
];

pub(super) fn source(layers: &Layers, deadlines: Deadlines, env: &Environment) -> Result<ModelSource, ConfigError> {
    let items = layers.items("models")?;
    if items.is_empty() {
        return discovery(env).map(ModelSource::Discovered);
    }
    if items.len() > MODELS_MAX {
        return Err(layers.error("models", format_args!("has {} entries, which is more than {MODELS_MAX}", items.len())));
    }
    let mut models: Vec<ModelConfig> = Vec::new();
    for item in &items {
        let model = model(item, deadlines, env)?;
        if models.iter().any(|known| known.id == model.id) {
            return Err(item.error("id", format_args!("is {}, which another model has too", quote(&model.id))));
        }
        models.push(model);
    }
    Ok(ModelSource::Configured(models))
}

/// What a dump says about models that no key names.
pub(super) fn note(source: &ModelSource) -> String {
    let ModelSource::Discovered(found) = source else { return String::new() };
    let mut note = "\n# No [[models]]: they come from the environment.\n".to_owned();
    let urls = [("OPENAI_BASE_URL", &found.openai_base_url), ("OLLAMA_HOST", &found.ollama_host)];
    for (name, url) in urls.iter().filter_map(|(name, url)| Some((name, url.as_ref()?))) {
        note += &format!("# {name} = {}\n", redact(url));
    }
    let keys = [("OPENAI_API_KEY", &found.openai_api_key), ("ANTHROPIC_API_KEY", &found.anthropic_api_key)];
    for (name, key) in keys.iter().filter_map(|(name, key)| Some((name, key.as_ref()?))) {
        note += &format!("# {name} = {key:?}\n");
    }
    note
}

/// What is not set here comes from `inherited`; without that, it must be there.
pub(super) fn deadlines(section: &Section<'_>, inherited: Option<Deadlines>) -> Result<Deadlines, ConfigError> {
    let read = |key: &str, inherited: Option<std::time::Duration>| {
        section.optional_ms(key, 1..=DAY_MS)?.or(inherited).ok_or_else(|| section.missing(key))
    };
    let deadlines = Deadlines {
        connect: read("connect_ms", inherited.map(|all| all.connect))?,
        first_token: read("first_token_ms", inherited.map(|all| all.first_token))?,
        idle: read("idle_ms", inherited.map(|all| all.idle))?,
        total: read("total_ms", inherited.map(|all| all.total))?,
    };
    let longest = deadlines.connect.max(deadlines.first_token).max(deadlines.idle);
    if deadlines.total < longest {
        return Err(section.error("total_ms", "is less than one of the other deadlines, which could never be reached"));
    }
    Ok(deadlines)
}

fn model(item: &Section<'_>, inherited: Deadlines, env: &Environment) -> Result<ModelConfig, ConfigError> {
    let id = item.text("id")?;
    if id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(item.error("id", format_args!("must be at most {ID_BYTES_MAX} bytes without control characters")));
    }
    let name = item.optional_text("name")?.unwrap_or_else(|| id.clone());
    let first = upstream(item, &id, env)?;
    let context_tokens = item.optional_number("context_tokens", 256..=1_000_000_000)?;
    let max_tokens = item.optional_number("max_tokens", 1..=u64::from(u32::MAX))?.and_then(|number| u32::try_from(number).ok());
    if let (Some(context), Some(max)) = (context_tokens, max_tokens)
        && context <= u64::from(max)
    {
        return Err(item.error("max_tokens", "leaves no room for a question: it must be less than context_tokens"));
    }
    let cap = item.optional_number("max_tokens_cap", 1..=u64::from(u32::MAX))?.and_then(|number| u32::try_from(number).ok());
    if let (Some(max), Some(cap)) = (max_tokens, cap)
        && max > cap
    {
        return Err(item.error("max_tokens", "is more than max_tokens_cap, which no answer goes beyond"));
    }
    let deadlines = deadlines(&item.section("deadlines"), Some(inherited))?;
    let fallbacks = item.items("fallbacks")?;
    if fallbacks.len() > FALLBACKS_MAX {
        let problem = format_args!("has {} entries, which is more than {FALLBACKS_MAX}", fallbacks.len());
        return Err(item.error("fallbacks", problem));
    }
    let called = first.model.clone();
    let mut upstreams = vec![first];
    for fallback in &fallbacks {
        upstreams.push(upstream(fallback, &called, env)?);
    }
    let admin_only = item.flag("admin_only")?;
    Ok(ModelConfig { id, name, context_tokens, max_tokens, max_tokens_cap: cap, admin_only, deadlines, upstreams })
}

fn upstream(item: &Section<'_>, called: &str, env: &Environment) -> Result<UpstreamConfig, ConfigError> {
    let provider = item.choice("provider", &PROVIDERS)?;
    let base_url = match item.url("base_url")? {
        Some(_) if provider == ProviderKind::Demo => {
            return Err(item.error("base_url", "is not for the demonstration model, which runs inside"));
        }
        Some(text) => http_url(&text).map_err(|problem| item.error("base_url", problem))?,
        None => own_address(provider).to_owned(),
    };
    Ok(UpstreamConfig {
        provider,
        base_url,
        model: item.optional_text("model")?.unwrap_or_else(|| called.to_owned()),
        api_key: api_key(item, env)?,
        continuation: item.optional_choice("continuation", &CONTINUATIONS)?,
    })
}

fn own_address(provider: ProviderKind) -> &'static str {
    match provider {
        ProviderKind::OpenAi => "https://api.openai.com/v1",
        ProviderKind::Anthropic => "https://api.anthropic.com",
        ProviderKind::Ollama => "http://127.0.0.1:11434",
        ProviderKind::Demo => "",
    }
}

fn api_key(item: &Section<'_>, env: &Environment) -> Result<Option<Secret>, ConfigError> {
    let keys = ["api_key", "api_key_env", "api_key_file"];
    let Some((index, text)) = item.one_of(&keys, false)? else { return Ok(None) };
    let key = match index {
        0 => text,
        1 => match variable(env, &text) {
            Some(key) => key.to_owned(),
            None => return Err(item.error(keys[1], format_args!("names the variable {text}, which is not set"))),
        },
        _ => secret_from_file(item, keys[2], &text)?,
    };
    header_text(key).map(Some).map_err(|problem| item.error(keys[index], problem))
}

fn header_text(key: String) -> Result<Secret, &'static str> {
    if key.bytes().all(|b| b.is_ascii_graphic()) { Ok(Secret::new(key)) } else { Err("must be one word of ASCII characters") }
}

/// An address as programs join paths to it: without a trailing slash.
fn http_url(text: &str) -> Result<String, String> {
    let bad = || format!("must be an http or https address like \"https://api.example.org/v1\", not {}", quote(&redact(text)));
    let url = Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn discovery(env: &Environment) -> Result<Discovery, ConfigError> {
    let about = |name: &str, problem: &str| ConfigError::new(format!("{name} {problem}"));
    let key = |name: &str| {
        variable(env, name).map(|key| header_text(key.to_owned()).map_err(|problem| about(name, problem))).transpose()
    };
    let url = |name: &str| variable(env, name).map(|text| http_url(text).map_err(|problem| about(name, &problem))).transpose();
    Ok(Discovery {
        openai_base_url: url("OPENAI_BASE_URL")?,
        openai_api_key: key("OPENAI_API_KEY")?,
        anthropic_api_key: key("ANTHROPIC_API_KEY")?,
        ollama_host: variable(env, "OLLAMA_HOST")
            .map(ollama_url)
            .transpose()
            .map_err(|problem| about("OLLAMA_HOST", &problem))?,
    })
}

/// `OLLAMA_HOST` as Ollama itself reads it (any of scheme, host, port and path may be left out), as the address of a client.
fn ollama_url(text: &str) -> Result<String, String> {
    let text = text.trim().trim_matches(['"', '\'']);
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let (scheme, usual) = match scheme {
        "" => ("http", 11434),
        "https" => ("https", 443),
        other => (other, 80),
    };
    let (named, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match named.rsplit_once(':') {
        // The colons of an address of IPv6 without brackets around it part no port off.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse::<u16>().unwrap_or(usual)),
        _ => (named, usual),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    // A server listens on all addresses; a client has to choose one.
    let host = match bare.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ if host.is_empty() => "127.0.0.1".to_owned(),
        _ => host.to_owned(),
    };
    http_url(&format!("{scheme}://{host}:{port}/{path}")).map_err(|_| format!("must be HOST:PORT, not {}", quote(&redact(text))))
}
