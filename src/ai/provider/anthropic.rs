//! Anthropic's Messages. Pure: bodies to send, events to understand.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::Ask;
use super::reader::{Heard, Said, lenient, text_of};

/// The version of the interface that we speak.
pub(super) const VERSION: &str = "2023-06-01";

/// The longest answer has to be named; this is what the smaller of the current models allow.
const MAX_TOKENS: u32 = 8_192;

/// Where the answers are asked for, whether or not the address names the version.
#[must_use]
pub(super) fn url(base: &str, path: &str) -> String {
    if base.ends_with("/v1") { format!("{base}/{path}") } else { format!("{base}/v1/{path}") }
}

/// The body of a request.
#[must_use]
pub(super) fn body(model: &str, ask: &Ask) -> Value {
    let messages: Vec<Value> =
        ask.messages.iter().map(|message| json!({"role": message.role, "content": message.content})).collect();
    let mut body = json!({
        "model": model,
        "max_tokens": ask.max_tokens.unwrap_or(MAX_TOKENS),
        "messages": messages,
        "stream": true,
    });
    if let Some(system) = &ask.system {
        body["system"] = json!(system);
    }
    if let Some(temperature) = ask.temperature {
        body["temperature"] = json!(temperature.clamp(0.0, 1.0));
    }
    body
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    /// Of `message_start`.
    #[serde(deserialize_with = "lenient")]
    message: Option<Message>,
    /// Of `content_block_start`.
    #[serde(deserialize_with = "lenient")]
    content_block: Option<Block>,
    #[serde(deserialize_with = "lenient")]
    delta: Option<Block>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Tokens>,
    error: Option<Value>,
    /// Of a server that doesn't stream, and answers with a whole message.
    #[serde(deserialize_with = "lenient")]
    content: Option<Vec<Block>>,
    #[serde(deserialize_with = "lenient")]
    stop_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

/// A block of content, or what is added to one.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Block {
    text: Option<Value>,
    thinking: Option<Value>,
    #[serde(deserialize_with = "lenient")]
    stop_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    #[serde(deserialize_with = "lenient")]
    input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    output_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    cache_read_input_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    cache_creation_input_tokens: Option<u64>,
}

/// Takes the data of one event.
pub(super) fn decode(data: &str, said: &mut Said) -> Result<(), Heard> {
    let data = data.trim();
    if data.is_empty() {
        return Ok(());
    }
    if data == "[DONE]" {
        said.closed();
        return Ok(());
    }
    let event: Event = serde_json::from_str(data).map_err(|_| Heard::Garbled)?;
    if event.kind.as_deref() == Some("error") || event.error.as_ref().is_some_and(|error| !error.is_null()) {
        return Err(Heard::Error(event.error.unwrap_or_default()));
    }
    for usage in event.message.and_then(|message| message.usage).into_iter().chain(event.usage) {
        count(&usage, said);
    }
    for block in event.content.into_iter().flatten().chain(event.content_block).chain(event.delta) {
        said.reasoning(text_of(block.thinking));
        said.text(text_of(block.text));
        said.finish(block.stop_reason.as_deref().unwrap_or_default());
    }
    said.finish(event.stop_reason.as_deref().unwrap_or_default());
    if matches!(event.kind.as_deref(), Some("message_stop" | "message")) {
        said.closed();
    }
    Ok(())
}

/// What came from the cache was read too.
fn count(usage: &Tokens, said: &mut Said) {
    let cached = [usage.cache_read_input_tokens, usage.cache_creation_input_tokens];
    let read = |input: u64| cached.iter().flatten().fold(input, |sum, tokens| sum.saturating_add(*tokens));
    said.usage_so_far(usage.input_tokens.map(read), usage.output_tokens);
}
